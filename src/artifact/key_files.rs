//! Where signing keys lie: named by the user, in the environment, or made on first use in the
//! user's own folder.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::certificate::Certificate;
use super::keys::{PublicKey, SigningKey};
use super::password;
use super::program::Program;
use crate::error::{Context, Error, Result};
use crate::files;

/// The user's private key, below [`config_home`].
pub const PRIVATE_FILE: &str = "signing.pem";
/// Its public half, which the same user's `verify` trusts.
pub const PUBLIC_FILE: &str = "signing.pub.pem";
/// The folder below [`config_home`] with the PEM files of further trusted keys.
pub const TRUSTED_FOLDER: &str = "trusted-keys";
/// The environment variable that holds a key: a path, or the PEM text itself.
pub const ENVIRONMENT: &str = "FIREBRAND_SIGNING_KEY";

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
        Error::key("cannot find the folder for the user's settings")
            .hint("set `XDG_CONFIG_HOME` to an absolute path")
    })?;
    Ok(base.join("firebrand"))
}

/// The key that a program holds, tried out; it signs in the name of `certificates` if there are
/// any.
pub fn held_by(
    command: &[String],
    public: &Path,
    certificates: Vec<Certificate>,
) -> Result<(SigningKey, KeyOrigin)> {
    let program = Program::new(command)?;
    let origin = KeyOrigin::Program(program.name().to_owned());
    let public = PublicKey::from_file(public)?;
    Ok((SigningKey::held_by(program, public)?.certified(certificates)?, origin))
}

/// The key to sign with: the one the configuration names, else the environment's, else the user's
/// own below `config_home`, which is made when there is none. It signs in the name of
/// `certificates` if there are any.
pub fn load_or_create(
    config_home: &Path,
    explicit: Option<&str>,
    environment: Option<&str>,
    certificates: Vec<Certificate>,
) -> Result<(SigningKey, KeyOrigin)> {
    let (key, origin) = find(config_home, explicit, environment, !certificates.is_empty())?;
    let key = key.certified(certificates).map_err(|error| match &origin {
        KeyOrigin::Config(path) | KeyOrigin::EnvironmentFile(path) => error.at(path),
        _ => error,
    })?;
    Ok((key, origin))
}

fn find(
    config_home: &Path,
    explicit: Option<&str>,
    environment: Option<&str>,
    certified: bool,
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
            let key = SigningKey::from_pem(text, ENVIRONMENT).map_err(named)?;
            return Ok((key, KeyOrigin::Environment));
        }
        let path = PathBuf::from(text);
        let key = SigningKey::from_file(&path).map_err(named)?;
        return Ok((key, KeyOrigin::EnvironmentFile(path)));
    }
    if certified && config_home.join(PRIVATE_FILE).symlink_metadata().is_err() {
        return Err(Error::key("there are certificates to sign with, and no key")
            .hint("name the private key of the first of them"));
    }
    users_own(config_home)
}

fn users_own(config_home: &Path) -> Result<(SigningKey, KeyOrigin)> {
    let path = config_home.join(PRIVATE_FILE);
    let created = if path.symlink_metadata().is_err() {
        create_private_folder(config_home)?;
        match save(&SigningKey::generate()?, &path, None) {
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

/// Makes a new key pair: `path` with mode 0600, under a password if it is to be encrypted, and its
/// public half beside it. Returns the key and the public file.
///
/// # Errors
/// Refuses to replace a file that is already there.
pub fn keygen(path: &Path, encrypt: bool) -> Result<(SigningKey, PathBuf)> {
    let public = path.with_extension("pub.pem");
    for taken in [path, &public] {
        if taken.symlink_metadata().is_ok() {
            return Err(Error::exists("refusing to replace what is already there")
                .at(taken)
                .hint("name another file, or move this one away"));
        }
    }
    let password = encrypt.then(|| password::for_new_key(path)).transpose()?;
    let key = SigningKey::generate()?;
    let pem = key.to_pem(password.as_ref().map(|password| password.as_str()));
    let pem = pem.map_err(|error| error.at(path))?;
    // Both are on the disk before either has its name, and a name that someone else took meanwhile
    // is left to them: there is a pair, or nothing.
    let secret = Scratch::write(path, pem.as_bytes(), 0o600)?;
    let open = Scratch::write(&public, key.public().pem().as_bytes(), 0o644)?;
    secret.publish()?;
    if let Err(error) = open.publish() {
        let _ = fs::remove_file(path); // made just now, by nobody else
        return Err(error);
    }
    Ok((key, public))
}

fn save(key: &SigningKey, path: &Path, password: Option<&str>) -> Result<()> {
    let pem = key.to_pem(password).map_err(|error| error.at(path))?;
    Scratch::write(path, pem.as_bytes(), 0o600)?.publish()
}

/// Writes the public half unless it is there; another key in its place is an error.
fn publish(key: &SigningKey, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return files::write_atomic(path, key.public().pem().as_bytes());
    }
    if PublicKey::from_file(path)?.hint() != key.public().hint() {
        return Err(Error::key(format!("this is not the public key of `{PRIVATE_FILE}`"))
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

/// A file of a key that has no name yet; without one it goes again.
struct Scratch<'a> {
    scratch: PathBuf,
    path: &'a Path,
}

impl<'a> Scratch<'a> {
    /// Writes all of it; the mode is set when the file is made, so that nobody else can ever read a
    /// secret.
    fn write(path: &'a Path, bytes: &[u8], mode: u32) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| Error::key("not a file name").at(path))?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let scratch = format!(".{}.{}.{number}.tmp", name.to_string_lossy(), std::process::id());
        let scratch = path.with_file_name(scratch);
        let _ = fs::remove_file(&scratch); // a leftover of a process that had the same number
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let written = Self { scratch, path };
        options
            .open(&written.scratch)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .context_at("cannot write the key", path)?;
        Ok(written)
    }

    /// Gives it its name, which must be free.
    fn publish(self) -> Result<()> {
        files::rename_new(&self.scratch, self.path)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.scratch); // not there once it has its name
    }
}
