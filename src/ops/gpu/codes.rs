//! Matrices that stay codes in the memory of a GPU: one kernel writes the numbers that a product
//! takes, which are gone after it. They are those of the CPU bit for bit, rounded once where
//! products take 16 bits.

use burn::backend::DispatchTensor;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::launch::{UNITS, bytes, elem, empty};
use super::parts::{count, groups, places, takes_parts};
use super::{cube, plain};
use crate::device;
use crate::ops::from_vec;
use crate::weights::formats::CodedMatrix;
use crate::weights::{HEADER, Packed, Packing};

/// Parts that a kernel is made for at most: queries, keys and values.
const PARTS: usize = 3;

/// A byte among words, `first` being the word that they begin with.
#[cube]
fn byte(words: &[u32], first: usize, at: usize) -> u32 {
    (words[first + at / 4] >> (8 * (at % 4) as u32)) & 255
}

/// A byte with a sign.
#[cube]
fn signed(byte: u32) -> f32 {
    f32::cast_from((byte + 128) & 255) - f32::new(128.0)
}

/// Four bits that are a place in a book, times the scale of their block. Products and sums are
/// rounded one by one: what is multiplied with `one` in between is rounded before, however the two
/// operations after it are put together.
#[cube]
fn of_book(
    words: &[u32],
    scales: &[f32],
    place: usize,
    one: f32,
    #[comptime] size: usize,
    #[comptime] nested: usize,
) -> f32 {
    let code = (byte(words, HEADER, place / 2) >> (4 * (1 - place % 2) as u32)) & 15;
    let number = scales[code as usize];
    let block = place / size;
    if comptime!(nested > 0) {
        let code = byte(words, words[1] as usize, block);
        let product = scales[16 + code as usize] * scales[273 + block / comptime!(nested.max(1))];
        number * (product * one + scales[272])
    } else {
        number * scales[16 + block]
    }
}

/// Four bits that are a place in a book, times the power of two of a block of 32.
#[cube]
fn of_powers(words: &[u32], scales: &[f32], place: usize, #[comptime] halves: bool) -> f32 {
    let mut at = place / 2;
    let mut upper = place % 2;
    if comptime!(halves) {
        at = place / 32 * 16 + place % 16;
        upper = place % 32 / 16;
    }
    let code = (byte(words, HEADER, at) >> (4 * upper as u32)) & 15;
    let power = byte(words, words[1] as usize, place / 32);
    scales[code as usize] * scales[16 + power as usize]
}

/// Blocks of 32 numbers of four bits or five: the lower halves of 16 bytes come first. Of what has
/// a minimum, the product is no longer than 24 bits, and not rounded.
#[cube]
fn of_small_block(
    words: &[u32],
    scales: &[f32],
    place: usize,
    #[comptime] fifth: bool,
    #[comptime] minimum: bool,
) -> f32 {
    let (block, at) = (place / 32, place % 32);
    let above = comptime!(if fifth { 1usize } else { 0usize });
    let first = HEADER + block * comptime!(4 + above);
    let mut code = (byte(words, first + above, at % 16) >> (4 * (at / 16) as u32)) & 15;
    if comptime!(fifth) {
        code += ((words[first] >> at as u32) & 1) << 4;
    }
    if comptime!(minimum) {
        f32::cast_from(code) * scales[2 * block] + scales[2 * block + 1]
    } else {
        let middle = comptime!(if fifth { 16.0f32 } else { 8.0f32 });
        (f32::cast_from(code) - middle) * scales[block]
    }
}

/// Blocks of 256 numbers of four bits or five, in parts of 32 with scale and minimum of six bits.
/// No product is longer than 24 bits, so that none is rounded.
#[cube]
fn of_large_block(words: &[u32], scales: &[f32], place: usize, #[comptime] fifth: bool) -> f32 {
    let (block, part, at) = (place / 256, place % 256 / 32, place % 32);
    let first = HEADER + block * comptime!(if fifth { 43usize } else { 35usize });
    let low = first + comptime!(if fifth { 11usize } else { 3usize });
    let mut code = (byte(words, low, part / 2 * 32 + at) >> (4 * (part % 2) as u32)) & 15;
    if comptime!(fifth) {
        code += ((byte(words, first + 3, at) >> part as u32) & 1) << 4;
    }
    // Of the last four parts, the upper two bits stand above those of the first four.
    let (a, b) = (byte(words, first, part % 4), byte(words, first, part % 4 + 4));
    let both = byte(words, first, part % 4 + 8);
    let mut scale = a & 63;
    let mut minimum = b & 63;
    if part >= 4 {
        scale = (both & 15) + ((a >> 6) << 4);
        minimum = (both >> 4) + ((b >> 6) << 4);
    }
    let d = scales[2 * block] * f32::cast_from(scale);
    d * f32::cast_from(code) - scales[2 * block + 1] * f32::cast_from(minimum)
}

/// Blocks of 256 numbers of six bits: two halves of four parts, the halves of which have scales.
#[cube]
fn of_six_bits(words: &[u32], scales: &[f32], place: usize) -> f32 {
    let (block, part, at) = (place / 256, place % 256 / 32, place % 32);
    let (half, row) = (part / 4, part % 4);
    let first = HEADER + block * 52;
    let lower = (byte(words, first, half * 64 + row % 2 * 32 + at) >> (4 * (row / 2) as u32)) & 15;
    let upper = (byte(words, first + 32, half * 32 + at) >> (2 * row as u32)) & 3;
    let scale = scales[block] * signed(byte(words, first + 48, half * 8 + row * 2 + at / 16));
    scale * (f32::cast_from(lower + (upper << 4)) - f32::new(32.0))
}

/// The number at a place.
#[cube]
fn number_at(
    words: &[u32],
    scales: &[f32],
    place: usize,
    one: f32,
    #[comptime] packing: Packing,
) -> f32 {
    match packing {
        Packing::Book { block, nested } => {
            of_book(words, scales, place, one, block, comptime!(nested.unwrap_or(0)))
        }
        Packing::Powers { halves } => of_powers(words, scales, place, halves),
        Packing::Rows => {
            let code = signed(byte(words, HEADER, place));
            code * scales[1 + place / words[1] as usize] * scales[0]
        }
        Packing::Q4_0 => of_small_block(words, scales, place, false, false),
        Packing::Q4_1 => of_small_block(words, scales, place, false, true),
        Packing::Q5_0 => of_small_block(words, scales, place, true, false),
        Packing::Q5_1 => of_small_block(words, scales, place, true, true),
        Packing::Q8_0 => signed(byte(words, HEADER, place)) * scales[place / 32],
        Packing::Q4K => of_large_block(words, scales, place, false),
        Packing::Q5K => of_large_block(words, scales, place, true),
        Packing::Q6K => of_six_bits(words, scales, place),
    }
}

/// All numbers of some parts, which follow each other from a place on. `one` is one, which nobody
/// knows who compiles the kernel.
#[cube(launch)]
fn dequantise<O: Float>(
    words: &Sequence<Box<[u32]>>,
    scales: &Sequence<Box<[f32]>>,
    numbers: &mut [O],
    begin: u32,
    one: f32,
    #[comptime] packings: [Packing; PARTS],
    #[define(O)] _to: ElemType,
) {
    let (mine, apart) = places();
    let mut first = begin as usize;
    #[unroll]
    for part in 0..words.len() {
        let (codes, scales) = (&words[part], &scales[part]);
        let count = codes[0] as usize;
        if CUBE_POS_Y as usize == part {
            let mut place = mine;
            while place < count {
                let number = number_at(codes, scales, place, one, comptime!(packings[part]));
                numbers[first + place] = O::cast_from(number);
                place += apart;
            }
        }
        first += count;
    }
}

/// A matrix `[out, in]` of codes in the memory of a GPU, in parts whose rows follow each other.
#[derive(Debug, Clone)]
pub struct DeviceCodes {
    parts: Vec<Part>,
    shape: [usize; 2],
}

#[derive(Debug, Clone)]
struct Part {
    words: CubeTensor,
    scales: CubeTensor,
    packing: Packing,
    numbers: usize,
}

impl Part {
    fn uploaded(packed: Packed, device: &Device) -> Self {
        let (numbers, packing) = (packed.numbers(), packed.packing);
        let [words, scales] = [packed.words.len(), packed.scales.len()];
        let words = TensorData::new(packed.words, [words]);
        let words = Tensor::<1, Int>::from_data(words, (device, DType::U32));
        let words = words.try_into_primitive::<CubeBackend>().expect("it was put on a GPU");
        let scales = cube(from_vec::<1>(packed.scales, [scales], device));
        Self { words, scales, packing, numbers }
    }
}

impl DeviceCodes {
    /// A matrix in the memory of a GPU; none on other devices, or if there is no kernel for it.
    pub fn uploaded(matrix: &dyn CodedMatrix, device: &Device) -> Option<Self> {
        if *device == Device::flex() {
            return None;
        }
        let parts = matrix.packed()?.into_iter().map(|part| Part::uploaded(part, device));
        Some(Self { parts: parts.collect(), shape: matrix.shape() })
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        self.shape
    }

    /// Matrices of the same width, the rows of one after those of the other; none if they have
    /// others.
    pub fn joined(all: &[&Self]) -> Option<Self> {
        let columns = all.first()?.shape[1];
        if all.iter().any(|one| one.shape[1] != columns) {
            return None;
        }
        let rows = all.iter().map(|one| one.shape[0]).sum();
        let parts = all.iter().flat_map(|one| one.parts.iter().cloned()).collect();
        Some(Self { parts, shape: [rows, columns] })
    }

    /// The numbers, in 32 bits.
    pub fn values(&self) -> Tensor<2> {
        plain(self.numbers(DType::F32))
    }

    /// The numbers in a format: one launch for as many parts as the device takes at once, for three
    /// of a usual one.
    pub(super) fn numbers(&self, to: DType) -> CubeTensor {
        let like = &self.parts[0].scales;
        let numbers = empty(like, self.shape, to);
        let bindings = like.client.properties().hardware.max_bindings as usize;
        let mut first = 0;
        // Beside both buffers of each there are the numbers, and what is no buffer.
        for parts in self.parts.chunks((bindings.saturating_sub(2) / 2).clamp(1, PARTS)) {
            let longest = parts.iter().map(|part| part.numbers).max().unwrap_or(0);
            let packing = |number: usize| parts.get(number).map(|part| part.packing);
            let read = parts.iter().map(|part| bytes(&part.words) + bytes(&part.scales));
            let written: usize = parts.iter().map(|part| part.numbers).sum();
            let moved = read.sum::<usize>() + to.size() * written;
            device::launching("Dequantise", moved, 2 * written);
            dequantise::launch(
                &like.client,
                groups(longest, parts.len()),
                CubeDim::new_1d(UNITS),
                parts.iter().map(|part| part.words.clone().into_buffer_arg()).collect(),
                parts.iter().map(|part| part.scales.clone().into_buffer_arg()).collect(),
                numbers.clone().into_buffer_arg(),
                count(first),
                1.0,
                std::array::from_fn(|number| packing(number).unwrap_or(Packing::Rows)),
                elem(to),
            );
            first += parts.iter().map(|part| part.numbers).sum::<usize>();
        }
        numbers
    }
}

/// A constant `[out, in]` that is a factor of products.
#[derive(Debug, Clone)]
pub enum Constant {
    /// As it is.
    Numbers(CubeTensor),
    /// Codes, dequantised anew for each product.
    Codes(DeviceCodes),
}

impl Constant {
    /// Numbers without a tape.
    pub fn of(numbers: Tensor<2>) -> Self {
        Self::Numbers(cube(numbers))
    }

    /// Whether kernels of what is beside each other take so many parts where it is.
    pub fn takes_parts(&self, count: usize) -> bool {
        match self {
            Self::Numbers(numbers) => takes_parts(numbers, count),
            Self::Codes(codes) => takes_parts(&codes.parts[0].scales, count),
        }
    }

    /// How many outputs there are.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.meta.shape()[0],
            Self::Codes(codes) => codes.shape[0],
        }
    }

    /// The numbers of a product whose factors have a format; they may be in another.
    pub(super) fn numbers(&self, factors: DType) -> CubeTensor {
        match self {
            Self::Numbers(numbers) => numbers.clone(),
            Self::Codes(codes) => codes.numbers(factors),
        }
    }

    /// A tensor of the same device that nothing is computed with.
    pub(super) fn stand_in(&self) -> DispatchTensor {
        match self {
            Self::Numbers(numbers) => plain::<2>(numbers.clone()).into_dispatch(),
            Self::Codes(codes) => plain::<1>(codes.parts[0].scales.clone()).into_dispatch(),
        }
    }
}
