//! Signing keys: ECDSA P-256, read from PEM or held by a program that signs; with a certificate
//! also P-384 and P-521.

use std::fmt;
use std::fs::File;
use std::path::Path;

use p256::pkcs8::spki;

use super::certificate::Certificate;
use super::ecdsa::{Public, Secret};
use super::pae::pre_authentication_encoding;
use super::password::{self, Password};
use super::pem::{only_block, read_pem, refuse_shared};
use super::program::Program;
use crate::error::{Context, Error, ErrorCode, Result};

pub use super::key_files::{
    ENVIRONMENT, KeyOrigin, PRIVATE_FILE, PUBLIC_FILE, TRUSTED_FOLDER, config_home, held_by,
    keygen, load_or_create,
};

/// What a program is asked to sign to see whether it can. The type is none that anyone accepts.
const TRIAL_TYPE: &str = "application/vnd.firebrand.trial";
const TRIAL: &[u8] = b"can you sign?";

/// The public half of a key: what a signature is checked with.
#[derive(Clone)]
pub struct PublicKey {
    key: Public,
    pem: String,
    hint: String,
}

impl PublicKey {
    pub(super) fn new(key: Public) -> Result<Self, spki::Error> {
        Ok(Self { pem: key.to_pem()?, hint: key.hint()?, key })
    }

    /// Reads one `PUBLIC KEY` block with a key on P-256.
    pub fn from_pem(text: &str) -> Result<Self> {
        if text.contains("PRIVATE KEY-----") {
            return Err(Error::key("this is a private key, a public key is needed")
                .hint("`openssl ec -in KEY.pem -pubout` prints the public key"));
        }
        let block = only_block(text, &["PUBLIC KEY"])?;
        match Public::from_pem(&block) {
            Some(key @ Public::P256(_)) => {
                Self::new(key).context_code(ErrorCode::Key, "cannot encode the key")
            }
            _ => Err(Error::key("not a P-256 public key").hint("only P-256 keys are supported")),
        }
    }

    /// Reads a PEM file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut file = File::open(path).context_at("cannot read the public key", path)?;
        Self::from_pem(&read_pem(&mut file, path)?).map_err(|error| error.at(path))
    }

    /// The PEM text, exactly as `openssl ec -pubout` writes it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The SHA-256 of the PEM text, in hex: how a signature names its key.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// See [`Public::fingerprint`].
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn fingerprint(&self) -> Result<String> {
        self.key.fingerprint().context_code(ErrorCode::Key, "cannot encode the key")
    }

    /// Whether `signature` (ASN.1 DER) is this key's over `message`.
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.check(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.hint)
    }
}

/// A private key. What one from a file signs is a pure function of key and message (RFC 6979).
pub struct SigningKey {
    holder: Holder,
    public: PublicKey,
    chain: Vec<Certificate>,
}

/// Who has the secret.
enum Holder {
    Here(Secret),
    Program(Program),
}

impl SigningKey {
    pub(super) fn new(secret: Secret) -> Result<Self> {
        let public = PublicKey::new(secret.public())
            .context_code(ErrorCode::Key, "cannot encode the key")?;
        Ok(Self { holder: Holder::Here(secret), public, chain: Vec::new() })
    }

    /// A key that only a program can use; it is tried at once.
    ///
    /// # Errors
    /// When the program fails, hangs, or signs with another key than `public`.
    pub fn held_by(program: Program, public: PublicKey) -> Result<Self> {
        let key = Self { holder: Holder::Program(program), public, chain: Vec::new() };
        key.sign(&pre_authentication_encoding(TRIAL_TYPE, TRIAL))?;
        Ok(key)
    }

    /// A new key from the operating system's random numbers.
    pub fn generate() -> Result<Self> {
        Self::new(Secret::generate()?)
    }

    /// Reads a PKCS#8 (`PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`) block;
    /// asks for the password if there is one. `place` is what a person knows the key by.
    pub fn from_pem(text: &str, place: &str) -> Result<Self> {
        Self::from_pem_with(text, || password::of_key(place))
    }

    pub(super) fn from_pem_with(
        text: &str,
        password: impl FnOnce() -> Result<Password>,
    ) -> Result<Self> {
        let block = only_block(text, &["PRIVATE KEY", "EC PRIVATE KEY", password::LABEL])?;
        if block.contains("Proc-Type:") {
            return Err(Error::key("the private key is encrypted in a form that is not supported")
                .hint("`openssl pkcs8 -topk8 -in KEY.pem -out NEW.pem` writes it as PKCS#8"));
        }
        if block.starts_with(&format!("-----BEGIN {}", password::LABEL)) {
            return Self::new(password::open(&block, password)?);
        }
        let secret = Secret::from_pem(&block).ok_or_else(|| {
            Error::key("not a private key for ECDSA on P-256, P-384 or P-521")
                .hint("`firebrand keygen` makes one")
        })?;
        Self::new(secret)
    }

    /// Reads a PEM file that only its owner can read.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut file = File::open(path).context_at("cannot read the signing key", path)?;
        refuse_shared(&file, path)?;
        let text = read_pem(&mut file, path)?;
        Self::from_pem(&text, &path.display().to_string()).map_err(|error| error.at(path))
    }

    /// The same key, which signs in the name of the first of these certificates; without any it
    /// signs in its own.
    ///
    /// # Errors
    /// When the certificate is another key's, or when there is none and the key is not on P-256.
    pub fn certified(self, chain: Vec<Certificate>) -> Result<Self> {
        match chain.first() {
            None if !matches!(self.public.key, Public::P256(_)) => Err(Error::key(
                "not a P-256 private key",
            )
            .hint("only P-256 is supported without a certificate; `firebrand keygen` makes one")),
            Some(leaf) if leaf.key() != Some(&self.public.key) => {
                Err(Error::key(format!("the certificate `{}` is not this key's", leaf.subject()))
                    .hint("the first certificate in the file must be the signer's own"))
            }
            _ => Ok(Self { chain, ..self }),
        }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signer's certificate and those that vouch for it; empty for a key of its own.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// Who signs, for people.
    pub fn name(&self) -> String {
        match self.chain.first() {
            Some(leaf) => format!("certificate `{}`", leaf.subject()),
            None => format!("key {}", &self.public.hint[..12]),
        }
    }

    /// Signs a message by the curve's own digest; ASN.1 DER. What a program signs is checked.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match &self.holder {
            Holder::Here(key) => key.sign(message),
            Holder::Program(program) => {
                let signature = program.ask(message)?;
                self.public.key.check(message, &signature).map_err(|why| {
                    Error::key(format!("what the program `{}` printed {why}", program.name())).hint(
                        "it must print an ECDSA P-256 signature with SHA-256 over all of \
                               stdin, in DER, and nothing else",
                    )
                })?;
                Ok(signature)
            }
        }
    }

    /// The PEM text, under a password if there is one.
    pub(super) fn to_pem(&self, password: Option<&str>) -> Result<Password> {
        match &self.holder {
            Holder::Here(key) => key.to_pem(password),
            Holder::Program(_) => Err(Error::key("a key that a program holds cannot be saved")),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.hint) // never the secret
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
pub(crate) mod tests;
