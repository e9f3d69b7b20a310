//! How the next token is chosen from scores.
//!
//! The order is that of transformers' `generate`: the penalty on what was said before, temperature,
//! then the filters top-k, top-p and min-p, each on what the one before left.

use crate::ops::cpu::{F32, Scores, View};
use crate::random::Stream;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// 0 takes the most likely token; above, tokens are drawn from softmax(logits / temperature).
    pub temperature: f64,
    /// Makes draws repeatable.
    pub stream: Stream,
    /// At most this many new tokens.
    pub max_tokens: usize,
    /// Which tokens may be drawn.
    pub filters: Filters,
}

/// Which tokens may be drawn; by default all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filters {
    /// So many of the most likely ones, and those that are as likely as the last of them.
    pub top_k: Option<usize>,
    /// The fewest of the most likely ones whose probabilities are so much together (nucleus
    /// sampling, Holtzman et al. 2020).
    pub top_p: Option<f64>,
    /// Those with at least this share of the probability of the most likely one.
    pub min_p: Option<f64>,
    /// Scores above zero of tokens of the prompt and of what was made are divided by this, those
    /// below multiplied (Keskar et al. 2019). 1 changes nothing.
    pub repetition_penalty: f32,
}

impl Default for Filters {
    fn default() -> Self {
        Self { top_k: None, top_p: None, min_p: None, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Without filters.
    pub fn new(temperature: f64, stream: Stream, max_tokens: usize) -> Self {
        Self { temperature, stream, max_tokens, filters: Filters::default() }
    }

    /// The next token of a text `before`, of which `made` are new; never one whose score is minus
    /// infinity while another's is not.
    pub fn choose(&self, logits: &[f32], before: &[u32], made: u64) -> u32 {
        let penalised = self.filters.penalised(logits, before);
        let logits = penalised.as_deref().unwrap_or(logits);
        let chosen =
            if self.temperature <= 0.0 { likeliest(logits) } else { self.draw(logits, made) };
        u32::try_from(chosen).expect("vocabularies stay below 2^32")
    }

    fn draw(&self, logits: &[f32], made: u64) -> usize {
        let mut weights = relative_probabilities(logits, self.temperature);
        // The smallest number that the vectors' exponential function gives is above zero.
        for (weight, score) in weights.iter_mut().zip(logits) {
            *weight = if *score == f32::NEG_INFINITY { 0.0 } else { *weight };
        }
        self.filters.apply(&mut weights);
        let sum = |weights: &[f32]| weights.iter().copied().map(f64::from).sum::<f64>();
        // Whole blocks are passed by their sums.
        let blocks: Vec<f64> = weights.chunks(BLOCK).map(sum).collect();
        let mut left = self.stream.uniform(made) * blocks.iter().sum::<f64>();
        for (block, (sum, weights)) in blocks.iter().zip(weights.chunks(BLOCK)).enumerate() {
            if left >= *sum {
                left -= sum;
                continue;
            }
            for (index, weight) in weights.iter().enumerate() {
                left -= f64::from(*weight);
                if left < 0.0 && *weight > 0.0 {
                    return block * BLOCK + index;
                }
            }
        }
        // What rounding left over belongs to the last one that may be drawn.
        let last = weights.iter().rposition(|weight| *weight > 0.0);
        last.unwrap_or_else(|| likeliest(logits))
    }
}

/// Weights whose sum is kept beside them.
const BLOCK: usize = 256;

/// The first of the greatest.
fn likeliest(logits: &[f32]) -> usize {
    let places = logits.iter().enumerate();
    places.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).map_or(0, |(index, _)| index)
}

/// exp((logit − the greatest) / temperature).
fn relative_probabilities(logits: &[f32], temperature: f64) -> Vec<f32> {
    let count = logits.len();
    let mut weights = vec![0.0; count];
    #[expect(clippy::cast_possible_truncation)] // as scores are
    let scale = (1.0 / temperature).min(f64::from(f32::MAX)) as f32;
    let numbers = View::new(logits, 1, count);
    Scores { numbers, seen: count, window: count, scale, soft_cap: None, sink: None }
        .exponentials::<F32>(&mut weights);
    weights
}

impl Filters {
    fn penalised(&self, logits: &[f32], before: &[u32]) -> Option<Vec<f32>> {
        let penalty = self.repetition_penalty;
        if penalty == 1.0 {
            return None;
        }
        let mut penalised = logits.to_vec();
        for token in before {
            let token = *token as usize;
            if let (Some(new), Some(&old)) = (penalised.get_mut(token), logits.get(token)) {
                *new = if old > 0.0 { old / penalty } else { old * penalty };
            }
        }
        Some(penalised)
    }

    /// Makes zeros of weights that may not be drawn.
    fn apply(&self, weights: &mut [f32]) {
        if let Some(count) = self.top_k.filter(|count| *count < weights.len()) {
            let mut sorted = weights.to_vec();
            let (_, last, _) =
                sorted.select_nth_unstable_by(count.max(1) - 1, |a, b| b.total_cmp(a));
            keep(weights, *last);
        }
        if let Some(share) = self.top_p.filter(|share| *share < 1.0) {
            let mut sorted: Vec<f32> = weights.iter().copied().filter(|it| *it > 0.0).collect();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            let wanted = share * sorted.iter().copied().map(f64::from).sum::<f64>();
            let mut sum = 0.0;
            let is_enough = |weight: &&f32| {
                sum += f64::from(**weight);
                sum >= wanted
            };
            if let Some(last) = sorted.iter().find(is_enough) {
                keep(weights, *last);
            }
        }
        if let Some(share) = self.min_p {
            let largest = weights.iter().copied().fold(0.0, f32::max);
            #[expect(clippy::cast_possible_truncation)] // as weights are
            keep(weights, (share * f64::from(largest)) as f32);
        }
    }
}

/// Keeps weights that are at least so large.
fn keep(weights: &mut [f32], least: f32) {
    weights.iter_mut().filter(|weight| **weight < least).for_each(|weight| *weight = 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f64, filters: Filters) -> Sampling {
        Sampling { filters, ..Sampling::new(temperature, Stream::new(1), 1) }
    }

    fn weights(filters: Filters) -> Vec<f32> {
        let mut weights = [0.5, 0.1, 0.2, 0.15, 0.05].to_vec();
        filters.apply(&mut weights);
        weights
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let greedy = sampling(0.0, Filters::default());
        assert_eq!(greedy.choose(&[0.0, 2.0, 2.0], &[], 0), 1);
    }

    #[test]
    fn draws_follow_the_temperature() {
        let logits = [0.0, 1.0];
        let share = |temperature| {
            let drawn = sampling(temperature, Filters::default());
            let ones = (0..20_000).filter(|&i| drawn.choose(&logits, &[], i) == 1);
            ones.count() as f64 / 20_000.0
        };
        let expected = |t: f64| 1.0 / (1.0 + (-1.0 / t).exp());
        assert!((share(1.0) - expected(1.0)).abs() < 0.015);
        assert!((share(0.3) - expected(0.3)).abs() < 0.015);
    }

    #[test]
    fn filters_leave_the_likely_tokens() {
        let all = Filters::default();
        assert_eq!(weights(all), [0.5, 0.1, 0.2, 0.15, 0.05]);
        let top_k = |k| weights(Filters { top_k: Some(k), ..all });
        assert_eq!(top_k(1), [0.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(top_k(3), [0.5, 0.0, 0.2, 0.15, 0.0]);
        assert_eq!(top_k(9), weights(all));
        let top_p = |p| weights(Filters { top_p: Some(p), ..all });
        assert_eq!(top_p(0.4), [0.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(top_p(0.6), [0.5, 0.0, 0.2, 0.0, 0.0]);
        assert_eq!(top_p(0.9), [0.5, 0.1, 0.2, 0.15, 0.0]);
        assert_eq!(top_p(1.0), weights(all));
        let min_p = |p| weights(Filters { min_p: Some(p), ..all });
        assert_eq!(min_p(0.25), [0.5, 0.0, 0.2, 0.15, 0.0]);
        assert_eq!(min_p(1.0), [0.5, 0.0, 0.0, 0.0, 0.0]);
        // One after the other: of three, those that make six tenths of what is left.
        let both = Filters { top_k: Some(3), top_p: Some(0.6), ..all };
        assert_eq!(weights(both), [0.5, 0.0, 0.2, 0.0, 0.0]);
    }

    #[test]
    fn what_is_filtered_is_never_drawn() {
        let logits = [3.0, 1.0, 2.0, 0.0];
        let drawn = sampling(2.0, Filters { top_k: Some(2), ..Filters::default() });
        let found: Vec<u32> = (0..500).map(|i| drawn.choose(&logits, &[], i)).collect();
        assert!(found.contains(&0) && found.contains(&2));
        assert!(!found.contains(&1) && !found.contains(&3));
    }

    #[test]
    fn what_was_said_becomes_less_likely() {
        let filters = Filters { repetition_penalty: 2.0, ..Filters::default() };
        let penalised = filters.penalised(&[4.0, -1.0, 3.0, 0.5], &[0, 1, 1, 9]).unwrap();
        assert_eq!(penalised, [2.0, -2.0, 3.0, 0.5]);
        assert_eq!(sampling(0.0, filters).choose(&[4.0, -1.0, 3.0], &[0], 1), 2);
    }
}
