//! Several files that are there together or not at all.
//!
//! Of the bundle `NAME`, small texts stand in `NAME.json`, which is written last and in one piece;
//! every other file is an object `NAME.data/DIGEST` before that. Whoever is killed in between
//! leaves objects that nobody reads, and that the next attempt finds there. Two that write the same
//! bundle write equal objects under equal names.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::names::{data_key, data_prefix, manifest_key};
use super::objects::ObjectInfo;
use super::store::Store;
use crate::error::{Context, Error, Result};
use crate::files::{Digest, FileEntry, Hashing, NewFile, failed, folder_of, hash_file};

/// The form that this version writes.
const FORMAT: u32 = 1;
/// Longer texts are objects of their own.
const TEXT_BYTES_MAX: u64 = 256 << 10;
/// What the texts of a bundle may add up to.
const TEXTS_BYTES_MAX: u64 = 2 << 20;
/// Longer lists are not those of a bundle.
const MANIFEST_BYTES_MAX: u64 = 32 << 20;
/// More files no run has.
const FILES_MAX: usize = 10_000;

/// A file that is to go into a bundle.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// Its name there, with `/`.
    pub path: String,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl BundleFile {
    /// A file of the disk, which nobody changes meanwhile.
    pub fn at(path: impl Into<String>, file: PathBuf) -> Self {
        Self { path: path.into(), content: Content::File(file) }
    }

    /// Bytes.
    pub fn of(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), content: Content::Bytes(bytes) }
    }

    fn entry(&self) -> Result<FileEntry> {
        match &self.content {
            Content::File(file) => hash_file(file, &self.path),
            Content::Bytes(bytes) => Ok(FileEntry {
                path: self.path.clone(),
                size: bytes.len() as u64,
                sha256: Digest::of(bytes),
            }),
        }
    }

    /// It as a text, if it is a short one.
    fn text(&self, size: u64) -> Option<String> {
        if size > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = match &self.content {
            Content::File(file) => std::fs::read(file).ok()?,
            Content::Bytes(bytes) => bytes.clone(),
        };
        String::from_utf8(bytes).ok()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleEntry {
    path: String,
    size: u64,
    sha256: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleManifest {
    format: u32,
    files: Vec<BundleEntry>,
}

/// A complete bundle of a store: its list was read, and checked as far as it goes.
#[derive(Debug)]
pub struct Bundle<'a> {
    store: &'a Store,
    name: String,
    files: Vec<BundleEntry>,
}

/// Writes a bundle. One that is there stays, unless `replace`; whether it was written. `there` is
/// what a list of the store said of names that begin as this one: objects in it are not sent again.
///
/// # Errors
/// When a file cannot be read, or the store does not take it: the bundle is not there then, or is
/// the one that was there before.
pub fn publish(
    store: &Store,
    name: &str,
    files: &[BundleFile],
    there: &[ObjectInfo],
    replace: bool,
) -> Result<bool> {
    let there: BTreeMap<&str, u64> = there.iter().map(|it| (it.key.as_str(), it.bytes)).collect();
    let mut texts = 0;
    let mut entries = Vec::new();
    for file in files {
        let FileEntry { path, size, sha256 } = file.entry()?;
        let text = file.text(size).filter(|_| texts + size <= TEXTS_BYTES_MAX);
        match &text {
            Some(_) => texts += size,
            None => {
                let key = data_key(name, sha256);
                // What has this name has these bytes, or is found out by whoever reads it.
                if there.get(key.as_str()) != Some(&size) {
                    match &file.content {
                        Content::File(file) => store.put_file(&key, file, size)?,
                        Content::Bytes(bytes) => store.put(&key, bytes.clone())?,
                    }
                }
            }
        }
        entries.push(BundleEntry { path, size, sha256, text });
    }
    let manifest = BundleManifest { format: FORMAT, files: entries };
    let json = serde_json::to_vec(&manifest).context("cannot encode the list of files")?;
    match replace {
        true => store.put(&manifest_key(name), json).map(|()| true),
        false => store.put_new(&manifest_key(name), json),
    }
}

/// Finds a bundle, if it is there and complete.
///
/// # Errors
/// When its list is not one, or the store does not answer.
pub fn fetch<'a>(store: &'a Store, name: &str) -> Result<Option<Bundle<'a>>> {
    let key = manifest_key(name);
    let Some(bytes) = store.get(&key, MANIFEST_BYTES_MAX)? else { return Ok(None) };
    let wrong = |why: String| {
        Error::store(format!("`{key}` in {} is not the list of a bundle", store.address()))
            .because(why)
    };
    let manifest: BundleManifest =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(wrong(format!("its form is {}, which is not known", manifest.format)));
    }
    if manifest.files.len() > FILES_MAX {
        return Err(wrong(format!("it has {} files", manifest.files.len())));
    }
    let mut seen = std::collections::BTreeSet::new();
    for file in &manifest.files {
        if !stays_inside(&file.path) || !seen.insert(&file.path) {
            return Err(wrong(format!("`{}` is no place for a file", file.path.escape_debug())));
        }
        if let Some(text) = &file.text
            && (text.len() as u64 != file.size || Digest::of(text.as_bytes()) != file.sha256)
        {
            return Err(wrong(format!("`{}` has another digest", file.path)));
        }
    }
    Ok(Some(Bundle { store, name: name.to_owned(), files: manifest.files }))
}

/// Removes a bundle, first what makes it one; `there` is what a list of the store said.
///
/// # Errors
/// When the store does not allow it.
pub fn remove_bundle(store: &Store, name: &str, there: &[ObjectInfo]) -> Result<()> {
    let (manifest, data) = (manifest_key(name), data_prefix(name));
    if there.iter().any(|object| object.key == manifest) {
        store.delete(&manifest)?;
    }
    let mut own = there.iter().filter(|object| object.key.starts_with(&data));
    own.try_for_each(|object| store.delete(&object.key))
}

/// Whether a path leads to a place below a folder, without detours.
fn stays_inside(path: &str) -> bool {
    let plain = |part: Component| matches!(part, Component::Normal(_));
    !path.is_empty()
        && path.len() <= 500
        && !path.contains(['\\', ':', '\0'])
        && !path.split('/').any(|part| part.is_empty() || part == ".")
        && Path::new(path).components().all(plain)
}

impl Bundle<'_> {
    /// Its files, as its list has them.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|file| (file.path.as_str(), file.size))
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// A file of at most `limit` bytes, checked; nothing if the bundle has none of this name.
    ///
    /// # Errors
    /// When it is larger or not what the list says.
    pub fn bytes(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.files.iter().find(|file| file.path == path) else {
            return Ok(None);
        };
        if file.size > limit {
            return Err(Error::store(format!("`{path}` has more than {limit} bytes")));
        }
        let mut bytes = Vec::new();
        self.copy(file, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Writes a file to a place of the disk where nothing is, checked and durable.
    ///
    /// # Errors
    /// When it is not what the list says, or cannot be written.
    pub fn save(&self, path: &str, to: &Path) -> Result<()> {
        let file = self.files.iter().find(|file| file.path == path);
        let file = file.ok_or_else(|| Error::store(format!("the bundle has no `{path}`")))?;
        let folder = folder_of(to);
        std::fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
        let cannot = |error: std::io::Error| failed("cannot write the file", to, &error);
        let mut sink = NewFile::begin(to).map_err(cannot)?;
        let _ = sink.reserve(file.size); // a full disk is met early, where that can be
        self.copy(file, &mut sink)?;
        sink.sync().map_err(cannot)
    }

    fn copy(&self, file: &BundleEntry, sink: &mut dyn Write) -> Result<()> {
        let mut sink = Hashing::new(sink);
        match &file.text {
            Some(text) => {
                sink.write_all(text.as_bytes()).context("cannot write what the store gives")?;
            }
            None => {
                let key = data_key(&self.name, file.sha256);
                self.store.read(&key, file.size, &mut sink)?;
            }
        }
        let (_, size, sha256) = sink.finish();
        if (size, sha256) == (file.size, file.sha256) {
            return Ok(());
        }
        Err(Error::store(format!("`{}` of `{}` is not what its list says", file.path, self.name))
            .because(format!("{size} bytes with digest {} came", sha256.short()))
            .at(self.store.address().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;
    use crate::stores::{StoreAddress, bundle_of};

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let address = StoreAddress::Folder(folder.path().join("store"));
        let store = Store::open(&address).unwrap();
        (folder, store)
    }

    fn files(binary: u8) -> Vec<BundleFile> {
        vec![
            BundleFile::of("a.txt", b"small".to_vec()),
            BundleFile::of("in/b.bin", vec![0xff, binary]),
        ]
    }

    #[test]
    fn a_bundle_is_there_whole_and_the_first_one_stays() {
        let (folder, store) = store();
        assert!(fetch(&store, "runs/one").unwrap().is_none());
        assert!(publish(&store, "runs/one", &files(1), &[], false).unwrap());
        assert!(!publish(&store, "runs/one", &files(2), &[], false).unwrap());
        let bundle = fetch(&store, "runs/one").unwrap().unwrap();
        assert_eq!(bundle.size(), 7);
        assert_eq!(bundle.bytes("a.txt", 10).unwrap().unwrap(), b"small");
        assert_eq!(bundle.bytes("in/b.bin", 10).unwrap().unwrap(), [0xff, 1]);
        assert!(bundle.bytes("a.txt", 4).is_err());
        let to = folder.path().join("new/b.bin");
        bundle.save("in/b.bin", &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), [0xff, 1]);
        assert!(bundle.save("in/b.bin", &to).is_err(), "nothing is written over");
        assert!(publish(&store, "runs/one", &files(2), &[], true).unwrap());
        let bundle = fetch(&store, "runs/one").unwrap().unwrap();
        assert_eq!(bundle.bytes("in/b.bin", 10).unwrap().unwrap(), [0xff, 2]);
        let names: Vec<String> =
            store.list("runs/").unwrap().into_iter().map(|object| object.key).collect();
        assert_eq!(names.iter().filter_map(|key| bundle_of(key)).collect::<Vec<_>>(), ["runs/one"]);
        remove_bundle(&store, "runs/one", &store.list("").unwrap()).unwrap();
        assert!(fetch(&store, "runs/one").unwrap().is_none());
        assert_eq!(store.list("").unwrap(), []);
    }

    #[test]
    fn whoever_was_killed_before_the_list_left_nothing_that_counts() {
        let (_folder, store) = store();
        let digest = Digest::of(&[0xff, 1]);
        store.put(&data_key("one", digest), vec![0xff, 1]).unwrap();
        assert!(fetch(&store, "one").unwrap().is_none());
        let there = store.list("one").unwrap();
        assert!(publish(&store, "one", &files(1), &there, false).unwrap());
        assert!(fetch(&store, "one").unwrap().is_some());
    }

    #[test]
    fn what_a_store_gives_is_not_believed() {
        let (_folder, store) = store();
        publish(&store, "one", &files(1), &[], false).unwrap();
        let manifest = String::from_utf8(store.get("one.json", 4096).unwrap().unwrap()).unwrap();
        let object = store.list("one.data/").unwrap().remove(0).key;
        store.put(&object, vec![0xff, 9]).unwrap();
        let bundle = fetch(&store, "one").unwrap().unwrap();
        let error = bundle.bytes("in/b.bin", 10).unwrap_err();
        assert_eq!(error.what, "`in/b.bin` of `one` is not what its list says");
        store.put(&object, vec![0xff, 1, 1]).unwrap();
        assert!(bundle.bytes("in/b.bin", 10).is_err(), "longer");
        store.delete(&object).unwrap();
        assert!(bundle.bytes("in/b.bin", 10).is_err(), "gone");
        let altered = |from: &str, to: &str| {
            let text = manifest.replace(from, to);
            assert_ne!(text, manifest);
            store.put("one.json", text.into_bytes()).unwrap();
            fetch(&store, "one").unwrap_err()
        };
        says(
            altered("in/b.bin", "../b.bin").because(store.address().to_string()),
            snapbox::str![[r#"
error[store]: `one.json` in [FOLDER]/store is not the list of a bundle
  because `../b.bin` is no place for a file
  because [FOLDER]/store
"#]],
        );
        for (from, to) in [
            ("in/b.bin", "/etc/passwd"),
            ("in/b.bin", "a.txt"),
            ("in/b.bin", "C:b"),
            ("in/b.bin", "in/../b"),
            ("\"text\":\"small\"", "\"text\":\"other\""),
            ("\"format\":1", "\"format\":2"),
            ("\"format\"", "\"other\""),
        ] {
            altered(from, to);
        }
        assert!(store.put("../elsewhere", Vec::new()).is_err());
        assert!(store.get(".hidden", 1).is_err());
    }
}
