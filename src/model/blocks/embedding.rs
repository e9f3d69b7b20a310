//! From tokens to the residual stream: a row of a matrix, scaled.

use burn::tensor::{Int, Tensor};

use crate::model::{Gradients, VocabularyMatrix};

/// The weights.
pub struct Embedding {
    /// `[vocabulary, hidden]`.
    pub matrix: VocabularyMatrix,
    /// What rows are multiplied with.
    pub scale: f32,
}

impl Embedding {
    /// Token numbers to `[tokens, hidden]`.
    pub fn forward(&self, tokens: &Tensor<1, Int>) -> Tensor<2> {
        self.scaled(self.matrix.rows(tokens))
    }

    /// Adds the gradient of the matrix, or of rows of it, if they learn, for that of the output.
    pub fn backward(&self, tokens: &Tensor<1, Int>, d: Tensor<2>, sums: &mut Gradients) {
        if self.matrix.learns() {
            self.matrix.add_rows_gradient(sums, tokens, &self.scaled(d));
        }
    }

    fn scaled(&self, x: Tensor<2>) -> Tensor<2> {
        if self.scale == 1.0 { x } else { x.mul_scalar(self.scale) }
    }
}
