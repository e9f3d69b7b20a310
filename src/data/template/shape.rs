//! Which templates write a conversation turn by turn, found in their source.
//!
//! Such a template has one loop over the messages, and what follows the loop does not look at
//! them. So the text of the first turns is what the loop had written when it came to the turn
//! after them, and then what follows the loop; [`super::whole`] gets it from a single rendering.
//! What else in the template may depend on later messages is either not allowed here, or rewritten
//! so that it is noticed when it happens: `loop.last`, slices of the messages, and, without being
//! rewritten, single messages and their number.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{LexemeKind, Tag, Token, tags};

/// The object that notices, by the name under which a rewritten template knows it.
pub const WATCHER: &str = "__turns";
/// These words reach what cannot be noticed, or keep something from one turn to what follows the
/// loop.
const FORBIDDEN: [&str; 8] =
    ["namespace", "debug", "self", "super", "caller", "cycler", "joiner", WATCHER];
/// What `loop` may be asked in a template; the other answers depend on how many turns follow.
const LOOP_FIELDS: [&str; 6] = ["first", "index", "index0", "previtem", "depth", "last"];
/// What may follow the loop where that is to be the same text for all conversations.
const PLAIN_WORDS: [&str; 12] = [
    "if",
    "elif",
    "else",
    "endif",
    "not",
    "and",
    "or",
    "is",
    "defined",
    "none",
    "true",
    "add_generation_prompt",
];

/// A template that writes turn by turn.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its source, in which what depends on later turns is noticed.
    pub source: String,
    /// Whether what follows the loop depends only on whether a generation prompt is asked for.
    pub plain_end: bool,
}

/// The shape of a template, if it writes turn by turn. `special` are names with fixed values.
pub fn shape(source: &str, special: &BTreeMap<String, String>) -> Option<Shape> {
    let tags = tags(source)?;
    let mut reader = Reader {
        watched: BTreeSet::from(["messages"]),
        assigned: BTreeSet::new(),
        blocks: Vec::new(),
        place: Place::Before,
        end: Vec::new(),
        edits: Vec::new(),
    };
    for tag in &tags {
        reader.tag(tag)?;
    }
    if reader.place != Place::After || !reader.blocks.is_empty() {
        return None;
    }
    let fixed = |word: &&str| {
        PLAIN_WORDS.contains(word)
            || (special.contains_key(*word) && !reader.assigned.contains(*word))
    };
    let plain_end = reader.end.iter().all(fixed);
    let mut out = String::with_capacity(source.len() + 64);
    let mut at = 0;
    for (start, end, text) in reader.edits {
        out.push_str(source.get(at..start)?);
        out.push_str(&text);
        at = end;
    }
    out.push_str(source.get(at..)?);
    Some(Shape { source: out, plain_end })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Inside,
    After,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TemplateBlock {
    If,
    For,
    /// The loop over the messages.
    Turns,
}

struct Reader<'a> {
    /// Names of the messages, or of those from some message on.
    watched: BTreeSet<&'a str>,
    assigned: BTreeSet<&'a str>,
    blocks: Vec<TemplateBlock>,
    place: Place,
    /// The words that follow the loop.
    end: Vec<&'a str>,
    /// Replacements in the source, in order.
    edits: Vec<(usize, usize, String)>,
}

impl<'a> Reader<'a> {
    /// Reads a tag; `None` if the template has another shape.
    fn tag(&mut self, tag: &Tag<'a>) -> Option<()> {
        let tokens = tag.tokens.as_slice();
        let after = self.place == Place::After;
        let words =
            tokens.iter().filter(|token| token.kind == LexemeKind::Name).map(|token| token.text);
        let rest = match tag.statement {
            true => self.statement(tokens)?,
            false => tokens,
        };
        for index in 0..rest.len() {
            self.word(rest, index)?;
        }
        if after {
            self.end.extend(words);
        }
        Some(())
    }

    /// Follows blocks and assignments; returns what else is in the tag.
    fn statement<'t>(&mut self, tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
        let (keyword, rest) = tokens.split_first()?;
        match keyword.text {
            "if" => self.blocks.push(TemplateBlock::If),
            "else" if self.blocks.last() == Some(&TemplateBlock::Turns) => return None,
            "elif" | "else" | "break" | "continue" => {}
            "endif" => (self.blocks.pop()? == TemplateBlock::If).then_some(())?,
            "for" => return self.begin_loop(rest),
            "endfor" => match self.blocks.pop()? {
                TemplateBlock::If => return None,
                TemplateBlock::For => {}
                TemplateBlock::Turns => {
                    self.place = Place::After;
                    return rest.is_empty().then_some(rest);
                }
            },
            "set" => return self.assign(rest),
            _ => return None,
        }
        // `if messages` says the same for every prefix that has a message.
        match (keyword.text, rest) {
            ("if" | "elif", [one]) if self.watched.contains(one.text) => self.not_after(&[]),
            _ => Some(rest),
        }
    }

    fn begin_loop<'t>(&mut self, rest: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
        let target = rest.iter().take_while(|token| token.text != "in").count();
        for name in rest.get(..target)?.iter().filter(|token| token.kind == LexemeKind::Name) {
            self.assign_name(name.text)?;
        }
        let over = rest.get(target + 1..)?;
        if let [one] = over
            && self.watched.contains(one.text)
        {
            let outermost = !self.blocks.iter().any(|block| *block != TemplateBlock::If);
            if self.place != Place::Before || !outermost {
                return None;
            }
            self.place = Place::Inside;
            self.blocks.push(TemplateBlock::Turns);
            return Some(&[]);
        }
        self.blocks.push(TemplateBlock::For);
        over.iter().all(|token| token.text != "recursive").then_some(over)
    }

    fn assign<'t>(&mut self, rest: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
        let [name, equals, value @ ..] = rest else { return None };
        if name.kind != LexemeKind::Name || equals.text != "=" {
            return None;
        }
        let texts: Vec<&str> = value.iter().map(|token| token.text).collect();
        let messages = match texts.as_slice() {
            [one] => self.watched.contains(one),
            [one, "[", _, ":", "]"] => self.watched.contains(one),
            _ => false,
        };
        if messages && self.place == Place::Before {
            if !self.watched.contains(name.text) {
                self.assign_name(name.text)?;
            }
            self.watched.insert(name.text);
            return Some(if value.len() == 1 { &[] } else { value });
        }
        self.assign_name(name.text)?;
        Some(value)
    }

    /// A name gets a value that is not the messages.
    fn assign_name(&mut self, name: &'a str) -> Option<()> {
        let own = ["loop", "add_generation_prompt", "tools", "documents"].contains(&name);
        self.assigned.insert(name);
        (!own && !self.watched.contains(name) && !FORBIDDEN.contains(&name)).then_some(())
    }

    fn not_after<'t>(&self, rest: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
        (self.place != Place::After).then_some(rest)
    }

    /// Looks at one token of an expression.
    fn word(&mut self, tokens: &[Token<'a>], index: usize) -> Option<()> {
        let token = tokens.get(index)?;
        let before = index.checked_sub(1).and_then(|index| tokens.get(index));
        if token.kind != LexemeKind::Name
            || before.is_some_and(|token| [".", "|"].contains(&token.text))
        {
            return Some(());
        }
        let after: Vec<&str> = tokens[index + 1..].iter().map(|token| token.text).collect();
        match token.text {
            "loop" => {
                let [".", field, ..] = after.as_slice() else { return None };
                if *field == "last" {
                    let end = tokens.get(index + 2)?.end();
                    self.edits.push((token.at, end, format!("{WATCHER}.last(loop)")));
                }
                LOOP_FIELDS.contains(field).then_some(())
            }
            "add_generation_prompt" => (self.place == Place::After).then_some(()),
            name if FORBIDDEN.contains(&name) => None,
            name if self.watched.contains(name) => {
                self.not_after(&[])?;
                match after.as_slice() {
                    ["[", from, ":", "]", ..] if self.place == Place::Before => {
                        let number = tokens.get(index + 2)?.kind == LexemeKind::Number;
                        let end = tokens.get(index + 4)?.end();
                        let call = format!("{WATCHER}.rest({name}, {from})");
                        self.edits.push((token.at, end, call));
                        number.then_some(())
                    }
                    ["[", inside @ ..] => {
                        let inside = inside.iter().take_while(|text| **text != "]");
                        inside.clone().all(|text| ![":", "["].contains(text)).then_some(())
                    }
                    ["|", "length", ..] => Some(()),
                    // As a condition it holds for every prefix that has a message.
                    ["and", ..] => before
                        .is_none_or(|token| ["not", "and", "or", "("].contains(&token.text))
                        .then_some(()),
                    _ => None,
                }
            }
            _ => Some(()),
        }
    }
}
