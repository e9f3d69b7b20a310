//! Signing keys (ECDSA P-256): read from PEM, made on first use in the user's own folder, or held
//! by a program that signs.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use p256::SecretKey;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey as EcdsaKey, VerifyingKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use p256::pkcs8::{LineEnding, spki};

use super::envelope::pre_authentication_encoding;
use super::pem::{only_block, read_pem, refuse_shared};
use super::program::Program;
use crate::error::{Context, Error, Result};
use crate::files::{self, Digest};

/// The user's private key, below [`config_home`].
pub const PRIVATE_FILE: &str = "signing.pem";
/// Its public half, which the same user's `verify` trusts.
pub const PUBLIC_FILE: &str = "signing.pub.pem";
/// The folder below [`config_home`] with the PEM files of further trusted keys.
pub const TRUSTED_FOLDER: &str = "trusted-keys";
/// The environment variable that holds a key: a path, or the PEM text itself.
pub const ENVIRONMENT: &str = "FIREBRAND_SIGNING_KEY";

/// What a program is asked to sign to see whether it can. The type is none that anyone accepts.
const TRIAL_TYPE: &str = "application/vnd.firebrand.trial";
const TRIAL: &[u8] = b"can you sign?";

/// The public half of a key: what a signature is checked with.
#[derive(Clone)]
pub struct PublicKey {
    key: VerifyingKey,
    pem: String,
    hint: String,
}

impl PublicKey {
    fn new(key: VerifyingKey) -> Result<Self, spki::Error> {
        let pem = key.to_public_key_pem(LineEnding::LF)?;
        let hint = Digest::of(pem.as_bytes()).to_string();
        Ok(Self { key, pem, hint })
    }

    /// Reads one `PUBLIC KEY` block.
    pub fn from_pem(text: &str) -> Result<Self> {
        if text.contains("PRIVATE KEY-----") {
            return Err(Error::new("this is a private key, a public key is needed")
                .hint("`openssl ec -in KEY.pem -pubout` prints the public half"));
        }
        let block = only_block(text, &["PUBLIC KEY"])?;
        VerifyingKey::from_public_key_pem(&block)
            .and_then(Self::new)
            .context("not a P-256 public key")
            .map_err(|error| error.hint("only P-256 keys are supported"))
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

    /// Whether `signature` (ASN.1 DER) is this key's over `message`.
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        self.check(message, signature).is_ok()
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), &'static str> {
        let signature = Signature::from_der(signature).map_err(|_| "is no signature in DER")?;
        self.key
            .verify(message, &signature)
            .map_err(|_| "is not a signature of the public key that was named")
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
}

/// Who has the secret.
enum Holder {
    Here(EcdsaKey),
    Program(Program),
}

impl SigningKey {
    fn new(secret: SecretKey) -> Result<Self> {
        let key = EcdsaKey::from(secret);
        let public = PublicKey::new(*key.verifying_key()).context("cannot encode the key")?;
        Ok(Self { holder: Holder::Here(key), public })
    }

    /// A key that only a program can use; it is tried at once.
    ///
    /// # Errors
    /// When the program fails, hangs, or signs with another key than `public`.
    pub fn held_by(program: Program, public: PublicKey) -> Result<Self> {
        let key = Self { holder: Holder::Program(program), public };
        key.sign(&pre_authentication_encoding(TRIAL_TYPE, TRIAL))?;
        Ok(key)
    }

    /// A new key from the operating system's random numbers.
    pub fn generate() -> Result<Self> {
        let secret = SecretKey::try_generate().context("cannot get random numbers for a key")?;
        Self::new(secret)
    }

    /// Reads a PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`) block.
    pub fn from_pem(text: &str) -> Result<Self> {
        if text.contains("ENCRYPTED") {
            return Err(Error::new("the private key is encrypted, which is not supported")
                .hint(
                    "let OpenSSL sign with it: `output.signer = [\"openssl\", \"dgst\", \
                       \"-sha256\", \"-sign\", \"KEY.pem\"]`",
                )
                .hint("or `openssl pkey -in KEY.pem -out PLAIN.pem` removes the passphrase"));
        }
        let block = only_block(text, &["PRIVATE KEY", "EC PRIVATE KEY"])?;
        let secret = SecretKey::from_pem(&block)
            .context("not a P-256 private key")
            .map_err(|error| error.hint("only P-256 is supported; `firebrand keygen` makes one"))?;
        Self::new(secret)
    }

    /// Reads a PEM file that only its owner can read.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut file = File::open(path).context_at("cannot read the signing key", path)?;
        refuse_shared(&file, path)?;
        Self::from_pem(&read_pem(&mut file, path)?).map_err(|error| error.at(path))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message: ECDSA with SHA-256, ASN.1 DER. What a program signs is checked.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match &self.holder {
            Holder::Here(key) => {
                let signature: Signature = key.try_sign(message).context("cannot sign")?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Holder::Program(program) => {
                let signature = program.ask(message)?;
                self.public.check(message, &signature).map_err(|why| {
                    Error::new(format!("what the program `{}` printed {why}", program.name())).hint(
                        "it must print an ECDSA P-256 signature with SHA-256 over all of \
                               stdin, in DER, and nothing else",
                    )
                })?;
                Ok(signature)
            }
        }
    }

    fn save(&self, path: &Path) -> Result<()> {
        let Holder::Here(key) = &self.holder else {
            return Err(Error::new("a key that a program holds cannot be saved").at(path));
        };
        let pem = SecretKey::from(key.as_nonzero_scalar())
            .to_pkcs8_pem(LineEnding::LF)
            .context("cannot encode the key")?;
        write_private(path, pem.as_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.hint) // never the secret
    }
}

/// Where a signing key came from, so that the user can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The file that `output.signing_key` names.
    Config(PathBuf),
    /// The program that holds it.
    Program(String),
    /// PEM text in the environment.
    Environment,
    /// The file that the environment names.
    EnvironmentFile(PathBuf),
    /// The user's own key, made earlier.
    User(PathBuf),
    /// The user's own key, made just now.
    Created(PathBuf),
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(path) | Self::User(path) => write!(f, "{}", path.display()),
            Self::Program(name) => write!(f, "the program `{name}`"),
            Self::Environment => write!(f, "{ENVIRONMENT}"),
            Self::EnvironmentFile(path) => write!(f, "{} ({ENVIRONMENT})", path.display()),
            Self::Created(path) => write!(f, "{} (made just now)", path.display()),
        }
    }
}

/// The folder of the user's settings and keys: `$XDG_CONFIG_HOME/firebrand`, else
/// `~/.config/firebrand` (`%APPDATA%\firebrand` on Windows).
pub fn config_home() -> Result<PathBuf> {
    // The XDG rules say that a relative path is to be ignored.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("APPDATA").filter(|_| cfg!(windows)))
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    let base = base.ok_or_else(|| {
        Error::new("cannot find the folder for the user's settings")
            .hint("set `XDG_CONFIG_HOME` to an absolute path")
    })?;
    Ok(base.join("firebrand"))
}

/// The key that a program holds, tried out.
pub fn held_by(command: &[String], public: &Path) -> Result<(SigningKey, KeyOrigin)> {
    let program = Program::new(command)?;
    let origin = KeyOrigin::Program(program.name().to_owned());
    let public = PublicKey::from_file(public)?;
    Ok((SigningKey::held_by(program, public)?, origin))
}

/// The key to sign with: the one the configuration names, else the environment's, else the user's
/// own below `config_home`, which is made when there is none.
pub fn load_or_create(
    config_home: &Path,
    explicit: Option<&str>,
    environment: Option<&str>,
) -> Result<(SigningKey, KeyOrigin)> {
    if let Some(path) = explicit {
        let path = PathBuf::from(path);
        let key = SigningKey::from_file(&path)
            .map_err(|error| error.hint("the key is named by `output.signing_key` or an option"))?;
        return Ok((key, KeyOrigin::Config(path)));
    }
    if let Some(text) = environment.filter(|text| !text.trim().is_empty()) {
        let named = |error: Error| error.hint(format!("the key is named by `{ENVIRONMENT}`"));
        if text.contains("-----BEGIN") {
            let key = SigningKey::from_pem(text).map_err(named)?;
            return Ok((key, KeyOrigin::Environment));
        }
        let path = PathBuf::from(text);
        let key = SigningKey::from_file(&path).map_err(named)?;
        return Ok((key, KeyOrigin::EnvironmentFile(path)));
    }
    users_own(config_home)
}

fn users_own(config_home: &Path) -> Result<(SigningKey, KeyOrigin)> {
    let path = config_home.join(PRIVATE_FILE);
    let created = if path.symlink_metadata().is_err() {
        create_private_folder(config_home)?;
        match SigningKey::generate()?.save(&path) {
            Ok(()) => true,
            // Another process made one meanwhile: that one counts.
            Err(_) if path.symlink_metadata().is_ok() => false,
            Err(error) => return Err(error),
        }
    } else {
        false
    };
    let key = SigningKey::from_file(&path)?;
    publish(&key, &config_home.join(PUBLIC_FILE))?;
    Ok((key, if created { KeyOrigin::Created(path) } else { KeyOrigin::User(path) }))
}

/// Makes a new key pair: `path` with mode 0600, and its public half beside it. Returns the key and
/// the public file.
///
/// # Errors
/// Refuses to replace a file that is already there.
pub fn keygen(path: &Path) -> Result<(SigningKey, PathBuf)> {
    let public = path.with_extension("pub.pem");
    for taken in [path, &public] {
        if taken.symlink_metadata().is_ok() {
            return Err(Error::new("refusing to replace what is already there")
                .at(taken)
                .hint("name another file, or move this one away"));
        }
    }
    let key = SigningKey::generate()?;
    key.save(path)?;
    publish(&key, &public)?;
    Ok((key, public))
}

/// Writes the public half unless it is there; another key in its place is an error.
fn publish(key: &SigningKey, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return files::write_atomic(path, key.public.pem.as_bytes());
    }
    if PublicKey::from_file(path)?.hint != key.public.hint {
        return Err(Error::new(format!("this is not the public half of `{PRIVATE_FILE}`"))
            .at(path)
            .hint("remove it to have it written again, or put the private key back"));
    }
    Ok(())
}

fn create_private_folder(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).context_at("cannot make the folder", path)
}

/// Writes a file that only its owner can ever read, without replacing one: the mode is set when
/// the scratch file is made, and the name appears only when the content is complete.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| Error::new("not a file name").at(path))?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let scratch = format!(".{}.{}.{number}.tmp", name.to_string_lossy(), std::process::id());
    let scratch = path.with_file_name(scratch);
    let _ = fs::remove_file(&scratch); // a leftover of a process that had the same number
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let result = options
        .open(&scratch)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .context_at("cannot write the private key", path)
        .and_then(|()| files::rename_new(&scratch, path));
    if result.is_err() {
        let _ = fs::remove_file(&scratch);
    }
    result
}

#[cfg(test)]
#[path = "keys_tests.rs"]
pub(crate) mod tests;
