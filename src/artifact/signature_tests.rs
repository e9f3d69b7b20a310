//! Tests of the model signature: what it covers, in which order, and that it repeats.

use std::fs;

use serde_json::Value;

use super::super::keys::tests::known_key;
use super::*;
use crate::snapshots::says;

fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    for (name, text) in [("a/b", "1"), ("a.txt", "2"), ("config.json", "{}"), (".hidden", "")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn payload(folder: &Path) -> Value {
    let bundle = Bundle::parse(&fs::read(folder.join(FILE)).unwrap()).unwrap();
    serde_json::from_slice(&bundle.payload).unwrap()
}

#[test]
fn the_statement_is_the_standards() {
    let folder = model();
    let signed = sign_named(folder.path(), "tiny", &known_key()).unwrap();
    // Code point order of the whole name: `.` comes before `/`.
    let names: Vec<_> = signed.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, [".hidden", "a.txt", "a/b", "config.json"]);
    let joined: Vec<u8> = signed.files.iter().flat_map(|file| file.sha256.0).collect();
    assert_eq!(signed.root, Digest::of(&joined));

    let statement = payload(folder.path());
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://model_signing/signature/v1.0");
    assert_eq!(statement["subject"][0]["name"], "tiny");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], signed.root.to_string());
    assert_eq!(statement["predicate"]["resources"][2]["name"], "a/b");
    assert_eq!(
        statement["predicate"]["serialization"],
        json!({
            "method": "files", "hash_type": "sha256", "allow_symlinks": false,
            "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore", "model.sig"],
        })
    );
}

#[test]
fn the_directory_gives_the_name() {
    let folder = model();
    let path = folder.path().join("a/..");
    sign(&path, &known_key()).unwrap();
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(payload(folder.path())["subject"][0]["name"], name);
}

#[test]
fn signing_again_gives_the_same_bytes() {
    let folder = model();
    sign_named(folder.path(), "tiny", &known_key()).unwrap();
    let first = fs::read(folder.path().join(FILE)).unwrap();
    sign_named(folder.path(), "tiny", &known_key()).unwrap();
    assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), first);
}

#[test]
fn gits_files_are_left_out_at_the_top_only() {
    let folder = model();
    for name in [".git", ".github", "a/.git"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("x"), "x").unwrap();
    }
    fs::write(folder.path().join(".gitignore"), "x").unwrap();
    let signed = sign(folder.path(), &known_key()).unwrap();
    assert_eq!(signed.unsigned, [".git", ".github", ".gitignore"]);
    assert!(signed.files.iter().any(|file| file.path == "a/.git/x"));
    assert_eq!(signed.files.len(), 5);
}

#[test]
fn an_empty_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(sign(folder.path(), &known_key()).is_err());
    assert!(!folder.path().join(FILE).exists());
}

#[cfg(unix)]
#[test]
fn links_and_special_files_are_refused() {
    let folder = model();
    std::os::unix::fs::symlink("a.txt", folder.path().join("link")).unwrap();
    let error = sign(folder.path(), &known_key()).unwrap_err();
    says(
        &error,
        snapbox::str![[r#"
error[file]: only regular files are accepted, no links or devices
  at [FOLDER]/link

hint: copy the content into a plain file
"#]],
    );
    fs::remove_file(folder.path().join("link")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket"));
    assert!(socket.is_ok());
    assert!(sign(folder.path(), &known_key()).is_err());
}

#[test]
fn what_downloads_leave_is_not_signed_and_named_where_it_is() {
    let folder = model();
    fs::create_dir_all(folder.path().join(".cache/huggingface/download")).unwrap();
    for name in [".cache/huggingface/download/a.txt.metadata", ".cache/own", "a/.DS_Store"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let signed = sign(folder.path(), &known_key()).unwrap();
    let names: Vec<_> = signed.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, [".cache/own", ".hidden", "a.txt", "a/b", "config.json"]);
    assert_eq!(signed.unsigned, [".cache/huggingface"]);
    let ignored = &payload(folder.path())["predicate"]["serialization"]["ignore_paths"];
    assert_eq!(ignored.as_array().unwrap().last().unwrap(), ".cache/huggingface");
}
