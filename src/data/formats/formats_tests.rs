//! Shapes: what is read, what is refused and why.

use super::*;

fn fields(text: &str) -> Fields {
    serde_json::from_str(text).unwrap()
}

fn read(name: &str, text: &str) -> Result<Content, String> {
    let format = FORMATS.iter().find(|format| format.name() == name).unwrap();
    format.read(fields(text))
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
    assert!(read("completion", r#"{"prompt":"x"}"#).unwrap_err().contains("`completion`"));
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
         `tool`"
    );
    assert_eq!(
        reason(r#"{"messages":[{"role":"user","content":"x"},{"role":"user"}]}"#),
        "message 2 has no `content`"
    );
    assert_eq!(
        reason(r#"{"messages":[{"role":"user","content":[{"type":"image"}]}]}"#),
        "message 1: `content` must be a string, a list was found"
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
            {"role":"assistant","content":"","tool_calls":[{"type":"function",
                "function":{"name":"add","arguments":{"a":2,"b":2}}}]},
            {"role":"tool","content":"4"},
            {"role":"assistant","content":"4"},
            {"role":"user","content":"Thanks"}]"#,
    )
    .unwrap();
    assert_eq!(found.messages, expected);
    assert_eq!(found.tools.unwrap()[0]["name"], "add");
    // A system turn of its own is not doubled.
    let own = r#"{"system":"a","conversations":[{"from":"system","value":"b"}]}"#;
    assert_eq!(conversation("sharegpt", own).messages.len(), 1);
}

#[test]
fn sharegpt_turns_are_checked_one_by_one() {
    for (conversations, why) in [
        (r#"[{"from":"alien","value":"x"}]"#, "message 1 is from `alien`; known are `human`"),
        (r#"[{"from":7,"value":"x"}]"#, "`from` must be a string, a number was found"),
        (r#"[{"value":"x"}]"#, "message 1 has no `from`, found `value`"),
        (r#"[{"from":"human","text":"x"}]"#, "message 1 has no `value`, found `from`, `text`"),
        (r#"[{"from":"human","value":[1]}]"#, "message 1: `content` must be a string, a list"),
        (r#"[{"from":"function_call","value":"add 2 2"}]"#, "must be JSON text with name"),
        (r#"["hello"]"#, "message 1 must be an object, a string was found"),
        ("[]", "`conversations` is empty"),
    ] {
        let reason = read("sharegpt", &format!(r#"{{"conversations":{conversations}}}"#));
        let reason = reason.unwrap_err();
        assert!(reason.contains(why), "{conversations}: {reason}");
    }
}

#[test]
fn lists_in_json_text_are_read_as_lists() {
    let text = r#"{"messages":"[{\"role\":\"user\",\"content\":\"x\"}]"}"#;
    let list = r#"{"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(read("messages", text).unwrap(), read("messages", list).unwrap());
    for (value, why) in [
        (r#""[{'role': 'user'}]""#, "as Python prints it"),
        (r#""hello""#, "a string that holds no JSON list"),
        (r#""{}""#, "a string that holds an object, no list"),
        (r#""[]""#, "`messages` is empty"),
    ] {
        let reason = read("messages", &format!(r#"{{"messages":{value}}}"#)).unwrap_err();
        assert!(reason.contains(why), "{value}: {reason}");
    }
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
    let expected = r#"[{"role":"assistant","content":"","tool_calls":[
        {"id":"1","type":"function","function":{"name":"add","arguments":{"a":1}}}]}]"#;
    for calls in [
        r#"[{"id":"1","type":"function","function":{"name":"add","arguments":{"a":1}}}]"#,
        r#"[{"id":"1","type":"function","function":{"name":"add","arguments":"{\"a\": 1}"}}]"#,
        r#"[{"id":"1","name":"add","arguments":{"a":1}}]"#,
        r#""[{\"id\":\"1\",\"name\":\"add\",\"arguments\":\"{\\\"a\\\":1}\"}]""#,
    ] {
        assert_eq!(message(calls).unwrap(), chat(expected), "{calls}");
    }
    let Content::Chat(none) = message(r#"[{"function":{"name":"now"}}]"#).unwrap() else {
        panic!()
    };
    let call = &none.messages[0]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], serde_json::json!({}));
    for (calls, why) in [
        (r#"[{"function":{"arguments":{}}}]"#, "does not name its function"),
        (r#"[{"function":{"name":"add","arguments":"a=1"}}]"#, "are no JSON text"),
        (r#"[{"function":{"name":"add","arguments":"[1]"}}]"#, "an object, a list was found"),
        (r#"["add"]"#, "a tool call must be an object, a string was found"),
        ("7", "message 1: `tool_calls` must be a list, a number was found"),
        ("[]", "message 1 has no `content`"),
        ("null", "message 1 has no `content`"),
    ] {
        let reason = message(calls).unwrap_err();
        assert!(reason.contains(why), "{calls}: {reason}");
    }
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
    for (wrong, why) in [("7", "must be a list"), ("[7]", "must be an object"), (r#""x""#, "JSON")]
    {
        let reason = tools(wrong).unwrap_err();
        assert!(reason.contains(why), "{wrong}: {reason}");
    }
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
    for (text, why) in [
        (r#"{"chosen":"a","rejected":"b"}"#, "there is no `prompt` before it"),
        (r#"{"prompt":"x","chosen":"a"}"#, "the field `rejected` is missing, found `prompt`"),
        (r#"{"prompt":"x","chosen":"a","rejected":null}"#, "`rejected` is missing"),
        (r#"{"prompt":"x","chosen":[],"rejected":"b"}"#, "`chosen` must end with an answer"),
        (
            r#"{"prompt":"x","chosen":[{"role":"user","content":"x"}],"rejected":"b"}"#,
            "`chosen` must end with an answer",
        ),
        (r#"{"prompt":7,"chosen":"a","rejected":"b"}"#, "`prompt` must be a string or a list"),
        (r#"{"prompt":"x","chosen":"a","rejected":[7]}"#, "`rejected`: message 1 must be an"),
    ] {
        let reason = read("preference", text).unwrap_err();
        assert!(reason.contains(why), "{text}: {reason}");
    }
}
