//! Numbers of GGUF tensors, bit for bit as ggml's reference code reads them (`ggml-quants.c`,
//! `dequantize_row_*`). Quantised types have blocks of numbers with a scale, which is an f16.

use half::{bf16, f16};
use rayon::prelude::*;

use super::codes::{BLOCK_BYTES, CODE_BYTES, CODES};

/// Numbers in a block of the older types.
const SMALL: usize = 32;
/// Numbers in a block of the newer ones (`QK_K`).
const LARGE: usize = 256;

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
    read: fn(&[u8], &mut [f32]),
}

const fn of(
    id: u32,
    name: &'static str,
    (block, bytes): (usize, usize),
    read: fn(&[u8], &mut [f32]),
) -> TensorType {
    TensorType { id, name, block, bytes, read }
}

/// The types that can be read.
pub const TYPES: [TensorType; 12] = [
    of(0, "F32", (1, 4), |bytes, out| out[0] = f32::from_le_bytes(array(bytes))),
    of(1, "F16", (1, 2), |bytes, out| out[0] = scale(bytes)),
    of(30, "BF16", (1, 2), |bytes, out| out[0] = bf16::from_le_bytes(array(bytes)).to_f32()),
    of(2, "Q4_0", (SMALL, 18), q4_0),
    of(3, "Q4_1", (SMALL, 20), q4_1),
    of(6, "Q5_0", (SMALL, 22), q5_0),
    of(7, "Q5_1", (SMALL, 24), q5_1),
    of(8, "Q8_0", (SMALL, 34), q8_0),
    of(12, "Q4_K", (LARGE, 144), q4_k),
    of(13, "Q5_K", (LARGE, 176), q5_k),
    of(14, "Q6_K", (LARGE, 210), q6_k),
    of(39, "MXFP4", (CODES, BLOCK_BYTES), mxfp4),
];

impl TensorType {
    /// The type of this number in ggml.
    pub fn find(id: u32) -> Option<Self> {
        TYPES.into_iter().find(|one| one.id == id)
    }

    /// Bytes of so many numbers in rows of whole blocks; `None` where they do not fit.
    pub fn size(self, row: u64, numbers: u64) -> Option<u64> {
        let whole = row.is_multiple_of(self.block as u64);
        whole.then(|| numbers / self.block as u64)?.checked_mul(self.bytes as u64)
    }

    /// The numbers in whole blocks.
    pub fn values(self, bytes: &[u8]) -> Vec<f32> {
        /// Blocks that a thread reads at a time.
        const AT_ONCE: usize = 1024;
        let mut values = vec![0.0; bytes.len() / self.bytes * self.block];
        let parts = bytes.par_chunks(AT_ONCE * self.bytes);
        parts.zip(values.par_chunks_mut(AT_ONCE * self.block)).for_each(|(bytes, values)| {
            let blocks = bytes.chunks_exact(self.bytes);
            blocks.zip(values.chunks_exact_mut(self.block)).for_each(|(block, out)| {
                (self.read)(block, out);
            });
        });
        values
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a block has all its bytes")
}

/// The f16 at the beginning of some bytes.
fn scale(bytes: &[u8]) -> f32 {
    f16::from_le_bytes(array(bytes)).to_f32()
}

/// Low and high half of a byte.
fn halves(byte: u8) -> [i32; 2] {
    [i32::from(byte & 15), i32::from(byte >> 4)]
}

#[expect(clippy::cast_precision_loss)] // they have eight bits
fn float(number: i32) -> f32 {
    number as f32
}

fn q4_0(bytes: &[u8], out: &mut [f32]) {
    let d = scale(bytes);
    for (at, byte) in bytes[2..].iter().enumerate() {
        let [low, high] = halves(*byte);
        (out[at], out[at + 16]) = (float(low - 8) * d, float(high - 8) * d);
    }
}

fn q4_1(bytes: &[u8], out: &mut [f32]) {
    let (d, m) = (scale(bytes), scale(&bytes[2..]));
    for (at, byte) in bytes[4..].iter().enumerate() {
        let [low, high] = halves(*byte);
        (out[at], out[at + 16]) = (float(low) * d + m, float(high) * d + m);
    }
}

/// The fifth bits of a block: those of number `at` and of number `at + 16`, in their place.
fn fifth(bits: u32, at: usize) -> [i32; 2] {
    [at, at + 16].map(|at| i32::from(bits >> at & 1 == 1) << 4)
}

fn q5_0(bytes: &[u8], out: &mut [f32]) {
    let (d, bits) = (scale(bytes), u32::from_le_bytes(array(&bytes[2..])));
    for (at, byte) in bytes[6..].iter().enumerate() {
        let ([low, high], [a, b]) = (halves(*byte), fifth(bits, at));
        (out[at], out[at + 16]) = (float((low | a) - 16) * d, float((high | b) - 16) * d);
    }
}

fn q5_1(bytes: &[u8], out: &mut [f32]) {
    let (d, m) = (scale(bytes), scale(&bytes[2..]));
    let bits = u32::from_le_bytes(array(&bytes[4..]));
    for (at, byte) in bytes[8..].iter().enumerate() {
        let ([low, high], [a, b]) = (halves(*byte), fifth(bits, at));
        (out[at], out[at + 16]) = (float(low | a) * d + m, float(high | b) * d + m);
    }
}

fn q8_0(bytes: &[u8], out: &mut [f32]) {
    let d = scale(bytes);
    for (out, byte) in out.iter_mut().zip(&bytes[2..]) {
        *out = float(i32::from(byte.cast_signed())) * d;
    }
}

/// Scale and minimum of a part of a large block, six bits each (`get_scale_min_k4`).
fn scale_and_min(packed: &[u8], part: usize) -> [f32; 2] {
    let [scale, min] = match part < 4 {
        true => [packed[part] & 63, packed[part + 4] & 63],
        false => [
            packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
            packed[part + 4] >> 4 | packed[part] >> 6 << 4,
        ],
    };
    [scale, min].map(f32::from)
}

fn q4_k(bytes: &[u8], out: &mut [f32]) {
    k(bytes, out, &bytes[16..], |_, _| 0);
}

fn q5_k(bytes: &[u8], out: &mut [f32]) {
    let high = &bytes[16..48];
    k(bytes, out, &bytes[48..], |part, at| i32::from(high[at] >> part & 1) << 4);
}

/// Eight parts of 32 numbers, each with scale and minimum; `more` are the bits above the lower
/// four.
fn k(bytes: &[u8], out: &mut [f32], low: &[u8], more: impl Fn(usize, usize) -> i32) {
    let (d, min, packed) = (scale(bytes), scale(&bytes[2..]), &bytes[4..16]);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let [s, m] = scale_and_min(packed, part);
        let (d, m) = (d * s, min * m);
        for (at, out) in out.iter_mut().enumerate() {
            let number = halves(low[part / 2 * 32 + at])[part % 2] | more(part, at);
            *out = d * float(number) - m;
        }
    }
}

fn q6_k(bytes: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = scale(&bytes[208..]);
    for (at, out) in out.iter_mut().enumerate() {
        // Two halves of 128; in each, four rows of 32.
        let (half, row, column) = (at / 128, at % 128 / 32, at % 32);
        let lower = halves(low[half * 64 + row % 2 * 32 + column])[row / 2];
        let upper = i32::from(high[half * 32 + column] >> (2 * row) & 3);
        let scale = i32::from(scales[half * 8 + row * 2 + column / 16].cast_signed());
        *out = d * float(scale) * float((lower | upper << 4) - 32);
    }
}

/// Twice what four bits mean: a sign, two bits of exponent, one of mantissa.
const TWICE: [i32; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of two to the power of the scale less 127.
fn half_power(scale: u8) -> f32 {
    match scale {
        0 | 1 => f32::from_bits(0x0020_0000 << scale), // below the smallest normal number
        _ => f32::from_bits(u32::from(scale - 1) << 23),
    }
}

fn mxfp4(bytes: &[u8], out: &mut [f32]) {
    let d = half_power(bytes[0]);
    for (at, byte) in bytes[1..].iter().enumerate() {
        let codes = [byte & 15, byte >> 4].map(|code| float(TWICE[usize::from(code)]));
        (out[at], out[at + CODE_BYTES]) = (codes[0] * d, codes[1] * d);
    }
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
        for one in TYPES {
            let case = &json[one.name];
            let bytes = STANDARD.decode(case["bytes"].as_str().unwrap()).unwrap();
            let expected = STANDARD.decode(case["values"].as_str().unwrap()).unwrap();
            let values = one.values(&bytes);
            assert!(values.len() >= 2 * one.block, "{}", one.name);
            let found: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(found, expected, "{}", one.name);
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        let q4_k = TensorType::find(12).unwrap();
        assert_eq!(q4_k.size(512, 1024), Some(4 * 144));
        assert_eq!(q4_k.size(96, 960), None);
        assert!(TensorType::find(10).is_none(), "Q2_K is not read");
    }
}
