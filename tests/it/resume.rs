//! A run that was interrupted, anywhere and any number of times, ends with the bytes of one that
//! never was: weights, optimiser, metrics.

use snapbox::str;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Run, assert_same_artifact, says, wait};
use firebrand::files::{Digest, hash_file};
use firebrand::objectives::{self, OBJECTIVES, Records};
use firebrand::random::Stream;

/// Digests of all that must be equal at the end of the run `name`.
fn ends(run: &Run, name: &str, last_step: u64) -> Vec<(String, Digest)> {
    let root = run.path("checkpoints").join(name);
    let checkpoint = root.join(format!("step-{last_step:08}"));
    let adapter = checkpoint.join("adapter.safetensors").exists();
    let saved = if adapter { "adapter" } else { "model" };
    [
        root.join("metrics.jsonl"),
        checkpoint.join(format!("{saved}.safetensors")),
        checkpoint.join("optimizer.safetensors"),
        checkpoint.join("state.json"),
    ]
    .iter()
    .map(|path| (path.display().to_string(), digest(path)))
    .collect()
}

fn digest(path: &Path) -> Digest {
    hash_file(path, "").unwrap().sha256
}

/// `name` is the same run under another name, so paths differ and digests must not.
fn assert_same_end(run: &Run, name: &str, reference: &str, last_step: u64) {
    for ((file, ours), (_, reference)) in
        ends(run, name, last_step).iter().zip(&ends(run, reference, last_step))
    {
        assert_eq!(ours, reference, "{file}");
    }
    let artifact = |name: &str| run.path("checkpoints").join(name).join("artifact");
    assert_same_artifact(&artifact(name), &artifact(reference));
}

fn train<'a>(config: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", config, "--quiet", "--set", name], more].concat()
}

#[test]
fn a_stop_at_every_step_changes_no_byte() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &[]));
    for step in 0..6 {
        let (name, step) = (format!("name=stop-{step}"), step.to_string());
        let stopped = run.succeeds(&train("tiny.toml", &name, &["--stop-after-steps", &step]));
        assert!(stopped.contains("\"resumable\":true"), "{stopped}");
        run.succeeds(&train("tiny.toml", &name, &[]));
        assert_same_end(&run, &name["name=".len()..], "straight", 6);
    }
}

#[test]
fn a_stop_after_each_step_of_an_adapter_with_dropout_changes_no_byte() {
    let run = Run::new().with_base();
    run.succeeds(&train("lora.toml", "name=straight", &[]));
    for steps in ["0", "1", "1", "1", "1"] {
        run.succeeds(&train("lora.toml", "name=often", &["--stop-after-steps", steps]));
    }
    run.succeeds(&train("lora.toml", "name=often", &[]));
    assert_same_end(&run, "often", "straight", 5);
    // Steps are in the metrics once each, in order.
    let metrics = run.read("checkpoints/often/metrics.jsonl");
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    let steps: Vec<u64> = steps.iter().map(|report| report.step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
}

#[test]
fn other_adapters_and_formats_of_weights_go_on_with_the_same_bytes() {
    let run = Run::new().with_base();
    let sets = [
        "lora.use_dora=true",
        "lora.loraplus_lr_ratio=16",
        "lora.init_lora_weights=pissa",
        "lora.init_lora_weights=olora",
        "lora.rank_pattern={ q_proj = 2, \"[gu].*_proj\" = 3 }",
        "train.param_groups=[{ modules = [\"lora_B\"], learning_rate = 5e-2, weight_decay = 0.5 }]",
        "model.weight_format=int8",
        "model.weight_format=nf4",
    ];
    for (number, set) in sets.iter().enumerate() {
        let [straight, often] = ["straight", "often"].map(|name| format!("name={name}-{number}"));
        let with = |more: &[&'static str]| [&["--set", *set][..], more].concat();
        run.succeeds(&train("lora.toml", &straight, &with(&[])));
        for steps in ["1", "2"] {
            run.succeeds(&train("lora.toml", &often, &with(&["--stop-after-steps", steps])));
        }
        run.succeeds(&train("lora.toml", &often, &with(&[])));
        let name = |set: &str| set.trim_start_matches("name=").to_owned();
        assert_same_end(&run, &name(&often), &name(&straight), 5);
        // Not under another choice.
        let stderr = run.fails(2, &train("lora.toml", &often, &[]));
        assert!(stderr.contains(set.split('=').next().unwrap()), "{stderr}");
    }
}

#[test]
fn another_number_of_threads_or_of_micro_batches_at_once_changes_no_byte() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=one", &["--set", "device.threads=1"]));
    run.succeeds(&train("tiny.toml", "name=three", &["--stop-after-steps", "3"]));
    let more = ["--set", "device.threads=3", "--set", "device.parallel_micro_batches=2"];
    run.succeeds(&train("tiny.toml", "name=three", &more));
    assert_same_end(&run, "three", "one", 6);
}

/// Parameters that have a rate and a decay of their own.
const GROUPS: &str = "train.param_groups=[{ modules = [\"embed_tokens\"], learning_rate = 1e-3 }, \
                      { modules = [\".*norm\", \"layers.1\"], weight_decay = 0.5 }]";

/// Each optimizer keeps what it needs under its own names; the numbers of another are refused.
#[test]
fn every_optimizer_goes_on_to_the_same_bytes() {
    let run = Run::new();
    for entry in firebrand::engine::optimizers::OPTIMIZERS {
        let set = format!("train.optimizer={}", entry.name);
        let more = ["--set", &*set, "--set", GROUPS];
        let [straight, stopped] =
            ["straight", "stopped"].map(|end| format!("{}-{end}", entry.name));
        let named = [&straight, &stopped].map(|name| format!("name={name}"));
        run.succeeds(&train("tiny.toml", &named[0], &more));
        let stop = [&more[..], &["--stop-after-steps", "2"]].concat();
        run.succeeds(&train("tiny.toml", &named[1], &stop));
        run.succeeds(&train("tiny.toml", &named[1], &more));
        assert_same_end(&run, &stopped, &straight, 6);
        // The plan counts what is kept, and of gradients what the passes do not need already.
        let plan = run.succeeds(&["plan", "tiny.toml", "--json", "--set", &set]);
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        let gradients = 4 * (plan["trainable_parameters"].as_u64().unwrap() + 512 * 32);
        let file = format!("checkpoints/{straight}/step-00000006/optimizer.safetensors");
        let file = std::fs::read(run.path(&file)).unwrap();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap());
        let kept = file.len() as u64 - 8 - header;
        let planned = plan["memory"]["optimizer"].as_u64().unwrap();
        assert!((kept..=gradients + kept).contains(&planned), "{}: {planned}", entry.name);
    }
    run.fails_with(
        2,
        &train(
            "tiny.toml",
            "name=adamw-stopped",
            &["--set", "train.optimizer=lion", "--set", GROUPS],
        ),
        str![[r#"
error[run-changed]: this run is finished, under other settings
  at checkpoints/adamw-stopped
  because `train.adam_beta1` was `0.9` and is not set
  because `train.adam_beta2` was `0.999` and is not set
  because `train.adam_epsilon` was `1e-8` and is not set
  because `train.lion_beta1` was not set and is `0.9`
  because `train.lion_beta2` was not set and is `0.99`
  because `train.optimizer` was `adamw` and is `lion`

hint: start a new run with another `name`; `--resume never` archives this one

"#]],
    );
}

/// What is kept in eight bits, averages and noise are what they would have been, too.
#[test]
fn averages_noise_and_states_in_eight_bits_go_on_to_the_same_bytes() {
    let run = Run::new();
    // Wide enough for matrices of more than 4096 numbers.
    let mut config = crate::common::model_config();
    config["hidden_size"] = 64.into();
    config["intermediate_size"] = 160.into();
    run.model_folder("wide", &config);
    let wide = ["--set", "model.base=wide", "--set", "eval.every_steps=2"];
    let cases: [&[&str]; 4] = [
        &["--set", "train.optimizer=adamw-8bit"],
        &["--set", "train.ema_decay=0.7"],
        &["--set", "train.optimizer=muon", "--set", "train.ema_decay=0.7"],
        &["--set", "train.neftune_noise_alpha=5", "--set", "train.decay_norms_and_biases=false"],
    ];
    for (number, case) in cases.iter().enumerate() {
        let more = [&wide[..], case].concat();
        let [straight, stopped] = ["straight", "stopped"].map(|end| format!("name={end}-{number}"));
        run.succeeds(&train("tiny.toml", &straight, &more));
        for steps in ["1", "3"] {
            let some = [&more[..], &["--stop-after-steps", steps]].concat();
            run.succeeds(&train("tiny.toml", &stopped, &some));
        }
        let threads = [&more[..], &["--set", "device.threads=1"]].concat();
        run.succeeds(&train("tiny.toml", &stopped, &threads));
        let name = |set: &str| set.trim_start_matches("name=").to_owned();
        assert_same_end(&run, &name(&stopped), &name(&straight), 6);
        let averages = case.iter().any(|set| set.contains("ema_decay"));
        let folder = run.path("checkpoints").join(name(&straight)).join("step-00000006");
        assert_eq!(folder.join("trained.safetensors").exists(), averages);
        if averages {
            let [used, trained] = ["model", "trained"]
                .map(|file| digest(&folder.join(format!("{file}.safetensors"))));
            assert_ne!(used, trained);
        }
    }
    // What is kept in eight bits is said by its name and type.
    let folder = run.path("checkpoints/straight-0/step-00000006");
    let header = std::fs::read(folder.join("optimizer.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&header[..20_000]).into_owned();
    let name = "\"first_moment_codes.model.layers.0.mlp.down_proj.weight\":{\"dtype\":\"U8\"";
    assert!(header.contains(name), "{header}");
    assert!(!header.contains("first_moment_codes.model.embed_tokens"), "{header}");
    let plain = ["--set", "model.base=wide", "--set", "train.max_steps=6"];
    run.succeeds(&train("tiny.toml", "name=plain", &plain));
    let size = |name: &str| {
        let path = format!("checkpoints/{name}/step-00000006/optimizer.safetensors");
        std::fs::metadata(run.path(&path)).unwrap().len()
    };
    assert!(size("straight-0") < size("plain"));
}

/// A run that is stopped three times, with other threads, has the end of one that is not.
fn goes_on_from_answers(run: &Run, data: &[&str], objective: &str) {
    let choice = format!("train.objective={objective}");
    let mut all = [data, &["--set", &choice]].concat();
    if objectives::with(objective, &[]).needs_reference() {
        all.extend(["--set", "lora={}"]);
    }
    let one = [&all[..], &["--set", "device.threads=1"]].concat();
    let names = ["straight", "stopped"].map(|name| format!("{objective}-{name}"));
    let [straight, stopped] = names.each_ref().map(|name| format!("name={name}"));
    run.succeeds(&train("tiny.toml", &straight, &one));
    let three = ["--set", "device.threads=3", "--set", "device.parallel_micro_batches=2"];
    let three = [&all[..], &three].concat();
    for step in ["1", "2", "1"] {
        let some = [&three[..], &["--stop-after-steps", step]].concat();
        run.succeeds(&train("tiny.toml", &stopped, &some));
    }
    run.succeeds(&train("tiny.toml", &stopped, &three));
    assert_same_end(run, &names[1], &names[0], 6);
    let metrics = run.read(&format!("checkpoints/{}/metrics.jsonl", names[0]));
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    assert_eq!(steps.len(), 6);
    for report in &steps {
        let of = |name: &str| report.metrics[name];
        if objective == "kto" {
            assert!(of("kl") >= 0.0 && report.loss > 0.0 && report.loss < 1.0, "{report:?}");
            continue;
        }
        let margin = of("rewards/chosen") - of("rewards/rejected");
        assert!((of("rewards/margins") - margin).abs() < 1e-9, "{report:?}");
        assert!((0.0..=1.0).contains(&of("rewards/accuracies")), "{report:?}");
        if objective == "orpo" {
            let loss = of("nll_loss") - 0.1 * of("log_odds_ratio");
            assert!((report.loss / loss - 1.0).abs() < 1e-6, "{report:?}");
        }
    }
    assert!(metrics.contains("\"eval_loss\""), "{metrics}");
}

/// What the model writes itself is a function of the run's seed, the step, the prompt and the number
/// of the completion; completions that more steps are made with are found again.
#[test]
fn a_run_on_its_own_completions_goes_on_to_the_same_bytes() {
    let run = Run::new();
    let early = r#"{ name = "early", kind = "regex", pattern = "^[ a-m]" }"#;
    let short = r#"{ name = "short", kind = "regex", pattern = "^.{0,40}$", weight = 0.5 }"#;
    let reward = &*format!("grpo.reward=[{early}, {short}]");
    let all = [
        "train.objective=grpo",
        "lora={}",
        "grpo.num_generations=5",
        "grpo.max_completion_length=7",
        "grpo.num_iterations=2",
        "grpo.dynamic_sampling=2",
        "grpo.beta=0.1",
        "eval.every_steps=2",
        "eval.load_best_model_at_end=true",
        reward,
    ];
    let all: Vec<&str> = all.iter().flat_map(|text| ["--set", text]).collect();
    let one = [&all[..], &["--set", "device.threads=1"]].concat();
    run.succeeds(&train("tiny.toml", "name=straight", &one));
    let three = ["--set", "device.threads=3", "--set", "device.parallel_micro_batches=2"];
    let three = [&all[..], &three].concat();
    for step in ["1", "2", "1"] {
        let some = [&three[..], &["--stop-after-steps", step]].concat();
        run.succeeds(&train("tiny.toml", "name=stopped", &some));
    }
    run.succeeds(&train("tiny.toml", "name=stopped", &three));
    assert_same_end(&run, "stopped", "straight", 6);
    let read = |name: &str| run.read(&format!("checkpoints/{name}/rollouts.jsonl"));
    let rollouts = read("straight");
    assert!(rollouts == read("stopped"));
    // Three times four prompts that are learnt from, for two steps each, of eight that are read.
    let groups: Vec<serde_json::Value> =
        rollouts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((12..=24).contains(&groups.len()), "{}", groups.len());
    let used = groups.iter().filter(|group| group["unused"].as_bool() != Some(true));
    let steps: Vec<u64> = used.map(|group| group["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [[1; 4], [3; 4], [5; 4]].concat());
    assert!(groups.iter().all(|group| group["completions"].as_array().unwrap().len() == 5));
    let state = run.read("checkpoints/straight/step-00000006/state.json");
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let digest = firebrand::files::Digest::of(rollouts.as_bytes()).to_string();
    assert_eq!(state["rollouts"]["sha256"], digest.as_str());
    let statement = run.read("checkpoints/straight/artifact/lineage.statement.json");
    assert!(statement.contains(&digest), "{statement}");
    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    assert_eq!(steps.len(), 6);
    for report in &steps {
        let of = |name: &str| report.metrics[name];
        let reward = of("rewards/early/mean") + 0.5 * of("rewards/short/mean");
        assert!((of("reward") - reward).abs() < 1e-9, "{report:?}");
        assert!((1.0..=7.0).contains(&of("completions/mean_length")), "{report:?}");
        assert!(of("kl") >= 0.0 && of("entropy") > 0.0, "{report:?}");
        let groups = groups.iter().filter(|group| group["step"] == (report.step - 1) / 2 * 2 + 1);
        let flags: Vec<f64> =
            groups.map(|group| f64::from(u8::from(group["unused"] == true))).collect();
        let unused = flags.iter().sum::<f64>() / flags.len() as f64;
        assert!((of("frac_unused") - unused).abs() < 1e-9, "{report:?}");
    }
    // The result is the step of which the validation was rewarded most.
    let judged =
        metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let judged: Vec<(f64, u64)> = judged
        .filter_map(|line| Some((line["eval_reward"].as_f64()?, line["step"].as_u64()?)))
        .filter(|(_, step)| *step > 0)
        .collect();
    let best = judged.iter().max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).unwrap();
    assert!(judged.len() >= 2, "{judged:?}");
    let shown = run.succeeds(&["runs", "show", "checkpoints/straight"]);
    let marked = shown.lines().find(|line| line.contains("the best")).unwrap();
    assert!(marked.contains(&format!("step-{:08}", best.1)), "{marked} {best:?}");
    // A changed file is not what the checkpoint knows.
    let path = "checkpoints/stopped/rollouts.jsonl";
    run.write(path, &rollouts.replace("\"ended\":false", "\"ended\":true "));
    let more = [&three[..], &["--set", "train.max_steps=8", "--extend"]].concat();
    let told = run.fails(2, &train("tiny.toml", "name=stopped", &more));
    let error: Vec<&str> = told.lines().skip_while(|line| !line.starts_with("error")).collect();
    says(
        error.join("\n"),
        str![[r#"
error[checkpoint]: the rollouts are not those of the checkpoint
  at checkpoints/stopped/rollouts.jsonl

hint: restore the file, or start a new run
"#]],
    );
}

/// What cannot be together with it is told before anything is read.
#[test]
fn what_the_model_writes_itself_needs_rewards_and_whole_rows() {
    let run = Run::new();
    let reward = r#"grpo.reward=[{ name = "right", kind = "exact" }]"#;
    let with = |all: &[&'static str]| -> Vec<&'static str> {
        let all = ["train.objective=grpo"].iter().chain(all);
        all.flat_map(|text| ["--set", *text]).collect()
    };
    let cases: [&[&'static str]; 6] = [
        &[],
        &[reward, "data.packing=true"],
        &[reward, "data.overlong=truncate"],
        &[reward, "grpo.beta=0.1"],
        &[reward, "data.train_on=all"],
        &[r#"grpo.reward=[{ name = "fits", kind = "json_schema", schema = "nowhere.json" }]"#],
    ];
    let told = cases.map(|case| run.fails(2, &train("tiny.toml", "name=refused", &with(case))));
    says(
        told.concat(),
        str![[r#"
error[config]: `train.objective = "grpo"` needs a reward
  at tiny.toml

hint: add `[[grpo.reward]]` with `name = "right"` and `kind = "exact"`, or another kind
error[config]: `data.packing` cannot be used with `train.objective = "grpo"`
  at tiny.toml
  because a row is one prompt, of which the model writes the completions

hint: remove it: without it rows are not packed
error[config]: `data.overlong = "truncate"` cannot be used with `train.objective = "grpo"`
  at tiny.toml
  because an answer that is cut is nothing to compare completions with

hint: `drop` leaves long records out, `error` tells of the first one
error[config]: `train.objective = "grpo"` needs an adapter
  at tiny.toml
  because it compares with the base model, whose weights full training overwrites

hint: add a `[lora]` section, or leave `grpo.beta` at 0
error[config]: `data.train_on = "all"` has no effect on an objective that trains on rewards
  at tiny.toml

hint: remove it: the model's own answers are learnt from
error[file]: cannot read the schema
  at nowhere.json
  because No such file or directory (os error 2)
  because the reward `fits` asks for it

"#]],
    );
}

/// Both answers of a pair are in one row, whatever happens to rows; what TRL reports is reported.
#[test]
fn a_run_on_pairs_of_answers_goes_on_to_the_same_bytes() {
    let run = Run::new();
    let path = crate::common::repository("datasets/preference.jsonl");
    let path = format!("data.train.0.path={}", path.display());
    let pairs = ["--set", &*path, "--set", "data.validation=[]", "--set", "data.max_seq_len=256"];
    let pairs = [&pairs[..], &["--set", "data.val_size=3"]].concat();
    let orpo = [&pairs[..], &["--set", "train.objective=orpo"]].concat();
    // Reward models are those of `score_heads`.
    let answers = |entry: &&objectives::ObjectiveEntry| {
        entry.records == Records::Pairs && entry.name != "reward"
    };
    for entry in OBJECTIVES.iter().filter(answers) {
        goes_on_from_answers(&run, &pairs, entry.name);
    }
    let labels = crate::common::repository("datasets/labels.jsonl");
    let labels = format!("data.train.0.path={}", labels.display());
    let labels = [&["--set", &*labels], &pairs[2..]].concat();
    goes_on_from_answers(&run, &labels, "kto");
    let card = run.read("checkpoints/orpo-straight/artifact/README.md");
    assert!(card.contains("orpo.beta") && card.contains("train.objective"), "{card}");
    run.succeeds(&[&["data", "tiny.toml", "--doctor"][..], &orpo].concat());
    let shown = run.succeeds(&[&["data", "tiny.toml", "--rows", "1"][..], &orpo].concat());
    assert_eq!(shown.matches("<|im_start|>assistant").count() % 2, 0, "{shown}");

    // What is no pair, and what pairs are cut to, is told.
    let others = ["--set", "train.objective=orpo"];
    run.fails_with(2, &train("tiny.toml", "name=others", &others), str![[r#"
error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:1:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:2:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:3:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:4:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:5:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:6:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:7:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:8:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:9:1

error[data]: the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one
  at data.jsonl:10:1

hint: 10 more records of the files read so far are unusable

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all

"#]]);
    let full = [&pairs[..], &["--set", "train.objective=dpo"]].concat();
    run.fails_with(
        2,
        &train("tiny.toml", "name=full", &full),
        str![[r#"
error[config]: `train.objective = "dpo"` needs an adapter
  at tiny.toml
  because it compares with the base model, whose weights full training overwrites

hint: add a `[lora]` section, or train on pairs with `simpo` or `cpo` or `orpo`

"#]],
    );
    let all = [&orpo[..], &["--set", "data.train_on=all"]].concat();
    run.fails_with(
        2,
        &train("tiny.toml", "name=all", &all),
        str![[r#"
error[config]: `data.train_on = "all"` has no effect on an objective that trains on pairs
  at tiny.toml

hint: remove it: the two answers of a pair are compared, not what precedes them

"#]],
    );
}

/// Where the time of each step goes, saves included, is written beside the metrics.
#[test]
fn timings_say_where_time_goes() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=timed", &["--set", "checkpoint.every_steps=1"]));
    let timings = run.read("checkpoints/timed/timings.jsonl");
    let timings: Vec<serde_json::Value> =
        timings.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(timings.len(), 6);
    for (number, timing) in timings.iter().enumerate() {
        let of = |key: &str| timing[format!("{key}_seconds")].as_f64().unwrap();
        let parts = of("forward") + of("backward") + of("update");
        assert!(parts > 0.0 && parts <= of("step") * 1.001, "{timing}");
        assert!(of("data") >= 0.0);
        assert_eq!(of("save") > 0.0, number > 0, "a save comes before every step but the first");
    }
}

#[test]
fn epochs_and_windows_end_anywhere() {
    let run = Run::new();
    // Twenty records in windows of seven, three epochs, steps that end in the middle of windows.
    let more = [
        "--set",
        "train.epochs=3",
        "--set",
        "data.window_rows=7",
        "--set",
        "data.packing=false",
        "--set",
        "checkpoint.every_steps=1",
    ];
    run.succeeds(&train("tiny.toml", "name=straight", &more));
    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap().len() as u64;
    assert_eq!(steps, 15, "twenty records, four a step, three epochs");
    for stop in ["2", "2", "1", "1", "4", "4"] {
        run.succeeds(&train(
            "tiny.toml",
            "name=cut",
            &[&more[..], &["--stop-after-steps", stop]].concat(),
        ));
    }
    run.succeeds(&train("tiny.toml", "name=cut", &more));
    assert_same_end(&run, "cut", "straight", steps);
}

/// Kills the program without warning at seeded moments until runs get through; fifty times, or as
/// often as `FIREBRAND_KILLS` says.
#[cfg(unix)]
#[test]
fn killed_at_random_moments_it_ends_the_same() {
    let wanted: u64 =
        std::env::var("FIREBRAND_KILLS").map_or(50, |number| number.parse().expect("a number"));
    let run = Run::new();
    let more = ["--set", "train.max_steps=60", "--set", "checkpoint.every_steps=5"];
    run.succeeds(&train("tiny.toml", "name=straight", &more));
    let stream = Stream::new(11);
    let (mut kills, mut attempts) = (0, 0);
    while kills < wanted {
        let mut through = false;
        for attempt in 0..200_u64 {
            attempts += 1;
            let mut child = started(&run, &train("tiny.toml", "name=killed", &more));
            // Short at first, so that many kills fall into a run of half a second.
            let limit = 0.02 + 0.01 * attempt as f64 + 0.15 * stream.uniform(attempts);
            std::thread::sleep(Duration::from_secs_f64(limit));
            through = child.try_wait().unwrap().is_some_and(|status| status.success());
            if through {
                break;
            }
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            kills += 1;
        }
        assert!(through, "the run never got through");
        assert_same_end(&run, "killed", "straight", 60);
        std::fs::remove_dir_all(run.path("checkpoints/killed")).unwrap();
    }
}

/// Starts the program; nobody reads what it says.
#[cfg(unix)]
fn started(run: &Run, arguments: &[&str]) -> std::process::Child {
    program(run, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[cfg(unix)]
fn program(run: &Run, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firebrand"));
    command
        .args(arguments)
        .current_dir(run.path("."))
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .env("FIREBRAND_CACHE", run.path("cache"));
    command
}

#[cfg(unix)]
fn send(signal: &str, child: &std::process::Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
}

/// Waits until a run without a checkpoint has made steps.
#[cfg(unix)]
fn wait_for_steps(root: &Path) {
    let metrics = root.join("metrics.jsonl");
    let steps =
        || std::fs::read_to_string(&metrics).unwrap_or_default().matches("grad_norm").count();
    let known = steps();
    wait::until("a step", || steps() > known);
}

#[cfg(unix)]
#[test]
fn signals_save_and_say_so_by_the_exit_code() {
    let run = Run::new();
    let more = ["--set", "train.max_steps=100000", "--set", "checkpoint.every_steps=0"];
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        let child = program(&run, &train("tiny.toml", "name=signalled", &more))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_steps(&run.path("checkpoints/signalled"));
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "SIG{signal}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let status: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let step = status["step"].as_u64().unwrap();
        assert!(step > 0 && status["resumable"] == true, "{stdout}");
        assert!(run.path(&format!("checkpoints/signalled/step-{step:08}/MANIFEST.json")).exists());
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_has_no_time_to_save_says_so_and_stops() {
    let run = Run::new();
    let more = ["--set", "train.max_steps=100000", "--set", "checkpoint.every_steps=0"];
    let more = [&more[..], &["--grace", "0"]].concat();
    let child = program(&run, &train("tiny.toml", "name=hurried", &more))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_steps(&run.path("checkpoints/hurried"));
    send("TERM", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    // The signal is answered from a thread of its own: before or after what the run says.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (answer, said): (Vec<_>, Vec<_>) =
        said.split_inclusive('\n').partition(|line| line.ends_with("; again to stop now\n"));
    says(answer.concat().trim_end(), str!["finishing step [..]; again to stop now"]);
    says(
        said.concat(),
        str![[r#"
warning: stopping without saving: the last save took [TIME], and the grace is 0 s
stopped after step [..] of 100000; the same command continues

"#]],
    );
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["step"], 0, "nothing was saved");
    assert!(firebrand::checkpoint::newest(&run.path("checkpoints/hurried")).unwrap().is_empty());
}

/// A save is in flight nearly all the time. Every signal comes a little after a run has saved
/// something new, so that however fast the machine is, runs are stopped and get on.
#[cfg(unix)]
#[test]
fn signals_in_the_middle_of_a_save_change_no_byte() {
    const STOPS: u64 = 8;
    let run = Run::new();
    let more = ["--set", "train.max_steps=200", "--set", "checkpoint.every_steps=1"];
    run.succeeds(&train("tiny.toml", "name=straight", &more));
    let root = run.path("checkpoints/stopped");
    let newest = || {
        let found = firebrand::checkpoint::newest(&root).unwrap_or_default();
        found.first().map_or(0, |(step, _)| *step)
    };
    let stream = Stream::new(3);
    let mut stops = 0;
    // A run may be through before the signal comes: it ends the same, and another one is begun.
    for attempt in 0..100 * STOPS {
        if stops == STOPS {
            break;
        }
        let before = newest();
        let mut child = started(&run, &train("tiny.toml", "name=stopped", &more));
        while newest() == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_secs_f64(0.02 * stream.uniform(attempt)));
        if child.try_wait().unwrap().is_none() {
            send("TERM", &child);
        }
        match child.wait().unwrap().code() {
            Some(143) => stops += 1,
            Some(0) => {
                assert_same_end(&run, "stopped", "straight", 200);
                std::fs::remove_dir_all(&root).unwrap();
            }
            other => panic!("it ended with {other:?}"),
        }
    }
    assert_eq!(stops, STOPS, "no signal comes in time");
    run.succeeds(&train("tiny.toml", "name=stopped", &more));
    assert_same_end(&run, "stopped", "straight", 200);
}

/// The second signal ends a run at once, in the middle of a step and without a save.
#[cfg(unix)]
#[test]
fn a_second_signal_ends_a_run_at_once() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &[]));
    // A step of minutes.
    let long = ["--set", "train.gradient_accumulation_steps=60000", "--set", "data.packing=false"];
    let lines = run.read("data.jsonl").repeat(3000);
    run.write("data.jsonl", &lines);
    // A signal that comes before the step is answered with something else, and saves: once more.
    let answered = (0..5).any(|attempt| {
        let folder = format!("checkpoints/twice-{attempt}");
        let name = format!("name=twice-{attempt}");
        let mut child = program(&run, &train("tiny.toml", &name, &long))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while !run.path(&folder).join("timings.jsonl").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300 << attempt));
        send("INT", &child);
        // The answer is there while the step goes on.
        let said = BufReader::new(child.stderr.take().unwrap());
        let answer = said.lines().map(Result::unwrap).find(|line| line.contains("again to stop"));
        if answer.as_deref() != Some("finishing step 1; again to stop now") {
            child.wait().unwrap();
            return false;
        }
        assert!(child.try_wait().unwrap().is_none(), "the first signal waits for the step's end");
        send("INT", &child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(firebrand::checkpoint::newest(&run.path(&folder)).unwrap().is_empty());
        true
    });
    assert!(answered, "no signal came within the step");
}

#[test]
fn a_checkpoint_under_the_name_of_another_step_is_set_aside() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &[]));
    run.succeeds(&train("tiny.toml", "name=swapped", &["--stop-after-steps", "5"]));
    let root = run.path("checkpoints/swapped");
    std::fs::remove_dir_all(root.join("step-00000005")).unwrap();
    std::fs::create_dir(root.join("step-00000005")).unwrap();
    for entry in std::fs::read_dir(root.join("step-00000004")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, root.join("step-00000005").join(path.file_name().unwrap())).unwrap();
    }
    let output = run.command(&train("tiny.toml", "name=swapped", &[])).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    says(
        &said,
        str![[r#"
warning: a damaged checkpoint is not used: step 5 holds step 4; kept as `step-00000005.bad-mixed`

"#]],
    );
    assert!(root.join("step-00000005.bad-mixed").exists());
    assert_same_end(&run, "swapped", "straight", 6);
}

#[test]
fn metrics_that_were_changed_are_no_part_of_the_run() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=edited", &["--stop-after-steps", "3"]));
    let lines = run.read("checkpoints/edited/metrics.jsonl");
    run.write("checkpoints/edited/metrics.jsonl", &lines.replacen("\"loss\":6", "\"loss\":5", 1));
    run.fails_with(
        2,
        &train("tiny.toml", "name=edited", &[]),
        str![[r#"
error[checkpoint]: the metrics are not those of the checkpoint
  at checkpoints/edited/metrics.jsonl

hint: restore the file, or start a new run

"#]],
    );
    run.write("checkpoints/edited/metrics.jsonl", &lines);
    run.succeeds(&train("tiny.toml", "name=edited", &[]));
}

/// A stopped process loses hours of the clock at once, as a laptop does that was closed.
#[cfg(unix)]
#[test]
fn a_process_that_was_frozen_goes_on() {
    let run = Run::new();
    let more = ["--set", "train.max_steps=60", "--set", "checkpoint.every_steps=5"];
    run.succeeds(&train("tiny.toml", "name=straight", &more));
    let mut child = started(&run, &train("tiny.toml", "name=frozen", &more));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(60));
        if child.try_wait().unwrap().is_none() {
            send("STOP", &child);
            std::thread::sleep(Duration::from_millis(300));
            send("CONT", &child);
        }
    }
    assert!(child.wait().unwrap().success());
    assert_same_end(&run, "frozen", "straight", 60);
}

/// Under limits of the shell: the program ends with an error or gets through, and nothing is torn.
#[cfg(unix)]
#[test]
fn few_descriptors_and_small_files_are_errors_and_no_damage() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &[]));
    let under = |limit: &str, name: &str| {
        let program = env!("CARGO_BIN_EXE_firebrand");
        let script =
            format!("ulimit {limit} && exec '{program}' train tiny.toml --quiet --set name={name}");
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(run.path("."))
            .env("XDG_CONFIG_HOME", run.path("settings"))
            .env("FIREBRAND_CACHE", run.path("cache"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for count in [8, 10, 12, 14, 16, 20] {
        let name = format!("descriptors-{count}");
        let (code, said) = under(&format!("-n {count}"), &name);
        assert!(matches!(code, Some(0 | 2)), "{count} descriptors: {code:?} {said}");
        let is_error = said.lines().any(|line| line.starts_with("error["));
        assert_eq!(code == Some(2), is_error, "{said}");
        run.succeeds(&train("tiny.toml", &format!("name={name}"), &[]));
        assert_same_end(&run, &name, "straight", 6);
    }
    // In blocks of 512 bytes; the weights have 140 kB.
    let (code, said) = under("-f 200", "small");
    assert_eq!(code, Some(2), "{said}");
    says(
        &said,
        str![[r#"
error[disk-full]: cannot write the file
  at checkpoints/small/.tmp-step-[PROCESS]/model.safetensors
  because File too large (os error 27)

hint: make room; `checkpoint.on_disk_full = "wait"` or `"continue"` would not stop

"#]],
    );
    run.succeeds(&train("tiny.toml", "name=small", &[]));
    assert_same_end(&run, "small", "straight", 6);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_to_is_refused_at_once() {
    use std::os::unix::fs::PermissionsExt;
    let run = Run::new();
    let folder = run.path("checkpoints");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    let probe = folder.join("probe");
    if std::fs::write(&probe, "").is_ok() {
        // Root writes wherever it likes; a path that is a file is refused to everybody.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::remove_file(probe).unwrap();
        run.write("checkpoints/tiny", "");
    }
    run.fails_with(
        2,
        &["train", "tiny.toml"],
        str![[r#"
error[run]: the run directory is not a folder
  at checkpoints/tiny

hint: choose another `name` or `output.dir`

"#]],
    );
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_run_directory_may_be_moved_or_be_a_link() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &[]));
    run.succeeds(&train("tiny.toml", "name=moved", &["--stop-after-steps", "3"]));
    std::fs::rename(run.path("checkpoints/moved"), run.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(run.path("elsewhere"), run.path("checkpoints/moved")).unwrap();
    run.succeeds(&train("tiny.toml", "name=moved", &[]));
    assert_same_end(&run, "moved", "straight", 6);
}

#[test]
fn a_lock_that_a_dead_process_left_is_no_obstacle() {
    let run = Run::new();
    std::fs::create_dir_all(run.path("checkpoints/tiny")).unwrap();
    run.write("checkpoints/tiny/run.lock", "process 1");
    run.succeeds(&train("tiny.toml", "name=tiny", &[]));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_computed() {
    let run = Run::new();
    let stderr =
        run.fails(2, &train("tiny.toml", "name=large", &["--set", "checkpoint.disk_budget=1 MiB"]));
    says(
        &stderr,
        str![[r#"
error[config]: `checkpoint.disk_budget` is too small for this run
  because `checkpoint.keep_last` = 2 and one that is written take about 1.3 MB, and 1.0 MB are allowed

hint: raise it, or keep fewer

"#]],
    );
    assert_eq!(run.read("checkpoints/large/metrics.jsonl"), "");
}

#[test]
fn retention_keeps_what_it_says() {
    let run = Run::new();
    let kept = |name: &str, more: &[&str]| -> Vec<u64> {
        let every = ["--set", "checkpoint.every_steps=1", "--set", "train.max_steps=8"];
        let name = format!("name={name}");
        run.succeeds(&train("tiny.toml", &name, &[&every[..], more].concat()));
        let folder = run.path("checkpoints").join(&name["name=".len()..]);
        firebrand::checkpoint::newest(&folder).unwrap().into_iter().map(|(step, _)| step).collect()
    };
    assert_eq!(kept("two", &[]), [8, 7]);
    assert_eq!(kept("four", &["--set", "checkpoint.keep_last=4"]), [8, 7, 6, 5]);
    assert_eq!(kept("every", &["--set", "checkpoint.keep_every=3"]), [8, 7, 6, 3]);
    // Under a rate that ruins the model, the first steps are the best.
    let ruin = ["--set", "train.learning_rate=1", "--set", "eval.every_steps=1"];
    let best = kept("best", &[&ruin[..], &["--set", "checkpoint.keep_best=1"]].concat());
    assert_eq!(best.len(), 3, "{best:?}");
    let text = run.read("checkpoints/best/step-00000008/state.json");
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let judged = state["evaluations"].as_array().unwrap().iter().skip(1);
    let least = judged
        .min_by(|a, b| {
            a["eval_loss"].as_f64().unwrap().total_cmp(&b["eval_loss"].as_f64().unwrap())
        })
        .unwrap();
    assert_eq!(best[2], least["step"].as_u64().unwrap());
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &[]));
    let root = "checkpoints/hurt";
    let damages: [(&str, fn(&Path)); 5] = [
        ("flipped", |folder| {
            let path = folder.join("model.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("emptied", |folder| std::fs::write(folder.join("optimizer.safetensors"), "").unwrap()),
        ("missing", |folder| std::fs::remove_file(folder.join("state.json")).unwrap()),
        ("added", |folder| std::fs::write(folder.join("more.bin"), "x").unwrap()),
        ("no manifest", |folder| std::fs::remove_file(folder.join("MANIFEST.json")).unwrap()),
    ];
    let mut said = String::new();
    for (what, damage) in damages {
        run.succeeds(&train("tiny.toml", "name=hurt", &["--stop-after-steps", "5"]));
        damage(&run.path(root).join("step-00000005"));
        let output = run.command(&train("tiny.toml", "name=hurt", &[])).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{what}: {stderr}");
        said += &format!("# {what}\n{}\n", warnings(&stderr));
        assert_same_end(&run, "hurt", "straight", 6);
        std::fs::remove_dir_all(run.path(root)).unwrap();
    }
    says(
        said,
        str![[r#"
# flipped
warning: a damaged checkpoint is not used: `model.safetensors` is damaged: 141952 bytes with digest [HEX] instead of 141952 with [HEX]; kept as `step-00000005.bad-damaged`

# emptied
warning: a damaged checkpoint is not used: `optimizer.safetensors` is damaged: 0 bytes with digest [HEX] instead of 284384 with [HEX]; kept as `step-00000005.bad-damaged`

# missing
warning: a damaged checkpoint is not used: cannot read the file; kept as `step-00000005.bad-incomplete`

# added
warning: a damaged checkpoint is not used: `more.bin` is not in the manifest; kept as `step-00000005.bad-altered`

# no manifest
warning: a damaged checkpoint is not used: cannot read the file; kept as `step-00000005.bad-incomplete`


"#]],
    );
}

/// What a run warns of.
fn warnings(stderr: &str) -> String {
    let mut inside = false;
    let mut of_a_warning = |line: &&str| {
        inside = line.starts_with("warning: ") || inside && line.starts_with("  ");
        inside
    };
    stderr.lines().filter(|line| of_a_warning(line)).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn without_a_whole_checkpoint_a_run_never_starts_over_silently() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=lost", &["--stop-after-steps", "3"]));
    for entry in std::fs::read_dir(run.path("checkpoints/lost")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("state.json").exists() {
            std::fs::write(path.join("state.json"), "{}").unwrap();
        }
    }
    run.fails_with(2, &train("tiny.toml", "name=lost", &[]), str![[r#"
error[checkpoint]: no checkpoint of this run is intact, so it cannot resume
  at checkpoints/lost
  because `state.json` is damaged: 2 bytes with digest [HEX] instead of [..] with [HEX]; kept as `step-00000003.bad-damaged`
  because `state.json` is damaged: 2 bytes with digest [HEX] instead of [..] with [HEX]; kept as `step-00000002.bad-damaged`

hint: choose another `name` to start over, or `--resume never` to discard it

"#]]);
    // Nor the second time, when the damaged ones have other names.
    let again = run.fails(2, &train("tiny.toml", "name=lost", &[]));
    assert!(again.starts_with("error[checkpoint]: no checkpoint of this run is intact"), "{again}");
    assert!(!run.path("checkpoints/lost/artifact").exists());
}

#[test]
fn what_changed_since_the_checkpoint_is_named_and_refused() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=changed", &["--stop-after-steps", "3"]));
    let again = |more| train("tiny.toml", "name=changed", more);
    run.fails_with(
        2,
        &again(&["--set", "train.learning_rate=1e-3"]),
        str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/changed/step-00000003
  because `train.learning_rate` was `0.005` and is `0.001`

hint: undo the change, or start a new run with another `name` or `output.dir`

"#]],
    );
    let data = run.read("data.jsonl");
    run.write("data.jsonl", &data.replace("plus", "and"));
    run.fails_with(
        2,
        &again(&[]),
        str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/changed/step-00000003
  because the data was [HEX] and is [HEX]
  because ~ data.jsonl: data.jsonl, 2.7 kB -> 2.6 kB, 20 -> 20 rows

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-data-change` continues anyway, and the lineage records it

"#]],
    );
    run.write("data.jsonl", &data);
    let config = run.read("base/config.json");
    run.write("base/config.json", &config.replace("256", "300"));
    run.fails_with(
        2,
        &again(&[]),
        str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/changed/step-00000003
  because the base model was [HEX] and is [HEX]

hint: undo the change, or start a new run with another `name` or `output.dir`

"#]],
    );
    run.write("base/config.json", &config);
    run.succeeds(&train("tiny.toml", "name=changed", &[]));
}

#[test]
fn one_directory_has_one_run_at_a_time() {
    let run = Run::new();
    let _held =
        firebrand::files::RunDirectory::lock(&run.path("checkpoints/tiny")).expect("it is free");
    run.fails_with(
        2,
        &["train", "tiny.toml"],
        str![[r#"
error[already-running]: another run is working in this directory (process [..])
  at checkpoints/tiny

hint: wait for it, or choose another `name` or `output.dir`

"#]],
    );
}

#[test]
fn resume_goes_on_from_a_named_checkpoint() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &["--set", "checkpoint.keep_last=9"]));
    run.succeeds(&train("tiny.toml", "name=forked", &["--stop-after-steps", "0"]));
    run.succeeds(&train(
        "tiny.toml",
        "name=forked",
        &["--set", "checkpoint.keep_last=9", "--resume", "checkpoints/straight/step-00000004"],
    ));
    assert_same_end(&run, "forked", "straight", 6);
}

/// What is measured and asked changes no weight, so that it stands in the way of nothing.
#[test]
fn a_run_goes_on_whatever_is_measured_and_asked() {
    let run = Run::new();
    run.write("suite.toml", SUITE);
    run.succeeds(&train("tiny.toml", "name=straight", &[]));
    let weights = |name: &str| {
        let checkpoint = run.path(&format!("checkpoints/{name}/step-00000006"));
        ["model.safetensors", "optimizer.safetensors"].map(|file| digest(&checkpoint.join(file)))
    };
    let steps = |name: &str| {
        let metrics = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
        firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap()
    };
    let changes = [
        "eval.every_steps=2",
        "eval.prompts=[\"Who?\", \"What is 3 plus 4?\"]",
        "eval.prompts=[]",
        "eval.max_tokens=9",
        "eval.temperature=1.5",
        "eval.max_records=2",
        "eval.suite=suite.toml",
    ];
    let mut finished = String::new();
    for (number, change) in changes.iter().enumerate() {
        let name = format!("name=changed-{number}");
        run.succeeds(&train("tiny.toml", &name, &["--stop-after-steps", "3"]));
        let again = ["train", "tiny.toml", "--set", &name, "--set", *change];
        let output = run.command(&again).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{change}: {said}");
        let key = change.split('=').next().unwrap();
        assert!(said.contains(&format!("`{key}` changed, which changes no weight")), "{said}");
        let name = &name["name=".len()..];
        assert_eq!(weights(name), weights("straight"), "{change}");
        assert_eq!(steps(name), steps("straight"), "{change}");
        // Once more with what it was: it is finished, and says what did not count any more.
        let output =
            run.command(&["train", "tiny.toml", "--set", &format!("name={name}")]).output();
        let said = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
        finished += &format!("# {change}\n{said}\n");
    }
    says(
        finished,
        str![[r##"
# eval.every_steps=2
`eval.every_steps` changed, which changes no weight: the run is finished and stays as it is; `firebrand eval` and `firebrand generate` measure and ask a finished model
this run is finished; `--resume never` would restart

# eval.prompts=["Who?", "What is 3 plus 4?"]
`eval.prompts` changed, which changes no weight: the run is finished and stays as it is; `firebrand eval` and `firebrand generate` measure and ask a finished model
this run is finished; `--resume never` would restart

# eval.prompts=[]
`eval.prompts` changed, which changes no weight: the run is finished and stays as it is; `firebrand eval` and `firebrand generate` measure and ask a finished model
this run is finished; `--resume never` would restart

# eval.max_tokens=9
`eval.max_tokens` changed, which changes no weight: the run is finished and stays as it is; `firebrand eval` and `firebrand generate` measure and ask a finished model
this run is finished; `--resume never` would restart

# eval.temperature=1.5
`eval.temperature` changed, which changes no weight: the run is finished and stays as it is; `firebrand eval` and `firebrand generate` measure and ask a finished model
this run is finished; `--resume never` would restart

# eval.max_records=2
`eval.max_records` changed, which changes no weight: the run is finished and stays as it is; `firebrand eval` and `firebrand generate` measure and ask a finished model
this run is finished; `--resume never` would restart

# eval.suite=suite.toml
`eval.suite` changed, which changes no weight: the run is finished and stays as it is; `firebrand eval` and `firebrand generate` measure and ask a finished model
this run is finished; `--resume never` would restart


"##]],
    );
    // A prompt that came later has no answer of before, and takes no other's place.
    let card = run.read("checkpoints/changed-1/artifact/README.md");
    assert!(card.contains("| `Who?` | `(not asked)` |"), "{card}");
    let asked = card.lines().find(|line| line.starts_with("| `What is 3 plus 4?`")).unwrap();
    assert!(!asked.contains("(not asked)"), "{asked}");
}

const SUITE: &str = "[data]\npath = \"validation.jsonl\"\n";

/// Validation losses stand among the steps, and what they were measured on is never counted as
/// trained on.
#[test]
fn validation_stands_in_the_metrics_apart_from_what_was_trained() {
    let run = Run::new();
    let more = ["--set", "eval.every_steps=4"];
    run.succeeds(&train("tiny.toml", "name=straight", &more));
    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    let lines: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<(u64, bool)> = lines
        .iter()
        .map(|line| (line["step"].as_u64().unwrap(), line["eval_loss"].is_number()))
        .collect();
    let steps = [(0, true), (1, false), (2, false), (3, false), (4, false), (4, true)];
    assert_eq!(kinds, [&steps[..], &[(5, false), (6, false), (6, true)]].concat());
    for line in lines.iter().filter(|line| line["eval_loss"].is_number()) {
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["step", "eval_loss", "eval_target_tokens"]);
        assert!(line["eval_target_tokens"].as_u64().unwrap() > 0);
    }
    // Cut anywhere, the same bytes, the line at the end included.
    for stop in ["1", "4", "5"] {
        let name = format!("name=cut-{stop}");
        let stopped = [&more[..], &["--stop-after-steps", stop]].concat();
        run.succeeds(&train("tiny.toml", &name, &stopped));
        run.succeeds(&train("tiny.toml", &name, &more));
        assert_same_end(&run, &name["name=".len()..], "straight", 6);
    }
    // The lineage counts the tokens of the steps, and those alone.
    let sum = |key: &str| lines.iter().filter_map(|line| line[key].as_u64()).sum::<u64>();
    let statement = run.read("checkpoints/straight/artifact/lineage.statement.json");
    let statement: serde_json::Value = serde_json::from_str(&statement).unwrap();
    let counted = &statement["predicate"]["runDetails"]["byproducts"][0]["annotations"];
    for key in ["tokens", "target_tokens"] {
        assert_eq!(counted[key].as_f64(), Some(sum(key) as f64), "{key}");
    }
    // Those who read a run find its last step, not its last validation.
    let shown = run.succeeds(&["runs", "show", "checkpoints/straight", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["loss"], lines[lines.len() - 2]["loss"]);
}
