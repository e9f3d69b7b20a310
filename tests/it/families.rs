//! Every family against transformers and PEFT, on tiny models whose weights both sides make of the
//! names of tensors (`tests/reference/make_families.py`); and the equalities between our own paths.

#[cfg(feature = "gpu")]
mod devices;
mod experts;
mod granite;
mod pairs;
mod resume;
mod steps;
mod tiles;

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{cpu, relative, row, says};
use burn::tensor::Device;
use firebrand::adapters::{self, Lora, LoraSettings, TargetModules};
use firebrand::config::{Kernels, Recompute};
use firebrand::data::{Batch, Target};
use firebrand::device::Arithmetic;
use firebrand::engine::{Pass, forward_backward, upload};
use firebrand::model::description::{
    BlockDescription, LayerDescription, NormDescription, NormGain, QkvDescription,
};
use firebrand::model::{
    Description, Gradients, Init, LayerSaved, Model, ModelJson, Parameter, Sampling,
    TextInProgress, Visitor, WeightSource, families, generate, load,
};
use firebrand::objectives;
use firebrand::ops::{
    Activation, AttentionConfig, Frequencies, LogitConfig, RopeScaling, from_vec, host,
};
use firebrand::random::Stream;
use firebrand::weights::Element;
use serde_json::{Value, json};
use snapbox::str;

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
        let gain = ["layer_scalar", "scale"].iter().any(|end| name.ends_with(end));
        let gain = gain || name.contains("norm");
        (if gain { 1.0 + 0.2 * uniform } else { 0.35 * uniform }) as f32
    };
    (0..count as u64).map(one).collect()
}

impl Case {
    /// All files of `families/`.
    fn all() -> Vec<Self> {
        let folder = crate::common::repository("tests/reference/families");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    fn read(name: &str) -> Self {
        let path = format!("tests/reference/families/{name}.json");
        let text = std::fs::read_to_string(crate::common::repository(&path)).unwrap();
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
        let (mut tensors, names) = (description.tensors(), description.names);
        if let Some(other) = names.others.first() {
            tensors.push((format!("{other}.head.probe"), vec![1, 1, 8]));
        }
        if let Some(first) = names.keys_end {
            // Files hold keys that nothing sees, of whatever shape.
            tensors.push((format!("{}.{first}.self_attn.k_proj.weight", names.layers), vec![2, 3]));
        }
        for (path, shape) in tensors {
            let values = numbers(&path, shape.iter().product());
            let (kind, values) = experts::bytes_of(&path, values);
            // Some checkpoints that read images, too, have kept names from before.
            let name = match names.in_files {
                [] => path,
                _ => path.replace("model.language_model.", "language_model.model."),
            };
            bytes.insert(name, (kind, shape, values));
        }
        let views = bytes.iter().map(|(name, (kind, shape, values))| {
            let view = safetensors::tensor::TensorView::new(*kind, shape.clone(), values);
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
        let names = |key: &str| -> Option<Vec<String>> {
            serde_json::from_value(self.json.get("lora")?[key].clone()).unwrap()
        };
        let target_parameters = names("target_parameters").unwrap_or_default();
        let settings = LoraSettings {
            // Inputs of parameters cannot be dropped.
            lora_dropout: if target_parameters.is_empty() { dropout } else { 0.0 },
            target_modules: names("target_modules")
                .map_or(TargetModules::AllLinear, TargetModules::Names),
            target_parameters,
            ..LoraSettings::new(3, 6.0)
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
        let tokens = list("tokens");
        Batch {
            rows: 2,
            length: tokens.len() / 2,
            tokens,
            positions: list("positions"),
            documents: list("documents"),
            targets: pairs.into_iter().map(|(index, token)| Target { index, token }).collect(),
            ..Batch::default()
        }
    }
}

fn pass(batch: &Batch) -> Pass {
    Pass {
        scale: 1.0 / batch.targets.len() as f64,
        recompute: Recompute::None,
        loss_chunk_tokens: 512,
        dropout: Some(Stream::new(3).into()),
        noise: None,
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
            if case.json["expected"]["full"].as_object().unwrap().is_empty() {
                continue; // what is in four bits is not trained
            }
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
        let again = all(Kernels::Portable, Recompute::Layers);
        if case.json["config"]["quantization_config"].is_object() {
            // A few rows have sums of another order without a tape, where weights are codes.
            let near = |(path, sum): (&String, &Vec<f32>)| relative(sum, &again.1[path]) < 1e-5;
            assert!(portable.1.iter().all(near), "{}", case.name);
        } else {
            assert_eq!(portable, again, "{}", case.name);
        }
        let losses = [kept.0, portable.0];
        assert!((losses[0] / losses[1] - 1.0).abs() < 1e-5, "{}: {losses:?}", case.name);
        assert!(kept.1.keys().eq(portable.1.keys()));
        for (path, fast) in &kept.1 {
            let found = relative(fast, &portable.1[path]);
            assert!(found < 1e-4, "{} {path}: {found}", case.name);
        }
    }
}

/// What layers hand on is rounded as all else is. The same under PyTorch's autocast is 0.12 at most.
#[test]
fn gradients_in_mixed_bf16_are_those_in_f32_but_for_rounding() {
    let hands_on = |case: &Case| case.model(Kernels::Fast).description.beside_stream() > 0;
    let cases: Vec<_> = Case::all().into_iter().filter(hands_on).collect();
    assert!(cases.iter().any(|case| case.name == "gemma4-moe-inputs") && cases.len() > 3);
    for case in cases {
        let batch = case.batch();
        let with = |arithmetic| {
            let mut model = case.adapted(Kernels::Fast, 0.0);
            adapters::unfreeze_all(&mut model);
            model.computing.arithmetic = arithmetic;
            gradients(&model, &batch, Pass { dropout: None, ..pass(&batch) }).1
        };
        let [wide, short] = [Arithmetic::F32, Arithmetic::MixedBf16].map(with);
        let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
        let all = |of: &BTreeMap<String, Vec<f32>>| -> Vec<f64> {
            of.values().flatten().map(|x| f64::from(*x)).collect()
        };
        let (wide, short) = (all(&wide), all(&short));
        let error = square(&mut wide.iter().zip(&short).map(|(a, b)| a - b));
        let found = (error / square(&mut wide.iter().copied())).sqrt();
        assert!(found > 1e-4 && found < 0.2, "{}: {found}", case.name);
    }
}

/// Sums have one order, whoever makes them.
#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    for case in Case::all() {
        let batch = case.batch();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut model = case.adapted(Kernels::Fast, 0.0);
                adapters::unfreeze_all(&mut model);
                gradients(&model, &batch, Pass { dropout: None, ..pass(&batch) })
            })
        };
        let one = with(1);
        for threads in [2, 5] {
            assert_eq!(one, with(threads), "{} with {threads} threads", case.name);
        }
    }
}

/// No family is left to tensor operations on the CPU, where they are slower.
#[test]
fn every_layer_is_computed_by_the_kernels_of_the_cpu() {
    for case in Case::all() {
        let (model, batch) = (case.adapted(Kernels::Fast, 0.0), case.batch());
        let (tokens, context) = upload(&model, &batch);
        let mut x = model.embed(&tokens, &context);
        for (number, layer) in model.layers.iter().enumerate() {
            let (y, saved) = layer.differentiable(x, &context);
            let is_known = matches!(saved, LayerSaved::OnCpu(..));
            assert!(is_known, "{}: the kernels do not know something in layer {number}", case.name);
            x = y;
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
                    ..Batch::default()
                };
                alone.extend(logits(&model, &batch));
            }
            let found = relative(&together, &alone);
            // Products of other sizes are summed in another order, which depends on the processor.
            assert!(found < 4e-6, "{} {kernels}: {found}", case.name);
        }
    }
}

/// The first tokens of a text.
fn shortened(batch: &Batch, length: usize) -> Batch {
    let first = |list: &[u32]| list[..length].to_vec();
    Batch {
        rows: 1,
        length,
        tokens: first(&batch.tokens),
        positions: first(&batch.positions),
        documents: first(&batch.documents),
        ..Batch::default()
    }
}

/// What a text goes on with where it is asked for twice, the second time from what was kept of the first.
fn in_two_parts(model: &Model, prompt: &[u32], max_tokens: usize) -> Vec<u32> {
    let mut text = TextInProgress::default();
    let mut all = prompt.to_vec();
    for count in [max_tokens / 2, max_tokens - max_tokens / 2] {
        let (read, asked) = (all.len(), Sampling::new(0.0, Stream::new(1), count));
        let made = text.go_on(model, &all, &[], asked, None, &mut |_| true).unwrap();
        let is_longer = read > prompt.len();
        let [before, after] = [read - 1, read].map(|length| u32::try_from(length).unwrap());
        let turned = model.frequencies.iter().any(|of| of.differ(before, after));
        // One token was made and not read.
        assert_eq!(made.read, if is_longer && read >= 16 && !turned { 1 } else { read });
        all.extend(made.tokens);
    }
    all.split_off(prompt.len())
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
                let sampling = Sampling::new(0.0, Stream::new(1), max_tokens);
                let ours = generate(&model, &prompt, &[], sampling, &mut |_| true).unwrap();
                assert_eq!(ours.tokens, wanted, "{} {kernels}", case.name);
                assert_eq!(in_two_parts(&model, &prompt, max_tokens), wanted, "{}", case.name);

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
                let mut without: Vec<u32> = rows.map(best).take(wanted.len()).collect();
                if model.frequencies.iter().any(Frequencies::depend_on_length) {
                    // What is longer turns otherwise: each token follows from a text of its own.
                    let next = |count: usize| {
                        let rows = logits(&model, &shortened(&batch, count));
                        best(&rows[rows.len() - rows.len() / count..])
                    };
                    without = (prompt.len()..length).map(next).collect();
                }
                assert_eq!(without, wanted, "{} {kernels} without a cache", case.name);
            }
        }
    }
}

/// Options that blocks have, all at once: scaled embeddings, norms behind the blocks, a multiplier,
/// gains of one more than the weight, norms over all heads, GELU, another scale of scores, a layer
/// in which positions turn nothing, and scores over the vocabulary that are scaled and capped.
fn with_every_option(mut of: Description) -> Description {
    for (number, layer) in of.layers.iter_mut().enumerate() {
        for (name, part) in ["after_attention", "after_mlp"].into_iter().zip(&mut layer.residuals) {
            let before = part.before.as_mut().expect("all have one");
            before.gain = NormGain::OnePlusWeight;
            part.after = Some(NormDescription { name, ..*before });
            part.multiplier = 0.22;
            if number == 2 {
                part.before = None;
            }
            match &mut part.block {
                BlockDescription::Attention(attention) => {
                    let (query, key) =
                        (attention.config.query_width(), attention.config.key_width());
                    let [q, k] = attention.qk_norms.as_mut().expect("it has some");
                    (q.width, k.width) = (query, key);
                    attention.config = AttentionConfig { scale: 0.2, ..attention.config };
                    attention.rope = attention.rope.take().filter(|_| number != 1);
                }
                BlockDescription::GatedMlp(mlp) => mlp.activation = Activation::GeluTanh,
                _ => panic!("layers of this family have no other blocks"),
            }
        }
    }
    of.embedding_scale = 3.0;
    of.logits = LogitConfig { scale: 0.7, soft_cap: Some(1.5) };
    of.counted(u128::MAX).expect("it is small")
}

/// A model of a description, with weights that are made of their names.
fn model_of(description: &Description, kernels: Kernels) -> Model {
    struct Set(Device);
    impl Visitor for Set {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            let dims = parameter.value.dims();
            parameter.value = from_vec(numbers(path, dims[0]), dims, &self.0);
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            let dims = parameter.value.dims();
            parameter.value = from_vec(numbers(path, dims[0] * dims[1]), dims, &self.0);
        }
    }
    let mut source = WeightSource::random(Stream::new(1), 0.02, Element::F32, &cpu());
    let mut model = Model::build(description.clone(), &mut source).unwrap();
    model.visit(&mut Set(cpu()));
    adapters::unfreeze_all(&mut model);
    model.computing.kernels = kernels;
    model
}

#[test]
fn every_option_of_a_block_has_the_gradients_of_one_tape_in_both_forms() {
    let case = Case::read("qwen3-window");
    let config = ModelJson::read(case.folder.path()).unwrap();
    let description = with_every_option(families::describe(&config).unwrap());
    let batch = case.batch();

    let model = model_of(&description, Kernels::Portable);
    let (tokens, context) = upload(&model, &batch);
    let mut layers: Vec<_> = model.layers.iter().map(|layer| layer.tracked()).collect();
    let embedded = model.embedding.forward(&tokens).autodiff().require_grad();
    let x = layers.iter().fold(embedded.clone(), |x, layer| layer.composed(x, &context));
    let index = firebrand::ops::indices(batch.targets.iter().map(|t| t.index), &cpu());
    let token = firebrand::ops::indices(batch.targets.iter().map(|t| t.token), &cpu());
    let logits = model.logits(x.select(0, index));
    let count = batch.targets.len();
    let picked =
        burn::tensor::activation::log_softmax(logits, 1).gather(1, token.reshape([count, 1]));
    let total = picked.sum().neg().div_scalar(count as f64);
    let loss = f64::from(host(total.clone().inner())[0]);
    let (mut whole, mut tape) = (Gradients::default(), [total.backward()]);
    for layer in &mut layers {
        whole.collect(&mut tape, |visitor| layer.visit(visitor));
    }
    let d_embedded = host(embedded.grad_remove(&mut tape[0]).unwrap());
    let hidden = description.hidden;
    let mut table = vec![0.0; description.vocabulary * hidden];
    for (token, row) in batch.tokens.iter().zip(d_embedded.chunks_exact(hidden)) {
        let sum = &mut table[*token as usize * hidden..][..hidden];
        sum.iter_mut().zip(row).for_each(|(sum, d)| *sum += description.embedding_scale * d);
    }
    let length = table.len();
    whole.add("model.embed_tokens.weight", from_vec(table, [length], &cpu()));
    let whole = whole.into_sums();
    assert!(whole.contains_key("model.layers.2.after_mlp.weight"));
    for kernels in KERNELS {
        for pass in [pass(&batch), Pass { dropout: None, ..pass(&batch) }] {
            let (ours, sums) = gradients(&model_of(&description, kernels), &batch, pass);
            assert!((ours / loss - 1.0).abs() < 1e-5, "{kernels}: {ours} for {loss}");
            for (path, reference) in &whole {
                let found = relative(&sums[path], &host(reference.clone()));
                assert!(found < 1e-4, "{kernels} {path}: {found}");
            }
        }
    }
}

/// The configurations of checkpoints that people use: sizes are theirs, and nothing is refused.
#[test]
fn configurations_of_real_checkpoints_are_understood() {
    let common = json!({
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "initializer_range": 0.02, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
        "use_cache": true,
    });
    let qwen3 = json!({
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
        "head_dim": 128, "hidden_size": 1024, "intermediate_size": 3072,
        "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16,
        "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
        "rope_scaling": null, "rope_theta": 1_000_000, "sliding_window": null,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151_936,
    });
    let qwen2 = json!({
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896,
        "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "sliding_window": 32768,
        "tie_word_embeddings": true, "use_mrope": false, "use_sliding_window": false,
        "vocab_size": 151_936,
    });
    let mistral = |vocabulary: usize, window: Value| {
        json!({
            "model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_size": 4096,
            "intermediate_size": 14336, "max_position_embeddings": 32768,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": window,
            "tie_word_embeddings": false, "vocab_size": vocabulary,
        })
    };
    let olmo2 = json!({
        "model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "attention_bias": false,
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 4096,
        "num_attention_heads": 16, "num_hidden_layers": 16, "num_key_value_heads": 16,
        "pad_token_id": 100_277, "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 500_000,
        "tie_word_embeddings": false, "use_cache": false, "vocab_size": 100_352,
    });
    let family = |kind: &str, own: Value| {
        let mut config = json!({"model_type": kind, "rms_norm_eps": 1e-5});
        config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        config
    };
    let llama = family(
        "llama",
        json!({
            "attention_bias": false, "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192,
            "max_position_embeddings": 131_072, "mlp_bias": false, "num_attention_heads": 32,
            "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
            "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"},
            "rope_theta": 500_000.0, "tie_word_embeddings": true, "vocab_size": 128_256,
        }),
    );
    let smollm3 = family(
        "smollm3",
        json!({
            "attention_bias": false, "hidden_size": 2048, "intermediate_size": 11008,
            "layer_types": vec!["full_attention"; 36], "max_position_embeddings": 65536,
            "max_window_layers": 28, "mlp_bias": false, "no_rope_layer_interval": 4,
            "no_rope_layers": (1..=36).map(|n| u8::from(n % 4 != 0)).collect::<Vec<_>>(),
            "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4,
            "rope_scaling": null, "rope_theta": 5_000_000.0, "sliding_window": null,
            "use_sliding_window": false, "vocab_size": 128_256,
        }),
    );
    let granite = family(
        "granite",
        json!({
            "attention_bias": false, "attention_multiplier": 0.015_625, "embedding_multiplier": 12.0,
            "hidden_size": 2048, "intermediate_size": 8192, "logits_scaling": 8.0,
            "max_position_embeddings": 131_072, "mlp_bias": false, "num_attention_heads": 32,
            "num_hidden_layers": 40, "num_key_value_heads": 8, "residual_multiplier": 0.22,
            "rope_scaling": null, "rope_theta": 10_000_000.0, "tie_word_embeddings": true,
            "vocab_size": 49159,
        }),
    );
    let phi4 = family(
        "phi3",
        json!({
            "attention_bias": false, "embd_pdrop": 0.0, "hidden_size": 5120,
            "intermediate_size": 17920, "max_position_embeddings": 16384, "num_attention_heads": 40,
            "num_hidden_layers": 40, "num_key_value_heads": 10,
            "original_max_position_embeddings": 16384, "resid_pdrop": 0.0, "rope_scaling": null,
            "rope_theta": 250_000, "sliding_window": null, "tie_word_embeddings": false,
            "vocab_size": 100_352,
        }),
    );
    let phi4_mini = family(
        "phi3",
        json!({
            "attention_bias": false, "embd_pdrop": 0.0, "full_attn_mod": 1, "hidden_size": 3072,
            "intermediate_size": 8192, "interpolate_factor": 1, "lm_head_bias": false,
            "max_position_embeddings": 131_072, "mlp_bias": false, "num_attention_heads": 24,
            "num_hidden_layers": 32, "num_key_value_heads": 8,
            "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
            "resid_pdrop": 0.0, "rope_scaling": {"type": "longrope", "long_factor": vec![1.5; 48],
                "short_factor": vec![1.0; 48]},
            "rope_theta": 10000.0, "sliding_window": 262_144, "tie_word_embeddings": true,
            "vocab_size": 200_064,
        }),
    );
    let ministral = family(
        "ministral3",
        json!({
            "head_dim": 128, "hidden_size": 3072, "intermediate_size": 9216,
            "max_position_embeddings": 262_144, "num_attention_heads": 32, "num_hidden_layers": 26,
            "num_key_value_heads": 8, "rope_parameters": {"beta_fast": 32.0, "beta_slow": 1.0,
                "factor": 16.0, "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 16384, "rope_theta": 1_000_000.0,
                "rope_type": "yarn", "type": "yarn"},
            "sliding_window": null, "tie_word_embeddings": true, "vocab_size": 131_072,
        }),
    );
    for (own, parameters, windows) in [
        (experts::qwen3_moe(), 30_532_122_624, [None; 2]),
        (experts::gpt_oss(), 20_914_757_184, [Some(128), None]),
        (llama, 1_235_814_400, [None; 2]),
        (smollm3, 3_075_098_624, [None; 2]),
        (granite, 2_533_539_840, [None; 2]),
        (phi4, 14_659_507_200, [None; 2]),
        (phi4_mini, 3_836_021_760, [Some(262_144); 2]),
        (ministral, 3_429_006_336, [None; 2]),
        (qwen3, 596_049_920, [None; 2]),
        (qwen2, 494_032_768, [None; 2]),
        (mistral(32_000, json!(4096)), 7_241_732_096, [Some(4096); 2]),
        (mistral(32_768, json!(null)), 7_248_023_552, [None; 2]),
        (gemma2(), 9_241_705_984, [Some(4096), None]),
        (gemma3(), 268_098_176, [Some(512), None]),
        (olmo2, 1_484_916_736, [None; 2]),
        (olmo3(), 7_298_011_136, [Some(4096), None]),
        (gemma4_e2b(), 4_628_569_344, [Some(512), None]),
        (gemma4_12b(), 11_907_350_272, [Some(1024), None]),
    ] {
        let mut config = common.clone();
        config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let found = families::describe(&ModelJson::from_value(config)).unwrap();
        assert_eq!(found.parameters, parameters, "{}", found.model_type);
        let window = |layer: &LayerDescription| match &layer.residuals[0].block {
            BlockDescription::Attention(attention) => attention.config.window,
            other => panic!("attention comes first, and not {other:?}"),
        };
        let [first, last] = [found.layers.first(), found.layers.last()];
        assert_eq!([first, last].map(|layer| window(layer.unwrap())), windows);
    }
}

/// OLMo 3 7B as its first checkpoints have it.
fn olmo3() -> Value {
    let kinds: Vec<_> = (1..=32)
        .map(|number| if number % 4 == 0 { "full_attention" } else { "sliding_attention" })
        .collect();
    json!({
        "model_type": "olmo3", "architectures": ["Olmo3ForCausalLM"], "attention_bias": false,
        "hidden_size": 4096, "intermediate_size": 11008, "layer_types": kinds,
        "max_position_embeddings": 65536, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "pad_token_id": 100_277, "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "attention_factor": 1.207_944_154_167_983_6, "beta_fast": 32, "beta_slow": 1,
            "factor": 8.0, "original_max_position_embeddings": 8192, "rope_type": "yarn",
        },
        "rope_theta": 500_000, "sliding_window": 4096, "tie_word_embeddings": false,
        "use_cache": false, "vocab_size": 100_278,
    })
}

/// Long contexts stretch the rotation of layers without a window alone.
#[test]
fn olmo3_stretches_positions_in_layers_that_see_everything() {
    let describe = |change: Value| {
        let mut config = olmo3();
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        families::describe(&ModelJson::from_value(config))
    };
    let found = describe(json!({})).unwrap();
    for (index, layer) in found.layers.iter().enumerate() {
        let BlockDescription::Attention(attention) = &layer.residuals[0].block else {
            panic!("attention comes first")
        };
        let rope = attention.rope.as_ref().expect("all have one");
        let stretched = matches!(rope.scaling, RopeScaling::Yarn { .. });
        assert_eq!((stretched, rope.theta), ((index + 1) % 4 == 0, 5e5));
    }
    assert_eq!(describe(json!({"layer_types": null})).unwrap(), found);
    let error = describe(json!({"rope_theta": 1e6})).unwrap_err().to_string();
    says(
        error,
        str![[r#"
error[model]: `rope_theta` is another than 500000, and not said to be of which layers
  at config.json

hint: use `rope_parameters`
"#]],
    );
}

/// Gemma 2 9B as its first checkpoints have it.
fn gemma2() -> Value {
    json!({
        "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
        "attn_logit_softcapping": 50.0, "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3584, "intermediate_size": 14336,
        "max_position_embeddings": 8192, "num_attention_heads": 16, "num_hidden_layers": 42,
        "num_key_value_heads": 8, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096,
        "sliding_window_size": 4096, "vocab_size": 256_000,
    })
}

#[test]
fn gemma2_has_caps_where_it_is_silent_and_none_where_they_are_null() {
    let describe = |change: Value| {
        let mut config = gemma2();
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        families::describe(&ModelJson::from_value(config))
    };
    let caps = |description: Description| {
        let BlockDescription::Attention(attention) = &description.layers[0].residuals[0].block
        else {
            panic!("attention comes first")
        };
        [attention.config.soft_cap, description.logits.soft_cap]
    };
    let mut silent = gemma2();
    silent.as_object_mut().unwrap().retain(|key, _| !key.contains("softcapping"));
    let silent = families::describe(&ModelJson::from_value(silent)).unwrap();
    assert_eq!(caps(silent), [Some(50.0), Some(30.0)]);
    let off = json!({"attn_logit_softcapping": null, "final_logit_softcapping": null});
    assert_eq!(caps(describe(off).unwrap()), [None, None]);
    let half = describe(json!({"attn_logit_softcapping": 25.5})).unwrap();
    assert_eq!(caps(half), [Some(25.5), Some(30.0)]);
    for (change, key) in [
        (json!({"sliding_window_size": 1024}), "sliding_window_size"),
        (json!({"attn_logit_softcapping": 0.0}), "attn_logit_softcapping"),
        (json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
    ] {
        let error = describe(change.clone()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{change} gave {error}");
    }
}

/// Kinds of layers, of which every `every`th sees everything.
fn kinds(layers: usize, every: usize) -> Vec<&'static str> {
    let kind = |number: usize| match number % every {
        0 => "full_attention",
        _ => "sliding_attention",
    };
    (1..=layers).map(kind).collect()
}

/// What is the same in the text models of all sizes of Gemma 4, as their first checkpoints have it.
fn gemma4_text(own: Value) -> Value {
    let mut text = json!({
        "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 2,
        "enable_moe_block": false, "eos_token_id": 1, "final_logit_softcapping": 30.0,
        "global_head_dim": 512, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "initializer_range": 0.02, "moe_intermediate_size": null, "num_experts": null,
        "pad_token_id": 0, "rms_norm_eps": 1e-6, "rope_parameters": {
            "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0,
                "rope_type": "proportional"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "tie_word_embeddings": true, "top_k_experts": null, "use_cache": true,
        "vocab_size": 262_144, "vocab_size_per_layer_input": 262_144,
    });
    text.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    text
}

fn gemma4(kind: &str, text: Value) -> Value {
    json!({
        "model_type": kind, "audio_config": {"model_type": "audio"}, "audio_token_id": 258_881,
        "boa_token_id": 256_000, "boi_token_id": 255_999, "dtype": "bfloat16",
        "eoa_token_index": 258_883, "eoi_token_id": 258_882, "image_token_id": 258_880,
        "text_config": gemma4_text(text), "tie_word_embeddings": true, "video_token_id": 258_884,
        "vision_config": {"model_type": "vision"}, "hidden_act": null,
    })
}

fn gemma4_e2b() -> Value {
    let text = json!({
        "model_type": "gemma4_text", "attention_k_eq_v": false, "hidden_size": 1536,
        "hidden_size_per_layer_input": 256, "intermediate_size": 6144, "layer_types": kinds(35, 5),
        "max_position_embeddings": 131_072, "num_attention_heads": 8,
        "num_global_key_value_heads": null, "num_hidden_layers": 35, "num_key_value_heads": 1,
        "num_kv_shared_layers": 20, "sliding_window": 512, "use_bidirectional_attention": null,
        "use_double_wide_mlp": true,
    });
    gemma4("gemma4", text)
}

fn gemma4_12b() -> Value {
    let text = json!({
        "model_type": "gemma4_unified_text", "attention_k_eq_v": true, "hidden_size": 3840,
        "hidden_size_per_layer_input": 0, "intermediate_size": 15360, "layer_types": kinds(48, 6),
        "max_position_embeddings": 262_144, "num_attention_heads": 16,
        "num_global_key_value_heads": 1, "num_hidden_layers": 48, "num_key_value_heads": 8,
        "num_kv_shared_layers": 0, "sliding_window": 1024, "use_bidirectional_attention": "vision",
        "use_double_wide_mlp": false,
    });
    gemma4("gemma4_unified", text)
}

/// What the hub has, what transformers 5.24 writes of it, and what it takes where that is silent.
#[test]
fn gemma4_means_the_same_in_both_forms_and_where_it_is_silent() {
    let describe = |config: &Value, change: Value| {
        let mut config = config.clone();
        let text = config["text_config"].as_object_mut().unwrap();
        text.extend(change.as_object().unwrap().clone());
        families::describe(&ModelJson::from_value(config))
    };
    let (small, large) = (gemma4_e2b(), gemma4_12b());
    let plain = describe(&large, json!({})).unwrap();
    let full = (0..48)
        .filter(|layer| layer % 6 == 5)
        .map(|layer| (layer.to_string(), json!({"head_dim": 512, "num_key_value_heads": 1})));
    let full = Value::Object(full.collect());
    for change in [
        json!({"layer_types": null, "global_head_dim": null, "rope_parameters": null}),
        json!({"per_layer_config": full, "global_head_dim": 64}),
        json!({"layer_types": vec!["sliding_attention"; 5].into_iter().chain(["full_attention"])
            .cycle().take(47).chain(["sliding_attention"]).collect::<Vec<_>>()}),
    ] {
        assert_eq!(describe(&large, change.clone()).unwrap(), plain, "{change}");
    }
    let of = |config: &Value, layer: usize| {
        let description = describe(config, json!({})).unwrap();
        match &description.layers[layer].residuals[0].block {
            BlockDescription::Attention(attention) => attention.clone(),
            other => panic!("{other:?} comes before attention"),
        }
    };
    // The last layers of each kind that have keys of their own share them.
    let shares: Vec<_> = (0..15).filter(|layer| of(&small, *layer).shares.is_some()).collect();
    assert_eq!(shares, [13, 14]);
    assert_eq!((of(&small, 13).shares, of(&small, 14).shares), (Some(0), Some(1)));
    assert!(matches!(of(&small, 15).qkv, QkvDescription::Queries(_, 0)));
    assert!(matches!(of(&small, 34).qkv, QkvDescription::Queries(_, 1)));
    assert!(matches!(of(&large, 5).qkv, QkvDescription::KeysAsValues(_)));
    let inputs = describe(&small, json!({})).unwrap().layer_inputs.unwrap();
    assert_eq!((inputs.projection.dims, inputs.table_scale), ([35 * 256, 1536], 16.0));
    // What a token has beside the residual stream: those, and keys and values of two layers.
    let beside = [&small, &large].map(|of| describe(of, json!({})).unwrap().beside_stream());
    assert_eq!(beside, [35 * 256 + 2 * (256 + 512), 0]);
    for (config, change, key) in [
        (&small, json!({"enable_moe_block": true}), "num_experts"),
        (&large, json!({"enable_moe_block": true}), "enable_moe_block"),
        (&small, json!({"use_bidirectional_attention": "all"}), "use_bidirectional_attention"),
        (&small, json!({"num_kv_shared_layers": 35}), "num_kv_shared_layers"),
        (&small, json!({"num_kv_shared_layers": 31}), "num_kv_shared_layers"),
        (&small, json!({"model_type": "gemma4_unified_text"}), "model_type"),
        (&small, json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping"),
        (&large, json!({"hidden_size_per_layer_input": 256}), "hidden_size_per_layer_input"),
        (&large, json!({"num_global_key_value_heads": 3}), "num_attention_heads"),
        (&large, json!({"per_layer_config": {"5": {"head_dim": 512}}}), "per_layer_config"),
        (&large, json!({"per_layer_config": {"48": {}}}), "per_layer_config"),
        (&large, json!({"per_layer_config": {"0": {"sliding_window": 3}}}), "per_layer_config"),
        (&large, json!({"hidden_activation": "gelu"}), "hidden_activation"),
        (&large, json!({"sliding_window": null}), "layer_types"),
    ] {
        let error = describe(config, change.clone()).unwrap_err().to_string();
        assert!(error.contains(&format!("`text_config.{key}`")), "{change} gave {error}");
    }
}

/// Gemma 3 270M as its first checkpoints have it.
fn gemma3() -> Value {
    let kinds: Vec<_> = (1..=18)
        .map(|number| if number % 6 == 0 { "full_attention" } else { "sliding_attention" })
        .collect();
    json!({
        "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"],
        "_sliding_window_pattern": 6, "attention_bias": false, "attn_logit_softcapping": null,
        "final_logit_softcapping": null, "head_dim": 256, "hidden_act": null,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640, "intermediate_size": 2048,
        "layer_types": kinds, "max_position_embeddings": 32768, "num_attention_heads": 4,
        "num_hidden_layers": 18, "num_key_value_heads": 1, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000.0,
        "rope_scaling": null, "rope_theta": 1_000_000.0, "sliding_window": 512,
        "use_bidirectional_attention": false, "vocab_size": 262_144,
    })
}

/// What the older and the newer form of `config.json` say of rotations and layers is the same, and
/// what the reference takes where they are silent is taken here.
#[test]
fn gemma3_means_the_same_in_both_forms_and_where_it_is_silent() {
    let describe = |change: Value| {
        let mut config = gemma3();
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        families::describe(&ModelJson::from_value(config))
    };
    let plain = describe(json!({})).unwrap();
    let [ropes, scale] = [plain.ropes().len() as f32, plain.embedding_scale];
    assert_eq!((ropes, scale), (2.0, 640.0_f32.sqrt()));
    for change in [
        json!({"layer_types": null, "sliding_window_pattern": 6}),
        json!({"layer_types": null, "_sliding_window_pattern": null}),
        json!({"rope_theta": null, "rope_local_base_freq": null}),
        json!({"rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }}),
        json!({"rope_parameters": {"full_attention": null}, "query_pre_attn_scalar": null}),
        json!({"tie_word_embeddings": true, "hidden_activation": null}),
    ] {
        assert_eq!(describe(change.clone()).unwrap(), plain, "{change}");
    }
    // 640 has the root 25.298, which is 25.25 in bfloat16.
    assert_eq!(describe(json!({"dtype": "bfloat16"})).unwrap().embedding_scale, 25.25);
    let linear = json!({"rope_type": "linear", "factor": 8.0});
    let scaled = describe(json!({"rope_scaling": linear})).unwrap().ropes();
    assert_eq!(scaled.iter().filter(|rope| plain.ropes().contains(rope)).count(), 1);
    for (change, key) in [
        (json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
        (json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping"),
        (json!({"hidden_activation": "gelu"}), "hidden_activation"),
        (json!({"hidden_act": "silu"}), "hidden_act"),
        (json!({"sliding_window": null}), "layer_types"),
        (json!({"query_pre_attn_scalar": 0}), "query_pre_attn_scalar"),
        (json!({"final_logit_softcapping": -1.0}), "final_logit_softcapping"),
        (json!({"rope_parameters": {"rope_type": "default"}}), "rope_parameters"),
        (json!({"rope_parameters": {"full_attention": {"factor": 2.0}}}), "factor"),
    ] {
        let error = describe(change.clone()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{change} gave {error}");
    }
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let refused = |change: Value, key: &str| {
        let mut config = json!({
            "model_type": "qwen3", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100,
            "num_key_value_heads": 2, "intermediate_size": 128, "num_hidden_layers": 2,
        });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = families::describe(&ModelJson::from_value(config)).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{change} gave {error}");
    };
    let sliding = json!(["full_attention", "sliding_attention"]);
    refused(json!({"layer_types": sliding}), "layer_types");
    refused(
        json!({"layer_types": sliding, "use_sliding_window": true, "sliding_window": null}),
        "layer_types",
    );
    refused(json!({"layer_types": ["full_attention"]}), "layer_types");
    refused(json!({"layer_types": ["full_attention", "linear_attention"]}), "layer_types");
    refused(json!({"max_window_layers": -1}), "max_window_layers");
    refused(json!({"sliding_window": "wide", "use_sliding_window": true}), "sliding_window");
}
