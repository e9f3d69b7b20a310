//! A run as a job of another trainer: the same rows in the same order, the same settings, and a word
//! for each that has no counterpart. `tests/reference/export_job.py` loads what is written with
//! `datasets`, TRL and transformers, and compares the loss of the first step.

use std::path::Path;
use std::sync::Arc;

use crate::common::{LORA, Run, repository, says};
use firebrand::data::{Cursor, Extent, each_record};
use firebrand::event::{Event, Observer};
use firebrand::export_job::job_targets;
use firebrand::train::{Access, prepare, supply_for};
use serde_json::{Value, json};
use snapbox::str;

struct Deaf;

impl Observer for Deaf {
    fn on(&mut self, _: Event) {}
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records of a data file, as our own reader has them.
fn records(path: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    each_record(path, &mut |batch| {
        all.extend(batch.iter().map(|record| Value::Object(record.fields.clone().unwrap())));
    })
    .unwrap();
    all
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

#[test]
fn a_job_has_the_rows_of_the_run_in_their_order() {
    let run = Run::new();
    let set = ["--set", "train.max_steps=9", "--set", "data.packing=true"];
    let config = run.path("tiny.toml");
    let arguments = ["export-job", "tiny.toml", "--to", "trl", "--out", "job"];
    assert_eq!(run.succeeds(&[&arguments[..], &set].concat()), "job\n");
    let rows = lines(&run.read("job/train.jsonl"));
    // What the run itself takes, step after step.
    let overrides = ["train.max_steps=9", "data.packing=true"].map(str::to_owned);
    let text =
        run.read("tiny.toml").replace("\"data.jsonl\"", &format!("{:?}", run.path("data.jsonl")));
    let text = text.replace("\"validation.jsonl\"", &format!("{:?}", run.path("validation.jsonl")));
    let text = text.replace("base = \"base\"", &format!("base = {:?}", run.path("base")));
    std::fs::write(&config, text).unwrap();
    let loaded = firebrand::settings::load(&config, &overrides).unwrap();
    let supply = supply_for(&config, None, &Access::default()).unwrap();
    let prepared = prepare(&loaded, &Arc::clone(&supply), Extent::AsNeeded, &mut Deaf).unwrap();
    let (mut cursor, mut at, mut filled) = (Cursor::default(), 0, 0);
    for step in 1..=9 {
        let begin = at;
        for batch in prepared.take(&mut cursor).unwrap() {
            for number in 0..batch.rows {
                let all = number * batch.length..(number + 1) * batch.length;
                let length = batch.documents[all.clone()].iter().filter(|it| **it > 0).count();
                let wide = |list: &[u32]| list.iter().map(|it| i64::from(*it)).collect::<Vec<_>>();
                let row = &rows[at];
                assert_eq!(numbers(&row["input_ids"]), wide(&batch.tokens[all.start..][..length]));
                assert_eq!(
                    numbers(&row["position_ids"]),
                    wide(&batch.positions[all.start..][..length])
                );
                let labels = numbers(&row["labels"]);
                let targets: Vec<(usize, i64)> = batch
                    .targets
                    .iter()
                    .filter(|target| all.contains(&(target.index as usize)))
                    .map(|target| (target.index as usize - all.start + 1, i64::from(target.token)))
                    .collect();
                let labelled: Vec<(usize, i64)> = labels
                    .iter()
                    .copied()
                    .enumerate()
                    .filter(|(_, label)| *label != -100)
                    .collect();
                assert_eq!(labelled, targets, "step {step}");
                assert_eq!(numbers(&row["seq_lengths"]).iter().sum::<i64>(), length as i64);
                at += 1;
            }
        }
        // A step that ends with its epoch is filled up with rows that teach nothing.
        while at - begin < 4 {
            assert!(numbers(&rows[at]["labels"]).iter().all(|label| *label == -100));
            at += 1;
            filled += 1;
        }
    }
    assert_eq!(at, rows.len());
    assert!(filled > 0, "no step ended with its epoch");
    let job: Value = serde_json::from_str(&run.read("job/job.json")).unwrap();
    assert_eq!(job["learning_rates"].as_array().unwrap().len(), 9);
    assert_eq!(job["arguments"]["max_steps"], 9);
    assert_eq!(
        lines(&run.read("job/validation.jsonl")).len(),
        prepared.validation.iter().map(|it| it.rows).sum::<usize>()
    );
}

#[test]
fn rows_in_parquet_are_those_of_json_lines() {
    let run = Run::new();
    let job = |to: &str, form: &str, out: &str| {
        let job = ["export-job", "tiny.toml", "--to", to, "--rows", form, "--out", out, "--set"];
        run.succeeds(&[&job[..], &["data.packing=true"]].concat());
    };
    job("trl", "jsonl", "lines");
    job("trl", "parquet", "columns");
    job("axolotl", "parquet", "again");
    for part in ["train", "validation"] {
        let twins = lines(&run.read(&format!("lines/{part}.jsonl")));
        assert!(!twins.is_empty());
        let bytes = |job: &str| std::fs::read(run.path(&format!("{job}/{part}.parquet"))).unwrap();
        assert_eq!(records(&run.path(&format!("columns/{part}.parquet"))), twins);
        assert!(bytes("columns") == bytes("again"), "the same rows have the same bytes");
        assert!(!run.path(&format!("columns/{part}.jsonl")).exists());
    }
    let told = |job: &str| {
        let job: Value = serde_json::from_str(&run.read(&format!("{job}/job.json"))).unwrap();
        job["rows"].clone()
    };
    let lines = json!({"format": "json", "train": "train.jsonl", "validation": "validation.jsonl"});
    assert_eq!(told("lines"), lines);
    let columns = ["parquet", "train.parquet", "validation.parquet"];
    let columns = json!({"format": columns[0], "train": columns[1], "validation": columns[2]});
    assert_eq!(told("columns"), columns);
    let yaml = run.read("again/axolotl.yml");
    let told = yaml.lines().filter(|line| line.contains("parquet"));
    says(
        told.map(|line| format!("{line}\n")).collect::<String>(),
        str![[r##"
# `train.parquet` has the rows of the whole run, tokenised and packed, in their order.
datasets: [{"path":"train.parquet","ds_type":"parquet","type":null}]
test_datasets: [{"path":"validation.parquet","ds_type":"parquet","type":null}]

"##]],
    );
    let form = ["export-job", "tiny.toml", "--to", "trl", "--rows", "arrow"];
    run.fails_with(
        2,
        &form,
        str![[r#"
error: invalid value 'arrow' for '--rows <FORM>'
  [possible values: jsonl, parquet]

For more information, try '--help'.

"#]],
    );
}

#[test]
fn settings_without_a_counterpart_are_named() {
    let run = Run::new().with_base();
    let set = [
        "--set",
        "train.lr_scheduler=linear",
        "--set",
        "train.ema_decay=0.9",
        "--set",
        "eval.prompts=[\"What?\"]",
        "--set",
        "lora.loraplus_lr_ratio=4",
        "--set",
        "checkpoint.keep_best=1",
        "--set",
        "eval.every_steps=2",
    ];
    let said = run.stderr_of(&[&["export-job", "lora.toml", "--to", "trl"][..], &set].concat());
    let told =
        said.lines().filter(|line| !line.starts_with(' ') && !line.starts_with("chat template"));
    says(
        told.map(|line| format!("{line}\n")).collect::<String>(),
        str![[r#"
data.jsonl: 20 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
10 rows with 647 tokens, of 5 steps
without a counterpart: checkpoint.keep_best = 1: only the newest checkpoints are kept there
without a counterpart: eval.max_tokens = 8: answers and suites are this program's own: `firebrand eval`
without a counterpart: eval.prompts = ["What?"]: answers and suites are this program's own: `firebrand eval`
without a counterpart: lora.loraplus_lr_ratio = 4.0: both factors have the same rate there
without a counterpart: train.ema_decay = 0.9: weights are not averaged there
to run it there: accelerate launch train.py

"#]],
    );
    let said = run.stderr_of(&[&["export-job", "lora.toml", "--to", "axolotl"][..], &set].concat());
    let told = said.lines().filter(|line| line.starts_with("without a counterpart"));
    says(
        told.map(|line| format!("{line}\n")).collect::<String>(),
        str![[r#"
without a counterpart: checkpoint.keep_best = 1: only the newest checkpoints are kept there
without a counterpart: eval.max_tokens = 8: answers and suites are this program's own: `firebrand eval`
without a counterpart: eval.prompts = ["What?"]: answers and suites are this program's own: `firebrand eval`
without a counterpart: train.ema_decay = 0.9: weights are not averaged there

"#]],
    );
    let yaml = run.read("jobs/lora-axolotl/axolotl.yml");
    let base = run.path("checkpoints/tiny/artifact").canonicalize().unwrap();
    says(
        yaml.replace(base.to_str().unwrap(), "[BASE]"),
        str![[r##"
# A job of Firebrand for axolotl: `axolotl train axolotl.yml` in this folder.
# `train.jsonl` has the rows of the whole run, tokenised and packed, in their order.
# without a counterpart: checkpoint.keep_best = 1: only the newest checkpoints are kept there
# without a counterpart: eval.max_tokens = 8: answers and suites are this program's own: `firebrand eval`
# without a counterpart: eval.prompts = ["What?"]: answers and suites are this program's own: `firebrand eval`
# without a counterpart: train.ema_decay = 0.9: weights are not averaged there
base_model: "[BASE]"
datasets: [{"path":"train.jsonl","ds_type":"json","type":null}]
test_datasets: [{"path":"validation.jsonl","ds_type":"json","type":null}]
adapter: "lora"
output_dir: "out"
max_steps: 5
sequence_len: 96
sample_packing: false
pad_to_sequence_len: false
shuffle_merged_datasets: false
curriculum_sampling: true
dataset_exact_deduplication: false
excess_length_strategy: "raise"
flash_attention: true
save_strategy: "steps"
save_steps: 2
save_total_limit: 2
eval_strategy: "steps"
eval_steps: 2
lora_alpha: 8.0
lora_dropout: 0.1
loraplus_lr_ratio: 4.0
lora_r: 4
lora_target_linear: true
peft_use_rslora: false
seed: 42
adam_beta1: 0.9
adam_beta2: 0.999
adam_epsilon: 1e-8
gradient_accumulation_steps: 2
learning_rate: 0.01
lr_scheduler: "linear"
max_grad_norm: 1.0
micro_batch_size: 1
optim: "adamw_torch"
gradient_checkpointing: false
warmup_steps: 0
weight_decay: 0.01

"##]],
    );
    run.fails_with(
        2,
        &["export-job", "lora.toml", "--to", "trl", "--quiet"],
        str![[r#"
error[exists]: there is something already
  at jobs/lora-trl

"#]],
    );
}

/// All weights of the trained tiny model, under a rate that changes.
fn full() -> String {
    let (before, after) = LORA.split_once("[lora]").unwrap();
    let train = after.split_once("[train]").unwrap().1;
    format!("{before}[train]\nlr_scheduler = \"linear\"\nweight_decay = 0.0\n{train}")
}

/// Other trainers know tokens by their numbers alone.
#[test]
fn tokens_that_are_trained_are_told_by_their_numbers() {
    let run = Run::new().with_base();
    let set = ["--set", "lora.trainable_tokens=[\"<|im_end|>\", \"<|im_start|>\"]"];
    for target in ["trl", "axolotl"] {
        let job = ["export-job", "lora.toml", "--to", target, "--out", target];
        run.succeeds(&[&job[..], &set].concat());
    }
    let job: serde_json::Value = serde_json::from_str(&run.read("trl/job.json")).unwrap();
    assert_eq!(job["peft"]["trainable_token_indices"], serde_json::json!([1, 2]));
    let yaml = run.read("axolotl/axolotl.yml");
    assert!(yaml.lines().any(|line| line == "peft_trainable_token_indices: [1,2]"));
}

/// What becomes of every setting is said for every target.
#[test]
fn no_setting_is_passed_over() {
    for target in job_targets() {
        let target = firebrand::export_job::job_target(target).unwrap();
        let all = firebrand::settings::KEYS.keys().filter(|key| !key.internal);
        let missing: Vec<&str> =
            all.map(|key| key.path).filter(|path| !target.knows(path)).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", target.name);
    }
}

/// The jobs that `tests/reference/export_job.py` is given, in the folder of `FIREBRAND_JOBS`.
#[test]
#[ignore = "writes what tests/reference/export_job.py reads"]
fn jobs_for_the_reference() {
    let Some(folder) = std::env::var_os("FIREBRAND_JOBS").map(std::path::PathBuf::from) else {
        return;
    };
    let run = Run::new().with_base();
    run.write("full.toml", &full());
    let jobs = [
        ("lora", "lora.toml", "lora.lora_dropout=0", "jsonl"),
        ("full", "full.toml", "seed=42", "jsonl"),
        ("parquet", "full.toml", "seed=42", "parquet"),
    ];
    for (name, toml, more, form) in jobs {
        let out = folder.join(name).display().to_string();
        let (set, rows) = (["--set", more], ["--rows", form]);
        let arguments = ["export-job", toml, "--to", "trl", "--out", &out];
        run.succeeds(&[&arguments[..], &set, &rows].concat());
    }
    // They name the base where it lies now; it is gone with the test.
    let base = run.path("checkpoints/tiny/artifact");
    for entry in std::fs::read_dir(&base).unwrap().flatten() {
        std::fs::create_dir_all(folder.join("base")).unwrap();
        std::fs::copy(entry.path(), folder.join("base").join(entry.file_name())).unwrap();
    }
    for (name, ..) in jobs {
        let path = folder.join(name).join("job.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let base = base.canonicalize().unwrap().display().to_string();
        let kept = folder.join("base").display().to_string();
        std::fs::write(path, text.replace(&base, &kept)).unwrap();
    }
}

/// What the reference script found when it loaded a job of TRL.
#[test]
fn the_reference_loads_a_job_and_finds_the_loss_of_the_run() {
    let found = std::fs::read_to_string(repository("tests/reference/export_job.json")).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "lora.lora_dropout=0"]);
    let metrics = lines(&run.read("checkpoints/lora/metrics.jsonl"));
    let first =
        metrics.iter().find(|line| line["step"] == 1 && line.get("loss").is_some()).unwrap();
    let (ours, theirs) = (first["loss"].as_f64().unwrap(), found["first_loss"].as_f64().unwrap());
    assert!((ours - theirs).abs() < 1e-5, "{ours} and {theirs}");
    assert_eq!(first["target_tokens"], found["first_targets"]);
    run.succeeds(&[
        "export-job",
        "lora.toml",
        "--to",
        "trl",
        "--out",
        "job",
        "--set",
        "lora.lora_dropout=0",
    ]);
    let rows = lines(&run.read("job/train.jsonl"));
    let tokens: Vec<i64> = rows.iter().flat_map(|row| numbers(&row["input_ids"])).collect();
    let text = tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let digest = firebrand::files::Digest::of(text.as_bytes()).to_string();
    assert_eq!(found["tokens_sha256"], digest.as_str(), "the order of what they loaded is ours");
    // The script trains all weights as it is: with the same rows, rates and updates.
    run.write("full.toml", &full());
    run.succeeds(&["train", "full.toml", "--quiet"]);
    let metrics = lines(&run.read("checkpoints/full/metrics.jsonl"));
    let ours = metrics.iter().filter_map(|line| line["loss"].as_f64());
    let theirs: Vec<f64> = found["full_losses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loss| loss.as_f64().unwrap())
        .collect();
    let ours: Vec<f64> = ours.collect();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 1e-6 * theirs.abs(), "{ours} and {theirs}");
    }
}
