//! What a template asks of what is not known, and the answers that it gets.

use std::rc::Rc;

use super::given::{Guard, Kind, Place, Question, Shape, Slot, Step, Strip};
use super::run::{Run, SIZE_MAX};
use super::value::{Text, TextPart, Value, test, test_of_kind};
use crate::data::template::json::JsonStyle;

/// Objects with more keys are not gone through.
const KEYS_MAX: usize = 256;

impl Run<'_> {
    /// What a content, or what is left of it, answers: as that of the probe does.
    pub(super) fn ask(&mut self, slot: &Slot, question: Question) -> Option<bool> {
        let holds = question.ask(&slot.of(&self.given.holes)?);
        if !question.spares_words() {
            return None;
        }
        // No content is empty.
        if question != Question::Filled || !slot.strips.is_empty() {
            self.guards.insert(Guard::Answer(slot.clone(), question, holds));
        }
        Some(holds)
    }

    /// What kind of value stands at a place: as in the conversation at hand.
    pub(super) fn kind(&mut self, place: &Place) -> Kind {
        let kind = place.kind(&self.given.holes);
        self.guards.insert(Guard::Kind(place.clone(), kind));
        kind
    }

    /// What lies at a place.
    pub(super) fn placed(&mut self, place: Place) -> Option<Value> {
        Some(match self.kind(&place) {
            Kind::Missing => Value::Undefined,
            Kind::Null => Value::None,
            Kind::Bool(truth) => Value::Truth(truth),
            Kind::EmptyText => Value::known(""),
            Kind::Text => Value::Text(Text::slotted(Slot::text(place))),
            Kind::Number | Kind::List(_) | Kind::Object(_) => Value::Opaque(place),
            Kind::OddText => return None,
        })
    }

    /// The items of a list that is not known.
    pub(super) fn items(&mut self, place: &Place) -> Option<Vec<Value>> {
        let Kind::List(count) = self.kind(place) else { return None };
        (0..count.min(SIZE_MAX / 64)).map(|at| self.placed(place.then(Step::Item(at)))).collect()
    }

    /// The fields of a message, or of an object in one.
    pub(super) fn fields<'v>(&'v self, of: &'v Value) -> Option<&'v [(String, Shape)]> {
        match of {
            Value::Message(message) => match self.given.messages.get(*message)? {
                Shape::Object(fields) => Some(fields),
                _ => None,
            },
            Value::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The same: names and values, also of what is not known.
    pub(super) fn pairs(&mut self, of: &Value) -> Option<Value> {
        let pair =
            |(name, value): (String, Value)| Value::List(Rc::new(vec![Value::known(&name), value]));
        let pairs: Vec<(String, Value)> = match of {
            Value::Opaque(place) => {
                let keys = place.keys(&self.given.holes).filter(|keys| keys.len() <= KEYS_MAX)?;
                self.guards.insert(Guard::Keys(place.clone(), keys.clone()));
                let item = |key: String| {
                    let value = self.placed(place.then(Step::Key(key.clone())))?;
                    Some((key, value))
                };
                keys.into_iter().map(item).collect::<Option<_>>()?
            }
            of => {
                let fields = self.fields(of)?.iter();
                fields.map(|(name, shape)| (name.clone(), Value::of(shape))).collect()
            }
        };
        Some(Value::List(Rc::new(pairs.into_iter().map(pair).collect())))
    }

    /// A value as it is printed. Numbers are printed as in JSON.
    pub(super) fn printed(&mut self, value: &Value) -> Option<Text> {
        match value {
            Value::Opaque(place) if self.kind(place) == Kind::Number => {
                let json = Some((JsonStyle::default(), 0));
                Some(Text::slotted(Slot { place: place.clone(), json, strips: Vec::new() }))
            }
            value => value.printed(),
        }
    }

    /// Whether a test holds of a value.
    pub(super) fn test(&mut self, of: &Value, name: &str) -> Option<bool> {
        if let (Value::Opaque(place), None) = (of, test(of, name)) {
            let kind = self.kind(place);
            return test_of_kind(kind, name);
        }
        test(of, name)
    }

    /// Whether a value is true where a condition asks for it.
    pub(super) fn is_true(&mut self, value: &Value) -> Option<bool> {
        match value {
            Value::Undefined | Value::None => Some(false),
            Value::Truth(truth) => Some(*truth),
            Value::Number(number) => Some(*number != 0),
            Value::List(items) => Some(!items.is_empty()),
            Value::Message(_) | Value::Function(_) => Some(true),
            Value::Object(fields) => Some(!fields.is_empty()),
            Value::Opaque(place) => match self.kind(place) {
                Kind::List(count) => Some(count > 0),
                Kind::Object(filled) => Some(filled),
                _ => None,
            },
            Value::Text(text) => match text.fixed() {
                Some(text) => Some(!text.is_empty()),
                None if text.0.iter().any(|it| matches!(it, TextPart::Fixed(_))) => Some(true),
                None => self.ask(text.slot()?, Question::Filled),
            },
            Value::Namespace(_) | Value::Loop(..) | Value::Macro(_) => None,
        }
    }

    /// A text without what is taken away at its ends.
    pub(super) fn stripped(&mut self, text: &Text, strip: &Strip) -> Option<Text> {
        let mut pieces = text.0.clone();
        for left in [true, false] {
            let side = Strip { left, right: !left, of: strip.of.clone() };
            if !(if left { strip.left } else { strip.right }) {
                continue;
            }
            loop {
                let more = pieces.len() > 1;
                let edge = if left { pieces.first_mut() } else { pieces.last_mut() };
                match edge {
                    None => break,
                    Some(TextPart::Fixed(text)) => {
                        *text = side.apply(text).to_owned();
                        if !text.is_empty() {
                            break;
                        }
                    }
                    Some(TextPart::Slot(slot)) => {
                        slot.strips.push(side);
                        let slot = slot.clone();
                        // Of a content that is all taken away, what stands beside it is next.
                        if more && !self.ask(&slot, Question::Filled)? {
                            return None;
                        }
                        break;
                    }
                }
                pieces.remove(if left { 0 } else { pieces.len() - 1 });
            }
        }
        Some(Text(pieces))
    }
}
