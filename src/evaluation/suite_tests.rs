//! Tests of suites: what they mean, and mistakes in them.

use super::super::task::TaskKind;
use super::*;
use std::fs;

fn read(text: &str) -> Result<Suite> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("support.toml");
    let schema = folder.path().join("reply.json");
    fs::write(&schema, r#"{"type": "object", "required": ["name"]}"#).unwrap();
    fs::write(folder.path().join("broken.json"), r#"{"type": 7}"#).unwrap();
    let text = text.replace("FOLDER", &folder.path().display().to_string());
    fs::write(&path, text).unwrap();
    Suite::read(&path)
}

const LEAST: &str = "[data]\npath = \"d.jsonl\"\n";

#[test]
fn the_least_is_a_path() {
    let suite = read(LEAST).unwrap();
    assert_eq!((suite.name.as_str(), suite.seed), ("support", 42));
    assert_eq!((suite.max_seq_len, suite.max_records, suite.micro_batch_size), (1024, 0, 1));
    assert_eq!((suite.bootstrap, suite.confidence), (1000, 0.95));
    assert!(suite.slices.is_empty() && suite.tasks.is_empty());
    assert_eq!(suite.data.format, FormatChoice::Auto);
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let suite = read(
        "name = \"nightly\"\nseed = 7\nbootstrap = 10\nconfidence = 0.9\n[data]\npath = \"o/n\"\n\
         format = \"messages\"\nrevision = \"v1\"\nsubset = \"s\"\nsplit = \"test\"\n\
         columns = { messages = \"talk\" }\nmax_seq_len = 64\nmax_records = 9\n\
         micro_batch_size = 3\n\
         [[slice]]\nby = \"lang\"\nvalues = [\"en\"]\n[[slice]]\nby = \"length\"\nbands = [8, 16]\n\
         [[task]]\nname = \"same\"\nkind = \"exact\"\ncompare = \"json\"\n\
         extract = '<a>(.*)</a>'\nmax_tokens = 5\nmax_records = 2\n\
         [[task]]\nname = \"form\"\nkind = \"json_schema\"\nschema = \"FOLDER/reply.json\"\n\
         [[task]]\nname = \"says\"\nkind = \"regex\"\npattern = \"^yes\"\n\
         [[task]]\nname = \"ours\"\nkind = \"command\"\ncommand = [\"judge\", \"-x\"]\n\
         timeout_seconds = 5\n",
    )
    .unwrap();
    assert_eq!((suite.name.as_str(), suite.seed, suite.bootstrap), ("nightly", 7, 10));
    assert_eq!(suite.slices[1], SliceBy::Length(vec![8, 16]));
    assert_eq!(suite.slices[0].name(), "lang");
    assert_eq!(suite.data.split.as_deref(), Some("test"));
    let [same, form, says, ours] = &suite.tasks[..] else { panic!("four tasks") };
    assert!(matches!(same.kind, TaskKind::Exact { json: true }));
    assert_eq!((same.max_tokens, same.max_records), (5, 2));
    assert!(same.extract.is_some());
    let TaskKind::JsonSchema { schema, .. } = &form.kind else { panic!("a schema") };
    assert!(schema.is_valid(&serde_json::json!({"name": 1})));
    assert!(!schema.is_valid(&serde_json::json!({})));
    assert!(matches!(&says.kind, TaskKind::Regex(pattern) if pattern.is_match("yes, it is")));
    assert!(matches!(&ours.kind, TaskKind::Command { timeout, .. } if timeout.as_secs() == 5));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let cases = [
        ("[data]\npath = \"d\"\nfromat = \"text\"\n", "fromat", 3),
        ("[data]\npath = \"d\"\nformat = \"csv\"\n", "there is no format `csv`", 3),
        ("[data]\npath = \"d\"\nmax_seq_len = 1\n", "`max_seq_len` must be at least 2", 3),
        ("confidence = 95\n[data]\npath = \"d\"\n", "between 0 and 1", 1),
        ("[data]\npath = \"d\"\n[[slice]]\nby = \"length\"\n", "rising `bands`", 3),
        ("[data]\npath = \"d\"\n[[slice]]\nby = \"length\"\nbands = [5, 5]\n", "rising", 3),
        ("[data]\npath = \"d\"\n[[slice]]\nby = \"a\"\nbands = [5]\n", "for slices by `length`", 3),
        (
            "[data]\npath = \"d\"\n[[slice]]\nby = \"a\"\n[[slice]]\nby = \"a\"\n",
            "two slices by `a`",
            5,
        ),
        ("[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"magic\"\n", "`magic`", 5),
        ("[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"regex\"\n", "needs `pattern`", 3),
        (
            "[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"regex\"\npattern = \"(\"\n",
            "no regular expression",
            6,
        ),
        (
            "[data]\npath = \"d\"\n[[task]]\nname = \"loss\"\nkind = \"exact\"\n",
            "the name `loss` is taken",
            3,
        ),
        (
            "[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"exact\"\npattern = \"b\"\n",
            "`pattern` means nothing for the kind `exact`",
            6,
        ),
        (
            "[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"json_schema\"\n\
             schema = \"nowhere.json\"\n",
            "cannot read the schema",
            6,
        ),
        (
            "[data]\npath = \"d\"\n[[task]]\nname = \"a\"\nkind = \"json_schema\"\n\
             schema = \"FOLDER/broken.json\"\n",
            "no JSON Schema",
            6,
        ),
    ];
    for (text, part, line) in cases {
        let error = read(text).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(part), "{text}\n{shown}");
        assert!(shown.contains(&format!("support.toml:{line}:")), "{text}\n{shown}");
    }
}
