//! Tensors of the CPU as the numbers that they are, without a copy.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Tensor};
use half::bf16;

use super::element::{Brain, Format, Rounded, Single};
use super::packed::{Left, Packed, View};
use super::product::Multiply;

/// A matrix or a vector; a vector is one row.
#[derive(Clone)]
pub struct Held {
    tensor: FloatTensor<Flex>,
    rows: usize,
    columns: usize,
}

/// Numbers in the format in which a tensor has them.
#[derive(Clone, Copy)]
pub enum Numbers<'a> {
    /// f32.
    Single(View<'a, f32>),
    /// bfloat16.
    Brain(View<'a, bf16>),
}

/// The left factor of a product, copied only if its format is another.
pub enum Factor<'a, F: Format> {
    /// Someone else's.
    Borrowed(View<'a, F::Kept>),
    /// Converted.
    Owned(Left<F>),
}

impl<F: Format> Factor<'_, F> {
    /// What a product reads.
    pub fn view(&self) -> View<'_, F::Kept> {
        match self {
            Self::Borrowed(view) => *view,
            Self::Owned(left) => left.view(),
        }
    }
}

impl Held {
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
        Some(Self { tensor, rows, columns })
    }

    /// All of them.
    pub fn numbers(&self) -> Numbers<'_> {
        let contiguous = "the tensor is contiguous";
        match self.tensor.dtype() {
            DType::BF16 => {
                let data = self.tensor.as_slice::<bf16>().expect(contiguous);
                Numbers::Brain(View::new(data, self.rows, self.columns))
            }
            _ => Numbers::Single(View::new(self.single(), self.rows, self.columns)),
        }
    }

    /// The numbers of a tensor in 32 bits.
    pub fn single(&self) -> &[f32] {
        self.tensor.as_slice::<f32>().expect("the tensor is contiguous and has 32 bits")
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

impl Numbers<'_> {
    /// As the right factor of `x · wᵀ`.
    pub fn of_outputs<F: Format>(self) -> Packed<F> {
        match self {
            Self::Single(view) => Packed::of_outputs(view),
            Self::Brain(view) => Packed::of_outputs(view),
        }
    }

    /// As the right factor of `d · w`.
    pub fn of_inner<F: Format>(self) -> Packed<F> {
        match self {
            Self::Single(view) => Packed::of_inner(view),
            Self::Brain(view) => Packed::of_inner(view),
        }
    }

    /// Some rows.
    #[must_use]
    pub fn part(self, first: usize, count: usize) -> Self {
        match self {
            Self::Single(view) => Self::Single(view.part((first, count), (0, view.columns))),
            Self::Brain(view) => Self::Brain(view.part((first, count), (0, view.columns))),
        }
    }

    /// Copies one row.
    pub fn read(&self, row: usize, target: &mut [f32]) {
        match self {
            Self::Single(view) => target.copy_from_slice(view.row(row)),
            Self::Brain(view) => {
                for (target, number) in target.iter_mut().zip(view.row(row)) {
                    *target = number.to_f32();
                }
            }
        }
    }
}

/// Formats whose left factors may be borrowed.
pub trait Borrow: Multiply {
    /// As the left factor of a product.
    fn factor(numbers: Numbers<'_>) -> Factor<'_, Self>;

    /// Of rows in 32 bits.
    fn factor_of(data: &[f32], columns: usize) -> Factor<'_, Self> {
        Self::factor(Numbers::Single(View::new(data, data.len() / columns, columns)))
    }
}

impl Borrow for Single {
    fn factor(numbers: Numbers<'_>) -> Factor<'_, Self> {
        match numbers {
            Numbers::Single(view) => Factor::Borrowed(view),
            Numbers::Brain(view) => Factor::Owned(Left::of(view)),
        }
    }
}

impl Borrow for Rounded {
    fn factor(numbers: Numbers<'_>) -> Factor<'_, Self> {
        match numbers {
            Numbers::Single(view) => Factor::Owned(Left::of(view)),
            Numbers::Brain(view) => Factor::Owned(Left::of(view)),
        }
    }
}

impl Borrow for Brain {
    fn factor(numbers: Numbers<'_>) -> Factor<'_, Self> {
        match numbers {
            Numbers::Brain(view) if view.columns.is_multiple_of(Self::GROUP) => {
                Factor::Borrowed(view)
            }
            Numbers::Brain(view) => Factor::Owned(Left::of(view)),
            Numbers::Single(view) => Factor::Owned(Left::of(view)),
        }
    }
}
