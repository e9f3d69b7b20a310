//! Which paths of a layer tokens exercise, of what its blocks did.

use std::ops::Range;

use super::bits::BitSet;
use super::criteria::{Criterion, LayerSpace, Thresholds};
use crate::model::blocks::{BlockActivity, ChosenExperts, HeadActivity};

/// The smallest and the largest value of each unit of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitRanges {
    /// `[units]`.
    pub low: Vec<f32>,
    /// `[units]`.
    pub high: Vec<f32>,
}

/// How often each path of a layer was exercised, and how strongly.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNumbers {
    /// Tokens at which each unit is active.
    pub unit_tokens: Vec<u64>,
    /// What values each unit has.
    pub ranges: UnitRanges,
    /// Tokens to which each head contributes.
    pub head_tokens: Vec<u64>,
    /// The sum of each head's share over all tokens.
    pub shares: Vec<f64>,
    /// The sum of the entropies of each head's attention, and of how many.
    pub entropies: Vec<(f64, u64)>,
    /// Tokens that are routed to each expert.
    pub expert_tokens: Vec<u64>,
    /// Tokens at which each unit of the experts is active, one expert after the other.
    pub expert_unit_tokens: Vec<u64>,
    /// All tokens.
    pub tokens: u64,
}

impl LayerNumbers {
    /// Of no tokens.
    pub fn new(space: &LayerSpace) -> Self {
        let LayerSpace { units, heads, experts, expert_units, .. } = *space;
        Self {
            unit_tokens: vec![0; units],
            ranges: UnitRanges {
                low: vec![f32::INFINITY; units],
                high: vec![f32::NEG_INFINITY; units],
            },
            head_tokens: vec![0; heads],
            shares: vec![0.0; heads],
            entropies: vec![(0.0, 0); heads],
            expert_tokens: vec![0; experts],
            expert_unit_tokens: vec![0; expert_units],
            tokens: 0,
        }
    }
}

/// Reads what the blocks of a layer did.
pub struct LayerReader<'a> {
    /// Where paths stand in a set.
    pub space: &'a LayerSpace,
    /// What counts as exercised.
    pub thresholds: &'a Thresholds,
    /// What sections are of.
    pub reference: Option<&'a UnitRanges>,
}

/// Something that is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFinite;

impl LayerReader<'_> {
    /// Puts the paths that some tokens exercise into a set, and counts them.
    ///
    /// # Errors
    /// When a value is not finite.
    pub fn read(
        &self,
        activities: &[BlockActivity],
        tokens: Range<usize>,
        set: &mut BitSet,
        numbers: &mut LayerNumbers,
    ) -> Result<(), NotFinite> {
        numbers.tokens += tokens.len() as u64;
        let (mut first_unit, mut first_head) = (0, 0);
        let (mut first_expert, mut first_expert_unit) = (0, 0);
        for activity in activities {
            match activity {
                BlockActivity::Units(values, units) => {
                    for row in values.chunks_exact(*units).skip(tokens.start).take(tokens.len()) {
                        self.units(row, first_unit, set, numbers)?;
                    }
                    first_unit += units;
                }
                BlockActivity::Heads(activity) => {
                    for token in tokens.clone() {
                        self.heads(activity, token, first_head, set, numbers)?;
                    }
                    first_head += activity.heads;
                }
                BlockActivity::Experts(experts) => {
                    for token in tokens.clone() {
                        let firsts = (first_expert, first_expert_unit);
                        self.experts(experts, token, firsts, set, numbers)?;
                    }
                    first_expert += experts.count;
                    first_expert_unit += experts.count * experts.units;
                }
                BlockActivity::Whole => {}
            }
        }
        Ok(())
    }

    /// One token of an MLP.
    fn units(
        &self,
        row: &[f32],
        first: usize,
        set: &mut BitSet,
        numbers: &mut LayerNumbers,
    ) -> Result<(), NotFinite> {
        let range = |criterion| self.space.range(criterion).start;
        if row.iter().any(|value| !value.is_finite()) {
            return Err(NotFinite);
        }
        let most = row.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let least = f64::from(most) * self.thresholds.unit_threshold;
        let (active, sections) = (range(Criterion::Units), range(Criterion::UnitSections));
        let beyond = range(Criterion::UnitBoundary);
        let mut top: Vec<(f32, usize)> = Vec::with_capacity(self.thresholds.unit_top_k + 1);
        for (unit, value) in (first..).zip(row) {
            let size = value.abs();
            if most > 0.0 && f64::from(size) >= least {
                set.insert(active + unit);
                numbers.unit_tokens[unit] += 1;
            }
            numbers.ranges.low[unit] = numbers.ranges.low[unit].min(*value);
            numbers.ranges.high[unit] = numbers.ranges.high[unit].max(*value);
            if top.len() < self.thresholds.unit_top_k || top.last().is_some_and(|l| size > l.0) {
                let at = top.partition_point(|(other, _)| *other >= size);
                top.insert(at, (size, unit));
                top.truncate(self.thresholds.unit_top_k);
            }
            if let Some(UnitRanges { low, high }) = self.reference {
                match section(*value, low[unit], high[unit], self.thresholds.unit_sections) {
                    Section::Below => set.insert(beyond + 2 * unit),
                    Section::Above => set.insert(beyond + 2 * unit + 1),
                    Section::Inside(number) => {
                        set.insert(sections + self.thresholds.unit_sections * unit + number);
                    }
                }
            }
        }
        let first = range(Criterion::UnitsTopK);
        top.iter().filter(|(size, _)| *size > 0.0).for_each(|(_, unit)| set.insert(first + unit));
        Ok(())
    }

    /// One token of a mixture: its experts, and the units within each that are large for it.
    fn experts(
        &self,
        of: &ChosenExperts,
        token: usize,
        (first_expert, first_unit): (usize, usize),
        set: &mut BitSet,
        numbers: &mut LayerNumbers,
    ) -> Result<(), NotFinite> {
        let range = |criterion| self.space.range(criterion).start;
        let (experts, active) = (range(Criterion::Experts), range(Criterion::ExpertUnits));
        for slot in token * of.top_k..(token + 1) * of.top_k {
            let expert = of.chosen[slot] as usize;
            set.insert(experts + first_expert + expert);
            numbers.expert_tokens[first_expert + expert] += 1;
            let row = &of.values[slot * of.units..][..of.units];
            if row.iter().any(|value| !value.is_finite()) {
                return Err(NotFinite);
            }
            let most = row.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let least = f64::from(most) * self.thresholds.unit_threshold;
            let first = first_unit + expert * of.units;
            for (unit, value) in (first..).zip(row) {
                if most > 0.0 && f64::from(value.abs()) >= least {
                    set.insert(active + unit);
                    numbers.expert_unit_tokens[unit] += 1;
                }
            }
        }
        Ok(())
    }

    /// One token of attention.
    fn heads(
        &self,
        activity: &HeadActivity,
        token: usize,
        first: usize,
        set: &mut BitSet,
        numbers: &mut LayerNumbers,
    ) -> Result<(), NotFinite> {
        let heads = activity.heads;
        let norms = &activity.norms[token * heads..][..heads];
        let sum: f64 = norms.iter().map(|norm| f64::from(*norm)).sum();
        if !sum.is_finite() {
            return Err(NotFinite);
        }
        let entropies = &activity.entropies[token * heads..][..heads];
        let (range, buckets) = (|it| self.space.range(it).start, self.thresholds.entropy_buckets);
        let (contributing, entropic) = (range(Criterion::Heads), range(Criterion::HeadEntropy));
        for ((head, norm), entropy) in (first..).zip(norms).zip(entropies) {
            let entropy = Some(f64::from(*entropy)).filter(|entropy| entropy.is_finite());
            if let Some(entropy) = entropy {
                let (total, count) = &mut numbers.entropies[head];
                (*total, *count) = (*total + entropy, *count + 1);
            }
            if sum == 0.0 {
                continue;
            }
            let share = f64::from(*norm) / sum;
            numbers.shares[head] += share;
            #[expect(clippy::cast_precision_loss)] // heads are few
            if share * (heads as f64) < self.thresholds.head_share {
                continue;
            }
            set.insert(contributing + head);
            numbers.head_tokens[head] += 1;
            if let Some(entropy) = entropy.filter(|_| buckets > 0) {
                set.insert(entropic + buckets * head + part_of(entropy, buckets));
            }
        }
        Ok(())
    }
}

/// Where a value lies in a range.
#[derive(Debug, PartialEq, Eq)]
enum Section {
    Below,
    Inside(usize),
    Above,
}

/// The section of a value, of so many between the ends of a range.
fn section(value: f32, low: f32, high: f32, sections: usize) -> Section {
    // A unit that the reference says nothing of has no range at all.
    if value < low {
        return Section::Below;
    }
    if value > high {
        return Section::Above;
    }
    let width = f64::from(high) - f64::from(low);
    let share = if width > 0.0 { (f64::from(value) - f64::from(low)) / width } else { 0.0 };
    Section::Inside(part_of(share, sections))
}

/// In which of so many parts of the same width a share lies; 1 is in the last.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn part_of(share: f64, parts: usize) -> usize {
    ((share * parts as f64) as usize).min(parts - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_divided_and_has_two_sides() {
        let of = |value| section(value, -1.0, 3.0, 4);
        assert_eq!(of(-1.1), Section::Below);
        assert_eq!([of(-1.0), of(-0.1)], [Section::Inside(0), Section::Inside(0)]);
        assert_eq!([of(0.0), of(2.9), of(3.0)], [1, 3, 3].map(Section::Inside));
        assert_eq!(of(3.1), Section::Above);
        assert_eq!(section(2.0, 2.0, 2.0, 4), Section::Inside(0), "a unit that never changes");
    }
}
