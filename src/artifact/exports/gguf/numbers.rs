//! Number formats of GGUF files, bit for bit as ggml's own reference code writes them.

use half::f16;
use rayon::prelude::*;

use crate::gguf::{self, CODES};
use crate::weights::Element;

/// Numbers that share a scale in `q8_0` (ggml: `QK8_0`).
const BLOCK: usize = 32;
/// A scale in f16, then a byte for each number.
const BLOCK_BYTES: usize = 2 + BLOCK;

/// A format of numbers in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// f32, f16 or bf16.
    Plain(Element),
    /// Blocks of 32 signed bytes with one scale.
    Blocks,
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
            Self::Blocks => 8,
            Self::Mxfp4 => 39,
        }
    }

    /// Whether rows of this width can be written so.
    pub const fn fits(self, width: usize) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Blocks | Self::Mxfp4 => width.is_multiple_of(BLOCK),
        }
    }

    /// Bytes of so many numbers.
    pub const fn bytes(self, count: u64) -> u64 {
        match self {
            Self::Plain(element) => count * element.size() as u64,
            Self::Blocks => count / BLOCK as u64 * BLOCK_BYTES as u64,
            Self::Mxfp4 => count / CODES as u64 * gguf::BLOCK_BYTES as u64,
        }
    }

    /// The bytes of whole rows.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::Plain(element) => element.encode(values),
            Self::Blocks => blocks(values),
            Self::Mxfp4 => panic!("codes are written as they are"),
        }
    }

    /// A value that the format has no number for, if there is one.
    pub fn too_large(self, values: &[f32]) -> Option<f32> {
        let limit = match self {
            // Half way between the largest f16 and the next, which rounds to infinity.
            Self::Plain(Element::F16) => 65520.0,
            // The scale is an f16.
            Self::Blocks => 65520.0 * 127.0,
            Self::Plain(_) | Self::Mxfp4 => f32::INFINITY,
        };
        values.iter().copied().find(|value| !value.is_finite() || value.abs() >= limit)
    }
}

/// As `quantize_row_q8_0_ref` has it: the scale is the largest number over 127; numbers are
/// multiplied with its inverse in f32 and rounded, halves away from zero. Only the stored scale is
/// rounded to f16.
fn blocks(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() / BLOCK * BLOCK_BYTES];
    bytes.par_chunks_mut(BLOCK_BYTES).zip(values.par_chunks(BLOCK)).for_each(|(bytes, values)| {
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let (head, body) = bytes.split_at_mut(2);
        head.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (byte, value) in body.iter_mut().zip(values) {
            #[expect(clippy::cast_possible_truncation)] // between -127 and 127
            let rounded = (value * inverse).round() as i8;
            *byte = rounded.to_le_bytes()[0];
        }
    });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_what_ggml_writes() {
        // Computed with `gguf.quants.quantize` (0.19.0) of ggml's own Python package.
        let values: Vec<f32> = (0..32).map(|i| (i as f32 - 15.5) * 0.37 + 0.01).collect();
        let bytes = NumberFormat::Blocks.encode(&values);
        assert_eq!(bytes.len(), 34);
        assert_eq!(hex(&bytes), EXPECTED);
        assert_eq!(NumberFormat::Blocks.encode(&[0.0; 32]), [0; 34]);
        // 0.5 of a step is rounded away from zero, not to even.
        let mut halves = vec![0.0; 32];
        halves[..4].copy_from_slice(&[127.0, 2.5, -2.5, 0.5]);
        let bytes = NumberFormat::Blocks.encode(&halves);
        assert_eq!(&bytes[2..6], [127_i8, 3, -3, 1].map(|i| i.to_le_bytes()[0]));
    }

    const EXPECTED: &str = "ca29818a929aa2aab3bbc3cbd3dbe4ecf4fc040c151d252d353e464e565e666f777f";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_has_no_number_is_found() {
        let f16 = NumberFormat::Plain(Element::F16);
        assert_eq!(f16.too_large(&[1.0, 65519.0]), None);
        assert_eq!(f16.too_large(&[1.0, -65520.0]), Some(-65520.0));
        assert_eq!(NumberFormat::Blocks.too_large(&[65520.0]), None);
        assert!(NumberFormat::Plain(Element::F32).too_large(&[f32::NAN]).is_some());
    }
}
