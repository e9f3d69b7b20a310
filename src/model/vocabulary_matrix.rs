//! A matrix with a row per token, in as many pieces as the device's largest tensor asks for: those
//! of large vocabularies are larger than what many GPUs can address at once.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::device::ComputeConfig;
use crate::model::{Gradients, Parameter, Visitor};
use crate::ops::cpu;
use crate::ops::{product, wide};

/// What stands between the path of a matrix and the number of its piece.
const PIECE: char = '#';

/// The path of a whole matrix, and the number of the piece that `path` names, if it names one.
pub fn piece_of(path: &str) -> (&str, Option<usize>) {
    match path.rsplit_once(PIECE) {
        Some((whole, number)) => (whole, number.parse().ok()),
        None => (path, None),
    }
}

/// `[vocabulary, hidden]`; a single piece on most devices.
pub struct VocabularyMatrix {
    path: &'static str,
    pieces: Vec<Parameter<2>>,
}

impl VocabularyMatrix {
    /// From its pieces, in order.
    pub fn new(path: &'static str, pieces: Vec<Parameter<2>>) -> Self {
        assert!(!pieces.is_empty(), "a matrix has rows");
        Self { path, pieces }
    }

    /// Its Hugging Face path.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Does training change it?
    pub fn trainable(&self) -> bool {
        self.pieces[0].trainable
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Parameter<2>] {
        &self.pieces
    }

    /// The matrix, if it is in one piece.
    pub fn whole(&self) -> Option<&Parameter<2>> {
        if let [whole] = self.pieces.as_slice() { Some(whole) } else { None }
    }

    /// The same, to be changed.
    pub fn pieces_mut(&mut self) -> &mut [Parameter<2>] {
        &mut self.pieces
    }

    /// Calls `visitor` for the matrix, or for each of its pieces under a path of its own.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        if let [whole] = self.pieces.as_mut_slice() {
            return visitor.matrix(self.path, whole);
        }
        for (number, piece) in self.pieces.iter_mut().enumerate() {
            visitor.matrix(&format!("{}{PIECE}{number}", self.path), piece);
        }
    }

    /// Each piece with its first row.
    fn parts(&self) -> impl Iterator<Item = (usize, &Parameter<2>)> {
        let first = |at: &mut usize, piece| {
            let begin = *at;
            let piece: &Parameter<2> = piece;
            *at += piece.value.dims()[0];
            Some((begin, piece))
        };
        self.pieces.iter().scan(0, first)
    }

    fn piece_path(&self, number: usize) -> String {
        match self.pieces.len() {
            1 => self.path.to_owned(),
            _ => format!("{}{PIECE}{number}", self.path),
        }
    }

    /// The rows of tokens, `[tokens, hidden]`, in 32 bits.
    pub fn rows(&self, tokens: &Tensor<1, Int>) -> Tensor<2> {
        if let [whole] = self.pieces.as_slice() {
            return wide(whole.value.clone().select(0, tokens.clone()));
        }
        let rows = self.parts().map(|(first, piece)| {
            let (local, inside) = within(tokens, first, piece);
            wide(piece.value.clone().select(0, local)) * inside
        });
        rows.reduce(|a, b| a + b).expect("a matrix has rows")
    }

    /// `x · matrixᵀ` for `x: [tokens, hidden]`: a score for each token of the vocabulary.
    pub fn scores(&self, x: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        let parts = self.pieces.iter().map(|piece| {
            cpu::project(x, &piece.value, computing).unwrap_or_else(|| {
                product(x.clone(), piece.value.clone().transpose(), computing.arithmetic)
            })
        });
        let mut parts: Vec<Tensor<2>> = parts.collect();
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
    }

    /// `d · matrix` for `d: [tokens, vocabulary]`: the gradient of [`Self::scores`] for its input.
    pub fn back(&self, d: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        let parts = self.parts().map(|(first, piece)| {
            let d = columns(d, first, piece);
            product(d, piece.value.clone(), computing.arithmetic)
        });
        parts.reduce(|a, b| a + b).expect("a matrix has rows")
    }

    /// Adds the gradient of scores `x · matrixᵀ` for the matrix: `dᵀ · x`, and `more` of the row of
    /// each token.
    pub fn add_scores_gradient(
        &self,
        sums: &mut Gradients,
        (d, x): (&Tensor<2>, &Tensor<2>),
        (tokens, more): (&Tensor<1, Int>, &Tensor<2>),
        computing: ComputeConfig,
    ) {
        for (number, (first, piece)) in self.parts().enumerate() {
            let d = columns(d, first, piece).transpose();
            let gradient = product(d, x.clone(), computing.arithmetic);
            let gradient = self.scatter(gradient, tokens, more, (first, piece));
            sums.add(&self.piece_path(number), gradient);
        }
    }

    /// Adds the gradient of [`Self::rows`]: `d` of the row of each token.
    pub fn add_rows_gradient(&self, sums: &mut Gradients, tokens: &Tensor<1, Int>, d: &Tensor<2>) {
        for (number, (first, piece)) in self.parts().enumerate() {
            let gradient = self.scatter(piece.value.zeros_like(), tokens, d, (first, piece));
            sums.add(&self.piece_path(number), gradient);
        }
    }

    fn scatter(
        &self,
        sum: Tensor<2>,
        tokens: &Tensor<1, Int>,
        more: &Tensor<2>,
        (first, piece): (usize, &Parameter<2>),
    ) -> Tensor<2> {
        let (tokens, more) = match self.pieces.len() {
            1 => (tokens.clone(), more.clone()),
            _ => {
                let (local, inside) = within(tokens, first, piece);
                (local, more.clone() * inside)
            }
        };
        sum.select_assign(0, tokens, more, IndexingUpdateOp::Add)
    }
}

/// The columns of `d` that belong to a piece.
fn columns(d: &Tensor<2>, first: usize, piece: &Parameter<2>) -> Tensor<2> {
    let count = piece.value.dims()[0];
    if count == d.dims()[1] { d.clone() } else { d.clone().narrow(1, first, count) }
}

/// Numbers of rows within a piece, any number for tokens that are not in it, and `[tokens, 1]`:
/// one for tokens that are.
fn within(
    tokens: &Tensor<1, Int>,
    first: usize,
    piece: &Parameter<2>,
) -> (Tensor<1, Int>, Tensor<2>) {
    let index = |row: usize| i32::try_from(row).expect("vocabularies stay below 2^31");
    let (first, last) = (index(first), index(first + piece.value.dims()[0]) - 1);
    let inside = tokens.clone().greater_equal_scalar(first);
    let inside = inside.bool_and(tokens.clone().lower_equal_scalar(last));
    let local = tokens.clone().clamp(first, last).sub_scalar(first);
    let count = tokens.dims()[0];
    (local, inside.float().reshape([count, 1]))
}
