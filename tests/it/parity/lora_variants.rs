//! LoRA with settings beyond rank and scale, against adapters that PEFT made
//! (`tests/reference/lora_variants.py`).

use firebrand::adapters::{
    Adapter, Dora, InitLoraWeights, LoraBias, ModulePatterns, TargetModules,
};
use firebrand::artifact::adapter_directory::AdapterDirectory;
use firebrand::artifact::merge::{Addition, Weights};
use firebrand::artifact::open::with_adapter;
use firebrand::artifact::rewrite::write_merged;
use firebrand::model::{EMBEDDING, LM_HEAD, inspect, token_rows_path};

use super::*;

const BASE: &str = "biases";
/// Factors beside matrices with a row for each token.
const FACTORED: [&str; 2] = ["head", "embedding"];
/// Its head is not its embedding.
const UNTIED: &str = "mha-untied";

fn folder(name: &str) -> std::path::PathBuf {
    crate::common::repository("tests/reference/lora_variants").join(name)
}

/// A batch, in which tokens that the base does not have are in the places of others.
fn batch_of(name: &str) -> Batch {
    let mut batch = super::expected(BASE).batch();
    if name.starts_with("tokens-new") {
        let targets = batch.targets.iter_mut().map(|target| &mut target.token);
        for token in batch.tokens.iter_mut().chain(targets) {
            *token = match *token {
                53 => 96,
                28 => 97,
                other => other,
            };
        }
    }
    batch
}

/// An adapter of PEFT has its logits and its loss here, beside the base and merged into it.
fn is_as_in_peft(name: &str, base_name: &str) {
    let folder = folder(name);
    let (found, _) = AdapterDirectory::read_hashed(&folder).unwrap();
    let adapter = found.adapter.as_ref();
    let expected = Expected::read(&folder.join("expected.safetensors"));
    let batch = batch_of(name);
    for kernels in KERNELS {
        let base = case(base_name);
        let loaded = with_adapter((base.as_path(), None), &folder, adapter, &cpu()).unwrap();
        let model = by(kernels, loaded.model);
        let (ours, reference) = (logits(&model, &batch), expected.floats("logits"));
        assert_near(name, &real(&batch, &ours), &real(&batch, reference), LIMIT);
        let (loss, sums) = gradients(&model, &batch, pass(&batch));
        assert!((loss - f64::from(expected.floats("loss")[0])).abs() < 1e-5, "{name} {loss}");
        if name.starts_with("tokens") {
            let rows = sums.get(&token_rows_path(EMBEDDING)).unwrap().clone();
            assert_near(name, &host(rows), expected.floats("gradient"), LIMIT);
            let of_head = sums.get(&token_rows_path(LM_HEAD)).cloned();
            assert_eq!(of_head.is_some(), !adapter.settings().head_token_indices.is_empty());
            if let Some(rows) = of_head {
                assert_near(name, &host(rows), expected.floats("gradient.head"), LIMIT);
            }
        }
        if FACTORED.contains(&name) {
            let all: Vec<_> = expected.under("gradient.").collect();
            assert_eq!(all.len(), if name == "head" { 2 } else { 4 });
            for (path, reference) in all {
                let ours = host(sums.get(path).unwrap().clone());
                assert_near(&format!("{name} {path}"), &ours, reference, LIMIT);
            }
        }
        if name.starts_with("bias") {
            let in_files = adapters::names_in_files(adapter, &model.description).unwrap();
            for (path, _) in adapters::saved_with(adapter, &model.description).unwrap() {
                let reference = expected.floats(&format!("gradient.{}", in_files(&path)));
                let ours = host(sums.get(&path).unwrap().clone());
                assert_near(&format!("{name} {path}"), &ours, reference, LIMIT);
            }
        }
        if ["modules", "tokens", "bias", "head", "embedding"]
            .iter()
            .any(|begin| name.starts_with(begin))
        {
            let mut trainer = Trainer::new(model, step_settings(1e-3), adamw());
            for reference in expected.floats("losses") {
                let micro_batches = [row(&batch, 0), row(&batch, 1)];
                let (report, _) = trainer.step(&micro_batches, 0.0).unwrap();
                let difference = (report.loss / f64::from(*reference) - 1.0).abs();
                assert!(difference < 1e-3, "{name} {kernels}: {} {reference}", report.loss);
            }
        }
    }
    let weights = Expected::read(&folder.join("adapter_model.safetensors"));
    let base = Expected::read(&case(base_name).join("model.safetensors"));
    for (layer, dims) in MERGED {
        let tensors = beside(adapter, &weights, layer);
        let mut rows = base.floats(&format!("{layer}.weight")).to_vec();
        let mut added = vec![0.0; rows.len()];
        adapter.change(layer, dims, tensors).apply(0, &mut rows, &mut added);
        let reference = expected.floats(&format!("merged.{layer}"));
        assert_near(&format!("{name} {layer}"), &rows, reference, 1e-5);
    }
}

#[test]
fn ranks_and_scales_of_some_layers_are_those_of_peft() {
    is_as_in_peft("patterns", BASE);
    is_as_in_peft("patterns-dora", BASE);
}

#[test]
fn modules_that_are_trained_whole_are_those_of_peft() {
    is_as_in_peft("modules", UNTIED);
    is_as_in_peft("modules-tied", BASE);
}

#[test]
fn rows_of_tokens_are_those_of_peft() {
    is_as_in_peft("tokens", UNTIED);
    is_as_in_peft("tokens-tied", BASE);
    is_as_in_peft("tokens-dora", BASE);
}

#[test]
fn rows_of_an_output_head_and_of_new_tokens_are_those_of_peft() {
    is_as_in_peft("tokens-head", UNTIED);
    is_as_in_peft("tokens-new", UNTIED);
    is_as_in_peft("tokens-new-tied", BASE);
    // Further rows are those of the adapter.
    merges_as_in_peft("tokens-head", 0.0);
    merges_as_in_peft("tokens-new", 0.0);
}

#[test]
fn factors_of_an_output_head_and_an_embedding_are_those_of_peft() {
    for name in FACTORED {
        is_as_in_peft(name, UNTIED);
        merges_as_in_peft(name, 1e-6);
    }
}

/// What merging makes of the embedding and the head.
fn merges_as_in_peft(name: &str, limit: f64) {
    let (folder, target) = (folder(name), tempfile::tempdir().unwrap());
    let base = inspect(&case(UNTIED)).unwrap().description;
    let (found, _) = AdapterDirectory::read_hashed(&folder).unwrap();
    let wide = adapters::resized(found.adapter.as_ref(), &base).unwrap();
    let addition = Addition::read(&folder, found.adapter, &wide).unwrap();
    let weights =
        Weights::open(&case(UNTIED), base.names, vec![addition], Default::default()).unwrap();
    write_merged(weights.resized(&base, wide.vocabulary), target.path(), None).unwrap();
    let merged = Expected::read(&target.path().join("model.safetensors"));
    let expected = Expected::read(&folder.join("expected.safetensors"));
    for table in ["lm_head", "model.embed_tokens"] {
        let ours = merged.floats(&format!("{table}.weight"));
        let reference = expected.floats(&format!("merged.{table}"));
        assert_near(&format!("{name} {table}"), ours, reference, limit);
    }
}

#[test]
fn biases_that_are_trained_are_those_of_peft() {
    is_as_in_peft("bias-all", BASE);
    is_as_in_peft("bias-lora-only", BASE);
}

#[test]
fn biases_that_are_not_there_are_refused() {
    let description = families::describe(&ModelJson::read(&case(UNTIED)).unwrap()).unwrap();
    let refused = |bias| {
        let adapter = Lora { settings: LoraSettings { bias, ..LoraSettings::new(4, 8.0) } };
        adapters::size(&adapter, &description).unwrap_err().to_string()
    };
    says(
        refused(LoraBias::All) + &refused(LoraBias::LoraOnly),
        str![[r#"
error[adapter]: `lora.bias = "all"` has nothing to train
  because the linear layers of this model have no biases

hint: leave it outerror[adapter]: `lora.bias = "lora_only"` has nothing to train
  because the layers with an adapter of this model have no biases

hint: leave it out
"#]],
    );
}

#[test]
fn tokens_are_written_for_peft_as_it_has_them() {
    for name in ["tokens", "tokens-tied", "tokens-dora"] {
        let (found, _) = AdapterDirectory::read_hashed(&folder(name)).unwrap();
        let json = found.adapter.to_peft(&["q_proj".to_owned()].into());
        assert_eq!(json["trainable_token_indices"].to_string(), "[53,28,4]", "{name}");
    }
    let (found, _) = AdapterDirectory::read_hashed(&folder("tokens-head")).unwrap();
    let json = found.adapter.to_peft(&["q_proj".to_owned()].into());
    let expected = serde_json::json!({"embed_tokens": [53, 28, 4], "lm_head": [53, 28]});
    assert_eq!(json["trainable_token_indices"], expected);
    let read = |tokens: serde_json::Value| {
        let mut json = serde_json::json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8,
            "target_modules": "all-linear"});
        json["trainable_token_indices"] = tokens;
        let adapter = adapters::of_peft(json.as_object().unwrap())?;
        Ok::<_, firebrand::error::Error>(adapter.trainable_token_indices().to_vec())
    };
    assert_eq!(read(serde_json::json!({"embed_tokens": [7, 3]})).unwrap(), [7, 3]);
    says(
        read(serde_json::json!({"embed_tokens": [7], "wte": [7]})).unwrap_err().to_string(),
        str![
            "error[adapter]: `trainable_token_indices` names other modules than the input \
             embedding and the output head"
        ],
    );
    says(
        read(serde_json::json!([-1])).unwrap_err().to_string(),
        str!["error[adapter]: `trainable_token_indices` is not a list of tokens"],
    );
}

/// B and the magnitudes of DoRA have a rate of their own, with the weight decay of the run.
#[test]
fn twenty_steps_of_lora_plus_have_the_losses_of_peft() {
    for name in ["plus", "plus-dora"] {
        let folder = folder(name);
        let (found, _) = AdapterDirectory::read_hashed(&folder).unwrap();
        let json = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
        let settings = LoraSettings { loraplus_lr_ratio: 16.0, ..LoraSettings::new(4, 8.0) };
        let adapter: Box<dyn Adapter> = match json.contains("\"use_dora\": true") {
            true => Box::new(Dora { settings }),
            false => Box::new(Lora { settings }),
        };
        let expected = Expected::read(&folder.join("expected.safetensors"));
        let batch = super::expected(BASE).batch();
        for kernels in KERNELS {
            let base = case(BASE);
            let base = (base.as_path(), None);
            let loaded = with_adapter(base, &folder, found.adapter.as_ref(), &cpu()).unwrap();
            let model = by(kernels, loaded.model);
            let ratios = adapters::rate_ratios(adapter.as_ref(), &model.description).unwrap();
            let mut trainer = Trainer::new(model, step_settings(1e-3), adamw());
            let rules = groups_of("").rules(&mut trainer.model, 1e-3, ratios);
            trainer.optimizer.set_rules(rules);
            for reference in expected.floats("losses") {
                let micro_batches = [row(&batch, 0), row(&batch, 1)];
                let (report, _) = trainer.step(&micro_batches, 0.0).unwrap();
                let difference = (report.loss / f64::from(*reference) - 1.0).abs();
                assert!(difference < 1e-3, "{name} {kernels}: {} {reference}", report.loss);
            }
        }
    }
}

/// Factors that are taken out of the weights: singular vectors up to their sign, as they come.
fn starts_as_in_peft(name: &str, settings: LoraSettings) {
    let expected = Expected::read(&folder(name).join("expected.safetensors"));
    let adapter = Lora { settings };
    let batch = super::expected(BASE).batch();
    for kernels in KERNELS {
        let base = by(kernels, model(BASE));
        let mut adapted = by(kernels, model(BASE));
        adapters::attach(&mut adapted, &adapter, Stream::new(2)).unwrap();
        assert_near(name, &logits(&adapted, &batch), &logits(&base, &batch), 1e-5);
        let factors: BTreeMap<_, _> = trainable(&mut adapted).into_iter().collect();
        let mut rests = BTreeMap::new();
        adapted.linears(&mut |path, linear| {
            rests.insert(path.to_owned(), host(linear.values()));
        });
        for layer in ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"] {
            let of = |what: &str| expected.floats(&format!("{layer}.{what}"));
            assert_near(&format!("{name} {layer}"), &rests[layer], of("rest"), 1e-5);
            let (a, b) = (of("lora_A"), of("lora_B"));
            let [ours_a, ours_b] =
                ["lora_A", "lora_B"].map(|factor| &factors[&format!("{layer}.{factor}.weight")]);
            let rank = adapter.settings.of_layer(layer).rank;
            assert_eq!((ours_a.len(), ours_b.len()), (a.len(), b.len()));
            let inputs = a.len() / rank;
            for k in 0..rank {
                let row = |all: &[f32]| all[k * inputs..][..inputs].to_vec();
                let column =
                    |all: &[f32]| all.iter().skip(k).step_by(rank).copied().collect::<Vec<_>>();
                let dot: f32 = row(a).iter().zip(row(ours_a)).map(|(a, b)| a * b).sum();
                assert!(name == "pissa" || dot > 0.0, "the signs are those of LAPACK");
                let turned = |all: Vec<f32>| -> Vec<f32> {
                    all.into_iter().map(|x| x * dot.signum()).collect()
                };
                assert_near(name, &turned(row(ours_a)), &row(a), 1e-4);
                assert_near(name, &turned(column(ours_b)), &column(b), 1e-4);
            }
        }
        let mut trainer = Trainer::new(adapted, step_settings(1e-3), adamw());
        for reference in expected.floats("losses") {
            let micro_batches = [row(&batch, 0), row(&batch, 1)];
            let (report, _) = trainer.step(&micro_batches, 0.0).unwrap();
            let difference = (report.loss / f64::from(*reference) - 1.0).abs();
            assert!(difference < 1e-3, "{name} {kernels}: {} {reference}", report.loss);
        }
        let ours = logits(&trainer.model, &batch);
        assert_near(name, &real(&batch, &ours), &real(&batch, expected.floats("logits")), 1e-2);

        // What is written for other programs computes the same beside the base as it is.
        let published = adapter.published().unwrap();
        let trained = adapters::publish(&mut trainer.model);
        assert_eq!(trained.len(), 2 * 7);
        let written: BTreeMap<_, _> = trainable(&mut trainer.model).into_iter().collect();
        adapters::put_back(&mut trainer.model, trained);
        assert_eq!(logits(&trainer.model, &batch), ours);
        let mut plain = by(kernels, model(BASE));
        adapters::attach(&mut plain, published.as_ref(), Stream::new(5)).unwrap();
        plain.visit(&mut Put(&written));
        assert_near(name, &logits(&plain, &batch), &ours, 1e-5);
    }
}

struct Put<'a>(&'a BTreeMap<String, Vec<f32>>);

impl Visitor for Put<'_> {
    fn vector(&mut self, _: &str, _: &mut Parameter<1>) {}
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        if let Some(values) = self.0.get(path) {
            parameter.value = from_vec(values.clone(), parameter.value.dims(), &cpu());
        }
    }
}

#[test]
fn pissa_and_olora_start_as_in_peft_and_are_published_for_the_base_as_it_is() {
    let start = |init_lora_weights| LoraSettings { init_lora_weights, ..LoraSettings::new(4, 8.0) };
    starts_as_in_peft(
        "pissa",
        LoraSettings {
            rank_pattern: patterns(&[
                ("[kv]_proj", 1),
                (r"layers\.0\.mlp\..*_proj", 3),
                ("model.layers.1.mlp.down_proj", 5),
                ("q_proj", 2),
            ]),
            alpha_pattern: patterns(&[(r".*\.1\.mlp\.(up|down)_proj", 2.5), ("q_proj", 6.0)]),
            ..start(InitLoraWeights::Pissa)
        },
    );
    let olora = LoraSettings { use_rslora: true, ..start(InitLoraWeights::Olora) };
    starts_as_in_peft("olora", olora);
}

#[test]
fn gaussian_factors_have_their_moments() {
    let settings =
        LoraSettings { init_lora_weights: InitLoraWeights::Gaussian, ..LoraSettings::new(16, 8.0) };
    let mut model = model(BASE);
    adapters::attach(&mut model, &Lora { settings }, Stream::new(2)).unwrap();
    let factors = trainable(&mut model).into_iter();
    let factors: Vec<f32> = factors
        .filter(|(path, _)| path.contains("lora_A"))
        .flat_map(|(_, values)| values)
        .collect();
    let count = factors.len() as f64;
    let squares: f64 = factors.iter().map(|x| f64::from(*x).powi(2)).sum();
    let deviation = (squares / count).sqrt();
    assert!((deviation * 16.0 - 1.0).abs() < 0.05, "{deviation} of {count}");
}

#[test]
fn starts_that_cannot_be_are_refused() {
    let description = families::describe(&ModelJson::read(&case(BASE)).unwrap()).unwrap();
    let start = |init_lora_weights| LoraSettings { init_lora_weights, ..LoraSettings::new(4, 8.0) };
    let refused = |adapter: &dyn Adapter| adapter.layers(&description).unwrap_err().to_string();
    let settings = start(InitLoraWeights::Pissa);
    says(
        refused(&Dora { settings: settings.clone() }),
        str![[r#"
error[adapter]: `lora.init_lora_weights = "pissa"` cannot be used with `use_dora`
  because the magnitudes of DoRA are those of whole weights, of which it takes a part out
"#]],
    );
    says(
        refused(&Lora { settings: LoraSettings { r: 33, ..settings.clone() } }),
        str![[r#"
error[adapter]: `lora.init_lora_weights = "pissa"` takes no rank of 33
  because the weight of `model.layers.0.self_attn.q_proj` is 32 by 32

hint: choose a smaller `lora.r`, or another in `lora.rank_pattern`
"#]],
    );
    let target_parameters = vec!["mlp.experts.down_proj".to_owned()];
    let of_parameters =
        LoraSettings { target_modules: TargetModules::Names(Vec::new()), ..settings };
    says(
        refused(&Lora { settings: LoraSettings { target_parameters, ..of_parameters } }),
        str![[r#"
error[adapter]: `lora.init_lora_weights = "pissa"` cannot be used with `lora.target_parameters`
  because PEFT has it for linear layers alone
"#]],
    );
}

fn patterns<T: Clone>(all: &[(&str, T)]) -> ModulePatterns<T> {
    let all = all.iter().map(|(text, value)| ((*text).to_owned(), value.clone()));
    ModulePatterns::new(all).unwrap()
}

#[test]
fn what_is_written_for_peft_has_the_patterns() {
    let settings = LoraSettings {
        rank_pattern: patterns(&[("[kv]_proj", 1), ("q_proj", 2)]),
        alpha_pattern: patterns(&[("down_proj", 2.5), ("q_proj", 6.0)]),
        ..LoraSettings::new(4, 8.0)
    };
    let adapter = Dora { settings };
    let json = adapter.to_peft(&["q_proj".to_owned()].into());
    assert_eq!(json["rank_pattern"].to_string(), r#"{"[kv]_proj":1,"q_proj":2}"#);
    assert_eq!(json["alpha_pattern"].to_string(), r#"{"down_proj":2.5,"q_proj":6}"#);
    says(adapter.describe(), str!["DoRA r 4 (r 1 on [kv]_proj, 2 on q_proj) on all linear layers"]);
}

#[test]
fn patterns_that_decide_nothing_are_refused() {
    let description = families::describe(&ModelJson::read(&case(BASE)).unwrap()).unwrap();
    let refused = |settings| Lora { settings }.layers(&description).unwrap_err().to_string();
    let settings = LoraSettings::new(4, 8.0);
    says(
        refused(LoraSettings {
            rank_pattern: patterns(&[("q_prj", 2)]),
            alpha_pattern: patterns(&[(".*_proj", 2.0), ("q_proj", 3.0)]),
            ..settings.clone()
        }),
        str![[r#"
error[adapter]: `q_prj` in `lora.rank_pattern` decides for no layer that has an adapter

hint: the layers are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, with paths such as `model.layers.0.self_attn.q_proj`; of several patterns that fit, the first counts

error[adapter]: `q_proj` in `lora.alpha_pattern` decides for no layer that has an adapter

hint: the layers are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, with paths such as `model.layers.0.self_attn.q_proj`; of several patterns that fit, the first counts
"#]],
    );
    says(
        refused(LoraSettings {
            rank_pattern: patterns(&[("q_proj", 2)]),
            target_parameters: vec!["mlp.experts.down_proj".to_owned()],
            ..settings
        }),
        str![[r#"
error[adapter]: `lora.rank_pattern` cannot be used with `lora.target_parameters`

hint: give all parameters of experts one rank and one `lora_alpha`
"#]],
    );
}
