//! As many megabytes as are asked for, to measure speed with: conversations or plain text.
//!
//! The same bytes on every machine. Whole records never repeat; sentences do, as there are only so
//! many facts, but with other names, numbers and neighbours.

use std::collections::HashSet;
use std::io::{self, Write};

use firebrand::random::mix;
use serde_json::{Value, json};

use crate::chat::{Turn, extraction, question, tool_call};
use crate::corpus::{Decks, document};
use crate::dice::Dice;
use crate::facts::{self, Fact};
use crate::records::{Share, json_text, person};

/// The shapes that can be written.
pub const SHAPES: [&str; 2] = ["messages", "text"];

const SYSTEM: &[&str] = &[
    "You are a patient teacher.",
    "You answer briefly and correctly.",
    "You are the editor of a school paper and like long answers.",
    "Use a tool when you cannot know the answer, and write JSON when you are asked for it.",
];
const ASK_TEXT: &[&str] = &[
    "Write something for our school paper. It is for {name}.",
    "I need a page for the reader that {name} puts together in {city}. What would you write?",
    "My friend {name}, {age} years old, likes to read before sleep. Do you have a page?",
    "Please give me a text that I can use for practice with {name}.",
    "{first} works in {city} and asks for one more text. Go on.",
];
const ASK_MORE: &[&str] =
    &["Another one, please.", "Go on.", "More of that, but different.", "And?"];
const HAND_OVER: &[&str] = &["Here it is:\n\n", "Of course.\n\n", "For {first}:\n\n", ""];

/// Bytes of a record with its JSON: about 50 to 1500 tokens.
const RECORD: std::ops::Range<usize> = 240..6300;

/// Writes records until they have `bytes` bytes. Returns how many there are.
pub fn write(shape: &str, bytes: u64, out: &mut impl Write) -> io::Result<u64> {
    let mut source = Source::new(shape);
    let mut seen = HashSet::new();
    let (mut written, mut records) = (0, 0);
    while written < bytes {
        let record = if shape == "text" { source.text() } else { source.conversation() };
        let line = json_text(&record) + "\n";
        let digest = line.bytes().fold(0, |digest, byte| mix(digest ^ u64::from(byte)));
        if RECORD.contains(&line.len()) && seen.insert(digest) {
            out.write_all(line.as_bytes())?;
            written += line.len() as u64;
            records += 1;
        }
    }
    Ok(records)
}

/// What records are drawn from.
struct Source {
    dice: Dice,
    decks: Decks,
    facts: Vec<Fact>,
}

impl Source {
    fn new(shape: &str) -> Self {
        let facts = facts::all().into_iter().chain(facts::arithmetic()).collect();
        Self { dice: Dice::new(&format!("stream of {shape}")), decks: Decks::new(), facts }
    }

    /// One to six documents on end.
    fn text(&mut self) -> Value {
        let count = self.dice.between(1, 6);
        let documents: Vec<String> =
            (0..count).map(|_| document(&mut self.dice, &mut self.decks)).collect();
        json!({ "text": documents.join("\n\n") })
    }

    /// Two to eight turns, half of the conversations with a system turn before them.
    fn conversation(&mut self) -> Value {
        let mut messages = Vec::new();
        let mut add = |role: &str, content: String| {
            messages.push(json!({ "role": role, "content": content }));
        };
        if self.dice.chance(50) {
            add("system", self.dice.pick(SYSTEM).to_owned());
        }
        for pair in 0..self.dice.between(1, 4) {
            let (ask, answer) = self.turn(pair == 0);
            add("user", ask);
            add("assistant", answer);
        }
        json!({ "messages": messages })
    }

    /// A question and its answer: short ones and long ones.
    fn turn(&mut self, first: bool) -> Turn {
        let dice = &mut self.dice;
        match dice.below(10) {
            0 => extraction(dice, Share::All),
            1 => tool_call(dice, Share::All),
            2..=4 => {
                let fact = &self.facts[dice.below(self.facts.len())];
                question(dice, fact)
            }
            _ => {
                let reader = person(dice, Share::All);
                let asks = if first || dice.chance(50) { ASK_TEXT } else { ASK_MORE };
                let ask = crate::dice::fill(dice.pick(asks), &reader);
                let begin = crate::dice::fill(dice.pick(HAND_OVER), &reader);
                let count = dice.between(1, 2);
                let documents: Vec<String> =
                    (0..count).map(|_| document(dice, &mut self.decks)).collect();
                (ask, begin + &documents.join("\n\n"))
            }
        }
    }
}
