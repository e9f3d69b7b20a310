//! Records are taken back: the steps that read them are known, and the run without them goes on
//! from before the first of those steps, to the bytes of a run that never knew them.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::common::{Run, conversations, says, weights_digest};

/// A run of a whole model in six steps, each of them saved.
fn trained() -> Run {
    let run = Run::new();
    let settings = ["checkpoint.every_steps=1", "checkpoint.keep_last=9", "checkpoint.reuse=auto"];
    let arguments = settings.iter().flat_map(|setting| ["--set", setting]);
    run.succeeds(
        &["train", "tiny.toml", "--quiet"].into_iter().chain(arguments).collect::<Vec<_>>(),
    );
    run
}

const RETRACT: [&str; 4] = ["retract", "list", "--run", "checkpoints/tiny"];

fn told(run: &Run, list: &str) -> Value {
    run.write("list", list);
    serde_json::from_str(&run.succeeds(&[&RETRACT[..], &["--json"]].concat())).unwrap()
}

/// The conversation that is read last, by its number, and the step that reads it first.
fn last_read(run: &Run) -> (usize, u64) {
    let all = told(run, &conversations(20));
    assert_eq!((&all["proved"], &all["steps"]), (&true.into(), &6.into()));
    let first = |record: &Value| record["steps"][0].as_u64();
    let records = all["records"].as_array().unwrap();
    let read = records.iter().enumerate().filter_map(|(at, record)| Some((at, first(record)?)));
    read.max_by_key(|(_, step)| *step).unwrap()
}

#[test]
fn the_run_without_a_record_goes_on_before_it_to_the_bytes_of_one_that_never_read_it() {
    let run = trained();
    let (number, first) = last_read(&run);
    assert!(first > 1, "some record is read late");
    let line = conversations(20).lines().nth(number).unwrap().to_owned();
    run.write("list", &line);
    let output = run.command(&[&RETRACT[..], &["--out", "checkpoints/less"]].concat());
    let output = output.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let reused = format!("reused {} of 6 steps from run tiny", first - 1);
    assert!(said.lines().any(|line| line == reused), "{said}");
    // From zero.
    let again = ["train", "checkpoints/less.toml", "--quiet", "--set", "checkpoint.reuse=never"];
    run.succeeds(&[&again[..], &["--set", "output.dir=checkpoints/zero"]].concat());
    let weights = |name: &str| weights_digest(&run.path(&format!("checkpoints/{name}/artifact")));
    assert_eq!(weights("less"), weights("zero"));
    assert_ne!(weights("less"), weights("tiny"));
    let metrics = |name: &str| -> Vec<Value> {
        let all = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
        let lines = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut before: Vec<Value> =
            lines.filter(|line| line["step"].as_u64() < Some(first)).collect();
        // How far into the data a step is depends on how much data there is.
        before.iter_mut().for_each(|line| line["epoch"] = Value::Null);
        before
    };
    assert_eq!(metrics("less"), metrics("tiny"));
    // The lineage says so, and the record is read by no step of the new run.
    let inputs = run.read("checkpoints/less/artifact/lineage.inputs.json");
    let inputs: Value = serde_json::from_str(&inputs).unwrap();
    let settings = &inputs["internalParameters"]["resolvedConfig"];
    let digest = told(&run, &line)["records"][0]["sha256"].clone();
    assert_eq!(settings["data.retracted"], format!("[{digest}]"));
    let arguments = ["retract", "list", "--run", "checkpoints/less"];
    says(
        run.succeeds(&arguments).replace(digest.as_str().unwrap().get(..12).unwrap(), "DIGEST"),
        str![[r#"
data.jsonl:16  sha256 DIGEST  read by no step
0 of 1 records were read in 6 steps; the newest checkpoint holds the digest of these rows

"#]],
    );
}

#[test]
fn what_was_made_with_records_is_found_by_its_lineage() {
    let run = trained();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--no-check"]);
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=7"]);
    run.write("list", "data.jsonl:1\n");
    let found = run.succeeds(&[&RETRACT[..], &["--artifacts", "."]].concat());
    let artifacts: String = found
        .lines()
        .filter(|line| line.contains("made with") || line.contains("may be"))
        .map(|line| format!("{line}\n"))
        .collect();
    says(
        artifacts,
        str![[r#"
checkpoints/tiny/artifact  made with them
checkpoints/lora/artifact  made of what was made with them
merged  made of what was made with them
checkpoints/other/artifact  may be: another run has the same data file

"#]],
    );
}

#[test]
fn records_are_named_by_digest_place_and_fields() {
    let run = trained();
    let record = |list: &str| {
        let found = told(&run, list);
        let records = found["records"].as_array().unwrap().clone();
        let places = records.iter().map(|it| it["record"].as_str().unwrap().to_owned());
        (places.collect::<Vec<_>>(), found["unknown"].clone())
    };
    let all = conversations(20);
    let fourth: Value = serde_json::from_str(all.lines().nth(3).unwrap()).unwrap();
    let digest = told(&run, "data.jsonl:4")["records"][0]["sha256"].clone();
    let expected = vec!["data.jsonl:4".to_owned()];
    for list in [
        "data.jsonl:4".to_owned(),
        digest.as_str().unwrap().to_owned(),
        format!("# asked for on a Monday\n\nsha256:{}\n", digest.as_str().unwrap()),
        fourth.to_string(),
        serde_json::json!({"messages": fourth["messages"], "user": null}).to_string(),
    ] {
        assert_eq!(record(&list), (expected.clone(), serde_json::json!([])), "{list}");
    }
    let more = "data.jsonl:4\nother.jsonl:4\n{\"user\": 17}\ndata.jsonl:99";
    assert_eq!(record(more), (expected, serde_json::json!([2, 3, 4])));
}

#[test]
fn a_list_that_names_nothing_is_refused_with_every_line_that_is_wrong() {
    let run = trained();
    run.write("list", "data.jsonl:1\n{\"user\": 17\n{}\nall of them\n");
    run.fails_with(2, &RETRACT, str![[r#"
error[data]: this line names no record
  at list:2:1
  because it is no JSON: EOF while parsing an object at line 1 column 11

error[data]: this line names no record
  at list:3:1
  because an object without fields would name every record

error[data]: this line names no record
  at list:4:1
  because it is none of the three

hint: a line is the SHA-256 of a record, `FILE:LINE`, or the record as JSON, of which fields may be left out: `{"user": 17}` names every record of that user

"#]]);
    run.write("list", "data.jsonl:99\n");
    says(
        run.succeeds(&[&RETRACT[..], &["--out", "checkpoints/less"]].concat()),
        str![[r#"
0 of 0 records were read in 6 steps; the newest checkpoint holds the digest of these rows

"#]],
    );
    assert!(!run.path("checkpoints/less").exists() && !run.path("checkpoints/less.toml").exists());
}

#[test]
fn nothing_is_replaced_and_a_run_without_checkpoints_says_so() {
    let run = trained();
    run.write("list", "data.jsonl:1\n");
    fs::create_dir(run.path("checkpoints/less")).unwrap();
    run.fails_with(
        2,
        &[&RETRACT[..], &["--out", "checkpoints/less"]].concat(),
        str![[r#"
error[exists]: refusing to replace what is already there
  at checkpoints/less

"#]],
    );
    fs::create_dir(run.path("checkpoints/none")).unwrap();
    for name in ["none", "absent"] {
        let place = format!("checkpoints/{name}");
        let said = run.fails(2, &["retract", "list", "--run", &place]);
        says(
            said.replace(&place, "PLACE"),
            str![[r#"
error[run]: there is no run here
  at PLACE

hint: `--run` is the directory of a run, such as `checkpoints/NAME`

"#]],
        );
    }
    assert!(!run.path("checkpoints/absent").exists());
}
