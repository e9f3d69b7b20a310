//! A file under examination: its beginning and end in memory, the rest on demand.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How much of a file's beginning is kept.
pub(super) const HEAD: usize = 1 << 20;
/// How much of its end is kept; a zip archive tells of itself in the last 64 KiB.
pub(super) const TAIL: usize = 128 << 10;

/// A regular file, opened once.
pub(super) struct Sample {
    /// Relative to what is scanned, with `/`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub size: u64,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// Its last bytes, which may overlap the first.
    pub tail: Vec<u8>,
    file: File,
}

impl Sample {
    /// Opens a file, without following links and without waiting for pipes.
    pub fn open(path: &Path, name: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
        }
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file any more"));
        }
        let size = metadata.len();
        let (name, path) = (name.to_owned(), path.to_path_buf());
        let mut sample = Self { name, path, size, head: Vec::new(), tail: Vec::new(), file };
        sample.head = sample.read_at(0, HEAD)?;
        let start = size.saturating_sub(TAIL as u64);
        sample.tail = sample.read_at(start, TAIL)?;
        Ok(sample)
    }

    /// At most `length` bytes from `offset` on; fewer where the file ends.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Where [`Self::tail`] begins.
    pub fn tail_start(&self) -> u64 {
        self.size.saturating_sub(self.tail.len() as u64)
    }

    /// The whole file, if it is not larger than `limit`.
    pub fn whole(&self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        if self.size > limit as u64 { Ok(None) } else { self.read_at(0, limit).map(Some) }
    }

    /// The name without folders, in lower case.
    pub fn file_name(&self) -> String {
        file_name(&self.name)
    }

    /// What follows the last dot of the name, in lower case; empty if there is none.
    pub fn extension(&self) -> String {
        extension(&self.name)
    }

    /// Whether it begins as safetensors do: a length that fits, then an object.
    pub fn is_safetensors(&self) -> bool {
        let Some(length) = self.head.first_chunk::<8>() else { return false };
        let fits = u64::from_le_bytes(*length) <= self.size - 8;
        fits && self.head.get(8) == Some(&b'{')
    }
}

/// The last part of a name, in lower case.
pub(super) fn file_name(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_lowercase()
}

/// What follows the last dot of a name, in lower case.
pub(super) fn extension(name: &str) -> String {
    file_name(name).rsplit_once('.').map_or_else(String::new, |(_, end)| end.to_owned())
}
