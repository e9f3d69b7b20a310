//! The best checkpoint as the result, and runs that stop when validation no longer improves: said,
//! recorded, and the same bytes after stops.

use std::path::Path;

use snapbox::str;

use crate::common::{Run, weights_digest, without_progress};
use firebrand::checkpoint::newest;
use firebrand::files::hash_file;

/// A rate that ruins the model after the first steps, measured after each.
const RUINED: [&str; 10] = [
    "--set",
    "train.learning_rate=0.1",
    "--set",
    "train.lr_scheduler=constant",
    "--set",
    "train.warmup_steps=0",
    "--set",
    "train.max_steps=12",
    "--set",
    "eval.every_steps=1",
];
const BEST: [&str; 2] = ["--set", "eval.load_best_model_at_end=true"];
const PATIENCE: [&str; 2] = ["--set", "eval.early_stopping_patience=2"];

fn arguments<'a>(name: &'a str, more: &[&[&'a str]]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--quiet", "--set", name], &RUINED[..], &more.concat()].concat()
}

fn state(run: &Run, folder: &str) -> serde_json::Value {
    serde_json::from_str(&run.read(&format!("{folder}/state.json"))).unwrap()
}

/// Steps and losses of validations of trained weights, the best first.
fn best_first(state: &serde_json::Value) -> Vec<(u64, f64)> {
    let all = state["evaluations"].as_array().unwrap().iter().skip(1);
    let mut all: Vec<(u64, f64)> = all
        .map(|found| (found["step"].as_u64().unwrap(), found["eval_loss"].as_f64().unwrap()))
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all
}

fn steps(folder: &Path) -> Vec<u64> {
    newest(folder).unwrap().into_iter().map(|(step, _)| step).collect()
}

fn digest(run: &Run, path: &str) -> String {
    hash_file(&run.path(path), "").unwrap().sha256.to_string()
}

#[test]
fn the_result_is_the_best_checkpoint_whatever_stops_the_run() {
    let run = Run::new();
    run.succeeds(&arguments("name=best", &[&BEST]));
    let folder = "checkpoints/best";
    let last = state(&run, "checkpoints/best/step-00000012");
    let (best, loss) = best_first(&last)[0];
    assert!(best < 10, "the rate ruins nothing: {best}");
    assert_eq!(steps(&run.path(folder)), [12, 10, best], "the best stays beside the last two");
    // Under a constant rate they are those of a run that ends there.
    let artifact = |name: &str| run.path(&format!("checkpoints/{name}/artifact"));
    run.succeeds(&arguments("name=exact", &[&["--set", &format!("train.max_steps={best}")]]));
    assert_eq!(weights_digest(&artifact("best")), weights_digest(&artifact("exact")));
    let short = format!("step-{best:08}");

    // The lineage, the history and the answers are those of the result.
    let statement = run.read("checkpoints/best/artifact/lineage.statement.json");
    let statement: serde_json::Value = serde_json::from_str(&statement).unwrap();
    let byproducts = statement["predicate"]["runDetails"]["byproducts"].as_array().unwrap();
    let result = byproducts.iter().find(|it| it["annotations"]["role"] == "result").unwrap();
    assert_eq!(result["name"], format!("{short}/MANIFEST.json"));
    assert_eq!(
        result["digest"]["sha256"],
        digest(&run, &format!("{folder}/{short}/MANIFEST.json"))
    );
    assert_eq!(byproducts[0]["annotations"]["eval_loss"], loss);
    let history = run.read("checkpoints/best/history.jsonl");
    assert!(history.contains(&format!("\"what\":\"best\",\"step\":{best}")), "{history}");
    let page = run.read("checkpoints/best/report.html");
    assert!(page.contains(&format!("validation loss {loss:.4}, the best")), "{page}");

    // Stops change nothing of it.
    for at in ["1", "3", "5"] {
        run.succeeds(&arguments("name=stopped", &[&BEST, &["--stop-after-steps", at]]));
    }
    run.succeeds(&arguments("name=stopped", &[&BEST]));
    assert_eq!(weights_digest(&artifact("best")), weights_digest(&artifact("stopped")));
    for file in ["state.json", "model.safetensors", "optimizer.safetensors"] {
        let of = |name: &str| digest(&run, &format!("checkpoints/{name}/step-00000012/{file}"));
        assert_eq!(of("best"), of("stopped"), "{file}");
    }
    assert_eq!(steps(&run.path("checkpoints/stopped")), [12, 10, best]);
    // Pruning leaves it.
    run.succeeds(&["runs", "prune", "checkpoints"]);
    assert_eq!(steps(&run.path(folder)), [12, best]);
}

#[test]
fn a_run_stops_early_and_is_finished() {
    let run = Run::new();
    let mut loud = arguments("name=early", &[&PATIENCE, &BEST]);
    loud.retain(|argument| *argument != "--quiet");
    let text = without_progress(&run.stderr_of(&loud));
    let last = steps(&run.path("checkpoints/early"))[0];
    assert!(last < 12, "{last}");
    let stopped = format!(
        "stopped early after step {last} of 12: the loss did not improve in 2 validations in a row \
         (`eval.early_stopping_patience`)"
    );
    let found = best_first(&state(&run, &format!("checkpoints/early/step-{last:08}")));
    let (best, loss) = found[0];
    let result = format!("the result is step {best}, with the least validation loss {loss:.4}");
    assert!(text.contains(&stopped) && text.contains(&result), "{text}");
    let again = run.stderr_of(&loud);
    assert!(again.contains("this run is finished"), "{again}");
    let all = run.succeeds(&["runs", "show", "checkpoints/early"]);
    assert!(all.contains("finished at step") && all.contains("stopped-early"), "{all}");
    // A stop before the end, and one at the very step, change nothing.
    for at in ["2".to_owned(), (last - 2).to_string()] {
        let more = [&["--stop-after-steps", &*at][..], &PATIENCE, &BEST];
        run.succeeds(&arguments("name=often", &more));
    }
    run.succeeds(&arguments("name=often", &[&PATIENCE, &BEST]));
    for file in ["state.json", "model.safetensors", "optimizer.safetensors"] {
        let of = |name: &str| digest(&run, &format!("checkpoints/{name}/step-{last:08}/{file}"));
        assert_eq!(of("early"), of("often"), "{file}");
    }
    let metrics = |name: &str| run.read(&format!("checkpoints/{name}/metrics.jsonl"));
    assert_eq!(metrics("early"), metrics("often"));
    // With more patience it goes on where it stopped.
    let patient = ["--set", "eval.early_stopping_patience=30", "--extend"];
    run.succeeds(&arguments("name=early", &[&patient, &BEST]));
    run.succeeds(&arguments("name=whole", &[&patient[..2], &BEST]));
    assert_eq!(steps(&run.path("checkpoints/early"))[0], 12);
    let weights = |name: &str| weights_digest(&run.path(&format!("checkpoints/{name}/artifact")));
    assert_eq!(weights("early"), weights("whole"));
}

#[test]
fn what_compares_validations_requires_them() {
    let run = Run::new();
    let more = [&BEST[..], &PATIENCE].concat();
    run.fails_with(
        2,
        &[&["train", "tiny.toml"], &more[..]].concat(),
        str![[r#"
error[config]: `eval.load_best_model_at_end` requires validations in the course of the run
  at --set eval.load_best_model_at_end

hint: set `eval.every_steps`

error[config]: `eval.early_stopping_patience` requires validations in the course of the run
  at --set eval.early_stopping_patience

hint: set `eval.every_steps`

"#]],
    );
    let threshold = ["train", "tiny.toml", "--set", "eval.early_stopping_threshold=0.1"];
    run.fails_with(
        2,
        &threshold,
        str![[r#"
error[config]: `eval.early_stopping_threshold` requires `eval.early_stopping_patience`
  at --set eval.early_stopping_threshold

"#]],
    );
}

#[test]
fn without_the_best_checkpoint_the_next_one_is_the_result_and_that_is_said() {
    let run = Run::new();
    let lose = [&["--stop-after-steps", "11"][..], &BEST];
    run.succeeds(&arguments("name=lost", &lose));
    let folder = run.path("checkpoints/lost");
    let found = best_first(&state(&run, "checkpoints/lost/step-00000011"));
    let (best, next) = (found[0].0, found[1]);
    assert_eq!((best, steps(&folder).contains(&next.0)), (9, true));
    std::fs::remove_dir_all(folder.join(format!("step-{best:08}"))).unwrap();
    let text = run.stderr_of(&arguments("name=lost", &[&BEST]));
    let wanted = format!(
        "warning: the result is step {}, with validation loss {:.4}: of better ones there is no \
         intact checkpoint",
        next.0, next.1
    );
    assert!(text.contains(&wanted), "{text}");
}

/// Settings of an adapter whose steps do not depend on how many there are.
const STEADY: [&str; 8] = [
    "--set",
    "train.lr_scheduler=constant",
    "--set",
    "checkpoint.every_steps=1",
    "--set",
    "eval.every_steps=1",
    "--set",
    "checkpoint.keep_last=9",
];

#[test]
fn a_checkpoint_is_a_model_for_every_command() {
    let run = Run::new().with_base();
    let lora = |name, more: &[&'static str]| {
        run.succeeds(
            &[&["train", "lora.toml", "--quiet", "--set", name], &STEADY[..], more].concat(),
        )
    };
    lora("name=lora", &[]);
    lora("name=short", &["--set", "train.max_steps=2"]);
    let found = best_first(&state(&run, "checkpoints/lora/step-00000005"));
    let loss_of = |step| found.iter().find(|(at, _)| *at == step).unwrap().1;

    // What is evaluated is what training measured there.
    run.write("eval.toml", "[data]\npath = \"validation.jsonl\"\nmax_seq_len = 96\n");
    let best = found[0].0;
    for (which, step) in [("step-2", 2), ("last", 5), ("best", best)] {
        let model = format!("checkpoints/lora@{which}");
        let call = ["eval", &*model, "--config", "eval.toml", "--json", "--device", "cpu"];
        let report: serde_json::Value = serde_json::from_str(&run.succeeds(&call)).unwrap();
        let loss = report["metrics"]["loss"]["value"].as_f64().unwrap();
        assert!((loss - loss_of(step)).abs() < 1e-6 * loss, "{which}: {loss} {}", loss_of(step));
    }
    assert_eq!(run.read("checkpoints/lora/evaluations.jsonl").lines().count(), 3);
    assert_eq!(run.answer("checkpoints/lora@last"), run.answer("checkpoints/lora"));

    // Merged and exported as the result of a run of so many steps is.
    let merged = |model: &str, out: &str| {
        run.succeeds(&["merge", model, "--out", out, "--no-check"]);
        weights_digest(&run.path(out))
    };
    assert_eq!(merged("checkpoints/lora@step-2", "two"), merged("checkpoints/short", "short"));
    assert_ne!(merged("checkpoints/lora", "five"), merged("checkpoints/short", "again"));
    let artifact = "checkpoints/lora/model-of-step-00000002";
    let key = ["--key", "settings/firebrand/signing.pub.pem"];
    for made in [artifact, "two"] {
        run.succeeds(&[&["verify", made], &key[..]].concat());
    }
    let statement = run.read(&format!("{artifact}/lineage.statement.json"));
    assert!(statement.contains("\"step-00000002/MANIFEST.json\""), "{statement}");
    assert!(statement.contains(&format!("\"eval_loss\": {}", loss_of(2))), "{statement}");
    // Made once.
    run.succeeds(&["export", "checkpoints/lora@step-2", "--out", "file"]);
    assert!(!run.path(&format!("{artifact}-2")).exists());
    run.fails_with(
        2,
        &["generate", "checkpoints/short@step-30", "--prompt", "x"],
        str![[r#"
error[checkpoint]: this run has no checkpoint of step 30
  at checkpoints/short

hint: it has `checkpoints/short@step-1`, `checkpoints/short@step-2`

"#]],
    );
    run.fails_with(
        2,
        &["merge", "checkpoints/short@newest", "--out", "no"],
        str![[r#"
error[usage]: `@newest` names no checkpoint of a run
  at checkpoints/short

hint: `checkpoints/short@best`, `checkpoints/short@last`, or `checkpoints/short@step-1`, `checkpoints/short@step-2`

"#]],
    );
    run.fails_with(
        2,
        &["eval", "nowhere@best", "--config", "eval.toml"],
        str![[r#"
error[model]: there is no model `nowhere@best`

hint: name a model directory, an artifact, a finished run, or `owner/name` on a hub

"#]],
    );
    // A whole model, too, and of a run whose result is elsewhere.
    run.succeeds(&["export", "checkpoints/tiny@best", "--out", "whole"]);
    run.succeeds(&["runs", "prune", "checkpoints", "--set-aside"]);
    assert!(!run.path(artifact).exists());
}
