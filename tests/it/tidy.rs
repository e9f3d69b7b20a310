//! House rules that a machine can keep: the order of modules, sizes, and words with replacements.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;
/// Whole messages stand there.
const TEST_COLUMNS_MAX: usize = 120;

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
        if path.extension().is_none_or(|it| it != "rs") {
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
        let mut in_snapshot = false;
        for (number, line) in lines.iter().enumerate() {
            in_snapshot = match in_snapshot {
                true => !line.starts_with("\"#"),
                false => line.ends_with("str![[r#\"") || line.ends_with("str![[r##\""),
            };
            // What the program says is as long as it is.
            let before = number.checked_sub(1).map_or("", |before| lines[before]);
            let whole = line.contains("str![\"") || line.contains("str![[r");
            let whole = whole || before.ends_with("str![") || before.ends_with("str![[");
            let most = if source.is_test { TEST_COLUMNS_MAX } else { LINE_COLUMNS_MAX };
            if !in_snapshot && !whole && line.chars().count() > most {
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

/// A message is compared whole (`says`), so that who changes one reads it, and all of it is true.
#[test]
fn messages_are_compared_whole() {
    let text = r"(error|errors|stderr|said|told|why|reason|refused|refusal|warning|notice|message)";
    let text = format!(r"\b{text}(\[\d\]|\.what|\.to_string\(\))*");
    let part = format!(r#"({text}|unwrap_err\(\)(\.to_string\(\))?|fails\(.*\))\s*\.contains\(""#);
    let part = regex::Regex::new(&part).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("src"), root.join("tests/it")];
    let mut problems = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let code = std::fs::read_to_string(&path).unwrap();
        problems.extend(part.find_iter(&code).map(|found| {
            let line = code[..found.start()].matches('\n').count() + 1;
            format!("{}:{line} asks for a part of a message", path.display())
        }));
    }
    fail(problems);
}

/// The good messages of `docs/STYLE.md` are those that the program says.
#[test]
fn the_examples_of_good_messages_are_real() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/STYLE.md")).unwrap();
    let examples = page.split("### Ten good messages").nth(1).unwrap();
    let examples = examples.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(examples.matches("# ").count(), 10);
    let (mut paths, mut all) = (vec![root.join("src"), root.join("tests/it")], String::new());
    while let Some(path) = paths.pop() {
        match path.is_dir() {
            true => {
                paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
            false => all += &std::fs::read_to_string(path).unwrap(),
        }
    }
    let lines = examples.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let missing = lines.filter(|line| !all.contains(*line));
    fail(missing.map(|line| format!("no snapshot has `{line}`")).collect());
}

/// A folder of entries: its table, and the files in it that are no entries.
struct EntryFolder {
    folder: &'static str,
    /// What a line of the table begins with, up to the name of the file.
    line: &'static str,
    no_entries: &'static [&'static str],
}

const FOLDERS: [EntryFolder; 4] = [
    EntryFolder {
        folder: "engine/optimizers",
        line: "",
        // What all of them are told, and what goes along with any.
        no_entries: &["ema", "parameter"],
    },
    EntryFolder { folder: "objectives", line: "", no_entries: &[] },
    EntryFolder {
        folder: "cli",
        line: "command!(",
        // Parts of other commands, and what all of them use.
        no_entries: &[
            "answering",
            "checkup",
            "conformance",
            "documents",
            "environment",
            "export_job", // its name has a dash
            "internal",
            "named_checkpoint",
            "notified",
            "sweep_report",
            "step_tables",
            "output",
            "pairs",
            "identity",
            "place",
            "signer",
            "weight_format",
        ],
    },
    EntryFolder { folder: "sweep/engines", line: "", no_entries: &[] },
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

/// What writes configurations names entries, as who writes one by hand does.
fn writes_configurations(path: &Path) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let of_other_tools = ["import", "export_job"].map(|folder| root.join(folder));
    of_other_tools.iter().any(|folder| path.starts_with(folder)) || path == root.join("presets.rs")
}

/// Checkpoint, memory, plan, lineage and card ask the entry; none of them knows a name.
#[test]
fn nothing_outside_a_folder_of_entries_names_one() {
    let mut problems = Vec::new();
    for folder in &FOLDERS[..2] {
        for entry in folder.entries() {
            for source in sources().iter().filter(|source| !source.is_test) {
                if source.path.starts_with(folder.path()) || writes_configurations(&source.path) {
                    continue;
                }
                for (number, line) in source.code.lines().enumerate() {
                    let words = line.split("//").next().unwrap().to_lowercase();
                    let mut words = words.split(|c: char| !c.is_alphanumeric() && c != '_');
                    let begins = format!("{entry}_");
                    if words.any(|word| word == entry || word.starts_with(&begins)) {
                        let place = format!("{}:{}", source.path.display(), number + 1);
                        problems.push(format!("{place} names `{entry}` of {}", folder.folder));
                    }
                }
            }
        }
    }
    fail(problems);
}

/// Code of a folder by the names of its files.
fn files_of(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let inside = |source: &Source| source.path.parent() == Some(root.as_path());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let files = sources().into_iter().filter(inside);
    let files: Vec<_> = files.map(|source| (name(&source.path), source.code)).collect();
    assert!(files.len() > 2, "src/{folder} was not found");
    files
}

/// A family stands in the table, or is what those of the table are made of; a block is offered by
/// its module.
#[test]
fn every_family_and_block_stands_in_its_table() {
    let mut problems = Vec::new();
    let families = files_of("model/families");
    let table = &families.iter().find(|(name, _)| name == "mod").unwrap().1;
    let is_entry = |name: &str| name != "mod" && !name.ends_with("_tests");
    for (name, _) in families.iter().filter(|(name, _)| is_entry(name)) {
        let used = |code: &String| {
            code.contains(&format!("super::{name}"))
                || code.contains(&format!("super::{{{name}"))
                || code.contains(&format!("use super::{name};"))
        };
        let helps = families.iter().any(|(other, code)| other != name && used(code));
        if !table.contains(&format!("&{name}::")) && !helps {
            problems.push(format!("src/model/families/{name}.rs stands in no table"));
        }
    }
    let blocks = files_of("model/blocks");
    let table = &blocks.iter().find(|(name, _)| name == "mod").unwrap().1;
    for (name, _) in blocks.iter().filter(|(name, _)| name != "mod") {
        if !table.contains(&format!("pub use {name}::")) {
            problems.push(format!("src/model/blocks/{name}.rs is not offered by its module"));
        }
    }
    fail(problems);
}

/// What a model is made of is known without tensors, and from its family alone: other code asks the
/// description. Formats of other programs have their own names for families.
#[test]
fn families_hold_no_arithmetic_and_no_one_else_names_them() {
    let mut problems = Vec::new();
    let mut without_tensors = files_of("model/families");
    for (folder, name) in [("model", "description"), ("model", "config"), ("ops", "options")] {
        let found = files_of(folder).into_iter().find(|(file, _)| file == name);
        without_tensors.push(found.unwrap_or_else(|| panic!("{folder}/{name}.rs is not there")));
    }
    for (name, code) in &without_tensors {
        for word in ["burn::", "Tensor<", "ops::cpu"] {
            if code.contains(word) {
                problems.push(format!("{name}.rs uses `{word}`, where plain data is enough"));
            }
        }
    }
    let types: Vec<String> = files_of("model/families")
        .iter()
        .filter_map(|(_, code)| {
            let list = code.split("fn model_types").nth(1)?.split_once("&[\"")?.1;
            Some(list.split_once("\"]")?.0.split("\", \"").map(str::to_owned).collect::<Vec<_>>())
        })
        .flatten()
        .collect();
    assert!(types.iter().any(|name| name == "llama"), "no family was found: {types:?}");
    // Devices are compared on one model, whichever it is.
    let apart = ["model/families", "artifact/exports", "gguf/", "engine/parity.rs"];
    for source in sources().iter().filter(|source| !source.is_test) {
        let path = source.path.to_str().unwrap();
        if apart.iter().any(|folder| path.contains(folder)) {
            continue;
        }
        for name in types.iter().filter(|name| source.code.contains(&format!("\"{name}\""))) {
            problems.push(format!("{path} names the family `{name}`"));
        }
    }
    fail(problems);
}

/// An adapter or a weight format is a file beside its table and a line in it, and what uses one
/// asks the table: nothing outside names an entry.
#[test]
fn adapters_and_weight_formats_stand_in_their_tables_and_only_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut problems = Vec::new();
    for (folder, table) in [("adapters", "ADAPTERS"), ("weights/formats", "WEIGHT_FORMATS")] {
        let folder = root.join(folder);
        let text = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
        let begin = text.find(&format!("pub static {table}")).expect("the table is there");
        let lines = &text[begin..begin + text[begin..].find(';').unwrap()];
        let names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| !["mod", "attach", "file_names"].contains(&name.as_str()))
            .collect();
        assert!(names.len() > 1, "the entries of {table} were not found");
        let module = folder.file_name().unwrap().to_str().unwrap();
        for name in names {
            if !lines.contains(&format!("&{name}::")) {
                problems.push(format!("{module}/{name} does not stand in {table}"));
            }
            let words = [
                format!("{module}::{name}"),
                format!("\"{name}"),
                format!("\".{name}_"),
                format!("`[{name}]`"),
            ];
            for source in sources() {
                if source.is_test
                    || source.path.starts_with(&folder)
                    || writes_configurations(&source.path)
                {
                    continue;
                }
                for (number, line) in source.code.lines().enumerate() {
                    let code = line.split("//").next().unwrap();
                    if words.iter().any(|word| code.contains(word)) {
                        let place = format!("{}:{}", source.path.display(), number + 1);
                        problems.push(format!("{place} names `{name}`, an entry of {table}"));
                    }
                }
            }
        }
    }
    fail(problems);
}

/// Tables that people read have a line for each entry.
#[test]
fn pages_list_every_entry() {
    let page = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    let [configs, families] = ["configs/README.md", "docs/families.md"].map(page);
    let optimizers = firebrand::engine::optimizers::OPTIMIZERS.iter().map(|entry| entry.name);
    let objectives = firebrand::objectives::OBJECTIVES.iter().map(|entry| entry.name);
    let types = firebrand::model::families::model_types();
    let missing = |page: &str, name: &str| {
        let in_rows = |line: &str| line.starts_with("| ") && line.contains(&format!("`{name}`"));
        (!page.lines().any(in_rows)).then(|| format!("no row of a table has `{name}`"))
    };
    let of_configs = optimizers.chain(objectives).filter_map(|name| missing(&configs, name));
    fail(of_configs.chain(types.filter_map(|name| missing(&families, name))).collect());
}
