//! The matrices of linear layers, which may be kept as codes.

use std::sync::Arc;

use burn::tensor::Device;

use super::WeightSource;
use super::read::{LoadedTensor, LoadedWeights};
use crate::error::{Error, Result};
use crate::model::Matrix;
use crate::weights::formats::{CodedMatrix, Coding, Storage, dequantised};
use crate::weights::{Blocks, Element, RawNumbers};

impl WeightSource {
    /// The matrix `[out, in]` of a linear layer.
    pub(super) fn linear_matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix> {
        if let Some(LoadedTensor { weights: LoadedWeights::Linear(_), .. }) = self.held.get(name)
            && let LoadedWeights::Linear(matrix) = self.asked(name, &shape)?
        {
            return Ok(matrix);
        }
        if let Some(state) = self.stored.remove(name) {
            let codes = state.matrix(name, |part| self.part(part))?;
            let element = Element::U8;
            self.elements.insert(name.to_owned(), element);
            return Ok(self.coded(name, Arc::new(codes)));
        }
        if let Some(blocks) = self.kept_blocks(name, &shape)? {
            return Ok(self.coded(name, blocks.matrix(0, shape[0])));
        }
        let numbers = self.numbers(name, shape)?;
        Ok(self.linear_of(name, numbers, shape))
    }

    /// Whether the tensor of a name is kept in blocks.
    pub(super) fn holds_blocks(&self, name: &str) -> bool {
        let held = self.held.get(name).map(|held| &held.weights);
        matches!(held, Some(LoadedWeights::Blocks(_)))
    }

    /// One matrix or several that a file has in blocks; none if they are not kept so.
    pub(super) fn kept_blocks(&mut self, name: &str, shape: &[usize]) -> Result<Option<Blocks>> {
        if !self.holds_blocks(name) {
            return Ok(None);
        }
        match self.asked(name, shape)? {
            LoadedWeights::Blocks(blocks) => Ok(Some(blocks)),
            _ => unreachable!("it was looked at just before"),
        }
    }

    /// A tensor that a coded matrix is made of.
    fn part(&mut self, name: &str) -> Result<RawNumbers> {
        match self.held.remove(name).map(|held| held.weights) {
            Some(LoadedWeights::Numbers(numbers)) => Ok(numbers),
            _ => Err(Error::weights(format!("the weights lack `{name}`"))),
        }
    }

    /// The matrix of these numbers.
    pub(super) fn linear_of(
        &mut self,
        name: &str,
        numbers: RawNumbers,
        shape: [usize; 2],
    ) -> Matrix {
        match self.coding() {
            Some(code) => self.coded(name, code(&numbers.into_f32(), shape)),
            None => Matrix::Tensor(self.kept(numbers, shape)),
        }
    }

    /// What makes codes of numbers, if linear layers are kept as such.
    pub(super) fn coding(&self) -> Option<Coding> {
        match self.linears?.storage() {
            Storage::Coded(code) => Some(code),
            Storage::Tensor(_) | Storage::Numbers => None,
        }
    }

    /// A matrix that is kept as codes; as the numbers of them on other devices than the CPU, and
    /// where that was chosen.
    pub(super) fn coded(&mut self, name: &str, codes: Arc<dyn CodedMatrix>) -> Matrix {
        self.coded.extend(codes.digest().map(|digest| (name.to_owned(), digest)));
        if self.device == Device::flex() && self.keeps_codes {
            return Matrix::Coded(codes);
        }
        let numbers = RawNumbers::F32(dequantised(codes.as_ref()));
        Matrix::Tensor(self.kept(numbers, codes.shape()))
    }
}
