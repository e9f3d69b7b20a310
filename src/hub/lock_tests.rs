//! Locks: read again as written, refused where they could mislead.

use super::*;
use crate::snapshots::says;

fn file(path: &str, rows: Option<u64>) -> LockedFile {
    let sha256 = Some(Digest::of(path.as_bytes()));
    LockedFile { path: path.to_owned(), size: 7, rows, sha256, oid: Some("a".repeat(40)) }
}

fn lock() -> DataLock {
    let model = Locked {
        name: "o/m".to_owned(),
        endpoint: Some("https://hub".to_owned()),
        revision: Some("main".to_owned()),
        commit: Some("0".repeat(40)),
        chat_template: Some(Digest::of(b"t")),
        files: vec![file("config.json", None), file("model.safetensors", None)],
        ..Locked::default()
    };
    let mut lock = DataLock { model: Some(model), data: Vec::new() };
    for (name, split) in [("o/d", Some("train")), ("b.jsonl", None), ("o/d", Some("test"))] {
        lock.put(Locked {
            name: name.to_owned(),
            split: split.map(str::to_owned),
            columns: vec!["messages: list".to_owned(), "say \"x\"\n: string".to_owned()],
            files: vec![file("a/1.jsonl", Some(3)), file("a/2.jsonl", Some(0))],
            ..Locked::default()
        });
    }
    lock
}

#[test]
fn a_lock_is_read_as_it_was_written_one_line_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.lock");
    assert_eq!(DataLock::read(&path).unwrap(), None);
    lock().write(&path).unwrap();
    assert_eq!(DataLock::read(&path).unwrap(), Some(lock()));
    let text = lock().to_toml();
    assert_eq!(text.lines().filter(|line| line.contains("a/1.jsonl")).count(), 3);
    let names: Vec<String> = lock().data.iter().map(Locked::title).collect();
    assert_eq!(names, ["b.jsonl", "o/d (test)", "o/d (train)"]);
}

#[test]
fn an_entry_answers_only_what_it_was_made_for() {
    let lock = lock();
    let asked =
        Asked { name: "o/d", subset: None, split: Some("test"), globs: &[], revision: None };
    assert_eq!(lock.data(&asked).unwrap().split.as_deref(), Some("test"));
    assert!(lock.data(&Asked { split: Some("dev"), ..asked }).is_none());
    assert!(lock.data(&Asked { revision: Some("v2"), ..asked }).is_none());
    assert!(lock.data(&Asked { subset: Some("en"), ..asked }).is_none());
}

#[test]
fn an_entry_takes_the_place_of_the_older_one() {
    let mut lock = lock();
    let mut entry = lock.data[0].clone();
    entry.files[0].size = 99;
    lock.put(entry.clone());
    assert_eq!((lock.data.len(), &lock.data[0]), (3, &entry));
}

#[test]
fn what_could_mislead_is_refused() {
    let good = lock().to_toml();
    let mut messages = String::new();
    for (from, to) in [
        ("version = 1", "version = 9"),
        ("version = 1", "version = 1\nverison = 2"),
        ("config.json", "../config.json"),
        ("oid = \"aa", "oid = \"xa"),
        ("commit = \"00", "commit = \"0"),
        ("path = \"a/2.jsonl\"", "path = \"a/0.jsonl\""),
        ("split = \"train\"", "split = \"test\""),
        ("size = 7", "size = -7"),
        ("sha256 = \"", "sha256 = \"z"),
    ] {
        assert!(good.contains(from), "{from}");
        let error =
            DataLock::parse(&good.replace(from, to), Path::new("a.lock")).unwrap_err().to_string();
        messages += &format!("{to}: {error}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
version = 9: error[lock]: the lock has version 9, this program reads up to 1
  at a.lock
version = 1
verison = 2: error[file]: the lock cannot be read
  at a.lock:5:1
  because unknown field `verison`, expected one of `version`, `model`, `data`
../config.json: error[hub]: refusing the file name `../config.json`
  at a.lock
  because `.` and `..` lead to other folders

hint: nothing was written; such a name can make a download write outside its folder
oid = "xa: error[lock]: a commit or git object of `o/m` is not 40 hex digits
  at a.lock
commit = "0: error[lock]: a commit or git object of `o/m` is not 40 hex digits
  at a.lock
path = "a/0.jsonl": error[lock]: the files of `b.jsonl` are not sorted by path
  at a.lock
split = "test": error[lock]: the data sets of the lock are not sorted, or appear twice
  at a.lock
size = -7: error[file]: the lock cannot be read
  at a.lock:13:34
  because invalid value: integer `-7`, expected u64
sha256 = "z: error[file]: the lock cannot be read
  at a.lock:13:46
  because `z587cb980af76fdc7e52369fd0b9d926dff266976b6f8ac631e358fecc49ff8cf` is not a lower-case SHA-256 digest

"#]],
    );
}
