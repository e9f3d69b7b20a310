//! One file of a repository, and the proof that bytes are its bytes.
//!
//! The hub lists two digests. `oid` is git's: SHA-1 over `blob SIZE\0` and the content. A large
//! file (LFS, Xet) is kept outside git, which has a short text in its place, the pointer: then
//! `oid` is that of the pointer, and the pointer names the SHA-256 of the content. So an `oid`
//! alone suffices to check either kind.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::names::{check_path, is_commit};
use crate::error::{Error, Result};
use crate::files::Digest;

/// A file as a hub lists it at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Path inside the repository, with `/`.
    pub path: String,
    /// Size of its content in bytes.
    pub size: u64,
    /// Git's object id, 40 hex digits: of the content, or of the pointer in its place.
    pub oid: String,
    /// SHA-256 of the content, where the hub (for a large file) or a lock file tells.
    pub sha256: Option<Digest>,
}

impl RemoteFile {
    /// Checks what a list or a lock file says before any of it becomes a path.
    ///
    /// # Errors
    /// A name that could be written elsewhere, an `oid` that is none.
    pub fn check(&self) -> Result<()> {
        check_path(&self.path)?;
        if !is_commit(&self.oid) {
            return Err(Error::hub(format!("`{}` is not a git object id", self.oid))
                .because(format!("it is said to be that of `{}`", self.path)));
        }
        Ok(())
    }

    /// Is the content kept outside git? Then `oid` is the pointer's.
    pub fn is_large(&self) -> bool {
        self.sha256.is_some_and(|sha256| pointer_oid(sha256, self.size) == self.oid)
    }

    /// Its name among the blobs of the cache, the same as every tool gives it: the `ETag` that the
    /// hub answers with.
    pub(super) fn blob(&self) -> String {
        match self.sha256 {
            Some(sha256) if self.is_large() => sha256.to_string(),
            _ => self.oid.clone(),
        }
    }

    /// Are bytes with these digests this file? If so, under which name they belong.
    pub(super) fn accepts(&self, digests: &Digests) -> Option<String> {
        let listed = self.sha256.is_none_or(|sha256| sha256 == digests.sha256);
        if digests.size != self.size || !listed {
            return None;
        }
        if digests.git.as_ref() == Some(&self.oid) {
            return Some(self.oid.clone());
        }
        let pointer = pointer_oid(digests.sha256, digests.size);
        (pointer == self.oid).then(|| digests.sha256.to_string())
    }
}

/// What bytes turned out to be.
pub(super) struct Digests {
    pub size: u64,
    pub sha256: Digest,
    /// Git's id of the content; a large file needs none.
    git: Option<String>,
}

/// Takes the bytes of one file, in order.
pub(super) struct Digester {
    size: u64,
    sha256: Sha256,
    git: Option<Sha1>,
}

impl Digester {
    /// For the bytes that should be `file`.
    pub fn new(file: &RemoteFile) -> Self {
        let git = (!file.is_large()).then(|| git_header(file.size));
        Self { size: 0, sha256: Sha256::new(), git }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    pub fn finish(self) -> Digests {
        Digests {
            size: self.size,
            sha256: Digest(self.sha256.finalize().into()),
            git: self.git.map(|git| hex(&git.finalize())),
        }
    }
}

fn git_header(size: u64) -> Sha1 {
    let mut state = Sha1::new();
    state.update(format!("blob {size}\0"));
    state
}

/// Git's id of the pointer that stands for a large file (the git-lfs specification, version 1).
pub(super) fn pointer_oid(sha256: Digest, size: u64) -> String {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
    let mut state = git_header(pointer.len() as u64);
    state.update(pointer);
    hex(&state.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        out.extend([byte >> 4, byte & 15].map(|digit| {
            char::from_digit(u32::from(digit), 16).expect("four bits are a hex digit")
        }));
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(file: &RemoteFile, bytes: &[u8]) -> Digests {
        let mut digester = Digester::new(file);
        bytes.chunks(3).for_each(|part| digester.update(part));
        digester.finish()
    }

    fn file(size: u64, oid: &str, sha256: Option<Digest>) -> RemoteFile {
        RemoteFile { path: "a".to_owned(), size, oid: oid.to_owned(), sha256 }
    }

    #[test]
    fn a_small_file_is_known_by_gits_id() {
        // `printf 'hello\n' | git hash-object --stdin`
        let hello = file(6, "ce013625030ba8dba906f756967f9e9ca394464a", None);
        assert_eq!(hello.accepts(&digests(&hello, b"hello\n")), Some(hello.oid.clone()));
        assert_eq!(hello.accepts(&digests(&hello, b"hellO\n")), None);
        assert_eq!(hello.accepts(&digests(&hello, b"hello")), None);
        // A lock file also knows its SHA-256; it is still a file inside git.
        let locked = RemoteFile { sha256: Some(Digest::of(b"hello\n")), ..hello.clone() };
        assert!(!locked.is_large());
        assert_eq!(locked.blob(), hello.oid);
        assert!(locked.accepts(&digests(&locked, b"hello\n")).is_some());
        let other = RemoteFile { sha256: Some(Digest::of(b"other")), ..hello };
        assert_eq!(other.accepts(&digests(&other, b"hello\n")), None);
    }

    #[test]
    fn a_large_file_is_known_by_its_pointer() {
        let bytes = b"weights";
        let oid = pointer_oid(Digest::of(bytes), 7);
        let listed = file(7, &oid, Some(Digest::of(bytes)));
        assert!(listed.is_large());
        assert_eq!(listed.blob(), Digest::of(bytes).to_string());
        assert_eq!(listed.accepts(&digests(&listed, bytes)), Some(listed.blob()));
        assert_eq!(listed.accepts(&digests(&listed, b"weighTs")), None);
        // A list that does not tell the SHA-256 is enough.
        let silent = file(7, &oid, None);
        assert_eq!(silent.accepts(&digests(&silent, bytes)), Some(listed.blob()));
        assert_eq!(silent.accepts(&digests(&silent, b"weighTs")), None);
    }

    #[test]
    fn a_pointer_has_the_id_that_git_gives_it() {
        // The three lines of the specification for `weights`, through `git hash-object --stdin`.
        let oid = pointer_oid(Digest::of(b"weights"), 7);
        assert_eq!(oid, "c6a67be4f3ef29ed4a07b4f2446625126a25cfda");
    }
}
