//! Where a turn of the assistant stands in a conversation's text.
//!
//! Most templates write prefixes: the text of the first messages is how the text of all begins.
//! Some write a turn differently once others follow (they drop the reasoning of earlier turns, or
//! end the whole text with a token of its own). For those the conversation is rendered once more
//! with another text in that message, whose other fields stay: what differs is in the turn. It
//! begins where the generation prompt ends, and ends where both the text in which nothing follows
//! and this one end it.

use super::{PROBE, Turn, common, common_end};
use crate::data::template::{Variants, WholeText, Writes};

/// What stands before the name of a tag.
const TAG_OPENERS: [char; 5] = ['<', '|', '/', '[', '｜'];

/// A conversation and its text, in which turns are looked for.
pub struct Search<'a, 'c, 'w, T: Writes + 'w> {
    pub template: &'a T,
    pub turns: &'a T::Turns<'c>,
    pub whole: &'a T::Whole<'w>,
}

/// Where a text differs from one with a probe in it, in bytes.
struct Difference {
    start: usize,
    end: usize,
    /// How much of the other text follows the probe.
    after: usize,
}

impl<'c, 'w, T: Writes + 'w> Search<'_, 'c, 'w, T> {
    /// The turn of a message, which begins at `floor` or later.
    pub fn turn(&self, index: usize, floor: usize) -> Option<Turn> {
        if let Some(said) = self.whole.known_turn(index) {
            return Some(Turn { end: said.end, said });
        }
        let mut turn = self.by_prefixes(index).or_else(|| {
            self.turns.probes(index, PROBE).find_map(|it| self.by_probe(index, &it, floor))
        })?;
        // Some templates write no generation prompt at this place, but introduce the turn.
        let (before, said) = self.whole.text().split_at(turn.said.start);
        if let Some(prompt) = self.template.generation_prompt()
            && said.starts_with(prompt)
            && !before.ends_with(prompt)
            && turn.said.len() >= prompt.len()
        {
            turn.said.start += prompt.len();
        }
        Some(turn)
    }

    /// The turn between two prefixes that the generation prompt precedes, if there is one.
    pub fn introduced(&self, index: usize) -> Option<Turn> {
        let turn = self.by_prefixes(index)?;
        let before = self.whole.text().get(..turn.said.start)?;
        self.template.generation_prompt().is_none_or(|it| before.ends_with(it)).then_some(turn)
    }

    /// The turn between two prefixes; `None` where the template does not write prefixes.
    fn by_prefixes(&self, index: usize) -> Option<Turn> {
        let text = self.whole.text();
        let start = self.whole.prefix(text, index, true)?;
        if index + 1 == self.turns.count() {
            return Some(Turn { said: start..text.len(), end: text.len() });
        }
        let end = self.whole.prefix(text, index + 1, false)?;
        (end > start).then_some(Turn { said: start..end, end })
    }

    /// The turn found by writing it with another text in it.
    fn by_probe(&self, index: usize, probed: &T::Turns<'c>, floor: usize) -> Option<Turn> {
        let text = self.whole.text();
        let other = self.template.render(probed, self.turns.count(), false).ok()?;
        let found = difference(text, &other)?;
        let start = self.start(index, found.start, floor);
        // What ends the turn is what follows it both here and where nothing follows.
        let tail = &other[other.len() - found.after..];
        let ending = self.endings(index, probed).into_iter().map(|ending| common(&ending, tail));
        let ending = ending.max().unwrap_or(0);
        let end = text.len() - text.len().min(found.after - ending);
        let end = if index + 1 == self.turns.count() { text.len() } else { end.max(found.end) };
        (start <= found.start).then_some(Turn { said: start..found.end, end })
    }

    /// What follows the probe where no message follows: as it is, and without the generation
    /// prompt where one is asked for. Some templates end the last turn otherwise than others.
    fn endings(&self, index: usize, probed: &T::Turns<'c>) -> Vec<String> {
        let after = |generation: bool| {
            let text = self.template.render(probed, index + 1, generation).ok()?;
            text.rsplit_once(PROBE).map(|(_, after)| after.to_owned())
        };
        let (closed, mut open) = (after(false), after(true));
        // Without it the prompt would pass for an ending, since the next turn begins like it.
        if let Some(text) = &mut open {
            let prompt = self.prompt(index).unwrap_or_default();
            let ending = text.strip_suffix(prompt.as_str()).filter(|_| !prompt.is_empty());
            *text = ending.map(str::to_owned).unwrap_or_default();
        }
        closed.into_iter().chain(open).collect()
    }

    /// What the template writes before an answer at this place, or else wherever it is known.
    fn prompt(&self, index: usize) -> Option<String> {
        let at = |count: usize| {
            let with = self.template.render(self.turns, count, true).ok()?;
            Some((with, self.template.render(self.turns, count, false).ok()?))
        };
        let more = |(with, without): &(String, String)| {
            with.strip_prefix(without.as_str()).map(str::to_owned)
        };
        let here = at(index);
        let known = || self.template.generation_prompt().map(str::to_owned);
        // Where nothing follows, some templates end the text otherwise than before a prompt.
        let other = || {
            let (with, without) = here.clone().or_else(|| at(self.turns.count()))?;
            Some(with[parting(&with, &without)..].to_owned())
        };
        here.as_ref().and_then(more).or_else(known).or_else(other)
    }

    /// Where a turn begins of which the text before `inside` is a part: behind the generation
    /// prompt, or behind as much of it as was written.
    fn start(&self, index: usize, inside: usize, floor: usize) -> usize {
        let head = &self.whole.text()[..inside];
        if let Some(start) = self.whole.prefix(head, index, true) {
            return start;
        }
        let prefix = |generation| self.template.render(self.turns, index, generation).ok();
        if let (Some(with), Some(without)) = (prefix(true), prefix(false)) {
            let base = parting(&with, &without);
            let same = common(&with, head);
            if same >= base && written(&with[base..], same - base) {
                return common_words(&with, self.whole.text(), same);
            }
        }
        let beyond = || self.beyond(index, head, floor);
        self.search(index, head, floor).or_else(beyond).unwrap_or(inside)
    }

    /// Where the text goes on otherwise than that of the messages before does, if their words are
    /// all in what is the same.
    fn beyond(&self, index: usize, head: &str, floor: usize) -> Option<usize> {
        let said = self.said_before(index);
        let before = self.template.render(self.turns, index, false).ok()?;
        let same = common(&before, head);
        let found = || common_words(&before, self.whole.text(), same);
        (said > 0 && same >= said.max(floor)).then(found)
    }

    /// The place behind the best match of the generation prompt: of several the first behind what
    /// the message before says, since a turn of several parts repeats it; the last if that is not
    /// written.
    fn search(&self, index: usize, head: &str, floor: usize) -> Option<usize> {
        let prompt = self.prompt(index)?;
        let first = prompt.chars().next()?;
        let said = self.said_before(index);
        let floor = floor.max(said).min(head.len());
        let places = head.get(floor..)?.match_indices(first).map(|(at, _)| floor + at);
        let matched = places.map(|at| (common(&head[at..], &prompt), at));
        let (length, at) = matched.max_by_key(|&(length, at)| match said {
            0 => (length, at),
            _ => (length, usize::MAX - at),
        })?;
        written(&prompt, length).then(|| common_words(&prompt, &head[at..], length) + at)
    }

    /// Where the content of the message before ends.
    fn said_before(&self, index: usize) -> usize {
        let found = index.checked_sub(1).and_then(|before| {
            let probed = self.turns.with_content(before, PROBE);
            let other = self.template.render(&probed, self.turns.count(), false).ok()?;
            difference(self.whole.text(), &other)
        });
        found.map_or(0, |found| found.end)
    }
}

/// Where `text` differs from `other`, in which the probe stands once.
fn difference(text: &str, other: &str) -> Option<Difference> {
    let (head, tail) = other.split_once(PROBE)?;
    if tail.contains(PROBE) {
        return None;
    }
    let start = common(text, head);
    let end = text.len() - common_end(&text[start..], tail);
    Some(Difference { start, end, after: tail.len() })
}

/// Whether so much of a generation prompt is enough to know it by: its first line, or half of it
/// where the next word of it, which may be the role, is not what is missing.
fn written(prompt: &str, length: usize) -> bool {
    let line = prompt.find('\n').map_or(prompt.len(), |at| at + 1);
    let missing_word =
        |length: usize| prompt[length..].chars().next().is_some_and(char::is_alphanumeric);
    // Of a tag whose name is missing nothing is there: another one begins like it.
    let length = match missing_word(length) {
        true => prompt[..length].trim_end_matches(TAG_OPENERS).len(),
        false => length,
    };
    let word = missing_word(length);
    length > 0 && (length >= line || (2 * length >= line && !word))
}

/// `length`, the common beginning of two texts, or less where that ends inside a word or a tag.
fn common_words(a: &str, b: &str, length: usize) -> usize {
    let word = |text: &str| text.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
    let inside = word(&a[length..]) || word(&b[length..]);
    if length == a.len() || !inside { length } else { whole_word(a, length) }
}

/// Where a text goes on otherwise than another; not inside a word or a tag.
fn parting(text: &str, other: &str) -> usize {
    let same = common(text, other);
    if same == other.len() { same } else { whole_word(text, same) }
}

/// The beginning of the word or tag that a place stands in or behind.
fn whole_word(text: &str, at: usize) -> usize {
    let head = text[..at].trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
    let head = head.trim_end_matches(TAG_OPENERS);
    head.len()
}
