//! Random choices that are the same on every machine, and sentences with gaps.

use firebrand::random::Stream;

/// The values that fill the gaps of a sentence.
pub type Values = Vec<(&'static str, String)>;

/// Random choices, one after the other, from one named stream.
pub struct Dice {
    stream: Stream,
    thrown: u64,
}

impl Dice {
    /// The dice for one part of the data sets; parts do not disturb each other.
    pub fn new(site: &str) -> Self {
        Self { stream: Stream::new(2026).site(site), thrown: 0 }
    }

    /// A whole number from 0 up to, not including, `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.thrown += 1;
        (self.stream.bits(self.thrown) % end as u64) as usize
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred throws.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One item of a table.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// The items in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for end in (1..items.len()).rev() {
            let other = self.below(end + 1);
            items.swap(end, other);
        }
        items
    }
}

/// Fills the gaps of a sentence; the module `phrases` says how gaps are written.
pub fn fill(template: &str, values: &Values) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (gap, after) = after.split_once('}').expect("every gap is closed");
        text.push_str(before);
        text.push_str(&gap_text(gap, values));
        rest = after;
    }
    text + rest
}

fn gap_text(gap: &str, values: &Values) -> String {
    let lower = gap.to_lowercase();
    let key = lower.strip_prefix("a ").unwrap_or(&lower);
    let (_, value) = values
        .iter()
        .find(|(name, _)| *name == key)
        .unwrap_or_else(|| panic!("no value for the gap `{gap}`"));
    let text = if key == lower { value.clone() } else { with_article(value) };
    if gap.starts_with(char::is_uppercase) { capital(&text) } else { text }
}

/// "an owl", "a bee".
pub fn with_article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']) || noun == "hour";
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

/// The text with its first letter in upper case.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
