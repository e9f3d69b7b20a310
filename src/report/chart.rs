//! Curves in a frame, as SVG: axes with round numbers, a legend, and the numbers in words for who
//! does not see them.

use minijinja::context;
use minijinja::value::Value;

/// Size of a chart.
const SIZE: [f64; 2] = [860.0, 260.0];
/// Room for the numbers of the axes: left, right, above, below.
const MARGIN: [f64; 4] = [64.0, 12.0, 12.0, 40.0];
/// So many points are drawn at most: a long run's steps are averaged.
const POINTS: usize = 800;
/// So many marks stand on an axis at most.
const MARKS: [usize; 2] = [9, 6];
/// Curves of fewer points need no smoothing.
pub(super) const SMOOTHED_FROM: usize = 40;
/// How much of the mean so far stays at each point, as in TensorBoard.
const SMOOTHING: f64 = 0.9;

/// One line of a chart.
pub(super) struct Curve<'a> {
    /// What it is called in the legend.
    pub name: &'a str,
    /// Its colour: a class of the page's style.
    pub class: &'a str,
    /// Places from left to right.
    pub points: Vec<[f64; 2]>,
    /// Whether its moving mean is drawn, too, where it has many points.
    pub smoothed: bool,
}

impl<'a> Curve<'a> {
    /// A line as it is.
    pub fn new(name: &'a str, class: &'a str, points: Vec<[f64; 2]>) -> Self {
        Self { name, class, points, smoothed: false }
    }

    /// With its moving mean.
    #[must_use]
    pub fn smoothed(self) -> Self {
        Self { smoothed: true, ..self }
    }

    fn finite(&self) -> impl Iterator<Item = [f64; 2]> {
        let finite = |point: &[f64; 2]| point.iter().all(|value| value.is_finite());
        self.points.iter().copied().filter(finite)
    }
}

/// Some curves in one frame, named `title`; none where nothing was measured. `across` is what goes
/// from left to right.
pub(super) fn chart(title: &str, across: &str, curves: &[Curve]) -> Value {
    let all: Vec<[f64; 2]> = curves.iter().flat_map(Curve::finite).collect();
    let Some(first) = all.first() else { return context! { title } };
    let (mut low, mut high) = (*first, *first);
    for point in &all {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    let frame = Frame { low, high };
    let mut drawn = Vec::new();
    for curve in curves {
        let points: Vec<[f64; 2]> = curve.finite().collect();
        let smooth = curve.smoothed && points.len() >= SMOOTHED_FROM;
        let raw = if smooth { "raw" } else { "" };
        drawn.push(frame.line(&thinned(&points), curve.class, raw));
        if smooth {
            drawn.push(frame.line(&thinned(&smoothed(&points)), curve.class, ""));
        }
    }
    let there = curves.iter().filter(|curve| curve.finite().next().is_some());
    let legend = there.clone().map(|curve| context! { name => curve.name, class => curve.class });
    let legend: Vec<Value> = legend.collect();
    let words: Vec<String> = there.map(|curve| in_words(curve, across)).collect();
    let [left, right, top, bottom] = MARGIN;
    let inner = context! {
        left, top, right => SIZE[0] - right, bottom => SIZE[1] - bottom,
    };
    context! {
        title, across, legend, inner,
        width => SIZE[0],
        height => SIZE[1],
        across_at => [SIZE[0] - right, SIZE[1] - 8.0],
        curves => drawn,
        marks => frame.marks(),
        words => words.join("; "),
    }
}

/// What a curve says, in words.
fn in_words(curve: &Curve, across: &str) -> String {
    let points: Vec<[f64; 2]> = curve.finite().collect();
    let least = points.iter().copied().min_by(|a, b| a[1].total_cmp(&b[1])).unwrap_or_default();
    let most = points.iter().copied().max_by(|a, b| a[1].total_cmp(&b[1])).unwrap_or_default();
    let at = |[x, y]: [f64; 2]| format!("{} at {across} {}", short(y), short(x));
    match points.as_slice() {
        [] => String::new(),
        [only] => format!("{} {}", curve.name, at(*only)),
        [first, .., last] => format!(
            "{} from {} to {}, least {}, most {}",
            curve.name,
            at(*first),
            at(*last),
            at(least),
            at(most)
        ),
    }
}

/// What of the numbers is where in the picture.
struct Frame {
    low: [f64; 2],
    high: [f64; 2],
}

impl Frame {
    /// Where a number lies between the ends of an axis, from 0 to 1.
    fn share(&self, axis: usize, value: f64) -> f64 {
        match self.high[axis] - self.low[axis] {
            0.0 => 0.5,
            width if width.is_finite() => (value - self.low[axis]) / width,
            _ => value / self.high[axis] / 2.0 - self.low[axis] / self.high[axis] / 2.0,
        }
    }

    fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [left, right, top, bottom] = MARGIN;
        [
            left + self.share(0, x) * (SIZE[0] - left - right),
            top + (1.0 - self.share(1, y)) * (SIZE[1] - top - bottom),
        ]
    }

    fn line(&self, points: &[[f64; 2]], class: &str, more: &str) -> Value {
        let places = points.iter().map(|point| {
            let [x, y] = self.place(*point);
            format!("{x:.1},{y:.1}")
        });
        let places: Vec<String> = places.collect();
        // A line of one point is not seen.
        let dot = match points {
            [only] => Some(self.place(*only)),
            _ => None,
        };
        context! { class, more, points => places.join(" "), dot }
    }

    /// The round numbers of both axes, with their places.
    fn marks(&self) -> Vec<Value> {
        let mut marks = Vec::new();
        for axis in 0..2 {
            for value in round_numbers([self.low[axis], self.high[axis]], MARKS[axis]) {
                let mut point = self.low;
                point[axis] = value;
                let at = self.place(point)[axis];
                marks.push(context! { axis, at, text => short(value) });
            }
        }
        marks
    }
}

/// At most so many numbers from one end to the other, multiples of 1, 2 or 5 times a power of ten.
#[expect(clippy::cast_precision_loss)] // few
fn round_numbers([low, high]: [f64; 2], most: usize) -> Vec<f64> {
    let width = (high - low) / most as f64;
    if width <= 0.0 || !width.is_finite() {
        return vec![low];
    }
    let power = 10_f64.powf(width.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = steps.into_iter().find(|step| *step >= width).unwrap_or(10.0 * power);
    let first = (low / step).ceil();
    let numbers = (0..=most).map(|number| (first + number as f64) * step);
    // Rounded away from sums of rounding errors.
    numbers.take_while(|number| *number <= high + step * 1e-9).collect()
}

/// The moving mean, without the weight of a beginning that is not there.
pub(super) fn smoothed(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let (mut mean, mut weight) = (0.0, 0.0);
    let smooth = |[x, y]: &[f64; 2]| {
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * y;
        weight = SMOOTHING * weight + (1.0 - SMOOTHING);
        [*x, mean / weight]
    };
    points.iter().map(smooth).collect()
}

/// At most [`POINTS`] points, each the mean of its neighbours.
#[expect(clippy::cast_precision_loss)] // thousands
fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let each = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[[f64; 2]]| {
        let count = part.len() as f64;
        [0, 1].map(|axis| part.iter().map(|point| point[axis] / count).sum::<f64>())
    };
    points.chunks(each).map(mean).collect()
}

/// A number in a few digits.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 || (0.001..1e6).contains(&value.abs()) {
        let text = format!("{value:.4}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{value:.2e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_thinned_to_the_means_of_neighbours() {
        let points: Vec<[f64; 2]> =
            (0..2000).map(|at| [f64::from(at), f64::from(at % 2)]).collect();
        let found = thinned(&points);
        assert!(found.len() <= POINTS);
        assert!((found[0][0] - 1.0).abs() < 1e-9 && (found[0][1] - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(thinned(&[[1.0, 2.0]]), [[1.0, 2.0]]);
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(round_numbers([0.0, 10.0], 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let marks = round_numbers([0.93, 2.61], 5).into_iter().map(short).collect::<Vec<_>>();
        assert_eq!(marks, ["1", "1.5", "2", "2.5"]);
        assert_eq!(round_numbers([3.0, 3.0], 5), [3.0]);
        for width in [1e-9, 0.07, 1.0, 33.0, 4e12] {
            let found = round_numbers([width, 2.0 * width], 6);
            assert!((2..=7).contains(&found.len()), "{found:?}");
            assert!(found.iter().all(|mark| (width..=2.0 * width * 1.001).contains(mark)));
        }
    }

    #[test]
    fn a_moving_mean_begins_at_the_first_point() {
        let found = smoothed(&[[0.0, 4.0], [1.0, 4.0], [2.0, 1.0]]);
        assert!((found[0][1] - 4.0).abs() < 1e-12 && (found[1][1] - 4.0).abs() < 1e-12);
        assert!((1.0..4.0).contains(&found[2][1]));
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.5, 1234.0, 2e-5, 3e9].map(short);
        assert_eq!(all, ["0", "0.5", "1234", "2.00e-5", "3.00e9"]);
    }

    #[test]
    fn curves_are_told_in_words() {
        let points = vec![[1.0, 3.0], [2.0, 1.0], [3.0, 2.0]];
        let said = in_words(&Curve::new("training", "a", points), "step");
        assert_eq!(
            said,
            "training from 3 at step 1 to 2 at step 3, least 1 at step 2, most 3 at step 1"
        );
    }
}
