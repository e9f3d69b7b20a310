//! Types of numbers of ggml, the library of llama.cpp. Quantised ones have blocks of numbers with a
//! scale, which is an f16; each is read bit for bit as ggml's reference code does it
//! (`ggml-quants.c`, `dequantize_row_*`), in parts, so that any numbers of a row can be had without
//! those beside them.

mod blocks;
mod half_precision;
mod large_blocks;

use half::{bf16, f16};
use rayon::prelude::*;

use self::blocks::{Blocks, Mxfp4, PART, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Scales, read};
use self::large_blocks::{Q4K, Q5K, Q6K};

/// A type of numbers, by its number in ggml (`enum ggml_type`).
#[derive(Debug, Clone, Copy)]
pub struct TensorType {
    /// Its number.
    pub id: u32,
    /// As people call it.
    pub name: &'static str,
    /// Numbers in a block.
    pub block: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Reads numbers of a row, from a first one on.
    read: fn(&[u8], usize, &mut [f32]),
    /// Whether none of the numbers of a block can be infinite or NaN, by its scales.
    finite: fn(&[u8]) -> bool,
}

/// By their number: names are the same then, and functions are not compared.
impl PartialEq for TensorType {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for TensorType {}

const fn quantised<B: Blocks>(id: u32, name: &'static str) -> TensorType {
    let (block, bytes) = (PART * B::PARTS, B::BYTES);
    TensorType { id, name, block, bytes, read: read::<B>, finite: B::Scales::finite }
}

const fn plain(
    id: u32,
    name: &'static str,
    bytes: usize,
    read: fn(&[u8], usize, &mut [f32]),
) -> TensorType {
    TensorType { id, name, block: 1, bytes, read, finite: |_| false }
}

/// The types that can be read.
pub static TYPES: [TensorType; 12] = [
    plain(0, "F32", 4, |row, first, out| floats(row, first, out, f32::from_le_bytes)),
    plain(1, "F16", 2, |row, first, out| {
        floats(row, first, out, |bytes| f16::from_le_bytes(bytes).to_f32());
    }),
    plain(30, "BF16", 2, |row, first, out| {
        floats(row, first, out, |bytes| bf16::from_le_bytes(bytes).to_f32());
    }),
    quantised::<Q4_0>(2, "Q4_0"),
    quantised::<Q4_1>(3, "Q4_1"),
    quantised::<Q5_0>(6, "Q5_0"),
    quantised::<Q5_1>(7, "Q5_1"),
    quantised::<Q8_0>(8, "Q8_0"),
    quantised::<Q4K>(12, "Q4_K"),
    quantised::<Q5K>(13, "Q5_K"),
    quantised::<Q6K>(14, "Q6_K"),
    quantised::<Mxfp4>(39, "MXFP4"),
];

impl TensorType {
    /// The type of this number in ggml.
    pub fn find(id: u32) -> Option<&'static Self> {
        TYPES.iter().find(|one| one.id == id)
    }

    /// The quantised type of a name.
    pub fn quantised(name: &str) -> Option<&'static Self> {
        TYPES.iter().find(|one| one.name == name && one.is_quantised())
    }

    /// Whether its numbers stand in blocks.
    pub fn is_quantised(&self) -> bool {
        self.block > 1
    }

    /// Bytes of so many numbers in rows of whole blocks; `None` where they do not fit.
    pub fn size(&self, row: u64, numbers: u64) -> Option<u64> {
        let whole = row.is_multiple_of(self.block as u64);
        whole.then(|| numbers / self.block as u64)?.checked_mul(self.bytes as u64)
    }

    /// Bytes of so many numbers that are known to be whole blocks.
    pub fn bytes_of(&self, numbers: u64) -> u64 {
        numbers / self.block as u64 * self.bytes as u64
    }

    /// Numbers of a row of whole blocks, from a first one on.
    pub fn read(&self, row: &[u8], first: usize, target: &mut [f32]) {
        (self.read)(row, first, target);
    }

    /// The numbers in whole blocks.
    pub fn values(&self, bytes: &[u8]) -> Vec<f32> {
        /// Blocks that a thread reads at a time.
        const AT_ONCE: usize = 1024;
        let mut values = vec![0.0; bytes.len() / self.bytes * self.block];
        let parts = bytes.par_chunks(AT_ONCE * self.bytes);
        parts
            .zip(values.par_chunks_mut(AT_ONCE * self.block))
            .for_each(|(bytes, values)| self.read(bytes, 0, values));
        values
    }

    /// How many numbers in whole blocks are NaN or infinite.
    pub fn not_finite(&self, bytes: &[u8]) -> u64 {
        let of_block = |block: &[u8]| match (self.finite)(block) {
            true => 0,
            false => self.values(block).iter().filter(|number| !number.is_finite()).count() as u64,
        };
        bytes.par_chunks_exact(self.bytes).with_min_len(1024).map(of_block).sum()
    }
}

fn floats<const N: usize>(row: &[u8], first: usize, out: &mut [f32], number: fn([u8; N]) -> f32) {
    let bytes = &row.as_chunks().0[first..];
    out.iter_mut().zip(bytes).for_each(|(out, bytes)| *out = number(*bytes));
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Blocks of random bytes, read by PyPI `gguf` (`tests/reference/gguf_blocks.py`).
    #[test]
    fn every_type_is_read_as_ggml_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/gguf_blocks.json");
        let text = std::fs::read_to_string(path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bits = |all: &[f32]| all.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        for one in &TYPES {
            let case = &json[one.name];
            let bytes = STANDARD.decode(case["bytes"].as_str().unwrap()).unwrap();
            let expected = STANDARD.decode(case["values"].as_str().unwrap()).unwrap();
            let values = one.values(&bytes);
            assert!(values.len() >= 2 * one.block, "{}", one.name);
            let found: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(found, expected, "{}", one.name);
            // And so is every part of a row by itself.
            for (first, count) in [(0, 1), (1, 33), (31, 2), (17, 40), (one.block, 3)] {
                let first = first.min(values.len() - 1);
                let mut part = vec![0.0; count.min(values.len() - first)];
                one.read(&bytes, first, &mut part);
                assert_eq!(bits(&part), bits(&values[first..first + part.len()]), "{first}");
            }
            let not_finite = values.iter().filter(|number| !number.is_finite()).count() as u64;
            assert_eq!(one.not_finite(&bytes), not_finite, "{}", one.name);
        }
    }

    #[test]
    fn rows_are_whole_blocks_and_scales_that_are_no_numbers_are_found() {
        let q4_k = TensorType::find(12).unwrap();
        assert_eq!((q4_k.size(512, 1024), q4_k.size(96, 960)), (Some(4 * 144), None));
        assert!(TensorType::find(10).is_none(), "Q2_K is not read");
        for one in TYPES.iter().filter(|one| one.is_quantised()) {
            let mut bytes = vec![0x11; 3 * one.bytes];
            bytes[one.bytes..2 * one.bytes].fill(0xff);
            let wanted = one.values(&bytes).iter().filter(|number| !number.is_finite()).count();
            assert_eq!((one.not_finite(&bytes), wanted), (one.block as u64, one.block));
        }
    }
}
