//! How much may come out of a file: one rule for all containers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Text shrinks to a fifth, seldom to a fiftieth. A file out of which more than this many times its
/// size comes was made to exhaust whoever reads it,
const TIMES: u64 = 200;
/// unless it is not much: a small file may repeat itself as it likes.
const MUCH: u64 = 256 << 20;
/// What a record counts at least: an empty one must be kept, hashed and counted, too.
pub const RECORD: u64 = 64;

/// What came out of a file, and how much may.
pub struct Expansion {
    most: u64,
    so_far: AtomicU64,
}

impl Expansion {
    /// For a file of `size` bytes that is packed in some way.
    pub fn of(size: u64) -> Self {
        Self { most: size.saturating_mul(TIMES).max(MUCH), so_far: AtomicU64::new(0) }
    }

    /// For a file out of which comes what is in it.
    pub fn none() -> Self {
        Self { most: u64::MAX, so_far: AtomicU64::new(0) }
    }

    /// So many more bytes came out; an error says that these are too many.
    pub fn add(&self, bytes: u64) -> Result<(), String> {
        match self.so_far.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.most {
            true => Ok(()),
            false => Err(self.refusal()),
        }
    }

    /// Whether so many bytes may come out of one part of the file.
    pub fn allows(&self, bytes: u64) -> Result<(), String> {
        if bytes <= self.most { Ok(()) } else { Err(self.refusal()) }
    }

    /// Whether too many bytes came out already.
    pub fn is_exceeded(&self) -> bool {
        self.so_far.load(Ordering::Relaxed) > self.most
    }

    fn refusal(&self) -> String {
        let most = self.most >> 20;
        format!(
            "it unpacks to more than {TIMES} times its size, and to more than {most} MiB, which no \
             text does"
        )
    }
}

/// What to do about a file that is refused for it.
pub const HINT: &str = "if the data really repeat that much, unpack the file first";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn small_files_may_unpack_to_much_and_large_ones_to_many_times_their_size() {
        let small = Expansion::of(1000);
        small.add(MUCH).unwrap();
        says(
            small.add(1).unwrap_err(),
            snapbox::str![
                "it unpacks to more than 200 times its size, and to more than 256 MiB, which no text does"
            ],
        );
        let large = Expansion::of(10 << 20);
        large.add(TIMES * (10 << 20)).unwrap();
        assert!(!large.is_exceeded());
        says(
            large.add(1).unwrap_err(),
            snapbox::str![
                "it unpacks to more than 200 times its size, and to more than 2000 MiB, which no text does"
            ],
        );
        assert!(large.is_exceeded());
        assert!(large.allows(TIMES * (10 << 20)).is_ok());
        assert!(large.allows(u64::MAX).is_err());
        Expansion::none().add(u64::MAX).unwrap();
    }
}
