//! Next-token loss of a chunk of positions, and its gradient. Scores are kept a row per token of
//! the vocabulary and a column per position: so the output projection is read as it lies in
//! memory, and softmax runs along vectors of positions.

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::element::F32;
use super::exponential::exponential;
use super::host_tensor::{AsLhs, HostTensor};
use super::memory::filled;
use super::packed::{Left, PackedRhs, View};
use super::product::{Skipped, Term, add_product, add_product_here, product};
use super::softmax::cap_scores;
use crate::device::arch;

/// Rows of a task: fixed, so that sums are the same for any number of threads.
const ROWS: usize = 1024;
/// Rows of the output projection that are converted or packed at once.
pub const GROUP: usize = 2048;

/// Scores of positions over the vocabulary, `[vocabulary, positions]`.
pub struct Scores {
    numbers: Vec<f32>,
    positions: usize,
    soft_cap: Option<f32>,
}

impl Scores {
    /// `table · hiddenᵀ` for `hidden: [positions, width]` and `table: [vocabulary, width]`, each
    /// become `cap · tanh(score / cap)` where there is a cap.
    pub fn new<F: AsLhs>(table: &HostTensor, hidden: &[f32], soft_cap: Option<f32>) -> Self {
        let width = table.columns();
        let positions = hidden.len() / width;
        let right = PackedRhs::<F>::pack_rows(View::new(hidden, positions, width));
        let length = table.rows() * positions;
        let numbers = filled(length, GROUP * positions, |part, target| {
            let rows = table.numbers().part(part * GROUP, target.len() / positions);
            let left = F::factor(rows);
            let terms = [Term { left: left.view(), right: &right }];
            add_product_here(target, &terms, Skipped::default());
            if let Some(cap) = soft_cap {
                cap_scores(target, 1.0, cap);
            }
        });
        Self { numbers, positions, soft_cap }
    }

    /// The score of a token at each position.
    fn of(&self, tokens: &[u32]) -> Vec<f32> {
        let at = |(position, token): (usize, &u32)| *token as usize * self.positions + position;
        tokens.iter().enumerate().map(|place| self.numbers[at(place)]).collect()
    }

    /// Folds columns of all rows: parts in parallel, then the parts in order.
    fn fold(&mut self, first: f32, part: impl Fn(&mut [f32], &mut [f32]) + Sync) -> Vec<Vec<f32>> {
        let positions = self.positions;
        let parts = self.numbers.par_chunks_mut(ROWS * positions);
        parts
            .map(|rows| {
                let mut columns = vec![first; positions];
                part(rows, &mut columns);
                columns
            })
            .collect()
    }

    /// The largest score of each position.
    fn largest(&mut self) -> Vec<f32> {
        let parts = self.fold(f32::NEG_INFINITY, |rows, most| {
            arch().dispatch(Largest { rows, most });
        });
        let both = |mut most: Vec<f32>, part: Vec<f32>| {
            most.iter_mut().zip(part).for_each(|(most, part)| *most = most.max(part));
            most
        };
        parts.into_iter().reduce(both).unwrap_or_default()
    }

    /// Negative log-likelihoods of the wanted tokens in nats, with the largest score of each
    /// position and the sum of `exp(score − largest)` there.
    fn softmax(&mut self, wanted: &[u32]) -> Softmax {
        let most = self.largest();
        let parts = self.fold(0.0, |rows, sums| {
            arch().dispatch(SumExponentials { rows, most: &most, sums });
        });
        let both = |sum, part: Vec<f32>| super::pointwise::added(sum, &part);
        let sums = parts.into_iter().reduce(both).unwrap_or_default();
        let scores = self.of(wanted);
        let of = |((score, most), sum): ((&f32, &f32), &f32)| sum.ln() - (score - most);
        let losses = scores.iter().zip(&most).zip(&sums).map(of).collect();
        Softmax { losses, most, sums }
    }

    /// The negative log-likelihood of each wanted token in nats, and whether none is likelier.
    pub fn losses(mut self, wanted: &[u32]) -> Vec<(f32, bool)> {
        let Softmax { losses, most, .. } = self.softmax(wanted);
        let best = self.of(wanted).into_iter().zip(most).map(|(score, most)| score >= most);
        losses.into_iter().zip(best).collect()
    }

    /// The losses, and their gradient `scale · (softmax − onehot)` in place of the scores, with a
    /// scale for each position: where scores are capped, that of the scores before.
    pub fn into_gradient(mut self, wanted: &[u32], scales: &[f32]) -> (Vec<f32>, Gradient) {
        let Softmax { losses, most, sums } = self.softmax(wanted);
        let factors: Vec<f32> = scales.iter().zip(&sums).map(|(scale, sum)| scale / sum).collect();
        let (positions, soft_cap) = (self.positions, self.soft_cap);
        let slope = |score: f32| soft_cap.map_or(1.0, |cap| slope(score, 1.0 / cap));
        let at_wanted = self.of(wanted).into_iter().zip(scales);
        let at_wanted: Vec<f32> = at_wanted.map(|(x, scale)| scale * slope(x)).collect();
        self.numbers.par_chunks_mut(ROWS * positions).for_each(|rows| {
            let (most, factors) = (&most, &factors);
            match soft_cap {
                None => arch().dispatch(SoftmaxGradient { rows, most, factors }),
                Some(cap) => arch().dispatch(CappedGradient { rows, most, factors, cap }),
            }
        });
        for ((position, token), less) in wanted.iter().enumerate().zip(at_wanted) {
            self.numbers[*token as usize * positions + position] -= less;
        }
        (losses, Gradient { scores: self })
    }
}

/// What is known of each position once its exponentials are summed.
struct Softmax {
    losses: Vec<f32>,
    most: Vec<f32>,
    sums: Vec<f32>,
}

/// The gradient of scores.
pub struct Gradient {
    scores: Scores,
}

impl Gradient {
    /// That of the hidden numbers, `[positions, width]`.
    pub fn of_hidden<F: AsLhs>(&self, table: &HostTensor) -> Vec<f32> {
        let Scores { numbers, positions, .. } = &self.scores;
        let mut d = vec![0.0; positions * table.columns()];
        for (part, numbers) in numbers.chunks(GROUP * positions).enumerate() {
            let rows = numbers.len() / positions;
            let left = Left::<F>::transposed(View::new(numbers, rows, *positions));
            let right = table.numbers().part(part * GROUP, rows).pack_cols::<F>();
            add_product(&mut d, &[Term { left: left.view(), right: &right }]);
        }
        d
    }

    /// That of the table, `[vocabulary, width]`.
    pub fn of_table<F: AsLhs>(&self, hidden: &[f32], width: usize) -> Vec<f32> {
        let Scores { numbers, positions, .. } = &self.scores;
        let right = PackedRhs::<F>::pack_cols(View::new(hidden, *positions, width));
        let left = F::factor_of(numbers, *positions);
        product(&[Term { left: left.view(), right: &right }])
    }

    /// That of some rows of the table, `[rows, width]`, in 32 bits.
    pub fn of_rows(&self, rows: &[u32], hidden: &[f32], width: usize) -> Vec<f32> {
        let Scores { numbers, positions, .. } = &self.scores;
        let of = |row: &u32| &numbers[*row as usize * positions..][..*positions];
        let picked: Vec<f32> = rows.iter().flat_map(of).copied().collect();
        let right = PackedRhs::<F32>::pack_cols(View::new(hidden, *positions, width));
        let left = F32::factor_of(&picked, *positions);
        product(&[Term { left: left.view(), right: &right }])
    }
}

struct Largest<'a> {
    rows: &'a [f32],
    most: &'a mut [f32],
}

impl NullaryFnOnce for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rows, most } = self;
        for row in rows.chunks_exact(most.len()) {
            for (most, score) in most.iter_mut().zip(row) {
                *most = if score > most { *score } else { *most };
            }
        }
    }
}

struct SumExponentials<'a> {
    rows: &'a [f32],
    most: &'a [f32],
    sums: &'a mut [f32],
}

impl NullaryFnOnce for SumExponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rows, most, sums } = self;
        for row in rows.chunks_exact(most.len()) {
            for ((score, most), sum) in row.iter().zip(most).zip(sums.iter_mut()) {
                *sum += exponential(*score - most);
            }
        }
    }
}

struct SoftmaxGradient<'a> {
    rows: &'a mut [f32],
    most: &'a [f32],
    factors: &'a [f32],
}

impl NullaryFnOnce for SoftmaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rows, most, factors } = self;
        for row in rows.chunks_exact_mut(factors.len()) {
            for ((score, most), factor) in row.iter_mut().zip(most).zip(factors) {
                *score = exponential(*score - most) * factor;
            }
        }
    }
}

/// The same times the derivative of the cap.
struct CappedGradient<'a> {
    rows: &'a mut [f32],
    most: &'a [f32],
    factors: &'a [f32],
    cap: f32,
}

impl NullaryFnOnce for CappedGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { rows, most, factors, cap } = self;
        let inverse = 1.0 / cap;
        for row in rows.chunks_exact_mut(factors.len()) {
            for ((score, most), factor) in row.iter_mut().zip(most).zip(factors) {
                *score = exponential(*score - most) * factor * slope(*score, inverse);
            }
        }
    }
}

/// The derivative of `cap · tanh(x / cap)` where it gave `y`.
#[inline(always)]
fn slope(y: f32, inverse_of_cap: f32) -> f32 {
    let share = y * inverse_of_cap;
    1.0 - share * share
}
