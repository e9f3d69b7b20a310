//! Programs, scripts and Python code.

use super::kinds::{self, Class};
use super::report::Report;
use super::rules::{DISGUISED, EXECUTABLE, MODEL_CODE, PYTHON, SCRIPT};
use super::sample::Sample;

/// How names of code begin that transformers and diffusers load from a model.
const MODEL_PARTS: [&str; 9] = [
    "configuration",
    "custom_generate",
    "feature_extraction",
    "image_processing",
    "modeling",
    "pipeline",
    "processing",
    "tokenization",
    "modular",
];
const PYTHON_ENDS: [&str; 5] = ["py", "pyw", "pyx", "pyi", "ipynb"];
const SCRIPT_ENDS: [&str; 10] =
    ["sh", "bash", "zsh", "bat", "cmd", "ps1", "vbs", "js", "lua", "command"];
/// Texts for people, which may show code.
const PROSE: [&str; 6] = ["md", "rst", "html", "jinja", "jsonl", "csv"];
/// How much of a text is read.
const MAX_TEXT: usize = 64 << 10;

/// Looks at a file by its first bytes, then by its name.
pub(super) fn look(sample: &Sample, report: &mut Report) {
    if sample.is_safetensors() {
        return;
    }
    let (name, extension) = (&sample.name, sample.extension());
    if let Some(kind) = kinds::kind(&sample.head) {
        if kind.class == Class::Program {
            report.add(&EXECUTABLE, name, format!("it is {}", kind.name));
        }
        return;
    }
    let text = String::from_utf8_lossy(&sample.head[..sample.head.len().min(MAX_TEXT)]);
    let first = text.lines().next().unwrap_or_default();
    let python_end = PYTHON_ENDS.contains(&extension.as_str());
    if python_end || (first.starts_with("#!") && first.contains("python")) {
        if is_model_code(&sample.file_name()) {
            report.add(&MODEL_CODE, name, "its name is that of code that loaders run");
        } else {
            report.add(&PYTHON, name, "it is Python code");
        }
    } else if let Some(program) = first.strip_prefix("#!") {
        report.add(&SCRIPT, name, format!("it is a script for `{}`", program.trim()));
    } else if SCRIPT_ENDS.contains(&extension.as_str()) {
        report.add(&SCRIPT, name, "it is a script by its name");
    } else if !PROSE.contains(&extension.as_str()) && looks_like_python(&text) {
        report.add(&PYTHON, name, "it reads like Python code");
    }
    if first.starts_with("#!") && kinds::promises_plain(&extension) {
        report.add(&DISGUISED, name, "it is a script, which its name does not say");
    }
}

fn is_model_code(file_name: &str) -> bool {
    let stem = file_name.strip_suffix(".py").unwrap_or(file_name);
    MODEL_PARTS.iter().any(|part| {
        let rest = stem.strip_prefix(part);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

/// At least two lines that only a program has.
fn looks_like_python(text: &str) -> bool {
    let lines = text.lines().filter(|line| {
        let line = line.trim_end();
        let word = |rest: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "._, ".contains(c);
            !rest.is_empty() && rest.chars().all(good) && rest.split(' ').count() <= 4
        };
        if let Some(rest) = line.strip_prefix("import ") {
            return word(rest);
        }
        if let Some(rest) = line.strip_prefix("from ") {
            return rest.split_once(" import ").is_some_and(|(module, _)| !module.contains(' '));
        }
        let line = line.trim_start();
        let block = line.starts_with("def ") && line.contains('(');
        (block || line.starts_with("class ")) && line.ends_with(':')
    });
    lines.take(2).count() == 2
}
