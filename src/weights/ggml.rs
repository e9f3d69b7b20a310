//! Types of numbers of ggml, the library of llama.cpp. Quantised ones have blocks of numbers with a
//! scale, which is an f16; each is read bit for bit as ggml's reference code does it
//! (`ggml-quants.c`, `dequantize_row_*`), in parts, so that any numbers of a row can be had without
//! those beside them.

use half::{bf16, f16};
use pulp::Arch;
use rayon::prelude::*;

use super::e2m1::{BLOCK_BYTES, TWICE, half_power};

/// Numbers of a part: what shares a scale, or more of them.
const PART: usize = 32;
/// Parts in a block of the newer types (`QK_K` numbers).
const PARTS: usize = 8;

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

/// A quantised type.
trait Blocks {
    /// Parts of a block.
    const PARTS: usize = 1;
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether its scales are finite numbers.
    fn finite(block: &[u8]) -> bool {
        scale(block).is_finite()
    }
    /// The numbers of a part of a block.
    fn part(block: &[u8], part: usize, out: &mut [f32; PART]);
}

const fn quantised<B: Blocks>(id: u32, name: &'static str) -> TensorType {
    let (block, bytes) = (PART * B::PARTS, B::BYTES);
    TensorType { id, name, block, bytes, read: read::<B>, finite: B::finite }
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

/// Numbers of a row, with the instructions that the machine has.
fn read<B: Blocks>(row: &[u8], first: usize, out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let (mut place, mut rest) = (first, out);
            while !rest.is_empty() {
                let (part, skipped) = (place / PART, place % PART);
                let block = &row[part / B::PARTS * B::BYTES..][..B::BYTES];
                let here = (PART - skipped).min(rest.len());
                let (now, after) = rest.split_at_mut(here);
                if let Ok(now) = <&mut [f32; PART]>::try_from(&mut *now) {
                    B::part(block, part % B::PARTS, now);
                } else {
                    let mut whole = [0.0; PART];
                    B::part(block, part % B::PARTS, &mut whole);
                    now.copy_from_slice(&whole[skipped..][..here]);
                }
                (place, rest) = (place + here, after);
            }
        },
    );
}

#[inline(always)]
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a block has all its bytes")
}

/// The f16 at the beginning of some bytes.
#[inline(always)]
fn scale(bytes: &[u8]) -> f32 {
    f16::from_le_bytes(array(bytes)).to_f32()
}

/// Low and high half of a byte.
#[inline(always)]
fn halves(byte: u8) -> [i32; 2] {
    [i32::from(byte & 15), i32::from(byte >> 4)]
}

#[expect(clippy::cast_precision_loss)] // they have eight bits
#[inline(always)]
fn float(number: i32) -> f32 {
    number as f32
}

/// The numbers of 16 bytes, of which the lower halves come first.
#[inline(always)]
fn of_halves(codes: &[u8], out: &mut [f32; PART], number: impl Fn(usize, i32) -> f32) {
    let (lower, upper) = out.split_at_mut(PART / 2);
    let codes: [u8; PART / 2] = array(codes);
    for (at, out) in lower.iter_mut().enumerate() {
        *out = number(at, halves(codes[at])[0]);
    }
    for (at, out) in upper.iter_mut().enumerate() {
        *out = number(at + PART / 2, halves(codes[at])[1]);
    }
}

struct Q4_0;

impl Blocks for Q4_0 {
    const BYTES: usize = 18;

    #[inline(always)]
    fn part(block: &[u8], _: usize, out: &mut [f32; PART]) {
        let d = scale(block);
        of_halves(&block[2..], out, |_, code| float(code - 8) * d);
    }
}

/// Whether scale and minimum, both f16, are finite.
fn two_finite(block: &[u8]) -> bool {
    scale(block).is_finite() && scale(&block[2..]).is_finite()
}

struct Q4_1;

impl Blocks for Q4_1 {
    const BYTES: usize = 20;

    fn finite(block: &[u8]) -> bool {
        two_finite(block)
    }

    #[inline(always)]
    fn part(block: &[u8], _: usize, out: &mut [f32; PART]) {
        let (d, m) = (scale(block), scale(&block[2..]));
        of_halves(&block[4..], out, |_, code| float(code) * d + m);
    }
}

/// The fifth bit of a number, in its place.
#[inline(always)]
fn fifth(bits: u32, at: usize) -> i32 {
    i32::from(bits >> at & 1 == 1) << 4
}

struct Q5_0;

impl Blocks for Q5_0 {
    const BYTES: usize = 22;

    #[inline(always)]
    fn part(block: &[u8], _: usize, out: &mut [f32; PART]) {
        let (d, bits) = (scale(block), u32::from_le_bytes(array(&block[2..])));
        of_halves(&block[6..], out, |at, code| float((code | fifth(bits, at)) - 16) * d);
    }
}

struct Q5_1;

impl Blocks for Q5_1 {
    const BYTES: usize = 24;

    fn finite(block: &[u8]) -> bool {
        two_finite(block)
    }

    #[inline(always)]
    fn part(block: &[u8], _: usize, out: &mut [f32; PART]) {
        let (d, m) = (scale(block), scale(&block[2..]));
        let bits = u32::from_le_bytes(array(&block[4..]));
        of_halves(&block[8..], out, |at, code| float(code | fifth(bits, at)) * d + m);
    }
}

struct Q8_0;

impl Blocks for Q8_0 {
    const BYTES: usize = 34;

    #[inline(always)]
    fn part(block: &[u8], _: usize, out: &mut [f32; PART]) {
        let (d, codes) = (scale(block), array::<PART>(&block[2..]));
        for (out, code) in out.iter_mut().zip(codes) {
            *out = float(i32::from(code.cast_signed())) * d;
        }
    }
}

/// Scale and minimum of a part of a large block, six bits each (`get_scale_min_k4`).
#[inline(always)]
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

/// A part of 32 numbers with scale and minimum; `more` are the bits above the lower four.
#[inline(always)]
fn k(
    block: &[u8],
    (part, out): (usize, &mut [f32; PART]),
    low: &[u8],
    more: impl Fn(usize) -> i32,
) {
    let (d, min) = (scale(block), scale(&block[2..]));
    let [s, m] = scale_and_min(&block[4..16], part);
    let (d, m) = (d * s, min * m);
    let (codes, shift) = (array::<PART>(&low[part / 2 * PART..]), part % 2 * 4);
    for (at, out) in out.iter_mut().enumerate() {
        let number = i32::from(codes[at] >> shift & 15) | more(at);
        *out = d * float(number) - m;
    }
}

struct Q4K;

impl Blocks for Q4K {
    const PARTS: usize = PARTS;
    const BYTES: usize = 144;

    fn finite(block: &[u8]) -> bool {
        two_finite(block)
    }

    #[inline(always)]
    fn part(block: &[u8], part: usize, out: &mut [f32; PART]) {
        k(block, (part, out), &block[16..], |_| 0);
    }
}

struct Q5K;

impl Blocks for Q5K {
    const PARTS: usize = PARTS;
    const BYTES: usize = 176;

    fn finite(block: &[u8]) -> bool {
        two_finite(block)
    }

    #[inline(always)]
    fn part(block: &[u8], part: usize, out: &mut [f32; PART]) {
        let high: [u8; PART] = array(&block[16..]);
        k(block, (part, out), &block[48..], |at| i32::from(high[at] >> part & 1) << 4);
    }
}

struct Q6K;

impl Blocks for Q6K {
    const PARTS: usize = PARTS;
    const BYTES: usize = 210;

    fn finite(block: &[u8]) -> bool {
        scale(&block[208..]).is_finite()
    }

    #[inline(always)]
    fn part(block: &[u8], part: usize, out: &mut [f32; PART]) {
        // Two halves of 128; in each, four rows of 32, the halves of which have scales.
        let (half, row) = (part / 4, part % 4);
        let low: [u8; PART] = array(&block[half * 64 + row % 2 * PART..]);
        let high: [u8; PART] = array(&block[128 + half * PART..]);
        let scales: [u8; 2] = array(&block[192 + half * 8 + row * 2..]);
        let d = scale(&block[208..]);
        let scales = scales.map(|scale| d * float(i32::from(scale.cast_signed())));
        for (at, out) in out.iter_mut().enumerate() {
            let lower = i32::from(low[at] >> (row / 2 * 4) & 15);
            let upper = i32::from(high[at] >> (2 * row) & 3);
            *out = scales[at / 16] * float((lower | upper << 4) - 32);
        }
    }
}

struct Mxfp4;

impl Blocks for Mxfp4 {
    const BYTES: usize = 1 + BLOCK_BYTES;

    /// Twelve times half the power is finite then.
    fn finite(block: &[u8]) -> bool {
        block[0] < 250
    }

    #[inline(always)]
    fn part(block: &[u8], _: usize, out: &mut [f32; PART]) {
        let d = half_power(block[0]);
        of_halves(&block[1..], out, |_, code| float(TWICE[code as usize & 15]) * d);
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
