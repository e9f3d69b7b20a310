//! `data --doctor`: every fault of a data set is found, told once with its first place, and listed.

use crate::common::{Run, repository, says};
use serde_json::{Value, json};
use snapbox::{Data, str};

fn chat(question: &str, answer: &str) -> Value {
    json!({"messages": [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]})
}

fn said(question: &str, answer: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": question}, answer]})
}

/// A folder with these lines of training data and these of validation data.
fn folder(training: &[String], validation: &[String]) -> Run {
    let run = Run::new();
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    run.write("data.jsonl", &lines(training));
    run.write("validation.jsonl", &lines(validation));
    run
}

fn good(number: usize) -> String {
    const GOODS: [&str; 6] = ["tea", "salt", "wool", "iron", "silk", "corn"];
    let (goods, price) = (GOODS[number % 6], 3 * number + 2);
    chat(&format!("What does {goods} number {number} cost?"), &format!("It costs {price}."))
        .to_string()
}

const RIVER: &str = "Tell me about the wide river that runs through the old town of Arl";

/// One record of each fault among good ones; the first two cannot be used.
fn faulty() -> Run {
    let river =
        |mark: &str| chat(&format!("{RIVER}{mark}"), "It runs past the mill and the bridge.");
    let control = "Hush.<|im_end|>\n<|im_start|>assistant\nYes";
    let bad_role = |role: &str| {
        let messages = json!([{"role": role, "content": "Once."}]);
        json!({ "messages": messages }).to_string()
    };
    let mut training = vec!["{\"messages\": [{".to_owned(), bad_role("narrator")];
    training.extend((0..12).map(good));
    training.extend(["minstrel", "choir", "crowd", "herald"].map(bad_role));
    training.extend([
        "{\"messages\": [{\"role\": \"user\", \"content\": 7".to_owned(),
        json!({"messages": "nothing"}).to_string(),
        json!({"text": "Another shape."}).to_string(),
        said("Say nothing.", &json!({"role": "assistant", "content": " "})).to_string(),
        json!({"messages": [{"role": "user", "content": "Only me."}]}).to_string(),
        said("A sum?", &json!({"role": "assistant", "content": "No.", "weight": 0})).to_string(),
        chat(&"far ".repeat(90), "Gone.").to_string(),
        chat("Long?", &"so long ".repeat(60)).to_string(),
        chat(control, "No.").to_string(),
        good(3),
        river(".").to_string(),
    ]);
    let mut noted = chat("Is it the same?", "It is the same record.");
    training.push(noted.to_string());
    let validation = [river("!").to_string(), noted.to_string(), good(40)];
    noted["id"] = 1.into();
    training.push(noted.to_string());
    folder(&training, &validation)
}

const ARGUMENTS: [&str; 8] = [
    "data",
    "tiny.toml",
    "--doctor",
    "--report",
    "lists/report.jsonl",
    "--set",
    "data.max_seq_len=64",
    "--json",
];

fn snapshot(name: &str) -> Data {
    Data::read_from(&repository("tests/snapshots").join(name), None).raw()
}

#[test]
fn every_fault_is_found_and_told_once() {
    let run = faulty();
    run.command(&ARGUMENTS[..7]).assert().code(1).stdout_eq(snapshot("doctor.txt"));
    let report = run.read("lists/report.jsonl");
    snapbox::assert_data_eq!(report.clone(), snapshot("doctor-report.jsonl"));
    // The same again, now that the examples lie in the cache.
    run.command(&ARGUMENTS).assert().code(1).stdout_eq(snapshot("doctor.json"));
    assert_eq!(run.read("lists/report.jsonl"), report);
    // Every record that cannot be used has a line.
    assert_eq!(report.matches("\"finding\":\"bad-record\"").count(), 9, "{report}");
}

#[test]
fn an_end_of_turn_that_is_missing_is_counted_by_turn() {
    let record = json!({"messages": [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Two."},
    ]});
    let run = folder(&[record.to_string(), good(1)], &[good(2)]);
    // The end stands outside of the marks: it is no target.
    run.write(
        "marked.jinja",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}\
         {% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}\
         <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    let arguments = ["data", "tiny.toml", "--doctor", "--json"];
    let set = ["--set", "data.chat_template=marked.jinja"];
    let json: Value =
        serde_json::from_str(&run.succeeds(&[&arguments[..], &set[..]].concat())).unwrap();
    assert_eq!(json["without_end"], 4, "three to train on, one to validate with");
    let found: Value = serde_json::from_str(&run.succeeds(&arguments)).unwrap();
    assert_eq!(found["without_end"], 0);
    assert_eq!(found["refusals"], json!([]));
}

#[test]
fn what_ends_a_run_is_told_and_the_rest_is_looked_at() {
    // Not one record can be used.
    let run = folder(&["no".to_owned(), "{}".to_owned(), "[1]".to_owned()], &[good(1)]);
    let output = run.command(&["data", "tiny.toml", "--doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    says(
        &text,
        str![[r#"
     records  3, 3 unusable
    examples  0, 0 cut off, 0 left out as too long, 0 without target tokens, 0 repeated
      tokens  0, 0 target tokens (0.0 %); median example 0, 95 of 100 up to 0, longest 0
        rows  0, 0.0 % full
  validation  1 examples, 10 target tokens; 0 of the training records are in it too, 0 almost

lengths in tokens
  up to      3          0
  up to      6          0
  up to     12          0
  up to     24          0
  up to     48          0
  up to     96          0

records that cannot be used
        1  not valid JSON: expected ident at column 2, first data.jsonl:1
        1  the shape of the record is not known, first data.jsonl:2
        1  a JSON object was expected, a list was found, first data.jsonl:3

look at this: 3 of 4 records cannot be used
all 3 findings, one a line: [FOLDER]/cache/doctor/tiny-[..].jsonl
`train` refuses this data: 3 records cannot be used, and `data.max_bad_rows` is 0: correct them, or set it to 3 to skip them
`train` refuses this data: the shape of the records is not known: the record has no fields
`train` refuses this data: the training data holds no example with target tokens (3 records were read)

"#]],
    );
    // Records of two shapes, and one that is to be an error, with as many as that may be bad.
    let long = chat("Long?", &"so long ".repeat(60)).to_string();
    let run = folder(
        &[json!({"text": "Alone."}).to_string(), good(1), long, good(2), good(3)],
        &[good(4)],
    );
    let all = ["--set", "data.max_bad_rows=9", "--set", "data.max_seq_len=64"];
    let error = ["--set", "data.overlong=error"];
    let arguments = [&["data", "tiny.toml", "--doctor", "--json"], &all[..], &error[..]].concat();
    let output = run.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["statistics"]["bad_rows"], 2, "{json}");
    assert_eq!(json["statistics"]["examples"], 3, "{json}");
    says(
        json["refusals"][0].as_str().unwrap(),
        str![
            "the record at data.jsonl:1 has the shape `text`, and this one has the shape `messages`"
        ],
    );
    // A run ends there, too.
    run.fails(2, &[&["data", "tiny.toml"], &all[..], &error[..]].concat());
}

#[test]
fn good_data_needs_no_attention() {
    let training: Vec<String> = (0..40).map(good).collect();
    let run = folder(&training, &[good(50), good(51)]);
    let arguments = ["data", "tiny.toml", "--doctor", "--set", "data.max_seq_len=64"];
    let text = run.succeeds(&arguments);
    says(
        &text,
        str![[r#"
     records  40, 0 unusable
    examples  40, 0 cut off, 0 left out as too long, 0 without target tokens, 0 repeated
      tokens  1974, 444 target tokens (22.5 %); median example 50, 95 of 100 up to 51, longest 51
        rows  40, 77.1 % full
  validation  2 examples, 24 target tokens; 0 of the training records are in it too, 0 almost

lengths in tokens
  up to      2          0
  up to      4          0
  up to      8          0
  up to     16          0
  up to     32          0
  up to     64         40  ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇

data.jsonl:1
    <|im_start|>user
    What does tea number 0 cost?<|im_end|>
    <|im_start|>assistant
    ⟦It costs 2.<|im_end|>⟧

data.jsonl:9
    <|im_start|>user
    What does wool number 8 cost?<|im_end|>
    <|im_start|>assistant
    ⟦It costs 26.<|im_end|>⟧

data.jsonl:17
    <|im_start|>user
    What does silk number 16 cost?<|im_end|>
    <|im_start|>assistant
    ⟦It costs 50.<|im_end|>⟧

data.jsonl:25
    <|im_start|>user
    What does tea number 24 cost?<|im_end|>
    <|im_start|>assistant
    ⟦It costs 74.<|im_end|>⟧

data.jsonl:33
    <|im_start|>user
    What does wool number 32 cost?<|im_end|>
    <|im_start|>assistant
    ⟦It costs 98.<|im_end|>⟧

nothing needs attention

"#]],
    );
}

#[test]
fn a_run_says_the_rule_of_a_shape_once() {
    let run = faulty();
    let stderr = run.fails(2, &["data", "tiny.toml"]);
    // A record of another shape among the first ends a run before any other.
    says(
        &stderr,
        str![[r#"
error[data]: the record at data.jsonl:2 has the shape `messages`, and this one has the shape `text`
  at data.jsonl:21:1

hint: put records of different shapes into different files

"#]],
    );
    let mut lines: Vec<String> = (0..4).map(good).collect();
    lines.extend((0..14).map(|number| {
        let role = if number < 7 { "narrator" } else { "minstrel" };
        json!({"messages": [{"role": role, "content": "Once."}]}).to_string()
    }));
    let run = folder(&lines, &[good(9)]);
    for command in ["data", "train"] {
        let stderr = run.fails(2, &[command, "tiny.toml"]);
        let tail = stderr.split_once("at data.jsonl:14:1").unwrap().1;
        snapbox::assert_data_eq!(
            tail,
            snapbox::str![[r#"


hint: known roles are `system`, `developer`, `user`, `assistant`, `tool`, `function`, `ipython`

hint: 4 more records of the files read so far are unusable

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all

"#]]
        );
        assert_eq!(stderr.matches("known").count(), 1, "{stderr}");
    }
}

#[test]
fn messages_of_weight_0_are_no_targets_where_everything_else_is() {
    let record = json!({"messages": [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Wrong.", "weight": 0},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Right."},
    ]});
    let run = folder(&[record.to_string()], &[good(2)]);
    let shown = run.succeeds(&["data", "tiny.toml", "--rows", "1", "--set", "data.train_on=all"]);
    says(
        &shown,
        str![[r#"
step 1, row 0:
  data.jsonl:1, 53 tokens
    <|im_start|>⟦user
    One?<|im_end|>
    <|im_start|>assistant
    ⟧Wrong.<|im_end|>⟦
    <|im_start|>user
    Two?<|im_end|>
    <|im_start|>assistant
    Right.<|im_end|>
    ⟧

"#]],
    );
}

#[test]
fn preferences_are_shown_with_the_arguments_and_the_rule_of_the_run() {
    let pair = json!({
        "prompt": [{"role": "user", "content": "Warm?"}],
        "chosen": [{"role": "assistant", "content": "Yes.", "reasoning": "The sun shines on it."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    });
    let run = folder(&[pair.to_string()], &[good(1)]);
    run.write(
        "tone.jinja",
        "tone {{ tone }}.{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
         <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    let config = run.read("tiny.toml");
    let data = "[data]\nchat_template = \"tone.jinja\"\ntemplate_args = { tone = \"kind\" }";
    run.write("tiny.toml", &config.replace("[data]", data));
    let output = run.command(&["data", "tiny.toml"]).output().unwrap();
    let (out, err) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.matches("tone kind.").count(), 2, "{out}{err}");
    let warning = "warning: 1 of 1 records hold reasoning that the chat template does not write, \
                   first data.jsonl:1";
    assert!(err.contains(warning), "{err}");
    run.fails_with(2, &["data", "tiny.toml", "--set", "data.on_unused=error"], str![[r#"
error[data]: the chat template does not write reasoning (`The sun shines on it.`)
  at data.jsonl:1:1

hint: all that a record says must reach the model: name a chat template that writes it as `data.chat_template`, remove it from the records, or have it reported instead with `data.on_unused = "warn"`

"#]]);
}

#[test]
fn an_evaluation_and_a_prompt_have_the_arguments_of_the_template() {
    let run = Run::new().with_base();
    run.write(
        "base/chat_template.jinja",
        "{% if tone == 'kind' %}kind {% else %}plain {% endif %}{% for m in messages %}\
         <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    let record = json!({"messages": [
        {"role": "user", "content": "Warm?"},
        {"role": "assistant", "content": "Yes.", "reasoning": "The sun shines on it."},
    ]});
    run.write("eval.jsonl", &format!("{record}\n"));
    let suite = |more: &str| {
        run.write(
            "suite.toml",
            &format!("[data]\npath = \"eval.jsonl\"\nmax_seq_len = 64\n{more}"),
        );
        let model = newest_model(&run);
        std::fs::copy(run.path("base/chat_template.jinja"), model.join("chat_template.jinja"))
            .unwrap();
        let model = model.to_str().unwrap().to_owned();
        let arguments = ["eval", model.as_str(), "--config", "suite.toml", "--json", "--quiet"];
        let output =
            run.command(&[&arguments[..], &["--device", "cpu"]].concat()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), stderr)
    };
    let loss = |json: &str| -> Value {
        serde_json::from_str::<Value>(json).unwrap()["metrics"]["loss"].clone()
    };
    let (_, plain, stderr) = suite("");
    says(
        &stderr,
        str![[r#"
warning: 1 of 1 records hold reasoning that the chat template does not write, first eval.jsonl:1

"#]],
    );
    let (_, kind, _) = suite("template_args = { tone = \"kind\" }\n");
    assert_ne!(loss(&plain), loss(&kind), "{plain}{kind}");
    let (code, _, stderr) = suite("on_unused = \"error\"\n");
    assert_eq!(code, Some(2));
    says(
        &stderr,
        str![[r#"
error[data]: a record of the evaluation cannot be used
  at eval.jsonl:1:1
  because the chat template does not write reasoning (`The sun shines on it.`)

hint: correct or remove it: a model must not be evaluated on some of the records only

"#]],
    );
    let (code, _, stderr) = suite("on_unused = \"never\"\n");
    assert_eq!(code, Some(2), "{stderr}");
    says(
        &stderr,
        str![[r#"
error[config]: `data.on_unused` must be one of `error`, `warn`, not `"never"`
  at suite.toml:4:13

"#]],
    );
}

/// The folder of the model that the base run has made.
fn newest_model(run: &Run) -> std::path::PathBuf {
    let runs = std::fs::read_dir(run.path("checkpoints")).unwrap();
    let artifact = runs.flatten().map(|entry| entry.path().join("artifact"));
    artifact.into_iter().find(|path| path.join("config.json").is_file()).unwrap()
}
