//! What is learnt of a conversation: found by rendering prefixes of it, so that any chat template
//! serves, without marks in it.
//!
//! An assistant's turn is what stands between the text of the turns before it with the generation
//! prompt, and the text of the turns up to it. Both must be prefixes of the whole conversation's
//! text. Some templates write a turn differently once others follow (they drop the reasoning of
//! earlier turns, or end the whole text with a token of its own). For those the conversation is
//! rendered once more with other content in that turn: what both texts have in common before and
//! after is not part of the content.
//!
//! A token is learnt if it *begins* inside an assistant's turn. One that begins in the prompt and
//! reaches into the turn is not: the model never chooses it, since the prompt that precedes an
//! answer ends before it. One that begins in the turn and reaches beyond it is: the model must
//! choose it to go on.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::formats::Conversation;
use super::template::{ChatTemplate, Turns, Whole};
use super::tokens::{Encoded, Tokenizer};

/// Stands for a turn's content; private characters, so that no template treats it specially.
pub const PROBE: &str = "\u{f8ff}probe\u{f8ff}";

/// The text of a conversation and where the assistant speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// What the template wrote.
    pub text: String,
    /// The assistant's turns, in order.
    pub turns: Vec<Turn>,
}

/// Where one turn of the assistant stands in the text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Tokens that begin in here are learnt.
    pub said: Range<usize>,
    /// From the end of `said` to here stands what ends the turn; tokens that lie wholly in it are
    /// learnt.
    pub end: usize,
}

/// Renders a conversation and finds the assistant's turns. The error is the reason, in one line.
pub fn render(template: &ChatTemplate, conversation: &Conversation) -> Result<Rendered, String> {
    let turns = Turns::new(conversation);
    let whole = Whole::new(template, &turns)
        .map_err(|reason| format!("the chat template refuses the conversation: {reason}"))?;
    let search = Search { template, turns: &turns, whole: &whole };
    let mut found: Vec<Turn> = Vec::new();
    for (index, message) in conversation.messages.iter().enumerate() {
        if message["role"] != "assistant" {
            continue;
        }
        let turn = search
            .by_prefixes(index)
            .or_else(|| search.by_probe(index))
            .filter(|turn| found.last().is_none_or(|last| last.end <= turn.said.start))
            .ok_or_else(|| unclear(index))?;
        found.push(turn);
    }
    Ok(Rendered { text: whole.into_text(), turns: found })
}

fn unclear(index: usize) -> String {
    format!(
        "cannot tell where message {}, the assistant's, stands in what the chat template wrote",
        index + 1
    )
}

/// A conversation and its text, in which turns are looked for.
struct Search<'a> {
    template: &'a ChatTemplate,
    turns: &'a Turns,
    whole: &'a Whole<'a>,
}

impl Search<'_> {
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

    /// The turn found by writing it with other content.
    fn by_probe(&self, index: usize) -> Option<Turn> {
        let text = self.whole.text();
        let probed = self.turns.with_content(index, "assistant", PROBE);
        let whole = self.template.render(&probed, self.turns.count(), false).ok()?;
        let (head, tail) = whole.split_once(PROBE)?;
        if tail.contains(PROBE) || !text.starts_with(head) || !text.ends_with(tail) {
            return None;
        }
        let said_end = text.len() - tail.len();
        // What the template itself puts between the generation prompt and the content must be
        // written by the model, where that prompt is known.
        let start = self.whole.prefix(head, index, true).unwrap_or(head.len());
        if start > said_end {
            return None;
        }
        // What ends the turn is what follows it both here and where nothing follows.
        let alone = self.template.render(&probed, index + 1, false).unwrap_or_default();
        let ending = alone.split_once(PROBE).map_or(0, |(_, after)| common(after, tail));
        Some(Turn { said: start..said_end, end: said_end + ending })
    }
}

/// How many bytes two texts have in common at their beginning, in whole characters.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// Which tokens of a rendered conversation are learnt.
pub fn mask(tokenizer: &Tokenizer, rendered: &Rendered, encoded: &Encoded) -> Vec<bool> {
    let mut learn = vec![false; encoded.tokens.len()];
    for turn in &rendered.turns {
        let first = encoded.offsets.partition_point(|&(start, _)| start < turn.said.start);
        let tokens = first..learn.len();
        let last = tokens.clone().find(|&token| {
            let (start, end) = encoded.offsets[token];
            start >= turn.said.end && end > turn.end
        });
        let tokens = first..last.unwrap_or(learn.len());
        learn[tokens.clone()].fill(true);
        // White space after the token that ends the turn belongs to no one: generation has stopped.
        let blank = |&token: &usize| {
            let (start, end) = encoded.offsets[token];
            rendered.text.get(start..end).is_some_and(|text| text.trim().is_empty())
        };
        if let Some(last) = tokens.clone().rev().find(|token| !blank(token))
            && tokenizer.is_special(encoded.tokens[last])
        {
            learn[last + 1..tokens.end].fill(false);
        }
    }
    // Nothing stands before the first token from which it could be predicted.
    if let Some(first) = learn.first_mut() {
        *first = false;
    }
    learn
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
