//! `scan` and `lineage` as whole commands: artifacts of tiny runs, and models made to do harm.

use std::fs;
use std::path::Path;

use crate::common::{Run, repository};
use firebrand::files::Digest;
use serde_json::Value;

/// Runs a command that prints JSON; returns its exit code too.
fn json(run: &Run, arguments: &[&str]) -> (i32, Value) {
    let output = run.command(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let code = output.status.code().expect("an exit code");
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect()
}

/// `pickle.dumps` of an object whose `__reduce__` calls `os.system("id")`.
const PICKLE: &[u8] = b"cposix\nsystem\np0\n(Vid\np1\ntp2\nRp3\n.";

#[test]
fn what_firebrand_makes_scans_clean() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    for path in ["checkpoints/tiny/artifact", "checkpoints/lora/artifact", "checkpoints"] {
        let (code, report) = json(&run, &["scan", path, "--json"]);
        assert_eq!((code, rules(&report).len()), (0, 0), "{report:#}");
        assert_eq!(report["verdict"], "clean");
    }
    let text = run.succeeds(&["scan", "checkpoints/tiny/artifact"]);
    assert_eq!(text, "nothing dangerous: 10 files, 0 dangers, 0 warnings, 0 notes\n");
    for path in ["checkpoints/base-tiny/artifact", "tests/fixtures", "tests/reference/tiny"] {
        run.succeeds(&["scan", repository(path).to_str().unwrap()]);
    }
}

#[test]
fn danger_ends_with_one_and_what_cannot_be_seen_with_two() {
    let run = Run::new();
    fs::write(run.path("base/model.safetensors"), PICKLE).unwrap();
    let output = run.command(&["scan", "base"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("danger   pickle              model.safetensors: "), "{text}");
    assert!(text.lines().last().unwrap().starts_with("DANGEROUS: "), "{text}");
    let (code, report) = json(&run, &["scan", "base/model.safetensors", "--json"]);
    assert_eq!((code, report["files"].as_u64()), (1, Some(1)));

    fs::write(run.path("base/model.safetensors"), "").unwrap();
    fs::remove_file(run.path("base/model.safetensors")).unwrap();
    fs::write(run.path("base/more.json"), "{").unwrap();
    let (code, report) = json(&run, &["scan", "base", "--json"]);
    assert_eq!((code, report["verdict"].as_str()), (2, Some("incomplete")));
    let stderr = run.fails(2, &["scan", "nowhere"]);
    assert!(stderr.contains("cannot look at the path"), "{stderr}");
}

#[test]
fn sarif_says_the_same() {
    let run = Run::new();
    fs::write(run.path("base/a b.bin"), PICKLE).unwrap();
    let (code, log) = json(&run, &["scan", "base", "--sarif"]);
    assert_eq!((code, log["version"].as_str()), (1, Some("2.1.0")));
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "pickle");
    let place = &result["locations"][0]["physicalLocation"]["artifactLocation"];
    assert_eq!(place["uri"], "a%20b.bin");
}

/// The child that renders templates has limits of memory and time.
#[test]
#[cfg(unix)]
fn a_template_that_fills_the_memory_is_stopped() {
    let run = Run::new();
    run.write(
        "base/chat_template.jinja",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}\
         {% set ns.x = (ns.x ~ ns.x) | upper %}{% endfor %}{{ ns.x | length }}",
    );
    let (code, report) = json(&run, &["scan", "base", "--json"]);
    assert_eq!((code, rules(&report)), (1, vec!["template-bomb"]), "{report:#}");
}

#[test]
#[cfg(unix)]
fn links_and_pipes_are_told_and_not_opened() {
    let run = Run::new();
    std::os::unix::fs::symlink("/etc/passwd", run.path("base/notes.txt")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(run.path("base/pipe")).status();
    assert!(made.unwrap().success());
    let (code, report) = json(&run, &["scan", "base", "--json"]);
    assert_eq!((code, rules(&report)), (1, vec!["symlink", "special-file"]), "{report:#}");
}

#[test]
fn two_generations_are_a_tree_of_two_levels() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["method"].as_str()), (0, Some("lora")), "{tree:#}");
    assert_eq!(tree["signature"], "verified");
    assert_eq!(tree["datasets"][0]["notes"]["rows"], "20");
    let parent = &tree["parent"];
    assert_eq!(
        (parent["found"].as_str(), parent["signature"].as_str()),
        (Some("same"), Some("verified"))
    );
    let bytes = fs::read(run.path("checkpoints/tiny/artifact/lineage.statement.json")).unwrap();
    assert_eq!(parent["statement"], Digest::of(&bytes).to_string());
    assert_eq!(parent["family"]["method"], "from-random-weights");
    assert!(parent["family"]["parent"].is_null());

    let text = run.succeeds(&["lineage", "checkpoints/lora/artifact"]);
    assert!(
        text.contains("\n    checkpoints/tiny/artifact: the very one that was recorded\n"),
        "{text}"
    );
    assert!(text.contains("\n      made by        from-random-weights\n"), "{text}");
    // From another folder as well.
    let output = run
        .command(&["lineage", "artifact", "--json"])
        .current_dir(run.path("checkpoints/lora"))
        .output()
        .unwrap();
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("same"));
}

#[test]
fn a_merged_model_has_the_adapter_as_its_parent() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged"]);
    let (code, tree) = json(&run, &["lineage", "merged", "--json"]);
    assert_eq!((code, tree["method"].as_str()), (0, Some("merge")));
    let adapter = &tree["parent"]["family"];
    assert_eq!(adapter["method"], "lora", "{tree:#}");
    assert_eq!(adapter["parent"]["family"]["method"], "from-random-weights");
}

#[test]
fn a_parent_that_changed_or_is_gone_is_told() {
    let run = Run::new().with_base();
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let statement = run.path("checkpoints/tiny/artifact/lineage.statement.json");
    let before = fs::read(&statement).unwrap();
    fs::write(&statement, [&before[..], b"\n"].concat()).unwrap();
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["parent"]["found"].as_str()), (1, Some("other")));
    let text = run.command(&["lineage", "checkpoints/lora"]).output().unwrap().stdout;
    assert!(String::from_utf8(text).unwrap().contains("NOT the one that was recorded"));

    // The statement is the same, but another file is not.
    fs::write(&statement, &before).unwrap();
    run.write("checkpoints/tiny/artifact/config.json", "{}");
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["parent"]["family"]["signature"].as_str()), (1, Some("tampered")));

    fs::remove_dir_all(run.path("checkpoints/tiny")).unwrap();
    let (code, tree) = json(&run, &["lineage", "checkpoints/lora", "--json"]);
    assert_eq!((code, tree["parent"]["found"].as_str()), (0, Some("missing")));
}

#[test]
fn a_damaged_or_missing_lineage_is_an_error() {
    let run = Run::new().with_base();
    let path = Path::new("checkpoints/tiny/artifact/lineage.statement.json");
    let before = run.read(path.to_str().unwrap());
    for (text, said) in [
        ("{", "the lineage is damaged"),
        ("{}", "no in-toto statement"),
        (&before.replace("\"method\"", "\"way\""), "`method` is missing"),
        (&before.replace("\"digest\"", "\"hash\""), "no list of files with digests"),
        (&before.replacen('{', "{\"_type\":\"x\",", 1), "stands twice"),
    ] {
        run.write(path.to_str().unwrap(), text);
        let stderr = run.fails(2, &["lineage", "checkpoints/tiny/artifact"]);
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    fs::remove_file(run.path(path.to_str().unwrap())).unwrap();
    let stderr = run.fails(2, &["lineage", "checkpoints/tiny"]);
    assert!(stderr.contains("there is no lineage"), "{stderr}");
}
