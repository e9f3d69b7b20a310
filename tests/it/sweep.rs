//! Sweeps: planned, run here and by workers that are killed, collected; every run has the bytes that
//! it has alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::recipe::{calls, documents, json};
use crate::common::{Run, assert_same_artifact, conversations, repository, says, wait};
use firebrand::files::RunDirectory;
use firebrand::random::Stream;
use regex::Regex;
use serde_json::Value;
use snapbox::str;

/// Digits of digests change with every key that is added.
fn without_ids(text: &str) -> String {
    Regex::new(r"\b[0-9a-f]{16}\b").unwrap().replace_all(text, "[ID]").into_owned()
}

fn plan(run: &Run, text: &str) -> Value {
    run.write("sweep.toml", text);
    assert_eq!(run.succeeds(&["sweep", "plan", "sweep.toml"]), "sweeps/sweep\n");
    serde_json::from_str(&run.read("sweeps/sweep/manifest.json")).unwrap()
}

fn ids(manifest: &Value) -> Vec<String> {
    let points = manifest["points"].as_array().unwrap();
    points.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

fn run_of(run: &Run, id: &str) -> PathBuf {
    run.path("sweeps/sweep/runs").join(id)
}

/// Trains a point alone, with nothing taken from anywhere, and compares every byte.
fn assert_same_as_alone(run: &Run, id: &str) {
    let (config, alone) = (format!("sweeps/sweep/points/{id}.toml"), format!("alone/{id}"));
    let dir = format!("output.dir={alone}");
    let settings = ["--set", &dir, "--set", "checkpoint.reuse=never"];
    run.succeeds(&[&["train", &config, "--quiet"][..], &settings].concat());
    let (ours, alone) = (run_of(run, id), run.path(&alone));
    let metrics = |root: &Path| std::fs::read_to_string(root.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics(&ours), metrics(&alone), "{id}");
    assert_same_artifact(&ours.join("artifact"), &alone.join("artifact"));
}

const GRID: &str = r#"
configs = ["tiny.toml"]
set = { "eval.prompts" = [] }
[[parameter]]
key = "train.learning_rate"
values = [1e-3, 5e-3]
[[parameter]]
key = "seed"
values = [1, 2]
"#;

#[test]
fn a_sweep_is_planned_run_and_collected() {
    let run = Run::new();
    run.write("sweep.toml", GRID);
    let said = run.stderr_of(&["sweep", "plan", "sweep.toml"]);
    says(
        without_ids(&said),
        str![[r#"
4 points, 4 of them new
run them: firebrand sweep run sweeps/sweep

"#]],
    );
    let manifest = plan(&run, GRID);
    let ids = ids(&manifest);
    assert_eq!(ids.len(), 4);
    let values: Vec<&Value> =
        manifest["points"].as_array().unwrap().iter().map(|it| &it["settings"]).collect();
    assert_eq!(values[1], &serde_json::json!({"train.learning_rate": 0.001, "seed": 2}));
    // Each is a configuration of its own.
    let plan = run.succeeds(&["plan", &format!("sweeps/sweep/points/{}.toml", ids[3]), "--json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["config"]["train.learning_rate"], "0.005");
    assert_eq!(plan["config_sha256"], manifest["points"][3]["settings_sha256"]);

    run.succeeds(&["sweep", "run", "sweeps/sweep", "--jobs", "2"]);
    says(
        run.stderr_of(&["sweep", "run", "sweeps/sweep"]),
        str![[r#"
4 of 4 points are finished, 0 of them now
compare them: firebrand sweep collect sweeps/sweep

"#]],
    );
    ids.iter().for_each(|id| assert_same_as_alone(&run, id));

    let table = run.succeeds(&["sweep", "collect", "sweeps/sweep"]);
    says(
        without_ids(&table),
        str![[r#"
rank  point             train.learning_rate  seed  status    step  eval_loss  loss
   1  [ID]                0.005     2  finished     6     [NUMBER]  [NUMBER]
   2  [ID]                0.005     1  finished     6     [NUMBER]  [NUMBER]
   3  [ID]                0.001     1  finished     6     [NUMBER]  [NUMBER]
   4  [ID]                0.001     2  finished     6     [NUMBER]  [NUMBER]

"#]],
    );
    let csv = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--format", "csv"]);
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    let markdown = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--format", "markdown"]);
    says(
        without_ids(&markdown),
        str![[r#"
| `rank` | `point` | `train.learning_rate` | `seed` | `status` | `step` | `eval_loss` | `loss` |
| --- | --- | --- | --- | --- | --- | --- | --- |
| 1 | `[ID]` | 0.005 | 2 | `finished` | 6 | [NUMBER] | [NUMBER] |
| 2 | `[ID]` | 0.005 | 1 | `finished` | 6 | [NUMBER] | [NUMBER] |
| 3 | `[ID]` | 0.001 | 1 | `finished` | 6 | [NUMBER] | [NUMBER] |
| 4 | `[ID]` | 0.001 | 2 | `finished` | 6 | [NUMBER] | [NUMBER] |

"#]],
    );
    let whole = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--format", "json"]);
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["counts"], serde_json::json!({"finished": 4}));
    let losses: Vec<f64> = whole["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["result"]["metrics"]["eval_loss"]["value"].as_f64().unwrap())
        .collect();
    assert!(losses.is_sorted(), "{losses:?}");
    // The best goes where models go.
    let best = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--best"]);
    assert!(best.contains(whole["best"].as_str().unwrap()), "{best}");
    run.succeeds(&["verify", best.trim()]);
    // All of it in one signed folder.
    let report = ["sweep", "collect", "sweeps/sweep", "--report", "results"];
    assert_eq!(run.succeeds(&report), "results\n");
    run.succeeds(&["verify", "results"]);
    assert_eq!(run.read("results/table.csv"), csv);
    let results: serde_json::Value =
        serde_json::from_str(&run.read("results/results.json")).unwrap();
    let first = whole["best"].as_str().unwrap();
    let statement = run.read(&format!("{}/lineage.statement.json", best.trim()));
    let digest = firebrand::files::Digest::of(statement.as_bytes()).to_string();
    assert_eq!(results["statements"][first], digest.as_str());
    run.fails(2, &report); // it is there already
    run.write("results/table.csv", &csv.replacen('1', "2", 1));
    run.fails(1, &["verify", "results"]);
    run.fails_with(
        2,
        &["sweep", "collect", "sweeps/sweep", "--no-sign"],
        str![[r#"
error[usage]: only a report is signed

hint: `--report DIR` makes a folder with the table in all forms

"#]],
    );
    // Other numbers give another order.
    let by_loss = ["sweep", "collect", "sweeps/sweep", "--metric", "loss", "--format", "csv"];
    assert!(run.succeeds(&by_loss).starts_with("rank,point,train.learning_rate,seed,"));
    run.fails_with(
        2,
        &["sweep", "collect", "sweeps/sweep", "--metric", "accuracy", "--best"],
        str![[r#"
error[evaluation]: no finished point has the metric `accuracy`

hint: there are `best_eval_loss`, `eval_loss`, `loss`

"#]],
    );
}

#[test]
fn a_page_shows_parallel_coordinates_and_curves() {
    let run = Run::new();
    plan(&run, GRID);
    run.succeeds(&["sweep", "run", "sweeps/sweep", "--jobs", "2"]);
    let page = ["sweep", "collect", "sweeps/sweep", "--format", "html", "--out", "sweep.html"];
    assert_eq!(run.succeeds(&page), "sweep.html\n");
    let page = run.read("sweep.html");
    assert_eq!(page.matches("<polyline").count(), 8, "four points, twice");
    assert_eq!(page.matches("<line").count(), 3, "two parameters and the metric");
    assert!(!page.contains("NaN") && !page.contains("<script"), "{page}");
}

#[test]
fn every_problem_of_every_point_is_told_where_it_was_written() {
    let run = Run::new();
    run.write(
        "sweep.toml",
        r#"
configs = ["tiny.toml"]
[[parameter]]
key = "train.learning_rat"
values = [1e-3]
[[parameter]]
key = "seed"
min = 5
max = 3
count = 2
[[parameter]]
key = "name"
values = ["a"]
[[parameter]]
key = "train.epochs"
when = { "sed" = 1 }
"#,
    );
    run.fails_with(
        2,
        &["sweep", "plan", "sweep.toml"],
        str![[r#"
error[config]: `train.learning_rat` is not a setting of a run
  at sweep.toml:4:7

hint: did you mean `train.learning_rate`?

error[config]: `max` must be above `min`, which is 5
  at sweep.toml:9:7

error[config]: `name` is decided by the sweep
  at sweep.toml:12:7

hint: remove it: every run has a name and a folder

error[config]: the parameter `train.epochs` has no values
  at sweep.toml:15:7

hint: add `values = [ … ]`, or `min = …` and `max = …`

error[config]: `when` names `sed`, which is not a parameter above this one
  at sweep.toml:16:18

hint: did you mean `seed`?

"#]],
    );
    run.write(
        "sweep.toml",
        "configs = []\nmethod = \"gird\"\n[[parametr]]\nkey = \"seed\"\nvalues = 3\n",
    );
    run.fails_with(
        2,
        &["sweep", "plan", "sweep.toml"],
        str![[r#"
error[config]: `method` must be one of `grid`, `random`, `sobol`, not `"gird"`
  at sweep.toml:2:10

hint: did you mean `grid`?

error[config]: unknown key `parametr` at the top level
  at sweep.toml:3:3

hint: did you mean `parameter`?

"#]],
    );
    // What only the whole configuration shows, told once and at the value.
    run.write(
        "sweep.toml",
        r#"
configs = ["tiny.toml"]
[[parameter]]
key = "train.learning_rate"
values = [1e-3, "fast", -1.0]
[[parameter]]
key = "train.optimizer"
values = ["adamw", "lyon"]
[[parameter]]
key = "train.objective"
values = ["sft", "dpo"]
"#,
    );
    run.fails_with(2, &["sweep", "plan", "sweep.toml"], str![[r#"
error[config]: `train.learning_rate` must be a number above 0 and at most 1, not `"fast"`
  at sweep.toml:5:17

error[config]: `train.learning_rate` must be a number above 0 and at most 1, not `-1.0`
  at sweep.toml:5:25

error[config]: `train.optimizer` must be one of `adamw`, `lion`, `sgd`, `adafactor`, `muon`, `schedule-free-adamw`, `adamw-8bit`, not `"lyon"`
  at sweep.toml:8:20

hint: did you mean `lion`?

error[config]: `train.objective = "dpo"` needs an adapter
  at tiny.toml
  because it compares with the base model, whose weights full training overwrites
  because of the point with train.learning_rate = 1e-3, train.optimizer = "adamw", train.objective = "dpo"

hint: add a `[lora]` section, or train on pairs with `simpo` or `cpo` or `orpo`

"#]]);
    assert!(!run.path("sweeps").exists(), "nothing was written");
    run.fails_with(
        2,
        &["sweep", "run", "data.jsonl"],
        str![[r#"
error[file]: this is not the folder of a planned sweep
  at data.jsonl

hint: `firebrand sweep plan SWEEP.toml` makes one and prints its name

"#]],
    );
}

#[test]
fn conditional_parameters_are_varied_only_where_they_mean_something() {
    let run = Run::new();
    let manifest = plan(
        &run,
        r#"
configs = ["tiny.toml"]
[[parameter]]
key = "train.optimizer"
values = ["adamw", "sgd"]
[[parameter]]
key = "train.sgd_momentum"
when = { "train.optimizer" = "sgd" }
values = [0.0, 0.9]
[[parameter]]
key = "train.max_steps"
min = 2
max = 4
count = 2
"#,
    );
    let shown = |point: &Value| point["settings"].to_string();
    let all: Vec<String> = manifest["points"].as_array().unwrap().iter().map(shown).collect();
    assert_eq!(
        all,
        [
            r#"{"train.optimizer":"adamw","train.max_steps":2}"#,
            r#"{"train.optimizer":"adamw","train.max_steps":4}"#,
            r#"{"train.optimizer":"sgd","train.sgd_momentum":0.0,"train.max_steps":2}"#,
            r#"{"train.optimizer":"sgd","train.sgd_momentum":0.0,"train.max_steps":4}"#,
            r#"{"train.optimizer":"sgd","train.sgd_momentum":0.9,"train.max_steps":2}"#,
            r#"{"train.optimizer":"sgd","train.sgd_momentum":0.9,"train.max_steps":4}"#,
        ]
    );
}

#[test]
fn drawn_points_are_the_same_every_time_and_more_of_them_keep_the_first() {
    let run = Run::new();
    let sweep = |method: &str, points: u32, seed: u32| {
        let text = format!(
            "configs = [\"tiny.toml\"]\nmethod = \"{method}\"\npoints = {points}\nseed = {seed}\n\
             [[parameter]]\nkey = \"train.learning_rate\"\nmin = 1e-5\nmax = 1e-2\n\
             scale = \"log\"\n[[parameter]]\nkey = \"train.max_steps\"\nmin = 4\nmax = 7\n\
             [[parameter]]\nkey = \"train.optimizer\"\nvalues = [\"adamw\", \"lion\"]\n"
        );
        ids(&plan(&run, &text))
    };
    for method in ["random", "sobol"] {
        let few = sweep(method, 8, 1);
        assert_eq!((few.len(), &sweep(method, 8, 1)), (8, &few));
        assert_eq!(&sweep(method, 16, 1)[..8], few);
        assert_ne!(sweep(method, 8, 2), few);
    }
    // Of eight points of a Sobol sequence, two have each of four values, and four each of two.
    let manifest: Value = serde_json::from_str(&run.read("sweeps/sweep/manifest.json")).unwrap();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for point in manifest["points"].as_array().unwrap() {
        for key in ["train.max_steps", "train.optimizer"] {
            *counts.entry(point["settings"][key].to_string()).or_default() += 1;
        }
    }
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [4, 4, 2, 2, 2, 2], "{counts:?}");
}

/// Steps that processes of a run have computed.
fn computed(run: &Run, id: &str) -> usize {
    let timings = std::fs::read_to_string(run_of(run, id).join("timings.jsonl"));
    timings.unwrap_or_default().lines().count()
}

#[test]
fn points_that_share_their_first_steps_compute_them_once() {
    let run = Run::new();
    let manifest = plan(
        &run,
        r#"
configs = ["tiny.toml"]
set = { "checkpoint.reuse" = "auto", "checkpoint.every_steps" = 0, "train.lr_scheduler" = "wsd" }
[[parameter]]
key = "train.max_steps"
values = [20]
[[parameter]]
key = "train.decay_ratio"
values = [0.1, 0.2, 0.4, 0.3]
"#,
    );
    let shares = |point: &Value| point["shares"]["steps"].as_u64();
    let shared: Vec<Option<u64>> =
        manifest["points"].as_array().unwrap().iter().map(shares).collect();
    // The first step of the decay still has the rate of the peak.
    assert_eq!(shared, [None, Some(17), Some(13), Some(15)]);
    run.succeeds(&["sweep", "run", "sweeps/sweep", "--jobs", "3"]);
    let ids = ids(&manifest);
    let steps: Vec<usize> = ids.iter().map(|id| computed(&run, id)).collect();
    assert_eq!(steps, [20, 3, 7, 5], "80 steps, of which 45 were taken");
    ids.iter().for_each(|id| assert_same_as_alone(&run, id));
}

#[test]
fn an_estimate_knows_memory_and_the_steps_of_epochs_which_are_shared_then() {
    let run = Run::new();
    run.write(
        "sweep.toml",
        r#"
configs = ["tiny.toml"]
set = { "checkpoint.reuse" = "auto", "train.lr_scheduler" = "constant" }
[[parameter]]
key = "train.epochs"
values = [1, 3]
"#,
    );
    let said = run.stderr_of(&["sweep", "plan", "sweep.toml", "--estimate"]);
    assert!(said.lines().any(|line| line.starts_with("time: about ")), "{said}");
    let manifest: Value = serde_json::from_str(&run.read("sweeps/sweep/manifest.json")).unwrap();
    let points = manifest["points"].as_array().unwrap();
    let seconds: Vec<f64> = points.iter().map(|it| it["seconds"].as_f64().unwrap()).collect();
    // Both are predicted by the same measurement, to two digits.
    assert!(seconds[0] > 0.0 && (2.7..3.3).contains(&(seconds[1] / seconds[0])), "{seconds:?}");
    let steps: Vec<u64> = points.iter().map(|point| point["steps"].as_u64().unwrap()).collect();
    assert_eq!(points[1]["shares"]["steps"].as_u64(), Some(steps[0]));
    assert!(points.iter().all(|point| point["memory_bytes"].as_u64() > Some(1 << 20)));
    run.succeeds(&["sweep", "run", "sweeps/sweep", "--jobs", "2"]);
    let computed: Vec<usize> = ids(&manifest).iter().map(|id| computed(&run, id)).collect();
    assert_eq!(computed.iter().sum::<usize>() as u64, steps[1], "{computed:?} of {steps:?}");
    // Seconds are a guess of this machine at this moment: of the plan, and not of a result.
    ids(&manifest).iter().for_each(|id| assert_same_as_alone(&run, id));
    let table = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--format", "json"]);
    let table: Value = serde_json::from_str(&table).unwrap();
    for point in table["points"].as_array().unwrap() {
        assert!(point["point"]["memory_bytes"].is_u64(), "{point}");
        assert_eq!(point["point"].get("seconds"), None);
    }
}

#[test]
fn the_worse_points_are_stopped_in_the_same_way_however_many_run_at_a_time() {
    let results = ["1", "3"].map(|jobs| {
        let run = Run::new();
        plan(
            &run,
            r#"
configs = ["tiny.toml"]
set = { "eval.prompts" = [], "eval.every_steps" = 2, "train.max_steps" = 8 }
[[parameter]]
key = "train.learning_rate"
values = [1e-5, 1e-2, 1e-3, 3e-3]
[stopping]
steps = [2, 5]
eta = 2
"#,
        );
        run.succeeds(&["sweep", "run", "sweeps/sweep", "--jobs", jobs]);
        let again = run.stderr_of(&["sweep", "run", "sweeps/sweep", "--jobs", jobs]);
        assert!(again.lines().any(|line| line == "1 of 4 points are finished, 0 of them now"));
        let table = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--format", "json"]);
        let table: Value = serde_json::from_str(&table).unwrap();
        assert_eq!(table["counts"], serde_json::json!({"finished": 1, "stopped": 3}));
        assert_same_as_alone(&run, table["best"].as_str().unwrap());
        let result = |point: &Value| {
            let [rate, status, step] = [
                &point["point"]["settings"]["train.learning_rate"],
                &point["result"]["status"],
                &point["result"]["step"],
            ];
            format!("{rate} {status} {step}")
        };
        table["points"].as_array().unwrap().iter().map(result).collect::<Vec<_>>()
    });
    assert_eq!(results[0], results[1]);
    // Half of four at step 2, half of two at step 5.
    let stopped_at = |step: &str| results[0].iter().filter(|it| it.ends_with(step)).count();
    assert_eq!([stopped_at(" 2"), stopped_at(" 5"), stopped_at(" 8")], [2, 1, 1], "{results:?}");
}

#[test]
fn a_point_that_fails_is_told_and_tried_again() {
    let run = Run::new();
    run.write("other.jsonl", "{\"messages\": 1}\n");
    plan(
        &run,
        r#"
configs = ["tiny.toml"]
[[dataset]]
name = "good"
train = "data.jsonl"
[[dataset]]
name = "bad"
train = "other.jsonl"
"#,
    );
    let said = run.fails(2, &["sweep", "run", "sweeps/sweep"]);
    says(
        without_ids(&said),
        str![[r#"
1 of 2  good-[ID]  finished
bad-[ID]  failed: error[data]: the shape of the records is not known: found `messages`, at other.jsonl:1:1
1 of 2 points are finished, 1 of them now
error[run]: the point bad-[ID] failed
  because error[data]: the shape of the records is not known: found `messages`, at other.jsonl:1:1

hint: what is finished stays; the same command tries them again

"#]],
    );
    let table = run.succeeds(&["sweep", "collect", "sweeps/sweep"]);
    says(
        without_ids(&table),
        str![[r#"
rank  point                  dataset  status    step  eval_loss  loss
   1  good-[ID]  good     finished     6     [NUMBER]  [NUMBER]
   -  bad-[ID]   bad      failed       0          -       -

"#]],
    );
    run.write("other.jsonl", &conversations(9));
    run.succeeds(&["sweep", "run", "sweeps/sweep"]);
    let counts = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--format", "json"]);
    let counts: Value = serde_json::from_str(&counts).unwrap();
    assert_eq!(counts["counts"], serde_json::json!({"finished": 2}));
}

#[test]
fn each_tenant_gets_an_adapter_with_a_key_and_a_lineage_of_its_own() {
    let run = Run::new().with_base();
    std::fs::create_dir(run.path("tenants")).unwrap();
    std::fs::create_dir(run.path("keys")).unwrap();
    let all = conversations(30);
    let lines: Vec<&str> = all.lines().collect();
    for (number, tenant) in ["acme", "zeta"].iter().enumerate() {
        let own = lines[number * 12..][..12].join("\n") + "\n";
        run.write(&format!("tenants/{tenant}.jsonl"), &own);
        run.write(&format!("tenants/{tenant}.validation.jsonl"), &(lines[25].to_owned() + "\n"));
        run.succeeds(&["keygen", &format!("keys/{tenant}.pem")]);
    }
    let manifest = plan(
        &run,
        r#"
configs = ["lora.toml"]
datasets = "tenants"
set = { "output.signing_key" = "keys/{dataset}.pem" }
"#,
    );
    run.succeeds(&["sweep", "run", "sweeps/sweep", "--jobs", "2"]);
    let ids = ids(&manifest);
    assert!(ids[0].starts_with("acme-") && ids[1].starts_with("zeta-"), "{ids:?}");
    for (own, other) in [(0, 1), (1, 0)] {
        let artifact = run_of(&run, &ids[own]).join("artifact");
        let names = ["acme", "zeta"];
        let key = format!("keys/{}.pub.pem", names[own]);
        run.succeeds(&["verify", artifact.to_str().unwrap(), "--key", &key]);
        let other_key = format!("keys/{}.pub.pem", names[other]);
        run.fails(1, &["verify", artifact.to_str().unwrap(), "--key", &other_key]);
        let text: String = ["lineage.statement.json", "lineage.inputs.json", "README.md"]
            .map(|file| std::fs::read_to_string(artifact.join(file)).unwrap())
            .concat();
        assert!(!text.contains(names[other]), "{text}");
    }
}

/// The program as an engine starts it: with variables of its own, and killed together with all that
/// it has started.
#[cfg(unix)]
fn worker(run: &Run, variables: &[(&str, String)], more: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firebrand"));
    command
        .args(["sweep", "run", "sweeps/sweep"])
        .args(more)
        .current_dir(run.path("."))
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .env("FIREBRAND_CACHE", run.path("cache"))
        .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

#[cfg(unix)]
fn signal(child: &std::process::Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Kills what is at work in runs, as a machine that is lost takes everything with it.
#[cfg(unix)]
fn kill_runs<'a>(run: &Run, ids: impl Iterator<Item = &'a String>) {
    for root in ids.map(|id| run_of(run, id)).filter(|root| RunDirectory::is_locked(root)) {
        let holder = std::fs::read_to_string(root.join("run.lock")).unwrap_or_default();
        let digits: String = holder.chars().filter(char::is_ascii_digit).collect();
        if let Some(pid) = digits.parse().ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself in the meantime.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Four workers over twelve points, as four engines number them; each is killed or asked to end
/// at seeded moments until all are through.
#[cfg(unix)]
#[test]
fn workers_that_are_killed_at_random_end_with_the_same_bytes() {
    let run = Run::new();
    let manifest = plan(
        &run,
        r#"
configs = ["tiny.toml"]
set = { "eval.prompts" = [], "checkpoint.every_steps" = 1, "train.max_steps" = 24 }
[[parameter]]
key = "train.learning_rate"
values = [1e-3, 2e-3, 4e-3, 8e-3]
[[parameter]]
key = "seed"
values = [1, 2, 3]
"#,
    );
    let variables = [
        vec![("JOB_COMPLETION_INDEX", "0".to_owned())],
        vec![("SLURM_ARRAY_TASK_ID", "1".to_owned()), ("SLURM_ARRAY_TASK_COUNT", "4".to_owned())],
        vec![("SKYPILOT_JOB_RANK", "2".to_owned()), ("SKYPILOT_NUM_JOBS", "4".to_owned())],
        vec![("DSTACK_NODE_RANK", "3".to_owned()), ("DSTACK_NODES_NUM", "4".to_owned())],
    ];
    // Kubernetes does not tell how many workers there are, so the command does.
    let more = |index: usize| if index == 0 { &["--workers", "4"][..] } else { &[] };
    // A key is made before several processes would.
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "train.max_steps=1"]);
    let stream = Stream::new(27);
    let ids = ids(&manifest);
    let (mut done, mut kills, mut round) = ([false; 4], 0, 0);
    while done.contains(&false) {
        round += 1;
        assert!(round < 200, "the workers never got through");
        let mut working: Vec<(usize, std::process::Child)> = (0..4)
            .filter(|index| !done[*index])
            .map(|index| (index, worker(&run, &variables[index], more(index))))
            .collect();
        for (index, child) in &mut working {
            let draw = stream.number(round).uniform(*index as u64);
            std::thread::sleep(Duration::from_secs_f64(0.1 + 0.05 * round as f64 * draw));
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "worker {index}");
                done[*index] = true;
                continue;
            }
            let hard = draw < 0.5;
            let how =
                if hard { rustix::process::Signal::KILL } else { rustix::process::Signal::TERM };
            signal(child, how);
            let status = child.wait().unwrap();
            match hard {
                true => {
                    kills += 1;
                    kill_runs(&run, ids.iter().skip(*index).step_by(4));
                }
                // It may have come to its end at that moment, or not have begun to listen.
                false => assert!(matches!(status.code(), None | Some(0 | 143)), "{status:?}"),
            }
            done[*index] = status.code() == Some(0);
        }
    }
    assert!(kills > 0);
    assert_eq!(ids.len(), 12);
    let again: usize = ids.iter().map(|id| computed(&run, id)).sum();
    // What was in flight when a worker was killed is computed again, and nothing else.
    assert!(again <= 12 * 24 + 3 * kills, "{again} steps with {kills} kills");
    ids.iter().for_each(|id| assert_same_as_alone(&run, id));
}

#[cfg(unix)]
#[test]
fn a_signal_or_the_end_of_the_sweep_stops_its_runs_saved() {
    let run = Run::new();
    let manifest = plan(
        &run,
        r#"
configs = ["tiny.toml"]
set = { "eval.prompts" = [], "checkpoint.every_steps" = 0, "train.max_steps" = 1000000 }
[[parameter]]
key = "seed"
values = [1, 2]
"#,
    );
    let ids = ids(&manifest);
    let runs: Vec<PathBuf> = ids.iter().map(|id| run_of(&run, id)).collect();
    let step = |root: &PathBuf| {
        let newest = firebrand::checkpoint::newest(root).ok();
        newest.and_then(|all| all.first().map(|(step, _)| *step)).unwrap_or(0)
    };
    let lines = |root: &PathBuf| {
        std::fs::read_to_string(root.join("metrics.jsonl")).unwrap_or_default().lines().count()
    };
    for (how, code) in [
        (rustix::process::Signal::TERM, Some(143)),
        (rustix::process::Signal::INT, Some(130)),
        (rustix::process::Signal::KILL, None),
    ] {
        let before: Vec<u64> = runs.iter().map(step).collect();
        let mut child = worker(&run, &[], &["--jobs", "2"]);
        let worked = |(root, before): (&PathBuf, &u64)| lines(root) as u64 > before + 3;
        wait::until("both runs are at work", || runs.iter().zip(&before).all(worked));
        signal(&child, how);
        assert_eq!(child.wait().unwrap().code(), code);
        wait::until("nobody is at work", || runs.iter().all(|it| !RunDirectory::is_locked(it)));
        let after: Vec<u64> = runs.iter().map(step).collect();
        assert!(after.iter().zip(&before).all(|(after, before)| after > before), "{how:?}");
    }
    let table = run.succeeds(&["sweep", "collect", "sweeps/sweep", "--format", "json"]);
    let table: Value = serde_json::from_str(&table).unwrap();
    assert_eq!(table["counts"], serde_json::json!({"interrupted": 2}));
}

fn schema(path: &str) -> jsonschema::Validator {
    let text = std::fs::read_to_string(repository("tests/fixtures").join(path)).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn what_engines_are_given_fits_their_schemas_and_calls_the_program_rightly() {
    let run = Run::new();
    plan(&run, GRID);
    let image = ["--image", "registry.example.com/firebrand:1"];
    for (engine, file, official) in [
        ("kubernetes", "kubernetes.yml", Some("ci-schemas/kubernetes.json")),
        ("skypilot", "skypilot.yml", Some("engine-schemas/skypilot.json")),
        ("dstack", "sweep.dstack.yml", Some("engine-schemas/dstack.json")),
        ("slurm", "slurm.sh", None),
    ] {
        let options = ["sweep", "plan", "sweep.toml", "--for", engine, "--workers", "3"];
        run.succeeds(&[&options[..], &image].concat());
        let text = run.read(&format!("sweeps/sweep/{file}"));
        let committed = repository("examples/scale").join(file);
        let committed = snapbox::Data::read_from(&committed, Some(snapbox::data::DataFormat::Text));
        snapbox::assert_data_eq!(text.clone(), committed.raw());
        let call = ["sweep", "run", "sweeps/sweep", "--workers", "3"];
        let found = calls(&text);
        assert!(found.iter().any(|it| it.starts_with(&call.map(str::to_owned))), "{found:?}");
        for words in found {
            let words = std::iter::once("firebrand".to_owned()).chain(words);
            let words = words.filter(|word| word != "&");
            assert_eq!(firebrand::cli::understands(words.map(Into::into)), Ok(()), "{engine}");
        }
        let Some(official) = official else {
            let file = run.path(&format!("sweeps/sweep/{file}"));
            assert!(Command::new("bash").arg("-n").arg(file).status().unwrap().success());
            continue;
        };
        let validator = schema(official);
        for document in documents(&text) {
            let value = json(&document);
            let problems: Vec<String> =
                validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(problems.is_empty(), "{engine}: {problems:?}");
        }
    }
    run.fails_with(
        2,
        &["sweep", "plan", "sweep.toml", "--for", "kubernetes"],
        str![[r#"
4 points, 0 of them new
error[usage]: `--for kubernetes` needs a container image

hint: name one that has the program in its PATH: `--image REGISTRY/NAME:TAG`

"#]],
    );
}

/// A worker that has no point, or is none of them.
#[test]
fn workers_are_counted_from_zero() {
    let run = Run::new();
    plan(&run, GRID);
    run.fails_with(
        2,
        &["sweep", "run", "sweeps/sweep", "--index", "4"],
        str![[r#"
error[usage]: there is no worker 4 of 4
  because `--index` says so, and workers are counted from 0

hint: say with `--workers` how many there are

"#]],
    );
    let said = run.stderr_of(&["sweep", "run", "sweeps/sweep", "--index", "6", "--workers", "7"]);
    says(
        said,
        str![[r#"
worker 6 (--index): 0 points
0 of 0 points are finished, 0 of them now
compare them: firebrand sweep collect sweeps/sweep

"#]],
    );
}
