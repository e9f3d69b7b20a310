//! `generate`: which tokens are drawn, and where an answer ends.

use snapbox::str;

use crate::common::{Run, says};

const ASK: [&str; 5] = ["generate", "checkpoints/tiny", "--chat", "--prompt", "What is 3 plus 4?"];

fn asked(run: &Run, more: &[&str]) -> String {
    run.succeeds(&[&ASK[..], &["--max-tokens", "12"], more].concat())
}

#[test]
fn filters_leave_the_most_likely_token_where_they_leave_one() {
    let run = Run::new().with_base();
    let greedy = asked(&run, &[]);
    let hot = ["--temperature", "5"];
    assert_ne!(asked(&run, &hot), greedy);
    for one in [["--top-k", "1"], ["--top-p", "1e-9"], ["--min-p", "1"]] {
        assert_eq!(asked(&run, &[&hot[..], &one].concat()), greedy, "{one:?}");
    }
    assert_ne!(asked(&run, &["--repetition-penalty", "1000"]), greedy);
}

#[test]
fn a_stop_text_ends_an_answer_and_is_not_shown() {
    let run = Run::new().with_base();
    let answer = asked(&run, &[]);
    let half = answer.char_indices().nth(answer.chars().count() / 2).unwrap().0;
    let stop = &answer[half..half + answer[half..].chars().next().unwrap().len_utf8()];
    let before = &answer[..answer.find(stop).unwrap()];
    assert_eq!(asked(&run, &["--stop", "no such text", "--stop", stop]), format!("{before}\n"));
}

#[test]
fn what_would_change_nothing_is_refused() {
    let run = Run::new().with_base();
    let refused = |more: &[&str], said| run.fails_with(2, &[&ASK[..], more].concat(), said);
    refused(
        &["--top-k", "4"],
        str![[r#"
error[usage]: `--top-k` changes nothing without draws

hint: give a `--temperature` above 0, too

"#]],
    );
    refused(
        &["--temperature", "1", "--top-k", "0"],
        str![[r#"
error[usage]: `--top-k` must be 1 or above

"#]],
    );
    refused(
        &["--temperature", "1", "--top-p", "1.5"],
        str![[r#"
error[usage]: `--top-p` must be above 0 and at most 1

"#]],
    );
    refused(
        &["--temperature", "1", "--min-p", "0"],
        str![[r#"
error[usage]: `--min-p` must be above 0 and at most 1

"#]],
    );
    refused(
        &["--repetition-penalty", "0"],
        str![[r#"
error[usage]: `--repetition-penalty` must be above 0

"#]],
    );
    refused(
        &["--temperature=-1"],
        str![[r#"
error[usage]: `--temperature` must be 0 or above

"#]],
    );
}

#[test]
fn a_prompt_on_stdin_is_the_prompt() {
    let run = Run::new().with_base();
    let asked =
        run.command(&["generate", "checkpoints/tiny", "--chat", "--max-tokens", "12", "-p", "-"]);
    let output = asked.stdin("What is 3 plus 4?\n").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), self::asked(&run, &[]));
}

#[test]
fn what_only_a_chat_template_reads_is_refused_without_one() {
    let run = Run::new();
    let ask = ["generate", "nowhere", "--prompt", "x", "--template-arg", "a=1"];
    run.fails_with(
        2,
        &ask,
        str![[r#"
error[usage]: `--template-arg` changes nothing without `--chat`

"#]],
    );
}

#[test]
fn a_chat_keeps_its_turns_and_saves_them_as_a_record() {
    let run = Run::new().with_base();
    let said = |lines: &str| {
        let arguments = ["chat", "checkpoints/tiny", "--max-tokens", "12", "--device", "cpu"];
        let output = run.command(&arguments).stdin(lines.to_owned()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let question = "What is 3 plus 4?";
    let (one, _) = said(&format!("{question}\n"));
    assert_eq!(one, asked(&run, &[]), "the first turn is that of `generate --chat`");

    // The second turn sees the first, unless that was forgotten.
    let second = "What is 5 plus 1?\n";
    let read = |lines: &str| -> Vec<usize> {
        let (_, talk) = said(lines);
        let prompts = talk.lines().filter_map(|line| line.strip_prefix("prompt "));
        prompts.map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect()
    };
    let alone = read(second)[0];
    let both = read(&format!("{question}\n{second}"));
    assert!(both.len() == 2 && both[1] > both[0].max(alone) + 10, "{both:?}, {alone}");
    for forget in ["/new", "/undo"] {
        assert_eq!(read(&format!("{question}\n{forget}\n{second}"))[1], alone);
    }

    let (_, talk) = said(&format!(
        "/system Be brief.\n\"\"\"\n{question}\nAnd why?\n\"\"\"\n/save kept.jsonl\n/save\n/no\n/new x\n/exit\nx\n"
    ));
    says(
        talk,
        str![[r#"
`/help` lists commands
prompt 54 tokens, [SPEED]; 12 tokens, [SPEED] on CPU, [DEVICE]; stopped at `--max-tokens`
saved 3 messages: kept.jsonl
error[usage]: `/save` needs the name of a file
error[usage]: there is no command `/no`

hint: `/help` lists them; two slashes begin a turn with a slash
error[usage]: `/new` takes nothing more

"#]],
    );
    let kept: serde_json::Value = serde_json::from_str(&run.read("kept.jsonl")).unwrap();
    let roles: Vec<_> =
        (0..3).map(|turn| kept["messages"][turn]["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(kept["messages"][1]["content"], format!("{question}\nAnd why?"));
    run.succeeds(&["data", "tiny.toml", "--set", "data.train.0.path=kept.jsonl"]);
}

#[test]
fn a_conversation_beyond_the_context_is_said_and_goes_on() {
    let run = Run::new().with_base();
    let long = "word ".repeat(2_000);
    let command =
        run.command(&["chat", "checkpoints/tiny", "--max-tokens", "4", "--device", "cpu"]);
    let output = command.stdin(format!("{long}\nWhat is 3 plus 4?\n")).output().unwrap();
    assert!(output.status.success());
    says(
        String::from_utf8(output.stderr).unwrap(),
        str![[r#"
`/help` lists commands
error[usage]: the prompt has 6017 tokens, which is too long
  because the model takes 256 tokens, prompt and answer

hint: shorten it

hint: `/new` begins a new conversation
prompt 29 tokens, [SPEED]; 4 tokens, [SPEED] on CPU, [DEVICE]; stopped at `--max-tokens`

"#]],
    );
    assert!(!output.stdout.is_empty());
}

#[test]
fn prompts_of_a_file_are_answered_as_they_are_alone() {
    let run = Run::new().with_base();
    let questions = ["What is 3 plus 4?", "What is 5 plus 1?", "Who is it?"];
    let lines =
        questions.map(|question| serde_json::json!({ "id": question.len(), "prompt": question }));
    let lines = lines.map(|line| format!("{line}\n")).join("\n");
    run.write("prompts.jsonl", &lines);
    let many = |size: &str, more: &[&str]| {
        let ask = [
            "generate",
            "checkpoints/tiny",
            "--chat",
            "--max-tokens",
            "12",
            "--prompts",
            "prompts.jsonl",
        ];
        let made = run.succeeds(&[&ask[..], &["--batch-size", size], more].concat());
        let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        made.lines().map(read).collect::<Vec<_>>()
    };
    let made = many("2", &[]);
    assert_eq!(made.len(), 3);
    for (object, question) in made.iter().zip(questions) {
        assert_eq!((&object["id"], &object["prompt"]), (&question.len().into(), &question.into()));
        let ask =
            ["generate", "checkpoints/tiny", "--chat", "--max-tokens", "12", "--prompt", question];
        assert_eq!(format!("{}\n", object["answer"].as_str().unwrap()), run.succeeds(&ask));
        assert_eq!(object["tokens"].as_u64().unwrap() < 12, object["complete"] == true);
    }
    // Draws follow from the line, whatever is answered together.
    let hot = ["--temperature", "2"];
    assert_eq!(many("1", &hot), many("3", &hot));
    assert_ne!(many("3", &hot), made);

    let mut said = String::new();
    for wrong in ["[]", "{\"prompt\": 3}", "{\"messages\": []}", "{\"prompt\": \"\"}"] {
        run.write("wrong.jsonl", &format!("\n{wrong}\n"));
        said += &run.fails(2, &["generate", "checkpoints/tiny", "--prompts", "wrong.jsonl"]);
    }
    says(
        said,
        str![[r#"
error[usage]: a prompt is no JSON object
  at wrong.jsonl:2
  because invalid type: sequence, expected a map at line 1 column 0
error[usage]: a string `prompt`, or a list `messages`, is expected
  at wrong.jsonl:2
error[usage]: `messages` are a conversation
  at wrong.jsonl:2

hint: give `--chat`, too
error[usage]: the prompt is empty
  at wrong.jsonl:2

"#]],
    );
}

#[test]
fn answers_fit_a_schema_whatever_the_model_would_say() {
    let run = Run::new().with_base();
    let schema = serde_json::json!({"type": "object", "additionalProperties": false,
        "required": ["sum", "sure"],
        "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99},
            "sure": {"enum": ["yes", "no"]}}});
    run.write("sum.json", &schema.to_string());
    let judge = jsonschema::validator_for(&schema).unwrap();
    let fits = |text: &str| judge.is_valid(&serde_json::from_str(text).expect(text));
    let form = ["--json-schema", "sum.json", "--max-tokens", "400"];
    fn ask<'a>(form: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [&ASK[..], form, more].concat()
    }
    // A model with random weights says anything.
    let free = asked(&run, &[]);
    assert!(serde_json::from_str::<serde_json::Value>(&free).is_err(), "{free}");
    let output = run.command(&ask(&form, &[])).output().unwrap();
    assert!(fits(&String::from_utf8(output.stdout).unwrap()));
    says(
        String::from_utf8(output.stderr).unwrap(),
        str![[r#"
prompt 29 tokens, [SPEED]; 213 tokens, [SPEED] on CPU, [DEVICE]; the JSON is whole

"#]],
    );
    for seed in ["1", "2", "3"] {
        let answer = run.succeeds(&ask(&form, &["--temperature", "3", "--seed", seed]));
        assert!(fits(&answer), "{answer}");
    }
    // Several at once, each at its own place in the schema.
    let questions = ["What is 3 plus 4?", "Who?", "What is 5 plus 1, and why is it so?"];
    let lines = questions.map(|question| format!("{}\n", serde_json::json!({"prompt": question})));
    run.write("prompts.jsonl", &lines.join(""));
    let many = ["generate", "checkpoints/tiny", "--chat", "--prompts", "prompts.jsonl"];
    let made = run.succeeds(&[&many[..], &form, &["--temperature", "2"]].concat());
    for line in made.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(fits(object["answer"].as_str().unwrap()) && object["complete"] == true, "{line}");
    }
    assert_eq!(made.lines().count(), 3);

    run.fails_with(
        2,
        &ask(&form, &["--stop", "x"]),
        str![[r#"
error: the argument '--json-schema <FILE>' cannot be used with '--stop <TEXT>'

Usage: firebrand generate --chat --prompt <TEXT> --json-schema <FILE> --max-tokens <N> <MODEL>

For more information, try '--help'.

"#]],
    );
    run.write("sum.json", "{\"type\": \"array\", \"uniqueItems\": true}");
    run.fails_with(
        2,
        &ask(&form, &[]),
        str![[r#"
error[config]: answers cannot be held to this schema
  at sum.json
  because Unimplemented keys: ["uniqueItems"]

"#]],
    );
}
