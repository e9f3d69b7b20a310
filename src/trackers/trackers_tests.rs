//! Event files and tables against what their readers expect.

use std::path::Path;

use super::tensorboard::{crc32c, masked};
use super::*;
use crate::event::Evaluation;

/// The messages of an event file, with every CRC checked.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (length, after) = rest.split_at(8);
        let (crc, after) = after.split_at(4);
        assert_eq!(crc, masked(length).to_le_bytes());
        let (message, after) = after
            .split_at(usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap());
        let (crc, after) = after.split_at(4);
        assert_eq!(crc, masked(message).to_le_bytes());
        found.push(message.to_vec());
        rest = after;
    }
    found
}

#[test]
fn the_crc_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
}

#[test]
fn every_entry_is_a_name_of_the_key() {
    let names: Vec<_> = TRACKERS.iter().map(|entry| entry.name()).collect();
    assert_eq!(names, NAMES);
}

#[test]
fn points_become_records_and_rows_and_a_new_column_widens_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let mut trackers = Trackers { chosen: TRACKERS.to_vec(), ..Trackers::default() };
    std::fs::write(run.join("metrics.jsonl"), "{\"step\":1,\"loss\":2.5,\"tokens\":10}\n").unwrap();
    std::fs::write(run.join("timings.jsonl"), "{\"step\":1,\"step_seconds\":0.5}\n{\"st").unwrap();
    let begin = || Event::Begin { done: 9, total: 9, timings: run.join("timings.jsonl") };
    let metrics = [("accuracy".to_owned(), 0.5)].into();
    let evaluation = Evaluation { step: 2, eval_loss: 1.25, target_tokens: 3, metrics };
    for _ in 0..2 {
        // A run that goes on has what it had once.
        assert!(trackers.on(&begin()).is_empty());
        assert!(trackers.on(&Event::Evaluation(evaluation.clone())).is_empty());
    }
    let table = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    snapbox::assert_data_eq!(
        table,
        snapbox::str![[r#"
step,train/loss,train/tokens,train/tokens_per_second,eval/loss,eval/accuracy
1,2.5,10,20,,
2,,,,1.25,0.5

"#]]
    );
    let files: Vec<_> = std::fs::read_dir(run.join("tensorboard")).unwrap().collect();
    assert_eq!(files.len(), 1);
    let records = records(&files[0].as_ref().unwrap().path());
    assert_eq!(records.len(), 3);
    assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
    let loss = [&b"\x0a\x10\x0a\x09eval/loss\x15"[..], &1.25_f32.to_le_bytes()].concat();
    let accuracy = [&b"\x0a\x14\x0a\x0deval/accuracy\x15"[..], &0.5_f32.to_le_bytes()].concat();
    let summary = [&b"\x10\x02\x2a\x28"[..], &loss, &accuracy].concat();
    assert!(records[2].ends_with(&summary), "{:?}", records[2]);
    assert!(trackers.on(&Event::End).is_empty());
    assert!(trackers.finish().is_empty());
    mlflow_has_both(run);
    wandb_has_both(run);
    trackio_has_both(run);
}

/// Lines of time, value and step, and a run that is finished.
fn mlflow_has_both(run: &Path) {
    let experiment = run.join("mlruns/0");
    let runs = std::fs::read_dir(&experiment).unwrap().map(|entry| entry.unwrap().path());
    let runs: Vec<_> = runs.filter(|path| path.is_dir()).collect();
    assert_eq!(runs.len(), 1, "one run, however often it goes on");
    for (name, line) in
        [("train/loss", "2.5 1"), ("eval/loss", "1.25 2"), ("eval/accuracy", "0.5 2")]
    {
        let text = std::fs::read_to_string(runs[0].join("metrics").join(name)).unwrap();
        let (time, rest) = text.trim_end().split_once(' ').unwrap();
        assert!(time.len() == 13 && rest == line, "{name}: {text}");
    }
    let meta = std::fs::read_to_string(runs[0].join("meta.yaml")).unwrap();
    assert!(meta.contains("\nstatus: 3\n") && !meta.contains("end_time: null"), "{meta}");
}

/// Records in blocks with the CRC-32 of zlib; long ones in parts.
fn wandb_has_both(run: &Path) {
    let folder = std::fs::read_dir(run.join("wandb")).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(&bytes[..7], b":W&B\xe1\xbe\x00");
    assert_eq!(super::crc::crc32(b"123456789", 0xedb8_8320), 0xcbf4_3926);
    let (mut rest, mut kinds) = (&bytes[7..], Vec::new());
    while let [head @ .., _] = rest.get(..8).unwrap_or_default() {
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let crc = super::crc::crc32(&rest[6..7 + length], 0xedb8_8320);
        assert_eq!(crc.to_le_bytes(), head[..4]);
        // The number of the record, then the field of its kind.
        kinds.push(rest[9..7 + length][0]);
        rest = &rest[7 + length..];
    }
    assert_eq!((rest.len(), kinds.len()), (0, 5), "header, run, two steps, end");
    let has = |part: &[u8]| bytes.windows(part.len()).any(|bytes| bytes == part);
    assert!(has(b"eval/accuracy\x82\x01\x030.5") && has(b"train/loss\x82\x01\x032.5"));
}

/// Lines of JSON with numbers of their own, which are the same however often the run goes on.
fn trackio_has_both(run: &Path) {
    let writers = std::fs::read_dir(run.join("trackio/inbox")).unwrap();
    let writers: Vec<_> = writers.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(writers.len(), 1);
    let mut found = Vec::new();
    for name in ["00000000.jsonl", "00000001.jsonl"] {
        let text = std::fs::read_to_string(writers[0].join(name)).unwrap();
        found.extend(text.lines().map(|it| serde_json::from_str::<serde_json::Value>(it).unwrap()));
    }
    assert_eq!(found.len(), 2);
    for (record, (step, name, value)) in
        found.iter().zip([(1, "train/loss", 2.5), (2, "eval/loss", 1.25)])
    {
        assert_eq!((&record["kind"], &record["v"]), (&"metric".into(), &1.into()));
        assert_eq!((&record["step"], &record["metrics"][name]), (&step.into(), &value.into()));
        assert_eq!(record["log_id"].as_str().unwrap().len(), 32);
    }
    assert_ne!(found[0]["log_id"], found[1]["log_id"]);
    assert_eq!(found[0]["run_id"], found[1]["run_id"]);
}

#[test]
fn trackio_is_told_the_settings_once_and_what_json_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    std::fs::write(run.join("config.toml"), "seed = 3\n[model]\nbase = \"a\"\n").unwrap();
    let mut tracker = trackio::Entry.begin(run).unwrap();
    for (step, loss) in [(1, f64::NAN), (2, f64::INFINITY)] {
        tracker.add(&Point { step, values: vec![("train/loss".to_owned(), loss)] }).unwrap();
    }
    tracker.end(true).unwrap();
    let writer = std::fs::read_dir(run.join("trackio/inbox")).unwrap().next().unwrap().unwrap();
    let text = std::fs::read_to_string(writer.path().join("00000000.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["config"], serde_json::json!({"model.base": "a", "seed": 3}));
    assert!(lines[1]["config"].is_null());
    let losses = [0, 1].map(|at| lines[at]["metrics"]["train/loss"].clone());
    assert_eq!(losses, ["NaN", "Infinity"].map(serde_json::Value::from));
}

/// The loop ends before the last validation.
#[test]
fn a_validation_after_the_last_step_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let chosen: Vec<&'static dyn TrackerEntry> = vec![&wandb::Entry, &trackio::Entry];
    let mut trackers = Trackers { chosen, ..Trackers::default() };
    let begin = Event::Begin { done: 9, total: 9, timings: run.join("t") };
    let metrics = std::collections::BTreeMap::new();
    let last = Evaluation { step: 9, eval_loss: 1.5, target_tokens: 3, metrics };
    for event in [begin, Event::End, Event::Evaluation(last)] {
        assert!(trackers.on(&event).is_empty());
    }
    assert!(trackers.finish().is_empty() && trackers.finish().is_empty());
    let folder = std::fs::read_dir(run.join("wandb")).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(file).unwrap();
    let found = bytes.windows(9).filter(|part| part == b"eval/loss").count();
    assert_eq!(found, 1);
    let inbox = std::fs::read_dir(run.join("trackio/inbox")).unwrap().next().unwrap().unwrap();
    let text = std::fs::read_to_string(inbox.path().join("00000000.jsonl")).unwrap();
    assert!(text.lines().count() == 1 && text.contains("\"eval/loss\":1.5"), "{text}");
}

#[test]
fn long_records_of_wandb_go_over_the_ends_of_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let long = "x".repeat(70_000);
    std::fs::write(run.join("config.toml"), format!("text = \"{long}\"\n")).unwrap();
    let mut trackers = Trackers { chosen: vec![&wandb::Entry], ..Trackers::default() };
    assert!(trackers.on(&Event::Begin { done: 0, total: 9, timings: run.join("t") }).is_empty());
    assert!(trackers.on(&Event::End).is_empty());
    assert!(trackers.finish().is_empty());
    let folder = std::fs::read_dir(run.join("wandb")).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(file).unwrap();
    // Parts of the record about the run: the first fills the block, one is in the middle.
    assert_eq!((bytes[32_768 + 6], bytes[2 * 32_768 + 6]), (3, 4));
    let letters = bytes.iter().filter(|byte| **byte == b'x').count();
    assert!(letters >= 70_000, "{letters}");
}

#[test]
fn a_tracker_that_cannot_write_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    std::fs::write(run.join("tensorboard"), "in the way").unwrap();
    let mut trackers = Trackers { chosen: TRACKERS.to_vec(), ..Trackers::default() };
    let warnings = trackers.on(&Event::Begin { done: 0, total: 9, timings: run.join("t") });
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("nothing more is reported to `tensorboard`: "));
    assert!(trackers.on(&Event::End).is_empty());
    assert!(trackers.finish().is_empty());
    assert!(run.join("metrics.csv").exists());
}
