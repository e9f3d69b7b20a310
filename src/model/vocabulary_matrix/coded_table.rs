//! An embedding or output head whose rows nothing trains, as codes on the host.

use std::sync::Arc;

use burn::tensor::{Device, FloatDType, Int, Tensor};

use super::TABLE_ROWS_AT_ONCE;
use crate::ops::{CodedFactor, from_vec, wide};
use crate::weights::formats::{CodedMatrix, dequantised};

/// Rows that nothing trains, on the host.
pub(super) struct CodedTable {
    /// `[vocabulary, hidden]`.
    pub codes: Arc<dyn CodedMatrix>,
    /// What rows are rounded to, as those of tensors are in that arithmetic.
    pub rounds: Option<FloatDType>,
}

impl CodedTable {
    /// Rows in 32 bits, as a tensor.
    fn tensor(&self, values: Vec<f32>) -> Tensor<2> {
        let columns = self.codes.shape()[1];
        let shape = [values.len() / columns, columns];
        let rows = from_vec(values, shape, &Device::flex());
        match self.rounds {
            Some(format) => wide(rows.cast(format)),
            None => rows,
        }
    }

    /// Those of some tokens.
    pub fn rows(&self, tokens: &Tensor<1, Int>) -> Tensor<2> {
        let columns = self.codes.shape()[1];
        let numbers = tokens.clone().into_data().convert::<i64>();
        let numbers: Vec<i64> = numbers.try_into_vec().expect("converted to i64 just before");
        let mut values = vec![0.0; numbers.len() * columns];
        for (number, target) in numbers.iter().zip(values.chunks_exact_mut(columns)) {
            let row = usize::try_from(*number).expect("tokens are numbers of rows");
            self.codes.read(row, 0, target);
        }
        self.tensor(values)
    }

    /// What products take, as many rows of it at once as of numbers: their sums are the same.
    pub fn factor(&self) -> CodedFactor {
        CodedFactor { codes: Arc::clone(&self.codes), rows_at_once: TABLE_ROWS_AT_ONCE }
    }

    /// All of them.
    pub fn values(&self) -> Tensor<2> {
        self.tensor(dequantised(self.codes.as_ref()))
    }
}
