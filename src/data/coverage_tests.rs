//! The rule that nothing a record says is dropped in silence: over all shapes and containers, and
//! for the ways in which templates leave things out.

use crate::snapshots::says;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::{FormatChoice, OnUnused};
use crate::data::codec::Codec;
use crate::data::detect::detect;
use crate::data::example::{RecordId, RecordOutcome};
use crate::data::fixture::{codec, codec_with, config};
use crate::data::formats::{Content, Conversation, FORMATS, Fields};
use crate::data::made::Made;
use crate::data::maker::Maker;
use crate::data::show::pieces;
use crate::data::sources;

/// Writes content alone, and knows no calls, no tools and no reasoning.
const PLAIN: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/// Writes what the assistant says and nothing else.
const DEAF: &str = "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n\
    {{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}\
    <|im_end|>\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn made_with(codec: &Codec, name: &str, record: &Value, on_unused: Option<OnUnused>) -> Made {
    let mut config = config(&[Path::new("a.jsonl")]);
    (config.max_seq_len, config.on_unused) = (4096, on_unused);
    let format = FORMATS.iter().find(|format| format.name() == name).unwrap();
    let mut fields = record.as_object().unwrap().clone();
    let content = format.read(&mut fields).unwrap();
    let id = RecordId { file: "a.jsonl".into(), line: 1 };
    Maker::new(codec, &config).make(content, fields, &id).unwrap()
}

/// Why the record is refused; empty where it is not.
fn refusal(template: &str, record: &Value) -> String {
    let made = made_with(&codec_with(template), "messages", record, None);
    match made.outcome {
        RecordOutcome::Bad(reason) => reason,
        _ => String::new(),
    }
}

/// What is trained on of a record, and what is said of it.
fn targets(
    template: &str,
    record: &Value,
    on_unused: Option<OnUnused>,
) -> (Vec<String>, Vec<String>) {
    let codec = codec_with(template);
    let made = made_with(&codec, "messages", record, on_unused);
    let said = made.unused.iter().map(|unused| unused.phrase().into_owned()).collect();
    let example = match made.outcome {
        RecordOutcome::Whole(example) => example,
        RecordOutcome::NothingToLearn => return (Vec::new(), said),
        other => panic!("{other:?}"),
    };
    let pieces = pieces(&codec, &example).unwrap();
    (pieces.into_iter().filter(|piece| piece.target).map(|piece| piece.text).collect(), said)
}

fn call(arguments: Value) -> Value {
    json!({"type": "function", "function": {"name": "weather", "arguments": arguments}})
}

fn with_call(content: Value, arguments: Value) -> Value {
    json!({"messages": [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {"role": "assistant", "content": content, "tool_calls": [call(arguments)]},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "It rains."}
    ]})
}

#[test]
fn calls_that_a_template_does_not_write_are_refused() {
    let record = with_call(Value::Null, json!({"city": "Oslo"}));
    let reason = refusal(PLAIN, &record);
    says(&reason, snapbox::str!["the chat template does not write tool calls (`weather`)"]);
    // The name stands in what is said, the call does not.
    let talking = with_call("I ask for the weather in Oslo.".into(), json!({"city": "Oslo"}));
    says(
        refusal(PLAIN, &talking),
        snapbox::str!["the chat template does not write tool calls (`weather`)"],
    );
    // Where it is only reported, the turn that says nothing else is not trained on.
    let (targets_of, said) = targets(PLAIN, &record, Some(OnUnused::Warn));
    assert_eq!(targets_of, ["It rains.<|im_end|>"]);
    assert_eq!(said, ["hold tool calls that the chat template does not write"]);
    let (targets_of, _) = targets(PLAIN, &talking, Some(OnUnused::Warn));
    assert_eq!(targets_of[0], "I ask for the weather in Oslo.<|im_end|>");
    // A part of a call is a part of what is said.
    let nameless = PLAIN.replace(
        "{{ m.content or '' }}",
        "{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}\
         {% endfor %}",
    );
    let reason = refusal(&nameless, &record);
    says(
        &reason,
        snapbox::str![
            "the chat template does not write tool calls (`weather(city=…)`), tool calls (`weather(…=Oslo)`)"
        ],
    );
}

#[test]
fn tools_that_a_template_does_not_write_are_refused() {
    let mut record = with_call(Value::Null, json!({"city": "Oslo"}));
    record["tools"] = json!([{"type": "function", "function": {
        "name": "weather",
        "description": "Tells the \"weather\".",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}
    }}]);
    let calls = "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}{% endfor %}";
    let template = PLAIN.replace("<|im_end|>", &format!("{calls}<|im_end|>"));
    // It knows calls, so it leaves the tools out by intent, and that is said.
    assert_eq!(
        targets(&template, &record, None).1,
        ["hold tools that the chat template does not write"]
    );
    let talk = json!({"messages": [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": "I look for the weather."}
    ], "tools": record["tools"]});
    assert_eq!(refusal(PLAIN, &talk), "the chat template does not write tools (`weather`)");
    let knowing =
        format!("{{% for t in tools or [] %}}{{{{ t | tojson }}}}{{% endfor %}}{template}");
    assert_eq!(refusal(&knowing, &record), "");
    // A template may say less of a tool than its parameters, and that is said.
    let naming = "{% for t in tools or [] %}{{ t.function.name }}: {{ t.function.description }}\
                  {% endfor %}";
    record["tools"][0]["function"]["parameters"]["properties"]["unheard_of"] = json!({});
    let (_, said) = targets(&format!("{naming}{template}"), &record, None);
    assert_eq!(said, ["hold parameters of tools that the chat template does not write"]);
}

#[test]
fn arguments_are_handed_over_in_the_form_that_the_template_takes() {
    let body = |form: &str| {
        format!(
            "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content or '' }}}}\
             {{% for c in m.tool_calls or [] %}}<call>{{{{ c.function.name }}}} {form}\
             {{% endfor %}}<|im_end|>\n{{% endfor %}}\
             {{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
        )
    };
    let joined = body("{{ '' + c.function.arguments }}");
    let printed = body("{{ c.function.arguments }}");
    let json = body("{{ c.function.arguments | tojson }}");
    let walked = body("{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}");
    let text = json!("{\"city\":  \"Oslo\"}");
    let object = json!({"city": "Oslo"});
    for (template, given, wanted) in [
        (&joined, &text, "<call>weather {\"city\":  \"Oslo\"}"),
        (&joined, &object, "<call>weather {\"city\": \"Oslo\"}"),
        (&printed, &text, "<call>weather {\"city\":  \"Oslo\"}"),
        (&printed, &object, "<call>weather {\"city\": \"Oslo\"}"),
        (&json, &text, "<call>weather {\"city\": \"Oslo\"}"),
        (&json, &object, "<call>weather {\"city\": \"Oslo\"}"),
        (&walked, &text, "<call>weather city=Oslo;"),
        (&walked, &object, "<call>weather city=Oslo;"),
    ] {
        let (found, said) = targets(template, &with_call(Value::Null, given.clone()), None);
        assert_eq!(found[0], format!("{wanted}<|im_end|>"), "{template}");
        assert!(said.is_empty(), "{said:?}");
    }
}

#[test]
fn integers_beyond_64_bits_keep_their_digits() {
    let digits = "123456789012345678901234567890";
    let given = format!("{{\"id\": {digits}, \"list\": [-{digits}]}}");
    let object = crate::files::parse_exact_json(given.as_bytes()).unwrap();
    let calls = |form: &str| {
        let call =
            format!("{{% for c in m.tool_calls or [] %}}<call>{form}{{% endfor %}}<|im_end|>");
        PLAIN.replace("<|im_end|>", &call)
    };
    for form in ["{{ c.function | tojson }}", "{{ c.function.name + c.function.arguments }}"] {
        for arguments in [object.clone(), given.clone().into()] {
            let (found, _) = targets(&calls(form), &with_call(Value::Null, arguments), None);
            assert!(found[0].contains(&given), "{form}: {found:?}");
        }
    }
    let record = json!({"messages": [{"role": "user", "content": object["id"]}]});
    let format = FORMATS.iter().find(|format| format.name() == "messages").unwrap();
    let reason = format.read(&mut record.as_object().unwrap().clone()).unwrap_err();
    says(
        &reason,
        snapbox::str![
            "message 1: `content` must be a string or a list of parts, a number was found"
        ],
    );
}

#[test]
fn null_stays_null_where_a_template_asks_for_it() {
    let asking = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {% if m.content is none %}{% for c in m.tool_calls %}<call>{{ c.function | tojson }}\
        {% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let (targets_of, _) = targets(asking, &with_call(Value::Null, json!({"city": "Oslo"})), None);
    assert!(targets_of[0].starts_with("<call>{\"name\": \"weather\""), "{targets_of:?}");
    let (empty, _) = targets(asking, &with_call("".into(), json!({"city": "Oslo"})), None);
    assert_eq!(empty, targets_of);
    // Where it would be printed as a word, or cannot be joined, it is the text that it means.
    for written in ["{{ m.content }}", "{{ '' + m.content }}"] {
        let calls = "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}{% endfor %}";
        let template = PLAIN.replace("{{ m.content or '' }}", &format!("{written}{calls}"));
        let (found, _) = targets(&template, &with_call(Value::Null, json!({"city": "Oslo"})), None);
        assert!(found[0].starts_with("<call>{\"name\": \"weather\""), "{found:?}");
    }
}

#[test]
fn parts_go_to_templates_that_take_them_and_are_joined_for_others() {
    let record = json!({"messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "Name "},
            {"type": "text", "text": "one."}
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": "wren"}]}
    ]});
    let taking = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {% for p in m.content %}<part>{{ p.text }}{% endfor %}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    assert_eq!(targets(taking, &record, None).0, ["<part>wren<|im_end|>"]);
    // Templates of models that also see may take nothing but parts.
    let seeing = taking.replace(
        "{% for p in m.content %}<part>{{ p.text }}{% endfor %}",
        "\
        {% for p in m.content %}{% if p['type'] == 'text' %}{{ p.text }}{% endif %}{% endfor %}",
    );
    let plain = json!({"messages": [
        {"role": "user", "content": "Name one."}, {"role": "assistant", "content": "wren"}
    ]});
    assert_eq!(targets(&seeing, &plain, None).0, ["wren<|im_end|>"]);
    for template in [PLAIN, &PLAIN.replace("m.content or ''", "'' + m.content")] {
        assert_eq!(targets(template, &record, None).0, ["wren<|im_end|>"], "{template}");
    }
}

#[test]
fn what_stands_there_by_accident_is_not_written() {
    for content in ["user", "a", "<|im_start|>", "assistant"] {
        let record = json!({"messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": "a user"}
        ]});
        let silent =
            PLAIN.replace("{{ m.content or '' }}", "{{ m.content if m.role == 'assistant' }}");
        assert!(refusal(&silent, &record).contains(&format!("content (`{content}`)")), "{content}");
        assert_eq!(refusal(PLAIN, &record), "", "{content}");
    }
}

#[test]
fn system_texts_and_roles_that_a_template_does_not_know_are_refused() {
    let template = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<|im_start|>\
        {{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    for role in ["system", "developer"] {
        let record = json!({"messages": [
            {"role": role, "content": "Be brief and kind to all who ask."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Ho"}
        ]});
        let reason = refusal(template, &record);
        assert_eq!(
            reason,
            "the chat template does not write a system text (`Be brief and kind to all who ask.`)"
        );
        assert_eq!(refusal(PLAIN, &record), "");
    }
}

#[test]
fn reasoning_that_is_not_written_is_reported() {
    let record = json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho", "reasoning": "They greet me, and so do I."}
    ]});
    let (targets_of, said) = targets(PLAIN, &record, None);
    assert_eq!(targets_of, ["Ho<|im_end|>"]);
    assert_eq!(said, ["hold reasoning that the chat template does not write"]);
    let reason =
        match made_with(&codec_with(PLAIN), "messages", &record, Some(OnUnused::Error)).outcome {
            RecordOutcome::Bad(reason) => reason,
            other => panic!("{other:?}"),
        };
    says(
        &reason,
        snapbox::str!["the chat template does not write reasoning (`They greet me, and so do I.`)"],
    );
    let thinking = PLAIN.replace("{{ m.content", "{{ m.reasoning_content }}{{ m.content");
    let (targets_of, said) = targets(&thinking, &record, None);
    assert_eq!(
        (targets_of[0].as_str(), said.len()),
        ("They greet me, and so do I.Ho<|im_end|>", 0)
    );
    // The reasoning of earlier turns is left out by templates that are meant to do so.
    let record = json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nThey greet me.\n</think>\n\nHo"}
    ]});
    let split = PLAIN.replace("m.content or ''", "m.content.split('</think>')[-1].lstrip('\\n')");
    let (targets_of, said) = targets(&split, &record, None);
    assert_eq!(targets_of, ["Ho<|im_end|>"]);
    assert_eq!(said, ["hold reasoning that the chat template does not write"]);
    assert!(targets(PLAIN, &record, None).1.is_empty());
}

#[test]
fn other_keys_of_messages_and_records_are_reported() {
    let record = json!({"id": 7, "source": "x", "messages": [
        {"role": "user", "content": "Hi", "name": "Ada"},
        {"role": "assistant", "content": "Ho", "rating": 5}
    ], "chat_template_kwargs": {"enable_thinking": false}});
    let (_, said) = targets(PLAIN, &record, None);
    assert_eq!(
        said,
        [
            "`id`",
            "`source`",
            "hold `name` of messages that the chat template does not write",
            "hold `rating` of messages that the chat template does not write",
            "hold the template argument `enable_thinking` that the chat template does not ask for",
        ]
    );
    let asking = PLAIN.replace("{{ m.role }}", "{{ m.role }} {{ m.name }} {{ enable_thinking }}");
    let (_, said) = targets(&asking, &record, None);
    assert_eq!(said[2..], ["hold `rating` of messages that the chat template does not write"]);
}

#[test]
fn what_a_template_changes_is_written() {
    let record = json!({"messages": [
        {"role": "user", "content": "say it in\nsmall letters, ü"},
        {"role": "assistant", "content": " well \n"}
    ]});
    for change in ["m.content | upper", "m.content | tojson(ensure_ascii=true)", "m.content | trim"]
    {
        let template = PLAIN.replace("m.content or ''", change);
        assert_eq!(refusal(&template, &record), "", "{change}");
    }
}

#[test]
fn a_turn_that_is_no_target_is_not_learnt() {
    let record = json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho", "weight": 0},
        {"role": "user", "content": "Hm"},
        {"role": "assistant", "content": "Ha", "weight": 1}
    ]});
    assert_eq!(targets(PLAIN, &record, None).0, ["Ha<|im_end|>"]);
}

#[test]
fn shapes_that_know_no_system_text_say_so() {
    let mut messages = String::new();
    for (name, record) in [
        ("completion", json!({"prompt": "a", "completion": "b", "system": "s"})),
        ("text", json!({"text": "a", "history": [["b", "c"]]})),
    ] {
        let made = made_with(&codec(), name, &record, None);
        let RecordOutcome::Bad(reason) = made.outcome else { panic!("{name}") };
        messages += &format!("{name}: {reason}\n");
        assert!(made.lossy);
    }
    says(
        messages,
        snapbox::str![[r#"
completion: this shape does not read `system`
text: this shape does not read `history`

"#]],
    );
}

fn contents(path: &Path) -> Vec<(Content, Fields)> {
    let records = sources::open(path).unwrap().next_batch().unwrap();
    let choice = detect(path, &records, FormatChoice::Auto).unwrap().unwrap();
    let read = |record: sources::Record| {
        let mut fields = record.content.unwrap();
        (choice.format.read(&mut fields).unwrap(), fields)
    };
    records.into_iter().map(read).collect()
}

/// The data sets of the repository, and the same records in other containers.
fn files(scratch: &Path) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = ["messages", "tools", "sharegpt", "alpaca", "preference"]
        .map(|name| root.join(format!("datasets/{name}.jsonl")))
        .to_vec();
    let containers = ["messages.json", "messages.jsonl.gz", "messages.parquet", "sharegpt.parquet"];
    files.extend(containers.map(|name| root.join("tests/fixtures/containers").join(name)));
    let cell = |text: String| format!("\"{}\"", text.replace('"', "\"\""));
    for (ending, delimiter) in [("csv", ","), ("tsv", "\t")] {
        let mut table = format!("tools{delimiter}messages\n");
        for line in std::fs::read_to_string(&files[1]).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
            let cells = ["tools", "messages"].map(|key| cell(text(&record[key])));
            table += &(cells.join(delimiter) + "\n");
        }
        files.push(scratch.join(format!("table.{ending}")));
        std::fs::write(files.last().unwrap(), table).unwrap();
    }
    files
}

#[test]
fn the_rule_holds_in_all_shapes_and_containers() {
    let scratch = tempfile::tempdir().unwrap();
    let (codec, deaf) = (codec(), codec_with(DEAF));
    let mut count = 0;
    for path in files(scratch.path()) {
        for (content, left) in contents(&path) {
            let conversations: Vec<Conversation> = match content {
                Content::Chat(conversation) => vec![conversation],
                Content::Preference { chosen, rejected } => vec![chosen, rejected],
                other => panic!("{other:?}"),
            };
            for conversation in conversations {
                let told = codec
                    .chat_template()
                    .unwrap()
                    .render(&[&conversation], true)
                    .unwrap()
                    .remove(0)
                    .unwrap();
                assert!(told.unused.is_empty(), "{:?} {path:?}: {conversation:?}", told.unused);
                let told = deaf
                    .chat_template()
                    .unwrap()
                    .render(&[&conversation], true)
                    .unwrap()
                    .remove(0)
                    .unwrap();
                let missing = told.unused.iter().filter(|unused| unused.what == "content").count();
                let asked = |m: &&Value| m["role"] == "user" || m["role"] == "tool";
                let asked = conversation.messages.iter().filter(asked).count();
                assert_eq!(missing, asked, "{path:?}: {:?} of {conversation:?}", told.unused);
                count += 1;
            }
            assert!(left.is_empty(), "{left:?}");
        }
    }
    assert!(count > 100, "{count}");
}
