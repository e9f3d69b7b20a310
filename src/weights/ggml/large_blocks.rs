//! Blocks of ggml's newer types: 256 numbers in parts with scales of their own.

use super::blocks::{Blocks, PART, Scales, array, scale, two_finite, two_scales};
use crate::weights::vectors::{Then, Vectors};

/// Parts in a block (`QK_K` numbers).
const PARTS: usize = 8;

/// Scales and minima of the parts of a large block.
pub struct KScales {
    scales: [f32; PARTS],
    minima: [f32; PARTS],
}

impl Scales for KScales {
    /// They have six bits each (`get_scale_min_k4`): those of the first four parts in bytes, and
    /// those of the last in four bits and what is left of the bytes.
    #[inline(always)]
    fn of(block: &[u8]) -> Self {
        let [d, min] = two_scales(block);
        let of = |at: usize| u32::from_le_bytes(array(&block[4 + 4 * at..]));
        let [a, b, c] = [of(0), of(1), of(2)];
        let (six, four, two) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
        let scales = [a & six, c & four | a >> 2 & two];
        let minima = [b & six, c >> 4 & four | b >> 2 & two];
        Self { scales: times(d, scales), minima: times(min, minima) }
    }

    fn finite(block: &[u8]) -> bool {
        two_finite(block)
    }
}

/// A number times each of eight bytes.
#[inline(always)]
fn times(number: f32, bytes: [u32; 2]) -> [f32; PARTS] {
    let mut products = [0.0; PARTS];
    for at in 0..PARTS {
        products[at] = number * f32::from(bytes[at / 4].to_le_bytes()[at % 4]);
    }
    products
}

/// A part of 32 numbers with scale and minimum.
#[inline(always)]
fn k<V: Vectors>(v: V, of: &KScales, part: usize, (codes, out): (V::Codes, &mut [f32; PART])) {
    v.write(codes, [of.scales[part]; 2], Then::Less(of.minima[part]), out);
}

/// The lower four bits of a part of a large block, of two parts in 32 bytes.
#[inline(always)]
fn lower<V: Vectors>(v: V, bytes: &[u8], part: usize) -> V::Codes {
    v.bits(v.bytes(array(&bytes[part / 2 * PART..])), part % 2 * 4, 15)
}

/// Four bits in a large block.
pub struct Q4K;

impl Blocks for Q4K {
    const PARTS: usize = PARTS;
    const BYTES: usize = 144;
    type Scales = KScales;

    #[inline(always)]
    fn part<V: Vectors>(v: V, block: &[u8], scales: &KScales, part: usize, out: &mut [f32; PART]) {
        k(v, scales, part, (lower(v, &block[16..], part), out));
    }
}

/// Five bits in a large block.
pub struct Q5K;

impl Blocks for Q5K {
    const PARTS: usize = PARTS;
    const BYTES: usize = 176;
    type Scales = KScales;

    #[inline(always)]
    fn part<V: Vectors>(v: V, block: &[u8], scales: &KScales, part: usize, out: &mut [f32; PART]) {
        let fifth = v.up::<4>(v.bits(v.bytes(array(&block[16..])), part, 1));
        let codes = v.or(lower(v, &block[48..], part), fifth);
        k(v, scales, part, (codes, out));
    }
}

/// A scale of each half of a part.
pub struct HalvesScales([f32; 2 * PARTS]);

impl Scales for HalvesScales {
    #[inline(always)]
    fn of(block: &[u8]) -> Self {
        let (d, codes) = (scale(&block[208..]), array::<16>(&block[192..]));
        let mut scales = [0.0; 2 * PARTS];
        for (scale, code) in scales.iter_mut().zip(codes) {
            *scale = d * f32::from(code.cast_signed());
        }
        Self(scales)
    }

    fn finite(block: &[u8]) -> bool {
        scale(&block[208..]).is_finite()
    }
}

/// Six bits in a large block.
pub struct Q6K;

impl Blocks for Q6K {
    const PARTS: usize = PARTS;
    const BYTES: usize = 210;
    type Scales = HalvesScales;

    #[inline(always)]
    fn part<V: Vectors>(
        v: V,
        block: &[u8],
        HalvesScales(scales): &HalvesScales,
        part: usize,
        out: &mut [f32; PART],
    ) {
        // Two halves of 128; in each, four rows of 32, the halves of which have scales.
        let (half, row) = (part / 4, part % 4);
        let low = v.bytes(array(&block[half * 64 + row % 2 * PART..]));
        let high = v.bytes(array(&block[128 + half * PART..]));
        let codes = v.or(v.bits(low, row / 2 * 4, 15), v.up::<4>(v.bits(high, 2 * row, 3)));
        v.write(v.less(codes, 32), [scales[2 * part], scales[2 * part + 1]], Then::Nothing, out);
    }
}
