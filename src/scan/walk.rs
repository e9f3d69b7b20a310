//! Which files there are, and what is odd about their names and kinds. Links are not followed.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::report::{Report, is_invisible};
use super::rules::{FILE_NAME, HIDDEN_FILE, SPECIAL_FILE, SYMLINK};
use crate::hub::path_fault;

/// More files are not looked at.
const MAX_FILES: usize = 100_000;
/// Deeper folders are not entered.
const MAX_DEPTH: usize = 64;
/// Hidden files that belong to every repository.
const USUAL: [&str; 2] = [".gitattributes", ".gitignore"];

/// A regular file.
pub(super) struct ScannedFile {
    /// Relative to what is scanned, with `/`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// Every regular file under `root`, by name.
pub(super) fn walk(root: &Path, report: &mut Report) -> io::Result<Vec<ScannedFile>> {
    let blobs = blobs_of(root);
    let mut walk = Walk { blobs, found: Vec::new(), seen: 0, report };
    walk.enter(root, "", 0)?;
    Ok(walk.found)
}

/// A snapshot in the hub's cache consists of links into the folder `blobs` beside its parent.
fn blobs_of(root: &Path) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let snapshots = root.parent()?;
    (snapshots.file_name()? == "snapshots").then_some(())?;
    snapshots.parent()?.join("blobs").canonicalize().ok()
}

struct Walk<'a> {
    blobs: Option<PathBuf>,
    found: Vec<ScannedFile>,
    seen: usize,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            self.seen += 1;
            if self.seen > MAX_FILES {
                let why = format!("there are more than {MAX_FILES} files");
                self.report.unread(prefix, why);
                break;
            }
            entries.push(entry?);
        }
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let part = entry.file_name();
            let name = format!("{prefix}{}", part.to_string_lossy());
            look_at_name(&name, part.to_str(), self.report);
            self.look(&entry.path(), &name, entry.file_type()?, depth);
        }
        Ok(())
    }

    fn look(&mut self, path: &Path, name: &str, kind: FileType, depth: usize) {
        if kind.is_dir() {
            if depth == MAX_DEPTH {
                self.report.unread(name, "the folders are too deep");
            } else if let Err(error) = self.enter(path, &format!("{name}/"), depth + 1) {
                self.report.unread(name, error);
            }
        } else if kind.is_file() {
            self.found.push(ScannedFile { name: name.to_owned(), path: path.to_path_buf() });
        } else if kind.is_symlink() {
            let target = path.canonicalize().ok().filter(|target| target.is_file());
            let cached = target.filter(|target| {
                self.blobs.as_ref().is_some_and(|blobs| target.starts_with(blobs))
            });
            match cached {
                Some(path) => self.found.push(ScannedFile { name: name.to_owned(), path }),
                None => {
                    let target = fs::read_link(path).unwrap_or_default();
                    let detail = format!("it is a link to `{}`", target.to_string_lossy());
                    self.report.add(&SYMLINK, name, detail);
                }
            }
        } else {
            self.report.add(&SPECIAL_FILE, name, "it is a pipe, a socket or a device");
        }
    }
}

/// Looks at the last part of a name.
pub(super) fn look_at_name(name: &str, part: Option<&str>, report: &mut Report) {
    let Some(part) = part else {
        return report.add(&FILE_NAME, name, "its name is not valid UTF-8");
    };
    if let Some(fault) = path_fault(part) {
        report.add(&FILE_NAME, name, format!("its name: {fault}"));
    } else if part.chars().any(is_invisible) {
        report.add(&FILE_NAME, name, "its name has characters that are invisible or turn text");
    }
    if part.starts_with('.') && !USUAL.contains(&part) {
        report.add(&HIDDEN_FILE, name, "it is hidden");
    }
}
