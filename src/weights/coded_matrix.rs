//! Matrices that are kept as codes, whatever the format.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::Result;
use crate::files::Digest;
use crate::weights::packed::Packed;
use crate::weights::spill::SpillFile;

/// A matrix `[rows, columns]` that is kept as codes.
pub trait CodedMatrix: Debug + Send + Sync {
    /// Rows and columns.
    fn shape(&self) -> [usize; 2];
    /// Numbers of a row from the column `first` on, as many as `target` has.
    fn read(&self, row: usize, first: usize, target: &mut [f32]);
    /// Some of its rows in memory, where they are on disk: what is packed is read once.
    fn in_memory(&self, _first: usize, _rows: usize) -> Option<Arc<dyn CodedMatrix>> {
        None
    }
    /// As the kernels of GPUs take it, in parts whose rows follow each other; none where there is
    /// no kernel for it.
    fn packed(&self) -> Option<Vec<Packed>> {
        None
    }
    /// The same with its codes on disk; scales stay in memory.
    ///
    /// # Errors
    /// When the disk is full.
    fn spilled(&self, file: &Arc<SpillFile>) -> Result<Arc<dyn CodedMatrix>>;
    /// The digest of codes and scales; none of what a file has so, which has a digest itself.
    fn digest(&self) -> Option<Digest> {
        None
    }
}

/// Two matrices of the same width, the rows of one after those of the other.
#[derive(Debug)]
pub struct Joined(pub [Arc<dyn CodedMatrix>; 2]);

impl CodedMatrix for Joined {
    fn shape(&self) -> [usize; 2] {
        let [upper, lower] = [self.0[0].shape(), self.0[1].shape()];
        [upper[0] + lower[0], upper[1]]
    }

    fn read(&self, row: usize, first: usize, target: &mut [f32]) {
        let [upper, lower] = &self.0;
        match row.checked_sub(upper.shape()[0]) {
            None => upper.read(row, first, target),
            Some(row) => lower.read(row, first, target),
        }
    }

    fn in_memory(&self, first: usize, rows: usize) -> Option<Arc<dyn CodedMatrix>> {
        let [upper, lower] = self.0.each_ref().map(|half| half.shape()[0]);
        // Products take whole matrices of experts.
        if (first, rows) != (0, upper + lower) {
            return None;
        }
        let [a, b] = &self.0;
        Some(Arc::new(Self([a.in_memory(0, upper)?, b.in_memory(0, lower)?])))
    }

    fn packed(&self) -> Option<Vec<Packed>> {
        let [upper, lower] = [self.0[0].packed()?, self.0[1].packed()?];
        Some(upper.into_iter().chain(lower).collect())
    }

    fn spilled(&self, file: &Arc<SpillFile>) -> Result<Arc<dyn CodedMatrix>> {
        let [a, b] = &self.0;
        Ok(Arc::new(Self([a.spilled(file)?, b.spilled(file)?])))
    }

    fn digest(&self) -> Option<Digest> {
        let [upper, lower] = [self.0[0].digest()?, self.0[1].digest()?];
        Some(Digest::of_parts(&[&upper.0, &lower.0]))
    }
}

/// Every number of a matrix, row by row: what products are those of.
pub fn dequantised(matrix: &dyn CodedMatrix) -> Vec<f32> {
    let [rows, columns] = matrix.shape();
    let mut numbers = vec![0.0; rows * columns];
    for (row, target) in numbers.chunks_exact_mut(columns.max(1)).enumerate() {
        matrix.read(row, 0, target);
    }
    numbers
}
