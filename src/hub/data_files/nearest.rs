//! Names in messages: the nearest first, and not too many.

use std::cmp::Reverse;

use super::DataFilesQuery;
use crate::error::{Error, printable};

/// How many names an error message lists.
const NAMES_SHOWN: usize = 10;

/// A split was asked for that is not there.
pub(super) fn no_split(
    split: &str,
    there: &[&str],
    subset: Option<&str>,
    wanted: &DataFilesQuery,
) -> Error {
    let of = subset.map_or_else(|| "data set".to_owned(), |name| format!("subset `{name}`"));
    let usual = if wanted.split.is_none() { ", which is read if none is named" } else { "" };
    let error = Error::data(format!("the {of} has no split `{split}`{usual}"));
    let sorted = sorted_by_distance(split, there.iter().copied());
    match sorted.first() {
        None => error.because("it has none at all"),
        Some(near) => error
            .because(format!("it has {}", names(sorted.iter().copied())))
            .hint(format!("name one, e.g. `split = \"{near}\"`")),
    }
}

/// Says how to do without the card.
pub(super) fn with_way_round(error: Error) -> Error {
    error.hint("`files` chooses files without the card, e.g. `files = [\"data/*.parquet\"]`")
}

fn sorted_by_distance<'a>(wanted: &str, all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = all.collect();
    if !wanted.is_empty() {
        all.sort_by_cached_key(|name| {
            // What holds the word as a whole is nearer than what has as many letters in common.
            let holds = name.contains(wanted) || wanted.contains(name);
            (Reverse(holds), strsim::damerau_levenshtein(wanted, name))
        });
    }
    all
}

/// Names in backticks, the nearest first, not too many.
pub(super) fn nearest_first<'a>(wanted: &str, all: impl Iterator<Item = &'a str>) -> String {
    names(sorted_by_distance(wanted, all).into_iter())
}

/// Names in backticks, not too many.
pub(super) fn names<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = all.len().saturating_sub(NAMES_SHOWN);
    let shown: Vec<String> =
        all.take(NAMES_SHOWN).map(|name| format!("`{}`", printable(name))).collect();
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}
