//! Changes to a template's source.

use super::lexer::Token;

/// Where an expression stands.
pub struct Place {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// Changes to a source, collected from the inside of expressions outwards.
#[derive(Default)]
pub struct Edits {
    opened: Vec<(usize, String)>,
    closed: Vec<(usize, String)>,
    replaced: Vec<(usize, usize, String)>,
}

impl Edits {
    /// Puts an expression between two texts.
    pub fn wrap(&mut self, place: impl Into<Place>, before: &str, after: &str) {
        let place = place.into();
        self.opened.push((place.start, before.to_owned()));
        self.closed.push((place.end, after.to_owned()));
    }

    /// Writes `text` at a place.
    pub fn insert(&mut self, at: usize, text: &str) {
        self.replaced.push((at, at, text.to_owned()));
    }

    /// Writes `text` in the place of some tokens.
    pub fn replace(&mut self, from: &Token, to: &Token, text: &str) {
        self.replaced.push((from.at, to.end(), text.to_owned()));
    }

    /// The changed source.
    pub fn apply(self, source: &str) -> String {
        // At one place: what closes there, the innermost first, then what opens, the outermost
        // first, then the token itself.
        let mut all: Vec<(usize, u8, usize, usize, String)> = Vec::new();
        for (index, (at, text)) in self.closed.into_iter().enumerate() {
            all.push((at, 0, index, at, text));
        }
        for (index, (at, text)) in self.opened.into_iter().enumerate() {
            all.push((at, 1, usize::MAX - index, at, text));
        }
        for (index, (at, end, text)) in self.replaced.into_iter().enumerate() {
            all.push((at, 2, index, end, text));
        }
        all.sort();
        let mut out = String::with_capacity(source.len() + all.len() * 12);
        let mut done = 0;
        for (at, _, _, end, text) in all {
            out.push_str(source.get(done..at).unwrap_or_default());
            out.push_str(&text);
            done = end.max(done);
        }
        out.push_str(source.get(done..).unwrap_or_default());
        out
    }
}
