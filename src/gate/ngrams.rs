//! Texts as words in a row: was a record, or most of it, trained on other records?
//!
//! A text is cut into words, without case and punctuation, and those into runs of `n` (Brown et al.
//! 2020, appendix C, take 13). A shorter text is one run by itself. Runs of many records of the
//! evaluation, such as what introduces every question, are no sign and are left out.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::random::mix;

/// What tells who speaks, or what is the same in every record.
const NOT_SAID: [&str; 5] = ["role", "from", "tools", "system", "tool_call_id"];
/// A text of fewer words says nothing of its own.
const WORDS_MIN: usize = 4;
/// So many runs are looked for; of more, a share that their hashes choose.
const RUNS_MAX: usize = 8 << 20;
/// A record may be nested so deeply.
const DEPTH_MAX: usize = 64;

/// Every text that a record holds, but for those that only introduce it.
pub fn texts(record: &Map<String, Value>, take: &mut dyn FnMut(&str)) {
    walk(record, take, 0);
}

fn walk(fields: &Map<String, Value>, take: &mut dyn FnMut(&str), depth: usize) {
    let speaker = ["role", "from"].iter().find_map(|key| fields.get(*key)?.as_str());
    if depth > DEPTH_MAX || speaker == Some("system") {
        return;
    }
    for (name, value) in fields {
        if !NOT_SAID.contains(&name.as_str()) {
            walk_value(value, take, depth);
        }
    }
}

fn walk_value(value: &Value, take: &mut dyn FnMut(&str), depth: usize) {
    match value {
        Value::String(text) => take(text),
        Value::Array(items) if depth < DEPTH_MAX => {
            items.iter().for_each(|item| walk_value(item, take, depth + 1));
        }
        Value::Object(fields) => walk(fields, take, depth + 1),
        _ => {}
    }
}

/// The hashes of a text's words. In scripts without spaces every character is a word.
fn words(text: &str) -> Vec<u64> {
    let mut words = Vec::new();
    let mut word = None;
    for c in text.chars() {
        if !c.is_alphanumeric() {
            words.extend(word.take());
            continue;
        }
        if is_word_by_itself(c) {
            words.extend(word.take());
            words.push(mix(u64::from(u32::from(c))));
            continue;
        }
        for c in c.to_lowercase() {
            let before: u64 = word.unwrap_or(0x9e37_79b9);
            word = Some(mix(before ^ u64::from(u32::from(c))));
        }
    }
    words.extend(word);
    words
}

/// Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces.
fn is_word_by_itself(c: char) -> bool {
    matches!(u32::from(c), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff |
        0x3040..=0x30ff | 0x3400..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff)
}

/// The hashes of the runs of `n` words in every text of a record.
fn runs(record: &Map<String, Value>, n: usize, take: &mut dyn FnMut(u64)) {
    let hash =
        |words: &[u64]| words.iter().fold(mix(words.len() as u64), |hash, word| mix(hash ^ word));
    texts(record, &mut |text| {
        let words = words(text);
        if words.len() >= n {
            words.windows(n).for_each(|window| take(hash(window)));
        } else if words.len() >= WORDS_MIN {
            take(hash(&words)); // its length is part of it: it is only found as a whole text
        }
    });
}

/// Runs of the records of an evaluation, and which of them were found elsewhere.
pub struct Runs {
    n: usize,
    /// Hashes with other bits under this mask are left out.
    mask: u64,
    found: HashMap<u64, bool>,
    records: Vec<Vec<u64>>,
}

impl Runs {
    /// Those of some records.
    pub fn new<'a>(records: impl Iterator<Item = &'a Map<String, Value>>, n: usize) -> Self {
        Self::bounded(records, n, RUNS_MAX)
    }

    fn bounded<'a>(
        records: impl Iterator<Item = &'a Map<String, Value>>,
        n: usize,
        most: usize,
    ) -> Self {
        let mut mask = 0;
        let mut counts: HashMap<u64, u32> = HashMap::new();
        let mut all: Vec<Vec<u64>> = Vec::new();
        for record in records {
            let mut own = BTreeSet::new();
            runs(record, n, &mut |run| {
                if run & mask == 0 {
                    own.insert(run);
                }
            });
            for run in &own {
                *counts.entry(*run).or_default() += 1;
            }
            all.push(own.into_iter().collect());
            while counts.len() > most {
                mask = mask << 1 | 1;
                counts.retain(|run, _| run & mask == 0);
            }
        }
        // In more than a tenth of the records, and in more than two: an introduction, not a record.
        let common = u32::try_from(all.len() / 10).unwrap_or(u32::MAX).max(2);
        let own = |run: &u64| run & mask == 0 && counts.get(run).is_some_and(|it| *it <= common);
        for record in &mut all {
            record.retain(own);
        }
        let found = all.iter().flatten().map(|run| (*run, false)).collect();
        Self { n, mask, found, records: all }
    }

    /// Whether only a share of the runs is looked for.
    pub fn is_sampled(&self) -> bool {
        self.mask != 0
    }

    /// How many records have runs of their own.
    pub fn comparable(&self) -> usize {
        self.records.iter().filter(|runs| !runs.is_empty()).count()
    }

    /// Looks for the runs in other records.
    pub fn look(&mut self, others: &[&Map<String, Value>]) {
        let (n, known) = (self.n, &self.found);
        let hits = |record: &&Map<String, Value>| {
            let mut hits = Vec::new();
            runs(record, n, &mut |run| {
                if known.contains_key(&run) {
                    hits.push(run);
                }
            });
            hits
        };
        let hits: Vec<u64> = others.par_iter().flat_map_iter(hits).collect();
        for run in hits {
            self.found.insert(run, true);
        }
    }

    /// Of each record the share of its runs that were found; `None` for one without runs.
    pub fn shares(&self) -> Vec<Option<f64>> {
        let share = |runs: &Vec<u64>| {
            let hits = runs.iter().filter(|run| self.found[*run]).count();
            #[expect(clippy::cast_precision_loss)] // a record has few runs
            (!runs.is_empty()).then(|| hits as f64 / runs.len() as f64)
        };
        self.records.iter().map(share).collect()
    }
}

#[cfg(test)]
#[path = "ngrams_tests.rs"]
mod tests;
