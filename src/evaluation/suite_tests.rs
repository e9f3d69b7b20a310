//! Tests of suites: what they mean, and mistakes in them.

use super::*;
use crate::scorers::ScorerKind;
use std::fs;

fn read(text: &str) -> Result<Suite> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("support.toml");
    let schema = folder.path().join("reply.json");
    fs::write(&schema, r#"{"type": "object", "required": ["name"]}"#).unwrap();
    fs::write(folder.path().join("other.json"), "{}").unwrap();
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
    assert!(matches!(same.scorer.kind, ScorerKind::Exact { json: true }));
    assert_eq!((same.max_tokens, same.max_records), (5, 2));
    assert!(same.scorer.extract.is_some());
    let ScorerKind::JsonSchema { schema, .. } = &form.scorer.kind else { panic!("a schema") };
    assert!(schema.is_valid(&serde_json::json!({"name": 1})));
    assert!(!schema.is_valid(&serde_json::json!({})));
    assert!(
        matches!(&says.scorer.kind, ScorerKind::Regex(pattern) if pattern.is_match("yes, it is"))
    );
    assert!(
        matches!(&ours.scorer.kind, ScorerKind::Command { timeout, .. } if timeout.as_secs() == 5)
    );
}

#[test]
fn mistakes_are_told_with_their_place() {
    let task = |text: &str| format!("{LEAST}[[task]]\n{text}\n");
    let slice = |text: &str| format!("{LEAST}[[slice]]\n{text}\n");
    let cases = [
        (format!("{LEAST}fromat = \"text\"\n"), "did you mean `format`?", 3),
        (format!("{LEAST}format = \"csv\"\n"), "not `\"csv\"`", 3),
        (format!("{LEAST}max_seq_len = 1\n"), "must be an integer from 2", 3),
        (format!("confidence = 95\n{LEAST}"), "above 0 and below 1", 1),
        (slice("by = \"length\""), "needs `bands`", 3),
        (slice("by = \"length\"\nbands = [5, 5]"), "above the number before it", 5),
        (slice("by = \"a\"\nbands = [5]"), "for slices by `length`", 5),
        (slice("by = \"a\"\n[[slice]]\nby = \"a\""), "two slices by `a`", 6),
        (task("name = \"a\"\nkind = \"magic\""), "`\"magic\"`", 5),
        (task("name = \"a\"\nkind = \"regex\""), "`task.0.pattern` is missing", 3),
        (task("name = \"a\"\nkind = \"regex\"\npattern = \"(\""), "unclosed group", 6),
        (task("name = \"loss\"\nkind = \"exact\""), "the name `loss` is taken", 4),
        (
            task("name = \"a\"\nkind = \"exact\"\npattern = \"b\""),
            "`task.0.pattern` means nothing when `task.0.kind` is `exact`",
            6,
        ),
        (task("name = \"a\"\nkind = \"command\"\ncommand = []"), "`command` is empty", 6),
        (
            task("name = \"a\"\nkind = \"json_schema\"\nschema = \"nowhere.json\""),
            "cannot read the schema",
            6,
        ),
        (
            task("name = \"a\"\nkind = \"json_schema\"\nschema = \"FOLDER/broken.json\""),
            "no JSON Schema",
            6,
        ),
    ];
    for (text, part, line) in cases {
        let error = read(&text).unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains(part), "{text}\n{shown}");
        assert!(shown.contains(&format!("support.toml:{line}:")), "{text}\n{shown}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = format!(
        "{LEAST}[[slice]]\nby = \"length\"\n[[task]]\nname = \"loss\"\nkind = \"exact\"\n\
         [[task]]\nname = \"a\"\nkind = \"command\"\ncommand = []\n"
    );
    let shown = read(&text).unwrap_err().to_string();
    for (part, line) in [("`bands`", 3), ("`loss` is taken", 6), ("`command` is empty", 11)] {
        assert!(shown.contains(part) && shown.contains(&format!(".toml:{line}:")), "{shown}");
    }
}

/// No key is accepted and ignored.
#[test]
fn every_key_changes_the_suite() {
    use crate::document::key::{Key, ValueKind};
    let text = |line: String| format!("[data]\npath = \"d.jsonl\"\n{line}\n");
    let without_digest = |text: &str| {
        let suite = read(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        format!("{:?}", Suite { path: PathBuf::new(), sha256: Digest::of(b""), ..suite })
    };
    let least = without_digest(LEAST);
    for key in KEYS.keys() {
        let line = format!("{} = {}", key.path, key.example);
        let changed = match key.path {
            "data.path" => "[data]\npath = \"other\"\n".to_owned(),
            path if path.starts_with("data.") => text(format!("{} = {}", key.name(), key.example)),
            _ => format!("{line}\n{LEAST}"),
        };
        assert_ne!(without_digest(&changed), least, "{}", key.path);
    }
    let inner = |name: &str, skip: &[&str], with: &dyn Fn(&Key) -> String| {
        let ValueKind::Tables { keys, .. } = KEYS.key(name).unwrap().kind else {
            panic!("{name} is an array of tables")
        };
        for key in keys.iter().filter(|key| !skip.contains(&key.path)) {
            let entry = with(key);
            let plain = without_digest(&format!("{LEAST}[[{name}]]\n{entry}"));
            let line = match key.path {
                "schema" => "schema = \"FOLDER/reply.json\"".to_owned(),
                _ => format!("{} = {}", key.path, key.example),
            };
            let entry: String = entry
                .lines()
                .filter(|line| !line.starts_with(&format!("{} =", key.path)))
                .map(|line| format!("{line}\n"))
                .collect();
            let changed = without_digest(&format!("{LEAST}[[{name}]]\n{line}\n{entry}"));
            assert_ne!(changed, plain, "{name}.{}", key.path);
        }
    };
    inner("slice", &[], &|key| match key.path {
        "bands" => "by = \"length\"\nbands = [1]\n".to_owned(),
        _ => "by = \"a\"\n".to_owned(),
    });
    inner("task", &["kind"], &|key| match key.path {
        "pattern" => "name = \"a\"\nkind = \"regex\"\npattern = \"x\"\n".to_owned(),
        "command" | "timeout_seconds" => {
            "name = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\n".to_owned()
        }
        "run_seconds" | "run_memory" | "append_reference" => {
            "name = \"a\"\nkind = \"code\"\ncommand = [\"x\"]\n".to_owned()
        }
        "schema" => {
            "name = \"a\"\nkind = \"json_schema\"\nschema = \"FOLDER/other.json\"\n".to_owned()
        }
        _ => "name = \"a\"\nkind = \"exact\"\n".to_owned(),
    });
}
