//! What several tests share: reference files, tiny models, run folders, the program itself.

pub mod adapters;
pub mod hub;
#[cfg(unix)]
pub mod machines;
pub mod recipe;
pub mod s3;
#[path = "../../../src/snapshots.rs"]
pub mod snapshots;
pub mod verdict;
pub mod wait;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use firebrand::config::Recompute;
use firebrand::data::{Batch, Target};
use firebrand::engine::{Optimizer, Schedule, Shape, StepSettings, optimizers};
use safetensors::SafeTensors;
use snapbox::data::Inline;

pub use snapshots::{each_says, says};

/// Says past the capture of test output what was not tested, and why.
pub fn say_not_tested(what: &str) {
    let _ = std::io::stderr().write_all(format!("\nNOT TESTED: {what}\n").as_bytes());
}

/// A table whose rows are tests: each has a name, and hands its arguments to the same function.
///
/// ```text
/// cases! { check;
///     file_added: ADDED, |model| model.write("extra.py", "");
/// }
/// ```
macro_rules! cases {
    ($check:path; $($(#[$attribute:meta])* $name:ident: $($argument:expr),+;)+) => {
        $($(#[$attribute])* #[test] fn $name() { $check($($argument),+); })+
    };
}
pub(crate) use cases;

/// This program again, with one test of a module, which is ignored otherwise: `this_test!("child")`.
macro_rules! this_test {
    ($name:literal) => {{
        let module = module_path!().split_once("::").expect("a module of this crate").1;
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("{module}::{}", $name), "--include-ignored"]);
        command
    }};
}
pub(crate) use this_test;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The cases of `tests/reference/tiny`, made by `make_tiny.py` from transformers and PEFT.
pub const CASES: [&str; 8] = [
    "gqa-tied",
    "mha-untied",
    "llama3-scaling",
    "linear-scaling",
    "biases",
    "head-dim",
    "classic-rope",
    "bf16-sharded",
];

pub fn case(name: &str) -> PathBuf {
    repository("tests/reference/tiny").join(name)
}

/// A file of reference tensors.
pub struct Expected {
    floats: BTreeMap<String, Vec<f32>>,
    integers: BTreeMap<String, Vec<u32>>,
    pub shapes: BTreeMap<String, Vec<usize>>,
}

impl Expected {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut expected =
            Self { floats: BTreeMap::new(), integers: BTreeMap::new(), shapes: BTreeMap::new() };
        for (name, view) in file.iter() {
            let words = view.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
            expected.shapes.insert(name.to_owned(), view.shape().to_vec());
            if view.dtype() == safetensors::Dtype::I32 {
                expected.integers.insert(name.to_owned(), words.map(u32::from_le_bytes).collect());
            } else {
                assert_eq!(view.dtype(), safetensors::Dtype::F32);
                expected.floats.insert(name.to_owned(), words.map(f32::from_le_bytes).collect());
            }
        }
        expected
    }

    pub fn floats(&self, name: &str) -> &[f32] {
        self.floats.get(name).unwrap_or_else(|| panic!("the reference has no `{name}`"))
    }

    pub fn integers(&self, name: &str) -> &[u32] {
        &self.integers[name]
    }

    /// Every tensor whose name begins with `prefix`, by the rest of its name.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [f32])> {
        self.floats
            .iter()
            .filter_map(move |(name, values)| Some((name.strip_prefix(prefix)?, values.as_slice())))
    }

    /// The batch that the reference was computed on: two rows, the second one packed.
    pub fn batch(&self) -> Batch {
        let pairs = self.integers("target_index").iter().zip(self.integers("target_token"));
        Batch {
            rows: 2,
            length: 24,
            tokens: self.integers("tokens").to_vec(),
            positions: self.integers("positions").to_vec(),
            documents: self.integers("documents").to_vec(),
            targets: pairs.map(|(&index, &token)| Target { index, token }).collect(),
            ..Batch::default()
        }
    }
}

/// One row of a batch as a batch of its own, without the padding at its end.
pub fn row(batch: &Batch, number: usize) -> Batch {
    let all = number * batch.length..(number + 1) * batch.length;
    let length = batch.documents[all.clone()].iter().filter(|document| **document > 0).count();
    let places = all.start..all.start + length;
    let inside = |target: &&Target| places.contains(&(target.index as usize));
    let moved = |target: &Target| Target {
        index: target.index - u32::try_from(places.start).unwrap(),
        token: target.token,
    };
    Batch {
        rows: 1,
        length,
        tokens: batch.tokens[places.clone()].to_vec(),
        positions: batch.positions[places.clone()].to_vec(),
        documents: batch.documents[places.clone()].to_vec(),
        targets: batch.targets.iter().filter(inside).map(moved).collect(),
        ..Batch::default()
    }
}

/// The optimizer of the references: PyTorch's AdamW with its defaults.
pub fn adamw() -> Box<dyn Optimizer> {
    optimizers::with("adamw", &[])
}

/// Settings of steps as the references were made: a constant rate, clipping at 1.
pub fn step_settings(rate: f64) -> StepSettings {
    StepSettings {
        schedule: Schedule {
            peak: rate,
            warmup_steps: 0,
            total_steps: 20,
            min_ratio: 0.0,
            shape: Shape::Constant,
        },
        max_grad_norm: 1.0,
        recompute: Recompute::None,
        loss_chunk_tokens: 512,
        parallel_micro_batches: 1,
        rows: 0,
        neftune_noise_alpha: 0.0,
        seed: 1,
    }
}

pub fn cpu() -> Device {
    Device::flex()
}

/// ‖a − b‖ / ‖b‖.
pub fn relative(ours: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(ours.len(), reference.len(), "different sizes");
    let square = |x: f64| x * x;
    let difference: f64 =
        ours.iter().zip(reference).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = reference.iter().map(|b| square(f64::from(*b))).sum();
    (difference / size.max(1e-30)).sqrt()
}

/// What a run says, without what it announces and reports of its steps, which `cli::` has whole.
pub fn without_progress(said: &str) -> String {
    const BEGINS: [&str; 11] = [
        "chat template: ",
        "streaming ",
        "step ",
        "saved step",
        "checkpoint stall",
        "validation after",
        "validation loss",
        "artifact  ",
        "signed by key",
        "check it: ",
        "made a key pair",
    ];
    let of_an_error = |line: &str| line.starts_with("  at ") || line.starts_with("  because ");
    let progress = |line: &&str| {
        let table = line.starts_with("  ") && !of_an_error(line);
        let files = line.contains(" of the shape ");
        table || files || BEGINS.iter().any(|begin| line.starts_with(begin))
    };
    let lines = said.lines().filter(|line| !progress(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Fails unless two lists are equal within `limit`, relative to the reference's norm.
pub fn assert_near(what: &str, ours: &[f32], reference: &[f32], limit: f64) {
    let found = relative(ours, reference);
    assert!(found <= limit, "{what}: relative difference {found:.2e}, at most {limit:.0e}");
}

/// Every file of an artifact.
pub fn files_of(artifact: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = firebrand::files::hash_tree(artifact).unwrap();
    let read = |name: String| (name.clone(), std::fs::read(artifact.join(name)).unwrap());
    all.into_iter().map(|file| read(file.path)).collect()
}

/// Fails unless two artifacts have the same files with the same bytes.
#[track_caller]
pub fn assert_same_artifact(ours: &Path, other: &Path) {
    let (ours, other) = (files_of(ours), files_of(other));
    assert!(ours.keys().eq(other.keys()), "{:?} and {:?}", ours.keys(), other.keys());
    for (name, bytes) in &ours {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let text = |of: &BTreeMap<String, Vec<u8>>| match name.ends_with(".safetensors") {
            true => "weights".to_owned(),
            false => text(&of[name]),
        };
        assert!(*bytes == other[name], "{name} is\n{}\nfor\n{}", text(&ours), text(&other));
    }
}

/// Digest of the weights in an artifact. The header before them names what went in, and so the
/// settings.
pub fn weights_digest(artifact: &Path) -> String {
    let names = ["model.safetensors", "adapter_model.safetensors"];
    let name = names.into_iter().find(|name| artifact.join(name).exists()).expect("no weights");
    let shard = firebrand::weights::Shard::read(artifact, name).unwrap();
    firebrand::files::Digest::of(shard.header_and_data().unwrap().1).to_string()
}

/// Where drivers keep kernels from test to test.
pub fn kernels() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")
}

/// A folder with a tiny model to begin from, data, and a configuration; gone with the test.
pub struct Run {
    folder: tempfile::TempDir,
}

impl Run {
    /// `configs/tiny.toml` trains a model of a few thousand weights from random numbers on twenty
    /// conversations, in six steps; `configs/lora.toml` adapts what came of it.
    pub fn new() -> Self {
        let run = Self { folder: tempfile::tempdir().unwrap() };
        run.model_folder("base", &model_config());
        run.write("data.jsonl", &conversations(20));
        run.write("validation.jsonl", &conversations(26)[conversations(20).len()..]);
        run.write("tiny.toml", TINY);
        run.write("lora.toml", LORA);
        run
    }

    /// A folder with the small tokenizer and this configuration.
    pub fn model_folder(&self, name: &str, config: &serde_json::Value) {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            let from = repository("tests/fixtures/tokenizer").join(file);
            std::fs::copy(from, folder.join(file)).unwrap();
        }
        self.write(&format!("{name}/config.json"), &config.to_string());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    }

    /// The program, in this folder, with settings of its own.
    pub fn command(&self, arguments: &[&str]) -> snapbox::cmd::Command {
        snapbox::cmd::Command::new(env!("CARGO_BIN_EXE_firebrand"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("settings"))
            .env("FIREBRAND_CACHE", self.path("cache"))
            .env("MESA_SHADER_CACHE_DIR", kernels()) // compiled once for all tests
            .env("HF_HOME", self.path("hub"))
            .env("HF_ENDPOINT", "http://127.0.0.1:9") // nobody is there
            .env_remove("HF_HUB_CACHE")
            .env_remove("HF_TOKEN")
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("GITHUB_ACTIONS")
            .env_remove("TF_BUILD")
            .env_remove("FIREBRAND_SIGNING_KEY")
            .env_remove("FIREBRAND_KEY_PASSWORD")
            .env("NO_COLOR", "1")
    }

    /// Runs a command that must succeed; returns its stdout.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed:\n{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with this exit code; returns its stderr.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{stderr}");
        stderr
    }

    /// Runs a command that must fail with this exit code, and compares all of its stderr.
    #[track_caller]
    pub fn fails_with(&self, code: i32, arguments: &[&str], errors: Inline) {
        says(self.fails(code, arguments), errors);
    }

    /// Runs a command that must succeed; returns its stderr.
    #[track_caller]
    pub fn stderr_of(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        stderr
    }

    /// What a model answers in a chat, in a few tokens.
    pub fn answer(&self, model: &str) -> String {
        let ask = ["generate", "--prompt", "What is 3 plus 4?", "--max-tokens", "6", "--chat"];
        self.succeeds(&[&ask[..], &["--device", "cpu", model]].concat())
    }

    /// The provenance beside the artifact of a run, with place and time.
    pub fn provenance(&self, name: &str) -> serde_json::Value {
        let artifact = self.path(&format!("checkpoints/{name}/artifact"));
        let own = std::fs::read_to_string(artifact.join("lineage.statement.json")).unwrap();
        let own = serde_json::from_str(&own).unwrap();
        firebrand::artifact::provenance::beside(&artifact, &own).expect("there is none")
    }

    /// Trains the base model, so that there is something to adapt.
    pub fn with_base(self) -> Self {
        self.succeeds(&["train", "tiny.toml", "--quiet"]);
        self
    }

    /// A trained tiny model, its validation records with a language each, and a suite.
    pub fn with_suite(suite: &str) -> Self {
        let run = Self::new().with_base();
        let lines = run.read("validation.jsonl");
        let with_language = |(number, line): (usize, &str)| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["lang"] = if number.is_multiple_of(2) { "en" } else { "fr" }.into();
            format!("{record}\n")
        };
        let judged: String = lines.lines().enumerate().map(with_language).collect();
        run.write("judged.jsonl", &judged);
        run.write("eval.toml", suite);
        run
    }
}

pub const TINY: &str = r#"
[model]
base = "base"
init = "random"
[data]
max_seq_len = 96
[[data.train]]
path = "data.jsonl"
[[data.validation]]
path = "validation.jsonl"
[train]
max_steps = 6
micro_batch_size = 2
gradient_accumulation_steps = 2
learning_rate = 5e-3
warmup_steps = 2
[eval]
prompts = ["What is 3 plus 4?"]
max_tokens = 8
[checkpoint]
every_steps = 2
reuse = "never"
[device]
name = "cpu"
threads = 2
"#;

pub const LORA: &str = r#"
[model]
base = "checkpoints/tiny"
[data]
max_seq_len = 96
[[data.train]]
path = "data.jsonl"
[[data.validation]]
path = "validation.jsonl"
[lora]
r = 4
lora_alpha = 8
lora_dropout = 0.1
[train]
max_steps = 5
micro_batch_size = 2
learning_rate = 1e-2
[eval]
prompts = ["What is 3 plus 4?"]
max_tokens = 8
[checkpoint]
every_steps = 2
reuse = "never"
[device]
name = "cpu"
"#;

/// A Llama of two layers that fits the tokenizer of the fixtures.
pub fn model_config() -> serde_json::Value {
    serde_json::json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16",
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    })
}

/// Conversations of different lengths, one a line.
pub fn conversations(count: usize) -> String {
    let line = |number: usize| {
        let (a, b) = (number % 7, number % 5);
        let more = " and then some".repeat(number % 4);
        let json = serde_json::json!({"messages": [
            {"role": "user", "content": format!("What is {a} plus {b}?{more} ({number})")},
            {"role": "assistant", "content": format!("{a} plus {b} is {}.", a + b)},
        ]});
        format!("{json}\n")
    };
    (0..count).map(line).collect()
}
