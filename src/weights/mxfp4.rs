//! MXFP4 (Open Compute Project, Microscaling Formats 1.0): 32 numbers of four bits and the power of
//! two that they are multiplied with, as checkpoints of gpt-oss have the matrices of experts.
//! Reference: transformers `integrations/mxfp4.py`, `convert_moe_packed_tensors`.

use std::sync::Arc;

use crate::error::Result;
use crate::weights::coded_matrix::CodedMatrix;
use crate::weights::vectors::{First, Table, Vectors, WithVectors, with_vectors};
use crate::weights::{HEADER, Packed, Packing, SpillFile, StoredBytes};

pub use super::e2m1::{BLOCK, BLOCK_BYTES};
/// The scale that stands for no number.
const NO_NUMBER: u8 = 255;

/// What the four bits mean: a sign, two bits of exponent, one of mantissa.
static VALUES: Table = Table::new([
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
]);

/// The codes of several matrices of the same shape `[rows, columns]`, one after the other.
#[derive(Debug, Clone)]
pub struct Mxfp4 {
    /// The lower four bits of a byte come first.
    blocks: StoredBytes,
    /// Of each block, 127 above the exponent.
    scales: Arc<Vec<u8>>,
    shape: [usize; 2],
    /// Whether rows of the first half and of the second alternate.
    alternating: bool,
}

/// One of them, with the rows of the first half first.
#[derive(Debug)]
struct Matrix {
    of: Mxfp4,
    /// The first row.
    first: usize,
}

/// Bytes of a matrix `[rows, columns]`.
pub fn bytes([rows, columns]: [usize; 2]) -> u64 {
    (rows * columns.div_ceil(BLOCK) * (BLOCK_BYTES + 1)) as u64
}

impl Mxfp4 {
    /// From blocks `[matrices, rows, columns / 32, 16]`, and scales of three dimensions; none if a
    /// scale is no number.
    pub fn new(
        blocks: Vec<u8>,
        scales: Vec<u8>,
        shape: [usize; 2],
        alternating: bool,
    ) -> Option<Self> {
        assert_eq!(blocks.len(), scales.len() * BLOCK_BYTES, "a scale for each block");
        let valid = !scales.contains(&NO_NUMBER);
        valid.then(|| Self { blocks: blocks.into(), scales: Arc::new(scales), shape, alternating })
    }

    /// The same with the codes on disk.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn spilled(&self, file: &Arc<SpillFile>) -> Result<Self> {
        Ok(Self { blocks: self.blocks.spilled(file)?, ..self.clone() })
    }

    /// One of the matrices. All share the codes.
    pub fn matrix(&self, number: usize) -> Arc<dyn CodedMatrix> {
        Arc::new(Matrix { of: self.clone(), first: number * self.shape[0] })
    }
}

impl Matrix {
    /// The row of all codes that is this row of the matrix.
    fn row_of_codes(&self, row: usize) -> usize {
        let half = self.of.shape[0] / 2;
        self.first
            + match self.of.alternating {
                true if row < half => 2 * row,
                true => 2 * (row - half) + 1,
                false => row,
            }
    }
}

/// Numbers of some blocks but for those that are skipped.
struct Read<'a> {
    codes: &'a [u8],
    scales: &'a [u8],
    skipped: usize,
    target: &'a mut [f32],
}

impl WithVectors for Read<'_> {
    #[inline(always)]
    fn work<V: Vectors>(self, vectors: V) {
        let Self { codes, scales, mut skipped, target: mut rest } = self;
        for (codes, scale) in codes.as_chunks().0.iter().zip(scales) {
            let (part, after) = rest.split_at_mut((BLOCK - skipped).min(rest.len()));
            let number = (&VALUES, power(*scale));
            if let Ok(part) = <&mut [f32; BLOCK]>::try_from(&mut *part) {
                vectors.numbers(number, *codes, First::Lower, part);
            } else {
                let mut whole = [0.0; BLOCK];
                vectors.numbers(number, *codes, First::Lower, &mut whole);
                part.copy_from_slice(&whole[skipped..][..part.len()]);
            }
            (skipped, rest) = (0, after);
        }
    }
}

impl CodedMatrix for Matrix {
    fn shape(&self) -> [usize; 2] {
        self.of.shape
    }

    fn read(&self, row: usize, first: usize, target: &mut [f32]) {
        let begin = self.row_of_codes(row) * self.of.shape[1];
        let (place, block) = (begin + first, (begin + first) / BLOCK);
        let blocks = (place + target.len()).div_ceil(BLOCK) - block;
        let codes = self.of.blocks.get(block * BLOCK_BYTES, blocks * BLOCK_BYTES);
        let scales = &self.of.scales[block..][..blocks];
        with_vectors(Read { codes: &codes, scales, skipped: place % BLOCK, target });
    }

    fn in_memory(&self, first: usize, rows: usize) -> Option<Arc<dyn CodedMatrix>> {
        let [all, columns] = self.of.shape;
        // Rows of both halves may alternate; products take whole matrices of experts.
        if (first, rows) != (0, all) {
            return None;
        }
        let (begin, count) = (self.first * columns / BLOCK, all * columns / BLOCK);
        let blocks = self.of.blocks.in_memory(begin * BLOCK_BYTES, count * BLOCK_BYTES)?.into();
        let scales = Arc::new(self.of.scales[begin..begin + count].to_vec());
        Some(Arc::new(Self { of: Mxfp4 { blocks, scales, ..self.of.clone() }, first: 0 }))
    }

    fn packed(&self) -> Option<Vec<Packed>> {
        let [rows, columns] = self.of.shape;
        if !columns.is_multiple_of(BLOCK) {
            return None;
        }
        let blocks = columns / BLOCK;
        let row_of = |row: usize| self.row_of_codes(row) * blocks;
        let codes = |row| self.of.blocks.get(row_of(row) * BLOCK_BYTES, blocks * BLOCK_BYTES);
        let scales = |row| &self.of.scales[row_of(row)..][..blocks];
        let split = HEADER + rows * blocks * BLOCK_BYTES / size_of::<u32>();
        let packing = Packing::Powers { halves: false };
        let mut packed = Packed::new(packing, [rows * columns, split])?;
        (0..rows).for_each(|row| packed.extend(&codes(row)));
        packed.extend(&(0..rows).flat_map(scales).copied().collect::<Vec<_>>());
        packed.scales.extend(VALUES.numbers());
        packed.scales.extend((0..=u8::MAX).map(power));
        Some(vec![packed])
    }

    fn spilled(&self, file: &Arc<SpillFile>) -> Result<Arc<dyn CodedMatrix>> {
        Ok(Arc::new(Self { of: self.of.spilled(file)?, first: self.first }))
    }
}

/// Two to the power of the scale less 127.
#[inline(always)]
fn power(scale: u8) -> f32 {
    match scale {
        0 => f32::from_bits(1 << 22), // below the smallest normal number
        _ => f32::from_bits(u32::from(scale) << 23),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::weights::formats::dequantised;
    use crate::weights::{Element, read_tensors};

    /// `tests/reference/mxfp4.py` made the file: every code, with scales from the smallest on.
    #[test]
    fn numbers_are_those_of_transformers_byte_for_byte() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
        let (mut tensors, _) = read_tensors(&folder, "mxfp4.safetensors").unwrap();
        let restored = tensors.remove("restored").unwrap(); // [matrices, columns, rows]
        let &[matrices, columns, rows] = &restored.shape[..] else { panic!("three dimensions") };
        let mut bytes = |name: &str| tensors.remove(name).unwrap().bytes;
        let (blocks, scales) = (bytes("x_blocks"), bytes("x_scales"));
        for alternating in [false, true] {
            let all =
                Mxfp4::new(blocks.clone(), scales.clone(), [rows, columns], alternating).unwrap();
            for (number, wanted) in restored.bytes.chunks(2 * columns * rows).enumerate() {
                let matrix = all.matrix(number);
                assert_eq!(matrix.shape(), [rows, columns]);
                let mut turned = vec![0.0; rows * columns];
                for (place, number) in dequantised(matrix.as_ref()).into_iter().enumerate() {
                    let (row, column) = (place / columns, place % columns);
                    let half = rows / 2;
                    let in_file = match (alternating, row < half) {
                        (false, _) => row,
                        (true, true) => 2 * row,
                        (true, false) => 2 * (row - half) + 1,
                    };
                    turned[column * rows + in_file] = number;
                }
                assert_eq!(Element::BF16.encode(&turned), wanted, "{number}");
                // And nothing was rounded.
                let exact = crate::weights::to_f32(Element::BF16, wanted);
                assert!(turned.iter().zip(exact).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
            let (mut whole, mut part) = (vec![0.0; columns], [0.0; 7]);
            let last = all.matrix(matrices - 1);
            last.read(rows - 1, 0, &mut whole);
            last.read(rows - 1, 29, &mut part);
            assert_eq!(part, whole[29..36]);
            let spills = tempfile::tempdir().unwrap();
            let on_disk = all.spilled(&SpillFile::within(spills.path()).unwrap()).unwrap();
            for number in 0..matrices {
                let [disk, memory] = [&on_disk, &all].map(|all| all.matrix(number));
                let loaded = disk.in_memory(0, rows).unwrap();
                for matrix in [disk, loaded] {
                    assert_eq!(dequantised(&*matrix), dequantised(&*memory), "{number}");
                }
            }
        }
    }

    #[test]
    fn a_scale_that_is_no_number_is_refused_and_sizes_are_known() {
        assert!(Mxfp4::new(vec![0; 16], vec![255], [1, 32], false).is_none());
        assert_eq!(bytes([64, 64]), 64 * 34);
    }
}
