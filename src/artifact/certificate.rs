//! X.509 certificates, as far as signatures of models need them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use pkcs8::der::oid::AssociatedOid;
use pkcs8::der::{Decode, Encode};
use pkcs8::spki::Document;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey,
};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use super::ecdsa::Public;
use crate::error::{Context, Error, ErrorCode, Result};

/// More than a certificate with every extension there is needs.
const MAX_BYTES: usize = 64 * 1024;
/// No file of certificates that are meant to be trusted, or of one signer, comes near this size.
const MAX_PEM_BYTES: u64 = 4 << 20;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const ANY_USAGE: &str = "2.5.29.37.0";
/// Extensions that may be critical: what they ask for is checked, or asks for nothing here.
const UNDERSTOOD: [&str; 4] = [
    "2.5.29.15", // key usage
    "2.5.29.17", // other names of the subject: no name is compared
    "2.5.29.19", // basic constraints
    "2.5.29.37", // extended key usage
];
/// Constraints on what an authority may vouch for: those that are not checked cannot be ignored,
/// even where they are not critical.
const NAME_CONSTRAINTS: &str = "2.5.29.30";

/// A certificate, with the bytes that it came as.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    key: Option<Public>,
}

/// What a certificate says of its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// It is an authority.
    pub authority: bool,
    /// How many authorities may stand between it and a signer.
    pub path_length: Option<u8>,
    /// Whether it may sign data; `None` if it does not say.
    pub signs_data: Option<bool>,
    /// Whether it may sign certificates; `None` if it does not say.
    pub signs_certificates: Option<bool>,
    /// Whether it is for code (and with it models); `None` if it does not say.
    pub for_code: Option<bool>,
}

impl Certificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        if der.len() > MAX_BYTES {
            return Err(format!("a certificate has more than {MAX_BYTES} bytes"));
        }
        let parsed = x509_cert::Certificate::from_der(der)
            .map_err(|error| format!("a certificate is damaged: {error}"))?;
        // What is checked is what others read: one form only.
        if parsed.to_der().ok().as_deref() != Some(der) {
            return Err("a certificate is not in the one form that DER allows".to_owned());
        }
        let key = parsed.tbs_certificate().subject_public_key_info().to_der().ok();
        let key = key.and_then(|der| Public::from_der(&der));
        Ok(Self { der: der.to_vec(), parsed, key })
    }

    /// Every certificate of a PEM file, in its order.
    ///
    /// # Errors
    /// When there is none, or one is damaged.
    pub fn all_from_file(path: &Path) -> Result<Vec<Self>> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_PEM_BYTES).read_to_string(&mut text))
            .context_at("cannot read the certificates", path)?;
        Self::all_from_pem(&text).map_err(|error| error.at(path))
    }

    /// Every certificate of a PEM text, in its order.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for part in text.split(BEGIN).skip(1) {
            let body = part.split(END).next().unwrap_or_default();
            let (_, document) = Document::from_pem(&format!("{BEGIN}{body}{END}\n"))
                .context_code(ErrorCode::Key, "a certificate in the PEM text is damaged")?;
            all.push(Self::from_der(document.as_bytes()).map_err(Error::key)?);
        }
        if all.is_empty() {
            return Err(Error::key("there is no `CERTIFICATE` block in the PEM text"));
        }
        Ok(all)
    }

    /// The bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whom it is for.
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// Who issued it.
    pub fn issuer(&self) -> String {
        self.parsed.tbs_certificate().issuer().to_string()
    }

    /// Its key, if it is one for ECDSA.
    pub fn key(&self) -> Option<&Public> {
        self.key.as_ref()
    }

    /// From when to when it is valid, in seconds of Unix time.
    pub fn validity(&self) -> (i64, i64) {
        let validity = self.parsed.tbs_certificate().validity();
        let seconds = |time: &x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
        };
        (seconds(&validity.not_before), seconds(&validity.not_after))
    }

    /// Whether subject and issuer are the same.
    pub fn is_self_issued(&self) -> bool {
        let body = self.parsed.tbs_certificate();
        body.subject() == body.issuer()
    }

    /// What its key may be used for.
    ///
    /// # Errors
    /// When an extension is damaged, stands twice, or must be understood and is not.
    pub fn uses(&self) -> Result<Uses, String> {
        let body = self.parsed.tbs_certificate();
        for extension in body.extensions().into_iter().flatten() {
            let id = extension.extn_id.to_string();
            if (extension.critical && !UNDERSTOOD.contains(&id.as_str())) || id == NAME_CONSTRAINTS
            {
                return Err(format!("the extension {id} is not supported"));
            }
        }
        let constraints: Option<BasicConstraints> = self.extension()?;
        let usage: Option<KeyUsage> = self.extension()?;
        let extended: Option<ExtendedKeyUsage> = self.extension()?;
        let for_code = |usages: &ExtendedKeyUsage| {
            usages.0.iter().any(|id| [CODE_SIGNING, ANY_USAGE].contains(&id.to_string().as_str()))
        };
        Ok(Uses {
            authority: constraints.as_ref().is_some_and(|found| found.ca),
            path_length: constraints.and_then(|found| found.path_len_constraint),
            signs_data: usage.as_ref().map(KeyUsage::digital_signature),
            signs_certificates: usage.as_ref().map(KeyUsage::key_cert_sign),
            for_code: extended.as_ref().map(for_code),
        })
    }

    fn extension<'a, T: Decode<'a, Error = pkcs8::der::Error> + AssociatedOid>(
        &'a self,
    ) -> Result<Option<T>, String> {
        let found = self.parsed.tbs_certificate().get_extension::<T>();
        Ok(found.map_err(|error| format!("an extension is damaged: {error}"))?.map(|(_, it)| it))
    }

    /// Whether this certificate was issued and signed by `issuer`. Nothing else is looked at.
    ///
    /// # Errors
    /// Says why not.
    pub fn check_issued_by(&self, issuer: &Self) -> Result<(), String> {
        let body = self.parsed.tbs_certificate();
        if body.issuer() != issuer.parsed.tbs_certificate().subject() {
            return Err(format!("`{}` is issued by `{}`", self.subject(), self.issuer()));
        }
        let algorithm = self.parsed.signature_algorithm();
        if algorithm != body.signature() {
            return Err(format!("`{}` names two signature algorithms", self.subject()));
        }
        let signed = body.to_der().map_err(|error| error.to_string())?;
        let signature = self.parsed.signature().as_bytes();
        let accepted = signature
            .map(|signature| issuer.accepts(&algorithm.oid.to_string(), &signed, signature));
        match accepted {
            Some(Some(true)) => Ok(()),
            Some(None) => Err(format!(
                "`{}` is signed by an algorithm that is not supported ({})",
                self.subject(),
                algorithm.oid
            )),
            _ => Err(format!("`{}` is not signed by `{}`", self.subject(), issuer.subject())),
        }
    }

    /// Whether a signature is this certificate's key's; `None` for an unsupported algorithm.
    fn accepts(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        let ecdsa = |digest: &[u8]| {
            Some(self.key.as_ref().is_some_and(|key| key.accepts_digest(digest, signature)))
        };
        let rsa = |rules| {
            let info = self.parsed.tbs_certificate().subject_public_key_info();
            let key = info.subject_public_key.as_bytes()?;
            Some(UnparsedPublicKey::new(rules, key).verify(message, signature).is_ok())
        };
        match algorithm {
            "1.2.840.10045.4.3.2" => ecdsa(&Sha256::digest(message)),
            "1.2.840.10045.4.3.3" => ecdsa(&Sha384::digest(message)),
            "1.2.840.10045.4.3.4" => ecdsa(&Sha512::digest(message)),
            "1.2.840.113549.1.1.11" => rsa(&RSA_PKCS1_2048_8192_SHA256),
            "1.2.840.113549.1.1.12" => rsa(&RSA_PKCS1_2048_8192_SHA384),
            "1.2.840.113549.1.1.13" => rsa(&RSA_PKCS1_2048_8192_SHA512),
            _ => None,
        }
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.subject())
    }
}
