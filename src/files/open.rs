//! What may be opened: regular files, and what in them only stands for a file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Context, Error, ErrorCode, Result};

/// Opens a regular file for reading, following links. A device may give bytes for ever, a pipe is
/// gone after the first reading, and neither has a size.
///
/// # Errors
/// Whatever is no regular file is refused, before it is opened and again after. Nobody waits at a
/// pipe that was put there in between.
pub fn open_regular(path: &Path) -> Result<File> {
    // Looked at first: to open some devices is to act on them.
    let metadata = std::fs::metadata(path).context_at("cannot read the file", path)?;
    regular(path, &metadata)?;
    let file = reading(false).open(path).context_at("cannot read the file", path)?;
    let metadata = file.metadata().context_at("cannot read the file", path)?;
    regular(path, &metadata)?;
    refuse_sparse(&file, metadata.len(), path)?;
    Ok(file)
}

/// Whether there is a file of this name; links are followed.
///
/// # Errors
/// When something else has the name: what is not read because it is a folder, a pipe, a device or
/// a link to nothing would be passed over in silence.
pub fn has_file(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(metadata) => regular(path, &metadata).map(|()| true),
        Err(_) if path.is_symlink() => Err(Error::file("the link points to nothing").at(path)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error).context_at("cannot read the file", path),
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// When it is no regular file, or is larger.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.context_at("cannot read the file", path)?;
    if bytes.len() as u64 > limit {
        return Err(Error::file(format!("the file has more than {limit} bytes")).at(path));
    }
    Ok(bytes)
}

/// Reads a text of at most `limit` bytes from a regular file.
///
/// # Errors
/// When it is no regular file, is larger, or is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(read_bytes(path, limit)?).context_at("the file is not text in UTF-8", path)
}

/// Opens a file of a model directory: a regular one, whatever was put in its place after the
/// directory was listed. Links are not followed, and nobody waits at a pipe.
pub fn open_unlinked(path: &Path) -> Result<File> {
    let file = reading(true).open(path).context_at("cannot read the file", path)?;
    let metadata = file.metadata().context_at("cannot read the file", path)?;
    if !metadata.is_file() {
        return Err(irregular(path));
    }
    refuse_sparse(&file, metadata.len(), path)?;
    Ok(file)
}

/// Why a link or a special file inside a model directory is not accepted.
pub(super) fn irregular(path: &Path) -> Error {
    Error::refused(ErrorCode::File, "only regular files are accepted, no links or devices")
        .at(path)
        .hint("copy the content into a plain file")
}

fn reading(unlinked: bool) -> OpenOptions {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = if unlinked { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = (flags | OFlags::NONBLOCK).bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    #[cfg(not(unix))]
    let _ = unlinked;
    options
}

/// Files up to this size may have holes: to read them costs little.
#[cfg(target_os = "linux")]
const SPARSE_BYTES: u64 = 1 << 30;

/// A file of which most was never written costs nobody anything but those who read it: hours, for
/// one that claims to fill the disk.
#[cfg(target_os = "linux")]
fn refuse_sparse(file: &File, size: u64, path: &Path) -> Result<()> {
    use rustix::fs::{SeekFrom, seek};
    if size <= SPARSE_BYTES {
        return Ok(());
    }
    let (mut at, mut data) = (0, 0);
    // File systems that know nothing of holes say that all of it is data.
    while at < size && data <= size / 2 {
        let Ok(begin) = seek(file, SeekFrom::Data(at)) else { break };
        let end = seek(file, SeekFrom::Hole(begin)).unwrap_or(size);
        data += end.saturating_sub(begin);
        at = end.max(begin + 1);
    }
    seek(file, SeekFrom::Start(0)).context_at("cannot read the file", path)?;
    if data <= size / 2 {
        let why = format!("it claims {size} bytes, of which {data} were written");
        return Err(Error::file("the file is mostly holes").at(path).because(why));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn refuse_sparse(_: &File, _: u64, _: &Path) -> Result<()> {
    Ok(())
}

fn regular(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let error = Error::file(format!("a regular file is needed, and this is {}", kind(metadata)));
    Err(error.at(path).hint(match metadata.is_dir() {
        true => "name a file in it",
        false => "write what it gives into a file first",
    }))
}

fn kind(metadata: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if metadata.is_dir() { "a folder" } else { "something else" }
}

/// A pointer has fewer bytes than this (the git-lfs specification, version 1).
const POINTER_BYTES: usize = 1024;

/// Whether the bytes of a file, or as many of its first as were read, are a Git LFS pointer: the
/// few lines that a clone without Git LFS, or a download of the raw file, has in the file's place.
pub fn lfs_pointer(bytes: &[u8]) -> bool {
    // The second name is that of the time before version 1.
    let begins = [b"version https://git-lfs.".as_slice(), b"version https://hawser."];
    bytes.len() < POINTER_BYTES
        && begins.iter().any(|begin| bytes.starts_with(begin))
        && memchr::memmem::find(bytes, b"\noid ").is_some()
}

/// The error about a file that [`lfs_pointer`] tells to be one.
pub fn lfs_refusal(path: &Path) -> Error {
    Error::file("the file is a Git LFS pointer, not the file that it stands for")
        .at(path)
        .hint("run `git lfs pull` in its repository, or download the file itself")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn only_regular_files_are_opened_through_links_too() {
        let folder = tempfile::tempdir().unwrap();
        let error = open_regular(folder.path()).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[file]: a regular file is needed, and this is a folder
  at [FOLDER]

hint: name a file in it
"#]],
        );
        let path = folder.path().join("a");
        std::fs::write(&path, "x").unwrap();
        open_regular(&path).unwrap();
        open_unlinked(&path).unwrap();
        assert!(open_regular(&folder.path().join("b")).is_err());
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert!(has_file(&link).unwrap() && !has_file(&path.join("below")).unwrap());
            says(
                has_file(folder.path()).unwrap_err(),
                snapbox::str![[r#"
error[file]: a regular file is needed, and this is a folder
  at [FOLDER]

hint: name a file in it
"#]],
            );
            let nowhere = folder.path().join("nowhere");
            std::os::unix::fs::symlink("missing", &nowhere).unwrap();
            assert!(!has_file(&folder.path().join("missing")).unwrap());
            says(
                has_file(&nowhere).unwrap_err(),
                snapbox::str![[r#"
error[file]: the link points to nothing
  at [FOLDER]/nowhere
"#]],
            );
            open_regular(&link).unwrap();
            assert!(open_unlinked(&link).is_err());
            let devices = folder.path().join("devices");
            std::os::unix::fs::symlink("/dev/zero", &devices).unwrap();
            let error = open_regular(&devices).unwrap_err().to_string();
            says(
                &error,
                snapbox::str![[r#"
error[file]: a regular file is needed, and this is a device
  at [FOLDER]/devices

hint: write what it gives into a file first
"#]],
            );
            let socket = folder.path().join("socket");
            let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let error = open_regular(&socket).unwrap_err().to_string();
            says(
                &error,
                snapbox::str![[r#"
error[file]: a regular file is needed, and this is a socket
  at [FOLDER]/socket

hint: write what it gives into a file first
"#]],
            );
            let pipe = folder.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
            assert!(made.success());
            let error = open_regular(&pipe).unwrap_err().to_string();
            says(
                &error,
                snapbox::str![[r#"
error[file]: a regular file is needed, and this is a pipe
  at [FOLDER]/pipe

hint: write what it gives into a file first
"#]],
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_of_holes_is_refused_and_one_with_few_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"some").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(SPARSE_BYTES).unwrap();
        open_regular(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let mut messages = String::new();
        for error in [open_regular(&path).unwrap_err(), open_unlinked(&path).unwrap_err()] {
            let error = error.to_string();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
error[file]: the file is mostly holes
  at [FOLDER]/file
  because it claims 1099511627776 bytes, of which 4096 were written
error[file]: the file is mostly holes
  at [FOLDER]/file
  because it claims 1099511627776 bytes, of which 4096 were written

"#]],
        );
    }

    #[test]
    fn pointers_are_told_from_files() {
        let rest = "oid sha256:4d7a\nsize 5530624\n";
        for version in ["git-lfs.github.com/spec/v1", "hawser.github.com/spec/v1"] {
            let pointer = format!("version https://{version}\n{rest}");
            assert!(lfs_pointer(pointer.as_bytes()));
            assert!(lfs_pointer(pointer.replace('\n', "\r\n").as_bytes()));
            assert!(!lfs_pointer(&pointer.as_bytes()[..30]));
            assert!(!lfs_pointer(format!("{pointer}{}", "x".repeat(1024)).as_bytes()));
            assert!(!lfs_pointer(format!("# {pointer}").as_bytes()));
        }
        assert!(!lfs_pointer(b"") && !lfs_pointer(b"{\"text\":\"version\"}\n"));
    }
}
