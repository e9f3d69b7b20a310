//! A file without a name in which numbers have places that are used again. What is in it is never
//! what a run goes on from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::files::UnnamedFile;
use crate::weights::Element;

/// Numbers that are coded at once on their way to disk and back.
pub(super) const NUMBERS_AT_ONCE: usize = 1 << 18;

/// What a file is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScratchContent {
    /// Its name while it is made.
    pub name: &'static str,
    /// What errors say is in it.
    pub what: &'static str,
    /// What to do where the disk has no room.
    pub less: &'static str,
    /// Places have this many bytes or a multiple of them, so that what has another length fits into
    /// one that was used before.
    pub place: u64,
}

/// A file with numbers of which parts come and go.
#[derive(Debug)]
pub struct ScratchFile {
    file: UnnamedFile,
    content: ScratchContent,
    room: Mutex<Room>,
}

/// Which places of a file are free.
#[derive(Debug, Default)]
struct Room {
    end: u64,
    /// By length.
    free: BTreeMap<u64, Vec<u64>>,
}

/// A part of a file; its place is free when nothing refers to it any more.
#[derive(Debug)]
pub struct ScratchPart {
    file: Arc<ScratchFile>,
    element: Element,
    begin: u64,
    length: u64,
}

impl ScratchFile {
    /// One in a folder, with room for so many bytes.
    ///
    /// # Errors
    /// When it cannot be made, or the disk has no room.
    pub(super) fn within(folder: &Path, content: ScratchContent, bytes: u64) -> Result<Arc<Self>> {
        let file = UnnamedFile::within(folder, content.name, content.what)?;
        file.reserve(bytes).map_err(|error| error.hint(content.less))?;
        Ok(Arc::new(Self { file, content, room: Mutex::new(Room::default()) }))
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it ends.
    #[cfg(test)]
    pub(super) fn end(&self) -> u64 {
        self.room().end
    }

    /// Bytes of the place that so many take.
    fn placed(&self, length: u64) -> u64 {
        length.next_multiple_of(self.content.place.max(1))
    }

    /// A place for so many numbers.
    fn part(self: &Arc<Self>, element: Element, count: usize) -> ScratchPart {
        let length = (count * element.size()) as u64;
        let place = self.placed(length);
        let mut room = self.room();
        let free = room.free.get_mut(&place).and_then(Vec::pop);
        let begin = free.unwrap_or_else(|| {
            let begin = room.end;
            room.end += place;
            begin
        });
        drop(room);
        ScratchPart { file: self.clone(), element, begin, length }
    }

    /// Writes numbers of 32 bits.
    ///
    /// # Errors
    /// When the disk is full.
    pub(super) fn put_numbers(self: &Arc<Self>, numbers: &[f32]) -> Result<Arc<ScratchPart>> {
        let part = self.part(Element::F32, numbers.len());
        let mut at = part.begin;
        for piece in numbers.chunks(NUMBERS_AT_ONCE) {
            let bytes = Element::F32.encode(piece);
            self.write(&bytes, at)?;
            at += bytes.len() as u64;
        }
        Ok(Arc::new(part))
    }

    /// Writes codes of eight bits.
    ///
    /// # Errors
    /// When the disk is full.
    pub(super) fn put_codes(self: &Arc<Self>, codes: &[u8]) -> Result<Arc<ScratchPart>> {
        let part = self.part(Element::U8, codes.len());
        self.write(codes, part.begin)?;
        Ok(Arc::new(part))
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_at(bytes, at).map_err(|error| error.hint(self.content.less))
    }
}

impl ScratchPart {
    /// How many numbers or codes.
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.length).expect("it was in memory") / self.element.size()
    }

    /// As what they are written.
    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// The codes.
    ///
    /// # Panics
    /// When the disk fails.
    pub(super) fn codes(&self) -> Vec<u8> {
        let mut codes = vec![0; self.count()];
        self.file.file.read_at(&mut codes, self.begin);
        codes
    }

    /// Appends the numbers.
    ///
    /// # Panics
    /// When the disk fails.
    pub(super) fn append_to(&self, target: &mut Vec<f32>) {
        let read = |bytes: &mut [u8], at| {
            self.file.file.read_at(bytes, at);
            Ok(())
        };
        self.append_with(read, target).expect("a disk that fails is a panic");
    }

    /// The numbers.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn numbers(&self) -> Result<Vec<f32>> {
        let mut numbers = Vec::new();
        self.append_with(|bytes, at| self.file.file.try_read_at(bytes, at), &mut numbers)?;
        Ok(numbers)
    }

    fn append_with(
        &self,
        read: impl Fn(&mut [u8], u64) -> Result<()>,
        target: &mut Vec<f32>,
    ) -> Result<()> {
        let (mut at, end, size) = (self.begin, self.begin + self.length, self.element.size());
        target.reserve_exact(self.count());
        while at < end {
            let count = usize::try_from(end - at).map_or(usize::MAX, |bytes| bytes / size);
            let count = count.min(NUMBERS_AT_ONCE);
            let mut bytes = vec![0; count * size];
            read(&mut bytes, at)?;
            let from = target.len();
            target.resize(from + count, 0.0);
            self.element.decode(&bytes, &mut target[from..]);
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Drop for ScratchPart {
    fn drop(&mut self) {
        let place = self.file.placed(self.length);
        self.file.room().free.entry(place).or_default().push(self.begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_size_are_used_again_by_what_is_shorter() {
        let folder = tempfile::tempdir().unwrap();
        let content = ScratchContent { name: "some", what: "what is here", less: "", place: 40 };
        let file = ScratchFile::within(folder.path(), content, 0).unwrap();
        let long = file.put_numbers(&[1.0; 10]).unwrap();
        let longer = file.put_numbers(&[2.0; 11]).unwrap();
        assert_eq!(file.end(), 120);
        drop((long, longer));
        for count in [3, 10, 1] {
            let part = file.put_numbers(&vec![count as f32; count]).unwrap();
            assert_eq!(part.numbers().unwrap(), vec![count as f32; count]);
        }
        let _two = [12, 20].map(|count| {
            let part = file.put_numbers(&vec![count as f32; count]).unwrap();
            assert_eq!(part.numbers().unwrap(), vec![count as f32; count]);
            part
        });
        // One of them came to the place that was free, the other one to the end.
        assert_eq!(file.end(), 200);
    }
}
