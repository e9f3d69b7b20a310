//! Number formats of GGUF files, bit for bit as ggml's own reference code writes them.

use super::blocks::BlockFormat;
use crate::gguf::{self, CODES};
use crate::weights::Element;

/// A format of numbers in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// f32, f16 or bf16.
    Plain(Element),
    /// Blocks of codes with scales.
    Blocks(&'static BlockFormat),
    /// Blocks of 32 numbers of four bits, as the model has them.
    Mxfp4,
}

impl NumberFormat {
    /// The number of the type in ggml (`enum ggml_type`).
    pub const fn kind(self) -> u32 {
        match self {
            Self::Plain(Element::F32) => 0,
            Self::Plain(Element::F16) => 1,
            Self::Plain(Element::BF16) => 30,
            Self::Plain(Element::U8) => panic!("codes of other formats are not written"),
            Self::Blocks(format) => format.kind,
            Self::Mxfp4 => 39,
        }
    }

    /// Whether rows of this width can be written so.
    pub const fn fits(self, width: usize) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Blocks(format) => width.is_multiple_of(format.block),
            Self::Mxfp4 => width.is_multiple_of(CODES),
        }
    }

    /// Bytes of so many numbers.
    pub const fn bytes(self, count: u64) -> u64 {
        match self {
            Self::Plain(element) => count * element.size() as u64,
            Self::Blocks(format) => count / format.block as u64 * format.bytes as u64,
            Self::Mxfp4 => count / CODES as u64 * gguf::BLOCK_BYTES as u64,
        }
    }

    /// The bytes of whole rows.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::Plain(element) => element.encode(values),
            Self::Blocks(format) => format.encode(values),
            Self::Mxfp4 => panic!("codes are written as they are"),
        }
    }

    /// A value that the format has no number for, if there is one.
    pub fn too_large(self, values: &[f32]) -> Option<f32> {
        let limit = match self {
            // Half way between the largest f16 and the next, which rounds to infinity.
            Self::Plain(Element::F16) => 65520.0,
            Self::Blocks(format) => format.limit,
            Self::Plain(_) | Self::Mxfp4 => f32::INFINITY,
        };
        values.iter().copied().find(|value| !value.is_finite() || value.abs() >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::Q8_0;
    use super::*;

    #[test]
    fn what_has_no_number_is_found() {
        let f16 = NumberFormat::Plain(Element::F16);
        assert_eq!(f16.too_large(&[1.0, 65519.0]), None);
        assert_eq!(f16.too_large(&[1.0, -65520.0]), Some(-65520.0));
        assert_eq!(NumberFormat::Blocks(&Q8_0).too_large(&[65520.0]), None);
        assert!(NumberFormat::Plain(Element::F32).too_large(&[f32::NAN]).is_some());
    }
}
