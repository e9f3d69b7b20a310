//! The target tokens of a conversation.
//!
//! Where the chat template marks what the model writes (`{% generation %}`), that is what is
//! trained, token by token as transformers has it. Any other template is rendered several times to
//! find the assistant's turns ([`locate`]): a turn is what stands between the text of the messages
//! before it with the generation prompt, and the text of the messages up to it. There a token is a
//! target if it *begins* inside a turn. One that begins in the prompt and reaches into the turn is
//! none: the model never chooses it, since the prompt that precedes an answer ends before it. One
//! that begins in the turn and reaches beyond it is: the model must choose it to go on.
//!
//! What another message says is never a target, wherever the template writes it ([`foreign`]).

mod foreign;
mod locate;
mod targets;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::formats::Conversation;
use super::template::{ChatTemplate, Turns, Variants, Whole, WholeText, Writes};

use foreign::Foreign;
use locate::Search;

pub use targets::{mask, open_turns};

/// Stands for a message's content; private characters, so that no template treats it specially.
pub const PROBE: &str = "\u{f8ff}probe\u{f8ff}";

/// The text of a conversation and where the assistant speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// What the template wrote.
    pub text: String,
    /// What is trained: the assistant's turns, or what the template marks, in order.
    pub turns: Vec<Turn>,
    /// Whether the template marks what is trained.
    marked: bool,
    /// What other messages say inside the turns.
    foreign: Vec<Foreign>,
}

/// Where one turn of the assistant stands in the text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Tokens that begin in here are targets.
    pub said: Range<usize>,
    /// From the end of `said` to here stands what ends the turn; tokens that lie wholly in it are
    /// targets.
    pub end: usize,
}

/// Renders a conversation without looking for turns: none of it is trained in particular.
pub fn plain<T: Writes>(template: &T, conversation: &Conversation) -> Result<Rendered, String> {
    let turns = template.turns(conversation);
    let text = template.render_whole(&turns).map_err(|reason| refuses(&reason))?;
    Ok(Rendered { text, turns: Vec::new(), marked: false, foreign: Vec::new() })
}

/// Renders a conversation and finds what is trained. The error is the reason, in one line.
pub fn render<T: Writes>(template: &T, conversation: &Conversation) -> Result<Rendered, String> {
    let turns = template.turns(conversation);
    let marked = template.has_marks();
    let (text, owned) = match marked {
        true => by_marks(template, conversation, &turns)?,
        false => by_turns(template, conversation, &turns)?,
    };
    let foreign = foreign::find(template, &turns, &conversation.messages, &text, &owned)?;
    let turns = owned.into_iter().map(|(_, turn)| turn).collect();
    Ok(Rendered { text, turns, marked, foreign })
}

/// What each of the assistant's messages says, where it is found by the prefixes of the
/// conversation alone, which end in what the template writes by itself; `None` where one is not.
pub fn by_prefixes(
    template: &ChatTemplate,
    conversation: &Conversation,
) -> Option<Vec<(usize, Range<usize>)>> {
    let turns = Turns::new(conversation);
    let whole = Whole::new(template, &turns).ok()?;
    let search = Search { template, turns: &turns, whole: &whole };
    let messages = conversation.messages.iter().enumerate();
    let spoken = messages.filter(|(_, message)| message["role"] == "assistant");
    spoken.map(|(index, _)| Some((index, search.introduced(index)?.said))).collect()
}

/// Whether words of other messages may stand in these turns of a conversation's text, so that they
/// must be looked for; the messages of turns are those that are known.
pub fn has_suspects(messages: &[Value], text: &str, owned: &Owned) -> bool {
    !foreign::suspects(messages, text, owned).is_empty()
}

impl Rendered {
    /// A text with turns in which no other message says anything; `marked` where the template
    /// marks them.
    pub fn of_turns(text: String, turns: Vec<Turn>, marked: bool) -> Self {
        Self { text, turns, marked, foreign: Vec::new() }
    }

    /// Whether which of the first tokens are targets does not depend on those far behind: where
    /// words of other messages are looked for, it may.
    pub fn is_found_in_order(&self) -> bool {
        self.foreign.is_empty()
    }
}

/// Turns, each with the number of its message where that is known.
pub type Owned = Vec<(Option<usize>, Turn)>;

fn by_turns<T: Writes>(
    template: &T,
    conversation: &Conversation,
    turns: &T::Turns<'_>,
) -> Result<(String, Owned), String> {
    let whole = template.whole(turns).map_err(|reason| refuses(&reason))?;
    let search = Search { template, turns, whole: &whole };
    let (mut owned, mut floor) = (Owned::new(), 0);
    for (index, message) in conversation.messages.iter().enumerate() {
        if message["role"] != "assistant" {
            continue;
        }
        let turn = search.turn(index, floor).filter(|turn| floor <= turn.said.start);
        let target = !conversation.not_targets.contains(&index);
        match turn {
            Some(turn) => {
                floor = turn.end;
                owned.extend(target.then_some((Some(index), turn)));
            }
            None if target => return Err(unclear(index)),
            None => {}
        }
    }
    Ok((whole.into_text(), owned))
}

fn by_marks<T: Writes>(
    template: &T,
    conversation: &Conversation,
    turns: &T::Turns<'_>,
) -> Result<(String, Owned), String> {
    let (text, mut spans) = template.render_marked(turns).map_err(|reason| refuses(&reason))?;
    let of_no_target: Result<Vec<Range<usize>>, String> =
        conversation.not_targets.iter().try_fold(Vec::new(), |mut all, &index| {
            all.extend(marks_of(template, turns, index, &text, &spans).ok_or(unclear(index))?);
            Ok(all)
        });
    let of_no_target = of_no_target?;
    spans.retain(|span| !of_no_target.contains(span));
    let turn = |span: Range<usize>| (None, Turn { end: span.end, said: span });
    Ok((text, spans.into_iter().map(turn).collect()))
}

/// The marked blocks that hold what a message says: those that change with it.
fn marks_of<T: Writes>(
    template: &T,
    turns: &T::Turns<'_>,
    index: usize,
    text: &str,
    spans: &[Range<usize>],
) -> Option<Vec<Range<usize>>> {
    turns.probes(index, PROBE).find_map(|probed| {
        let (other, others) = template.render_marked(&probed).ok()?;
        let differ = |(here, there): &(&Range<usize>, &Range<usize>)| {
            text[(*here).clone()] != other[(*there).clone()]
        };
        let changed: Vec<_> =
            spans.iter().zip(&others).filter(differ).map(|(span, _)| span.clone()).collect();
        (others.len() == spans.len() && !changed.is_empty()).then_some(changed)
    })
}

fn refuses(reason: &str) -> String {
    format!("the chat template refuses the conversation: {reason}")
}

fn unclear(index: usize) -> String {
    format!("cannot find message {}, the assistant's, in the rendered conversation", index + 1)
}

/// How many bytes two texts have in common at their beginning, in whole characters.
fn common(a: &str, b: &str) -> usize {
    let equal = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=equal).rev().find(|&at| a.is_char_boundary(at)).unwrap_or(0)
}

/// How many bytes two texts have in common at their end, in whole characters.
fn common_end(a: &str, b: &str) -> usize {
    let equal = a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    (0..=equal).rev().find(|&length| a.is_char_boundary(a.len() - length)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
