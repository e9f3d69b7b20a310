//! Runs beside each other, and their curves in other programs' formats.

use snapbox::str;

use crate::common::{Run, says};

const SHORT: [&str; 6] = ["train", "tiny.toml", "--quiet", "--set", "train.max_steps=4", "--set"];

#[test]
fn runs_are_compared_by_settings_and_losses() {
    let run = Run::new();
    run.succeeds(&[&SHORT[..], &["name=a", "--set", "eval.every_steps=2"]].concat());
    let rate = ["name=b", "--set", "eval.every_steps=2", "--set", "train.learning_rate=0.1"];
    run.succeeds(&[&SHORT[..], &rate].concat());
    let both = ["runs", "compare", "checkpoints/a", "checkpoints/b"];
    let text = run.succeeds(&both);
    let differ: Vec<&str> = text.lines().filter(|line| line.contains("  |  ")).collect();
    says(
        differ.join("\n"),
        str![[r#"
name                 "a"  |  "b"
output.dir           "checkpoints/a"  |  "checkpoints/b"
train.learning_rate  0.005  |  0.1
"#]],
    );
    let json: serde_json::Value =
        serde_json::from_str(&run.succeeds(&[&both[..], &["--json"]].concat())).unwrap();
    let steps = |what: &str| -> Vec<u64> {
        json[what].as_array().unwrap().iter().map(|it| it["step"].as_u64().unwrap()).collect()
    };
    assert_eq!((steps("training"), steps("validation")), (vec![1, 2, 3, 4], vec![0, 2, 4]));
    let [first, last] = [0, 3].map(|at| &json["training"][at]["loss"]);
    assert_eq!(first[0], first[1], "the rate has changed nothing yet");
    assert_ne!(last[0], last[1]);
    // By name, with the curves of both on one page.
    let page = ["runs", "compare", "a", "b", "--report", "compare.html"];
    assert_eq!(run.succeeds(&page), text);
    let page = run.read("compare.html");
    assert_eq!(page.matches("<polyline").count(), 4, "two runs, training and validation");
    for part in ["<h1>a and b</h1>", "<td>train.learning_rate</td><td>0.005</td><td>0.1</td>"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let rows = text.lines().filter(|line| line.starts_with("training  "));
    assert_eq!(rows.count(), 4);
    run.fails_with(
        2,
        &["runs", "compare", "checkpoints/a", "nowhere"],
        str![[r#"
error[run]: there is no run `nowhere`

hint: `firebrand runs DIR` lists the runs below a folder

"#]],
    );
}

/// A run that goes on begins the files anew: no step is in them twice, and none is missing.
#[test]
fn trackers_have_every_step_once_however_often_a_run_was_stopped() {
    let run = Run::new();
    let tracked = ["name=a", "--set", "output.report_to=[\"csv\", \"tensorboard\"]"];
    let train = [&SHORT[..], &tracked].concat();
    let stopped = run.command(&[&train[..], &["--stop-after-steps", "3"]].concat());
    stopped.assert().success();
    run.succeeds(&train);
    let table = run.read("checkpoints/a/metrics.csv");
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let column = lines[0].iter().position(|name| *name == "train/loss").unwrap();
    let losses: Vec<(&str, &str)> = lines[1..]
        .iter()
        .filter(|row| !row[column].is_empty())
        .map(|row| (row[0], row[column]))
        .collect();
    let metrics = run.read("checkpoints/a/metrics.jsonl");
    let wanted: Vec<(String, String)> = metrics
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["loss"].is_number())
        .map(|line| (line["step"].to_string(), line["loss"].as_f64().unwrap().to_string()))
        .collect();
    assert_eq!(wanted.len(), 4);
    assert_eq!(losses, wanted.iter().map(|(a, b)| (&**a, &**b)).collect::<Vec<_>>());
    let files = std::fs::read_dir(run.path("checkpoints/a/tensorboard")).unwrap().count();
    assert_eq!(files, 1);
}
