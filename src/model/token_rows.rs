//! Rows of a matrix with a row per token that are trained while all others are frozen (PEFT's
//! trainable tokens). They are written into the matrix whenever they change, so that whatever reads
//! it reads them; their gradient is made apart from it.

use burn::tensor::{FloatDType, IndexingUpdateOp, Int, Tensor};

use crate::model::{Gradients, Parameter, Visitor};
use crate::ops::{indices, wide};

/// The name of the rows within the module of the matrix, as PEFT has it.
const ROWS: &str = ".token_adapter.trainable_tokens_delta";

/// The path of the trained rows of the matrix at `weight`.
pub fn token_rows_path(weight: &str) -> String {
    format!("{}{ROWS}", weight.strip_suffix(".weight").unwrap_or(weight))
}

/// The path of the matrix whose trained rows are at `path`.
pub fn matrix_of_token_rows(path: &str) -> Option<String> {
    path.strip_suffix(ROWS).map(|module| format!("{module}.weight"))
}

/// The rows, in 32 bits.
pub struct TokenRows {
    path: String,
    tokens: Vec<u32>,
    /// `[tokens, hidden]`.
    rows: Parameter<2>,
    /// The same tokens, as indices.
    columns: Tensor<1, Int>,
    /// For each token of the vocabulary the number of its row; one more than there are for those
    /// that have none.
    places: Tensor<1, Int>,
}

impl TokenRows {
    /// Of the matrix at the path `weight`, which has so many rows; `values` are those of the
    /// tokens.
    pub fn new(weight: &str, vocabulary: usize, tokens: Vec<u32>, values: Tensor<2>) -> Self {
        let device = values.device();
        let mut places = vec![index(tokens.len()); vocabulary];
        for (place, token) in (0..).zip(&tokens) {
            places[*token as usize] = place;
        }
        Self {
            path: token_rows_path(weight),
            columns: indices(tokens.iter().copied(), &device),
            places: indices(places.into_iter(), &device),
            rows: Parameter { value: values, trainable: true },
            tokens,
        }
    }

    /// The path of the rows.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tokens, in the order of their rows.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Shows the rows to `visitor`.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.matrix(&self.path, &mut self.rows);
    }

    /// Puts the rows into a matrix, each rounded to the format of its piece.
    pub fn write_into(&self, pieces: &mut [Parameter<2>]) {
        let mut first = 0;
        for piece in pieces {
            let rows = first..first + piece.value.dims()[0];
            let all = (0..).zip(&self.tokens);
            let inside = all.filter(|(_, token)| rows.contains(&(**token as usize)));
            let (places, local): (Vec<u32>, Vec<u32>) =
                inside.map(|(place, token)| (place, token - index(first))).unzip();
            first = rows.end;
            if places.is_empty() {
                continue;
            }
            let device = self.rows.value.device();
            let values = self.rows.value.clone().select(0, indices(places.into_iter(), &device));
            let values = values.cast(FloatDType::from(piece.value.dtype()));
            let local = indices(local.into_iter(), &device);
            // Taken out, so that it is changed where it lies in memory.
            let matrix = std::mem::replace(&mut piece.value, values.clone());
            piece.value = matrix.select_assign(0, local, values, IndexingUpdateOp::Assign);
        }
    }

    /// Adds the gradient of rows that were looked up: `d` of the row of each token.
    pub fn add_rows_gradient(&self, sums: &mut Gradients, tokens: &Tensor<1, Int>, d: &Tensor<2>) {
        sums.add(&self.path, self.scattered(tokens, d));
    }

    /// Those of the scores `d: [positions, vocabulary]` that these rows make.
    pub fn scores(&self, d: &Tensor<2>) -> Tensor<2> {
        wide(d.clone().select(1, self.columns.clone()))
    }

    /// Adds the gradient of these scores of `x`, for their own gradient [`Self::scores`]; and
    /// `more` of the row of each token.
    pub fn add_scores_gradient(
        &self,
        sums: &mut Gradients,
        (d, x): (Tensor<2>, &Tensor<2>),
        more: Option<(&Tensor<1, Int>, &Tensor<2>)>,
    ) {
        let gradient = d.transpose().matmul(wide(x.clone())); // they are few, and none is rounded
        let more = more.map(|(tokens, more)| self.scattered(tokens, more));
        sums.add(&self.path, more.map_or(gradient.clone(), |more| gradient + more));
    }

    /// The sum of `d` over the places of each of these tokens, `[tokens, hidden]`.
    fn scattered(&self, tokens: &Tensor<1, Int>, d: &Tensor<2>) -> Tensor<2> {
        let [count, width] = self.rows.value.dims();
        let places = self.places.clone().select(0, tokens.clone());
        let sum = Tensor::zeros([count + 1, width], &d.device()); // the last row is of the others
        sum.select_assign(0, places, d.clone(), IndexingUpdateOp::Add).narrow(0, 0, count)
    }
}

fn index(number: usize) -> u32 {
    u32::try_from(number).expect("vocabularies stay below 2^31")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::{flat, from_vec, host};

    fn tensor(values: &[f32], columns: usize) -> Tensor<2> {
        let shape = [values.len() / columns, columns];
        from_vec(values.to_vec(), shape, &Device::flex())
    }

    fn rows() -> TokenRows {
        TokenRows::new(
            "model.embed_tokens.weight",
            5,
            vec![4, 1],
            tensor(&[4.0, 40.0, 1.0, 10.0], 2),
        )
    }

    #[test]
    fn they_stand_in_the_matrix_whose_other_rows_stay() {
        let zeros = |count: usize| Parameter::frozen(tensor(&vec![0.0; count * 2], 2));
        let mut whole = [zeros(5)];
        rows().write_into(&mut whole);
        let expected = [0.0, 0.0, 1.0, 10.0, 0.0, 0.0, 0.0, 0.0, 4.0, 40.0];
        assert_eq!(host(whole[0].value.clone()), expected);
        let mut pieces = [zeros(2), zeros(2), zeros(1)];
        rows().write_into(&mut pieces);
        let all = pieces.iter().flat_map(|piece| host(piece.value.clone()));
        assert_eq!(all.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn their_gradient_is_that_of_the_whole_matrix_at_these_rows() {
        let device = Device::flex();
        let tokens = indices([1, 0, 4, 1].into_iter(), &device);
        let d = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], 2);
        let mut sums = Gradients::default();
        rows().add_rows_gradient(&mut sums, &tokens, &d);
        let path = "model.embed_tokens.token_adapter.trainable_tokens_delta";
        assert_eq!(host(flat(sums.get(path).unwrap().clone())), [5.0, 6.0, 8.0, 10.0]);

        let x = tensor(&[1.0, 2.0, 3.0, 4.0], 2);
        let scores = tensor(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 5);
        let mut sums = Gradients::default();
        let tokens = indices([1, 3].into_iter(), &device);
        let rows = rows();
        rows.add_scores_gradient(&mut sums, (rows.scores(&scores), &x), Some((&tokens, &x)));
        let found = host(flat(sums.get(path).unwrap().clone()));
        // Columns 4 and 1 of the scores times `x`, and `x` of the first position for token 1.
        let expected = [0.5 + 3.0, 1.0 + 4.0, 0.2 + 2.1 + 1.0, 0.4 + 2.8 + 2.0];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn paths_are_those_of_peft() {
        let path = token_rows_path("model.embed_tokens.weight");
        assert_eq!(path, "model.embed_tokens.token_adapter.trainable_tokens_delta");
        assert_eq!(matrix_of_token_rows(&path).as_deref(), Some("model.embed_tokens.weight"));
        assert_eq!(matrix_of_token_rows("model.embed_tokens.weight"), None);
    }
}
