//! Runs that learn from a teacher: asked once, filed, and nowhere in memory beside the run.

use snapbox::str;

use crate::common::{Run, assert_same_artifact, says, without_progress};
use firebrand::files::hash_file;

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
