//! What other messages say inside the assistant's turns.
//!
//! Some templates write what a tool answers into the turn that called it. The model does not
//! choose those words, so they are no targets. Where a message's words may stand inside a turn, the
//! conversation is rendered with other words in their place, which says where they stand; and once
//! more with that message doubled, which says what the template writes around them.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Owned, PROBE, common, common_end};
use crate::data::template::{Variants, Writes};
use crate::data::tokens::Encoded;

/// So many messages are looked for one by one where they cannot be found all at once.
const ONE_BY_ONE_MAX: usize = 32;
/// So many places at most are tried for a block of text that repeats itself at its edges.
const PLACES_MAX: usize = 64;
/// Begins and ends a probe.
const SIGN: char = '\u{f8ff}';

/// What another message says inside a turn, with what the template writes around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Where it may stand, in bytes: texts that repeat themselves at their edges leave a choice.
    places: Vec<Range<usize>>,
}

impl Foreign {
    /// The place at which tokens begin and end, if there is one; of several, all that they cover,
    /// since texts repeat themselves where such messages follow each other.
    pub fn on_tokens(&self, encoded: &Encoded) -> Range<usize> {
        let begins = |at| encoded.offsets.binary_search_by_key(&at, |&(start, _)| start).is_ok();
        let ends = |at| encoded.offsets.binary_search_by_key(&at, |&(_, end)| end).is_ok();
        let whole = self.places.iter().filter(|place| begins(place.start) && ends(place.end));
        let all = whole.cloned().reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        all.or_else(|| self.places.first().cloned()).unwrap_or_default()
    }
}

/// Finds what other messages say inside `owned`, the turns of the assistant. The error is the
/// reason why that cannot be told, in one line.
pub fn find<T: Writes>(
    template: &T,
    turns: &T::Turns<'_>,
    messages: &[Value],
    text: &str,
    owned: &Owned,
) -> Result<Vec<Foreign>, String> {
    let suspects = suspects(messages, text, owned);
    let places = match together(template, turns, text, &suspects) {
        Some(places) => places,
        None => one_by_one(template, turns, text, &suspects)?,
    };
    let mut foreign = Vec::new();
    for (index, content) in places {
        let inside = |said: &Range<usize>| said.start < content.end && content.start < said.end;
        if owned.iter().any(|(_, turn)| inside(&(turn.said.start..turn.end))) {
            foreign.push(Foreign { places: around(template, turns, text, index, &content) });
        }
    }
    Ok(foreign)
}

/// Messages whose words stand in a turn more often than the turn's own message explains; of tools
/// those whose words stand in a turn at all, or nowhere outside.
pub fn suspects(messages: &[Value], text: &str, owned: &Owned) -> Vec<usize> {
    let outside = |words: &str| {
        let mut at = 0;
        let mut between = owned.iter().map(|(_, turn)| {
            let gap = text.get(at..turn.said.start).unwrap_or_default();
            at = turn.end;
            gap.contains(words)
        });
        between.any(|found| found) || text.get(at..).is_some_and(|rest| rest.contains(words))
    };
    let suspect = |index: &usize| {
        let message = &messages[*index];
        let tool = message["role"] == "tool";
        let contents = contents(message);
        let words = contents.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        message["role"] != "assistant"
            && words.into_iter().any(|words| {
                let inside = |(owner, turn): &(Option<usize>, super::Turn)| {
                    let said = text.get(turn.said.start..turn.end).unwrap_or_default();
                    let count = count(said, words);
                    let own = owner.filter(|_| !tool);
                    count > 0 && count > own.map_or(0, |owner| times(&messages[owner], words))
                };
                owned.iter().any(inside) || (tool && !outside(words))
            })
    };
    (0..messages.len()).filter(suspect).collect()
}

/// The text of a message's content, or those of its parts.
fn contents(message: &Value) -> Vec<&str> {
    match &message["content"] {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// How often words stand in the texts of a value.
fn times(value: &Value, words: &str) -> usize {
    match value {
        Value::String(text) => count(text, words),
        Value::Array(list) => list.iter().map(|value| times(value, words)).sum(),
        Value::Object(fields) => fields.values().map(|value| times(value, words)).sum(),
        Value::Number(number) => count(&number.to_string(), words),
        _ => 0,
    }
}

/// How often words, which are not empty, stand in a text. Mostly they are too long for it, or not
/// even their first byte is there, which is seen sooner than a search for them is prepared.
fn count(text: &str, words: &str) -> usize {
    let (text, words) = (text.as_bytes(), words.as_bytes());
    let room = text.get(..(text.len() + 1).saturating_sub(words.len())).unwrap_or_default();
    let begins = words.first().and_then(|first| memchr::memchr(*first, room));
    begins.map_or(0, |at| memchr::memmem::find_iter(&text[at..], words).count())
}

/// Where the contents of messages stand in the text, found by one rendering with a probe in the
/// place of each; `None` if the template then writes something else as well.
fn together<T: Writes>(
    template: &T,
    turns: &T::Turns<'_>,
    text: &str,
    suspects: &[usize],
) -> Option<Vec<(usize, Range<usize>)>> {
    if suspects.is_empty() {
        return Some(Vec::new());
    }
    let probe = |index: usize| format!("{SIGN}{index}{SIGN}");
    let probed = suspects
        .iter()
        .fold(turns.clone(), |turns, &index| turns.with_content(index, &probe(index)));
    let other = template.render(&probed, turns.count(), false).ok()?;
    let parts: Vec<&str> = other.split(SIGN).collect();
    let (head, pairs) = parts.split_first()?;
    let mut at = text.starts_with(head).then_some(head.len())?;
    let mut places = Vec::new();
    for (number, pair) in pairs.chunks(2).enumerate() {
        let &[index, literal] = pair else { return None };
        let rest = &text[at..];
        let length = match literal {
            last if 2 * number + 2 == pairs.len() => rest.strip_suffix(last)?.len(),
            "" => return None, // two contents without anything between them
            literal => rest.find(literal)?,
        };
        // A text of the record may look like a probe.
        let index = index.parse().ok().filter(|index| suspects.contains(index))?;
        places.push((index, at..at + length));
        at += length + literal.len();
    }
    (at == text.len()).then_some(places)
}

/// The same, with a rendering for each message.
fn one_by_one<T: Writes>(
    template: &T,
    turns: &T::Turns<'_>,
    text: &str,
    suspects: &[usize],
) -> Result<Vec<(usize, Range<usize>)>, String> {
    let unclear = |index: usize| {
        format!(
            "cannot tell whether what message {} says stands in the assistant's turn, where it \
             would be trained",
            index + 1
        )
    };
    if let Some(index) = suspects.get(ONE_BY_ONE_MAX) {
        return Err(unclear(*index));
    }
    let mut places = Vec::new();
    for &index in suspects {
        let probed = turns.with_content(index, PROBE);
        let other = template.render(&probed, turns.count(), false).map_err(|_| unclear(index))?;
        let (Some((head, _)), Some((_, tail))) =
            (other.split_once(PROBE), other.rsplit_once(PROBE))
        else {
            continue; // it is not written
        };
        let start = common(text, head);
        places.push((index, start..text.len() - common_end(&text[start..], tail)));
    }
    Ok(places)
}

/// Where a message's content stands with what the template writes around it, if a second such
/// message behind it is written in the same way; else where the content stands.
fn around<T: Writes>(
    template: &T,
    turns: &T::Turns<'_>,
    text: &str,
    index: usize,
    content: &Range<usize>,
) -> Vec<Range<usize>> {
    let block = || {
        let doubled = turns.doubled(index, PROBE);
        let other = template.render(&doubled, doubled.count(), false).ok()?;
        let probe = other.find(PROBE)?;
        let inserted = other.len().checked_sub(text.len())?;
        let (head, tail) = (common(text, &other), common_end(text, &other));
        let begins = text.len().checked_sub(tail)?..=head;
        // The inserted text may be taken to begin at any of these places.
        let places = begins.rev().filter_map(|begin| {
            let before = other.get(begin..probe)?;
            let after = other.get(probe + PROBE.len()..begin + inserted)?;
            let written = text.get(..content.start)?.ends_with(before)
                && text.get(content.end..)?.starts_with(after);
            written.then(|| content.start - before.len()..content.end + after.len())
        });
        Some(places.take(PLACES_MAX).collect::<Vec<_>>())
    };
    block().filter(|places| !places.is_empty()).unwrap_or_else(|| vec![content.clone()])
}
