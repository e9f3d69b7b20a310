//! Which records would make a data set exercise most more: greedily, one after the other, each the
//! one that adds most to all before it. No other order of choosing that takes as little time is
//! better than 1 − 1/e of the best set for certain (Nemhauser, Wolsey, Fisher 1978).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::bits::BitSet;
use super::result::{Counts, Covered, PartCoverage};
use super::variations::VariationKind;
use super::{CoveragePass, Measured};
use crate::data::Case;
use crate::error::{Error, Result};
use crate::evaluation::Watcher;
use crate::files::Digest;
use crate::random::Stream;

/// Version of the JSON form.
const VERSION: u32 = 1;
/// Paths that are kept of all candidates together: 1 GiB.
const KEPT_MAX: usize = 1 << 28;

/// A record that may be added.
pub struct Candidate {
    /// The record.
    pub case: Case,
    /// What it is a variation of, and how; none of a record of the pool.
    pub variation: Option<(String, VariationKind)>,
}

/// A record to add.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suggestion {
    /// Where it stands; of a variation the record that it is of.
    pub record: String,
    /// Its digest.
    pub sha256: Digest,
    /// How it was made of that record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation: Option<VariationKind>,
    /// Paths that it exercises, and none before it does.
    pub gain: u64,
    /// Paths that are exercised with it.
    pub covered: u64,
    /// The record itself.
    pub fields: Map<String, Value>,
}

/// What to add to a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suggestions {
    /// Of this form.
    pub version: u32,
    /// What ties are decided by.
    pub seed: u64,
    /// Records that were looked at.
    pub candidates: u64,
    /// What the data set exercises.
    pub before: Covered,
    /// The same by criterion.
    pub totals_before: Counts,
    /// With all suggestions.
    pub totals_after: Counts,
    /// The one that adds most first.
    pub suggestions: Vec<Suggestion>,
}

/// Chooses at most so many of the candidates; fewer where the rest adds nothing.
///
/// # Errors
/// When the model cannot be run on them, or they exercise more than can be kept.
pub fn suggest(
    measured: &mut Measured,
    candidates: &[Candidate],
    (wanted, seed): (usize, u64),
    size: (usize, usize),
    watcher: &dyn Watcher,
) -> Result<Suggestions> {
    let new = new_paths(measured, candidates, size, watcher)?;
    let total = measured.pass.space.total;
    let mut covered = measured.set.clone();
    let before = Covered { covered: covered.count(), total: total as u64 };
    let ties = Stream::new(seed).site("coverage suggest");
    let mut heap: BinaryHeap<(usize, u64, Reverse<usize>)> = (0..)
        .zip(candidates.iter().zip(&new))
        .filter(|(_, (_, new))| !new.is_empty())
        .map(|(number, (candidate, new))| {
            let tie = ties.site(&candidate.case.digest.to_string()).bits(0);
            (new.len(), tie, Reverse(number))
        })
        .collect();
    let mut suggestions: Vec<Suggestion> = Vec::new();
    while suggestions.len() < wanted
        && let Some((known, tie, Reverse(number))) = heap.pop()
    {
        // What a record adds only becomes less: one that still adds what was known is the best.
        let gain = new[number].iter().filter(|path| !covered.contains(**path as usize)).count();
        if gain < known {
            if gain > 0 {
                heap.push((gain, tie, Reverse(number)));
            }
            continue;
        }
        new[number].iter().for_each(|path| covered.insert(*path as usize));
        let Candidate { case, variation } = &candidates[number];
        let of = variation.as_ref();
        suggestions.push(Suggestion {
            record: of.map_or_else(|| case.record.to_string(), |(record, _)| record.clone()),
            sha256: case.digest,
            variation: of.map(|(_, kind)| *kind),
            gain: gain as u64,
            covered: covered.count(),
            fields: case.fields.clone(),
        });
    }
    let totals = |set: &BitSet| PartCoverage::new("", 0, &measured.pass.space, set).totals;
    Ok(Suggestions {
        version: VERSION,
        seed,
        candidates: candidates.len() as u64,
        before,
        totals_before: totals(&measured.set),
        totals_after: totals(&covered),
        suggestions,
    })
}

/// What each candidate exercises that the data set does not, in order.
fn new_paths(
    measured: &mut Measured,
    candidates: &[Candidate],
    size: (usize, usize),
    watcher: &dyn Watcher,
) -> Result<Vec<Vec<u32>>> {
    let cases: Vec<Case> = candidates.iter().map(|candidate| candidate.case.clone()).collect();
    let (pass, before): (&mut CoveragePass, &BitSet) = (&mut measured.pass, &measured.set);
    let mut new: Vec<Vec<u32>> = vec![Vec::new(); cases.len()];
    let mut kept = 0;
    watcher.begin("candidates", cases.iter().map(|case| case.tokens() as u64).sum());
    let mut numbers = pass.no_numbers();
    let mut progress = |tokens| watcher.advance(tokens);
    pass.run(&cases, size, &mut numbers, &mut progress, &mut |case, set| {
        let mut own = set.clone();
        own.remove(before);
        kept += own.count();
        if kept <= KEPT_MAX as u64 {
            let paths =
                own.numbers().map(|path| u32::try_from(path).expect("paths are below 2^32"));
            new[case].extend(paths);
        }
    })?;
    watcher.end();
    if kept > KEPT_MAX as u64 {
        return Err(Error::evaluation("the candidates exercise more than can be kept in memory")
            .because(format!("{kept} new paths of {} candidates", cases.len()))
            .hint("look at fewer of them with `--pool-records`"));
    }
    // Pieces of a record may exercise the same.
    for paths in &mut new {
        paths.sort_unstable();
        paths.dedup();
    }
    Ok(new)
}
