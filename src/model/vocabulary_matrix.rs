//! A matrix with a row per token, in as many pieces as the device's largest tensor asks for: those
//! of large vocabularies are larger than what many GPUs can address at once. On the CPU it may be
//! kept in the blocks of a file, from which rows and products are read.

mod coded_table;

use std::sync::Arc;

use burn::tensor::{Device, FloatDType, IndexingUpdateOp, Int, Tensor};

use self::coded_table::CodedTable;
use crate::device::ComputeConfig;
use crate::model::table_factors::without_padding;
use crate::model::{Gradients, Parameter, TableFactors, TokenRows, Visitor};
use crate::ops::cpu;
use crate::ops::{from_vec, host, indices, product, rows_of, wide};
use crate::weights::formats::CodedMatrix;

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
    /// None where it is kept as codes.
    pieces: Vec<Parameter<2>>,
    coded: Option<CodedTable>,
    /// Rows that are trained while the pieces are frozen.
    token_rows: Option<TokenRows>,
    /// What an adapter adds to it.
    pub factors: Option<TableFactors>,
    /// The token whose row lookups do not train.
    pub padding: Option<u32>,
}

impl VocabularyMatrix {
    /// From its pieces, in order.
    pub fn new(path: &'static str, pieces: Vec<Parameter<2>>) -> Self {
        assert!(!pieces.is_empty(), "a matrix has rows");
        Self::of(path, pieces, None)
    }

    fn of(path: &'static str, pieces: Vec<Parameter<2>>, coded: Option<CodedTable>) -> Self {
        Self { path, pieces, coded, token_rows: None, factors: None, padding: None }
    }

    /// Of codes that stay as they are; their numbers are rounded to a format when they are read.
    pub fn coded(
        path: &'static str,
        codes: Arc<dyn CodedMatrix>,
        rounds: Option<FloatDType>,
    ) -> Self {
        Self::of(path, Vec::new(), Some(CodedTable { codes, rounds }))
    }

    /// The same rows once more, in memory once.
    pub(super) fn sharing(&self) -> Self {
        let coded = self.coded.as_ref();
        let coded = coded.map(|it| CodedTable { codes: Arc::clone(&it.codes), rounds: it.rounds });
        Self { padding: self.padding, ..Self::of(self.path, self.pieces.clone(), coded) }
    }

    /// So many rows more, each the mean of those that there are, around which transformers'
    /// `resize_token_embeddings` draws them. No tensor gets more rows than `limit`.
    pub fn extend(&mut self, count: usize, limit: usize) {
        self.dequantise();
        let mean = self.mean();
        let mut left = count;
        while left > 0 {
            let last = self.pieces.last_mut().expect("a matrix has rows");
            let room = limit.saturating_sub(last.value.dims()[0]);
            let more = left.min(if room > 0 { room } else { limit.max(1) });
            let device = last.value.device();
            let values = from_vec(mean.repeat(more), [more, mean.len()], &device);
            let values = values.cast(FloatDType::from(last.value.dtype()));
            match room > 0 {
                true => last.value = Tensor::cat(vec![last.value.clone(), values], 0),
                false => self.pieces.push(Parameter::frozen(values)),
            }
            left -= more;
        }
    }

    /// The mean of all rows, summed in 64 bits in the order of the rows.
    fn mean(&self) -> Vec<f32> {
        const NUMBERS_AT_ONCE: usize = 1 << 20;
        let width = self.pieces[0].value.dims()[1];
        let (mut sums, mut rows) = (vec![0.0_f64; width], 0);
        for piece in &self.pieces {
            let count = piece.value.dims()[0];
            let step = (NUMBERS_AT_ONCE / width).max(1);
            for first in (0..count).step_by(step) {
                let part = piece.value.clone().narrow(0, first, step.min(count - first));
                for row in host(wide(part)).chunks_exact(width) {
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
                }
            }
            rows += count;
        }
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        // vocabularies are small, and weights are f32
        sums.into_iter().map(|sum| (sum / rows as f64) as f32).collect()
    }

    /// Trains the rows of these tokens from now on, beside the others, which stay frozen.
    pub fn train_rows(&mut self, tokens: Vec<u32>) {
        self.dequantise();
        let device = self.pieces[0].value.device();
        let rows = self.rows(&indices(tokens.iter().copied(), &device));
        let vocabulary = self.pieces.iter().map(|piece| piece.value.dims()[0]).sum();
        self.token_rows = Some(TokenRows::new(self.path, vocabulary, tokens, rows));
    }

    /// The rows that are trained beside the others.
    pub fn token_rows(&self) -> Option<&TokenRows> {
        self.token_rows.as_ref()
    }

    /// Puts the numbers in the place of codes: these cannot be trained.
    pub fn dequantise(&mut self) {
        if let Some(coded) = self.coded.take() {
            self.pieces = vec![Parameter::frozen(coded.values())];
        }
    }

    /// Rounds frozen rows to another number format from now on.
    pub fn round(&mut self, format: FloatDType) {
        if let Some(coded) = &mut self.coded {
            coded.rounds = Some(format);
        }
        for piece in self.pieces.iter_mut().filter(|piece| !piece.trainable) {
            piece.value = piece.value.clone().cast(format);
        }
    }

    /// Its Hugging Face path.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Does training change it?
    pub fn trainable(&self) -> bool {
        self.pieces.first().is_some_and(|piece| piece.trainable)
    }

    /// Does training change it, or rows of it, or what is added to it?
    pub fn learns(&self) -> bool {
        self.trainable() || self.token_rows.is_some() || self.factors.is_some()
    }

    /// The matrix for the kernels of the CPU; none if it is in more than one piece, or elsewhere,
    /// or something is added to it.
    pub fn held(&self) -> Option<cpu::HostTensor> {
        if self.factors.is_some() {
            return None;
        }
        match (&self.coded, self.pieces.as_slice()) {
            (Some(coded), _) => Some(cpu::HostTensor::coded(coded.codes.clone())),
            (None, [whole]) => cpu::HostTensor::of(&whole.value),
            (None, _) => None,
        }
    }

    /// The pieces, in order; codes have none.
    pub fn pieces(&self) -> &[Parameter<2>] {
        &self.pieces
    }

    /// The same, to be changed.
    pub fn pieces_mut(&mut self) -> &mut [Parameter<2>] {
        &mut self.pieces
    }

    /// Calls `visitor` for the matrix, or for each of its pieces under a path of its own; and for
    /// the rows that are trained beside it, which then stand in it.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        match self.pieces.as_mut_slice() {
            [whole] => visitor.matrix(self.path, whole),
            pieces => {
                for (number, piece) in pieces.iter_mut().enumerate() {
                    visitor.matrix(&format!("{}{PIECE}{number}", self.path), piece);
                }
            }
        }
        if let Some(factors) = &mut self.factors {
            factors.visit(visitor);
        }
        if let Some(rows) = &mut self.token_rows {
            rows.visit(visitor);
            if visitor.changes() {
                rows.write_into(&mut self.pieces);
            }
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
        let rows = self.own_rows(tokens);
        self.factors.iter().fold(rows, |rows, factors| rows + factors.rows(tokens))
    }

    fn own_rows(&self, tokens: &Tensor<1, Int>) -> Tensor<2> {
        if let Some(coded) = &self.coded {
            return coded.rows(tokens);
        }
        if let [whole] = self.pieces.as_slice() {
            return wide(rows_of(whole.value.clone(), tokens));
        }
        let rows = self.parts().map(|(first, piece)| {
            let (local, inside) = within(tokens, first, piece);
            wide(piece.value.clone().select(0, local)) * inside
        });
        rows.reduce(|a, b| a + b).expect("a matrix has rows")
    }

    /// `x · matrixᵀ` for `x: [tokens, hidden]`: a score for each token of the vocabulary.
    pub fn scores(&self, x: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        let scores = self.own_scores(x, computing);
        self.factors.iter().fold(scores, |scores, factors| scores + factors.scores(x, computing))
    }

    fn own_scores(&self, x: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        if let Some(coded) = &self.coded {
            let held = cpu::HostTensor::coded(coded.codes.clone());
            let scores = cpu::project_with(x, &held, computing);
            let by_tensors = || coded.factor().project(x.clone(), computing.arithmetic);
            return scores.unwrap_or_else(by_tensors);
        }
        let parts = self.pieces.iter().flat_map(|piece| {
            if let Some(scores) = cpu::project(x, &piece.value, computing) {
                return vec![scores];
            }
            let strips = strips(piece)
                .map(|strip| product(x.clone(), strip.transpose(), computing.arithmetic));
            strips.collect()
        });
        let mut parts: Vec<Tensor<2>> = parts.collect();
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
    }

    /// `d · matrix` for `d: [tokens, vocabulary]`: the gradient of [`Self::scores`] for its input.
    pub fn back(&self, d: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        let back = self.own_back(d, computing);
        self.factors.iter().fold(back, |back, factors| back + factors.back(d, computing))
    }

    fn own_back(&self, d: &Tensor<2>, computing: ComputeConfig) -> Tensor<2> {
        if let Some(coded) = &self.coded {
            return coded.factor().back(d.clone(), computing.arithmetic);
        }
        let parts = self.parts().flat_map(|(first, piece)| {
            let strips = strips(piece).scan(first, |first, strip| {
                let [rows, _] = strip.dims();
                let d = columns(d, *first, rows);
                *first += rows;
                Some(product(d, strip, computing.arithmetic))
            });
            strips.reduce(|a, b| a + b)
        });
        parts.reduce(|a, b| a + b).expect("a matrix has rows")
    }

    /// Adds the gradient of scores `x · matrixᵀ` for the matrix, or for the rows of it that are
    /// trained: `dᵀ · x`, and `more` of the row of each token.
    pub fn add_scores_gradient(
        &self,
        sums: &mut Gradients,
        (d, x): (&Tensor<2>, &Tensor<2>),
        (tokens, more): (&Tensor<1, Int>, &Tensor<2>),
        computing: ComputeConfig,
    ) {
        if let Some(rows) = &self.token_rows {
            return rows.add_scores_gradient(sums, (rows.scores(d), x), Some((tokens, more)));
        }
        if let Some(factors) = &self.factors {
            return factors.add_scores_gradient(sums, (d, x), (tokens, more), computing);
        }
        for (number, (first, piece)) in self.parts().enumerate() {
            let d = columns(d, first, piece.value.dims()[0]).transpose();
            let gradient = product(d, x.clone(), computing.arithmetic);
            let gradient = self.scatter(gradient, tokens, more, (first, piece));
            sums.add(&self.piece_path(number), gradient);
        }
    }

    /// Adds the gradient of [`Self::rows`]: `d` of the row of each token, but for that of padding.
    pub fn add_rows_gradient(&self, sums: &mut Gradients, tokens: &Tensor<1, Int>, d: &Tensor<2>) {
        if let (None, Some(factors)) = (&self.token_rows, &self.factors) {
            return factors.add_rows_gradient(sums, (tokens, self.padding), d);
        }
        let d = &without_padding(self.padding, tokens, d.clone());
        if let Some(rows) = &self.token_rows {
            return rows.add_rows_gradient(sums, tokens, d);
        }
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

/// Rows that are multiplied at once by tensor operations of the CPU: these copy a matrix to turn it
/// or to widen it, and the whole one is the largest of most models.
pub const TABLE_ROWS_AT_ONCE: usize = 4096;

/// A piece as it is multiplied at once.
fn strips(piece: &Parameter<2>) -> impl Iterator<Item = Tensor<2>> {
    let (value, [rows, _]) = (piece.value.clone(), piece.value.dims());
    let most = if value.device() == Device::flex() { TABLE_ROWS_AT_ONCE } else { rows };
    (0..rows).step_by(most).map(move |first| match rows <= most {
        true => value.clone(),
        false => value.clone().narrow(0, first, most.min(rows - first)),
    })
}

/// Some columns of `d`.
fn columns(d: &Tensor<2>, first: usize, count: usize) -> Tensor<2> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableKind;

    fn piece(values: &[f32]) -> Parameter<2> {
        Parameter::frozen(from_vec(values.to_vec(), [values.len() / 2, 2], &Device::flex()))
    }

    #[test]
    fn new_rows_are_the_mean_of_the_others_in_as_many_pieces_as_there_must_be() {
        let mut matrix = VocabularyMatrix::new(
            "model.embed_tokens.weight",
            vec![piece(&[1.0, 2.0, 3.0, 4.0]), piece(&[5.0, 9.0])],
        );
        matrix.extend(4, 2);
        let rows = |matrix: &VocabularyMatrix| -> Vec<Vec<f32>> {
            matrix.pieces().iter().map(|piece| host(piece.value.clone())).collect()
        };
        let mean = [3.0, 5.0];
        let expected = [
            vec![1.0, 2.0, 3.0, 4.0],
            [&[5.0, 9.0], &mean[..]].concat(),
            mean.repeat(2),
            mean.to_vec(),
        ];
        assert_eq!(rows(&matrix), expected);
        let mut whole = VocabularyMatrix::new("lm_head.weight", vec![piece(&[1.0, 2.0, 2.0, 0.0])]);
        whole.extend(2, usize::MAX);
        assert_eq!(rows(&whole), [vec![1.0, 2.0, 2.0, 0.0, 1.5, 1.0, 1.5, 1.0]]);
    }

    #[test]
    fn factors_stand_for_a_matrix_with_their_product_added() {
        for kind in [TableKind::Head, TableKind::Embedding] {
            let device = Device::flex();
            let [of_a, of_b] = kind.dims([3, 2], 1);
            let tensor = |values: &[f32], dims| from_vec(values.to_vec(), dims, &device);
            // L is (1, 2, 3), R is (10, 20), in whichever of the two files have them.
            let (left, right) = ([1.0, 2.0, 3.0], [10.0, 20.0]);
            let [a, b]: [&[f32]; 2] = match kind {
                TableKind::Head => [&right, &left],
                TableKind::Embedding => [&left, &right],
            };
            let mut matrix =
                VocabularyMatrix::new("x.weight", vec![piece(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]);
            let factors = [tensor(a, of_a), tensor(b, of_b)];
            let paths = ["x.a", "x.b"].map(str::to_owned);
            matrix.factors = Some(TableFactors::new(paths, kind, factors, 0.5));
            let whole = [5.0, 11.0, 12.0, 23.0, 19.0, 35.0];
            let tokens = indices([2, 0].into_iter(), &device);
            assert_eq!(host(matrix.rows(&tokens)), [19.0, 35.0, 5.0, 11.0]);
            let computing = ComputeConfig::default();
            let x = tensor(&[1.0, -1.0], [1, 2]);
            assert_eq!(host(matrix.scores(&x, computing)), [-6.0, -11.0, -16.0]);
            let d = tensor(&[1.0, 0.0, 2.0], [1, 3]);
            let back = [whole[0] + 2.0 * whole[4], whole[1] + 2.0 * whole[5]];
            assert_eq!(host(matrix.back(&d, computing)), back);

            // Of the matrix the gradient is dᵀ·x, and (7, 8) at token 1.
            let mut sums = Gradients::default();
            let (token, more) = (indices([1].into_iter(), &device), tensor(&[7.0, 8.0], [1, 2]));
            matrix.add_scores_gradient(&mut sums, (&d, &x), (&token, &more), computing);
            let found = |name: &str| host(sums.get(name).unwrap().clone());
            let of_left = [-5.0, 0.5 * (70.0 + 160.0), -10.0];
            let of_right = [0.5 * (1.0 + 6.0 + 14.0), 0.5 * (-1.0 - 6.0 + 16.0)];
            let [d_a, d_b]: [&[f32]; 2] = match kind {
                TableKind::Head => [&of_right, &of_left],
                TableKind::Embedding => [&of_left, &of_right],
            };
            assert_eq!((found("x.a"), found("x.b")), (d_a.to_vec(), d_b.to_vec()));
        }
    }

    #[test]
    fn of_factors_padding_keeps_back_the_row_of_the_token_alone() {
        let device = Device::flex();
        let tensor = |values: &[f32], dims| from_vec(values.to_vec(), dims, &device);
        let table = || piece(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let tokens = indices([1, 2, 1].into_iter(), &device);
        let d = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]);
        let mut matrix = VocabularyMatrix::new("x.weight", vec![table()]);
        let factors = [tensor(&[1.0, 2.0, 3.0], [1, 3]), tensor(&[10.0, 20.0], [2, 1])];
        let paths = ["x.a", "x.b"].map(str::to_owned);
        matrix.factors = Some(TableFactors::new(paths, TableKind::Embedding, factors, 0.5));
        matrix.padding = Some(1);
        let mut sums = Gradients::default();
        matrix.add_rows_gradient(&mut sums, &tokens, &d);
        let found = |sums: &Gradients, name: &str| host(sums.get(name).unwrap().clone());
        // PEFT looks the row up in A with `padding_idx`, and multiplies what it finds with B.
        assert_eq!(found(&sums, "x.a"), [0.0, 0.0, 0.5 * (30.0 + 80.0)]);
        let of_b = [0.5 * (2.0 * 6.0 + 3.0 * 3.0), 0.5 * (2.0 * 8.0 + 3.0 * 4.0)];
        assert_eq!(found(&sums, "x.b"), of_b);

        // Rows that are trained beside the others have no part of it.
        let mut matrix = VocabularyMatrix::new("x.weight", vec![table()]);
        matrix.train_rows(vec![2, 1]);
        matrix.padding = Some(1);
        let mut sums = Gradients::default();
        matrix.add_rows_gradient(&mut sums, &tokens, &d);
        let path = matrix.token_rows().unwrap().path();
        assert_eq!(found(&sums, path), [3.0, 4.0, 0.0, 0.0]);
    }
}
