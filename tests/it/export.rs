//! What a finished model is turned into: a whole model, a GGUF file, a bill of materials. Files are
//! read back by a small reader of our own; `tests/reference/gguf_check.py` asks llama.cpp itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::{Run, case, cpu, repository};
use firebrand::files::Digest;
use firebrand::weights::{Element, TensorSpec, read_tensors, to_f32, write_safetensors};
use half::{bf16, f16};
use serde_json::{Value, json};

/// A value in the head of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Text(String),
    Number(f64),
    List(Vec<Found>),
}

/// A GGUF file, read as `docs/gguf.md` of ggml has it.
struct Gguf {
    keys: BTreeMap<String, Found>,
    /// Type, dimensions (innermost first) and values.
    tensors: BTreeMap<String, (u32, Vec<u64>, Vec<f32>)>,
}

struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.at += N;
        self.bytes[self.at - N..self.at].try_into().unwrap()
    }

    fn size(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn text(&mut self) -> String {
        let length = self.size() as usize;
        self.at += length;
        String::from_utf8(self.bytes[self.at - length..self.at].to_vec()).unwrap()
    }

    fn value(&mut self, kind: u32) -> Found {
        match kind {
            4 => Found::Number(f64::from(self.word())),
            5 => Found::Number(f64::from(i32::from_le_bytes(self.take()))),
            6 => Found::Number(f64::from(f32::from_le_bytes(self.take()))),
            7 => Found::Number(f64::from(self.take::<1>()[0])),
            8 => Found::Text(self.text()),
            9 => {
                let (kind, length) = (self.word(), self.size());
                Found::List((0..length).map(|_| self.value(kind)).collect())
            }
            other => panic!("a value of type {other}"),
        }
    }
}

impl Gguf {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let mut head = Bytes { bytes: &bytes, at: 0 };
        assert_eq!(&head.take::<4>(), b"GGUF");
        assert_eq!(head.word(), 3);
        let (tensors, keys) = (head.size(), head.size());
        let mut read = BTreeMap::new();
        for _ in 0..keys {
            let (key, kind) = (head.text(), head.word());
            let value = head.value(kind);
            assert!(read.insert(key.clone(), value).is_none(), "{key} stands twice");
        }
        let infos: Vec<_> = (0..tensors)
            .map(|_| {
                let (name, dimensions) = (head.text(), head.word());
                let shape: Vec<u64> = (0..dimensions).map(|_| head.size()).collect();
                (name, shape, head.word(), head.size())
            })
            .collect();
        let begin = head.at.next_multiple_of(32);
        let mut end = begin;
        let mut all = BTreeMap::new();
        for (name, shape, kind, offset) in infos {
            assert_eq!(offset % 32, 0, "{name} is not aligned");
            let from = begin + offset as usize;
            assert_eq!(from, end.next_multiple_of(32), "{name} leaves a hole");
            let count = shape.iter().product::<u64>() as usize;
            let (values, size) = numbers(kind, &bytes[from..], count);
            end = from + size;
            assert!(all.insert(name, (kind, shape, values)).is_none());
        }
        assert_eq!(bytes.len(), end.next_multiple_of(32), "something follows the tensors");
        Self { keys: read, tensors: all }
    }

    fn number(&self, key: &str) -> f64 {
        match &self.keys[key] {
            Found::Number(number) => *number,
            other => panic!("{key} is {other:?}"),
        }
    }

    fn text(&self, key: &str) -> &str {
        match &self.keys[key] {
            Found::Text(text) => text,
            other => panic!("{key} is {other:?}"),
        }
    }

    fn list(&self, key: &str) -> &[Found] {
        match &self.keys[key] {
            Found::List(list) => list,
            other => panic!("{key} is {other:?}"),
        }
    }
}

fn numbers(kind: u32, bytes: &[u8], count: usize) -> (Vec<f32>, usize) {
    let pairs = || bytes.chunks_exact(2).take(count).map(|b| [b[0], b[1]]);
    match kind {
        0 => (to_f32(Element::F32, &bytes[..4 * count]), 4 * count),
        1 => (pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(), 2 * count),
        30 => (pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(), 2 * count),
        8 => {
            let blocks = bytes.chunks_exact(34).take(count / 32);
            let of_block = |block: &[u8]| -> Vec<f32> {
                let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                block[2..].iter().map(|byte| scale * f32::from(*byte as i8)).collect()
            };
            (blocks.flat_map(of_block).collect(), count / 32 * 34)
        }
        other => panic!("a tensor of type {other}"),
    }
}

/// All tensors of a model directory in f32.
fn weights(directory: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".safetensors") {
            for (name, tensor) in read_tensors(directory, &name).unwrap().0 {
                all.insert(name, (tensor.shape, to_f32(tensor.element, &tensor.bytes)));
            }
        }
    }
    all
}

/// The weights of a base with an adapter added, computed the plain way.
fn adapted(base: &Path, adapter: &Path, scale: f64) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = weights(base);
    let factors = weights(adapter);
    for (key, (shape, a)) in &factors {
        let Some(name) = key.strip_suffix(".lora_A.weight") else { continue };
        let (_, b) = &factors[&format!("{name}.lora_B.weight")];
        let name = format!("{}.weight", name.strip_prefix("base_model.model.").unwrap());
        let (rank, inputs) = (shape[0], shape[1]);
        let (_, values) = all.get_mut(&name).unwrap();
        for (index, value) in values.iter_mut().enumerate() {
            let (row, column) = (index / inputs, index % inputs);
            let product =
                |k: usize| f64::from(b[row * rank + k]) * f64::from(a[k * inputs + column]);
            *value = (f64::from(*value) + scale * (0..rank).map(product).sum::<f64>()) as f32;
        }
    }
    all
}

/// Names in llama.cpp of what our small models have, and how the rows of q and k lie there.
fn in_llama_cpp(name: &str, values: &[f32], head: usize) -> (String, Vec<f32>) {
    let fixed = [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
    ];
    if let Some((_, theirs)) = fixed.iter().find(|(ours, _)| *ours == name) {
        return ((*theirs).to_owned(), values.to_vec());
    }
    let name = name.replace("model.layers.", "blk.");
    let name = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ]
    .iter()
    .fold(name, |name, (ours, theirs)| name.replace(ours, theirs));
    if !name.contains("attn_q") && !name.contains("attn_k") {
        return (name, values.to_vec());
    }
    (name, values.to_vec()).turned(head)
}

trait Turned {
    fn turned(self, head: usize) -> (String, Vec<f32>);
}

impl Turned for (String, Vec<f32>) {
    /// Row `r` of a head comes to lie at `2r`, or at `2(r − head/2) + 1` from the second half.
    fn turned(self, head: usize) -> (String, Vec<f32>) {
        let (name, values) = self;
        // Biases have rows of one number; weights of the small models 32.
        let width = if name.ends_with(".bias") { 1 } else { 32 };
        let mut turned = vec![0.0; values.len()];
        for (row, numbers) in values.chunks_exact(width).enumerate() {
            let (which, inside) = (row / head, row % head);
            let half = head / 2;
            let place = if inside < half { 2 * inside } else { 2 * (inside - half) + 1 };
            let to = (which * head + place) * width;
            turned[to..to + width].copy_from_slice(numbers);
        }
        (name, turned)
    }
}

/// A base in f32, and an adapter for it that changes much.
fn run_with_adapter() -> Run {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "train.learning_rate=0.05"]);
    run
}

/// One of the models of transformers, with a tokenizer that fits it.
fn foreign(run: &Run, name: &str, folder: &str) {
    fs::create_dir(run.path(folder)).unwrap();
    for entry in fs::read_dir(case(name)).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains("expected") {
            fs::copy(&path, run.path(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    let vocab: serde_json::Map<String, Value> =
        (0..90_u8).map(|number| (char::from(b'!' + number).to_string(), json!(number))).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [{"id": 95, "content": "<|end|>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    run.write(&format!("{folder}/tokenizer.json"), &tokenizer.to_string());
    run.write(&format!("{folder}/tokenizer_config.json"), r#"{"eos_token": "<|end|>"}"#);
}

#[test]
fn an_adapter_becomes_a_gguf_of_its_base_with_it() {
    let run = run_with_adapter();
    let expected = adapted(
        &run.path("checkpoints/tiny/artifact"),
        &run.path("checkpoints/lora/artifact"),
        2.0, // lora_alpha 8 over r 4
    );
    for (kind, label, number, file_type, limit) in [
        ("f32", "F32", 0, 0.0, 0.0),
        ("f16", "F16", 1, 1.0, 1.0 / 2048.0),
        ("bf16", "BF16", 30, 32.0, 1.0 / 256.0),
        ("q8_0", "Q8_0", 8, 7.0, 1.0 / 127.0 / 2.0 + 1e-3),
    ] {
        let file = format!("out-{kind}/out-{kind}-{label}.gguf");
        let out = format!("out-{kind}");
        let export = ["export", "checkpoints/lora", "--type", kind, "--out", &out];
        assert_eq!(run.succeeds(&export), format!("{file}\n"));
        let read = Gguf::read(&run.path(&file));
        assert_eq!(read.number("general.file_type"), file_type);
        assert_eq!(read.tensors.len(), expected.len());
        for (name, (shape, values)) in &expected {
            let (name, values) = in_llama_cpp(name, values, 8);
            let (found, dims, numbers) = &read.tensors[&name];
            assert_eq!(*found, if shape.len() == 1 { 0 } else { number }, "{name}");
            assert!(
                dims.iter().rev().eq(shape
                    .iter()
                    .map(|size| *size as u64)
                    .collect::<Vec<_>>()
                    .iter())
            );
            for (row, (ours, theirs)) in values.chunks(32).zip(numbers.chunks(32)).enumerate() {
                let largest = ours.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                for (ours, theirs) in ours.iter().zip(theirs) {
                    let bound = if *found == 0 { 0.0 } else { limit * largest };
                    assert!((ours - theirs).abs() <= bound, "{kind} {name} {row}: {ours} {theirs}");
                }
            }
        }
        run.succeeds(&["verify", &out]);
    }
}

#[test]
fn a_gguf_says_what_it_is_and_where_it_comes_from() {
    let run = run_with_adapter();
    run.succeeds(&["export", "checkpoints/lora", "--out", "out"]);
    let read = Gguf::read(&run.path("out/out-F16.gguf"));
    for (key, value) in [
        ("vocab_size", 512.0),
        ("context_length", 256.0),
        ("embedding_length", 32.0),
        ("block_count", 2.0),
        ("feed_forward_length", 64.0),
        ("attention.head_count", 4.0),
        ("attention.head_count_kv", 2.0),
        ("attention.key_length", 8.0),
        ("rope.dimension_count", 8.0),
        ("rope.freq_base", 10000.0),
    ] {
        assert_eq!(read.number(&format!("llama.{key}")), value, "{key}");
    }
    assert_eq!(read.text("general.architecture"), "llama");
    assert_eq!(read.text("general.name"), "out");
    assert_eq!(read.text("general.base_model.0.name"), "checkpoints/tiny/artifact");
    assert_eq!(read.text("general.base_model.1.name"), "checkpoints/lora/artifact");
    assert_eq!(read.text("general.dataset.0.name"), "data.jsonl");
    let inputs = fs::read(run.path("out/lineage.inputs.json")).unwrap();
    assert_eq!(read.text("firebrand.inputs_sha256"), Digest::of(&inputs).to_string());
    // The tokenizer: 362 tokens in a table of 512 rows.
    let tokens = read.list("tokenizer.ggml.tokens");
    assert_eq!((tokens.len(), &tokens[511]), (512, &Found::Text("[PAD511]".to_owned())));
    let kinds = read.list("tokenizer.ggml.token_type");
    assert_eq!(kinds[511], Found::Number(5.0));
    assert_eq!((&tokens[2], &kinds[2]), (&Found::Text("<|im_end|>".into()), &Found::Number(3.0)));
    assert_eq!(read.text("tokenizer.ggml.model"), "gpt2");
    assert_eq!(read.text("tokenizer.ggml.pre"), "gpt-2");
    assert_eq!(read.list("tokenizer.ggml.merges")[0], Found::Text("Ġ t".to_owned()));
    for (key, value) in [("bos", 3.0), ("eos", 0.0), ("eot", 2.0), ("padding", 4.0)] {
        assert_eq!(read.number(&format!("tokenizer.ggml.{key}_token_id")), value, "{key}");
    }
    assert_eq!(read.number("tokenizer.ggml.add_bos_token"), 0.0);
    let template = run.read("base/chat_template.jinja");
    assert_eq!(read.text("tokenizer.chat_template"), template);
    // The family: the export, the adapter, its base.
    let tree: Value = serde_json::from_str(&run.succeeds(&["lineage", "out", "--json"])).unwrap();
    assert_eq!(tree["method"], "export");
    assert_eq!(tree["overrides"]["export.type"], "f16");
    let adapter = &tree["parent"]["family"];
    assert_eq!((&adapter["method"], &adapter["signature"]), (&json!("lora"), &json!("verified")));
    assert_eq!(adapter["parent"]["family"]["method"], "from-random-weights");
}

#[test]
fn equal_models_give_equal_files() {
    let run = run_with_adapter();
    fs::create_dir(run.path("again")).unwrap();
    for folder in ["out", "again/out"] {
        run.succeeds(&["export", "checkpoints/lora", "--type", "q8_0", "--out", folder]);
    }
    let file = |folder: &str| fs::read(run.path(folder).join("out-Q8_0.gguf")).unwrap();
    assert!(file("out") == file("again/out"));
}

/// As `LlamaModel.generate_extra_tensors` of llama.cpp's converter has it.
fn divisor(rope: &Value, plane: usize, head: usize) -> f64 {
    let number = |key: &str| rope[key].as_f64().unwrap();
    let exponent = 2.0 * plane as f64 / head as f64;
    let wavelength = 2.0 * std::f64::consts::PI * number("rope_theta").powf(exponent);
    let (factor, original) = (number("factor"), number("original_max_position_embeddings"));
    let (low, high) = (number("low_freq_factor"), number("high_freq_factor"));
    if wavelength < original / high {
        1.0
    } else if wavelength > original / low {
        factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}

#[test]
fn every_shape_of_model_has_its_place() {
    let run = Run::new();
    for name in
        ["llama3-scaling", "linear-scaling", "biases", "head-dim", "bf16-sharded", "mha-untied"]
    {
        foreign(&run, name, name);
        let out = format!("{name}-gguf");
        run.succeeds(&["export", name, "--type", "f32", "--out", &out, "--no-sign"]);
        let read = Gguf::read(&run.path(&format!("{out}/{out}-F32.gguf")));
        let head = read.number("llama.rope.dimension_count") as usize;
        let mut named = 0;
        for (name, (_, values)) in weights(&run.path(name)) {
            let (name, values) = in_llama_cpp(&name, &values, head);
            let (_, _, numbers) = &read.tensors[&name];
            assert!(
                numbers.iter().map(|n| n.to_bits()).eq(values.iter().map(|n| n.to_bits())),
                "{name}"
            );
            named += 1;
        }
        let factors = read.tensors.get("rope_freqs.weight");
        assert_eq!(read.tensors.len(), named + usize::from(factors.is_some()));
        assert_eq!(factors.is_some(), ["llama3-scaling", "classic-rope"].contains(&name));
        if let Some((kind, _, factors)) = factors {
            assert_eq!((*kind, factors.len()), (0, head / 2));
            let config: Value =
                serde_json::from_str(&run.read(&format!("{name}/config.json"))).unwrap();
            for (plane, found) in factors.iter().enumerate() {
                let wanted = divisor(&config["rope_parameters"], plane, head);
                assert!((f64::from(*found) - wanted).abs() < 1e-5 * wanted, "{found} {wanted}");
            }
        }
        if name == "linear-scaling" {
            assert_eq!(read.text("llama.rope.scaling.type"), "linear");
        }
        assert_eq!(read.keys.contains_key("llama.rope.scaling.factor"), name == "linear-scaling");
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_nothing_is_left() {
    let run = run_with_adapter();
    let lora = ["export", "checkpoints/lora", "--out", "out"];
    let fails = |code: i32, more: &[&str], part: &str| {
        let stderr = run.fails(code, &[&lora, more].concat());
        assert!(stderr.contains(part), "{stderr}");
        assert!(!run.path("out").exists() && !run.path("out.sigstore.jsonl").exists());
        let names = fs::read_dir(run.path(".")).unwrap();
        let left = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| name.starts_with(".tmp")).count(), 0);
    };
    fails(2, &["--format", "onnx"], "there is no format `onnx`");
    fails(2, &["--type", "q4_k"], "the format `gguf` has no type `q4_k`");
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=7"]);
    fails(1, &["--base", "checkpoints/other"], "is not the base model that the adapter");
    let path = "checkpoints/lora/artifact/tokenizer.json";
    let text = run.read(path);
    run.write(
        path,
        &text
            .replace("\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}")
            .replace("\"normalizer\": null", "\"normalizer\": {\"type\": \"Lowercase\"}"),
    );
    fails(1, &[], "the model is not what was signed");
    fs::remove_file(run.path("checkpoints/lora/artifact/model.sig")).unwrap();
    fails(2, &[], "its normalizer changes the text");
    // A weight that f16 has no number for.
    foreign(&run, "mha-untied", "large");
    let (mut tensors, _) = read_tensors(&run.path("large"), "model.safetensors").unwrap();
    let name = "lm_head.weight";
    tensors.get_mut(name).unwrap().bytes[..4].copy_from_slice(&70000.0_f32.to_le_bytes());
    let specs = tensors.iter().map(|(name, tensor)| TensorSpec {
        name: name.clone(),
        element: tensor.element,
        shape: tensor.shape.clone(),
    });
    let path = run.path("large/model.safetensors");
    fs::remove_file(&path).unwrap();
    write_safetensors(&path, specs.collect(), &BTreeMap::new(), |spec| {
        Ok(to_f32(spec.element, &tensors[&spec.name].bytes))
    })
    .unwrap();
    let stderr = run.fails(2, &["export", "large", "--out", "out"]);
    assert!(stderr.contains("one of its weights is 70000"), "{stderr}");
    assert!(!run.path("out").exists());
    run.succeeds(&["export", "large", "--out", "out", "--type", "q8_0"]);
    assert!(run.fails(2, &lora).contains("refusing to replace"));
}

#[test]
fn merges_and_exports_are_signed_by_whom_the_user_wants() {
    let run = run_with_adapter();
    run.succeeds(&["keygen", "release.pem"]);
    for (command, out) in [("merge", "one"), ("export", "two")] {
        let make = [command, "checkpoints/lora", "--out", out, "--key", "release.pem"];
        run.succeeds(&make);
        run.succeeds(&["verify", out, "--key", "release.pub.pem"]);
        let out = format!("{out}-unsigned");
        run.succeeds(&[command, "checkpoints/lora", "--out", &out, "--no-sign"]);
        assert!(!run.path(&out).join("model.sig").exists());
        // A program that does not sign: nothing is made.
        let out = format!("{out}-not");
        let make = [command, "checkpoints/lora", "--out", &out, "--signer", "false"];
        let stderr = run.fails(2, &[&make[..], &["--public-key", "release.pub.pem"]].concat());
        assert!(stderr.contains("`false`, which should sign"), "{stderr}");
        assert!(!run.path(&out).exists());
    }
}

#[test]
fn generation_ends_where_answers_were_trained_to_end() {
    let run = Run::new();
    // The base ends at another token than the turns that it is trained on.
    let named = json!({"bos_token_id": 3, "eos_token_id": 0, "top_p": 0.5});
    run.write("base/generation_config.json", &named.to_string());
    let run = run.with_base();
    let config = |folder: &str| -> Value {
        serde_json::from_str(&run.read(&format!("{folder}/generation_config.json"))).unwrap()
    };
    let expected = json!({"bos_token_id": 3, "eos_token_id": [0, 2], "top_p": 0.5});
    assert_eq!(config("checkpoints/tiny/artifact"), expected);
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--no-check"]);
    // The adapter says it too, and whoever names it already is left as it is.
    let text = run.read("checkpoints/tiny/artifact/generation_config.json");
    for folder in ["checkpoints/lora/artifact", "merged"] {
        assert_eq!(run.read(&format!("{folder}/generation_config.json")), text, "{folder}");
    }
    run.succeeds(&["verify", "merged", "--key", "settings/firebrand/signing.pub.pem"]);

    // An adapter for a base that does not, whose merge is another than the base as well.
    let run = Run::new().with_base();
    let path = "checkpoints/tiny/artifact/generation_config.json";
    assert_eq!(run.read(path), "{\n  \"eos_token_id\": 2\n}\n");
    fs::create_dir(run.path("own")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let from = run.path("checkpoints/tiny/artifact").join(name);
        fs::copy(from, run.path("own").join(name)).unwrap();
    }
    run.write("own/generation_config.json", r#"{"eos_token_id": [0]}"#);
    // Its templates have names.
    let template = run.read("base/chat_template.jinja");
    fs::create_dir(run.path("own/additional_chat_templates")).unwrap();
    run.write("own/additional_chat_templates/tool_use.jinja", &template);
    run.write("own/chat_template.jinja", &template);
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "model.base=own"]);
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--no-check"]);
    for folder in ["checkpoints/lora/artifact", "merged"] {
        let stops: Value =
            serde_json::from_str(&run.read(&format!("{folder}/generation_config.json"))).unwrap();
        assert_eq!(stops["eos_token_id"], json!([0, 2]), "{folder}");
        let named = format!("{folder}/additional_chat_templates/tool_use.jinja");
        assert_eq!(run.read(&named), template);
    }
    let lineage = run.read("checkpoints/lora/artifact/lineage.inputs.json");
    assert!(lineage.contains("own/additional_chat_templates/tool_use.jinja"), "{lineage}");
    // A template that is given takes the place of all.
    run.write("given.jinja", &template);
    let given = ["--set", "model.base=own", "--set", "data.chat_template=given.jinja"];
    run.succeeds(&[&["train", "lora.toml", "--quiet", "--resume", "never"], &given[..]].concat());
    let folder = run.path("checkpoints/lora/artifact/additional_chat_templates");
    assert!(!folder.exists(), "transformers would take it for records with tools");
}

/// The number behind a text in what a command said.
fn number_after(stderr: &str, text: &str) -> f64 {
    let (_, rest) = stderr.split_once(text).unwrap_or_else(|| panic!("{text}\n{stderr}"));
    let end = rest.find(|c: char| !c.is_ascii_digit() && !"e.-".contains(c)).unwrap();
    rest[..end].trim_end_matches('.').parse().unwrap()
}

/// Logits of a model for a prompt of its run, by the model's own functions.
fn logits(model: &firebrand::model::Model, codec: &Path, prompt: &str) -> Vec<f32> {
    use firebrand::model::PassContext;
    use firebrand::ops::{host, indices};
    let tokens = firebrand::data::Codec::load(codec, None).unwrap().prompt(prompt).unwrap();
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    let (length, device) = (tokens.len(), &model.device);
    let ones = vec![1; length];
    let context = PassContext::packed(1, length, &positions, &ones, &model.frequencies, device);
    host(model.logits(model.hidden(indices(tokens.into_iter(), device), &context)))
}

#[test]
fn a_merge_tells_how_far_it_is_from_its_adapter() {
    use firebrand::artifact::open::open;
    use firebrand::model::{Init, load};
    let run = run_with_adapter();
    let merge = |out: &str, more: &[&str]| {
        let all = [&["merge", "checkpoints/lora", "--out", out], more].concat();
        let output = run.command(&all).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        stderr
    };
    let told = merge("merged", &[]);
    let told = number_after(&told, "largest difference of a logit ");
    // The same, computed here.
    let supply = firebrand::train::Access::default().supply(Default::default()).unwrap();
    let adapter = run.path("checkpoints/lora").display().to_string();
    let base = run.path("checkpoints/tiny").display().to_string();
    let adapter = open(&adapter, Some(&base), &cpu(), &supply).unwrap();
    let prompt = "What is 3 plus 4?";
    let difference = || {
        let merged = load(&run.path("merged"), Init::Pretrained, &cpu()).unwrap();
        let [one, other] =
            [&adapter.model, &merged.model].map(|m| logits(m, &adapter.codec, prompt));
        let pairs = one.iter().zip(&other);
        pairs.fold(0.0_f64, |max, (a, b)| max.max(f64::from((a - b).abs())))
    };
    let found = difference();
    assert!((found - told).abs() <= 1e-3 * told, "{found} is not the {told} that was told");
    assert!(found > 0.0, "bf16 cannot hold the sum exactly");
    // It stands in the card and in the lineage, and another model is further away.
    assert!(run.read("merged/README.md").contains("| largest difference of a logit |"));
    let statement: Value =
        serde_json::from_str(&run.read("merged/lineage.statement.json")).unwrap();
    let notes = &statement["predicate"]["runDetails"]["byproducts"][0]["annotations"];
    let noted = notes["adapter_logit_difference"].as_f64().unwrap();
    assert!((noted - found).abs() <= 1e-6 * found, "{noted} {found}");
    let path = run.path("merged/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x04; // the exponent of one weight
    fs::write(&path, bytes).unwrap();
    assert!(difference() > 10.0 * found, "{} and {found}", difference());

    let told = merge("unchecked", &["--no-check"]);
    assert!(told.contains("not compared with the adapter (`--no-check`)"), "{told}");
    assert!(!run.read("unchecked/README.md").contains("largest difference"));
    // Without prompts, on tokens drawn at random.
    run.succeeds(&[
        "train",
        "lora.toml",
        "--quiet",
        "--set",
        "name=mute",
        "--set",
        "eval.prompts=[]",
    ]);
    let output = run.command(&["merge", "checkpoints/mute", "--out", "mute"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("4 rows of 32 tokens drawn from the vocabulary with seed 0"), "{told}");
}

#[test]
fn a_base_in_f32_loses_nothing_but_the_last_bits() {
    let run = Run::new();
    run.write("base/config.json", &{
        let mut config = crate::common::model_config();
        config["dtype"] = json!("float32");
        config.to_string()
    });
    let run = run.with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "train.learning_rate=0.05"]);
    let output = run.command(&["merge", "checkpoints/lora", "--out", "merged"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let difference = number_after(&stderr, "largest difference of a logit ");
    let largest = number_after(&stderr, "(largest logit ");
    assert!(difference <= 1e-5 * largest, "{stderr}");
    let expected = adapted(
        &run.path("checkpoints/tiny/artifact"),
        &run.path("checkpoints/lora/artifact"),
        2.0,
    );
    let merged = weights(&run.path("merged"));
    assert!(merged == expected, "rounded once, from f64 to f32");
    // Metadata of the base tells of the base alone.
    let header = fs::read(run.path("merged/model.safetensors")).unwrap();
    let size = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&header[8..8 + size]).unwrap();
    assert_eq!(header["__metadata__"], json!({"format": "pt"}));
}

#[test]
fn a_bill_of_materials_is_part_of_what_is_signed() {
    let run = Run::new().with_base();
    let train = ["train", "lora.toml", "--quiet", "--set", "output.sbom=true"];
    run.succeeds(&[&train[..], &["--set", "output.license=MIT OR Apache-2.0"]].concat());
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--sbom"]);
    run.succeeds(&["export", "checkpoints/lora", "--out", "file", "--sbom"]);
    for (folder, weights) in [
        ("checkpoints/lora/artifact", "adapter_model.safetensors"),
        ("merged", "model.safetensors"),
        ("file", "file-F16.gguf"),
    ] {
        run.succeeds(&["verify", folder]);
        let signature = run.read(&format!("{folder}/model.sig"));
        let statement = run.read(&format!("{folder}/lineage.statement.json"));
        assert!(statement.contains("bom.cdx.json") && !signature.is_empty());
        let bom: Value =
            serde_json::from_str(&run.read(&format!("{folder}/bom.cdx.json"))).unwrap();
        let model = &bom["metadata"]["component"];
        let digest = Digest::of(&fs::read(run.path(folder).join(weights)).unwrap()).to_string();
        assert_eq!(model["hashes"][0]["content"], digest, "{folder}");
        assert_eq!(model["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let statement: Value = serde_json::from_str(&statement).unwrap();
        let finished = &statement["predicate"]["runDetails"]["metadata"]["finishedOn"];
        assert_eq!(bom["metadata"]["timestamp"], *finished);
        // Data and base have the digests of the lineage.
        let data = &bom["components"][0]["hashes"][0]["content"];
        assert_eq!(*data, Digest::of(run.read("data.jsonl").as_bytes()).to_string());
        let base = model["pedigree"]["ancestors"][0]["components"].as_array().unwrap();
        let base_weights =
            fs::read(run.path("checkpoints/tiny/artifact/model.safetensors")).unwrap();
        let digest = Digest::of(&base_weights).to_string();
        assert!(base.iter().any(|file| file["hashes"][0]["content"] == digest), "{bom:#}");
        let metrics = &model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"];
        assert!(metrics.to_string().contains("eval_loss"), "{metrics}");
    }
    assert!(!run.path("checkpoints/tiny/artifact/bom.cdx.json").exists());
}

#[test]
fn the_family_tree_is_drawn() {
    let run = run_with_adapter();
    run.succeeds(&["export", "checkpoints/lora", "--out", "a<b>&c"]);
    run.succeeds(&["lineage", "a<b>&c", "--picture", "tree.svg"]);
    let svg = run.read("tree.svg");
    for part in [
        "a&lt;b&gt;&amp;c",
        "export; signature verified",
        "lora; signature verified",
        "from-random-weights; signature verified",
        "dataset: data.jsonl",
        "config: lora.toml",
    ] {
        assert!(svg.contains(part), "{part}\n{svg}");
    }
    // Three generations and where the first got its shape; older ones stand above.
    let place = |text: &str| svg.find(text).unwrap();
    assert!(place("from-random-weights;") < place("lora; signature"));
    assert!(place("lora; signature") < place("export; signature"));
    for never in ["<script", "href", "<b>", "url("] {
        assert!(!svg.contains(never), "{never}");
    }
    let reader = closed(&svg);
    assert!(reader.is_ok(), "{reader:?}");
    let stderr = run.fails(2, &["lineage", "a<b>&c", "--picture", "tree.svg"]);
    assert!(stderr.contains("refusing to replace"), "{stderr}");
}

/// Every tag is closed in order, and no text has a mark of XML.
fn closed(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    for piece in text.split('<').skip(1) {
        let (tag, rest) = piece.split_once('>').ok_or("an open tag")?;
        if rest.contains('&') && !rest.contains(';') {
            return Err(format!("a bare `&` in {rest}"));
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("`{name}` is closed and was not open"));
            }
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap_or(tag));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} stay open")) }
}

/// A model with one large file and an adapter for it, both made here.
fn large(run: &Run) -> u64 {
    let (hidden, wide, rows) = (512, 65536, 65536);
    let shapes = [
        ("model.embed_tokens.weight", vec![rows, hidden]),
        ("model.norm.weight", vec![hidden]),
        ("model.layers.0.self_attn.q_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.k_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.v_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.self_attn.o_proj.weight", vec![hidden, hidden]),
        ("model.layers.0.mlp.gate_proj.weight", vec![wide, hidden]),
        ("model.layers.0.mlp.up_proj.weight", vec![wide, hidden]),
        ("model.layers.0.mlp.down_proj.weight", vec![hidden, wide]),
        ("model.layers.0.input_layernorm.weight", vec![hidden]),
        ("model.layers.0.post_attention_layernorm.weight", vec![hidden]),
    ];
    fs::create_dir(run.path("large")).unwrap();
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for (name, shape) in &shapes {
        let end = offset + 2 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]});
        header.insert((*name).to_owned(), entry);
        offset = end;
    }
    let text = Value::Object(header).to_string();
    let path = run.path("large/model.safetensors");
    fs::write(&path, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()).unwrap();
    let size = (8 + text.len() + offset) as u64;
    // Zeros that take no room on the disk.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
    let mut config = crate::common::model_config();
    for (key, value) in [
        ("hidden_size", hidden),
        ("intermediate_size", wide),
        ("vocab_size", rows),
        ("num_hidden_layers", 1),
        ("num_key_value_heads", 4),
    ] {
        config[key] = json!(value);
    }
    run.write("large/config.json", &config.to_string());
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let from = repository("tests/fixtures/tokenizer").join(name);
        fs::copy(from, run.path("large").join(name)).unwrap();
    }
    fs::create_dir(run.path("adapter")).unwrap();
    let spec = |matrix: &str, shape: [usize; 2]| TensorSpec {
        name: format!("base_model.model.model.layers.0.mlp.gate_proj.lora_{matrix}.weight"),
        element: Element::F32,
        shape: shape.to_vec(),
    };
    let specs = vec![spec("A", [1, hidden]), spec("B", [wide, 1])];
    let weights = run.path("adapter/adapter_model.safetensors");
    write_safetensors(&weights, specs, &BTreeMap::new(), |spec| {
        Ok(vec![1.0; spec.shape.iter().product()])
    })
    .unwrap();
    let settings = json!({"peft_type": "LORA", "base_model_name_or_path": "large", "r": 1,
        "lora_alpha": 2, "target_modules": ["gate_proj"]});
    run.write("adapter/adapter_config.json", &settings.to_string());
    size
}

/// What a command's memory came to at most, looked at while it ran.
#[cfg(target_os = "linux")]
fn peak_of(run: &Run, arguments: &[&str]) -> u64 {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_firebrand"))
        .args(arguments)
        .current_dir(run.path("."))
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .env("FIREBRAND_CACHE", run.path("cache"))
        .spawn()
        .unwrap();
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(found.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments:?}");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_never_held_whole() {
    let run = Run::new();
    let size = large(&run);
    let limit = size / 2;
    let merge = ["merge", "adapter", "--out", "merged", "--no-check", "--no-sign"];
    let export = ["export", "adapter", "--out", "file", "--type", "f16", "--no-sign"];
    for arguments in [&merge[..], &export[..]] {
        let peak = peak_of(&run, arguments);
        assert!(peak > 0 && peak < limit, "{arguments:?}: {peak} of {size}");
    }
    let shard = firebrand::weights::ShardStream::open(&run.path("merged"), "model.safetensors");
    let mut shard = shard.unwrap();
    let mut buffer = Vec::new();
    while let Some(place) = shard.begin() {
        let changed = place.name.contains("gate_proj");
        loop {
            let bytes = shard.read(&mut buffer, 1 << 20).unwrap();
            if bytes.is_empty() {
                break;
            }
            // s·B·A = 2·1·1, in bf16.
            let wanted: [u8; 2] = if changed { [0x00, 0x40] } else { [0, 0] };
            assert!(bytes.chunks_exact(2).all(|pair| pair == wanted), "{}", place.name);
        }
    }
}

#[test]
fn a_dora_adapter_is_published_merged_and_used_as_any_other() {
    let run = Run::new().with_base();
    let train = ["train", "lora.toml", "--quiet", "--set", "lora.use_dora=true"];
    run.succeeds(&train);
    let folder = "checkpoints/lora/artifact";
    let config: Value =
        serde_json::from_str(&run.read(&format!("{folder}/adapter_config.json"))).unwrap();
    assert_eq!((&config["peft_type"], &config["use_dora"]), (&json!("LORA"), &json!(true)));
    let magnitudes = weights(&run.path(folder));
    let magnitudes = magnitudes.iter().filter(|(name, _)| name.ends_with(".lora_magnitude_vector"));
    assert_eq!(magnitudes.count(), 2 * 7);
    let card = run.read(&format!("{folder}/README.md"));
    assert!(card.contains("A DoRA adapter for") && card.contains("\n- dora\n"), "{card}");
    let lineage = run.read(&format!("{folder}/lineage.inputs.json"));
    assert!(lineage.contains("\"method\": \"dora\""), "{lineage}");
    run.succeeds(&["verify", folder]);
    let output = run.command(&["merge", "checkpoints/lora", "--out", "merged"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let difference = number_after(&said, "largest difference of a logit ");
    assert!(output.status.success() && difference < 0.2, "bf16 rounds no more than that: {said}");
    assert!(run.read("merged/README.md").contains("A DoRA adapter merged into"));
    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "4", "--temperature", "0"];
    run.succeeds(&[&["generate", "checkpoints/lora"], &prompt[..]].concat());
    run.succeeds(&["export", "checkpoints/lora", "--out", "gguf"]);
    // Without the section it means nothing, and other tools' names are explained.
    let said = run.fails(2, &[&train[..], &["--set", "lora.peft_use_dora=true"]].concat());
    assert!(said.contains("axolotl's name for `lora.use_dora`"), "{said}");
}

#[test]
fn an_adapter_trained_beside_int8_weights_says_so() {
    let run = Run::new().with_base();
    let int8 = ["--set", "model.weight_format=int8"];
    let said = run.fails(2, &[&["plan", "tiny.toml"], &int8[..]].concat());
    assert!(said.contains("without an adapter every weight is trained"), "{said}");
    let output = run.command(&[&["plan", "lora.toml"], &int8[..]].concat()).output().unwrap();
    let plan = String::from_utf8(output.stderr).unwrap();
    assert!(plan.contains("linear layers of the base in int8"), "{plan}");
    let weights = |more: &[&str]| {
        let plan = run.succeeds(&[&["plan", "lora.toml", "--json"], more].concat());
        let plan: Value = serde_json::from_str(&plan).unwrap();
        plan["memory"]["weights"].as_u64().unwrap()
    };
    assert!(weights(&int8) < weights(&[]));
    run.succeeds(&[&["train", "lora.toml", "--quiet"], &int8[..]].concat());
    let lineage: Value =
        serde_json::from_str(&run.read("checkpoints/lora/artifact/lineage.inputs.json")).unwrap();
    let found = &lineage["internalParameters"];
    assert_eq!(found["resolvedConfig"]["model.weight_format"], "int8");
    assert_eq!(found["device"]["frozen weights"], "int8");
    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "2"];
    for command in [
        &[&["generate", "checkpoints/lora"], &prompt[..]].concat()[..],
        &["merge", "checkpoints/lora", "--out", "merged"],
    ] {
        let output = run.command(command).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let beside = said.contains("trained beside weights in int8");
        assert!(output.status.success() && beside, "{command:?}: {said}");
    }
    let card = run.read("merged/README.md");
    assert!(card.contains("| weights beside which the adapter was trained | `int8` |"), "{card}");
    assert!(card.contains("| validation loss of the adapter in training |"), "{card}");
    let said = run.fails(2, &["plan", "lora.toml", "--set", "load_in_8bit=true"]);
    assert!(said.contains("name for `model.weight_format`"), "{said}");
}

/// Its template refuses to write anything without what the run hands to it.
#[test]
fn the_template_arguments_of_a_run_reach_whoever_writes_prompts_with_its_model() {
    let run = Run::new().with_base();
    run.write(
        "tone.jinja",
        "{% if tone is not defined %}{{ raise_exception('there is no tone') }}{% endif %}\
         tone {{ tone }}.{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
         <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    let set = [
        "--set",
        "data.chat_template=\"tone.jinja\"",
        "--set",
        "data.template_args={ tone = \"kind\" }",
        "--set",
        "eval.prompts=[\"What is 3 plus 4?\"]",
    ];
    run.succeeds(&[&["train", "lora.toml", "--quiet"], &set[..]].concat());
    let asked = ["--chat", "--prompt", "What is 3 plus 4?", "--max-tokens", "2"];
    run.succeeds(&[&["generate", "checkpoints/lora"], &asked[..]].concat());
    let output = run.command(&["merge", "checkpoints/lora", "--out", "merged"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("1 of the run's prompts"), "{said}");
    assert!(!said.contains("not measured"), "{said}");
    assert!(run.read("merged/README.md").contains("What is 3 plus 4?"));
    run.succeeds(&[&["generate", "merged"], &asked[..]].concat());
}
