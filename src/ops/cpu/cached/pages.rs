//! Keys and values of the tokens of a text, in pages: texts with the same beginning share its
//! pages, and nothing is moved when a text grows.

use std::sync::Arc;

use super::super::element::Number;
use super::super::pointwise::LANES;

/// Tokens of a page.
pub const PAGE: usize = 32;

/// How numbers are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheFormat {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bfloat16, where heads have an even width; two of them in 32 bits, which become
    /// two vectors by one shift and one mask.
    Bf16,
}

impl CacheFormat {
    /// Of runs whose products round their factors to bfloat16, and of others; for heads of a width.
    pub fn of(rounds: bool, width: usize) -> Self {
        let even = width.is_multiple_of(Self::Bf16.joined());
        if rounds && even { Self::Bf16 } else { Self::F32 }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        size_of::<u32>() / self.joined()
    }

    /// Numbers in 32 bits.
    pub(super) fn joined(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }
}

/// Keys and values of the tokens of a text; only the last of them where there is a window.
#[derive(Debug, Clone, Default)]
pub struct CachedKeys {
    pages: Vec<Arc<Page>>,
    pub(super) layout: Layout,
    /// Those that are there, the ones that no token sees any more among them.
    pub(super) tokens: usize,
    /// How many these are, from the first on; all in the first page.
    pub(super) passed: usize,
}

/// Of so many tokens. What is not written is zero.
#[derive(Debug, Clone)]
struct Page {
    /// For each head, panels of sixteen tokens, whose scores are made at once: each number of a key
    /// (or two, joined) of all of them after the other, `[kv_heads, panels, width / joined,
    /// LANES]`.
    keys: Vec<u32>,
    /// `[kv_heads, PAGE / joined, width]`: a number of a token, or of two.
    values: Vec<u32>,
}

/// Where a number is in a page.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Layout {
    heads: usize,
    pub width: usize,
    pub format: CacheFormat,
}

impl Layout {
    /// Words of a head in a page, of keys as of values.
    pub fn words(self) -> usize {
        PAGE * self.width / self.format.joined()
    }

    /// The word of a number of a key, and which number of it.
    fn key(self, head: usize, token: usize, at: usize) -> (usize, usize) {
        let joined = self.format.joined();
        let panel = token / LANES * (self.width / joined) + at / joined;
        (head * self.words() + panel * LANES + token % LANES, at % joined)
    }

    fn value(self, head: usize, token: usize, at: usize) -> (usize, usize) {
        let joined = self.format.joined();
        (head * self.words() + token / joined * self.width + at, token % joined)
    }

    fn write(self, words: &mut [u32], (word, half): (usize, usize), number: f32) {
        words[word] = match self.format {
            CacheFormat::F32 => number.to_bits(),
            CacheFormat::Bf16 => {
                let other = words[word] & (0xffff_0000 >> (half * 16));
                other | u32::from(number.rounded().to_bits()) << (half * 16)
            }
        };
    }

    fn read(self, words: &[u32], (word, half): (usize, usize)) -> f32 {
        f32::from_bits(match self.format {
            CacheFormat::F32 => words[word],
            CacheFormat::Bf16 => words[word] >> (half * 16) << 16,
        })
    }
}

impl Page {
    fn new(layout: Layout) -> Self {
        let empty = || vec![0; layout.heads * layout.words()];
        Self { keys: empty(), values: empty() }
    }

    fn put(&mut self, layout: Layout, token: usize, key: &[f32], value: &[f32]) {
        for (index, (&key, &value)) in key.iter().zip(value).enumerate() {
            let (head, at) = (index / layout.width, index % layout.width);
            layout.write(&mut self.keys, layout.key(head, token, at), key);
            layout.write(&mut self.values, layout.value(head, token, at), value);
        }
    }
}

impl CachedKeys {
    /// For keys of so many heads of a width each, rounded to bfloat16 where factors of products
    /// are.
    pub fn new(heads: usize, width: usize, rounds: bool) -> Self {
        let format = CacheFormat::of(rounds, width);
        Self { layout: Layout { heads, width, format }, ..Self::default() }
    }

    /// Appends those of a token, `kv_heads · width` numbers each.
    pub fn push(&mut self, key: &[f32], value: &[f32], window: Option<usize>) {
        if self.tokens == self.pages.len() * PAGE {
            self.pages.push(Arc::new(Page::new(self.layout)));
        }
        let page = self.pages.last_mut().expect("a page has room");
        Arc::make_mut(page).put(self.layout, self.tokens % PAGE, key, value);
        self.tokens += 1;
        let Some(window) = window else { return };
        self.passed = self.tokens.saturating_sub(window);
        let pages = self.passed / PAGE;
        self.pages.drain(..pages);
        self.tokens -= pages * PAGE;
        self.passed -= pages * PAGE;
    }

    /// Keys and values of what the last token sees, `[tokens, kv_heads · width]` each.
    pub fn seen(&self) -> [Vec<f32>; 2] {
        let layout = self.layout;
        let all = |of: &dyn Fn(&Page, usize, usize, usize) -> f32| {
            let mut numbers = Vec::new();
            for token in self.passed..self.tokens {
                let page = &self.pages[token / PAGE];
                for head in 0..layout.heads {
                    numbers.extend((0..layout.width).map(|at| of(page, head, token % PAGE, at)));
                }
            }
            numbers
        };
        [
            all(&|page, head, token, at| layout.read(&page.keys, layout.key(head, token, at))),
            all(&|page, head, token, at| layout.read(&page.values, layout.value(head, token, at))),
        ]
    }

    /// The keys of a head, page by page.
    pub(super) fn keys(&self, head: usize) -> impl Iterator<Item = &[u32]> {
        let words = self.layout.words();
        self.pages.iter().map(move |page| &page.keys[head * words..][..words])
    }

    /// The values of a head, page by page.
    pub(super) fn values(&self, head: usize) -> impl Iterator<Item = &[u32]> {
        let words = self.layout.words();
        self.pages.iter().map(move |page| &page.values[head * words..][..words])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_keeps_the_last_tokens_alone() {
        for rounds in [false, true] {
            let mut cached = CachedKeys::new(1, 2, rounds);
            for token in 0..150_u8 {
                let number = f32::from(token);
                cached.push(&[number, -number], &[number + 0.5; 2], Some(3));
                let first = token.saturating_sub(2);
                let tokens = (first..=token).map(f32::from);
                let keys: Vec<f32> = tokens.clone().flat_map(|x| [x, -x]).collect();
                let mut values: Vec<f32> = tokens.flat_map(|x| [x + 0.5; 2]).collect();
                if rounds {
                    values.iter_mut().for_each(|x| *x = x.rounded().to_f32());
                }
                assert_eq!(cached.seen(), [keys, values]);
            }
            assert!(cached.pages.len() <= 2);
        }
    }

    #[test]
    fn texts_share_the_pages_of_their_beginning() {
        let mut first = CachedKeys::new(2, 3, true);
        assert_eq!(first.layout.format, CacheFormat::F32, "numbers in pairs need an even width");
        for token in 0..40 {
            first.push(&[token as f32; 6], &[1.0; 6], None);
        }
        let mut second = first.clone();
        let shared = |a: &CachedKeys, b: &CachedKeys| {
            let pages = a.pages.iter().zip(&b.pages);
            pages.map(|(a, b)| Arc::ptr_eq(a, b)).collect::<Vec<_>>()
        };
        assert_eq!(shared(&first, &second), [true, true]);
        second.push(&[-1.0; 6], &[-2.0; 6], None);
        first.push(&[-3.0; 6], &[-4.0; 6], None);
        assert_eq!(shared(&first, &second), [true, false]);
        let last = |of: &CachedKeys| of.seen().map(|x| x[40 * 6..].to_vec());
        assert_eq!(last(&second), [vec![-1.0; 6], vec![-2.0; 6]]);
        assert_eq!(last(&first), [vec![-3.0; 6], vec![-4.0; 6]]);
    }
}
