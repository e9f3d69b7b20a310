//! Whole commands about signatures: any directory signed, programs that sign, keys that count no
//! more, and attestations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use snapbox::str;
use std::fs;
use std::path::Path;

use crate::common::{Run, says, this_test};
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
    run.fails_with(
        2,
        &["sign", "model", "--key", "release.pem"],
        str![[r#"
error[exists]: the model is signed already
  at model/model.sig

hint: `--force` replaces the signature

"#]],
    );
    run.succeeds(&["sign", "model", "--key", "release.pem", "--force"]);
    assert_eq!(run.read("model/model.sig"), before);

    run.write("model/config.json", "{}");
    says(
        verdict(&run, &["model", "--key", "release.pub.pem"]).1,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] (release.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
FAIL  files unchanged    changed: `config.json`
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by key [SHA256] (release.pub.pem)
tampered: the files are not those that were signed

"#]],
    );
    run.succeeds(&["sign", "model", "--force", "--key", "release.pem"]);
    run.succeeds(&["verify", "model", "--key", "release.pub.pem"]);
    assert!(!run.path("settings").exists(), "no key was made");

    // Without a key, the user's own signs.
    run.succeeds(&["sign", "model", "--force"]);
    run.succeeds(&["verify", "model"]);
}

#[test]
fn gits_files_and_what_downloads_leave_are_no_part_of_a_model() {
    let run = model();
    fs::create_dir_all(run.path("model/.cache/huggingface")).unwrap();
    run.write("model/.gitattributes", "*.safetensors filter=lfs");
    run.write("model/.cache/huggingface/CACHEDIR.TAG", "x");
    let output = run.command(&["sign", "model", "--key", "release.pem"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    says(
        &stderr,
        str![[r#"
[SIZE], root digest [SHA256]
not signed, being no part of the model: `.gitattributes`, `.cache/huggingface`
signed by key [HEX] (release.pem)

"#]],
    );
    let (code, stdout) = verdict(&run, &["model", "--key", "release.pub.pem"]);
    assert_eq!(code, Some(0), "{stdout}");
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] (release.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        no part of the model, not checked: `.cache/huggingface/CACHEDIR.TAG`, `.gitattributes`
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by key [SHA256] (release.pub.pem)
verified

"#]],
    );
    // They may go, or never have come.
    fs::remove_dir_all(run.path("model/.cache")).unwrap();
    fs::remove_file(run.path("model/.gitattributes")).unwrap();
    run.succeeds(&["verify", "model", "--key", "release.pub.pem"]);
    // What is none of them is told apart from a change.
    run.write("model/notes.txt", "x");
    let (code, stdout) = verdict(&run, &["model", "--key", "release.pub.pem"]);
    assert_eq!(code, Some(1));
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] (release.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
FAIL  nothing added      not signed: `notes.txt`
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by key [SHA256] (release.pub.pem)
unsigned files: what was signed is unchanged, and files were added to it

"#]],
    );
    let ignoring = ["model", "--key", "release.pub.pem", "--ignore-unsigned-files"];
    assert_eq!(verdict(&run, &ignoring).0, Some(0));
    // Where a signature covers such a file, it counts.
    fs::create_dir_all(run.path("model/.cache/huggingface")).unwrap();
    run.write("model/.cache/huggingface/signed.json", "{}");
    fs::remove_file(run.path("model/notes.txt")).unwrap();
    run.succeeds(&[
        "sign-model",
        "--method",
        "key",
        "--model-path",
        "model",
        "--private-key",
        "release.pem",
        "--output-bundle",
        "model/model.sig",
    ]);
    run.succeeds(&["verify", "model", "--key", "release.pub.pem"]);
    run.write("model/.cache/huggingface/signed.json", "[]");
    let (_, stdout) = verdict(&run, &["model", "--key", "release.pub.pem"]);
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] (release.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 3 files
ok    other files        none: all are the model's
FAIL  files unchanged    changed: `.cache/huggingface/signed.json`
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by key [SHA256] (release.pub.pem)
tampered: the files are not those that were signed

"#]],
    );
}

#[cfg(unix)]
#[test]
fn what_nobody_would_accept_is_not_signed() {
    let run = model();
    let sign = ["sign", "model", "--key", "release.pem"];
    std::os::unix::fs::symlink("config.json", run.path("model/link")).unwrap();
    run.fails_with(
        1,
        &sign,
        str![[r#"
error[file]: only regular files are accepted, no links or devices
  at model/link

hint: copy the content into a plain file

"#]],
    );
    fs::remove_file(run.path("model/link")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(run.path("model/socket")).unwrap();
    run.fails_with(
        1,
        &sign,
        str![[r#"
error[file]: only regular files are accepted, no links or devices
  at model/socket

hint: copy the content into a plain file

"#]],
    );
    drop(socket);
    fs::remove_file(run.path("model/socket")).unwrap();
    run.write("model/model.safetensors", "PK");
    run.fails_with(
        1,
        &sign,
        str![[r#"
error[signature]: this model cannot be signed: no verifier would accept it
  at model
  because weights' headers: `model.safetensors`: the file is too short for a header

"#]],
    );
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
        "{first}\nSIGN_WITH={key} SIGN_INTO=signature.der '{}' \
         --exact signing::the_program_that_signs > test.log 2>&1 || exit 1\ncat signature.der\n",
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
    lies("echo signed; exit 0", "is not a signature in DER");
    lies("exit 0", "is not a signature in DER");
    run.succeeds(&["keygen", "other.pem"]);
    signer(&run, "other.pem", "");
    run.fails_with(2, &sign, str![[r#"
error[key]: what the program `sh` printed is not a signature of the public key that was named

hint: it must print an ECDSA P-256 signature with SHA-256 over all of stdin, in DER, and nothing else

"#]]);
    // A program without arguments needs no brackets.
    let nobody = ["sign", "model", "--signer", "./nobody", "--public-key", "release.pub.pem"];
    run.fails_with(
        2,
        &nobody,
        str![[r#"
error[key]: the signing program `./nobody` cannot be started
  because No such file or directory (os error 2)

"#]],
    );
    run.fails_with(
        2,
        &["sign", "model", "--signer", "x"],
        str![[r#"
error[usage]: `--signer` requires `--public-key`

hint: name the public key (PEM) that its signatures fit, or `--method sigstore`

"#]],
    );
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
    says(
        fails(&alone),
        str![[r#"
error[config]: `output.signer` requires `output.signer_key`

hint: name the file with the public key (PEM) that its signatures fit

"#]],
    );
    let whole: Vec<String> = train(&key);
    signer(&run, "release.pem", "exit 7");
    says(
        fails(&whole),
        str![[r#"
error[key]: the signing program `sh` failed (exit status: 7)

"#]],
    );
    assert!(!run.path("checkpoints/tiny/metrics.jsonl").exists(), "no step was made");

    // One that works when it is tried and fails when it counts: the run is there and goes on.
    signer(&run, "release.pem", "test -e tried && exit 8; touch tried");
    says(
        fails(&whole),
        str![[r#"
error[key]: the signing program `sh` failed (exit status: 8)

"#]],
    );
    assert!(!run.path("checkpoints/tiny/artifact").exists());
    signer(&run, "release.pem", "");
    run.succeeds(&whole.iter().map(String::as_str).collect::<Vec<_>>());
    run.succeeds(&["verify", "checkpoints/tiny", "--key", "release.pub.pem"]);
    assert!(run.path("checkpoints/tiny/artifact.sigstore.jsonl").exists());
    assert!(!run.path("settings").exists(), "no key was made");

    let both = ["--set", "output.signing_key=release.pem"];
    says(
        fails(&train(&both)),
        str![[r#"
error[config]: `output.signer` and `output.signing_key` exclude each other
  at --set output.signing_key

hint: keep one of the two; `output.signer` is given by `--set output.signer`

"#]],
    );
    let lonely = ["train", "lora.toml", "--set", "output.signer_key=release.pub.pem"];
    run.fails_with(
        2,
        &lonely,
        str![[r#"
error[config]: `output.signer_key` requires `output.signer`

hint: `output.signing_key` names a private key in a file

"#]],
    );
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
    for (text, said) in [
        (
            "revoked = true\nreason = \"laptop stolen\"\n",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the key [SHA256] ([FOLDER]/settings/firebrand/acme.pem) was revoked: laptop stolen
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by key [SHA256]
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            "not_after = \"2020-01-01T00:00:00Z\"\n",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the key [SHA256] ([FOLDER]/settings/firebrand/acme.pem) expired on 2020-01-01T00:00:00Z, and it is now [NOW]
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by key [SHA256]
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            "roles = [\"gate\"]\n",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the key [SHA256] ([FOLDER]/settings/firebrand/acme.pem) has the role `gate`, and `train` is needed
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by key [SHA256]
untrusted: signed by a key that you do not trust

"#]],
        ),
    ] {
        let (code, stdout) = trusted(text);
        assert_eq!(code, Some(1), "{stdout}");
        says(stdout, said);
    }
    run.write("settings/firebrand/trusted-keys.toml", "[[key]]\nfile = \"acme.pem\"\nrole = 1\n");
    run.fails_with(
        2,
        &["verify", "model"],
        str![[r#"
error[config]: unknown key `role` in `[[key]]`
  at [FOLDER]/settings/firebrand/trusted-keys.toml:3:1

hint: did you mean `roles`?

"#]],
    );
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
    says(signature(), str!["  signature      untrusted: signed by a key that you do not trust"]);
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
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] ([FOLDER]/settings/firebrand/signing.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
ok    attestation        line 1: https://slsa.dev/provenance/v1, 9 files as stated, by key [HEX]
FAIL  attestation        line 2: not valid JSON: control character (\u0000-\u001F) found while parsing a string at line 6 column 0
signed by key [SHA256] ([FOLDER]/settings/firebrand/signing.pub.pem)
tampered: the files are not those that were signed

"#]],
    );
    run.write(path, &format!("{line}\n"));
    let (code, stdout) = verdict(&run, &["checkpoints/tiny"]);
    assert_eq!(code, Some(1), "{stdout}");
    says(
        &stdout,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        [SHA256] ([FOLDER]/settings/firebrand/signing.pub.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
ok    attestation        line 1: https://slsa.dev/provenance/v1, 9 files as stated, by key [HEX]
FAIL  attestation        line 2: not valid JSON: EOF while parsing a value at line 1 column 0
signed by key [SHA256] ([FOLDER]/settings/firebrand/signing.pub.pem)
tampered: the files are not those that were signed

"#]],
    );
    fs::remove_file(run.path(path)).unwrap();
    let (code, stdout) = verdict(&run, &["checkpoints/tiny"]);
    assert!(code == Some(0) && !stdout.contains("attestation"), "{stdout}");
}

fn with_password(run: &Run, password: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let command = run.command(arguments).env("FIREBRAND_KEY_PASSWORD", password);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_encrypted_key_signs_with_its_password() {
    let run = model();
    let (code, stderr) = with_password(&run, "open sesame", &["keygen", "locked.pem", "--encrypt"]);
    assert_eq!(code, Some(0), "{stderr}");
    let pem = run.read("locked.pem");
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{pem}");
    let sign = ["sign", "model", "--force", "--key", "locked.pem"];
    assert_eq!(with_password(&run, "open sesame", &sign).0, Some(0));
    run.succeeds(&["verify", "model", "--key", "locked.pub.pem"]);
    let before = run.read("model/model.sig");
    for (password, message) in [
        (
            "open",
            str![[r#"
error[key]: the password is wrong, or the key is damaged
  at locked.pem

hint: the key is named by `output.signing_key` or an option

"#]],
        ),
        (
            "",
            str![[r#"
error[key]: the password is empty
  at locked.pem
  because `FIREBRAND_KEY_PASSWORD` is empty

hint: the key is named by `output.signing_key` or an option

"#]],
        ),
    ] {
        let (code, stderr) = with_password(&run, password, &sign);
        assert_eq!(code, Some(2));
        says(stderr, message);
    }
    assert_eq!(run.read("model/model.sig"), before);
    let (code, _) = with_password(&run, "", &["keygen", "other.pem", "--encrypt"]);
    assert!(code == Some(2) && !run.path("other.pem").exists());

    // The environment may hold the key itself, and a run signs with it too.
    let train = ["train", "tiny.toml", "--quiet", "--set", "train.max_steps=1"];
    let command = run.command(&train).env("FIREBRAND_SIGNING_KEY", &pem);
    command.env("FIREBRAND_KEY_PASSWORD", "open sesame").assert().success();
    run.succeeds(&["verify", "checkpoints/tiny", "--key", "locked.pub.pem"]);
    let other = ["train", "lora.toml", "--set", "output.signing_key=locked.pem"];
    let (code, stderr) = with_password(&run, "wrong", &other);
    assert_eq!(code, Some(2), "{stderr}");
    says(
        stderr,
        str![[r#"
error[key]: the password is wrong, or the key is damaged
  at locked.pem

hint: the key is named by `output.signing_key` or an option

"#]],
    );
    assert!(!run.path("checkpoints/lora/metrics.jsonl").exists(), "no step was made");
}

/// The program in a session of its own, which has no terminal.
#[cfg(target_os = "linux")]
fn without_terminal(run: &Run, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_firebrand")).args(arguments);
    command.current_dir(run.path("")).env_remove("FIREBRAND_KEY_PASSWORD");
    command.env("XDG_CONFIG_HOME", run.path("settings")).output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_terminal_the_password_must_be_in_the_environment() {
    let run = model();
    with_password(&run, "open sesame", &["keygen", "locked.pem", "--encrypt"]);
    for (arguments, said) in [
        (
            &["sign", "model", "--key", "locked.pem"][..],
            str![[r#"
error[key]: the private key needs a password, and there is no terminal to ask on
  at locked.pem

hint: put the password into the environment variable `FIREBRAND_KEY_PASSWORD`

hint: the key is named by `output.signing_key` or an option

"#]],
        ),
        (
            &["keygen", "new.pem", "--encrypt"],
            str![[r#"
error[key]: the private key needs a password, and there is no terminal to ask on

hint: put the password into the environment variable `FIREBRAND_KEY_PASSWORD`

"#]],
        ),
    ] {
        let output = without_terminal(&run, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        says(stderr, said);
    }
    assert!(!run.path("model/model.sig").exists() && !run.path("new.pem").exists());
}

/// What the program shows on a terminal where each question is answered; and its exit code.
#[cfg(target_os = "linux")]
fn on_terminal(run: &Run, command: &str, answers: &[&str]) -> (Option<i32>, String) {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    let line = format!("'{}' {command}", env!("CARGO_BIN_EXE_firebrand"));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .current_dir(run.path(""))
        .env_remove("FIREBRAND_KEY_PASSWORD")
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut from) = (String::new(), 0);
    let mut buffer = [0; 1024];
    for answer in answers {
        // Whoever types before the question shows what is typed.
        while !shown[from..].trim_end_matches('\0').ends_with(": ") {
            let count = stdout.read(&mut buffer).unwrap();
            assert!(count > 0, "it ended without a question: {shown}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        from = shown.len();
        write!(stdin, "{answer}\r").unwrap();
    }
    drop(stdin.flush());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    shown.push_str(&String::from_utf8_lossy(&rest));
    drop(stdin);
    (child.wait().unwrap().code(), shown)
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_the_password_is_asked_for_and_not_shown() {
    let run = model();
    if std::process::Command::new("script").arg("--version").output().is_err() {
        return; // not installed here
    }
    let (code, shown) =
        on_terminal(&run, "keygen locked.pem --encrypt", &["Kennw\u{f6}rt 1", "Kennw\u{f6}rt 1"]);
    assert_eq!(code, Some(0), "{shown}");
    says(
        &shown,
        str![[r#"
password for the new key locked.pem: 
the same once more: 
private key: locked.pem (keep it secret)
public key:  locked.pub.pem (give it to those who verify)
[SHA256]

"#]],
    );
    // A character too many is taken back, and then the whole line.
    let (code, shown) = on_terminal(
        &run,
        "sign model --key locked.pem",
        &["nonsense\u{15}Kennw\u{f6}\u{fc}\u{7f}rt 1"],
    );
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("rt 1") && !shown.contains("nonsense"), "{shown}");
    run.succeeds(&["verify", "model", "--key", "locked.pub.pem"]);
    let (code, shown) = on_terminal(&run, "keygen two.pem --encrypt", &["one", "two"]);
    assert_eq!(code, Some(2), "{shown}");
    says(
        &shown,
        str![[r#"
password for the new key two.pem: 
the same once more: 
error[key]: the two passwords differ

"#]],
    );
    let (code, shown) = on_terminal(&run, "sign model --force --key locked.pem", &["x\u{3}"]);
    assert_eq!(code, Some(2), "{shown}");
    says(
        &shown,
        str![[r#"
password of the private key locked.pem: 
error[key]: no password was given
  at locked.pem

hint: the key is named by `output.signing_key` or an option

"#]],
    );
    assert!(!run.path("two.pem").exists());
}

/// Puts the fixtures' certificates into the folder, and the key with its mode.
fn with_certificates(run: &Run) {
    for entry in fs::read_dir(crate::common::repository("tests/fixtures/certificates")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, run.path(path.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    #[cfg(unix)]
    for name in ["release.key.pem", "p384.key.pem"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(run.path(name), mode).unwrap();
    }
}

fn certified<'a>(key: &'a str, chain: &'a str) -> [&'a str; 9] {
    let method = "certificate";
    ["sign", "model", "--force", "--key", key, "--method", method, "--cert-chain", chain]
}

#[test]
fn a_certificate_signs_and_a_root_is_enough_to_verify() {
    let run = model();
    with_certificates(&run);
    let mut said = String::new();
    for (key, chain, root) in [
        ("release.key.pem", "good.chain.pem", "root.pem"),
        ("release.key.pem", "rsa.chain.pem", "rsa-root.pem"),
        ("p384.key.pem", "p384.chain.pem", "root.pem"),
    ] {
        run.succeeds(&certified(key, chain));
        let text = run.succeeds(&["verify", "model", "--roots", root]);
        said += &format!("# {chain}, trusting {root}\n{text}");
        let (code, text) = verdict(&run, &["model"]);
        assert_eq!(code, Some(1), "{text}");
        said += &format!("# {chain}, trusting nothing\n{text}");
        let other = if root == "root.pem" { "rsa-root.pem" } else { "root.pem" };
        let (code, text) = verdict(&run, &["model", "--roots", other]);
        assert_eq!(code, Some(1), "{text}");
        said += &format!("# {chain}, trusting {other}\n{text}");
        // A trusted key is no authority, and the signature does not name it.
        assert_eq!(verdict(&run, &["model", "--key", "release.pub.pem"]).0, Some(1));
    }
    says(
        said,
        str![[r#"
# good.chain.pem, trusting root.pem
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        certificate `CN=Release,O=Example` (root.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example` (root.pem)
verified
# good.chain.pem, trusting nothing
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: you trust no authority
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust
# good.chain.pem, trusting rsa-root.pem
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: it is issued by `CN=Root,O=Example`, which is not among the authorities that you trust (1)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust
# rsa.chain.pem, trusting rsa-root.pem
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        certificate `CN=Release,O=Example` (rsa-root.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example` (rsa-root.pem)
verified
# rsa.chain.pem, trusting nothing
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: you trust no authority
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust
# rsa.chain.pem, trusting root.pem
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: it is issued by `CN=RSA Root,O=Example`, which is not among the authorities that you trust (1)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust
# p384.chain.pem, trusting root.pem
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        certificate `CN=Release,O=Example` (root.pem)
ok    signature          ECDSA P-384 with SHA-384
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example` (root.pem)
verified
# p384.chain.pem, trusting nothing
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: you trust no authority
ok    signature          ECDSA P-384 with SHA-384
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust
# p384.chain.pem, trusting rsa-root.pem
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: it is issued by `CN=Root,O=Example`, which is not among the authorities that you trust (1)
ok    signature          ECDSA P-384 with SHA-384
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
    );
    for (chain, said) in [
        (
            "expired.chain.pem",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: `CN=Release,O=Example` expired on 2021-01-01T00:00:00Z
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            "tls.chain.pem",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: `CN=Release,O=Example` is not for code signing (extended key usage)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            "forged.chain.pem",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: `CN=Release,O=Example` is not signed by `CN=Issuing,O=Example`
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            "too-deep.chain.pem",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: `CN=Issuing,O=Example` may have at most 0 authorities below it, not 1
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
    ] {
        run.succeeds(&certified("release.key.pem", chain));
        let (code, text) = verdict(&run, &["model", "--roots", "root.pem"]);
        assert_eq!(code, Some(1), "{text}");
        says(text, said);
    }
    run.fails_with(
        2,
        &certified("p384.key.pem", "good.chain.pem"),
        str![[r#"
error[key]: the certificate `CN=Release,O=Example` is not this key's
  at p384.key.pem

hint: the first certificate in the file must be the signer's own

"#]],
    );
    run.fails_with(
        2,
        &certified("release.pem", "release.pub.pem"),
        str![[r#"
error[key]: there is no `CERTIFICATE` block in the PEM text
  at release.pub.pem

"#]],
    );
    let alone = ["sign", "model", "--force", "--cert-chain", "good.chain.pem"];
    run.fails_with(
        2,
        &alone,
        str![[r#"
error[usage]: `--cert-chain` requires `--method certificate`

"#]],
    );
    let alone = ["sign", "model", "--force", "--method", "certificate"];
    run.fails_with(
        2,
        &alone,
        str![[r#"
error[usage]: `--method certificate` requires `--cert-chain`

hint: name the file with the signer's certificate, and those above it (PEM)

"#]],
    );
    // One bit of the statement.
    run.succeeds(&certified("release.key.pem", "good.chain.pem"));
    let text = run.read("model/model.sig");
    let place = text.find("\"payload\":\"").unwrap() + 200;
    let other = if &text[place..=place] == "A" { "B" } else { "A" };
    run.write("model/model.sig", &format!("{}{other}{}", &text[..place], &text[place + 1..]));
    let (code, text) = verdict(&run, &["model", "--roots", "root.pem"]);
    assert_eq!(code, Some(1), "{text}");
    says(
        &text,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        certificate `CN=Release,O=Example` (root.pem)
FAIL  signature          the key did not sign this statement
FAIL  signed statement   not valid JSON: control character (\u0000-\u001F) found while parsing a string at line 1 column 143
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example` (root.pem)
tampered: the files are not those that were signed

"#]],
    );
}

#[test]
fn authorities_have_roles_and_revocations_too() {
    let run = model();
    with_certificates(&run);
    run.succeeds(&certified("release.key.pem", "good.chain.pem"));
    fs::create_dir_all(run.path("settings/firebrand")).unwrap();
    fs::copy(run.path("root.pem"), run.path("settings/firebrand/root.pem")).unwrap();
    let trusted = |text: &str| {
        let text = format!("[[authority]]\nfile = \"root.pem\"\n{text}");
        run.write("settings/firebrand/trusted-keys.toml", &text);
        let named = verdict(&run, &["model", "--roots", "root.pem"]);
        let listed = verdict(&run, &["model"]);
        assert_eq!(named.0, listed.0, "{} {}", named.1, listed.1);
        listed
    };
    assert_eq!(trusted("").0, Some(0));
    let public =
        SigningKey::from_file(&run.path("release.key.pem")).unwrap().public().pem().to_owned();
    let revoked_key = format!("[[key]]\npem = '''{public}'''\nrevoked = true\nreason = \"lost\"\n");
    for (text, said) in [
        (
            "revoked = true\nreason = \"broken into\"\n",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` comes from an authority that was revoked: broken into
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            "not_after = \"2020-01-01T00:00:00Z\"\n",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` comes from an authority that expired on 2020-01-01T00:00:00Z, and it is now [NOW]
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            "roles = [\"gate\"]\n",
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` comes from an authority that has the role `gate`, and `train` is needed
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
        (
            revoked_key.as_str(),
            str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` was revoked: lost
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 2 files
ok    other files        none: all are the model's
ok    files unchanged    all 2 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
-     weights' headers   there is no `.safetensors` file
-     lineage inputs     the model carries no lineage
-     lineage statement  the model carries no lineage
-     lineage files      the model carries no lineage
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
        ),
    ] {
        let (code, stdout) = trusted(text);
        assert_eq!(code, Some(1), "{stdout}");
        says(stdout, said);
    }
    let twice = "[[authority]]\nfile = \"root.pem\"\n";
    run.write("settings/firebrand/trusted-keys.toml", &format!("{twice}{twice}"));
    run.fails_with(
        2,
        &["verify", "model"],
        str![[r#"
error[config]: this authority is listed twice
  at [FOLDER]/settings/firebrand/trusted-keys.toml:3:1

"#]],
    );
    fs::copy(run.path("whole.chain.pem"), run.path("settings/firebrand/root.pem")).unwrap();
    run.write("settings/firebrand/trusted-keys.toml", twice);
    run.fails_with(
        2,
        &["verify", "model"],
        str![[r#"
error[config]: the PEM text holds more than one certificate (`[FOLDER]/settings/firebrand/root.pem`)
  at [FOLDER]/settings/firebrand/trusted-keys.toml:2:8

"#]],
    );
}

#[test]
fn a_run_signs_with_a_certificate() {
    let run = model();
    with_certificates(&run);
    let key = "output.signing_key=release.key.pem";
    let chain = |name: &str| format!("output.signer_certificates={name}");
    let train = |certificates: &str| -> Vec<String> {
        ["train", "tiny.toml", "--quiet", "--set", key, "--set", certificates]
            .map(str::to_owned)
            .into()
    };
    let wrong = train(&chain("p384.chain.pem"));
    run.fails_with(
        2,
        &wrong.iter().map(String::as_str).collect::<Vec<_>>(),
        str![[r#"
error[key]: the certificate `CN=Release,O=Example` is not this key's
  at release.key.pem

hint: the first certificate in the file must be the signer's own

"#]],
    );
    let right = train(&chain("good.chain.pem"));
    run.succeeds(&right.iter().map(String::as_str).collect::<Vec<_>>());
    let text = run.succeeds(&["verify", "checkpoints/tiny", "--roots", "root.pem"]);
    says(
        &text,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        certificate `CN=Release,O=Example` (root.pem)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
ok    attestation        line 1: https://slsa.dev/provenance/v1, 9 files as stated, by certificate `CN=Release,O=Example`
signed by certificate `CN=Release,O=Example` (root.pem)
verified

"#]],
    );
    let (code, text) = verdict(&run, &["checkpoints/tiny", "--roots", "rsa-root.pem"]);
    assert_eq!(code, Some(1), "{text}");
    says(
        &text,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
FAIL  trusted key        the certificate `CN=Release,O=Example` does not count: it is issued by `CN=Root,O=Example`, which is not among the authorities that you trust (1)
ok    signature          ECDSA P-256 with SHA-256
ok    signed statement   OpenSSF Model Signing v1.0, 10 files
ok    other files        none: all are the model's
ok    files unchanged    all 10 as signed
ok    nothing added      every file is signed
ok    root digest        [SHA256]
ok    weights' headers   1 files, 20 tensors
ok    lineage inputs     [HEX] is named by 1 weights files
ok    lineage statement  SLSA provenance v1 of these inputs
ok    lineage files      9 files as stated
FAIL  attestation        line 1: the certificate `CN=Release,O=Example` does not count: it is issued by `CN=Root,O=Example`, which is not among the authorities that you trust (1)
signed by certificate `CN=Release,O=Example`
untrusted: signed by a key that you do not trust

"#]],
    );
}

#[test]
fn attestations_about_the_model_as_it_was_are_set_aside() {
    let run = Run::new().with_base();
    let before = run.read("checkpoints/tiny/artifact.sigstore.jsonl");
    run.write("checkpoints/tiny/artifact/NOTICE", "added later");
    run.write("checkpoints/tiny/artifact.sigstore.jsonl.old-1", "taken");
    let output = run.command(&["sign", "checkpoints/tiny", "--force"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    says(
        &stderr,
        str![[r#"
[SIZE], root digest [SHA256]
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
attestations about the model as it was before are now [FOLDER]/checkpoints/tiny/artifact.sigstore.jsonl.old-2

"#]],
    );
    assert_eq!(run.read("checkpoints/tiny/artifact.sigstore.jsonl.old-2"), before);
    assert_eq!(run.read("checkpoints/tiny/artifact.sigstore.jsonl.old-1"), "taken");
    assert!(!run.path("checkpoints/tiny/artifact.sigstore.jsonl").exists());
    run.succeeds(&["verify", "checkpoints/tiny"]);
}

/// Not a test of its own: as another process, with the settings of a test, it prepares a run, then
/// changes a file of the base, then loads.
#[test]
fn the_process_whose_base_is_swapped() {
    let Some(name) = std::env::var_os("SWAP_FILE") else { return };
    let from = std::env::var_os("SWAP_FROM").unwrap();
    struct Silent;
    impl firebrand::event::Observer for Silent {
        fn on(&mut self, _: firebrand::event::Event) {}
    }
    let loaded = firebrand::settings::load(Path::new("lora.toml"), &[]).unwrap();
    let access = firebrand::train::Access::default();
    let supply = firebrand::train::supply_for(Path::new("lora.toml"), None, &access).unwrap();
    let extent = firebrand::data::Extent::AsNeeded;
    let mut prepared =
        firebrand::train::prepare(&loaded, &supply, extent, &mut Silent).expect("all is as signed");
    let place = Path::new("checkpoints/tiny/artifact").join(&name);
    fs::copy(&from, &place).unwrap();
    let result = match prepared.trainer() {
        Ok(_) => "loaded".to_owned(),
        Err(error) => format!("{:?} {error}", error.kind),
    };
    fs::write("result", result).unwrap();
}

#[test]
fn what_changes_between_check_and_use_is_refused() {
    let run = Run::new().with_base();
    let artifact = run.path("checkpoints/tiny/artifact");
    let swap = |name: &str, from: &Path| {
        let kept = fs::read(artifact.join(name)).unwrap();
        let _ = fs::remove_file(run.path("result"));
        let output = this_test!("the_process_whose_base_is_swapped")
            .current_dir(run.path(""))
            .env("XDG_CONFIG_HOME", run.path("settings"))
            .env("FIREBRAND_CACHE", run.path("cache"))
            .env("HF_HOME", run.path("hub"))
            .env("SWAP_FILE", name)
            .env("SWAP_FROM", from)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(artifact.join(name), kept).unwrap();
        run.read("result")
    };
    assert_eq!(swap("README.md", &run.path("data.jsonl")), "loaded", "nobody reads it");
    let weights = fs::read(artifact.join("model.safetensors")).unwrap();
    let mut other = weights.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(run.path("other.safetensors"), other).unwrap();
    let config = fs::read_to_string(artifact.join("config.json")).unwrap();
    run.write("other.json", &format!("{config} "));
    for (name, from) in [("model.safetensors", "other.safetensors"), ("config.json", "other.json")]
    {
        let result = swap(name, &run.path(from));
        assert!(
            result.starts_with("Refused error[") && result.contains("]: the file changed after"),
            "{name}: {result}"
        );
        assert!(result.contains(name), "{result}");
    }
}

/// A program that signs is called twice: before the run begins, and over the finished files.
/// Between the two nothing is in our hands but the steps, so a tokenizer is changed by stopping the
/// run, changing it, and going on, which a changed base does not allow; and by a run that is told
/// to go on all the same.
#[test]
fn a_tokenizer_that_changed_does_not_go_along_with_the_weights() {
    let run = Run::new();
    run.succeeds(&["train", "tiny.toml", "--quiet", "--stop-after-steps", "2"]);
    let tokenizer = run.read("base/tokenizer.json");
    run.write("base/tokenizer.json", &format!("{tokenizer} "));
    run.fails_with(
        2,
        &["train", "tiny.toml", "--quiet"],
        str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/tiny/step-00000002
  because the tokenizer or chat template was [HEX] and is [HEX]

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
    );
    assert!(!run.path("checkpoints/tiny/artifact").exists());
    run.write("base/tokenizer.json", &tokenizer);
    run.succeeds(&["train", "tiny.toml", "--quiet"]);
    let lineage: serde_json::Value =
        serde_json::from_str(&run.read("checkpoints/tiny/artifact/lineage.inputs.json")).unwrap();
    let digest = firebrand::files::Digest::of(tokenizer.as_bytes()).to_string();
    let used = lineage["resolvedDependencies"].as_array().unwrap().iter();
    let mut used = used.filter(|entry| entry["name"] == "tokenizer.json");
    assert_eq!(used.next().unwrap()["digest"]["sha256"], digest.as_str());
}

#[test]
fn trust_lists_adds_and_removes_keys() {
    let run = Run::new();
    run.succeeds(&["keygen", "theirs.pem"]);
    run.fails_with(
        2,
        &["trust", "add", "theirs.pem"],
        str![[r#"
error[key]: this is a private key, a public key is needed
  at theirs.pem

hint: `openssl ec -in KEY.pem -pubout` prints the public key

"#]],
    );
    let added = run.succeeds(&["trust", "add", "theirs.pub.pem", "--name", "acme"]);
    assert!(added.ends_with("trusted-keys/acme.pem\n"), "{added}");
    let listed = run.succeeds(&["trust", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    // `openssl pkey -pubin -outform DER` writes what the PEM text is the base64 of.
    let pem = run.read("theirs.pub.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let digits = crate::common::hub::sha256_of(&STANDARD.decode(body).unwrap());
    let pairs: Vec<&str> = (0..32).map(|byte| &digits[2 * byte..2 * byte + 2]).collect();
    let theirs = pairs.join(":");
    assert_eq!(listed["fingerprint"], theirs);
    assert_eq!(listed["limits"], "for everything");
    let (code, shown) = told(&run, &["trust", "add", "theirs.pub.pem"]);
    assert_eq!(code, Some(2));
    assert!(shown.contains("this key is known already"), "{shown}");
    // What the file of limits says is shown; what was added can be removed.
    run.write(
        "settings/firebrand/trusted-keys.toml",
        "[[key]]\nfile = \"trusted-keys/acme.pem\"\nroles = [\"gate\"]\nrevoked = true\nreason = \"lost\"\n",
    );
    let shown = run.succeeds(&["trust", "list"]);
    assert!(shown.contains("revoked: lost, for `gate`"), "{shown}");
    std::fs::remove_file(run.path("settings/firebrand/trusted-keys.toml")).unwrap();
    run.fails_with(
        2,
        &["trust", "remove", "nobody"],
        str![[r#"
error[key]: no such key is trusted: `nobody`

hint: `firebrand trust list` shows them all

"#]],
    );
    run.succeeds(&["trust", "remove", "acme"]);
    assert_eq!(run.succeeds(&["trust", "list", "--json"]), "");
}

/// Exit code and stderr.
fn told(run: &Run, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run.command(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
