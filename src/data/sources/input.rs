//! The bytes of a file, unpacked where it is compressed, and hashed as they lie on disk.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::expansion::{self, Expansion};
use crate::error::{Context, Error, Result};
use crate::files::{FileEntry, Hashing, lfs_pointer, lfs_refusal, open_regular};

/// Zstandard's own limit on the memory of a reader: 2 to this power bytes.
const WINDOW_LOG_MAX: u32 = 27;
/// How many bytes are asked of the file at once.
const BUFFER: usize = 1 << 20;
/// A file that stands for one under Git LFS is shorter.
const POINTER_BYTES: u64 = 1024;

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard, one or more frames.
    Zstd,
}

impl Packing {
    /// The endings that say so.
    pub const ENDINGS: [&'static str; 2] = ["gz", "zst"];

    /// Of a file name in lower case, and the name without the ending that says it.
    pub fn of(name: &str) -> (&str, Self) {
        let [gzip, zstd] = Self::ENDINGS;
        match name.rsplit_once('.') {
            Some((inner, ending)) if ending == gzip => (inner, Self::Gzip),
            Some((inner, ending)) if ending == zstd => (inner, Self::Zstd),
            _ => (name, Self::Plain),
        }
    }
}

/// Opens a regular file that is none that only stands for one. A pipe would be gone after the first
/// reading.
pub fn open_file(path: &Path) -> Result<File> {
    let mut file = open_regular(path)?;
    let mut start = Vec::new();
    let read = (&mut file).take(POINTER_BYTES).read_to_end(&mut start);
    read.and_then(|_| file.rewind()).context_at("cannot read the data set", path)?;
    if lfs_pointer(&start) {
        return Err(lfs_refusal(path));
    }
    Ok(file)
}

/// The unpacked bytes of a file from front to back, with a look ahead.
pub struct Input {
    path: PathBuf,
    stream: Stream,
    packing: Packing,
    expansion: Expansion,
    buffer: Box<[u8]>,
    /// What of the buffer is not consumed yet.
    start: usize,
    end: usize,
}

enum Stream {
    Plain(Hashing<File>),
    Gzip(MultiGzDecoder<BufReader<Hashing<File>>>),
    Zstd(ZstdDecoder<'static, BufReader<Hashing<File>>>),
}

impl Input {
    /// Opens a file of text. A byte order mark is stepped over; UTF-16 is refused.
    pub fn open(path: &Path, packing: Packing) -> Result<Self> {
        let file = open_file(path)?;
        let size = file.metadata().context_at("cannot read the data set", path)?.len();
        let raw = Hashing::new(file);
        let stream = match packing {
            Packing::Plain => Stream::Plain(raw),
            Packing::Gzip => {
                Stream::Gzip(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, raw)))
            }
            Packing::Zstd => Stream::Zstd(
                zstd_decoder(BufReader::with_capacity(BUFFER, raw))
                    .context_at("cannot read the data set", path)?,
            ),
        };
        let expansion = match packing {
            Packing::Plain => Expansion::none(),
            _ => Expansion::of(size),
        };
        let buffer = vec![0; BUFFER].into_boxed_slice();
        let path = path.to_path_buf();
        let mut input = Self { path, stream, packing, expansion, buffer, start: 0, end: 0 };
        let start = input.ahead(3)?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Err(Error::data("the data set is written in UTF-16")
                .at(&input.path)
                .hint("save it as UTF-8"));
        }
        if start.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
        Ok(input)
    }

    /// The file's name, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that come next, at least one; none at the end.
    pub fn next_bytes(&mut self) -> Result<&[u8]> {
        self.ahead(1)
    }

    /// At least `count` of the bytes that come next, fewer only at the end; `count` is at most
    /// 1 MiB.
    pub fn ahead(&mut self, count: usize) -> Result<&[u8]> {
        while self.end - self.start < count {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let got = self.read().map_err(|error| self.broken(&error))?;
            if got == 0 {
                break;
            }
            self.end += got;
            self.count(got as u64)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// The next `count` of the bytes that were shown are done with.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
    }

    fn read(&mut self) -> io::Result<usize> {
        let buffer = &mut self.buffer[self.end..];
        let got = loop {
            let got = match &mut self.stream {
                Stream::Plain(stream) => stream.read(buffer),
                Stream::Gzip(stream) => stream.read(buffer),
                Stream::Zstd(stream) => stream.read(buffer),
            };
            match got {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                got => break got?,
            }
        };
        Ok(got)
    }

    /// A record of so many bytes stood in the file: short ones count for more than they have.
    pub fn count_record(&self, bytes: usize) -> Result<()> {
        self.count(expansion::RECORD.saturating_sub(bytes as u64))
    }

    fn count(&self, bytes: u64) -> Result<()> {
        self.expansion.add(bytes).map_err(|reason| {
            Error::data("cannot read the data set")
                .at(&self.path)
                .because(reason)
                .hint(expansion::HINT)
        })
    }

    fn broken(&self, error: &io::Error) -> Error {
        let problem = Error::data("cannot read the data set").at(&self.path).because(error);
        match self.packing {
            Packing::Plain => problem,
            _ => problem.hint("if the file was cut off or damaged on its way, fetch it again"),
        }
    }

    /// Size and digest of the file as it lies on disk.
    pub fn finish(self) -> Result<FileEntry> {
        let mut raw = match self.stream {
            Stream::Plain(raw) => raw,
            Stream::Gzip(stream) => stream.into_inner().into_inner(),
            Stream::Zstd(stream) => stream.finish().into_inner(),
        };
        let mut buffer = self.buffer;
        loop {
            match raw.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error).context_at("cannot read the data set", &self.path);
                }
                _ => {}
            }
        }
        let (_, size, sha256) = raw.finish();
        Ok(FileEntry { path: self.path.to_string_lossy().into_owned(), size, sha256 })
    }
}

fn zstd_decoder<R: io::BufRead>(reader: R) -> io::Result<ZstdDecoder<'static, R>> {
    let mut decoder = ZstdDecoder::with_buffer(reader)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn what_is_no_regular_file_or_only_stands_for_one_is_not_opened() {
        let error = Input::open(Path::new("/dev/null"), Packing::Plain).err().unwrap();
        #[cfg(unix)]
        says(
            error,
            snapbox::str![[r#"
error[file]: a regular file is needed, and this is a device
  at /dev/null

hint: write what it gives into a file first
"#]],
        );
        #[cfg(not(unix))]
        assert_eq!(error.code, crate::error::ErrorCode::File);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n";
        std::fs::write(&path, pointer).unwrap();
        let error = Input::open(&path, Packing::Plain).err().unwrap().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[file]: the file is a Git LFS pointer, not the file that it stands for
  at [FOLDER]/a.jsonl

hint: run `git lfs pull` in its repository, or download the file itself
"#]],
        );
        std::fs::write(&path, &pointer[1..]).unwrap();
        let mut input = Input::open(&path, Packing::Plain).unwrap();
        assert_eq!(input.next_bytes().unwrap(), &pointer.as_bytes()[1..]);
    }

    #[test]
    fn very_many_empty_records_are_too_much_of_a_packed_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl.zst");
        std::fs::write(&path, zstd::encode_all(b"{}\n".as_slice(), 3).unwrap()).unwrap();
        let input = Input::open(&path, Packing::Zstd).unwrap();
        let count = (0..5_000_000).take_while(|_| input.count_record(2).is_ok()).count();
        assert!((4_000_000..4_500_000).contains(&count), "{count}");
    }
}
