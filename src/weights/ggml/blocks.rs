//! Blocks of ggml's quantised types, in parts that vector instructions are made of: codes as bytes
//! first, and each of these as a number then.

use std::marker::PhantomData;

use super::half_precision::single;
use crate::weights::e2m1::{BLOCK_BYTES, TWICE, half_power};
use crate::weights::vectors::{CODES, Then, Vectors, WithVectors, with_vectors};

/// Numbers of a part: what shares a scale, or more of them.
pub const PART: usize = CODES;

/// Scales of all parts of a block, and minima where it has them.
pub trait Scales {
    /// Those of a block.
    fn of(block: &[u8]) -> Self;
    /// Whether those of a block are finite numbers.
    fn finite(block: &[u8]) -> bool;
}

/// A quantised type.
pub trait Blocks {
    /// Parts of a block.
    const PARTS: usize = 1;
    /// Bytes of a block.
    const BYTES: usize;
    /// What its codes are multiplied with.
    type Scales: Scales;
    /// The numbers of a part of a block with these scales.
    fn part<V: Vectors>(
        v: V,
        block: &[u8],
        scales: &Self::Scales,
        part: usize,
        out: &mut [f32; PART],
    );
}

/// Numbers of a row from a first one on, with the instructions that the machine has.
pub fn read<B: Blocks>(row: &[u8], first: usize, out: &mut [f32]) {
    with_vectors(Read { blocks: PhantomData::<B>, row, first, out });
}

struct Read<'a, B> {
    blocks: PhantomData<B>,
    row: &'a [u8],
    first: usize,
    out: &'a mut [f32],
}

impl<B: Blocks> WithVectors for Read<'_, B> {
    #[inline(always)]
    fn work<V: Vectors>(self, v: V) {
        let Self { row, first, out, .. } = self;
        let size = PART * B::PARTS;
        let bytes = &row[first / size * B::BYTES..];
        // What a block was begun with elsewhere, whole blocks, and the begin of one.
        let begun = first % size;
        let before = if begun == 0 { 0 } else { (size - begun).min(out.len()) };
        let (before, rest) = out.split_at_mut(before);
        let bytes_of_whole = if before.is_empty() { bytes } else { &bytes[B::BYTES..] };
        let (whole, after) = rest.split_at_mut(rest.len() / size * size);
        let bytes_after = &bytes_of_whole[whole.len() / size * B::BYTES..];
        let blocks = bytes_of_whole.chunks_exact(B::BYTES);
        for (block, out) in blocks.zip(whole.chunks_exact_mut(size)) {
            let scales = B::Scales::of(block);
            let (out, _) = out.as_chunks_mut();
            if let ([out], 1) = (&mut *out, B::PARTS) {
                B::part(v, block, &scales, 0, out);
                continue;
            }
            // Two at once: their codes lie in the same bytes.
            for (pair, [first, second]) in out.as_chunks_mut().0.iter_mut().enumerate() {
                B::part(v, block, &scales, 2 * pair, first);
                B::part(v, block, &scales, 2 * pair + 1, second);
            }
        }
        for (block, first, out) in [(bytes, begun, before), (bytes_after, 0, after)] {
            let (mut place, mut rest) = (first, out);
            while !rest.is_empty() {
                let skipped = place % PART;
                let here = (PART - skipped).min(rest.len());
                let (now, more) = rest.split_at_mut(here);
                let mut part = [0.0; PART];
                B::part(v, block, &B::Scales::of(block), place / PART, &mut part);
                now.copy_from_slice(&part[skipped..][..here]);
                (place, rest) = (place + here, more);
            }
        }
    }
}

#[inline(always)]
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a block has all its bytes")
}

/// The f16 at the beginning of some bytes.
#[inline(always)]
pub(super) fn scale(bytes: &[u8]) -> f32 {
    single(u16::from_le_bytes(array(bytes)))
}

/// Two of them.
#[inline(always)]
pub(super) fn two_scales(bytes: &[u8]) -> [f32; 2] {
    [scale(bytes), scale(&bytes[2..])]
}

/// Whether both are finite.
pub(super) fn two_finite(block: &[u8]) -> bool {
    two_scales(block).iter().all(|scale| scale.is_finite())
}

/// One scale, at the beginning of a block.
pub struct Scale(f32);

impl Scales for Scale {
    #[inline(always)]
    fn of(block: &[u8]) -> Self {
        Self(scale(block))
    }

    fn finite(block: &[u8]) -> bool {
        scale(block).is_finite()
    }
}

/// A scale and a minimum, at the beginning of a block.
pub struct ScaleAndMinimum([f32; 2]);

impl Scales for ScaleAndMinimum {
    #[inline(always)]
    fn of(block: &[u8]) -> Self {
        Self(two_scales(block))
    }

    fn finite(block: &[u8]) -> bool {
        two_finite(block)
    }
}

/// Half of a power of two, whose exponent is the first byte of a block.
pub struct HalfPower(f32);

impl Scales for HalfPower {
    #[inline(always)]
    fn of(block: &[u8]) -> Self {
        Self(half_power(block[0]))
    }

    /// Twelve times half the power is finite then.
    fn finite(block: &[u8]) -> bool {
        block[0] < 250
    }
}

/// Four bits, and one scale.
pub struct Q4_0;

impl Blocks for Q4_0 {
    const BYTES: usize = 18;
    type Scales = Scale;

    #[inline(always)]
    fn part<V: Vectors>(v: V, block: &[u8], Scale(d): &Scale, _: usize, out: &mut [f32; PART]) {
        let codes = v.less(v.halves(array(&block[2..])), 8);
        v.write(codes, [*d; 2], Then::Nothing, out);
    }
}

/// Four bits, a scale and a minimum.
pub struct Q4_1;

impl Blocks for Q4_1 {
    const BYTES: usize = 20;
    type Scales = ScaleAndMinimum;

    #[inline(always)]
    fn part<V: Vectors>(
        v: V,
        block: &[u8],
        scales: &ScaleAndMinimum,
        _: usize,
        out: &mut [f32; PART],
    ) {
        let ScaleAndMinimum([d, m]) = *scales;
        v.write(v.halves(array(&block[4..])), [d; 2], Then::Add(m), out);
    }
}

/// Five bits, and one scale.
pub struct Q5_0;

impl Blocks for Q5_0 {
    const BYTES: usize = 22;
    type Scales = Scale;

    #[inline(always)]
    fn part<V: Vectors>(v: V, block: &[u8], Scale(d): &Scale, _: usize, out: &mut [f32; PART]) {
        let bits = u32::from_le_bytes(array(&block[2..]));
        let codes = v.or(v.halves(array(&block[6..])), v.sixteens(bits));
        v.write(v.less(codes, 16), [*d; 2], Then::Nothing, out);
    }
}

/// Five bits, a scale and a minimum.
pub struct Q5_1;

impl Blocks for Q5_1 {
    const BYTES: usize = 24;
    type Scales = ScaleAndMinimum;

    #[inline(always)]
    fn part<V: Vectors>(
        v: V,
        block: &[u8],
        scales: &ScaleAndMinimum,
        _: usize,
        out: &mut [f32; PART],
    ) {
        let ScaleAndMinimum([d, m]) = *scales;
        let bits = u32::from_le_bytes(array(&block[4..]));
        let codes = v.or(v.halves(array(&block[8..])), v.sixteens(bits));
        v.write(codes, [d; 2], Then::Add(m), out);
    }
}

/// Eight bits, and one scale.
pub struct Q8_0;

impl Blocks for Q8_0 {
    const BYTES: usize = 34;
    type Scales = Scale;

    #[inline(always)]
    fn part<V: Vectors>(v: V, block: &[u8], Scale(d): &Scale, _: usize, out: &mut [f32; PART]) {
        v.write(v.bytes(array(&block[2..])), [*d; 2], Then::Nothing, out);
    }
}

/// Microscaling floats of four bits, and a power of two.
pub struct Mxfp4;

impl Blocks for Mxfp4 {
    const BYTES: usize = 1 + BLOCK_BYTES;
    type Scales = HalfPower;

    #[inline(always)]
    fn part<V: Vectors>(
        v: V,
        block: &[u8],
        HalfPower(d): &HalfPower,
        _: usize,
        out: &mut [f32; PART],
    ) {
        let codes = v.look_up(v.halves(array(&block[1..])), TWICE);
        v.write(codes, [*d; 2], Then::Nothing, out);
    }
}
