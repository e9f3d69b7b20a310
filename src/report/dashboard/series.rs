//! A curve of any length in bounded memory.

/// So many points are kept at most; a terminal shows fewer.
const POINTS_MAX: usize = 1024;

/// Points of a curve; those of a long run are means over neighbours.
#[derive(Debug, Default, Clone)]
pub(super) struct Series {
    points: Vec<[f64; 2]>,
    /// Each point is the mean of twice as many as before, so often.
    halvings: u32,
    /// What the next point is made of: sums, and of how many.
    sums: [f64; 2],
    count: u64,
}

impl Series {
    /// Adds a point, if it is one.
    #[expect(clippy::cast_precision_loss)] // counts of steps
    pub fn add(&mut self, x: f64, y: f64) {
        if !(x.is_finite() && y.is_finite()) {
            return;
        }
        self.sums = [self.sums[0] + x, self.sums[1] + y];
        self.count += 1;
        if self.count < 1 << self.halvings {
            return;
        }
        self.points.push(self.sums.map(|sum| sum / self.count as f64));
        (self.sums, self.count) = ([0.0; 2], 0);
        if self.points.len() > POINTS_MAX {
            let mean = |pair: &[[f64; 2]]| {
                [0, 1].map(|axis| {
                    pair.iter().map(|point| point[axis]).sum::<f64>() / pair.len() as f64
                })
            };
            self.points = self.points.chunks(2).map(mean).collect();
            self.halvings += 1;
        }
    }

    /// The points, from left to right.
    #[expect(clippy::cast_precision_loss)] // counts of steps
    pub fn points(&self) -> Vec<[f64; 2]> {
        let last = (self.count > 0).then(|| self.sums.map(|sum| sum / self.count as f64));
        self.points.iter().copied().chain(last).collect()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_ends_and_its_mean() {
        let mut series = Series::default();
        assert!(series.is_empty());
        let steps = 100_003;
        (0..steps).for_each(|step| series.add(f64::from(step), f64::from(step % 2)));
        series.add(f64::NAN, 1.0);
        series.add(1.0, f64::INFINITY);
        let points = series.points();
        assert!(points.len() <= POINTS_MAX + 1 && points.len() > POINTS_MAX / 3);
        assert!(points[0][0] < 200.0 && points.last().unwrap()[0] > 99_800.0);
        assert!(points.windows(2).all(|pair| pair[0][0] < pair[1][0]));
        assert!(points[..points.len() - 1].iter().all(|point| (point[1] - 0.5).abs() < 0.01));
    }

    #[test]
    fn a_short_one_is_kept_as_it_is() {
        let mut series = Series::default();
        (0..5).for_each(|step| series.add(f64::from(step), 2.0 * f64::from(step)));
        assert_eq!(series.points()[4], [4.0, 8.0]);
        assert_eq!(series.points().len(), 5);
    }
}
