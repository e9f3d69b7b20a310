//! What the loss is measured on: chosen by digest, packed once, the same at every evaluation.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::corpus::{Entry, Part};
use super::pack::{Packing, pack};
use crate::config::{DataConfig, ValSize};
use crate::error::{Error, Result};
use crate::files::Digest;

/// Divides entries into what is learnt and what is held out, by the digests of their records:
/// a record stays on its side when others are added, and equal records are on the same side. So
/// a number of records is one of different records, and their duplicates go with them.
pub fn split(entries: Vec<Entry>, size: ValSize) -> Result<(Vec<Entry>, Vec<Entry>)> {
    let held_out: Box<dyn Fn(&Digest) -> bool> = match size {
        ValSize::None => return Ok((entries, Vec::new())),
        ValSize::Fraction(share) => Box::new(move |digest| place(digest) < share),
        ValSize::Records(count) => {
            let digests: BTreeSet<Digest> = entries.iter().map(|entry| entry.digest).collect();
            let all = digests.len();
            match digests.into_iter().nth(usize::try_from(count).unwrap_or(usize::MAX)) {
                Some(limit) => Box::new(move |digest| *digest < limit),
                None => return Err(too_many(count, all)),
            }
        }
    };
    Ok(entries.into_iter().partition(|entry| !held_out(&entry.digest)))
}

fn too_many(count: u64, all: usize) -> Error {
    Error::new(format!("`data.val_size = {count}` leaves nothing to learn from"))
        .because(format!("there are {all} different records that can be used"))
}

/// A digest as a number from 0 to 1.
fn place(digest: &Digest) -> f64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.0[..8]);
    #[allow(clippy::cast_precision_loss)] // the lowest bits of a digest decide nothing
    let number = u64::from_be_bytes(first) as f64;
    number / 2_f64.powi(64)
}

/// The rows of an evaluation: in file order, packed as in training, `micro_batch_size` rows to a
/// batch. `max_records` keeps the records with the smallest digests; 0 keeps all.
pub fn batches(
    part: &Part,
    config: &DataConfig,
    micro_batch_size: usize,
    max_records: u64,
) -> Vec<Batch> {
    let entries = &part.entries;
    let mut records: BTreeSet<_> =
        entries.iter().map(|entry| (entry.digest, &entry.record)).collect();
    if max_records > 0 {
        let keep = usize::try_from(max_records).unwrap_or(usize::MAX);
        records = records.into_iter().take(keep).collect();
    }
    let documents = (0..)
        .zip(entries.iter())
        .filter(|(_, entry)| records.contains(&(entry.digest, &entry.record)))
        .map(|(place, entry)| (place, entry.example.tokens.len()));
    let packing = if config.packing { Packing::BestFit } else { Packing::None };
    let rows = pack(documents, config.max_seq_len, packing);
    rows.chunks(micro_batch_size.max(1)).map(|rows| Batch::new(rows, entries)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::example::{Example, RecordId};

    fn entries(texts: &[String]) -> Vec<Entry> {
        let entry = |(line, text): (u64, &String)| Entry {
            record: RecordId { file: "a".into(), line },
            digest: Digest::of(text.as_bytes()),
            example: Example { tokens: vec![1, 2, 3], learn: vec![false, true, true] },
        };
        (1..).zip(texts).map(entry).collect()
    }

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("record {i}")).collect()
    }

    fn held_out(texts: &[String], size: ValSize) -> BTreeSet<String> {
        let (_, held_out) = split(entries(texts), size).unwrap();
        held_out.iter().map(|entry| texts[entry.record.line as usize - 1].clone()).collect()
    }

    #[test]
    fn a_share_is_near_what_was_asked_and_stable_under_new_records() {
        let before = held_out(&texts(2000), ValSize::Fraction(0.1));
        assert!((150..250).contains(&before.len()), "{}", before.len());
        let after = held_out(&texts(4000), ValSize::Fraction(0.1));
        assert!(before.is_subset(&after));
        assert!(after.difference(&before).all(|text| !texts(2000).contains(text)));
    }

    #[test]
    fn a_number_of_records_is_exact_and_duplicates_stay_together() {
        let mut texts = texts(50);
        assert_eq!(held_out(&texts, ValSize::Records(7)).len(), 7);
        texts.extend(texts.clone());
        let (kept, held) = split(entries(&texts), ValSize::Records(7)).unwrap();
        assert_eq!((kept.len(), held.len()), (86, 14));
        let kept: BTreeSet<Digest> = kept.iter().map(|entry| entry.digest).collect();
        assert!(held.iter().all(|entry| !kept.contains(&entry.digest)));
        let error = split(entries(&texts), ValSize::Records(50)).unwrap_err().to_string();
        assert!(error.contains("leaves nothing"), "{error}");
    }

    #[test]
    fn the_cap_counts_records() {
        let part = Part { entries: entries(&texts(9)).into(), statistics: Default::default() };
        let config = crate::data::fixture::config(&[]);
        let count = |max| -> usize {
            batches(&part, &config, 2, max).iter().flat_map(|b| &b.sources).map(Vec::len).sum()
        };
        assert_eq!((count(0), count(4), count(100)), (9, 4, 9));
    }
}
