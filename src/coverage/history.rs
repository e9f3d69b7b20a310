//! Results in the order of time: how much was exercised when, and what came and went between.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::{Serialize, Serializer};

use super::criteria::CRITERIA;
use super::diff::{DiffCounts, diff};
use super::result::{Counts, Coverage};
use super::table::{shown, title};
use crate::artifact::markup::code;
use crate::error::{Context, Error, Result};
use crate::files::Digest;

/// Version of the JSON form.
const VERSION: u32 = 1;
/// Letters of a date: `2026-11-30`.
const DATE: usize = 10;

/// A result in a history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryPoint {
    /// The name of its file without the ending.
    pub name: String,
    /// The day that stands in the name of the file or of its folder.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub date: Option<Date>,
    /// The digest of the file.
    pub sha256: Digest,
    /// The model, and its digest.
    pub model: String,
    /// The digest of the model.
    pub model_sha256: Digest,
    /// The data.
    pub data: String,
    /// Records.
    pub records: u64,
    /// Their tokens.
    pub tokens: u64,
    /// What is exercised, by criterion.
    pub totals: Counts,
    /// By criterion, what the result before it and this one exercise; the first has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<BTreeMap<String, DiffCounts>>,
}

#[expect(clippy::ref_option)] // serde asks so
fn as_text<S: Serializer>(date: &Option<Date>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&date.unwrap_or_default())
}

/// Results in the order of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoverageHistory {
    /// Of this form.
    pub version: u32,
    /// The oldest first.
    pub points: Vec<HistoryPoint>,
    /// What each criterion is called, for people.
    #[serde(skip)]
    pub titles: BTreeMap<&'static str, String>,
}

/// Reads results and puts them in the order of the days in their names; where one has none, they
/// stay in the order in which they are named. A folder stands for the `.json` files in it.
///
/// # Errors
/// When a file is no result, or two of them count different things.
pub fn history(places: &[PathBuf]) -> Result<CoverageHistory> {
    let mut found = Vec::new();
    for path in files(places)? {
        let (coverage, sha256) = Coverage::read(&path)?;
        found.push((date_of(&path), path, coverage, sha256));
    }
    if found.len() < 2 {
        return Err(Error::usage("a history needs at least two results")
            .because(format!("{} are there", found.len()))
            .hint("name files that `firebrand coverage --out` wrote, or a folder of them"));
    }
    if found.iter().all(|(date, ..)| date.is_some()) {
        found.sort_by_key(|(date, ..)| *date); // stable: those of a day stay as they were named
    }
    let mut points: Vec<HistoryPoint> = Vec::new();
    for (number, (date, path, coverage, sha256)) in found.iter().enumerate() {
        let since = match number.checked_sub(1).map(|before| &found[before]) {
            None => None,
            Some((_, _, before, _)) => {
                Some(diff(before, coverage).map_err(|error| error.at(path))?.totals)
            }
        };
        points.push(HistoryPoint {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            date: *date,
            sha256: *sha256,
            model: coverage.model.name.clone(),
            model_sha256: coverage.model.sha256,
            data: coverage.data.name.clone(),
            records: coverage.data.records,
            tokens: coverage.data.tokens,
            totals: coverage.totals.clone(),
            since,
        });
    }
    let newest = &found[found.len() - 1].2;
    let titles = CRITERIA.into_iter().filter(|it| newest.totals.contains_key(it.name()));
    let titles = titles.map(|it| (it.name(), title(it, newest))).collect();
    Ok(CoverageHistory { version: VERSION, points, titles })
}

fn files(places: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for place in places {
        if !place.is_dir() {
            all.push(place.clone());
            continue;
        }
        let entries = place.read_dir().context_at("cannot list the folder", place)?;
        let mut inside = Vec::new();
        for entry in entries {
            let path = entry.context_at("cannot list the folder", place)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                inside.push(path);
            }
        }
        inside.sort();
        all.append(&mut inside);
    }
    Ok(all)
}

/// The day in the name of a file, or else in that of its folder.
fn date_of(path: &Path) -> Option<Date> {
    let names = [path.file_stem(), path.parent().and_then(Path::file_name)];
    names.into_iter().flatten().find_map(|name| date_in(&name.to_string_lossy()))
}

fn date_in(name: &str) -> Option<Date> {
    let starts = 0..=name.len().checked_sub(DATE)?;
    let texts = starts.filter_map(|start| name.get(start..start + DATE));
    let dated = texts.filter(|text| text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-');
    dated.filter_map(|text| text.parse().ok()).next()
}

impl CoverageHistory {
    /// By criterion in order, what is exercised at each point, from 0 to 1.
    pub fn shares(&self) -> impl Iterator<Item = (&str, Vec<f64>)> {
        let named = CRITERIA.into_iter().filter_map(|it| self.titles.get_key_value(it.name()));
        named.map(|(name, title)| {
            let of = |point: &HistoryPoint| point.totals.get(*name).map_or(0.0, super::share);
            (title.as_str(), self.points.iter().map(of).collect())
        })
    }

    /// Days from the first result to each, if all have one.
    pub fn days(&self) -> Option<Vec<i32>> {
        let first = self.points.first()?.date?;
        let since = |point: &HistoryPoint| Some((point.date? - first).get_days());
        self.points.iter().map(since).collect()
    }
}

/// The table: a line for each result, with what it exercises, and beneath what came and went since
/// the one before.
pub fn history_markdown(history: &CoverageHistory) -> String {
    let columns: Vec<&str> = CRITERIA.into_iter().map(|it| it.name()).collect();
    let columns = columns.into_iter().filter(|name| history.titles.contains_key(name));
    let columns: Vec<&str> = columns.collect();
    let titles: Vec<&str> = columns.iter().map(|name| history.titles[name].as_str()).collect();
    let mut text = format!("| result | model | records | {} |\n", titles.join(" | "));
    let _ = writeln!(text, "| --- | --- | ---: |{}", " ---: |".repeat(columns.len()));
    for point in &history.points {
        let cell = |name: &&str| {
            let count = point.totals.get(*name).map_or("–".to_owned(), shown);
            match point.since.as_ref().and_then(|since| since.get(*name)) {
                Some(since) => format!("{count}, +{} −{}", since.only_b, since.only_a),
                None => count,
            }
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let (name, model) = (code(&point.name), code(&point.model));
        let _ = writeln!(text, "| {name} | {model} | {} | {} |", point.records, cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_stand_in_names_of_files_and_folders() {
        let day = |path: &str| date_of(Path::new(path)).map(|date| date.to_string());
        assert_eq!(day("a/eval-2026-11-30.json").as_deref(), Some("2026-11-30"));
        assert_eq!(day("2026-02-28/coverage.json").as_deref(), Some("2026-02-28"));
        assert_eq!(day("runs/ü2026-13-01x2026-01-02.json").as_deref(), Some("2026-01-02"));
        assert_eq!(day("runs/20261130.json"), None);
        assert_eq!(day("x.json"), None);
    }
}
