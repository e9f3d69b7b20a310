//! Bootstrap intervals (Efron 1979) over records: the same draws for every model, so that two
//! models are compared on the same resampled data sets (paired).

use rayon::prelude::*;

use crate::random::Stream;

/// The lower and the upper end of an interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How data sets are drawn again.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// Decides every draw.
    pub seed: u64,
    /// How many data sets.
    pub samples: u64,
    /// How wide intervals are, e.g. 0.95.
    pub confidence: f64,
}

impl Draws {
    /// The percentile interval of a statistic of `count` records; `statistic` is given how often
    /// each record was drawn. `None` without samples or records, or when the statistic is not
    /// defined (not finite) for a data set that was drawn.
    pub fn interval(
        &self,
        count: usize,
        statistic: impl Fn(&[u32]) -> f64 + Sync,
    ) -> Option<Interval> {
        if self.samples == 0 || count == 0 {
            return None;
        }
        let of_sample = |sample: u64| {
            let stream = Stream::new(self.seed).site("bootstrap").number(sample);
            let mut times = vec![0_u32; count];
            for draw in 0..count as u64 {
                let drawn = stream.bits(draw) % count as u64; // counts are far below 2^64: no bias
                times[usize::try_from(drawn).expect("below a usize")] += 1;
            }
            statistic(&times)
        };
        let mut values: Vec<f64> = (0..self.samples).into_par_iter().map(of_sample).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) })
    }
}

/// Linear between the two nearest, as numpy does by default.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_precision_loss)] // thousands
    let place = share * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a place in the list
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: Draws = Draws { seed: 1, samples: 2000, confidence: 0.95 };

    fn mean(values: &[f64]) -> impl Fn(&[u32]) -> f64 + Sync + '_ {
        |times| {
            let sum: f64 = values.iter().zip(times).map(|(v, t)| v * f64::from(*t)).sum();
            sum / f64::from(times.iter().sum::<u32>())
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_law() {
        let stream = Stream::new(3);
        let values: Vec<f64> = (0..400).map(|at| stream.normal(at)).collect();
        let center = values.iter().sum::<f64>() / 400.0;
        let found = DRAWS.interval(400, mean(&values)).unwrap();
        // 1.96 / √400
        assert!((found.low - (center - 0.098)).abs() < 0.012, "{found:?} around {center}");
        assert!((found.high - (center + 0.098)).abs() < 0.012, "{found:?} around {center}");
        assert_eq!(DRAWS.interval(400, mean(&values)), Some(found), "the same every time");
        assert_ne!(Draws { seed: 2, ..DRAWS }.interval(400, mean(&values)), Some(found));
        let narrow = Draws { confidence: 0.5, ..DRAWS }.interval(400, mean(&values)).unwrap();
        assert!(narrow.low > found.low && narrow.high < found.high);
    }

    #[test]
    fn there_is_no_interval_where_nothing_is_known() {
        assert_eq!(DRAWS.interval(0, |_| 1.0), None);
        assert_eq!(Draws { samples: 0, ..DRAWS }.interval(3, |_| 1.0), None);
        assert_eq!(DRAWS.interval(3, |_| f64::NAN), None);
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0], 1.0), 2.0);
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
    }
}
