//! Weights that stay in the blocks of a GGUF file: all that is computed is what the numbers give.

use firebrand::adapters::{ADAPTERS, attach};
use firebrand::device::{Arithmetic, ComputeConfig};
use firebrand::model::{FrozenWeights, Loaded, Matrix, load_for};
use firebrand::weights::formats::DEQUANTISED;
use firebrand::weights::ggml::{TYPES, TensorType};
use firebrand::weights::{BLOCKS_KEY, Element, TensorSpec, write_tensors};

use super::*;

const HIDDEN: usize = 256;
const VOCABULARY: usize = 80;

/// A Llama of one layer whose rows are whole blocks of every type.
fn config(tied: bool) -> serde_json::Value {
    serde_json::json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "float32",
        "hidden_size": HIDDEN, "intermediate_size": 512, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied,
    })
}

/// Blocks of random codes with scales of the size of those of a model.
fn blocks(kind: &TensorType, count: usize, stream: Stream) -> Vec<u8> {
    let code = |at: u64| (stream.normal(at) * 1000.0).rem_euclid(256.0) as u8;
    let mut bytes: Vec<u8> = (0..(count * kind.bytes) as u64).map(code).collect();
    for block in bytes.chunks_exact_mut(kind.bytes) {
        let mut scale = |at: usize| block[at..at + 2].copy_from_slice(&[0x11, 0x10]);
        match kind.name {
            "Q6_K" => scale(208),
            "MXFP4" => block[0] = 120,
            "Q4_0" | "Q5_0" | "Q8_0" => scale(0),
            _ => {
                scale(0);
                scale(2);
            }
        }
    }
    bytes
}

/// The same model twice: in blocks, and in the numbers that they stand for.
pub(super) fn written(kind: &'static TensorType, tied: bool) -> [tempfile::TempDir; 2] {
    let config = config(tied);
    let description = families::describe(&ModelJson::from_value(config.clone())).unwrap();
    let stream = |name: &str| Stream::new(4).site(name);
    let is_matrix = |shape: &[usize]| shape.len() == 2;
    let of = |in_blocks: bool| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let specs = description.tensors().into_iter().map(|(name, mut shape)| {
            let coded = in_blocks && is_matrix(&shape);
            if coded {
                shape[1] = shape[1] / kind.block * kind.bytes;
            }
            let element = if coded { Element::U8 } else { Element::F32 };
            TensorSpec { name, element, shape }
        });
        let specs: Vec<TensorSpec> = specs.collect();
        let names = specs.iter().filter(|spec| spec.element == Element::U8);
        let types: BTreeMap<String, &str> =
            names.map(|spec| (spec.name.clone(), kind.name)).collect();
        let metadata = match in_blocks {
            true => vec![(BLOCKS_KEY.to_owned(), serde_json::to_string(&types).unwrap())],
            false => Vec::new(),
        };
        let path = folder.path().join("model.safetensors");
        write_tensors(&path, specs, &metadata.into_iter().collect(), |spec| {
            let stream = stream(&spec.name);
            let count: usize = spec.shape.iter().product();
            Ok(match (is_matrix(&spec.shape), spec.element) {
                (true, Element::U8) => blocks(kind, count / kind.bytes, stream),
                (true, _) => {
                    Element::F32.encode(&kind.values(&blocks(kind, count / kind.block, stream)))
                }
                (false, _) => Element::F32.encode(&vec![1.0; count]),
            })
        })
        .unwrap();
        folder
    };
    [of(true), of(false)]
}

pub(super) fn batch() -> Batch {
    let count = |number: usize| u32::try_from(number).unwrap();
    let tokens: Vec<u32> = (0..20).map(|at| count(at * 37 % VOCABULARY)).collect();
    Batch {
        rows: 1,
        length: tokens.len(),
        positions: (0..count(tokens.len())).collect(),
        documents: vec![1; tokens.len()],
        targets: (3..15).map(|at| Target { index: at, token: at * 5 % 80 }).collect(),
        tokens,
        ..Batch::default()
    }
}

fn loaded(folder: &tempfile::TempDir, frozen: FrozenWeights, computing: ComputeConfig) -> Loaded {
    load_for(folder.path(), Init::Pretrained, &cpu(), computing, frozen).unwrap()
}

fn coded(model: &mut Model) -> usize {
    let mut count = 0;
    model.linears(&mut |_, linear| {
        count += usize::from(matches!(linear.weight, Matrix::Coded(_)));
    });
    count
}

#[test]
fn what_is_computed_from_blocks_is_what_their_numbers_give() {
    let as_in_file = FrozenWeights::from(true);
    let dequantised = FrozenWeights { linears: Some(DEQUANTISED), ..as_in_file };
    let batch = batch();
    for (number, kind) in TYPES.iter().filter(|kind| kind.is_quantised()).enumerate() {
        let [in_blocks, in_numbers] = written(kind, number.is_multiple_of(2));
        for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16] {
            for kernels in KERNELS {
                let computing = ComputeConfig { kernels, arithmetic, ..ComputeConfig::default() };
                let adapted = |folder, frozen| {
                    let mut model = by(kernels, loaded(folder, frozen, computing).model);
                    attach(&mut model, ADAPTERS[0].sample().as_ref(), Stream::new(1)).unwrap();
                    model
                };
                let mut codes = adapted(&in_blocks, as_in_file);
                assert_eq!(coded(&mut codes), 7, "{}", kind.name);
                assert!(codes.embedding.matrix.pieces().is_empty(), "{}", kind.name);
                let answer = |model: &Model| {
                    let sampling = Sampling::new(0.0, Stream::new(1), 8);
                    generate(model, &[5, 9, 30], &[], sampling, &mut |_| true).unwrap().tokens
                };
                for (folder, frozen) in [(&in_blocks, dequantised), (&in_numbers, as_in_file)] {
                    let mut numbers = adapted(folder, frozen);
                    assert_eq!(coded(&mut numbers), 0, "{}", kind.name);
                    let [ours, theirs] =
                        [&codes, &numbers].map(|model| gradients(model, &batch, pass(&batch)));
                    assert_same_gradients(kind.name, ours, theirs, 0.0);
                    let (a, b) = (logits(&codes, &batch), logits(&numbers, &batch));
                    assert_eq!(a, b, "{} {kernels}", kind.name);
                    assert_eq!(answer(&codes), answer(&numbers), "{}", kind.name);
                }
            }
        }
    }
}

#[test]
fn a_file_in_blocks_has_a_digest_and_is_trained_whole_as_numbers() {
    let kind = TensorType::quantised("Q4_K").unwrap();
    let [in_blocks, in_numbers] = written(kind, false);
    let computing = ComputeConfig::default();
    let kept = loaded(&in_blocks, FrozenWeights::from(true), computing);
    assert!(kept.in_blocks.is_some() && kept.quantised.is_none());
    let whole = loaded(&in_blocks, FrozenWeights::default(), computing);
    assert!(whole.in_blocks.is_none());
    let numbers = loaded(&in_numbers, FrozenWeights::default(), computing);
    assert_eq!(logits(&whole.model, &batch()), logits(&numbers.model, &batch()));
    assert_eq!(whole.elements, numbers.elements);
}
