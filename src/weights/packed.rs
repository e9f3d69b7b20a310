//! Codes of matrices as the kernels of GPUs take them: whole words of 32 bits, and scales in 32
//! bits, so that no number there lies across two words, and none has 16 bits.

use std::ops::Range;

use half::f16;

use super::e2m1;
use super::ggml::TensorType;

/// Words before the codes: how many numbers there are, and what else the packing needs to know.
pub const HEADER: usize = 2;
/// Bytes of a word, and of a scale.
const WORD: usize = 4;

/// How the numbers of a matrix are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Places in a book of 16 numbers, four bits each, of which the upper four of a byte come
    /// first. The scales begin with the book.
    Book {
        /// Numbers that share a scale.
        block: usize,
        /// Scales that share theirs, if they have eight bits themselves: their codes follow those
        /// of numbers, and the header says where. Behind the book are then what eight bits stand
        /// for, the offset, and the scales of scales.
        nested: Option<usize>,
    },
    /// Places in a book of 16 numbers, four bits each, times powers of two for each 32 of them: a
    /// byte each, which follow the codes, and the header says where. The scales are the book and
    /// what all bytes stand for.
    Powers {
        /// Whether the lower four of 16 bytes come first, and not of each byte.
        halves: bool,
    },
    /// Eight bits with a sign, a scale for each row behind what all are multiplied with at last.
    /// The header has the columns.
    Rows,
    /// Blocks of ggml's type of this name, and so are the others.
    Q4_0,
    /// With a minimum behind each scale.
    Q4_1,
    /// With a word of fifth bits before the others.
    Q5_0,
    /// With both.
    Q5_1,
    /// Eight bits with a sign.
    Q8_0,
    /// Scales and minima of parts, then four bits.
    Q4K,
    /// Fifth bits between them.
    Q5K,
    /// Four bits, two bits, scales of parts.
    Q6K,
}

/// Codes and scales of a matrix, or of some of its rows.
#[derive(Debug)]
pub struct Packed {
    /// How they are to be read.
    pub packing: Packing,
    /// The header, and codes.
    pub words: Vec<u32>,
    /// What they are multiplied with, and what else is in 32 bits.
    pub scales: Vec<f32>,
}

impl Packed {
    /// Of so many numbers, with what else the header says; none where they are too many for it.
    pub fn new(packing: Packing, [numbers, more]: [usize; 2]) -> Option<Self> {
        let words = vec![u32::try_from(numbers).ok()?, u32::try_from(more).ok()?];
        Some(Self { packing, words, scales: Vec::new() })
    }

    /// How many numbers there are.
    pub fn numbers(&self) -> usize {
        self.words[0] as usize
    }

    /// With these codes behind the others, filled up to whole words.
    pub fn extend(&mut self, codes: &[u8]) {
        let (whole, rest) = codes.as_chunks::<WORD>();
        self.words.extend(whole.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        if !rest.is_empty() {
            let mut last = [0; WORD];
            last[..rest.len()].copy_from_slice(rest);
            self.words.push(u32::from_le_bytes(last));
        }
    }

    /// Of whole blocks of a type of ggml.
    pub fn of_blocks(kind: &TensorType, bytes: &[u8]) -> Option<Self> {
        let Some(BlockLayout { packing, scales, codes }) = layout(kind) else {
            return (kind.bytes == 1 + e2m1::BLOCK_BYTES).then(|| Self::of_powers(bytes))?;
        };
        let mut packed = Self::new(packing, [bytes.len() / kind.bytes * kind.block, 0])?;
        packed.words.reserve_exact(bytes.len() / kind.bytes * codes.len() / WORD);
        for block in bytes.chunks_exact(kind.bytes) {
            packed.extend(&block[codes.clone()]);
            let scale = |at: &usize| f16::from_le_bytes([block[*at], block[at + 1]]).to_f32();
            packed.scales.extend(scales.iter().map(scale));
        }
        Some(packed)
    }

    /// Of blocks of a byte for a power, and codes.
    fn of_powers(bytes: &[u8]) -> Option<Self> {
        let blocks = bytes.as_chunks::<{ 1 + e2m1::BLOCK_BYTES }>().0;
        let split = HEADER + blocks.len() * e2m1::BLOCK_BYTES / WORD;
        let packing = Packing::Powers { halves: true };
        let mut packed = Self::new(packing, [blocks.len() * e2m1::BLOCK, split])?;
        blocks.iter().for_each(|block| packed.extend(&block[1..]));
        packed.extend(&blocks.iter().map(|block| block[0]).collect::<Vec<_>>());
        packed.scales.extend(e2m1::TWICE.map(f32::from));
        packed.scales.extend((0..=u8::MAX).map(e2m1::half_power));
        Some(packed)
    }
}

/// Where the parts of a block of ggml are among its bytes.
struct BlockLayout {
    packing: Packing,
    /// Scales, each an f16.
    scales: &'static [usize],
    codes: Range<usize>,
}

fn layout(kind: &TensorType) -> Option<BlockLayout> {
    let (packing, scales, codes): (_, &'static [usize], _) = match kind.name {
        "Q4_0" => (Packing::Q4_0, &[0], 2..18),
        "Q4_1" => (Packing::Q4_1, &[0, 2], 4..20),
        "Q5_0" => (Packing::Q5_0, &[0], 2..22),
        "Q5_1" => (Packing::Q5_1, &[0, 2], 4..24),
        "Q8_0" => (Packing::Q8_0, &[0], 2..34),
        "Q4_K" => (Packing::Q4K, &[0, 2], 4..144),
        "Q5_K" => (Packing::Q5K, &[0, 2], 4..176),
        "Q6_K" => (Packing::Q6K, &[208], 0..208),
        _ => return None,
    };
    Some(BlockLayout { packing, scales, codes })
}

/// Bytes of so many numbers in whole blocks of a type of ggml, as GPUs take them.
pub fn packed_bytes(kind: &TensorType, numbers: u64) -> u64 {
    let size = match layout(kind) {
        Some(BlockLayout { scales, codes, .. }) => codes.len() + scales.len() * WORD,
        None => kind.bytes,
    };
    numbers / kind.block as u64 * size as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::ggml::TYPES;
    use crate::weights::{Blocks, formats};

    /// What the estimate counts is what is packed, whole words without holes.
    #[test]
    fn blocks_are_as_many_words_and_scales_as_the_estimate_counts() {
        for kind in TYPES.iter().filter(|kind| kind.is_quantised()) {
            let blocks = Blocks::new(vec![0x11; 6 * kind.bytes], kind, 2 * kind.block);
            // The second of three matrices.
            let packed = blocks.matrix(1, 1).packed().unwrap();
            let bytes = packed_bytes(kind, 2 * kind.block as u64);
            let [packed] = packed.as_slice() else { panic!("one part of {}", kind.name) };
            assert_eq!(packed.numbers(), 2 * kind.block, "{}", kind.name);
            // Two bytes for powers fill up a word, and there is what they stand for.
            let more = match packed.packing {
                Packing::Powers { .. } => 2 + (16 + 256) * WORD,
                _ => 0,
            };
            let found = (packed.words.len() - HEADER + packed.scales.len()) * WORD;
            assert_eq!(found as u64, bytes + more as u64, "{}", kind.name);
        }
    }

    #[test]
    fn codes_of_formats_are_packed_as_small_as_they_are() {
        // Book, map, offset and header are there once for each matrix.
        for (name, most) in [("int8", 4 * HEADER), ("nf4", 4 * (16 + 256 + 1 + HEADER))] {
            let format = formats::named(name).unwrap();
            let formats::Storage::Coded(code) = format.storage() else { panic!("codes") };
            for shape in [[64, 256], [7, 31]] {
                let numbers: Vec<f32> = (0..shape[0] * shape[1]).map(|x| (x % 29) as f32).collect();
                let packed = code(&numbers, shape).packed().unwrap();
                assert_eq!(packed.iter().map(Packed::numbers).sum::<usize>(), numbers.len());
                let words = packed.iter().map(|part| part.words.len() + part.scales.len());
                let found = words.sum::<usize>() * WORD;
                let counted = usize::try_from(format.bytes(shape)).unwrap();
                // And what fills up two words.
                assert!((counted..=counted + most + 2 * WORD).contains(&found), "{name}: {found}");
            }
        }
    }
}
