//! What `plan` says that a run takes is near its peak.
//! `benches/memory.py` measures models of a middle size of all families.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use firebrand::model::{ModelJson, families};
use firebrand::weights::{Element, TensorSpec, write_safetensors};
use serde_json::{Value, json};
use snapbox::data::Inline;
use snapbox::str;

use crate::common::{Run, files_of, says, without_progress};

/// A model of 25 million numbers.
fn config(own: Value) -> Value {
    let mut config = json!({
        "vocab_size": 512, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    });
    config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    config
}

/// A checkpoint `mid` with this configuration, in bfloat16.
fn checkpoint(config: &Value) -> Run {
    let run = Run::new();
    run.model_folder("mid", config);
    let description = families::describe(&ModelJson::from_value(config.clone())).unwrap();
    let element = Element::BF16;
    let specs = description.tensors().into_iter();
    let specs = specs.map(|(name, shape)| TensorSpec { name, element, shape }).collect();
    let file = run.path("mid/model.safetensors");
    write_safetensors(&file, specs, &BTreeMap::new(), |spec| {
        let one = |place: usize| ((spec.name.len() * 31 + place * 7919) % 1009) as f32 / 1009.0;
        Ok((0..spec.shape.iter().product()).map(|place| 0.1 * (one(place) - 0.5)).collect())
    })
    .unwrap();
    run.write(
        "run.toml",
        "[model]\nbase = \"mid\"\n[data]\nmax_seq_len = 128\npacking = true\n\
         [[data.train]]\npath = \"data.jsonl\"\n[lora]\nr = 8\nlora_alpha = 8\n\
         target_modules = \"all-linear\"\n[train]\nmax_steps = 1\nmicro_batch_size = 1\n\
         gradient_accumulation_steps = 1\nlearning_rate = 1e-3\n[checkpoint]\nreuse = \"never\"\n\
         [device]\nname = \"cpu\"\nthreads = 2\n",
    );
    run
}

fn json_of(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Bytes planned and bytes at the peak of a run with these settings.
fn planned_and_peak(run: &Run, name: &str, settings: &[&str]) -> (u64, u64) {
    let name_set = format!("name={name}");
    let mut set = vec!["--set", &name_set];
    settings.iter().for_each(|setting| set.extend(["--set", setting]));
    let plan = run.succeeds(&[&["plan", "run.toml", "--json"], &set[..]].concat());
    let plan: Value = serde_json::from_str(&plan).unwrap();
    run.succeeds(&[&["train", "run.toml", "--quiet"], &set[..]].concat());
    let timings = json_of(&run.path(&format!("checkpoints/{name}/timings.jsonl")));
    (plan["memory_bytes"].as_u64().unwrap(), timings["memory_bytes_peak"].as_u64().unwrap())
}

#[test]
fn the_estimate_is_near_the_peak() {
    let mut ratios = Vec::new();
    let gemma = json!({
        "model_type": "gemma3_text", "head_dim": 64, "query_pre_attn_scalar": 64,
        "sliding_window": 64,
    });
    let families = [("llama", json!({ "model_type": "llama" })), ("gemma", gemma)];
    for (family, own) in families {
        let run = checkpoint(&config(own));
        for (name, settings) in [
            ("f32", &["train.precision=f32"][..]),
            ("bf16", &["train.precision=mixed-bf16"]),
            ("again", &["train.precision=f32", "train.recompute=layers"]),
            ("int8", &["train.precision=mixed-bf16", "model.weight_format=int8"]),
            ("nf4", &["train.precision=mixed-bf16", "model.weight_format=nf4"]),
        ] {
            let (planned, peak) = planned_and_peak(&run, name, settings);
            ratios.push((family, name, planned as f64 / peak as f64));
        }
    }
    // Models of this size weigh as much as what a process has for itself, which systems decide,
    // and which grows where the machine is busy; `benches/memory_plans.py` has narrow bounds.
    assert!(ratios.iter().all(|(.., ratio)| (0.5..=1.4).contains(ratio)), "{ratios:.2?}");
}

/// The fastest first.
const PLANS: [&str; 6] =
    ["fastest", "small-loss", "recompute", "small", "streamed-tables", "streamed"];

fn plans() -> Run {
    let own = json!({
        "model_type": "llama", "num_hidden_layers": 2, "tie_word_embeddings": false,
    });
    checkpoint(&config(own))
}

/// With so many rows, what layers keep is more than what a process has for itself.
const ROWS: &str = "train.micro_batch_size=16";

/// The command with these settings, for runs of two steps.
fn arguments(command: &[&str], name: &str, settings: &[&str]) -> Vec<String> {
    let name = format!("name={name}");
    let all = [&name, "train.max_steps=2"];
    let set = all.iter().chain(settings).flat_map(|text| ["--set", *text]);
    command.iter().copied().chain(set).map(str::to_owned).collect()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn planned(run: &Run, settings: &[&str]) -> Vec<Value> {
    let plan = arguments(&["plan", "run.toml", "--json"], "planned", settings);
    let plan: Value = serde_json::from_str(&run.succeeds(&borrowed(&plan))).unwrap();
    plan["memory_plans"].as_array().unwrap().clone()
}

fn chosen(plans: &[Value]) -> &str {
    let chosen: Vec<_> = plans.iter().filter(|plan| plan["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1);
    chosen[0]["name"].as_str().unwrap()
}

/// What a plan is predicted to need.
fn size_of(plans: &[Value], name: &str) -> u64 {
    let plan = plans.iter().find(|plan| plan["name"] == name).unwrap();
    plan["memory_bytes"].as_u64().unwrap()
}

/// All that a run computes, and its artifact.
fn bytes_of(run: &Run, name: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = run.path(&format!("checkpoints/{name}"));
    let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("frozen-weights")), "{left:?}");
    let mut all = files_of(&folder.join("artifact"));
    for file in ["adapter.safetensors", "optimizer.safetensors", "state.json"] {
        let path = format!("step-00000002/{file}");
        all.insert(path.clone(), fs::read(folder.join(path)).unwrap());
    }
    all.insert("metrics.jsonl".to_owned(), fs::read(folder.join("metrics.jsonl")).unwrap());
    all
}

/// Fails unless two runs have the same bytes.
#[track_caller]
fn assert_same(what: &str, ours: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    assert!(ours.keys().eq(other.keys()), "{what}: {:?} and {:?}", ours.keys(), other.keys());
    let differ: Vec<_> = ours.keys().filter(|name| ours[*name] != other[*name]).collect();
    assert!(differ.is_empty(), "{what}: {differ:?}");
}

fn trained(run: &Run, name: &str, settings: &[&str]) -> BTreeMap<String, Vec<u8>> {
    run.succeeds(&borrowed(&arguments(&["train", "run.toml", "--quiet"], name, settings)));
    bytes_of(run, name)
}

#[test]
fn every_memory_plan_gives_the_same_bytes() {
    let run = plans();
    let all = planned(&run, &[]);
    let names: Vec<&str> = all.iter().map(|plan| plan["name"].as_str().unwrap()).collect();
    assert_eq!(names, PLANS);
    assert_eq!(chosen(&all), "fastest");
    let straight = trained(&run, "straight", &[]);
    for name in names {
        let plan = format!("train.memory={name}");
        assert_eq!(chosen(&planned(&run, &[&plan])), name);
        assert_same(name, &trained(&run, name, &[&plan]), &straight);
    }
    // Codes on disk are those in memory, and what is trained whole is not left there.
    for (number, format) in [
        "model.weight_format=int8",
        "model.weight_format=nf4",
        "lora.modules_to_save=[\"embed_tokens\", \"lm_head\"]",
        "lora.target_modules=[\"q_proj\", \"lm_head\"]",
        "lora.trainable_tokens=[\"<|im_end|>\"]",
        "train.precision=mixed-bf16",
    ]
    .into_iter()
    .enumerate()
    {
        let in_memory = trained(&run, &format!("memory-{number}"), &[format]);
        assert!(in_memory != straight, "{format}");
        for plan in &PLANS[4..] {
            let name = format!("{plan}-{number}");
            let found = trained(&run, &name, &[format, &format!("train.memory={plan}")]);
            assert_same(format, &found, &in_memory);
        }
    }
}

#[test]
fn the_fastest_plan_that_fits_is_taken_and_recorded() {
    let run = plans();
    let all = planned(&run, &[ROWS]);
    let sizes = PLANS.map(|name| size_of(&all, name));
    assert!(sizes[0] > sizes[2] && sizes[3] > sizes[5], "{sizes:?}");
    for size in sizes {
        // Just not enough for this one.
        let limit = size - 1;
        let Some(fits) = sizes.iter().position(|size| *size <= limit) else { continue };
        let set = format!("device.memory_limit={limit}");
        assert_eq!(chosen(&planned(&run, &[ROWS, "train.memory=auto", &set])), PLANS[fits]);
    }
    assert_eq!(
        chosen(&planned(&run, &[ROWS, "train.memory=auto"])),
        "fastest",
        "the machine has it"
    );

    assert!(size_of(&all, "fastest") > size_of(&all, "recompute"));
    assert!(size_of(&all, "small") > size_of(&all, "streamed"));
    let limit = format!("device.memory_limit={}", size_of(&all, "recompute"));
    let auto = trained(&run, "auto", &[ROWS, "train.memory=auto", &limit]);
    assert_same("auto", &auto, &trained(&run, "straight", &[ROWS]));
    let device = |name: &str| {
        let build = &run.provenance(name)["predicate"]["buildDefinition"];
        build["internalParameters"]["device"].clone()
    };
    let plan = "auto: layers computed again, logits of 128 target tokens and 16 rows at once";
    assert_eq!(device("auto")["memory plan"], plan);
    assert_eq!(device("straight")["memory plan"], Value::Null);
}

#[test]
fn a_run_goes_on_with_another_memory_plan_to_the_same_bytes() {
    let run = plans();
    let straight = trained(&run, "straight", &[]);
    let steps =
        [&["train.memory=fastest"][..], &["train.recompute=layers"], &["train.memory=streamed"]];
    for (number, after) in steps.iter().enumerate() {
        let (name, before) = (format!("changed-{number}"), steps[(number + 1) % steps.len()]);
        let first = arguments(&["train", "run.toml", "--quiet"], &name, before);
        run.succeeds(&[&borrowed(&first)[..], &["--stop-after-steps", "1"]].concat());
        assert_same(&format!("{before:?}, {after:?}"), &trained(&run, &name, after), &straight);
    }
}

#[test]
fn what_does_not_fit_or_cannot_be_is_refused() {
    let run = plans();
    let refused = |settings: &[&str], errors: Inline| {
        let all = arguments(&["plan", "run.toml", "--set", ROWS], "refused", settings);
        says(without_progress(&run.fails(2, &borrowed(&all))), errors);
    };
    let limit = size_of(&planned(&run, &[ROWS]), "recompute");
    refused(
        &[&format!("device.memory_limit={limit}")],
        str![[r#"
error[out-of-memory]: the run does not fit into `device.memory_limit`
  because it needs about [..] MB (nothing computed again, logits of 128 target tokens and 16 rows at once), and may take [..] MB

hint: `train.memory = "recompute"` needs about [..] MB

"#]],
    );
    refused(
        &["train.memory=small", "device.memory_limit=1 MB"],
        str![[r#"
error[out-of-memory]: the run does not fit into `device.memory_limit`
  because it needs about [..] MB (layers computed again, logits of 32 target tokens and 16 rows at once), and may take 1.0 MB

hint: a shorter `data.max_seq_len`, a smaller `train.micro_batch_size` or another `model.weight_format` needs less

"#]],
    );
    refused(
        &["train.memory=auto", "device.memory_limit=1 MB"],
        str![[r#"
error[out-of-memory]: the run does not fit into `device.memory_limit`
  because it needs about [..] MB (layers computed again, logits of 32 target tokens and 16 rows at once, frozen weights on disk), and may take 1.0 MB

hint: a shorter `data.max_seq_len`, a smaller `train.micro_batch_size` or another `model.weight_format` needs less

"#]],
    );
    refused(
        &["train.memory=auto", "train.recompute=layers"],
        str![[r#"
error[config]: `train.memory` and `train.recompute` exclude each other
  at --set train.recompute

hint: keep one of the two; `train.memory` is given by `--set train.memory`

"#]],
    );
    refused(
        &["train.memory=streamed", "lora.init_lora_weights=pissa"],
        str![[r#"
error[run]: `train.memory = "streamed"` leaves frozen weights on disk
  because the start of the adapter changes them (`lora.init_lora_weights`)

hint: use `lora.init_lora_weights = "default"`, or another `train.memory`

"#]],
    );
    let full = ["plan", "tiny.toml", "--set", "train.memory=streamed-tables"];
    says(
        without_progress(&run.fails(2, &full)),
        str![[r#"
error[run]: `train.memory = "streamed-tables"` leaves frozen weights on disk
  because without an adapter every weight is trained

hint: add a `[lora]` section, or use another `train.memory`

"#]],
    );
}

/// A head that is trained sums its gradient over chunks, which are not made smaller then.
#[test]
fn memory_plans_of_full_training_give_the_same_bytes() {
    let run = Run::new();
    let train = |name: &str, more: &[&str]| {
        let set = format!("name={name}");
        let more = more.iter().flat_map(|text| ["--set", *text]);
        let all = ["train", "tiny.toml", "--quiet", "--set", &set].into_iter().chain(more);
        run.succeeds(&all.collect::<Vec<_>>());
        let folder = run.path(&format!("checkpoints/{name}"));
        ["metrics.jsonl", "step-00000006/model.safetensors", "step-00000006/optimizer.safetensors"]
            .map(|file| fs::read(folder.join(file)).unwrap())
    };
    let straight = train("straight", &[]);
    for plan in &PLANS[..4] {
        assert!(train(plan, &[&format!("train.memory={plan}")]) == straight, "{plan}");
    }
}
