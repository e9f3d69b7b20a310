//! Matrices of numbers that are left on disk as codes are.

use std::borrow::Cow;
use std::sync::Arc;

use super::spill::{SpillFile, StoredBytes};
use super::stream::ShardStream;
use super::{Element, RawNumbers, TensorPlace};
use crate::error::Result;
use crate::weights::coded_matrix::CodedMatrix;

/// Numbers that are encoded and written at once.
const PART: usize = 1 << 20;

/// A matrix `[rows, columns]`, row after row.
#[derive(Debug)]
pub struct NumberMatrix {
    bytes: StoredBytes,
    element: Element,
    shape: [usize; 2],
}

impl NumberMatrix {
    /// Of numbers that are left on disk in a format, rounded if it is a shorter one.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn on_disk(
        numbers: &RawNumbers,
        element: Element,
        shape: [usize; 2],
        disk: &Arc<SpillFile>,
    ) -> Result<Self> {
        let count = numbers.len();
        assert_eq!(count, shape[0] * shape[1], "a matrix of this shape");
        let parts = (0..count).step_by(PART);
        let parts = parts.map(|first| numbers.encoded(first..count.min(first + PART), element));
        Ok(Self { bytes: disk.put(parts)?, element, shape })
    }

    /// The same of the tensor that a file was begun with, of which no more than `most` bytes are in
    /// memory at once.
    ///
    /// # Errors
    /// When the disk is full, or the file cannot be read.
    pub fn from_file(
        (shard, place): (&mut ShardStream, &TensorPlace),
        (buffer, most): (&mut Vec<u8>, usize),
        (element, shape): (Element, [usize; 2]),
        disk: &Arc<SpillFile>,
    ) -> Result<Self> {
        let bytes = shard.read_to_disk((buffer, most), disk, |bytes| {
            if place.element == element {
                return Cow::Borrowed(bytes);
            }
            let count = bytes.len() / place.element.size();
            let mut numbers = RawNumbers::with_capacity(place.element, count);
            numbers.extend(bytes);
            Cow::Owned(numbers.encoded(0..count, element))
        })?;
        assert_eq!(bytes.size(), shape[0] * shape[1] * element.size(), "a matrix of this shape");
        Ok(Self { bytes, element, shape })
    }
}

impl CodedMatrix for NumberMatrix {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn read(&self, row: usize, first: usize, target: &mut [f32]) {
        let size = self.element.size();
        let place = (row * self.shape[1] + first) * size;
        let bytes = self.bytes.get(place, target.len() * size);
        self.element.decode(&bytes, target);
    }

    fn in_memory(&self, first: usize, rows: usize) -> Option<Arc<dyn CodedMatrix>> {
        let row = self.shape[1] * self.element.size();
        let bytes = self.bytes.in_memory(first * row, rows * row)?.into();
        let (element, shape) = (self.element, [rows, self.shape[1]]);
        Some(Arc::new(Self { bytes, element, shape }))
    }

    fn spilled(&self, file: &Arc<SpillFile>) -> Result<Arc<dyn CodedMatrix>> {
        let (bytes, element, shape) = (self.bytes.spilled(file)?, self.element, self.shape);
        Ok(Arc::new(Self { bytes, element, shape }))
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::weights::formats::dequantised;

    #[test]
    fn numbers_on_disk_are_those_that_were_given_rounded_if_need_be() {
        let folder = tempfile::tempdir().unwrap();
        let disk = SpillFile::within(folder.path()).unwrap();
        let numbers: Vec<f32> = (0_u16..21).map(|at| f32::from(at) / 7.0).collect();
        let rounded: Vec<f32> = numbers.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
        for (element, wanted) in [(Element::F32, &numbers), (Element::BF16, &rounded)] {
            let given = RawNumbers::F32(numbers.clone());
            let matrix = NumberMatrix::on_disk(&given, element, [7, 3], &disk).unwrap();
            assert_eq!(dequantised(&matrix), wanted[..]);
            let some = matrix.in_memory(2, 4).unwrap();
            assert_eq!((some.shape(), dequantised(&*some)), ([4, 3], wanted[6..18].to_vec()));
            assert!(some.in_memory(0, 1).is_none(), "they are in memory already");
            let again = some.spilled(&disk).unwrap();
            assert_eq!(dequantised(&*again), wanted[6..18]);
        }
    }
}
