//! A model of every family becomes a GGUF file and is read back from it: the same text.
//! `tests/reference/gguf_check.py families` has llama.cpp write it, too.

use std::collections::BTreeMap;

use firebrand::model::{ModelJson, families};
use firebrand::weights::{Element, TensorSpec, write_safetensors};
use serde_json::{Value, json};

use crate::common::Run;

/// Longer than windows are in these models.
const PROMPT: &str = "Once upon a time there was a small, red fox in the wood, and it said hello.";
const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";

fn with(mut config: Value, own: Value) -> Value {
    let Value::Object(own) = own else { panic!("{own}") };
    config.as_object_mut().unwrap().extend(own);
    config
}

/// Four layers, since some families do something else in every fourth one.
fn common(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "torch_dtype": "float32", "initializer_range": 0.02,
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
        "max_position_embeddings": 256, "pad_token_id": 0,
    })
}

fn gemma() -> Value {
    json!({"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16})
}

fn gemma4() -> Value {
    json!({
        "head_dim": 8, "global_head_dim": 16, "num_key_value_heads": 1, "sliding_window": 16,
        "layer_types": [SLIDING, FULL, SLIDING, FULL], "num_kv_shared_layers": 2,
        "use_double_wide_mlp": true, "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 512, "final_logit_softcapping": 30.0,
    })
}

/// The kind without inputs of layers, whose keys are also the values.
fn gemma4_keys() -> Value {
    json!({
        "head_dim": 8, "global_head_dim": 16, "num_global_key_value_heads": 1,
        "attention_k_eq_v": true, "sliding_window": 16, "hidden_size_per_layer_input": 0,
        "layer_types": [SLIDING, SLIDING, SLIDING, FULL], "final_logit_softcapping": 30.0,
    })
}

fn granite() -> Value {
    json!({
        "embedding_multiplier": 2.0, "residual_multiplier": 0.6, "attention_multiplier": 0.25,
        "logits_scaling": 2.0,
    })
}

fn ministral3() -> Value {
    json!({"head_dim": 8, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "original_max_position_embeddings": 64, "mscale": 1.0, "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.1,
    }})
}

fn qwen3_5() -> Value {
    json!({
        "head_dim": 8, "full_attention_interval": 2, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    })
}

fn experts() -> Value {
    json!({"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24})
}

/// A model that can be written; each family has one.
fn config(model_type: &str) -> Value {
    let text = |of: &str| with(common(of), own(of));
    match model_type {
        "gemma3" => json!({"model_type": model_type, "text_config": text("gemma3_text")}),
        "gemma4" => json!({"model_type": model_type, "text_config": text("gemma4_text")}),
        "gemma4_unified" => {
            json!({"model_type": model_type, "text_config": text("gemma4_unified_text")})
        }
        "mistral3" => json!({"model_type": model_type, "text_config": text("ministral3")}),
        "qwen3_5" => json!({"model_type": model_type, "text_config": text("qwen3_5_text")}),
        "qwen3_5_moe" => {
            json!({"model_type": model_type, "text_config": text("qwen3_5_moe_text")})
        }
        _ => text(model_type),
    }
}

/// What a model has besides.
fn own(model_type: &str) -> Value {
    let convolutions = json!({"layer_types": ["conv", FULL, "conv", FULL]});
    match model_type {
        "gemma2" => gemma(),
        "gemma3_text" => with(gemma(), json!({"layer_types": [SLIDING, SLIDING, FULL, SLIDING]})),
        "gemma4_text" => gemma4(),
        "gemma4_unified_text" => gemma4_keys(),
        "gpt_oss" => json!({
            "head_dim": 8, "sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2,
        }),
        "granite" => granite(),
        "granitemoehybrid" => with(
            granite(),
            json!({
                "layer_types": ["attention", "attention", "attention", "attention"],
                "num_local_experts": 0, "num_experts_per_tok": 0,
                "shared_intermediate_size": 48, "position_embedding_type": "rope",
            }),
        ),
        "granite_swa" => with(
            granite(),
            json!({"sliding_window": 16, "layer_types": [SLIDING, FULL, SLIDING, FULL]}),
        ),
        "lfm2" => with(convolutions, json!({"block_auto_adjust_ff_dim": false})),
        "lfm2_moe" => with(with(convolutions, experts()), json!({"num_dense_layers": 1})),
        "ministral3" => ministral3(),
        "olmo3" => json!({"sliding_window": 16}),
        "mistral" | "phi3" => json!({"sliding_window": null}),
        "qwen3" => json!({"head_dim": 8}),
        "qwen3_moe" => with(experts(), json!({"head_dim": 8, "norm_topk_prob": true})),
        "qwen3_5_text" => qwen3_5(),
        "qwen3_5_moe_text" => {
            with(with(qwen3_5(), experts()), json!({"shared_expert_intermediate_size": 16}))
        }
        "llama" | "olmo2" | "qwen2" | "smollm3" => json!({}),
        other => panic!("`{other}` has no model here"),
    }
}

/// Other numbers for each name, so that no two tensors can be taken for one another.
fn value(name: &str, place: usize) -> f32 {
    let mut x = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    x = x.wrapping_add((place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 31;
    let uniform = (x >> 40) as f32 / (1 << 24) as f32 - 0.5;
    match name {
        _ if name.contains("norm") || name.contains("scal") => 1.0 + 0.2 * uniform,
        _ => 0.6 * uniform,
    }
}

#[test]
fn files_of_every_family_are_the_models_that_they_were_made_of() {
    for model_type in families::model_types() {
        let config = config(model_type);
        let description = families::describe(&ModelJson::from_value(config.clone())).unwrap();
        let specs = description.tensors().into_iter();
        let specs = specs.map(|(name, shape)| TensorSpec { name, element: Element::F32, shape });
        let run = Run::new();
        run.model_folder("base", &config);
        let file = run.path("base/model.safetensors");
        write_safetensors(&file, specs.collect(), &BTreeMap::new(), |spec| {
            let count = spec.shape.iter().product();
            Ok((0..count).map(|place| value(&spec.name, place)).collect())
        })
        .unwrap();
        run.succeeds(&["export", "base", "--type", "f32", "--no-sign", "--out", "out"]);
        let text = |model: &str| {
            let ask = ["generate", "--prompt", PROMPT, "--max-tokens", "12", "--device", "cpu"];
            run.succeeds(&[&ask[..], &[model]].concat())
        };
        let written = text("base");
        assert!(!written.trim().is_empty(), "{model_type}: a model that writes nothing");
        assert_eq!(text("out/out-F32.gguf"), written, "{model_type}");
    }
}
