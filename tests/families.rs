//! Every family against transformers and PEFT, on tiny models whose weights both sides make of the
//! names of tensors (`tests/reference/make_families.py`); and the equalities between our own paths.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use common::{cpu, relative, row};
use firebrand::adapters::{self, Lora, LoraSettings, TargetModules};
use firebrand::config::{Kernels, Recompute};
use firebrand::data::{Batch, Target};
use firebrand::engine::{Pass, forward_backward, upload};
use firebrand::model::{
    Gradients, Init, Model, ModelJson, Parameter, Sampling, Visitor, families, generate, load,
};
use firebrand::objectives;
use firebrand::ops::{from_vec, host};
use firebrand::random::Stream;
use serde_json::Value;

/// Of logits, relative to the largest.
const LOGITS: f64 = 1e-5;
/// Of each gradient, relative to its largest number.
const GRADIENTS: f64 = 1e-4;
const KERNELS: [Kernels; 2] = [Kernels::Fast, Kernels::Portable];

struct Case {
    name: String,
    json: Value,
    folder: tempfile::TempDir,
}

/// Numbers that `make_families.py` makes of a name, too.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut seed = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let one = |place: u64| {
        let mut x = seed.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let uniform = (x >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0;
        (if name.contains("norm") { 1.0 + 0.2 * uniform } else { 0.35 * uniform }) as f32
    };
    (0..count as u64).map(one).collect()
}

impl Case {
    /// All files of `families/`.
    fn all() -> Vec<Self> {
        let folder = common::repository("tests/reference/families");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    fn read(name: &str) -> Self {
        let path = format!("tests/reference/families/{name}.json");
        let text = std::fs::read_to_string(common::repository(&path)).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json["config"].to_string()).unwrap();
        let case = Self { name: name.to_owned(), json, folder };
        case.write_weights(&case.folder.path().join("model.safetensors"));
        case
    }

    fn write_weights(&self, path: &Path) {
        let config = ModelJson::read(self.folder.path()).unwrap();
        let description = families::describe(&config).unwrap();
        let mut bytes = BTreeMap::new();
        for (name, shape) in description.tensors() {
            let values = numbers(&name, shape.iter().product());
            let values: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            bytes.insert(name, (shape, values));
        }
        let views = bytes.iter().map(|(name, (shape, values))| {
            let view = safetensors::tensor::TensorView::new(
                safetensors::Dtype::F32,
                shape.clone(),
                values,
            );
            (name.clone(), view.unwrap())
        });
        safetensors::serialize_to_file(views, None, path).unwrap();
    }

    fn model(&self, kernels: Kernels) -> Model {
        let mut model = load(self.folder.path(), Init::Pretrained, &cpu()).unwrap().model;
        model.computing.kernels = kernels;
        model
    }

    fn adapted(&self, kernels: Kernels, dropout: f64) -> Model {
        struct Set(Device);
        impl Visitor for Set {
            fn vector(&mut self, _: &str, _: &mut Parameter<1>) {}
            fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
                if path.contains(".lora_") {
                    let dims = parameter.value.dims();
                    let name = format!("base_model.model.{path}");
                    let values = numbers(&name, dims[0] * dims[1]);
                    let values = values.into_iter().map(|x| 0.5 * x).collect();
                    parameter.value = from_vec(values, dims, &self.0);
                }
            }
        }
        let mut model = self.model(kernels);
        let settings = LoraSettings {
            r: 3,
            lora_alpha: 6.0,
            lora_dropout: dropout,
            target_modules: TargetModules::AllLinear,
            use_rslora: false,
        };
        adapters::attach(&mut model, &Lora { settings }, Stream::new(1)).unwrap();
        model.visit(&mut Set(cpu()));
        model
    }

    fn batch(&self) -> Batch {
        let list = |key: &str| -> Vec<u32> {
            serde_json::from_value(self.json["batch"][key].clone()).unwrap()
        };
        let pairs: Vec<(u32, u32)> =
            serde_json::from_value(self.json["batch"]["targets"].clone()).unwrap();
        Batch {
            rows: 2,
            length: 24,
            tokens: list("tokens"),
            positions: list("positions"),
            documents: list("documents"),
            targets: pairs.into_iter().map(|(index, token)| Target { index, token }).collect(),
            sources: Vec::new(),
        }
    }
}

fn pass(batch: &Batch) -> Pass {
    Pass {
        scale: 1.0 / batch.targets.len() as f64,
        recompute: Recompute::None,
        loss_chunk_tokens: 512,
        dropout: Some(Stream::new(3).into()),
    }
}

fn gradients(model: &Model, batch: &Batch, pass: Pass) -> (f64, BTreeMap<String, Vec<f32>>) {
    let mut sums = Gradients::default();
    let scale = pass.scale;
    let (loss, _) = forward_backward(model, &*objectives::with("sft", &[]), batch, pass, &mut sums);
    let sums = sums.into_sums().into_iter().map(|(path, sum)| (path, host(sum)));
    (loss.number() * scale, sums.collect())
}

/// Logits at positions that are no padding.
fn logits(model: &Model, batch: &Batch) -> Vec<f32> {
    let (tokens, context) = upload(model, batch);
    let logits = host(model.logits(model.hidden(tokens, &context)));
    let width = logits.len() / batch.documents.len();
    let rows = logits.chunks_exact(width).zip(&batch.documents);
    rows.filter(|(_, document)| **document > 0).flat_map(|(row, _)| row.to_vec()).collect()
}

/// Compares with what the reference stored of a tensor of a name.
fn assert_sampled(what: &str, name: &str, ours: &[f32], reference: &Value, limit: f64) {
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(ours.len() as u64, reference["count"].as_u64().unwrap(), "{what}");
    let largest = number(&reference["largest"]);
    let near = |which: String, ours: f64, reference: f64, limit: f64| {
        assert!((ours - reference).abs() <= limit, "{what}, {which}: {ours} for {reference}");
    };
    let sample = reference["sample"].as_array().unwrap();
    for (number_of, value) in sample.iter().enumerate() {
        let place = number_of * ours.len() / sample.len();
        near(format!("[{place}]"), f64::from(ours[place]), number(value), limit * largest);
    }
    // What adds to a sum with random signs: errors do so as independent numbers do.
    let norm = number(&reference["norm"]);
    for (index, sum) in reference["sums"].as_array().unwrap().iter().enumerate() {
        let signs = numbers(&format!("{name} sign {index}"), ours.len());
        let products = ours.iter().zip(signs).map(|(x, sign)| f64::from(*x) * sign_of(sign));
        near(format!("sum {index}"), products.sum(), number(sum), limit * norm);
    }
    let square = ours.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
    near("norm".to_owned(), square.sqrt(), norm, limit * norm);
}

/// The sign, zero for zero.
fn sign_of(x: f32) -> f64 {
    if x == 0.0 { 0.0 } else { f64::from(x.signum()) }
}

#[test]
fn logits_losses_and_gradients_are_those_of_transformers_and_peft() {
    for case in Case::all() {
        let (expected, batch) = (&case.json["expected"], case.batch());
        for kernels in KERNELS {
            let what = format!("{} {kernels}", case.name);
            let check = |model: &Model, kind: &str, logits_of: &str, loss_of: &str| {
                let ours = logits(model, &batch);
                assert_sampled(&what, "logits", &ours, &expected[logits_of], LOGITS);
                let reference = expected[loss_of].as_f64().unwrap();
                for pass in [pass(&batch), Pass { dropout: None, ..pass(&batch) }] {
                    let (loss, sums) = gradients(model, &batch, pass);
                    assert!((loss / reference - 1.0).abs() < 1e-5, "{what}: {loss} {reference}");
                    let wanted = expected[kind].as_object().unwrap();
                    assert_eq!(wanted.len(), sums.len(), "{what}: gradients nobody asked for");
                    for (path, ours) in &sums {
                        let prefix = if kind == "lora" { "base_model.model." } else { "" };
                        let name = format!("{prefix}{path}");
                        let of = format!("{what} {kind} {path}");
                        assert_sampled(&of, &name, ours, &wanted[&name], GRADIENTS);
                    }
                }
            };
            check(&case.adapted(kernels, 0.0), "lora", "lora_logits", "lora_loss");
            let mut model = case.model(kernels);
            adapters::unfreeze_all(&mut model);
            check(&model, "full", "logits", "loss");
        }
    }
}

/// With everything that there is: all weights learn, adapters beside them that drop inputs.
#[test]
fn fast_portable_and_recomputed_gradients_are_the_same() {
    for case in Case::all() {
        let batch = case.batch();
        let all = |kernels, recompute| {
            let mut model = case.adapted(kernels, 0.3);
            adapters::unfreeze_all(&mut model);
            gradients(&model, &batch, Pass { recompute, ..pass(&batch) })
        };
        let kept = all(Kernels::Fast, Recompute::None);
        assert_eq!(kept, all(Kernels::Fast, Recompute::Layers), "{}", case.name);
        let portable = all(Kernels::Portable, Recompute::None);
        assert_eq!(portable, all(Kernels::Portable, Recompute::Layers), "{}", case.name);
        assert!((kept.0 / portable.0 - 1.0).abs() < 1e-5);
        assert!(kept.1.keys().eq(portable.1.keys()));
        for (path, fast) in &kept.1 {
            let found = relative(fast, &portable.1[path]);
            assert!(found < 1e-4, "{} {path}: {found}", case.name);
        }
    }
}

#[test]
fn packed_documents_have_the_logits_of_documents_alone() {
    for case in Case::all() {
        for kernels in KERNELS {
            let model = case.adapted(kernels, 0.0);
            let packed = row(&case.batch(), 1);
            let together = logits(&model, &packed);
            let mut alone = Vec::new();
            for document in [1, 2] {
                let places: Vec<usize> = (0..packed.length)
                    .filter(|&place| packed.documents[place] == document)
                    .collect();
                let pick = |list: &[u32]| places.iter().map(|place| list[*place]).collect();
                let batch = Batch {
                    rows: 1,
                    length: places.len(),
                    tokens: pick(&packed.tokens),
                    positions: pick(&packed.positions),
                    documents: vec![1; places.len()],
                    targets: Vec::new(),
                    sources: Vec::new(),
                };
                alone.extend(logits(&model, &batch));
            }
            let found = relative(&together, &alone);
            assert!(found < 1e-6, "{} {kernels}: {found}", case.name);
        }
    }
}

/// Windows hold in the cache, too: the prompts are shorter and longer than they are.
#[test]
fn texts_written_with_a_cache_are_those_of_transformers_and_those_without() {
    for case in Case::all() {
        for kernels in KERNELS {
            let model = case.model(kernels);
            for made in case.json["generated"].as_array().unwrap() {
                let list =
                    |key: &str| -> Vec<u32> { serde_json::from_value(made[key].clone()).unwrap() };
                let (prompt, wanted) = (list("prompt"), list("continuation"));
                let max_tokens = wanted.len();
                let sampling = Sampling { temperature: 0.0, stream: Stream::new(1), max_tokens };
                let ours = generate(&model, &prompt, &[], sampling, &mut |_| true).unwrap();
                assert_eq!(ours.tokens, wanted, "{} {kernels}", case.name);

                let tokens = [prompt.clone(), wanted.clone()].concat();
                let length = tokens.len();
                let batch = Batch {
                    rows: 1,
                    length,
                    tokens,
                    positions: (0..).take(length).collect(),
                    documents: vec![1; length],
                    ..Batch::default()
                };
                let all = logits(&model, &batch);
                let best = |row: &[f32]| {
                    let most = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                    u32::try_from(most.unwrap().0).unwrap()
                };
                let rows = all.chunks_exact(all.len() / length).skip(prompt.len() - 1);
                let without: Vec<u32> = rows.map(best).take(wanted.len()).collect();
                assert_eq!(without, wanted, "{} {kernels} without a cache", case.name);
            }
        }
    }
}
