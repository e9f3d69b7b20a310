//! SHA-256 of bytes and files.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::open::{irregular, open_regular, open_unlinked};
use crate::error::{Context, Error, ErrorCode, Result};

/// A SHA-256 digest; shown and stored as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of bytes that follow each other.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        Self(hasher.finalize().into())
    }

    /// The first twelve hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let valid = text.len() == 64
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !valid {
            return Err(Error::file(format!("`{text}` is not a lower-case SHA-256 digest")));
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16)
                .expect("checked to be hex digits");
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|error: Error| serde::de::Error::custom(error.into_what()))
    }
}

/// A file inside a directory: its relative name with `/`, its size and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative path, `/`-separated.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

/// The digest of bytes that come one after another, known at any time.
#[derive(Clone, Default)]
pub struct Rolling(Sha256);

impl Rolling {
    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all so far.
    pub fn digest(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}

impl Write for Rolling {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes whatever passes through on its way to `inner`.
pub struct Hashing<W> {
    inner: W,
    state: Sha256,
    written: u64,
}

impl<W> Hashing<W> {
    /// Wraps a reader or writer.
    pub fn new(inner: W) -> Self {
        Self { inner, state: Sha256::new(), written: 0 }
    }

    /// What passes through without being hashed: for bytes that [`Self::hash`] gets.
    pub fn inner(&mut self) -> &mut W {
        &mut self.inner
    }

    /// Hashes bytes that were taken from the inner object.
    pub fn hash(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.written += bytes.len() as u64;
    }

    /// The inner object, the number of bytes that passed, and their digest.
    pub fn finish(self) -> (W, u64, Digest) {
        (self.inner, self.written, Digest(self.state.finalize().into()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.hash(&bytes[..count]);
        Ok(count)
    }
}

/// How many bytes are read at once: past this size sha2 gains nothing.
const READ_BYTES: usize = 1 << 20;

/// Size and digest of a file; `name` is what the entry will be called.
pub fn hash_file(path: &Path, name: &str) -> Result<FileEntry> {
    let source = Hashing::new(open_regular(path)?);
    hash_rest(source, name).context_at("cannot read the file", path)
}

/// Reads what is left of a file; size and digest are those of all that ever passed.
pub fn hash_rest(mut source: Hashing<impl Read>, name: &str) -> io::Result<FileEntry> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (_, size, sha256) = source.finish();
    Ok(FileEntry { path: name.to_owned(), size, sha256 })
}

/// Every regular file under `root`, sorted by name in code point order, hashed in parallel.
///
/// # Errors
/// Refuses symbolic links and special files, and names that are not UTF-8.
pub fn hash_tree(root: &Path) -> Result<Vec<FileEntry>> {
    read_tree(root, &|_| false, &|path, name| {
        let source = Hashing::new(open_unlinked(path)?);
        hash_rest(source, name).context_at("cannot read the file", path)
    })
}

/// What `read` makes of the path and the name of every regular file under `root`, in parallel; in
/// the order of their names. What `skip` names is not looked at, nor what lies below it.
///
/// # Errors
/// Refuses symbolic links and special files, and names that are not UTF-8.
pub fn read_tree<T: Send>(
    root: &Path,
    skip: &dyn Fn(&str) -> bool,
    read: &(dyn Fn(&Path, &str) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    read_linked_tree(root, None, skip, read)
}

/// The same for a folder of links into `store`, as a hub's cache has them: a link to a regular file
/// that lies in that very folder is read as this file, under the link's name.
///
/// # Errors
/// Refuses every other link, special files, and names that are not UTF-8.
pub fn read_linked_tree<T: Send>(
    root: &Path,
    store: Option<&Path>,
    skip: &dyn Fn(&str) -> bool,
    read: &(dyn Fn(&Path, &str) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    let store = store.map(std::fs::canonicalize).transpose();
    let store = store.context_at("cannot find the folder that links lead to", root)?;
    let mut files = Vec::new();
    collect_files(root, "", &Rules { store: store.as_deref(), skip }, &mut files)?;
    files.sort();
    // One after another as threads get free, so that one large file does not hold up others.
    files.par_iter().with_max_len(1).map(|(name, path)| read(path, name)).collect()
}

/// Which entries of a folder are looked at.
struct Rules<'a> {
    /// Links may lead to files in this folder, given without links on the way.
    store: Option<&'a Path>,
    skip: &'a dyn Fn(&str) -> bool,
}

impl Rules<'_> {
    /// The file that a link leads to, if it may be followed.
    fn target(&self, link: &Path) -> Option<PathBuf> {
        let target = std::fs::canonicalize(link).ok()?;
        let inside = target.parent() == Some(self.store?);
        let regular = target.symlink_metadata().is_ok_and(|found| found.is_file());
        (inside && regular).then_some(target)
    }
}

/// Name and path of every file.
fn collect_files(
    directory: &Path,
    prefix: &str,
    rules: &Rules,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<()> {
    let entries = std::fs::read_dir(directory).context_at("cannot list the folder", directory)?;
    for entry in entries {
        let entry = entry.context_at("cannot list the folder", directory)?;
        let path = entry.path();
        let kind = entry.file_type().context_at("cannot look at the file", &path)?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            Error::refused(ErrorCode::File, "a file name is not valid UTF-8").at(&path)
        })?;
        let name = format!("{prefix}{name}");
        if (rules.skip)(&name) {
            continue;
        }
        if kind.is_dir() {
            collect_files(&path, &format!("{name}/"), rules, files)?;
        } else if kind.is_file() {
            files.push((name, path));
        } else if let Some(target) = rules.target(&path) {
            files.push((name, target));
        } else {
            return Err(irregular(&path));
        }
    }
    Ok(())
}
