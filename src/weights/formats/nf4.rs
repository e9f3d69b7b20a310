//! NF4 with double quantisation: four bits in blocks of 64, whose scales have eight bits in blocks
//! of 256. The bytes are those of bitsandbytes (`quantize_4bit` with `compress_statistics`).

use std::sync::Arc;

use super::{Storage, WeightFormat};
use crate::weights::blockwise::{self, Blockwise};

/// The entry.
#[derive(Debug)]
pub(super) struct Nf4;

impl WeightFormat for Nf4 {
    fn name(&self) -> &'static str {
        "nf4"
    }

    fn bytes(&self, shape: [usize; 2]) -> u64 {
        blockwise::bytes(shape)
    }

    fn scale_bytes(&self, shape: [usize; 2]) -> u64 {
        blockwise::scale_bytes(shape)
    }

    fn storage(&self) -> Storage {
        Storage::Coded(|numbers, shape| Arc::new(Blockwise::normal(numbers, shape)))
    }

    fn about(&self) -> &'static str {
        "in 4 bits with scales in 8 bits, as bitsandbytes has them for QLoRA, dequantised for \
         every product: an eighth of the memory of 32 bits"
    }

    fn blocks(&self) -> &'static str {
        "64 numbers, 256 scales"
    }

    fn names(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("axolotl and TRL", "load_in_4bit"),
            ("LLaMA-Factory", "quantization_bit"),
            ("TRL", "bnb_4bit_quant_type"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::dequantised;
    use super::*;
    use crate::files::Digest;
    use crate::weights::formats::CodedMatrix;
    use crate::weights::{OwnedTensor, read_tensors, to_f32};

    /// `tests/reference/nf4.py` made the file.
    #[test]
    fn codes_scales_and_numbers_are_those_of_bitsandbytes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
        let (tensors, _) = read_tensors(&folder, "nf4.safetensors").unwrap();
        let numbers = |tensor: &OwnedTensor| to_f32(tensor.element, &tensor.bytes);
        assert_eq!(blockwise::NORMAL, numbers(&tensors["quant_map"])[..]);
        let mut compared = 0;
        for (name, weight) in &tensors {
            let Some(name) = name.strip_suffix(".weight") else { continue };
            let shape = [weight.shape[0], weight.shape[1]];
            let matrix = Blockwise::normal(&numbers(weight), shape);
            let part = |part: &str| &tensors[&format!("{name}{part}")].bytes;
            let parts = ["_blocks", "_scales", ".nested_absmax", ".offset"].map(part);
            let found = matrix.bytes();
            for (number, wanted) in parts.iter().enumerate() {
                assert_eq!(found[number], **wanted, "part {number} of `{name}`");
            }
            assert_eq!(Nf4.bytes(shape), parts.iter().map(|part| part.len() as u64).sum::<u64>());
            assert_eq!(matrix.digest(), Some(Digest::of(&parts.map(Vec::as_slice).concat())));
            if let Some(restored) = tensors.get(&format!("{name}.restored")) {
                assert_eq!(dequantised(&matrix), numbers(restored), "`{name}`");
            }
            assert_eq!(matrix.shape(), shape);
            compared += 1;
        }
        assert_eq!(compared, 5);
    }
}
