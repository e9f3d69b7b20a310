//! Granite in files of llama.cpp: dense models of Granite 4.0, which have one linear layer to gate and
//! up, and two there; and what is said of windows.

use super::gguf::{Found, Gguf, in_llama_cpp};
use super::*;

const OUTPUT: &str = "shared_mlp.output_linear";
const INPUT: &str = "shared_mlp.input_linear";

/// A base of this family, and an adapter that changes much.
fn run_with_granite() -> Run {
    let run = Run::new();
    let config = json!({
        "model_type": "granitemoehybrid", "architectures": ["GraniteMoeHybridForCausalLM"],
        "attention_multiplier": 0.25, "dtype": "bfloat16", "embedding_multiplier": 2.0,
        "hidden_size": 32, "intermediate_size": 96, "layer_types": ["attention", "attention"],
        "logits_scaling": 2.0, "mamba_n_heads": 4, "max_position_embeddings": 256,
        "num_attention_heads": 4, "num_experts_per_tok": 0, "num_hidden_layers": 2,
        "num_key_value_heads": 2, "num_local_experts": 0, "position_embedding_type": "rope",
        "residual_multiplier": 0.5, "rms_norm_eps": 1e-5, "shared_intermediate_size": 48,
        "tie_word_embeddings": true, "vocab_size": 512,
    });
    run.model_folder("base", &config);
    let run = run.with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "train.learning_rate=0.05"]);
    run
}

/// A tensor as files of llama.cpp have it: in two halves, or at another place.
fn in_file(name: &str, values: &[f32], layout: [usize; 2]) -> Vec<(String, Vec<f32>)> {
    let one = |name: &str, values: &[f32]| in_llama_cpp(name, values, layout);
    if !name.contains(INPUT) {
        return vec![one(&name.replace(OUTPUT, "mlp.down_proj"), values)];
    }
    let (gate, up) = match name.ends_with("lora_a") {
        true => (values, values),
        false => values.split_at(values.len() / 2),
    };
    vec![
        one(&name.replace(INPUT, "mlp.gate_proj"), gate),
        one(&name.replace(INPUT, "mlp.up_proj"), up),
    ]
}

#[test]
fn gate_and_up_are_two_matrices_in_a_gguf_file() {
    let run = run_with_granite();
    let (base, adapter) = ("checkpoints/tiny/artifact", "checkpoints/lora/artifact");
    let export = ["export", "checkpoints/lora", "--type", "f32", "--out", "out", "--no-sign"];
    run.succeeds(&export);
    let read = Gguf::read(&run.path("out/out-F32.gguf"));
    assert_eq!(read.text("general.architecture"), "granite");
    for (key, number) in [
        ("feed_forward_length", 48.0),
        ("attention.scale", 0.25),
        ("embedding_scale", 2.0),
        ("residual_scale", 0.5),
        ("logit_scale", 2.0),
    ] {
        assert_eq!(read.number(&format!("granite.{key}")), number, "{key}");
    }
    let mut found = 0;
    for (name, (shape, values)) in adapted(&run.path(base), &run.path(adapter), 2.0) {
        for (name, values) in in_file(&name, &values, [8, 32]) {
            let (_, dims, numbers) = &read.tensors[&name];
            assert_eq!(*numbers, values, "{name}");
            assert_eq!(dims[0], *shape.last().unwrap() as u64, "{name}");
            found += 1;
        }
    }
    assert_eq!(found, read.tensors.len());
    // The same model is read back, by another name and with two linear layers.
    run.succeeds(&["merge", "checkpoints/lora", "--dtype", "f32", "--out", "merged"]);
    assert_eq!(run.answer("out/out-F32.gguf"), run.answer("merged"));
    // Blocks go into both halves, too, whatever they are made of.
    let export = ["export", "merged", "--type", "q8_0", "--out", "blocks", "--no-sign"];
    run.succeeds(&export);
    let blocks = Gguf::read(&run.path("blocks/blocks-Q8_0.gguf"));
    for part in ["gate", "up"] {
        let name = format!("blk.1.ffn_{part}.weight");
        let ((kind, dims, ours), (_, _, wanted)) = (&blocks.tensors[&name], &read.tensors[&name]);
        assert_eq!((*kind, dims.as_slice()), (8, &[32, 48][..]), "{name}");
        for (ours, wanted) in ours.chunks(32).zip(wanted.chunks(32)) {
            let largest = wanted.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
            let off = ours.iter().zip(wanted).fold(0.0_f32, |off, (a, b)| off.max((a - b).abs()));
            assert!(off <= 0.005 * largest, "{name}: {off} of {largest}");
        }
    }
}

#[test]
fn a_merge_and_an_adapter_have_the_names_of_transformers_and_peft() {
    let run = run_with_granite();
    let (base, adapter) = ("checkpoints/tiny/artifact", "checkpoints/lora/artifact");
    let factors = weights(&run.path(adapter));
    let shape = |part: &str| {
        let name = format!("base_model.model.model.layers.1.{part}.weight");
        factors[&name].0.clone()
    };
    assert_eq!(shape("shared_mlp.input_linear.lora_A"), [4, 32]);
    assert_eq!(shape("shared_mlp.input_linear.lora_B"), [96, 4]);
    assert_eq!(shape("shared_mlp.output_linear.lora_A"), [4, 48]);
    assert_eq!(shape("shared_mlp.output_linear.lora_B"), [32, 4]);
    run.succeeds(&["merge", "checkpoints/lora", "--dtype", "f32", "--out", "merged"]);
    let wanted = adapted(&run.path(base), &run.path(adapter), 2.0);
    let merged = weights(&run.path("merged"));
    assert!(merged.keys().eq(wanted.keys()));
    for (name, (shape, values)) in &wanted {
        assert_eq!(merged[name], (shape.clone(), values.clone()), "{name}");
    }
    let config: Value = serde_json::from_str(&run.read("merged/config.json")).unwrap();
    assert_eq!(config["model_type"], "granitemoehybrid");
}

#[test]
fn an_adapter_by_itself_has_the_same_factor_for_gate_and_up() {
    let run = run_with_granite();
    run.succeeds(&["export", "checkpoints/lora", "--format", "gguf-lora", "--out", "out"]);
    let read = Gguf::read(&run.path("out/out-F32-LoRA.gguf"));
    assert_eq!(read.text("general.architecture"), "granite");
    let mut found = 0;
    for (key, (shape, values)) in weights(&run.path("checkpoints/lora/artifact")) {
        let name = key.strip_prefix("base_model.model.").unwrap();
        let name = name
            .replace(".lora_A.weight", ".weight.lora_a")
            .replace(".lora_B.weight", ".weight.lora_b");
        // Only rows of the product lie elsewhere.
        let layout = if name.ends_with("lora_b") { [8, shape[1]] } else { [1, shape[1]] };
        for (name, values) in in_file(&name, &values, layout) {
            let (_, dims, numbers) = &read.tensors[&name];
            assert_eq!(*numbers, values, "{name}");
            assert_eq!(dims[0], shape[1] as u64, "{name}");
            found += 1;
        }
    }
    assert_eq!(found, read.tensors.len());
}

#[test]
fn windows_sinks_and_layers_in_which_positions_turn_are_said_in_the_file() {
    let run = Run::new();
    let mut config = json!({
        "model_type": "granite_swa", "architectures": ["GraniteSWAForCausalLM"],
        "attention_multiplier": 0.25, "dtype": "bfloat16", "embedding_multiplier": 2.0,
        "hidden_size": 32, "intermediate_size": 48, "layer_rope_theta": [0, 500.0, 500.0],
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "logits_scaling": 2.0, "max_position_embeddings": 256, "num_attention_heads": 4,
        "num_hidden_layers": 3, "num_key_value_heads": 2, "residual_multiplier": 0.5,
        "rms_norm_eps": 1e-5, "sliding_window": 16, "tie_word_embeddings": true, "vocab_size": 512,
    });
    run.model_folder("base", &config);
    let run = run.with_base();
    let export = ["export", "checkpoints/tiny", "--type", "f32", "--out", "out", "--no-sign"];
    run.succeeds(&export);
    let read = Gguf::read(&run.path("out/out-F32.gguf"));
    assert_eq!(read.text("general.architecture"), "granite_swa");
    assert_eq!(read.number("granite_swa.attention.sliding_window"), 16.0);
    assert_eq!(read.number("granite_swa.rope.freq_base"), 500.0);
    for pattern in ["sliding_window_pattern", "rope_pattern"] {
        let found = read.list(&format!("granite_swa.attention.{pattern}"));
        assert_eq!(found, [0.0, 1.0, 1.0].map(Found::Number), "{pattern}");
    }
    let all = weights(&run.path("checkpoints/tiny/artifact"));
    assert_eq!(all.len(), read.tensors.len());
    let (_, _, sinks) = &read.tensors["blk.2.attn_sinks.weight"];
    assert_eq!(*sinks, all["model.layers.2.self_attn.sinks"].1);
    assert!(sinks.iter().any(|sink| *sink != 0.0));
    // The same model is read back.
    assert_eq!(run.answer("out/out-F32.gguf"), run.answer("checkpoints/tiny"));
    let folder = fs::read_dir(run.path("cache/gguf")).unwrap().next().unwrap().unwrap().path();
    let found: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    for key in ["model_type", "layer_types", "sliding_window", "attention_multiplier"] {
        assert_eq!(found[key], config[key], "{key}");
    }
    assert_eq!(found["layer_rope_theta"], json!([0, 500.0, 500.0]));

    // llama.cpp has one base for all layers.
    config["layer_rope_theta"] = json!([0, 500.0, 10000.0]);
    run.model_folder("other", &config);
    let (from, to) = ("checkpoints/tiny/artifact/model.safetensors", "other/model.safetensors");
    fs::copy(run.path(from), run.path(to)).unwrap();
    let export = ["export", "other", "--type", "f32", "--out", "refused", "--no-sign"];
    run.fails_with(2, &export, str![[r#"
error[export]: models of the family `granite_swa` with such rotations of positions cannot be written as GGUF

"#]]);
}
