//! The list of a repository's files at one commit: from the hub's pages, and kept in the cache.
//!
//! A commit never changes, so the list is kept for ever, as `trees/COMMIT.json` in the format of
//! `huggingface_hub`, which then knows a snapshot of ours to be whole, and we one of its.

use serde_json::{Map, Value, json};

use super::file::RemoteFile;
use super::names::check_paths;
use crate::error::{Error, Result};

/// Files of a repository that are accepted: the largest public ones have some hundred thousand.
pub(super) const FILES_MAX: usize = 1_000_000;

/// The version of the kept list that is read and written.
const FORMAT_VERSION: u64 = 1;

/// Adds the files of one page of the hub's answer. Folders and submodules are no files.
///
/// # Errors
/// Says what an entry lacks, or how it contradicts itself.
pub(super) fn read_page(page: &Value, files: &mut Vec<RemoteFile>) -> Result<()> {
    let entries = page.as_array().ok_or_else(|| wrong("it is not a list"))?;
    for entry in entries {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        if text("type") != Some("file") {
            continue;
        }
        let path = text("path").ok_or_else(|| wrong("a file has no `path`"))?;
        let large = entry.get("lfs").filter(|lfs| !lfs.is_null());
        let sha256 = large.map(|lfs| lfs.get("oid").and_then(Value::as_str).unwrap_or_default());
        let sizes = [Some(entry), large].into_iter().flatten().map(|of| of.get("size"));
        let sizes: Vec<Option<u64>> = sizes.map(|size| size.and_then(Value::as_u64)).collect();
        if sizes.iter().any(|size| *size != sizes[0]) {
            return Err(wrong(&format!("it gives two sizes for `{path}`")));
        }
        files.push(file(path, sizes[0], text("oid"), sha256)?);
        if files.len() > FILES_MAX {
            return Err(wrong("it has more than a million files"));
        }
    }
    Ok(())
}

/// Checks all names against each other, and sorts the files by the bytes of their paths.
pub(super) fn finish(mut files: Vec<RemoteFile>) -> Result<Vec<RemoteFile>> {
    check_paths(files.iter().map(|file| file.path.as_str()))?;
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    Ok(files)
}

/// The list as it is kept.
pub(super) fn to_kept(files: &[RemoteFile]) -> Value {
    let entry = |file: &RemoteFile| {
        let mut entry = json!({ "size": file.size, "blob_id": file.oid });
        if let (Some(sha256), Value::Object(entry)) = (file.sha256, &mut entry) {
            entry.insert("lfs_sha256".to_owned(), sha256.to_string().into());
            entry.insert("lfs_size".to_owned(), file.size.into());
        }
        (file.path.clone(), entry)
    };
    let files: Map<String, Value> = files.iter().map(entry).collect();
    json!({ "format_version": FORMAT_VERSION, "files": files })
}

/// Reads a kept list, whoever wrote it; it is checked like one from a hub.
pub(super) fn from_kept(kept: &Value) -> Result<Vec<RemoteFile>> {
    if kept.get("format_version").and_then(Value::as_u64) != Some(FORMAT_VERSION) {
        return Err(wrong("it is of another version"));
    }
    let entries = kept.get("files").and_then(Value::as_object);
    let entries = entries.ok_or_else(|| wrong("it has no `files`"))?;
    let mut files = Vec::with_capacity(entries.len().min(FILES_MAX));
    for (path, entry) in entries {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let size = entry.get("size").and_then(Value::as_u64);
        files.push(file(path, size, text("blob_id"), text("lfs_sha256"))?);
    }
    finish(files)
}

fn file(
    path: &str,
    size: Option<u64>,
    oid: Option<&str>,
    sha256: Option<&str>,
) -> Result<RemoteFile> {
    let size = size.ok_or_else(|| wrong(&format!("`{path}` has no size")))?;
    let oid = oid.ok_or_else(|| wrong(&format!("`{path}` has no `oid`")))?.to_owned();
    let sha256 = sha256.map(str::parse).transpose()?;
    let file = RemoteFile { path: path.to_owned(), size, oid, sha256 };
    file.check()?;
    if sha256.is_some() && !file.is_large() {
        return Err(wrong(&format!("the `oid` of `{path}` is not that of its own pointer")));
    }
    Ok(file)
}

fn wrong(why: &str) -> Error {
    Error::hub("the list of files cannot be used").because(why)
}

#[cfg(test)]
mod tests {
    use super::super::file::pointer_oid;
    use super::*;
    use crate::files::Digest;

    fn read(page: &Value) -> Result<Vec<RemoteFile>> {
        let mut files = Vec::new();
        read_page(page, &mut files)?;
        finish(files)
    }

    fn large(path: &str) -> Value {
        let sha256 = Digest::of(b"x");
        json!({"type": "file", "path": path, "size": 1, "oid": pointer_oid(sha256, 1),
            "lfs": {"oid": sha256.to_string(), "size": 1, "pointerSize": 126}})
    }

    #[test]
    fn a_list_is_read_sorted_and_kept() {
        let oid = "ce013625030ba8dba906f756967f9e9ca394464a";
        let files = read(&json!([
            {"type": "directory", "path": "b", "oid": "x", "size": 0},
            large("b/c"),
            {"type": "file", "path": "B", "size": 6, "oid": oid},
        ]));
        assert!(files.is_err(), "`B` and `b/` are one name on some systems");
        let page = json!([large("b/c"), {"type": "file", "path": "a", "size": 6, "oid": oid}]);
        let files = read(&page).unwrap();
        assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a", "b/c"]);
        assert_eq!(files[1].sha256, Some(Digest::of(b"x")));
        assert_eq!(from_kept(&to_kept(&files)).unwrap(), files);
    }

    #[test]
    fn a_list_that_lacks_or_contradicts_is_refused() {
        let mut two_sizes = large("a");
        two_sizes["size"] = 2.into();
        let mut other_pointer = large("a");
        other_pointer["oid"] = "ce013625030ba8dba906f756967f9e9ca394464a".into();
        let mut short = large("a");
        short["lfs"]["oid"] = "abc".into();
        let good = json!({"type": "file", "path": "a", "size": 6,
            "oid": "ce013625030ba8dba906f756967f9e9ca394464a"});
        let mut bad = vec![json!({}), json!([two_sizes]), json!([other_pointer]), json!([short])];
        for (key, value) in [
            ("size", json!(-1)),
            ("size", json!("6")),
            ("oid", json!("../../x")),
            ("oid", json!(null)),
            ("path", json!("../a")),
            ("path", json!(7)),
        ] {
            let mut entry = good.clone();
            entry[key] = value;
            bad.push(json!([entry]));
        }
        for page in bad {
            assert!(read(&page).is_err(), "{page}");
        }
        assert!(read(&json!([good])).is_ok());
        assert!(from_kept(&json!({"format_version": 2, "files": {}})).is_err());
    }
}
