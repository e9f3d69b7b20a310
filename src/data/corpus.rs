//! Everything that a run learns from and is measured on, read, checked and tokenised.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::example::{Example, RecordId};
use super::reading::{BadRows, Reading, read_sets};
use super::validation;
use crate::config::{DataConfig, ValSize};
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};

/// An example with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its record.
    pub record: RecordId,
    /// The digest of the record's bytes.
    pub digest: Digest,
    /// Its tokens.
    pub example: Example,
}

/// What a data set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Learnt from.
    Train,
    /// Measured on.
    Validation,
}

/// A data set file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusFile {
    /// Name, size and digest of the bytes that were read.
    #[serde(flatten)]
    pub file: FileEntry,
    /// What it is for.
    pub role: Role,
    /// The shape of its records.
    pub format: String,
    /// How many records it holds, bad ones included.
    pub rows: u64,
}

/// What was counted while reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Records read, bad ones included.
    pub records: u64,
    /// Records that could not be used.
    pub bad_rows: u64,
    /// Records left out since they are longer than a row.
    pub dropped: u64,
    /// Records whose end was cut off.
    pub truncated: u64,
    /// Long texts cut into pieces.
    pub split: u64,
    /// Records left out since no token of them is learnt.
    pub nothing_to_learn: u64,
    /// Records moved from training to validation.
    pub held_out: u64,
    /// Validation records left out since they are also training records.
    pub overlapping: u64,
    /// Examples that came of it all.
    pub examples: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Tokens that are learnt.
    pub learnt_tokens: u64,
    /// The longest example in tokens.
    pub longest: u64,
}

/// The examples of one role.
#[derive(Debug, Clone)]
pub struct Part {
    /// In file order, files in the order of the configuration.
    pub entries: Arc<[Entry]>,
    /// What was counted.
    pub statistics: Statistics,
}

impl Part {
    fn new(entries: Vec<Entry>, mut statistics: Statistics) -> Self {
        let sum = |count: fn(&Example) -> usize| -> u64 {
            entries.iter().map(|entry| count(&entry.example) as u64).sum()
        };
        statistics.examples = entries.len() as u64;
        statistics.tokens = sum(|example| example.tokens.len());
        statistics.learnt_tokens = sum(Example::learnt);
        let longest = entries.iter().map(|entry| entry.example.tokens.len()).max();
        statistics.longest = longest.unwrap_or(0) as u64;
        Self { entries: entries.into(), statistics }
    }
}

/// Everything that a run learns from and is measured on.
pub struct Corpus {
    /// Learnt from.
    pub train: Part,
    /// Measured on; may be empty.
    pub validation: Part,
    /// The files, in the order of the configuration.
    pub files: Vec<CorpusFile>,
    /// Tokenizer and chat template.
    pub codec: Codec,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
    /// What a careful person would want to look at, a sentence each.
    pub warnings: Vec<String>,
}

impl Corpus {
    /// The digest of `tokenizer.json`.
    pub fn tokenizer_digest(&self) -> Digest {
        self.codec.tokenizer.digest()
    }

    /// The digest of the chat template's text.
    pub fn template_digest(&self) -> Option<Digest> {
        self.codec.template.as_ref().map(super::template::ChatTemplate::digest)
    }
}

/// Reads, checks and tokenises every data set of a configuration.
pub fn open(config: &DataConfig, model_dir: &Path) -> Result<Corpus> {
    let codec = Codec::load(model_dir, config.chat_template.as_deref().map(Path::new))?;
    let mut bad = BadRows::new(config.max_bad_rows);
    let train = read_sets(&codec, config, Role::Train, &mut bad)?;
    let validation = read_sets(&codec, config, Role::Validation, &mut bad)?;
    let mut notes = describe(&codec);
    let mut warnings = doubts(&codec, &[&train, &validation]);
    let mut files = Vec::new();
    for reading in [&train, &validation] {
        files.extend(reading.files.clone());
        notes.extend(reading.notes.clone());
        warnings.extend(reading.warnings());
    }
    warnings.splice(0..0, bad.warnings());
    let (train, validation) = separate(config, train, validation, &mut notes, &mut warnings)?;
    if train.entries.is_empty() {
        return Err(Error::new("the training data holds no example that could be learnt from")
            .because(format!("{} records were read", train.statistics.records)));
    }
    Ok(Corpus { train, validation, files, codec, notes, warnings })
}

/// Keeps what is learnt from and what is measured on apart.
fn separate(
    config: &DataConfig,
    mut train: Reading,
    mut validation: Reading,
    notes: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(Part, Part)> {
    if config.validation.is_empty() {
        let (kept, held_out) = validation::split(train.entries, config.val_size)?;
        let records: BTreeSet<&RecordId> = held_out.iter().map(|entry| &entry.record).collect();
        train.statistics.held_out = records.len() as u64;
        if config.val_size != ValSize::None {
            let of = train.statistics.records;
            let held = records.len();
            notes.push(format!("validation: {held} of {of} records, chosen by their digests"));
            if held == 0 {
                warnings.push("`data.val_size` is so small that no record was held out".to_owned());
            }
        }
        validation.statistics.records = records.len() as u64;
        return Ok((
            Part::new(kept, train.statistics),
            Part::new(held_out.clone(), validation.statistics),
        ));
    }
    let learnt: BTreeSet<Digest> = train.entries.iter().map(|entry| entry.digest).collect();
    let mut overlapping = BTreeSet::new();
    validation.entries.retain(|entry| {
        let also_learnt = learnt.contains(&entry.digest);
        if also_learnt {
            overlapping.insert(entry.record.clone());
        }
        !also_learnt
    });
    let count = overlapping.len() as u64;
    validation.statistics.overlapping = count;
    if let Some(first) = overlapping.first() {
        if validation.entries.is_empty() {
            return Err(Error::new("every validation record is also a training record")
                .hint("remove them from one of the two, or use `data.val_size`"));
        }
        warnings.push(format!(
            "{count} validation records are also training records and were left out, first {first}"
        ));
    }
    Ok((
        Part::new(train.entries, train.statistics),
        Part::new(validation.entries, validation.statistics),
    ))
}

fn describe(codec: &Codec) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(template) = &codec.template {
        let digest = template.digest().short();
        notes.push(format!("chat template: {}, sha256 {digest}", template.origin()));
        if template.asks_for_the_date() {
            let date = super::template::TEMPLATE_DATE;
            notes.push(format!("the chat template asks for the date and is told {date}, always"));
        }
    }
    notes
}

/// Oddities of tokenizer and template that matter to the data at hand.
fn doubts(codec: &Codec, readings: &[&Reading]) -> Vec<String> {
    let mut warnings = Vec::new();
    let uses = |chat: bool| readings.iter().any(|reading| reading.has_shape(chat));
    if uses(true) && codec.template.is_some() {
        if codec.end_of_turn().is_none() {
            warnings.push(
                "the chat template writes no special token after the assistant's turn, so the \
                 model does not learn where to stop"
                    .to_owned(),
            );
        }
        if !codec.has_generation_prompt() {
            warnings.push(
                "the chat template has no generation prompt, so the model also learns to write \
                 what introduces the assistant's turn"
                    .to_owned(),
            );
        }
    }
    if uses(false) && codec.tokenizer.eos().is_none() {
        warnings.push(
            "the tokenizer names no `eos_token`, so the model does not learn where a text ends"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
