//! Granite 4.0: what the configurations of its dense models mean, and what is said of the others.

use super::*;

/// One of the dense models in the form of its first checkpoints.
fn dense(own: Value) -> Value {
    let mut config = json!({
        "architectures": ["GraniteMoeHybridForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 100_257, "embedding_multiplier": 12,
        "eos_token_id": 100_257, "hidden_act": "silu", "init_method": "mup",
        "initializer_range": 0.1, "mamba_chunk_size": 256, "mamba_conv_bias": true,
        "mamba_d_conv": 4, "mamba_d_head": 64, "mamba_d_state": 256, "mamba_expand": 2,
        "mamba_n_groups": 1, "mamba_n_heads": 128, "mamba_proj_bias": false,
        "model_type": "granitemoehybrid", "normalization_function": "rmsnorm",
        "num_attention_heads": 16, "num_experts_per_tok": 0, "num_key_value_heads": 4,
        "num_local_experts": 0, "output_router_logits": false, "pad_token_id": 100_256,
        "position_embedding_type": "rope", "rms_norm_eps": 1e-5, "rope_scaling": null,
        "rope_theta": 10_000_000, "router_aux_loss_coef": 0.01, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers_version": "4.56.0", "use_cache": true,
        "vocab_size": 100_352,
    });
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    config
}

/// Granite 4.0 350M.
fn small() -> Value {
    dense(json!({
        "attention_multiplier": 0.015_625, "hidden_size": 1024, "intermediate_size": 2048,
        "layer_types": vec!["attention"; 28], "logits_scaling": 4,
        "max_position_embeddings": 32768, "num_hidden_layers": 28, "residual_multiplier": 0.263,
        "shared_intermediate_size": 2048,
    }))
}

/// Granite 4.0 1B.
fn large() -> Value {
    dense(json!({
        "attention_multiplier": 0.007_812_5, "hidden_size": 2048, "intermediate_size": 4096,
        "layer_types": vec!["attention"; 40], "logits_scaling": 8,
        "max_position_embeddings": 131_072, "num_hidden_layers": 40, "residual_multiplier": 0.22,
        "shared_intermediate_size": 4096,
    }))
}

fn describe(config: &Value, change: &Value) -> Result<Description, String> {
    let mut config = config.clone();
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    families::describe(&ModelJson::from_value(config)).map_err(|error| error.to_string())
}

#[test]
fn dense_models_have_attention_in_every_layer_and_the_shared_mlp() {
    for (config, parameters) in [(small(), 352_379_904), (large(), 1_631_750_144)] {
        let found = describe(&config, &json!({})).unwrap();
        assert_eq!((found.parameters, found.tied), (parameters, true));
        let wide = config["shared_intermediate_size"].as_u64().unwrap() as usize;
        for layer in &found.layers {
            let [mixer, mlp] = layer.residuals.as_slice() else { panic!("a layer adds twice") };
            let BlockDescription::Attention(attention) = &mixer.block else {
                panic!("attention comes first")
            };
            assert!(attention.rope.is_some());
            let BlockDescription::GatedMlp(mlp) = &mlp.block else { panic!("an MLP is next") };
            assert_eq!((mlp.width(), mlp.down.name), (wide, "shared_mlp.output_linear"));
        }
    }
    let plain = describe(&small(), &json!({})).unwrap();
    // As transformers 5 writes them, and where the older form is silent.
    for same in [
        json!({"layer_types": vec!["full_attention"; 28]}),
        json!({"rope_theta": null, "rope_scaling": null,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e7}}),
        // The width of experts, and settings of layers of Mamba, of which there are none.
        json!({"intermediate_size": 512, "num_experts_per_tok": 2, "mamba_d_state": 16}),
        json!({"normalization_function": null, "init_method": null}),
    ] {
        assert_eq!(describe(&small(), &same).unwrap(), plain, "{same}");
    }
    // Where nothing is said of positions, they turn nothing.
    let nope = describe(&small(), &json!({"position_embedding_type": "nope"})).unwrap();
    assert_eq!(describe(&small(), &json!({"position_embedding_type": null})).unwrap(), nope);
    assert!(nope.ropes().is_empty() && !plain.ropes().is_empty());
}

#[test]
fn hybrid_models_and_mixtures_are_refused_by_the_names_of_their_keys() {
    let kinds: Vec<_> =
        (0..28).map(|layer| if layer % 10 == 5 { "attention" } else { "mamba" }).collect();
    let mut said = String::new();
    for change in [
        json!({"num_local_experts": 64, "num_experts_per_tok": 6}),
        json!({"num_local_experts": null}),
        json!({"layer_types": kinds, "position_embedding_type": "nope"}),
        json!({"layer_types": vec!["linear_attention"; 28]}),
        json!({"layer_types": null}),
        json!({"layer_types": ["attention"]}),
        json!({"layer_types": vec!["sliding_attention"; 28]}),
        json!({"position_embedding_type": "alibi"}),
        json!({"normalization_function": "layernorm"}),
        json!({"output_router_logits": true}),
        json!({"shared_intermediate_size": 0}),
        json!({"mlp_bias": true}),
    ] {
        said += &format!("{}\n", describe(&small(), &change).unwrap_err());
    }
    says(
        said,
        str![[r#"
error[model]: `num_local_experts` asks for experts, which models of `granitemoehybrid` here do not have
  at config.json
  because it is 64

hint: the dense models of Granite 4.0 are Micro, 1B and 350M, those without an `h` in their names
error[model]: `num_local_experts` asks for experts, which models of `granitemoehybrid` here do not have
  at config.json
  because it is null, which is no number

hint: the dense models of Granite 4.0 are Micro, 1B and 350M, those without an `h` in their names
error[model]: `layer_types` asks for layers of Mamba, which are not supported
  at config.json
  because layer 0 is "mamba"

hint: the dense models of Granite 4.0 are Micro, 1B and 350M, those without an `h` in their names
error[model]: `layer_types` asks for layers of Mamba, which are not supported
  at config.json
  because layer 0 is "linear_attention"

hint: the dense models of Granite 4.0 are Micro, 1B and 350M, those without an `h` in their names
error[model]: `layer_types` asks for layers of Mamba, which are not supported
  at config.json
  because it is missing, which makes all layers such ones

hint: the dense models of Granite 4.0 are Micro, 1B and 350M, those without an `h` in their names
error[model]: `layer_types` must be a list with a kind for each of 28 layers
  at config.json
error[model]: `layer_types` asks for `"sliding_attention"`
  at config.json
error[model]: `position_embedding_type` must be `rope` or `nope`
  at config.json
error[model]: `normalization_function` must be `rmsnorm`
  at config.json
error[model]: `output_router_logits` asks for the auxiliary loss of the router, which is not supported
  at config.json

hint: set it to false in `config.json`: the router is then trained by the loss of the tokens alone, or stays as it is beside an adapter
error[model]: `shared_intermediate_size` must be between 1 and 1048576
  at config.json
error[model]: `mlp_bias` asks for something that models of `granitemoehybrid` here do not have
  at config.json
  because it is true

hint: a model that ignored it would compute something else than was trained; if the option means nothing, remove it from `config.json`

"#]],
    );
}
