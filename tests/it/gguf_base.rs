//! GGUF files as base models: what our own export wrote is read back as the model that it was made
//! of. `tests/reference/gguf_check.py` has llama.cpp read the same files, and `gguf_blocks.py` has
//! ggml's own package dequantise.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use firebrand::files::Digest;
use firebrand::weights::{read_tensors, to_f32};
use snapbox::str;

use crate::common::Run;
#[cfg(unix)]
use crate::common::hub::Hub as Server;

/// The weights of a directory, as bits.
fn weights(directory: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u32>)> {
    let (tensors, _) = read_tensors(directory, "model.safetensors").unwrap();
    let bits = |tensor: firebrand::weights::OwnedTensor| {
        let values = to_f32(tensor.element, &tensor.bytes);
        (tensor.shape, values.into_iter().map(f32::to_bits).collect())
    };
    tensors.into_iter().map(|(name, tensor)| (name, bits(tensor))).collect()
}

/// The one directory that was unpacked.
fn unpacked(run: &Run) -> std::path::PathBuf {
    let mut entries = fs::read_dir(run.path("cache/gguf")).unwrap();
    let found = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none(), "there is one");
    found
}

fn answer(run: &Run, model: &str) -> String {
    run.succeeds(&["generate", model, "--prompt", "What is your name?", "--max-tokens", "12"])
}

#[test]
fn a_file_is_the_model_that_it_was_made_of() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "f32", "--out", "out"]);
    let base = "checkpoints/tiny/artifact";
    assert_eq!(answer(&run, "out/out-F32.gguf"), answer(&run, base));
    let folder = unpacked(&run);
    assert_eq!(weights(&folder), weights(&run.path(base)));
    let template = |folder: &Path| fs::read_to_string(folder.join("chat_template.jinja")).unwrap();
    assert_eq!(template(&folder), template(&run.path(base)));

    // The same rows of tokens: the same losses, step by step.
    let losses = |name: &str, base: &str| {
        let (name, base) = (format!("name={name}"), format!("model.base={base}"));
        let set = ["--set", name.as_str(), "--set", base.as_str(), "--quiet"];
        run.succeeds(&[&["train", "lora.toml"], &set[..]].concat());
        let metrics = run.read(&format!("checkpoints/{}/metrics.jsonl", &name[5..]));
        let loss =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].clone();
        metrics.lines().map(loss).collect::<Vec<_>>()
    };
    assert_eq!(losses("of-gguf", "out/out-F32.gguf"), losses("of-base", base));
    // What is recorded is the digest of the file itself.
    let sha256 = Digest::of(&fs::read(run.path("out/out-F32.gguf")).unwrap()).to_string();
    assert!(run.read("checkpoints/of-gguf/data.lock").contains(&sha256));
    let inputs = run.read("checkpoints/of-gguf/artifact/lineage.inputs.json");
    let inputs: serde_json::Value = serde_json::from_str(&inputs).unwrap();
    let mut all = inputs["resolvedDependencies"].as_array().unwrap().iter();
    let source = all.find(|it| it["annotations"]["role"] == "base-gguf").unwrap();
    assert_eq!(source["digest"]["sha256"], sha256);
    assert_eq!(source["name"], "out-F32.gguf");
    // The adapter finds its base by the name of the file.
    assert_eq!(answer(&run, "checkpoints/of-gguf"), answer(&run, "checkpoints/of-base"));
}

#[test]
fn quantised_numbers_are_those_of_the_blocks() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "out"]);
    answer(&run, "out/out-Q8_0.gguf");
    let (before, after) =
        (weights(&run.path("checkpoints/tiny/artifact")), weights(&unpacked(&run)));
    assert!(before.keys().eq(after.keys()));
    for (name, (shape, values)) in &before {
        let (after_shape, after) = &after[name];
        assert_eq!(shape, after_shape, "{name}");
        let row = *shape.last().unwrap();
        for (before, after) in values.chunks(row).zip(after.chunks(row)) {
            let floats =
                |bits: &[u32]| bits.iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>();
            let (before, after) = (floats(before), floats(after));
            for (before, after) in before.chunks(32).zip(after.chunks(32)) {
                let largest = before.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                let near =
                    |(a, b): (&f32, &f32)| (a - b).abs() <= largest * (0.5 / 127.0 + 1.0 / 2048.0);
                assert!(before.iter().zip(after).all(near), "{name}");
            }
        }
    }
}

/// Blocks are kept, or dequantised when they are loaded: the same run, and the same results of it.
#[test]
fn an_adapter_is_trained_beside_the_blocks_of_a_file() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "out"]);
    let file = "model.base=out/out-Q8_0.gguf";
    let train = |name: &str, more: &[&str]| {
        let name = format!("name={name}");
        let set = ["train", "lora.toml", "--set", name.as_str(), "--set", file];
        run.succeeds(&[&set[..], more].concat());
    };
    train("kept", &[]);
    train("wide", &["--set", "model.weight_format=dequantised"]);
    train("often", &["--quiet", "--stop-after-steps", "2"]);
    train("often", &["--quiet"]);
    let bytes =
        |name: &str, file: &str| fs::read(run.path(&format!("checkpoints/{name}/{file}"))).unwrap();
    for file in ["metrics.jsonl", "step-00000005/adapter.safetensors"] {
        assert!(bytes("kept", file) == bytes("wide", file), "{file}");
        assert!(bytes("kept", file) == bytes("often", file), "{file}");
    }
    let device = |name: &str| {
        let inputs = run.read(&format!("checkpoints/{name}/artifact/lineage.inputs.json"));
        let inputs: serde_json::Value = serde_json::from_str(&inputs).unwrap();
        inputs["internalParameters"]["device"].clone()
    };
    let (kept, wide) = (device("kept"), device("wide"));
    assert_eq!(kept["frozen weights"], "Q8_0");
    assert_eq!(kept["frozen weights share a scale"], "32 numbers in 34 bytes (Q8_0)");
    assert!(kept["frozen weights sha256"].as_str().unwrap().parse::<Digest>().is_ok());
    assert_eq!(wide["frozen weights"], "dequantised");
    assert!(wide["frozen weights sha256"].is_null());

    // What comes of it is a model in numbers, and answers as the adapter does beside the blocks.
    let narrow = ["--weight-format", "dequantised"];
    let ask = ["generate", "checkpoints/kept", "--prompt", "What is 3?", "--max-tokens", "8"];
    assert_eq!(run.succeeds(&ask), run.succeeds(&[&ask[..], &narrow].concat()));
    let merge = ["merge", "checkpoints/kept", "--out"];
    run.succeeds(&[&merge[..], &["merged"]].concat());
    run.succeeds(&[&merge[..], &["again", "--no-check"], &narrow].concat());
    assert!(weights(&run.path("merged")) == weights(&run.path("again")));
    let path = run.path("merged/model.safetensors");
    let header = fs::read(path).unwrap();
    assert!(!String::from_utf8_lossy(&header[..4096]).contains("firebrand.blocks"));
    assert_eq!(answer(&run, "merged"), answer(&run, "checkpoints/kept"));
    // A start that is taken out of the weights changes them, and they are numbers then.
    train("pissa", &["--set", "lora.init_lora_weights=pissa"]);
    assert_eq!(device("pissa")["frozen weights"], "dequantised");
    // Of numbers, there is nothing to dequantise.
    run.fails_with(
        2,
        &["train", "lora.toml", "--set", "model.weight_format=dequantised"],
        str![[r#"
error[model]: `model.weight_format = "dequantised"` is for a base in codes
  because the files of this one hold numbers

hint: leave `model.weight_format` out

"#]],
    );
    let all = ["train", "tiny.toml", "--set", "model.init=pretrained", "--set", file];
    let more = ["--set", "model.weight_format=dequantised", "--set", "name=wide-whole"];
    run.fails_with(
        2,
        &[&all[..], &more].concat(),
        str![[r#"
error[out-of-memory]: `model.weight_format = "dequantised"` keeps weights that are frozen
  because without an adapter every weight is trained

hint: add a `[lora]` section, or leave the format out

"#]],
    );
    run.succeeds(&[&all[..], &["--quiet", "--set", "name=whole"]].concat());
}

#[test]
fn files_that_cannot_be_a_base_say_why() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "f32", "--out", "out"]);
    let whole = fs::read(run.path("out/out-F32.gguf")).unwrap();
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = whole.clone();
        while let Some(at) = memchr::memmem::find(&bytes, from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        bytes
    };
    let mut messages = String::new();
    for (name, bytes) in [
        ("architecture", replaced("llama", "mamba")),
        ("tokenizer", replaced("gpt2", "bert")),
        ("tensor", replaced("blk.1.ffn_up.weight", "blk.1.ffn_no.weight")),
        ("cut off", whole[..whole.len() - 1].to_vec()),
        ("in its header", whole[..100].to_vec()),
        ("something else", b"PK\x03\x04".to_vec()),
    ] {
        fs::write(run.path("bad.gguf"), bytes).unwrap();
        let set = "model.base=bad.gguf";
        messages += &format!("{name}:\n{}\n", run.fails(2, &["plan", "lora.toml", "--set", set]));
        assert!(fs::read_dir(run.path("cache/gguf")).is_ok_and(|mut all| all.next().is_none()));
    }
    crate::common::says(
        messages,
        str![[r#"
architecture:
error[model]: this GGUF file cannot be a base
  at bad.gguf
  because its architecture is `mamba`; those that can be read are `gemma2`, `gemma3`, `gemma4`, `gpt-oss`, `granite`, `granite_swa`, `lfm2`, `lfm2moe`, `llama`, `mistral3`, `olmo2`, `phi3`, `qwen2`, `qwen3`, `qwen35`, `qwen35moe`, `qwen3moe`, `smollm3`

hint: use the same model as safetensors

tokenizer:
error[model]: this GGUF file cannot be a base
  at bad.gguf
  because its tokenizer is of the kind `bert`; known are gpt2, llama, gemma4

hint: use the same model as safetensors

tensor:
error[model]: this GGUF file cannot be a base
  at bad.gguf
  because models of its architecture have no tensor `blk.1.ffn_no.weight`

hint: use the same model as safetensors

cut off:
error[weights]: not a valid GGUF file
  at bad.gguf
  because it has 153503 bytes, and the tensor `output_norm.weight` ends at 153504

in its header:
error[weights]: not a valid GGUF file
  at bad.gguf
  because `general.type`: it is cut off within its header, or that is too large

something else:
error[weights]: not a valid GGUF file
  at bad.gguf
  because it does not begin with `GGUF`


"#]],
    );
}

#[cfg(unix)]
#[test]
fn a_file_of_a_hub_is_fetched_and_locked() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "f32", "--out", "out"]);
    let bytes = fs::read(run.path("out/out-F32.gguf")).unwrap();
    let server = Server::start();
    server.add(
        "models/o/n",
        "main",
        &[("README.md", b"# Model\n".to_vec()), ("q/f32.gguf", bytes.clone())],
    );
    let command = |arguments: &[&str]| {
        run.command(arguments).env("HF_ENDPOINT", server.endpoint()).output().unwrap()
    };
    let set = ["lora.toml", "--set", "model.base=o/n/q/f32.gguf"];
    let done = command(&[&["pull"], &set[..]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lock = run.read("lora.lock");
    assert!(
        lock.contains("o/n/q/f32.gguf") && lock.contains(&Digest::of(&bytes).to_string()),
        "{lock}"
    );
    let done = command(&[&["train"], &set[..], &["--locked", "--quiet"]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // Another file is not there, and a repository of such files says how they are named.
    let said = |name: &str| {
        let base = format!("model.base={name}");
        let output = command(&["plan", "lora.toml", "--set", &base]);
        String::from_utf8(output.stderr).unwrap()
    };
    let messages = format!("{}\n{}", said("o/n/q8.gguf"), said("o/n"));
    crate::common::says(
        messages,
        str![[r#"
error[hub]: `o/n` has no file `q8.gguf`
  because its commit [COMMIT] was looked at

hint: it has: q/f32.gguf

hint: on this machine there is no directory `o/n/q8.gguf`

error[model]: the repository has its weights only as GGUF
  because `q/f32.gguf` is one of its files
  because `o/n` at [COMMIT] was looked at

hint: name the file, as in `owner/name/file.gguf`, or the repository it was made from

hint: on this machine there is no directory `o/n`

"#]],
    );
}
