//! Mixtures of experts from configuration to artifact: names and shapes in files, merges, and what
//! is refused.

use std::collections::BTreeMap;
use std::fs;

use crate::common::{Run, repository};
use firebrand::model::{ModelJson, families};
use firebrand::weights::{Element, OwnedTensor, TensorSpec, read_tensors, write_safetensors};
use serde_json::{Value, json};
use snapbox::str;

const FILE: &str = "model.safetensors";
const PARAMETERS: &str = "target_parameters = [\"mlp.experts.gate_up_proj\", \
                          \"mlp.experts.down_proj\", \"ROUTER\"]\n";

fn common() -> Value {
    json!({
        "torch_dtype": "float32", "initializer_range": 0.02, "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "vocab_size": 512, "num_experts_per_tok": 2, "max_position_embeddings": 256,
    })
}

fn config(own: Value) -> Value {
    let mut config = common();
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    config
}

fn qwen3_moe() -> Value {
    config(json!({
        "model_type": "qwen3_moe", "num_experts": 5, "moe_intermediate_size": 24,
        "intermediate_size": 64, "norm_topk_prob": true,
    }))
}

fn gpt_oss(more: Value) -> Value {
    let mut config = config(json!({
        "model_type": "gpt_oss", "num_local_experts": 4, "intermediate_size": 32,
        "sliding_window": 16,
    }));
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn mxfp4() -> Value {
    gpt_oss(json!({"quantization_config": {"quant_method": "mxfp4"}}))
}

fn value(name: &str, place: usize) -> f32 {
    let spread = (name.len() * 31 + place * 7919) % 1009;
    let uniform = spread as f32 / 1009.0 - 0.5;
    match name {
        _ if name.ends_with("_blocks") => (spread % 256) as f32,
        _ if name.ends_with("_scales") => (120 + spread % 4) as f32,
        _ if name.contains("norm") => 1.0 + 0.2 * uniform,
        _ => 0.6 * uniform,
    }
}

/// A checkpoint `mixture`, and configurations that train it.
fn checkpoint(config: &Value) -> Run {
    let run = Run::new();
    fs::create_dir(run.path("mixture")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        let from = repository("tests/fixtures/tokenizer").join(name);
        fs::copy(from, run.path("mixture").join(name)).unwrap();
    }
    run.write("mixture/config.json", &config.to_string());
    let description = families::describe(&ModelJson::from_value(config.clone())).unwrap();
    let specs = description.tensors().into_iter().map(|(name, shape)| {
        let codes = name.ends_with("_blocks") || name.ends_with("_scales");
        TensorSpec { name, element: if codes { Element::U8 } else { Element::F32 }, shape }
    });
    write_safetensors(&run.path("mixture").join(FILE), specs.collect(), &BTreeMap::new(), |spec| {
        let count = spec.shape.iter().product();
        Ok((0..count).map(|place| value(&spec.name, place)).collect())
    })
    .unwrap();
    let common = "[model]\nbase = \"mixture\"\n[data]\nmax_seq_len = 96\n[[data.train]]\n\
                  path = \"data.jsonl\"\n[train]\nmax_steps = 2\nmicro_batch_size = 2\n\
                  learning_rate = 1e-2\n[checkpoint]\nreuse = \"never\"\nevery_steps = 1\n\
                  [device]\nname = \"cpu\"\n";
    let router =
        if config["model_type"] == "gpt_oss" { "mlp.router.weight" } else { "mlp.gate.weight" };
    let parameters = PARAMETERS.replace("ROUTER", router);
    run.write("full.toml", common);
    run.write("attention.toml", &format!("{common}[lora]\nr = 4\nlora_alpha = 8\n"));
    run.write("adapter.toml", &format!("{common}[lora]\nr = 4\nlora_alpha = 8\n{parameters}"));
    run
}

fn tensors(run: &Run, folder: &str, file: &str) -> BTreeMap<String, OwnedTensor> {
    read_tensors(&run.path(folder), file).unwrap().0
}

/// Names of tensors that are not what they are in the base.
fn changed(run: &Run, folder: &str) -> Vec<String> {
    let (before, after) = (tensors(run, "mixture", FILE), tensors(run, folder, FILE));
    assert!(before.keys().eq(after.keys()), "{folder}");
    let differs = |name: &&String| before[*name].bytes != after[*name].bytes;
    before.keys().filter(differs).cloned().collect()
}

fn answer(run: &Run, model: &str) -> String {
    let ask = ["generate", "--prompt", "What is 3 plus 4?", "--max-tokens", "6", "--chat"];
    run.succeeds(&[&ask[..], &["--device", "cpu", model]].concat())
}

/// Shapes are PEFT's: `tests/reference/family_artifacts.py` loads such adapters there.
#[test]
fn adapters_of_experts_have_the_tensors_of_peft_and_merge_into_those_of_the_base() {
    let cases = [(qwen3_moe(), [5, 24], 5 * 3 + 1), (gpt_oss(json!({})), [4, 32], 2 + 1)];
    for (config, [experts, width], of_layer) in cases {
        let run = checkpoint(&config);
        run.succeeds(&["train", "adapter.toml", "--quiet"]);
        let artifact = "checkpoints/adapter/artifact";
        let adapter = tensors(&run, artifact, "adapter_model.safetensors");
        let shape = |name: &str| {
            let path = "base_model.model.model.layers.1.mlp";
            adapter[&format!("{path}.{name}.weight")].shape.clone()
        };
        assert_eq!(shape("experts.base_layer.lora_A"), [experts * 4, 32]);
        assert_eq!(shape("experts.base_layer.lora_B"), [2 * width, experts * 4]);
        assert_eq!(shape("experts.lora_A"), [experts * 4, width]);
        assert_eq!(shape("experts.lora_B"), [32, experts * 4]);
        assert_eq!(adapter.len(), 2 * (2 * 4 + 2 * 2 + 2));
        let settings = run.read(&format!("{artifact}/adapter_config.json"));
        let settings: Value = serde_json::from_str(&settings).unwrap();
        assert_eq!(settings["target_modules"], json!(["k_proj", "o_proj", "q_proj", "v_proj"]));
        assert_eq!(settings["target_parameters"].as_array().unwrap().len(), 3);

        run.succeeds(&["merge", artifact, "--out", "merged"]);
        let changed = changed(&run, "merged");
        assert_eq!(changed.len(), 2 * (4 + of_layer), "{changed:?}");
        let of_base = answer(&run, "mixture");
        assert_eq!(answer(&run, "merged"), answer(&run, artifact));
        assert_ne!(answer(&run, "merged"), of_base);
    }
}

#[test]
fn full_training_writes_the_tensors_of_the_base_and_goes_on_where_it_stopped() {
    for config in [qwen3_moe(), gpt_oss(json!({}))] {
        let run = checkpoint(&config);
        run.succeeds(&["train", "full.toml", "--quiet"]);
        let changed = changed(&run, "checkpoints/full/artifact");
        let all = tensors(&run, "mixture", FILE);
        // Every number has a gradient or decays, but for biases of keys that are not rotated much.
        assert!(changed.len() > all.len() * 9 / 10, "{} of {}", changed.len(), all.len());
        assert!(changed.iter().any(|name| name.contains("experts")));
        let whole = answer(&run, "checkpoints/full/artifact");
        // The checkpoint of the last step is the same model.
        fs::rename(run.path("checkpoints/full/artifact"), run.path("moved")).unwrap();
        assert_eq!(answer(&run, "checkpoints/full"), whole);
        fs::remove_dir_all(run.path("checkpoints/full/step-00000002")).unwrap();
        run.succeeds(&["train", "full.toml", "--quiet"]);
        let again = tensors(&run, "checkpoints/full/artifact", FILE);
        let before = tensors(&run, "moved", FILE);
        assert!(again.keys().eq(before.keys()));
        assert!(again.iter().all(|(name, tensor)| tensor.bytes == before[name].bytes));
    }
}

#[test]
fn experts_in_four_bits_stay_as_they_are() {
    let run = checkpoint(&mxfp4());
    run.succeeds(&["train", "attention.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/attention", "--out", "merged"]);
    let attention = changed(&run, "merged");
    assert_eq!(attention.len(), 2 * 4);
    assert!(attention.iter().all(|name| name.contains("self_attn")));
    assert_eq!(answer(&run, "merged"), answer(&run, "checkpoints/attention"));
    run.succeeds(&["merge", "checkpoints/attention", "--dtype", "bf16", "--out", "half"]);
    let half = tensors(&run, "half", FILE);
    let elements = half.iter().map(|(name, tensor)| (name.ends_with("s_blocks"), tensor.element));
    assert!(elements.into_iter().all(|(_, element)| element != Element::F32));

    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    answer(&run, "checkpoints/adapter");
    run.fails_with(
        2,
        &["merge", "checkpoints/adapter", "--out", "experts"],
        str![[r#"
error[adapter]: an adapter of experts cannot be merged into a base in MXFP4
  at checkpoints/adapter/artifact
  because sums of its numbers have no place in four bits

hint: name the same model in bfloat16 with `--base DIR`

"#]],
    );
    run.fails_with(
        2,
        &["train", "full.toml"],
        str![[r#"
error[model]: the experts of the base model are in MXFP4, which cannot be trained

hint: add a `[lora]` section, or take the same model in bfloat16 as `model.base`

"#]],
    );
}

#[test]
fn what_adapters_of_parameters_cannot_be_is_said() {
    let run = checkpoint(&qwen3_moe());
    let refused = |set: &[&str], message| {
        let mut arguments = vec!["plan", "adapter.toml"];
        set.iter().for_each(|set| arguments.extend(["--set", set]));
        run.fails_with(2, &arguments, message);
    };
    refused(
        &["lora.lora_dropout=0.1"],
        str![[r#"
error[adapter]: `lora.target_parameters` requires `lora.lora_dropout = 0`
  because PEFT cannot drop inputs of parameters

"#]],
    );
    refused(
        &["lora.use_dora=true"],
        str![[r#"
error[adapter]: `lora.target_parameters` cannot be used with `use_dora`
  because PEFT has no DoRA of parameters

"#]],
    );
    refused(
        &["lora.target_parameters=[\"mlp.experts.gate_up\", \"router\"]"],
        str![[r#"
error[adapter]: `mlp.experts.gate_up` in `lora.target_parameters` fits no parameter

hint: did you mean `mlp.experts.gate_up_proj`?

error[adapter]: `router` in `lora.target_parameters` fits no parameter

hint: the model has: mlp.experts.down_proj, mlp.experts.gate_up_proj, mlp.gate.weight

"#]],
    );
    let run = checkpoint(&config(json!({
        "model_type": "qwen3_moe", "num_experts": 5, "moe_intermediate_size": 24,
        "intermediate_size": 64, "mlp_only_layers": [0],
    })));
    run.fails_with(
        2,
        &["plan", "adapter.toml"],
        str![[r#"
error[adapter]: `model.layers.0.mlp.gate_proj` cannot have an adapter
  because PEFT takes its name for that of experts, which other layers have

hint: name the others: `lora.target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]`

"#]],
    );
}
