//! Attention of one new token of each of several texts over the keys and values of those before it.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::element::F32;
use super::packed::View;
use super::pointwise::LANES;
use super::softmax::{Scores, cap_scores};
use crate::ops::AttentionConfig;

/// Products that are worth a thread of their own.
const PRODUCTS: usize = 1 << 18;

/// Keys and values of the tokens of a text; only the last of them where there is a window.
#[derive(Debug, Clone, Default)]
pub struct CachedKeys {
    /// Panels of sixteen tokens, whose scores are made at once: each number of a key of all of them
    /// after the other, `[panels, kv_heads · width, LANES]`.
    keys: Vec<f32>,
    /// `[tokens, kv_heads · width]`.
    values: Vec<f32>,
    /// Numbers of a token.
    all: usize,
    /// Those that are there, the ones that no token sees any more among them.
    tokens: usize,
    /// How many these are, from the first on.
    passed: usize,
}

impl CachedKeys {
    /// Of the tokens so far, `[tokens, all]` each, of `all` numbers a token.
    pub fn of(keys: &[f32], values: Vec<f32>, all: usize) -> Self {
        let tokens = values.len() / all.max(1);
        let mut held = vec![0.0; tokens.div_ceil(LANES) * all * LANES];
        for (token, key) in keys.chunks_exact(all.max(1)).enumerate() {
            put(&mut held, key, token);
        }
        Self { keys: held, values, all, tokens, passed: 0 }
    }

    /// Appends those of a token.
    pub fn push(&mut self, key: &[f32], value: &[f32], window: Option<usize>) {
        self.all = key.len();
        let panel = self.all * LANES;
        if self.tokens.is_multiple_of(LANES) {
            self.keys.resize(self.tokens / LANES * panel + panel, 0.0);
        }
        put(&mut self.keys, key, self.tokens);
        self.values.extend_from_slice(value);
        self.tokens += 1;
        let Some(window) = window else { return };
        self.passed = self.tokens.saturating_sub(window);
        // Once in a window: to move them all for every token would cost more than to read them.
        if self.passed >= window.max(LANES) {
            let panels = self.passed / LANES;
            self.keys.drain(..panels * panel);
            self.values.drain(..panels * panel);
            self.tokens -= panels * LANES;
            self.passed -= panels * LANES;
        }
    }

    /// Keys and values of what the last token sees, `[tokens, all]` each.
    pub fn seen(&self) -> [Vec<f32>; 2] {
        let places = self.passed..self.tokens;
        let number = |token: usize, at: usize| {
            self.keys[token / LANES * self.all * LANES + at * LANES + token % LANES]
        };
        let key = |token: usize| (0..self.all).map(move |at| number(token, at));
        [places.flat_map(key).collect(), self.values[self.passed * self.all..].to_vec()]
    }
}

/// Writes the key of a token into its panel.
fn put(keys: &mut [f32], key: &[f32], token: usize) {
    let panel = &mut keys[token / LANES * key.len() * LANES..];
    for (numbers, x) in panel.chunks_exact_mut(LANES).zip(key) {
        numbers[token % LANES] = *x;
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
    let tokens: usize = caches.iter().map(|cache| cache.tokens - cache.passed).sum();
    match tokens * config.query_width() < PRODUCTS {
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

// Loops in what follows, and no closures that are handed to iterators: one that is not inlined is
// compiled for any processor.
impl WithSimd for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.attend::<S, 1, 2>(simd),
            8 => self.attend::<S, 2, 1>(simd),
            4 => self.attend::<S, 4, 1>(simd),
            _ => self.attend::<S, LANES, 1>(simd),
        }
    }
}

impl Group<'_> {
    /// With sixteen lanes in so many vectors, and so many panels of keys at once.
    #[inline(always)]
    fn attend<S: Simd, const VECTORS: usize, const PANELS: usize>(self, simd: S) {
        let Self { q, cached, sinks, group, config, target } = self;
        let (width, all) = (config.heads.width, cached.all);
        let first = cached.passed / LANES;
        let wide = cached.tokens.next_multiple_of(LANES) - first * LANES;
        let seen = cached.passed - first * LANES..cached.tokens - first * LANES;
        let queries = q.len() / width;
        let mut scores = vec![0.0; queries * wide];
        let of = Keys { keys: &cached.keys[first * LANES * all..], all, group, width };
        for at in (0..queries).step_by(AT_ONCE) {
            let (q, scores) = (&q[at * width..], &mut scores[at * wide..]);
            match queries - at {
                1 => of.scores::<S, VECTORS, PANELS, 1>(simd, q, scores),
                2 => of.scores::<S, VECTORS, PANELS, 2>(simd, q, scores),
                3 => of.scores::<S, VECTORS, PANELS, 3>(simd, q, scores),
                _ => of.scores::<S, VECTORS, PANELS, AT_ONCE>(simd, q, scores),
            }
        }
        let AttentionConfig { scale, soft_cap, .. } = config;
        if let Some(cap) = soft_cap {
            cap_scores(&mut scores, scale, cap);
        }
        let mut weights = vec![0.0; queries * wide];
        let parts = scores.chunks_exact(wide).zip(weights.chunks_exact_mut(wide));
        let sums: Vec<f32> = parts
            .enumerate()
            .map(|(query, (numbers, weights))| {
                let sink = sinks.map(|sinks| sinks[group * queries + query]);
                let numbers = View::new(&numbers[seen.clone()], 1, seen.len());
                let window = usize::MAX; // the cache holds what is seen
                let scores = Scores { numbers, seen: seen.len(), window, scale, soft_cap, sink };
                scores.exponentials::<F32>(&mut weights[seen.clone()])[0].relative
            })
            .collect();
        let of = Values { values: &cached.values[cached.passed * all..], all, group, width };
        for at in (0..queries).step_by(AT_ONCE) {
            let (weights, target) = (&weights[at * wide + seen.start..], &mut target[at * width..]);
            match queries - at {
                1 => of.mix::<S, VECTORS, 1>(simd, (weights, wide), target),
                2 => of.mix::<S, VECTORS, 2>(simd, (weights, wide), target),
                3 => of.mix::<S, VECTORS, 3>(simd, (weights, wide), target),
                _ => of.mix::<S, VECTORS, AT_ONCE>(simd, (weights, wide), target),
            }
        }
        for (target, sum) in target.chunks_exact_mut(width).zip(sums) {
            for x in target {
                *x /= sum;
            }
        }
    }
}

/// Queries that are computed at once.
const AT_ONCE: usize = 4;

/// Keys of which a group has some numbers.
#[derive(Clone, Copy)]
struct Keys<'a> {
    /// Panels, as [`CachedKeys`] has them.
    keys: &'a [f32],
    all: usize,
    group: usize,
    width: usize,
}

impl<'a> Keys<'a> {
    /// Those of the group in a panel, `[width, LANES]`.
    #[inline(always)]
    fn panel(self, number: usize) -> &'a [f32] {
        &self.keys[(number * self.all + self.group * self.width) * LANES..][..self.width * LANES]
    }

    /// Scores of some queries, `[queries, width]`, with all keys, `[queries, tokens]`: each sum in
    /// the order of the width.
    #[inline(always)]
    fn scores<S: Simd, const VECTORS: usize, const PANELS: usize, const QUERIES: usize>(
        self,
        simd: S,
        q: &[f32],
        scores: &mut [f32],
    ) {
        let panels = self.keys.len() / (self.all * LANES);
        let mut panel = 0;
        while panel + PANELS <= panels {
            self.some::<S, VECTORS, PANELS, QUERIES>(simd, q, (panel, panels), scores);
            panel += PANELS;
        }
        while panel < panels {
            self.some::<S, VECTORS, 1, QUERIES>(simd, q, (panel, panels), scores);
            panel += 1;
        }
    }

    /// Those with a few panels from one on.
    #[inline(always)]
    fn some<S: Simd, const VECTORS: usize, const COUNT: usize, const QUERIES: usize>(
        self,
        simd: S,
        q: &[f32],
        (first, panels): (usize, usize),
        scores: &mut [f32],
    ) {
        let width = self.width;
        let q: [&[f32]; QUERIES] = std::array::from_fn(|query| &q[query * width..][..width]);
        let keys: [&[f32]; COUNT] = std::array::from_fn(|number| self.panel(first + number));
        let mut sums = [[[simd.splat_f32s(0.0); VECTORS]; QUERIES]; COUNT];
        for at in 0..width {
            let mut x = [simd.splat_f32s(0.0); QUERIES];
            for query in 0..QUERIES {
                x[query] = simd.splat_f32s(q[query][at]);
            }
            for number in 0..COUNT {
                let key = S::as_simd_f32s(&keys[number][at * LANES..][..LANES]).0;
                for vector in 0..VECTORS {
                    for query in 0..QUERIES {
                        let sum = &mut sums[number][query][vector];
                        *sum = simd.mul_add_f32s(x[query], key[vector], *sum);
                    }
                }
            }
        }
        for number in 0..COUNT {
            for query in 0..QUERIES {
                let target = &mut scores[(query * panels + first + number) * LANES..][..LANES];
                let target = S::as_mut_simd_f32s(target).0;
                target[..VECTORS].copy_from_slice(&sums[number][query]);
            }
        }
    }
}

/// Values of which a group has some numbers.
#[derive(Clone, Copy)]
struct Values<'a> {
    /// `[tokens, all]`.
    values: &'a [f32],
    all: usize,
    group: usize,
    width: usize,
}

impl Values<'_> {
    /// Writes the sums of values by the weights of some queries, which are `wide` apart,
    /// `[queries, width]`: each in the order of the tokens.
    #[inline(always)]
    fn mix<S: Simd, const VECTORS: usize, const QUERIES: usize>(
        self,
        simd: S,
        (weights, wide): (&[f32], usize),
        target: &mut [f32],
    ) {
        let tokens = self.values.len() / self.all;
        let of = |query: usize| &weights[query * wide..][..tokens];
        let weights: [&[f32]; QUERIES] = std::array::from_fn(of);
        let mut at = 0;
        while at + 2 * LANES <= self.width && VECTORS == 1 {
            self.some::<S, VECTORS, 2, QUERIES>(simd, weights, at, target);
            at += 2 * LANES;
        }
        while at + LANES <= self.width {
            self.some::<S, VECTORS, 1, QUERIES>(simd, weights, at, target);
            at += LANES;
        }
        for at in at..self.width {
            for query in 0..QUERIES {
                let mut sum = 0.0_f32;
                let values = self.values.chunks_exact(self.all);
                for (weight, values) in weights[query].iter().zip(values) {
                    sum = weight.mul_add(values[self.group * self.width + at], sum);
                }
                target[query * self.width + at] = sum;
            }
        }
    }

    /// Sixteen numbers, or as many times that, from one on.
    #[inline(always)]
    fn some<S: Simd, const VECTORS: usize, const COUNT: usize, const QUERIES: usize>(
        self,
        simd: S,
        weights: [&[f32]; QUERIES],
        at: usize,
        target: &mut [f32],
    ) {
        let first = self.group * self.width + at;
        let mut sums = [[[simd.splat_f32s(0.0); VECTORS]; QUERIES]; COUNT];
        for (token, values) in self.values.chunks_exact(self.all).enumerate() {
            let value = S::as_simd_f32s(&values[first..][..COUNT * LANES]).0;
            for query in 0..QUERIES {
                let weight = simd.splat_f32s(weights[query][token]);
                for number in 0..COUNT {
                    for vector in 0..VECTORS {
                        let sum = &mut sums[number][query][vector];
                        *sum = simd.mul_add_f32s(weight, value[number * VECTORS + vector], *sum);
                    }
                }
            }
        }
        for query in 0..QUERIES {
            let target = &mut target[query * self.width + at..][..COUNT * LANES];
            let target = S::as_mut_simd_f32s(target).0;
            for number in 0..COUNT {
                for vector in 0..VECTORS {
                    target[number * VECTORS + vector] = sums[number][query][vector];
                }
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
                        CachedKeys::of(&of("k"), of("v"), wide)
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
            assert_eq!(cached.seen(), [keys, values]);
        }
        assert!(cached.tokens <= 2 * LANES && cached.keys.len() <= 2 * LANES * 2);
    }
}
