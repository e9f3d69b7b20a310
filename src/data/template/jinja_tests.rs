//! Small templates of our own give what Jinja2 gives in transformers. What that is was noted by
//! `tests/reference/templates.py --cases`, with transformers 5.24.0 and Jinja2 3.1.6.

use serde_json::Value as Json;

use super::*;

const CASES: &str = include_str!("../../../tests/reference/templates.json");

fn special() -> BTreeMap<String, String> {
    [("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "<pad>"), ("unk_token", "<unk>")]
        .map(|(name, token)| (name.to_owned(), token.to_owned()))
        .into()
}

#[test]
fn templates_give_what_jinja_gives_and_are_refused_where_it_refuses() {
    let stored: Json = serde_json::from_str(CASES).unwrap();
    let messages = stored["messages"].as_array().unwrap().clone();
    let turns = Turns::new(&Conversation { messages, ..Conversation::default() });
    let cases = stored["cases"].as_array().unwrap();
    assert!(cases.len() > 250);
    let mut wrong = Vec::new();
    for case in cases {
        let template = case["template"].as_str().unwrap();
        let source = format!("{}{template}", stored["set"].as_str().unwrap());
        let rendered = ChatTemplate::new(&source, "t.jinja", special())
            .map_err(|error| error.to_string())
            .and_then(|compiled| compiled.render(&turns, 2, false));
        let expected = case["text"].as_str();
        if rendered.as_deref().ok() != expected {
            wrong.push(format!("{template}\n    is  {rendered:?}\n    not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_name_that_is_undefined_and_printed_is_noted_for_a_whole_conversation() {
    let source = "{% for m in messages %}{{ m.role }}{{ nane }}{{ date_string|trim }}\
        {{ 'a' ~ other }}{{ m.nothing }}{{ bos_token }}{{ known|default('') }}\
        {% if never %}{{ unprinted }}{% endif %}{% endfor %}";
    let messages = vec![serde_json::json!({ "role": "user", "content": "a" })];
    let turns = Turns::new(&Conversation { messages, ..Conversation::default() });
    for watched in [true, false] {
        let template = ChatTemplate::new(source, "t.jinja", special()).unwrap();
        let template = if watched { template } else { template.unwatched() };
        take_undefined();
        template.render(&turns, 1, true).unwrap();
        assert!(take_undefined().is_empty());
        Whole::new(&template, &turns).unwrap();
        let noted: Vec<String> = take_undefined().into_iter().collect();
        assert_eq!(noted, ["date_string", "nane", "other"]);
    }
}
