//! Numbers in place of the codes that a base has: what products are faster with, and what takes the
//! memory of a base that nobody quantised.

use super::{Storage, WeightFormat};

/// The entry.
#[derive(Debug)]
pub(super) struct Dequantised;

impl WeightFormat for Dequantised {
    fn name(&self) -> &'static str {
        "dequantised"
    }

    /// In 32 bits; the arithmetic may take fewer.
    fn bytes(&self, [rows, columns]: [usize; 2]) -> u64 {
        (rows * columns * size_of::<f32>()) as u64
    }

    fn storage(&self) -> Storage {
        Storage::Numbers
    }

    fn about(&self) -> &'static str {
        "as the numbers that they stand for: the same results, in less time and more memory"
    }
}
