//! Frozen weights that are left on disk and read when they are multiplied with. What is read again
//! soon is in the cache of the system, which gives way where memory is short.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::files::UnnamedFile;

/// What appends a part to a file.
pub type Append<'a> = dyn FnMut(&[u8]) -> Result<()> + Send + 'a;

/// A file without a name: nothing else changes what is in it, and it is gone with the process.
#[derive(Debug)]
pub struct SpillFile {
    file: UnnamedFile,
    /// Where it ends.
    end: Mutex<u64>,
    /// Where was read last, to guess what comes next.
    last: AtomicU64,
}

/// Bytes in it.
#[derive(Debug, Clone)]
pub struct SpilledBytes {
    file: Arc<SpillFile>,
    begin: u64,
    length: usize,
}

/// Bytes in memory or on disk.
#[derive(Debug, Clone)]
pub enum StoredBytes {
    /// In memory.
    Memory(Arc<Vec<u8>>),
    /// On disk.
    Disk(SpilledBytes),
}

impl SpillFile {
    /// A new one in a folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn within(folder: &Path) -> Result<Arc<Self>> {
        let file = UnnamedFile::within(folder, "frozen-weights", "frozen weights")?;
        Ok(Arc::new(Self { file, end: Mutex::new(0), last: AtomicU64::new(0) }))
    }

    /// Appends bytes, part after part.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn put<B: AsRef<[u8]>>(
        self: &Arc<Self>,
        parts: impl IntoIterator<Item = B>,
    ) -> Result<StoredBytes> {
        self.put_with(|append| parts.into_iter().try_for_each(|part| append(part.as_ref())))
    }

    /// The same with parts that `write` hands on as they come, so that they are never in memory
    /// together. What it calls appends nothing else to this file, which is locked meanwhile.
    ///
    /// # Errors
    /// Those of `write`, and when the disk is full.
    pub fn put_with(
        self: &Arc<Self>,
        write: impl FnOnce(&mut Append) -> Result<()>,
    ) -> Result<StoredBytes> {
        let mut locked = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let end = &mut *locked;
        let (begin, mut length) = (*end, 0);
        write(&mut |part| {
            self.file.write_at(part, *end)?;
            length += part.len();
            *end += part.len() as u64;
            Ok(())
        })?;
        Ok(StoredBytes::Disk(SpilledBytes { file: self.clone(), begin, length }))
    }

    /// Tells the system what is likely to be read next: as much as now, on the same side of it as
    /// this is of what was read before.
    fn expect_next(&self, begin: u64, length: usize) {
        let before = self.last.swap(begin, Ordering::Relaxed);
        let next = if begin >= before {
            Some(begin + length as u64)
        } else {
            begin.checked_sub(length as u64)
        };
        #[cfg(target_os = "linux")]
        if let Some((next, length)) = next.zip(std::num::NonZero::new(length as u64)) {
            use rustix::fs::{Advice, fadvise};
            // A hint only.
            let _ = fadvise(self.file.reader(), next, Some(length), Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = next;
    }
}

impl StoredBytes {
    /// Some of them.
    ///
    /// # Panics
    /// When the disk fails: what is computed cannot go on without weights.
    pub fn get(&self, from: usize, count: usize) -> Cow<'_, [u8]> {
        match self {
            Self::Memory(bytes) => Cow::Borrowed(&bytes[from..from + count]),
            Self::Disk(bytes) => {
                assert!(from + count <= bytes.length, "the bytes are there");
                let mut target = vec![0; count];
                bytes.file.file.read_at(&mut target, bytes.begin + from as u64);
                Cow::Owned(target)
            }
        }
    }

    /// Some of them in memory, if they are on disk.
    pub fn in_memory(&self, from: usize, count: usize) -> Option<Vec<u8>> {
        let Self::Disk(bytes) = self else { return None };
        bytes.file.expect_next(bytes.begin + from as u64, count);
        Some(self.get(from, count).into_owned())
    }

    /// The same on disk, if they are in memory.
    ///
    /// # Errors
    /// Those of [`SpillFile::put`].
    pub fn spilled(&self, file: &Arc<SpillFile>) -> Result<Self> {
        match self {
            Self::Memory(bytes) => file.put([&bytes[..]]),
            Self::Disk(_) => Ok(self.clone()),
        }
    }

    /// How many.
    pub fn size(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Disk(bytes) => bytes.length,
        }
    }
}

impl From<Vec<u8>> for StoredBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(Arc::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_on_disk_are_those_that_were_in_memory_and_the_file_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = SpillFile::within(folder.path()).unwrap();
        let of = |first: u8| (0..100).map(|at| first.wrapping_add(at)).collect::<Vec<u8>>();
        let (one, two) = (StoredBytes::from(of(0)), StoredBytes::from(of(100)));
        let (one_on_disk, two_on_disk) = (one.spilled(&file).unwrap(), two.spilled(&file).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        for (memory, disk) in [(&one, &one_on_disk), (&two, &two_on_disk), (&one, &one_on_disk)] {
            assert_eq!((memory.size(), disk.size()), (100, 100));
            for (from, count) in [(0, 100), (3, 7), (99, 1), (100, 0)] {
                assert_eq!(memory.get(from, count), disk.get(from, count));
                let loaded = disk.in_memory(from, count).unwrap();
                assert_eq!(loaded[..], *memory.get(from, count));
            }
            assert!(memory.in_memory(0, 1).is_none());
        }
        let in_parts = file.put_with(|append| of(0).chunks(7).try_for_each(append));
        assert_eq!(in_parts.unwrap().get(0, 100)[..], of(0));
        let failed = file.put_with(|append| {
            append(&[1, 2, 3])?;
            Err(crate::error::Error::file("it ended there"))
        });
        assert!(failed.is_err());
        // What came before a failure stays in the file, and nothing refers to it.
        assert_eq!(file.put([[7; 5]]).unwrap().get(0, 5)[..], [7; 5]);
    }
}
