//! From where the assistant speaks in a text to which of its tokens are targets.

use std::ops::Range;

use super::{Rendered, Turn};
use crate::data::codec::Codec;
use crate::data::tokens::Encoded;

/// Which tokens of a rendered conversation are targets.
pub fn mask(codec: &Codec, rendered: &Rendered, encoded: &Encoded) -> Vec<bool> {
    let mut loss_mask = vec![false; encoded.tokens.len()];
    for turn in &rendered.turns {
        let tokens = match rendered.marked {
            true => overlapping(encoded, &turn.said),
            false => of_turn(codec, &rendered.text, turn, encoded),
        };
        loss_mask[tokens].fill(true);
    }
    for foreign in &rendered.foreign {
        loss_mask[overlapping(encoded, &foreign.on_tokens(encoded))].fill(false);
    }
    // Nothing stands before the first token from which it could be predicted.
    if let Some(first) = loss_mask.first_mut() {
        *first = false;
    }
    loss_mask
}

/// How many turns have no token among their targets that ends them. Nothing is said of a template
/// that writes no such token at all.
pub fn open_turns(codec: &Codec, rendered: &Rendered, encoded: &Encoded) -> usize {
    let is_end = |token: usize| {
        let id = encoded.tokens[token];
        codec.turn_ends().contains(&id) || codec.tokenizer.is_special(id)
    };
    if codec.turn_ends().is_empty() {
        return 0;
    }
    let text = |token: usize| rendered.text.get(encoded.offsets[token].0..encoded.offsets[token].1);
    let is_blank = |token: &usize| text(*token).is_some_and(|text| text.trim().is_empty());
    let is_closed = |span: Range<usize>| span.rev().find(|t| !is_blank(t)).is_some_and(is_end);
    let turns = &rendered.turns;
    if !rendered.marked {
        let of = |turn| of_turn(codec, &rendered.text, turn, encoded);
        return turns.iter().filter(|turn| !is_closed(of(turn))).count();
    }
    // A turn may be marked in several pieces: it goes on in the next where nothing ends it before.
    let spans: Vec<_> = turns.iter().map(|turn| overlapping(encoded, &turn.said)).collect();
    let goes_on = |index: usize| {
        spans.get(index + 1).is_some_and(|next| !(spans[index].end..next.start).any(is_end))
    };
    let open = |&index: &usize| !is_closed(spans[index].clone()) && !goes_on(index);
    (0..spans.len()).filter(open).count()
}

/// The tokens that a span has a part of.
fn overlapping(encoded: &Encoded, span: &Range<usize>) -> Range<usize> {
    let first = encoded.offsets.partition_point(|&(_, end)| end <= span.start);
    let last = encoded.offsets.partition_point(|&(start, _)| start < span.end);
    first..last.max(first)
}

/// The tokens of a turn that was found: up to the one that ends it.
fn of_turn(codec: &Codec, text: &str, turn: &Turn, encoded: &Encoded) -> Range<usize> {
    let count = encoded.tokens.len();
    let first = encoded.offsets.partition_point(|&(start, _)| start < turn.said.start);
    let beyond = (first..count).find(|&token| {
        let (start, end) = encoded.offsets[token];
        start >= turn.said.end && end > turn.end
    });
    let last = beyond.unwrap_or(count);
    let blank = |&token: &usize| {
        let (start, end) = encoded.offsets[token];
        text.get(start..end).is_some_and(|text| text.trim().is_empty())
    };
    match (first..last).rev().find(|token| !blank(token)) {
        // White space after the token that ends the turn belongs to no one: generation has stopped.
        Some(end) if codec.tokenizer.is_special(encoded.tokens[end]) => first..end + 1,
        // Some templates end a turn only where another message follows, as a part of that.
        _ => match (last..count).find(|token| !blank(token)) {
            Some(end) if codec.turn_ends().contains(&encoded.tokens[end]) => first..end + 1,
            _ => first..last,
        },
    }
}
