//! The head of a model that scores labels, as files tell of it: `config.json` of a whole model as
//! transformers has it, and beside an adapter, whose settings have no place for the names of
//! labels, a file of its own.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bundle;
use super::peft;
use crate::adapters::adapter_file_name;
use crate::config::{ProblemType, ScoreHead};
use crate::error::{Context, Error, Result};
use crate::files::{Digest, has_file, read_bytes, read_json, write_synced};
use crate::model::{ModelJson, SCORE};
use crate::weights::ShardStream;

/// The file beside an adapter.
pub const FILE: &str = "score_head.json";
/// Largest file that is read.
const BYTES_MAX: u64 = 8 << 20;

/// What was found on held-out texts when the temperature was fitted, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Texts.
    pub records: u64,
    /// Negative log-likelihood of the labels, in nats.
    pub loss: [f64; 2],
    /// Expected calibration error, in 15 bins.
    pub calibration_error: [f64; 2],
    /// The ends of the bootstrap interval of the latter, 95 %.
    pub interval: Option<[f64; 2]>,
    /// The bins of both that are not empty.
    #[serde(default)]
    pub bins: [Vec<ReliabilityBin>; 2],
    /// The digest of the texts and their labels, as the model has them.
    pub sha256: Digest,
}

/// A point of a reliability diagram (Guo et al. 2017): texts whose likeliest label has about the
/// same probability; of texts that may have several labels, every label of each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// How many.
    pub count: u64,
    /// The mean of their probabilities.
    pub confidence: f64,
    /// The share of them that is right.
    pub accuracy: f64,
}

/// What is written beside an adapter.
#[derive(Debug, Clone, Deserialize)]
pub struct StatedCalibration {
    /// What scores are divided by.
    pub temperature: f64,
    /// What was found when it was fitted.
    pub calibration: Calibration,
}

/// What an artifact states of its probabilities; none where it states nothing that can be read.
pub fn stated_calibration(folder: &Path) -> Option<StatedCalibration> {
    let bytes = read_bytes(&folder.join(FILE), BYTES_MAX).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Writes what an adapter's settings have no place for.
pub fn write(folder: &Path, head: &ScoreHead, calibration: Option<&Calibration>) -> Result<()> {
    let mut json = json!({
        "problem_type": head.problem_type.map(ProblemType::name),
        "labels": head.labels,
    });
    if let Some(found) = calibration {
        json["temperature"] = head.temperature.into();
        json["calibration"] =
            serde_json::to_value(found).context("cannot encode the calibration")?;
    }
    bundle::write_json(&folder.join(FILE), &json)
}

/// Takes over what is written beside an adapter, as it is.
pub fn copy(from: &Path, folder: &Path) -> Result<()> {
    match has_file(&from.join(FILE))? {
        true => write_synced(&folder.join(FILE), &read_bytes(&from.join(FILE), BYTES_MAX)?),
        false => Ok(()),
    }
}

/// Makes `config.json` in a folder that of a whole model with this head.
pub fn write_config(folder: &Path, head: &ScoreHead) -> Result<()> {
    let numbered = || head.labels.iter().enumerate();
    let ids = numbered().map(|(id, name)| (id.to_string(), Value::from(name.as_str())));
    let names = numbered().map(|(id, name)| (name.clone(), Value::from(id)));
    let mut changes: Vec<(&str, Value)> = vec![
        ("architectures", json!([ModelJson::read(folder)?.classifier()])),
        ("id2label", Value::Object(ids.collect())),
        ("label2id", Value::Object(names.collect())),
    ];
    changes.extend(head.problem_type.map(|problem| ("problem_type", problem.name().into())));
    bundle::change_config(folder, &changes)
}

/// The head of a model or an adapter in a folder; none where it scores tokens.
///
/// # Errors
/// When files that tell of it are broken.
pub fn find(folder: &Path) -> Result<Option<ScoreHead>> {
    match has_file(&folder.join(peft::CONFIG_FILE))? {
        true => of_adapter(folder),
        false if has_file(&folder.join("config.json"))? => of_model(folder),
        false => Ok(None),
    }
}

/// What [`write()`] wrote, if it did.
///
/// # Errors
/// When the file is broken.
pub fn read(folder: &Path) -> Result<Option<ScoreHead>> {
    let path = folder.join(FILE);
    if !has_file(&path)? {
        return Ok(None);
    }
    let json = read_json(&path, BYTES_MAX)?;
    let wrong = || Error::adapter("the file does not tell the labels of a model").at(&path);
    let labels = json["labels"].as_array().ok_or_else(wrong)?.iter();
    let labels: Option<Vec<String>> =
        labels.map(|label| label.as_str().map(str::to_owned)).collect();
    let labels = labels.filter(|labels| !labels.is_empty()).ok_or_else(wrong)?;
    let temperature = json.get("temperature").map_or(Some(1.0), Value::as_f64);
    let temperature = temperature.filter(|it| *it > 0.0 && it.is_finite()).ok_or_else(wrong)?;
    Ok(Some(ScoreHead { problem_type: problem_in(json.as_object()), labels, temperature }))
}

/// The head that is saved with an adapter.
fn of_adapter(folder: &Path) -> Result<Option<ScoreHead>> {
    let settings = read_json(&folder.join(peft::CONFIG_FILE), BYTES_MAX)?;
    if settings["task_type"] != peft::CLASSIFIES {
        return Ok(None);
    }
    if let Some(head) = read(folder)? {
        return Ok(Some(head));
    }
    let shard = ShardStream::open(folder, peft::WEIGHTS_FILE)?;
    let name = adapter_file_name(SCORE);
    let place = shard.places().iter().find(|place| place.name == name);
    let Some(&[labels, _]) = place.map(|place| place.shape.as_slice()) else {
        return Err(Error::adapter(format!("the adapter of a classifier lacks `{name}`"))
            .at(folder)
            .hint("heads of other names than `score` are not supported"));
    };
    Ok(Some(ScoreHead {
        problem_type: (labels > 1).then_some(ProblemType::SingleLabel),
        labels: (0..labels).map(ScoreHead::generic).collect(),
        temperature: 1.0,
    }))
}

/// The head of a whole model, by its `config.json`. transformers takes one score without a problem
/// for a reward or a regression, and several for labels of which a text has one.
fn of_model(folder: &Path) -> Result<Option<ScoreHead>> {
    let config = ModelJson::read(folder)?;
    let Some(count) = config.labels()? else { return Ok(None) };
    let name = |number: usize| {
        let name = config.json.get("id2label").and_then(|names| names[number.to_string()].as_str());
        name.map_or_else(|| ScoreHead::generic(number), str::to_owned)
    };
    let problem = problem_in(Some(&config.json));
    Ok(Some(ScoreHead {
        problem_type: problem.or((count > 1).then_some(ProblemType::SingleLabel)),
        labels: (0..count).map(name).collect(),
        temperature: read(folder)?.map_or(1.0, |head| head.temperature),
    }))
}

fn problem_in(json: Option<&Map<String, Value>>) -> Option<ProblemType> {
    json?.get("problem_type")?.as_str().and_then(ProblemType::from_name)
}

/// A model that scores labels cannot do what only one that writes text can.
///
/// # Errors
/// When it does.
pub fn refuse(folder: &Path, what: &str) -> Result<()> {
    if find(folder)?.is_none() {
        return Ok(());
    }
    Err(Error::model(format!("a model that scores labels cannot {what}"))
        .at(folder)
        .hint("`firebrand classify` scores texts with it"))
}
