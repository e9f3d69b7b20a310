//! What `config.json` means to families of the usual kind.

use serde_json::{Value, json};

use crate::error::Result;
use crate::model::description::Description;
use crate::model::{ModelJson, families};
use crate::ops::RopeScaling;
use crate::snapshots::says;

fn config() -> Value {
    json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
           "num_key_value_heads": 2, "intermediate_size": 128, "num_hidden_layers": 2,
           "vocab_size": 100})
}

fn describe(change: &Value) -> Result<Description> {
    let mut json = config();
    for (key, value) in change.as_object().unwrap() {
        json[key] = value.clone();
    }
    families::describe(&ModelJson::from_value(json))
}

#[test]
fn both_forms_of_rope_settings_mean_the_same() {
    let scaling = json!({"rope_type": "linear", "factor": 4.0});
    let old = describe(&json!({"rope_theta": 5e5, "rope_scaling": scaling})).unwrap();
    let parameters = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5});
    let new = describe(&json!({"rope_parameters": parameters})).unwrap();
    assert_eq!(old, new);
    // What stands beside the object counts first, as in the reference.
    let yarn = |inside, beside: Value| {
        let scaling = json!({"type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": inside});
        describe(&json!({"rope_scaling": scaling,
            "original_max_position_embeddings": beside}))
        .unwrap()
    };
    assert_eq!(yarn(64, json!(32)), yarn(32, json!(null)));
    assert_ne!(yarn(64, json!(32)), yarn(64, json!(null)));
    let (rope, width) = new.ropes().remove(0);
    assert_eq!((rope.theta, rope.scaling), (5e5, RopeScaling::Linear { factor: 4.0 }));
    assert_eq!((width, new.ropes().len()), (16, 1));
}

#[test]
fn a_program_of_the_models_own_is_ignored_where_the_family_is_known() {
    let map = json!({"AutoModel": "modeling_own.OwnModel"});
    let mut json = config();
    json["auto_map"] = map.clone();
    let model = ModelJson::from_value(json);
    assert_eq!(families::describe(&model).unwrap(), describe(&json!({})).unwrap());
    says(
        model.own_code_note().unwrap(),
        snapbox::str![
            "`config.json` names a program of the model's own (`auto_map`): it is ignored, and the model is computed as one of the family `llama`"
        ],
    );
    let error = describe(&json!({"auto_map": map, "model_type": "own"})).unwrap_err().to_string();
    let (error, _families) = error.split_once("\n\nhint").unwrap();
    says(
        error,
        snapbox::str![[r#"
error[model]: `model_type` is `own`, a family that is not supported
  at config.json
  because the model brings a program of its own (`auto_map`), which is never run
"#]],
    );
}

#[test]
fn tensors_are_those_that_are_counted() {
    for (change, count) in [
        (json!({}), 2 * (64 * (2 * 64 + 2 * 32 + 3 * 128 + 2)) + 2 * 100 * 64 + 64),
        (json!({"tie_word_embeddings": true}), 2 * (64 * 578) + 100 * 64 + 64),
        (
            json!({"attention_bias": true, "mlp_bias": true, "head_dim": 20}),
            2 * (64 * (2 * 80 + 2 * 40 + 3 * 128 + 2) + 80 + 80 + 64 + 2 * 128 + 64)
                + 2 * 100 * 64
                + 64,
        ),
    ] {
        assert_eq!(describe(&change).unwrap().parameters, count);
    }
}

#[test]
fn impossible_configs_are_named() {
    for (change, key) in [
        (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
        (json!({"head_dim": 7}), "head_dim"),
        (json!({"hidden_act": "gelu"}), "hidden_act"),
        (json!({"hidden_act": 3}), "hidden_act"),
        (json!({"vocab_size": 0}), "vocab_size"),
        (json!({"hidden_size": 1u64 << 40}), "hidden_size"),
        (json!({"rope_scaling": {"rope_type": "yarn"}}), "rope_scaling"),
        (json!({"rope_scaling": {"rope_type": "spiral"}}), "rope_scaling"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "truncate": 3}}), "truncate"),
        (
            json!({"rope_theta": 1.0, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
            "rope_theta",
        ),
        (
            json!({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0],
                "long_factor": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]}}),
            "short_factor",
        ),
        (
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0,
                "original_max_position_embeddings": 1.5}}),
            "original_max_position_embeddings",
        ),
        (json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling"),
        (json!({"rms_norm_eps": -1.0}), "rms_norm_eps"),
        (json!({"rope_scaling": "linear"}), "rope_scaling"),
        (json!({"rope_scaling": {"rope_type": 3}}), "rope_scaling"),
        (json!({"rope_parameters": ["linear"]}), "rope_parameters"),
        (json!({"rope_theta": 0}), "rope_theta"),
        (json!({"rope_theta": 1e300}), "rope_theta"),
        (json!({"rope_parameters": {"rope_theta": -1.0}}), "rope_theta"),
        (json!({"num_hidden_layers": 0}), "num_hidden_layers"),
        (json!({"hidden_size": -64}), "hidden_size"),
        (json!({"num_attention_heads": 7}), "num_key_value_heads"),
        (json!({"head_dim": 1 << 20}), "head_dim"),
        (
            json!({"num_hidden_layers": 1024, "hidden_size": 1 << 20, "head_dim": 1 << 14,
                "num_attention_heads": 1 << 20, "num_key_value_heads": 1 << 20}),
            "weights",
        ),
    ] {
        let error = describe(&change).unwrap_err().to_string();
        assert!(error.contains(key), "{change} gave {error}");
    }
}

/// What is not understood is not ignored, unless it is off or means nothing.
#[test]
fn options_that_nothing_asks_for_are_refused_by_name() {
    let scaling = |key: &str, value: Value| {
        let mut map = json!({"rope_type": "default", "rope_theta": 1e4});
        map[key] = value;
        json!({"rope_parameters": map})
    };
    for (change, key) in [
        (json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping"),
        (json!({"sliding_window": 4096}), "sliding_window"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
        (json!({"is_causal": false}), "is_causal"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        (json!({"anything": {"at": "all"}}), "anything"),
        (json!({"activation": "geglu"}), "activation"),
        (scaling("partial_rotary_factor", json!(0.25)), "partial_rotary_factor"),
        (scaling("factor", json!(4.0)), "factor"),
    ] {
        let error = describe(&change).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{change} gave {error}");
    }
    let plain = describe(&json!({})).unwrap();
    for change in [
        json!({"sliding_window": null, "attention_dropout": 0.0, "use_qk_norm": false}),
        json!({"transformers_version": "5.0.0", "_name_or_path": "x", "pretraining_tp": 1}),
        json!({"partial_rotary_factor": 1.0}),
        json!({"attention_dropout": 0.1}),
        json!({"is_causal": true, "layer_types": ["full_attention", "full_attention"]}),
        json!({"max_sequence_length": 4096, "attn_implementation": "sdpa"}),
        json!({"max_seq_len": 4096, "activation": "swiglu"}),
        json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            "rope_scaling": {"rope_type": "default"}}),
        scaling("factor", json!(null)),
        scaling("mrope_section", json!([2, 3, 3])),
        scaling("mrope_interleaved", json!(true)),
    ] {
        assert_eq!(describe(&change).unwrap(), plain, "{change}");
    }
}

/// What some families make of a key that others understand, or of an empty value: as transformers.
#[test]
fn keys_mean_what_the_family_makes_of_them() {
    let sizes = |family: Value, change: Value| {
        let mut json = config();
        for part in [family, change] {
            json.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        families::describe(&ModelJson::from_value(json)).unwrap()
    };
    let yarn = |key: &str, value: Value| {
        let mut rope = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4});
        rope["original_max_position_embeddings"] = json!(512);
        rope[key] = value;
        json!({"rope_parameters": rope})
    };
    let llama = json!({"max_position_embeddings": 2048});
    assert_eq!(
        sizes(llama.clone(), yarn("truncate", json!(null))),
        sizes(llama.clone(), yarn("truncate", json!(false)))
    );
    assert_ne!(
        sizes(llama.clone(), yarn("truncate", json!(null))),
        sizes(llama, yarn("truncate", json!(true)))
    );
    // The base of a layer is that of its yarn, whatever the whole model says.
    let granite = json!({"model_type": "granite_swa", "max_position_embeddings": 2048,
        "sliding_window": 200, "layer_types": ["sliding_attention", "full_attention"],
        "layer_rope_theta": [0, 100.0]});
    assert_eq!(
        sizes(granite.clone(), yarn("rope_theta", json!(1e4))),
        sizes(granite, yarn("rope_theta", json!(100.0)))
    );
    let lfm2 = json!({"model_type": "lfm2", "layer_types": ["conv", "full_attention"]});
    assert_eq!(
        sizes(lfm2.clone(), json!({"hidden_act": "gelu_pytorch_tanh"})),
        sizes(lfm2, json!({}))
    );
    let lfm2_moe = json!({"model_type": "lfm2_moe", "num_experts": 4, "moe_intermediate_size": 24,
        "layer_types": ["conv", "full_attention"]});
    assert_eq!(sizes(lfm2_moe.clone(), json!({"theta": 1e6})), sizes(lfm2_moe, json!({})));
    let oss = json!({"model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 3,
        "num_experts_per_tok": 2, "sliding_window": 4});
    assert_eq!(sizes(oss.clone(), json!({"rope_scaling": {}})), sizes(oss, json!({})));
    let gemma = |formats: Value| {
        let mut json = config();
        json["model_type"] = json!("gemma2");
        json.as_object_mut().unwrap().extend(formats.as_object().unwrap().clone());
        ModelJson::from_value(json).element()
    };
    let bfloat16 = json!({"torch_dtype": "bfloat16"});
    assert_eq!(gemma(json!({"dtype": null, "torch_dtype": "bfloat16"})), gemma(bfloat16));
}

#[test]
fn the_row_of_a_token_that_fills_up_rows_is_that_of_pytorch() {
    let padding = |change: Value| describe(&change).unwrap().padding;
    assert_eq!(padding(json!({})), None);
    assert_eq!(padding(json!({"pad_token_id": 7})), Some(7));
    // From the end of 100, as `nn.Embedding` counts; beyond either end there is no such row.
    assert_eq!(padding(json!({"pad_token_id": -1})), Some(99));
    assert_eq!(padding(json!({"pad_token_id": -101})), None);
    let olmo = |token: Option<Value>| {
        let mut json = json!({"model_type": "olmo2"});
        json.as_object_mut().unwrap().extend(token.map(|it| ("pad_token_id".to_owned(), it)));
        padding(json)
    };
    assert_eq!(olmo(None), Some(1));
    assert_eq!(olmo(Some(json!(null))), None);
    says(
        describe(&json!({"pad_token_id": "<pad>"})).unwrap_err().to_string(),
        snapbox::str![[r#"
error[model]: `pad_token_id` must be a whole number
  at config.json
"#]],
    );
}
