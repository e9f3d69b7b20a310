//! Which examples are trained on: not those that are held out for validation, not those that the
//! validation data holds too, and of equal ones only the first where that was asked for.

use std::collections::{BTreeSet, HashSet};

use super::layout::FileId;
use crate::files::Digest;

/// What is held out of the training data, by the digests of records.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum HeldOut {
    /// Nothing.
    #[default]
    Nothing,
    /// Records whose digest, as a number from 0 to 1, is below this.
    Share(f64),
    /// Records whose digest is below this one.
    Below(Digest),
}

impl HeldOut {
    /// Whether a record is held out. The answer depends on its own bytes only, so a record stays
    /// on its side when others are added, and equal records are on the same side.
    pub fn has(&self, digest: &Digest) -> bool {
        match self {
            Self::Nothing => false,
            Self::Share(share) => place(digest) < *share,
            Self::Below(limit) => digest < limit,
        }
    }
}

/// A digest as a number from 0 to 1.
fn place(digest: &Digest) -> f64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.0[..8]);
    #[expect(clippy::cast_precision_loss)] // the lowest bits of a digest decide nothing
    let number = u64::from_be_bytes(first) as f64;
    number / 2_f64.powi(64)
}

/// Where an example stands: file, block, place in the block.
pub type Place = (FileId, u32, u32);

/// Which examples of the training data are trained on.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Held out for validation.
    pub held_out: HeldOut,
    /// Records of the validation data sets.
    pub validation: HashSet<Digest>,
    /// Records of which an equal one comes earlier.
    pub duplicates: BTreeSet<Place>,
    /// Records that are taken out of the rows that they have their places in.
    pub retracted: HashSet<Digest>,
}

impl Filter {
    /// Whether an example has a place in a row.
    pub fn places(&self, place: Place, digest: &Digest) -> bool {
        !self.held_out.has(digest)
            && !self.validation.contains(digest)
            && !self.duplicates.contains(&place)
    }

    /// Whether an example is trained on.
    pub fn keeps(&self, place: Place, digest: &Digest) -> bool {
        self.places(place, digest) && !self.retracted.contains(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_out(records: std::ops::Range<u32>, share: f64) -> BTreeSet<u32> {
        let held_out = HeldOut::Share(share);
        records.filter(|record| held_out.has(&Digest::of(&record.to_le_bytes()))).collect()
    }

    #[test]
    fn a_share_is_near_what_was_asked_and_stable_under_new_records() {
        let before = held_out(0..2000, 0.1);
        assert!((150..250).contains(&before.len()), "{}", before.len());
        let after = held_out(0..4000, 0.1);
        assert!(before.is_subset(&after));
        assert!(after.difference(&before).all(|record| *record >= 2000));
        assert!(before.is_subset(&held_out(0..2000, 0.2)));
    }

    #[test]
    fn each_reason_leaves_out_its_own() {
        let file = FileId { set: 0, file: 1 };
        let [a, b, c, d] = [1_u8, 2, 3, 4].map(|byte| Digest([byte; 32]));
        let mut filter = Filter::default();
        assert!(filter.keeps((file, 0, 0), &a));
        filter.held_out = HeldOut::Below(b);
        filter.validation.insert(c);
        filter.duplicates.insert((file, 2, 3));
        filter.retracted.insert(d);
        assert!(!filter.keeps((file, 0, 0), &a) && !filter.keeps((file, 0, 0), &c));
        assert!(filter.keeps((file, 0, 0), &b) && !filter.keeps((file, 2, 3), &b));
        assert!(filter.places((file, 0, 0), &d) && !filter.keeps((file, 0, 0), &d));
    }
}
