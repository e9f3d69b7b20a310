//! What `plan` says that a run takes is near its peak.
//! `benches/memory.py` measures models of a middle size of all families.

mod activations;
mod on_gpu;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use firebrand::model::{ModelJson, families};
use firebrand::weights::{Element, TensorSpec, write_safetensors};
use serde_json::{Value, json};
use snapbox::data::Inline;
use snapbox::str;

use crate::common::{Run, conversations, files_of, says, without_progress};

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
fn planned_and_peak(run: &Run, config: &str, name: &str, settings: &[&str]) -> (u64, u64) {
    let name_set = format!("name={name}");
    let mut set = vec!["--set", &name_set];
    settings.iter().for_each(|setting| set.extend(["--set", setting]));
    let plan = run.succeeds(&[&["plan", config, "--json"], &set[..]].concat());
    let plan: Value = serde_json::from_str(&plan).unwrap();
    run.succeeds(&[&["train", config, "--quiet"], &set[..]].concat());
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
            let (planned, peak) = planned_and_peak(&run, "run.toml", name, settings);
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
    let scratch = |name: &String| {
        name.contains("frozen-weights") || name.contains("-state") || name.contains("layer-inputs")
    };
    assert!(!left.iter().any(scratch), "{left:?}");
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
    // Of an adapter little is kept, so that plans without it are not considered; they can be had.
    for (name, plan) in [
        ("offloaded", "train.memory=offloaded"),
        ("small-offloaded", "train.memory=small-offloaded"),
        ("activations-offloaded", "train.memory=activations-offloaded"),
        ("all-offloaded", "train.memory=all-offloaded"),
    ] {
        assert_eq!(chosen(&planned(&run, &[plan])), name);
        assert_same(name, &trained(&run, name, &[plan]), &straight);
    }
    let both = ["train.memory=streamed", "train.optimizer_offload=disk"];
    let plans = planned(&run, &both);
    assert_eq!(chosen(&plans), "streamed");
    assert!(plans.iter().all(|plan| plan["optimizer_offload"] == "disk"));
    assert_same("streamed, disk", &trained(&run, "both", &both), &straight);
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
    let steps = [
        &["train.memory=fastest"][..],
        &["train.recompute=layers"],
        &["train.memory=streamed"],
        &["train.optimizer_offload=disk"],
        &["train.memory=small-offloaded"],
    ];
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
    refused(
        &["train.optimizer_offload=host"],
        str![[r#"
error[run]: `train.optimizer_offload = "host"` moves the optimizer's state off the device
  because on the CPU that is in host memory already (`"host"`)

hint: `train.optimizer_offload = "disk"` moves it to disk

"#]],
    );
    refused(
        &["train.optimizer_offload=disk", "train.optimizer=sgd", "train.sgd_momentum=0"],
        str![[r#"
error[run]: `train.optimizer_offload = "disk"` moves the optimizer's state off the device
  because `sgd` keeps none with these settings

hint: leave it out

"#]],
    );
    refused(
        &["train.optimizer_offload=none", "train.memory=offloaded"],
        str![[r#"
error[run]: `train.memory = "offloaded"` moves the optimizer's state off the device
  because `train.optimizer_offload = "none"` leaves it there

hint: leave one of the two out

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
    for plan in PLANS[..4].iter().chain(&["offloaded", "small-offloaded", "all-offloaded"]) {
        assert!(train(plan, &[&format!("train.memory={plan}")]) == straight, "{plan}");
    }
    // With saves beside steps, measurements and parts of the state that are saved meanwhile.
    let saves = ["checkpoint.every_steps=1", "eval.every_steps=2"];
    let saved = train("saved", &saves);
    assert!(
        train("saved-disk", &[&saves[..], &["train.optimizer_offload=disk"]].concat()) == saved
    );
}

/// Each optimizer, and averages: straight, and stopped and gone on with with the state elsewhere.
#[test]
fn every_optimizer_may_keep_its_state_on_disk() {
    let run = Run::new();
    // Wide enough for matrices of more than 4096 numbers, which are kept in codes.
    let mut config = crate::common::model_config();
    config["hidden_size"] = 64.into();
    config["intermediate_size"] = 160.into();
    run.model_folder("wide", &config);
    let train = |name: &str, more: &[&str]| {
        let name = format!("name={name}");
        let all = ["train", "tiny.toml", "--quiet", "--set", &name, "--set", "model.base=wide"];
        run.succeeds(&[&all[..], more].concat());
    };
    let end = |name: &str| {
        let folder = run.path(&format!("checkpoints/{name}"));
        let step = files_of(&folder.join("step-00000006"));
        let step = step.into_iter().filter(|(name, _)| name.ends_with(".safetensors"));
        (step.collect::<BTreeMap<_, _>>(), fs::read(folder.join("metrics.jsonl")).unwrap())
    };
    let rules = firebrand::engine::optimizers::OPTIMIZERS.iter();
    let rules = rules.map(|entry| vec![format!("train.optimizer={}", entry.name)]);
    let averaged = vec!["train.optimizer=muon".to_owned(), "train.ema_decay=0.7".to_owned()];
    for (number, rule) in rules.chain([averaged]).enumerate() {
        let set: Vec<&str> = rule.iter().flat_map(|text| ["--set", &**text]).collect();
        let disk = [&set[..], &["--set", "train.optimizer_offload=disk"]].concat();
        let [straight, whole, back, forth] =
            ["straight", "whole", "back", "forth"].map(|end| format!("{end}-{number}"));
        train(&straight, &set);
        train(&whole, &disk);
        for (name, before, after) in [(&back, &disk, &set), (&forth, &set, &disk)] {
            train(name, &[before, &["--stop-after-steps", "2"][..]].concat());
            train(name, after);
        }
        for name in [&whole, &back, &forth] {
            assert!(end(name) == end(&straight), "{rule:?}: {name}");
        }
    }
}

/// Full training of a model whose state is large.
#[test]
fn state_on_disk_leaves_the_peak_and_is_chosen_where_it_helps() {
    let run = plans();
    let lora = "[lora]\nr = 8\nlora_alpha = 8\ntarget_modules = \"all-linear\"\n";
    let full = run.read("run.toml");
    assert!(full.contains(lora));
    run.write("run.toml", &full.replace(lora, ""));
    let all = planned(&run, &[ROWS]);
    let names: Vec<&str> = all.iter().map(|plan| plan["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fastest", "offloaded", "recompute", "small-offloaded"]);
    assert_eq!(chosen(&all), "fastest");
    let plan = |settings: &[&str]| -> Value {
        let plan = arguments(&["plan", "run.toml", "--json"], "planned", settings);
        serde_json::from_str(&run.succeeds(&borrowed(&plan))).unwrap()
    };
    let [before, after] = [&[ROWS][..], &[ROWS, "train.optimizer_offload=disk"]].map(plan);
    // Two numbers of 32 bits for each that is trained.
    let state = 8 * before["trainable_parameters"].as_u64().unwrap();
    let of = |plan: &Value, part: &str| plan["memory"][part].as_u64().unwrap();
    assert!(of(&before, "optimizer") >= state);
    assert!(of(&before, "optimizer") - of(&after, "optimizer") > state / 2);
    assert_eq!(of(&before, "activations"), of(&after, "activations"));
    assert!(size_of(&all, "fastest") - size_of(&all, "offloaded") > state / 2);
    for plan in &all {
        // Just enough for this one: it is taken, or one before it that needs less.
        let limit = plan["memory_bytes"].as_u64().unwrap();
        let fits = |plan: &&Value| plan["memory_bytes"].as_u64().unwrap() <= limit;
        let expected = all.iter().find(fits).unwrap()["name"].as_str().unwrap();
        let set = format!("device.memory_limit={limit}");
        assert_eq!(chosen(&planned(&run, &[ROWS, "train.memory=auto", &set])), expected);
        // Who asks for none of it gets none of it.
        let none = [ROWS, "train.memory=fastest", "train.optimizer_offload=none"];
        let none = planned(&run, &none);
        assert!(none.iter().all(|plan| plan["optimizer_offload"] == "none"));
    }
    let steps = ["train.max_steps=2", ROWS];
    let disk = [&steps[..], &["train.optimizer_offload=disk"]].concat();
    for (name, settings) in [("memory", &steps[..]), ("disk", &disk)] {
        let (planned, peak) = planned_and_peak(&run, "run.toml", name, settings);
        let ratio = planned as f64 / peak as f64;
        assert!((0.5..=1.4).contains(&ratio), "{name}: {planned} planned, {peak} at the peak");
    }
}

/// More tokens in a micro-batch than a tile of an MLP has.
const LONG: &str = "train.micro_batch_size=40";
const TILED: &[&str] = &["train.recompute=layers", "train.tiled_mlp=true"];

/// A model of two layers, and data for micro-batches of that many rows.
fn long_rows(own: Value) -> Run {
    let mut small = json!({ "num_hidden_layers": 2 });
    small.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    let run = checkpoint(&config(small));
    run.write("data.jsonl", &conversations(500));
    let lora = "[lora]\nr = 8\nlora_alpha = 8\ntarget_modules = \"all-linear\"\n";
    let text = run.read("run.toml");
    assert!(text.contains(lora));
    run.write("full.toml", &text.replace(lora, ""));
    run
}

/// Sums over tokens are made tile by tile as products make them, so that no bit differs.
#[test]
fn mlps_in_tiles_give_the_same_bytes() {
    let narrow = json!({
        "hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16,
    });
    for family in ["llama", "gemma3_text"] {
        let mut own = narrow.clone();
        own["model_type"] = family.into();
        if family == "gemma3_text" {
            own["query_pre_attn_scalar"] = 16.into();
            own["sliding_window"] = 64.into();
        }
        let run = long_rows(own);
        assert_eq!(chosen(&planned(&run, &[LONG, "train.memory=tiled-mlp"])), "tiled-mlp");
        for (number, setting) in
            ["train.precision=f32", "lora.lora_dropout=0.2", "train.precision=mixed-bf16"]
                .into_iter()
                .enumerate()
        {
            let straight = trained(&run, &format!("straight-{number}"), &[LONG, setting]);
            for plan in ["tiled-mlp", "streamed"] {
                let memory = format!("train.memory={plan}");
                let name = format!("{plan}-{number}");
                let found = trained(&run, &name, &[LONG, setting, &memory]);
                assert_same(&format!("{family} {name} {setting}"), &found, &straight);
            }
            let name = format!("set-{number}");
            let found = trained(&run, &name, &[&[LONG, setting], TILED].concat());
            assert_same(&format!("{family} {name} {setting}"), &found, &straight);
        }
        let full = |name: &str, settings: &[&str]| {
            let all = arguments(&["train", "full.toml", "--quiet"], name, settings);
            run.succeeds(&borrowed(&all));
            [
                "metrics.jsonl",
                "step-00000002/model.safetensors",
                "step-00000002/optimizer.safetensors",
            ]
            .map(|file| fs::read(run.path(&format!("checkpoints/{name}/{file}"))).unwrap())
        };
        let straight = full("full", &[LONG]);
        assert!(full("full-tiled", &[LONG, "train.memory=tiled-mlp"]) == straight, "{family}");
    }
}

/// What is between gate, up and down of all tokens is the most that a layer has here.
#[test]
fn mlps_in_tiles_take_less_memory_and_auto_takes_them() {
    let run = long_rows(json!({
        "model_type": "llama", "hidden_size": 256, "intermediate_size": 4096,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }));
    let [small, tiled] = ["small", "tiled-mlp"].map(|plan| {
        planned_and_peak(
            &run,
            "run.toml",
            plan,
            &[LONG, "train.precision=f32", &format!("train.memory={plan}")],
        )
    });
    assert!(tiled.0 < small.0 && tiled.1 < small.1, "{small:?} {tiled:?}");
    for (planned, peak) in [small, tiled] {
        let ratio = planned as f64 / peak as f64;
        assert!((0.5..=1.4).contains(&ratio), "{planned} {peak}");
    }
    let size = size_of(&planned(&run, &[LONG]), "tiled-mlp");
    let auto = [LONG, "train.memory=auto", &format!("device.memory_limit={size}")];
    assert_eq!(chosen(&planned(&run, &auto)), "tiled-mlp");
    assert_same("auto", &trained(&run, "auto", &auto), &trained(&run, "straight", &[LONG]));
    let build = &run.provenance("auto")["predicate"]["buildDefinition"];
    let plan = "auto: layers computed again, MLPs 2048 tokens at a time, logits of 32 target \
                tokens and 40 rows at once";
    assert_eq!(build["internalParameters"]["device"]["memory plan"], plan);
}

/// Tiles are of layers that are computed again.
#[test]
fn tiles_without_recompute_are_refused() {
    let run = Run::new();
    let all = ["plan", "tiny.toml", "--set", "train.tiled_mlp=true"];
    says(
        without_progress(&run.fails(2, &all)),
        str![[r#"
error[config]: `train.tiled_mlp` means nothing when `train.recompute` is `none`
  at --set train.tiled_mlp

hint: remove it, or set `recompute` to `layers`

"#]],
    );
}
