//! Whether all that a conversation says stands in what the chat template wrote.
//!
//! Each piece of the record is looked for where it belongs: what the assistant says in its turn,
//! everything else between those turns. A piece that is not there, or that is so short that it may
//! stand there by accident, is replaced by a word of its own and the conversation rendered again:
//! if that word stands in the text, the template writes the piece, in whatever form.

use std::collections::BTreeSet;

use memchr::memmem;
use serde_json::Value;

use super::formats::{Conversation, REASONING};
use super::mask::{self, Rendered};
use super::regions::{Certainty, Regions, SHORT, has_word};
use super::spots::{Leaf, Spot, example, leaves, probe, word};
use super::template::Writes;
use super::unused::{Loss, NOT_ASKED, Unused};

/// What ends reasoning that stands in the content.
const THOUGHT_ENDS: [&str; 4] = ["</think>", "</thinking>", "</reasoning>", "[/THINK]"];
/// What begins it.
const THOUGHT_BEGINS: [&str; 4] = ["<think>", "<thinking>", "<reasoning>", "[THINK]"];
/// Keys of messages that are looked at one by one, and those that only link messages.
pub const KNOWN: [&str; 5] = ["role", "content", "tool_calls", "tool_call_id", "id"];
/// What was found missing.
#[derive(Debug, Default)]
pub struct Missing {
    /// What does not stand in the text.
    pub unused: Vec<Unused>,
    /// The assistant's messages of which nothing does.
    pub silent: BTreeSet<usize>,
}

/// Looks for all that a conversation says in what the template wrote of it.
pub fn missing<T: Writes>(
    template: &T,
    conversation: &Conversation,
    rendered: &Rendered,
) -> Missing {
    let located = located(conversation, rendered);
    let cuts = located.iter().flat_map(|&(_, turn)| {
        let turn = &rendered.turns[turn];
        [turn.said.start, turn.end.max(turn.said.end)]
    });
    let mut check = Check {
        template,
        conversation,
        regions: Regions::new(&rendered.text, cuts),
        located: located.iter().map(|(message, _)| *message).collect(),
        pieces: Vec::new(),
    };
    for (index, message) in conversation.messages.iter().enumerate() {
        check.message(index, message);
    }
    for (index, tool) in conversation.tools.iter().flat_map(Value::as_array).flatten().enumerate() {
        check.tool(index, tool);
    }
    let mut missing = check.settle();
    for name in conversation.template_args.keys() {
        if memmem::find(template.source().as_bytes(), name.as_bytes()).is_none() {
            let what = format!("the template argument `{name}`");
            let example = what.clone();
            missing.unused.push(Unused { loss: Loss::Detail, what, example, by: NOT_ASKED.into() });
        }
    }
    missing
}

/// The assistant's messages that were found in the text, each with its place in the list of turns.
pub fn located(conversation: &Conversation, rendered: &Rendered) -> Vec<(usize, usize)> {
    let messages = conversation.messages.iter().enumerate();
    let spoken: Vec<usize> = messages
        .filter(|(_, message)| message["role"] == "assistant")
        .map(|(index, _)| index)
        .collect();
    let targets: Vec<usize> =
        spoken.iter().copied().filter(|index| !conversation.not_targets.contains(index)).collect();
    let found = rendered.turns.len();
    match [spoken, targets].into_iter().find(|messages| messages.len() == found) {
        Some(messages) => messages.into_iter().zip(0..).collect(),
        None => Vec::new(),
    }
}

/// A piece of the record, and whether it was found.
struct RecordPiece {
    spot: Spot,
    found: Certainty,
    loss: Loss,
    what: &'static str,
    /// What it is in this record: the whole of it, or how it begins.
    example: String,
}

struct Check<'a, T> {
    template: &'a T,
    conversation: &'a Conversation,
    regions: Regions<'a>,
    /// The messages whose turns are the regions 1, 3, 5, …
    located: Vec<usize>,
    /// Those that were not surely found, and all that the assistant says.
    pieces: Vec<RecordPiece>,
}

impl<T: Writes> Check<'_, T> {
    /// The region to which a message belongs.
    fn home(&self, message: usize) -> usize {
        match self.located.binary_search(&message) {
            Ok(turn) => 2 * turn + 1,
            Err(turn) => 2 * turn,
        }
    }

    /// Whether the template could have written a short piece without the record.
    fn is_scaffold(&self, piece: &str) -> bool {
        let piece = piece.trim();
        piece.len() < SHORT
            && (["user", "assistant", "system", "tool", "developer"].contains(&piece)
                || has_word(self.template.source(), piece))
    }

    fn look(&mut self, home: usize, text: &str) -> Certainty {
        match self.regions.look(home, text) {
            Certainty::Surely if self.is_scaffold(text) && !text.trim().is_empty() => {
                Certainty::Perhaps
            }
            found => found,
        }
    }

    fn piece(&mut self, spot: Spot, found: Certainty, loss: Loss, what: &'static str, text: &str) {
        let spoken = matches!(spot, Spot::Content(_) | Spot::Part(..) | Spot::CallName(..));
        if found != Certainty::Surely || spoken {
            let example = match found {
                Certainty::Surely => String::new(),
                _ => example(what, text),
            };
            self.pieces.push(RecordPiece { spot, found, loss, what, example });
        }
    }

    fn message(&mut self, index: usize, message: &Value) {
        let home = self.home(index);
        let what = match message["role"].as_str() {
            Some("system" | "developer") => "a system text",
            _ => "content",
        };
        match &message["content"] {
            Value::String(text) => self.content(index, home, what, text),
            Value::Array(parts) => {
                for (number, part) in parts.iter().enumerate() {
                    let text = part["text"].as_str().unwrap_or_default();
                    let found = self.look(home, text);
                    self.piece(Spot::Part(index, number), found, Loss::Meaning, what, text);
                }
            }
            _ => {}
        }
        if message.as_object().is_some_and(|fields| fields.len() > 2) {
            self.beside(index, home, message);
        }
    }

    /// What a message says beside its content.
    fn beside(&mut self, index: usize, home: usize, message: &Value) {
        let mut before: Vec<&Value> = Vec::new();
        for key in REASONING {
            let value = &message[key];
            if let (Some(text), false) = (value.as_str(), before.contains(&value)) {
                let found = self.regions.look(home, text);
                self.piece(Spot::Key(index, key.into()), found, Loss::Detail, "reasoning", text);
                before.push(value);
            }
        }
        let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (number, call) in calls.iter().enumerate() {
            self.call(index, number, home, &call["function"]);
        }
        for (key, value) in message.as_object().into_iter().flatten() {
            if !KNOWN.contains(&key.as_str()) && !REASONING.contains(&key.as_str()) {
                self.other(index, home, key, value);
            }
        }
    }

    /// Content that is a text; templates may leave out the reasoning that it begins with.
    fn content(&mut self, index: usize, home: usize, what: &'static str, text: &str) {
        let (spot, loss) = (Spot::Content(index), Loss::Meaning);
        // How all of them begin stands in few texts, which is seen sooner.
        let may_end = memchr::memchr2(b'<', b'[', text.as_bytes()).is_some();
        let mut ends = THOUGHT_ENDS.iter().filter(|_| may_end);
        let end = ends.find_map(|end| Some((text.rfind(end)?, end.len())));
        let Some((at, length)) = end else {
            let found = self.look(home, text);
            return self.piece(spot, found, loss, what, text);
        };
        if self.regions.take(home, text.trim()) {
            return self.piece(spot, Certainty::Surely, loss, what, text);
        }
        let (thought, answer) = (&text[..at], &text[at + length..]);
        let begin =
            THOUGHT_BEGINS.iter().find_map(|begin| Some(thought.find(begin)? + begin.len()));
        let thought = &thought[begin.unwrap_or(0)..];
        let found = self.look(home, answer);
        self.piece(spot, found, loss, what, answer);
        if self.regions.look(home, thought) == Certainty::Nowhere {
            let piece = RecordPiece {
                spot: Spot::Thought,
                found: Certainty::Nowhere,
                loss: Loss::Detail,
                what: "reasoning",
                example: example("reasoning", thought),
            };
            self.pieces.push(piece);
        }
    }

    fn call(&mut self, message: usize, number: usize, home: usize, function: &Value) {
        const WHAT: &str = "tool calls";
        let loss = Loss::Meaning;
        let name = function["name"].as_str().unwrap_or_default();
        let found = self.look(home, name);
        self.piece(Spot::CallName(message, number), found, loss, WHAT, name);
        let mut place = 0;
        leaves(&function["arguments"], &mut |leaf| {
            let (text, other) = word(&leaf);
            let mut found = self.regions.look(home, &text);
            if let (Some(other), true) = (other, found != Certainty::Surely) {
                found = self.regions.look(home, other);
            }
            let shown = match leaf {
                Leaf::Key(_) => format!("{name}({text}=…)"),
                Leaf::Value(_) => format!("{name}(…={text})"),
            };
            self.piece(Spot::Argument(message, number, place), found, loss, WHAT, &shown);
            place += 1;
        });
    }

    /// A tool stands between the turns, wherever the template puts it.
    fn tool(&mut self, index: usize, tool: &Value) {
        const WHAT: &str = "tools";
        // Templates that write calls and no tools are made for models that know their tools:
        // DeepSeek-V3 and R1 have such.
        let knows_calls = memmem::find(self.template.source().as_bytes(), b"tool_calls").is_some();
        let loss = if knows_calls { Loss::Detail } else { Loss::Meaning };
        let function = if tool["function"].is_object() { &tool["function"] } else { tool };
        let name = function["name"].as_str().unwrap_or_default();
        let spot = |key: &'static str| Spot::Tool(index, key);
        let found = self.between(name);
        self.piece(spot("name"), found, loss, WHAT, name);
        let about = function["description"].as_str().unwrap_or_default();
        let found = self.between(about);
        self.piece(spot("description"), found, loss, WHAT, about);
        for key in function["parameters"]["properties"].as_object().into_iter().flatten() {
            if self.between(key.0) == Certainty::Nowhere {
                let (found, what) = (Certainty::Nowhere, "parameters of tools");
                self.piece(Spot::Parameter(index), found, Loss::Detail, what, key.0);
            }
        }
    }

    fn between(&mut self, text: &str) -> Certainty {
        let mut best = Certainty::Nowhere;
        for region in (0..self.regions.count()).step_by(2) {
            match self.regions.look(region, text) {
                Certainty::Surely if self.is_scaffold(text) && !text.trim().is_empty() => {
                    return Certainty::Perhaps;
                }
                Certainty::Surely => return Certainty::Surely,
                // It stands in no region of its own, only elsewhere: the next may have it.
                found if region == 0 => best = found,
                _ => {}
            }
            if best == Certainty::Nowhere {
                break; // not in the whole text
            }
        }
        best
    }

    /// Whether a tool of this name was called before a message, which holds its answer.
    fn is_called(&self, index: usize, name: &Value) -> bool {
        let messages = &self.conversation.messages;
        let mut calls = messages[..index].iter().flat_map(|m| m["tool_calls"].as_array()).flatten();
        messages[index]["role"] == "tool" && calls.any(|call| call["function"]["name"] == *name)
    }

    /// A key of a message that only some templates know.
    fn other(&mut self, index: usize, home: usize, key: &str, value: &Value) {
        if key == "name" && self.is_called(index, value) {
            return; // it links an answer to its call, as an id does
        }
        let source = self.template.source().as_bytes();
        let is_asked = memmem::find(source, key.as_bytes()).is_some();
        // What the template does not ask for may stand elsewhere by accident only.
        let is_written = match value.as_str() {
            Some(text) if is_asked => self.regions.look(home, text) != Certainty::Nowhere,
            Some(text) => self.regions.look_for_field(home, key, text),
            None => is_asked,
        };
        if !is_written {
            let piece = RecordPiece {
                spot: Spot::Key(index, key.to_owned()),
                found: Certainty::Nowhere,
                loss: Loss::Detail,
                what: "",
                example: format!("`{key}` of messages"),
            };
            self.pieces.push(piece);
        }
    }

    /// Asks the template about what is not sure.
    fn ask(&mut self) {
        let unsure = |piece: &RecordPiece| match piece.found {
            Certainty::Surely => false,
            Certainty::Perhaps => true,
            Certainty::Nowhere => {
                piece.loss == Loss::Meaning || matches!(piece.spot, Spot::Tool(..))
            }
        };
        let open: Vec<usize> =
            (0..self.pieces.len()).filter(|index| unsure(&self.pieces[*index])).collect();
        if open.is_empty() {
            return;
        }
        let spots: Vec<&Spot> = open.iter().map(|index| &self.pieces[*index].spot).collect();
        let (asked, words) = probe(self.conversation, &spots);
        // Where the template refuses the question, what stands there counts as written. It may
        // write all in capitals.
        let answer = mask::plain(self.template, &asked).ok();
        let answer = answer.map(|answer| answer.text.to_ascii_lowercase());
        for (index, word) in open.into_iter().zip(words) {
            let piece = &mut self.pieces[index];
            let written = match &answer {
                Some(answer) => answer.contains(&word),
                None => piece.found == Certainty::Perhaps,
            };
            piece.found = if written { Certainty::Surely } else { Certainty::Nowhere };
        }
    }

    /// Says what is missing.
    fn settle(mut self) -> Missing {
        self.ask();
        let conversation = self.conversation;
        let mut missing = Missing::default();
        let mut heard = BTreeSet::new();
        // Of a call or a tool that is missing as a whole, its name is enough.
        let (mut calls, mut tools) = (BTreeSet::new(), BTreeSet::new());
        for piece in self.pieces {
            let spoken = match piece.spot {
                Spot::Content(message) | Spot::Part(message, _) | Spot::CallName(message, _) => {
                    Some(message)
                        .filter(|index| conversation.messages[*index]["role"] == "assistant")
                }
                _ => None,
            };
            if piece.found != Certainty::Nowhere {
                heard.extend(spoken.filter(|index| !is_blank(conversation, *index, &piece.spot)));
                continue;
            }
            missing.silent.extend(spoken);
            let told = match piece.spot {
                Spot::CallName(message, call) => !calls.insert((message, call)),
                Spot::Argument(message, call, _) => calls.contains(&(message, call)),
                Spot::Tool(tool, "name") => !tools.insert(tool),
                Spot::Tool(tool, _) | Spot::Parameter(tool) => tools.contains(&tool),
                _ => false,
            };
            if told {
                continue;
            }
            let what = if piece.what.is_empty() { piece.example.as_str() } else { piece.what };
            let unused = Unused::by_template(piece.loss, what, piece.example.clone());
            unused.put(&mut missing.unused);
        }
        missing.silent.retain(|message| !heard.contains(message));
        missing
    }
}

/// Whether the content at a spot says nothing.
fn is_blank(conversation: &Conversation, message: usize, spot: &Spot) -> bool {
    let content = &conversation.messages[message]["content"];
    let text = match spot {
        Spot::Content(_) => content.as_str(),
        Spot::Part(_, number) => content[*number]["text"].as_str(),
        _ => return false,
    };
    text.is_none_or(|text| text.trim().is_empty())
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
