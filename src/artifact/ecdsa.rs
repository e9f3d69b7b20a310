//! ECDSA on the three curves that the standard allows, each with its own digest.

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding, spki,
};

use crate::error::{Context, ErrorCode, Result};
use crate::files::Digest;

/// The same code for each curve, whose crate is called `curve` in it.
macro_rules! on_curve {
    ($value:expr, $key:ident => $body:expr) => {
        match $value {
            Self::P256($key) => {
                #[allow(unused_imports)] // not every body needs it
                use p256 as curve;
                $body
            }
            Self::P384($key) => {
                #[allow(unused_imports)] // not every body needs it
                use p384 as curve;
                $body
            }
            Self::P521($key) => {
                #[allow(unused_imports)] // not every body needs it
                use p521 as curve;
                $body
            }
        }
    };
}

/// A public key.
#[derive(Debug, Clone, PartialEq)]
pub enum Public {
    /// With SHA-256.
    P256(p256::ecdsa::VerifyingKey),
    /// With SHA-384.
    P384(p384::ecdsa::VerifyingKey),
    /// With SHA-512.
    P521(p521::ecdsa::VerifyingKey),
}

impl Public {
    /// Reads a DER `SubjectPublicKeyInfo`; `None` for what is no key on one of these curves.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        p256::ecdsa::VerifyingKey::from_public_key_der(der)
            .map(Self::P256)
            .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_der(der).map(Self::P384))
            .or_else(|_| p521::ecdsa::VerifyingKey::from_public_key_der(der).map(Self::P521))
            .ok()
    }

    /// Reads one `PUBLIC KEY` block.
    pub fn from_pem(block: &str) -> Option<Self> {
        let (label, document) = spki::Document::from_pem(block).ok()?;
        if label != "PUBLIC KEY" {
            return None;
        }
        Self::from_der(document.as_bytes())
    }

    /// The PEM text, exactly as `openssl ec -pubout` writes it.
    pub fn to_pem(&self) -> Result<String, spki::Error> {
        on_curve!(self, key => key.to_public_key_pem(LineEnding::LF))
    }

    /// The SHA-256 of the PEM text, in hex: how a signature names its key.
    pub fn hint(&self) -> Result<String, spki::Error> {
        Ok(Digest::of(self.to_pem()?.as_bytes()).to_string())
    }

    /// The SHA-256 of its DER `SubjectPublicKeyInfo`, in pairs of hex digits: as
    /// `openssl pkey -pubin -in KEY -outform DER | openssl dgst -sha256 -c` prints it.
    pub fn fingerprint(&self) -> Result<String, spki::Error> {
        let der = on_curve!(self, key => key.to_public_key_der())?;
        let digits = Digest::of(der.as_bytes()).to_string();
        let pairs = digits.as_bytes().chunks(2).map(String::from_utf8_lossy);
        Ok(pairs.collect::<Vec<_>>().join(":"))
    }

    /// What its signatures are.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ECDSA P-256 with SHA-256",
            Self::P384(_) => "ECDSA P-384 with SHA-384",
            Self::P521(_) => "ECDSA P-521 with SHA-512",
        }
    }

    /// Whether `signature` (ASN.1 DER) is this key's over `message`, by the curve's own digest.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), &'static str> {
        on_curve!(self, key => {
            let signature = curve::ecdsa::Signature::from_der(signature)
                .map_err(|_| "is not a signature in DER")?;
            key.verify(message, &signature)
                .map_err(|_| "is not a signature of the public key that was named")
        })
    }

    /// Whether `signature` (ASN.1 DER) is this key's over a message with this digest. Certificates
    /// choose the digest themselves; one of less than half the curve's size is never accepted.
    pub fn accepts_digest(&self, digest: &[u8], signature: &[u8]) -> bool {
        on_curve!(self, key => {
            curve::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
        })
    }
}

/// A private key. What it signs is a pure function of key and message (RFC 6979).
pub enum Secret {
    /// With SHA-256.
    P256(p256::ecdsa::SigningKey),
    /// With SHA-384.
    P384(p384::ecdsa::SigningKey),
    /// With SHA-512.
    P521(p521::ecdsa::SigningKey),
}

impl Secret {
    /// A new key on P-256, from the operating system's random numbers.
    pub fn generate() -> Result<Self> {
        let secret = p256::SecretKey::try_generate()
            .context_code(ErrorCode::Key, "cannot get random numbers for a key")?;
        Ok(Self::P256(secret.into()))
    }

    /// Reads one `PRIVATE KEY` (PKCS#8) or `EC PRIVATE KEY` (SEC1) block.
    pub fn from_pem(block: &str) -> Option<Self> {
        p256::SecretKey::from_pem(block)
            .map(|key| Self::P256(key.into()))
            .or_else(|_| p384::SecretKey::from_pem(block).map(|key| Self::P384(key.into())))
            .or_else(|_| p521::SecretKey::from_pem(block).map(|key| Self::P521(key.into())))
            .ok()
    }

    /// Reads DER PKCS#8.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        p256::SecretKey::from_pkcs8_der(der)
            .map(|key| Self::P256(key.into()))
            .or_else(|_| p384::SecretKey::from_pkcs8_der(der).map(|key| Self::P384(key.into())))
            .or_else(|_| p521::SecretKey::from_pkcs8_der(der).map(|key| Self::P521(key.into())))
            .ok()
    }

    /// Its public half.
    pub fn public(&self) -> Public {
        match self {
            Self::P256(key) => Public::P256(*key.verifying_key()),
            Self::P384(key) => Public::P384(*key.verifying_key()),
            Self::P521(key) => Public::P521(*key.verifying_key()),
        }
    }

    /// Signs a message; the signature is ASN.1 DER.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        on_curve!(self, key => {
            let signature: Result<curve::ecdsa::Signature> =
                key.try_sign(message).context_code(ErrorCode::Key, "cannot sign");
            let signature = signature?;
            Ok(signature.to_der().as_bytes().to_vec())
        })
    }

    /// A PKCS#8 PEM block; under a password (PBES2: scrypt and AES-256-CBC) if there is one.
    pub fn to_pem(
        &self,
        password: Option<&str>,
    ) -> Result<p256::elliptic_curve::zeroize::Zeroizing<String>> {
        on_curve!(self, key => {
            let secret = curve::SecretKey::from(key.as_nonzero_scalar());
            match password {
                Some(password) => secret.to_pkcs8_encrypted_pem(password, LineEnding::LF),
                None => secret.to_pkcs8_pem(LineEnding::LF),
            }
        })
        .context_code(ErrorCode::Key, "cannot encode the key")
    }
}
