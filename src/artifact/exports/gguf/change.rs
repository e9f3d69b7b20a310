//! What becomes of a tensor of the model: where it stands in the file, in which order its numbers
//! stand there, and what they are then.

use std::ops::Range;

use crate::gguf::{BLOCK_BYTES, CODE_BYTES, CODES, Turn, ValueHeads, to_ggml, turn};
use crate::model::description::turned;

/// What is done to the numbers of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberChange {
    /// Nothing.
    None,
    /// One is added.
    PlusOne,
    /// `−e^x`: rates of decay for their logarithms.
    Rate,
}

/// In which order the file has the numbers of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorOrder {
    /// As they are.
    Same,
    /// The rows of each head are turned.
    Turned,
    /// Rows of heads of values lie elsewhere.
    Rows(ValueHeads),
    /// The same of columns.
    Columns(ValueHeads),
    /// A matrix of one row is a vector.
    Vector,
    /// The first or the second half of the rows, where the file has two matrices for one.
    Half(usize),
    /// A row for each expert, a matrix or its biases.
    Experts(OfExperts),
    /// The same in MXFP4: the scales, or the codes.
    Mxfp4 {
        /// Rows of a matrix, and which of them.
        of: OfExperts,
        /// Whether it is the scales.
        scales: bool,
    },
}

/// Which numbers of each expert a tensor of the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfExperts {
    /// `[out, in]` of the matrix; of biases, `[out, 1]`.
    pub dims: [usize; 2],
    /// Whether the model has its transpose, with outputs that alternate or not.
    pub transposed: Option<bool>,
    /// The first or the second half of its outputs, or all.
    pub half: Option<usize>,
}

impl OfExperts {
    fn outputs(self) -> usize {
        self.dims[0] / if self.half.is_some() { 2 } else { 1 }
    }

    /// The numbers of an expert.
    fn of(self, numbers: &[f32]) -> Vec<f32> {
        let matrix = match self.transposed {
            None => numbers.to_vec(),
            Some(alternating) => turned(numbers, self.dims, alternating, false),
        };
        let count = self.outputs() * self.dims[1];
        matrix[self.half.unwrap_or(0) * count..][..count].to_vec()
    }

    /// The rows of an expert among those of the model, whose halves alternate.
    fn rows(self) -> impl Iterator<Item = usize> {
        let step = if self.half.is_some() { 2 } else { 1 };
        (self.half.unwrap_or(0)..self.dims[0]).step_by(step)
    }
}

/// A tensor of the file that one of the model is, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name in the file.
    pub name: String,
    /// What is done to the numbers.
    pub change: NumberChange,
    /// In which order they stand.
    pub order: TensorOrder,
    /// Which of several it is that are one tensor in the file, and how many these are.
    pub part: Option<[usize; 2]>,
    /// Whether it is written in 32 bits, whatever was asked for: llama.cpp reads it so.
    pub exact: bool,
}

impl Target {
    /// A tensor as it is.
    pub fn same(name: String) -> Self {
        let (change, order) = (NumberChange::None, TensorOrder::Same);
        Self { name, change, order, part: None, exact: false }
    }
}

impl TensorOrder {
    /// Whether it is one of the two parts of codes with scales.
    pub fn is_mxfp4(self) -> bool {
        matches!(self, Self::Mxfp4 { .. })
    }

    /// The dimensions in the file, of those that the model has.
    pub fn shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            // A convolution of each channel by itself has one input.
            (Self::Same | Self::Rows(_), &[channels, 1, width]) => vec![channels, width],
            (Self::Vector, &[1, width]) => vec![width],
            (Self::Half(_), &[rows, width]) => vec![rows / 2, width],
            (Self::Experts(of), &[experts, _]) => vec![experts, of.outputs()],
            (Self::Experts(of), &[experts, ..]) => vec![experts, of.outputs(), of.dims[1]],
            (Self::Mxfp4 { of, .. }, &[experts, ..]) => vec![experts, of.outputs(), of.dims[1]],
            _ => shape.to_vec(),
        }
    }

    /// How many matrices of the file the rows of one of the model go into.
    pub fn matrices(self) -> usize {
        if matches!(self, Self::Half(_)) { 2 } else { 1 }
    }

    /// Whole rows in that order, with what is done to their numbers; those of heads of values keep
    /// their places here. `row` says how long a row of the model is.
    pub fn apply(
        self,
        change: NumberChange,
        (head, row): (usize, usize),
        mut values: Vec<f32>,
    ) -> Vec<f32> {
        match change {
            NumberChange::None => {}
            NumberChange::PlusOne => values.iter_mut().for_each(|value| *value += 1.0),
            NumberChange::Rate => values.iter_mut().for_each(|value| *value = -value.exp()),
        }
        match self {
            Self::Turned => turn(&values, (head, row), Turn::ToNeighbours),
            Self::Columns(heads) => heads.columns(&values, row),
            Self::Experts(of) => {
                values.chunks_exact(row.max(1)).flat_map(|expert| of.of(expert)).collect()
            }
            _ => values,
        }
    }
}

/// Of `count` rows of the model from row `first` on, those in a half of `rows`, and which row of
/// the half the first of them is.
pub fn rows_of_half(
    which: usize,
    (first, count): (usize, usize),
    rows: usize,
) -> (Range<usize>, usize) {
    let begin = which * rows;
    let within = |row: usize| row.clamp(begin, begin + rows);
    let (from, to) = (within(first), within(first + count));
    match from == to {
        true => (0..0, 0),
        false => (from - first..to - first, from - begin),
    }
}

/// Puts codes, or scales, of whole experts into the blocks that they are parts of; `row` bytes are
/// those of an expert.
pub fn put_mxfp4(of: OfExperts, scales: bool, row: usize, bytes: &[u8], blocks: &mut [u8]) {
    let of_row = of.dims[1] / CODES; // blocks
    let mut place = blocks.chunks_exact_mut(BLOCK_BYTES);
    for expert in bytes.chunks_exact(row.max(1)) {
        for number in of.rows().flat_map(|row| row * of_row..(row + 1) * of_row) {
            let Some(block) = place.next() else { return };
            match scales {
                true => block[0] = expert[number],
                false => {
                    block[1..]
                        .copy_from_slice(&to_ggml(&expert[number * CODE_BYTES..][..CODE_BYTES]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_and_up_of_alternating_experts_are_taken_apart() {
        // An expert with two outputs of the gate and two of up, and three inputs: 10 · out + in,
        // in the model by columns g0 u0 g1 u1.
        let file: Vec<f32> =
            (0..3_u8).flat_map(|i| [0, 20, 10, 30].map(|out: u8| f32::from(out + i))).collect();
        let of = |half| OfExperts { dims: [4, 3], transposed: Some(true), half: Some(half) };
        let apply =
            |half| TensorOrder::Experts(of(half)).apply(NumberChange::None, (1, 12), file.clone());
        assert_eq!(apply(0), [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        assert_eq!(apply(1), [20.0, 21.0, 22.0, 30.0, 31.0, 32.0]);
        assert_eq!(TensorOrder::Experts(of(0)).shape(&[5, 3, 4]), [5, 2, 3]);
    }

    /// Eight rows of a model are two matrices of four, whatever pieces they come in.
    #[test]
    fn a_matrix_is_taken_apart_into_its_halves() {
        let of = |which, first, count| rows_of_half(which, (first, count), 4);
        assert_eq!([of(0, 0, 8), of(1, 0, 8)], [(0..4, 0), (4..8, 0)]);
        assert_eq!([of(0, 3, 3), of(1, 3, 3)], [(0..1, 3), (1..3, 0)]);
        assert_eq!([of(0, 4, 2), of(1, 4, 2), of(1, 6, 2)], [(0..0, 0), (0..2, 0), (0..2, 2)]);
        assert_eq!([of(1, 0, 4), of(1, 2, 2)], [(0..0, 0), (0..0, 0)]);
        assert_eq!(TensorOrder::Half(1).shape(&[8, 3]), [4, 3]);
    }

    #[test]
    fn codes_and_scales_meet_in_blocks() {
        // One expert of four rows of one block; the first half are rows 0 and 2.
        let of = OfExperts { dims: [4, 32], transposed: None, half: Some(0) };
        let codes: Vec<u8> = (0..4_u8).flat_map(|row| [row * 0x11; 16]).collect();
        let mut blocks = vec![0; 2 * BLOCK_BYTES];
        put_mxfp4(of, false, 64, &codes, &mut blocks);
        put_mxfp4(of, true, 4, &[7, 8, 9, 10], &mut blocks);
        assert_eq!((blocks[0], blocks[1], blocks[17], blocks[18]), (7, 0, 9, 0x22));
    }
}
