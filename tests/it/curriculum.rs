//! What records and data sets say of how they are trained on: weights, an order, a temperature.

use snapbox::str;

use crate::common::{Run, assert_same_artifact, says};

/// The conversations of a run, each with a quality from 1 to 5, of which none is in file order.
fn weighed() -> Run {
    let run = Run::new();
    let with = |(at, line): (usize, &str)| {
        line.replacen('{', &format!("{{\"meta\": {{\"quality\": {}}}, ", at * 7 % 5 + 1), 1) + "\n"
    };
    let data = run.read("data.jsonl");
    run.write("weighed.jsonl", &data.lines().enumerate().map(with).collect::<String>());
    run
}

fn train<'a>(name: &'a str, sets: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    ["train", "tiny.toml", "--quiet", "--set", name]
        .into_iter()
        .chain(sets)
        .chain(more.iter().copied())
        .collect()
}

/// With every setting of its own, and all of them together.
#[test]
fn runs_go_on_to_the_same_bytes_whatever_decides_about_records() {
    let run = weighed();
    let path = "data.train=[{ path = \"weighed.jsonl\" }, { path = \"more.jsonl\", weight = 1.5 }]";
    let more: String =
        run.read("weighed.jsonl").lines().take(6).map(|line| format!("{line}\n")).collect();
    run.write("more.jsonl", &more.replace("What is", "Tell me"));
    let sets = [
        path,
        "data.sample_weight=meta.quality",
        "data.order=meta.quality",
        "data.mixing_temperature=2",
    ];
    let by_length = [path, "data.order=length", "data.packing=false"];
    for (number, sets) in [&sets[..], &sets[..2], &by_length].into_iter().enumerate() {
        let [straight, stopped] =
            ["straight", "stopped"].map(|name| format!("name={name}-{number}"));
        run.succeeds(&train(&straight, sets, &["--set", "device.threads=1"]));
        for steps in ["1", "2", "1"] {
            run.succeeds(&train(&stopped, sets, &["--stop-after-steps", steps]));
        }
        run.succeeds(&train(&stopped, sets, &["--set", "device.threads=3"]));
        let of = |name: &str, file: &str| {
            std::fs::read(run.path(&format!("checkpoints/{name}-{number}/{file}"))).unwrap()
        };
        for file in ["metrics.jsonl", "step-00000006/model.safetensors", "step-00000006/state.json"]
        {
            assert!(of("straight", file) == of("stopped", file), "{file} {sets:?}");
        }
        let artifact = |name: &str| run.path(&format!("checkpoints/{name}-{number}/artifact"));
        assert_same_artifact(&artifact("straight"), &artifact("stopped"));
        let statement =
            run.read(&format!("checkpoints/straight-{number}/artifact/lineage.statement.json"));
        for set in &sets[1..] {
            let (key, value) = set.split_once('=').unwrap();
            let name = key.split_once('.').unwrap().1;
            let recorded = statement.contains(name) && statement.contains(value);
            assert!(recorded, "{set} is not in the lineage: {statement}");
        }
    }
}

#[test]
fn what_says_nothing_of_its_weight_or_order_is_told_so() {
    let run = weighed();
    let path = "data.train.0.path=weighed.jsonl";
    let cases: [&[&str]; 4] = [
        &[path, "data.sample_weight=meta.score"],
        &[path, "data.order=messages"],
        &[path, "data.sample_weight=meta.quality", "train.objective=orpo"],
        &[path, "data.order=newest", "data.max_bad_rows=30"],
    ];
    let told = cases.map(|sets| run.fails(2, &train("name=refused", sets, &[])));
    says(
        told.concat(),
        str![[r#"
error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:1:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:2:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:3:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:4:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:5:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:6:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:7:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:8:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:9:1

error[data]: the column `meta.score`, which `data.sample_weight` names, is missing
  at weighed.jsonl:10:1

hint: 10 more records of the files read so far are unusable

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all
error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:1:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:2:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:3:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:4:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:5:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:6:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:7:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:8:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:9:1

error[data]: the column `messages`, which `data.order` names, is missing
  at weighed.jsonl:10:1

hint: 10 more records of the files read so far are unusable

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all
error[config]: `data.sample_weight` cannot be used with `train.objective = "orpo"`
  at tiny.toml
  because it weighs the losses of tokens, of which this objective's is no sum

hint: remove it, or train with `sft` or `distillation`
error[data]: the training data holds no example with target tokens
  at weighed.jsonl:1:1
  because 20 records were read
  because 20 of them cannot be used, first weighed.jsonl:1: the column `newest`, which `data.order` names, is missing

"#]],
    );
}

/// A record of weight 0 is left out, and weights of 1 are no weights.
#[test]
fn weights_of_nothing_and_of_one_are_what_they_say() {
    let run = Run::new();
    let lines = |weights: &dyn Fn(usize) -> u32, file: &str| {
        let data = run.read("data.jsonl");
        let with = |(at, line): (usize, &str)| {
            line.replacen('{', &format!("{{\"weight\": {}, ", weights(at)), 1) + "\n"
        };
        run.write(file, &data.lines().enumerate().map(with).collect::<String>());
    };
    lines(&|_| 1, "ones.jsonl");
    lines(&|at| u32::from(at % 2 == 0), "half.jsonl");
    let weighs = "data.sample_weight=weight";
    let path = |file: &str| format!("data.train.0.path={file}");
    // Loss and norm of the gradient; positions are by the bytes of the files.
    let steps = |name: &str| -> Vec<(f64, f64)> {
        let metrics = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
        let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
        steps.iter().map(|report| (report.loss, report.grad_norm)).collect()
    };
    run.succeeds(&train("name=ones", &[&path("ones.jsonl"), weighs], &[]));
    run.succeeds(&train("name=plain", &[], &[]));
    assert_eq!(steps("ones"), steps("plain"));
    let epoch = "train.epochs=1";
    run.succeeds(&train("name=half", &[&path("half.jsonl"), weighs, epoch], &[]));
    let every_other: String =
        run.read("data.jsonl").lines().step_by(2).map(|line| format!("{line}\n")).collect();
    run.write("every-other.jsonl", &every_other);
    run.succeeds(&train("name=every-other", &[&path("every-other.jsonl"), epoch], &[]));
    assert!(steps("half").len() > 1);
    assert_eq!(steps("half"), steps("every-other"));
}
