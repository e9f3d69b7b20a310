//! Every kind of document against everything that is made from its table of keys.

use std::path::{Path, PathBuf};

use super::key::{DefaultValue, Key, ValueKind};
use super::place::join;
use super::*;
use crate::cli::documents;

/// Every key of a document, those of its tables too, each with those that may decide about it.
fn all_keys(table: &'static KeyTable) -> Vec<(&'static Key, Vec<&'static Key>)> {
    let outer: Vec<&'static Key> = table.keys().collect();
    let mut all: Vec<_> = outer.iter().map(|key| (*key, outer.clone())).collect();
    for key in outer {
        if let ValueKind::Tables { keys, .. } = key.kind {
            let beside: Vec<&'static Key> = keys.iter().collect();
            all.extend(keys.iter().map(|key| (key, beside.clone())));
        }
    }
    all
}

fn committed(table: &KeyTable) -> PathBuf {
    let name = match table.kind().name {
        "config" => "schema.json".to_owned(),
        name => format!("schema-{name}.json"),
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name)
}

#[test]
fn there_are_seven_kinds_and_each_has_a_name_of_its_own() {
    let names: Vec<&str> = documents().map(|table| table.kind().name).collect();
    assert_eq!(names, ["config", "eval", "gate", "watch", "trusted-keys", "sweep", "review"]);
}

/// The committed schemas are those that this code makes.
#[test]
fn the_committed_schemas_are_up_to_date() {
    for table in documents() {
        let committed = std::fs::read_to_string(committed(table)).unwrap_or_default();
        let made = serde_json::to_string_pretty(&schema(table)).unwrap() + "\n";
        let name = table.kind().name;
        assert!(committed == made, "`firebrand schema {name}` writes configs/schema… again");
    }
}

/// What an editor says of a template with a schema is what this program says of it.
#[test]
fn templates_are_valid_to_the_program_and_to_the_schema() {
    for table in documents() {
        let text = template(table);
        let name = Path::new("a.toml");
        let document = Document::parse(table, name, text.as_bytes());
        document.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let value: serde_json::Value = toml::from_str(&text).unwrap();
        let validator = jsonschema::validator_for(&schema(table)).unwrap();
        let problems: Vec<_> = validator.iter_errors(&value).map(|it| it.to_string()).collect();
        assert!(problems.is_empty(), "{}: {problems:?}", table.kind().name);
        assert!(text.lines().all(|line| line.chars().count() <= 88), "{text}");
    }
}

/// Taking the `#` of a default away changes nothing.
#[test]
fn the_defaults_that_templates_show_hold() {
    for table in documents() {
        let text = template(table);
        let values = |text: &str| {
            let read = Document::parse(table, Path::new("a.toml"), text.as_bytes());
            read.unwrap_or_else(|error| panic!("{error}\n{text}")).values
        };
        for key in table.keys().filter(|key| !key.internal) {
            let DefaultValue::Value(toml) = key.default else { continue };
            let line = format!("\n#{} = {toml}\n", key.name());
            assert!(text.contains(&line), "{}: {line}", table.kind().name);
            let section =
                table.sections().iter().find(|it| it.keys.iter().any(|k| k.path == key.path));
            let section = section.unwrap();
            if key.only_with.is_none() && section.only_with.is_none() && !section.optional {
                assert_eq!(values(&text), values(&text.replacen(&line, &line.replace('#', ""), 1)));
            }
        }
    }
}

#[test]
fn keys_have_the_path_of_their_section_and_stand_once() {
    for table in documents() {
        for section in table.sections() {
            for key in &section.keys {
                assert_eq!(join(section.name, key.name()), key.path);
            }
        }
        let mut paths: Vec<_> = table.keys().map(|key| key.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), table.keys().count());
    }
}

#[test]
fn examples_and_defaults_are_valid_and_conditions_name_keys() {
    for (key, beside) in documents().flat_map(all_keys) {
        let node = tree::parse_own(key.example);
        if !matches!(key.kind, ValueKind::Tables { .. }) && !key.example.is_empty() {
            assert!(typed::read(key, key.path, &node).is_ok(), "{}", key.path);
        }
        if let DefaultValue::Value(toml) = key.default {
            typed::own(key, toml);
        }
        if let Some((decider, wanted)) = key.only_with {
            let decider = beside.iter().find(|key| key.path == decider).expect("it is a key");
            let names: &[&str] = match decider.kind {
                ValueKind::Choice(names) => names,
                ValueKind::Boolean => &["true", "false"],
                _ => panic!("`{}` is no choice", decider.path),
            };
            assert!(wanted.iter().all(|name| names.contains(name)), "{}", key.path);
        }
        for other in key.excludes {
            assert!(beside.iter().any(|key| key.path == *other), "{other}");
        }
        assert!(key.doc.ends_with('.') && !key.doc.contains("  "), "{}", key.path);
    }
}

/// Conditions inside the tables of an array, word for word.
#[test]
fn keys_of_a_table_are_judged_beside_each_other() {
    let table = documents().find(|table| table.kind().name == "eval").unwrap();
    let text = "[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"exact\"\npattern = \"b\"\n\
                [[task]]\nname = \"b\"\nkind = \"regex\"\n[[tsk]]\n";
    let error = Document::parse(table, Path::new("e.toml"), text.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error[config]: `task.0.pattern` means nothing when `task.0.kind` is `exact`\n  at e.toml:6:11\n\n\
         hint: remove it, or set `kind` to `regex`\n\n\
         error[config]: `task.1.pattern` is missing\n  at e.toml:7:1\n  \
         because `task.1.kind` is `regex`\n\n\
         hint: for instance `pattern = '^yes'`\n\n\
         error[config]: unknown key `tsk` at the top level\n  at e.toml:10:3\n\n\
         hint: did you mean `task`?"
    );
    let keys = documents().find(|table| table.kind().name == "trusted-keys").unwrap();
    let text = "[[key]]\nfile = \"a\"\npem = \"b\"\nreason = \"c\"\n";
    let error = Document::parse(keys, Path::new("k.toml"), text.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error[config]: `key.0.file` and `key.0.pem` exclude each other\n  at k.toml:3:7\n\n\
         hint: keep one of the two; `key.0.file` is given in line 2\n\n\
         error[config]: `key.0.reason` means nothing when `key.0.revoked` is `false`\n  at k.toml:4:10\n\n\
         hint: remove it, or set `revoked` to `true`"
    );
}

/// The conditions of a table are those of its schema.
#[test]
fn schemas_refuse_what_the_program_refuses() {
    let table = |name: &str| documents().find(|table| table.kind().name == name).unwrap();
    for (name, text) in [
        ("eval", "[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"regex\"\n"),
        (
            "eval",
            "[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"exact\"\npattern = \"\"\n",
        ),
        ("eval", "[data]\npath = \"d\"\n[[slice]]\nby = \"length\"\nbands = [1, -1]\n"),
        ("eval", "confidence = 1.0\n[data]\npath = \"d\"\n"),
        ("gate", "[eval]\nsuite = \"e\"\n[baseline]\n"),
        (
            "gate",
            "[eval]\nsuite = \"e\"\n[checks]\ntokenizer = false\nallow_tokenizer_change = true\n",
        ),
        ("gate", "[eval]\nsuite = \"e\"\n[performance]\nmetrics = []\n"),
        ("watch", "[watch]\nmax_drift = -0.1\n"),
        ("watch", "[watch]\nevery = \"1 hour\"\n"),
        ("trusted-keys", "[[key]]\nfile = \"a\"\nroles = [\"sign\"]\n"),
        ("trusted-keys", "[[key]]\nfile = \"a\"\nnot_after = \"2026-05-01\"\n"),
        ("trusted-keys", "[[key]]\nfile = \"a\"\nreason = \"b\"\n"),
    ] {
        let read = Document::parse(table(name), Path::new("a.toml"), text.as_bytes());
        assert!(read.is_err(), "{text}");
        let validator = jsonschema::validator_for(&schema(table(name))).unwrap();
        let value: serde_json::Value = toml::from_str(text).unwrap();
        assert!(!validator.is_valid(&value), "{text}");
    }
}
