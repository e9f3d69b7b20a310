//! The number formats that weights come in, and their conversion to and from f32.

use std::ops::Range;

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
    /// Codes of a format that has others for scales; as numbers they are those of the bytes.
    U8,
}

/// Elements converted by one task: large enough to hide the cost of scheduling it.
const CHUNK: usize = 1 << 16;

impl Element {
    /// The format of a `dtype` in a safetensors header.
    pub fn from_header(dtype: &str) -> Result<Self> {
        match dtype {
            "F32" => Ok(Self::F32),
            "F16" => Ok(Self::F16),
            "BF16" => Ok(Self::BF16),
            other => Err(Error::weights(format!(
                "weights of type {other} are not supported, only F32, F16 and BF16"
            ))
            .hint("use the unquantised version of the model")),
        }
    }

    /// The same for a tensor of a name: codes have one that says so, or stand in a file of `coded`
    /// matrices.
    pub fn of_tensor(name: &str, dtype: &str, coded: bool) -> Result<Self> {
        match dtype {
            "U8" if coded || Self::is_coded(name) => Ok(Self::U8),
            _ => Self::from_header(dtype),
        }
    }

    /// Whether a tensor holds codes by its name.
    pub fn is_coded(name: &str) -> bool {
        let of_optimizer = name.split('.').next().is_some_and(|kind| kind.ends_with("_codes"));
        name.ends_with("_blocks") || name.ends_with("_scales") || of_optimizer
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

    /// The format that `merge --dtype` and exports call so; none for `base`, which leaves numbers
    /// as files have them.
    pub fn from_option(name: &str) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::BF16),
            "f16" => Some(Self::F16),
            _ => None,
        }
    }

    /// The name in a safetensors header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::U8 => "U8",
        }
    }

    /// How `config.json` calls it.
    pub const fn config_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::U8 => "uint8",
        }
    }

    /// How many of little-endian numbers are NaN or infinite: their exponent has all bits set.
    pub fn not_finite(self, bytes: &[u8]) -> u64 {
        let halves = |exponent: u16| {
            let is = |x: &&[u8; 2]| u16::from_le_bytes(**x) & exponent == exponent;
            bytes.as_chunks().0.iter().filter(is).count()
        };
        let count = match self {
            Self::F32 => {
                let is = |x: &&[u8; 4]| u32::from_le_bytes(**x) & 0x7f80_0000 == 0x7f80_0000;
                bytes.as_chunks().0.iter().filter(is).count()
            }
            Self::F16 => halves(0x7c00),
            Self::BF16 => halves(0x7f80),
            Self::U8 => 0,
        };
        count as u64
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::U8 => 1,
        }
    }

    /// The values of little-endian bytes, exactly, as many as `target` has.
    pub fn decode(self, bytes: &[u8], target: &mut [f32]) {
        for (value, bytes) in target.iter_mut().zip(bytes.chunks_exact(self.size())) {
            *value = match self {
                Self::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
                Self::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                Self::BF16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                Self::U8 => f32::from(bytes[0]),
            };
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
                        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                        Self::U8 => bytes[0] = value as u8,
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
    let parts = values.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * size));
    parts.for_each(|(target, source)| element.decode(source, target));
    values
}

fn wide<N: Sync>(numbers: &[N], one: impl Fn(&N) -> f32 + Sync + Send) -> Vec<f32> {
    numbers.par_iter().map(one).collect()
}

fn touch<N: Copy + Default + Send>(numbers: &mut Vec<N>) {
    const PAGE_BYTES: usize = 4096; // the smallest there are
    let page = PAGE_BYTES / size_of::<N>();
    let pages = numbers.spare_capacity_mut().par_chunks_mut(page).with_min_len(1024);
    pages.for_each(|page| {
        page[0].write(N::default());
    });
}

/// Numbers in the format in which a file has them.
#[derive(Debug, Clone, PartialEq)]
pub enum RawNumbers {
    /// IEEE single precision.
    F32(Vec<f32>),
    /// IEEE half precision.
    F16(Vec<f16>),
    /// Truncated single precision.
    BF16(Vec<bf16>),
    /// Codes.
    U8(Vec<u8>),
}

impl RawNumbers {
    /// None yet.
    pub fn with_capacity(element: Element, count: usize) -> Self {
        match element {
            Element::F32 => Self::F32(Vec::with_capacity(count)),
            Element::F16 => Self::F16(Vec::with_capacity(count)),
            Element::BF16 => Self::BF16(Vec::with_capacity(count)),
            Element::U8 => Self::U8(Vec::with_capacity(count)),
        }
    }

    /// Touches the memory of numbers to come, on all threads: the system clears a page then.
    pub fn touch(&mut self) {
        match self {
            Self::F32(all) => touch(all),
            Self::F16(all) => touch(all),
            Self::BF16(all) => touch(all),
            Self::U8(all) => touch(all),
        }
    }

    /// Appends little-endian numbers; a part of one at the end is left out.
    pub fn extend(&mut self, bytes: &[u8]) {
        match self {
            Self::F32(all) => {
                all.extend(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)))
            }
            Self::F16(all) => {
                all.extend(bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x)))
            }
            Self::BF16(all) => {
                all.extend(bytes.as_chunks().0.iter().map(|x| bf16::from_le_bytes(*x)));
            }
            Self::U8(all) => all.extend(bytes),
        }
    }

    /// Their format.
    pub fn element(&self) -> Element {
        match self {
            Self::F32(_) => Element::F32,
            Self::F16(_) => Element::F16,
            Self::BF16(_) => Element::BF16,
            Self::U8(_) => Element::U8,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(all) => all.len(),
            Self::F16(all) => all.len(),
            Self::BF16(all) => all.len(),
            Self::U8(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same values, exactly.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::F32(all) => all,
            Self::F16(all) => all.par_iter().map(|x| x.to_f32()).collect(),
            Self::BF16(all) => all.par_iter().map(|x| x.to_f32()).collect(),
            Self::U8(all) => all.into_iter().map(f32::from).collect(),
        }
    }

    /// Little-endian bytes of some of them in a format, rounded if it is a shorter one.
    pub fn encoded(&self, range: Range<usize>, element: Element) -> Vec<u8> {
        match self {
            Self::F32(all) => element.encode(&all[range]),
            Self::U8(all) if element == Element::U8 => all[range].to_vec(),
            Self::F16(all) => element.encode(&wide(&all[range], |number| number.to_f32())),
            Self::BF16(all) => element.encode(&wide(&all[range], |number| number.to_f32())),
            Self::U8(all) => element.encode(&wide(&all[range], |number| f32::from(*number))),
        }
    }

    /// Rounded to bfloat16 where they are longer, ties to the even one.
    #[must_use]
    pub fn rounded(self) -> Self {
        match self {
            Self::F32(all) => {
                Self::BF16(all.par_iter().map(|number| bf16::from_f32(*number)).collect())
            }
            Self::F16(all) => {
                Self::BF16(all.par_iter().map(|number| bf16::from_f32(number.to_f32())).collect())
            }
            other => other,
        }
    }

    /// Parts of a length; the last may be shorter.
    pub fn chunks(self, size: usize) -> Vec<Self> {
        match self {
            Self::F32(all) => all.chunks(size).map(|part| Self::F32(part.to_vec())).collect(),
            Self::F16(all) => all.chunks(size).map(|part| Self::F16(part.to_vec())).collect(),
            Self::BF16(all) => all.chunks(size).map(|part| Self::BF16(part.to_vec())).collect(),
            Self::U8(all) => all.chunks(size).map(|part| Self::U8(part.to_vec())).collect(),
        }
    }
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
        for element in [Element::F32, Element::F16, Element::BF16] {
            let bytes = element.encode(&values);
            let mut numbers = RawNumbers::with_capacity(element, values.len());
            bytes.chunks(4).for_each(|piece| numbers.extend(piece));
            assert_eq!((numbers.element(), numbers.len()), (element, values.len()));
            assert_eq!(numbers.into_f32(), to_f32(element, &bytes), "{element:?}");
        }
        assert_eq!(to_f32(Element::F32, &Element::F32.encode(&values)), values);
    }

    #[test]
    fn numbers_that_are_none_are_counted_in_every_format() {
        let values = [1.0, f32::NAN, f32::INFINITY, -f32::INFINITY, 65504.0, 0.0];
        for element in [Element::F32, Element::F16, Element::BF16] {
            assert_eq!(element.not_finite(&element.encode(&values)), 3, "{element:?}");
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // 1 + 2^-8 lies half way between two bf16 values; the even one is 1.
        assert_eq!(to_f32(Element::BF16, &Element::BF16.encode(&[1.0 + 1.0 / 256.0])), [1.0]);
        let rounded = RawNumbers::F32(vec![1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0]).rounded();
        assert_eq!(rounded.into_f32(), [1.0, 1.0 + 4.0 / 256.0]);
    }
}
