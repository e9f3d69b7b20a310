//! What is counted as a path of a model, and where each stands in a set of all of them.
//!
//! - neuron coverage: DeepXplore (Pei et al. 2017, arXiv:1705.06640)
//! - sections, boundaries and the most active units: DeepGauge (Ma et al. 2018, arXiv:1803.07519)
//! - what a head adds to the residual stream: Kobayashi et al. 2020, arXiv:2004.10102
//! - the entropy of a head's attention: Clark et al. 2019, arXiv:1906.04341

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::document::choices;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::blocks::PathKind;

choices! {
    /// What is counted.
    Criterion {
        /// Units of MLPs that are active at a token.
        Units = "units",
        /// Units that are among the most active of their layer at a token.
        UnitsTopK = "units_top_k",
        /// Sections of the range that a unit has in a reference.
        UnitSections = "unit_sections",
        /// The two sides beyond that range.
        UnitBoundary = "unit_boundary",
        /// Heads that contribute to a token.
        Heads = "heads",
        /// Buckets of the entropy of a contributing head's attention.
        HeadEntropy = "head_entropy",
        /// Experts that a token is routed to.
        Experts = "experts",
        /// Units of experts that are active at a token that is routed to them.
        ExpertUnits = "expert_units",
    }
}

/// All of them, in order.
pub const CRITERIA: [Criterion; 8] = [
    Criterion::Units,
    Criterion::UnitsTopK,
    Criterion::UnitSections,
    Criterion::UnitBoundary,
    Criterion::Heads,
    Criterion::HeadEntropy,
    Criterion::Experts,
    Criterion::ExpertUnits,
];

/// From which strength on a path is exercised, and how finely it is divided.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// A unit is active at a token where its size is at least this share of the largest of its
    /// layer at this token.
    pub unit_threshold: f64,
    /// How many units of a layer are the most active at a token; 0 leaves that out.
    pub unit_top_k: usize,
    /// Sections of a unit's range in a reference.
    pub unit_sections: usize,
    /// A head contributes to a token where the length of what it adds is at least so many times
    /// the mean of the heads of its layer.
    pub head_share: f64,
    /// Buckets of the entropy of attention, of the same width; 0 leaves that out.
    pub entropy_buckets: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            unit_threshold: 0.5,
            unit_top_k: 3,
            unit_sections: 10,
            head_share: 2.0,
            entropy_buckets: 4,
        }
    }
}

/// Sections and buckets at most: finer ones are mostly empty, and all are kept in memory.
const DIVISIONS_MAX: usize = 1000;

impl Thresholds {
    /// Refuses what nothing or everything keeps to.
    ///
    /// # Errors
    /// With the option of the command line.
    pub fn check(self) -> Result<Self> {
        let share = self.unit_threshold;
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::usage("`--unit-threshold` must be above 0 and at most 1"));
        }
        if !(self.head_share > 0.0 && self.head_share.is_finite()) {
            return Err(Error::usage("`--head-share` must be above 0"));
        }
        if !(1..=DIVISIONS_MAX).contains(&self.unit_sections) {
            let said = format!("`--unit-sections` must be from 1 to {DIVISIONS_MAX}");
            return Err(Error::usage(said));
        }
        if self.entropy_buckets > DIVISIONS_MAX {
            let said = format!("`--entropy-buckets` must be at most {DIVISIONS_MAX}");
            return Err(Error::usage(said));
        }
        Ok(self)
    }
}

/// The paths of a layer, and where they stand in a set.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpace {
    /// Its module path.
    pub path: String,
    /// Units of its MLPs.
    pub units: usize,
    /// Query heads.
    pub heads: usize,
    /// Experts.
    pub experts: usize,
    /// Units of all experts.
    pub expert_units: usize,
    /// Its blocks whose paths are not told apart, by name.
    pub whole: Vec<&'static str>,
    /// Of each criterion, in order.
    ranges: Vec<Range<usize>>,
}

impl LayerSpace {
    /// Where what a criterion counts stands in a set.
    pub fn range(&self, criterion: Criterion) -> Range<usize> {
        self.ranges[criterion as usize].clone()
    }
}

/// All paths of a model: one layer after the other, and in each one criterion after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSpace {
    /// In order.
    pub layers: Vec<LayerSpace>,
    /// How many paths there are.
    pub total: usize,
}

impl PathSpace {
    /// Those of a model; sections and boundaries are there with a reference.
    pub fn new(model: &Model, thresholds: &Thresholds, has_reference: bool) -> Self {
        let (mut layers, mut total) = (Vec::with_capacity(model.layers.len()), 0);
        for layer in &model.layers {
            let mut kinds = Vec::new();
            layer.residuals().iter().for_each(|part| part.block.paths(&mut kinds));
            let (mut units, mut heads, mut experts, mut expert_units) = (0, 0, 0, 0);
            let mut whole = Vec::new();
            for kind in kinds {
                match kind {
                    PathKind::Units(count) => units += count,
                    PathKind::Heads(count) => heads += count,
                    PathKind::Experts { count, units } => {
                        experts += count;
                        expert_units += count * units;
                    }
                    PathKind::Whole(name) => whole.push(name),
                }
            }
            let referred = if has_reference { units } else { 0 };
            let size = |criterion: &Criterion| match criterion {
                Criterion::Units => units,
                Criterion::UnitsTopK => units * thresholds.unit_top_k.min(1),
                Criterion::UnitSections => referred * thresholds.unit_sections,
                Criterion::UnitBoundary => referred * 2,
                Criterion::Heads => heads,
                Criterion::HeadEntropy => heads * thresholds.entropy_buckets,
                Criterion::Experts => experts,
                Criterion::ExpertUnits => expert_units,
            };
            let ranges = CRITERIA.iter().map(|criterion| {
                let first = total;
                total += size(criterion);
                first..total
            });
            let (ranges, path) = (ranges.collect(), layer.path().to_owned());
            layers.push(LayerSpace { path, units, heads, experts, expert_units, whole, ranges });
        }
        Self { layers, total }
    }
}
