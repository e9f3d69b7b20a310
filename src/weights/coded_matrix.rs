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
        let [a, b] = &self.0;
        let (end, cut) = (first + rows, a.shape()[0]);
        if end <= cut {
            return a.in_memory(first, rows);
        }
        if first >= cut {
            return b.in_memory(first - cut, rows);
        }
        Some(Arc::new(Self([a.in_memory(first, cut - first)?, b.in_memory(0, end - cut)?])))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::number_matrix::NumberMatrix;
    use crate::weights::{Element, RawNumbers};

    #[test]
    fn some_rows_of_two_matrices_on_disk_are_in_memory_whichever_they_are_of() {
        let folder = tempfile::tempdir().unwrap();
        let disk = SpillFile::within(folder.path()).unwrap();
        let numbers: Vec<f32> = (0_u16..21).map(f32::from).collect();
        let half = |numbers: &[f32]| -> Arc<dyn CodedMatrix> {
            let (given, shape) = (RawNumbers::F32(numbers.to_vec()), [numbers.len() / 3, 3]);
            Arc::new(NumberMatrix::on_disk(&given, Element::F32, shape, &disk).unwrap())
        };
        let joined = Joined([half(&numbers[..12]), half(&numbers[12..])]);
        assert_eq!(dequantised(&joined), numbers);
        for (first, rows) in [(0, 7), (0, 4), (1, 2), (4, 3), (5, 1), (3, 2), (2, 5)] {
            let some = joined.in_memory(first, rows).unwrap();
            assert_eq!(some.shape(), [rows, 3]);
            assert_eq!(dequantised(&*some), numbers[3 * first..][..3 * rows]);
            assert!(some.in_memory(0, rows).is_none(), "they are in memory already");
        }
    }
}
