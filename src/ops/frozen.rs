//! Matrices that products take as they are and that nothing trains: numbers, or codes in the memory
//! of a GPU, whose numbers are there while they are multiplied with.

use burn::tensor::Tensor;

#[cfg(not(feature = "gpu"))]
pub use self::without_gpu::DeviceCodes;
#[cfg(feature = "gpu")]
pub use crate::ops::gpu::DeviceCodes;

/// A matrix `[out, in]` that stays as it is.
#[derive(Debug, Clone)]
pub enum FrozenMatrix {
    /// A tensor without a tape.
    Numbers(Tensor<2>),
    /// Codes, which tapes keep, too.
    Codes(DeviceCodes),
}

impl From<Tensor<2>> for FrozenMatrix {
    fn from(numbers: Tensor<2>) -> Self {
        Self::Numbers(numbers)
    }
}

impl FrozenMatrix {
    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Numbers(numbers) => numbers.dims(),
            Self::Codes(codes) => codes.dims(),
        }
    }
}

#[cfg(feature = "gpu")]
impl From<&FrozenMatrix> for crate::ops::gpu::Constant {
    fn from(matrix: &FrozenMatrix) -> Self {
        match matrix {
            FrozenMatrix::Numbers(numbers) => Self::of(numbers.clone()),
            FrozenMatrix::Codes(codes) => Self::Codes(codes.clone()),
        }
    }
}

/// Constants `[out, in]` of one width as the matrix that they are below each other: numbers that
/// lie so in the memory of a GPU, or codes of one.
pub fn lying_together(parts: &[FrozenMatrix]) -> Option<FrozenMatrix> {
    let (mut numbers, mut codes) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            FrozenMatrix::Numbers(part) => numbers.push(part),
            FrozenMatrix::Codes(part) => codes.push(part),
        }
    }
    if numbers.is_empty() {
        return DeviceCodes::joined(&codes).map(FrozenMatrix::Codes);
    }
    #[cfg(feature = "gpu")]
    if codes.is_empty() && numbers.iter().all(|part| crate::ops::gpu::holds(part)) {
        return crate::ops::gpu::lying_together(&numbers).map(FrozenMatrix::Numbers);
    }
    None
}

#[cfg(not(feature = "gpu"))]
mod without_gpu {
    use burn::tensor::{Device, Tensor};

    use crate::weights::formats::CodedMatrix;

    /// Codes in the memory of a GPU: there is none.
    #[derive(Debug, Clone)]
    pub struct DeviceCodes(std::convert::Infallible);

    impl DeviceCodes {
        /// None without a GPU.
        pub fn uploaded(_: &dyn CodedMatrix, _: &Device) -> Option<Self> {
            None
        }

        /// Rows and columns.
        pub fn dims(&self) -> [usize; 2] {
            match self.0 {}
        }

        /// The numbers, in 32 bits.
        pub fn values(&self) -> Tensor<2> {
            match self.0 {}
        }

        /// None of none.
        pub fn joined(_: &[&Self]) -> Option<Self> {
            None
        }
    }
}
