//! Floating-point numbers as devices have them: f32, bfloat16, IEEE half precision.

use burn::tensor::FloatDType;

use super::{Storage, WeightFormat};

/// One of them.
#[derive(Debug)]
pub(super) struct Float {
    name: &'static str,
    dtype: FloatDType,
    bytes: u64,
}

pub(super) const F32: Float = Float { name: "f32", dtype: FloatDType::F32, bytes: 4 };
pub(super) const BF16: Float = Float { name: "bf16", dtype: FloatDType::BF16, bytes: 2 };
pub(super) const F16: Float = Float { name: "f16", dtype: FloatDType::F16, bytes: 2 };

impl WeightFormat for Float {
    fn name(&self) -> &'static str {
        self.name
    }

    fn bytes(&self, [rows, columns]: [usize; 2]) -> u64 {
        (rows * columns) as u64 * self.bytes
    }

    fn storage(&self) -> Storage {
        Storage::Tensor(self.dtype)
    }
}
