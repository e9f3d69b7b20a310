//! Models that keep states: what their configurations mean, and checkpoints of them from training
//! to a merge.

use std::collections::BTreeMap;
use std::fs;

use crate::common::{Run, says};
use firebrand::model::description::{BlockDescription, Description};
use firebrand::model::{ModelJson, families};
use firebrand::weights::{Element, TensorSpec, read_tensors, write_safetensors};
use serde_json::{Value, json};
use snapbox::str;

fn describe(config: &Value, change: &Value) -> Result<Description, String> {
    let mut config = config.clone();
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    families::describe(&ModelJson::from_value(config)).map_err(|error| error.to_string())
}

/// Qwen3.5 0.8B as its checkpoint has it.
fn qwen() -> Value {
    let kinds: Vec<_> = (1..=24)
        .map(|number| if number % 4 == 0 { "full_attention" } else { "linear_attention" })
        .collect();
    let sizes = json!({
        "head_dim": 256, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3584,
        "layer_types": kinds, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 16, "linear_value_head_dim": 128,
        "model_type": "qwen3_5_text", "num_attention_heads": 8, "num_hidden_layers": 24,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": 248_320,
    });
    let rope = json!({
        "mrope_interleaved": true, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25,
        "rope_theta": 10_000_000, "rope_type": "default",
    });
    let mut text = json!({
        "attention_bias": false, "attention_dropout": 0.0, "attn_output_gate": true,
        "dtype": "bfloat16", "eos_token_id": 248_044, "full_attention_interval": 4,
        "initializer_range": 0.02, "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 262_144, "mlp_only_layers": [], "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": false, "rope_parameters": rope, "use_cache": true,
    });
    text.as_object_mut().unwrap().extend(sizes.as_object().unwrap().clone());
    json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "image_token_id": 248_056,
        "model_type": "qwen3_5", "text_config": text, "tie_word_embeddings": true,
        "transformers_version": "4.57.0", "video_token_id": 248_057,
        "vision_config": {"model_type": "qwen3_5"}, "vision_end_token_id": 248_054,
        "vision_start_token_id": 248_053,
    })
}

/// LFM2 350M as its first checkpoint has it.
fn lfm() -> Value {
    let blocks = json!({
        "block_auto_adjust_ff_dim": true, "block_dim": 1024, "block_ff_dim": 6656,
        "block_ffn_dim_multiplier": 1.0, "block_mlp_init_scale": 1.0, "block_multiple_of": 256,
        "block_norm_eps": 1e-5, "block_out_init_scale": 1.0, "block_use_swiglu": true,
        "block_use_xavier_init": true, "conv_L_cache": 3, "conv_bias": false, "conv_dim": 1024,
        "conv_dim_out": 1024, "conv_use_xavier_init": true,
    });
    let mut config = json!({
        "architectures": ["Lfm2ForCausalLM"], "bos_token_id": 1, "eos_token_id": 7,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14], "hidden_size": 1024, "initializer_range": 0.02,
        "max_position_embeddings": 128_000, "model_type": "lfm2", "norm_eps": 1e-5,
        "num_attention_heads": 16, "num_heads": 16, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pad_token_id": 0, "rope_theta": 1_000_000.0,
        "torch_dtype": "bfloat16", "use_cache": true, "use_pos_enc": true, "vocab_size": 65536,
    });
    config.as_object_mut().unwrap().extend(blocks.as_object().unwrap().clone());
    config
}

#[test]
fn configurations_of_real_checkpoints_are_understood() {
    let nothing = json!({});
    let found = describe(&qwen(), &nothing).unwrap();
    assert_eq!(
        (found.parameters, found.tied, found.model_type.as_str()),
        (752_393_024, true, "qwen3_5")
    );
    let rules = |description: &Description| -> Vec<bool> {
        let of = |layer: usize| &description.layers[layer].residuals[0].block;
        (0..4).map(|layer| matches!(of(layer), BlockDescription::DeltaNet(_))).collect()
    };
    assert_eq!(rules(&found), [true, true, true, false]);
    let (rope, width) = found.ropes().remove(0);
    assert_eq!((rope.rotated, width, rope.theta), (Some(64), 256, 1e7));
    let text = qwen()["text_config"].clone();
    let alone = describe(&text, &json!({"tie_word_embeddings": true})).unwrap();
    assert_eq!((alone.layers.len(), alone.parameters), (24, found.parameters));
    assert_eq!(
        describe(&text, &json!({"tie_word_embeddings": true, "layer_types": null})).unwrap(),
        alone
    );
    // Where nothing is said of a share, a quarter is rotated.
    let silent = json!({"tie_word_embeddings": true, "rope_parameters": {"rope_theta": 1e7}});
    assert_eq!(describe(&text, &silent).unwrap(), alone);

    let found = describe(&lfm(), &nothing).unwrap();
    assert_eq!((found.parameters, found.tied), (354_483_968, true));
    let newer = json!({
        "full_attn_idxs": null, "block_ff_dim": null, "intermediate_size": 6656,
        "layer_types": (0..16).map(|layer| match layer {
            2 | 5 | 8 | 10 | 12 | 14 => "full_attention",
            _ => "conv",
        }).collect::<Vec<_>>(),
    });
    assert_eq!(describe(&lfm(), &newer).unwrap(), found);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let text = qwen()["text_config"].clone();
    let refused = |config: &Value, change: Value| describe(config, &change).unwrap_err();
    let mut said = String::new();
    for change in [
        json!({"attn_output_gate": false}),
        json!({"output_gate_type": "sigmoid"}),
        json!({"linear_num_key_heads": 3}),
        json!({"linear_conv_kernel_dim": 100}),
        json!({"linear_value_head_dim": 7}),
        json!({"layer_types": ["linear_attention"]}),
        json!({"layer_types": vec!["sliding_attention"; 24]}),
        json!({"hidden_act": "gelu_pytorch_tanh"}),
        json!({"num_experts": 8}),
    ] {
        said += &format!("{}\n", refused(&text, change));
    }
    for change in [
        json!({"block_use_swiglu": false}),
        json!({"conv_dim": 512}),
        json!({"full_attn_idxs": 3}),
        json!({"num_experts": 32}),
    ] {
        said += &format!("{}\n", refused(&lfm(), change));
    }
    says(
        said,
        str![[r#"
error[model]: `attn_output_gate` must be true
  at config.json
error[model]: `output_gate_type` must be "swish"
  at config.json
error[model]: `linear_num_key_heads` (3) must divide `linear_num_value_heads` (16)
  at config.json
error[model]: `linear_conv_kernel_dim` must be between 1 and 64
  at config.json
error[model]: `linear_value_head_dim` must be even
  at config.json
error[model]: `layer_types` must be a list with a kind for each of 24 layers
  at config.json
error[model]: `layer_types` asks for `"sliding_attention"`
  at config.json
error[model]: `hidden_act` must be `silu`
  at config.json
error[model]: `num_experts` asks for something that models of `qwen3_5_text` here do not have
  at config.json
  because it is 8

hint: a model that ignored it would compute something else than was trained; if the option means nothing, remove it from `config.json`
error[model]: `block_use_swiglu` must be true
  at config.json
error[model]: `conv_dim` must be `hidden_size`
  at config.json
error[model]: `full_attn_idxs` must be a list of layers
  at config.json
error[model]: `num_experts` asks for something that models of `lfm2` here do not have
  at config.json
  because it is 32

hint: a model that ignored it would compute something else than was trained; if the option means nothing, remove it from `config.json`

"#]],
    );
}

/// Beside the text model of a checkpoint: names, formats and shapes.
const OTHERS: [(&str, Element, &[usize]); 3] = [
    ("model.visual.blocks.0.attn.qkv.weight", Element::F32, &[8, 8]),
    ("model.visual.patch_embed.proj.bias", Element::BF16, &[8]),
    ("mtp.layers.0.mlp.down_proj.weight", Element::F32, &[8, 32]),
];
const FILE: &str = "model.safetensors";

fn small() -> Value {
    json!({
        "model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"],
        "image_token_id": 511, "tie_word_embeddings": true, "torch_dtype": "float32",
        "vision_config": {"model_type": "qwen3_5"},
        "text_config": {
            "model_type": "qwen3_5_text", "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 8, "vocab_size": 512, "full_attention_interval": 2,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    })
}

/// A checkpoint `seeing`, and configurations that train it.
fn checkpoint() -> Run {
    let run = Run::new();
    run.model_folder("seeing", &small());
    let description = families::describe(&ModelJson::from_value(small())).unwrap();
    let text = description.tensors().into_iter().map(|(name, shape)| TensorSpec {
        name,
        element: Element::F32,
        shape,
    });
    let others = OTHERS.iter().map(|(name, element, shape)| TensorSpec {
        name: (*name).to_owned(),
        element: *element,
        shape: shape.to_vec(),
    });
    let specs = text.chain(others).collect();
    write_safetensors(&run.path("seeing").join(FILE), specs, &BTreeMap::new(), |spec| {
        let count: usize = spec.shape.iter().product();
        let one = |place: usize| ((spec.name.len() * 31 + place * 7919) % 1009) as f32 / 1009.0;
        Ok((0..count).map(|place| 0.3 * (one(place) - 0.5)).collect())
    })
    .unwrap();
    let common = "[model]\nbase = \"seeing\"\n[data]\nmax_seq_len = 96\npacking = true\n\
                  [[data.train]]\npath = \"data.jsonl\"\n[train]\nmax_steps = 3\n\
                  micro_batch_size = 2\nlearning_rate = 1e-2\n[checkpoint]\nreuse = \"never\"\n\
                  every_steps = 1\n[device]\nname = \"cpu\"\n";
    run.write("full.toml", common);
    run.write("adapter.toml", &format!("{common}[lora]\nr = 4\nlora_alpha = 8\n"));
    run
}

type Tensors = BTreeMap<String, (Element, Vec<usize>, Vec<u8>)>;

fn tensors(run: &Run, folder: &str) -> Tensors {
    let (tensors, _) = read_tensors(&run.path(folder), FILE).unwrap();
    let all = |tensor: firebrand::weights::OwnedTensor| {
        (tensor.element, tensor.shape, tensor.bytes.to_vec())
    };
    tensors.into_iter().map(|(name, tensor)| (name, all(tensor))).collect()
}

/// Names of tensors that are not what they are in the checkpoint; all have its shapes.
fn changed(run: &Run, folder: &str) -> Vec<String> {
    let (before, after) = (tensors(run, "seeing"), tensors(run, folder));
    let shapes = |all: &Tensors| -> Vec<_> {
        all.iter().map(|(name, of)| (name.clone(), of.0, of.1.clone())).collect()
    };
    assert_eq!(shapes(&before), shapes(&after), "{folder}");
    before.keys().filter(|name| before[*name] != after[*name]).cloned().collect()
}

#[test]
fn an_adapter_is_of_the_text_part_and_a_merge_changes_nothing_else() {
    let run = checkpoint();
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    let artifact = "checkpoints/adapter/artifact";
    let settings: Value =
        serde_json::from_str(&run.read(&format!("{artifact}/adapter_config.json"))).unwrap();
    assert_eq!(settings["exclude_modules"], r"(.*\.)?(visual|mtp)\..*");
    let (adapter, _) = read_tensors(&run.path(artifact), "adapter_model.safetensors").unwrap();
    // Five linear layers of a mixer, four of attention, three of each MLP.
    assert_eq!(adapter.len(), 2 * (5 + 4 + 2 * 3));
    let name = "base_model.model.model.language_model.layers.0.linear_attn.in_proj_a.lora_A.weight";
    assert!(adapter.contains_key(name), "{:?}", adapter.keys());
    run.succeeds(&["merge", artifact, "--out", "merged"]);
    let linear = |name: &String| name.contains("_proj") && name.contains("language_model.layers.");
    let changed = changed(&run, "merged");
    assert_eq!(changed.len(), 5 + 4 + 2 * 3);
    assert!(changed.iter().all(linear), "{changed:?}");
    assert_eq!(run.answer("merged"), run.answer(artifact));
}

#[test]
fn full_training_changes_all_of_the_text_model_and_goes_on_after_a_stop() {
    let run = checkpoint();
    run.succeeds(&["train", "full.toml", "--quiet"]);
    let artifact = "checkpoints/full/artifact";
    let all: Vec<String> = tensors(&run, "seeing")
        .into_keys()
        .filter(|name| OTHERS.iter().all(|(other, ..)| other != name))
        .collect();
    assert_eq!(changed(&run, artifact), all);
    assert!(!run.answer(artifact).is_empty());
    let again = ["train", "full.toml", "--quiet", "--set", "name=often"];
    for _ in 0..2 {
        run.succeeds(&[&again[..], &["--stop-after-steps", "1"]].concat());
    }
    run.succeeds(&again);
    let straight = tensors(&run, artifact);
    assert!(tensors(&run, "checkpoints/often/artifact") == straight, "a stop changed weights");
}

/// A text model by itself has random weights, too.
#[test]
fn a_text_model_is_trained_from_random_weights() {
    let run = checkpoint();
    fs::remove_file(run.path("seeing").join(FILE)).unwrap();
    let mut text = small()["text_config"].clone();
    text["initializer_range"] = json!(0.02);
    run.write("seeing/config.json", &text.to_string());
    run.succeeds(&["train", "full.toml", "--quiet", "--set", "model.init=random"]);
    let artifact = "checkpoints/full/artifact";
    let drawn = tensors(&run, artifact);
    assert_eq!(drawn["model.layers.0.linear_attn.conv1d.weight"].1, [64, 1, 4]);
    assert!(drawn.keys().all(|name| name.starts_with("model.") || name == "lm_head.weight"));
    assert!(!run.answer(artifact).is_empty());
}
