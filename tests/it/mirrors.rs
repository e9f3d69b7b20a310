//! What a mirror may decide and what not: it is not trusted more than the bucket is, never costs what is
//! there on this machine, and is never waited for by who has little time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::hub::Hub;
use crate::common::machines::{Machines, computed, has_line};
use crate::common::s3::{S3Server, files_below};
use crate::common::{assert_same_artifact, conversations, says, wait};
use firebrand::files::RunDirectory;
use rustix::process::{Pid, Signal, kill_process};
use snapbox::str;

/// A folder for mirrors, gone with the test.
fn mirror() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let set = format!("output.mirror={}", folder.path().join("mirror").display());
    (folder, set)
}

/// The command that trains `tiny.toml` with a mirror, and saves every step.
fn train(set: &str) -> Vec<&str> {
    vec!["train", "tiny.toml", "--set", set, "--set", "checkpoint.every_steps=1"]
}

/// Another byte in the largest object of a checkpoint in a mirror.
fn damage(folder: &Path, step: u64) {
    let data = files_below(&folder.join(format!("mirror/tiny/step-{step:08}.data")));
    let weights = data.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(weights, bytes).unwrap();
}

#[test]
fn a_result_under_other_settings_is_not_taken() {
    let (folder, set) = mirror();
    let machines = Machines::new(None);
    machines.succeeds(&machines.machine(), &train(&set));
    let second = machines.machine();
    let other = [&train(&set)[..], &["--set", "train.learning_rate=1e-3"]].concat();
    let error = machines.fails(&second, &other);
    says(
        error.replace(folder.path().to_str().unwrap(), "[STORE]"),
        str![[r#"
error[run-changed]: this run is finished, under other settings
  at [STORE]/mirror/tiny

hint: start a new run with another `name`, or remove what is there

"#]],
    );
    assert!(!second.path("checkpoints/tiny/artifact").exists());
    assert!(!second.path("checkpoints/tiny/config.toml").exists());
    // What changes no number of the run may be other, and a longer run goes on from the last step.
    let aside = ["--set", "checkpoint.keep_last=3"];
    machines.succeeds(&second, &[&train(&set)[..], &aside].concat());
    assert_eq!(computed(&second.path("checkpoints/tiny")), 0);
    let third = machines.machine();
    let longer = ["--set", "train.max_steps=8", "--extend"];
    machines.succeeds(&third, &[&train(&set)[..], &longer].concat());
    assert_eq!(computed(&third.path("checkpoints/tiny")), 2);
}

#[test]
fn what_is_here_stays_while_nothing_better_comes_from_the_mirror() {
    let (folder, set) = mirror();
    let machines = Machines::new(None);
    let [first, second] = [machines.machine(), machines.machine()];
    machines.succeeds(&first, &[&train(&set)[..], &["--stop-after-steps", "3"]].concat());
    machines.succeeds(&second, &[&train(&set)[..], &["--stop-after-steps", "2"]].concat());
    damage(folder.path(), 4);
    damage(folder.path(), 5);
    let (_, said) = machines.succeeds(&first, &train(&set));
    for step in [4, 5] {
        let warning = format!("warning: step {step} of the mirror cannot be used: ");
        assert!(has_line(&said, &warning), "{said}");
    }
    let run = first.path("checkpoints/tiny");
    assert_eq!(computed(&run), 6, "it has gone on from its own step 3:\n{said}");
    assert!(!run.join("earlier-1").exists());
    let alone = machines.machine();
    let own = ["train", "tiny.toml", "--set", "checkpoint.every_steps=1", "--quiet"];
    machines.succeeds(&alone, &own);
    let alone = alone.path("checkpoints/tiny");
    assert_same_artifact(&run.join("artifact"), &alone.join("artifact"));
}

#[test]
fn what_is_here_is_put_aside_for_more_steps_of_the_mirror() {
    let (_folder, set) = mirror();
    let machines = Machines::new(None);
    let [first, second] = [machines.machine(), machines.machine()];
    machines.succeeds(&first, &[&train(&set)[..], &["--stop-after-steps", "3"]].concat());
    machines.succeeds(&second, &[&train(&set)[..], &["--stop-after-steps", "2"]].concat());
    let (_, said) = machines.succeeds(&first, &train(&set));
    assert!(has_line(&said, "step 5 is taken from "), "{said}");
    let run = first.path("checkpoints/tiny");
    assert_eq!(computed(&run), 4);
    for kept in ["step-00000003", "metrics.jsonl", "history.jsonl"] {
        assert!(run.join("earlier-1").join(kept).exists(), "{kept}");
    }
}

#[test]
fn the_lock_of_a_mirror_vouches_for_nothing() {
    let (_folder, set) = mirror();
    let machines = Machines::new(None);
    let first = machines.machine();
    machines.succeeds(&first, &[&train(&set)[..], &["--stop-after-steps", "3"]].concat());
    assert!(first.read("checkpoints/tiny/data.lock").contains("data.jsonl"));
    let second = machines.machine();
    let approve = ["allowlist", "approve", "allowlist.toml"];
    machines.succeeds(&second, &[&approve[..], &["base", "validation.jsonl"]].concat());
    let trust = ["--set", "trust.allowlist=allowlist.toml", "--set", "trust.tofu=true"];
    let trusting = [&train(&set)[..], &trust].concat();
    let output = machines.output(&second, &trusting);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    let what = "error[untrusted]: no trusted allowlist has `data.jsonl`";
    assert!(has_line(&error, what), "{error}");
    assert!(second.path("checkpoints/tiny/mirrored-data.lock").exists());
    assert!(!second.path("checkpoints/tiny/data.lock").exists());
    machines.succeeds(&second, &[&approve[..], &["data.jsonl"]].concat());
    machines.succeeds(&second, &trusting);
    assert_eq!(computed(&second.path("checkpoints/tiny")), 3);
    // What this machine has used, it knows from now on.
    assert!(second.read("checkpoints/tiny/data.lock").contains("data.jsonl"));
}

#[test]
fn the_lock_of_a_mirror_says_which_revision_is_meant() {
    let (_folder, set) = mirror();
    let hub = Hub::start();
    let file = "data/train-00000-of-00001.jsonl";
    hub.add("datasets/o/d", "main", &[(file, conversations(20))]);
    let mut machines = Machines::new(None);
    machines.variables.push(("HF_ENDPOINT", hub.endpoint()));
    let machine = || {
        let machine = machines.machine();
        let config = machine.read("tiny.toml").replace("\"data.jsonl\"", "\"o/d\"");
        machine.write("tiny.toml", &config);
        machine
    };
    machines.succeeds(&machine(), &[&train(&set)[..], &["--stop-after-steps", "3"]].concat());
    hub.add("datasets/o/d", "main", &[(file, conversations(30))]);
    let second = machine();
    machines.succeeds(&second, &train(&set));
    assert_eq!(computed(&second.path("checkpoints/tiny")), 3);
}

/// A run that is ended has so much time to save; what its mirror takes is not part of that.
#[test]
fn who_is_ended_saves_although_the_mirror_is_slow() {
    let Some(server) = S3Server::start("a stop with a slow bucket") else { return };
    let mut machines = Machines::new(Some(&server));
    let endpoint = server.slowly(Duration::from_millis(500));
    machines.variables.retain(|(name, _)| *name != "AWS_ENDPOINT_URL");
    machines.variables.push(("AWS_ENDPOINT_URL", endpoint));
    let (machine, address) = (machines.machine(), server.address("slow"));
    let set = format!("output.mirror={address}");
    // Each step is sent for two seconds and more.
    let arguments = [&train(&set)[..], &["--grace", "1"]].concat();
    let log = machine.path("log");
    let mut child = machines
        .process(&machine, &arguments)
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let run = machine.path("checkpoints/tiny");
    wait::until("two steps are saved", || run.join("step-00000002").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let code = child.wait().unwrap().code();
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(code, Some(143), "{said}");
    assert!(!has_line(&said, "warning: stopping without saving"), "{said}");
    assert!(!RunDirectory::is_locked(&run));
    // What was saved is there and in the mirror: its last step is not lost with the machine either.
    let newest = |names: Vec<PathBuf>, end: &str| {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let names = names.iter().map(name).filter_map(|it| it.strip_suffix(end).map(str::to_owned));
        names.filter(|name| name.starts_with("step-")).max().unwrap()
    };
    let here = std::fs::read_dir(&run).unwrap().flatten().map(|entry| entry.path()).collect();
    let here = newest(here, "");
    assert!(here.as_str() > "step-00000002" && here.as_str() < "step-00000006", "{here}");
    assert_eq!(newest(files_below(&server.objects()), ".json"), here);
    assert_eq!(
        computed(&run).to_string(),
        here.trim_start_matches("step-").trim_start_matches('0')
    );
}
