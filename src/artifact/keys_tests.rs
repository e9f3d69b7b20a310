//! Tests of keys: standard vectors, forms of PEM, precedence, modes.

use std::fs;

use p256::pkcs8::{EncodePrivateKey, LineEnding};

use super::*;
use crate::files::Digest;
use crate::snapshots::says;

/// The public half of the key of RFC 6979, A.2.5, as `openssl ec -pubout` writes it.
const PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7
Yfps5mliLmDyn7Z5A/4QCLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==
-----END PUBLIC KEY-----
";
const HINT: &str = "4975c03dd2ad43f3803bf943ca231389c41f26352bf098c930568797eff44dcc";

fn secret() -> p256::SecretKey {
    let scalar: Digest =
        "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721".parse().unwrap();
    p256::SecretKey::from_slice(&scalar.0).unwrap()
}

/// A key that everybody knows.
pub(crate) fn known_key() -> SigningKey {
    SigningKey::new(Secret::P256(secret().into())).unwrap()
}

#[test]
fn signatures_are_those_of_rfc_6979() {
    let signature = known_key().sign(b"sample").unwrap();
    let expected = "3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
                    022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
}

#[test]
fn the_public_text_and_the_hint_are_openssls() {
    let key = known_key();
    assert_eq!(key.public().pem(), PUBLIC_PEM);
    assert_eq!(key.public().hint(), HINT);
    // Another layout of the same key is the same key.
    let windows = PublicKey::from_pem(&PUBLIC_PEM.replace('\n', "\r\n")).unwrap();
    assert_eq!(windows.hint(), HINT);
}

#[test]
fn a_key_accepts_its_own_signature_and_nothing_else() {
    let key = known_key();
    let signature = key.sign(b"one").unwrap();
    assert!(key.public().accepts(b"one", &signature));
    assert!(!key.public().accepts(b"two", &signature));
    assert!(!SigningKey::generate().unwrap().public().accepts(b"one", &signature));
    let mut trailing = signature.clone();
    trailing.push(0);
    assert!(!key.public().accepts(b"one", &trailing));
    let raw = p256::ecdsa::Signature::from_der(&signature).unwrap().to_bytes();
    assert!(!key.public().accepts(b"one", &raw), "only DER is a signature here");
}

#[test]
fn both_forms_of_private_pem_are_read() {
    let pkcs8 = secret().to_pkcs8_pem(LineEnding::LF).unwrap();
    let sec1 = secret().to_sec1_pem(LineEnding::LF).unwrap();
    assert!(sec1.contains("BEGIN EC PRIVATE KEY"));
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----";
    for text in [&*pkcs8, &*sec1, &format!("{parameters}\n{}", &*sec1)] {
        assert_eq!(SigningKey::from_pem(text, "a text").unwrap().public().hint(), HINT);
    }
}

#[test]
fn other_pem_is_refused_with_a_reason() {
    let refused = |text: &str| SigningKey::from_pem(text, "a text").unwrap_err();
    says(
        refused(""),
        snapbox::str![[
            r#"error[key]: there is no `PRIVATE KEY` or `EC PRIVATE KEY` or `ENCRYPTED PRIVATE KEY` block in the PEM text"#
        ]],
    );
    says(
        refused(PUBLIC_PEM),
        snapbox::str![[
            r#"error[key]: there is no `PRIVATE KEY` or `EC PRIVATE KEY` or `ENCRYPTED PRIVATE KEY` block in the PEM text"#
        ]],
    );
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    says(
        refused(nonsense),
        snapbox::str![[r#"
error[key]: not a private key for ECDSA on P-256, P-384 or P-521

hint: `firebrand keygen` makes one
"#]],
    );
    let pem = secret().to_pkcs8_pem(LineEnding::LF).unwrap();
    says(
        refused(&format!("{}{}", &*pem, &*pem)),
        snapbox::str![[r#"
error[key]: the PEM text holds more than one key

hint: put each key into a file of its own
"#]],
    );
    let error = PublicKey::from_pem(&pem).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[key]: this is a private key, a public key is needed

hint: `openssl ec -in KEY.pem -pubout` prints the public key
"#]],
    );
}

#[test]
fn a_certificate_is_needed_for_other_curves_and_must_be_the_keys() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/certificates");
    let key = |name: &str| {
        let text = fs::read_to_string(folder.join(format!("{name}.key.pem"))).unwrap();
        SigningKey::from_pem(&text, name).unwrap()
    };
    let chain =
        |name: &str| Certificate::all_from_file(&folder.join(format!("{name}.chain.pem"))).unwrap();
    let mut messages = String::new();
    for name in ["p384", "p521"] {
        let error = key(name).certified(Vec::new()).unwrap_err().to_string();
        messages += &format!("{error}\n");
        let error = key(name).certified(chain("good")).unwrap_err().to_string();
        messages += &format!("{error}\n");
        assert_eq!(key(name).certified(chain(name)).unwrap().chain().len(), 2);
    }
    says(
        messages,
        snapbox::str![[r#"
error[key]: not a P-256 private key

hint: only P-256 is supported without a certificate; `firebrand keygen` makes one
error[key]: the certificate `CN=Release,O=Example` is not this key's

hint: the first certificate in the file must be the signer's own
error[key]: not a P-256 private key

hint: only P-256 is supported without a certificate; `firebrand keygen` makes one
error[key]: the certificate `CN=Release,O=Example` is not this key's

hint: the first certificate in the file must be the signer's own

"#]],
    );
    let name = key("release").certified(chain("good")).unwrap().name();
    assert_eq!(name, "certificate `CN=Release,O=Example`");
}

#[test]
fn debug_output_never_holds_the_secret() {
    assert_eq!(format!("{:?}", known_key()), format!("SigningKey({HINT})"));
}

#[test]
fn the_users_key_is_made_once_and_then_used() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().join("config/firebrand");
    let (first, origin) = load_or_create(&home, None, None, Vec::new()).unwrap();
    assert_eq!(origin, KeyOrigin::Created(home.join(PRIVATE_FILE)));
    let public = PublicKey::from_file(&home.join(PUBLIC_FILE)).unwrap();
    assert_eq!(public.hint(), first.public().hint());

    fs::remove_file(home.join(PUBLIC_FILE)).unwrap();
    let (second, origin) = load_or_create(&home, None, Some(" "), Vec::new()).unwrap();
    assert_eq!(origin, KeyOrigin::User(home.join(PRIVATE_FILE)));
    assert_eq!(second.public().hint(), first.public().hint());
    assert!(home.join(PUBLIC_FILE).exists(), "the public half is written again");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 2, "no scratch file is left");

    fs::write(home.join(PUBLIC_FILE), PUBLIC_PEM).unwrap();
    let error = load_or_create(&home, None, None, Vec::new()).unwrap_err().to_string();
    says(
        &error,
        snapbox::str![[r#"
error[key]: this is not the public key of `signing.pem`
  at [FOLDER]/config/firebrand/signing.pub.pem

hint: remove it to have it written again, or put the private key back
"#]],
    );
}

#[test]
fn processes_that_start_together_agree_on_one_key() {
    let home = tempfile::tempdir().unwrap();
    let make =
        || load_or_create(home.path(), None, None, Vec::new()).map(|(key, _)| key.public.hint);
    let hints: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        // The public half has one scratch name in a process, so a thread may lose there; the key
        // itself must not differ.
        threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
    });
    let kept = SigningKey::from_file(&home.path().join(PRIVATE_FILE)).unwrap();
    assert!(!hints.is_empty());
    assert!(hints.iter().all(|hint| hint == kept.public().hint()));
}

#[test]
fn the_configuration_outweighs_the_environment_and_the_environment_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _) = keygen(&folder.path().join("config.pem"), false).unwrap();
    let (environment, _) = keygen(&folder.path().join("environment.pem"), false).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (one, two) = (path("config.pem"), path("environment.pem"));
    let home = folder.path().join("home");

    let (key, origin) = load_or_create(&home, Some(&one), Some(&two), Vec::new()).unwrap();
    assert_eq!(key.public().hint(), config.public().hint());
    assert_eq!(origin, KeyOrigin::Config(one.into()));
    let (key, origin) = load_or_create(&home, None, Some(&two), Vec::new()).unwrap();
    assert_eq!(key.public().hint(), environment.public().hint());
    assert_eq!(origin, KeyOrigin::EnvironmentFile(two.into()));
    let pem = secret().to_pkcs8_pem(LineEnding::LF).unwrap();
    let (key, origin) = load_or_create(&home, None, Some(&pem), Vec::new()).unwrap();
    assert_eq!((key.public().hint(), origin), (HINT, KeyOrigin::Environment));
    assert!(!home.exists(), "no key is made when one is given");
}

#[test]
fn keygen_never_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pem");
    let (key, public) = keygen(&path, false).unwrap();
    assert_eq!(public, folder.path().join("a.pub.pem"));
    assert_eq!(PublicKey::from_file(&public).unwrap().hint(), key.public().hint());
    says(
        keygen(&path, false).unwrap_err(),
        snapbox::str![[r#"
error[exists]: refusing to replace what is already there
  at [FOLDER]/a.pem

hint: name another file, or move this one away
"#]],
    );
    fs::remove_file(&path).unwrap();
    assert!(keygen(&path, false).is_err(), "nor its public half");
    assert!(!path.exists(), "and no half of a pair is made");
}

#[test]
fn of_many_who_make_a_key_pair_one_has_made_both_halves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pem");
    let made: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| keygen(&path, false))).collect();
        all.into_iter().filter_map(|one| one.join().unwrap().ok()).collect()
    });
    assert_eq!(made.len(), 1);
    let hint = made[0].0.public().hint();
    assert_eq!(SigningKey::from_file(&path).unwrap().public().hint(), hint);
    assert_eq!(PublicKey::from_file(&made[0].1).unwrap().hint(), hint);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no scratch file");
}

#[test]
fn a_pair_of_which_one_half_cannot_be_written_is_none() {
    use crate::files::{Call, watch};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pem");
    for half in ["a.pem", "a.pub.pem"] {
        let watch = watch(folder.path(), move |call, path| {
            match call == Call::Rename && path.ends_with(half) {
                true => Err(std::io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        });
        assert!(keygen(&path, false).is_err(), "{half}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{half}");
        drop(watch);
    }
    keygen(&path, false).unwrap();
}

#[cfg(unix)]
#[test]
fn a_private_key_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("firebrand");
    load_or_create(&folder, None, None, Vec::new()).unwrap();
    let path = folder.join(PRIVATE_FILE);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder), 0o700);
    let mut messages = String::new();
    for open in [0o640, 0o604] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        let error = load_or_create(&folder, None, None, Vec::new()).unwrap_err().to_string();
        messages += &format!("{error}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
error[key]: other users have access to the private key (mode 0640)
  at [FOLDER]/firebrand/signing.pem

hint: run `chmod 600 [FOLDER]/firebrand/signing.pem`
error[key]: other users have access to the private key (mode 0604)
  at [FOLDER]/firebrand/signing.pem

hint: run `chmod 600 [FOLDER]/firebrand/signing.pem`

"#]],
    );
}

#[cfg(unix)]
#[test]
fn what_a_program_signs_is_checked_with_the_public_key() {
    let folder = tempfile::tempdir().unwrap();
    let held = |script: &str| {
        let command = ["sh", "-c", script].map(str::to_owned);
        SigningKey::held_by(Program::new(&command).unwrap(), known_key().public().clone())
    };
    let fails = |script: &str, part: &str| {
        let error = held(script).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    fails("exit 1", "failed");
    fails("echo hello", "is not a signature in DER");
    // A true signature of the true key, but always over the same message.
    let path = folder.path().join("signature.der");
    let trial = pre_authentication_encoding(TRIAL_TYPE, TRIAL);
    fs::write(&path, known_key().sign(b"another").unwrap()).unwrap();
    let script = format!("cat '{}'", path.display());
    fails(&script, "not a signature of the public key");
    fs::write(&path, known_key().sign(&trial).unwrap()).unwrap();
    let key = held(&script).unwrap();
    assert_eq!(key.public().hint(), HINT);
    assert!(key.sign(b"something else").is_err(), "the trial does not make it honest");
    assert!(key.to_pem(None).is_err());
}
