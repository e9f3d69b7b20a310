//! Which steps points have in common: those in which nothing but the end of the run differs.
//!
//! The first steps of two runs are the same, bit for bit, if all settings but those of the learning
//! rate agree, and the rates of these steps do. One run computes them, the others take them from
//! the cache of steps.

use std::collections::BTreeMap;

use super::points::Point;
use crate::engine::{Schedule, Shape, learning_rate};

/// Fewer shared steps than this part of a run are not waited for: to stop and to begin costs time
/// as well.
const LEAST_SHARE: u64 = 10;

/// Steps that a point takes from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedSteps {
    /// The number of the point that computes them, which is an earlier one.
    pub with: usize,
    /// How many.
    pub steps: u64,
}

/// Of each point, the steps that it shares with an earlier one, where that is worth it.
pub fn shared_steps(points: &[Point]) -> Vec<Option<SharedSteps>> {
    let mut groups: BTreeMap<String, Vec<(usize, Schedule)>> = BTreeMap::new();
    for (number, point) in points.iter().enumerate() {
        if let Some(schedule) = point.schedule() {
            let group = groups.entry(point.beside_rates.to_string()).or_default();
            group.push((number, schedule));
        }
    }
    let mut found = vec![None; points.len()];
    for group in groups.into_values() {
        split(group, 1, &mut found);
    }
    found
}

/// Points whose rates agree in all steps before `step`, in their order: those that go other ways
/// from there on take what is before from the first of them.
fn split(mut group: Vec<(usize, Schedule)>, mut step: u64, found: &mut [Option<SharedSteps>]) {
    while group.len() > 1 {
        step = skip_constant(&group, step);
        let mut ways: Vec<(Option<u64>, Vec<(usize, Schedule)>)> = Vec::new();
        let mut way_of: BTreeMap<Option<u64>, usize> = BTreeMap::new();
        for (number, schedule) in group {
            let ended = step > schedule.total_steps;
            let rate = (!ended).then(|| learning_rate(&schedule, step).to_bits());
            let way = *way_of.entry(rate).or_insert(ways.len());
            if way == ways.len() {
                ways.push((rate, Vec::new()));
            }
            ways[way].1.push((number, schedule));
        }
        let leader = ways[0].1[0].0;
        let mut go_on = Vec::new();
        for (rate, way) in ways {
            let shares = |number: usize, total: u64| {
                let steps = step - 1;
                let enough = steps > 0 && steps * LEAST_SHARE >= total;
                (number != leader && enough).then_some(SharedSteps { with: leader, steps })
            };
            match rate {
                // All of them end here, with the same steps.
                None => {
                    for (number, schedule) in way {
                        found[number] = found[number].or(shares(number, schedule.total_steps));
                    }
                }
                Some(_) => {
                    let (first, schedule) = way[0];
                    found[first] = found[first].or(shares(first, schedule.total_steps));
                    go_on.push(way);
                }
            }
        }
        step += 1;
        // The largest group goes on here, so that the depth of calls stays small.
        go_on.sort_by_key(Vec::len);
        group = go_on.pop().unwrap_or_default();
        for way in go_on {
            split(way, step, found);
        }
    }
}

/// The step at which something can differ first, where all have the same rate for long.
fn skip_constant(group: &[(usize, Schedule)], step: u64) -> u64 {
    let (_, first) = group[0];
    let constant = |schedule: &Schedule| {
        schedule.shape == Shape::Constant
            && step > schedule.warmup_steps
            && schedule.peak.to_bits() == first.peak.to_bits()
    };
    let same = group.iter().all(|(_, schedule)| *schedule == first);
    if !same && !group.iter().all(|(_, schedule)| constant(schedule)) {
        return step;
    }
    let shortest = group.iter().map(|(_, schedule)| schedule.total_steps).min();
    step.max(shortest.unwrap_or(0) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(peak: f64, warmup_steps: u64, total_steps: u64, shape: Shape) -> Schedule {
        Schedule { peak, warmup_steps, total_steps, min_ratio: 0.0, shape }
    }

    fn shared(schedules: &[Schedule]) -> Vec<Option<(usize, u64)>> {
        let mut found = vec![None; schedules.len()];
        split(schedules.iter().copied().enumerate().collect(), 1, &mut found);
        found.into_iter().map(|it| it.map(|it: SharedSteps| (it.with, it.steps))).collect()
    }

    /// Every pair looked at step by step.
    fn by_steps(schedules: &[Schedule]) -> Vec<Option<(usize, u64)>> {
        let common = |a: &Schedule, b: &Schedule| {
            let both = a.total_steps.min(b.total_steps);
            let same =
                |step: &u64| learning_rate(a, *step).to_bits() == learning_rate(b, *step).to_bits();
            (1..=both).take_while(same).count() as u64
        };
        let of = |number: usize| {
            let before =
                (0..number).map(|other| (other, common(&schedules[other], &schedules[number])));
            let (other, steps) =
                before.max_by_key(|(other, steps)| (*steps, usize::MAX - other))?;
            let enough = steps > 0 && steps * LEAST_SHARE >= schedules[number].total_steps;
            enough.then_some((other, steps))
        };
        (0..schedules.len()).map(of).collect()
    }

    #[test]
    fn runs_of_a_constant_rate_share_the_shorter_one() {
        let of = |steps| schedule(1e-3, 2, steps, Shape::Constant);
        let found = shared(&[of(10), of(40), of(20), of(10)]);
        assert_eq!(found, [None, Some((0, 10)), Some((1, 20)), Some((0, 10))]);
    }

    #[test]
    fn what_is_found_is_the_longest_beginning_of_any_earlier_run() {
        let shapes = [
            Shape::Constant,
            Shape::Wsd { decay_ratio: 0.25 },
            Shape::InverseSqrt,
            Shape::Cosine,
            Shape::Linear,
        ];
        let stream = crate::random::Stream::new(5);
        for case in 0..200 {
            let stream = stream.number(case);
            let draw = |at: u64, count: u64| stream.bits(at) % count;
            let schedules: Vec<Schedule> = (0..8)
                .map(|run| {
                    let at = 10 * run;
                    let peak = [1e-3, 2e-3][draw(at, 2) as usize];
                    let total = [8, 12, 16, 30][draw(at + 1, 4) as usize];
                    let shape = shapes[draw(at + 2, 5) as usize];
                    schedule(peak, [0, 3][draw(at + 3, 2) as usize], total, shape)
                })
                .collect();
            assert_eq!(shared(&schedules), by_steps(&schedules), "{schedules:?}");
        }
    }
}
