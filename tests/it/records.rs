//! What is said of records of which a part does not reach the model: whole commands.

use crate::common::{Run, each_says, says};
use serde_json::{Value, json};
use snapbox::str;

/// Writes content alone.
const PLAIN: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A folder with these training records and a template that knows no calls.
fn folder(records: &[Value]) -> Run {
    let run = Run::new();
    run.write("plain.jinja", PLAIN);
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    run.write("data.jsonl", &lines);
    let config = run.read("tiny.toml");
    let data = "[data]\nchat_template = \"plain.jinja\"\nshuffle = false\npacking = false";
    run.write("tiny.toml", &config.replace("[data]", data));
    run
}

fn chat(answer: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": "Is it wet?"}, answer]})
}

/// The messages of `firebrand data` after the first two lines, which name template and shape.
fn said(run: &Run, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["data", "tiny.toml", "--rows", "0"], arguments].concat();
    let output = run.command(&arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    stderr
        .lines()
        .filter(|line| !line.contains("of the shape") && !line.starts_with("chat template:"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_call_that_is_not_written_ends_the_run_with_the_rule_said_once() {
    let call = json!({"function": {"name": "weather", "arguments": {"city": "Oslo"}}});
    let answer = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let fine = chat(&json!({"role": "assistant", "content": "Yes."}));
    let run = folder(&[fine.clone(), chat(&answer), fine, chat(&answer)]);
    let stderr = run.fails(2, &["data", "tiny.toml"]);
    let expected = snapbox::str![[r#"
error[data]: the chat template does not write tool calls (`weather`)
  at data.jsonl:2:1

error[data]: the chat template does not write tool calls (`weather`)
  at data.jsonl:4:1

hint: all that a record says must reach the model: name a chat template that writes it as `data.chat_template`, remove it from the records, or have it reported instead with `data.on_unused = "warn"`

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all

"#]];
    snapbox::assert_data_eq!(stderr, expected);
    // Reported instead, the turns that say nothing else are no targets.
    let warn = ["--set", "data.on_unused=warn"];
    let rows = run.succeeds(&["data", "tiny.toml", "--rows", "2", warn[0], warn[1]]);
    assert_eq!(rows.matches('⟦').count(), rows.matches("⟦Yes.").count(), "{rows}");
    let said = said(&run, &warn);
    assert!(
        said.contains(
            &"warning: 2 of 4 records hold tool calls that the chat template does not write, \
              first data.jsonl:2"
                .to_owned()
        ),
        "{said:?}"
    );
}

#[test]
fn what_is_left_out_is_counted_once_per_data_set_and_again_from_the_cache() {
    let with = |more: Value| {
        let mut record = chat(&json!({"role": "assistant", "content": "Yes."}));
        record["messages"][1].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record["id"] = 7.into();
        record
    };
    let run = folder(&[
        with(json!({})),
        with(json!({"reasoning": "It rains, and rain is wet."})),
        with(json!({"reasoning": "It rains, and rain is wet.", "rating": 5})),
    ]);
    let first = said(&run, &[]);
    assert_eq!(
        first,
        [
            "warning: 1 of 3 records hold `rating` of messages that the chat template does not \
             write, first data.jsonl:3",
            "warning: 2 of 3 records hold reasoning that the chat template does not write, first \
             data.jsonl:2",
        ]
    );
    let plan = run.command(&["plan", "tiny.toml"]).output().unwrap();
    let plan = String::from_utf8(plan.stdout).unwrap() + &String::from_utf8(plan.stderr).unwrap();
    says(
        &plan,
        str![[r#"
    <|im_start|>user
    Is it wet?<|im_end|>
    <|im_start|>assistant
    ⟦Yes.<|im_end|>⟧
chat template: plain.jinja, sha256 [HEX]
data.jsonl: 3 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
data.jsonl: columns that are not used: `id`
validation.jsonl: 6 records of the shape `messages`: the first records have `messages`, a list of objects with `role` and `content`
warning: 1 of 3 records hold `rating` of messages that the chat template does not write, first data.jsonl:3
warning: 2 of 3 records hold reasoning that the chat template does not write, first data.jsonl:2
       model  base (llama, 0.03 M parameters)
      method  full fine-tuning, from random weights
   trainable  0.03 M of 0.03 M parameters, [N] %
      device  CPU, [DEVICE]
   precision  f32: [REASON]
        data  3 examples, 84 tokens, 12 target tokens, 6 for validation
       steps  6 of 4 rows of at most 96 tokens
      memory  about [..] MB: weights 139.9 kB, optimizer [..]
 memory plan  fastest (chosen): about [..] MB, 1.00 of the shortest time, about [SPEED]: nothing computed again, logits of 128 target tokens and 2 rows at once
 memory plan  recompute: about [..] MB, 1.14 of the shortest time, about [SPEED]: layers computed again, logits of 128 target tokens and 2 rows at once
        disk  at most 1.3 MB for checkpoints and the artifact

the first example (data.jsonl:1), target tokens marked:


nothing was trained; to do it: firebrand train tiny.toml

"#]],
    );
    assert_eq!(said(&run, &[]), first);
    // Another setting is another question.
    run.fails_with(2, &["data", "tiny.toml", "--set", "data.on_unused=error"], str![[r#"
error[data]: the chat template does not write reasoning (`It rains, and rain is wet.`)
  at data.jsonl:2:1

error[data]: the chat template does not write reasoning (`It rains, and rain is wet.`), `rating` of messages
  at data.jsonl:3:1

hint: all that a record says must reach the model: name a chat template that writes it as `data.chat_template`, remove it from the records, or have it reported instead with `data.on_unused = "warn"`

hint: correct them, or skip some with `data.max_bad_rows`; `firebrand data CONFIG --doctor` lists all

"#]]);
}

#[test]
fn template_arguments_come_from_the_config_and_first_from_the_record() {
    let mut asked = chat(&json!({"role": "assistant", "content": "Yes."}));
    let plain = asked.clone();
    asked["chat_template_kwargs"] = json!({"tone": "dry"});
    let run = folder(&[plain, asked]);
    run.write("plain.jinja", &format!("tone {{{{ tone }}}}.{PLAIN}"));
    let arguments = ["data", "tiny.toml", "--rows", "2"];
    let set = ["--set", "data.template_args={ tone = \"kind\" }"];
    let rows = run.succeeds(&[&arguments[..], &set[..]].concat());
    says(
        &rows,
        str![[r#"
step 1, row 0:
  data.jsonl:1, 38 tokens
    tone kind.<|im_start|>user
    Is it wet?<|im_end|>
    <|im_start|>assistant
    ⟦Yes.<|im_end|>⟧
step 1, row 1:
  data.jsonl:2, 36 tokens
    tone dry.<|im_start|>user
    Is it wet?<|im_end|>
    <|im_start|>assistant
    ⟦Yes.<|im_end|>⟧

"#]],
    );
}

#[test]
fn questions_and_answers_of_a_chat_model_are_said_to_be_plain_text() {
    let run = folder(&[json!({"question": "Is it wet?", "answer": "Yes."})]);
    let stderr = run.fails(2, &["data", "tiny.toml"]);
    let offer = "columns = { instruction = \"question\", output = \"answer\" }";
    assert!(stderr.contains(offer), "{stderr}");
    let columns = "data.train.0.columns={ prompt = \"question\", completion = \"answer\" }";
    let said = said(&run, &["--set", columns]);
    assert_eq!(
        said,
        [format!(
            "warning: data.jsonl: prompt and completion are trained on as plain text, without the \
             model's chat template; for questions and answers of a chat write `{offer}`"
        )]
    );
}

#[test]
fn where_nothing_is_left_the_record_that_cannot_be_used_is_named_with_its_reason() {
    let run = folder(&[json!({"messages": [{"role": "robot", "content": "Is it wet?"}]})]);
    let errors = ["--count", "--digest"]
        .map(|what| run.fails(2, &["data", "tiny.toml", what, "--set", "data.max_bad_rows=1"]));
    each_says(
        errors,
        str![[r#"
error[data]: the training data holds no example with target tokens
  at data.jsonl:1:1
  because 1 records were read
  because 1 of them cannot be used, first data.jsonl:1: message 1 has the role `robot`

"#]],
    );
}
