//! LoRA with settings beyond rank and scale, against adapters that PEFT made
//! (`tests/reference/lora_variants.py`).

use std::collections::BTreeMap;

use firebrand::adapters::{Adapter, Dora, ModulePatterns};
use firebrand::artifact::open::{AdapterDirectory, with_adapter};

use super::*;

const BASE: &str = "biases";

fn folder(name: &str) -> std::path::PathBuf {
    crate::common::repository("tests/reference/lora_variants").join(name)
}

/// An adapter of PEFT has its logits and its loss here, beside the base and merged into it.
fn is_as_in_peft(name: &str) {
    let folder = folder(name);
    let (found, _) = AdapterDirectory::read_hashed(&folder).unwrap();
    let adapter = found.adapter.as_ref();
    let expected = Expected::read(&folder.join("expected.safetensors"));
    let batch = super::expected(BASE).batch();
    for kernels in KERNELS {
        let base = case(BASE);
        let loaded = with_adapter((base.as_path(), None), &folder, adapter, &cpu()).unwrap();
        let model = by(kernels, loaded.model);
        let (ours, reference) = (logits(&model, &batch), expected.floats("logits"));
        assert_near(name, &real(&batch, &ours), &real(&batch, reference), LIMIT);
        let (loss, _) = gradients(&model, &batch, pass(&batch));
        assert!((loss - f64::from(expected.floats("loss")[0])).abs() < 1e-5, "{name} {loss}");
    }
    let weights = Expected::read(&folder.join("adapter_model.safetensors"));
    let base = Expected::read(&case(BASE).join("model.safetensors"));
    let merged = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"];
    for (layer, dims) in merged.into_iter().zip([[32, 32], [32, 64]]) {
        let names = adapter.kind().parameters().iter();
        let tensors: BTreeMap<&'static str, Vec<f32>> = names
            .map(|name| (*name, weights.floats(&adapters::file_name(layer, name)).to_vec()))
            .collect();
        let mut rows = base.floats(&format!("{layer}.weight")).to_vec();
        let mut added = vec![0.0; rows.len()];
        adapter.change(layer, dims, tensors).apply(0, &mut rows, &mut added);
        let reference = expected.floats(&format!("merged.{layer}"));
        assert_near(&format!("{name} {layer}"), &rows, reference, 1e-5);
    }
}

#[test]
fn ranks_and_scales_of_some_layers_are_those_of_peft() {
    is_as_in_peft("patterns");
    is_as_in_peft("patterns-dora");
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
