//! What could a model directory do to whoever opens it? Looks at any, by content and not by name.
//!
//! Of each file a bounded part is read, and nothing of it is run but chat templates, whose engine
//! counts. A finding follows from one of the [`RULES`]; each concern has a file here, and
//! [`DETECTORS`] lists them.

mod archives;
mod arrays;
mod code;
mod facts;
mod json;
mod kinds;
mod member;
mod pickle;
mod report;
mod rules;
mod sample;
mod sarif;
mod templates;
mod tokenizer;
mod walk;
mod weights;
mod zip;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};

use rules::{MISSING_FILE, MODEL_CODE, TOKENIZER_SIZE};
use sample::Sample;

pub use report::{Finding, Report, Verdict, shown};
pub use rules::{RULES, Rule, Severity};
pub use sarif::log as sarif;

/// What looks at one file.
type Detector = fn(&Sample, &mut Report);

/// Everything that looks at the content of files, one after another.
static DETECTORS: &[Detector] =
    &[pickle::look, zip::look, archives::look, arrays::look, code::look];

/// What one folder's files say about each other.
#[derive(Debug, Default)]
struct Directory {
    /// `vocab_size` of `config.json`.
    vocabulary: Option<u64>,
    /// Rows of the token embedding in the weights.
    embedding_rows: Option<u64>,
    /// The largest id of `tokenizer.json`.
    largest_id: Option<u64>,
    /// What `auto_map` names.
    code: Vec<String>,
    /// Index file and shard.
    shards: Vec<(String, String)>,
    /// File and chat template.
    templates: Vec<(String, String)>,
}

/// Every folder by its name, which is empty or ends with `/`.
#[derive(Debug, Default)]
struct Folder(BTreeMap<String, Directory>);

impl Folder {
    /// The folder in which a file lies.
    fn directory(&mut self, file: &str) -> &mut Directory {
        let folder = file.rfind('/').map_or("", |end| &file[..=end]);
        self.0.entry(folder.to_owned()).or_default()
    }
}

/// Looks at a model directory or a single file. `program` is this program, in which chat templates
/// run under limits of memory and time; without it they run here, where only their instructions
/// are counted.
///
/// # Errors
/// When there is nothing at `path` that could be looked at. What could not be read of it is part
/// of the report.
pub fn scan(path: &Path, program: Option<&Path>) -> Result<Report> {
    let metadata = fs::metadata(path).context_at("cannot look at the path", path)?;
    let mut report = Report::new(path.display().to_string());
    let files = if metadata.is_dir() {
        walk::walk(path, &mut report).context_at("cannot list the folder", path)?
    } else if metadata.is_file() {
        let part = path.file_name().unwrap_or_default();
        let name = part.to_string_lossy().into_owned();
        walk::look_at_name(&name, part.to_str(), &mut report);
        // What the user names may be a link; only links that come with a model are not followed.
        let path = path.canonicalize().context_at("cannot look at the path", path)?;
        vec![walk::ScannedFile { name, path }]
    } else {
        return Err(Error::file("this is neither a folder nor a file").at(path));
    };
    let mut folder = Folder::default();
    let mut names = BTreeSet::new();
    for walk::ScannedFile { name, path } in files {
        look(&name, &path, &mut folder, &mut report);
        names.insert(name);
    }
    for (prefix, directory) in &folder.0 {
        compare(prefix, directory, &names, &mut report);
    }
    let templates = folder.0.values().flat_map(|directory| &directory.templates);
    templates::look_at_all(templates, program, &mut report);
    Ok(report.finish())
}

fn look(name: &str, path: &Path, folder: &mut Folder, report: &mut Report) {
    report.files += 1;
    let sample = match Sample::open(path, name) {
        Ok(sample) => sample,
        Err(error) => return report.unread(name, error),
    };
    for detector in DETECTORS {
        detector(&sample, report);
    }
    if let Some(rows) = weights::look(&sample, report) {
        let known = &mut folder.directory(name).embedding_rows;
        *known = Some(known.map_or(rows, |known| known.min(rows)));
    }
    json::look(&sample, folder, report);
    let is_template = sample.extension() == "jinja" && kinds::kind(&sample.head).is_none();
    if is_template {
        match sample.whole(templates::MAX_TEMPLATE).map(|bytes| bytes.map(String::from_utf8)) {
            Ok(Some(Ok(text))) => {
                folder.directory(name).templates.push((name.to_owned(), text));
            }
            Ok(Some(Err(_))) => report.unread(name, "the chat template is not text"),
            Ok(None) => {
                let detail = format!("the chat template has {} bytes", sample.size);
                report.add(&rules::TEMPLATE_BOMB, name, detail);
            }
            Err(error) => report.unread(name, error),
        }
    }
}

/// What the files of a folder say about each other.
fn compare(prefix: &str, directory: &Directory, names: &BTreeSet<String>, report: &mut Report) {
    let here = |name: &str| names.contains(&format!("{prefix}{name}"));
    if let (Some(largest), Some(size)) = (directory.largest_id, directory.vocabulary)
        && largest >= size
    {
        let detail = format!("its largest id is {largest}, but `vocab_size` is {size}");
        report.add(&TOKENIZER_SIZE, &format!("{prefix}tokenizer.json"), detail);
    }
    if let (Some(largest), Some(rows)) = (directory.largest_id, directory.embedding_rows)
        && largest >= rows
    {
        let detail = format!("its largest id is {largest}, but the embedding has {rows} rows");
        report.add(&TOKENIZER_SIZE, &format!("{prefix}tokenizer.json"), detail);
    }
    let mut modules: Vec<&str> = directory
        .code
        .iter()
        // `owner/name--module.Class`, or without what comes before the dashes.
        .filter_map(|code| code.rsplit("--").next()?.split('.').next())
        .collect();
    modules.sort_unstable();
    modules.dedup();
    for module in modules {
        let file = format!("{module}.py");
        let name = format!("{prefix}{file}");
        let known = report.findings.iter().any(|f| f.rule == &MODEL_CODE && f.file == name);
        if here(&file) && !known {
            report.add(&MODEL_CODE, &name, "`auto_map` names it, so that loaders run it");
        }
    }
    for (index, shard) in &directory.shards {
        if crate::hub::path_fault(shard).is_none() && !here(shard) {
            report.add(&MISSING_FILE, index, format!("`{shard}` is not here"));
        }
    }
}

#[cfg(test)]
mod tests;
