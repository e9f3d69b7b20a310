//! Templates as Jinja2 in transformers renders them, and hostile ones.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::snapshots::says;

fn turns(messages: serde_json::Value) -> Turns {
    let messages = messages.as_array().unwrap().clone();
    Turns::new(&Conversation { messages, ..Conversation::default() })
}

fn try_render(source: &str) -> Result<String, String> {
    let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let template = ChatTemplate::new(source, "t.jinja", special).unwrap();
    let value = json!({
        "role": "user",
        "name": "<a> & 'b' \"c\"",
        "list": [1, 2.5, 1e20, 1e-7, true, null, "é🎉\n\u{1}"],
        "empty": {},
        "none": []
    });
    template.render(&turns(json!([value])), 1, true)
}

fn render(source: &str) -> String {
    try_render(&format!("{{% set x = messages[0] %}}{source}")).unwrap()
}

/// Expectations are what Python's `json.dumps` writes, as transformers calls it.
#[test]
fn tojson_writes_what_python_writes() {
    assert_eq!(
        render("{{ x | tojson }}"),
        "{\"role\": \"user\", \"name\": \"<a> & 'b' \\\"c\\\"\", \"list\": [1, 2.5, 1e+20, 1e-07, \
         true, null, \"é🎉\\n\\u0001\"], \"empty\": {}, \"none\": []}"
    );
    assert_eq!(
        render("{{ x.list[:3] | tojson(indent=2) }}{{ {'a': {'b': []}} | tojson(indent=1) }}"),
        "[\n  1,\n  2.5,\n  1e+20\n]{\n \"a\": {\n  \"b\": []\n }\n}"
    );
    assert_eq!(
        render("{{ x.list[-1:] | tojson(ensure_ascii=true) }}"),
        "[\"\\u00e9\\ud83c\\udf89\\n\\u0001\"]"
    );
    assert_eq!(
        render("{{ {'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':'), sort_keys=true) }}"),
        "{\"a\":[1,2],\"b\":1}"
    );
    says(
        try_render("{{ missing | tojson }}").unwrap_err(),
        snapbox::str!["an undefined value cannot be written as JSON (line 1 of the template)"],
    );
    assert!(try_render("{{ messages | tojson(colour=1) }}").is_err());
}

/// Expectations are what Jinja2 writes.
#[test]
fn values_print_as_in_python() {
    assert_eq!(
        render("{{ true }} {{ none }} {{ x.list[1:6] }} {{ {'a': 'it\\'s'} }} {{ missing }}|"),
        "True None [2.5, 1e+20, 1e-07, True, None] {'a': \"it's\"} |"
    );
    assert_eq!(
        render("{{ 1.0 }} {{ 1e16 }} {{ 12345.678 }} {{ 7 / 2 }}"),
        "1.0 1e+16 12345.678 3.5"
    );
    assert_eq!(render("{{ [1, 'b'] | string }}{{ 'a,b'.split(',') }}"), "[1, 'b']['a', 'b']");
    assert_eq!(render("{{ 'Hello'.removeprefix('He') }}{{ 'a.b'.removesuffix('.b') }}"), "lloa");
    assert_eq!(
        render("{{ ' x '.strip() }}{{ x.get('role') }}{{ [1, 2, 3][::-1] }}"),
        "xuser[3, 2, 1]"
    );
}

#[test]
fn blocks_and_loops_are_those_of_transformers() {
    assert_eq!(try_render("  {% if true %}\n  a\n  {% endif %}\nb\n").unwrap(), "  a\nb");
    let source = "{% for m in [1, 2, 3, 4] %}{% if m == 2 %}{% continue %}{% endif %}\
                  {% if m == 4 %}{% break %}{% endif %}{{ m }}{% endfor %}";
    assert_eq!(try_render(source).unwrap(), "13");
    assert_eq!(
        render("{{ bos_token }}{{ tools is none }}{{ add_generation_prompt }}"),
        "<s>TrueTrue"
    );
}

#[test]
fn generation_marks_write_nothing() {
    let source = "{% for m in messages %}\n  {%- generation -%}  {{ m.role }} \
        {% endgeneration %}\n.{% endfor %}";
    assert_eq!(try_render(source).unwrap(), "user .");
    assert_eq!(try_render("{% set generation = 1 %}{{ generation }}").unwrap(), "1");
}

#[test]
fn the_template_can_refuse_and_the_date_stands_still() {
    let reason = try_render("\n{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert_eq!(reason, "roles must alternate (line 2 of the template)");
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}"), "26 Jul 2024");
    assert!(try_render("{{ strftime_now('%Q%') }}").is_err());
}

#[test]
fn hostile_templates_end() {
    let long = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    says(
        try_render(long).unwrap_err(),
        snapbox::str!["it runs for too long (line 1 of the template)"],
    );
    let wide = "{% set a = 'x' * 50000000 %}{% for i in range(99) %}{{ a }}{% endfor %}";
    says(try_render(wide).unwrap_err(), snapbox::str!["it writes more than 134217728 bytes"]);
    let deep = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(try_render(deep).is_err());
    let itself = "{% include 'chat_template' %}";
    assert!(try_render(itself).is_err());
    for file in ["{% include '/etc/passwd' %}", "{% import 'a.jinja' as a %}", "{% extends 'b' %}"]
    {
        assert!(try_render(file).is_err(), "{file}");
    }
}

#[test]
fn a_broken_template_names_its_line() {
    let error = ChatTemplate::new("a\n{% if %}", "dir/t.jinja", BTreeMap::new()).unwrap_err();
    let error = error.to_string();
    says(
        &error,
        snapbox::str![[r#"
error[template]: the chat template is not valid Jinja
  at dir/t.jinja:2:1
  because unexpected end of block
"#]],
    );
}

#[test]
fn the_template_is_found_where_models_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let find = |given: Option<&Path>| {
        let found = Templates::find(folder.path(), given);
        found.map(|found| found.default.map(|template| template.source))
    };
    assert_eq!(find(None).unwrap(), None);
    let config = folder.path().join("tokenizer_config.json");
    let named = json!([{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]);
    for (value, expected) in [(json!("s"), "s"), (named, "d")] {
        std::fs::write(&config, json!({ "chat_template": value }).to_string()).unwrap();
        assert_eq!(find(None).unwrap().unwrap(), expected);
    }
    std::fs::write(&config, r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#).unwrap();
    says(
        find(None).unwrap_err(),
        snapbox::str![[r#"
error[template]: `chat_template` is neither a string nor a list with `default`
  at [FOLDER]/tokenizer_config.json

hint: give the template to use as `data.chat_template`
"#]],
    );
    std::fs::write(folder.path().join("chat_template.jinja"), "j").unwrap();
    assert_eq!(find(None).unwrap().unwrap(), "j");
    let given = folder.path().join("own.jinja");
    says(
        find(Some(&given)).unwrap_err(),
        snapbox::str![[r#"
error[file]: cannot read the file
  at [FOLDER]/own.jinja
  because No such file or directory (os error 2)
"#]],
    );
    std::fs::write(&given, "g").unwrap();
    assert_eq!(find(Some(&given)).unwrap().unwrap(), "g");
}

#[test]
fn values_of_records_are_written_as_the_filter_writes_them() {
    let value = json!({
        "b": [1, -7, 18_446_744_073_709_551_615_u64, 0.1, 1e300, -2.5e-7, 1e16, 123_456.0, -0.0],
        "a\"\u{fc}": { "true": true, "null": null, "empty": [[], {}, ""] },
        "\u{7f}\n": "\u{1f389}\\",
        "": "\u{0}\u{1f}\u{2028} </script>",
    });
    let message = json!({ "role": "user", "content": "a", "value": value });
    let conversation = Conversation { messages: vec![message], ..Conversation::default() };
    let plain = json::JsonStyle::default();
    let lines = json::JsonStyle { indent: Some("  ".into()), item: ",".into(), ..plain.clone() };
    let odd = json::JsonStyle { ascii: true, sort: true, ..lines.clone() };
    for (arguments, style) in
        [("", plain), ("indent=2", lines), ("indent=2, ensure_ascii=true, sort_keys=true", odd)]
    {
        let source = format!("{{{{ messages[0].value | tojson({arguments}) }}}}");
        let template = ChatTemplate::new(&source, "t", BTreeMap::new()).unwrap();
        let written = template.render(&Turns::new(&conversation), 1, false).unwrap();
        let mut out = String::new();
        json::write_record(&value, &style, 0, &mut out);
        assert_eq!(out, written, "{arguments}");
    }
}
