//! Attention of one new token of each of several texts over the keys and values of those before it.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::element::F32;
use super::few::{AT_ONCE, dots};
use super::packed::View;
use super::softmax::{Scores, cap_scores};
use crate::ops::AttentionConfig;

/// Products that are worth a thread of their own.
const PRODUCTS: usize = 1 << 15;

/// Keys and values of the tokens of a text, `[tokens, kv_heads · width]` each; only the last of
/// them where there is a window.
#[derive(Debug, Clone, Default)]
pub struct CachedKeys {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Numbers of tokens that no token sees any more, which are still there.
    passed: usize,
}

impl CachedKeys {
    /// Of the tokens so far.
    pub fn of(keys: Vec<f32>, values: Vec<f32>) -> Self {
        Self { keys, values, passed: 0 }
    }

    /// Appends those of a token.
    pub fn push(&mut self, key: &[f32], value: &[f32], window: Option<usize>) {
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
        let Some(seen) = window.map(|window| window.saturating_mul(key.len())) else { return };
        self.passed = self.keys.len().saturating_sub(seen);
        // Once in a window: to move them all for every token would cost more than to read them.
        if self.passed >= seen {
            for numbers in [&mut self.keys, &mut self.values] {
                numbers.drain(..self.passed);
            }
            self.passed = 0;
        }
    }

    /// What the last token sees.
    pub fn seen(&self) -> [&[f32]; 2] {
        [&self.keys[self.passed..], &self.values[self.passed..]]
    }
}

/// What is mixed for one more token of each text, `[texts, queries · width]`, of its queries: its
/// own key and value are the last of the cache. Sums have a fixed order, whatever the number of
/// threads.
pub fn attend_next(
    q: View<f32>,
    caches: &[&CachedKeys],
    sinks: Option<&[f32]>,
    config: AttentionConfig,
) -> Vec<f32> {
    let wide = config.heads.width * config.heads.queries / config.heads.kv_heads;
    let mut mixed = vec![0.0; q.rows * config.query_width()];
    let groups = mixed.chunks_exact_mut(wide).enumerate().map(|(number, target)| {
        let (text, group) = (number / config.heads.kv_heads, number % config.heads.kv_heads);
        let q = &q.row(text)[group * wide..][..wide];
        Group { q, cached: caches[text], sinks, group, config, target }
    });
    let groups: Vec<Group> = groups.collect();
    let tokens: usize = caches.iter().map(|cache| cache.seen()[0].len()).sum();
    match tokens * (config.heads.queries / config.heads.kv_heads) < PRODUCTS {
        true => groups.into_iter().for_each(|group| Arch::new().dispatch(group)),
        false => groups.into_par_iter().for_each(|group| Arch::new().dispatch(group)),
    }
    mixed
}

/// Queries that share keys and values.
struct Group<'a> {
    /// `[queries of the group, width]`.
    q: &'a [f32],
    cached: &'a CachedKeys,
    sinks: Option<&'a [f32]>,
    group: usize,
    config: AttentionConfig,
    target: &'a mut [f32],
}

impl WithSimd for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { q, cached, sinks, group, config, target } = self;
        let (width, all) = (config.heads.width, config.key_width());
        let [keys, values] = cached.seen();
        let (tokens, queries) = (keys.len() / all, q.len() / width);
        let mut scores = vec![0.0; queries * tokens];
        for token in (0..tokens).step_by(AT_ONCE) {
            // Tokens beyond the last are the last again, and go nowhere.
            let key =
                |at: usize| &keys[(token + at).min(tokens - 1) * all + group * width..][..width];
            let keys = [key(0), key(1), key(2), key(3)];
            for (q, scores) in q.chunks_exact(width).zip(scores.chunks_exact_mut(tokens)) {
                let [found] = dots::<S, f32, 1, false>(simd, [q], keys);
                for (score, found) in scores[token..].iter_mut().zip(found) {
                    *score = found;
                }
            }
        }
        let AttentionConfig { scale, soft_cap, .. } = config;
        if let Some(cap) = soft_cap {
            cap_scores(&mut scores, scale, cap);
        }
        let mut weights = vec![0.0; queries * tokens];
        let parts = scores.chunks_exact(tokens).zip(weights.chunks_exact_mut(tokens));
        let sums: Vec<f32> = parts
            .enumerate()
            .map(|(query, (numbers, weights))| {
                let sink = sinks.map(|sinks| sinks[group * queries + query]);
                let numbers = View::new(numbers, 1, tokens);
                let window = usize::MAX; // the cache holds what is seen
                let scores = Scores { numbers, seen: tokens, window, scale, soft_cap, sink };
                scores.exponentials::<F32>(weights)[0].relative
            })
            .collect();
        for (token, value) in values.chunks_exact(all).enumerate() {
            let value = &value[group * width..][..width];
            for (query, target) in target.chunks_exact_mut(width).enumerate() {
                let weight = weights[query * tokens + token];
                for (sum, x) in target.iter_mut().zip(value) {
                    *sum += weight * x;
                }
            }
        }
        for (target, sum) in target.chunks_exact_mut(width).zip(sums) {
            for x in target {
                *x /= sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::ops::{Heads, attend_cached, from_vec, host};
    use crate::random::Stream;

    fn random(count: usize, name: &str) -> Vec<f32> {
        let stream = Stream::new(4).site(name);
        (0..count as u64).map(|index| stream.normal(index) as f32).collect()
    }

    #[test]
    fn it_is_what_tensor_operations_mix() {
        let device = Device::flex();
        for (queries, kv_heads, width) in [(4, 2, 6), (3, 3, 24), (9, 3, 64)] {
            let plain = AttentionConfig::of(Heads { queries, kv_heads, width });
            let capped = AttentionConfig { soft_cap: Some(1.5), scale: 0.7, ..plain };
            for (config, sinks) in [(plain, None), (capped, Some(random(queries, "sinks")))] {
                let wide = config.key_width();
                // The texts have different lengths, of which one is worth threads.
                let texts: Vec<CachedKeys> = [1, 5, 400]
                    .map(|tokens| {
                        let of = |name| random(tokens * wide, name);
                        CachedKeys::of(of("k"), of("v"))
                    })
                    .into();
                let q = random(3 * config.query_width(), "q");
                let caches: Vec<&CachedKeys> = texts.iter().collect();
                let rows = View::new(&q, 3, config.query_width());
                let ours = attend_next(rows, &caches, sinks.as_deref(), config);
                for (text, ours) in ours.chunks_exact(config.query_width()).enumerate() {
                    let kv = texts[text].seen().map(|x| -> Tensor<4> {
                        from_vec(x.to_vec(), [1, x.len() / wide, kv_heads, width], &device)
                    });
                    let q = rows.row(text).to_vec();
                    let q = from_vec(q, [1, config.query_width()], &device);
                    let sinks = sinks.clone().map(|sinks| from_vec(sinks, [queries], &device));
                    let theirs = host(attend_cached(q, kv, sinks.as_ref(), config));
                    for (a, b) in ours.iter().zip(&theirs) {
                        assert!((a - b).abs() < 1e-5, "text {text}: {a} for {b}");
                    }
                    let row = rows.part((text, 1), (0, rows.columns));
                    let sinks = sinks.as_ref().map(|sinks| host(sinks.clone()));
                    let alone = attend_next(row, &caches[text..=text], sinks.as_deref(), config);
                    assert_eq!(alone, ours);
                }
            }
        }
    }

    #[test]
    fn a_window_keeps_the_last_tokens_alone() {
        let mut cached = CachedKeys::default();
        for token in 0..50_u8 {
            let number = f32::from(token);
            cached.push(&[number, -number], &[number + 0.5; 2], Some(3));
            let first = token.saturating_sub(2);
            let tokens = (first..=token).map(f32::from);
            let keys: Vec<f32> = tokens.clone().flat_map(|x| [x, -x]).collect();
            let values: Vec<f32> = tokens.flat_map(|x| [x + 0.5; 2]).collect();
            assert_eq!(cached.seen(), [keys.as_slice(), values.as_slice()]);
        }
        assert!(cached.keys.len() <= 12);
    }
}
