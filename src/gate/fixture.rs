//! What the tests of this module share: evaluations made by hand, suites, policies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::evaluation::{
    Draws, Metric, ModelRecord, Performance, Record, Report, Score, Slice, SliceReport,
    SuiteRecord, statistic,
};
use crate::files::Digest;
use crate::verify::{self, Ancestry, Base, Item};

/// A record of ten judged tokens.
pub fn record(number: usize, loss: f64, correct: u64, tasks: &[(&str, f64)]) -> Record {
    Record {
        id: format!("a.jsonl:{number}"),
        sha256: Digest::of(number.to_string().as_bytes()),
        tokens: 20,
        score: Score { loss_sum: loss * 10.0, targets: 10, correct },
        label: None,
        tasks: tasks.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect(),
    }
}

/// Records with these losses.
pub fn records(losses: &[f64]) -> Vec<Record> {
    let one = |(number, loss): (usize, &f64)| record(number, *loss, 5, &[]);
    losses.iter().enumerate().map(one).collect()
}

pub const DRAWS: Draws = Draws { seed: 1, samples: 200, confidence: 0.95 };

/// An evaluation that came to these records; slices are named by property, slice and loss.
pub fn evaluation(records: &[Record], slices: &[(&str, &str, f64)]) -> Report {
    let all: Vec<&Record> = records.iter().collect();
    let once = vec![1; all.len()];
    let metric = |value: f64| Metric { value, records: all.len() as u64, interval: None };
    let mut metrics = BTreeMap::new();
    if !records.is_empty() {
        for name in ["loss", "perplexity", "accuracy"] {
            metrics.insert(name.to_owned(), metric(statistic(name, &all, &once)));
        }
        for name in records[0].tasks.keys() {
            metrics.insert(name.clone(), metric(statistic(name, &all, &once)));
        }
    }
    let slice = |(by, name, loss): &(&str, &str, f64)| SliceReport {
        by: (*by).to_owned(),
        slices: vec![Slice {
            name: (*name).to_owned(),
            records: 1,
            metrics: BTreeMap::from([("loss".to_owned(), metric(*loss))]),
            confusion: None,
        }],
    };
    Report {
        version: 1,
        model: ModelRecord { name: "m".to_owned(), sha256: Digest::of(b"m"), files: Vec::new() },
        suite: SuiteRecord {
            name: "s".to_owned(),
            path: "eval.toml".to_owned(),
            sha256: Digest::of(b"s"),
            data: Vec::new(),
            commit: None,
            truncated: 0,
        },
        confusion: None,
        metrics,
        slices: slices.iter().map(slice).collect(),
        performance: Performance {
            device: "CPU".to_owned(),
            class: "flex".to_owned(),
            tokens_per_second: 1.0,
            answer_tokens_per_second: None,
            first_token_seconds: None,
            memory_bytes_peak: None,
        },
        records: records.to_vec(),
    }
}

/// A folder with a suite that has every kind of thing, for policies to speak of.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("reply.json", "{}");
        let schema = folder.path("reply.json");
        folder.write(
            "eval.toml",
            &format!(
                "bootstrap = 50\n[data]\npath = \"d.jsonl\"\n\
                 [[slice]]\nby = \"lang\"\nvalues = [\"en\", \"fr\"]\n\
                 [[slice]]\nby = \"length\"\nbands = [8]\n\
                 [[task]]\nname = \"form\"\nkind = \"json_schema\"\nschema = {:?}\n\
                 [[task]]\nname = \"ours\"\nkind = \"command\"\ncommand = [\"judge\"]\n",
                schema.display().to_string()
            ),
        );
        folder.write("plain.toml", "bootstrap = 0\n[data]\npath = \"d.jsonl\"\n");
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A policy for the suite `eval.toml`, or for `plain.toml` where the text says so.
    pub fn policy(&self, text: &str) -> crate::error::Result<super::Policy> {
        let suite = |name: &str| format!("suite = {:?}", self.path(name).display().to_string());
        let text =
            text.replace("SUITE", &suite("eval.toml")).replace("PLAIN", &suite("plain.toml"));
        self.write("gate.toml", &text);
        super::Policy::read(&self.path("gate.toml"))
    }
}

/// The lineage of a model with these dependencies.
pub fn family(method: &str, items: Vec<Item>) -> Ancestry {
    let of = |roles: &[&str]| -> Vec<Item> {
        items.iter().filter(|item| roles.contains(&item.role.as_str())).cloned().collect()
    };
    Ancestry {
        directory: PathBuf::from("model"),
        statement: Digest::of(method.as_bytes()),
        signature: verify::Verdict::Verified,
        method: method.to_owned(),
        base: Base { id: "base".to_owned(), revision: None, files: of(&["base-model"]) },
        datasets: of(&["dataset"]),
        config: Vec::new(),
        overrides: Map::new(),
        source: of(&["source", "source-diff"]),
        device: Map::new(),
        deterministic: None,
        seed: None,
        text: of(&["tokenizer"]),
        versions: Map::new(),
        time: [None, None],
        metrics: Map::new(),
        events: Vec::new(),
        parent: None,
    }
}

/// An entry of a lineage with the digest of `bytes`.
pub fn item(role: &str, name: &str, bytes: &[u8], notes: Value) -> Item {
    Item {
        name: name.to_owned(),
        role: role.to_owned(),
        digest: Map::from_iter([("sha256".to_owned(), json!(Digest::of(bytes)))]),
        notes: notes.as_object().unwrap().clone(),
    }
}

/// The same model with a parent whose lineage was found, or not.
pub fn with_parent(child: Ancestry, parent: Option<Ancestry>) -> Ancestry {
    let parent = verify::Parent {
        name: "older".to_owned(),
        statement: String::new(),
        signature: None,
        found: if parent.is_some() {
            verify::ParentState::Same
        } else {
            verify::ParentState::Missing
        },
        problem: parent.is_none().then(|| "nothing lies there".to_owned()),
        family: parent,
    };
    Ancestry { parent: Some(Box::new(parent)), ..child }
}

/// Files of this machine only.
pub fn supply(cache: &std::path::Path) -> std::sync::Arc<crate::hub::Supply> {
    let extensions = crate::data::extensions();
    let policy = crate::hub::Policy { offline: true, extensions, ..Default::default() };
    let silence = std::sync::Arc::new(crate::event::Silence);
    let supply = crate::hub::Supply::new(policy, silence, std::sync::Arc::new(|| false), cache);
    std::sync::Arc::new(supply)
}
