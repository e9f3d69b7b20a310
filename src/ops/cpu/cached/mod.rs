//! Attention of one new token of each of several texts over the keys and values of those before it.

mod pages;

use pulp::{Simd, WithSimd};

pub use self::pages::{CacheFormat, CachedKeys, PAGE};
use super::element::F32;
use super::few::call_for_line;
use super::packed::View;
use super::pointwise::LANES;
use super::softmax::{Scores, cap_scores};
use super::team;
use crate::device::arch;
use crate::ops::AttentionConfig;

/// Products that are worth a thread of their own.
const PRODUCTS: usize = 1 << 18;
/// Pages that are called for ahead of their use: what memory brings while so many are worked on.
const PAGES_AHEAD: usize = 6;
/// Panels of a page.
const PANELS: usize = PAGE / LANES;

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
    let place = |number: usize| (number / config.heads.kv_heads, number % config.heads.kv_heads);
    let groups = mixed.chunks_exact_mut(wide).enumerate().map(|(number, target)| {
        let (text, group) = place(number);
        let (next, next_group) = place(number + 1);
        let next = caches.get(next).map(|next| (*next, next_group));
        let q = &q.row(text)[group * wide..][..wide];
        Group { q, cached: caches[text], next, sinks, group, config, target }
    });
    let groups: Vec<Group> = groups.collect();
    let tokens: usize = caches.iter().map(|cache| cache.tokens - cache.passed).sum();
    match tokens * config.query_width() < PRODUCTS {
        true => groups.into_iter().for_each(|group| arch().dispatch(group)),
        false => team::each(groups, |group| arch().dispatch(group)),
    }
    mixed
}

/// Queries that share keys and values.
struct Group<'a> {
    /// `[queries of the group, width]`.
    q: &'a [f32],
    cached: &'a CachedKeys,
    /// Whose turn it is next, and which of its groups.
    next: Option<(&'a CachedKeys, usize)>,
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
        match (S::F32_LANES, self.cached.layout.format) {
            (16, CacheFormat::F32) => self.attend::<S, 1, 4, 1>(simd),
            (16, CacheFormat::Bf16) => self.attend::<S, 1, 4, 2>(simd),
            (8, CacheFormat::F32) => self.attend::<S, 2, 1, 1>(simd),
            (8, CacheFormat::Bf16) => self.attend::<S, 2, 1, 2>(simd),
            (4, CacheFormat::F32) => self.attend::<S, 4, 1, 1>(simd),
            (4, CacheFormat::Bf16) => self.attend::<S, 4, 1, 2>(simd),
            (_, CacheFormat::F32) => self.attend::<S, LANES, 1, 1>(simd),
            (_, CacheFormat::Bf16) => self.attend::<S, LANES, 1, 2>(simd),
        }
    }
}

impl Group<'_> {
    /// With sixteen lanes in so many vectors, as many times that of a value at once, and so many
    /// numbers joined in 32 bits.
    #[inline(always)]
    fn attend<S: Simd, const VECTORS: usize, const WIDE: usize, const JOINED: usize>(
        self,
        simd: S,
    ) {
        let Self { q, cached, next, sinks, group, config, target } = self;
        let width = config.heads.width;
        // Keys, then values, then what the next group begins with.
        let mut pages: Vec<&[u32]> = cached.keys(group).collect();
        let count = pages.len();
        pages.extend(cached.values(group));
        if let Some((next, group)) = next {
            pages.extend(next.keys(group).take(PAGES_AHEAD));
        }
        let wide = count * PAGE;
        let seen = cached.passed..cached.tokens;
        let queries = q.len() / width;
        let mut scores = vec![0.0; queries * wide];
        let keys = Keys { pages: &pages, count, width };
        for at in (0..queries).step_by(AT_ONCE) {
            let (q, scores) = (&q[at * width..], &mut scores[at * wide..]);
            match queries - at {
                1 => keys.scores::<S, VECTORS, JOINED, 1>(simd, q, scores),
                2 => keys.scores::<S, VECTORS, JOINED, 2>(simd, q, scores),
                3 => keys.scores::<S, VECTORS, JOINED, 3>(simd, q, scores),
                _ => keys.scores::<S, VECTORS, JOINED, AT_ONCE>(simd, q, scores),
            }
        }
        let AttentionConfig { scale, soft_cap, .. } = config;
        if let Some(cap) = soft_cap {
            cap_scores(&mut scores, scale, cap);
        }
        // Zero for what is not seen.
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
        let values = Values { pages: &pages[count..], tokens: seen.end, width };
        for at in (0..queries).step_by(AT_ONCE) {
            let (weights, target) = ((&weights[at * wide..], wide), &mut target[at * width..]);
            match queries - at {
                1 => values.mix::<S, VECTORS, WIDE, JOINED, 1>(simd, weights, target),
                2 => values.mix::<S, VECTORS, WIDE, JOINED, 2>(simd, weights, target),
                3 => values.mix::<S, VECTORS, WIDE, JOINED, 3>(simd, weights, target),
                _ => values.mix::<S, VECTORS, WIDE, JOINED, AT_ONCE>(simd, weights, target),
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

/// Sixteen words as the numbers that are joined in them.
#[inline(always)]
fn numbers<S: Simd, const VECTORS: usize, const JOINED: usize>(
    simd: S,
    words: &[u32],
) -> [[S::f32s; VECTORS]; JOINED] {
    let words = S::as_simd_u32s(&words[..LANES]).0;
    let mut numbers = [[simd.splat_f32s(0.0); VECTORS]; JOINED];
    for vector in 0..VECTORS {
        let word = words[vector];
        if JOINED == 1 {
            numbers[0][vector] = simd.transmute_f32s_u32s(word);
        } else {
            let low = simd.wrapping_dyn_shl_u32s(word, simd.splat_u32s(16));
            let high = simd.and_u32s(word, simd.splat_u32s(0xffff_0000));
            numbers[0][vector] = simd.transmute_f32s_u32s(low);
            numbers[1][vector] = simd.transmute_f32s_u32s(high);
        }
    }
    numbers
}

/// Keys of a group.
#[derive(Clone, Copy)]
struct Keys<'a> {
    /// The keys are in so many of them; others come later.
    pages: &'a [&'a [u32]],
    count: usize,
    width: usize,
}

impl Keys<'_> {
    /// Scores of some queries, `[queries, width]`, with all keys, `[queries, tokens]`: each sum in
    /// the order of the width.
    #[inline(always)]
    fn scores<S: Simd, const VECTORS: usize, const JOINED: usize, const QUERIES: usize>(
        self,
        simd: S,
        q: &[f32],
        scores: &mut [f32],
    ) {
        let Self { pages, count, width } = self;
        let q: [&[f32]; QUERIES] = std::array::from_fn(|query| &q[query * width..][..width]);
        for number in 0..count {
            let (page, later) = (pages[number], later(pages, number));
            let part = page.len() / PANELS;
            let mut sums = [[[simd.splat_f32s(0.0); VECTORS]; QUERIES]; PANELS];
            for word in 0..width / JOINED {
                call_for_line(later, word * 2 * LANES);
                call_for_line(later, (word * 2 + 1) * LANES);
                let mut keys = [[[simd.splat_f32s(0.0); VECTORS]; JOINED]; PANELS];
                for panel in 0..PANELS {
                    keys[panel] = numbers(simd, &page[panel * part + word * LANES..]);
                }
                for half in 0..JOINED {
                    for query in 0..QUERIES {
                        let x = simd.splat_f32s(q[query][word * JOINED + half]);
                        for panel in 0..PANELS {
                            for vector in 0..VECTORS {
                                let sum = &mut sums[panel][query][vector];
                                *sum = simd.mul_add_f32s(x, keys[panel][half][vector], *sum);
                            }
                        }
                    }
                }
            }
            for query in 0..QUERIES {
                let target = &mut scores[query * count * PAGE + number * PAGE..][..PAGE];
                let target = S::as_mut_simd_f32s(target).0;
                for panel in 0..PANELS {
                    target[panel * VECTORS..][..VECTORS].copy_from_slice(&sums[panel][query]);
                }
            }
        }
    }
}

/// The page that is called for while one of a number is worked on; none at the end.
#[inline(always)]
fn later<'a>(pages: &[&'a [u32]], number: usize) -> &'a [u32] {
    pages.get(number + PAGES_AHEAD).copied().unwrap_or_default()
}

/// Values of a group.
#[derive(Clone, Copy)]
struct Values<'a> {
    /// The values begin them; others come later.
    pages: &'a [&'a [u32]],
    tokens: usize,
    width: usize,
}

impl Values<'_> {
    /// Writes the sums of values by the weights of some queries, which are `wide` apart,
    /// `[queries, width]`: each in the order of the tokens.
    #[inline(always)]
    fn mix<
        S: Simd,
        const VECTORS: usize,
        const WIDE: usize,
        const JOINED: usize,
        const QUERIES: usize,
    >(
        self,
        simd: S,
        (weights, wide): (&[f32], usize),
        target: &mut [f32],
    ) {
        let weights: [&[f32]; QUERIES] =
            std::array::from_fn(|query| &weights[query * wide..][..wide]);
        let mut at = 0;
        while at + WIDE * LANES <= self.width {
            self.some::<S, VECTORS, WIDE, JOINED, QUERIES>(simd, weights, at, target);
            at += WIDE * LANES;
        }
        while at + LANES <= self.width {
            self.some::<S, VECTORS, 1, JOINED, QUERIES>(simd, weights, at, target);
            at += LANES;
        }
        for at in at..self.width {
            for query in 0..QUERIES {
                let mut sum = 0.0_f32;
                for token in 0..self.tokens {
                    let page = self.pages[token / PAGE];
                    let word = page[token % PAGE / JOINED * self.width + at];
                    let half = token % JOINED * 16;
                    let value = if JOINED == 1 { word } else { word >> half << 16 };
                    sum = weights[query][token].mul_add(f32::from_bits(value), sum);
                }
                target[query * self.width + at] = sum;
            }
        }
    }

    /// Sixteen numbers, or as many times that, from one on.
    #[inline(always)]
    fn some<
        S: Simd,
        const VECTORS: usize,
        const COUNT: usize,
        const JOINED: usize,
        const QUERIES: usize,
    >(
        self,
        simd: S,
        weights: [&[f32]; QUERIES],
        at: usize,
        target: &mut [f32],
    ) {
        let mut sums = [[[simd.splat_f32s(0.0); VECTORS]; QUERIES]; COUNT];
        for number in 0..self.tokens.div_ceil(PAGE) {
            let (page, later) = (self.pages[number], later(self.pages, number));
            let first = number * PAGE;
            for row in 0..PAGE.min(self.tokens - first).div_ceil(JOINED) {
                let from = row * self.width + at;
                let mut values = [[[simd.splat_f32s(0.0); VECTORS]; JOINED]; COUNT];
                for place in 0..COUNT {
                    call_for_line(later, from + place * LANES);
                    values[place] = numbers(simd, &page[from + place * LANES..]);
                }
                for half in 0..JOINED {
                    for query in 0..QUERIES {
                        let weight = simd.splat_f32s(weights[query][first + row * JOINED + half]);
                        for place in 0..COUNT {
                            for vector in 0..VECTORS {
                                let (sum, value) =
                                    (&mut sums[place][query][vector], values[place][half][vector]);
                                *sum = simd.mul_add_f32s(weight, value, *sum);
                            }
                        }
                    }
                }
            }
        }
        for query in 0..QUERIES {
            let target = &mut target[query * self.width + at..][..COUNT * LANES];
            let target = S::as_mut_simd_f32s(target).0;
            for place in 0..COUNT {
                for vector in 0..VECTORS {
                    target[place * VECTORS + vector] = sums[place][query][vector];
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
        let shapes = [(4, 2, 6), (3, 3, 24), (9, 3, 64), (10, 2, 80)];
        for ((queries, kv_heads, width), rounds) in
            shapes.into_iter().flat_map(|shape| [false, true].map(|rounds| (shape, rounds)))
        {
            let plain = AttentionConfig::of(Heads { queries, kv_heads, width });
            let windowed = AttentionConfig { window: Some(50), ..plain };
            let capped = AttentionConfig { soft_cap: Some(1.5), scale: 0.7, ..plain };
            for (config, sinks) in
                [(plain, None), (windowed, None), (capped, Some(random(queries, "sinks")))]
            {
                let wide = config.key_width();
                // The texts have different lengths, of which one is worth threads.
                let texts: Vec<CachedKeys> = [1, 5, 400]
                    .map(|tokens| {
                        let mut cached = CachedKeys::new(kv_heads, width, rounds);
                        let [k, v] = ["k", "v"].map(|name| random(tokens * wide, name));
                        for (k, v) in k.chunks_exact(wide).zip(v.chunks_exact(wide)) {
                            cached.push(k, v, config.window);
                        }
                        cached
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
}
