//! The matrices of linear layers, which may be kept as codes.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType};

use super::read::{LoadedTensor, LoadedWeights};
use super::{Streamed, WeightSource};
use crate::error::{Error, Result};
use crate::files::Digest;
use crate::model::{Matrix, VocabularyMatrix};
use crate::ops::DeviceCodes;
use crate::weights::formats::{CodedMatrix, Coding, Storage, dequantised};
use crate::weights::{Blocks, Element, NumberMatrix, RawNumbers, SpillFile};

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
            return self.coded(name, Arc::new(codes));
        }
        if let Some(blocks) = self.kept_blocks(name, &shape)? {
            return self.coded(name, blocks.matrix(0, shape[0]));
        }
        let numbers = self.numbers(name, shape)?;
        self.linear_of(name, numbers, shape)
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
        match self.held.remove(name).map(|held| held.weights.in_memory()) {
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
    ) -> Result<Matrix> {
        match self.coding() {
            Some(code) => self.coded(name, code(&numbers.into_f32(), shape)),
            None => self.of_numbers(numbers, shape),
        }
    }

    /// A matrix that is kept as numbers.
    pub(super) fn of_numbers(&self, numbers: RawNumbers, shape: [usize; 2]) -> Result<Matrix> {
        match self.disk_of_layers() {
            Some(disk) => Ok(Matrix::Coded(self.on_disk(&numbers, shape, disk)?)),
            None => Ok(Matrix::Tensor(self.kept(numbers, shape))),
        }
    }

    /// Where matrices of layers are left, if not in memory.
    pub(super) fn disk_of_layers(&self) -> Option<&Arc<SpillFile>> {
        match &self.disk {
            Some((Streamed::All, disk)) => Some(disk),
            _ => None,
        }
    }

    /// Where matrices with a row for each token are left, if not in memory.
    pub(super) fn disk_of_tables(&self) -> Option<&Arc<SpillFile>> {
        self.disk.as_ref().map(|(_, disk)| disk)
    }

    /// Numbers on disk in the format in which they would be kept in memory.
    pub(super) fn on_disk(
        &self,
        numbers: &RawNumbers,
        shape: [usize; 2],
        disk: &Arc<SpillFile>,
    ) -> Result<Arc<dyn CodedMatrix>> {
        let element = self.element_on_disk(numbers.element());
        Ok(Arc::new(NumberMatrix::on_disk(numbers, element, shape, disk)?))
    }

    /// The format of numbers on disk that a file has in another: that of memory.
    pub(super) fn element_on_disk(&self, in_file: Element) -> Element {
        match self.format {
            _ if self.bfloat16 && in_file == Element::BF16 => Element::BF16,
            Some(FloatDType::BF16) => Element::BF16,
            Some(FloatDType::F16) => Element::F16,
            _ => Element::F32,
        }
    }

    /// What makes codes of numbers, if linear layers are kept as such.
    pub(super) fn coding(&self) -> Option<Coding> {
        match self.linears?.storage() {
            Storage::Coded(code) => Some(code),
            Storage::Tensor(_) | Storage::Numbers => None,
        }
    }

    /// A matrix that is kept as codes; as the numbers of them where that was chosen, and on a GPU
    /// that has no kernel for them, or no room for the numbers of one.
    pub(super) fn coded(&mut self, name: &str, codes: Arc<dyn CodedMatrix>) -> Result<Matrix> {
        self.coded.extend(codes.digest().map(|digest| (name.to_owned(), digest)));
        if self.device == Device::flex() && self.keeps_codes {
            return Ok(Matrix::Coded(placed(codes, self.disk_of_layers())?));
        }
        let fits = self.computing.limits.holds(codes.shape().iter().product::<usize>() as u64);
        if self.keeps_codes
            && fits
            && let Some(codes) = DeviceCodes::uploaded(codes.as_ref(), &self.device)
        {
            return Ok(Matrix::OnGpu(codes));
        }
        self.of_numbers(RawNumbers::F32(dequantised(codes.as_ref())), codes.shape())
    }

    /// A matrix with a row per token that is kept as codes.
    pub(super) fn coded_table(
        &self,
        name: &'static str,
        codes: Arc<dyn CodedMatrix>,
    ) -> Result<VocabularyMatrix> {
        let codes = placed(codes, self.disk_of_tables())?;
        Ok(VocabularyMatrix::coded(name, codes, self.format))
    }
}

/// Codes where they are to be.
fn placed(
    codes: Arc<dyn CodedMatrix>,
    disk: Option<&Arc<SpillFile>>,
) -> Result<Arc<dyn CodedMatrix>> {
    match disk {
        Some(disk) => codes.spilled(disk),
        None => Ok(codes),
    }
}

/// The digest of the names and digests of matrices.
pub(super) fn digest_of(all: &BTreeMap<String, Digest>) -> Option<Digest> {
    let line = |(name, digest): (&String, &Digest)| format!("{digest} {name}\n");
    let lines: String = all.iter().map(line).collect();
    (!lines.is_empty()).then(|| Digest::of(lines.as_bytes()))
}
