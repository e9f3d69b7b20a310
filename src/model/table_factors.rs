//! Low-rank factors beside a matrix with a row for each token, an output head or the embedding, for
//! which files have tokens the other way around. Rows and scores are those of `W + s·L·R` with
//! `L: [vocabulary, r]` and `R: [r, hidden]`; no such matrix is made.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::device::ComputeConfig;
use crate::model::{Gradients, Parameter, Visitor};
use crate::ops::{product, wide};

/// Which factor is which in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A is R, B is L.
    Head,
    /// A is L with its dimensions swapped, B is R so.
    Embedding,
}

impl TableKind {
    /// Dimensions of A and B beside a matrix of these, for a rank.
    pub fn dims(self, [rows, width]: [usize; 2], rank: usize) -> [[usize; 2]; 2] {
        match self {
            Self::Head => [[rank, width], [rows, rank]],
            Self::Embedding => [[rank, rows], [width, rank]],
        }
    }
}

/// The factors, in 32 bits, as files have them.
pub struct TableFactors {
    paths: [String; 2],
    kind: TableKind,
    a: Parameter<2>,
    b: Parameter<2>,
    scale: f64,
}

impl TableFactors {
    /// A and B, which have these paths.
    pub fn new(paths: [String; 2], kind: TableKind, [a, b]: [Tensor<2>; 2], scale: f64) -> Self {
        let [a, b] = [a, b].map(|value| Parameter { value, trainable: true });
        Self { paths, kind, a, b, scale }
    }

    /// `[vocabulary, r]`.
    fn left(&self) -> Tensor<2> {
        match self.kind {
            TableKind::Head => self.b.value.clone(),
            TableKind::Embedding => self.a.value.clone().transpose(),
        }
    }

    /// `[r, hidden]`.
    fn right(&self) -> Tensor<2> {
        match self.kind {
            TableKind::Head => self.a.value.clone(),
            TableKind::Embedding => self.b.value.clone().transpose(),
        }
    }

    /// What they add to the rows of tokens, `[tokens, hidden]`.
    pub fn rows(&self, tokens: &Tensor<1, Int>) -> Tensor<2> {
        let left = self.left().select(0, tokens.clone());
        left.matmul(self.right()).mul_scalar(self.scale)
    }

    /// What they add to the scores of `x: [tokens, hidden]`.
    pub fn scores(&self, x: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        let hidden = product(x.clone(), self.right().transpose(), computing.arithmetic);
        product(hidden, self.left().transpose(), computing.arithmetic).mul_scalar(self.scale)
    }

    /// What they add to the gradient of `x`, for that of scores, `d: [tokens, vocabulary]`.
    pub fn back(&self, d: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        let hidden = product(d.clone(), self.left(), computing.arithmetic);
        product(hidden, self.right(), computing.arithmetic).mul_scalar(self.scale)
    }

    /// Adds their gradient for that of a matrix in the place of theirs: `dᵀ·x`, and `more` of the
    /// row of each token.
    pub fn add_scores_gradient(
        &self,
        sums: &mut Gradients,
        (d, x): (&Tensor<2>, &Tensor<2>),
        (tokens, more): (&Tensor<1, Int>, &Tensor<2>),
        computing: ComputeConfig,
    ) {
        let (left, right) = (self.left(), self.right());
        let hidden = product(x.clone(), right.clone().transpose(), computing.arithmetic);
        let d_left = product(d.clone().transpose(), hidden, computing.arithmetic);
        let d_hidden = product(d.clone(), left, computing.arithmetic);
        let d_right = product(d_hidden.transpose(), x.clone(), computing.arithmetic);
        let [of_left, of_right] = self.of_rows((tokens, None), more);
        self.add(sums, wide(d_left) + of_left, wide(d_right) + of_right);
    }

    /// Adds their gradient for `d` of the row of each token. The row of `padding` in L has none; R
    /// has that of its lookups, since PEFT looks up rows of L alone.
    pub fn add_rows_gradient(
        &self,
        sums: &mut Gradients,
        lookups: (&Tensor<1, Int>, Option<u32>),
        d: &Tensor<2>,
    ) {
        let [left, right] = self.of_rows(lookups, d);
        self.add(sums, left, right);
    }

    /// The gradients of both for `d` of the row of each token, without the scale.
    fn of_rows(
        &self,
        (tokens, padding): (&Tensor<1, Int>, Option<u32>),
        d: &Tensor<2>,
    ) -> [Tensor<2>; 2] {
        let (left, d) = (self.left(), wide(d.clone()));
        let right = d.clone().matmul(self.right().transpose());
        let right = without_padding(padding, tokens, right);
        let d_left =
            left.zeros_like().select_assign(0, tokens.clone(), right, IndexingUpdateOp::Add);
        let d_right = left.select(0, tokens.clone()).transpose().matmul(d);
        [d_left, d_right]
    }

    fn add(&self, sums: &mut Gradients, left: Tensor<2>, right: Tensor<2>) {
        let [left, right] = [left, right].map(|d| d.mul_scalar(self.scale));
        let [a, b] = match self.kind {
            TableKind::Head => [right, left],
            TableKind::Embedding => [left.transpose(), right.transpose()],
        };
        sums.add(&self.paths[0], a);
        sums.add(&self.paths[1], b);
    }

    /// Shows both to `visitor`.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.matrix(&self.paths[0], &mut self.a);
        visitor.matrix(&self.paths[1], &mut self.b);
    }
}

/// Gradients `d: [tokens, width]` of looked up rows, without those of a token that has none: what
/// `padding_idx` of PyTorch's `nn.Embedding` is for. A head that is the same matrix has its own.
pub(super) fn without_padding(
    padding: Option<u32>,
    tokens: &Tensor<1, Int>,
    d: Tensor<2>,
) -> Tensor<2> {
    let Some(token) = padding else { return d };
    let [count, _] = d.dims();
    d * tokens.clone().not_equal_scalar(token).float().reshape([count, 1])
}
