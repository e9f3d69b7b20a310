//! Text in which contents stand that are not known, and what is asked of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::given::{Kind, Place, Shape, Slot};

/// Whether a test holds of a value, whatever contents are in it.
pub fn test(of: &Value, name: &str) -> Option<bool> {
    let object = matches!(of, Value::Message(_) | Value::Object(_));
    let container = object || matches!(of, Value::Text(_) | Value::List(_));
    match (name, of) {
        (_, Value::Namespace(_) | Value::Loop(..) | Value::Macro(_)) => None,
        ("defined", of) => Some(!matches!(of, Value::Undefined)),
        ("undefined", of) => Some(matches!(of, Value::Undefined)),
        ("none", of) => Some(matches!(of, Value::None)),
        ("string", of) => Some(matches!(of, Value::Text(_))),
        (_, Value::Opaque(_)) => None,
        ("mapping", _) => Some(object),
        ("boolean", of) => Some(matches!(of, Value::Truth(_))),
        ("true", of) => Some(matches!(of, Value::Truth(true))),
        ("false", of) => Some(matches!(of, Value::Truth(false))),
        ("iterable" | "sequence", Value::Undefined | Value::Function(_)) => None,
        ("iterable" | "sequence", _) => Some(container),
        _ => None,
    }
}

/// The same of what is not known, by its kind.
pub fn test_of_kind(kind: Kind, name: &str) -> Option<bool> {
    match name {
        "mapping" => Some(matches!(kind, Kind::Object(_))),
        "boolean" | "true" | "false" => Some(false),
        "number" => Some(kind == Kind::Number),
        "iterable" | "sequence" => Some(kind != Kind::Number),
        _ => None,
    }
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPart {
    /// The same for all contents, and not empty.
    Fixed(String),
    /// A content.
    Slot(Slot),
}

/// Pieces one behind the other; no two that are fixed follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(pub Vec<TextPart>);

impl Text {
    /// A text that is known.
    pub fn known(text: &str) -> Self {
        let mut all = Self::default();
        all.push_str(text);
        all
    }

    /// What is written of a place.
    pub fn slotted(slot: Slot) -> Self {
        Self(vec![TextPart::Slot(slot)])
    }

    /// Adds a known text.
    pub fn push_str(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(TextPart::Fixed(last)) => last.push_str(text),
            _ => self.0.push(TextPart::Fixed(text.to_owned())),
        }
    }

    /// Adds a text.
    pub fn push(&mut self, other: &Self) {
        for piece in &other.0 {
            match piece {
                TextPart::Fixed(text) => self.push_str(text),
                slot @ TextPart::Slot(_) => self.0.push(slot.clone()),
            }
        }
    }

    /// The text, if it is known.
    pub fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [TextPart::Fixed(text)] => Some(text),
            _ => None,
        }
    }

    /// The content that it is, if it is nothing else.
    pub fn slot(&self) -> Option<&Slot> {
        match self.0.as_slice() {
            [TextPart::Slot(slot)] => Some(slot),
            _ => None,
        }
    }

    /// How many bytes of it are known, and something for each content.
    pub fn size(&self) -> usize {
        let size =
            |piece: &TextPart| if let TextPart::Fixed(text) = piece { text.len() } else { 64 };
        self.0.iter().map(size).sum()
    }

    /// Whether a text that begins with this one does so for all contents.
    pub fn begins(&self, whole: &Self) -> bool {
        let Some((last, rest)) = self.0.split_last() else { return true };
        whole.0.starts_with(rest)
            && match (last, whole.0.get(rest.len())) {
                (TextPart::Fixed(part), Some(TextPart::Fixed(text))) => {
                    text.starts_with(part.as_str())
                }
                (slot, other) => Some(slot) == other,
            }
    }
}

/// A value of a template.
#[derive(Debug, Clone)]
pub enum Value {
    /// No value.
    Undefined,
    /// `none`.
    None,
    /// `true` or `false`.
    Truth(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(Text),
    /// A list.
    List(Rc<Vec<Value>>),
    /// A message.
    Message(usize),
    /// An object in a message.
    Object(Rc<Vec<(String, Shape)>>),
    /// A number, a list or an object of which more may be asked.
    Opaque(Place),
    /// A namespace.
    Namespace(Rc<RefCell<BTreeMap<String, Value>>>),
    /// What is known of a loop: the place in it, and its items.
    Loop(usize, Rc<Vec<Value>>),
    /// A function of this name.
    Function(&'static str),
    /// A macro, by its number.
    Macro(usize),
}

impl Value {
    /// A text that is known.
    pub fn known(text: &str) -> Self {
        Self::Text(Text::known(text))
    }

    /// A number of things.
    pub fn count(count: usize) -> Option<Self> {
        i64::try_from(count).ok().map(Self::Number)
    }

    /// Whether no other values are in it: what lies in each other has no end.
    pub fn is_flat(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Namespace(_) | Self::Loop(..))
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.size(),
            Self::List(items) => 16 * items.len(),
            _ => 0,
        }
    }

    /// A namespace with these fields.
    pub fn namespace(fields: BTreeMap<String, Self>) -> Self {
        Self::Namespace(Rc::new(RefCell::new(fields)))
    }

    /// A value of a conversation.
    pub fn of(shape: &Shape) -> Self {
        match shape {
            Shape::Null => Self::None,
            Shape::Bool(truth) => Self::Truth(*truth),
            Shape::Number(number) => Self::Number(*number),
            Shape::Known(text) => Self::known(text),
            Shape::Text(hole) => Self::Text(Text::slotted(Slot::text(Place::of(*hole)))),
            Shape::Opaque(hole) => Self::Opaque(Place::of(*hole)),
            Shape::List(items) => Self::List(Rc::new(items.iter().map(Self::of).collect())),
            Shape::Object(fields) => Self::Object(fields.clone()),
        }
    }

    /// As it is printed.
    pub fn printed(&self) -> Option<Text> {
        Some(match self {
            Self::Text(text) => text.clone(),
            Self::Undefined => Text::default(),
            Self::None => Text::known("None"),
            Self::Truth(true) => Text::known("True"),
            Self::Truth(false) => Text::known("False"),
            Self::Number(number) => Text::known(&number.to_string()),
            _ => return None,
        })
    }
}
