//! Which experts compute a token, and what their outputs are weighted with. Choices are made on the
//! host: they decide how large tensors are.

use burn::tensor::{Device, Int, Tensor, activation};
use rayon::prelude::*;

use crate::model::description::RouterWeights;
use crate::ops::indices;

/// How scores become choices and weights.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Experts of a token.
    pub top_k: usize,
    /// How many there are.
    pub count: usize,
    /// What outputs are weighted with.
    pub weights: RouterWeights,
    /// What is added for each expert to what they are chosen by.
    pub choice_bias: Option<Vec<f32>>,
}

/// The experts of tokens. A slot is a choice of a token: those of the first token come first, each
/// with the experts of the highest scores first.
pub struct Choices {
    /// The expert of each slot.
    pub experts: Vec<u32>,
    /// Of each expert, the slots that have it, in order.
    pub slots: Vec<Vec<u32>>,
    /// The row of each slot among those of all experts, one expert after the other.
    pub rows: Vec<u32>,
    /// Slots of a token.
    pub top_k: usize,
}

impl Choices {
    /// The tokens of an expert, in order, each once.
    pub fn tokens(&self, expert: usize) -> Vec<u32> {
        let top_k = u32::try_from(self.top_k).expect("experts are few");
        self.slots[expert].iter().map(|slot| slot / top_k).collect()
    }
}

impl Routing {
    /// The experts with the highest scores of each token, of `scores: [tokens, experts]` row after
    /// row; the first of equal ones.
    pub fn choose(&self, scores: &[f32]) -> Choices {
        let Self { top_k, count, .. } = *self;
        let changed = self.chosen_by(scores);
        let scores = changed.as_deref().unwrap_or(scores);
        let mut experts = vec![0_u32; scores.len() / count * top_k];
        let rows = experts.par_chunks_exact_mut(top_k).zip(scores.par_chunks_exact(count));
        rows.for_each(|(chosen, scores)| highest(scores, chosen));
        let mut slots = vec![Vec::new(); count];
        for (slot, expert) in (0_u32..).zip(&experts) {
            slots[*expert as usize].push(slot);
        }
        let mut rows = vec![0; experts.len()];
        for (row, slot) in (0_u32..).zip(slots.iter().flatten()) {
            rows[*slot as usize] = row;
        }
        Choices { experts, slots, rows, top_k }
    }

    /// What experts are chosen by, if not by the scores themselves.
    fn chosen_by(&self, scores: &[f32]) -> Option<Vec<f32>> {
        let by_share = matches!(self.weights, RouterWeights::Sigmoid { .. });
        if !by_share && self.choice_bias.is_none() {
            return None;
        }
        let mut all = scores.to_vec();
        if by_share {
            all.iter_mut().for_each(|score| *score = sigmoid(*score));
        }
        for row in all.chunks_exact_mut(self.count) {
            let bias = self.choice_bias.iter().flatten();
            row.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
        }
        Some(all)
    }

    /// The weights of all slots, `[tokens, top_k]`, of `scores: [tokens, experts]`.
    pub fn weights_of(&self, scores: Tensor<2>, choices: &Choices, device: &Device) -> Tensor<2> {
        let dims = [scores.dims()[0], self.top_k];
        let chosen: Tensor<2, Int> = indices(choices.experts.iter().copied(), device).reshape(dims);
        match self.weights {
            RouterWeights::OfChosen => softmax(scores.gather(1, chosen)),
            RouterWeights::OfAll => softmax(scores).gather(1, chosen),
            RouterWeights::Sigmoid { normalised, factor } => {
                let shares = activation::sigmoid(scores.gather(1, chosen));
                let shares = match normalised {
                    true => shares.clone() / shares.sum_dim(1).add_scalar(ADDED),
                    false => shares,
                };
                shares.mul_scalar(factor)
            }
        }
    }

    /// The same on the host, and what [`Self::back`] needs: the softmax that they are of, or the
    /// sigmoids of the chosen.
    pub fn weights(&self, scores: &[f32], choices: &Choices) -> (Vec<f32>, Vec<f32>) {
        let Self { top_k, count, .. } = *self;
        let chosen = choices.experts.par_chunks_exact(top_k).zip(scores.par_chunks_exact(count));
        match self.weights {
            RouterWeights::OfChosen => {
                let of_token = |(chosen, scores): (&[u32], &[f32])| {
                    softmax_of(chosen.iter().map(|expert| scores[*expert as usize]).collect())
                };
                let weights: Vec<f32> = chosen.flat_map_iter(of_token).collect();
                (weights.clone(), weights)
            }
            RouterWeights::OfAll => {
                let of_token = |scores: &[f32]| softmax_of(scores.to_vec());
                let all: Vec<f32> =
                    scores.par_chunks_exact(count).flat_map_iter(of_token).collect();
                let slots = choices.experts.iter().enumerate();
                let weight =
                    |(slot, expert): (usize, &u32)| all[slot / top_k * count + *expert as usize];
                (slots.map(weight).collect(), all)
            }
            RouterWeights::Sigmoid { normalised, factor } => {
                let share = |(chosen, scores): (&[u32], &[f32])| -> Vec<f32> {
                    chosen.iter().map(|expert| sigmoid(scores[*expert as usize])).collect()
                };
                let shares: Vec<f32> = chosen.flat_map_iter(share).collect();
                let mut weights = shares.clone();
                for weights in weights.chunks_exact_mut(top_k) {
                    let sum = sum_of(weights, normalised);
                    weights.iter_mut().for_each(|weight| *weight = *weight / sum * factor);
                }
                (weights, shares)
            }
        }
    }

    /// The gradient of the scores `[tokens, experts]` from that of the weights of all slots. That
    /// of a softmax `p` is `p ⊙ (d − ⟨p, d⟩)`, and that of shares `s / Σs` is
    /// `(d − ⟨s / Σs, d⟩) / Σs`.
    pub fn back(&self, choices: &Choices, probabilities: &[f32], d: &[f32]) -> Vec<f32> {
        let Self { top_k, count, .. } = *self;
        let tokens = choices.experts.len() / top_k;
        let mut d_scores = vec![0.0; tokens * count];
        let width = probabilities.len() / tokens.max(1);
        let rows = d_scores.par_chunks_exact_mut(count).zip(probabilities.par_chunks_exact(width));
        let rows = rows.zip(choices.experts.par_chunks_exact(top_k).zip(d.par_chunks_exact(top_k)));
        rows.for_each(|((d_scores, p), (chosen, d))| match self.weights {
            RouterWeights::OfChosen => {
                let along: f32 = p.iter().zip(d).map(|(p, d)| p * d).sum();
                for ((expert, p), d) in chosen.iter().zip(p).zip(d) {
                    d_scores[*expert as usize] = p * (d - along);
                }
            }
            RouterWeights::OfAll => {
                for (expert, d) in chosen.iter().zip(d) {
                    d_scores[*expert as usize] = *d;
                }
                let along: f32 = p.iter().zip(&*d_scores).map(|(p, d)| p * d).sum();
                d_scores.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - along));
            }
            RouterWeights::Sigmoid { normalised, factor } => {
                let sum = sum_of(p, normalised);
                let along: f32 = p.iter().zip(d).map(|(p, d)| p / sum * d).sum();
                let along = if normalised { along } else { 0.0 };
                for ((expert, p), d) in chosen.iter().zip(p).zip(d) {
                    let d_share = factor * (d - along) / sum;
                    d_scores[*expert as usize] = d_share * p * (1.0 - p);
                }
            }
        });
        d_scores
    }
}

/// The numbers of the highest scores, in falling order; numbers that are not comparable come last.
fn highest(scores: &[f32], chosen: &mut [u32]) {
    let mut taken = 0;
    for (expert, score) in (0_u32..).zip(scores) {
        let above = |other: &u32| !(*score > scores[*other as usize]);
        let place = chosen[..taken].iter().rposition(above).map_or(0, |last| last + 1);
        if place < chosen.len() {
            taken = (taken + 1).min(chosen.len());
            chosen[place..taken].rotate_right(1);
            chosen[place] = expert;
        }
    }
}

/// What is added to a sum that is divided by (transformers `models/lfm2_moe`).
const ADDED: f32 = 1e-6;

/// What shares are divided by.
fn sum_of(shares: &[f32], normalised: bool) -> f32 {
    if normalised { shares.iter().sum::<f32>() + ADDED } else { 1.0 }
}

fn sigmoid(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}

/// Of each row. Burn's own gives other bits on a tape than without one, so that recomputed layers
/// would differ.
fn softmax(scores: Tensor<2>) -> Tensor<2> {
    let most = scores.clone().detach().max_dim(1);
    let powers = (scores - most).exp();
    powers.clone() / powers.sum_dim(1)
}

fn softmax_of(mut scores: Vec<f32>) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - most).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    scores
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::ops::{from_vec, host};

    fn routing(weights: RouterWeights) -> Routing {
        Routing { top_k: 3, count: 5, weights, choice_bias: None }
    }

    const SCORES: [f32; 10] = [0.5, 2.0, -1.0, 2.0, 0.0, -3.0, -1.0, -2.0, -7.0, -1.5];

    #[test]
    fn the_highest_are_chosen_and_the_first_of_equal_ones() {
        let choices = routing(RouterWeights::OfChosen).choose(&SCORES);
        assert_eq!(choices.experts, [1, 3, 0, 1, 4, 2]);
        let slots: [&[u32]; 5] = [&[2], &[0, 3], &[5], &[1], &[4]];
        assert_eq!(choices.slots, slots);
        assert_eq!(choices.tokens(1), [0, 1]);
        assert_eq!(choices.rows, [1, 4, 0, 2, 5, 3]);
        // Whatever scores are, every token has its experts, each once.
        let odd = routing(RouterWeights::OfAll).choose(&[f32::NAN, f32::INFINITY, 0.0, 1.0, -1.0]);
        let mut chosen = odd.experts;
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 3);
    }

    /// What is added to shares decides which experts there are, and is no part of their weights.
    #[test]
    fn what_is_added_for_the_choice_is_not_weighted_with() {
        let weights = RouterWeights::Sigmoid { normalised: false, factor: 1.0 };
        let bias = Some(vec![0.0, -1.0, 1.0, 0.0, 0.0]);
        let routing = Routing { choice_bias: bias, ..routing(weights) };
        let choices = routing.choose(&SCORES);
        assert_eq!(choices.experts, [2, 3, 0, 2, 4, 0]);
        let (found, _) = routing.weights(&SCORES, &choices);
        assert!((found[0] - sigmoid(-1.0)).abs() < 1e-6);
    }

    #[test]
    fn weights_are_those_of_tensor_operations_and_their_gradients_those_of_a_tape() {
        let device = Device::flex();
        let d = [0.3, -1.0, 0.7, 0.2, 0.9, -0.4];
        let shares = |normalised| RouterWeights::Sigmoid { normalised, factor: 1.0 };
        let scaled = RouterWeights::Sigmoid { normalised: true, factor: 2.5 };
        let of_all = RouterWeights::OfAll;
        for weights in [RouterWeights::OfChosen, of_all, shares(true), shares(false), scaled] {
            let routing = routing(weights);
            let choices = routing.choose(&SCORES);
            let (ours, probabilities) = routing.weights(&SCORES, &choices);
            let scores = from_vec(SCORES.to_vec(), [2, 5], &device).autodiff().require_grad();
            let on_tape = routing.weights_of(scores.clone(), &choices, &device);
            let near = |ours: &[f32], reference: Vec<f32>| {
                ours.len() == reference.len()
                    && ours.iter().zip(reference).all(|(a, b)| (a - b).abs() < 1e-6)
            };
            assert!(near(&ours, host(on_tape.clone().inner())), "{weights:?}");
            let sum: f32 = ours[..3].iter().sum();
            let whole = weights == RouterWeights::OfChosen || weights == shares(true);
            assert_eq!((sum - 1.0).abs() < 2e-6, whole, "{weights:?}");
            let mut tape = (on_tape * from_vec(d.to_vec(), [2, 3], &device)).backward();
            let reference = host(scores.grad_remove(&mut tape).unwrap());
            assert!(near(&routing.back(&choices, &probabilities, &d), reference), "{weights:?}");
        }
    }
}
