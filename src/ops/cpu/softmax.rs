//! Softmax of rows of scores, and its gradient: one pass over memory each, which writes what the
//! next product takes as a factor.

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::element::Format;
use super::exponential::exponential;
use super::packed::View;
use super::pointwise::{LANES, dot, largest, tanh};
use crate::device::arch;

/// Scores of queries that follow each other, each of which sees one key more than the last.
#[derive(Clone, Copy)]
pub struct Scores<'a> {
    /// `[queries, keys]`.
    pub numbers: View<'a, f32>,
    /// Keys up to the last that the first query sees.
    pub seen: usize,
    /// How many of those a query sees at most: the last.
    pub window: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// The numbers were multiplied already, and then went through [`cap_scores`].
    pub soft_cap: Option<f32>,
    /// A score of nothing, which takes its share of the weights (Xiao et al. 2023): as it is.
    pub sink: Option<f32>,
}

/// `cap · tanh(scale · score / cap)` in the place of every score.
pub fn cap_scores(scores: &mut [f32], scale: f32, cap: f32) {
    arch().dispatch(Cap { scores, scale, cap });
}

struct Cap<'a> {
    scores: &'a mut [f32],
    scale: f32,
    cap: f32,
}

impl NullaryFnOnce for Cap<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let factor = self.scale / self.cap;
        // A loop: a closure that is not inlined is compiled for any processor.
        for score in self.scores {
            *score = self.cap * tanh(*score * factor);
        }
    }
}

/// What is known of a row of scores once its exponentials are summed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// `Σ exp(scale · (score − most))`, that of the sink among them.
    pub relative: f32,
    /// The logarithm of `Σ exp(scale · score)`, likewise.
    pub log: f32,
}

impl Scores<'_> {
    /// `exp(scale · (score − most))` of what each query sees and zero of the rest, in rows of the
    /// target, which may be padded; and their sums.
    pub fn exponentials<F: Format>(self, target: &mut [F::Stored]) -> Vec<Sum> {
        let mut sums = vec![Sum::default(); self.numbers.rows];
        arch().dispatch(Exponentials::<F> { scores: self, target, sums: &mut sums });
        sums
    }

    /// With the weights P = exp(scale · score − log), made again: P, and the gradient of scores
    /// `scale · P ⊙ (d_weights − rowsum(d ⊙ output))`, times the slope of the cap if there is one:
    /// of what [`cap_scores`] was given. In rows of targets, which may be padded. Returns the
    /// gradient of the sink.
    /// `logs` are those of [`Sum`], `outputs` are d, the gradient of the output, and the output.
    pub fn gradients<F: Format>(
        self,
        logs: &[f32],
        d_weights: &[f32],
        outputs: [View<F::Stored>; 2],
        targets: [&mut [F::Stored]; 2],
    ) -> f32 {
        arch().dispatch(Gradients::<F> { scores: self, logs, d_weights, outputs, targets })
    }

    /// What the numbers are still to be multiplied with.
    #[inline(always)]
    fn factor(&self) -> f32 {
        if self.soft_cap.is_some() { 1.0 } else { self.scale }
    }

    /// The keys that a query sees.
    #[inline(always)]
    fn seen_by(&self, query: usize) -> Range<usize> {
        let until = self.seen + query;
        until.saturating_sub(self.window)..until
    }
}

struct Exponentials<'a, F: Format> {
    scores: Scores<'a>,
    target: &'a mut [F::Stored],
    sums: &'a mut [Sum],
}

impl<F: Format> NullaryFnOnce for Exponentials<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { scores, target, sums } = self;
        let factor = scores.factor();
        let rows = target.chunks_exact_mut(target.len() / sums.len());
        for ((query, target), sum) in rows.enumerate().zip(sums) {
            let seen = scores.seen_by(query);
            let row = &scores.numbers.row(query)[seen.clone()];
            let target = shown(target, &seen);
            let sink = scores.sink.map(|sink| sink / factor);
            let most = largest(row).max(sink.unwrap_or(f32::NEG_INFINITY));
            let mut lanes = [0.0; LANES];
            let (mut parts, whole) = (target.chunks_exact_mut(LANES), row.chunks_exact(LANES));
            let rest = whole.remainder();
            for (target, row) in (&mut parts).zip(whole) {
                for lane in 0..LANES {
                    let number = exponential((row[lane] - most) * factor);
                    target[lane] = F::of(number);
                    lanes[lane] += number;
                }
            }
            let mut last = 0.0;
            for (target, score) in parts.into_remainder().iter_mut().zip(rest) {
                let number = exponential((score - most) * factor);
                *target = F::of(number);
                last += number;
            }
            let sink = sink.map_or(0.0, |sink| exponential((sink - most) * factor));
            let relative = lanes.iter().sum::<f32>() + last + sink;
            *sum = Sum { relative, log: most * factor + relative.ln() };
        }
    }
}

struct Gradients<'a, F: Format> {
    scores: Scores<'a>,
    logs: &'a [f32],
    d_weights: &'a [f32],
    outputs: [View<'a, F::Stored>; 2],
    targets: [&'a mut [F::Stored]; 2],
}

impl<F: Format> NullaryFnOnce for Gradients<'_, F> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let Self { scores, logs, d_weights, outputs: [d, output], targets } = self;
        let [weights, d_scores] = targets;
        let (scale, factor, stride) = (scores.scale, scores.factor(), weights.len() / logs.len());
        let targets = weights.chunks_exact_mut(stride).zip(d_scores.chunks_exact_mut(stride));
        let rows = targets.zip(d_weights.chunks_exact(scores.numbers.columns)).enumerate();
        let mut d_sink = 0.0;
        for (query, ((weights, d_scores), d_weights)) in rows {
            let seen = scores.seen_by(query);
            let row = &scores.numbers.row(query)[seen.clone()];
            let (log, product) = (logs[query], dot(d.row(query), output.row(query)));
            // Its weight, of which nothing is mixed.
            d_sink -= scores.sink.map_or(0.0, |sink| exponential(sink - log)) * product;
            let targets = [weights, d_scores].map(|target| shown(target, &seen));
            let of_row = GradientRow { row, d_weights: &d_weights[seen], factor, log, targets };
            // Without a cap nothing is computed of its slope.
            match scores.soft_cap {
                None => of_row.write::<F>(|d, p, _| p * (d - product) * scale),
                Some(cap) => {
                    let inverse = 1.0 / cap;
                    of_row.write::<F>(|d, p, score| {
                        let share = score * inverse;
                        // tanh′ = 1 − tanh²
                        p * (d - product) * scale * (1.0 - share * share)
                    });
                }
            }
        }
        d_sink
    }
}

/// What a query sees of its row of a target; the rest is cleared.
#[inline(always)]
fn shown<'t, N: Copy + Default>(target: &'t mut [N], seen: &Range<usize>) -> &'t mut [N] {
    let (target, after) = target.split_at_mut(seen.end);
    after.fill(N::default());
    let (before, target) = target.split_at_mut(seen.start);
    if !before.is_empty() {
        before.fill(N::default());
    }
    target
}

/// What is made of the scores that a query sees: weights, and the gradient of the scores.
struct GradientRow<'a, N> {
    row: &'a [f32],
    d_weights: &'a [f32],
    factor: f32,
    log: f32,
    targets: [&'a mut [N]; 2],
}

impl<N> GradientRow<'_, N> {
    /// `gradient` of a score gets the gradient of its weight, the weight and the score.
    #[inline(always)]
    fn write<F: Format<Stored = N>>(self, gradient: impl Fn(f32, f32, f32) -> f32) {
        let [weights, d_scores] = self.targets;
        let targets = weights.iter_mut().zip(d_scores);
        for ((score, d), (weight, d_score)) in self.row.iter().zip(self.d_weights).zip(targets) {
            let p = exponential(score * self.factor - self.log);
            *weight = F::of(p);
            *d_score = F::of(gradient(*d, p, *score));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::F32;
    use super::*;

    fn of(numbers: View<f32>) -> Scores {
        let window = usize::MAX;
        Scores { numbers, seen: 1, window, scale: 1.0, soft_cap: None, sink: None }
    }

    #[test]
    fn exponentials_hide_what_is_not_seen_and_sum_the_rest() {
        let (queries, keys, stride) = (3, 40, 42);
        let numbers: Vec<f32> = (0..queries * keys).map(|i| (i % 7) as f32).collect();
        let scores = Scores { seen: 21, scale: 0.5, ..of(View::new(&numbers, queries, keys)) };
        let mut target = vec![9.0; queries * stride];
        let sums = scores.exponentials::<F32>(&mut target);
        for (query, (row, sum)) in target.chunks(stride).zip(&sums).enumerate() {
            let seen = 21 + query;
            assert!(row[seen..].iter().all(|weight| *weight == 0.0));
            assert!((row.iter().sum::<f32>() - sum.relative).abs() < 1e-4);
            let exact = numbers[query * keys..][..seen].iter().map(|x| f64::from(0.5 * x).exp());
            assert!((exact.sum::<f64>().ln() - f64::from(sum.log)).abs() < 1e-6);
            assert_eq!(row.iter().copied().fold(0.0, f32::max), 1.0);
        }
    }

    /// Weights made again from the logarithms are those that the exponentials give.
    #[test]
    fn weights_are_made_again() {
        let numbers: Vec<f32> = (0..120).map(|i| (i * 37 % 101) as f32 / 10.0).collect();
        let scores = Scores { seen: 38, scale: 0.7, ..of(View::new(&numbers, 3, 40)) };
        let mut first = vec![9.0; 120];
        let sums = scores.exponentials::<F32>(&mut first);
        let logs: Vec<f32> = sums.iter().map(|sum| sum.log).collect();
        let (mut weights, mut d_scores) = (vec![9.0; 120], vec![9.0; 120]);
        let (d, output) = (vec![0.5; 3], vec![3.0; 3]);
        let views = [View::new(&d, 3, 1), View::new(&output, 3, 1)];
        let d_weights = vec![2.0; 120];
        let targets = [weights.as_mut_slice(), d_scores.as_mut_slice()];
        scores.gradients::<F32>(&logs, &d_weights, views, targets);
        for (place, (weight, d)) in weights.iter().zip(&d_scores).enumerate() {
            let exact = first[place] / sums[place / 40].relative;
            assert!((weight - exact).abs() < 2e-6, "{weight} and {exact}");
            assert!((d - exact * (2.0 - 1.5) * 0.7).abs() < 2e-6);
        }
    }
}
