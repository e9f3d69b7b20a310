//! Models that score labels: trained, resumed, saved as PEFT and transformers have them, merged.

use serde_json::json;
use snapbox::str;

use crate::common::{Run, weights_digest};

/// Settings of a run on a file of texts with labels.
fn on<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed =
        ["data.validation=[]", "data.val_size=4", "eval.prompts=[]", "data.max_seq_len=256"];
    let all = fixed.into_iter().chain(more.iter().copied()).chain([file]);
    all.flat_map(|set| ["--set", set]).collect()
}

const SINGLE: &str = "data.train.0.path=single.jsonl";
const MULTI: &str = "data.train.0.path=multi.jsonl";
const NUMBERS: &str = "data.train.0.path=numbers.jsonl";
const CLASSIFY: &str = "train.objective=classification";
const SEVERAL: &str = "classification.problem_type=multi_label_classification";
const NUMBER: &str = "classification.problem_type=regression";

/// Texts about sums: whether one is large, which digits it is made of, and how large it is.
fn folder() -> Run {
    let run = Run::new().with_base();
    let (mut single, mut multi, mut numbers) = (String::new(), String::new(), String::new());
    for number in 0..40 {
        let (a, b) = (number % 7, (number * 3) % 5);
        let text = format!("{a} plus {b} is what?");
        let size = if a + b > 5 { "large" } else { "small" };
        single += &format!("{{\"text\": \"{text}\", \"label\": \"{size}\"}}\n");
        let digits = if a == b { format!("[\"{a}\"]") } else { format!("[\"{a}\", \"{b}\"]") };
        multi += &format!("{{\"text\": \"{text}\", \"label\": {digits}}}\n");
        numbers += &format!("{{\"text\": \"{text}\", \"label\": {}.5}}\n", a + b);
    }
    run.write("single.jsonl", &single);
    run.write("multi.jsonl", &multi);
    run.write("numbers.jsonl", &numbers);
    let pairs = crate::common::repository("datasets/preference.jsonl");
    run.write("pairs.jsonl", &std::fs::read_to_string(pairs).unwrap());
    run
}

/// The kinds of models, and the settings that make them.
fn kinds() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("single", on(SINGLE, &[CLASSIFY])),
        ("multi", on(MULTI, &[CLASSIFY, SEVERAL])),
        ("numbers", on(NUMBERS, &[CLASSIFY, NUMBER])),
        ("reward", on("data.train.0.path=pairs.jsonl", &["train.objective=reward"])),
    ]
}

fn train<'a>(config: &'a str, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", config, "--quiet", "--set", name], more].concat()
}

fn digest(run: &Run, name: &str) -> String {
    weights_digest(&run.path(&format!("checkpoints/{name}/artifact"))).to_string()
}

fn document(run: &Run, path: &str) -> serde_json::Value {
    serde_json::from_str(&run.read(path)).unwrap()
}

#[test]
fn a_run_that_scores_labels_goes_on_to_the_same_bytes() {
    let run = folder();
    for (kind, settings) in kinds() {
        for (config, way) in [("tiny.toml", "full"), ("lora.toml", "lora"), ("lora.toml", "dora")] {
            let dora = ["--set", "lora.use_dora=true", "--set", "train.recompute=layers"];
            let more = if way == "dora" { &dora[..] } else { &[] };
            let settings = [&settings[..], more].concat();
            let [straight, often] =
                ["straight", "often"].map(|it| format!("name={kind}-{way}-{it}"));
            run.succeeds(&train(config, &straight, &settings));
            for step in ["1", "3"] {
                let stop = [&settings[..], &["--stop-after-steps", step]].concat();
                run.succeeds(&train(config, &often, &stop));
            }
            run.succeeds(&train(config, &often, &settings));
            let name = |it: &str| it.strip_prefix("name=").unwrap().to_owned();
            assert_eq!(digest(&run, &name(&straight)), digest(&run, &name(&often)), "{straight}");
        }
    }
    let metrics = run.read("checkpoints/single-lora-straight/metrics.jsonl");
    assert!(metrics.contains("\"accuracy\"") && metrics.contains("eval_loss"), "{metrics}");
    let metrics = run.read("checkpoints/reward-full-straight/metrics.jsonl");
    assert!(metrics.contains("\"margin\"") && metrics.contains("\"mean_reward\""), "{metrics}");
}

/// What a model makes of texts, as numbers.
fn scored(run: &Run, model: &str) -> Vec<f64> {
    let lines = run.succeeds(&["classify", model, "texts.txt"]);
    let numbers = lines.lines().flat_map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let all = object.get("probabilities").or_else(|| object.get("scores")).unwrap().clone();
        let all = all.as_object().unwrap().values().map(|value| value.as_f64().unwrap());
        all.collect::<Vec<_>>()
    });
    numbers.collect()
}

/// The reward of a conversation is that of its very end, as TRL has it: when it is trained, and when
/// it is asked for.
#[test]
fn a_conversation_has_the_reward_that_its_run_gave_it() {
    let run = folder();
    let [question, good, bad] = ["What is it?", "It is 4.", "Five, I think, or six."];
    let pair = json!({ "prompt": question, "chosen": good, "rejected": bad });
    run.write("one.jsonl", &format!("{pair}\n"));
    let conversation = |answer: &str| {
        let turn = |role: &str, content: &str| json!({ "role": role, "content": content });
        let turns = [turn("user", question), turn("assistant", answer)];
        format!("{}\n", json!({ "messages": turns }))
    };
    run.write("asked.jsonl", &(conversation(good) + &conversation(bad)));
    let sets = [
        "data.train.0.path=pairs.jsonl",
        "data.validation=[{path=\"one.jsonl\"}]",
        "data.max_seq_len=256",
        "train.objective=reward",
        "eval.every_steps=1",
        "eval.prompts=[]",
    ];
    let sets = sets.map(|set| ["--set", set]).concat();
    run.succeeds(&train("lora.toml", "name=reward", &sets));
    let lines =
        run.succeeds(&["classify", "checkpoints/reward/artifact", "asked.jsonl", "--jsonl"]);
    let scores = lines.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let scores = line["scores"].as_object().unwrap();
        scores.values().next().unwrap().as_f64().unwrap()
    });
    let [good, bad] = scores.collect::<Vec<_>>().try_into().unwrap();
    let metrics = run.read("checkpoints/reward/metrics.jsonl");
    let found = metrics.lines().rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        Some((line["eval_margin"].as_f64()?, line["eval_mean_reward"].as_f64()?))
    });
    let (margin, mean) = found.unwrap();
    assert!((good - bad - margin).abs() < 1e-4, "{good} and {bad}, and a margin of {margin}");
    assert!(((good + bad) / 2.0 - mean).abs() < 1e-4, "{good} and {bad}, and a mean of {mean}");
}

#[test]
fn heads_are_saved_as_peft_and_transformers_have_them() {
    let run = folder();
    run.write("texts.txt", "3 plus 4 is what?\n\n0 plus 1 is what?\n6 plus 3 is what?\n");
    for (kind, settings) in kinds() {
        let names = [format!("name={kind}"), format!("name={kind}-full")];
        run.succeeds(&train("lora.toml", &names[0], &settings));
        run.succeeds(&train("tiny.toml", &names[1], &settings));
        let (adapter, full) =
            (format!("checkpoints/{kind}/artifact"), format!("checkpoints/{kind}-full/artifact"));
        let config = document(&run, &format!("{adapter}/adapter_config.json"));
        assert_eq!(config["task_type"], "SEQ_CLS");
        assert_eq!(config["modules_to_save"], serde_json::json!(["classifier", "score"]));
        let merged = format!("merged-{kind}");
        run.succeeds(&["merge", &adapter, "--out", &merged, "--dtype", "f32"]);
        for folder in [&merged, &full] {
            let config = document(&run, &format!("{folder}/config.json"));
            assert_eq!(config["architectures"][0], "LlamaForSequenceClassification");
            let labels = config["id2label"].as_object().unwrap();
            for (id, name) in labels {
                assert_eq!(config["label2id"][name.as_str().unwrap()].to_string(), *id);
            }
            let problem = config["problem_type"].as_str().unwrap_or("reward");
            match kind {
                "single" => {
                    assert_eq!(labels["1"], "small");
                    assert_eq!(problem, "single_label_classification");
                }
                "multi" => {
                    assert_eq!((labels.len(), &labels["6"]), (7, &"6".into()));
                    assert_eq!(problem, "multi_label_classification");
                }
                "numbers" => assert_eq!((labels.len(), problem), (1, "regression")),
                _ => assert_eq!((labels.len(), problem), (1, "reward")),
            }
        }
        let whole = "transformers import AutoModelForSequenceClassification";
        let beside = "peft import AutoPeftModelForSequenceClassification";
        for (folder, import) in [(&adapter, beside), (&merged, whole), (&full, whole)] {
            let card = run.read(&format!("{folder}/README.md"));
            for part in [import, "pipeline_tag: text-classification", "firebrand classify . "] {
                assert!(card.contains(part), "{part}\n{card}");
            }
            for other in ["text-generation", "CausalLM", "firebrand generate"] {
                assert!(!card.contains(other), "{other}\n{card}");
            }
        }
        let (one, other) = (scored(&run, &adapter), scored(&run, &merged));
        let each = match kind {
            "single" => 2,
            "multi" => 7,
            _ => 1,
        };
        assert_eq!(one.len(), 3 * each, "{one:?}");
        for (one, other) in one.iter().zip(&other) {
            assert!((one - other).abs() < 1e-5, "{kind}: {one} {other}");
        }
        // One text at a time, and beside others.
        let alone = run.succeeds(&["classify", &full, "texts.txt", "--batch-size", "1"]);
        let lines = run.succeeds(&["classify", &full, "texts.txt"]);
        assert_eq!(alone.lines().count(), 3);
        for (alone, line) in alone.lines().zip(lines.lines()) {
            assert_eq!(
                alone.split("\"probabilities\"").next(),
                line.split("\"probabilities\"").next()
            );
        }
        run.succeeds(&["verify", &adapter]);
        run.succeeds(&["verify", &adapter, "--effect"]);
        run.succeeds(&["verify", &merged]);
    }
    // A model with a head is a base of the same labels.
    let again = on(SINGLE, &[CLASSIFY, "model.base=checkpoints/single-full/artifact"]);
    run.succeeds(&train("lora.toml", "name=again", &again));
    let other = on(MULTI, &[CLASSIFY, SEVERAL, "model.base=merged-single"]);
    run.fails_with(
        2,
        &train("lora.toml", "name=other", &other),
        str![[r#"
error[model]: `id2label` names 2 labels, and 7 are to be scored
  at merged-single/config.json

hint: take the labels that the model has, or a base that has no head for labels

"#]],
    );
    // An adapter goes on from another one.
    let from = on(SINGLE, &[CLASSIFY, "model.adapter=checkpoints/single/artifact"]);
    run.succeeds(&train("lora.toml", "name=from", &from));
}

#[test]
fn what_a_model_that_scores_labels_cannot_do_is_refused() {
    let run = folder();
    let settings = on(SINGLE, &[CLASSIFY]);
    run.succeeds(&train("lora.toml", "name=single", &settings));
    let adapter = "checkpoints/single/artifact";
    run.fails_with(
        2,
        &["generate", adapter, "--prompt", "3 plus 4"],
        str![[r#"
error[model]: a model that scores labels writes no text
  at checkpoints/single/artifact

hint: `firebrand classify` scores texts with it

"#]],
    );
    run.fails_with(
        2,
        &["export", adapter, "--format", "gguf", "--out", "gguf"],
        str![[r#"
error[model]: a model that scores labels cannot be written as gguf
  at checkpoints/single/artifact

hint: `firebrand classify` scores texts with it

"#]],
    );
    run.fails_with(
        2,
        &["classify", "checkpoints/tiny/artifact", "data.jsonl"],
        str![[r#"
error[model]: the model scores tokens, not labels
  at checkpoints/tiny/artifact

hint: `train.objective` names what trains a head for labels

"#]],
    );
    let prompts = [&settings[..], &["--set", "eval.prompts=[\"a\"]"]].concat();
    run.fails_with(
        2,
        &train("lora.toml", "name=prompts", &prompts),
        str![[r#"
error[config]: `eval.prompts` has no effect with `train.objective = "classification"`
  at lora.toml
  because a model that scores labels writes no answers

hint: remove it

"#]],
    );
    let wrong = on(SINGLE, &[CLASSIFY, "classification.labels=[\"large\", \"smal\"]"]);
    run.fails_with(2, &train("lora.toml", "name=wrong", &wrong), str![[r#"
error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:1:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:2:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:3:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:6:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:8:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:9:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:10:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:11:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:15:1

error[data]: `label` is `small`, which is not one of the labels; did you mean `smal`?
  at single.jsonl:16:1

hint: 13 more records of the files read so far are unusable

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all

"#]]);
    let missing = on("data.train.0.path=data.jsonl", &[CLASSIFY]);
    run.fails_with(2, &train("lora.toml", "name=missing", &missing), str![[r#"
error[data]: the training data has no labels
  because no record has a column `label` with the name of a label, or a list of names

hint: name the column in `columns = { label = "…" }` of the data set, or all labels in the settings of the objective

"#]]);
    let numbers = on(SINGLE, &[CLASSIFY, NUMBER]);
    run.fails_with(2, &train("lora.toml", "name=numbers", &numbers), str![[r#"
error[data]: `label` must be a number, not `"small"`
  at single.jsonl:1:1

error[data]: `label` must be a number, not `"small"`
  at single.jsonl:2:1

error[data]: `label` must be a number, not `"small"`
  at single.jsonl:3:1

error[data]: `label` must be a number, not `"large"`
  at single.jsonl:4:1

error[data]: `label` must be a number, not `"large"`
  at single.jsonl:5:1

error[data]: `label` must be a number, not `"small"`
  at single.jsonl:6:1

error[data]: `label` must be a number, not `"large"`
  at single.jsonl:7:1

error[data]: `label` must be a number, not `"small"`
  at single.jsonl:8:1

error[data]: `label` must be a number, not `"small"`
  at single.jsonl:9:1

error[data]: `label` must be a number, not `"small"`
  at single.jsonl:10:1

hint: 30 more records of the files read so far are unusable

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all

"#]]);
    let one = on(SINGLE, &[CLASSIFY, "classification.labels=[\"large\"]"]);
    run.fails_with(
        2,
        &train("lora.toml", "name=one", &one),
        str![[r#"
error[config]: `classification.labels` has a single label
  at lora.toml
  because every text would have it

hint: name all labels, or none to have those of the data

"#]],
    );
}

const SUITE: &str = "bootstrap = 50\n[[slice]]\nby = \"size\"\n[data]\npath = \"held.jsonl\"\n";

/// Texts with a column to slice by.
fn held_out(run: &Run) {
    let lines = run.read("single.jsonl");
    let line = |(number, line): (usize, &str)| {
        let size = if number % 2 == 0 { "even" } else { "odd" };
        let line = line.replace(" plus ", " and ");
        line.replacen('{', &format!("{{\"size\": \"{size}\", "), 1)
    };
    let lines: Vec<String> = lines.lines().enumerate().map(line).collect();
    run.write("held.jsonl", &format!("{}\n", lines.join("\n")));
    run.write("eval.toml", SUITE);
}

#[test]
fn labels_are_evaluated_per_slice_and_probabilities_are_calibrated() {
    let run = folder();
    held_out(&run);
    run.write("texts.txt", "3 plus 4 is what?\n");
    let held = ["--set", "data.validation.0.path=held.jsonl", "--set", "eval.suite=eval.toml"];
    let settings = [&["--set", SINGLE, "--set", CLASSIFY, "--set", "eval.prompts=[]"][..], &held];
    let settings = settings.concat();
    run.succeeds(&train("lora.toml", "name=plain", &settings));
    let calibrated = [&settings[..], &["--set", "classification.calibrate=true"]].concat();
    run.succeeds(&train("lora.toml", "name=calibrated", &calibrated));

    let [plain, calibrated] =
        ["plain", "calibrated"].map(|name| format!("checkpoints/{name}/artifact"));
    assert_eq!(digest(&run, "plain"), digest(&run, "calibrated"));
    assert!(document(&run, &format!("{plain}/score_head.json")).get("temperature").is_none());
    let head = document(&run, &format!("{calibrated}/score_head.json"));
    let temperature = head["temperature"].as_f64().unwrap();
    assert!(temperature > 0.0 && (temperature - 1.0).abs() > 1e-6, "{head}");
    assert_eq!(head["calibration"]["records"], 40);
    assert!(head["calibration"]["interval"][0].as_f64().is_some(), "{head}");
    // What the temperature does to probabilities, and what not.
    let [one, other] = [&plain, &calibrated].map(|model| scored(&run, model));
    let odds = |all: &[f64]| (all[0] / all[1]).ln();
    assert!((odds(&one) / odds(&other) - temperature).abs() < 1e-6, "{one:?} {other:?}");

    let report = |model: &str| -> serde_json::Value {
        let line = run.succeeds(&["eval", model, "--config", "eval.toml", "--json", "--quiet"]);
        serde_json::from_str(&line).unwrap()
    };
    let [before, after] = [&plain, &calibrated].map(|model| report(model));
    for name in ["accuracy", "f1_macro", "f1_micro", "auroc", "calibration_error", "loss"] {
        let of = |report: &serde_json::Value| report["metrics"][name]["value"].as_f64().unwrap();
        assert!(of(&before).is_finite(), "{before}");
        let same = (of(&before) - of(&after)).abs() < 1e-12;
        assert_eq!(same, !["calibration_error", "loss"].contains(&name), "{name}");
    }
    assert!(before["metrics"]["calibration_error"]["interval"]["low"].is_number(), "{before}");
    let counts: Vec<Vec<u64>> =
        serde_json::from_value(before["confusion"]["counts"].clone()).unwrap();
    assert_eq!(counts.iter().flatten().sum::<u64>(), 40);
    let slices = &before["slices"][0]["slices"];
    let inside: Vec<Vec<u64>> =
        serde_json::from_value(slices[0]["confusion"]["counts"].clone()).unwrap();
    assert_eq!((&slices[0]["name"], inside.iter().flatten().sum::<u64>()), (&"even".into(), 20));
    let card = run.read(&format!("{calibrated}/README.md"));
    assert!(card.contains("calibration_error") && card.contains("| is, found |"), "{card}");
    assert!(card.contains(&format!("divided by the temperature `{temperature}`")), "{card}");
    run.succeeds(&["verify", &calibrated]);

    // A gate limits both.
    let policy = |limit: &str| {
        format!(
            "[eval]\nsuite = \"eval.toml\"\n[[metric]]\nname = \"accuracy\"\nmin = 0.001\n[[metric]]\nname = \
             \"calibration_error\"\nmax = {limit}\n"
        )
    };
    for (limit, outcome) in [("0.999", "ok  "), ("0.0001", "FAIL")] {
        run.write("gate.toml", &policy(limit));
        let model = ["--candidate", &calibrated, "--baseline", &calibrated, "--no-attest"];
        let how = ["--policy", "gate.toml", "--device", "cpu", "--offline"];
        let gate = [&["gate"][..], &model, &how].concat();
        let output = run.command(&gate).output().unwrap();
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = format!("{outcome}  metric:calibration_error");
        assert!(table.contains(&line) && table.contains("ok    metric:accuracy"), "{table}");
    }
}

#[test]
fn what_labels_cannot_be_evaluated_by_is_refused() {
    let run = folder();
    held_out(&run);
    let pairs = kinds().pop().unwrap().1;
    run.succeeds(&train("lora.toml", "name=reward", &pairs));
    let reward = "checkpoints/reward/artifact";
    run.fails_with(
        2,
        &["eval", reward, "--config", "eval.toml"],
        str![[r#"
error[evaluation]: a model with a single score has no labels to be evaluated by
  because such scores are compared with each other: the validation of its run does that

"#]],
    );
    let sets = ["data.validation=[]", "eval.prompts=[]", "classification.calibrate=true"];
    let sets = [&[SINGLE, CLASSIFY][..], &sets].concat();
    let calibrate: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    run.fails_with(
        2,
        &train("lora.toml", "name=calibrate", &calibrate),
        str![[r#"
error[config]: `classification.calibrate` needs validation data
  at lora.toml
  because a temperature that is fitted on training data trusts the model too much

hint: add `[[data.validation]]` or `data.val_size`

"#]],
    );
}
