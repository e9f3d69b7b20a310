//! Keyless signatures (Sigstore) against a given trusted root, without a network: the certificate's
//! chain and its own entry in a certificate log, the entry in a transparency log with its path in
//! the Merkle tree, and a proven time within the minutes in which the certificate was valid.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sigstore_verify::crypto::parse_certificate_info;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::{Bundle, DerCertificate, Sha256Hash, Statement};
use sigstore_verify::{CertificateError, Error as Refusal, VerificationPolicy, Verifier};

use super::crypto;
use crate::artifact::certificate::Certificate;
use crate::artifact::envelope::Keyless;
use crate::error::{Context, Error, ErrorCode, Result, catch_panic};
use crate::files::{Digest, parse_json, read_bytes};

/// That of the public instance has 7 kB; a company's own has a few authorities more.
const ROOT_BYTES_MAX: u64 = 1 << 20;
/// How the media types of trusted roots begin.
const ROOT_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// Authorities, certificate logs, transparency logs and time stamping authorities: what a
/// `trusted_root.json` lists.
#[derive(Clone)]
pub struct SigstoreRoot {
    verifier: Arc<Verifier>,
    sha256: Digest,
}

/// Of the same file, wherever it lies.
impl PartialEq for SigstoreRoot {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl fmt::Debug for SigstoreRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigstoreRoot({})", self.sha256)
    }
}

/// What a signature is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum SignedContent<'a> {
    /// An in-toto statement.
    Statement(&'a [u8]),
    /// A file with this digest.
    File(&'a Digest),
}

/// Why a signature is not proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unproven {
    /// Whether it is because the signature is over something else than it should be.
    pub other: bool,
    /// What does not hold.
    pub why: String,
}

impl From<String> for Unproven {
    fn from(why: String) -> Self {
        Self { other: false, why }
    }
}

/// What a certificate says of its owner. It is worth nothing before [`SigstoreRoot::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    /// An e-mail address, or the URI of a workload.
    pub identity: String,
    /// The identity provider that says so.
    pub issuer: String,
}

/// Whom a certificate names; `None` where it names nobody in the way of Sigstore.
pub(super) fn claims(certificate: &Certificate) -> Option<Claims> {
    let der = DerCertificate::new(certificate.der().to_vec());
    let info = catch_panic(|| parse_certificate_info(&der)).ok()?.ok()?;
    Some(Claims { identity: info.identity?.as_str().to_owned(), issuer: info.issuer? })
}

impl SigstoreRoot {
    /// Reads a `trusted_root.json`, or the `trustedRoot` of a client's trust configuration.
    ///
    /// # Errors
    /// When the file is none, or holds keys or certificates that cannot be used.
    pub fn from_file(path: &Path) -> Result<Self> {
        crypto::install();
        let bytes = read_bytes(path, ROOT_BYTES_MAX)?;
        let value = parse_json(&bytes).map_err(|error| error.at(path))?;
        let value = value.get("trustedRoot").unwrap_or(&value);
        let kind = value["mediaType"].as_str().unwrap_or_default();
        if !kind.starts_with(ROOT_TYPE) {
            return Err(Error::key("this is no trusted root of Sigstore")
                .at(path)
                .because(format!("`mediaType` does not begin with `{ROOT_TYPE}`"))
                .hint("`cosign trusted-root create` and `gh attestation trusted-root` write one"));
        }
        let text = value.to_string();
        let made = catch_panic(|| Verifier::new(&TrustedRoot::from_json(&text)?));
        let verifier = made
            .map_err(|panic| panic.clone())
            .and_then(|made| made.map_err(|error| error.to_string()))
            .context_code(ErrorCode::Key, "the trusted root cannot be used")
            .map_err(|error| error.at(path))?;
        Ok(Self { verifier: Arc::new(verifier), sha256: Digest::of(&bytes) })
    }

    /// Checks everything but whose the identity is. Gives back the earliest time at which the
    /// signature is proven to have been there.
    ///
    /// # Errors
    /// Says what does not hold.
    pub(super) fn check(
        &self,
        keyless: &Keyless,
        content: SignedContent,
    ) -> Result<Timestamp, Unproven> {
        catch_panic(|| self.try_check(keyless, content))
            .unwrap_or_else(|panic| Err(format!("its bundle cannot be read: {panic}").into()))
    }

    fn try_check(&self, keyless: &Keyless, content: SignedContent) -> Result<Timestamp, Unproven> {
        let unreadable = |why: String| format!("its bundle cannot be read: {why}");
        let bundle = Bundle::from_json(&keyless.json).map_err(|why| unreadable(why.to_string()))?;
        // Each entry must be proven to be in the log: the library is content with one of them.
        let entries = &bundle.verification_material.tlog_entries;
        if entries.iter().any(|entry| entry.inclusion_proof.is_none()) {
            return Err("its log entry has no proof of inclusion".to_owned().into());
        }
        // Whose it is was looked at before, by what the certificate claims.
        let policy = VerificationPolicy::any_identity();
        let found = match content {
            SignedContent::Statement(payload) => {
                let statement: Statement = serde_json::from_slice(payload)
                    .map_err(|why| format!("its statement is not one of in-toto: {why}"))?;
                // What the statement is about is compared with the files by who reads it.
                let mut digests = statement.subject.iter().filter_map(|it| it.digest.sha256);
                let first: Option<Sha256Hash> = digests.next();
                let first =
                    first.ok_or_else(|| "its statement names nothing by SHA-256".to_owned())?;
                self.verifier.verify(first, &bundle, &policy)
            }
            SignedContent::File(digest) => {
                self.verifier.verify(Sha256Hash::new(digest.0), &bundle, &policy)
            }
        };
        let found = found.map_err(|refusal| Unproven {
            other: matches!(refusal, Refusal::ArtifactMismatch(_) | Refusal::SignatureInvalid(_)),
            why: describe(&refusal),
        })?;
        if !(found.certificate_verified() && found.sct_verified() && found.tlog_verified()) {
            return Err("not all of its evidence was checked".to_owned().into());
        }
        let first = found.verified_timestamps().iter().min().copied();
        first.ok_or_else(|| "it proves no time".to_owned().into())
    }
}

/// What it was that did not hold, in front of the library's own words.
fn describe(refusal: &Refusal) -> String {
    let what = match refusal {
        Refusal::Certificate(CertificateError::Sct(_)) => {
            "its certificate is not proven to be in a certificate log of the trusted root"
        }
        Refusal::Certificate(
            CertificateError::NotYetValid { .. } | CertificateError::Expired { .. },
        ) => "it did not sign while its certificate was valid",
        Refusal::Certificate(_) => {
            "its certificate does not lead to the trusted root at the proven time"
        }
        Refusal::TransparencyLog(_) => {
            "its signature is not proven to be in a transparency log of the trusted root"
        }
        Refusal::Timestamp(_) => "its time stamp does not hold",
        Refusal::SignatureInvalid(_) => "its signature does not hold",
        Refusal::ArtifactMismatch(_) => "it signed something else",
        _ => "its bundle cannot be checked",
    };
    format!("{what} ({refusal})")
}

#[cfg(test)]
#[path = "keyless_tests.rs"]
mod tests;
