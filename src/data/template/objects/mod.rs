//! Values that Python has and the template engine has not: generators, views, methods as values.

pub mod globals;
pub mod methods;
pub mod operators;
pub mod python;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::IntoIter;

use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

use crate::files::long_integer;

/// A range of more numbers is refused, as Jinja's sandbox does.
const MAX_RANGE: i128 = 100_000;

/// Something that is not possible, with the reason.
pub fn refused(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// A value of a record as templates see it.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::String(text) => {
            match long_integer(text).and_then(|digits| digits.parse::<i128>().ok()) {
                Some(number) => Value::from(number),
                None => Value::from(text.as_str()),
            }
        }
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<Value>>()),
        Json::Object(entries) => {
            Value::from_pairs(entries.iter().map(|(key, item)| (key.as_str(), from_json(item))))
        }
        Json::Number(number) => {
            let whole = || number.to_string().parse::<i128>().ok().map(Value::from);
            number
                .as_i64()
                .map(Value::from)
                .or_else(|| number.as_u64().map(Value::from))
                .or_else(|| if number.is_f64() { None } else { whole() })
                .or_else(|| number.as_f64().map(Value::from))
                .unwrap_or_default()
        }
    }
}

/// Whether a value is a dictionary, and not something that the engine treats like one.
pub fn is_dict(value: &Value) -> bool {
    let own = |name: &str| !name.starts_with("minijinja::");
    value.kind() == ValueKind::Map && value.as_object().is_some_and(|map| own(map.type_name()))
}

/// Whether a value has a length and numbered items.
pub fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq => true,
        ValueKind::Map => is_dict(value),
        ValueKind::Iterable => {
            value.len().is_some() && value.downcast_object_ref::<View>().is_none()
        }
        _ => false,
    }
}

/// Whether a value is a list: also what the engine keeps as an unevaluated one.
pub fn is_list(value: &Value) -> bool {
    let lazy = || is_sequence(value) && value.downcast_object_ref::<Range>().is_none();
    match value.kind() {
        ValueKind::Seq => !value.is_tuple(),
        ValueKind::Iterable => lazy(),
        _ => false,
    }
}

/// Whether a value can be gone through.
pub fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Iterable => true,
        ValueKind::Map => is_dict(value) || !is_callable(value),
        _ => false,
    }
}

/// Whether a value is a function of the engine or of ours, and no macro.
pub fn is_function(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().contains("functions::"))
}

/// Whether a value can be called.
pub fn is_callable(value: &Value) -> bool {
    let Some(object) = value.as_object() else { return value.is_undefined() };
    object.type_name().contains("macro_object")
        || is_function(value)
        || value.downcast_object_ref::<Method>().is_some()
        || value.downcast_object_ref::<globals::Joiner>().is_some()
}

/// The items of a value, as a loop takes them.
pub fn items(value: &Value) -> Result<Vec<Value>, Error> {
    if !is_iterable(value) {
        return Err(refused(format!("{} cannot be iterated over", python::type_name(value))));
    }
    Ok(value.try_iter()?.collect())
}

/// What can be gone through once, has no length and is always true.
#[derive(Debug)]
pub struct Generator(Mutex<IntoIter<Value>>);

impl Generator {
    /// A generator of these values.
    pub fn value(items: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(items.into_iter())))
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Value::UNDEFINED)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(Rest(self.clone())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// What is left of a generator.
struct Rest(Arc<Generator>);

impl Iterator for Rest {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// What `keys`, `values` and `items` of a dictionary give: it has a length but no numbered items.
#[derive(Debug)]
pub struct View {
    /// As Python calls its type.
    pub name: &'static str,
    /// What is in it.
    pub items: Vec<Value>,
}

impl View {
    /// The view of a dictionary that its method of this name gives.
    pub fn of(dict: &Value, method: &str) -> Option<Value> {
        let pairs = dict.as_object()?.try_iter_pairs()?;
        let (name, items) = match method {
            "keys" => ("dict_keys", pairs.map(|(key, _)| key).collect()),
            "values" => ("dict_values", pairs.map(|(_, item)| item).collect()),
            _ => {
                let pair = |(key, item)| Value::from(Tuple::from([key, item]));
                ("dict_items", pairs.map(pair).collect())
            }
        };
        Some(Value::from_object(Self { name, items }))
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Value::UNDEFINED)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|this| Box::new(this.items.iter().cloned()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The numbers that `range` gives.
#[derive(Debug)]
pub struct Range {
    start: i128,
    step: i128,
    length: usize,
    /// As Python prints it.
    pub text: String,
}

impl Range {
    /// `range(stop)`, `range(start, stop)` or `range(start, stop, step)`.
    pub fn value(arguments: &[i128]) -> Result<Value, Error> {
        let (start, stop, step) = match *arguments {
            [stop] => (0, stop, 1),
            [start, stop] => (start, stop, 1),
            [start, stop, step] => (start, stop, step),
            _ => return Err(refused("range takes one to three numbers")),
        };
        let bounded = [start, stop, step].iter().all(|number| number.abs() < 1 << 62);
        if step == 0 || !bounded {
            return Err(refused("range with a step of 0, or with numbers that are too large"));
        }
        let length = ((stop - start + step - step.signum()) / step).max(0);
        if length > MAX_RANGE {
            return Err(refused(format!("a range of more than {MAX_RANGE} numbers")));
        }
        let text = match arguments {
            [_, _, step] if *step != 1 => format!("range({start}, {stop}, {step})"),
            _ => format!("range({start}, {stop})"),
        };
        Ok(Value::from_object(Self {
            start,
            step,
            length: usize::try_from(length).unwrap_or(0),
            text,
        }))
    }

    fn at(&self, index: usize) -> Value {
        Value::from(i64::try_from(self.start + self.step * index as i128).unwrap_or(0))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        // The engine counts negative indices from the end before it asks.
        key.as_usize().filter(|index| *index < self.length).map(|index| self.at(index))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let this = self.clone();
        Enumerator::Iter(Box::new((0..self.length).map(move |index| this.at(index))))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.length)
    }
}

/// A method of a dictionary that was not called: `x.items`.
#[derive(Debug)]
pub struct Method {
    /// Whose it is.
    pub of: Value,
    /// Its name.
    pub name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        methods::method(state, &self.of, &self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {} of dict object>", self.name)
    }
}
