//! What requests to object stores are signed with.

use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use object_store::{Error, Result};
use pkcs8::der::pem::decode_vec;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use ring::{digest, hmac};

/// `ring`, which the network uses already.
#[derive(Debug)]
pub(super) struct RingProvider;

impl CryptoProvider for RingProvider {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                Ok(Box::new(Sha256 { context: digest::Context::new(&digest::SHA256), out: None }))
            }
            _ => Err(unknown()),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                Ok(Box::new(HmacSha256 { context: hmac::Context::with_key(&key), out: None }))
            }
            _ => Err(unknown()),
        }
    }

    fn sign(&self, algorithm: SigningAlgorithm, pem: &[u8]) -> Result<Box<dyn Signer>> {
        match algorithm {
            SigningAlgorithm::RS256 => Ok(Box::new(RsaSigner(rsa_key(pem)?))),
            _ => Err(unknown()),
        }
    }
}

struct Sha256 {
    context: digest::Context,
    out: Option<digest::Digest>,
}

impl DigestContext for Sha256 {
    fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let digest = self.context.clone().finish();
        Ok(digest::Digest::as_ref(self.out.insert(digest)))
    }
}

struct HmacSha256 {
    context: hmac::Context,
    out: Option<hmac::Tag>,
}

impl HmacContext for HmacSha256 {
    fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let tag = self.context.clone().sign();
        Ok(hmac::Tag::as_ref(self.out.insert(tag)))
    }
}

/// The private key of a service account, which Google hands out in PEM.
struct RsaSigner(RsaKeyPair);

fn rsa_key(pem: &[u8]) -> Result<RsaKeyPair> {
    let wrong = || refused("the private key of the service account is not an RSA key in PEM");
    let (label, der) = decode_vec(pem).map_err(|_| wrong())?;
    let key = match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
        _ => return Err(wrong()),
    };
    key.map_err(|_| wrong())
}

impl Signer for RsaSigner {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        let signed = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature);
        signed.map_err(|_| refused("the private key of the service account does not sign"))?;
        Ok(signature)
    }
}

fn unknown() -> Error {
    refused("the store wants an algorithm that this program does not know")
}

fn refused(why: &'static str) -> Error {
    Error::Generic { store: "credentials", source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        let mut digest = RingProvider.digest(DigestAlgorithm::Sha256).unwrap();
        digest.update(b"a");
        digest.update(b"bc");
        // FIPS 180-2, appendix B.1
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(digest.finish().unwrap()), of_abc);
        // RFC 4231, test case 2
        let mut hmac = RingProvider.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
        hmac.update(b"what do ya want for nothing?");
        let tag = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(hmac.finish().unwrap()), tag);
        assert!(RingProvider.sign(SigningAlgorithm::RS256, b"nothing").is_err());
    }
}
