//! Tests of keys under a password: those that OpenSSL writes, ours in OpenSSL, and hostile ones.

use std::path::PathBuf;
use std::process::Command;

use super::super::keys::tests::known_key;
use super::super::keys::{PublicKey, SigningKey};
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys").join(name)
}

fn read(name: &str, password: &str) -> Result<SigningKey> {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    SigningKey::from_pem_with(&text, || Ok(Password::new(password.to_owned())))
}

fn fails(result: Result<SigningKey>, part: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn what_openssl_encrypts_is_read() {
    let public = PublicKey::from_file(&fixture("public.pem")).unwrap();
    for name in ["scrypt", "pbkdf2-aes128", "pbkdf2-aes192", "pbkdf2-aes256", "pbkdf2-sha512"] {
        let key = read(&format!("{name}.pem"), "correct horse").unwrap();
        assert_eq!(key.public().hint(), public.hint(), "{name}");
    }
}

#[test]
fn a_wrong_password_is_told_and_weak_encryption_is_not_read() {
    for name in ["scrypt.pem", "pbkdf2-aes256.pem"] {
        for password in ["", "correct horse ", "Correct horse", "x"] {
            fails(read(name, password), "the password is wrong, or");
        }
    }
    for name in ["pbkdf2-3des.pem", "pbe-3des.pem"] {
        fails(read(name, "correct horse"), "encryption is not supported");
    }
    fails(read("legacy.pem", "correct horse"), "encrypted in a form that is not supported");
}

#[test]
fn the_password_is_asked_for_only_when_it_is_of_use() {
    let never = || -> Result<Password> { panic!("asked") };
    let open = |text: &str| SigningKey::from_pem_with(text, never);
    let text = |name: &str| std::fs::read_to_string(fixture(name)).unwrap();
    assert!(open(&known_key().to_pem(None).unwrap()).is_ok());
    fails(open(&text("pbe-3des.pem")), "not supported");
    fails(open(&text("legacy.pem")), "not supported");
    fails(open("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "there is no `PRIVATE KEY`");
    let cut = text("scrypt.pem").replacen("MIHk", "MIHj", 1);
    fails(open(&cut), "the encrypted key is damaged");
}

/// The block with some of its bytes replaced.
fn bent(name: &str, from: &[u8], to: &[u8]) -> String {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    let (_, document) = Document::from_pem(&text).unwrap();
    let mut bytes = document.as_bytes().to_vec();
    let at = bytes.windows(from.len()).position(|window| window == from).expect("is there");
    bytes[at..at + to.len()].copy_from_slice(to);
    Document::try_from(bytes).unwrap().to_pem(LABEL, p256::pkcs8::LineEnding::LF).unwrap()
}

#[test]
fn a_key_cannot_ask_for_more_memory_or_time_than_there_is() {
    let never = || -> Result<Password> { panic!("asked") };
    // N = 16384, r = 8, p = 1 becomes N = 32767, r = 127: half a gigabyte.
    let scrypt = [0x02, 0x02, 0x40, 0x00, 0x02, 0x01, 0x08];
    let large = [0x02, 0x02, 0x7f, 0xff, 0x02, 0x01, 0x7f];
    let text = bent("scrypt.pem", &scrypt, &large);
    fails(SigningKey::from_pem_with(&text, never), "more memory or time than is allowed");
    // PBKDF2 takes a count of four bytes in OpenSSL's place for two: a salt that is two shorter.
    let rounds = [0x02, 0x02, 0x08, 0x00];
    let text = std::fs::read_to_string(fixture("pbkdf2-aes256.pem")).unwrap();
    let (_, document) = Document::from_pem(&text).unwrap();
    let bytes = document.as_bytes();
    let at = bytes.windows(4).position(|window| window == rounds).expect("OpenSSL's default");
    assert_eq!(bytes[at - 10..at - 8], [0x04, 0x08], "a salt of eight bytes");
    let mut bent = bytes.to_vec();
    bent[at - 9] = 0x06;
    bent[at - 2..at + 4].copy_from_slice(&[0x02, 0x04, 0x04, 0x00, 0x00, 0x00]);
    let text = Document::try_from(bent).unwrap().to_pem(LABEL, p256::pkcs8::LineEnding::LF);
    fails(SigningKey::from_pem_with(&text.unwrap(), never), "more memory or time than is");
}

#[test]
fn keys_that_we_encrypt_are_read_again_and_by_openssl() {
    let key = known_key();
    let pem = key.to_pem(Some("pässword")).unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    let again = SigningKey::from_pem_with(&pem, || Ok(Password::new("pässword".to_owned())));
    assert_eq!(again.unwrap().public().hint(), key.public().hint());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, pem.as_bytes()).unwrap();
    let openssl = Command::new("openssl")
        .args(["ec", "-pubout", "-passin", "env:THE_PASSWORD", "-in"])
        .arg(&path)
        .env("THE_PASSWORD", "pässword")
        .output();
    let Ok(output) = openssl else { return }; // not installed here
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), key.public().pem(), "{complaint}");
}
