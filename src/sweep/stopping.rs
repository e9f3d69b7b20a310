//! Which points go on after some of their steps: a pure function of what was measured so far, so
//! that it is decided in the same way after every restart.
//!
//! All points come to a step of the list before it is decided who goes on; nobody is ahead by
//! having been started sooner.

use serde::{Deserialize, Serialize};

use super::keys::{Direction, StoppingRule};

/// When points are compared, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// `halving` or `median`.
    pub rule: String,
    /// The steps after which it is decided, rising.
    pub steps: Vec<u64>,
    /// Of so many points one goes on, with `halving`.
    pub eta: u64,
}

/// What is known of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Its steps in all; none if that is not known.
    pub total: Option<u64>,
    /// Those that it has.
    pub reached: u64,
    /// Whether it will not work.
    pub failed: bool,
    /// The metric at each step of the list, as far as it was measured.
    pub values: Vec<Option<f64>>,
}

/// How far a point may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// To its end.
    End,
    /// To this step, where it is compared.
    Step(u64),
    /// It was stopped at this step.
    Stopped(u64),
}

impl Stopping {
    /// How far each point may go.
    pub fn limits(&self, direction: Direction, points: &[Progress]) -> Vec<Limit> {
        let mut limits = vec![Limit::End; points.len()];
        for (number, step) in self.steps.iter().enumerate() {
            let takes_part = |place: &usize| {
                let point = &points[*place];
                let longer = point.total.is_none_or(|total| total > *step);
                limits[*place] == Limit::End && !point.failed && longer
            };
            let there: Vec<usize> = (0..points.len()).filter(takes_part).collect();
            if there.iter().any(|place| points[*place].reached < *step) {
                there.iter().for_each(|place| limits[*place] = Limit::Step(*step));
                return limits;
            }
            let values: Vec<Option<f64>> =
                there.iter().map(|place| points[*place].values[number]).collect();
            for (place, goes_on) in there.iter().zip(self.go_on(direction, &values)) {
                if !goes_on {
                    limits[*place] = Limit::Stopped(*step);
                }
            }
        }
        limits
    }

    /// Who of those that are compared goes on. Without a number, or with one that is not finite,
    /// nobody does while another has one.
    fn go_on(&self, direction: Direction, values: &[Option<f64>]) -> Vec<bool> {
        let key = |value: &Option<f64>| match (value.filter(|value| value.is_finite()), direction) {
            (Some(value), Direction::Lower) => value,
            (Some(value), Direction::Higher) => -value,
            (None, _) => f64::INFINITY,
        };
        let keys: Vec<f64> = values.iter().map(key).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        // Of equal ones the earlier.
        order.sort_by(|one, other| keys[*one].total_cmp(&keys[*other]));
        let Some(last) = order.len().checked_sub(1) else { return Vec::new() };
        let mut goes_on = vec![false; keys.len()];
        match StoppingRule::from_name(&self.rule) {
            // Vizier's rule at one step: who is worse than the median of all ends.
            Some(StoppingRule::Median) => {
                let median = keys[order[last / 2]];
                for (place, key) in keys.iter().enumerate() {
                    goes_on[place] = *key <= median;
                }
            }
            Some(StoppingRule::Halving) | None => {
                let kept = (order.len() as u64).div_ceil(self.eta.max(2));
                for place in order.iter().take(usize::try_from(kept).unwrap_or(usize::MAX)) {
                    goes_on[*place] = true;
                }
            }
        }
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopping(rule: &str, eta: u64) -> Stopping {
        Stopping { rule: rule.to_owned(), steps: vec![2, 4], eta }
    }

    fn at(reached: u64, values: [f64; 2]) -> Progress {
        let values = values.map(Some).to_vec();
        Progress { total: Some(8), reached, failed: false, values }
    }

    const STOPPED: [Limit; 2] = [Limit::Stopped(2), Limit::Stopped(4)];

    #[test]
    fn nobody_goes_on_before_all_are_there() {
        let halving = stopping("halving", 2);
        let mut points = vec![at(2, [1.0, 0.0]), at(1, [2.0, 0.0]), at(2, [0.5, 0.0])];
        assert_eq!(halving.limits(Direction::Lower, &points), [Limit::Step(2); 3]);
        // Who has failed is not waited for, and who is done before has nothing to lose.
        points[1].failed = true;
        points.push(Progress { total: Some(2), ..at(2, [0.1, 0.0]) });
        let limits = halving.limits(Direction::Lower, &points);
        assert_eq!(limits, [STOPPED[0], Limit::End, Limit::Step(4), Limit::End]);
    }

    #[test]
    fn of_so_many_points_one_goes_on_each_time() {
        let values = [[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [4.0, 0.0], [5.0, 0.0]];
        let points = values.map(|values| at(8, values));
        let halving = stopping("halving", 2).limits(Direction::Lower, &points);
        // Three of five at step 2, two of three at step 4.
        assert_eq!(halving, [Limit::End, STOPPED[1], Limit::End, STOPPED[0], STOPPED[0]]);
        let thirds = stopping("halving", 3).limits(Direction::Lower, &points);
        assert_eq!(thirds, [STOPPED[0], STOPPED[1], Limit::End, STOPPED[0], STOPPED[0]]);
        let higher = stopping("halving", 5).limits(Direction::Higher, &points);
        assert_eq!(higher, [STOPPED[0], STOPPED[0], STOPPED[0], STOPPED[0], Limit::End]);
    }

    #[test]
    fn who_is_worse_than_the_median_ends() {
        let values = [[1.0, 9.0], [2.0, 8.0], [3.0, 7.0], [f64::NAN, 0.0]];
        let points = values.map(|values| at(8, values));
        let found = stopping("median", 3).limits(Direction::Lower, &points);
        assert_eq!(found, [STOPPED[1], Limit::End, STOPPED[0], STOPPED[0]]);
        // One alone goes on, and so do equal ones.
        assert_eq!(stopping("median", 3).limits(Direction::Lower, &points[..1]), [Limit::End]);
        let same = [at(8, [1.0, 1.0]), at(8, [1.0, 1.0])];
        assert_eq!(stopping("median", 3).limits(Direction::Lower, &same), [Limit::End; 2]);
    }
}
