//! Keyless signatures (Sigstore) in whole commands, on what `tests/reference/keyless.py` made and
//! the official verifiers accept: models, files, data that trains, and programs that sign.

use std::fs;
use std::path::Path;

use snapbox::str;

use crate::common::{Run, repository, says};

const TRUSTED: [&str; 6] = [
    "--trusted-root",
    "trusted_root.json",
    "--identity",
    "release@example.com",
    "--identity-provider",
    "https://accounts.example.com",
];
const LIST: &str = "[[identity]]\ntrusted_root = \"trusted_root.json\"\n\
    identity = \"release@example.com\"\nissuer = \"https://accounts.example.com\"\n";

/// A folder with all fixtures, and the model signed.
fn signed() -> Run {
    let run = Run::new();
    copy(&repository("tests/fixtures/keyless"), &run.path(""));
    fs::copy(run.path("model.sigstore.json"), run.path("model/model.sig")).unwrap();
    fs::create_dir_all(run.path("settings/firebrand")).unwrap();
    run
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Exit code, and what stands on stdout.
fn verdict(run: &Run, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run.command(&[&["verify"], arguments].concat()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The line about who signed, of a model that is not verified.
fn refused(run: &Run, arguments: &[&str]) -> String {
    let (code, text) = verdict(run, arguments);
    assert_eq!(code, Some(1), "{text}");
    text.lines().find(|line| line.contains("trusted key")).unwrap().to_owned()
}

#[test]
fn a_model_that_was_signed_keyless_is_verified_against_a_trusted_root() {
    let run = signed();
    let model = [&["model"], &TRUSTED[..]].concat();
    let (code, text) = verdict(&run, &model);
    assert_eq!(code, Some(0), "{text}");
    says(
        text,
        str![[r#"
ok    regular files      [SIZE]
ok    signature file     sigstore bundle v0.3 with one signature
ok    trusted key        identity `release@example.com` (https://accounts.example.com), signed on 2026-11-01T12:00:05Z (trusted_root.json)
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
signed by identity `release@example.com` (https://accounts.example.com) (trusted_root.json)
verified

"#]],
    );
    fs::copy(run.path("model-rekor2.sigstore.json"), run.path("model/model.sig")).unwrap();
    assert_eq!(verdict(&run, &model).0, Some(0));
    let json = verdict(&run, &[&model[..], &["--json"]].concat()).1;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["signer"]["certificate"], "release@example.com");
    assert_eq!(report["signer"]["issuer"], "https://accounts.example.com");

    // A file that was changed is found as with any signature.
    run.write("model/config.json", "{}");
    let (code, text) = verdict(&run, &model);
    assert_eq!(code, Some(1));
    assert!(text.ends_with("tampered: the files are not those that were signed\n"), "{text}");
}

#[test]
fn who_is_not_named_and_what_the_root_does_not_prove_is_untrusted() {
    let run = signed();
    let with = |place: usize, other: &'static str| {
        let mut arguments = TRUSTED;
        arguments[place] = other;
        refused(&run, &[&["model"], &arguments[..]].concat())
    };
    let mut said = vec![
        refused(&run, &["model"]),
        with(3, "other@example.com"),
        with(5, "https://example.org"),
        with(1, "other_root.json"),
    ];
    for name in ["expired", "expired-rekor2", "no-sct"] {
        fs::copy(run.path(&format!("{name}.sigstore.json")), run.path("model/model.sig")).unwrap();
        said.push(refused(&run, &[&["model"], &TRUSTED[..]].concat()));
    }
    says(
        said.join("\n"),
        str![[r#"
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) is not trusted: you trust no identity yet
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) is not among the identities that you trust (1)
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) has another issuer than you trust with it, `https://example.org`
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) does not count: its signature is not proven to be in a transparency log of the trusted root (invalid inclusion promise: No log key valid at integrated time 2026-11-01T12:00:05Z for log ID f64cPCmVyeAmiVN3RKiXaUAj4uV3hsQpHFeLMKbQ9V4=)
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) does not count: its certificate does not lead to the trusted root at the proven time (certificate chain is invalid: certificate chain validation failed: CertExpired { time: UnixTime(1793535060), not_after: UnixTime(1793535000) })
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) does not count: its certificate does not lead to the trusted root at the proven time (certificate chain is invalid: certificate chain validation failed: CertExpired { time: UnixTime(1793535060), not_after: UnixTime(1793535000) })
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) does not count: its certificate is not proven to be in a certificate log of the trusted root (invalid signed certificate timestamp: certificate is missing SCT extension (Signed Certificate Timestamp))
"#]],
    );
    run.fails_with(
        2,
        &["verify", "model", "--identity", "a@example.com"],
        str![[r#"
error: the following required arguments were not provided:
  --identity-provider <URL>
  --trusted-root <JSON>

Usage: firebrand verify --identity <NAME> --identity-provider <URL> --trusted-root <JSON> <MODEL>

For more information, try '--help'.

"#]],
    );
    let mut none = TRUSTED;
    none[1] = "data.sigstore.json";
    run.fails_with(
        2,
        &[&["verify", "model"], &none[..]].concat(),
        str![[r#"
error[key]: this is no trusted root of Sigstore
  at data.sigstore.json
  because `mediaType` does not begin with `application/vnd.dev.sigstore.trustedroot`

hint: `cosign trusted-root create` and `gh attestation trusted-root` write one

"#]],
    );
}

#[test]
fn identities_stand_in_the_list_of_trusted_keys() {
    let run = signed();
    fs::copy(run.path("trusted_root.json"), run.path("settings/firebrand/trusted_root.json"))
        .unwrap();
    let list = "settings/firebrand/trusted-keys.toml";
    run.write(list, LIST);
    assert_eq!(verdict(&run, &["model"]).0, Some(0));
    says(
        run.succeeds(&["trust", "list"]),
        str![[r#"
identity `release@example.com` (https://accounts.example.com), for everything
  [FOLDER]/settings/firebrand/trusted_root.json

"#]],
    );
    says(
        run.succeeds(&["trust", "list", "--json"]),
        str![[r#"
{"identity":"release@example.com","issuer":"https://accounts.example.com","file":"[FOLDER]/settings/firebrand/trusted_root.json","limits":"for everything"}

"#]],
    );
    let mut said = Vec::new();
    for more in [
        "roles = [\"gate\"]\n",
        "revoked = true\nreason = \"left us\"\n",
        "not_after = \"2026-11-01T11:00:00Z\"\n",
    ] {
        run.write(list, &format!("{LIST}{more}"));
        said.push(refused(&run, &["model"]));
        // What is said in the list holds for an identity that is named, too.
        said.push(refused(&run, &[&["model"], &TRUSTED[..]].concat()));
    }
    says(
        said.join("\n"),
        str![[r#"
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) has the role `gate`, and `train` is needed
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) has the role `gate`, and `train` is needed
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) was revoked: left us
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) was revoked: left us
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) expired on 2026-11-01T11:00:00Z, and it signed on 2026-11-01T12:00:05Z
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) expired on 2026-11-01T11:00:00Z, and it signed on 2026-11-01T12:00:05Z
"#]],
    );
    // It is long past this day, and was not when it signed.
    run.write(list, &format!("{LIST}not_after = \"2026-11-02T00:00:00Z\"\n"));
    assert_eq!(verdict(&run, &["model"]).0, Some(0));
    run.write(list, &LIST.replace("trusted_root.json", "nowhere.json"));
    run.fails_with(2, &["verify", "model"], str![[r#"
error[config]: cannot read the file (`[FOLDER]/settings/firebrand/nowhere.json`): No such file or directory (os error 2)
  at [FOLDER]/settings/firebrand/trusted-keys.toml:2:16

"#]]);
    run.write(list, &format!("{LIST}{LIST}"));
    run.fails_with(
        2,
        &["verify", "model"],
        str![[r#"
error[config]: this identity is listed twice
  at [FOLDER]/settings/firebrand/trusted-keys.toml:5:1

"#]],
    );
}

#[test]
fn a_file_is_verified_by_its_bundle() {
    let run = signed();
    let file = [&["data.jsonl"], &TRUSTED[..]].concat();
    run.fails_with(
        2,
        &[&["verify"], &file[..]].concat(),
        str![[r#"
error[signature]: nothing signs this file
  at data.jsonl
  because there is no data.jsonl.sigstore.json, and it is no composition

hint: `--bundle` names the bundle; for a model name its directory

"#]],
    );
    fs::copy(run.path("data.sigstore.json"), run.path("data.jsonl.sigstore.json")).unwrap();
    let (code, text) = verdict(&run, &file);
    assert_eq!(code, Some(0), "{text}");
    says(
        text,
        str![[r#"
ok    regular files      746 bytes, SHA-256 [SHA256]
ok    signature file     sigstore bundle v0.3 with the signature of a file
ok    trusted key        identity `release@example.com` (https://accounts.example.com), signed on 2026-11-01T12:00:05Z (trusted_root.json)
ok    signature          over the file
signed by identity `release@example.com` (https://accounts.example.com) (trusted_root.json)
verified

"#]],
    );
    let second = [&file[..], &["--bundle", "data-rekor2.sigstore.json"]].concat();
    assert_eq!(verdict(&run, &second).0, Some(0));
    assert_eq!(verdict(&run, &["data.jsonl"]).0, Some(1), "nobody is trusted");
    // The bundle of a statement that is about something else.
    let other = [&file[..], &["--bundle", "model.sigstore.json"]].concat();
    says(
        verdict(&run, &other).1,
        str![[r#"
ok    regular files      746 bytes, SHA-256 [SHA256]
ok    signature file     sigstore bundle v0.3 with a signed statement
ok    trusted key        identity `release@example.com` (https://accounts.example.com), signed on 2026-11-01T12:00:05Z (trusted_root.json)
ok    signature          ECDSA P-256 with SHA-256
FAIL  signed statement   the statement is about other files
signed by identity `release@example.com` (https://accounts.example.com) (trusted_root.json)
tampered: the files are not those that were signed

"#]],
    );
    run.write("data.jsonl", "{}\n");
    let (code, text) = verdict(&run, &file);
    assert_eq!(code, Some(1), "{text}");
    says(
        text,
        str![[r#"
ok    regular files      3 bytes, SHA-256 [SHA256]
ok    signature file     sigstore bundle v0.3 with the signature of a file
FAIL  trusted key        the identity `release@example.com` (https://accounts.example.com) does not count: it signed something else (artifact mismatch: message digest in bundle does not match artifact hash)
FAIL  signature          it is not over what is here
claims to be signed by identity `release@example.com` (https://accounts.example.com)
tampered: the files are not those that were signed

"#]],
    );

    // Any in-toto statement will do that is about the file, such as that of an allowlist.
    run.succeeds(&["allowlist", "approve", "allowlist.toml", "validation.jsonl"]);
    let (code, text) = verdict(&run, &["allowlist.toml"]);
    assert_eq!(code, Some(0), "{text}");
    run.write("allowlist.toml", &format!("{}\n", run.read("allowlist.toml")));
    assert_eq!(verdict(&run, &["allowlist.toml"]).0, Some(1));
    run.fails_with(
        2,
        &["verify", "allowlist.toml", "--effect"],
        str![[r#"
error[usage]: `--effect` is for the directory of a model, not for a file
  at allowlist.toml

"#]],
    );
    run.fails_with(
        2,
        &["verify", "model", "--bundle", "model.sigstore.json"],
        str![[r#"
error[usage]: `--bundle` is for a single file
  at model.sigstore.json

"#]],
    );
}

#[test]
fn data_trains_only_if_somebody_who_is_named_has_signed_it() {
    let run = signed();
    run.write("signers.toml", LIST);
    let train = |more: &[&str]| {
        let asked = [
            "train",
            "tiny.toml",
            "--quiet",
            "--set",
            "data.validation=[]",
            "--set",
            "trust.data_keys=[\"signers.toml\"]",
            "--set",
            "data.train=[{path=\"data.jsonl\"}]",
        ];
        [&asked[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let fails = |more: &[&str]| {
        let asked = train(more);
        run.fails(1, &asked.iter().map(String::as_str).collect::<Vec<_>>())
    };
    says(
        fails(&[]),
        str![[r#"
error[untrusted]: the file is not signed
  at data.jsonl
  because there is no data.jsonl.sigstore.json

hint: `trust.data_keys` asks for a signature

"#]],
    );
    fs::copy(run.path("data.sigstore.json"), run.path("data.jsonl.sigstore.json")).unwrap();
    let asked = train(&[]);
    run.succeeds(&asked.iter().map(String::as_str).collect::<Vec<_>>());
    let lineage = run.provenance("tiny").to_string();
    assert!(lineage.contains("\"trust\":\"signature\""), "{lineage}");
    // The role is that of whoever approves inputs.
    run.write("signers.toml", &format!("{LIST}roles = [\"train\"]\n"));
    says(
        fails(&["--set", "name=again"]),
        str![[r#"
error[untrusted]: the file's signature does not count
  at data.jsonl
  because the identity `release@example.com` (https://accounts.example.com) has the role `train`, and `allowlist` is needed

hint: `trust.data_keys` asks for a signature

"#]],
    );
    // Whom one list has revoked the other does not bring back.
    let user = "settings/firebrand/trusted-keys.toml";
    fs::copy(run.path("trusted_root.json"), run.path("settings/firebrand/trusted_root.json"))
        .unwrap();
    let revoked = format!("{LIST}revoked = true\nreason = \"left us\"\n");
    for (signers, of_user) in [(&*revoked, LIST), (LIST, &*revoked)] {
        run.write("signers.toml", signers);
        run.write(user, of_user);
        let said = fails(&["--set", "name=again"]);
        let because = said.lines().find_map(|line| line.trim().strip_prefix("because the "));
        let who = "identity `release@example.com` (https://accounts.example.com)";
        assert_eq!(because, Some(&*format!("{who} was revoked: left us")), "{said}");
    }
    fs::remove_file(run.path(user)).unwrap();
    run.write("signers.toml", LIST);
    let text = run.read("data.jsonl");
    run.write("data.jsonl", &text.replace("The sum of 3", "The sum of 4"));
    says(
        fails(&["--set", "name=again"]),
        str![[r#"
error[untrusted]: the file's signature does not count
  at data.jsonl
  because the identity `release@example.com` (https://accounts.example.com) does not count: it signed something else (artifact mismatch: message digest in bundle does not match artifact hash)
  because it is not over what is here

hint: `trust.data_keys` asks for a signature

"#]],
    );
}

#[cfg(unix)]
#[test]
fn a_program_signs_a_model_keyless() {
    let run = signed();
    fs::remove_file(run.path("model/model.sig")).unwrap();
    let sign = |program: &str, more: &[&str]| {
        let asked = ["sign", "model", "--method", "sigstore", "--signer", program];
        [&asked[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let fails = |program: &str, more: &[&str]| {
        let asked = sign(program, more);
        let said = run.fails(2, &asked.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!run.path("model/model.sig").exists(), "{said}");
        said
    };
    let cat = "[\"cat\", \"model.sigstore.json\"]";
    let mut other = TRUSTED;
    other[3] = "other@example.com";
    let said = [
        fails("[\"cat\", \"data.sigstore.json\"]", &[]),
        fails("[\"echo\", \"signed\"]", &[]),
        fails("false", &[]),
        fails(cat, &other),
        fails(cat, &["--public-key", "a.pem"]),
    ];
    says(
        said.join("\n"),
        str![[r#"
error[key]: what the program `cat` printed cannot be used
  because the bundle has the unknown key `messageSignature`

hint: it must print one Sigstore bundle (v0.3) with a DSSE envelope around the bytes that it got on stdin, and nothing else

error[key]: what the program `echo` printed cannot be used
  because not valid JSON: expected value at line 1 column 1

hint: it must print one Sigstore bundle (v0.3) with a DSSE envelope around the bytes that it got on stdin, and nothing else

error[key]: the signing program `false` failed (exit status: 1)

error[key]: the program's signature does not count
  because the identity `release@example.com` (https://accounts.example.com) is not among the identities that you trust (1)

error[usage]: `--method sigstore` takes no key and no certificate: the program has them

hint: leave out `--key`, `--public-key`, `--cert-chain`

"#]],
    );
    run.fails_with(
        2,
        &["sign", "model", "--method", "sigstore"],
        str![[r#"
error[usage]: `--method sigstore` requires `--signer`

hint: name the program that gets the statement on stdin and prints a Sigstore bundle

"#]],
    );

    let asked = sign(cat, &TRUSTED);
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    says(
        run.stderr_of(&asked),
        str![[r#"
[SIZE], root digest [SHA256]
signed by identity `release@example.com` (https://accounts.example.com), as the trusted root proves (cat)

"#]],
    );
    assert_eq!(verdict(&run, &[&["model"], &TRUSTED[..]].concat()).0, Some(0));
    // Without a root it is told that nothing is proven.
    let plain = sign(cat, &["--force"]);
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    says(
        run.stderr_of(&plain),
        str![[r#"
[SIZE], root digest [SHA256]
signed by identity `release@example.com` (https://accounts.example.com), not proven without `--trusted-root` (cat)

"#]],
    );
    // The program signs other bytes than those of a model that was changed.
    run.write("model/config.json", "{}");
    run.fails_with(2, &plain, str![[r#"
error[key]: what the program `cat` printed cannot be used
  because it signed other bytes than it got

hint: it must print one Sigstore bundle (v0.3) with a DSSE envelope around the bytes that it got on stdin, and nothing else

"#]]);
}
