//! Records of the training data that are almost those of the validation data.
//!
//! The validation side is held in memory, up to a number; the training side passes by. A training
//! record is compared with those validation records that have some of its smallest hashes: of two
//! texts as alike as [`LIKENESS`], each hash of one is most likely one of the other.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::collect::{Collected, Sketched};
use crate::data::corpus_file::Role;
use crate::data::filter::Filter;
use crate::data::finding::{Finding, FindingKind};
use crate::error::Result;
use crate::files::Digest;

/// From here on two texts are near-duplicates: four of five shingles are common to both.
pub const LIKENESS: f64 = 0.8;
/// So many validation records are compared with: those with the smallest digests.
const COMPARED: usize = 50_000;
/// So many hashes of a record are looked up.
const LOOKED_UP: usize = 16;
/// Of these, so many must be in the other: fewer are a chance of 1 in 10⁷ at [`LIKENESS`].
const COMMON_MIN: usize = 4;
/// A hash of more records than this is a phrase of the whole data set, and names none of them.
const RECORDS_OF_HASH: usize = 256;
/// So many pairs are shown.
const SHOWN: usize = 5;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NearDuplicates {
    /// From which likeness on two records are near-duplicates.
    pub similarity: f64,
    /// Training records of which there is one in the validation data.
    pub records: u64,
    /// Different validation records that can be compared.
    pub validation_records: u64,
    /// So many of them were.
    pub compared: u64,
    /// Some of the pairs, in the order of the training data.
    pub pairs: Vec<NearPair>,
}

/// A training record and the validation record that it is most like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NearPair {
    /// Place of the training record.
    pub training: String,
    /// Place of the validation record.
    pub validation: String,
    /// How alike they are.
    pub similarity: f64,
}

/// Looks for records on both sides: equal ones and near ones. Both are added to the findings.
pub fn near_duplicates(collected: &mut Collected, filter: &Filter) -> Result<NearDuplicates> {
    let mut held: BTreeMap<Digest, Sketched> = BTreeMap::new();
    let mut all = 0;
    collected.each_sketch(|_, record| {
        let is_validation = record.role == Role::Validation || filter.held_out.has(&record.digest);
        if is_validation && !record.sketch.0.is_empty() && !held.contains_key(&record.digest) {
            all += 1;
            held.insert(record.digest, record);
            if held.len() > COMPARED {
                held.pop_last();
            }
        }
        Ok(())
    })?;
    let compared = held.len() as u64;
    let mut found = NearDuplicates {
        similarity: LIKENESS,
        compared,
        validation_records: all,
        ..Default::default()
    };
    let held: Vec<Sketched> = held.into_values().collect();
    let index = Index::new(&held);
    collected.each_sketch(|collected, record| {
        let (file, line) = (collected.files[record.file as usize].clone(), record.line);
        if record.role == Role::Validation || filter.held_out.has(&record.digest) {
            return Ok(());
        }
        if filter.validation.contains(&record.digest) {
            let reason = "it is also a record of the validation data";
            let finding = Finding::new(FindingKind::InValidation, reason);
            collected.groups.add_record(finding.kind);
            return collected.add(record.role, &file, line, &finding);
        }
        let Some((other, similarity)) = index.nearest(&record) else { return Ok(()) };
        let validation = format!("{}:{}", collected.files[other.file as usize], other.line);
        let reason = format!("{:.0} % like `{validation}`", 100.0 * similarity);
        found.records += 1;
        if found.pairs.len() < SHOWN {
            let training = format!("{file}:{line}");
            found.pairs.push(NearPair { training, validation, similarity });
        }
        let finding = Finding::new(FindingKind::NearDuplicate, reason);
        collected.groups.add_record(finding.kind);
        collected.add(record.role, &file, line, &finding)
    })?;
    Ok(found)
}

/// Validation records by the hashes of their sketches.
struct Index<'a> {
    records: &'a [Sketched],
    by_hash: HashMap<u32, Vec<u32>>,
}

impl<'a> Index<'a> {
    fn new(records: &'a [Sketched]) -> Self {
        let mut by_hash: HashMap<u32, Vec<u32>> = HashMap::new();
        for (number, record) in (0..).zip(records) {
            for hash in &record.sketch.0 {
                let of_hash = by_hash.entry(*hash).or_default();
                if of_hash.len() < RECORDS_OF_HASH {
                    of_hash.push(number);
                }
            }
        }
        Self { records, by_hash }
    }

    /// The record that is most like another, if one is a near-duplicate.
    fn nearest(&self, record: &Sketched) -> Option<(&'a Sketched, f64)> {
        let hashes = &record.sketch.0[..record.sketch.0.len().min(LOOKED_UP)];
        let mut common: BTreeMap<u32, usize> = BTreeMap::new();
        for number in hashes.iter().filter_map(|hash| self.by_hash.get(hash)).flatten() {
            *common.entry(*number).or_default() += 1;
        }
        let enough = COMMON_MIN.min(hashes.len());
        let similarity = |(number, _)| {
            let other = &self.records[number as usize];
            (other, record.sketch.similarity(&other.sketch))
        };
        common
            .into_iter()
            .filter(|(_, count)| *count >= enough)
            .map(similarity)
            .filter(|(_, similarity)| *similarity >= LIKENESS)
            // Of equally near ones the first: the answer must not depend on the order of a map.
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}
