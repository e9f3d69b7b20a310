//! What a record says and the model does not get: what it is, and what is done about it.
//!
//! The rule for all shapes and containers: either the model is trained on exactly what the record
//! says, or the program says what it does not use, with count and first place.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::example::RecordId;
use super::formats::Fields;
use crate::config::OnUnused;

/// What ends the list of unusable records where this rule refused one.
pub const RULE: &str = "all that a record says must reach the model: name a chat template that \
     writes it as `data.chat_template`, remove it from the records, or have it reported instead \
     with `data.on_unused = \"warn\"`";

/// Columns that mean something to the model in some shape.
const TELLING: [&str; 10] = [
    "system",
    "system_prompt",
    "history",
    "tools",
    "functions",
    "image",
    "images",
    "audio",
    "video",
    "videos",
];
/// Columns that mean something elsewhere, and lose less.
const HINTING: [&str; 10] = [
    "messages",
    "conversations",
    "reasoning",
    "reasoning_content",
    "thinking",
    "chat_template_kwargs",
    "weight",
    "train",
    "loss",
    "input",
];
/// What pandas calls the running number of a row when it writes tables.
const INDEX: [&str; 3] = ["", "Unnamed: 0", "__index_level_0__"];

/// So many different things are counted of a file.
const DIFFERENT: usize = 1000;

/// How much is lost with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// What is said: a message, a call, a tool.
    Meaning,
    /// Reasoning, names and other fields of messages.
    Detail,
    /// A column that data sets have for themselves, such as `id` or `source`.
    Column,
}

/// Something of one record that the model does not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unused {
    /// How much is lost with it.
    pub loss: Loss,
    /// What it is, the same words for all records.
    pub what: String,
    /// What it is in this record.
    pub example: String,
    /// Who leaves it out, with a verb.
    pub by: Cow<'static, str>,
}

/// Who leaves something out.
pub const TEMPLATE: &str = "the chat template does not write";
/// See [`TEMPLATE`].
pub const SHAPE: &str = "this shape does not read";
/// See [`TEMPLATE`].
pub const NOT_ASKED: &str = "the chat template does not ask for";

impl Unused {
    /// Something that the template leaves out.
    pub fn by_template(loss: Loss, what: &str, example: String) -> Self {
        Self { loss, what: what.to_owned(), example, by: TEMPLATE.into() }
    }

    /// Adds it to a list that has just not got it: messages mostly have the same fields.
    pub fn put(self, list: &mut Vec<Self>) {
        const FIELDS: usize = 16;
        if !list.iter().rev().take(FIELDS).any(|before| *before == self) {
            list.push(self);
        }
    }

    /// What is said of all records that have it, after their number; of a column, its name.
    pub fn phrase(&self) -> Cow<'_, str> {
        match self.loss {
            Loss::Column => Cow::Borrowed(&self.what),
            _ => Cow::Owned(format!("hold {} that {}", self.what, self.by)),
        }
    }

    /// Whether this is what is said of it, without writing it.
    fn is_phrase(&self, phrase: &str) -> bool {
        let end = |rest: &str| rest.strip_prefix(" that ") == Some(&*self.by);
        match self.loss {
            Loss::Column => phrase == self.what,
            _ => phrase
                .strip_prefix("hold ")
                .and_then(|rest| rest.strip_prefix(self.what.as_str()))
                .is_some_and(end),
        }
    }
}

/// The columns of a record that its shape left there.
pub fn columns(left: &Fields, unused: &mut Vec<Unused>) {
    for (name, value) in left {
        let number =
            value.is_number() || value.as_str().is_some_and(|text| text.parse::<u64>().is_ok());
        let empty = value.is_null()
            || value.as_str().is_some_and(|text| text.trim().is_empty())
            || value.as_array().is_some_and(Vec::is_empty);
        if empty || (number && INDEX.contains(&name.as_str())) {
            continue;
        }
        let loss = match name.as_str() {
            name if TELLING.contains(&name) => Loss::Meaning,
            name if HINTING.contains(&name) => Loss::Detail,
            _ => Loss::Column,
        };
        let what =
            if name.is_empty() { "a column without a name".into() } else { format!("`{name}`") };
        unused.push(Unused { loss, example: what.clone(), what, by: SHAPE.into() });
    }
}

/// Something that records of a file have and the model does not get, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How much is lost with it.
    pub loss: Loss,
    /// What is said of all records that have it, after their number; of a column, its name.
    pub phrase: String,
    /// How many records.
    pub records: u64,
    /// The line of the first.
    pub first: u64,
}

/// Counts what is left out of the record at `line`.
pub fn count(counts: &mut Vec<Count>, unused: &[Unused], line: u64) {
    for (index, one) in unused.iter().enumerate() {
        let same =
            |other: &Unused| other.loss == one.loss && other.what == one.what && other.by == one.by;
        if unused[..index].iter().any(same) {
            continue; // a record counts once
        }
        let is_one = |count: &Count| count.loss == one.loss && one.is_phrase(&count.phrase);
        match counts.iter().position(is_one) {
            Some(place) => counts[place].records += 1,
            None if counts.len() == DIFFERENT => {}
            None => {
                let phrase = one.phrase().into_owned();
                counts.push(Count { loss: one.loss, phrase, records: 1, first: line });
            }
        }
    }
}

/// Refuses a record of which too much is lost: the reason says what.
pub fn judge(on_unused: Option<OnUnused>, unused: &[Unused]) -> Result<(), String> {
    let refused = |unused: &&Unused| match (unused.loss, on_unused) {
        (Loss::Column, _) | (_, Some(OnUnused::Warn)) => false,
        (Loss::Meaning, _) | (_, Some(OnUnused::Error)) => true,
        (Loss::Detail, None) => false,
    };
    let mut sentences: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for unused in unused.iter().filter(refused) {
        let examples = sentences.entry(&*unused.by).or_default();
        if !examples.contains(&unused.example.as_str()) {
            examples.push(&unused.example);
        }
    }
    let sentences: Vec<String> =
        sentences.iter().map(|(by, what)| format!("{by} {}", what.join(", "))).collect();
    if sentences.is_empty() { Ok(()) } else { Err(sentences.join("; ")) }
}

/// What of the records the model does not get: how many have it, and the first place. Columns that
/// a data set has for itself are not among it: slices may be made by them.
#[derive(Default)]
pub struct LeftOut {
    found: BTreeMap<(Loss, String), (u64, String)>,
    undefined: BTreeMap<String, String>,
}

impl LeftOut {
    /// Counts what is left out of a record.
    pub fn add(&mut self, unused: &[Unused], undefined: &BTreeSet<String>, record: &RecordId) {
        let lost = unused.iter().filter(|unused| unused.loss != Loss::Column);
        let phrases: BTreeSet<_> =
            lost.map(|unused| (unused.loss, unused.phrase().into_owned())).collect();
        for phrase in phrases {
            self.found.entry(phrase).or_insert_with(|| (0, record.to_string())).0 += 1;
        }
        for name in undefined {
            self.undefined.entry(name.clone()).or_insert_with(|| record.to_string());
        }
    }

    /// What there is to say, a sentence each.
    pub fn warnings(self, records: usize) -> Vec<String> {
        let lost = self.found.into_iter().map(|((_, phrase), (count, first))| {
            format!("{count} of {records} records {phrase}, first {first}")
        });
        let undefined = self.undefined.into_iter().map(|(name, first)| {
            format!(
                "the chat template prints `{name}`, which is undefined, so it writes nothing \
                 there, first {first}"
            )
        });
        lost.chain(undefined).collect()
    }
}
