//! Several machines and a store: a run goes on elsewhere, workers of a sweep share steps and results.
//! Each machine is a folder of its own with a cache of its own; what they share is the store alone.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use crate::common::machines::{Machines, computed, has_line, ids, plan};
use crate::common::s3::{S3Server, files_below};
use crate::common::{Run, assert_same_artifact, says, wait};
use firebrand::files::RunDirectory;
use firebrand::random::Stream;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapbox::str;

/// A run that stops on one machine ends on another, with the bytes of one that never stopped; a third
/// machine gets the result without a step.
fn goes_on_elsewhere(machines: &Machines, address: &str) {
    let set = format!("output.mirror={address}");
    let train = ["train", "tiny.toml", "--set", &set, "--set", "checkpoint.every_steps=1"];
    let first = machines.machine();
    machines.succeeds(&first, &[&train[..], &["--stop-after-steps", "3"]].concat());
    drop(first);
    let second = machines.machine();
    let (_, said) = machines.succeeds(&second, &train);
    assert!(has_line(&said, &format!("step 3 is taken from {address}/tiny")), "{said}");
    let run = second.path("checkpoints/tiny");
    assert_eq!(computed(&run), 3, "of six steps");
    let alone = machines.machine();
    let own = ["train", "tiny.toml", "--set", "checkpoint.every_steps=1", "--quiet"];
    machines.succeeds(&alone, &own);
    let other = alone.path("checkpoints/tiny");
    assert_same_artifact(&run.join("artifact"), &other.join("artifact"));
    let metrics = |root: &Path| std::fs::read(root.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics(&run), metrics(&other));
    let third = machines.machine();
    let (artifact, said) = machines.succeeds(&third, &train);
    assert!(has_line(&said, &format!("the result is taken from {address}/tiny")), "{said}");
    assert_eq!(computed(&third.path("checkpoints/tiny")), 0);
    machines.succeeds(&third, &["verify", artifact.trim()]);
    assert_same_artifact(&third.path("checkpoints/tiny/artifact"), &other.join("artifact"));
}

#[test]
fn a_run_goes_on_where_its_machine_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    goes_on_elsewhere(&Machines::new(None), folder.path().join("mirror").to_str().unwrap());
}

#[test]
fn a_run_goes_on_from_a_bucket() {
    let Some(server) = S3Server::start("runs that go on from a bucket") else { return };
    goes_on_elsewhere(&Machines::new(Some(&server)), &server.address("some/runs"));
    let kept = files_below(&server.objects());
    assert!(kept.iter().any(|path| path.ends_with("some/runs/tiny/result.json")), "{kept:?}");
    let checkpoints = |path: &&PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("step-") && name.ends_with(".json")
    };
    // As many as the run directory has (`checkpoint.keep_last`).
    assert_eq!(kept.iter().filter(checkpoints).count(), 2, "{kept:?}");
}

#[test]
fn what_was_changed_in_a_mirror_is_passed_over_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (machines, mirror) = (Machines::new(None), folder.path().join("mirror"));
    let set = format!("output.mirror={}", mirror.display());
    let train = ["train", "tiny.toml", "--set", &set, "--set", "checkpoint.every_steps=1"];
    let first = machines.machine();
    machines.succeeds(&first, &[&train[..], &["--stop-after-steps", "3"]].concat());
    let data = files_below(&mirror.join("tiny/step-00000003.data"));
    let weights = data.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(weights, bytes).unwrap();
    let second = machines.machine();
    let (_, said) = machines.succeeds(&second, &train);
    assert!(has_line(&said, "warning: step 3 of the mirror cannot be used: "), "{said}");
    assert!(has_line(&said, "step 2 is taken from "), "{said}");
    // The first machine takes the result, and computes nothing more.
    machines.succeeds(&first, &train);
    assert_eq!(computed(&first.path("checkpoints/tiny")), 3);
    assert_same_artifact(
        &first.path("checkpoints/tiny/artifact"),
        &second.path("checkpoints/tiny/artifact"),
    );
    let error = machines.fails(&first, &[&train[..], &["--resume", "never"]].concat());
    let error = error.replace(mirror.to_str().unwrap(), "[MIRROR]");
    says(
        error,
        str![[r#"
error[exists]: the mirror of this run has an earlier attempt, which would be mixed with it
  at [MIRROR]/tiny

hint: choose another `name`, or remove what is there

"#]],
    );
    let third = machines.machine();
    let wrong = ["train", "tiny.toml", "--set", "output.mirror=s3://bucket/../x"];
    says(
        machines.fails(&third, &wrong),
        str![[r#"
error[usage]: `s3://bucket/../x` is not the address of a store
  because `..` cannot be a part of a key

hint: write `s3://bucket/prefix`, `gs://bucket/prefix`, or a folder

"#]],
    );
}

const SHARED: &str = r#"
configs = ["tiny.toml"]
set = { "eval.prompts" = [], "checkpoint.reuse" = "auto", "checkpoint.every_steps" = 1, "train.lr_scheduler" = "wsd", "train.max_steps" = 12 }
[[parameter]]
key = "seed"
values = [1, 2, 3]
[[parameter]]
key = "train.decay_ratio"
values = [0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
"#;

/// Steps that are computed if every one is computed once.
fn distinct_steps(manifest: &Value) -> u64 {
    let points = manifest["points"].as_array().unwrap();
    let own = |point: &Value| {
        point["steps"].as_u64().unwrap() - point["shares"]["steps"].as_u64().unwrap_or(0)
    };
    points.iter().map(own).sum()
}

/// The process that is at work in a run.
fn at_work(root: &Path) -> Option<Pid> {
    let holder =
        RunDirectory::is_locked(root).then(|| std::fs::read_to_string(root.join("run.lock")));
    let digits =
        holder?.unwrap_or_default().chars().filter(char::is_ascii_digit).collect::<String>();
    digits.parse().ok().and_then(Pid::from_raw)
}

/// Kills what is at work in the runs of a machine, as a machine that is lost takes all with it; how
/// many processes that were.
fn kill_runs(machine: &Run, ids: &[String]) -> usize {
    let runs = ids.iter().map(|id| machine.path("sweeps/sweep/runs").join(id));
    let all: Vec<Pid> = runs.filter_map(|root| at_work(&root)).collect();
    for pid in &all {
        let _ = kill_process(*pid, Signal::KILL); // it may have ended by itself
    }
    all.len()
}

/// Three workers on three machines, which are lost at seeded moments with all that they have, over 24
/// points that share steps: every byte is that of the point alone, and no step is computed twice but
/// those that a lost machine had not saved.
fn workers_share_a_store(machines: &Machines, address: &str) {
    let first = machines.machine();
    let manifest = plan(machines, &first, SHARED);
    let ids = ids(&manifest);
    assert_eq!(ids.len(), 24);
    let wanted = distinct_steps(&manifest);
    assert!(wanted < 24 * 12 * 7 / 10, "{wanted} of {}", 24 * 12);
    let fresh = || {
        let machine = machines.machine();
        plan(machines, &machine, SHARED);
        machine
    };
    let stream = Stream::new(270);
    let mut workers: Vec<Run> = (0..3).map(|_| fresh()).collect();
    let (mut done, mut kills, mut steps, mut round) = ([false; 3], 0, 0, 0);
    while done.contains(&false) {
        round += 1;
        assert!(round < 100, "the workers never got through");
        let at_work: Vec<(usize, Child)> = (0..3)
            .filter(|index| !done[*index])
            .map(|index| {
                let number = index.to_string();
                let options = ["--index", &number, "--workers", "3", "--store", address];
                (index, machines.worker(&workers[index], &options))
            })
            .collect();
        for (index, mut child) in at_work {
            let draw = stream.number(round).uniform(index as u64);
            // Later rounds are longer: all come to an end.
            std::thread::sleep(Duration::from_secs_f64(0.3 + 1.5 * round as f64 * draw));
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "worker {index}");
                done[index] = true;
                continue;
            }
            let pid = Pid::from_child(&child);
            match draw < 0.6 {
                true => {
                    let _ = kill_process(pid, Signal::KILL);
                    child.wait().unwrap();
                    kills += kill_runs(&workers[index], &ids);
                    steps += steps_on(&workers[index], &ids);
                    workers[index] = fresh(); // nothing of it is left
                }
                false => {
                    kill_process(pid, Signal::TERM).unwrap();
                    let status = child.wait().unwrap();
                    assert!(matches!(status.code(), None | Some(0 | 143)), "{status:?}");
                    done[index] = status.code() == Some(0);
                }
            }
        }
    }
    steps += workers.iter().map(|machine| steps_on(machine, &ids)).sum::<usize>();
    assert!(kills > 0);
    // A killed run has computed the step that is being saved, the one before it, whose save was under
    // way, and the one that it is at.
    let lost = (steps as u64).saturating_sub(wanted);
    assert!(lost <= 3 * kills as u64, "{steps} steps for {wanted}, with {kills} kills");
    // Any machine can compare them, and get the artifacts.
    let anywhere = machines.machine();
    let collect = ["sweep", "collect", address, "--format", "json"];
    let table: Value = serde_json::from_str(&machines.succeeds(&anywhere, &collect).0).unwrap();
    assert_eq!(table["counts"], serde_json::json!({"finished": 24}));
    let (best, _) = machines.succeeds(&anywhere, &["sweep", "collect", address, "--best"]);
    machines.succeeds(&anywhere, &["verify", best.trim()]);
    for id in &ids {
        let (config, alone) = (format!("sweeps/sweep/points/{id}.toml"), format!("alone/{id}"));
        let dir = format!("output.dir={alone}");
        let settings = ["--set", &dir, "--set", "checkpoint.reuse=never"];
        let train = [&["train", &config, "--quiet"][..], &settings].concat();
        machines.succeeds(&first, &train);
        // The result comes from the store, without a step.
        let taken = format!("output.mirror={address}/runs");
        let dir = format!("output.dir=taken/{id}");
        machines.succeeds(&first, &["train", &config, "--quiet", "--set", &taken, "--set", &dir]);
        let (taken, alone) = (first.path(&format!("taken/{id}")), first.path(&alone));
        assert_eq!(computed(&taken), 0);
        assert_same_artifact(&taken.join("artifact"), &alone.join("artifact"));
    }
}

fn steps_on(machine: &Run, ids: &[String]) -> usize {
    ids.iter().map(|id| computed(&machine.path("sweeps/sweep/runs").join(id))).sum()
}

#[test]
fn workers_whose_machines_are_lost_share_steps_and_results_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("store");
    workers_share_a_store(&Machines::new(None), address.to_str().unwrap());
}

#[test]
fn workers_whose_machines_are_lost_share_steps_and_results_in_a_bucket() {
    let Some(server) = S3Server::start("workers that share a bucket") else { return };
    workers_share_a_store(&Machines::new(Some(&server)), &server.address("sweeps/one"));
}

const PAIRS: &str = r#"
configs = ["tiny.toml"]
set = { "eval.prompts" = [], "checkpoint.reuse" = "auto", "train.lr_scheduler" = "wsd", "train.max_steps" = 12 }
[[parameter]]
key = "seed"
values = [1, 2]
[[parameter]]
key = "train.decay_ratio"
values = [0.25, 0.5]
"#;

/// A worker with a place for one more run begins it as soon as another worker has made it ready, also
/// while a run of its own is at work.
#[test]
fn a_worker_hears_of_others_while_its_own_runs_are_at_work() {
    let store = tempfile::tempdir().unwrap();
    let address = store.path().join("store").display().to_string();
    let machines = Machines::new(None);
    let [first, second] = [machines.machine(), machines.machine()];
    let manifest = plan(&machines, &first, PAIRS);
    plan(&machines, &second, PAIRS);
    let ids = ids(&manifest);
    let taken = manifest["points"][3]["shares"]["point"].as_str().unwrap();
    let other = ids.iter().position(|id| id == taken).unwrap().to_string();
    assert!(["1", "2"].contains(&other.as_str()), "it is of another worker: {other}");
    let worker = |machine, index: &str| {
        let options = ["--index", index, "--workers", "3", "--store", &address, "--jobs", "2"];
        machines.worker(machine, &options)
    };
    let runs = first.path("sweeps/sweep/runs");
    // Of the points 0 and 3, the last one waits; the run of the other is held up.
    let mut own = worker(&first, "0");
    let root = runs.join(&ids[0]);
    let mut held = None;
    wait::until("the first run is at work", || {
        held = at_work(&root)
            .filter(|pid| kill_process(*pid, Signal::STOP).is_ok() && at_work(&root) == Some(*pid));
        held.is_some()
    });
    assert!(!runs.join(&ids[3]).exists());
    assert_eq!(worker(&second, &other).wait().unwrap().code(), Some(0));
    wait::until("the last run begins beside the first one", || runs.join(&ids[3]).exists());
    assert_eq!(at_work(&root), held);
    kill_process(held.unwrap(), Signal::CONT).unwrap();
    assert_eq!(own.wait().unwrap().code(), Some(0));
    assert!(computed(&runs.join(&ids[3])) < 12, "it has taken steps");
}

const STOPPED: &str = r#"
configs = ["tiny.toml"]
set = { "eval.prompts" = [], "eval.every_steps" = 2, "train.max_steps" = 8 }
[[parameter]]
key = "train.learning_rate"
values = [1e-5, 1e-2, 1e-3, 3e-3, 2e-2]
[stopping]
steps = [2, 5]
eta = 2
"#;

/// What became of each point, in the order of the sweep.
fn outcomes(machines: &Machines, machine: &Run, place: &str) -> Vec<String> {
    let collect = ["sweep", "collect", place, "--format", "json"];
    let table: Value = serde_json::from_str(&machines.succeeds(machine, &collect).0).unwrap();
    let outcome = |point: &Value| {
        let [id, status, step, loss] = [
            &point["point"]["id"],
            &point["result"]["status"],
            &point["result"]["step"],
            &point["result"]["metrics"]["eval_loss"]["value"],
        ];
        format!("{id} {status} {step} {loss}")
    };
    let mut all: Vec<String> = table["points"].as_array().unwrap().iter().map(outcome).collect();
    all.sort();
    all
}

/// Workers with a part of the points each stop the same ones as a process that has all of them.
#[test]
fn workers_stop_the_worse_points_as_one_process_does() {
    let machines = Machines::new(None);
    let alone = machines.machine();
    plan(&machines, &alone, STOPPED);
    machines.succeeds(&alone, &["sweep", "run", "sweeps/sweep"]);
    let expected = outcomes(&machines, &alone, "sweeps/sweep");
    assert_eq!(expected.iter().filter(|it| it.contains("\"stopped\"")).count(), 3, "{expected:?}");

    // In a folder that both see.
    let together = machines.machine();
    plan(&machines, &together, STOPPED);
    let both =
        ["0", "1"].map(|index| machines.worker(&together, &["--index", index, "--workers", "2"]));
    for mut child in both {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(outcomes(&machines, &together, "sweeps/sweep"), expected);

    // On machines that see a store.
    let store = tempfile::tempdir().unwrap();
    let address = store.path().join("store").display().to_string();
    let apart = [machines.machine(), machines.machine(), machines.machine()];
    let children: Vec<Child> = apart
        .iter()
        .enumerate()
        .map(|(index, machine)| {
            plan(&machines, machine, STOPPED);
            let number = index.to_string();
            let options = ["--index", &number, "--workers", "3", "--store", &address];
            machines.worker(machine, &options)
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let anywhere = machines.machine();
    assert_eq!(outcomes(&machines, &anywhere, &address), expected);
}

#[test]
fn what_a_store_lacks_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("store").display().to_string();
    let machines = Machines::new(None);
    let machine = machines.machine();
    plan(&machines, &machine, STOPPED);
    let run = ["sweep", "run", "sweeps/sweep", "--index", "0", "--workers", "5", "--store"];
    let other = STOPPED.replace("configs", "name = \"other\"\nconfigs");
    let said = |error: String| error.replace(&address, "[STORE]");
    // Nobody is there under this address.
    let mut nowhere = Machines::new(None);
    nowhere.variables = vec![
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9".to_owned()),
        ("AWS_ACCESS_KEY_ID", "a".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "b".to_owned()),
    ];
    let offline = [
        &["output.mirror=s3://bucket/runs"][..],
        &["checkpoint.reuse=auto", "checkpoint.reuse_store=gs://bucket/steps"],
    ]
    .map(|settings| {
        let set = settings.iter().flat_map(|set| ["--set", set]);
        let train: Vec<&str> = ["train", "tiny.toml", "--offline"].into_iter().chain(set).collect();
        let said = nowhere.fails(&machine, &train);
        said[said.find("error[").unwrap()..].to_owned()
    });
    says(
        offline.concat(),
        str![[r#"
error[offline]: offline, and `output.mirror` is a store in the network
  at s3://bucket/runs

hint: run it without `--offline`, or name a folder in `output.mirror`
error[offline]: offline, and `checkpoint.reuse_store` is a store in the network
  at gs://bucket/steps

hint: run it without `--offline`, or name a folder in `checkpoint.reuse_store`

"#]],
    );
    let error = nowhere.fails(&machine, &["sweep", "collect", "s3://bucket/sweep"]);
    assert!(
        error.starts_with("error[network]: cannot read `s3://bucket/sweep/manifest.json`"),
        "{error}"
    );
    machine.write("other.toml", &other);
    machines.succeeds(&machine, &["sweep", "plan", "other.toml"]);
    std::fs::create_dir_all(format!("{address}/board")).unwrap();
    says(
        said(machines.fails(&machine, &["sweep", "collect", &address])),
        str![[r#"
error[store]: there is no sweep in the store
  at [STORE]

hint: `firebrand sweep run FOLDER --store ADDRESS` puts one there

"#]],
    );
    let manifest = machine.read("sweeps/other/manifest.json");
    std::fs::write(format!("{address}/manifest.json"), manifest).unwrap();
    says(
        said(machines.fails(&machine, &[&run[..], &[&address]].concat())),
        str![[r#"
worker 0 (--index): 1 points
error[store]: the store has results of another sweep, `other`
  at [STORE]

hint: give each sweep a prefix of its own

"#]],
    );
}
