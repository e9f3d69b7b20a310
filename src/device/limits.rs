//! How large a tensor, and how much work at once, a device takes.

use serde::{Deserialize, Serialize};

/// What everything that is computed stays within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimits {
    /// Bytes of the largest tensor.
    pub tensor_bytes: u64,
    /// Floating-point operations of the largest matrix product. Windows ends a program whose card
    /// works on one thing for two seconds.
    pub dispatch_flops: u64,
}

const F32: u64 = 4;

impl DeviceLimits {
    /// What the CPU takes: anything that fits in memory.
    pub const NONE: Self = Self { tensor_bytes: u64::MAX, dispatch_flops: u64::MAX };

    /// How many rows of `columns` 32-bit numbers fit into one tensor; at least one.
    pub fn rows(&self, columns: usize) -> usize {
        clamp(self.tensor_bytes / (F32 * columns.max(1) as u64))
    }

    /// How many rows of a matrix `[rows, inner]` may be multiplied with one of `[inner, outer]` at
    /// once; at least one.
    pub fn rows_of_product(&self, inner: usize, outer: usize) -> usize {
        let work = 2_u64.saturating_mul(inner as u64).saturating_mul(outer as u64).max(1);
        clamp(self.dispatch_flops / work).min(self.rows(inner.max(outer)))
    }

    /// Whether a tensor of so many 32-bit numbers fits.
    pub fn holds(&self, numbers: u64) -> bool {
        numbers.saturating_mul(F32) <= self.tensor_bytes
    }
}

fn clamp(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_from_size_and_work() {
        assert!(DeviceLimits::NONE.rows_of_product(1 << 14, 1 << 14) > 1 << 30);
        let small = DeviceLimits { tensor_bytes: 4096, dispatch_flops: 1 << 20 };
        assert_eq!((small.rows(64), small.rows(1 << 20)), (16, 1));
        assert_eq!(small.rows_of_product(16, 64), 16, "the tensor decides");
        assert_eq!(small.rows_of_product(1 << 10, 1 << 9), 1, "the work decides");
        assert!(small.holds(1024) && !small.holds(1025) && !small.holds(u64::MAX));
    }
}
