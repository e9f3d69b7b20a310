//! Runs that learn from a teacher: asked once, filed, and nowhere in memory beside the run; or asked
//! about what the model answers itself, in memory.

use snapbox::str;

use crate::common::{Run, assert_same_artifact, says, without_progress};
use firebrand::event::StepReport;
use firebrand::files::hash_file;
use firebrand::rollouts::OnPolicyAnswer;

const DISTILLED: [&str; 4] = [
    "train.objective=distillation",
    "distillation.teacher=checkpoints/tiny",
    "distillation.top_k=8",
    "distillation.kd_ratio=0.8",
];

fn train<'a>(name: &'a str, sets: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let all = ["train", "tiny.toml", "--set", name].into_iter().chain(sets);
    all.chain(more.iter().copied()).collect()
}

fn filed(run: &Run) -> String {
    let list = run.succeeds(&["cache", "list"]);
    list.lines()
        .filter(|line| line.starts_with("teacher"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn a_run_with_a_teacher_goes_on_to_the_same_bytes_whatever_is_filed() {
    let run = Run::new().with_base();
    let one = ["--set", "device.threads=1"];
    let said = run.stderr_of(&train("name=straight", &DISTILLED, &one));
    says(
        without_progress(&said),
        str![[r#"
what checkpoints/tiny says of 338 target tokens is filed in the cache, 23.0 kB



"#]],
    );
    assert_eq!(filed(&run).lines().count(), 1);
    let three = ["--set", "device.threads=3", "--set", "device.parallel_micro_batches=2"];
    for steps in ["1", "2", "1"] {
        let some = [&three[..], &["--stop-after-steps", steps]].concat();
        run.succeeds(&train("name=stopped", &DISTILLED, &some));
        assert_eq!(filed(&run).lines().count(), 1);
        if steps == "2" {
            run.succeeds(&["cache", "gc", "--all"]);
            assert_eq!(filed(&run), "");
        }
    }
    run.succeeds(&train("name=stopped", &DISTILLED, &three));
    // In rows of their own, the same teacher's words are read.
    let apart = ["--set", "data.packing=false", "--set", "seed=7"];
    let said = run.stderr_of(&train("name=apart", &DISTILLED, &apart));
    says(
        without_progress(&said),
        str![[r#"
what checkpoints/tiny says of the data is in the cache



"#]],
    );
    assert_eq!(filed(&run).lines().count(), 1);
    let of = |name: &str, file: &str| {
        std::fs::read(run.path(&format!("checkpoints/{name}/{file}"))).unwrap()
    };
    for file in ["metrics.jsonl", "step-00000006/model.safetensors", "step-00000006/state.json"] {
        assert!(of("straight", file) == of("stopped", file), "{file}");
    }
    let artifact = |name: &str| run.path(&format!("checkpoints/{name}/artifact"));
    assert_same_artifact(&artifact("straight"), &artifact("stopped"));

    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    for report in &steps {
        let of = |name: &str| report.metrics[name];
        let both = 0.8 * of("divergence") + 0.2 * of("cross_entropy");
        assert!((report.loss - both).abs() < 1e-6 * both, "{report:?}");
    }
    assert!(steps[5].metrics["divergence"] < steps[0].metrics["divergence"], "{steps:?}");
    let statement = run.read("checkpoints/straight/artifact/lineage.statement.json");
    let statement: serde_json::Value = serde_json::from_str(&statement).unwrap();
    let all = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let teacher = run.path("checkpoints/tiny/artifact/model.safetensors");
    let digest = hash_file(&teacher, "").unwrap().sha256.to_string();
    let named = |entry: &&serde_json::Value| entry["annotations"]["role"] == "teacher";
    let digests: Vec<&str> =
        all.iter().filter(named).filter_map(|entry| entry["digest"]["sha256"].as_str()).collect();
    assert!(digests.contains(&digest.as_str()), "{digests:?} {digest}");

    // Whoever has the teacher makes it again.
    run.succeeds(&["reproduce", "checkpoints/straight", "--json", "--no-sign"]);

    // Not with another teacher.
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=5"]);
    run.succeeds(&train("name=begun", &DISTILLED, &["--stop-after-steps", "1"]));
    let other =
        [DISTILLED[0], "distillation.teacher=checkpoints/other", DISTILLED[2], DISTILLED[3]];
    let other = train("name=begun", &other, &["--quiet"]);
    run.fails_with(
        2,
        &other,
        str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/begun/step-00000001
  because `distillation.teacher` was `checkpoints/tiny` and is `checkpoints/other`
  because the base model was [HEX] and is [HEX]

hint: undo the change, or start a new run with another `name` or `output.dir`

"#]],
    );
}

/// What the model answers is a function of the run's seed, the step and the prompt; the teacher is
/// asked in the steps, and nothing of it is filed.
#[test]
fn a_run_on_its_own_answers_goes_on_to_the_same_bytes() {
    let run = Run::new().with_base();
    let sets =
        [&DISTILLED[..], &["distillation.lmbda=0.5", "distillation.max_new_tokens=7"]].concat();
    let one = ["--quiet", "--set", "device.threads=1"];
    run.succeeds(&train("name=straight", &sets, &one));
    assert_eq!(filed(&run), "");
    let three =
        ["--quiet", "--set", "device.threads=3", "--set", "device.parallel_micro_batches=2"];
    for steps in ["1", "2", "1"] {
        let some = [&three[..], &["--stop-after-steps", steps]].concat();
        run.succeeds(&train("name=stopped", &sets, &some));
    }
    run.succeeds(&train("name=stopped", &sets, &three));
    let of = |name: &str, file: &str| {
        std::fs::read(run.path(&format!("checkpoints/{name}/{file}"))).unwrap()
    };
    let files = ["metrics.jsonl", "rollouts.jsonl", "step-00000006/model.safetensors"];
    for file in files.iter().chain(&["step-00000006/state.json"]) {
        assert!(of("straight", file) == of("stopped", file), "{file}");
    }
    let artifact = |name: &str| run.path(&format!("checkpoints/{name}/artifact"));
    assert_same_artifact(&artifact("straight"), &artifact("stopped"));

    let rollouts = run.read("checkpoints/straight/rollouts.jsonl");
    let digest = firebrand::files::Digest::of(rollouts.as_bytes()).to_string();
    assert!(run.read("checkpoints/straight/step-00000006/state.json").contains(&digest));
    assert!(run.read("checkpoints/straight/artifact/lineage.statement.json").contains(&digest));
    let answers: Vec<OnPolicyAnswer> =
        rollouts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    let own: Vec<&StepReport> =
        steps.iter().filter(|report| report.metrics["on_policy"] == 1.0).collect();
    assert!(!own.is_empty() && own.len() < steps.len(), "{steps:?}");
    for report in &steps {
        let of = |name: &str| report.metrics[name];
        let answers: Vec<_> = answers.iter().filter(|it| it.step == report.step).collect();
        assert_eq!(of("on_policy") == 1.0, !answers.is_empty(), "{report:?}");
        // What the model wrote itself is not made likelier as it is.
        let both = match answers.is_empty() {
            true => 0.8 * of("divergence") + 0.2 * of("cross_entropy"),
            false => of("divergence"),
        };
        assert!((report.loss - both).abs() < 1e-6 * both, "{report:?}");
        if answers.is_empty() {
            assert!(!report.metrics.contains_key("completions/mean_length"));
            continue;
        }
        let tokens = answers.iter().map(|answer| answer.tokens.len());
        assert!(tokens.clone().all(|count| (1..=7).contains(&count)));
        let tokens: usize = tokens.sum();
        assert_eq!(report.target_tokens, tokens as u64);
        let mean = tokens as f64 / answers.len() as f64;
        assert!((of("completions/mean_length") - mean).abs() < 1e-9, "{report:?}");
        let clipped = answers.iter().filter(|answer| !answer.ended).count();
        let clipped = clipped as f64 / answers.len() as f64;
        assert!((of("completions/clipped_ratio") - clipped).abs() < 1e-9, "{report:?}");
    }
    run.succeeds(&["reproduce", "checkpoints/straight", "--json", "--no-sign"]);
    run.succeeds(&["runs", "report", "checkpoints/straight"]);
    let page = run.read("checkpoints/straight/report.html");
    assert!(page.contains("<h2>Completions</h2>") && !page.contains("<th>advantage</th>"));

    // The plan has the teacher beside the run.
    let plan = |sets: &[&str]| -> serde_json::Value {
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let all: Vec<&str> = ["plan", "tiny.toml", "--json"].into_iter().chain(sets).collect();
        serde_json::from_str(&run.succeeds(&all)).unwrap()
    };
    let (before, beside) = (plan(&DISTILLED), plan(&sets));
    let bytes = |plan: &serde_json::Value| plan["memory_bytes"].as_u64().unwrap();
    assert!(bytes(&beside) > bytes(&before), "{beside}");
}

/// Answers that are all the model's own bring it to a teacher as well.
#[test]
fn a_model_learns_from_what_a_teacher_makes_of_its_own_answers() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=5"]);
    let sets = [
        "train.objective=distillation",
        "distillation.teacher=checkpoints/other",
        "distillation.lmbda=1",
        "distillation.beta=1",
        "distillation.max_new_tokens=12",
        "train.max_steps=12",
        "eval.every_steps=12",
    ];
    run.succeeds(&train("name=straight", &sets, &["--quiet"]));
    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    let judged =
        metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let judged: Vec<f64> = judged.filter_map(|line| line["eval_divergence"].as_f64()).collect();
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    let own: Vec<f64> = steps.iter().map(|report| report.metrics["divergence"]).collect();
    assert!(own[11] < 0.9 * own[0], "{own:?}");
    assert!(judged.last().unwrap() < &judged[0], "{judged:?}");
}

#[test]
fn what_cannot_be_together_with_own_answers_is_told_so() {
    let run = Run::new().with_base();
    let sets = [&DISTILLED[..2], &["distillation.lmbda=0.5", "data.train_on=all"]].concat();
    run.fails_with(
        2,
        &train("name=refused", &sets, &["--quiet"]),
        str![[r#"
error[config]: `data.train_on = "all"` cannot be used with `distillation.lmbda`
  at tiny.toml
  because the model answers what precedes the targets, and all is a target

hint: remove it, or leave `distillation.lmbda` at 0

"#]],
    );
}

/// An adapter learns as well, and weights of records count.
#[test]
fn an_adapter_learns_from_a_teacher() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=5"]);
    let sets = [
        "train.objective=distillation",
        "distillation.teacher=checkpoints/other",
        "distillation.beta=0",
        "train.max_steps=8",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    run.succeeds(
        &[&["train", "lora.toml", "--quiet", "--set", "name=straight"], &sets[..]].concat(),
    );
    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
    assert!(steps[7].loss < 0.8 * steps[0].loss, "{steps:?}");
    let plan = [&["plan", "lora.toml", "--json"], &sets[..]].concat();
    let plan: serde_json::Value = serde_json::from_str(&run.succeeds(&plan)).unwrap();
    assert!(plan["memory_bytes"].as_u64().unwrap() > 0, "{plan}");
}

/// There is nothing to learn yet, and no gradient but rounding to compare.
#[test]
fn a_student_that_is_its_teacher_begins() {
    let run = Run::new().with_base();
    let sets = [&DISTILLED[..3], &["name=same", "train.max_steps=2"]].concat();
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    let all: Vec<&str> = ["train", "lora.toml", "--quiet"].into_iter().chain(sets).collect();
    run.succeeds(&all);
}

#[test]
fn what_cannot_be_a_teacher_is_told_so() {
    let run = Run::new().with_base();
    let mut tokenizer: serde_json::Value =
        serde_json::from_str(&run.read("base/tokenizer.json")).unwrap();
    std::fs::create_dir(run.path("stranger")).unwrap();
    for entry in std::fs::read_dir(run.path("checkpoints/tiny/artifact")).unwrap() {
        let path = entry.unwrap().path();
        let unsigned = path.extension().is_some_and(|it| it == "safetensors")
            || ["config.json", "tokenizer_config.json", "chat_template.jinja"]
                .iter()
                .any(|name| path.ends_with(name));
        if unsigned {
            std::fs::copy(&path, run.path("stranger").join(path.file_name().unwrap())).unwrap();
        }
    }
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let last = vocabulary.iter().max_by_key(|(_, id)| id.as_u64()).map(|(name, _)| name.clone());
    let id = vocabulary.remove(&last.unwrap()).unwrap();
    vocabulary.insert("stranger".to_owned(), id);
    tokenizer["model"]["merges"] = serde_json::json!([]);
    run.write("stranger/tokenizer.json", &tokenizer.to_string());
    let cases: [&[&str]; 4] = [
        &["train.objective=distillation"],
        &["train.objective=distillation", "distillation.teacher=nowhere"],
        &["train.objective=distillation", "distillation.teacher=stranger"],
        &["distillation.teacher=stranger"],
    ];
    let told = cases.map(|sets| run.fails(2, &train("name=refused", sets, &["--quiet"])));
    says(
        told.concat(),
        str![[r#"
error[config]: `train.objective = "distillation"` needs a teacher
  at tiny.toml

hint: name the model to learn from as `distillation.teacher`
error[model]: there is no model `nowhere`
  because `distillation.teacher` names it

hint: name a model directory, an artifact, a finished run, or `owner/name` on a hub
error[tokenizer]: the teacher has another tokenizer than the base model
  at stranger
  because token 361 is `stranger` there, and `ar` in the base model
  because distillation compares the probabilities of both token by token

hint: name a teacher of the family of the base model as `distillation.teacher`
error[config]: `[distillation]` means nothing when `train.objective` is `sft`
  at --set distillation.teacher

hint: remove it, or set `objective` to `distillation`

"#]],
    );
}
