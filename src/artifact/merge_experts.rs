//! What an adapter changes of tensors that are made of the matrices of experts.

use crate::adapters::WeightChange;
use crate::model::description::turned;

/// The change of some rows of a matrix.
pub struct RowsChange {
    /// The first of them.
    pub first: usize,
    /// Of the whole matrix.
    pub whole: Box<dyn WeightChange>,
}

impl WeightChange for RowsChange {
    fn apply(&self, first: usize, rows: &mut [f32], added: &mut [f32]) {
        self.whole.apply(self.first + first, rows, added);
    }
}

/// The change of the matrices of experts, one after the other; each is a row.
pub struct StackedChange {
    /// Of each expert.
    pub experts: Vec<Box<dyn WeightChange>>,
    /// `[out, in]` of each.
    pub dims: [usize; 2],
    /// Whether they are transposed, and then whether columns of the first half and of the second
    /// alternate.
    pub transposed: Option<bool>,
}

impl WeightChange for StackedChange {
    fn apply(&self, first: usize, rows: &mut [f32], added: &mut [f32]) {
        let count = self.dims[0] * self.dims[1];
        let all = rows.chunks_exact_mut(count).zip(added.chunks_exact_mut(count));
        for ((rows, added), change) in all.zip(&self.experts[first..]) {
            let Some(alternating) = self.transposed else {
                change.apply(0, rows, added);
                continue;
            };
            let mut matrix = turned(rows, self.dims, alternating, false);
            let mut of_matrix = vec![0.0; count];
            change.apply(0, &mut matrix, &mut of_matrix);
            rows.copy_from_slice(&turned(&matrix, self.dims, alternating, true));
            added.copy_from_slice(&turned(&of_matrix, self.dims, alternating, true));
        }
    }
}
