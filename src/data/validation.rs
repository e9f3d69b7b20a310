//! What the loss is measured on: chosen by digest, packed once, the same at every evaluation.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::batch::Batch;
use super::example::CorpusEntry;
use super::examples::ExampleFacts;
use super::filter::HeldOut;
use super::layout::Blocks;
use super::pack::{Packing, pack};
use super::statistics::Statistics;
use super::store::Store;
use super::survey::each;
use crate::config::DataConfig;
use crate::error::Result;
use crate::files::Digest;

/// The examples that the loss is measured on.
#[derive(Debug, Clone, Default)]
pub struct ValidationSet {
    /// In file order, files in the order of the configuration.
    pub entries: Arc<[CorpusEntry]>,
    /// What was counted.
    pub statistics: Statistics,
}

/// The digests of all records of the validation data sets.
pub fn digests(store: &Store) -> Result<HashSet<Digest>> {
    let mut digests = HashSet::new();
    for file in store.files() {
        each(store, file, |_, facts| {
            digests.insert(facts.digest);
            Ok(())
        })?;
    }
    Ok(digests)
}

/// The records of the validation data sets; of more than `max_records` those with the smallest
/// digests, and 0 keeps all.
pub fn whole(store: &Store, max_records: u64) -> Result<ValidationSet> {
    let mut part = choose(store, max_records, |_| true)?;
    let mut records = Statistics::default();
    for file in store.files() {
        records.add(&store.open(file)?.about().statistics);
    }
    part.statistics = Statistics {
        examples: part.statistics.examples,
        tokens: part.statistics.tokens,
        target_tokens: part.statistics.target_tokens,
        longest: part.statistics.longest,
        ..records
    };
    Ok(part)
}

/// The records that are held out of the training data.
pub fn held_out(store: &Store, held_out: &HeldOut, max_records: u64) -> Result<ValidationSet> {
    if *held_out == HeldOut::Nothing {
        return Ok(ValidationSet::default());
    }
    choose(store, max_records, |facts| held_out.has(&facts.digest))
}

fn choose(
    store: &Store,
    max_records: u64,
    wanted: impl Fn(&ExampleFacts) -> bool,
) -> Result<ValidationSet> {
    let mut smallest: BTreeSet<Digest> = BTreeSet::new();
    let most = match max_records {
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let mut records = 0;
    for file in store.files() {
        each(store, file, |_, facts| {
            if wanted(&facts) {
                records += u64::from(smallest.insert(facts.digest));
            }
            if smallest.len() > most {
                smallest.pop_last();
            }
            Ok(())
        })?;
    }
    let mut entries: Vec<CorpusEntry> = Vec::new();
    for file in store.files() {
        // Only blocks that hold a chosen record are read.
        let mut at_hand: Option<(u32, Vec<CorpusEntry>)> = None;
        each(store, file, |(_, block, place), facts| {
            if !wanted(&facts) || !smallest.contains(&facts.digest) {
                return Ok(());
            }
            let of_block = match &mut at_hand {
                Some((number, entries)) if *number == block => entries,
                _ => &mut at_hand.insert((block, store.read(file, block)?)).1,
            };
            let CorpusEntry { record, digest, example, margin, .. } = &mut of_block[place as usize];
            let (record, digest) = (record.clone(), *digest);
            let example = std::mem::take(example);
            // What is measured is the plain loss, so that runs of other weights can be compared.
            entries.push(CorpusEntry { record, digest, weight: 1.0, margin: *margin, example });
            Ok(())
        })?;
    }
    let sum =
        |count: fn(&CorpusEntry) -> usize| entries.iter().map(|entry| count(entry) as u64).sum();
    let statistics = Statistics {
        records,
        examples: entries.len() as u64,
        tokens: sum(|entry| entry.example.tokens.len()),
        target_tokens: sum(|entry| entry.example.target_count()),
        longest: entries.iter().map(|e| e.example.tokens.len() as u64).max().unwrap_or(0),
        ..Statistics::default()
    };
    Ok(ValidationSet { entries: entries.into(), statistics })
}

/// The rows of an evaluation: in file order, packed as in training, `micro_batch_size` rows to a
/// batch.
pub fn batches(part: &ValidationSet, config: &DataConfig, micro_batch_size: usize) -> Vec<Batch> {
    let entries = &part.entries;
    let documents = (0..).zip(entries.iter().map(|entry| entry.example.tokens.len()));
    let packing = if config.packing { Packing::BestFit } else { Packing::None };
    let rows = pack(documents, config.max_seq_len, packing);
    let row = |row: &Vec<u32>| row.iter().map(|place| &entries[*place as usize]).collect();
    let rows: Vec<Vec<&CorpusEntry>> = rows.iter().map(row).collect();
    rows.chunks(micro_batch_size.max(1)).map(Batch::new).collect()
}
