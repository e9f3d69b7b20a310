//! Whole commands about signatures: any directory signed, programs that sign, keys that count no
//! more, and attestations.

mod common;

use std::fs;
use std::path::Path;

use common::Run;
use firebrand::artifact::keys::SigningKey;

/// A folder with a model that is not ours, and a key pair.
fn model() -> Run {
    let run = Run::new();
    fs::create_dir(run.path("model")).unwrap();
    for name in ["tokenizer.json", "config.json"] {
        fs::copy(run.path("base").join(name), run.path("model").join(name)).unwrap();
    }
    run.succeeds(&["keygen", "release.pem"]);
    run
}

fn verdict(run: &Run, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run.command(&[&["verify"], arguments].concat()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn any_directory_can_be_signed_and_then_verifies() {
    let run = model();
    assert_eq!(run.succeeds(&["sign", "model", "--key", "release.pem"]), "model/model.sig\n");
    run.succeeds(&["verify", "model", "--key", "release.pub.pem"]);

    // Once is enough, unless it is asked for; the same key gives the same bytes.
    let before = run.read("model/model.sig");
    let stderr = run.fails(2, &["sign", "model", "--key", "release.pem"]);
    assert!(stderr.contains("signed already") && stderr.contains("--force"), "{stderr}");
    run.succeeds(&["sign", "model", "--key", "release.pem", "--force"]);
    assert_eq!(run.read("model/model.sig"), before);

    run.write("model/config.json", "{}");
    assert!(verdict(&run, &["model", "--key", "release.pub.pem"]).1.contains("tampered"));
    run.succeeds(&["sign", "model", "--force", "--key", "release.pem"]);
    run.succeeds(&["verify", "model", "--key", "release.pub.pem"]);
    assert!(!run.path("settings").exists(), "no key was made");

    // Without a key, the user's own signs.
    run.succeeds(&["sign", "model", "--force"]);
    run.succeeds(&["verify", "model"]);
}

#[cfg(unix)]
#[test]
fn what_nobody_would_accept_is_not_signed() {
    let run = model();
    let sign = ["sign", "model", "--key", "release.pem"];
    std::os::unix::fs::symlink("config.json", run.path("model/link")).unwrap();
    assert!(run.fails(1, &sign).contains("only regular files"));
    fs::remove_file(run.path("model/link")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(run.path("model/socket")).unwrap();
    assert!(run.fails(1, &sign).contains("only regular files"));
    drop(socket);
    fs::remove_file(run.path("model/socket")).unwrap();
    run.write("model/.gitattributes", "");
    assert!(run.fails(1, &sign).contains("no signature covers `.gitattributes`"));
    fs::remove_file(run.path("model/.gitattributes")).unwrap();
    run.write("model/model.safetensors", "PK");
    assert!(run.fails(1, &sign).contains("weights' headers"));
    assert!(!run.path("model/model.sig").exists());
}

/// Not a test of its own: as another process, it signs stdin with the key that the environment
/// names.
#[test]
fn the_program_that_signs() {
    let (Some(key), Some(out)) = (std::env::var_os("SIGN_WITH"), std::env::var_os("SIGN_INTO"))
    else {
        return;
    };
    let mut message = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut message).unwrap();
    let key = SigningKey::from_file(Path::new(&key)).unwrap();
    fs::write(out, key.sign(&message).unwrap()).unwrap();
}

/// A script that signs with `key`, after `first`; as `output.signer` has it.
#[cfg(unix)]
fn signer(run: &Run, key: &str, first: &str) -> String {
    let itself = std::env::current_exe().unwrap();
    let script = format!(
        "{first}\nSIGN_WITH={key} SIGN_INTO=signature.der '{}' --exact the_program_that_signs \
         > test.log 2>&1 || exit 1\ncat signature.der\n",
        itself.display()
    );
    run.write("signer.sh", &script);
    "[\"sh\", \"signer.sh\"]".to_owned()
}

#[cfg(unix)]
#[test]
fn a_program_can_sign_a_directory() {
    let run = model();
    let program = signer(&run, "release.pem", "");
    let sign = ["sign", "model", "--signer", &program, "--public-key", "release.pub.pem"];
    run.succeeds(&sign);
    run.succeeds(&["verify", "model", "--key", "release.pub.pem"]);
    fs::remove_file(run.path("model/model.sig")).unwrap();

    let lies = |first: &str, part: &str| {
        signer(&run, "release.pem", first);
        let stderr = run.fails(2, &sign);
        assert!(stderr.contains(part), "{stderr}");
        assert!(!run.path("model/model.sig").exists());
    };
    lies("echo no card >&2; exit 4", "because no card");
    lies("echo signed; exit 0", "is no signature in DER");
    lies("exit 0", "is no signature in DER");
    run.succeeds(&["keygen", "other.pem"]);
    signer(&run, "other.pem", "");
    assert!(run.fails(2, &sign).contains("not a signature of the public key"));
    // A program without arguments needs no brackets.
    let nobody = ["sign", "model", "--signer", "./nobody", "--public-key", "release.pub.pem"];
    assert!(run.fails(2, &nobody).contains("`./nobody`, which should sign, cannot be started"));
    assert!(run.fails(2, &["sign", "model", "--signer", "x"]).contains("--public-key"));
}

#[cfg(unix)]
#[test]
fn a_program_can_sign_a_run_and_is_tried_before_it_begins() {
    let run = model();
    let program = format!("output.signer={}", signer(&run, "release.pem", ""));
    let train = |more: &[&str]| {
        let set = ["train", "tiny.toml", "--quiet", "--set"];
        [&set[..], &[program.as_str()], more].concat().iter().map(|s| (*s).to_owned()).collect()
    };
    let key = ["--set", "output.signer_key=release.pub.pem"];
    let fails = |arguments: &Vec<String>| {
        run.fails(2, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let alone: Vec<String> = train(&[]);
    assert!(fails(&alone).contains("`output.signer` needs `output.signer_key`"));
    let whole: Vec<String> = train(&key);
    signer(&run, "release.pem", "exit 7");
    assert!(fails(&whole).contains("exit status: 7"));
    assert!(!run.path("checkpoints/tiny/metrics.jsonl").exists(), "no step was made");

    // One that works when it is tried and fails when it counts: the run is there and goes on.
    signer(&run, "release.pem", "test -e tried && exit 8; touch tried");
    assert!(fails(&whole).contains("exit status: 8"));
    assert!(!run.path("checkpoints/tiny/artifact").exists());
    signer(&run, "release.pem", "");
    run.succeeds(&whole.iter().map(String::as_str).collect::<Vec<_>>());
    run.succeeds(&["verify", "checkpoints/tiny", "--key", "release.pub.pem"]);
    assert!(run.path("checkpoints/tiny/artifact.sigstore.jsonl").exists());
    assert!(!run.path("settings").exists(), "no key was made");

    let both = ["--set", "output.signing_key=release.pem"];
    assert!(fails(&train(&both)).contains("exclude each other"));
    let lonely = ["train", "lora.toml", "--set", "output.signer_key=release.pub.pem"];
    assert!(run.fails(2, &lonely).contains("means nothing without `output.signer`"));
}

#[test]
fn revoked_keys_and_other_roles_are_untrusted() {
    let run = model();
    run.succeeds(&["sign", "model", "--key", "release.pem"]);
    fs::create_dir_all(run.path("settings/firebrand")).unwrap();
    fs::copy(run.path("release.pub.pem"), run.path("settings/firebrand/acme.pem")).unwrap();
    let trusted = |text: &str| {
        let text = format!("[[key]]\nfile = \"acme.pem\"\n{text}");
        run.write("settings/firebrand/trusted-keys.toml", &text);
        // Naming the key does not bring it back.
        let named = verdict(&run, &["model", "--key", "release.pub.pem"]);
        let listed = verdict(&run, &["model"]);
        assert_eq!(named.0, listed.0, "{} {}", named.1, listed.1);
        listed
    };
    let (code, stdout) = trusted("");
    assert_eq!(code, Some(0), "{stdout}");
    for (text, why) in [
        ("revoked = true\nreason = \"laptop stolen\"\n", "was revoked: laptop stolen"),
        ("not_after = \"2020-01-01T00:00:00Z\"\n", "expired on 2020-01-01T00:00:00Z"),
        ("roles = [\"gate\"]\n", "has the role `gate`, and `train` is needed"),
    ] {
        let (code, stdout) = trusted(text);
        assert_eq!(code, Some(1), "{stdout}");
        assert!(stdout.contains("FAIL  trusted key") && stdout.contains(why), "{stdout}");
        assert!(stdout.contains("\nuntrusted"), "{stdout}");
    }
    run.write("settings/firebrand/trusted-keys.toml", "[[key]]\nfile = \"acme.pem\"\nrole = 1\n");
    let stderr = run.fails(2, &["verify", "model"]);
    assert!(stderr.contains("trusted-keys.toml:3:1") && stderr.contains("`role`"), "{stderr}");
}

#[test]
fn a_revoked_key_is_revoked_for_a_family_tree_too() {
    let run = Run::new().with_base();
    let key = "settings/firebrand/signing.pub.pem";
    let signature = || -> String {
        let text = run.command(&["lineage", "checkpoints/tiny", "--key", key]).output().unwrap();
        let text = String::from_utf8(text.stdout).unwrap();
        text.lines().find(|line| line.contains("signature")).unwrap().to_owned()
    };
    assert!(!signature().contains("untrusted"), "{}", signature());
    let revoked = "[[key]]\nfile = \"signing.pub.pem\"\nrevoked = true\nreason = \"stolen\"\n";
    run.write("settings/firebrand/trusted-keys.toml", revoked);
    assert!(signature().contains("untrusted"), "{}", signature());
}

#[test]
fn attestations_beside_an_artifact_are_checked() {
    let run = Run::new().with_base();
    let path = "checkpoints/tiny/artifact.sigstore.jsonl";
    let line = run.read(path);
    // One letter of the payload is another one.
    let place = line.find("\"payload\":\"").unwrap() + 200;
    let other = if &line[place..=place] == "A" { "B" } else { "A" };
    run.write(path, &format!("{line}{}{other}{}", &line[..place], &line[place + 1..]));
    let (code, stdout) = verdict(&run, &["checkpoints/tiny"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("FAIL  attestation        line 2: "), "{stdout}");
    assert!(stdout.contains("ok    attestation        line 1: "), "{stdout}");
    run.write(path, &format!("{line}\n"));
    let (code, stdout) = verdict(&run, &["checkpoints/tiny"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("line 2: "), "{stdout}");
    assert!(stdout.contains("tampered"), "{stdout}");
    fs::remove_file(run.path(path)).unwrap();
    let (code, stdout) = verdict(&run, &["checkpoints/tiny"]);
    assert!(code == Some(0) && !stdout.contains("attestation"), "{stdout}");
}
