//! A run that was interrupted, anywhere and any number of times, ends with the bytes of one that
//! never was: weights, optimiser, metrics.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::Run;
use firebrand::files::{Digest, hash_file};
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
    // The artifact's header names its inputs, and those name the run: only the numbers are equal.
    let [ours, reference] = [name, reference].map(|name| {
        let folder = run.path("checkpoints").join(name).join("artifact");
        let name = ["model.safetensors", "adapter_model.safetensors"]
            .into_iter()
            .find(|name| folder.join(name).exists())
            .unwrap();
        firebrand::weights::Shard::read(&folder, name)
            .unwrap()
            .header_and_data()
            .unwrap()
            .1
            .to_vec()
    });
    assert!(ours == reference, "the artifact's weights differ");
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
    for step in ["0", "1", "2", "3", "4"] {
        run.succeeds(&train("lora.toml", "name=often", &["--stop-after-steps", step]));
    }
    run.succeeds(&train("lora.toml", "name=often", &[]));
    assert_same_end(&run, "often", "straight", 5);
    // Steps are in the metrics once each, in order.
    let metrics = run.read("checkpoints/often/metrics.jsonl");
    let steps: Vec<u64> = metrics
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
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
    let steps = run.read("checkpoints/straight/metrics.jsonl").lines().count() as u64;
    assert_eq!(steps, 15, "twenty records, four a step, three epochs");
    for stop in ["2", "4", "5", "6", "10", "14"] {
        run.succeeds(&train(
            "tiny.toml",
            "name=cut",
            &[&more[..], &["--stop-after-steps", stop]].concat(),
        ));
    }
    run.succeeds(&train("tiny.toml", "name=cut", &more));
    assert_same_end(&run, "cut", "straight", steps);
}

/// Kills the program without warning at seeded moments until a run gets through.
#[cfg(unix)]
#[test]
fn killed_at_random_moments_it_ends_the_same() {
    let run = Run::new();
    let more = ["--set", "train.max_steps=60", "--set", "checkpoint.every_steps=5"];
    run.succeeds(&train("tiny.toml", "name=straight", &more));
    let stream = Stream::new(11);
    let mut kills = 0;
    for attempt in 0.. {
        assert!(attempt < 200, "the run never got through");
        let mut child = Command::new(env!("CARGO_BIN_EXE_firebrand"))
            .args(train("tiny.toml", "name=killed", &more))
            .current_dir(run.path("."))
            .env("XDG_CONFIG_HOME", run.path("settings"))
            .env("FIREBRAND_CACHE", run.path("cache"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Short at first, so that many kills fall into a run of about a second.
        let limit = 0.02 + 0.03 * f64::from(attempt).sqrt() + 0.25 * stream.uniform(attempt as u64);
        std::thread::sleep(Duration::from_secs_f64(limit));
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills >= 3, "only {kills} kills: make the run longer");
    assert_same_end(&run, "killed", "straight", 60);
}

#[cfg(unix)]
#[test]
fn signals_save_and_say_so_by_the_exit_code() {
    let run = Run::new();
    let more = ["--set", "train.max_steps=100000", "--set", "checkpoint.every_steps=0"];
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let child = Command::new(env!("CARGO_BIN_EXE_firebrand"))
            .args(train("tiny.toml", "name=signalled", &more))
            .current_dir(run.path("."))
            .env("XDG_CONFIG_HOME", run.path("settings"))
            .env("FIREBRAND_CACHE", run.path("cache"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(900));
        let id = child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "SIG{signal}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let status: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let step = status["step"].as_u64().unwrap();
        assert!(step > 0 && status["resumable"] == true, "{stdout}");
        assert!(run.path(&format!("checkpoints/signalled/step-{step:08}/MANIFEST.json")).exists());
    }
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
    for (what, damage) in damages {
        run.succeeds(&train("tiny.toml", "name=hurt", &["--stop-after-steps", "5"]));
        damage(&run.path(root).join("step-00000005"));
        let output = run.command(&train("tiny.toml", "name=hurt", &[])).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{what}: {stderr}");
        assert!(stderr.contains("a damaged checkpoint was set aside"), "{what}: {stderr}");
        assert_same_end(&run, "hurt", "straight", 6);
        std::fs::remove_dir_all(run.path(root)).unwrap();
    }
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
    for _ in 0..2 {
        let stderr = run.fails(2, &train("tiny.toml", "name=lost", &[]));
        assert!(stderr.contains("no checkpoint of this run is whole"), "{stderr}");
    }
    assert!(!run.path("checkpoints/lost/artifact").exists());
}

#[test]
fn what_changed_since_the_checkpoint_is_named_and_refused() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=changed", &["--stop-after-steps", "3"]));
    let refused = |more: &[&str], what: &str| {
        let stderr = run.fails(2, &train("tiny.toml", "name=changed", more));
        assert!(stderr.contains("cannot resume") && stderr.contains(what), "{stderr}");
    };
    refused(&["--set", "train.learning_rate=1e-3"], "the configuration");
    let data = run.read("data.jsonl");
    run.write("data.jsonl", &data.replace("plus", "and"));
    refused(&[], "the data was");
    run.write("data.jsonl", &data);
    let config = run.read("base/config.json");
    run.write("base/config.json", &config.replace("256", "300"));
    refused(&[], "the base model");
    run.write("base/config.json", &config);
    run.succeeds(&train("tiny.toml", "name=changed", &[]));
}

#[test]
fn one_directory_has_one_run_at_a_time() {
    let run = Run::new();
    let _held =
        firebrand::files::RunDirectory::lock(&run.path("checkpoints/tiny")).expect("it is free");
    let stderr = run.fails(2, &["train", "tiny.toml"]);
    assert!(stderr.contains("another run is working in this directory"), "{stderr}");
}

#[test]
fn resume_goes_on_from_a_named_checkpoint() {
    let run = Run::new();
    run.succeeds(&train("tiny.toml", "name=straight", &["--set", "checkpoint.keep_last=9"]));
    run.succeeds(&train("tiny.toml", "name=forked", &["--stop-after-steps", "0"]));
    // The metrics up to that step belong to it.
    let metrics = run.read("checkpoints/straight/metrics.jsonl");
    run.write("checkpoints/forked/metrics.jsonl", &metrics);
    run.succeeds(&train(
        "tiny.toml",
        "name=forked",
        &["--set", "checkpoint.keep_last=9", "--resume", "checkpoints/straight/step-00000004"],
    ));
    assert_same_end(&run, "forked", "straight", 6);
}
