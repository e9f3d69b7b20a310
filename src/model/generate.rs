//! Continues a prompt token by token, with a cache of keys and values.

use crate::model::{Cache, Context, Model};
use crate::ops::{host, indices};
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
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// New tokens, without the one that ended them.
    pub tokens: Vec<u32>,
    /// Did the model end by itself?
    pub ended: bool,
}

/// Continues `prompt` until a token of `ends`; each new token is shown to `watch` at once, which
/// returns false to stop.
pub fn generate(
    model: &Model,
    prompt: &[u32],
    ends: &[u32],
    sampling: Sampling,
    watch: &mut dyn FnMut(u32) -> bool,
) -> Generation {
    assert!(!prompt.is_empty(), "a prompt has at least one token");
    let mut cache = Cache::new(model.layers.len());
    let mut logits = advance(model, &mut cache, prompt, 0);
    let mut tokens = Vec::new();
    while tokens.len() < sampling.max_tokens {
        let next = choose(&logits, sampling, tokens.len() as u64);
        if ends.contains(&next) {
            return Generation { tokens, ended: true };
        }
        tokens.push(next);
        if !watch(next) || tokens.len() == sampling.max_tokens {
            break;
        }
        logits = advance(model, &mut cache, &[next], prompt.len() + tokens.len() - 1);
    }
    Generation { tokens, ended: false }
}

/// Feeds tokens that begin at position `done`; returns the scores after the last one.
fn advance(model: &Model, cache: &mut Cache, tokens: &[u32], done: usize) -> Vec<f32> {
    let length = tokens.len();
    let positions: Vec<u32> = (done..done + length)
        .map(|position| u32::try_from(position).expect("contexts stay below 2^32 tokens"))
        .collect();
    let context =
        Context::packed(1, length, &positions, &vec![1; length], &model.frequencies, &model.device)
            .computed(model.computing);
    let mut x = model.embed(indices(tokens.iter().copied(), &model.device));
    for (layer, cache) in model.layers.iter().zip(&mut cache.layers) {
        x = layer.forward(x, &context, Some(cache));
    }
    host(model.logits(x.narrow(0, length - 1, 1)))
}

fn choose(logits: &[f32], sampling: Sampling, counter: u64) -> u32 {
    let best = logits
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))
        .map_or(0, |(index, _)| index);
    let chosen = if sampling.temperature <= 0.0 {
        best
    } else {
        draw(logits, f64::from(logits[best]), sampling, counter)
    };
    u32::try_from(chosen).expect("vocabularies stay below 2^32")
}

fn draw(logits: &[f32], max: f64, sampling: Sampling, counter: u64) -> usize {
    let weights: Vec<f64> = logits
        .iter()
        .map(|&logit| ((f64::from(logit) - max) / sampling.temperature).exp())
        .collect();
    let mut left = sampling.stream.uniform(counter) * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    weights.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f64) -> Sampling {
        Sampling { temperature, stream: Stream::new(1), max_tokens: 1 }
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        assert_eq!(choose(&[0.0, 2.0, 2.0], sampling(0.0), 0), 1);
    }

    #[test]
    fn draws_follow_the_temperature() {
        let logits = [0.0, 1.0];
        let share = |temperature| {
            let ones = (0..20_000).filter(|&i| choose(&logits, sampling(temperature), i) == 1);
            ones.count() as f64 / 20_000.0
        };
        let expected = |t: f64| 1.0 / (1.0 + (-1.0 / t).exp());
        assert!((share(1.0) - expected(1.0)).abs() < 0.015);
        assert!((share(0.3) - expected(0.3)).abs() < 0.015);
    }
}
