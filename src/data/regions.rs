//! The text of a conversation in regions, in which the pieces of a record are looked for.

use std::ops::Range;

use memchr::memmem;

/// Shorter pieces are found by accident: they must stand there as words of their own.
pub const SHORT: usize = 24;

/// How sure it is that a piece stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It stands where it belongs.
    Surely,
    /// It stands there, perhaps by accident.
    Perhaps,
    /// It does not.
    Nowhere,
}

/// A part of the text, with what was found in it.
struct Region {
    range: Range<usize>,
    taken: Vec<Range<usize>>,
}

/// A text in consecutive regions.
pub struct Regions<'a> {
    text: &'a str,
    regions: Vec<Region>,
}

impl<'a> Regions<'a> {
    /// The text, cut at these places, which rise.
    pub fn new(text: &'a str, cuts: impl IntoIterator<Item = usize>) -> Self {
        let mut regions = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            regions.push(Region { range: start..cut.max(start), taken: Vec::new() });
            start = cut.max(start);
        }
        Self { text, regions }
    }

    /// How many regions there are.
    pub fn count(&self) -> usize {
        self.regions.len()
    }

    /// Looks for a piece in a region, then elsewhere. What was found before is not found again
    /// there, so that a piece that comes twice must stand there twice.
    pub fn look(&mut self, home: usize, piece: &str) -> Certainty {
        let piece = piece.trim();
        if self.look_at_home(home, piece) {
            return Certainty::Surely;
        }
        let escaped = escaped(piece);
        let forms = std::iter::once(piece).chain(escaped.iter().map(String::as_str));
        let text = self.text.as_bytes();
        let anywhere = |form: &str| places(text, form.as_bytes()).next().is_some();
        if forms.into_iter().any(anywhere) { Certainty::Perhaps } else { Certainty::Nowhere }
    }

    /// Whether a piece stands in a region, as it is or as it is written inside JSON.
    pub fn look_at_home(&mut self, home: usize, piece: &str) -> bool {
        let piece = piece.trim();
        piece.is_empty()
            || self.take(home, piece)
            || escaped(piece).iter().any(|form| self.take(home, form))
    }

    /// Whether a field of a message stands in a region, of which the template does not ask: it is
    /// written where all fields are. A short value stands there by accident where its name does
    /// not.
    pub fn look_for_field(&mut self, home: usize, name: &str, value: &str) -> bool {
        let within = self.regions.get(home).and_then(|it| self.text.get(it.range.clone()));
        let is_named = |text| is_long(value) || has_word(text, name);
        within.is_some_and(is_named) && self.look_at_home(home, value)
    }

    /// Finds a piece in a region outside of what was found there before.
    pub fn take(&mut self, home: usize, piece: &str) -> bool {
        let text = self.text;
        let Some(region) = self.regions.get_mut(home) else { return false };
        let Some(within) = text.get(region.range.clone()) else { return false };
        let base = region.range.start;
        let free = places(within.as_bytes(), piece.as_bytes())
            .map(|at| base + at..base + at + piece.len())
            .find(|found| {
                let apart =
                    |taken: &Range<usize>| taken.end <= found.start || found.end <= taken.start;
                region.taken.iter().all(apart) && (piece.len() >= SHORT || is_word(text, found))
            });
        if let Some(found) = free.clone() {
            region.taken.push(found);
        }
        free.is_some()
    }
}

/// Where a piece stands in a text. It mostly stands where its first byte does first, which is seen
/// sooner than a search for it is prepared.
fn places<'a>(text: &'a [u8], piece: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    const TRIED: usize = 16;
    let first = piece.first().copied().unwrap_or_default();
    let (mut tried, mut count) = ([0; TRIED], 0);
    for (place, at) in tried.iter_mut().zip(memchr::memchr_iter(first, text)) {
        (*place, count) = (at, count + 1);
    }
    let rest = if count == TRIED { tried[TRIED - 1] + 1 } else { text.len() };
    let tried = tried.into_iter().take(count);
    let at_once = tried.filter(move |at| text[*at..].starts_with(piece));
    let searched = std::iter::once_with(move || memmem::find_iter(&text[rest..], piece));
    at_once.chain(searched.flatten().map(move |at| rest + at))
}

/// Whether a value is found by itself, not by accident.
fn is_long(value: &str) -> bool {
    value.trim().len() >= SHORT
}

/// Whether the value of a field stands in a text; `unasked` is the name of one that the template
/// does not ask for, which would be found in some region ([`Regions::look_for_field`]).
pub fn stands(text: &str, value: &str, unasked: Option<&str>) -> bool {
    let piece = value.trim();
    let mut found = places(text.as_bytes(), piece.as_bytes());
    match unasked {
        Some(name) if !is_long(piece) => {
            has_word(text, name) && found.any(|at| is_word(text, &(at..at + piece.len())))
        }
        _ => found.next().is_some(),
    }
}

/// Whether a text has a piece as a word of its own.
pub fn has_word(text: &str, piece: &str) -> bool {
    let places = memmem::find_iter(text.as_bytes(), piece.as_bytes());
    places.map(|at| at..at + piece.len()).any(|found| is_word(text, &found))
}

/// Whether what stands there is no part of a longer word.
fn is_word(text: &str, found: &Range<usize>) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (Some(before), Some(inside), Some(after)) =
        (text.get(..found.start), text.get(found.clone()), text.get(found.end..))
    else {
        return false;
    };
    !(word(before.chars().next_back()) && word(inside.chars().next()))
        && !(word(inside.chars().next_back()) && word(after.chars().next()))
}

/// How a piece is written inside JSON, if that is another text: with and without escapes for what
/// is not ASCII.
fn escaped(piece: &str) -> Vec<String> {
    let special = |c: char| matches!(c, '"' | '\\') || c.is_control();
    let mut forms = Vec::new();
    if piece.contains(special) {
        let json = serde_json::Value::from(piece).to_string();
        forms.push(json[1..json.len() - 1].to_owned());
    }
    if !piece.is_ascii() {
        let json = forms.last().map_or(piece, String::as_str);
        let mut ascii = String::with_capacity(2 * json.len());
        for c in json.chars() {
            if c.is_ascii() {
                ascii.push(c);
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    ascii.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        forms.push(ascii);
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_comes_twice_must_stand_there_twice() {
        let text = "<u>yes<a>yes<u>no";
        let mut regions = Regions::new(text, [6, 12]);
        assert_eq!(regions.count(), 3);
        assert_eq!(regions.look(0, " yes\n"), Certainty::Surely);
        assert_eq!(regions.look(0, "yes"), Certainty::Perhaps);
        assert_eq!(regions.look(1, "yes"), Certainty::Surely);
        assert_eq!(regions.look(2, "maybe"), Certainty::Nowhere);
        assert_eq!(regions.look(2, ""), Certainty::Surely);
    }

    #[test]
    fn a_short_field_that_is_not_asked_for_stands_beside_its_name() {
        let text = "author: cat<u>the cat is a cat of London, a city on the Thames<a>en";
        let mut regions = Regions::new(text, [11, text.find("<a>").unwrap()]);
        assert!(regions.look_for_field(0, "author", "cat"));
        assert!(!regions.look_for_field(0, "author", "cat"), "it is taken");
        assert!(!regions.look_for_field(1, "author", "cat"));
        assert!(!regions.look_for_field(2, "lang", "en"));
        assert!(regions.look_for_field(1, "source", "London, a city on the Thames"));
        assert!(stands(text, "cat", Some("author")) && !stands(text, "cat", Some("writer")));
        assert!(
            stands(text, "cat", None) && stands(text, "London, a city on the Thames", Some("x"))
        );
    }

    #[test]
    fn a_short_piece_is_a_word_and_an_escaped_one_is_found() {
        let mut regions = Regions::new("a user says \"x\\ny\" and \\u00e9t\\u00e9", []);
        assert_eq!(regions.look(0, "use"), Certainty::Perhaps);
        assert_eq!(regions.look(0, "x\ny"), Certainty::Surely);
        assert_eq!(regions.look(0, "été"), Certainty::Surely);
    }
}
