//! Equal records, and how long examples are: from the facts of all examples, in bounded memory.

use std::collections::HashMap;

use super::collect::Collected;
use crate::data::corpus::Corpus;
use crate::data::finding::{Finding, FindingKind};
use crate::data::layout::FileId;
use crate::data::survey::each;
use crate::error::Result;
use crate::files::Digest;

/// Edges of the length histogram, as shares of `max_seq_len`.
const EDGES: [f64; 6] = [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0];
/// Examples of which the digests are held at once (80 bytes each); of more, some after others.
const AT_ONCE: u64 = 4_000_000;

/// How many of the trained examples have which length.
pub struct Lengths {
    max: usize,
    /// By length.
    counts: Vec<u64>,
}

impl Lengths {
    /// Of all examples that are trained.
    pub fn of(corpus: &Corpus, max: usize) -> Result<Self> {
        let mut counts = vec![0; max + 1];
        for file in corpus.train.files() {
            each(&corpus.train, file, |place, facts| {
                if corpus.keeps(place, &facts.digest) {
                    counts[(facts.tokens as usize).min(max)] += 1;
                }
                Ok(())
            })?;
        }
        Ok(Self { max, counts })
    }

    /// How many examples there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The length that so many of 100 do not exceed.
    pub fn percentile(&self, percent: u64) -> u32 {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut so_far = 0;
        let reached = self.counts.iter().position(|count| {
            so_far += count;
            so_far > 0 && so_far >= wanted
        });
        reached.unwrap_or(0) as u32
    }

    /// Up to so many tokens, so many examples.
    pub fn histogram(&self) -> Vec<(u32, u64)> {
        let mut before = 0;
        let bar = |share: f64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss
            )] // lengths of rows
            let edge = (share * self.max as f64).ceil() as u32;
            let through: u64 = self.counts.iter().take(edge as usize + 1).sum();
            let count = through - before;
            before = through;
            (edge, count)
        };
        EDGES.map(bar).to_vec()
    }
}

/// Examples of which an equal record stands before; each record is added to the findings.
pub fn duplicates(collected: &mut Collected, corpus: &Corpus) -> Result<u64> {
    let mut examples = 0_u64;
    for file in corpus.train.files() {
        each(&corpus.train, file, |_, _| {
            examples += 1;
            Ok(())
        })?;
    }
    let parts = examples.div_ceil(AT_ONCE).max(1);
    let mut count = 0;
    for part in 0..parts {
        let mut first: HashMap<Digest, (FileId, u64)> = HashMap::new();
        let mut last = None;
        for file in corpus.train.files() {
            let name = &corpus.train.file(file).name;
            each(&corpus.train, file, |_, facts| {
                if number(&facts.digest) % parts != part {
                    return Ok(());
                }
                let here = (file, facts.line);
                let before = *first.entry(facts.digest).or_insert(here);
                count += u64::from(before != here);
                // A long text has several examples, and is one record.
                if before == here || last.replace(here) == Some(here) {
                    return Ok(());
                }
                let (file, line) = (&corpus.train.file(before.0).name, before.1);
                let reason = format!("equal to `{file}:{line}`");
                collected.groups.add_record(FindingKind::Duplicate);
                let finding = Finding::new(FindingKind::Duplicate, reason);
                collected.add(corpus.train.role(), name, facts.line, &finding)
            })?;
        }
    }
    Ok(count)
}

/// Any number of a digest that is the same everywhere.
fn number(digest: &Digest) -> u64 {
    digest.0[8..16].iter().fold(0, |all, byte| (all << 8) | u64::from(*byte))
}
