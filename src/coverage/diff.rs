//! Two results beside each other: what one data set exercises and the other does not.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::bits::BitSet;
use super::criteria::CRITERIA;
use super::result::{Coverage, Covered};
use super::table::{shown, title};
use crate::error::{Error, Result};
use crate::files::Digest;

/// Version of the JSON form.
const VERSION: u32 = 1;

/// Paths of a criterion by who exercises them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DiffCounts {
    /// Both.
    pub both: u64,
    /// The first alone.
    pub only_a: u64,
    /// The second alone.
    pub only_b: u64,
}

impl DiffCounts {
    /// How much the second exercises of what the first does.
    pub fn b_of_a(&self) -> Covered {
        Covered { covered: self.both, total: self.both + self.only_a }
    }

    /// How much the first exercises of what the second does.
    pub fn a_of_b(&self) -> Covered {
        Covered { covered: self.both, total: self.both + self.only_b }
    }

    fn add(&mut self, more: Self) {
        self.both += more.both;
        self.only_a += more.only_a;
        self.only_b += more.only_b;
    }
}

/// The paths of a layer that one of the two exercises, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffPaths {
    /// How many.
    #[serde(flatten)]
    pub counts: DiffCounts,
    /// Of the first alone.
    pub paths_only_a: Vec<usize>,
    /// Of the second alone.
    pub paths_only_b: Vec<usize>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerDiff {
    /// Its module path.
    pub path: String,
    /// By criterion.
    pub criteria: BTreeMap<String, DiffPaths>,
}

/// A result that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The data.
    pub name: String,
    /// The digest of the model.
    pub model: Digest,
    /// Records.
    pub records: u64,
}

/// Two results beside each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoverageDiff {
    /// Of this form.
    pub version: u32,
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Over all layers and criteria.
    pub all: DiffCounts,
    /// Over all layers, by criterion.
    pub totals: BTreeMap<String, DiffCounts>,
    /// Layer by layer.
    pub layers: Vec<LayerDiff>,
}

fn side(coverage: &Coverage) -> Side {
    let Coverage { data, model, .. } = coverage;
    Side { name: data.name.clone(), model: model.sha256, records: data.records }
}

/// Compares two results.
///
/// # Errors
/// When they count different things.
pub fn diff(a: &Coverage, b: &Coverage) -> Result<CoverageDiff> {
    if a.thresholds != b.thresholds || a.reference != b.reference {
        return Err(Error::evaluation("the results count different things")
            .because("they were measured with different thresholds or references")
            .hint("measure both with the same options"));
    }
    let shape = |it: &Coverage| -> Vec<_> {
        it.layers.iter().map(|layer| (layer.path.clone(), sizes(layer.counts()))).collect()
    };
    if shape(a) != shape(b) {
        return Err(Error::evaluation("the results are of models with different layers")
            .because(format!("they were measured on `{}` and `{}`", a.model.name, b.model.name)));
    }
    let layers: Vec<LayerDiff> = a.layers.iter().zip(&b.layers).map(of_layer).collect();
    let mut totals: BTreeMap<String, DiffCounts> = BTreeMap::new();
    let mut all = DiffCounts::default();
    for (name, paths) in layers.iter().flat_map(|layer| &layer.criteria) {
        totals.entry(name.clone()).or_default().add(paths.counts);
        all.add(paths.counts);
    }
    Ok(CoverageDiff { version: VERSION, a: side(a), b: side(b), all, totals, layers })
}

fn sizes(counts: super::Counts) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name, count.total)).collect()
}

fn of_layer((a, b): (&super::LayerCoverage, &super::LayerCoverage)) -> LayerDiff {
    let of = |name: &String| {
        let [a, b] =
            [a, b].map(|layer| layer.set(name).expect("it was looked at when it was read"));
        let less = |a: &BitSet, b: &BitSet| {
            let mut only = a.clone();
            only.remove(b);
            only.numbers().collect::<Vec<_>>()
        };
        let (paths_only_a, paths_only_b) = (less(&a, &b), less(&b, &a));
        let counts = DiffCounts {
            both: a.count_common(&b),
            only_a: paths_only_a.len() as u64,
            only_b: paths_only_b.len() as u64,
        };
        (name.clone(), DiffPaths { counts, paths_only_a, paths_only_b })
    };
    LayerDiff { path: a.path.clone(), criteria: a.criteria.keys().map(of).collect() }
}

/// The table of a comparison; `a` is the first of the two.
pub fn diff_markdown(diff: &CoverageDiff, a: &Coverage) -> String {
    let columns: Vec<_> = CRITERIA
        .into_iter()
        .filter(|criterion| diff.totals.contains_key(criterion.name()))
        .collect();
    let titles: Vec<String> = columns.iter().map(|column| title(*column, a)).collect();
    let mut text = format!("| only A, only B | {} | all |\n", titles.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(columns.len() + 1));
    let cell = |counts: Option<&DiffCounts>| match counts {
        Some(DiffCounts { only_a, only_b, .. }) => format!("{only_a}, {only_b}"),
        None => "–".to_owned(),
    };
    for layer in &diff.layers {
        let mut all = DiffCounts::default();
        layer.criteria.values().for_each(|paths| all.add(paths.counts));
        let cells = columns.iter().map(|column| layer.criteria.get(column.name()));
        let cells: Vec<String> = cells.map(|paths| cell(paths.map(|it| &it.counts))).collect();
        let _ = writeln!(text, "| {} | {} | {} |", layer.path, cells.join(" | "), cell(Some(&all)));
    }
    let mut row = |name: &str, cell: &dyn Fn(&DiffCounts) -> String| {
        let cells = columns.iter().map(|column| cell(&diff.totals[column.name()]));
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "| {name} | {} | {} |", cells.join(" | "), cell(&diff.all));
    };
    row("all layers", &|counts| cell(Some(counts)));
    row("B exercises of A", &|counts| shown(&counts.b_of_a()));
    row("A exercises of B", &|counts| shown(&counts.a_of_b()));
    text
}
