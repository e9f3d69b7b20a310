//! Which files of a data set make up a subset and a split.
//!
//! The rules are those of Hugging Face `datasets`, so that a data set means here what
//! `load_dataset(path, name, split=...)` means there: the card's `configs`, else names of files.
//! `tests/reference/data_files.py` asks that library; a test compares. The differences:
//!
//! - Files are sorted by their bytes and taken once, even where several patterns match them.
//! - Only files that can be read here take part when names decide; there, a script called
//!   `train.py` makes a split. Endings are compared without regard to case.
//! - Where names decide, the most common format of a split wins, as there; but each split may have
//!   its own, and notes such as `LICENSE.txt` do not count. Where a card or `files` chooses, all
//!   formats are taken.
//! - Names of splits in `data/SPLIT-00000-of-00001` may hold any letters.
//! - A subset may give both `data_dir` and `data_files`, or neither; a broken subset harms only
//!   itself. Aliases and merge keys in `configs`, and duplicate keys anywhere, are refused.
//! - The rules for evaluation logs and agent tasks (`*.eval`, `task.toml`), images and archives,
//!   `.huggingface.yaml`, and the settings of readers (`sep`, `field`) are not followed; the
//!   settings are named.
//! - `[^a]` in a pattern means what `[!a]` means, and `?` is one byte.

mod card;
mod complaints;
mod files;
mod folder;
mod front_matter;
mod naming;
mod nearest;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use folder::list_local;

use self::files::Files;
use self::naming::guess;
use self::nearest::{names, with_way_round};
use self::pattern::inside;
use crate::error::{Error, Result};

/// The split that is taken where none is named.
const USUAL_SPLIT: &str = "train";

/// What a user asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DataFilesQuery<'a> {
    /// A subset of the card; `None`: the default one.
    pub subset: Option<&'a str>,
    /// `None`: `train`.
    pub split: Option<&'a str>,
    /// Paths and patterns. Where there are any, they alone decide.
    pub files: &'a [String],
}

/// The files that were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Paths in the data set, sorted by their bytes.
    pub files: Vec<String>,
    /// The subset of the card they belong to.
    pub subset: Option<String>,
    /// The split they belong to; `None` where `files` chose.
    pub split: Option<String>,
    /// One clause for people: what decided, and what was left out.
    pub why: String,
}

/// A subset and its splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// `None` where the card declares no subsets.
    pub subset: Option<String>,
    /// Is it taken where none is named?
    pub default: bool,
    /// In the card's order, or train, validation, test, others.
    pub splits: Vec<String>,
}

/// Chooses files of a data set from the list of all its files.
///
/// `listing` holds paths with `/` from the data set's root; `readme` is the text of its card;
/// `extensions` are the file name endings that can be read, without the first dot, such as
/// `jsonl` or `jsonl.gz`.
///
/// # Errors
/// There is no such subset, split or file, nothing can be read, or the card is broken.
pub fn choose(
    listing: &[&str],
    readme: Option<&str>,
    wanted: &DataFilesQuery,
    extensions: &[String],
) -> Result<Chosen> {
    let files = Files { listing, extensions };
    if !wanted.files.is_empty() {
        return files.named(wanted.files);
    }
    let split = whole_split(wanted.split)?;
    let subsets = readme.map_or_else(|| Ok(Vec::new()), card::subsets).map_err(with_way_round)?;
    let subset = match (card::pick(&subsets, wanted.subset)?, wanted.subset) {
        (None, Some(asked)) if asked != "default" => return Err(files.no_subsets(asked)),
        (subset, _) => subset,
    };
    let (chosen, mut why) = match subset.map(|subset| (subset, &subset.splits)) {
        Some((subset, Some(_))) => (files.listed(subset, split, wanted)?, CARD_WHY.to_owned()),
        _ => files.guessed(subset, split, wanted)?,
    };
    if let Some(subset) = subset
        && !subset.settings.is_empty()
    {
        let settings = names(subset.settings.iter().map(String::as_str));
        why += &format!("; the card's settings {settings} are not followed");
    }
    Ok(Chosen {
        files: chosen.into_iter().map(str::to_owned).collect(),
        subset: subset.map(|subset| subset.name.clone()),
        split: Some(split.to_owned()),
        why,
    })
}

/// The subsets and splits of a data set, to be shown; the parameters are those of [`choose`].
///
/// # Errors
/// The card is broken.
pub fn splits(
    listing: &[&str],
    readme: Option<&str>,
    extensions: &[String],
) -> Result<Vec<Available>> {
    let files = Files { listing, extensions };
    let subsets = readme.map_or_else(|| Ok(Vec::new()), card::subsets)?;
    let mut guessed = HashMap::<String, Vec<String>>::new();
    let mut in_folder = |folder: Option<&str>| -> Result<Vec<String>> {
        let folder = inside(folder.unwrap_or_default())?.join("/");
        if let Some(known) = guessed.get(&folder) {
            return Ok(known.clone());
        }
        let found = guess(&files.candidates(&folder)).splits;
        let found: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
        guessed.insert(folder, found.clone());
        Ok(found)
    };
    if subsets.is_empty() {
        let splits = in_folder(None)?;
        return Ok(vec![Available { subset: None, default: true, splits }]);
    }
    let default = card::pick(&subsets, None).ok().flatten().map(|subset| subset.name.clone());
    let mut all = Vec::with_capacity(subsets.len());
    for subset in &subsets {
        let splits = match &subset.splits {
            Some(splits) => splits.iter().map(|split| split.name.clone()).collect(),
            None => in_folder(subset.folder.as_deref())?,
        };
        let default = default.as_ref() == Some(&subset.name);
        all.push(Available { subset: Some(subset.name.clone()), default, splits });
    }
    Ok(all)
}

/// Why the files of a card are chosen.
const CARD_WHY: &str = "the card lists them";

/// A split as a whole.
///
/// # Errors
/// A part of a split, or several, as `datasets` writes them.
fn whole_split(wanted: Option<&str>) -> Result<&str> {
    let split = wanted.unwrap_or(USUAL_SPLIT);
    if let Some((name, _)) = split.split_once('[') {
        return Err(Error::data(format!("`{split}` asks for a part of a split"))
            .hint(format!("name the whole split: `split = \"{name}\"`"))
            .hint(
                "`train.max_steps` bounds how much is trained on, `data.val_size` holds some out",
            ));
    }
    if split.contains('+') {
        return Err(Error::data(format!("`{split}` asks for several splits"))
            .hint("name each of them in a data set entry of its own"));
    }
    Ok(split)
}
