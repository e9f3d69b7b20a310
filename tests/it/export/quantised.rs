//! Adapters beside a base in four bits: onto which weights they go, and what is said of that.

use super::*;
use crate::common::without_progress;
use firebrand::weights::blockwise::{Blockwise, NORMAL};
use firebrand::weights::formats::{Storage, WEIGHT_FORMATS, dequantised};

/// Numbers of a tensor in the weights of a model.
fn numbers(run: &Run, folder: &str, name: &str) -> Vec<f32> {
    let (tensors, _) = read_tensors(&run.path(folder), "model.safetensors").unwrap();
    to_f32(tensors[name].element, &tensors[name].bytes)
}

#[test]
fn an_adapter_goes_onto_the_weights_that_it_was_trained_beside() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "model.weight_format=nf4"]);
    let lineage: Value =
        serde_json::from_str(&run.read("checkpoints/lora/artifact/lineage.inputs.json")).unwrap();
    let device = &lineage["internalParameters"]["device"];
    assert_eq!(device["frozen weights"], "nf4");
    assert_eq!(device["frozen weights share a scale"], "64 numbers, 256 scales");
    let digest = device["frozen weights sha256"].as_str().unwrap();
    assert!(digest.parse::<Digest>().is_ok(), "{digest}");

    // Onto both kinds of weights, in 32 bits so that nothing is rounded again.
    let merge = |out: &str, more: &[&str]| {
        let call = ["merge", "checkpoints/lora", "--out", out, "--dtype", "f32"];
        run.stderr_of(&[&call[..], more].concat())
    };
    let onto_codes = merge("codes", &["--weight-format", "nf4"]);
    says(
        onto_codes,
        str![[r#"
measuring base, adapter and merged model on 337 tokens of validation data and the prompts, on the CPU (`--no-check` leaves it out)
beside the adapter: largest difference of a logit [NUMBER] (largest logit [NUMBER]), the same most likely token at 29 of 29 positions; on 1 of the run's prompts, 29 tokens
validation loss on validation.jsonl, 78 target tokens: base [NUMBER], adapter [NUMBER], merged [NUMBER]
in F32 it holds 100.0 % of the adapter's change to the weights
signed by key [HEX] ([FOLDER]/settings/firebrand/signing.pem)
check it:  firebrand verify codes

"#]],
    );
    merge("files", &["--no-check"]);
    let name = "model.layers.0.self_attn.q_proj.weight";
    let base = "checkpoints/tiny/artifact";
    let [base, files, codes] = [base, "files", "codes"].map(|folder| numbers(&run, folder, name));
    let format = WEIGHT_FORMATS.iter().find(|format| format.name() == "nf4").unwrap();
    let Storage::Coded(code) = format.storage() else { panic!("codes") };
    let rounded = dequantised(code(&base, [64, base.len() / 64]).as_ref());
    assert_ne!(base, rounded);
    // The same is added to both.
    for (((base, rounded), files), codes) in base.iter().zip(&rounded).zip(&files).zip(&codes) {
        assert!(((files - base) - (codes - rounded)).abs() < 1e-6);
    }
    let card = run.read("codes/README.md");
    assert!(card.contains("those of the base in nf4, dequantised"), "{card}");
    let lineage = run.read("codes/lineage.inputs.json");
    assert!(lineage.contains("\"merge.weight_format\": \"nf4\""), "{lineage}");
    assert!(run.read("files/README.md").contains("those of the base's files"));

    // The numbers of codes are what the merged model has, beside the adapter or in it.
    let eval = |model: &str, more: &[&str]| -> (Value, Value) {
        let call = ["eval", model, "--config", "eval.toml", "--json", "--device", "cpu", "--quiet"];
        let report: Value =
            serde_json::from_str(&run.succeeds(&[&call[..], more].concat())).unwrap();
        (report["metrics"]["loss"]["value"].clone(), report["model"]["sha256"].clone())
    };
    run.write("eval.toml", "[data]\npath = \"validation.jsonl\"\nmax_seq_len = 96\n");
    let (beside_codes, of_codes) = eval("checkpoints/lora", &["--weight-format", "nf4"]);
    let (beside_files, of_files) = eval("checkpoints/lora", &[]);
    let (merged, _) = eval("codes", &[]);
    assert_ne!(of_codes, of_files, "results of one are not taken for the other's");
    let near = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5;
    assert!(near(&beside_codes, &merged), "{beside_codes} {merged}");
    assert!(!near(&beside_codes, &beside_files), "{beside_codes} {beside_files}");
}

#[test]
fn a_format_of_weights_is_for_frozen_ones() {
    let run = Run::new().with_base();
    run.succeeds(&[
        "train",
        "tiny.toml",
        "--quiet",
        "--set",
        "name=part",
        "--stop-after-steps",
        "2",
    ]);
    let prompt = ["--prompt", "What?", "--max-tokens", "1", "--weight-format", "nf4"];
    run.fails_with(
        2,
        &[&["generate", "checkpoints/part"], &prompt[..]].concat(),
        str![[r#"
error[checkpoint]: a checkpoint of full training has weights of its own
  at checkpoints/part
  because only those of a base model are taken in nf4

"#]],
    );
    // A whole model may be looked at in it.
    run.succeeds(&[&["generate", "checkpoints/tiny/artifact"], &prompt[..]].concat());
}

/// The base of a run as bitsandbytes writes it in four bits.
fn in_four_bits(run: &Run, folder: &str) {
    let base = run.path("checkpoints/tiny/artifact");
    fs::create_dir(run.path(folder)).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        fs::copy(base.join(name), run.path(folder).join(name)).unwrap();
    }
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(base.join("config.json")).unwrap()).unwrap();
    config["quantization_config"] = json!({"quant_method": "bitsandbytes", "load_in_4bit": true});
    run.write(&format!("{folder}/config.json"), &config.to_string());
    let mut tensors: BTreeMap<String, (Element, Vec<usize>, Vec<f32>)> = BTreeMap::new();
    let mut book = vec![0.0; 256];
    for (name, (shape, values)) in weights(&base) {
        if !name.contains("_proj.") {
            tensors.insert(name, (Element::F32, shape, values));
            continue;
        }
        let matrix = Blockwise::normal(&values, [shape[0], shape[1]]);
        let parts = matrix.bytes();
        let bytes = |part: usize| parts[part].iter().map(|byte| f32::from(*byte)).collect();
        let floats = |part: usize| to_f32(Element::F32, &parts[part]);
        let state = json!({
            "quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": shape,
            "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": floats(3)[0],
        });
        let text = state.to_string().bytes().map(f32::from).collect();
        book.copy_from_slice(&matrix.map().expect("scales have eight bits")[..]);
        let mut add = |part: &str, element, values: Vec<f32>| {
            let shape = vec![values.len()];
            tensors.insert(format!("{name}{part}"), (element, shape, values));
        };
        add("", Element::U8, bytes(0));
        add(".absmax", Element::U8, bytes(1));
        add(".nested_absmax", Element::F32, floats(2));
        add(".nested_quant_map", Element::F32, book.clone());
        add(".quant_map", Element::F32, NORMAL.to_vec());
        add(".quant_state.bitsandbytes__nf4", Element::U8, text);
    }
    let specs = tensors.iter().map(|(name, (element, shape, _))| TensorSpec {
        name: name.clone(),
        element: *element,
        shape: shape.clone(),
    });
    let path = run.path(folder).join("model.safetensors");
    write_safetensors(&path, specs.collect(), &BTreeMap::new(), |spec| {
        Ok(tensors[&spec.name].2.clone())
    })
    .unwrap();
}

/// Codes of a file are those that would be made of its numbers.
#[test]
fn a_base_that_is_in_four_bits_already_is_trained_beside_as_it_is() {
    let run = Run::new().with_base();
    in_four_bits(&run, "four");
    let train = |name: &str, more: &[&str]| {
        let name = format!("name={name}");
        let call = ["train", "lora.toml", "--quiet", "--set", &name];
        run.succeeds(&[&call[..], more].concat());
    };
    train("made", &["--set", "model.weight_format=nf4"]);
    train("read", &["--set", "model.base=four"]);
    let adapter = |name: &str| weights(&run.path(&format!("checkpoints/{name}/artifact")));
    assert_eq!(adapter("made"), adapter("read"));
    let plan = run.stderr_of(&["plan", "lora.toml", "--set", "model.base=four"]);
    assert!(plan.contains("linear layers of the base in 4 bits, as its files have them"), "{plan}");
    let prompt = ["--prompt", "What is 3 plus 4?", "--max-tokens", "2"];
    run.succeeds(&[&["generate", "checkpoints/read"], &prompt[..]].concat());
    let both = ["--set", "model.base=four", "--set", "model.weight_format=nf4"];
    run.fails_with(
        2,
        &[&["plan", "lora.toml"], &both[..]].concat(),
        str![[r#"
error[model]: the linear layers of the base are in four bits of bitsandbytes already

hint: leave `model.weight_format` out

"#]],
    );
    // What has no floating-point numbers cannot be changed.
    run.fails_with(
        2,
        &["train", "tiny.toml", "--set", "model.base=four", "--set", "model.init=pretrained"],
        str![[r#"
error[run-changed]: this run is finished, under other settings
  at checkpoints/tiny
  because `model.base` was `base` and is `four`
  because `model.init` was `random` and is `pretrained`

hint: start a new run with another `name`; `--resume never` archives this one

"#]],
    );
    run.fails_with(2, &["merge", "checkpoints/read", "--out", "merged"], str![[r#"
error[adapter]: a base in four bits of bitsandbytes cannot be merged or exported
  at four
  because its files have no place for the sums

hint: train beside the same model in floating-point numbers, with `model.weight_format` in four bits: the codes are the same

"#]]);
}

/// Whatever is missing or does not fit is named, before a number is read.
#[test]
fn a_base_in_four_bits_whose_parts_do_not_fit_is_refused() {
    let run = Run::new().with_base();
    in_four_bits(&run, "four");
    let path = run.path("four/model.safetensors");
    let good = fs::read(&path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(good[..8].try_into().unwrap())).unwrap();
    let header = String::from_utf8(good[8..8 + length].to_vec()).unwrap();
    let part = "model.layers.0.mlp.down_proj.weight";
    let mut messages = String::new();
    let renamed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let from = format!("\"{part}{from}\"");
        assert!(header.contains(&from), "{from}");
        let header = header.replace(&from, &format!("\"{part}{to}\""));
        [&good[..8], header.as_bytes(), &good[8 + length..]].concat()
    };
    let state = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        [&good[..at], to.as_bytes(), &good[at + to.len()..]].concat()
    };
    for bytes in [
        renamed(".absmax", ".absmix"),
        renamed(".quant_state.bitsandbytes__nf4", ".quant_slate.bitsandbytes__nf4"),
        state("\"blocksize\":64", "\"blocksize\":32"),
        state("\"blocksize\":64", "\"blocksize\":-4"),
        state("\"nested_offset\"", "\"nested_offzet\""),
    ] {
        fs::write(&path, bytes).unwrap();
        let told = run.fails(2, &["plan", "lora.toml", "--set", "model.base=four"]);
        messages += &without_progress(&told);
    }
    says(
        messages,
        str![[r#"
error[weights]: the weights lack `model.layers.0.mlp.down_proj.weight.absmax`
  at four

hint: is the download complete?
error[weights]: the weights hold codes in `model.layers.0.mlp.down_proj.weight`
  at four
  because nothing says what they stand for
error[weights]: tensor `model.layers.0.mlp.down_proj.weight.absmax` holds 32 numbers in U8
  at four
  because its `quant_state` makes it 64 in U8
error[weights]: `model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4` has no usable `blocksize`
  at four
error[weights]: `model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4` has no usable `nested_offset`
  at four

"#]],
    );
}
