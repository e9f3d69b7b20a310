//! What workers of a sweep tell each other by a store: which steps a point has, what was measured
//! at the steps where points are compared, how it ended.
//!
//! Every fact is the name of a small object, `board/POINT/FACT`, so that one list tells all.
//! Facts are never wrong later: a step that was saved was saved. Two workers that tell the same
//! fact write the same object.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::stores::Store;

/// The part of the store that has the facts.
const BOARD: &str = "board";
const FAILED: &str = "failed";
const FINISHED: &str = "finished";
/// Longer reasons are cut.
const REASON_BYTES_MAX: u64 = 16 << 10;

/// What is known of a point.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Its saved steps.
    pub reached: u64,
    /// Whether its result is there.
    pub finished: bool,
    /// Whether it ended with an error.
    pub failed: bool,
    /// The metric at steps where points are compared; nothing where it was not measured.
    pub values: BTreeMap<u64, Option<f64>>,
}

/// The facts of all points in a store.
#[derive(Debug, Clone)]
pub struct Board {
    store: Store,
}

impl Board {
    /// That of a sweep whose results are in this store.
    ///
    /// # Errors
    /// Never for a store that was opened.
    pub fn of(store: &Store) -> Result<Self> {
        Ok(Self { store: store.within(BOARD)? })
    }

    /// Everything that was told.
    ///
    /// # Errors
    /// When the store does not say.
    pub fn read(&self) -> Result<BTreeMap<String, Facts>> {
        let mut all: BTreeMap<String, Facts> = BTreeMap::new();
        for object in self.store.list("")? {
            let Some((point, fact)) = object.key.split_once('/') else { continue };
            let facts = all.entry(point.to_owned()).or_default();
            match fact {
                FINISHED => facts.finished = true,
                FAILED => facts.failed = true,
                other => {
                    if let Some(step) = other.strip_prefix("reached-") {
                        facts.reached = facts.reached.max(step.parse().unwrap_or(0));
                    } else if let Some((step, value)) = value_of(other) {
                        facts.values.insert(step, value);
                    }
                }
            }
        }
        // Who is finished has failed before, if at all.
        all.values_mut().filter(|facts| facts.finished).for_each(|facts| facts.failed = false);
        Ok(all)
    }

    /// Tells what is new; `why` is the reason of a failure.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn tell(&self, point: &str, known: &Facts, now: &Facts, why: &str) -> Result<()> {
        let put = |fact: &str, body: &str| {
            self.store.put_new(&format!("{point}/{fact}"), body.as_bytes().to_vec()).map(drop)
        };
        for (step, value) in &now.values {
            if !known.values.contains_key(step) {
                put(&name_of(*step, *value), "")?;
            }
        }
        // Who waits for steps finds them, and what was measured up to there.
        if now.reached > known.reached {
            put(&format!("reached-{:08}", now.reached), "")?;
        }
        if now.finished && !known.finished {
            put(FINISHED, "")?;
        }
        match (now.failed, known.failed) {
            (true, false) => {
                let cut = why.floor_char_boundary(why.len().min(REASON_BYTES_MAX as usize));
                put(FAILED, &why[..cut])
            }
            (false, true) => self.store.delete(&format!("{point}/{FAILED}")),
            _ => Ok(()),
        }
    }

    /// Why a point failed.
    ///
    /// # Errors
    /// When the store does not say.
    pub fn reason(&self, point: &str) -> Result<String> {
        let bytes = self.store.get(&format!("{point}/{FAILED}"), REASON_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    }
}

/// The number is in the name, bit for bit.
fn name_of(step: u64, value: Option<f64>) -> String {
    match value {
        Some(value) => format!("value-{step:08}-{:016x}", value.to_bits()),
        None => format!("value-{step:08}-none"),
    }
}

fn value_of(fact: &str) -> Option<(u64, Option<f64>)> {
    let (step, value) = fact.strip_prefix("value-")?.split_once('-')?;
    let value = match value {
        "none" => None,
        bits => Some(f64::from_bits(u64::from_str_radix(bits, 16).ok()?)),
    };
    Some((step.parse().ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::StoreAddress;

    #[test]
    fn facts_are_told_once_and_read_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreAddress::Folder(folder.path().join("store"))).unwrap();
        let board = Board::of(&store).unwrap();
        assert_eq!(board.read().unwrap(), BTreeMap::new());
        let value = 0.1 + 0.2;
        let mut facts = Facts { reached: 20, failed: true, ..Facts::default() };
        facts.values = [(10, Some(value)), (20, None)].into();
        board.tell("acme-1", &Facts::default(), &facts, "error[data]: none").unwrap();
        let read = board.read().unwrap();
        assert_eq!(read["acme-1"], facts);
        assert_eq!(board.reason("acme-1").unwrap(), "error[data]: none");
        assert_eq!(store.list("").unwrap().len(), 4);
        let more = Facts { reached: 30, finished: true, failed: false, ..facts.clone() };
        board.tell("acme-1", &facts, &more, "").unwrap();
        assert_eq!(board.read().unwrap()["acme-1"], more);
        store.put("board/acme-1/value-x-y", Vec::new()).unwrap();
        store.put("board/else", Vec::new()).unwrap();
        assert_eq!(board.read().unwrap().len(), 1, "what nobody tells so is no fact");
    }
}
