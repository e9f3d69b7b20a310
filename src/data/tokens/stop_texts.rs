//! Texts that end an answer.

/// Looks for texts that end an answer in what is written piece by piece.
#[derive(Debug)]
pub struct StopTexts {
    texts: Vec<String>,
    /// What was written and may be the beginning of one.
    held: String,
    found: bool,
}

impl StopTexts {
    /// Of some texts; empty ones are none.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let texts = texts.into_iter().filter(|text| !text.is_empty()).collect();
        Self { texts, held: String::new(), found: false }
    }

    /// Takes a piece, and gives what is certain to stand before any of the texts.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(piece);
        let begin = self.texts.iter().filter_map(|text| self.held.find(text.as_str())).min();
        if let Some(begin) = begin {
            self.found = true;
            self.held.truncate(begin);
            return std::mem::take(&mut self.held);
        }
        let may_begin = |at: &usize| {
            let end = &self.held[*at..];
            self.texts.iter().any(|text| text.starts_with(end))
        };
        let mut places = self.held.char_indices().map(|(at, _)| at);
        let first = places.find(may_begin).unwrap_or(self.held.len());
        let rest = self.held.split_off(first);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether one of them was written.
    pub fn found(&self) -> bool {
        self.found
    }

    /// What was held back, as nothing comes any more.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut texts = StopTexts::new(stops.iter().map(|&text| text.to_owned()));
        let mut shown: Vec<String> = pieces.iter().map(|piece| texts.push(piece)).collect();
        shown.push(texts.finish());
        (shown, texts.found())
    }

    #[test]
    fn nothing_of_a_stop_text_or_after_it_is_shown() {
        assert_eq!(all(&["\n\n"], &["a\n", "b", "\n", "\nc", "d"]).0, ["a", "\nb", "", "", "", ""]);
        assert_eq!(
            all(&["END"], &["x EN", "D y"]),
            (vec!["x ".into(), "".into(), "".into()], true)
        );
        assert_eq!(all(&["END"], &["EEN", "DE"]).0, ["E", "", ""]);
        // The first that comes.
        assert_eq!(all(&["cd", "b"], &["abcd"]).0, ["a", ""]);
    }

    #[test]
    fn what_only_begins_like_one_is_shown_in_the_end() {
        assert_eq!(all(&["END"], &["x EN"]), (vec!["x ".into(), "EN".into()], false));
        assert_eq!(all(&["END"], &["EN", "X"]).0, ["", "ENX", ""]);
        assert_eq!(all(&[""], &["a", "é"]).0, ["a", "é", ""]);
        assert_eq!(all(&["é!"], &["é", "?"]).0, ["", "é?", ""]);
    }
}
