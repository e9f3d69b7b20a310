//! GGUF files: every number of a model at its place, and what the file says of itself.

use super::*;
use firebrand::weights::ggml::TensorType;

/// A value in the head of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Text(String),
    Number(f64),
    List(Vec<Found>),
}

/// A GGUF file, read as `docs/gguf.md` of ggml has it.
pub struct Gguf {
    keys: BTreeMap<String, Found>,
    /// Type, dimensions (innermost first) and values.
    pub tensors: BTreeMap<String, (u32, Vec<u64>, Vec<f32>)>,
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
    pub fn read(path: &Path) -> Self {
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

    pub fn number(&self, key: &str) -> f64 {
        match &self.keys[key] {
            Found::Number(number) => *number,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub fn text(&self, key: &str) -> &str {
        match &self.keys[key] {
            Found::Text(text) => text,
            other => panic!("{key} is {other:?}"),
        }
    }

    pub fn list(&self, key: &str) -> &[Found] {
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
        other => {
            let kind = TensorType::find(other).expect("a known type");
            let size = count / kind.block * kind.bytes;
            (kind.values(&bytes[..size]), size)
        }
    }
}

/// Names in llama.cpp of what our small models have, and how the rows of q and k lie there.
/// (`[rows of a head, numbers of a row]`).
pub fn in_llama_cpp(name: &str, values: &[f32], layout: [usize; 2]) -> (String, Vec<f32>) {
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
    if layout[0] == 1 || !name.contains("attn_q") && !name.contains("attn_k") {
        return (name, values.to_vec());
    }
    (name, values.to_vec()).turned(layout)
}

trait Turned {
    fn turned(self, layout: [usize; 2]) -> (String, Vec<f32>);
}

impl Turned for (String, Vec<f32>) {
    /// Row `r` of a head comes to lie at `2r`, or at `2(r − head/2) + 1` from the second half.
    fn turned(self, [head, width]: [usize; 2]) -> (String, Vec<f32>) {
        let (name, values) = self;
        // Biases have rows of one number.
        let width = if name.ends_with(".bias") { 1 } else { width };
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
            let (name, values) = in_llama_cpp(name, values, [8, 32]);
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
            let (name, values) = in_llama_cpp(&name, &values, [head, 32]);
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
    fails(1, &[], "the model is not the one that was signed");
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
    run.fails_with(
        2,
        &["export", "large", "--out", "out"],
        str![[r#"
error[export]: `lm_head.weight` cannot be written in this type
  because one of its weights is 70000

hint: `--type bf16` and `--type f32` have room for every finite number

"#]],
    );
    assert!(!run.path("out").exists());
    run.succeeds(&["export", "large", "--out", "out", "--type", "q8_0"]);
    run.fails_with(
        2,
        &lora,
        str![[r#"
error[exists]: refusing to replace what is already there
  at out

"#]],
    );
}
