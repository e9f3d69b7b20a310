//! Whole commands about which model is in use: promote, rollback, resolve, log, watch.

use crate::common::verdict;
use crate::common::{hub, says};
use snapbox::str;

use std::process::{Child, Command, Stdio};

use crate::common::{Run, wait};
use serde_json::{Value, json};

const SUITE: &str = "bootstrap = 0\n[data]\npath = \"newest.jsonl\"\nmax_seq_len = 96\n";
const POINTER: &str = "registry/channels/production/";

/// Two trained models, `one` and `two`; keys of their own for gate and promotion; a suite.
fn shop() -> Run {
    let run = Run::new();
    for (name, steps) in [("one", "4"), ("two", "6")] {
        let steps = format!("train.max_steps={steps}");
        let name = format!("name={name}");
        run.succeeds(&["train", "tiny.toml", "--quiet", "--set", &name, "--set", &steps]);
    }
    run.succeeds(&["keygen", "gate.pem"]);
    run.succeeds(&["keygen", "promote.pem"]);
    trust(&run, "", "");
    run.write("eval.toml", SUITE);
    run.write("newest.jsonl", &run.read("validation.jsonl"));
    run
}

/// Keys with a role each; what is to be said of two of them besides.
fn trust(run: &Run, gate: &str, promote: &str) {
    let entry = |file: &str, roles: &str, more: &str| {
        let file = run.path(file).display().to_string();
        format!("[[key]]\nfile = \"{file}\"\nroles = [{roles}]\n{more}\n")
    };
    let text = [
        entry("settings/firebrand/signing.pub.pem", "\"train\"", ""),
        entry("gate.pub.pem", "\"gate\"", gate),
        entry("promote.pub.pem", "\"promote\"", promote),
    ];
    run.write("settings/firebrand/trusted-keys.toml", &text.concat());
}

fn artifact(name: &str) -> String {
    format!("checkpoints/{name}/artifact")
}

/// Lets the model pass with the numbers that it has on the suite now.
fn pass(run: &Run, name: &str) -> Value {
    let call =
        ["eval", &artifact(name), "--config", "eval.toml", "--json", "--device", "cpu", "--quiet"];
    let report: Value = serde_json::from_str(&run.succeeds(&call)).unwrap();
    let numbers: serde_json::Map<String, Value> = report["metrics"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, metric)| (name.clone(), metric["value"].clone()))
        .collect();
    let numbers = Value::Object(numbers);
    verdict::add(&run.path(&artifact(name)), &run.path("gate.pem"), "PASSED", &numbers);
    numbers
}

const PROMOTE: [&str; 4] = ["--channel", "production", "--key", "promote.pem"];

fn promote(run: &Run, name: &str) {
    run.succeeds(&[&["promote", &format!("checkpoints/{name}")], &PROMOTE[..]].concat());
}

fn watch<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let call = ["watch", "--config", "eval.toml", "--device", "cpu", "--quiet"];
    [&call[..], &PROMOTE[..], more].concat()
}

/// What the model has never seen the like of.
fn other_data(count: usize) -> String {
    let line = |number: usize| {
        let json = json!({"messages": [
            {"role": "user", "content": format!("Say it backwards: {number}")},
            {"role": "assistant", "content": format!("~{}~ ZXQJ|{{}}<>#@! KWVZ", number * 7919)},
        ]});
        format!("{json}\n")
    };
    (0..count).map(line).collect()
}

fn pointer(run: &Run, serial: u64) -> Value {
    let all: Value = serde_json::from_str(&run.succeeds(&["log", "production", "--json"])).unwrap();
    let serial = usize::try_from(serial).unwrap();
    all["pointers"][serial - 1]["pointer"].clone()
}

#[test]
fn a_model_comes_into_use_and_is_taken_back() {
    let run = shop();
    let numbers = pass(&run, "one");
    let call = [&["promote", "checkpoints/one"], &PROMOTE[..]].concat();
    let output = run.command(&call).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{POINTER}00000001.json\n"));
    says(
        &said,
        str![[r#"
`production` is now one ([HEX]), serial number 1, until [LATER]; signed by key [HEX]

"#]],
    );
    assert_eq!(run.succeeds(&["resolve", "production"]), format!("{}\n", artifact("one")));
    let found: Value =
        serde_json::from_str(&run.succeeds(&["resolve", "production", "--json"])).unwrap();
    assert_eq!(found["pointer"]["metrics"], numbers);
    assert_eq!(found["pointer"]["model"]["name"], "one");
    let hint = run.succeeds(&["keygen", "other.pem"]);
    assert_ne!(found["signer"]["hint"], hint.trim());

    pass(&run, "two");
    run.succeeds(
        &[
            &["promote", &artifact("two"), "--days", "7", "--reason", "better at sums"],
            &PROMOTE[..],
        ]
        .concat(),
    );
    assert_eq!(run.succeeds(&["resolve", "production"]), format!("{}\n", artifact("two")));
    let back = [&["rollback", "--reason", "users complain"], &PROMOTE[..]].concat();
    assert_eq!(run.succeeds(&back), format!("{POINTER}00000003.json\n"));
    assert_eq!(run.succeeds(&["resolve", "production"]), format!("{}\n", artifact("one")));
    run.fails_with(
        2,
        &back,
        str![[r#"
error[channel]: the channel `production` has no good model to go back to
  because serial number 2: it was taken back at [NOW]

hint: `--to SERIAL` goes back to a model that was taken back once

"#]],
    );
    run.succeeds(&[&back[..], &["--to", "2"]].concat());
    assert_eq!(run.succeeds(&["resolve", "production"]), format!("{}\n", artifact("two")));

    let log = run.succeeds(&["log", "production"]);
    let loss = format!("loss {:.4}", numbers["loss"].as_f64().unwrap());
    assert!(log.contains(&loss), "{loss}\n{log}");
    says(
        &log,
        str![[r#"
   1  [NOW]  promote  one ([HEX]), by key [HEX]
      gate PASSED by gate.toml
      accuracy [NUMBER], loss [NUMBER], perplexity [NUMBER]
      ../checkpoints/one/artifact, until [LATER]
   2  [NOW]  promote  two ([HEX]), by key [HEX]
      better at sums
      accuracy [NUMBER], loss [NUMBER], perplexity [NUMBER]
      ../checkpoints/two/artifact, until [LATER]
   3  [NOW]  rollback  one ([HEX]), by key [HEX]
      users complain
      accuracy [NUMBER], loss [NUMBER], perplexity [NUMBER]
      ../checkpoints/one/artifact, until [LATER]
   4  [NOW]  rollback  two ([HEX]), by key [HEX]
      users complain
      accuracy [NUMBER], loss [NUMBER], perplexity [NUMBER]
      ../checkpoints/two/artifact, until [LATER]

"#]],
    );
    let second = pointer(&run, 2);
    let time = |key: &str| second[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("expires").duration_since(time("issued")).as_hours(), 7 * 24);
    run.fails_with(
        2,
        &["resolve", "staging"],
        str![[r#"
error[channel]: there is no channel `staging`
  at registry

hint: `firebrand promote ARTIFACT --channel staging` creates it

"#]],
    );
    run.fails_with(
        2,
        &["log", "staging"],
        str![[r#"
error[channel]: there is no channel `staging`
  at registry

hint: `firebrand promote ARTIFACT --channel staging` creates it

"#]],
    );
    run.fails_with(
        2,
        &["resolve", "../x"],
        str![[r#"
error[channel]: `../x` is not a valid name of a channel

hint: up to 64 lower-case letters, digits, `-`, `_` and `.`, such as `production`

"#]],
    );
}

#[test]
fn what_is_not_good_enough_is_refused_with_its_sentence() {
    let run = shop();
    let call = [&["promote", "checkpoints/one"], &PROMOTE[..]].concat();
    let refused = |call: &[&str], part: &str| {
        let stderr = run.fails(1, call);
        assert!(stderr.contains(part), "{part}\n{stderr}");
        assert!(!run.path(POINTER).exists(), "{part}");
    };
    refused(&call, "the gate has given no verdict on exactly these files");
    let one = run.path(&artifact("one"));
    verdict::add(&one, &run.path("promote.pem"), "PASSED", &json!({}));
    refused(&call, "has the role `promote`, and `gate` is needed");
    verdict::add(&one, &run.path("gate.pem"), "PASSED", &json!({}));
    verdict::add(&one, &run.path("gate.pem"), "FAILED", &json!({}));
    refused(&call, "newest verdict on this model is a refusal");
    let lines = run.read("checkpoints/one/artifact.sigstore.jsonl");
    pass(&run, "one");
    trust(&run, "revoked = true\nreason = \"lost\"", "");
    refused(&call, "was revoked: lost");
    trust(&run, "", "");
    refused(
        &["promote", "checkpoints/one", "--channel", "production", "--key", "gate.pem"],
        "this key may not promote models",
    );
    let original = run.read("checkpoints/two/artifact.sigstore.jsonl");
    run.write("checkpoints/two/artifact.sigstore.jsonl", &lines);
    refused(&[&["promote", "checkpoints/two"], &PROMOTE[..]].concat(), "about other files");
    run.write("checkpoints/two/artifact.sigstore.jsonl", &original);
    std::fs::remove_file(run.path(&artifact("two")).join("model.sig")).unwrap();
    refused(&[&["promote", "checkpoints/two"], &PROMOTE[..]].concat(), "unsigned");
    promote(&run, "one");
}

#[test]
fn what_was_changed_or_put_back_is_refused_and_shown() {
    let run = shop();
    for name in ["one", "two"] {
        pass(&run, name);
        promote(&run, name);
    }
    let resolve = ["resolve", "production"];
    run.succeeds(&resolve);
    let second = run.read(&format!("{POINTER}00000002.json"));
    // An older copy of the whole folder.
    std::fs::remove_file(run.path(&format!("{POINTER}00000002.json"))).unwrap();
    run.fails_with(1, &resolve, str![[r#"
error[untrusted]: `channel production in [FOLDER]/registry` has the serial number 1, but 2 was seen before
  because an older copy was put in the place of the newer one

hint: get the newest copy; the serial numbers that were seen are in [FOLDER]/settings/firebrand/seen-serials.json

"#]]);
    // A pointer of which a letter was changed.
    let payload = second.split("\"payload\":\"").nth(1).unwrap().split('"').next().unwrap();
    let bent = payload.replacen(&payload[40..44], "AAAA", 1);
    run.write(&format!("{POINTER}00000002.json"), &second.replace(payload, &bent));
    run.fails(1, &resolve);
    let output = run.command(&["log", "production"]).output().unwrap();
    let log = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(log.contains("DAMAGED") || log.contains("DOES NOT COUNT"), "{log}");
    says(
        &log,
        str![[r#"
   1  [NOW]  promote  one ([HEX]), by key [HEX]
      gate PASSED by gate.toml
      accuracy [NUMBER], loss [NUMBER], perplexity [NUMBER]
      ../checkpoints/one/artifact, until [LATER]
   2  DAMAGED  registry/channels/production/00000002.json: the pointer is damaged: not valid JSON: control character (\u0000-\u001F) found while parsing a string at line 1 column 31

"#]],
    );
    // One by nobody in particular, and a file that is none.
    run.write(&format!("{POINTER}00000002.json"), &second);
    run.write(&format!("{POINTER}notes.txt"), "x");
    run.succeeds(&resolve);
    let output = run.command(&["log", "production"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(
        String::from_utf8(output.stdout).unwrap(),
        str![[r#"
   1  [NOW]  promote  one ([HEX]), by key [HEX]
      gate PASSED by gate.toml
      accuracy [NUMBER], loss [NUMBER], perplexity [NUMBER]
      ../checkpoints/one/artifact, until [LATER]
   2  [NOW]  promote  two ([HEX]), by key [HEX]
      gate PASSED by gate.toml
      accuracy [NUMBER], loss [NUMBER], perplexity [NUMBER]
      ../checkpoints/two/artifact, until [LATER]
   -  FOREIGN  registry/channels/production/notes.txt: this is not the name of a pointer

"#]],
    );
    std::fs::remove_file(run.path(&format!("{POINTER}notes.txt"))).unwrap();
    trust(&run, "", "revoked = true");
    run.fails_with(
        1,
        &resolve,
        str![[r#"
error[untrusted]: the channel's newest pointer is signed by a key that may not promote
  at registry/channels/production/00000002.json
  because the key [HEX] was revoked: no reason is given

hint: if you know whose key it is, put it into `trusted-keys.toml` with the role `promote`

"#]],
    );
    let output = run.command(&["log", "production", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(log["pointers"][1]["sound"], false);
    says(
        log["pointers"][1]["problem"].as_str().unwrap(),
        str!["the key [HEX] was revoked: no reason is given"],
    );
    trust(&run, "", "");
    // A gap.
    std::fs::remove_file(run.path(&format!("{POINTER}00000001.json"))).unwrap();
    run.fails_with(
        1,
        &resolve,
        str![[r#"
error[channel]: serial number 1 is missing
  at registry/channels/production/00000002.json

hint: get all pointers of the channel: none is ever removed

"#]],
    );
}

#[test]
fn bytes_of_the_model_that_are_not_the_signed_ones_are_refused() {
    let run = shop();
    pass(&run, "one");
    promote(&run, "one");
    let config = format!("{}/config.json", artifact("one"));
    run.write(&config, &format!("{} ", run.read(&config)));
    run.fails_with(
        1,
        &["resolve", "production"],
        str![[r#"
error[channel]: the model does not verify: tampered: the files are not those that were signed
  at checkpoints/one/artifact
  because files unchanged: changed: `config.json`
  because lineage files: the statement is about other files: `config.json`
  because attestation: line 1: the statement is about other files: `config.json`
  because attestation: line 2: the statement is about other files: `config.json`

hint: `firebrand verify checkpoints/one/artifact` says all

"#]],
    );
    // Another signed model in its place is another model.
    std::fs::rename(run.path("checkpoints/one"), run.path("checkpoints/gone")).unwrap();
    std::fs::rename(run.path("checkpoints/two"), run.path("checkpoints/one")).unwrap();
    run.fails_with(
        1,
        &["resolve", "production"],
        str![[r#"
error[channel]: this is another model than the channel names
  at checkpoints/one/artifact
  because its `model.sig` has the digest [HEX], and [HEX] is named

"#]],
    );
}

#[test]
fn copies_stay_and_published_models_are_found_where_the_reader_has_them() {
    let run = shop();
    pass(&run, "one");
    run.succeeds(&[&["promote", "checkpoints/one", "--copy"], &PROMOTE[..]].concat());
    std::fs::remove_dir_all(run.path("checkpoints/one")).unwrap();
    let path = run.succeeds(&["resolve", "production"]);
    assert!(path.starts_with("registry/models/"), "{path}");
    run.succeeds(&["verify", path.trim()]);
    pass(&run, "two");
    let uri = "https://example.com/two.tar.gz";
    run.succeeds(&[&["promote", "checkpoints/two", "--uri", uri], &PROMOTE[..]].concat());
    run.fails_with(
        2,
        &["resolve", "production"],
        str![[r#"
error[channel]: the model was published at https://example.com/two.tar.gz

hint: fetch it from there and name its folder with `--model`

"#]],
    );
    assert_eq!(run.succeeds(&["resolve", "production", "--where"]).trim(), uri);
    let at = artifact("two");
    assert_eq!(run.succeeds(&["resolve", "production", "--model", &at]).trim(), at);
    run.fails_with(
        1,
        &["resolve", "production", "--model", path.trim()],
        str![[r#"
error[channel]: this is another model than the channel names
  at registry/models/[SHA256]
  because its `model.sig` has the digest [HEX], and [HEX] is named

"#]],
    );
    let elsewhere = ["resolve", "production", "--registry", "elsewhere"];
    run.fails_with(
        2,
        &elsewhere,
        str![[r#"
error[channel]: there is no channel `production`
  at elsewhere

hint: `firebrand promote ARTIFACT --channel production` creates it

"#]],
    );
}

#[test]
fn two_promoters_at_once_never_write_over_each_other() {
    let run = shop();
    for name in ["one", "two"] {
        pass(&run, name);
    }
    let start = |number: usize| {
        let artifact = ["checkpoints/one", "checkpoints/two"][number % 2];
        let call = [&["promote", artifact], &PROMOTE[..]].concat();
        spawn(command(&run, &call), &run.path(&format!("{number}.out")))
    };
    let children: Vec<Child> = (0..4).map(start).collect();
    let codes: Vec<_> = children.into_iter().map(end).collect();
    let won = codes.iter().filter(|code| **code == Some(0)).count();
    for (number, code) in codes.iter().enumerate().filter(|(_, code)| **code != Some(0)) {
        let said = run.read(&format!("{number}.err"));
        assert_eq!(*code, Some(2), "{said}");
        says(
            said,
            str![[r#"
error[already-running]: someone else has just written serial number [..]
  at registry/channels/production/[..].json

hint: nothing of yours was written; look at it with `firebrand log`, and try again

"#]],
        );
    }
    assert!(won > 0);
    assert_eq!(run.path(POINTER).read_dir().unwrap().count(), won);
    run.succeeds(&["resolve", "production"]);
    run.succeeds(&["log", "production"]);
}

/// The program as a process that goes on beside the test.
fn command(run: &Run, call: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firebrand"));
    command
        .args(call)
        .current_dir(run.path("."))
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .env("FIREBRAND_CACHE", run.path("cache"))
        .env("HF_HOME", run.path("hub"))
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env_remove("FIREBRAND_SIGNING_KEY");
    command
}

fn spawn(mut command: Command, stdout: &std::path::Path) -> Child {
    let stderr = std::fs::File::create(stdout.with_extension("err")).unwrap();
    let stdout = std::fs::File::create(stdout).unwrap();
    command.stdout(stdout).stderr(stderr).stdin(Stdio::null()).spawn().unwrap()
}

/// Its exit code, once it has ended.
fn end(mut child: Child) -> Option<i32> {
    child.wait().unwrap().code()
}

#[test]
fn a_model_that_drifts_is_rolled_back() {
    let run = shop();
    for name in ["one", "two"] {
        pass(&run, name);
        promote(&run, name);
    }
    let fine = run.succeeds(&watch(&["--once"]));
    says(
        &fine,
        str![[r#"
`production`, serial number 2, two: no drift on 6 records
ok    accuracy [NUMBER] -> [NUMBER]: -0.0 % worse, 5 % allowed
ok    loss [NUMBER] -> [NUMBER]: -0.0 % worse, 5 % allowed
ok    perplexity [NUMBER] -> [NUMBER]: -0.0 % worse, 5 % allowed

"#]],
    );
    let before = run.read("checkpoints/two/artifact.sigstore.jsonl");

    run.write("newest.jsonl", &other_data(8));
    let output = run.command(&watch(&["--once", "--json"])).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["drift"], &result["rolled_back_as"]), (&json!(true), &json!(3)));
    assert_eq!(run.succeeds(&["resolve", "production"]), format!("{}\n", artifact("one")));
    let third = pointer(&run, 3);
    let reason = third["reason"].as_str().unwrap();
    says(
        reason,
        str![
            "drift on eval: accuracy [NUMBER] -> [NUMBER]: 65.8 % worse, only 5 % allowed; loss [NUMBER] -> [NUMBER]: 16.2 % worse, only 5 % allowed; perplexity [NUMBER] -> [NUMBER]: 131.1 % worse, only 5 % allowed"
        ],
    );
    assert_eq!(third["metrics"], pointer(&run, 1)["metrics"]);

    // What was found is attested of the model that drifted, which still verifies.
    let after = run.read("checkpoints/two/artifact.sigstore.jsonl");
    let line = after.strip_prefix(&before).unwrap().trim();
    let bundle = firebrand::artifact::envelope::Bundle::parse(line.as_bytes()).unwrap();
    let statement: Value = serde_json::from_slice(&bundle.payload).unwrap();
    assert_eq!(statement["predicateType"], "https://in-toto.io/attestation/test-result/v0.1");
    assert_eq!(statement["predicate"]["result"], "FAILED");
    assert!(
        statement["predicate"]["failedTests"].as_array().unwrap().contains(&json!("drift/loss"))
    );
    let suite = &statement["predicate"]["configuration"][0];
    let loss = &suite["annotations"]["drift"]["loss"];
    assert!(loss["value"].as_f64().unwrap() > 1.05 * loss["baseline"].as_f64().unwrap());
    run.succeeds(&["verify", "checkpoints/two"]);

    // The one before drifts as well: there is nothing left to go back to.
    run.fails_with(
        2,
        &watch(&["--once"]),
        str![[r#"
error[channel]: the channel `production` has no good model to go back to
  because serial number 2: it was taken back at [NOW]

hint: `--to SERIAL` goes back to a model that was taken back once

"#]],
    );
    assert_eq!(run.path(POINTER).read_dir().unwrap().count(), 3);
    // And the drifted one does not come back with its old verdict.
    let again = [&["promote", "checkpoints/two"], &PROMOTE[..]].concat();
    run.fails_with(
        1,
        &again,
        str![[r#"
error[channel]: this model was taken back after the gate had passed it
  at checkpoints/two/artifact
  because the verdict is of [NOW], the rollback of [NOW]

hint: run `firebrand gate` on it again, for a newer verdict

"#]],
    );
}

#[test]
fn drift_may_only_be_told_and_limits_are_those_of_the_policy() {
    let run = shop();
    pass(&run, "one");
    promote(&run, "one");
    run.write("newest.jsonl", &other_data(8));
    let once = |policy: &str| {
        run.write("watch.toml", policy);
        run.command(&watch(&["--once", "--policy", "watch.toml"])).output().unwrap()
    };
    let output = once("[watch]\non_drift = \"report\"\n");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    says(
        &text,
        str![[r#"
`production`, serial number 1, one: drift on 8 records
FAIL  accuracy [NUMBER] -> [NUMBER]: 65.8 % worse, only 5 % allowed
FAIL  loss [NUMBER] -> [NUMBER]: 11.7 % worse, only 5 % allowed
FAIL  perplexity [NUMBER] -> [NUMBER]: 88.5 % worse, only 5 % allowed

"#]],
    );
    assert_eq!(run.path(POINTER).read_dir().unwrap().count(), 1);
    let lines = run.read("checkpoints/one/artifact.sigstore.jsonl");
    assert_eq!(lines.lines().count(), 3, "lineage, verdict, drift");
    once("[watch]\non_drift = \"report\"\n");
    assert_eq!(run.read("checkpoints/one/artifact.sigstore.jsonl"), lines, "it is said once");
    let output = once("[watch]\nmax_drift = 1000\n");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let output = once("[watch]\nmax_drift = { accuracy = 1.0 }\n");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("loss"), "{text}");
}

#[test]
fn what_cannot_be_decided_is_neither_well_nor_drift() {
    let run = shop();
    let undecided = |more: &[&str], part: &str| {
        let stderr = run.fails(2, &watch(more));
        assert!(stderr.contains(part), "{part}\n{stderr}");
    };
    undecided(&["--once"], "no channel `production`");
    verdict::add(
        &run.path(&artifact("one")),
        &run.path("gate.pem"),
        "PASSED",
        &json!({"calls": 1.0}),
    );
    promote(&run, "one");
    undecided(&["--once"], "have no metric in common");
    pass(&run, "one");
    promote(&run, "one");
    run.succeeds(&watch(&["--once"]));
    run.write("watch.toml", "[watch]\nmax_drfit = 0.1\n");
    undecided(&["--once", "--policy", "watch.toml"], "watch.toml:2:");
    // The policy's mistake ends also a watch that would go on.
    undecided(&["--policy", "watch.toml"], "watch.toml:2:");
    undecided(&["--every", "1 hour"], "not a duration");
    undecided(&["--once", "--every", "1h"], "cannot be used with");
    let lines = run.read("newest.jsonl");
    run.write("newest.jsonl", "no json\n");
    undecided(&["--once"], "newest.jsonl:1");
    run.write("newest.jsonl", &lines);
    let config = format!("{}/config.json", artifact("one"));
    run.write(&config, &format!("{} ", run.read(&config)));
    undecided(&["--once"], "tampered");
}

#[cfg(unix)]
#[test]
fn a_watch_that_goes_on_sees_the_branch_move_and_ends_when_told() {
    let run = shop();
    let server = hub::Hub::start();
    server.add("datasets/o/d", "main", &[("validation.jsonl", run.read("validation.jsonl"))]);
    for name in ["one", "two"] {
        pass(&run, name);
        promote(&run, name);
    }
    run.write("eval.toml", &SUITE.replace("newest.jsonl", "o/d"));
    let start = |out: &str| {
        let call = watch(&["--every", "1s"]);
        let mut command = command(&run, &call);
        command.env("HF_ENDPOINT", server.endpoint());
        spawn(command, &run.path(out))
    };
    let wait_for = |out: &str, rounds: usize| {
        wait::until("a round without drift", || {
            run.read(out).matches("no drift").count() >= rounds
        });
    };
    let child = start("first.out");
    wait_for("first.out", 2);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = end(child);
    assert_eq!(status, Some(143), "{}", run.read("first.err"));

    let child = start("second.out");
    wait_for("second.out", 1);
    server.add("datasets/o/d", "main", &[("validation.jsonl", other_data(8))]);
    let status = end(child);
    let said = run.read("second.err");
    assert_eq!(status, Some(1), "{said}");
    says(
        &said,
        str![[r#"
`production` is now one ([HEX]), serial number 3, until [LATER]; signed by key [HEX]

"#]],
    );
    assert_eq!(run.succeeds(&["resolve", "production"]), format!("{}\n", artifact("one")));
}
