//! What is fuzzed: every parser of bytes that a stranger may have written.
//!
//! A target is given bytes and has to come back: with a result or an error, without a panic, and
//! within the memory and time that the caller allows. `fuzz_targets/` runs them under libFuzzer
//! (`cargo +nightly fuzz run jsonl`), `tests/it/fuzz.rs` with a mutator of a fixed seed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use firebrand::artifact::adapter_directory::AdapterDirectory;
use firebrand::artifact::envelope::{Bundle, IN_TOTO};
use firebrand::artifact::keys::SigningKey;
use firebrand::data::{Codec, Conversation, TemplateRenderer, TemplateText, each_record};
use firebrand::gguf::unpack;
use firebrand::verify::{
    KeyLimits, SigstoreRoot, Trust, TrustedIdentity, safetensors::lint, verify, verify_file,
};
use firebrand::weights::read_tensors;
use serde_json::json;

/// A parser under test.
pub struct Target {
    /// Its name, that of its program in `fuzz_targets/`.
    pub name: &'static str,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that mean something to the parser, for the mutator.
    pub words: &'static [&'static str],
    /// How often the suite runs it.
    pub rounds: u64,
    /// Parses the bytes; `folder` is empty, and a place for files.
    pub run: fn(bytes: &[u8], folder: &Path),
}

/// All of them.
pub static TARGETS: &[Target] = &[
    Target { name: "template", seeds: templates, words: JINJA, rounds: 400, run: template },
    Target { name: "tokenizer", seeds: tokenizers, words: TOKENIZER, rounds: 1500, run: tokenizer },
    Target { name: "safetensors", seeds: weights, words: HEADER, rounds: 8000, run: safetensors },
    Target { name: "gguf", seeds: ggufs, words: GGUF, rounds: 1000, run: gguf },
    Target { name: "adapter", seeds: adapters, words: NUMBERS, rounds: 8000, run: adapter },
    Target { name: "parquet", seeds: parquets, words: &[], rounds: 4000, run: parquet },
    Target { name: "csv", seeds: csvs, words: CSV, rounds: 6000, run: csv },
    Target { name: "jsonl", seeds: lines, words: NUMBERS, rounds: 6000, run: jsonl },
    Target { name: "gzip", seeds: gzips, words: &[], rounds: 4000, run: gzip },
    Target { name: "zstd", seeds: zstds, words: &[], rounds: 4000, run: zstd },
    Target { name: "config", seeds: configs, words: TOML, rounds: 4000, run: config },
    Target { name: "signature", seeds: signatures, words: NUMBERS, rounds: 3000, run: signature },
    Target { name: "keyless", seeds: keyless_bundles, words: NUMBERS, rounds: 2000, run: keyless },
    Target { name: "trusted_root", seeds: roots, words: NUMBERS, rounds: 2000, run: trusted_root },
    Target { name: "statement", seeds: statements, words: NUMBERS, rounds: 3000, run: statement },
];

/// Runs a target by its name, in a folder that is new every time.
#[allow(dead_code)] // the suite takes the targets from the table
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a known target");
    let folder = tempfile::tempdir().expect("a temporary folder");
    (target.run)(bytes, folder.path());
}

const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1e308",
    "NaN",
    "null",
    "18446744073709551616",
    "[]",
    "{}",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":",
];
const JINJA: &[&str] = &[
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{#",
    "-%}",
    "messages",
    "loop.last",
    "[::-1]",
    " ~ ",
    " * 99",
    "|tojson",
    "|length",
    "range(9)",
    "{% for m in messages %}",
    "{% endfor %}",
    "{% if ",
    "{% endif %}",
    "{% set x = ",
    "namespace(",
    "(((((((",
    "[[[[[[[",
    "not not ",
    "'%d'|format(",
    ".split(",
    "{% macro a() %}",
    "{% endmacro %}",
    "{% generation %}",
];
const TOKENIZER: &[&str] = &[
    "\"Replace\"",
    "\"Precompiled\"",
    "\"Sequence\"",
    "\"Regex\"",
    "\"(a+)+\"",
    "\"\"",
    "4294967295",
    "-1",
    "null",
    "[]",
    "{}",
];
const HEADER: &[&str] =
    &["\"F64\"", "\"BF16\"", "[0,0]", "[18446744073709551615]", "-1", "[]", "\"data_offsets\""];
const GGUF: &[&str] = &["llama.", "tokenizer.ggml.", "blk.0.", "GGUF", "gpt2", "qwen2"];
const CSV: &[&str] = &["\"", "\"\"", ",", "\r\n", "\n", "\r", "\0", "\u{feff}"];
const TOML: &[&str] = &["[", "]", "[[", " = ", "\"\"\"", "'''", "nan", "-0", "1e999", "{", "\n"];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR").trim_end_matches("/fuzz"))
}

fn read(name: &str) -> Vec<u8> {
    let path = repository().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files of a folder of the repository that end so.
fn files(folder: &str, end: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(repository().join(folder)).expect("a folder of the repository");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    paths.sort();
    let wanted = |path: &&PathBuf| path.to_string_lossy().ends_with(end);
    paths.iter().filter(wanted).map(|path| fs::read(path).expect("a file")).collect()
}

/// The first lines of a file, so that mutations meet what they mean.
fn head(bytes: &[u8], lines: usize) -> Vec<u8> {
    bytes.split_inclusive(|byte| *byte == b'\n').take(lines).flatten().copied().collect()
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("the folder can be written to");
    path
}

fn templates() -> Vec<Vec<u8>> {
    let own = [
        "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\\n' }}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages[1:] %}{% set ns.n = ns.n + 1 %}\
         {% if loop.last %}{{ m|tojson(indent=2) }}{% endif %}{% endfor %}{{ '%5d'|format(ns.n) }}",
        "{% macro turn(m) %}<{{ m['role'] }}>{{ m['content']|trim }}{% endmacro %}\
         {% for m in messages %}{{ turn(m) }}{% endfor %}{{ range(3)|list }}",
        "{% if tools is iterable and tools|length > 0 %}{{ tools }}{% endif %}{{ messages }}",
    ];
    let mut seeds: Vec<Vec<u8>> = own.iter().map(|text| text.as_bytes().to_vec()).collect();
    seeds.push(read("checkpoints/base-tiny/artifact/chat_template.jinja"));
    seeds
}

fn template(bytes: &[u8], _folder: &Path) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let text = TemplateText { source: text.to_owned(), origin: "fuzzed".to_owned() };
    let Ok(template) = TemplateRenderer::new(text, BTreeMap::new()) else { return };
    let messages = vec![
        json!({ "role": "user", "content": "Hello?" }),
        json!({ "role": "assistant", "content": "Good day." }),
    ];
    let conversation = Conversation { messages, ..Conversation::default() };
    let _ = template.render(&[&conversation], true);
}

fn tokenizers() -> Vec<Vec<u8>> {
    ["tests/fixtures/tokenizer/tokenizer.json", "tests/fixtures/tokenizer-spm/tokenizer.json"]
        .map(read)
        .to_vec()
}

fn tokenizer(bytes: &[u8], folder: &Path) {
    put(folder, "tokenizer.json", bytes);
    let Ok(codec) = Codec::load(folder, None) else { return };
    if let Ok(tokens) = codec.text_tokens("The café's 7 doors.\n\tOpen them!") {
        let _ = codec.tokenizer.decode(&tokens, false);
    }
}

/// A model of one layer and eight tokens, of which the embedding has numbers of this type of ggml.
fn small_gguf(kind: u32, block: [u64; 2]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let key = |name: &str, kind: u32, value: &[u8]| {
        [&text(name)[..], &kind.to_le_bytes(), value].concat()
    };
    let texts = |texts: &[&str]| {
        let items: Vec<_> = texts.iter().map(|it| text(it)).collect();
        let length = (items.len() as u64).to_le_bytes();
        [&8_u32.to_le_bytes()[..], &length, &items.concat()].concat()
    };
    let mut keys = vec![
        key("general.architecture", 8, &text("qwen2")),
        key("tokenizer.ggml.model", 8, &text("gpt2")),
        key("tokenizer.ggml.pre", 8, &text("qwen2")),
        key("tokenizer.ggml.tokens", 9, &texts(&["a", "b", "ab", "c", "d", "e", "f", "<end>"])),
        key("tokenizer.ggml.merges", 9, &texts(&["a b"])),
        key("tokenizer.ggml.eos_token_id", 4, &7_u32.to_le_bytes()),
        key("qwen2.attention.layer_norm_rms_epsilon", 6, &1e-6_f32.to_le_bytes()),
    ];
    for (name, size) in [
        ("block_count", 1_u32),
        ("context_length", 64),
        ("embedding_length", 256),
        ("feed_forward_length", 4),
        ("attention.head_count", 64),
    ] {
        keys.push(key(&format!("qwen2.{name}"), 4, &size.to_le_bytes()));
    }
    let [numbers, bytes] = block;
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    out.extend(keys.concat());
    out.extend(text("token_embd.weight"));
    out.extend(2_u32.to_le_bytes());
    out.extend([256_u64, 8].map(u64::to_le_bytes).concat());
    out.extend(kind.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.resize(out.len().next_multiple_of(32), 0);
    let size = usize::try_from(256 * 8 / numbers * bytes).expect("it is small");
    out.resize(out.len() + size, 1);
    out
}

fn ggufs() -> Vec<Vec<u8>> {
    vec![small_gguf(8, [32, 34]), small_gguf(12, [256, 144]), small_gguf(1, [1, 2])]
}

fn gguf(bytes: &[u8], folder: &Path) {
    let path = put(folder, "model.gguf", bytes);
    let _ = unpack(&path, folder, |_| {});
}

fn weights() -> Vec<Vec<u8>> {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 1);
        bytes
    };
    vec![
        file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8),
        file(
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F16","shape":[],"data_offsets":[12,14]}}"#,
            14,
        ),
    ]
}

fn safetensors(bytes: &[u8], folder: &Path) {
    let path = put(folder, "model.safetensors", bytes);
    let _ = lint(&path);
    let _ = read_tensors(folder, "model.safetensors");
}

fn adapters() -> Vec<Vec<u8>> {
    let text = r#"{"peft_type":"LORA","base_model_name_or_path":"base","r":8,"lora_alpha":16,
        "target_modules":["q_proj","v_proj"],"bias":"none","use_rslora":false}"#;
    vec![text.as_bytes().to_vec()]
}

fn adapter(bytes: &[u8], folder: &Path) {
    put(folder, "adapter_config.json", bytes);
    let _ = AdapterDirectory::read_hashed(folder);
}

fn records(bytes: &[u8], folder: &Path, name: &str) {
    let _ = each_record(&put(folder, name, bytes), &mut |_| {});
}

fn parquets() -> Vec<Vec<u8>> {
    files("tests/fixtures/containers", ".parquet")
}

fn parquet(bytes: &[u8], folder: &Path) {
    records(bytes, folder, "data.parquet");
}

fn csvs() -> Vec<Vec<u8>> {
    vec![b"a,b\n1,\"two, \"\"quoted\"\"\"\n\"line\nbreak\",\n".to_vec()]
}

fn csv(bytes: &[u8], folder: &Path) {
    records(bytes, folder, "data.csv");
}

fn lines() -> Vec<Vec<u8>> {
    files("datasets", ".jsonl").iter().map(|file| head(file, 3)).collect()
}

fn jsonl(bytes: &[u8], folder: &Path) {
    records(bytes, folder, "data.jsonl");
    records(bytes, folder, "data.json");
}

fn gzips() -> Vec<Vec<u8>> {
    files("tests/fixtures/containers", ".gz")
}

fn gzip(bytes: &[u8], folder: &Path) {
    records(bytes, folder, "data.jsonl.gz");
}

fn zstds() -> Vec<Vec<u8>> {
    files("tests/fixtures/containers", ".zst")
}

fn zstd(bytes: &[u8], folder: &Path) {
    records(bytes, folder, "data.txt.zst");
}

fn configs() -> Vec<Vec<u8>> {
    files("configs", ".toml")
}

fn config(bytes: &[u8], folder: &Path) {
    let _ = firebrand::settings::parse(&folder.join("run.toml"), bytes, &[]);
}

fn signatures() -> Vec<Vec<u8>> {
    vec![read("checkpoints/base-tiny/artifact/model.sig")]
}

fn trust() -> Trust {
    Trust::key_files(&[]).expect("no key files are needed")
}

fn signature(bytes: &[u8], folder: &Path) {
    put(folder, "config.json", b"{}");
    put(folder, "model.sig", bytes);
    let _ = verify(folder, &trust());
}

fn keyless_bundles() -> Vec<Vec<u8>> {
    files("tests/fixtures/keyless", ".sigstore.json")
}

/// As the signature of a model, and as the bundle of a file, where the identity is trusted.
fn keyless(bytes: &[u8], folder: &Path) {
    static TRUST: LazyLock<Trust> = LazyLock::new(|| {
        let file = repository().join("tests/fixtures/keyless/trusted_root.json");
        Trust::default().and_identity(TrustedIdentity {
            identity: "release@example.com".to_owned(),
            issuer: "https://accounts.example.com".to_owned(),
            root: SigstoreRoot::from_file(&file).expect("a root of the tests"),
            file,
            limits: KeyLimits::default(),
        })
    });
    put(folder, "config.json", b"{}");
    put(folder, "model.sig", bytes);
    let _ = verify(folder, &TRUST);
    let _ = verify_file(&folder.join("config.json"), &folder.join("model.sig"), &TRUST);
}

fn roots() -> Vec<Vec<u8>> {
    vec![read("tests/fixtures/keyless/trusted_root.json")]
}

fn trusted_root(bytes: &[u8], folder: &Path) {
    put(folder, "root.json", bytes);
    let _ = SigstoreRoot::from_file(&folder.join("root.json"));
}

fn statements() -> Vec<Vec<u8>> {
    let bundle = Bundle::parse(&read("checkpoints/base-tiny/artifact/model.sig"));
    vec![bundle.expect("the base model is signed").payload]
}

/// What is signed, signed again: so that mutations reach what lies behind the signature.
fn statement(bytes: &[u8], folder: &Path) {
    const KEY: &str = "tests/fixtures/certificates/release.key.pem";
    let key = String::from_utf8(read(KEY)).expect("PEM is text");
    let key = SigningKey::from_pem(&key, KEY).expect("a key of the tests");
    let bundle = Bundle::sign(IN_TOTO, bytes.to_vec(), &key).expect("it can be signed");
    signature(bundle.to_json().as_bytes(), folder);
}
