//! Matrices that a file has in blocks of ggml's types, as they lie there: a row is whole blocks.

use std::sync::Arc;

use super::ggml::TensorType;
use super::spill::{SpillFile, StoredBytes};
use crate::error::Result;
use crate::weights::coded_matrix::CodedMatrix;
use crate::weights::packed::Packed;

/// Matrices `[rows, columns]` of the same type, one after the other.
#[derive(Debug, Clone)]
pub struct Blocks {
    bytes: StoredBytes,
    kind: &'static TensorType,
    columns: usize,
}

/// Some rows of them.
#[derive(Debug)]
struct Matrix {
    of: Blocks,
    first: usize,
    rows: usize,
}

impl Blocks {
    /// Rows of so many numbers, whole blocks of this type.
    pub fn new(bytes: impl Into<StoredBytes>, kind: &'static TensorType, columns: usize) -> Self {
        let of = Self { bytes: bytes.into(), kind, columns };
        assert!(of.bytes.size().is_multiple_of(of.row_bytes().max(1)), "rows of {columns} numbers");
        of
    }

    fn row_bytes(&self) -> usize {
        self.columns / self.kind.block * self.kind.bytes
    }

    /// The numbers of all.
    pub fn values(&self) -> Vec<f32> {
        self.kind.values(&self.bytes.get(0, self.bytes.size()))
    }

    /// One of the matrices with so many rows each.
    pub fn matrix(&self, number: usize, rows: usize) -> Arc<dyn CodedMatrix> {
        assert!((number + 1) * rows * self.row_bytes() <= self.bytes.size(), "it has these rows");
        Arc::new(Matrix { of: self.clone(), first: number * rows, rows })
    }
}

impl CodedMatrix for Matrix {
    fn shape(&self) -> [usize; 2] {
        [self.rows, self.of.columns]
    }

    fn read(&self, row: usize, first: usize, target: &mut [f32]) {
        let size = self.of.row_bytes();
        let row = self.of.bytes.get((self.first + row) * size, size);
        self.of.kind.read(&row, first, target);
    }

    fn in_memory(&self, first: usize, rows: usize) -> Option<Arc<dyn CodedMatrix>> {
        let (size, kind, columns) = (self.of.row_bytes(), self.of.kind, self.of.columns);
        let bytes = self.of.bytes.in_memory((self.first + first) * size, rows * size)?;
        Some(Blocks::new(bytes, kind, columns).matrix(0, rows))
    }

    fn packed(&self) -> Option<Vec<Packed>> {
        let size = self.of.row_bytes();
        let bytes = self.of.bytes.get(self.first * size, self.rows * size);
        Some(vec![Packed::of_blocks(self.of.kind, &bytes)?])
    }

    fn spilled(&self, file: &Arc<SpillFile>) -> Result<Arc<dyn CodedMatrix>> {
        let of = Blocks { bytes: self.of.bytes.spilled(file)?, ..self.of };
        Ok(Arc::new(Self { of, first: self.first, rows: self.rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::formats::dequantised;
    use crate::weights::ggml::TYPES;

    #[test]
    fn numbers_are_those_of_the_whole_tensor() {
        for kind in TYPES.iter().filter(|kind| kind.is_quantised()) {
            // Three matrices of two rows of two blocks; scales that are small numbers.
            let bytes: Vec<u8> = (0..12 * kind.bytes).map(|at| (at * 37 % 59) as u8).collect();
            let columns = 2 * kind.block;
            let blocks = Blocks::new(bytes, kind, columns);
            let values = blocks.values();
            for (number, wanted) in values.chunks_exact(2 * columns).enumerate() {
                let matrix = blocks.matrix(number, 2);
                assert_eq!(matrix.shape(), [2, columns]);
                assert_eq!(dequantised(matrix.as_ref()), wanted, "{}", kind.name);
                let mut part = [0.0; 40];
                matrix.read(1, kind.block - 20, &mut part);
                assert_eq!(part, wanted[columns + kind.block - 20..][..40], "{}", kind.name);
                // A file has them so, and its digest is in the lineage.
                assert!(matrix.digest().is_none());
            }
        }
    }
}
