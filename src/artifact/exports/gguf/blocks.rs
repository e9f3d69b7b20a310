//! Formats of numbers in blocks, with the bytes that ggml's own quantisers write where no
//! importance matrix is given (`quantize_row_*_ref` in `ggml-quants.c`): sums are taken in the same
//! order, in f32. The reader of the same blocks is `weights::ggml`.

use half::f16;
use rayon::prelude::*;

use super::fit::{FitWithMinimum, fit_symmetric, nearest};

/// Numbers that share a scale in the older formats (ggml: `QK8_0` and others).
const SMALL: usize = 32;
/// Numbers of a block of the K-quants (ggml: `QK_K`).
const LARGE: usize = 256;
/// Parts of a large block that share a scale, where they have a minimum, too.
const PARTS: usize = LARGE / SMALL;
/// The same where they have none.
const FINE_PARTS: usize = 16;
/// Largest code of scales and minima of six bits.
const SIX_BITS: f32 = 63.0;
/// Half way between the largest f16 and the next, which rounds to infinity.
const F16_LIMIT: f32 = 65520.0;

/// A format of blocks.
#[derive(Debug)]
pub struct BlockFormat {
    /// The number of the type in ggml (`enum ggml_type`).
    pub kind: u32,
    /// Numbers of a block.
    pub block: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Below this size of its numbers, every scale is a finite f16.
    pub limit: f32,
    encode: fn(&[f32], &mut [u8]),
}

/// By their number: functions are not compared.
impl PartialEq for BlockFormat {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for BlockFormat {}

impl BlockFormat {
    /// The bytes of whole blocks.
    pub fn encode(&self, values: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; values.len() / self.block * self.bytes];
        let blocks = bytes.par_chunks_mut(self.bytes).zip(values.par_chunks(self.block));
        blocks.for_each(|(bytes, values)| (self.encode)(values, bytes));
        bytes
    }
}

const fn format(
    kind: u32,
    (block, bytes): (usize, usize),
    largest_code: f32,
    encode: fn(&[f32], &mut [u8]),
) -> BlockFormat {
    BlockFormat { kind, block, bytes, limit: F16_LIMIT * largest_code, encode }
}

pub static Q5_0: BlockFormat = format(6, (SMALL, 22), 16.0, q5_0);
/// Its least number is an f16 itself.
pub static Q5_1: BlockFormat = format(7, (SMALL, 24), 1.0, q5_1);
pub static Q8_0: BlockFormat = format(8, (SMALL, 34), 127.0, q8_0);
// Scales of scales: what is fitted stays within twice the numbers.
pub static Q4_K: BlockFormat = format(12, (LARGE, 144), 31.0, q4_k);
pub static Q5_K: BlockFormat = format(13, (LARGE, 176), 31.0, q5_k);
pub static Q6_K: BlockFormat = format(14, (LARGE, 210), 1024.0, q6_k);

fn put_f16(bytes: &mut [u8], value: f32) -> f32 {
    let short = f16::from_f32(value);
    bytes[..2].copy_from_slice(&short.to_le_bytes());
    short.to_f32()
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// A number without its fraction, as C converts it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // codes are below 256
fn whole(value: f32) -> u8 {
    value as u8
}

/// The scale is the largest number over 127; numbers are multiplied with its inverse in f32 and
/// rounded, halves away from zero. Only the stored scale is rounded to f16.
fn q8_0(values: &[f32], bytes: &mut [u8]) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    put_f16(bytes, scale);
    for (byte, value) in bytes[2..].iter_mut().zip(values) {
        #[expect(clippy::cast_possible_truncation)] // between -127 and 127
        let rounded = (value * inverse).round() as i8;
        *byte = rounded.to_le_bytes()[0];
    }
}

/// Codes of five bits: lower halves of two in a byte, and the fifth bits of all in four.
fn put_five_bits(codes: [u8; SMALL], bytes: &mut [u8]) {
    let fifth = codes
        .iter()
        .enumerate()
        .fold(0_u32, |bits, (at, code)| bits | u32::from(code >> 4 & 1) << at);
    bytes[..4].copy_from_slice(&fifth.to_le_bytes());
    let (first, second) = codes.split_at(SMALL / 2);
    for (byte, (low, high)) in bytes[4..].iter_mut().zip(first.iter().zip(second)) {
        *byte = low & 15 | (high & 15) << 4;
    }
}

/// The number of the largest size gets the code 0, which stands for −16 scales.
fn q5_0(values: &[f32], bytes: &mut [u8]) {
    let farther = |far: f32, value: &f32| if value.abs() > far.abs() { *value } else { far };
    let scale = values.iter().fold(0.0, farther) / -16.0;
    put_f16(bytes, scale);
    let inverse = inverse(scale);
    let code = |at: usize| whole(values[at] * inverse + 16.5).min(31);
    put_five_bits(std::array::from_fn(code), &mut bytes[2..]);
}

fn q5_1(values: &[f32], bytes: &mut [u8]) {
    let least = values.iter().copied().fold(f32::MAX, f32::min);
    let most = values.iter().copied().fold(f32::MIN, f32::max);
    let scale = (most - least) / 31.0;
    put_f16(bytes, scale);
    put_f16(&mut bytes[2..], least);
    let inverse = inverse(scale);
    let code = |at: usize| whole((values[at] - least) * inverse + 0.5);
    put_five_bits(std::array::from_fn(code), &mut bytes[4..]);
}

/// What the formats with scales and minima of parts have in common: `d`, `dmin`, the codes of both,
/// six bits each, and those of the numbers.
fn with_minima(values: &[f32], fit: FitWithMinimum, bytes: &mut [u8]) -> [u8; LARGE] {
    let mut codes = [0; LARGE];
    let (mut scales, mut minima) = ([0.0; PARTS], [0.0; PARTS]);
    let (parts, _) = values.as_chunks::<SMALL>();
    for (part, values) in parts.iter().enumerate() {
        let codes = &mut codes[part * SMALL..][..SMALL];
        [scales[part], minima[part]] = fit.of(values, codes);
    }
    // Of two zeros the first one, as in C: `max` may take either.
    let larger = |largest, one: &f32| if *one > largest { *one } else { largest };
    let largest = |all: &[f32]| all.iter().fold(0.0_f32, larger);
    let (scale, minimum) = (largest(&scales), largest(&minima));
    let to_codes = |all: [f32; PARTS], largest: f32| {
        let inverse = if largest > 0.0 { SIX_BITS / largest } else { 0.0 };
        // Less than nothing would come to lie at the upper end: it is an unsigned byte there.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        all.map(|one| (nearest(inverse * one) as u8).min(63))
    };
    let (scales, minima) = (to_codes(scales, scale), to_codes(minima, minimum));
    let d = put_f16(bytes, scale / SIX_BITS);
    let d_minimum = put_f16(&mut bytes[2..], minimum / SIX_BITS);
    bytes[4..16].copy_from_slice(&six_bits(scales, minima));
    // With scales as they are stored, other codes may be nearer.
    for (part, values) in parts.iter().enumerate() {
        let scale = d * f32::from(scales[part]);
        if scale == 0.0 {
            continue;
        }
        let minimum = d_minimum * f32::from(minima[part]);
        for (code, value) in codes[part * SMALL..].iter_mut().zip(values) {
            *code = fit.code((value + minimum) / scale);
        }
    }
    codes
}

/// Scales and minima of eight parts in twelve bytes: the upper two bits of the last four stand
/// above those of the first four.
fn six_bits(scales: [u8; PARTS], minima: [u8; PARTS]) -> [u8; 12] {
    std::array::from_fn(|at| match at {
        0..4 => scales[at] | scales[at + 4] >> 4 << 6,
        4..8 => minima[at - 4] | minima[at] >> 4 << 6,
        _ => scales[at - 4] & 15 | (minima[at - 4] & 15) << 4,
    })
}

/// The lower four bits: those of two neighbouring parts share bytes.
fn put_halves(codes: &[u8; LARGE], bytes: &mut [u8]) {
    let (pairs, _) = codes.as_chunks::<{ 2 * SMALL }>();
    for (pair, bytes) in pairs.iter().zip(bytes.chunks_exact_mut(SMALL)) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = pair[at] & 15 | (pair[at + SMALL] & 15) << 4;
        }
    }
}

fn q4_k(values: &[f32], bytes: &mut [u8]) {
    let fit = FitWithMinimum { largest: 15, first: -1.0, steps: 20 };
    let codes = with_minima(values, fit, bytes);
    put_halves(&codes, &mut bytes[16..]);
}

fn q5_k(values: &[f32], bytes: &mut [u8]) {
    let fit = FitWithMinimum { largest: 31, first: -0.5, steps: 15 };
    let codes = with_minima(values, fit, bytes);
    for (at, byte) in bytes[16..48].iter_mut().enumerate() {
        *byte = (0..PARTS).fold(0, |bits, part| bits | (codes[part * SMALL + at] >> 4) << part);
    }
    put_halves(&codes, &mut bytes[48..]);
}

/// Parts of 16 with a scale of eight bits each, and no minimum.
fn q6_k(values: &[f32], bytes: &mut [u8]) {
    let mut codes = [0_u8; LARGE];
    let mut scales = [0.0_f32; FINE_PARTS];
    let (parts, _) = values.as_chunks::<{ LARGE / FINE_PARTS }>();
    let (code_parts, _) = codes.as_chunks_mut::<{ LARGE / FINE_PARTS }>();
    for ((scale, values), codes) in scales.iter_mut().zip(parts).zip(code_parts.iter_mut()) {
        *scale = fit_symmetric(values, codes);
    }
    let farther = |far: f32, scale: &f32| if scale.abs() > far.abs() { *scale } else { far };
    let largest = scales.iter().fold(0.0, farther);
    bytes.fill(0);
    if largest.abs() < super::fit::NOTHING {
        return;
    }
    let inverse = -128.0 / largest;
    let d = put_f16(&mut bytes[208..], 1.0 / inverse);
    for (part, (values, codes)) in parts.iter().zip(code_parts).enumerate() {
        #[expect(clippy::cast_possible_truncation)] // the largest is -128
        let scale = nearest(inverse * scales[part]).min(127) as i8;
        bytes[192 + part] = scale.to_le_bytes()[0];
        let scale = d * f32::from(scale);
        if scale == 0.0 {
            continue;
        }
        for (code, value) in codes.iter_mut().zip(values) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 63
            let nearest = (nearest(value / scale).clamp(-32, 31) + 32) as u8;
            *code = nearest;
        }
    }
    put_six_bits(&codes, bytes);
}

/// Codes of six bits: halves of 128, in each four rows of 32, of which the first and the third, and
/// the second and the fourth, share bytes of lower bits, and all four those of upper bits.
fn put_six_bits(codes: &[u8; LARGE], bytes: &mut [u8]) {
    let (halves, _) = codes.as_chunks::<{ LARGE / 2 }>();
    let (low, high) = bytes.split_at_mut(128);
    for (number, half) in halves.iter().enumerate() {
        for at in 0..SMALL {
            let row = |row: usize| half[row * SMALL + at];
            low[number * 64 + at] = row(0) & 15 | (row(2) & 15) << 4;
            low[number * 64 + SMALL + at] = row(1) & 15 | (row(3) & 15) << 4;
            high[number * SMALL + at] =
                (0..4).fold(0, |bits, number| bits | row(number) >> 4 << (2 * number));
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::weights::ggml::TensorType;

    const ALL: [&BlockFormat; 6] = [&Q5_0, &Q5_1, &Q8_0, &Q4_K, &Q5_K, &Q6_K];

    /// What reads it.
    fn kind(format: &BlockFormat) -> &'static TensorType {
        TensorType::find(format.kind).unwrap()
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// Rows of many kinds, with what `ggml_quantize_chunk` makes of them
    /// (`tests/reference/gguf_quantised.py`).
    #[test]
    fn every_format_has_the_bytes_of_ggml() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/gguf_quantised.json");
        let text = std::fs::read_to_string(path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bytes = |value: &serde_json::Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let rows = json["rows"].as_object().unwrap();
        assert!(rows.len() > 10);
        for (name, row) in rows {
            let values = floats(&bytes(&row["values"]));
            for format in ALL {
                let (found, format) = (format.encode(&values), kind(format).name);
                assert_eq!(found, bytes(&row[format]), "{format} of {name}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same_format() {
        for format in ALL {
            let kind = kind(format);
            assert_eq!((kind.block, kind.bytes), (format.block, format.bytes));
            let values: Vec<f32> = (0..256_u16).map(|i| (f32::from(i) * 0.37).sin()).collect();
            let read = kind.values(&format.encode(&values));
            let worst = values.iter().zip(&read).fold(0.0_f32, |worst, (a, b)| worst.max(a - b));
            assert!(worst > 0.0 && worst < 0.12, "{}: {worst}", kind.name);
        }
    }

    /// The first number that is refused is not needed: just below it, all scales are finite.
    #[test]
    fn below_the_limit_every_scale_is_finite() {
        for format in ALL {
            let kind = kind(format);
            let most = format.limit.next_down();
            let rows = [vec![most; 256], vec![-most; 256], [most, -most].repeat(128)];
            for row in rows {
                assert_eq!(kind.not_finite(&format.encode(&row)), 0, "{}", kind.name);
            }
        }
    }

    #[test]
    fn halves_are_rounded_away_from_zero_in_eight_bits() {
        assert_eq!(Q8_0.encode(&[0.0; 32]), [0; 34]);
        let mut halves = vec![0.0; 32];
        halves[..4].copy_from_slice(&[127.0, 2.5, -2.5, 0.5]);
        let bytes = Q8_0.encode(&halves);
        assert_eq!(&bytes[2..6], [127_i8, 3, -3, 1].map(|i| i.to_le_bytes()[0]));
    }
}
