//! Four-bit codes in blocks with a scale for each, the scales perhaps in eight bits themselves, as
//! bitsandbytes keeps matrices (Dettmers et al. 2023, QLoRA). Reference: bitsandbytes 0.50.2 on the
//! CPU, `quantize_4bit` and `quantize_blockwise`.

use std::borrow::Cow;
use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use crate::error::Result;
use crate::files::Digest;
use crate::weights::coded_matrix::CodedMatrix;
use crate::weights::dynamic::SIGNED;
use crate::weights::vectors::{CODES, First, Table, Vectors, WithVectors, pair, with_vectors};
use crate::weights::{HEADER, Packed, Packing, SpillFile, StoredBytes};

/// Numbers of a block that is made here.
pub const BLOCK: usize = 64;
/// Scales of a block that is made here.
pub const NESTED_BLOCK: usize = 256;
/// Blocks that a task codes at least.
const TASK_BLOCKS: usize = 256;
/// The scale of numbers so small that they have no inverse.
const LEAST: f32 = 1e-38;

/// What four bits stand for.
pub type CodeBook = [f32; 16];

/// NF4: quantiles of the normal distribution.
pub const NORMAL: CodeBook = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A matrix `[rows, columns]` in blocks that follow each other row after row.
#[derive(Debug)]
pub struct Blockwise {
    shape: [usize; 2],
    /// The first number of each byte is in its upper four bits.
    codes: StoredBytes,
    /// The byte of all codes that they begin with, and the first row.
    begin: usize,
    first: usize,
    block: usize,
    scales: Arc<Scales>,
    /// What codes stand for.
    book: Table,
}

/// The scale of each block.
#[derive(Debug)]
pub enum Scales {
    /// As they are.
    Plain(Vec<f32>),
    /// In eight bits, in blocks of their own.
    Nested(NestedScales),
}

/// `map[code] · absmax + offset`.
#[derive(Debug)]
pub struct NestedScales {
    /// A code for each scale.
    pub codes: Vec<u8>,
    /// Scales of a block.
    pub block: usize,
    /// The largest size of each block, without the offset.
    pub absmax: Vec<f32>,
    /// The mean of the scales.
    pub offset: f32,
    /// What eight bits stand for.
    pub map: Arc<[f32; 256]>,
}

/// Bytes of a matrix as it is made here.
pub fn bytes([rows, columns]: [usize; 2]) -> u64 {
    (rows * columns).div_ceil(2) as u64 + scale_bytes([rows, columns])
}

/// Those of its scales.
pub fn scale_bytes([rows, columns]: [usize; 2]) -> u64 {
    let scales = (rows * columns).div_ceil(BLOCK);
    let floats = scales.div_ceil(NESTED_BLOCK) + 1; // and the offset
    (scales + floats * size_of::<f32>()) as u64
}

impl Blockwise {
    /// Numbers rounded to [`NORMAL`] in blocks of [`BLOCK`], their scales in eight bits.
    pub fn normal(numbers: &[f32], shape: [usize; 2]) -> Self {
        assert_eq!(numbers.len(), shape[0] * shape[1], "a matrix of {} rows", shape[0]);
        let mut codes = vec![0; numbers.len().div_ceil(2)];
        let mut absmax = vec![0.0; numbers.len().div_ceil(BLOCK)];
        let blocks = codes.par_chunks_mut(BLOCK / 2).zip(numbers.par_chunks(BLOCK));
        let blocks = blocks.zip(&mut absmax).with_min_len(TASK_BLOCKS);
        blocks.for_each(|((codes, numbers), absmax)| {
            *absmax = Arch::new().dispatch(|| code_block(numbers, codes));
        });
        let scales = Scales::Nested(NestedScales::of(&absmax));
        Self::new(shape, codes, (BLOCK, scales), &NORMAL)
    }

    /// Of codes that someone else made; there are as many codes and scales as the shape asks for.
    pub fn new(
        shape: [usize; 2],
        codes: Vec<u8>,
        (block, scales): (usize, Scales),
        book: &CodeBook,
    ) -> Self {
        let (codes, scales) = (codes.into(), Arc::new(scales));
        Self { shape, codes, begin: 0, first: 0, block, scales, book: Table::new(*book) }
    }

    /// Some of the rows, with these codes, of which the first has this place among all bytes.
    fn part(&self, codes: StoredBytes, begin: usize, (first, rows): (usize, usize)) -> Self {
        let (shape, first) = ([rows, self.shape[1]], self.first + first);
        let (scales, block, book) = (self.scales.clone(), self.block, self.book);
        Self { shape, codes, begin, first, block, scales, book }
    }

    /// Codes, and their scales: eight bits each, what those are multiplied with, and the offset; or
    /// the scales as they are. Numbers are little-endian.
    pub fn bytes(&self) -> Vec<Cow<'_, [u8]>> {
        let floats = |all: &[f32]| Cow::Owned(all.iter().flat_map(|x| x.to_le_bytes()).collect());
        let codes = self.codes.get(0, self.codes.size());
        match &*self.scales {
            Scales::Plain(scales) => vec![codes, floats(scales)],
            Scales::Nested(nested) => {
                let scales = Cow::Borrowed(&nested.codes[..]);
                vec![codes, scales, floats(&nested.absmax), floats(&[nested.offset])]
            }
        }
    }

    /// What the codes of scales stand for, if they have eight bits.
    pub fn map(&self) -> Option<&[f32; 256]> {
        match &*self.scales {
            Scales::Plain(_) => None,
            Scales::Nested(nested) => Some(&nested.map),
        }
    }
}

/// Numbers from a place of a matrix on, whose codes these bytes are.
struct Read<'a> {
    of: &'a Blockwise,
    place: usize,
    bytes: &'a [u8],
    target: &'a mut [f32],
}

impl WithVectors for Read<'_> {
    #[inline(always)]
    fn work<V: Vectors>(self, vectors: V) {
        let Self { of, mut place, mut bytes, target: mut rest } = self;
        let mut block = place / of.block;
        let mut left = of.block - place % of.block;
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(left.min(rest.len()));
            let number = (&of.book, of.scales.of_block(block));
            let from_second = place % 2 == 1 && !part.is_empty();
            bytes = decode(vectors, number, from_second, bytes, part);
            (place, rest) = (place + left, after);
            (block, left) = (block + 1, of.block);
        }
    }
}

/// Numbers of a block, perhaps from the second one of a byte on; returns the bytes that are not
/// read, or not to the end.
#[inline(always)]
fn decode<'a, V: Vectors>(
    vectors: V,
    (book, scale): (&Table, f32),
    from_second: bool,
    mut bytes: &'a [u8],
    target: &mut [f32],
) -> &'a [u8] {
    let (first, target) = target.split_at_mut(usize::from(from_second));
    if let [first] = first {
        *first = pair(book, bytes[0], First::Upper)[1] * scale;
        bytes = &bytes[1..];
    }
    let (whole, rest) = target.as_chunks_mut();
    for (numbers, bytes) in whole.iter_mut().zip(bytes.as_chunks().0) {
        vectors.numbers((book, scale), *bytes, First::Upper, numbers);
    }
    bytes = &bytes[CODES / 2 * whole.len()..];
    for (place, target) in rest.iter_mut().enumerate() {
        *target = pair(book, bytes[place / 2], First::Upper)[place % 2] * scale;
    }
    &bytes[rest.len() / 2..]
}

impl Scales {
    #[inline(always)]
    fn of_block(&self, block: usize) -> f32 {
        match self {
            Self::Plain(scales) => scales[block],
            Self::Nested(scales) => scales.of_block(block),
        }
    }
}

impl CodedMatrix for Blockwise {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn read(&self, row: usize, first: usize, target: &mut [f32]) {
        let place = (self.first + row) * self.shape[1] + first;
        let count = (place % 2 + target.len()).div_ceil(2);
        let bytes = self.codes.get(place / 2 - self.begin, count);
        with_vectors(Read { of: self, place, bytes: &bytes, target });
    }

    fn in_memory(&self, first: usize, rows: usize) -> Option<Arc<dyn CodedMatrix>> {
        let place = |row: usize| (self.first + row) * self.shape[1];
        let (begin, end) = (place(first) / 2, place(first + rows).div_ceil(2));
        let codes = self.codes.in_memory(begin - self.begin, end - begin)?;
        Some(Arc::new(self.part(codes.into(), begin, (first, rows))))
    }

    fn packed(&self) -> Option<Vec<Packed>> {
        let ([rows, columns], block) = (self.shape, self.block);
        let codes = self.codes.get(0, self.codes.size());
        // Blocks of some rows may begin anywhere.
        if self.first > 0 || codes.len() != (rows * columns).div_ceil(2) {
            return None;
        }
        let split = HEADER + codes.len().div_ceil(size_of::<u32>());
        let nested = match &*self.scales {
            Scales::Plain(_) => None,
            Scales::Nested(nested) => Some(nested.block),
        };
        let packing = Packing::Book { block, nested };
        let mut packed = Packed::new(packing, [rows * columns, split])?;
        packed.extend(&codes);
        packed.scales.extend(self.book.numbers());
        match &*self.scales {
            Scales::Plain(scales) => packed.scales.extend(scales),
            Scales::Nested(NestedScales { codes, absmax, offset, map, .. }) => {
                packed.extend(codes);
                packed.scales.extend(map.iter().chain([offset]).chain(absmax));
            }
        }
        Some(vec![packed])
    }

    fn spilled(&self, file: &Arc<SpillFile>) -> Result<Arc<dyn CodedMatrix>> {
        let codes = self.codes.spilled(file)?;
        Ok(Arc::new(self.part(codes, self.begin, (0, self.shape[0]))))
    }

    fn digest(&self) -> Option<Digest> {
        let bytes = self.bytes();
        Some(Digest::of_parts(&bytes.iter().map(|part| &part[..]).collect::<Vec<_>>()))
    }
}

/// The codes of a block; returns the largest size of its numbers.
#[inline(always)]
fn code_block(numbers: &[f32], codes: &mut [u8]) -> f32 {
    let absmax = numbers.iter().fold(0.0_f32, |most, number| number.abs().max(most));
    let scale = absmax.max(LEAST);
    let mut scaled = [0.0; BLOCK];
    let whole = numbers.len() == BLOCK;
    for (scaled, number) in scaled.iter_mut().zip(numbers) {
        // The last block is divided, where the others are multiplied by the inverse.
        *scaled = if whole { number * (1.0 / scale) } else { number / scale };
    }
    let mut found = [0_u32; BLOCK];
    for pair in NORMAL.array_windows::<2>() {
        let middle = (pair[0] + pair[1]) / 2.0;
        for (found, scaled) in found.iter_mut().zip(&scaled) {
            *found += u32::from(*scaled > middle);
        }
    }
    for (byte, pair) in codes.iter_mut().zip(found.as_chunks::<2>().0) {
        #[expect(clippy::cast_possible_truncation)] // no more than 15
        let [first, second] = pair.map(|code| code as u8);
        *byte = (first << 4) | second;
    }
    if whole { absmax } else { scale }
}

impl NestedScales {
    /// Of scales as they are.
    fn of(scales: &[f32]) -> Self {
        let offset = mean(scales);
        let mut codes = vec![0; scales.len()];
        let mut absmax = Vec::new();
        for (codes, scales) in codes.chunks_mut(NESTED_BLOCK).zip(scales.chunks(NESTED_BLOCK)) {
            let largest = scales.iter().fold(0.0_f32, |most, x| (x - offset).abs().max(most));
            absmax.push(largest);
            if largest == 0.0 {
                continue;
            }
            let inverse = 1.0 / largest;
            for (code, scale) in codes.iter_mut().zip(scales) {
                *code = SIGNED.code((scale - offset) * inverse);
            }
        }
        Self { codes, block: NESTED_BLOCK, absmax, offset, map: SIGNED.numbers.clone() }
    }

    #[inline(always)]
    fn of_block(&self, block: usize) -> f32 {
        self.map[usize::from(self.codes[block])] * self.absmax[block / self.block] + self.offset
    }
}

/// The mean, summed in the order of torch on one thread of an x86 CPU (`cascade_sum` of its
/// `SumKernel.cpp`): in another order its last bits, and codes with them, would be others.
fn mean(numbers: &[f32]) -> f32 {
    #[expect(clippy::cast_precision_loss)] // as torch has it
    let count = numbers.len() as f32;
    let sum = if numbers.len() < 8 { cascade::<1, 4>(numbers) } else { cascade::<8, 32>(numbers) };
    sum / count
}

/// A sum by vectors of `LANES`, four of which make a row of `WIDTH`.
fn cascade<const LANES: usize, const WIDTH: usize>(numbers: &[f32]) -> f32 {
    const LEVELS: usize = 4;
    let (rows, left) = numbers.as_chunks::<WIDTH>();
    let (vectors, single) = left.as_chunks::<LANES>();
    let power = (rows.len().next_power_of_two().trailing_zeros() as usize / LEVELS).max(4);
    let mut sums = [[0.0_f32; WIDTH]; LEVELS];
    let add = |sum: &mut [f32], more: &[f32]| sum.iter_mut().zip(more).for_each(|(a, b)| *a += b);
    let whole = rows.len() >> power << power;
    for (done, row) in (1..).zip(&rows[..whole]) {
        add(&mut sums[0], row);
        // A level that is full goes into the next.
        let mut level = 1;
        while level < LEVELS && done % (1_usize << (power * level)) == 0 {
            let full = std::mem::replace(&mut sums[level - 1], [0.0; WIDTH]);
            add(&mut sums[level], &full);
            level += 1;
        }
    }
    rows[whole..].iter().for_each(|row| add(&mut sums[0], row));
    let [mut all, more @ ..] = sums;
    more.iter().for_each(|level| add(&mut all, level));
    let (first, others) = all.split_at_mut(LANES);
    vectors.iter().for_each(|vector| add(first, vector));
    others.chunks_exact(LANES).for_each(|vector| add(first, vector));
    let start = single.iter().fold(0.0, |sum, number| sum + number);
    first.iter().fold(start, |sum, number| sum + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_any_place() {
        let numbers: Vec<f32> = (0..7_u16 * 31).map(|x| f32::from(x % 29) - 14.0).collect();
        let matrix = Blockwise::normal(&numbers, [7, 31]);
        let mut row = [0.0; 31];
        for number in 0..7 {
            matrix.read(number, 0, &mut row);
            for (first, count) in [(0, 1), (1, 1), (3, 7), (4, 27), (30, 1), (5, 0)] {
                let mut part = vec![0.0; count];
                matrix.read(number, first, &mut part);
                assert_eq!(part, row[first..first + count], "row {number}, {first}");
            }
        }
    }

    /// A block of zeros has no scale; one whose largest number has no inverse is near zero.
    #[test]
    fn blocks_without_a_scale_are_zero_or_near_it() {
        let mut numbers = vec![0.0; 3 * BLOCK];
        numbers[BLOCK] = 1.0;
        numbers[2 * BLOCK] = 1e-45;
        let read = crate::weights::formats::dequantised(&Blockwise::normal(&numbers, [3, BLOCK]));
        assert!(read[..BLOCK].iter().all(|number| *number == 0.0));
        assert!((read[BLOCK] - 1.0).abs() < 0.01 && read[2 * BLOCK].abs() < 0.01);
    }
}
