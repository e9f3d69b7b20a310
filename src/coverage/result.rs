//! What a data set exercises, as a file: `docs/coverage.schema.json` is its schema.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::bits::BitSet;
use super::criteria::{CRITERIA, Criterion, LayerSpace, PathSpace, Thresholds};
use super::hits::{LayerNumbers, UnitRanges};
use crate::data::CorpusFile;
use crate::error::{Context, Error, Result};
use crate::evaluation::ModelRecord;
use crate::files::{Digest, read_bytes};

/// Version of the form.
pub const VERSION: u32 = 1;
/// Largest result that is read: that of a model of 100 layers with 100,000 units each.
const BYTES_MAX: u64 = 1 << 30;

/// Paths that are exercised, and how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// How many are exercised.
    pub covered: u64,
    /// How many there are.
    pub total: u64,
}

/// The same by criterion; one that counts nothing here is not there.
pub type Counts = BTreeMap<String, Covered>;

/// Paths of a layer that are exercised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredSet {
    /// How many, and of how many.
    #[serde(flatten)]
    pub count: Covered,
    /// Which, as [`BitSet::to_base64`] writes them.
    pub set: String,
}

/// What units did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitNumbers {
    /// Tokens at which each is active.
    pub tokens: Vec<u64>,
    /// The smallest value of each: 32-bit floats, lowest byte first, in base64.
    pub low: String,
    /// The largest value of each, likewise.
    pub high: String,
}

/// What heads did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadNumbers {
    /// Tokens to which each contributes.
    pub tokens: Vec<u64>,
    /// The mean of each one's share of what all heads of the layer add.
    pub mean_share: Vec<f64>,
    /// The mean of the entropies of its attention; null where no token sees another.
    pub mean_entropy: Vec<Option<f64>>,
}

/// What experts did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertNumbers {
    /// Tokens that are routed to each.
    pub tokens: Vec<u64>,
    /// Tokens at which each of their units is active, one expert after the other; results of
    /// earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unit_tokens: Vec<u64>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerCoverage {
    /// Its module path.
    pub path: String,
    /// Its blocks whose paths are not told apart, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_measured: Vec<String>,
    /// By criterion.
    pub criteria: BTreeMap<String, CoveredSet>,
    /// Of its MLPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitNumbers>,
    /// Of its attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadNumbers>,
    /// Of its experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertNumbers>,
}

/// A part of the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartCoverage {
    /// Its name.
    pub name: String,
    /// Records in it.
    pub records: u64,
    /// Over all layers.
    pub totals: Counts,
    /// Layer by layer.
    pub layers: Vec<Counts>,
}

/// The slices by one property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicesCoverage {
    /// By what.
    pub by: String,
    /// In the order of the suite.
    pub slices: Vec<PartCoverage>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Its name.
    pub name: String,
    /// The files that were read.
    pub files: Vec<CorpusFile>,
    /// Records.
    pub records: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Records of which the end was cut off.
    pub truncated: u64,
}

/// What a data set exercises of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program.
    pub firebrand: String,
    /// Of which model.
    pub model: ModelRecord,
    /// Of which data.
    pub data: DataRecord,
    /// What counts as exercised.
    pub thresholds: Thresholds,
    /// The digest of the file whose ranges sections are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Digest>,
    /// Over all layers.
    pub totals: Counts,
    /// Layer by layer.
    pub layers: Vec<LayerCoverage>,
    /// Slice by slice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SlicesCoverage>,
    /// Task by task: of the records that it asks, with the answers that they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<PartCoverage>,
}

/// How many paths of a layer a set has, by criterion.
fn of_layer(space: &LayerSpace, set: &BitSet) -> Counts {
    let ranges = CRITERIA.into_iter().map(|it| (it.name().to_owned(), space.range(it)));
    let ranges = ranges.filter(|(_, range)| !range.is_empty());
    let count = |(name, range): (String, std::ops::Range<usize>)| {
        let total = range.len() as u64;
        (name, Covered { covered: set.count_in(range), total })
    };
    ranges.map(count).collect()
}

/// The sum over layers.
fn summed<'a>(layers: impl IntoIterator<Item = &'a Counts>) -> Counts {
    let mut sums = Counts::new();
    for (name, count) in layers.into_iter().flatten() {
        let sum = sums.entry(name.clone()).or_default();
        sum.covered += count.covered;
        sum.total += count.total;
    }
    sums
}

impl PartCoverage {
    /// What a set has.
    pub fn new(name: &str, records: u64, space: &PathSpace, set: &BitSet) -> Self {
        let layers: Vec<Counts> = space.layers.iter().map(|layer| of_layer(layer, set)).collect();
        Self { name: name.to_owned(), records, totals: summed(&layers), layers }
    }
}

impl LayerCoverage {
    /// What a set has of a layer, and how often.
    pub fn new(space: &LayerSpace, set: &BitSet, numbers: &LayerNumbers) -> Self {
        let with_set = |(name, count): (String, Covered)| {
            let range = space.range(Criterion::from_name(&name).expect("it is one of ours"));
            (name, CoveredSet { count, set: set.part(range).to_base64() })
        };
        #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
        let mean = |sum: f64, count: u64| sum / count as f64;
        let LayerNumbers { ranges, entropies, .. } = numbers;
        let units = (space.units > 0).then(|| UnitNumbers {
            tokens: numbers.unit_tokens.clone(),
            low: floats_to_base64(&ranges.low),
            high: floats_to_base64(&ranges.high),
        });
        let heads = (space.heads > 0).then(|| HeadNumbers {
            tokens: numbers.head_tokens.clone(),
            mean_share: numbers.shares.iter().map(|sum| mean(*sum, numbers.tokens)).collect(),
            mean_entropy: entropies
                .iter()
                .map(|(sum, count)| (*count > 0).then(|| mean(*sum, *count)))
                .collect(),
        });
        let experts = ExpertNumbers {
            tokens: numbers.expert_tokens.clone(),
            unit_tokens: numbers.expert_unit_tokens.clone(),
        };
        Self {
            path: space.path.clone(),
            not_measured: space.whole.iter().map(|name| (*name).to_owned()).collect(),
            criteria: of_layer(space, set).into_iter().map(with_set).collect(),
            units,
            heads,
            experts: (space.experts > 0).then_some(experts),
        }
    }

    /// The counts alone.
    pub fn counts(&self) -> Counts {
        self.criteria.iter().map(|(name, set)| (name.clone(), set.count)).collect()
    }

    /// The set of a criterion; none where the file does not say what it must.
    pub fn set(&self, criterion: &str) -> Option<BitSet> {
        let covered = self.criteria.get(criterion)?;
        let set = BitSet::from_base64(&covered.set, usize::try_from(covered.count.total).ok()?)?;
        (set.count() == covered.count.covered).then_some(set)
    }
}

impl Coverage {
    /// The sums of the counts of layers.
    pub fn totals_of(layers: &[LayerCoverage]) -> Counts {
        summed(&layers.iter().map(LayerCoverage::counts).collect::<Vec<_>>())
    }

    /// Reads a result, with the digest of the file.
    ///
    /// # Errors
    /// When it is no such file, of another version, or contradicts itself.
    pub fn read(path: &Path) -> Result<(Self, Digest)> {
        let bytes = read_bytes(path, BYTES_MAX)?;
        Ok((Self::parse(&bytes, path)?, Digest::of(&bytes)))
    }

    /// Reads the bytes of a result; `path` is for messages.
    ///
    /// # Errors
    /// As [`Coverage::read`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let what = "the file is not a result of `firebrand coverage`";
        let found: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|error| Error::evaluation(what).at(path).because(error))?;
        let version = found.get("version").and_then(serde_json::Value::as_u64);
        if let Some(other) = version.filter(|version| *version != u64::from(VERSION)) {
            return Err(Error::evaluation("the result is of another version of `coverage`")
                .at(path)
                .because(format!("it has version {other}, and this program reads {VERSION}"))
                .hint("measure it again"));
        }
        let found: Self = serde_json::from_value(found)
            .map_err(|error| Error::evaluation(what).at(path).because(error))?;
        found.check().map_err(|why| {
            Error::evaluation("the result contradicts itself").at(path).because(why)
        })?;
        Ok(found)
    }

    /// Why the numbers cannot be those of the sets, if they cannot.
    fn check(&self) -> std::result::Result<(), String> {
        for layer in &self.layers {
            if let Some(name) = layer.criteria.keys().find(|name| layer.set(name).is_none()) {
                return Err(format!("`{name}` of {} counts other paths than it names", layer.path));
            }
        }
        match Self::totals_of(&self.layers) == self.totals {
            true => Ok(()),
            false => Err("its totals are not the sums of its layers".to_owned()),
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).context("cannot encode the result")
    }

    /// What values each unit has, layer by layer.
    ///
    /// # Errors
    /// When the file does not say so for every unit.
    pub fn ranges(&self) -> Result<Vec<UnitRanges>> {
        let of = |layer: &LayerCoverage| {
            let Some(units) = &layer.units else {
                return Some(UnitRanges { low: Vec::new(), high: Vec::new() });
            };
            let count = units.tokens.len();
            let [low, high] = [&units.low, &units.high].map(|text| floats_of_base64(text, count));
            Some(UnitRanges { low: low?, high: high? })
        };
        let all: Option<Vec<UnitRanges>> = self.layers.iter().map(of).collect();
        all.ok_or_else(|| Error::evaluation("the ranges of a result cannot be read"))
    }
}

fn floats_to_base64(numbers: &[f32]) -> String {
    STANDARD.encode(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
}

fn floats_of_base64(text: &str, count: usize) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == 4 * count)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
