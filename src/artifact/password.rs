//! The password of a private key: from the environment, or typed on a terminal that shows nothing.

use std::path::Path;

use p256::elliptic_curve::zeroize::Zeroizing;
use p256::pkcs8::EncryptedPrivateKeyInfoOwned;
use p256::pkcs8::spki::Document;
use pkcs8::der::Decode;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;

use super::ecdsa::Secret;
use crate::error::{Context, Error, ErrorCode, Result};

/// The environment variable that holds the password.
pub const VARIABLE: &str = "FIREBRAND_KEY_PASSWORD";
/// The label of a key under a password.
pub(super) const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// More memory than any program asks for to make one guess slow (OpenSSL's limit is 32 MiB).
const MAX_SCRYPT_BYTES: u64 = 256 << 20;
/// A minute of work or so.
const MAX_ROUNDS: u32 = 50_000_000;
/// More than a person types, and than a generator makes.
const MAX_LENGTH: usize = 1024;

/// A password, wiped from memory after use.
pub type Password = Zeroizing<String>;

/// The password of the key in `place`.
///
/// # Errors
/// When it is neither in the environment nor is there a terminal to ask on.
pub fn of_key(place: &str) -> Result<Password> {
    match from_environment()? {
        Some(password) => Ok(password),
        None => terminal::ask(&format!("password of the private key {place}: ")),
    }
}

/// The password for a new key; whoever types it types it twice.
pub fn for_new_key(path: &Path) -> Result<Password> {
    if let Some(password) = from_environment()? {
        return Ok(password);
    }
    let password = terminal::ask(&format!("password for the new key {}: ", path.display()))?;
    refuse_empty(&password)?;
    if *terminal::ask("the same once more: ")? != *password {
        return Err(Error::key("the two passwords differ"));
    }
    Ok(password)
}

fn from_environment() -> Result<Option<Password>> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let value =
        value.into_string().map_err(|_| Error::key(format!("`{VARIABLE}` is not valid UTF-8")))?;
    let password = Password::new(value);
    refuse_empty(&password).map_err(|error| error.because(format!("`{VARIABLE}` is empty")))?;
    Ok(Some(password))
}

fn refuse_empty(password: &Password) -> Result<()> {
    if password.is_empty() {
        return Err(Error::key("the password is empty"));
    }
    Ok(())
}

/// Decrypts an `ENCRYPTED PRIVATE KEY` block: PBES2 with scrypt or PBKDF2, and AES.
///
/// `password` is asked for only if the block can be decrypted at all.
pub(super) fn open(block: &str, password: impl FnOnce() -> Result<Password>) -> Result<Secret> {
    let (_, document) =
        Document::from_pem(block).context_code(ErrorCode::Key, "the encrypted key is damaged")?;
    let info = EncryptedPrivateKeyInfoOwned::from_der(document.as_bytes())
        .context_code(ErrorCode::Key, "the key's encryption is not supported")
        .map_err(|error| error.hint(RENEW))?;
    refuse_costly(&info.encryption_algorithm)?;
    let plain = info.decrypt(&**password()?).map_err(|cause| match cause {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => {
            Error::key("the key's encryption is not supported").because(cause).hint(RENEW)
        }
        _ => Error::key("the password is wrong, or the key is damaged"),
    })?;
    // A wrong password passes the padding check once in 256 times.
    Secret::from_der(plain.as_bytes())
        .ok_or_else(|| Error::key("the password is wrong, or this is not an ECDSA key"))
}

const RENEW: &str = "`openssl pkcs8 -topk8 -scrypt -in KEY.pem -out NEW.pem` writes it in a form \
                     that is read here (PBES2 with scrypt or PBKDF2, and AES)";

/// A key file decides how much memory and time its own opening takes: within reason.
fn refuse_costly(scheme: &EncryptionScheme) -> Result<()> {
    let EncryptionScheme::Pbes2(parameters) = scheme else {
        return Err(Error::key("the key's encryption is not supported").hint(RENEW));
    };
    let reasonable = match &parameters.kdf {
        Kdf::Scrypt(scrypt) => {
            let (size, lanes) = (u64::from(scrypt.block_size), u64::from(scrypt.parallelization));
            let bytes = scrypt.cost_parameter.checked_mul(128 * size.max(1));
            bytes
                .and_then(|bytes| bytes.checked_mul(lanes.max(1)))
                .is_some_and(|all| all <= MAX_SCRYPT_BYTES)
        }
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MAX_ROUNDS,
        _ => false,
    };
    if reasonable {
        return Ok(());
    }
    Err(Error::key("decrypting this key would take more memory or time than is allowed")
        .hint(RENEW))
}

#[cfg(unix)]
mod terminal {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Read, Write};

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    use super::{MAX_LENGTH, Password, VARIABLE};
    use crate::error::{Context, Error, ErrorCode, Result};

    const BACKSPACE: [u8; 2] = [0x08, 0x7f];
    const INTERRUPT: u8 = 0x03;
    const END: u8 = 0x04;
    const ERASE_ALL: u8 = 0x15;

    /// Puts the terminal back as it was.
    struct Silent {
        terminal: File,
        before: Termios,
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
            let _ = self.terminal.write_all(b"\n");
        }
    }

    /// Asks on the terminal of this process, whatever stdin and stderr are.
    pub(super) fn ask(question: &str) -> Result<Password> {
        let terminal =
            OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| {
                Error::key("the private key needs a password, and there is no terminal to ask on")
                    .hint(format!("put the password into the environment variable `{VARIABLE}`"))
            })?;
        let mut silent =
            silence(terminal).context_code(ErrorCode::Key, "cannot ask for the password")?;
        let question = crate::error::printable(question);
        silent
            .terminal
            .write_all(question.as_bytes())
            .context_code(ErrorCode::Key, "cannot ask for the password")?;
        read(&mut silent.terminal)
    }

    fn silence(terminal: File) -> io::Result<Silent> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        // Keys come one by one, also those that would end the process and leave the terminal mute.
        quiet.local_modes -=
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Silent { terminal, before })
    }

    fn read(terminal: &mut File) -> Result<Password> {
        let mut typed =
            p256::elliptic_curve::zeroize::Zeroizing::new(Vec::with_capacity(MAX_LENGTH));
        let mut key = [0];
        loop {
            let count =
                terminal.read(&mut key).context_code(ErrorCode::Key, "cannot read the password")?;
            match key[0] {
                _ if count == 0 => break,
                b'\r' | b'\n' => break,
                END if typed.is_empty() => break,
                INTERRUPT => return Err(Error::key("no password was given")),
                ERASE_ALL => typed.clear(),
                key if BACKSPACE.contains(&key) => {
                    // One character, not one byte.
                    while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                }
                _ if typed.len() == MAX_LENGTH => {
                    return Err(Error::key(format!(
                        "the password has more than {MAX_LENGTH} bytes"
                    )));
                }
                key => typed.push(key),
            }
        }
        let text = std::str::from_utf8(&typed)
            .context_code(ErrorCode::Key, "the password is not valid UTF-8")?;
        Ok(Password::new(text.to_owned()))
    }
}

#[cfg(not(unix))]
mod terminal {
    use super::{Password, VARIABLE};
    use crate::error::{Error, Result};

    pub(super) fn ask(_: &str) -> Result<Password> {
        Err(Error::key("the private key needs a password")
            .hint(format!("put the password into the environment variable `{VARIABLE}`")))
    }
}

#[cfg(test)]
#[path = "password_tests.rs"]
mod tests;
