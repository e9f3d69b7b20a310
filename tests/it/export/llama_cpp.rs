//! What only llama.cpp and Ollama have: K-quants, adapters by themselves, a `Modelfile`.

use super::gguf::{Found, Gguf, in_llama_cpp};
use super::*;
use crate::common::model_config;

/// A model whose rows are whole blocks of 256 numbers, of nine layers.
fn wide(run: &Run) {
    foreign(run, "gqa-tied", "wide");
    let mut config: Value = serde_json::from_str(&run.read("wide/config.json")).unwrap();
    for (key, size) in [
        ("hidden_size", 256),
        ("intermediate_size", 256),
        ("head_dim", 64),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 1),
        ("num_hidden_layers", 9),
    ] {
        config[key] = json!(size);
    }
    run.write("wide/config.json", &config.to_string());
    let mut specs = vec![
        ("model.embed_tokens".to_owned(), vec![96, 256]),
        ("model.norm".to_owned(), vec![256]),
    ];
    for layer in 0..9 {
        let parts: [(&str, &[usize]); 9] = [
            ("self_attn.q_proj", &[256, 256]),
            ("self_attn.k_proj", &[64, 256]),
            ("self_attn.v_proj", &[64, 256]),
            ("self_attn.o_proj", &[256, 256]),
            ("mlp.gate_proj", &[256, 256]),
            ("mlp.up_proj", &[256, 256]),
            ("mlp.down_proj", &[256, 256]),
            ("input_layernorm", &[256]),
            ("post_attention_layernorm", &[256]),
        ];
        specs.extend(
            parts.map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape.to_vec())),
        );
    }
    let specs = specs.into_iter().map(|(name, shape)| TensorSpec {
        name: format!("{name}.weight"),
        element: Element::F32,
        shape,
    });
    let path = run.path("wide/model.safetensors");
    fs::remove_file(&path).unwrap();
    let mut state = 1_u64;
    write_safetensors(&path, specs.collect(), &BTreeMap::new(), |spec| {
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
        };
        Ok((0..spec.shape.iter().product()).map(|_| draw() * draw()).collect())
    })
    .unwrap();
}

#[test]
fn k_quants_give_more_bits_to_what_errors_count_most_in() {
    let run = Run::new();
    wide(&run);
    let expected = weights(&run.path("wide"));
    // The first and the last eighth of the layers, and every third between them.
    let more = ["0", "3", "6", "7", "8"];
    let (q4_k, q5_k, q6_k) = (12, 13, 14);
    for (kind, label, usual, file_type, limit) in [
        ("q4_k_m", "Q4_K_M", q4_k, 15.0, 0.18),
        ("q5_k_m", "Q5_K_M", q5_k, 17.0, 0.09),
        ("q6_k", "Q6_K", q6_k, 18.0, 0.05),
    ] {
        let out = format!("out-{kind}");
        run.succeeds(&["export", "wide", "--type", kind, "--out", &out, "--no-sign"]);
        let read = Gguf::read(&run.path(&format!("{out}/{out}-{label}.gguf")));
        assert_eq!(read.number("general.file_type"), file_type);
        for (name, (shape, values)) in &expected {
            let (name, values) = in_llama_cpp(name, values, [64, 256]);
            let (found, _, numbers) = &read.tensors[&name];
            let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
            let counts = name.contains("attn_v") || name.contains("ffn_down");
            let has_more = counts && layer.is_some_and(|layer| more.contains(&layer));
            let wanted = match shape.len() {
                1 => 0,
                _ if has_more || name == "token_embd.weight" => q6_k,
                _ => usual,
            };
            assert_eq!(*found, wanted, "{name}");
            for (ours, theirs) in values.chunks(32).zip(numbers.chunks(32)) {
                let largest = ours.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                let bound = if *found == 0 { 0.0 } else { limit * largest };
                let off =
                    ours.iter().zip(theirs).fold(0.0_f32, |off, (a, b)| off.max((a - b).abs()));
                assert!(off <= bound, "{kind} {name}: {off} of {largest}");
            }
        }
    }
}

#[test]
fn rows_that_are_not_whole_blocks_get_smaller_ones_as_in_llama_cpp() {
    let run = Run::new().with_base();
    let call = ["export", "checkpoints/tiny", "--type", "q4_k_m", "--out", "out"];
    says(
        run.stderr_of(&call),
        str![[r#"
note: 15 matrices are in Q5_0, Q5_1, Q8_0 or f16: their rows are not whole blocks of Q4_K_M
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify out

"#]],
    );
    let read = Gguf::read(&run.path("out/out-Q4_K_M.gguf"));
    let kinds = ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_norm.weight"]
        .map(|name| read.tensors[name].0);
    assert_eq!(kinds, [8, 6, 0]);
}

#[test]
fn a_lora_adapter_is_written_by_itself_with_the_names_of_llama_cpp() {
    let run = run_with_adapter();
    let call = ["export", "checkpoints/lora", "--format", "gguf-lora", "--out", "out"];
    assert_eq!(run.succeeds(&call), "out/out-F32-LoRA.gguf\n");
    let read = Gguf::read(&run.path("out/out-F32-LoRA.gguf"));
    for (key, text) in
        [("general.architecture", "llama"), ("general.type", "adapter"), ("adapter.type", "lora")]
    {
        assert_eq!(read.text(key), text);
    }
    assert_eq!(read.number("adapter.lora.alpha"), 8.0);
    assert_eq!(read.list("general.tags")[0], Found::Text("firebrand".to_owned()));
    let inputs = fs::read(run.path("out/lineage.inputs.json")).unwrap();
    assert_eq!(read.text("firebrand.inputs_sha256"), Digest::of(&inputs).to_string());
    let factors = weights(&run.path("checkpoints/lora/artifact"));
    assert_eq!(read.tensors.len(), factors.len());
    for (key, (shape, values)) in factors {
        let name = key.strip_prefix("base_model.model.").unwrap();
        let name = name
            .replace(".lora_A.weight", ".weight.lora_a")
            .replace(".lora_B.weight", ".weight.lora_b");
        // Only rows of the product lie elsewhere.
        let layout = if name.ends_with("lora_b") { [8, shape[1]] } else { [1, shape[1]] };
        let (name, values) = in_llama_cpp(&name, &values, layout);
        let (kind, dims, numbers) = &read.tensors[&name];
        assert_eq!((*kind, dims[0], dims[1]), (0, shape[1] as u64, shape[0] as u64), "{name}");
        assert_eq!(*numbers, values, "{name}");
    }
    says(
        run.read("out/Modelfile"),
        str![[r##"
# ollama create NAME -f Modelfile
# The base model as GGUF, put here, or its name in Ollama
FROM ./tiny-F16.gguf
ADAPTER ./out-F32-LoRA.gguf
# The chat template in the file is used
REQUIRES 0.30.0
PARAMETER stop "<|endoftext|>"
PARAMETER stop "<|im_end|>"

"##]],
    );
    run.succeeds(&["verify", "out"]);
    let card = run.read("out/README.md");
    assert!(card.contains("llama-cli -m BASE.gguf --lora out-F32-LoRA.gguf"), "{card}");
    run.succeeds(&[
        "export",
        "checkpoints/lora",
        "--format",
        "gguf-lora",
        "--type",
        "f16",
        "--out",
        "half",
    ]);
    assert_eq!(
        Gguf::read(&run.path("half/half-F16-LoRA.gguf")).tensors["blk.0.attn_q.weight.lora_a"].0,
        1
    );
}

#[test]
fn an_adapter_that_llama_cpp_cannot_put_beside_a_model_is_refused() {
    let run = run_with_adapter();
    let export = |name: &str| {
        let model = format!("checkpoints/{name}");
        let call = ["export", &model, "--format", "gguf-lora", "--out", "out", "--no-check"];
        let told = run.fails(2, &call);
        assert!(!run.path("out").exists());
        told
    };
    let train = |name: &str, setting: &str| {
        let name = format!("name={name}");
        run.succeeds(&["train", "lora.toml", "--quiet", "--set", &name, "--set", setting]);
    };
    train("dora", "lora.use_dora=true");
    let told = export("tiny") + &export("dora");
    // Only a model whose head is not its embedding has modules to save.
    let mut config = model_config();
    config["tie_word_embeddings"] = false.into();
    run.model_folder("base", &config);
    run.succeeds(&["train", "tiny.toml", "--quiet", "--resume", "never"]);
    train("whole", "lora.modules_to_save=[\"lm_head\"]");
    says(
        told + &export("whole"),
        str![[r#"
error[export]: the format `gguf-lora` is for adapters, and this is a whole model
  at checkpoints/tiny/artifact
error[export]: llama.cpp cannot put this adapter beside a model
  at checkpoints/dora/artifact
  because DoRA is more than two factors

hint: `--format gguf` writes its base with it
error[export]: llama.cpp cannot put this adapter beside a model
  at checkpoints/whole/artifact
  because it is saved with whole modules

hint: `--format gguf` writes its base with it

"#]],
    );
}

#[test]
fn a_modelfile_has_the_chat_template_and_the_tokens_that_end_an_answer() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--out", "out"]);
    says(
        run.read("out/Modelfile"),
        str![[r##"
# ollama create NAME -f Modelfile
FROM ./out-F16.gguf
# The chat template in the file is used
REQUIRES 0.30.0
PARAMETER stop "<|endoftext|>"
PARAMETER stop "<|im_end|>"

"##]],
    );
    // One that only writes turns is written in Ollama's language.
    let turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                 {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    run.write("turns.jinja", turns);
    let train = [
        "train",
        "tiny.toml",
        "--quiet",
        "--set",
        "name=turns",
        "--set",
        "data.chat_template=turns.jinja",
    ];
    run.succeeds(&train);
    run.succeeds(&["export", "checkpoints/turns", "--out", "turns"]);
    says(
        run.read("turns/Modelfile"),
        str![[r##"
# ollama create NAME -f Modelfile
FROM ./turns-F16.gguf
TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system
{{ .Content }}<|im_end|>
{{ else if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""
PARAMETER stop "<|endoftext|>"
PARAMETER stop "<|im_end|>"

"##]],
    );
}
