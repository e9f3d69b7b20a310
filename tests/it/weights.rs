//! Weights, adapters and configurations of models as a stranger may make them, and as downloads and
//! exporters damage them: every command that opens one says what is wrong, and allocates nothing
//! for what is not there.

use std::collections::BTreeMap;
use std::fs;

use crate::common::{Run, conversations};
use firebrand::weights::{Element, Shard, TensorSpec, read_tensors, to_f32, write_safetensors};
use serde_json::{Value, json};

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A whole model, `model`, that nobody signed, and configurations that train it further.
fn with_model() -> Run {
    let run = Run::new().with_base();
    fs::create_dir(run.path("model")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        copy(&run, &format!("checkpoints/tiny/artifact/{name}"), &format!("model/{name}"));
    }
    copy(&run, "base/chat_template.jinja", "model/chat_template.jinja");
    let common = "[model]\nbase = \"model\"\n[data]\nmax_seq_len = 96\n[[data.train]]\n\
                  path = \"data.jsonl\"\n[[data.validation]]\npath = \"validation.jsonl\"\n[train]\n\
                  max_steps = 2\nmicro_batch_size = 2\nlearning_rate = 1e-2\n[checkpoint]\n\
                  reuse = \"never\"\n[device]\nname = \"cpu\"\n";
    run.write("full.toml", common);
    run.write("adapter.toml", &format!("{common}[lora]\nr = 4\nlora_alpha = 8\n"));
    run
}

fn copy(run: &Run, from: &str, to: &str) {
    fs::copy(run.path(from), run.path(to)).unwrap();
}

type Tensors = BTreeMap<String, (Element, Vec<usize>, Vec<f32>)>;

fn tensors(run: &Run, folder: &str, file: &str) -> Tensors {
    let (tensors, _) = read_tensors(&run.path(folder), file).unwrap();
    let read = |(name, tensor): (String, firebrand::weights::OwnedTensor)| {
        let values = to_f32(tensor.element, &tensor.bytes);
        (name, (tensor.element, tensor.shape, values))
    };
    tensors.into_iter().map(read).collect()
}

fn write_tensors(run: &Run, path: &str, tensors: &Tensors) {
    let _ = fs::remove_file(run.path(path));
    let specs = tensors.iter().map(|(name, (element, shape, _))| TensorSpec {
        name: name.clone(),
        element: *element,
        shape: shape.clone(),
    });
    write_safetensors(&run.path(path), specs.collect(), &BTreeMap::new(), |spec| {
        Ok(tensors[&spec.name].2.clone())
    })
    .unwrap();
}

fn change_config(run: &Run, path: &str, change: &Value) {
    let mut json: Value = serde_json::from_str(&run.read(path)).unwrap();
    for (key, value) in change.as_object().unwrap() {
        json[key] = value.clone();
    }
    run.write(path, &json.to_string());
}

/// Gives the model, which its configuration ties, an output projection: the embedding as `change`
/// makes it.
fn with_head(run: &Run, change: impl Fn(f32) -> f32) {
    let mut all = tensors(run, "model", "model.safetensors");
    let (element, shape, values) = all[EMBEDDING].clone();
    let values = values.into_iter().map(change).collect();
    all.insert(HEAD.to_owned(), (element, shape, values));
    write_tensors(run, "model/model.safetensors", &all);
}

fn stderr_of(run: &Run, arguments: &[&str]) -> String {
    let output = run.command(arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    stderr
}

const ASK: [&str; 8] =
    ["--prompt", "What is 3 plus 4?", "--max-tokens", "6", "--chat", "--device", "cpu", "model"];

fn answer(run: &Run, model: &str) -> String {
    run.succeeds(&[&["generate"], &ASK[..7], &[model]].concat())
}

#[test]
fn an_output_projection_that_differs_is_used_everywhere_and_written() {
    let run = with_model();
    run.write("suite.toml", "[data]\npath = \"validation.jsonl\"\nmax_seq_len = 64\n");
    let eval = ["eval", "model", "--config", "suite.toml", "--json", "--quiet", "--device", "cpu"];
    let loss = |run: &Run| -> Value {
        let report: Value = serde_json::from_str(&run.succeeds(&eval)).unwrap();
        report["metrics"]["loss"].clone()
    };
    let (tied, tied_loss) = (answer(&run, "model"), loss(&run));
    with_head(&run, |value| -value);
    assert_ne!(loss(&run), tied_loss, "an evaluation uses it, too");
    assert!(stderr_of(&run, &eval).contains("`lm_head.weight`: it is used"));
    let untied = answer(&run, "model");
    assert_ne!(tied, untied, "the stored projection is used");
    let words = "the weights hold another one, `lm_head.weight`: it is used";
    assert!(stderr_of(&run, &[&["generate"], &ASK[..]].concat()).contains(words));
    assert!(stderr_of(&run, &["plan", "full.toml"]).contains(words));

    // Full training writes it, and says in the configuration that it counts.
    run.succeeds(&["train", "full.toml", "--quiet"]);
    let made = tensors(&run, "checkpoints/full/artifact", "model.safetensors");
    assert_ne!(made[HEAD].2, made[EMBEDDING].2);
    let told = |path: &str| -> Value {
        let config: Value = serde_json::from_str(&run.read(path)).unwrap();
        config["tie_word_embeddings"].clone()
    };
    assert_eq!(told("checkpoints/full/artifact/config.json"), json!(false));
    run.succeeds(&["verify", "checkpoints/full"]);

    // An adapter's base has it as well, and so has what is merged.
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    let merge = ["merge", "checkpoints/adapter", "--out", "merged", "--dtype", "f32"];
    let said = stderr_of(&run, &merge);
    assert!(said.contains(words), "{said}");
    assert_eq!(told("merged/config.json"), json!(false));
    assert!(tensors(&run, "merged", "model.safetensors").contains_key(HEAD));
    assert_eq!(answer(&run, "merged"), answer(&run, "checkpoints/adapter"));
    // And an export, which has a place for it.
    let said = stderr_of(&run, &["export", "model", "--type", "f32", "--out", "out"]);
    assert!(said.contains(words), "{said}");
    let file = fs::read(run.path("out/out-F32.gguf")).unwrap();
    assert!(memchr::memmem::find(&file, b"output.weight").is_some());
}

#[test]
fn a_copy_of_the_embedding_is_a_tied_projection() {
    let run = with_model();
    let tied = answer(&run, "model");
    with_head(&run, |value| value);
    assert_eq!(answer(&run, "model"), tied);
    for command in [["plan", "full.toml"], ["train", "full.toml"]] {
        let said = stderr_of(&run, &command);
        assert!(!said.contains(HEAD), "{said}");
    }
    let made = tensors(&run, "checkpoints/full/artifact", "model.safetensors");
    assert!(!made.contains_key(HEAD), "one matrix is trained and written");
    // A projection of another shape is no copy, and no projection either.
    let mut all = tensors(&run, "model", "model.safetensors");
    let (_, shape, values) = all.get_mut(HEAD).unwrap();
    shape[0] -= 1;
    values.truncate(shape[0] * shape[1]);
    write_tensors(&run, "model/model.safetensors", &all);
    let said = run.fails(2, &["plan", "full.toml"]);
    assert!(said.contains("`lm_head.weight` has shape [511, 32]"), "{said}");
}

#[test]
fn an_untied_model_without_its_projection_is_refused_by_name() {
    let run = with_model();
    change_config(&run, "model/config.json", &json!({"tie_word_embeddings": false}));
    let generate = [&["generate"], &ASK[..]].concat();
    for command in [&["plan", "full.toml"][..], &["train", "full.toml"], &generate] {
        let said = run.fails(2, command);
        assert!(said.contains("the weights lack `lm_head.weight`"), "{said}");
    }
}

#[test]
fn plan_and_train_and_generate_refuse_the_same_damaged_models() {
    let run = with_model();
    let whole = fs::read(run.path("model/model.safetensors")).unwrap();
    let config = run.read("model/config.json");
    let pointer =
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5530624\n".to_vec();
    let generate = [&["generate"], &ASK[..]].concat();
    let all = |words: &str| {
        for command in [&["plan", "full.toml"][..], &["train", "full.toml"], &generate] {
            let said = run.fails(2, command);
            assert!(said.contains(words), "{command:?}: {said}");
            assert!(said.contains("model"), "the place is named: {said}");
        }
        assert!(!run.path("checkpoints/full/artifact").exists());
    };
    for (bytes, words) in [
        (Vec::new(), "0 bytes, too few for a header"),
        (whole[..whole.len() / 2].to_vec(), "it is cut off"),
        (whole[..100].to_vec(), "cut off within its header"),
        ([&whole[..], b"more"].concat(), "4 bytes belong to none"),
        (pointer.clone(), "it stands for a file of 5.5 MB"),
    ] {
        fs::write(run.path("model/model.safetensors"), bytes).unwrap();
        all(words);
    }
    fs::write(run.path("model/model.safetensors"), &whole).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        let kept = fs::read(run.path("model").join(name)).unwrap();
        fs::write(run.path("model").join(name), &pointer).unwrap();
        all("Git LFS pointer");
        fs::write(run.path("model").join(name), kept).unwrap();
    }
    for (change, words) in [
        (json!({"num_hidden_layers": 3}), "the weights lack `model.layers.2."),
        (json!({"num_hidden_layers": 1}), "does not use the weights `model.layers.1."),
        (json!({"num_hidden_layers": 0}), "`num_hidden_layers` must be between"),
        (json!({"num_hidden_layers": 1024, "intermediate_size": 1 << 20}), "the weights lack"),
        (json!({"intermediate_size": 1 << 20}), "but `config.json` makes it"),
        (json!({"vocab_size": 513}), "has shape [512, 32]"),
        (json!({"hidden_size": -32}), "`hidden_size` must be between"),
        (json!({"num_attention_heads": 5}), "`num_key_value_heads` (2) must divide"),
        (json!({"head_dim": 1 << 20}), "`head_dim` must be between"),
        (json!({"rope_parameters": {"rope_theta": 0.0}}), "`rope_theta` must be a number above 0"),
        (json!({"rope_parameters": {"rope_theta": 1e300}}), "`rope_theta` must be a number above"),
    ] {
        change_config(&run, "model/config.json", &change);
        all(words);
        run.write("model/config.json", &config);
    }
    run.succeeds(&["plan", "full.toml"]);
}

#[test]
fn sizes_that_multiply_to_too_much_are_refused_before_they_are_drawn() {
    let run = Run::new();
    for (change, words) in [
        (
            json!({"hidden_size": 1 << 20, "num_hidden_layers": 1024, "intermediate_size": 1 << 20,
                "num_attention_heads": 1 << 20, "num_key_value_heads": 1 << 20,
                "head_dim": 1 << 14}),
            "multiply to too much",
        ),
        (
            json!({"hidden_size": 1 << 17, "num_hidden_layers": 500, "intermediate_size": 1 << 17}),
            "there is no memory for a model",
        ),
    ] {
        let config = run.read("base/config.json");
        change_config(&run, "base/config.json", &change);
        for command in [["plan", "tiny.toml"], ["train", "tiny.toml"]] {
            let said = run.fails(2, &command);
            assert!(said.contains(words), "{said}");
        }
        run.write("base/config.json", &config);
    }
}

#[test]
fn numbers_that_are_none_end_every_command() {
    let run = with_model();
    let whole = tensors(&run, "model", "model.safetensors");
    let name = "model.layers.1.mlp.up_proj.weight";
    let generate = [&["generate"], &ASK[..]].concat();
    run.write("suite.toml", "[data]\npath = \"validation.jsonl\"\nmax_seq_len = 96\n");
    let eval = ["eval", "model", "--config", "suite.toml", "--device", "cpu"];
    for value in [f32::NAN, f32::INFINITY] {
        let mut all = whole.clone();
        all.get_mut(name).unwrap().2[7] = value;
        write_tensors(&run, "model/model.safetensors", &all);
        let export = ["export", "model", "--out", "out", "--type", "f32"];
        for command in
            [&["plan", "full.toml"][..], &["train", "full.toml"], &generate, &export, &eval]
        {
            let said = run.fails(2, command);
            assert!(said.contains(&format!("1 NaN or infinite numbers in `{name}`")), "{said}");
        }
    }
    // Finite weights whose scores are not.
    let mut all = whole;
    all.get_mut("model.norm.weight").unwrap().2.iter_mut().for_each(|value| *value = 3e38);
    write_tensors(&run, "model/model.safetensors", &all);
    for command in [&generate[..], &eval] {
        let said = run.fails(2, command);
        assert!(said.contains("the model gives scores that are not finite"), "{said}");
    }
    let said = run.fails(2, &["train", "full.toml"]);
    assert!(said.contains("not finite"), "{said}");
}

#[test]
fn adapters_that_do_not_fit_are_refused_before_anything_is_made_of_them() {
    let run = with_model();
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    let artifact = "checkpoints/adapter/artifact";
    let settings = format!("{artifact}/adapter_config.json");
    let weights = format!("{artifact}/adapter_model.safetensors");
    fs::remove_file(run.path(artifact).join("model.sig")).unwrap();
    let (config, whole) =
        (run.read(&settings), tensors(&run, artifact, "adapter_model.safetensors"));
    let generate = [&["generate"], &ASK[..7], &["checkpoints/adapter"]].concat();
    let merge = ["merge", "checkpoints/adapter", "--out", "merged"];
    let export = ["export", "checkpoints/adapter", "--out", "out"];
    let all = |words: &str| {
        for command in [&generate[..], &merge, &export] {
            let output = run.command(command).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(matches!(output.status.code(), Some(1 | 2)), "{command:?}: {said}");
            assert!(said.contains(words), "{command:?}: {said}");
        }
    };
    for (change, words) in [
        (json!({"r": 1_u64 << 40}), "`r` must be between 1 and 65536, and it is 1099511627776"),
        (json!({"r": 0}), "`r` must be between 1 and 65536, and it is 0"),
        (json!({"r": -4}), "`r` must be between"),
        (json!({"r": 4.5}), "`r` must be between"),
        (json!({"r": "4"}), "and it is no number"),
        (json!({"r": null}), "and it is missing"),
        (json!({"r": 65_536}), "65536"),
        (json!({"lora_alpha": 1e300}), "`lora_alpha` must be a number up to"),
        (json!({"use_rslora": "yes"}), "`use_rslora` must be true or false"),
        (json!({"lora_alpha": "8"}), "`lora_alpha` must be a number up to"),
        (json!({"target_modules": vec!["q_proj"; 5000]}), "`target_modules` is neither"),
    ] {
        change_config(&run, &settings, &change);
        all(words);
        run.write(&settings, &config);
    }
    let key = whole.keys().find(|name| name.contains("up_proj.lora_A")).unwrap();
    let mut wrong = whole.clone();
    wrong.get_mut(key).unwrap().2[0] = f32::NAN;
    write_tensors(&run, &weights, &wrong);
    all("NaN or infinite numbers in");
    let mut wrong = whole.clone();
    wrong.insert("base_model.model.x.lora_A.weight".into(), whole[key].clone());
    write_tensors(&run, &weights, &wrong);
    all("has no ");
    write_tensors(&run, &weights, &whole);
    // A file that claims more than a disk has.
    let file = fs::File::options().write(true).open(run.path(&weights)).unwrap();
    if file.set_len(1 << 43).is_ok() {
        all(if cfg!(target_os = "linux") { "mostly holes" } else { "belong to none" });
    }
}

#[test]
#[cfg(unix)]
fn pipes_and_devices_are_not_opened_as_weights() {
    let run = with_model();
    let path = run.path("model/model.safetensors");
    let generate = [&["generate"], &ASK[..]].concat();
    for kind in ["pipe", "device"] {
        fs::remove_file(&path).unwrap();
        match kind {
            "pipe" => {
                let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
                assert!(made.success());
            }
            _ => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
        }
        for command in [&["plan", "full.toml"][..], &["train", "full.toml"], &generate] {
            let said = run.fails(2, command);
            assert!(said.contains(&format!("this is a {kind}")), "{said}");
        }
    }
}

/// An adapter that changes its base in bfloat16 by little, and a base that trained on something.
fn with_small_adapter() -> Run {
    let run = with_model();
    let rate = ["--set", "train.learning_rate=2e-5", "--set", "train.max_steps=12"];
    run.succeeds(&[&["train", "adapter.toml", "--quiet", "--set", PROMPTS], &rate[..]].concat());
    run
}

const PROMPTS: &str = "eval.prompts=[\"What is 3 plus 4?\"]";

/// The numbers of the lineage of a merged model.
fn notes(run: &Run, folder: &str) -> Value {
    let text = run.read(&format!("{folder}/lineage.statement.json"));
    let statement: Value = serde_json::from_str(&text).unwrap();
    statement["predicate"]["runDetails"]["byproducts"][0]["annotations"].clone()
}

#[test]
fn a_merged_model_is_measured_and_what_rounding_took_is_told() {
    let run = with_small_adapter();
    let said = stderr_of(&run, &["merge", "checkpoints/adapter", "--out", "merged"]);
    let number = |folder: &str, name: &str| notes(&run, folder)[name].as_f64().unwrap();
    let [base, adapter, merged] =
        ["base_eval_loss", "adapter_eval_loss", "eval_loss"].map(|name| number("merged", name));
    assert!(adapter < base, "{said}");
    let lost = (merged - adapter) / (base - adapter);
    assert!(lost > 0.05, "steps of 2e-5 are small beside the gaps of bfloat16: {said}");
    let warning =
        format!("warning: rounding to BF16 took {:.1} % of what the adapter", 100.0 * lost);
    assert!(said.contains(&warning), "{warning}: {said}");
    assert!(said.contains("`--dtype f32` keeps it"), "{said}");
    let card = run.read("merged/README.md");
    // The numbers are the merged model's own: loss, perplexity, answers.
    assert!(card.contains(&format!("| validation loss | {base:.4} | {merged:.4} |")), "{card}");
    assert!(card.contains(&format!("value: {merged:.6}")), "{card}");
    assert!(card.contains("| `What is 3 plus 4?` |"), "{card}");
    assert!(card.contains(&format!("| validation loss of the adapter | `{adapter:.4}` |")));
    // In f32 nothing is lost.
    let merge = ["merge", "checkpoints/adapter", "--out", "wide", "--dtype", "f32"];
    let said = stderr_of(&run, &merge);
    assert!(!said.contains("warning: rounding"), "{said}");
    assert!((number("wide", "eval_loss") - adapter).abs() < 0.01 * (base - adapter), "{said}");
    assert!((number("wide", "adapter_change_kept") - 1.0).abs() < 1e-3, "{said}");
    assert!(number("merged", "adapter_change_kept") < 0.95);
    run.succeeds(&["verify", "wide"]);
    run.succeeds(&["generate", "wide", "--prompt", "x", "--max-tokens", "1"]);
}

#[test]
fn where_data_is_not_at_hand_the_weights_tell_what_rounding_took() {
    let run = with_small_adapter();
    fs::remove_file(run.path("validation.jsonl")).unwrap();
    let said = stderr_of(&run, &["merge", "checkpoints/adapter", "--out", "merged"]);
    assert!(said.contains("not measured: the validation data of"), "{said}");
    assert!(said.contains("of the adapter's change to the weights"), "{said}");
    assert!(said.contains("warning: rounding to BF16 took"), "{said}");
    let card = run.read("merged/README.md");
    assert!(!card.contains("| validation loss |") && card.contains("not measured: "), "{card}");
    // Other data under the same name is no data of the run.
    run.write("validation.jsonl", &conversations(3));
    let said = stderr_of(&run, &["merge", "checkpoints/adapter", "--out", "again"]);
    assert!(said.contains("is not what the run read"), "{said}");
    // Nor is there any beside an adapter that was taken out of its run.
    fs::rename(run.path("checkpoints/adapter/artifact"), run.path("alone")).unwrap();
    let said = stderr_of(&run, &["merge", "alone", "--out", "third", "--base", "model"]);
    assert!(said.contains("does not lie in the folder of its run"), "{said}");
}

/// One of the models of transformers, with three letters for a tokenizer.
fn copy_case(run: &Run, name: &str) {
    fs::create_dir(run.path(name)).unwrap();
    for entry in fs::read_dir(crate::common::case(name)).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().contains("expected") {
            fs::copy(&path, run.path(name).join(path.file_name().unwrap())).unwrap();
        }
    }
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": false, "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []},
    });
    run.write(&format!("{name}/tokenizer.json"), &tokenizer.to_string());
}

#[test]
fn a_merge_in_another_format_is_one_for_all_weights_and_their_index() {
    let run = with_small_adapter();
    for (dtype, element, name) in [
        ("f32", Element::F32, "float32"),
        ("bf16", Element::BF16, "bfloat16"),
        ("f16", Element::F16, "float16"),
    ] {
        let out = format!("in-{dtype}");
        run.succeeds(&[
            "merge",
            "checkpoints/adapter",
            "--out",
            &out,
            "--dtype",
            dtype,
            "--no-check",
        ]);
        let shard = Shard::read(&run.path(&out), "model.safetensors").unwrap();
        assert!(shard.tensors().unwrap().iter().all(|tensor| tensor.element == element));
        let config: Value = serde_json::from_str(&run.read(&format!("{out}/config.json"))).unwrap();
        assert_eq!(config["dtype"], json!(name));
    }
    // An index tells the size of its files.
    copy_case(&run, "bf16-sharded");
    run.write("text.jsonl", "{\"text\": \"abcabcabc\"}\n{\"text\": \"aabbcc\"}\n");
    run.write(
        "sharded.toml",
        "[model]\nbase = \"bf16-sharded\"\n[data]\nmax_seq_len = 16\n[[data.train]]\n\
         path = \"text.jsonl\"\n[lora]\nr = 2\n[train]\nmax_steps = 1\nlearning_rate = 1e-2\n\
         [device]\nname = \"cpu\"\n",
    );
    run.succeeds(&["train", "sharded.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/sharded", "--out", "wide", "--dtype", "f32"]);
    let total = |folder: &str| -> u64 {
        let text = run.read(&format!("{folder}/model.safetensors.index.json"));
        let index: Value = serde_json::from_str(&text).unwrap();
        index["metadata"]["total_size"].as_u64().unwrap()
    };
    assert_eq!(total("wide"), 2 * total("bf16-sharded"));
    run.succeeds(&["generate", "wide", "--prompt", "abc", "--max-tokens", "1"]);
    let said = run.fails(2, &["merge", "checkpoints/adapter", "--out", "x", "--dtype", "int8"]);
    assert!(said.contains("invalid value 'int8'"), "{said}");
}
