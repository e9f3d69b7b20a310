//! What is known of a conversation, what is not, and what is asked of that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::data::template::is_space;
use crate::data::template::json::{JsonStyle, write_record, write_string};
use crate::files::long_integer;

/// Begins and ends what stands for something else.
pub const SIGN: char = '\u{f8ff}';

/// A conversation that a template is followed through.
pub struct Given<'a> {
    /// Its messages, all of them objects.
    pub messages: Vec<Shape>,
    /// Its tools.
    pub tools: Shape,
    /// What it hands over by name.
    pub args: BTreeMap<String, Shape>,
    /// What is not known of it: the answers of these are taken.
    pub holes: Vec<Hole<'static>>,
    /// The special tokens, by name.
    pub special: &'a BTreeMap<String, String>,
}

/// A value of a conversation, with holes for what is not known.
#[derive(Debug, Clone)]
pub enum Shape {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// A text that is known.
    Known(String),
    /// The hole of this number, which has a plain text ([`is_plain`]).
    Text(usize),
    /// The hole of this number, which has a number, a list or an object.
    Opaque(usize),
    /// A list.
    List(Rc<Vec<Shape>>),
    /// An object.
    Object(Rc<Vec<(String, Shape)>>),
}

/// What stands in a hole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Hole<'c> {
    /// A text.
    Text(Cow<'c, str>),
    /// Any other value.
    Value(Cow<'c, Json>),
}

/// A step into a list or an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// To what has this key.
    Key(String),
    /// To the item of this number.
    Item(usize),
}

/// A hole, or what lies in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The number of the hole.
    pub hole: usize,
    /// From there.
    pub path: Vec<Step>,
}

/// What kind of value stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// None.
    Missing,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number,
    /// A plain text.
    Text,
    /// A text of no characters.
    EmptyText,
    /// Any other text.
    OddText,
    /// A list of so many items.
    List(usize),
    /// An object; whether it has any fields.
    Object(bool),
}

/// What stands at a place.
#[derive(Clone, Copy)]
enum Node<'h> {
    Text(&'h str),
    Value(&'h Json),
}

/// Whether a content is not empty, and is the same to every part of the program that looks at it:
/// no whole number in disguise, which begins with a sign, not even without what is before the sign;
/// and no white space that Python alone takes for that.
pub fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(SIGN)
        && long_integer(text).is_none()
        && !text.bytes().any(|byte| matches!(byte, 0x1c..=0x1f))
}

impl Place {
    /// A hole.
    pub fn of(hole: usize) -> Self {
        Self { hole, path: Vec::new() }
    }

    /// What lies in it.
    pub fn then(&self, step: Step) -> Self {
        let path = self.path.iter().cloned().chain([step]).collect();
        Self { hole: self.hole, path }
    }

    fn node<'h>(&self, holes: &'h [Hole]) -> Option<Node<'h>> {
        let mut node = match holes.get(self.hole)? {
            Hole::Text(text) => Node::Text(text),
            Hole::Value(value) => Node::Value(value),
        };
        for step in &self.path {
            let Node::Value(value) = node else { return None };
            node = Node::Value(match step {
                Step::Key(key) => value.as_object()?.get(key)?,
                Step::Item(index) => value.as_array()?.get(*index)?,
            });
        }
        match node {
            Node::Value(Json::String(text)) => Some(Node::Text(text)),
            node => Some(node),
        }
    }

    /// The keys of the object that stands there.
    pub fn keys(&self, holes: &[Hole]) -> Option<Vec<String>> {
        match self.node(holes)? {
            Node::Value(Json::Object(fields)) => Some(fields.keys().cloned().collect()),
            _ => None,
        }
    }

    fn has_keys(&self, holes: &[Hole], keys: &[String]) -> bool {
        match self.node(holes) {
            Some(Node::Value(Json::Object(fields))) => fields.keys().eq(keys),
            _ => false,
        }
    }

    /// What kind of value stands there.
    pub fn kind(&self, holes: &[Hole]) -> Kind {
        match self.node(holes) {
            None => Kind::Missing,
            Some(Node::Text("")) => Kind::EmptyText,
            Some(Node::Text(text)) if is_plain(text) => Kind::Text,
            Some(Node::Text(_) | Node::Value(Json::String(_))) => Kind::OddText,
            Some(Node::Value(Json::Null)) => Kind::Null,
            Some(Node::Value(Json::Bool(truth))) => Kind::Bool(*truth),
            Some(Node::Value(Json::Number(_))) => Kind::Number,
            Some(Node::Value(Json::Array(items))) => Kind::List(items.len()),
            Some(Node::Value(Json::Object(fields))) => Kind::Object(!fields.is_empty()),
        }
    }
}

/// What is taken away at the ends of a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Strip {
    /// At its beginning.
    pub left: bool,
    /// At its end.
    pub right: bool,
    /// These characters; white space where there are none.
    pub of: Option<String>,
}

impl Strip {
    /// What is left of a text.
    pub fn apply<'t>(&self, text: &'t str) -> &'t str {
        let taken = |c: char| self.of.as_ref().map_or_else(|| is_space(c), |of| of.contains(c));
        let text = if self.left { text.trim_start_matches(taken) } else { text };
        if self.right { text.trim_end_matches(taken) } else { text }
    }
}

/// What a template writes of what stands at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// The place.
    pub place: Place,
    /// As JSON of this style, so deep in other JSON; as it is without, which only texts are.
    pub json: Option<(JsonStyle, usize)>,
    /// What is taken away, one after another.
    pub strips: Vec<Strip>,
}

impl Slot {
    /// The text itself.
    pub fn text(place: Place) -> Self {
        Self { place, json: None, strips: Vec::new() }
    }

    /// The hole whose text it is, with nothing else to it.
    pub fn hole(&self) -> Option<usize> {
        (self.json.is_none() && self.place.path.is_empty()).then_some(self.place.hole)
    }

    /// What stands there; nothing where there is another kind of value.
    pub fn of<'h>(&self, holes: &'h [Hole]) -> Option<Cow<'h, str>> {
        let mut out = String::new();
        let text = match (self.place.node(holes)?, &self.json) {
            (Node::Text(text), None) => Cow::Borrowed(text),
            (Node::Value(_), None) => return None,
            (Node::Text(text), Some((style, _))) => {
                write_string(text, style.ascii, &mut out);
                Cow::Owned(out)
            }
            (Node::Value(value), Some((style, depth))) => {
                write_record(value, style, *depth, &mut out);
                Cow::Owned(out)
            }
        };
        Some(match text {
            Cow::Borrowed(text) => Cow::Borrowed(self.stripped(text)),
            Cow::Owned(text) if self.strips.is_empty() => Cow::Owned(text),
            Cow::Owned(text) => Cow::Owned(self.stripped(&text).to_owned()),
        })
    }

    fn stripped<'t>(&self, text: &'t str) -> &'t str {
        self.strips.iter().fold(text, |text, strip| strip.apply(text))
    }
}

/// What a template asks of a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Question {
    /// Whether it is not empty.
    Filled,
    /// Whether this stands in it.
    Holds(String),
    /// Whether it begins so.
    Begins(String),
    /// Whether it ends so.
    Ends(String),
    /// Whether it is this.
    Is(String),
}

impl Question {
    /// The answer for a text.
    pub fn ask(&self, text: &str) -> bool {
        match self {
            Self::Filled => !text.is_empty(),
            Self::Holds(part) => text.contains(part.as_str()),
            Self::Begins(part) => text.starts_with(part.as_str()),
            Self::Ends(part) => text.ends_with(part.as_str()),
            Self::Is(other) => text == other,
        }
    }

    /// Whether the answer is the same for a word and for whatever else may stand for a content to
    /// find out whether it is written.
    pub fn spares_words(&self) -> bool {
        match self {
            Self::Filled => true,
            Self::Holds(part) | Self::Begins(part) | Self::Ends(part) | Self::Is(part) => {
                part.chars().any(|c| c.is_ascii_punctuation())
            }
        }
    }
}

/// What must hold of what is not known for a template to do the same as with what was there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Guard {
    /// A kind of value stands at a place.
    Kind(Place, Kind),
    /// An object with these keys stands there.
    Keys(Place, Vec<String>),
    /// What is written of a place gives this answer.
    Answer(Slot, Question, bool),
}

/// In what a conversation differs from the one that a template was followed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlike {
    /// It has other values somewhere.
    Kind,
    /// One of its texts gives another answer.
    Answer,
}

impl Guard {
    /// Whether it holds.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, holes: &[Hole]) -> Result<(), Unlike> {
        match self {
            Self::Kind(place, kind) if place.kind(holes) == *kind => Ok(()),
            Self::Keys(place, keys) if place.has_keys(holes, keys) => Ok(()),
            Self::Kind(..) | Self::Keys(..) => Err(Unlike::Kind),
            Self::Answer(slot, question, holds) => match slot.of(holes) {
                Some(text) if question.ask(&text) == *holds => Ok(()),
                Some(_) => Err(Unlike::Answer),
                None => Err(Unlike::Kind),
            },
        }
    }
}
