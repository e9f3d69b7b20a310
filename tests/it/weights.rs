//! Weights, adapters and configurations of models as a stranger may make them, and as downloads and
//! exporters damage them: every command that opens one says what is wrong, and allocates nothing
//! for what is not there.

use snapbox::str;
use std::collections::BTreeMap;
use std::fs;

use crate::common::{Run, conversations, says};
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

const ASK: [&str; 8] =
    ["--prompt", "What is 3 plus 4?", "--max-tokens", "6", "--chat", "--device", "cpu", "model"];

/// Checkpoints of a decoder alone have names without `model.`, some say null of a quantisation, and
/// some have a dropout of their own training.
#[test]
fn files_of_a_decoder_alone_are_the_same_model() {
    let run = with_model();
    let usual = run.answer("model");
    let named = tensors(&run, "model", "model.safetensors").into_iter().map(|(name, tensor)| {
        (name.strip_prefix("model.").expect("it is the decoder's").to_owned(), tensor)
    });
    write_tensors(&run, "model/model.safetensors", &named.collect());
    let change = json!({"quantization_config": null, "attention_dropout": 0.1});
    change_config(&run, "model/config.json", &change);
    assert_eq!(run.answer("model"), usual);
    let note = "`config.json` has `attention_dropout` 0.1: weights of attention are not dropped in \
                training here; `lora_dropout` drops inputs of adapters";
    assert_eq!(run.stderr_of(&["plan", "full.toml"]).matches(note).count(), 1);

    // What is trained has the usual names, and an adapter those of PEFT; both go on from there.
    run.succeeds(&["train", "full.toml", "--quiet"]);
    let made = tensors(&run, "checkpoints/full/artifact", "model.safetensors");
    assert!(made.keys().all(|name| name.starts_with("model.")), "{:?}", made.keys());
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/adapter", "--out", "merged", "--no-sign"]);
    assert_eq!(run.answer("merged"), run.answer("checkpoints/adapter"));
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
    let (tied, tied_loss) = (run.answer("model"), loss(&run));
    with_head(&run, |value| -value);
    assert_ne!(loss(&run), tied_loss, "an evaluation uses it, too");
    says(
        run.stderr_of(&eval),
        str![[r#"
note: `config.json` says that the output projection is the embedding, but the weights hold another one, `lm_head.weight`: it is used, as transformers does

"#]],
    );
    let untied = run.answer("model");
    assert_ne!(tied, untied, "the stored projection is used");
    let words = "the weights hold another one, `lm_head.weight`: it is used";
    assert!(run.stderr_of(&[&["generate"], &ASK[..]].concat()).contains(words));
    assert!(run.stderr_of(&["plan", "full.toml"]).contains(words));

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
    let said = run.stderr_of(&merge);
    assert!(said.contains(words), "{said}");
    assert_eq!(told("merged/config.json"), json!(false));
    assert!(tensors(&run, "merged", "model.safetensors").contains_key(HEAD));
    assert_eq!(run.answer("merged"), run.answer("checkpoints/adapter"));
    // And an export, which has a place for it.
    let said = run.stderr_of(&["export", "model", "--type", "f32", "--out", "out"]);
    assert!(said.contains(words), "{said}");
    let file = fs::read(run.path("out/out-F32.gguf")).unwrap();
    assert!(memchr::memmem::find(&file, b"output.weight").is_some());
}

#[test]
fn a_copy_of_the_embedding_is_a_tied_projection() {
    let run = with_model();
    let tied = run.answer("model");
    with_head(&run, |value| value);
    assert_eq!(run.answer("model"), tied);
    for command in [["plan", "full.toml"], ["train", "full.toml"]] {
        let said = run.stderr_of(&command);
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
    run.fails_with(
        2,
        &["plan", "full.toml"],
        str![[r#"
error[weights]: tensor `lm_head.weight` has shape [511, 32], but `config.json` makes it [512, 32]
  at model/model.safetensors

hint: `config.json` and the weights belong to different models

"#]],
    );
}

/// As savers leave it that write a tensor with two names once (`safetensors.torch.save_model`).
#[test]
fn an_embedding_under_the_name_of_the_projection_alone_is_both() {
    let run = with_model();
    let tied = run.answer("model");
    let mut all = tensors(&run, "model", "model.safetensors");
    let embedding = all.remove(EMBEDDING).unwrap();
    all.insert(HEAD.to_owned(), embedding);
    write_tensors(&run, "model/model.safetensors", &all);
    assert_eq!(run.answer("model"), tied);
    run.succeeds(&["export", "model", "--type", "f32", "--out", "out", "--no-sign"]);
    assert_eq!(run.answer("out/out-F32.gguf"), tied);
    run.succeeds(&["train", "adapter.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/adapter", "--out", "merged", "--dtype", "f32"]);
    let merged = tensors(&run, "merged", "model.safetensors");
    assert!(merged.keys().eq(all.keys()), "a merge has the names of the base's files");
    assert_eq!(run.answer("merged"), run.answer("checkpoints/adapter"));
    // Where the file says that there are two, the embedding is missing.
    change_config(&run, "model/config.json", &json!({"tie_word_embeddings": false}));
    run.fails_with(
        2,
        &["plan", "full.toml"],
        str![[r#"
error[weights]: the weights lack `model.embed_tokens.weight`
  at model

hint: is the download complete?

"#]],
    );
}

#[test]
fn an_untied_model_without_its_projection_is_refused_by_name() {
    let run = with_model();
    change_config(&run, "model/config.json", &json!({"tie_word_embeddings": false}));
    let generate = [&["generate"], &ASK[..]].concat();
    let plan = run.fails(2, &["plan", "full.toml"]);
    assert_eq!(run.fails(2, &["train", "full.toml"]), plan);
    assert_eq!(run.fails(2, &generate), plan);
    says(
        plan,
        str![[r#"
error[weights]: the weights lack `lm_head.weight`
  at model

hint: is the download complete?

"#]],
    );
}

#[test]
fn plan_and_train_and_generate_refuse_the_same_damaged_models() {
    let run = with_model();
    let whole = fs::read(run.path("model/model.safetensors")).unwrap();
    let config = run.read("model/config.json");
    let pointer =
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 5530624\n".to_vec();
    let generate = [&["generate"], &ASK[..]].concat();
    let refused = |case: &str| {
        let plan = run.fails(2, &["plan", "full.toml"]);
        for command in [&["train", "full.toml"][..], &generate] {
            assert_eq!(run.fails(2, command), plan, "{command:?}");
        }
        assert!(!run.path("checkpoints/full/artifact").exists());
        format!("# {case}\n{plan}\n")
    };
    let mut said = String::new();
    for (case, bytes) in [
        ("nothing", Vec::new()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("half a header", whole[..100].to_vec()),
        ("more than all", [&whole[..], b"more"].concat()),
        ("a pointer", pointer.clone()),
    ] {
        fs::write(run.path("model/model.safetensors"), bytes).unwrap();
        said += &refused(case);
    }
    fs::write(run.path("model/model.safetensors"), &whole).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        let kept = fs::read(run.path("model").join(name)).unwrap();
        fs::write(run.path("model").join(name), &pointer).unwrap();
        said += &refused(&format!("a pointer for {name}"));
        fs::write(run.path("model").join(name), kept).unwrap();
    }
    for change in [
        json!({"num_hidden_layers": 3}),
        json!({"num_hidden_layers": 1}),
        json!({"num_hidden_layers": 0}),
        json!({"num_hidden_layers": 1024, "intermediate_size": 1 << 20}),
        json!({"intermediate_size": 1 << 20}),
        json!({"vocab_size": 513}),
        json!({"hidden_size": -32}),
        json!({"num_attention_heads": 5}),
        json!({"head_dim": 1 << 20}),
        json!({"rope_parameters": {"rope_theta": 0.0}}),
        json!({"rope_parameters": {"rope_theta": 1e300}}),
    ] {
        change_config(&run, "model/config.json", &change);
        said += &refused(&change.to_string());
        run.write("model/config.json", &config);
    }
    says(
        said,
        str![[r##"
# nothing
error[weights]: not a valid safetensors file
  at model/model.safetensors
  because it has 0 bytes, too few for a header

# half
error[weights]: not a valid safetensors file: it is cut off
  at model/model.safetensors
  because its tensors have 69952 bytes by its header, of which 33832 are there

hint: is the download complete?

# half a header
error[weights]: not a valid safetensors file
  at model/model.safetensors
  because it is cut off within its header: it has 100 bytes

hint: is the download complete?

# more than all
error[weights]: not a valid safetensors file
  at model/model.safetensors
  because it is larger than its tensors: 4 bytes belong to none of them

# a pointer
error[file]: the file is a Git LFS pointer, not the file that it stands for
  at model/model.safetensors
  because it stands for a file of 5.5 MB

hint: run `git lfs pull` in its repository, or download the file itself

# a pointer for config.json
error[file]: the file is a Git LFS pointer, not the file that it stands for
  at model/config.json

hint: run `git lfs pull` in its repository, or download the file itself

# a pointer for tokenizer.json
error[file]: the file is a Git LFS pointer, not the file that it stands for
  at model/tokenizer.json

hint: run `git lfs pull` in its repository, or download the file itself

# {"num_hidden_layers":3}
error[weights]: the weights lack `model.layers.2.self_attn.q_proj.weight`, `model.layers.2.self_attn.k_proj.weight`, `model.layers.2.self_attn.v_proj.weight`, `model.layers.2.self_attn.o_proj.weight`, `model.layers.2.input_layernorm.weight` and 4 more
  at model

hint: is the download complete?

# {"num_hidden_layers":1}
error[weights]: the model does not use the weights `model.layers.1.input_layernorm.weight`, `model.layers.1.mlp.down_proj.weight`, `model.layers.1.mlp.gate_proj.weight`, `model.layers.1.mlp.up_proj.weight`, `model.layers.1.post_attention_layernorm.weight` and 4 more
  at model

hint: `config.json` and the weights belong to different models

# {"num_hidden_layers":0}
error[model]: `num_hidden_layers` must be between 1 and 1024
  at model/config.json

# {"num_hidden_layers":1024,"intermediate_size":1048576}
error[weights]: the weights lack `model.layers.2.self_attn.q_proj.weight`, `model.layers.2.self_attn.k_proj.weight`, `model.layers.2.self_attn.v_proj.weight`, `model.layers.2.self_attn.o_proj.weight`, `model.layers.2.input_layernorm.weight` and 9193 more
  at model

hint: is the download complete?

# {"intermediate_size":1048576}
error[weights]: tensor `model.layers.0.mlp.gate_proj.weight` has shape [64, 32], but `config.json` makes it [1048576, 32]
  at model/model.safetensors

hint: `config.json` and the weights belong to different models

# {"vocab_size":513}
error[weights]: tensor `model.embed_tokens.weight` has shape [512, 32], but `config.json` makes it [513, 32]
  at model/model.safetensors

hint: `config.json` and the weights belong to different models

# {"hidden_size":-32}
error[model]: `hidden_size` must be between 1 and 1048576
  at model/config.json

# {"num_attention_heads":5}
error[model]: `num_key_value_heads` (2) must divide `num_attention_heads` (5)
  at model/config.json

# {"head_dim":1048576}
error[model]: `head_dim` must be between 1 and 16384
  at model/config.json

# {"rope_parameters":{"rope_theta":0.0}}
error[model]: `rope_parameters` is wrong
  at model/config.json
  because `rope_theta` must be a number above 0, within 32 bits

# {"rope_parameters":{"rope_theta":1e+300}}
error[model]: `rope_parameters` is wrong
  at model/config.json
  because `rope_theta` must be a number above 0, within 32 bits


"##]],
    );
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
    run.fails_with(
        2,
        &generate,
        str![[r#"
error[not-finite]: the model's logits are not finite
  at model
  because one of them is NaN

hint: its weights are damaged, or the training that made them diverged

"#]],
    );
    run.fails_with(
        2,
        &eval,
        str![[r#"
error[not-finite]: the model gives scores that are not finite
  because the loss of validation.jsonl:1 is NaN

hint: its weights are damaged, or the training that made them diverged

"#]],
    );
    run.fails_with(
        2,
        &["train", "full.toml"],
        str![[r#"
chat template: model/chat_template.jinja, sha256 [HEX]
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
       model  model (llama, 0.03 M parameters)
      method  full fine-tuning
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  20 examples, 1160 tokens, 260 target tokens, 6 for validation
       steps  2 of 2 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
error[not-finite]: the validation loss is not finite
  because after step 0 it is NaN

"#]],
    );
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
    let mut said = String::new();
    let mut refused = |case: &str| {
        said += &format!("# {case}\n");
        let mut before = String::new();
        for command in [&generate[..], &merge, &export] {
            let output = run.command(command).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let code = output.status.code().unwrap();
            assert!([1, 2].contains(&code), "{command:?}: {stderr}");
            if stderr != before {
                said += &format!("{}: exit code {code}\n{stderr}\n", command[0]);
            }
            before = stderr;
        }
    };
    for (case, change) in [
        ("a huge r", json!({"r": 1_u64 << 40})),
        ("r of 0", json!({"r": 0})),
        ("a negative r", json!({"r": -4})),
        ("half an r", json!({"r": 4.5})),
        ("r as text", json!({"r": "4"})),
        ("no r", json!({"r": null})),
        ("another r", json!({"r": 65_536})),
        ("a huge lora_alpha", json!({"lora_alpha": 1e300})),
        ("use_rslora as text", json!({"use_rslora": "yes"})),
        ("lora_alpha as text", json!({"lora_alpha": "8"})),
        ("many target_modules", json!({"target_modules": vec!["q_proj"; 5000]})),
    ] {
        change_config(&run, &settings, &change);
        refused(case);
        run.write(&settings, &config);
    }
    let key = whole.keys().find(|name| name.contains("up_proj.lora_A")).unwrap();
    let mut wrong = whole.clone();
    wrong.get_mut(key).unwrap().2[0] = f32::NAN;
    write_tensors(&run, &weights, &wrong);
    refused("a NaN");
    let mut wrong = whole.clone();
    wrong.insert("base_model.model.x.lora_A.weight".into(), whole[key].clone());
    write_tensors(&run, &weights, &wrong);
    refused("a tensor of no layer");
    write_tensors(&run, &weights, &whole);
    // A file that claims more than a disk has.
    let file = fs::File::options().write(true).open(run.path(&weights)).unwrap();
    if file.set_len(1 << 43).is_ok() {
        refused("a file that is larger than the disk");
    }
    says(
        said,
        str![[r#"
# a huge r
generate: exit code 2
error[adapter]: `r` must be between 1 and 65536, and it is 1099511627776
  at checkpoints/adapter/artifact/adapter_config.json

# r of 0
generate: exit code 2
error[adapter]: `r` must be between 1 and 65536, and it is 0
  at checkpoints/adapter/artifact/adapter_config.json

# a negative r
generate: exit code 2
error[adapter]: `r` must be between 1 and 65536, and it is -4
  at checkpoints/adapter/artifact/adapter_config.json

# half an r
generate: exit code 2
error[adapter]: `r` must be between 1 and 65536, and it is 4.5
  at checkpoints/adapter/artifact/adapter_config.json

# r as text
generate: exit code 2
error[adapter]: `r` must be between 1 and 65536, and it is not a number
  at checkpoints/adapter/artifact/adapter_config.json

# no r
generate: exit code 2
error[adapter]: `r` must be between 1 and 65536, and it is missing
  at checkpoints/adapter/artifact/adapter_config.json

# another r
generate: exit code 2
error[adapter]: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` has shape [4, 64], but [65536, 64] is expected
  at checkpoints/adapter/artifact/adapter_model.safetensors
  because the base and the adapter's settings (LoRA r 65536 on down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj) make it so

merge: exit code 2
error[adapter]: the adapter does not fit `model.layers.0.mlp.down_proj.weight`
  at checkpoints/adapter/artifact
  because its `lora_A.weight` is [4, 64]; a weight of [32, 64] and `LoRA r 65536 on down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj` make it [65536, 64]

export: exit code 2
error[adapter]: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` has shape [4, 64], but [65536, 64] is expected
  at checkpoints/adapter/artifact/adapter_model.safetensors
  because the base and the adapter's settings (LoRA r 65536 on down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj) make it so

# a huge lora_alpha
generate: exit code 2
error[adapter]: `lora_alpha` must be a number up to 1000000, and it is 1e+300
  at checkpoints/adapter/artifact/adapter_config.json

# use_rslora as text
generate: exit code 2
error[adapter]: `use_rslora` must be true or false
  at checkpoints/adapter/artifact/adapter_config.json

# lora_alpha as text
generate: exit code 2
error[adapter]: `lora_alpha` must be a number up to 1000000, and it is not a number
  at checkpoints/adapter/artifact/adapter_config.json

# many target_modules
generate: exit code 2
error[adapter]: `target_modules` is neither a list of names nor `all-linear`
  at checkpoints/adapter/artifact/adapter_config.json

# a NaN
generate: exit code 2
error[weights]: `adapter_model.safetensors` holds 1 NaN or infinite numbers in `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`
  at checkpoints/adapter/artifact

merge: exit code 2
error[adapter]: the adapter holds 1 NaN or infinite numbers in `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`
  at checkpoints/adapter/artifact

export: exit code 2
error[weights]: `adapter_model.safetensors` holds 1 NaN or infinite numbers in `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`
  at checkpoints/adapter/artifact

# a tensor of no layer
generate: exit code 2
error[weights]: the model has no place for the tensor `base_model.model.x.lora_A.weight`
  at checkpoints/adapter/artifact/adapter_model.safetensors

merge: exit code 2
error[adapter]: the base has no layer `x`
  at checkpoints/adapter/artifact

export: exit code 2
error[weights]: the model has no place for the tensor `base_model.model.x.lora_A.weight`
  at checkpoints/adapter/artifact/adapter_model.safetensors

# a file that is larger than the disk
generate: exit code 2
error[file]: the file is mostly holes
  at checkpoints/adapter/artifact/adapter_model.safetensors
  because it claims 8796093022208 bytes, of which 20480 were written


"#]],
    );
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
    let said = run.stderr_of(&["merge", "checkpoints/adapter", "--out", "merged"]);
    let number = |folder: &str, name: &str| notes(&run, folder)[name].as_f64().unwrap();
    let [base, adapter, merged] =
        ["base_eval_loss", "adapter_eval_loss", "eval_loss"].map(|name| number("merged", name));
    assert!(adapter < base, "{said}");
    let lost = (merged - adapter) / (base - adapter);
    assert!(lost > 0.05, "steps of 2e-5 are small beside the gaps of bfloat16: {said}");
    let warning =
        format!("warning: rounding to BF16 took {:.1} % of what the adapter", 100.0 * lost);
    assert!(said.contains(&warning), "{warning}\n{said}");
    says(
        &said,
        str![[r#"
measuring base, adapter and merged model on 337 tokens of validation data and the prompts, on the CPU (`--no-check` leaves it out)
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 29 of 29 positions; on 1 of the run's prompts, 29 tokens
validation loss on validation.jsonl, 78 target tokens: base [NUMBER], adapter [NUMBER], merged [NUMBER]
in BF16 it holds 78.4 % of the adapter's change to the weights
warning: rounding to BF16 took 19.4 % of what the adapter gained on its validation data; `--dtype f32` keeps it
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify merged

"#]],
    );
    let card = run.read("merged/README.md");
    // The numbers are the merged model's own: loss, perplexity, answers.
    assert!(card.contains(&format!("| validation loss | {base:.4} | {merged:.4} |")), "{card}");
    assert!(card.contains(&format!("value: {merged:.6}")), "{card}");
    assert!(card.contains("| `What is 3 plus 4?` |"), "{card}");
    assert!(card.contains(&format!("| validation loss of the adapter | `{adapter:.4}` |")));
    // In f32 nothing is lost.
    let merge = ["merge", "checkpoints/adapter", "--out", "wide", "--dtype", "f32"];
    let said = run.stderr_of(&merge);
    says(
        &said,
        str![[r#"
measuring base, adapter and merged model on 337 tokens of validation data and the prompts, on the CPU (`--no-check` leaves it out)
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 29 of 29 positions; on 1 of the run's prompts, 29 tokens
validation loss on validation.jsonl, 78 target tokens: base [NUMBER], adapter [NUMBER], merged [NUMBER]
in F32 it holds 100.0 % of the adapter's change to the weights
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify wide

"#]],
    );
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
    let said = run.stderr_of(&["merge", "checkpoints/adapter", "--out", "merged"]);
    says(
        &said,
        str![[r#"
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 29 of 29 positions; on 1 of the run's prompts, 29 tokens
not measured: the validation data of `checkpoints/adapter/artifact` is not at hand: there is no such file
in BF16 it holds 78.4 % of the adapter's change to the weights
warning: rounding to BF16 took 21.6 % of the adapter's change to the weights; `--dtype f32` keeps it
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify merged

"#]],
    );
    let card = run.read("merged/README.md");
    assert!(!card.contains("| validation loss |") && card.contains("not measured: "), "{card}");
    // Other data under the same name is no data of the run.
    run.write("validation.jsonl", &conversations(3));
    let said = run.stderr_of(&["merge", "checkpoints/adapter", "--out", "again"]);
    says(
        &said,
        str![[r#"
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 29 of 29 positions; on 1 of the run's prompts, 29 tokens
not measured: the validation data of `checkpoints/adapter/artifact` is not at hand: `validation.jsonl` is not what the run read
in BF16 it holds 78.4 % of the adapter's change to the weights
warning: rounding to BF16 took 21.6 % of the adapter's change to the weights; `--dtype f32` keeps it
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify again

"#]],
    );
    // Nor is there any beside an adapter that was taken out of its run.
    fs::rename(run.path("checkpoints/adapter/artifact"), run.path("alone")).unwrap();
    let said = run.stderr_of(&["merge", "alone", "--out", "third", "--base", "model"]);
    says(
        &said,
        str![[r#"
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 29 of 29 positions; on 1 of the run's prompts, 29 tokens
not measured: the validation data of `alone` is not at hand: the adapter does not lie in the folder of its run
in BF16 it holds 78.4 % of the adapter's change to the weights
warning: rounding to BF16 took 21.6 % of the adapter's change to the weights; `--dtype f32` keeps it
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify third

"#]],
    );
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
    run.fails_with(
        2,
        &["merge", "checkpoints/adapter", "--out", "x", "--dtype", "int8"],
        str![[r#"
error: invalid value 'int8' for '--dtype <TYPE>'
  [possible values: base, f32, bf16, f16]

For more information, try '--help'.

"#]],
    );
}
