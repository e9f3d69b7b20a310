//! The number formats that weights come in, and their conversion to and from f32.

use half::{bf16, f16};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A floating-point format of stored weights; names as in safetensors headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Truncated single precision.
    BF16,
}

/// Elements converted by one task: large enough to hide the cost of scheduling it.
const CHUNK: usize = 1 << 16;

impl Element {
    /// The format of a safetensors `dtype`.
    pub fn from_safetensors(dtype: safetensors::Dtype) -> Result<Self> {
        match dtype {
            safetensors::Dtype::F32 => Ok(Self::F32),
            safetensors::Dtype::F16 => Ok(Self::F16),
            safetensors::Dtype::BF16 => Ok(Self::BF16),
            other => Err(Error::new(format!(
                "weights of type {other:?} are not supported, only F32, F16 and BF16"
            ))
            .hint("use the unquantised version of the model")),
        }
    }

    /// The format named in `config.json` (`dtype` or `torch_dtype`).
    pub fn from_config(name: &str) -> Option<Self> {
        match name {
            "float32" => Some(Self::F32),
            "float16" => Some(Self::F16),
            "bfloat16" => Some(Self::BF16),
            _ => None,
        }
    }

    /// The name in a safetensors header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Little-endian bytes of `values` in this format, rounded to nearest even.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let size = self.size();
        let mut bytes = vec![0; values.len() * size];
        bytes.par_chunks_mut(CHUNK * size).zip(values.par_chunks(CHUNK)).for_each(
            |(target, source)| {
                for (bytes, &value) in target.chunks_exact_mut(size).zip(source) {
                    match self {
                        Self::F32 => bytes.copy_from_slice(&value.to_le_bytes()),
                        Self::F16 => bytes.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                        Self::BF16 => bytes.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                    }
                }
            },
        );
        bytes
    }
}

/// The values of little-endian `bytes`, exactly: every f16 and bf16 is an f32.
pub fn to_f32(element: Element, bytes: &[u8]) -> Vec<f32> {
    let size = element.size();
    let mut values = vec![0.0; bytes.len() / size];
    values.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * size)).for_each(
        |(target, source)| {
            for (value, bytes) in target.iter_mut().zip(source.chunks_exact(size)) {
                *value = match element {
                    Element::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
                    Element::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                    Element::BF16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                };
            }
        },
    );
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_round_trips_its_own_values() {
        let values = [0.0, -0.0, 1.0, -2.5, 65504.0, 1.0e-3];
        for element in [Element::F32, Element::F16, Element::BF16] {
            let bytes = element.encode(&values);
            assert_eq!(bytes.len(), values.len() * element.size());
            let read = to_f32(element, &bytes);
            assert_eq!(element.encode(&read), bytes, "{element:?}");
        }
        assert_eq!(to_f32(Element::F32, &Element::F32.encode(&values)), values);
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // 1 + 2^-8 lies half way between two bf16 values; the even one is 1.
        assert_eq!(to_f32(Element::BF16, &Element::BF16.encode(&[1.0 + 1.0 / 256.0])), [1.0]);
    }
}
