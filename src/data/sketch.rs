//! A small summary of a text, from which its likeness to other texts is told.
//!
//! A text is the set of its shingles: runs of [`WORDS`] words, in lower case, without punctuation.
//! Its sketch holds the smallest hashes of the set, a bottom-k MinHash (Broder, "On the resemblance
//! and containment of documents", 1997): of two sketches, the share of common hashes among the
//! smallest of both estimates |A ∩ B| / |A ∪ B|. For sets of up to [`HASHES`] shingles it is exact.

use super::formats::Content;
use super::texts::{Place, each_text};

/// Words of a shingle.
const WORDS: usize = 3;
/// Hashes of a sketch. The standard error at a likeness of 0.8 is 0.05.
pub const HASHES: usize = 64;
/// Texts with fewer words are like others by chance.
const WORDS_MIN: usize = 6;

/// The smallest hashes of the shingles of a text, in ascending order; none of a short one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch(pub Vec<u32>);

impl Sketch {
    /// Of what is said in a record. System texts and descriptions of tools are left out: they are
    /// the same in whole data sets.
    pub fn of(content: &Content) -> Self {
        let mut shingles = Shingles::default();
        each_text(content, &mut |place, text| {
            if !matches!(place, Place::System | Place::Tools) {
                shingles.add(text);
            }
        });
        shingles.finish()
    }

    /// How alike two texts are, from 0 to 1.
    #[expect(clippy::cast_precision_loss)] // numbers up to `HASHES`
    pub fn similarity(&self, other: &Self) -> f64 {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        // Beyond the end of a full sketch it is not known what the text has.
        let full = self.0.len() == HASHES || other.0.len() == HASHES;
        let most = if full { HASHES } else { usize::MAX };
        let (mut all, mut common) = (0, 0);
        while all < most {
            match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(a), Some(b)) if a == b => {
                    common += 1;
                    left.next();
                    right.next();
                }
                (Some(a), Some(b)) if a < b => drop(left.next()),
                (Some(_), None) => drop(left.next()),
                _ => drop(right.next()),
            }
            all += 1;
        }
        f64::from(common) / all.max(1) as f64
    }
}

/// The shingles of a text that comes in parts.
#[derive(Default)]
struct Shingles {
    /// Hashes of the last words.
    last: [u64; WORDS],
    words: usize,
    /// Hashes of shingles; cut down to the smallest whenever there are many.
    hashes: Vec<u32>,
}

impl Shingles {
    fn add(&mut self, text: &str) {
        let mut word = FNV_OFFSET;
        let mut inside = false;
        for c in text.chars() {
            if is_word_of_its_own(c) {
                self.end(&mut word, &mut inside);
                hash(&mut word, c);
                inside = true;
                self.end(&mut word, &mut inside);
            } else if c.is_alphanumeric() {
                c.to_lowercase().for_each(|c| hash(&mut word, c));
                inside = true;
            } else if c != '\'' && c != '’' {
                self.end(&mut word, &mut inside);
            }
        }
        self.end(&mut word, &mut inside);
    }

    fn end(&mut self, word: &mut u64, inside: &mut bool) {
        if !std::mem::replace(inside, false) {
            return;
        }
        self.last.rotate_left(1);
        self.last[WORDS - 1] = std::mem::replace(word, FNV_OFFSET);
        self.words += 1;
        if self.words >= WORDS {
            let mixed = self.last.iter().fold(0, |all, word| mix(all ^ word));
            self.hashes.push((mixed >> 32) as u32);
            if self.hashes.len() > 64 * HASHES {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.hashes.truncate(HASHES);
    }

    fn finish(mut self) -> Sketch {
        self.cut();
        Sketch(if self.words < WORDS_MIN { Vec::new() } else { self.hashes })
    }
}

/// Chinese, Japanese, Thai, Lao and Khmer put no spaces between words.
fn is_word_of_its_own(c: char) -> bool {
    matches!(u32::from(c), 0x0e00..=0x0eff | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff
        | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over characters.
fn hash(word: &mut u64, c: char) {
    *word = (*word ^ u64::from(u32::from(c))).wrapping_mul(0x0000_0100_0000_01b3);
}

/// The finalizer of `SplitMix64`.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(text: &str) -> Sketch {
        Sketch::of(&Content::Text(text.to_owned()))
    }

    #[test]
    fn likeness_is_the_share_of_common_shingles() {
        let a = sketch("one two three four five six seven");
        assert_eq!(a.0.len(), 5);
        assert!(
            (a.similarity(&sketch("One, two: three-four five six (seven)!")) - 1.0).abs() < 1e-9
        );
        // Four of five are common, six there are in all.
        let b = sketch("one two three four five six eight");
        assert!((a.similarity(&b) - 4.0 / 6.0).abs() < 1e-9, "{}", a.similarity(&b));
        assert!(a.similarity(&sketch("nothing of what stands there is here")) < 1e-9);
        assert_eq!(sketch("one two three"), Sketch::default(), "too short to tell");
    }

    #[test]
    fn long_texts_are_estimated() {
        let text = |from: usize, to: usize| -> String {
            (from..to).map(|number| format!("word{number} ")).collect()
        };
        let found = sketch(&text(0, 10_000)).similarity(&sketch(&text(1000, 10_000)));
        assert!((found - 0.9).abs() < 0.12, "{found}");
    }

    #[test]
    fn characters_are_words_where_no_spaces_are_written() {
        let (a, b) = (sketch("奥斯陆是挪威的首都城市"), sketch("奥斯陆是挪威的首都之城"));
        let similarity = a.similarity(&b);
        assert!(similarity > 0.4 && similarity < 0.9, "{similarity}");
    }
}
