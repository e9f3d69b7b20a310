//! Matrices on the CPU as the numbers or codes that they are, without a copy.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Device, Tensor};
use half::bf16;

use super::element::{Bf16, F32, F32RoundedToBf16, Format, Number};
use super::packed::{Left, PackedRhs, View};
use super::product::Multiply;
use crate::ops::from_vec;
use crate::weights::formats::CodedMatrix;

/// A matrix or a vector; a vector is one row.
#[derive(Clone)]
pub struct HostTensor {
    memory: Memory,
    rows: usize,
    columns: usize,
}

#[derive(Clone)]
enum Memory {
    Tensor(FloatTensor<Flex>),
    Coded(Arc<dyn CodedMatrix>),
}

/// Some rows of a matrix that is kept as codes.
#[derive(Clone, Copy)]
pub struct CodedRows<'a> {
    matrix: &'a dyn CodedMatrix,
    first: usize,
    rows: usize,
}

impl CodedRows<'_> {
    /// The numbers of some rows and columns, row after row.
    pub fn numbers(&self, rows: (usize, usize), columns: (usize, usize)) -> Vec<f32> {
        let mut numbers = vec![0.0; rows.1 * columns.1];
        for (row, target) in numbers.chunks_exact_mut(columns.1.max(1)).enumerate() {
            self.matrix.read(self.first + rows.0 + row, columns.0, target);
        }
        numbers
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.matrix.shape()[1]]
    }

    /// What `work` makes of them: codes on disk are read once, and are in memory that long.
    fn in_memory<R>(self, work: impl FnOnce(CodedRows) -> R) -> R {
        match self.matrix.in_memory(self.first, self.rows) {
            Some(codes) => work(CodedRows { matrix: codes.as_ref(), first: 0, rows: self.rows }),
            None => work(self),
        }
    }

    /// All of them, converted.
    fn left<F: Format>(&self) -> Left<F> {
        let [rows, columns] = self.shape();
        let numbers = self.numbers((0, rows), (0, columns));
        Left::of(View::new(&numbers, rows, columns))
    }
}

/// Numbers in the format in which a tensor has them.
#[derive(Clone, Copy)]
pub enum StoredNumbers<'a> {
    /// f32.
    F32(View<'a, f32>),
    /// bfloat16.
    Bf16(View<'a, bf16>),
    /// Codes, which packing turns into f32.
    Coded(CodedRows<'a>),
}

/// The left factor of a product, copied only if its format is another.
pub enum Factor<'a, F: Format> {
    /// Someone else's.
    Borrowed(View<'a, F::Stored>),
    /// Converted.
    Owned(Left<F>),
}

impl<F: Format> Factor<'_, F> {
    /// What a product reads.
    pub fn view(&self) -> View<'_, F::Stored> {
        match self {
            Self::Borrowed(view) => *view,
            Self::Owned(left) => left.view(),
        }
    }
}

impl<F: Format> Left<F> {
    /// The same in 32 bits as a tensor of the CPU, `[rows, columns]`: without what rows are padded
    /// with.
    pub fn to_tensor(&self, columns: usize) -> Tensor<2> {
        let view = self.view();
        let rows = (0..view.rows).flat_map(|row| &view.row(row)[..columns]);
        from_vec(rows.map(|x| x.wide()).collect(), [view.rows, columns], &Device::flex())
    }
}

impl HostTensor {
    /// The numbers of a tensor; none if it is not on the CPU, or in another format than f32 and
    /// bfloat16.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let columns = *tensor.dims().last()?;
        let rows = tensor.shape().num_elements() / columns.max(1);
        if !matches!(tensor.dtype(), DType::F32 | DType::BF16) {
            return None;
        }
        let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
        let tensor = if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() };
        Some(Self { memory: Memory::Tensor(tensor), rows, columns })
    }

    /// The rows of a matrix that is kept as codes.
    pub fn coded(matrix: Arc<dyn CodedMatrix>) -> Self {
        let [rows, columns] = matrix.shape();
        Self { memory: Memory::Coded(matrix), rows, columns }
    }

    /// All of them.
    pub fn numbers(&self) -> StoredNumbers<'_> {
        let contiguous = "the tensor is contiguous";
        match &self.memory {
            Memory::Coded(matrix) => StoredNumbers::Coded(CodedRows {
                matrix: matrix.as_ref(),
                first: 0,
                rows: self.rows,
            }),
            Memory::Tensor(tensor) if tensor.dtype() == DType::BF16 => {
                let data = tensor.as_slice::<bf16>().expect(contiguous);
                StoredNumbers::Bf16(View::new(data, self.rows, self.columns))
            }
            Memory::Tensor(_) => {
                StoredNumbers::F32(View::new(self.single(), self.rows, self.columns))
            }
        }
    }

    /// The numbers of a tensor in 32 bits.
    pub fn single(&self) -> &[f32] {
        match &self.memory {
            Memory::Tensor(tensor) => {
                tensor.as_slice::<f32>().expect("the tensor is contiguous and has 32 bits")
            }
            Memory::Coded(_) => unreachable!("only weights of linear layers are kept as codes"),
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

impl StoredNumbers<'_> {
    /// How many numbers a row has.
    pub fn columns(&self) -> usize {
        match self {
            Self::F32(view) => view.columns,
            Self::Bf16(view) => view.columns,
            Self::Coded(rows) => rows.shape()[1],
        }
    }

    /// As the right factor of `x · wᵀ`.
    pub fn pack_rows<F: Format>(self) -> PackedRhs<F> {
        match self {
            Self::F32(view) => PackedRhs::pack_rows(view),
            Self::Bf16(view) => PackedRhs::pack_rows(view),
            Self::Coded(rows) => rows.in_memory(|rows| {
                PackedRhs::of_outputs_with(rows.shape(), |first, count| {
                    rows.numbers((first, count), (0, rows.shape()[1]))
                })
            }),
        }
    }

    /// As the right factor of `d · w`.
    pub fn pack_cols<F: Format>(self) -> PackedRhs<F> {
        match self {
            Self::F32(view) => PackedRhs::pack_cols(view),
            Self::Bf16(view) => PackedRhs::pack_cols(view),
            Self::Coded(rows) => rows.in_memory(|rows| {
                PackedRhs::of_inner_with(rows.shape(), |first, count| {
                    rows.numbers((0, rows.rows), (first, count))
                })
            }),
        }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::F32(view) => view.rows,
            Self::Bf16(view) => view.rows,
            Self::Coded(rows) => rows.rows,
        }
    }

    /// As a left factor of another format.
    pub fn converted<F: Format>(self) -> Left<F> {
        match self {
            Self::F32(view) => Left::of(view),
            Self::Bf16(view) => Left::of(view),
            Self::Coded(rows) => rows.in_memory(|rows| rows.left()),
        }
    }

    /// Some rows.
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        match self {
            Self::F32(view) => Self::F32(view.part((first, count), (0, view.columns))),
            Self::Bf16(view) => Self::Bf16(view.part((first, count), (0, view.columns))),
            Self::Coded(rows) => {
                Self::Coded(CodedRows { first: rows.first + first, rows: count, ..rows })
            }
        }
    }

    /// Copies one row.
    pub fn read(&self, row: usize, target: &mut [f32]) {
        match self {
            Self::F32(view) => target.copy_from_slice(view.row(row)),
            Self::Bf16(view) => {
                for (target, number) in target.iter_mut().zip(view.row(row)) {
                    *target = number.to_f32();
                }
            }
            Self::Coded(rows) => rows.matrix.read(rows.first + row, 0, target),
        }
    }
}

/// Formats whose left factors may be borrowed.
pub trait AsLhs: Multiply {
    /// As the left factor of a product.
    fn factor(numbers: StoredNumbers<'_>) -> Factor<'_, Self>;

    /// Of rows in 32 bits.
    fn factor_of(data: &[f32], columns: usize) -> Factor<'_, Self> {
        Self::factor(StoredNumbers::F32(View::new(data, data.len() / columns, columns)))
    }
}

impl AsLhs for F32 {
    fn factor(numbers: StoredNumbers<'_>) -> Factor<'_, Self> {
        match numbers {
            StoredNumbers::F32(view) => Factor::Borrowed(view),
            other => Factor::Owned(other.converted()),
        }
    }
}

impl AsLhs for F32RoundedToBf16 {
    fn factor(numbers: StoredNumbers<'_>) -> Factor<'_, Self> {
        Factor::Owned(numbers.converted())
    }
}

impl AsLhs for Bf16 {
    fn factor(numbers: StoredNumbers<'_>) -> Factor<'_, Self> {
        match numbers {
            StoredNumbers::Bf16(view) if view.columns.is_multiple_of(Self::GROUP) => {
                Factor::Borrowed(view)
            }
            other => Factor::Owned(other.converted()),
        }
    }
}
