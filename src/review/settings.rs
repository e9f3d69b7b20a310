//! `review.toml`: what is reviewed, and by what.

use std::path::{Path, PathBuf};

use super::changes::Change;
use super::review_keys::KEYS;
use crate::document::Document;
use crate::error::Result;
use crate::files::read_bytes;

/// The file, in the folder of the review.
pub const FILE: &str = "review.toml";
/// Settings have some dozens of lines.
const BYTES_MAX: u64 = 1 << 20;

/// What code expects of a task's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractRule {
    /// The task of a suite.
    pub task: String,
    /// The schema by which the code reads.
    pub schema: PathBuf,
    /// The line in the settings.
    pub line: Option<usize>,
}

/// What is reviewed, and by what.
#[derive(Debug)]
pub struct ReviewSettings {
    /// The configurations of runs, if they are named.
    pub configs: Option<Vec<String>>,
    /// The policies of gates, if they are named.
    pub policies: Option<Vec<String>>,
    /// The coverage of the evaluation.
    pub coverage: Option<PathBuf>,
    /// What code expects.
    pub contracts: Vec<ContractRule>,
    /// What the user should know of where they come from.
    pub note: Option<String>,
    document: Document,
}

impl ReviewSettings {
    /// Those of a file that is named; else those that were there before a change, so that no change
    /// switches off what it is reviewed by; else those of the change, or none.
    ///
    /// # Errors
    /// All problems of the file at once.
    pub fn read(named: Option<&Path>, change: &Change) -> Result<Self> {
        let own = Path::new(FILE);
        let here = || match own.is_file() {
            true => read_bytes(own, BYTES_MAX).map(Some),
            false => Ok(None),
        };
        let (path, bytes, note) = match (named, change.before(own)) {
            (Some(path), _) => (path, Some(read_bytes(path, BYTES_MAX)?), None),
            (None, None) => (own, here()?, None),
            (None, Some(before)) => {
                let other = here()?.as_ref() != Some(&before);
                let note = format!("the change has another `{FILE}`: it counts once it is merged");
                (own, Some(before), other.then_some(note))
            }
        };
        let document = Document::parse(&KEYS, path, &bytes.unwrap_or_default())?;
        let values = &document.values;
        let contract = |entry: &crate::document::Values| ContractRule {
            task: entry.text("task"),
            schema: PathBuf::from(entry.text("schema")),
            line: document.line(entry.table_place()),
        };
        Ok(Self {
            configs: values.optional_texts("review.configs"),
            policies: values.optional_texts("review.policies"),
            coverage: values.optional_text("review.coverage").map(PathBuf::from),
            contracts: values.tables("contract").iter().map(contract).collect(),
            note,
            document,
        })
    }

    /// Whether a check must hold.
    pub fn has(&self, check: &str) -> bool {
        self.document.values.boolean(&format!("checks.{check}"))
    }
}
