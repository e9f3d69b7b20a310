//! Several adapters that are added to one base, one after the other.

use std::collections::BTreeSet;
use std::path::Path;

use crate::adapters::WeightChange;
use crate::error::{Error, Result};

/// Refuses a weight of which two adapters saved all or some rows: only one of them can take its
/// place.
pub(super) fn refuse_twice<'a>(whole: impl Iterator<Item = (String, &'a Path)>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (name, path) in whole {
        if !seen.insert(name.clone()) {
            return Err(Error::adapter(format!(
                "two of the adapters save `{name}`, or rows of it"
            ))
            .at(path)
            .because("one would take the place of the other"));
        }
    }
    Ok(())
}

/// Each change on what those before it left; what is told as added is what all of them added.
pub(super) fn apply_all(
    changes: &[Box<dyn WeightChange>],
    first: usize,
    (after, added): (&mut [f32], &mut [f32]),
) {
    let Some((one, others)) = changes.split_first() else { return };
    one.apply(first, after, added);
    for change in others {
        let mut more = vec![0.0; added.len()];
        change.apply(first, after, &mut more);
        added.iter_mut().zip(&more).for_each(|(all, more)| *all += more);
    }
}
