//! What the lineage of a model tells of its making.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::base_adapters::BaseAdapter;
use super::lineage::INPUTS_FILE;
use super::parent::{LINEAGE_BYTES_MAX, STATEMENT_FILE};
use super::provenance;
use crate::document::{argument_name, literal, shown};
use crate::error::{Error, Result};
use crate::files::{Digest, has_file, read_json};
use crate::weights::formats::{self, WeightFormat};

/// One data file.
#[derive(Debug, Clone, PartialEq)]
pub struct CardDataset {
    /// As the user named it.
    pub name: String,
    /// `train`, `validation`, or both.
    pub split: String,
    /// How many records it has.
    pub rows: u64,
    /// Its digest.
    pub sha256: Digest,
    /// Where anyone finds these bytes again, if they came from a hub.
    pub uri: Option<String>,
}

impl CardDataset {
    /// Name and commit on the hub, if it came from there: `hf://datasets/OWNER/NAME@COMMIT/FILE`.
    pub fn on_hub(&self) -> Option<(&str, &str)> {
        let (name, rest) = self.uri.as_deref()?.strip_prefix("hf://datasets/")?.split_once('@')?;
        Some((name, rest.split('/').next().unwrap_or(rest)))
    }
}

/// Validation loss before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct LossChange {
    /// On which data.
    pub dataset: String,
    /// Before the first step.
    pub before: f64,
    /// After the last one.
    pub after: f64,
    /// Whether it is a likelihood of tokens, so that there is a perplexity.
    pub of_tokens: bool,
}

/// What the lineage of a model tells of its making; all empty where there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// Whether there is a lineage.
    pub known: bool,
    /// The files of its base.
    pub base_files: BTreeMap<String, Digest>,
    /// The adapters between that and its own.
    pub base_adapters: Vec<BaseAdapter>,
    /// What it was trained on.
    pub datasets: Vec<CardDataset>,
    /// The settings of its run, by key, as the lineage has them.
    pub resolved: BTreeMap<String, String>,
    /// Prompts that its run answered.
    pub prompts: Vec<String>,
    /// The licence that its run gave it.
    pub license: Option<String>,
    /// Whether it was trained from a commit, without changes.
    pub is_committed: bool,
    /// Validation loss before and after.
    pub loss: Option<LossChange>,
}

impl Past {
    /// Reads it from an artifact's directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let optional = |name: &str| -> Result<Value> {
            let path = directory.join(name);
            if has_file(&path)? { read_json(&path, LINEAGE_BYTES_MAX) } else { Ok(Value::Null) }
        };
        let (inputs, statement) = (optional(INPUTS_FILE)?, optional(STATEMENT_FILE)?);
        let resolved = &inputs["internalParameters"]["resolvedConfig"];
        let text = |key: &str| resolved[key].as_str();
        let mut past = Self {
            known: inputs.is_object(),
            license: text("output.license").map(str::to_owned),
            prompts: text("eval.prompts").and_then(texts).unwrap_or_default(),
            resolved: settings_of(resolved),
            ..Self::default()
        };
        for entry in inputs["resolvedDependencies"].as_array().into_iter().flatten() {
            let (Some(name), Some(sha256)) = (entry["name"].as_str(), digest(entry)) else {
                continue;
            };
            let notes = &entry["annotations"];
            match notes["role"].as_str() {
                Some("base-model") => {
                    past.base_files.insert(name.to_owned(), sha256);
                }
                Some("dataset") => past.datasets.push(CardDataset {
                    name: name.to_owned(),
                    split: notes["split"].as_str().unwrap_or_default().to_owned(),
                    rows: notes["rows"].as_str().and_then(|n| n.parse().ok()).unwrap_or_default(),
                    sha256,
                    uri: entry["uri"].as_str().map(str::to_owned),
                }),
                _ => {}
            }
        }
        // The state of a repository is no input: it stands beside the artifact, and of earlier
        // versions in it.
        let beside = provenance::beside(directory, &statement);
        let told = beside.as_ref().map_or(&inputs, |it| &it["predicate"]["buildDefinition"]);
        past.base_adapters = BaseAdapter::all(&inputs, told);
        let mut sources = told["resolvedDependencies"].as_array().into_iter().flatten();
        let source = sources.find(|entry| entry["annotations"]["role"] == "source");
        past.is_committed = source.is_some_and(|it| it["annotations"]["dirty"] == false);
        past.loss = loss(&statement, &past.datasets);
        Ok(past)
    }

    /// The format in which its run kept the weights of the base, if that was chosen.
    pub fn weight_format(&self) -> Option<&str> {
        formats::chosen_in(&self.resolved)
    }

    /// Tokens that its run added to those of its base.
    pub fn added_tokens(&self) -> BTreeSet<String> {
        let lists = ["model.add_tokens", "model.add_special_tokens"];
        let written = lists.iter().filter_map(|key| literal(self.resolved.get(*key)?));
        let texts = |list: Value| -> Vec<String> {
            let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        written.flat_map(texts).collect()
    }

    /// What its run handed to the chat template, by name.
    ///
    /// # Errors
    /// When one has a name that no run takes: the lineage may be anyone's, and the names become
    /// part of templates.
    pub fn template_args(&self) -> Result<BTreeMap<String, Value>> {
        let written = self.resolved.get("data.template_args").and_then(|text| literal(text));
        let table = written.as_ref().and_then(Value::as_object).into_iter().flatten();
        let checked = |(name, value): (&String, &Value)| {
            let wrong = |why| {
                let key = format!("data.template_args.{}", shown(name));
                Error::lineage(format!("`{key}` {why}"))
            };
            argument_name(name).map(|()| (name.clone(), value.clone())).map_err(wrong)
        };
        table.map(checked).collect()
    }
}

/// What to say of an adapter whose run kept the weights of its base in the format `trained`, and
/// which goes onto those in the format `used`; without one they are those of the base's files.
pub fn other_weights(trained: Option<&str>, used: Option<&dyn WeightFormat>) -> Option<String> {
    let used = used.filter(|format| formats::makes_codes(*format)).map(|format| format.name());
    let text = match (trained, used) {
        (Some(trained), Some(used)) if trained != used => format!(
            "the adapter was trained beside weights in {trained}, and goes onto those in {used}: \
             what it adapted to in the rounding is of no use there"
        ),
        (Some(trained), None) => format!(
            "the adapter was trained beside weights in {trained}, and goes onto those of the \
             base's files: what it adapted to in the rounding is of no use there (`eval`, \
             `generate` and `merge` take the former with `--weight-format {trained}`)"
        ),
        (None, Some(used)) => format!(
            "the adapter was trained beside weights as in the base's files, and goes onto those \
             in {used}"
        ),
        _ => return None,
    };
    Some(text)
}

fn settings_of(resolved: &Value) -> BTreeMap<String, String> {
    let entries = resolved.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Validation loss at the first and the last step that has one.
fn loss(statement: &Value, datasets: &[CardDataset]) -> Option<LossChange> {
    let byproducts = statement["predicate"]["runDetails"]["byproducts"].as_array()?;
    let metrics = byproducts.iter().find_map(|entry| {
        let notes = entry["annotations"].as_object()?;
        notes.contains_key("eval_loss").then_some(notes)
    })?;
    let step = |name: &str| name.strip_prefix("eval_loss/step-")?.parse::<u64>().ok();
    let first = metrics.iter().filter_map(|(name, value)| Some((step(name)?, value.as_f64()?)));
    let (_, before) = first.min_by_key(|(step, _)| *step)?;
    let after = metrics["eval_loss"].as_f64()?;
    let evaluated = datasets.iter().find(|set| set.split == "validation").or(datasets.first());
    let more = |name: &String| name.starts_with("eval_") && !name.starts_with("eval_loss");
    let of_tokens = !metrics.keys().any(more);
    Some(LossChange { dataset: evaluated?.name.clone(), before, after, of_tokens })
}

fn digest(entry: &Value) -> Option<Digest> {
    entry["digest"]["sha256"].as_str()?.parse().ok()
}

/// A list of texts as a resolved configuration writes it.
fn texts(list: &str) -> Option<Vec<String>> {
    let value = literal(list)?;
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::lineage::Inputs;
    use crate::artifact::lineage::tests::run;
    use crate::artifact::provenance::Lineage;
    use crate::artifact::provenance::tests::outcome;
    use crate::snapshots::says;

    #[test]
    fn the_lineage_tells_data_licence_prompts_and_losses() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Past::read(folder.path()).unwrap(), Past::default());
        let mut record = run();
        record.settings = [
            ("output.license".to_owned(), "MIT".to_owned()),
            ("eval.prompts".to_owned(), "[\"a \\\" b\", \"c\"]".to_owned()),
            ("data.template_args".to_owned(), "{ a_b = false, c = \"d\" }".to_owned()),
        ]
        .into();
        let inputs = Inputs::of_run(&record);
        let mut done = outcome();
        for (name, value) in
            [("eval_loss/step-0", 3.0), ("eval_loss/step-10", 2.0), ("eval_loss", 1.5)]
        {
            done.metrics.insert(name.to_owned(), value);
        }
        std::fs::write(folder.path().join(INPUTS_FILE), inputs.to_json()).unwrap();
        let asked = Inputs::as_asked(&record);
        let statement = Lineage { inputs, asked, facts: done }.statement(&[]);
        std::fs::write(folder.path().join(STATEMENT_FILE), statement).unwrap();
        let past = Past::read(folder.path()).unwrap();
        assert_eq!(past.prompts, ["a \" b", "c"]);
        assert_eq!(past.license.as_deref(), Some("MIT"));
        let args = past.template_args().unwrap();
        let wanted = [("a_b", Value::from(false)), ("c", Value::from("d"))];
        assert!(args.iter().map(|(name, value)| (&**name, value.clone())).eq(wanted));
        let loss = past.loss.unwrap();
        assert_eq!((loss.before, loss.after), (3.0, 1.5));
        assert_eq!((past.datasets.len(), past.datasets[0].rows), (1, 12));
        assert!(past.base_files.contains_key("model.safetensors"));
    }

    #[test]
    fn names_that_no_run_takes_are_refused() {
        for name in ["a-b", "a = 1 %}{{ b", "", "1a", "\u{e9}", "messages", "tools"] {
            let args = format!("{{ \"{name}\" = 1 }}");
            let resolved = [("data.template_args".to_owned(), args)].into();
            let past = Past { resolved, ..Past::default() };
            assert!(past.template_args().is_err(), "{name}");
        }
        let args = "{ \"a = 1 %}{{ b\" = 1 }".to_owned();
        let resolved = [("data.template_args".to_owned(), args)].into();
        let past = Past { resolved, ..Past::default() };
        says(
            past.template_args().unwrap_err().to_string(),
            snapbox::str![
                "error[lineage]: `data.template_args.a = 1 %}{{ b` is no name that a template can ask for"
            ],
        );
    }
}
