//! int8 with a scale for each row: the largest size of a row is 127, and numbers are rounded to the
//! nearest code, ties to the even one. The formulas of bitsandbytes (`int8_vectorwise_quant` and
//! `int8_vectorwise_dequant`; Dettmers et al. 2022), without outliers and for weights alone.

use std::borrow::Cow;
use std::sync::Arc;

use pulp::Arch;
use rayon::prelude::*;

use super::{CodedMatrix, Storage, WeightFormat};
use crate::error::Result;
use crate::files::Digest;
use crate::weights::{Packed, Packing, SpillFile, StoredBytes};

/// The largest code.
const LARGEST: f32 = 127.0;
/// Its inverse, rounded, with which bitsandbytes multiplies.
const INVERSE: f32 = 1.0 / LARGEST;

/// The entry.
#[derive(Debug)]
pub(super) struct Int8;

impl WeightFormat for Int8 {
    fn name(&self) -> &'static str {
        "int8"
    }

    fn bytes(&self, [rows, columns]: [usize; 2]) -> u64 {
        (rows * columns) as u64 + self.scale_bytes([rows, columns])
    }

    fn scale_bytes(&self, [rows, _]: [usize; 2]) -> u64 {
        (rows * size_of::<f32>()) as u64
    }

    fn storage(&self) -> Storage {
        Storage::Coded(|numbers, shape| Arc::new(Matrix::of(numbers, shape)))
    }

    fn about(&self) -> &'static str {
        "in 8 bits with a scale for each row, dequantised for every product: a quarter of the \
         memory of 32 bits"
    }

    fn blocks(&self) -> &'static str {
        "a row"
    }

    fn names(&self) -> &'static [(&'static str, &'static str)] {
        &[("axolotl and TRL", "load_in_8bit")]
    }
}

/// Codes row by row, and the largest size of each row.
#[derive(Debug)]
struct Matrix {
    /// Signed bytes.
    codes: StoredBytes,
    absmax: Arc<Vec<f32>>,
    /// The first row, of those that scales are of.
    first: usize,
    rows: usize,
    columns: usize,
}

impl Matrix {
    fn of(numbers: &[f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(numbers.len(), rows * columns, "a matrix of {rows} rows");
        let mut codes = vec![0_u8; numbers.len()];
        let mut absmax = vec![0.0_f32; rows];
        let source = numbers.par_chunks_exact(columns.max(1));
        let target = codes.par_chunks_exact_mut(columns.max(1)).zip(&mut absmax);
        target.zip(source).for_each(|((codes, absmax), row)| {
            *absmax = row.iter().fold(0.0, |most, x| x.abs().max(most));
            let factor = LARGEST / *absmax;
            if !factor.is_finite() {
                *absmax = 0.0; // nothing but zeros, or numbers that have no inverse
                return;
            }
            for (code, number) in codes.iter_mut().zip(row) {
                #[expect(clippy::cast_possible_truncation)] // no more than 127, and rounded
                let rounded = (number * factor).round_ties_even() as i8;
                *code = rounded.cast_unsigned();
            }
        });
        Self { codes: codes.into(), absmax: Arc::new(absmax), first: 0, rows, columns }
    }

    fn codes(&self) -> Cow<'_, [u8]> {
        self.codes.get(0, self.rows * self.columns)
    }
}

impl CodedMatrix for Matrix {
    fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    fn read(&self, row: usize, first: usize, target: &mut [f32]) {
        let absmax = self.absmax[self.first + row];
        let codes = self.codes.get(row * self.columns + first, target.len());
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (target, code) in target.iter_mut().zip(&codes[..]) {
                    *target = f32::from(code.cast_signed()) * absmax * INVERSE;
                }
            },
        );
    }

    fn in_memory(&self, first: usize, rows: usize) -> Option<Arc<dyn CodedMatrix>> {
        let codes = self.codes.in_memory(first * self.columns, rows * self.columns)?;
        let (codes, first, absmax) = (codes.into(), self.first + first, self.absmax.clone());
        Some(Arc::new(Self { codes, first, rows, absmax, columns: self.columns }))
    }

    fn packed(&self) -> Option<Vec<Packed>> {
        let mut packed = Packed::new(Packing::Rows, [self.rows * self.columns, self.columns])?;
        packed.extend(&self.codes());
        // A number that the kernel reads, and no constant that a driver may multiply by first.
        packed.scales.push(INVERSE);
        packed.scales.extend(&self.absmax[self.first..][..self.rows]);
        Some(vec![packed])
    }

    fn spilled(&self, file: &Arc<SpillFile>) -> Result<Arc<dyn CodedMatrix>> {
        let (codes, absmax) = (self.codes.spilled(file)?, self.absmax.clone());
        let Self { first, rows, columns, .. } = *self;
        Ok(Arc::new(Self { codes, absmax, first, rows, columns }))
    }

    fn digest(&self) -> Option<Digest> {
        let codes = self.codes();
        let absmax: Vec<u8> = self.absmax.iter().flat_map(|x| x.to_le_bytes()).collect();
        Some(Digest::of_parts(&[&codes, &absmax]))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::dequantised;
    use super::*;
    use crate::weights::{read_tensors, to_f32};

    /// `tests/reference/int8.py` made the file.
    #[test]
    fn codes_scales_and_numbers_are_those_of_bitsandbytes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
        let (tensors, _) = read_tensors(&folder, "int8.safetensors").unwrap();
        let of = |name: &str| to_f32(tensors[name].element, &tensors[name].bytes);
        let shape = [tensors["weight"].shape[0], tensors["weight"].shape[1]];
        let matrix = Matrix::of(&of("weight"), shape);
        assert_eq!(
            matrix.codes().iter().map(|code| f32::from(code.cast_signed())).collect::<Vec<_>>(),
            of("quantised")
        );
        assert_eq!(*matrix.absmax, of("absmax"));
        assert_eq!(dequantised(&matrix), of("restored"));
        assert_eq!(matrix.shape(), shape);
        let mut part = [0.0; 5];
        matrix.read(4, 3, &mut part);
        assert_eq!(part, of("restored")[4 * shape[1] + 3..][..5]);
        assert_eq!(Int8.bytes(shape), (12 * 37 + 12 * 4) as u64);
    }

    #[test]
    fn rows_without_a_scale_are_zero() {
        let matrix = Matrix::of(&[0.0, -0.0, 1e-45, 0.0], [2, 2]);
        assert_eq!(dequantised(&matrix), [0.0; 4]);
    }
}
