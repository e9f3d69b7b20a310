//! What operators, filters, tests and methods make of values that are not all known.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::expression::{Arguments, Expression};
use super::given::{Kind, Question, Step, Strip};
use super::run::{Run, SIZE_MAX};
use super::value::{Text, Value};
use crate::data::template::{environment, text};

/// Methods of dictionaries: what asks a message for one of these is not followed.
const METHODS: [&str; 11] = [
    "get",
    "keys",
    "values",
    "items",
    "copy",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "clear",
    "fromkeys",
];

impl<'a> Run<'a> {
    pub(super) fn field(&mut self, of: &Value, name: &str) -> Option<Value> {
        Some(match of {
            Value::Message(_) | Value::Object(_) | Value::Opaque(_) if METHODS.contains(&name) => {
                return None;
            }
            Value::Message(_) | Value::Object(_) => {
                let found = self.fields(of)?.iter().find(|(key, _)| key == name);
                found.map_or(Value::Undefined, |(_, shape)| Value::of(shape))
            }
            Value::Opaque(place) => match self.kind(place) {
                Kind::Object(_) => self.placed(place.then(Step::Key(name.to_owned())))?,
                _ => return None,
            },
            Value::Namespace(fields) => {
                fields.borrow().get(name).cloned().unwrap_or(Value::Undefined)
            }
            Value::Loop(at, items) => {
                let (at, count) = (*at, items.len());
                match name {
                    "first" => Value::Truth(at == 0),
                    "last" => Value::Truth(at + 1 == count),
                    "index0" => Value::count(at)?,
                    "index" => Value::count(at + 1)?,
                    "length" => Value::count(count)?,
                    "revindex" => Value::count(count - at)?,
                    "revindex0" => Value::count(count - at - 1)?,
                    "previtem" if at == 0 => Value::Undefined,
                    "previtem" => items.get(at - 1)?.clone(),
                    "nextitem" => items.get(at + 1).cloned().unwrap_or(Value::Undefined),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    pub(super) fn item(&mut self, of: &Value, key: &Value) -> Option<Value> {
        match (of, key) {
            (Value::Message(_) | Value::Object(_) | Value::Opaque(_), Value::Text(name)) => {
                self.field(of, name.fixed()?)
            }
            (Value::List(items), Value::Number(number)) => {
                let count = i64::try_from(items.len()).ok()?;
                let at = if *number < 0 { number.checked_add(count)? } else { *number };
                let found = usize::try_from(at).ok().and_then(|at| items.get(at));
                Some(found.cloned().unwrap_or(Value::Undefined))
            }
            _ => None,
        }
    }

    /// `list[from:to]` and `list[::-1]`.
    pub(super) fn slice(
        &mut self,
        of: &'a Expression,
        bounds: &'a [Option<Expression>; 3],
    ) -> Option<Value> {
        let Value::List(items) = self.value(of)? else { return None };
        let mut numbers = [None; 3];
        for (number, bound) in numbers.iter_mut().zip(bounds) {
            *number = match bound.as_ref().map(|bound| self.value(bound)) {
                Some(Some(Value::Number(number))) => Some(number),
                Some(_) => return None,
                None => None,
            };
        }
        let count = i64::try_from(items.len()).ok()?;
        let place = |bound: i64| {
            let bound = if bound < 0 { bound.saturating_add(count) } else { bound };
            usize::try_from(bound.clamp(0, count)).ok()
        };
        let picked: Vec<Value> = match numbers {
            [None, None, Some(-1)] => items.iter().rev().cloned().collect(),
            [from, to, None | Some(1)] => {
                let (from, to) = (place(from.unwrap_or(0))?, place(to.unwrap_or(count))?);
                items.get(from..to.max(from))?.to_vec()
            }
            _ => return None,
        };
        Some(Value::List(Rc::new(picked)))
    }

    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> Option<bool> {
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => {
                let (text, other) = match (left.fixed(), right.fixed()) {
                    (Some(left), Some(right)) => return Some(left == right),
                    (None, Some(other)) => (left, other),
                    (Some(other), None) => (right, other),
                    (None, None) => return None,
                };
                match other.is_empty() {
                    true => self.is_true(&Value::Text(text.clone())).map(|filled| !filled),
                    false => self.ask(text.slot()?, Question::Is(other.to_owned())),
                }
            }
            (Value::Number(left), Value::Number(right)) => Some(left == right),
            (Value::Truth(left), Value::Truth(right)) => Some(left == right),
            (Value::None, Value::None) => Some(true),
            (Value::Text(_), other) | (other, Value::Text(_)) => {
                let plain = matches!(
                    other,
                    Value::Undefined | Value::None | Value::Number(_) | Value::Truth(_)
                );
                plain.then_some(false)
            }
            _ => None,
        }
    }

    fn contains(&mut self, whole: &Value, part: &Value) -> Option<bool> {
        let Value::Text(part) = part else { return None };
        let part = part.fixed()?;
        match whole {
            Value::Text(whole) => match (whole.fixed(), part.is_empty()) {
                (Some(whole), _) => Some(whole.contains(part)),
                (None, true) => Some(true),
                (None, false) => self.ask(whole.slot()?, Question::Holds(part.to_owned())),
            },
            Value::List(items) => {
                let known = |item: &Value| match item {
                    Value::Text(text) => text.fixed().map(|text| text == part),
                    _ => None,
                };
                let found: Option<Vec<bool>> = items.iter().map(known).collect();
                Some(found?.contains(&true))
            }
            Value::Message(_) | Value::Object(_) => {
                Some(self.fields(whole)?.iter().any(|(key, _)| key == part))
            }
            Value::Opaque(place) => match self.kind(place) {
                Kind::Object(_) => {
                    let kind = self.kind(&place.then(Step::Key(part.to_owned())));
                    Some(kind != Kind::Missing)
                }
                _ => None,
            },
            Value::Undefined => Some(false),
            _ => None,
        }
    }

    pub(super) fn binary(&mut self, left: &Value, operator: &str, right: &Value) -> Option<Value> {
        let ordered = |holds: fn(&i64, &i64) -> bool| match (left, right) {
            (Value::Number(left), Value::Number(right)) => Some(Value::Truth(holds(left, right))),
            _ => None,
        };
        match operator {
            "==" => return self.equal(left, right).map(Value::Truth),
            "!=" => return self.equal(left, right).map(|equal| Value::Truth(!equal)),
            "in" => return self.contains(right, left).map(Value::Truth),
            "<" => return ordered(|left, right| left < right),
            "<=" => return ordered(|left, right| left <= right),
            ">" => return ordered(|left, right| left > right),
            ">=" => return ordered(|left, right| left >= right),
            _ => {}
        }
        match (left, operator, right) {
            (Value::Number(left), _, Value::Number(right)) if operator != "~" => {
                let number = match operator {
                    "+" => left.checked_add(*right),
                    "-" => left.checked_sub(*right),
                    "*" => left.checked_mul(*right),
                    "%" if *right > 0 => left.checked_rem_euclid(*right),
                    _ => None,
                };
                number.map(Value::Number)
            }
            (Value::Text(left), "+", Value::Text(right)) => joined(left, right),
            (Value::List(left), "+", Value::List(right)) => {
                let all: Vec<Value> = left.iter().chain(right.iter()).cloned().collect();
                (all.len() <= SIZE_MAX / 64).then(|| Value::List(Rc::new(all)))
            }
            (left, "~", right) => joined(&self.printed(left)?, &self.printed(right)?),
            (left, "+", right) => {
                self.refused =
                    self.cannot_be_added(left, right) || self.cannot_be_added(right, left);
                None
            }
            _ => None,
        }
    }

    /// Whether a text and this other value are nothing that can be put together.
    fn cannot_be_added(&self, text: &Value, other: &Value) -> bool {
        let never = matches!(
            other,
            Value::None
                | Value::Undefined
                | Value::Number(_)
                | Value::Truth(_)
                | Value::List(_)
                | Value::Message(_)
                | Value::Object(_)
                | Value::Opaque(_)
        );
        matches!(text, Value::Text(_)) && never
    }

    pub(super) fn call(&mut self, name: &str, arguments: &'a Arguments) -> Option<Value> {
        let function = self.name(name)?;
        if let Value::Function("namespace") = function {
            let mut fields = BTreeMap::new();
            for (name, value) in &arguments.named {
                let value = self.value(value)?;
                (value.is_flat() || matches!(value, Value::List(_))).then_some(())?;
                fields.insert(name.clone(), value);
            }
            return arguments.positional.is_empty().then(|| Value::namespace(fields));
        }
        let values = self.positional(arguments)?;
        match (function, values.as_slice()) {
            (Value::Function("raise_exception"), [Value::Text(_)]) => {
                self.refused = true;
                None
            }
            (Value::Function("strftime_now"), [Value::Text(format)]) => {
                environment::date(format.fixed()?).ok().map(|date| Value::known(&date))
            }
            (Value::Function("range"), [Value::Number(count)]) => {
                let count = (*count).max(0);
                (count <= 10_000)
                    .then(|| Value::List(Rc::new((0..count).map(Value::Number).collect())))
            }
            (Value::Macro(number), values) => self.call_macro(number, values),
            _ => None,
        }
    }

    /// Arguments of which none has a name.
    fn positional(&mut self, arguments: &'a Arguments) -> Option<Vec<Value>> {
        if !arguments.named.is_empty() {
            return None;
        }
        arguments.positional.iter().map(|argument| self.value(argument)).collect()
    }

    pub(super) fn filter(
        &mut self,
        of: &'a Expression,
        name: &str,
        arguments: &'a Arguments,
    ) -> Option<Value> {
        let of = self.value(of)?;
        if name == "tojson" {
            return self.write_json(&of, arguments);
        }
        let values = self.positional(arguments)?;
        match (name, &of, values.as_slice()) {
            ("trim", Value::Text(text), []) => self.strip(text, "strip", None),
            ("trim", Value::Text(text), [Value::Text(set)]) => {
                self.strip(text, "strip", Some(set.fixed()?))
            }
            ("length" | "count", Value::List(items), []) => Value::count(items.len()),
            ("length" | "count", Value::Opaque(place), []) => match self.kind(place) {
                Kind::List(count) => Value::count(count),
                _ => None,
            },
            ("items", of, []) => self.pairs(of),
            ("string", Value::Opaque(_) | Value::Number(_), []) => {
                self.printed(&of).map(Value::Text)
            }
            ("default", Value::Undefined, [missing]) => Some(missing.clone()),
            ("default", Value::Text(_) | Value::Truth(_) | Value::Number(_), [_]) => Some(of),
            ("string", Value::Text(_), []) | ("list", Value::List(_), []) => Some(of),
            ("first", Value::List(items), []) => items.first().cloned(),
            ("last", Value::List(items), []) => items.last().cloned(),
            ("upper" | "lower", Value::Text(text), []) => changed(text, name),
            ("capitalize", Value::Text(text), []) => {
                Some(Value::known(&text::capitalize(text.fixed()?)))
            }
            ("selectattr" | "rejectattr", Value::List(items), [Value::Text(key), test, value]) => {
                let (Value::Text(test), true) = (test, matches!(value, Value::Text(_))) else {
                    return None;
                };
                ["equalto", "eq", "=="].contains(&test.fixed()?).then_some(())?;
                let mut kept = Vec::new();
                for item in items.iter() {
                    self.fields(item)?;
                    let found = self.field(item, key.fixed()?)?;
                    let equal = self.equal(&found, value)?;
                    kept.extend((equal == (name == "selectattr")).then(|| item.clone()));
                }
                Some(Value::List(Rc::new(kept)))
            }
            _ => None,
        }
    }

    fn strip(&mut self, text: &Text, name: &str, set: Option<&str>) -> Option<Value> {
        let strip =
            Strip { left: name != "rstrip", right: name != "lstrip", of: set.map(str::to_owned) };
        self.stripped(text, &strip).map(Value::Text)
    }

    pub(super) fn method(
        &mut self,
        of: &'a Expression,
        name: &str,
        arguments: &'a Arguments,
    ) -> Option<Value> {
        let of = self.value(of)?;
        let values = self.positional(arguments)?;
        let text = match (&of, values.as_slice()) {
            (Value::Text(text), _) => text,
            (of, []) if name == "items" => return self.pairs(of),
            (
                Value::Message(_) | Value::Object(_) | Value::Opaque(_),
                [Value::Text(key), rest @ ..],
            ) if name == "get" && rest.len() < 2 => {
                return Some(match (self.item(&of, &Value::known(key.fixed()?))?, rest) {
                    (Value::Undefined, []) => Value::None,
                    (Value::Undefined, [missing, ..]) => missing.clone(),
                    (found, _) => found,
                });
            }
            _ => return None,
        };
        match (name, values.as_slice()) {
            ("strip" | "lstrip" | "rstrip", []) => self.strip(text, name, None),
            ("strip" | "lstrip" | "rstrip", [Value::Text(set)]) => {
                self.strip(text, name, Some(set.fixed()?))
            }
            ("upper" | "lower" | "capitalize" | "title", []) => changed(text, name),
            ("startswith" | "endswith", [Value::Text(part)]) => {
                let part = part.fixed()?.to_owned();
                let question = match name {
                    "startswith" => Question::Begins(part),
                    _ => Question::Ends(part),
                };
                match text.fixed() {
                    Some(text) => Some(Value::Truth(question.ask(text))),
                    None => self.ask(text.slot()?, question).map(Value::Truth),
                }
            }
            ("split" | "replace", [Value::Text(part), rest @ ..]) => {
                let part = part.fixed().filter(|part| !part.is_empty())?;
                let holds = match text.fixed() {
                    Some(text) => text.contains(part),
                    None => self.ask(text.slot()?, Question::Holds(part.to_owned()))?,
                };
                match (name, rest, holds) {
                    ("split", [], false) => Some(Value::List(Rc::new(vec![of]))),
                    ("replace", [Value::Text(_)], false) => Some(of),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn joined(left: &Text, right: &Text) -> Option<Value> {
    let mut all = left.clone();
    all.push(right);
    (all.size() <= SIZE_MAX).then_some(Value::Text(all))
}

/// What a method without arguments makes of a text that is known.
fn changed(text: &Text, method: &str) -> Option<Value> {
    let changed = text::plain(text.fixed()?, method)?;
    changed.as_str().map(Value::known)
}
