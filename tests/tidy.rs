//! House rules that a machine can keep: the order of modules, sizes, and words with replacements.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// What must not stand in the program's code, and what to write instead.
const BANNED: [(&str, &str); 9] = [
    ("todo!(", "finish it"),
    ("unimplemented!(", "finish it"),
    ("dbg!(", "remove it"),
    ("TODO", "finish it"),
    ("FIXME", "finish it"),
    (".unwrap()", "`?`, or `expect` with the reason why it cannot fail"),
    ("println!(", "`cli::data_line` or an event"),
    ("Device::default", "`device::open`"),
    ("File::create(", "`files::write_atomic`, or `OpenOptions` with `create_new`"),
];

struct Source {
    path: PathBuf,
    /// Without `#[cfg(test)]` modules at the end of the file.
    code: String,
    is_test: bool,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = vec![root];
    let mut sources = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let in_tests = path.components().any(|part| part.as_os_str() == "tests");
        let is_test = name.ends_with("tests.rs") || name == "fixture.rs" || in_tests;
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
        sources.push(Source { path, code, is_test });
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

fn fail(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_module_uses_only_modules_declared_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    let order: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(order.len() > 15, "the declarations in lib.rs were not found");
    let rank = |module: &str| order.iter().position(|name| *name == module);
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        let inside = source.path.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let Some(own) = rank(first.trim_end_matches(".rs")) else { continue };
        for (number, line) in source.code.lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let end =
                    used.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(used.len());
                if rank(&used[..end]).is_some_and(|used| used > own) {
                    let place = format!("{}:{}", inside.display(), number + 1);
                    problems
                        .push(format!("{place} uses `{}`, which is declared below", &used[..end]));
                }
            }
        }
    }
    fail(problems);
}

#[test]
fn files_functions_and_lines_stay_readable() {
    let mut problems = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let lines: Vec<&str> = source.code.lines().collect();
        if !source.code.starts_with("//!") {
            problems.push(format!("{path} does not begin with `//!` and its job in a sentence"));
        }
        if !source.is_test && lines.len() > FILE_LINES_MAX {
            problems.push(format!("{path} has {} lines; split it", lines.len()));
        }
        let mut function: Option<(usize, String)> = None;
        for (number, line) in lines.iter().enumerate() {
            if line.chars().count() > LINE_COLUMNS_MAX {
                problems.push(format!("{path}:{} is too long", number + 1));
            }
            let text = line.trim_start();
            let indent = &line[..line.len() - text.len()];
            let begins = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn "];
            if begins.iter().any(|begin| text.starts_with(begin)) {
                function = Some((number, format!("{indent}}}")));
            }
            if let Some((first, end)) = &function
                && *line == end
            {
                if number - first > FUNCTION_LINES_MAX && !source.is_test {
                    problems.push(format!("{path}:{} is a function too long", first + 1));
                }
                function = None;
            }
        }
    }
    fail(problems);
}

#[test]
fn banned_words_have_replacements() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        for (number, line) in source.code.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for (word, instead) in BANNED {
                if code.contains(word) {
                    let place = format!("{}:{}", source.path.display(), number + 1);
                    problems.push(format!("{place}: `{word}` is banned; instead: {instead}"));
                }
            }
        }
    }
    fail(problems);
}

/// What people see goes through `terminal`, which makes text of others harmless.
#[test]
fn nothing_prints_around_the_terminal() {
    const AROUND: [&str; 9] = [
        "stdout()",
        "stderr()",
        "print!(",
        "println!(",
        "eprint",
        ".println(",
        "set_message(",
        ".with_message(",
        ".print()",
    ];
    let mut problems = Vec::new();
    let inside = |source: &&Source| source.path.ends_with("terminal.rs");
    for source in sources().iter().filter(|source| !source.is_test && !inside(source)) {
        for (number, line) in source.code.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            // Whether it is a terminal may be asked, and a child's output is no output of ours.
            let code = code.replace("stderr().is_terminal()", "").replace("Stdio::", "");
            if let Some(word) = AROUND.iter().find(|word| code.contains(*word)) {
                let place = format!("{}:{}", source.path.display(), number + 1);
                problems.push(format!("{place}: `{word}` prints; `terminal` has the ways to"));
            }
        }
    }
    fail(problems);
}

/// A folder of entries: its table, and the files in it that are no entries.
struct EntryFolder {
    folder: &'static str,
    /// What a line of the table begins with, up to the name of the file.
    line: &'static str,
    no_entries: &'static [&'static str],
}

const FOLDERS: [EntryFolder; 3] = [
    EntryFolder { folder: "engine/optimizers", line: "", no_entries: &[] },
    EntryFolder { folder: "objectives", line: "", no_entries: &[] },
    EntryFolder {
        folder: "cli",
        line: "command!(",
        // Parts of other commands, and what all of them use.
        no_entries: &[
            "checkup",
            "conformance",
            "environment",
            "internal",
            "output",
            "pairs",
            "signer",
        ],
    },
];

impl EntryFolder {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(self.folder)
    }

    /// The names of its entries: of the files, without those that are none.
    fn entries(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let names = files.filter(|path| path.extension().is_some_and(|end| end == "rs"));
        let names = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
        let known = |name: &String| name == "mod" || self.no_entries.contains(&&**name);
        names.filter(|name| !known(name) && !name.ends_with("_tests")).collect()
    }
}

#[test]
fn every_file_of_a_folder_of_entries_stands_in_its_table() {
    let mut problems = Vec::new();
    for folder in &FOLDERS {
        let table = std::fs::read_to_string(folder.path().join("mod.rs")).unwrap();
        let entries = folder.entries();
        assert!(!entries.is_empty(), "the files of {} were not found", folder.folder);
        for name in entries {
            let line = match folder.line {
                "" => format!("{name}::ENTRY"),
                begin => format!("{begin}{name})"),
            };
            if !table.contains(&line) {
                problems.push(format!("{}/{name}.rs is not in the table: `{line}`", folder.folder));
            }
        }
    }
    fail(problems);
}

/// Checkpoint, memory, plan, lineage and card ask the entry; none of them knows a name.
#[test]
fn nothing_outside_a_folder_of_entries_names_one() {
    let mut problems = Vec::new();
    for folder in &FOLDERS[..2] {
        for entry in folder.entries() {
            for source in sources().iter().filter(|source| !source.is_test) {
                if source.path.starts_with(folder.path()) {
                    continue;
                }
                for (number, line) in source.code.lines().enumerate() {
                    let words = line.split("//").next().unwrap().to_lowercase();
                    let mut words = words.split(|c: char| !c.is_alphanumeric());
                    if words.any(|word| word == entry) {
                        let place = format!("{}:{}", source.path.display(), number + 1);
                        problems.push(format!("{place} names `{entry}` of {}", folder.folder));
                    }
                }
            }
        }
    }
    fail(problems);
}
