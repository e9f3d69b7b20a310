//! The files of a data set: which can be read, and which of them patterns and names choose.

use std::collections::{BTreeSet, HashMap};

use super::card::Subset;
use super::front_matter::CARD;
use super::naming::guess;
use super::nearest::{names, no_split, with_way_round};
use super::pattern::{Pattern, inside, is_apart, name};
use super::{Chosen, DataFilesQuery};
use crate::error::{Error, Result};

/// How many patterns with wildcards one split may have; paths are not counted.
const PATTERNS_MAX: usize = 1000;
/// Texts that lie beside data and hold no records.
const NOTES: [&str; 9] = [
    "authors",
    "changelog",
    "citation",
    "copying",
    "licence",
    "license",
    "notice",
    "readme",
    "requirements",
];

/// The files of a data set.
pub(super) struct Files<'a> {
    pub listing: &'a [&'a str],
    pub extensions: &'a [String],
}

impl<'a> Files<'a> {
    /// The ending by which a file can be read, e.g. `jsonl.gz`; the longest that fits.
    pub fn ending(&self, path: &str) -> Option<&'a str> {
        let fits = |ending: &&String| {
            let Some(at) = path.len().checked_sub(ending.len() + 1) else { return false };
            let bytes = path.as_bytes();
            bytes[at] == b'.' && bytes[at + 1..].eq_ignore_ascii_case(ending.as_bytes())
        };
        let longest = self.extensions.iter().filter(fits).max_by_key(|ending| ending.len());
        longest.map(String::as_str)
    }

    /// What takes part when names decide: readable files in a folder, by their path in it.
    pub fn candidates(&self, folder: &str) -> Vec<&'a str> {
        let data = |path: &&str| {
            let no_data =
                is_apart(path) || is_note(path) || (name(path) == "state.json" && self.is_saved());
            self.ending(path).is_some() && !no_data
        };
        self.listing.iter().filter_map(|path| within(folder, path)).filter(data).collect()
    }

    /// Was it written by `save_to_disk`? Its Arrow files are private to that library.
    fn is_saved(&self) -> bool {
        self.listing.iter().any(|path| path.ends_with(".arrow"))
    }

    /// Files by name, where the card does not list them.
    pub fn guessed(
        &self,
        subset: Option<&Subset>,
        split: &str,
        wanted: &DataFilesQuery,
    ) -> Result<(BTreeSet<&'a str>, String)> {
        let folder = inside(subset.and_then(|one| one.folder.as_deref()).unwrap_or_default())?;
        let folder = folder.join("/");
        let found = guess(&self.candidates(&folder));
        if found.splits.is_empty() {
            return Err(self.nothing_readable(&folder));
        }
        let there: Vec<&str> = found.splits.iter().map(|(name, _)| name.as_str()).collect();
        let Some((_, paths)) = found.splits.iter().find(|(name, _)| name == split) else {
            return Err(no_split(split, &there, subset.map(|one| one.name.as_str()), wanted)
                .because(found.why));
        };
        let (kept, left_out) = self.one_format(paths);
        let mut why = found.why.to_owned();
        if !left_out.is_empty() {
            let others = names(left_out.iter().copied());
            why += &format!("; left out, since it is another format: {others}");
        }
        let chosen = |path: &&str| within(&folder, path).is_some_and(|path| kept.contains(path));
        Ok((self.listing.iter().copied().filter(chosen).collect(), why))
    }

    /// The most common format of the files; one table in two formats would be trained on twice.
    fn one_format(&self, paths: &[&'a str]) -> (BTreeSet<&'a str>, Vec<&'a str>) {
        const FAVOURITES: [&str; 4] = ["csv", "json", "jsonl", "parquet"];
        let mut counts = HashMap::<(bool, &str), usize>::new();
        for path in paths {
            let key = (!is_metadata(path), container(self.ending(path).unwrap_or_default()));
            *counts.entry(key).or_default() += 1;
        }
        let rank =
            |ending: &str| FAVOURITES.iter().position(|one| *one == ending).map_or(0, |at| at + 1);
        let best = counts
            .into_iter()
            .max_by_key(|&((is_data, ending), count)| (is_data, count, rank(ending), ending));
        let format = best.map_or("", |((_, ending), _)| family(ending));
        let fits =
            |path: &&&str| family(container(self.ending(path).unwrap_or_default())) == format;
        let kept = paths.iter().filter(fits).copied().collect();
        (kept, paths.iter().filter(|path| !fits(path)).copied().collect())
    }

    /// Files that the card lists for a split.
    pub fn listed(
        &self,
        subset: &Subset,
        split: &str,
        wanted: &DataFilesQuery,
    ) -> Result<BTreeSet<&'a str>> {
        let all = subset.splits.as_deref().unwrap_or_default();
        let Some(found) = all.iter().find(|one| one.name == split) else {
            let there: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            return Err(no_split(split, &there, Some(&subset.name), wanted));
        };
        let folder = subset.folder.as_deref().unwrap_or_default();
        let (files, unread) = self.matching(folder, &found.patterns, false).map_err(|error| {
            with_way_round(match error.place {
                None => error.at(CARD),
                Some(_) => error,
            })
        })?;
        if !files.is_empty() {
            return Ok(files);
        }
        let what = format!("no file of the split `{split}` of `{}` can be read", subset.name);
        if found.patterns.is_empty() {
            return Err(with_way_round(
                Error::data(what).because("the card names no file").at(CARD),
            ));
        }
        let patterns = names(found.patterns.iter().map(String::as_str));
        let error = Error::data(what).because(format!("the card names {patterns}"));
        Err(match unread.first() {
            Some(path) => self.unreadable(error, path),
            None => with_way_round(error.because("none of it is in the data set")),
        })
    }

    /// Files that the user names.
    pub fn named(&self, patterns: &[String]) -> Result<Chosen> {
        let (files, _) = self.matching("", patterns, true)?;
        Ok(Chosen {
            files: files.into_iter().map(str::to_owned).collect(),
            subset: None,
            split: None,
            why: "`files` names them".to_owned(),
        })
    }

    /// The files that patterns match, and those that they match and that cannot be read.
    ///
    /// A path must be there, and `each` pattern must match, or it is an error.
    fn matching(
        &self,
        folder: &str,
        patterns: &[String],
        each: bool,
    ) -> Result<(BTreeSet<&'a str>, Vec<&'a str>)> {
        let known: HashMap<&str, &'a str> =
            self.listing.iter().map(|path| (*path, *path)).collect();
        let patterns: Vec<Pattern> =
            patterns.iter().map(|text| Pattern::new(folder, text)).collect::<Result<_>>()?;
        if patterns.iter().filter(|pattern| pattern.is_glob()).count() > PATTERNS_MAX {
            let what = format!("more than {PATTERNS_MAX} patterns with wildcards");
            return Err(Error::data(what).hint("name folders with `**`"));
        }
        let (mut files, mut unread) = (BTreeSet::new(), Vec::new());
        for pattern in &patterns {
            // A file may have brackets in its name, so the path itself comes first.
            let matched: Vec<&str> = match known.get(pattern.text()) {
                Some(path) => vec![path],
                None if pattern.is_glob() => {
                    self.listing.iter().copied().filter(|path| pattern.matches(path)).collect()
                }
                None => Vec::new(),
            };
            let (readable, others): (Vec<&str>, Vec<&str>) =
                matched.into_iter().partition(|path| self.ending(path).is_some());
            if readable.is_empty() && (each || !pattern.is_glob()) {
                return Err(self.no_match(pattern, others.first().copied()));
            }
            files.extend(readable);
            unread.extend(others);
        }
        Ok((files, unread))
    }
}

/// The path of a file in a folder of the data set, from there.
fn within<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}

/// `jsonl` of `jsonl.gz`.
fn container(ending: &str) -> &str {
    ending.split('.').next().unwrap_or(ending)
}

/// Endings that one reader of `datasets` reads.
fn family(ending: &str) -> &str {
    match ending {
        "json" | "jsonl" | "jsonlines" | "ndjson" => "json",
        "csv" | "tsv" => "csv",
        other => other,
    }
}

fn is_note(path: &str) -> bool {
    let name = name(path).to_lowercase();
    name.strip_suffix(".txt").is_some_and(|stem| NOTES.contains(&stem))
}

/// Files that describe others, such as images.
fn is_metadata(path: &str) -> bool {
    ["metadata.csv", "metadata.jsonl", "metadata.parquet"].contains(&name(path))
}
