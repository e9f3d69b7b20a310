//! What messages and help name is there: every option in backticks is one of the command in
//! question, or of some command where none is named.

use crate::common::says;
use snapbox::str;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs of others whose options are named in messages.
const OTHERS: [&str; 8] = [
    "openssl",
    "git",
    "cargo",
    "hf",
    "model_signing verify key",
    "vllm serve",
    "llama-cli",
    "llama-server",
];

/// The options of each command, by the shell's own completions.
fn options() -> BTreeMap<String, BTreeSet<String>> {
    let program = env!("CARGO_BIN_EXE_firebrand");
    let output = Command::new(program).args(["completions", "fish"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut options: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        let word_after = |mark: &str| {
            let rest = line.split_once(mark)?.1;
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
            Some(rest[..end.unwrap_or(rest.len())].to_owned())
        };
        let command = word_after("using_subcommand ").unwrap_or_default();
        if let Some(option) = word_after(" -l ") {
            options.entry(command).or_default().insert(option);
        }
    }
    assert!(options.len() > 20 && options["train"].contains("resume"), "{options:?}");
    options
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    found
}

/// What stands in backticks in texts and in the help of commands.
fn quoted(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    // Texts that go on in the next line, and help that does.
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let mut joined = String::new();
    for line in lines {
        match (line.strip_prefix("///"), line.strip_suffix('\\')) {
            (Some(help), _) => joined += help,
            (_, Some(_)) if line.starts_with("//") => {}
            (_, Some(open)) => joined += open,
            _ if line.starts_with("//") => {}
            _ => {
                joined += line;
                joined.push('\n');
            }
        }
    }
    let parts = joined.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    parts.map(str::to_owned).collect()
}

/// Names of options in a text.
fn named(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "=[](),\"'|".contains(c));
    let names = words.filter_map(|word| word.strip_prefix("--"));
    let plain = |name: &&str| name.starts_with(|c: char| c.is_ascii_lowercase());
    names.filter(plain).map(str::to_owned).collect()
}

/// The options that a source names and no command has.
fn wrong(source: &str, options: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for part in quoted(source) {
        if OTHERS.iter().any(|program| part.contains(&format!("{program} "))) {
            continue;
        }
        let command = part.strip_prefix("firebrand ").and_then(|rest| rest.split(' ').next());
        let known = |option: &String| match command.and_then(|command| options.get(command)) {
            Some(own) => own.contains(option),
            None => options.values().any(|own| own.contains(option)),
        };
        let unknown = named(&part).into_iter().filter(|option| !known(option));
        wrong.extend(unknown.map(|option| format!("`{part}` names `--{option}`")));
    }
    wrong
}

#[test]
fn every_option_that_a_message_names_exists() {
    let options = options();
    let mut problems = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = wrong(&text, &options);
        problems.extend(found.into_iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    // And those that do not are found.
    let hints = "error.hint(\"name it with `--baze DIR`\")\n\
                 .hint(\"`firebrand gate --policy P \\\n    --base DIR` does\")\n\
                 /// Help that says `--resume` and `firebrand train --resume never`\n";
    let found = wrong(hints, &options);
    assert_eq!(found.len(), 2, "{found:?}");
    says(&found[0], str!["`--baze DIR` names `--baze`"]);
    says(&found[1], str!["`firebrand gate --policy P --base DIR` names `--base`"]);
}
