//! Reads safetensors files from front to back, a piece at a time: what is hashed is what is used,
//! and memory does not depend on the size of the file.

use crate::weights::header::TensorPlace;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header;
use super::spill::{SpillFile, StoredBytes};
use crate::error::{Context, Error, Result};
use crate::files::{FileEntry, Hashing};
use crate::weights::Element;
use crate::weights::ggml::TensorType;

/// One safetensors file, of which only the header is in memory.
pub struct ShardStream {
    source: Hashing<File>,
    path: PathBuf,
    name: String,
    header: Vec<u8>,
    places: Vec<TensorPlace>,
    /// Tensors that are to have more rows than the file has of them, by number: as they are there.
    fewer: BTreeMap<usize, TensorPlace>,
    /// How many tensors were begun.
    begun: usize,
    /// Bytes of the tensor begun last that were not read yet.
    left: u64,
    /// The type of its blocks, if it is in blocks that are read as numbers; and those blocks.
    decoded: Option<&'static TensorType>,
    blocks: Vec<u8>,
    /// Tensors with numbers that are NaN or infinite, and how many of them.
    not_finite: Vec<(String, u64)>,
}

impl ShardStream {
    /// Opens a file and checks its header against its size.
    ///
    /// # Errors
    /// When it is no regular file, no safetensors file, or not all of one; nothing was allocated
    /// then but its header.
    pub fn open(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let (file, size) = header::open(&path)?;
        let mut source = Hashing::new(file);
        let (header, places) = header::read(&mut source, size, &path)?;
        let name = name.to_owned();
        let (decoded, blocks, not_finite) = (None, Vec::new(), Vec::new());
        let fewer = BTreeMap::new();
        Ok(Self {
            source,
            path,
            name,
            header,
            places,
            fewer,
            begun: 0,
            left: 0,
            decoded,
            blocks,
            not_finite,
        })
    }

    /// The raw header, length prefix included.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The file's name in its directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every tensor, in the order in which they come.
    pub fn places(&self) -> &[TensorPlace] {
        &self.places
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        let stored = (0..self.places.len()).map(|number| self.in_file(number).stored_bytes());
        self.header.len() as u64 + stored.sum::<u64>()
    }

    /// Tensors for which `rows` names a number are to have so many rows: [`Self::places`] says so,
    /// and who reads them puts the further rows behind those of the file.
    pub fn grow(&mut self, rows: impl Fn(&TensorPlace) -> Option<usize>) {
        for (number, place) in self.places.iter_mut().enumerate() {
            let before = place.shape.first().copied().unwrap_or(0);
            let Some(rows) = rows(place).filter(|rows| *rows > before && before > 0) else {
                continue;
            };
            self.fewer.insert(number, place.clone());
            place.bytes = place.bytes / before as u64 * rows as u64;
            place.shape[0] = rows;
        }
    }

    /// Whether a tensor is to have more rows than the file.
    pub fn grows(&self) -> bool {
        !self.fewer.is_empty()
    }

    /// A tensor as the file has it.
    fn in_file(&self, number: usize) -> &TensorPlace {
        self.fewer.get(&number).unwrap_or(&self.places[number])
    }

    /// Goes on to the next tensor; the one before must have been read to its end.
    pub fn begin(&mut self) -> Option<TensorPlace> {
        assert_eq!(self.left, 0, "a tensor of `{}` was left unread", self.name);
        let place = self.places.get(self.begun)?.clone();
        self.left = self.in_file(self.begun).stored_bytes();
        self.begun += 1;
        self.decoded = place.blocks;
        Some(place)
    }

    /// From now on the blocks of the tensor are read as they are, and not as numbers.
    pub fn keep_blocks(&mut self) {
        self.decoded = None;
    }

    /// Reads the next bytes of the tensor into `buffer`, at most `most`; none at its end.
    pub fn read<'a>(&mut self, buffer: &'a mut Vec<u8>, most: usize) -> Result<&'a [u8]> {
        let most = self.whole_numbers(most);
        self.read_unhashed(buffer, most)?;
        self.source.hash(if self.decoded.is_some() { &self.blocks } else { buffer });
        let count = self.counts()(buffer);
        self.note_not_finite(count);
        Ok(buffer)
    }

    /// What says how many of the numbers or blocks that are read are NaN or infinite.
    fn counts(&self) -> impl Fn(&[u8]) -> u64 + Send + use<> {
        let (place, decoded) = (self.begun(), self.decoded);
        let kept = place.and_then(|place| place.blocks).filter(|_| decoded.is_none());
        let element = place.map(|place| place.element);
        move |bytes| match (kept, element) {
            (Some(kind), _) => kind.not_finite(bytes),
            (None, Some(element)) => element.not_finite(bytes),
            (None, None) => 0,
        }
    }

    /// The tensor that was begun last.
    fn begun(&self) -> Option<&TensorPlace> {
        self.begun.checked_sub(1).map(|last| &self.places[last])
    }

    /// Bytes of the file that are at most so many bytes of numbers, and no part of a number or of
    /// a block.
    fn whole_numbers(&self, most: usize) -> usize {
        let of = |place: &TensorPlace| match (place.blocks, self.decoded) {
            (Some(kind), Some(_)) => (kind.block * place.element.size(), kind.bytes),
            (Some(kind), None) => (kind.bytes, kind.bytes),
            (None, _) => (place.element.size(), place.element.size()),
        };
        let (numbers, stored) = self.begun().map_or((1, 1), of);
        (most / numbers).max(1).saturating_mul(stored)
    }

    fn note_not_finite(&mut self, count: u64) {
        let Some(name) = self.begun().filter(|_| count > 0).map(|place| place.name.clone()) else {
            return;
        };
        match self.not_finite.last_mut() {
            Some((last, counted)) if *last == name => *counted += count,
            _ => self.not_finite.push((name, count)),
        }
    }

    /// Whether all that was read so far of tensors that are `used` are numbers: bounds that clip
    /// nothing, in parts that are not of the text model, are infinite.
    ///
    /// # Errors
    /// When some are NaN or infinite: nothing that is computed from them means anything.
    pub fn refuse_not_finite(&self, used: impl Fn(&str) -> bool) -> Result<()> {
        let found: Vec<_> = self.not_finite.iter().filter(|(name, _)| used(name)).collect();
        let Some((name, count)) = found.first() else { return Ok(()) };
        let what = format!("the weights hold {count} NaN or infinite numbers in `{name}`");
        let error = Error::weights(what).at(&self.path);
        Err(match found.len() - 1 {
            0 => error,
            more => error.because(format!("{more} more of its tensors hold such, too")),
        }
        .hint(
            "a training run that diverged leaves such weights; use an earlier state of the model",
        ))
    }

    /// Reads the rest of the tensor in pieces of `most` bytes into `buffer`: while one is hashed,
    /// `take` gets it on another thread.
    pub fn read_all(
        &mut self,
        buffer: &mut Vec<u8>,
        most: usize,
        mut take: impl FnMut(&[u8]) + Send,
    ) -> Result<()> {
        let most = self.whole_numbers(most);
        while self.left > 0 {
            self.read_unhashed(buffer, most)?;
            let count = self.counts();
            let look = || {
                take(buffer);
                count(buffer)
            };
            let stored: &[u8] = if self.decoded.is_some() { &self.blocks } else { buffer };
            let source = &mut self.source;
            let ((), count) = rayon::join(|| source.hash(stored), look);
            self.note_not_finite(count);
        }
        Ok(())
    }

    /// The same onto disk: no more than `most` bytes are in memory at once. `convert` makes what is
    /// kept of each piece.
    ///
    /// # Errors
    /// When the disk is full, too.
    pub fn read_to_disk(
        &mut self,
        (buffer, most): (&mut Vec<u8>, usize),
        disk: &Arc<SpillFile>,
        mut convert: impl FnMut(&[u8]) -> Cow<'_, [u8]> + Send,
    ) -> Result<StoredBytes> {
        disk.put_with(|append| {
            let mut written = Ok(());
            self.read_all(buffer, most, |bytes| {
                if written.is_ok() {
                    written = append(&convert(bytes));
                }
            })?;
            written
        })
    }

    /// Reads all that is left without a digest, to see whether it is numbers.
    pub fn look_through(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        const PIECE_BYTES: usize = 1 << 20;
        while self.begin().is_some() {
            self.keep_blocks();
            while self.left > 0 {
                self.read_unhashed(buffer, self.whole_numbers(PIECE_BYTES))?;
                let count = self.counts()(buffer);
                self.note_not_finite(count);
            }
        }
        Ok(())
    }

    fn read_unhashed(&mut self, buffer: &mut Vec<u8>, most: usize) -> Result<()> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        let target = if self.decoded.is_some() { &mut self.blocks } else { &mut *buffer };
        target.resize(count, 0);
        self.source
            .inner()
            .read_exact(target)
            .context_at("cannot read the weights: was the file changed meanwhile?", &self.path)?;
        self.left -= count as u64;
        if let Some(kind) = self.decoded {
            *buffer = Element::F32.encode(&kind.values(&self.blocks));
        }
        Ok(())
    }

    /// The digest of all that was read, which must be the whole file.
    pub fn finish(self) -> Result<FileEntry> {
        let unread = self.left > 0 || self.begun < self.places.len();
        assert!(!unread, "`{}` was not read to its end", self.name);
        let (mut file, size, sha256) = self.source.finish();
        let mut more = [0];
        if file.read(&mut more).context_at("cannot read the weights", &self.path)? > 0 {
            return Err(Error::changed("the file grew while it was read").at(&self.path));
        }
        Ok(FileEntry { path: self.name, size, sha256 })
    }
}

/// A tensor read whole.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedTensor {
    /// Number format in the file.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Little-endian values.
    pub bytes: Vec<u8>,
}

/// All tensors of a small file, one by one taken out of it, and the digest of its bytes.
pub fn read_tensors(
    directory: &Path,
    name: &str,
) -> Result<(BTreeMap<String, OwnedTensor>, FileEntry)> {
    let mut shard = ShardStream::open(directory, name)?;
    let mut tensors = BTreeMap::new();
    while let Some(place) = shard.begin() {
        let mut bytes = Vec::new();
        shard.read(&mut bytes, usize::MAX)?;
        let TensorPlace { name, element, shape, .. } = place;
        tensors.insert(name, OwnedTensor { element, shape, bytes });
    }
    Ok((tensors, shard.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Digest;
    use crate::snapshots::says;
    use crate::weights::{TensorSpec, write_safetensors};

    fn digest_of(path: &Path) -> Digest {
        Digest::of(&std::fs::read(path).unwrap())
    }

    fn written() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let spec = |name: &str, shape: &[usize]| TensorSpec {
            name: name.to_owned(),
            element: Element::F32,
            shape: shape.to_vec(),
        };
        let specs = vec![spec("a", &[3, 2]), spec("b", &[5])];
        write_safetensors(&folder.path().join("m.safetensors"), specs, &Default::default(), |s| {
            Ok((0..s.shape.iter().product()).map(|i| i as f32).collect())
        })
        .unwrap();
        folder
    }

    #[test]
    fn pieces_are_the_file_and_its_digest() {
        let folder = written();
        let path = folder.path().join("m.safetensors");
        let mut shard = ShardStream::open(folder.path(), "m.safetensors").unwrap();
        let mut all = shard.header().to_vec();
        let mut buffer = Vec::new();
        let mut names = Vec::new();
        while let Some(place) = shard.begin() {
            names.push(place.name);
            loop {
                let piece = shard.read(&mut buffer, 7).unwrap();
                if piece.is_empty() {
                    break;
                }
                all.extend(piece);
            }
        }
        assert_eq!(names, ["a", "b"]);
        assert_eq!(all, std::fs::read(&path).unwrap());
        let entry = shard.finish().unwrap();
        assert_eq!((entry.sha256, entry.size), (digest_of(&path), all.len() as u64));
        let (tensors, entry) = read_tensors(folder.path(), "m.safetensors").unwrap();
        assert_eq!((tensors["a"].bytes.len(), entry.sha256), (24, digest_of(&path)));
    }

    #[test]
    fn damaged_files_are_refused_before_anything_is_allocated() {
        let folder = written();
        let path = folder.path().join("m.safetensors");
        let good = std::fs::read(&path).unwrap();
        let huge = [&u64::MAX.to_le_bytes()[..], &good[8..]].concat();
        let longer = [&good[..], b"x"].concat();
        let mut messages = String::new();
        for bad in [&good[..good.len() - 1], &longer, &huge, &good[..4], &good[..20], b""] {
            std::fs::write(&path, bad).unwrap();
            let error = ShardStream::open(folder.path(), "m.safetensors").err().unwrap();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
error[weights]: not a valid safetensors file: it is cut off
  at [FOLDER]/m.safetensors
  because its tensors have 44 bytes by its header, of which 43 are there

hint: is the download complete?
error[weights]: not a valid safetensors file
  at [FOLDER]/m.safetensors
  because it is larger than its tensors: 1 bytes belong to none of them
error[weights]: not a valid safetensors file
  at [FOLDER]/m.safetensors
  because its header would have 18446744073709551615 bytes, more than 16777216
error[weights]: not a valid safetensors file
  at [FOLDER]/m.safetensors
  because it has 4 bytes, too few for a header
error[weights]: not a valid safetensors file
  at [FOLDER]/m.safetensors
  because it is cut off within its header: it has 20 bytes

hint: is the download complete?
error[weights]: not a valid safetensors file
  at [FOLDER]/m.safetensors
  because it has 0 bytes, too few for a header

"#]],
        );
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let folder = written();
        let path = folder.path().join("m.safetensors");
        let good = std::fs::read(&path).unwrap();
        for size in [good.len() - 3, good.len() + 3] {
            std::fs::write(&path, &good).unwrap();
            let mut shard = ShardStream::open(folder.path(), "m.safetensors").unwrap();
            std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(size as u64)
                .unwrap();
            let mut read = || -> Result<()> {
                while shard.begin().is_some() {
                    shard.read(&mut Vec::new(), usize::MAX)?;
                }
                Ok(())
            };
            assert!(read().and_then(|()| shard.finish().map(drop)).is_err());
        }
    }
}
