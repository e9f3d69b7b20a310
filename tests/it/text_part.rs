//! Checkpoints that hold more than a text model: its part is trained, and the rest stays as it is
//! in what is merged and in what full training writes.

use std::collections::BTreeMap;
use std::fs;

use crate::common::{Run, says};
use firebrand::model::{ModelJson, families};
use firebrand::weights::{Element, TensorSpec, read_tensors, write_safetensors};
use serde_json::{Value, json};
use snapbox::str;

/// Of what reads images: names, formats and shapes.
const OTHERS: [(&str, Element, &[usize]); 4] = [
    ("vision_tower.encoder.layers.0.self_attn.q_proj.weight", Element::F32, &[8, 8]),
    ("vision_tower.embeddings.patch_embedding.bias", Element::BF16, &[8]),
    ("multi_modal_projector.mm_input_projection_weight", Element::F32, &[8, 32]),
    ("multi_modal_projector.scale", Element::BF16, &[3]),
];
const FILE: &str = "model.safetensors";

fn config() -> Value {
    json!({
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 509, "eoi_token_index": 510, "image_token_index": 511,
        "mm_tokens_per_image": 4, "torch_dtype": "float32", "initializer_range": 0.02,
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 8},
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 8, "vocab_size": 512, "sliding_window": 16, "sliding_window_pattern": 2,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "query_pre_attn_scalar": 8,
        },
    })
}

/// Of what is beside a text model of Gemma 4: a bound that clips nothing, and keys of a layer that
/// sees those of another one.
const OTHERS_OF_GEMMA4: [(&str, Element, &[usize]); 4] = [
    ("model.vision_tower.patch_embedder.position_embedding_table", Element::BF16, &[2, 3, 8]),
    ("model.embed_audio.embedding_projection.weight", Element::F32, &[32, 8]),
    ("model.audio_tower.layers.0.input_min", Element::F32, &[1]),
    ("model.language_model.layers.3.self_attn.k_proj.weight", Element::F32, &[16, 32]),
];

fn gemma4_config() -> Value {
    json!({
        "model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"],
        "image_token_id": 509, "audio_token_id": 510, "torch_dtype": "float32",
        "vision_config": {"model_type": "gemma4_vision", "hidden_size": 8},
        "audio_config": {"model_type": "gemma4_audio", "hidden_size": 8},
        "text_config": {
            "model_type": "gemma4_text", "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 1,
            "head_dim": 8, "global_head_dim": 16, "vocab_size": 512, "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention",
                "full_attention"],
            "num_kv_shared_layers": 2, "use_double_wide_mlp": true,
            "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 512,
            "final_logit_softcapping": 30.0,
        },
    })
}

/// The name in files of a path, as those on the hub have it.
fn in_file(config: &Value, path: &str) -> String {
    match config["model_type"].as_str() {
        Some("gemma3") => path.replace("model.language_model.", "language_model.model."),
        _ => path.to_owned(),
    }
}

fn value(name: &str, place: usize) -> f32 {
    let spread = (name.len() * 31 + place * 7919) % 1009;
    let uniform = spread as f32 / 1009.0 - 0.5;
    let is_gain = name.contains("norm") || name.ends_with("layer_scalar");
    match name {
        _ if name.ends_with("input_min") => f32::NEG_INFINITY,
        // What is added to one in one family, and the gain itself in the other.
        _ if name.starts_with("language_model.") && is_gain => 0.2 * uniform,
        _ if is_gain => 1.0 + 0.2 * uniform,
        _ => 0.3 * uniform,
    }
}

/// A checkpoint `seeing`, and configurations that train it.
fn checkpoint() -> Run {
    checkpoint_of(&config(), &OTHERS)
}

fn checkpoint_of(config: &Value, others: &[(&str, Element, &[usize])]) -> Run {
    let run = Run::new();
    run.model_folder("seeing", config);
    run.write("seeing/preprocessor_config.json", "{\"size\": 16}");
    let description = families::describe(&ModelJson::from_value(config.clone())).unwrap();
    let text = description.tensors().into_iter().map(|(path, shape)| TensorSpec {
        name: in_file(config, &path),
        element: Element::F32,
        shape,
    });
    let others = others.iter().map(|(name, element, shape)| TensorSpec {
        name: (*name).to_owned(),
        element: *element,
        shape: shape.to_vec(),
    });
    let specs = text.chain(others).collect();
    write_safetensors(&run.path("seeing").join(FILE), specs, &BTreeMap::new(), |spec| {
        let count = spec.shape.iter().product();
        Ok((0..count).map(|place| value(&spec.name, place)).collect())
    })
    .unwrap();
    let common = "[model]\nbase = \"seeing\"\n[data]\nmax_seq_len = 96\n[[data.train]]\n\
                  path = \"data.jsonl\"\n[train]\nmax_steps = 2\nmicro_batch_size = 2\n\
                  learning_rate = 1e-2\n[checkpoint]\nreuse = \"never\"\n[device]\nname = \"cpu\"\n";
    run.write("full.toml", common);
    run.write("adapter.toml", &format!("{common}[lora]\nr = 4\nlora_alpha = 8\n"));
    run
}

type Tensors = BTreeMap<String, (Element, Vec<usize>, Vec<u8>)>;

/// Format, shape and bytes of every tensor of a file.
fn tensors(run: &Run, folder: &str, file: &str) -> Tensors {
    let (tensors, _) = read_tensors(&run.path(folder), file).unwrap();
    let all = |tensor: firebrand::weights::OwnedTensor| {
        (tensor.element, tensor.shape, tensor.bytes.to_vec())
    };
    tensors.into_iter().map(|(name, tensor)| (name, all(tensor))).collect()
}

/// Names of tensors that are not what they are in the checkpoint; all others are, to the byte.
fn changed(run: &Run, folder: &str) -> Vec<String> {
    let (before, after) = (tensors(run, "seeing", FILE), tensors(run, folder, FILE));
    assert!(before.keys().eq(after.keys()), "{folder}");
    before.keys().filter(|name| before[*name] != after[*name]).cloned().collect()
}

#[test]
fn an_adapter_is_of_the_text_part_and_a_merge_changes_nothing_else() {
    let run = checkpoint();
    let plan = run.command(&["plan", "adapter.toml"]).output().unwrap();
    let said = String::from_utf8(plan.stderr).unwrap();
    let words = "holds more than a text model: 4 tensors (1.3 kB) of `vision_tower`, \
                 `multi_modal_projector`";
    assert!(plan.status.success() && said.contains(words), "{said}");
    run.succeeds(&["train", "adapter.toml", "--quiet"]);

    let artifact = "checkpoints/adapter/artifact";
    let settings: Value =
        serde_json::from_str(&run.read(&format!("{artifact}/adapter_config.json"))).unwrap();
    let others = r"(.*\.)?(vision_tower|multi_modal_projector)\..*";
    assert_eq!(settings["exclude_modules"], others);
    let (adapter, _) = read_tensors(&run.path(artifact), "adapter_model.safetensors").unwrap();
    assert_eq!(adapter.len(), 2 * 2 * 7);
    let begin = "base_model.model.model.language_model.layers.";
    assert!(adapter.keys().all(|name| name.starts_with(begin)), "{:?}", adapter.keys());

    run.succeeds(&["merge", artifact, "--out", "merged"]);
    let linear = |name: &String| name.ends_with("_proj.weight") && name.contains(".layers.");
    let changed = changed(&run, "merged");
    assert_eq!(changed.len(), 2 * 7);
    assert!(changed.iter().all(|name| linear(name) && name.starts_with("language_model.model.")));
    assert_eq!(run.answer("merged"), run.answer(artifact));
    assert_eq!(run.read("merged/preprocessor_config.json"), "{\"size\": 16}");
    let merged: Value = serde_json::from_str(&run.read("merged/config.json")).unwrap();
    assert_eq!(merged["vision_config"], config()["vision_config"]);
}

/// Whatever format is asked for, and although an odd count of short numbers comes before long ones.
#[test]
fn a_merge_in_another_format_leaves_the_rest_in_its_own() {
    let run = checkpoint();
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    for (name, element) in [("bf16", Element::BF16), ("f16", Element::F16)] {
        let merge = ["merge", "checkpoints/adapter", "--out", name, "--dtype", name, "--no-check"];
        run.succeeds(&merge);
        let (before, after) = (tensors(&run, "seeing", FILE), tensors(&run, name, FILE));
        assert!(before.keys().eq(after.keys()));
        for (tensor, found) in &after {
            match OTHERS.iter().find(|(other, ..)| other == tensor) {
                Some(_) => assert_eq!(found, &before[tensor], "{tensor}"),
                None => assert_eq!(found.0, element, "{tensor}"),
            }
        }
        let bytes = fs::read(run.path(name).join(FILE)).unwrap();
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        for (tensor, info) in metadata.tensors() {
            let size = info.dtype.bitsize() / 8;
            assert_eq!((8 + header + info.data_offsets.0) % size, 0, "{tensor}");
        }
        assert!(!run.answer(name).is_empty());
    }
}

#[test]
fn full_training_writes_the_rest_as_it_is() {
    let run = checkpoint();
    run.succeeds(&["train", "full.toml", "--quiet"]);
    let artifact = "checkpoints/full/artifact";
    let changed = changed(&run, artifact);
    let text: Vec<String> = tensors(&run, "seeing", FILE)
        .into_keys()
        .filter(|name| OTHERS.iter().all(|(other, ..)| other != name))
        .collect();
    assert_eq!(changed, text);
    assert_eq!(run.read(&format!("{artifact}/preprocessor_config.json")), "{\"size\": 16}");
    run.succeeds(&["verify", "checkpoints/full"]);
    assert!(!run.answer(artifact).is_empty());

    let random = ["train", "full.toml", "--set", "name=drawn", "--set", "model.init=random"];
    let random = run.fails(2, &random);
    assert!(random.contains("no random weights for `gemma3`"), "{random}");
}

#[test]
fn layers_that_share_and_have_inputs_of_their_own_are_trained_and_merged() {
    let run = checkpoint_of(&gemma4_config(), &OTHERS_OF_GEMMA4);
    let plan = run.command(&["plan", "adapter.toml"]).output().unwrap();
    let said = String::from_utf8(plan.stderr).unwrap();
    for words in [
        "holds more than a text model: 3 tensors (1.1 kB) of `vision_tower`, `audio_tower`, \
         `embed_vision`, `embed_audio` are not trained and stay as they are",
        "keys and values that no layer uses stay as they are, too: tensors of 2.0 kB",
    ] {
        assert!(plan.status.success() && said.contains(words), "{said}");
    }
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    let artifact = "checkpoints/adapter/artifact";
    let (adapter, _) = read_tensors(&run.path(artifact), "adapter_model.safetensors").unwrap();
    // Two layers with keys and two without; in each two for its own input, and one for all.
    assert_eq!(adapter.len(), 2 * (2 * 9 + 2 * 7 + 1));
    run.succeeds(&["merge", artifact, "--out", "merged"]);
    let changed_by_merge = changed(&run, "merged");
    assert_eq!(changed_by_merge.len(), 2 * 9 + 2 * 7 + 1);
    assert_eq!(run.answer("merged"), run.answer(artifact));

    // Where no adapter stands beside what makes the layers' own inputs, nothing goes back there.
    let some = r#"lora.target_modules=["q_proj", "k_proj"]"#;
    run.succeeds(&["train", "adapter.toml", "--quiet", "--set", "name=some", "--set", some]);
    let weights = run.path("checkpoints/some/artifact");
    let (adapter, _) = read_tensors(&weights, "adapter_model.safetensors").unwrap();
    assert_eq!(adapter.len(), 2 * (4 + 2));

    run.succeeds(&["train", "full.toml", "--quiet"]);
    let stays = |name: &String| {
        name.ends_with("layer_scalar") || OTHERS_OF_GEMMA4.iter().any(|(other, ..)| other == name)
    };
    let learns = tensors(&run, "seeing", FILE).into_keys().filter(|name| !stays(name));
    assert_eq!(changed(&run, "checkpoints/full/artifact"), learns.collect::<Vec<_>>());
    run.succeeds(&["verify", "checkpoints/full"]);
    assert!(!run.answer("checkpoints/full/artifact").is_empty());
    // The layers that see keys of others see those of the last two with their own, as llama.cpp has
    // it; what reads images and sound is left out.
    let said = run.stderr_of(&["export", "merged", "--type", "f32", "--out", "gguf"]);
    says(
        said.lines().filter(|line| line.contains("left out")).collect::<String>(),
        str!["note: 4 tensors that the text model does not use are left out"],
    );
    assert_eq!(run.answer("gguf/gguf-F32.gguf"), run.answer("merged"));
}

#[test]
fn names_of_both_kinds_are_read_and_a_tensor_by_both_is_refused() {
    let run = checkpoint();
    let asked = run.answer("seeing");
    let mut all = tensors(&run, "seeing", FILE);
    let rewrite = |all: &Tensors| {
        fs::remove_file(run.path("seeing").join(FILE)).unwrap();
        let spec = |(name, of): (&String, &(Element, Vec<usize>, Vec<u8>))| TensorSpec {
            name: name.clone(),
            element: of.0,
            shape: of.1.clone(),
        };
        let specs = all.iter().map(spec).collect();
        write_safetensors(&run.path("seeing").join(FILE), specs, &BTreeMap::new(), |spec| {
            let (element, _, bytes) = &all[&spec.name];
            Ok(firebrand::weights::to_f32(*element, bytes))
        })
        .unwrap();
    };
    // As transformers has them in memory.
    let new = |name: String| match name.strip_prefix("language_model.model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => format!("model.{name}"),
    };
    all = all.into_iter().map(|(name, of)| (new(name), of)).collect();
    rewrite(&all);
    assert_eq!(run.answer("seeing"), asked);
    let norm = all["model.language_model.norm.weight"].clone();
    all.insert("language_model.model.norm.weight".to_owned(), norm);
    rewrite(&all);
    run.fails_with(
        2,
        &["plan", "full.toml"],
        str![[r#"
error[weights]: the weights hold `model.language_model.norm.weight` twice
  at seeing
  because as `language_model.model.norm.weight` and as `model.language_model.norm.weight`

"#]],
    );
}
