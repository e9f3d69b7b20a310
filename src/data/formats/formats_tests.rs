//! Shapes: what is read, what is refused and why.

use super::*;
use crate::snapshots::says;

fn fields(text: &str) -> Fields {
    serde_json::from_str(text).unwrap()
}

fn read(name: &str, text: &str) -> Result<Content, String> {
    let format = FORMATS.iter().find(|format| format.name() == name).unwrap();
    format.read(&mut fields(text))
}

fn chat(messages: &str) -> Content {
    let messages = serde_json::from_str(messages).unwrap();
    Content::Chat(Conversation { messages, ..Conversation::default() })
}

#[test]
fn alpaca_becomes_two_turns() {
    assert_eq!(
        read("alpaca", r#"{"instruction":"Sum","input":"1 2","output":"3","text":"x"}"#).unwrap(),
        chat(r#"[{"role":"user","content":"Sum\n\n1 2"},{"role":"assistant","content":"3"}]"#)
    );
    assert_eq!(
        read("alpaca", r#"{"instruction":"Hi","input":null,"output":"Ho"}"#).unwrap(),
        chat(r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]"#)
    );
    assert_eq!(
        read("alpaca", r#"{"instruction":"Hi","input":7,"output":"Ho"}"#).unwrap_err(),
        "`input` must be a string, a number was found"
    );
}

#[test]
fn a_missing_field_is_named_with_what_is_there() {
    assert_eq!(
        read("text", r#"{"content":"x","n":1}"#).unwrap_err(),
        "the field `text` is missing, found `content`, `n`"
    );
    says(
        read("completion", r#"{"prompt":"x"}"#).unwrap_err(),
        snapbox::str!["the field `completion` is missing, the record has no fields"],
    );
}

#[test]
fn messages_keep_what_templates_need() {
    let text = r#"{"messages":[
        {"role":"user","content":"2+2?"},
        {"role":"assistant","content":null,"tool_calls":[{"function":{"name":"add"}}]},
        {"role":"tool","name":"add","content":"4"},
        {"role":"assistant","content":"4"}],
        "tools":"[{\"name\":\"add\"}]"}"#;
    let Content::Chat(conversation) = read("messages", text).unwrap() else { panic!() };
    assert_eq!(conversation.messages.len(), 4);
    assert_eq!(conversation.messages[1]["tool_calls"][0]["function"]["name"], "add");
    assert_eq!(conversation.tools.unwrap()[0]["name"], "add");
}

#[test]
fn messages_are_checked_one_by_one() {
    let reason = |messages: &str| read("messages", messages).unwrap_err();
    assert_eq!(reason(r#"{"messages":[]}"#), "`messages` is empty");
    assert_eq!(
        reason(r#"{"messages":[{"role":"human","content":"x"}]}"#),
        "message 1 has the role `human`; known are `system`, `developer`, `user`, `assistant`, \
         `tool`, `function`, `ipython`"
    );
    assert_eq!(
        reason(r#"{"messages":[{"role":"user","content":"x"},{"role":"user"}]}"#),
        "message 2 has no `content`"
    );
    assert_eq!(
        reason(r#"{"messages":[{"role":"user","content":[{"type":"image"}]}]}"#),
        "message 1: `content` has a part of the type \"image\"; only text can be trained on"
    );
    assert_eq!(
        reason(r#"{"messages":[{"role":"user","content":"x"}],"tools":{}}"#),
        "`tools` must be a list, an object was found"
    );
    assert_eq!(
        reason(r#"{"messages":[{"from":"human","value":"x"}]}"#),
        "message 1 has no `role`, found `from`, `value`"
    );
}

#[test]
fn conversations_are_read_as_messages_when_they_have_roles() {
    let format = FORMATS[0];
    let text = r#"{"conversations":[{"role":"user","content":"x"}]}"#;
    assert!(format.recognises(&fields(text)));
    assert!(read("messages", text).is_ok());
    let other = r#"{"conversations":[{"from":"human","value":"x"}]}"#;
    assert!(!format.recognises(&fields(other)));
}

fn conversation(name: &str, text: &str) -> Conversation {
    match read(name, text).unwrap() {
        Content::Chat(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

fn recognised(text: &str) -> Vec<&'static str> {
    let record = fields(text);
    let all = FORMATS.iter().filter(|format| format.recognises(&record));
    all.map(|format| format.name()).collect()
}

#[test]
fn each_shape_is_told_from_the_others() {
    for (text, names) in [
        (r#"{"messages":[{"role":"user","content":"x"}]}"#, vec!["messages"]),
        (r#"{"messages":"[{\"role\":\"user\"}]"}"#, vec!["messages"]),
        (r#"{"messages":[{"role":"robot","content":"x"}]}"#, vec!["messages"]),
        (r#"{"messages":[]}"#, vec!["messages"]),
        (r#"{"conversations":[{"role":"user","content":"x"}]}"#, vec!["messages"]),
        (r#"{"conversations":[{"from":"human","value":"x"}]}"#, vec!["sharegpt"]),
        (r#"{"conversations":[{"role":"human","content":"x"}]}"#, vec!["sharegpt"]),
        (r#"{"conversations":" [{\"from\":\"gpt\"}]"}"#, vec!["sharegpt"]),
        (r#"{"conversations":[]}"#, vec!["sharegpt"]),
        (r#"{"prompt":"x","chosen":"a","rejected":"b"}"#, vec!["preference"]),
        (r#"{"prompt":"x","completion":"a","text":"b"}"#, vec!["completion", "text"]),
        (r#"{"messages":"[oops","conversations":7}"#, vec![]),
    ] {
        assert_eq!(recognised(text), names, "{text}");
    }
}

#[test]
fn sharegpt_speakers_become_roles() {
    let text = r#"{"system":"Be brief.","conversations":[
        {"from":"human","value":"2+2?"},
        {"from":"function_call","value":"{\"name\":\"add\",\"arguments\":{\"a\":2,\"b\":2}}"},
        {"from":"observation","value":"4"},
        {"from":"GPT","value":"4","weight":null},
        {"role":"user","content":"Thanks"}],
        "tools":"[{\"name\":\"add\"}]"}"#;
    let found = conversation("sharegpt", text);
    let expected: Vec<Value> = serde_json::from_str(
        r#"[{"role":"system","content":"Be brief."},
            {"role":"user","content":"2+2?"},
            {"role":"assistant","content":null,"tool_calls":[{"type":"function",
                "function":{"name":"add","arguments":{"a":2,"b":2}}}]},
            {"role":"tool","content":"4"},
            {"role":"assistant","content":"4"},
            {"role":"user","content":"Thanks"}]"#,
    )
    .unwrap();
    assert_eq!(found.messages, expected);
    assert_eq!(found.tools.unwrap()[0]["name"], "add");
    // A system turn of its own is not doubled, and one that differs is refused.
    let own = r#"{"system":"b","conversations":[{"from":"system","value":"b"}]}"#;
    assert_eq!(conversation("sharegpt", own).messages.len(), 1);
    let own = r#"{"system":"a","conversations":[{"from":"system","value":"b"}]}"#;
    assert_eq!(
        read("sharegpt", own).unwrap_err(),
        "`system` and the system turn say different things"
    );
}

#[test]
fn sharegpt_turns_are_checked_one_by_one() {
    let mut messages = String::new();
    for conversations in [
        r#"[{"from":"alien","value":"x"}]"#,
        r#"[{"from":7,"value":"x"}]"#,
        r#"[{"value":"x"}]"#,
        r#"[{"from":"human","text":"x"}]"#,
        r#"[{"from":"human","value":[1]}]"#,
        r#"[{"from":"human","value":"x","content":"y"}]"#,
        r#"[{"from":"function_call","value":"add 2 2"}]"#,
        r#"["hello"]"#,
        "[]",
    ] {
        let reason = read("sharegpt", &format!(r#"{{"conversations":{conversations}}}"#));
        let reason = reason.unwrap_err();
        messages += &format!("{conversations}: {reason}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
[{"from":"alien","value":"x"}]: message 1 is from `alien`; known are `human`, `user`, `gpt`, `assistant`, `chatgpt`, `bing`, `bard`, `bot`, `model`, `function_call`, `tool_call`, `system`, `developer`, `tool`, `function`, `observation`, `ipython`, `function_response`, `tool_response`
[{"from":7,"value":"x"}]: message 1: `from` must be a string, a number was found
[{"value":"x"}]: message 1 has no `from`, found `value`
[{"from":"human","text":"x"}]: message 1 has no `value`, found `from`, `text`
[{"from":"human","value":[1]}]: message 1: a part of `content` must be an object, a number was found
[{"from":"human","value":"x","content":"y"}]: message 1: `value` and `content` say different things
[{"from":"function_call","value":"add 2 2"}]: message 1: a call of a tool must be JSON text with name and arguments
["hello"]: message 1 must be an object, a string was found
[]: `conversations` is empty

"#]],
    );
}

#[test]
fn lists_in_json_text_are_read_as_lists() {
    let text = r#"{"messages":"[{\"role\":\"user\",\"content\":\"x\"}]"}"#;
    let list = r#"{"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(read("messages", text).unwrap(), read("messages", list).unwrap());
    let mut messages = String::new();
    for value in [r#""[{'role': 'user'}]""#, r#""hello""#, r#""{}""#, r#""[]""#] {
        let reason = read("messages", &format!(r#"{{"messages":{value}}}"#)).unwrap_err();
        messages += &format!("{value}: {reason}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
"[{'role': 'user'}]": `messages` is a list as Python prints it, not JSON; write it with `json.dumps`
"hello": `messages` is a string that holds no JSON list
"{}": `messages` is a string that holds an object, not a list
"[]": `messages` is empty

"#]],
    );
}

#[test]
fn tool_calls_take_one_form() {
    let message = |calls: &str| {
        let calls = format!(
            r#"{{"messages":[{{"role":"assistant","content":null,"name":null,
                "tool_calls":{calls}}}]}}"#
        );
        read("messages", &calls)
    };
    let expected = |arguments: &str| {
        chat(&format!(
            r#"[{{"role":"assistant","content":null,"tool_calls":[{{"id":"1","type":"function",
                "function":{{"name":"add","arguments":{arguments}}}}}]}}]"#
        ))
    };
    let (object, text) = (r#"{"a":1}"#, r#""{\"a\": 1}""#);
    for (calls, arguments) in [
        (r#"[{"id":"1","type":"function","function":{"name":"add","arguments":{"a":1}}}]"#, object),
        // What is text may be meant as text: the template decides.
        (
            r#"[{"id":"1","type":"function","function":{"name":"add","arguments":"{\"a\": 1}"}}]"#,
            text,
        ),
        (r#"[{"id":"1","name":"add","arguments":{"a":1}}]"#, object),
        (r#"[{"id":"1","name":"add","parameters":{"a":1,"b":null}}]"#, object),
        (r#""[{\"id\":\"1\",\"name\":\"add\",\"arguments\":\"{\\\"a\\\": 1}\"}]""#, text),
    ] {
        assert_eq!(message(calls).unwrap(), expected(arguments), "{calls}");
    }
    let Content::Chat(none) = message(r#"[{"function":{"name":"now"}}]"#).unwrap() else {
        panic!()
    };
    let call = &none.messages[0]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], serde_json::json!({}));
    let mut messages = String::new();
    for calls in [
        r#"[{"function":{"arguments":{}}}]"#,
        r#"[{"function":{"name":"add","arguments":"a=1"}}]"#,
        r#"[{"function":{"name":"add","arguments":"[1]"}}]"#,
        r#"["add"]"#,
        "7",
        "[]",
        "null",
    ] {
        let reason = message(calls).unwrap_err();
        messages += &format!("{calls}: {reason}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
[{"function":{"arguments":{}}}]: message 1: a tool call does not name its function
[{"function":{"name":"add","arguments":"a=1"}}]: message 1: the `arguments` of a tool call are not valid JSON
[{"function":{"name":"add","arguments":"[1]"}}]: message 1: the `arguments` of a tool call must be an object, a list was found
["add"]: message 1: a tool call must be an object, a string was found
7: message 1: `tool_calls` must be a list, a number was found
[]: message 1 has no `content`
null: message 1 has no `content`

"#]],
    );
}

#[test]
fn tools_are_objects_or_json_text_of_them() {
    let tools = |tools: &str| {
        let record = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"tools":{tools}}}"#);
        match read("messages", &record) {
            Ok(Content::Chat(conversation)) => Ok(conversation.tools),
            Ok(other) => panic!("{other:?}"),
            Err(reason) => Err(reason),
        }
    };
    let list = tools(r#"[{"name":"add"}]"#).unwrap();
    assert_eq!(list, Some(serde_json::json!([{"name": "add"}])));
    assert_eq!(tools(r#""[{\"name\":\"add\"}]""#).unwrap(), list);
    assert_eq!(tools(r#"["{\"name\":\"add\"}"]"#).unwrap(), list);
    for none in ["null", "[]", r#""[]""#, r#""""#] {
        assert_eq!(tools(none).unwrap(), None, "{none}");
    }
    let mut messages = String::new();
    for wrong in ["7", "[7]", r#""x""#] {
        let reason = tools(wrong).unwrap_err();
        messages += &format!("{wrong}: {reason}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
7: `tools` must be a list, a number was found
[7]: a tool in `tools` must be an object, a number was found
"x": `tools` is a string that holds no JSON list

"#]],
    );
}

#[test]
fn pairs_are_read_from_strings_lists_and_whole_conversations() {
    let pair = |text: &str| match read("preference", text).unwrap() {
        Content::Preference { chosen, rejected } => (chosen.messages, rejected.messages),
        other => panic!("{other:?}"),
    };
    let expected = pair(r#"{"prompt":"2+2?","chosen":"4","rejected":"5"}"#);
    assert_eq!(expected.0[0], serde_json::json!({"role": "user", "content": "2+2?"}));
    assert_eq!(expected.1[1], serde_json::json!({"role": "assistant", "content": "5"}));
    for text in [
        r#"{"prompt":[{"role":"user","content":"2+2?"}],
            "chosen":[{"role":"assistant","content":"4"}],
            "rejected":{"role":"assistant","content":"5"}}"#,
        r#"{"prompt":"something else",
            "chosen":[{"role":"user","content":"2+2?"},{"role":"assistant","content":"4"}],
            "rejected":[{"from":"human","value":"2+2?"},{"from":"gpt","value":"5"}]}"#,
        r#"{"prompt":"2+2?","chosen":"[{\"role\":\"assistant\",\"content\":\"4\"}]",
            "rejected":"5"}"#,
    ] {
        assert_eq!(pair(text), expected, "{text}");
    }
    // A text that begins with a bracket is a text.
    assert_eq!(pair(r#"{"prompt":"[x]","chosen":"[{","rejected":"b"}"#).0[1]["content"], "[{");
}

#[test]
fn pairs_without_question_or_answer_are_refused() {
    let mut messages = String::new();
    for text in [
        r#"{"chosen":"a","rejected":"b"}"#,
        r#"{"prompt":"x","chosen":"a"}"#,
        r#"{"prompt":"x","chosen":"a","rejected":null}"#,
        r#"{"prompt":"x","chosen":[],"rejected":"b"}"#,
        r#"{"prompt":"x","chosen":[{"role":"user","content":"x"}],"rejected":"b"}"#,
        r#"{"prompt":7,"chosen":"a","rejected":"b"}"#,
        r#"{"prompt":"x","chosen":"a","rejected":[7]}"#,
    ] {
        let reason = read("preference", text).unwrap_err();
        messages += &format!("{text}: {reason}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
{"chosen":"a","rejected":"b"}: `chosen` is a string, and there is no `prompt` before it
{"prompt":"x","chosen":"a"}: the field `rejected` is missing, found `prompt`, `chosen`
{"prompt":"x","chosen":"a","rejected":null}: the field `rejected` is missing, found `prompt`, `chosen`, `rejected`
{"prompt":"x","chosen":[],"rejected":"b"}: `chosen` must end with an answer of the assistant to something
{"prompt":"x","chosen":[{"role":"user","content":"x"}],"rejected":"b"}: `chosen` must end with an answer of the assistant to something
{"prompt":7,"chosen":"a","rejected":"b"}: `prompt` must be a string or a list, a number was found
{"prompt":"x","chosen":"a","rejected":[7]}: `rejected`: message 1 must be an object, a number was found

"#]],
    );
}

#[test]
fn a_message_may_say_that_it_is_no_target() {
    let record = |first: &str, second: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"{first}}},
                {{"role":"assistant","content":"b"{second}}}]}}"#
        )
    };
    for (key, target) in [
        (r#","weight":0"#, false),
        (r#","weight":1"#, true),
        (r#","weight":0.0"#, false),
        (r#","weight":null"#, true),
        (r#","train":false"#, false),
        (r#","training":true"#, true),
        (r#","loss":false,"weight":0"#, false),
    ] {
        let found = conversation("messages", &record("", key));
        assert_eq!(found.not_targets.contains(&1), !target, "{key}");
        // It is for the trainer, not for the template.
        assert_eq!(found.messages[1].as_object().unwrap().len(), 2, "{key}");
    }
    let mut messages = String::new();
    for (first, second) in [
        ("", r#","weight":0.5"#),
        ("", r#","train":true,"loss":0"#),
        (r#","weight":1"#, ""),
        ("", r#","train_detail":[]"#),
    ] {
        let reason = read("messages", &record(first, second)).unwrap_err();
        messages += &format!("{second}: {reason}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
,"weight":0.5: message 2: `weight` is 0.5; a message is a target (1, true) or is not (0, false)
,"train":true,"loss":0: message 2: `train` and `loss` say different things
: message 1: `weight` makes this message a target, and only messages of the assistant can be targets
,"train_detail":[]: message 2: `train_detail` makes parts of a message targets, which cannot be done here

"#]],
    );
}

#[test]
fn a_system_text_beside_the_list_is_the_first_turn() {
    let mut messages = String::new();
    for (name, rest) in [
        ("messages", r#""messages":[{"role":"user","content":"a"}]"#),
        ("messages", r#""conversations":[{"role":"user","content":"a"}]"#),
        ("sharegpt", r#""conversations":[{"from":"human","value":"a"}]"#),
        ("alpaca", r#""instruction":"a","output":"b""#),
        ("completion", r#""prompt":[{"role":"user","content":"a"}],"completion":"b""#),
    ] {
        for key in ["system", "system_prompt"] {
            let found = conversation(name, &format!(r#"{{"{key}":"s",{rest}}}"#));
            assert_eq!(found.messages[0], serde_json::json!({"role":"system","content":"s"}));
            assert_eq!(found.messages[1]["content"], "a", "{name}");
        }
        let none = conversation(name, &format!(r#"{{"system":null,{rest}}}"#));
        assert_eq!(none.messages[0]["role"], "user", "{name}");
        let reason = read(name, &format!(r#"{{"system":7,{rest}}}"#)).unwrap_err();
        messages += &format!("{name}: {reason}\n");
        let reason = read(name, &format!(r#"{{"images":["a.png"],{rest}}}"#)).unwrap_err();
        messages += &format!("{name}: {reason}\n");
    }
    says(
        messages,
        snapbox::str![[r#"
messages: `system` must be a string, a number was found
messages: the record has `images`, and only text can be trained on
messages: `system` must be a string, a number was found
messages: the record has `images`, and only text can be trained on
sharegpt: `system` must be a string, a number was found
sharegpt: the record has `images`, and only text can be trained on
alpaca: `system` must be a string, a number was found
alpaca: the record has `images`, and only text can be trained on
completion: `system` must be a string, a number was found
completion: the record has `images`, and only text can be trained on

"#]],
    );
}

#[test]
fn alpaca_knows_earlier_turns() {
    for history in [r#"[["q","a"]]"#, r#""[[\"q\",\"a\"]]""#] {
        let text = format!(r#"{{"history":{history},"instruction":"x","output":"y"}}"#);
        let expected = r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"},
            {"role":"user","content":"x"},{"role":"assistant","content":"y"}]"#;
        assert_eq!(read("alpaca", &text).unwrap(), chat(expected));
    }
    let reason = read("alpaca", r#"{"history":[["q"]],"instruction":"x","output":"y"}"#);
    says(
        reason.unwrap_err(),
        snapbox::str![
            "`history` must be a list of pairs, each a question and its answer, both strings"
        ],
    );
}

#[test]
fn the_older_form_of_calls_and_tools_is_read() {
    let text = r#"{"messages":[
        {"role":"user","content":"1+1?"},
        {"role":"assistant","content":null,"function_call":{"name":"add","arguments":"{}"}},
        {"role":"function","name":"add","content":"2"},
        {"role":"ipython","content":"2"}],
        "functions":[{"name":"add","parameters":{"type":"object","default":null}}]}"#;
    let found = conversation("messages", text);
    assert_eq!(found.messages[1]["tool_calls"][0]["function"]["name"], "add");
    assert_eq!(found.messages[2], serde_json::json!({"role":"tool","name":"add","content":"2"}));
    assert_eq!(found.messages[3]["role"], "tool");
    let tools = serde_json::json!([{"type": "function",
        "function": {"name": "add", "parameters": {"type": "object"}}}]);
    assert_eq!(found.tools, Some(tools));
    let both = text.replace("\"functions\"", "\"tools\":[{\"name\":\"x\"}],\"functions\"");
    says(
        read("messages", &both).unwrap_err(),
        snapbox::str!["the record has both `tools` and `functions`, found `functions`, `tools`"],
    );
}

#[test]
fn reasoning_has_the_names_that_templates_read() {
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let text = format!(r#"{{"messages":[{{"role":"assistant","content":"a","{key}":"r"}}]}}"#);
        let message = &conversation("messages", &text).messages[0];
        for name in ["reasoning_content", "thinking", key] {
            assert_eq!(message[name], "r", "{key}");
        }
    }
}

#[test]
fn content_may_be_parts_of_text_and_lists_may_be_columns() {
    let parts =
        r#"{"messages":[{"role":"user","content":[{"type":"input_text","text":"a"},"b"]}]}"#;
    let expected = r#"[{"role":"user","content":[{"type":"text","text":"a"},
        {"type":"text","text":"b"}]}]"#;
    assert_eq!(read("messages", parts).unwrap(), chat(expected));
    for (name, text) in [
        ("messages", r#"{"messages":{"role":["user","assistant"],"content":["a","b"]}}"#),
        ("sharegpt", r#"{"conversations":{"from":["human","gpt"],"value":["a","b"]}}"#),
    ] {
        assert_eq!(recognised(text), [name]);
        let plain = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#;
        assert_eq!(read(name, text).unwrap(), chat(plain));
    }
    let uneven = r#"{"messages":{"role":["user"],"content":["a","b"]}}"#;
    assert_eq!(
        read("messages", uneven).unwrap_err(),
        "`messages` must be a list, an object was found"
    );
    let nested = r#"{"messages":{"role":["assistant"],"content":[null],
        "tool_calls":[{"function":{"name":["f"],"arguments":["{}"]}}]}}"#;
    let found = conversation("messages", nested);
    assert_eq!(found.messages[0]["tool_calls"][0]["function"]["name"], "f");
}

#[test]
fn prompt_and_completion_may_be_conversations() {
    let text = r#"{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},
        {"role":"user","content":"c"}],"completion":[{"role":"assistant","content":"d"}]}"#;
    let found = conversation("completion", text);
    assert_eq!(found.messages.len(), 4);
    assert_eq!(found.not_targets.into_iter().collect::<Vec<_>>(), [1]);
    let mixed = r#"{"prompt":[{"role":"user","content":"a"}],"completion":"d"}"#;
    let found = conversation("completion", mixed);
    assert_eq!(found.messages[1], serde_json::json!({"role":"assistant","content":"d"}));
}

#[test]
fn what_a_record_hands_to_the_template_is_kept_by_name() {
    let record = |args: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":"a"}}],"chat_template_kwargs":{args}}}"#)
    };
    for args in [r#"{"enable_thinking":false}"#, r#""{\"enable_thinking\": false}""#] {
        let found = conversation("messages", &record(args));
        assert_eq!(found.template_args["enable_thinking"], false);
    }
    let reason = read("messages", &record(r#"{"messages":[]}"#)).unwrap_err();
    says(
        &reason,
        snapbox::str!["`chat_template_kwargs` sets `messages`, which a record must not set"],
    );
}

#[test]
fn what_is_read_is_taken_out_and_the_rest_is_left() {
    for (name, text) in [
        ("messages", r#"{"messages":[{"role":"user","content":"a"}],"tools":null,"system":""}"#),
        ("sharegpt", r#"{"conversations":[{"from":"human","value":"a"}],"functions":[]}"#),
        ("alpaca", r#"{"instruction":"a","input":null,"output":"b","history":[]}"#),
        ("completion", r#"{"prompt":"a","completion":"b"}"#),
        ("text", r#"{"text":"a"}"#),
        ("preference", r#"{"prompt":"a","chosen":"b","rejected":"c"}"#),
    ] {
        let mut record = fields(text);
        record.insert("id".to_owned(), 7.into());
        let format = FORMATS.iter().find(|format| format.name() == name).unwrap();
        format.read(&mut record).unwrap();
        assert_eq!(record.keys().collect::<Vec<_>>(), ["id"], "{name}");
    }
}
