//! The files of a data set in a folder on this machine.

use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// A data set of more files is refused, since their list alone would take long.
const FILES_MAX: usize = 100_000;
/// Deeper folders are refused.
const DEPTH_MAX: usize = 64;

/// The regular files under a folder: paths with `/` from there, sorted by their bytes.
///
/// Hidden files and folders are left out. Links to files are files, links to folders are not
/// followed, since they can lead in a circle.
///
/// # Errors
/// The folder cannot be read, a link leads nowhere, a name is not UTF-8, or there are too many.
pub fn list_local(folder: &Path) -> Result<Vec<String>> {
    list(folder, FILES_MAX)
}

fn list(folder: &Path, most: usize) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), String::new(), 0)];
    while let Some((path, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&path).context_at("cannot read the data set's folder", &path)? {
            let entry = entry.context_at("cannot read the data set's folder", &path)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().context_at("cannot read the data set's folder", &path)?;
            let is_file = if kind.is_symlink() {
                fs::metadata(&path).context_at("the link points to nothing", &path)?.is_file()
            } else {
                kind.is_file()
            };
            if !is_file && !kind.is_dir() {
                continue;
            }
            let Some(name) = name.to_str() else {
                return Err(Error::data("the name is not valid UTF-8").at(&path).hint("rename it"));
            };
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                if depth == DEPTH_MAX {
                    let what = format!("folders are nested deeper than {DEPTH_MAX} levels");
                    return Err(Error::data(what).at(&path));
                }
                folders.push((path, format!("{name}/"), depth + 1));
            } else if files.len() == most {
                return Err(Error::data(format!("the data set has more than {most} files"))
                    .at(folder)
                    .hint("name a folder further down"));
            } else {
                files.push(name);
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn regular_files_are_listed_in_the_order_of_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::create_dir_all(root.join("empty")).unwrap();
        for name in ["b.jsonl", "b/z.jsonl", "b/c/é.jsonl", "B.jsonl", ".git/x", ".hidden"] {
            fs::write(root.join(name), "").unwrap();
        }
        let found = list_local(root).unwrap();
        assert_eq!(found, ["B.jsonl", "b.jsonl", "b/c/é.jsonl", "b/z.jsonl"]);
        let error = list(root, 3).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[data]: the data set has more than 3 files
  at [FOLDER]

hint: name a folder further down
"#]],
        );
        assert!(list(root, 4).is_ok());
        let error = list_local(&root.join("nothing")).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[file]: cannot read the data set's folder
  at [FOLDER]/nothing
  because No such file or directory (os error 2)
"#]],
        );
    }

    #[test]
    fn deep_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let deep = |depth| folder.path().join("a/".repeat(depth));
        fs::create_dir_all(deep(DEPTH_MAX)).unwrap();
        assert!(list_local(folder.path()).unwrap().is_empty());
        fs::create_dir_all(deep(DEPTH_MAX + 1)).unwrap();
        let error = list_local(folder.path()).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[data]: folders are nested deeper than 64 levels
  at [FOLDER]/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a
"#]],
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_to_files_are_files_and_links_to_folders_are_not_followed() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join(".blobs")).unwrap();
        fs::write(root.join(".blobs/1"), "").unwrap();
        symlink(root.join(".blobs/1"), root.join("a.jsonl")).unwrap();
        symlink(root, root.join("circle")).unwrap();
        let status = std::process::Command::new("mkfifo").arg(root.join("pipe.jsonl")).status();
        assert!(status.unwrap().success());
        assert_eq!(list_local(root).unwrap(), ["a.jsonl"]);

        symlink("nowhere", root.join("b.jsonl")).unwrap();
        let error = list_local(root).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[file]: the link points to nothing
  at [FOLDER]/b.jsonl
  because No such file or directory (os error 2)
"#]],
        );
        fs::remove_file(root.join("b.jsonl")).unwrap();

        let name = std::ffi::OsStr::from_bytes(b"a\xff.jsonl");
        fs::write(root.join(name), "").unwrap();
        let error = list_local(root).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[data]: the name is not valid UTF-8
  at [FOLDER]/a�.jsonl

hint: rename it
"#]],
        );
    }
}
