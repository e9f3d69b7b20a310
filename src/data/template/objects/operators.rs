//! What stands in a rewritten template (`template/rewrite.rs`) in the place of operators and tests.

use std::cmp::Ordering;

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Rest, Tuple, Value, ValueKind};
use minijinja::{Environment, Error};

use super::python::{self, type_name};
use super::{Method, is_callable, is_dict, is_iterable, is_list, is_sequence, items, refused};

/// A longer string or list is not made by multiplying.
const MAX_REPEATED: usize = 100_000_000;

/// Adds the functions that rewritten operators call, and the tests.
pub fn add(environment: &mut Environment) {
    environment.add_function("__mod", modulo);
    environment.add_function("__mul", multiply);
    environment.add_function("__pos", |value: &Value| signed(value, "+"));
    environment.add_function("__neg", |value: &Value| signed(value, "-"));
    environment.add_function("__chain", chain);
    environment.add_function("__slice", slice);
    environment.add_function("__attr", attribute);
    environment.add_function("__item", item);
    environment.add_function("__in", |a: &Value, b: &Value| contains(b, a));
    environment.add_function("__lt", |a: &Value, b: &Value| ordered(a, b, "<"));
    environment.add_function("__le", |a: &Value, b: &Value| ordered(a, b, "<="));
    environment.add_function("__gt", |a: &Value, b: &Value| ordered(a, b, ">"));
    environment.add_function("__ge", |a: &Value, b: &Value| ordered(a, b, ">="));
    for (names, operator) in [
        (["lt", "lessthan", "<"], "<"),
        (["le", "<=", "<="], "<="),
        (["gt", "greaterthan", ">"], ">"),
        (["ge", ">=", ">="], ">="),
    ] {
        for name in names {
            environment.add_test(name, move |a: &Value, b: &Value| ordered(a, b, operator));
        }
    }
    environment.add_test("in", |a: &Value, b: &Value| contains(b, a));
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("mapping", is_dict);
    environment.add_test("callable", is_callable);
    environment.add_test("odd", |value: &Value| remainder_is(value, &Value::from(2), 1));
    environment.add_test("even", |value: &Value| remainder_is(value, &Value::from(2), 0));
    environment.add_test("divisibleby", |a: &Value, b: &Value| remainder_is(a, b, 0));
    environment.add_test("lower", |value: &Value| cased(value, "islower"));
    environment.add_test("upper", |value: &Value| cased(value, "isupper"));
    for name in ["startingwith", "endingwith", "safe"] {
        environment.remove_test(name);
    }
}

fn cased(value: &Value, method: &str) -> Result<bool, Error> {
    let found = crate::data::template::text::plain(&python::text(value)?, method);
    Ok(found.is_some_and(|found| found.is_true()))
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> Error {
    let (left, right) = (type_name(left), type_name(right));
    refused(format!("`{operator}` cannot be used on {left} and {right}"))
}

/// A number as it is calculated with.
#[derive(Clone, Copy)]
pub enum Number {
    /// `int` and `bool`.
    Whole(i128),
    /// `float`.
    Float(f64),
}

impl Number {
    /// The number that a value is.
    pub fn of(value: &Value) -> Option<Self> {
        match value.kind() {
            ValueKind::Bool => Some(Self::Whole(i128::from(value.is_true()))),
            ValueKind::Number if value.is_integer() => {
                i128::try_from(value.clone()).ok().map(Self::Whole)
            }
            ValueKind::Number => f64::try_from(value.clone()).ok().map(Self::Float),
            _ => None,
        }
    }

    /// As a float.
    pub fn float(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// A whole number as the engine keeps it.
pub fn whole(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

/// `a % b`: of numbers the remainder with the sign of `b`, of a string the formatted string.
fn modulo(left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(pattern) = left.as_str() {
        let arguments: Vec<Value> =
            if right.is_tuple() { items(right)? } else { vec![right.clone()] };
        return percent(pattern, &arguments).map(Value::from);
    }
    match (Number::of(left), Number::of(right)) {
        (Some(Number::Whole(a)), Some(Number::Whole(b))) if b != 0 => {
            let rest = a.checked_rem(b).unwrap_or(0);
            Ok(whole(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
        }
        (Some(a), Some(b)) if b.float() != 0.0 => {
            let (a, b) = (a.float(), b.float());
            let rest = a % b;
            let rest = if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest };
            Ok(Value::from(if rest == 0.0 { 0_f64.copysign(b) } else { rest }))
        }
        (Some(_), Some(_)) => Err(refused("the remainder of a division by zero")),
        _ => Err(unsupported("%", left, right)),
    }
}

/// `pattern % arguments`, and the filter `format`.
pub fn percent(pattern: &str, arguments: &[Value]) -> Result<String, Error> {
    let mapped = pattern.contains("%(");
    let indexed = |value: &Value| value.is_undefined() || is_dict(value) || is_list(value);
    let fields = pattern.replace("%%", "").matches('%').count();
    let all_used = mapped
        || fields == arguments.len()
        || matches!(arguments, [one] if fields == 0 && indexed(one));
    if !all_used {
        return Err(refused("the number of arguments is not that of the format string"));
    }
    if mapped {
        return format(FormatStyle::Printf, pattern, arguments);
    }
    let printed = arguments.iter().map(printable).collect::<Result<Vec<Value>, Error>>()?;
    format(FormatStyle::Printf, pattern, &printed)
}

/// Lists and dictionaries as text, since the engine's formatting writes them differently.
pub fn printable(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            python::text(value).map(Value::from)
        }
        _ => Ok(value.clone()),
    }
}

fn multiply(left: &Value, right: &Value) -> Result<Value, Error> {
    let repeated = |value: &Value| value.as_str().is_some() || value.is_tuple() || is_list(value);
    match (Number::of(left), Number::of(right)) {
        (Some(Number::Whole(a)), Some(Number::Whole(b))) => {
            a.checked_mul(b).map(whole).ok_or_else(|| refused("a number is too large"))
        }
        (Some(a), Some(b)) => Ok(Value::from(a.float() * b.float())),
        (Some(Number::Whole(count)), None) if repeated(right) => repeat(right, count),
        (None, Some(Number::Whole(count))) if repeated(left) => repeat(left, count),
        _ => Err(unsupported("*", left, right)),
    }
}

fn repeat(value: &Value, count: i128) -> Result<Value, Error> {
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let size = value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len);
    if size.checked_mul(count).is_none_or(|all| all > MAX_REPEATED) {
        return Err(refused("what is repeated would become too long"));
    }
    if let Some(text) = value.as_str() {
        return Ok(Value::from(text.repeat(count)));
    }
    let repeated: Vec<Value> = std::iter::repeat_n(items(value)?, count).flatten().collect();
    Ok(if value.is_tuple() { Value::from(Tuple::from(repeated)) } else { Value::from(repeated) })
}

fn signed(value: &Value, sign: &str) -> Result<Value, Error> {
    match Number::of(value) {
        Some(Number::Whole(number)) if sign == "-" => Ok(whole(number.saturating_neg())),
        Some(Number::Float(number)) if sign == "-" => Ok(Value::from(-number)),
        Some(Number::Whole(number)) => Ok(whole(number)),
        Some(Number::Float(number)) => Ok(Value::from(number)),
        None => Err(refused(format!("`{sign}` cannot be used on {}", type_name(value)))),
    }
}

/// `a < b in c …`: values with the operators between them.
fn chain(parts: Rest<Value>) -> Result<bool, Error> {
    for compared in parts.windows(3).step_by(2) {
        let [left, operator, right] = compared else { break };
        let holds = match operator.as_str().unwrap_or_default() {
            "==" => left == right,
            "!=" => left != right,
            "in" => contains(right, left)?,
            "not in" => !contains(right, left)?,
            "<" => ordered(left, right, "<")?,
            "<=" => ordered(left, right, "<=")?,
            ">" => ordered(left, right, ">")?,
            _ => ordered(left, right, ">=")?,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn ordered(left: &Value, right: &Value, operator: &str) -> Result<bool, Error> {
    let Some(order) = compare(left, right).ok_or_else(|| unsupported(operator, left, right))?
    else {
        return Ok(false);
    };
    Ok(match operator {
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

/// How two values are ordered: `None` if Python refuses to compare them, `Some(None)` for NaN.
pub fn compare(left: &Value, right: &Value) -> Option<Option<Ordering>> {
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        return Some(Some(a.cmp(b)));
    }
    match (Number::of(left), Number::of(right)) {
        (Some(Number::Whole(a)), Some(Number::Whole(b))) => return Some(Some(a.cmp(&b))),
        (Some(a), Some(b)) => return Some(a.float().partial_cmp(&b.float())),
        (None, None) => {}
        _ => return None,
    }
    let tuples = left.is_tuple() && right.is_tuple();
    if !tuples && !(is_list(left) && is_list(right)) {
        return None;
    }
    let (a, b) = (items(left).ok()?, items(right).ok()?);
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        Some((a, b)) => compare(a, b),
        None => Some(Some(a.len().cmp(&b.len()))),
    }
}

/// `item in container`.
fn contains(container: &Value, item: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        let part = item.as_str().ok_or_else(|| unsupported("in", item, container))?;
        return Ok(text.contains(part));
    }
    if is_dict(container) {
        if is_list(item) || is_dict(item) {
            return Err(refused(format!("{} cannot be a key", type_name(item))));
        }
        return Ok(container.as_object().is_some_and(|map| map.get_value(item).is_some()));
    }
    if !is_iterable(container) {
        return Err(unsupported("in", item, container));
    }
    Ok(container.try_iter()?.any(|other| other == *item))
}

fn remainder_is(value: &Value, by: &Value, expected: i64) -> Result<bool, Error> {
    Ok(modulo(value, by)? == Value::from(expected))
}

/// `value[start:stop:step]`.
fn slice(value: &Value, bounds: Rest<Value>) -> Result<Value, Error> {
    let list = value.is_tuple() || matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if value.as_str().is_none() && !(list && is_sequence(value)) {
        return Err(refused(format!("{} cannot be sliced", type_name(value))));
    }
    let bound = |index: usize| match bounds.get(index) {
        Some(bound) if !bound.is_none() => match Number::of(bound) {
            Some(Number::Whole(number)) => Ok(Some(number)),
            _ => Err(refused("the bounds of a slice must be whole numbers")),
        },
        _ => Ok(None),
    };
    let (start, stop, step) = (bound(0)?, bound(1)?, bound(2)?);
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(refused("a slice with a step of zero"));
    }
    if let (Some(text), true) = (value.as_str(), step == 1) {
        return Ok(Value::from(part(text, start, stop)));
    }
    let all: Vec<Value> = value.try_iter()?.collect();
    let picked: Vec<Value> =
        indices(all.len(), start, stop, step).map(|index| all[index].clone()).collect();
    Ok(if value.as_str().is_some() {
        Value::from(picked.iter().filter_map(Value::as_str).collect::<String>())
    } else if value.is_tuple() {
        Value::from(Tuple::from(picked))
    } else {
        Value::from(picked)
    })
}

/// A run of characters of a text.
fn part(text: &str, start: Option<i128>, stop: Option<i128>) -> &str {
    let negative = |bound: Option<i128>| bound.is_some_and(|bound| bound < 0);
    let count = if negative(start) || negative(stop) { text.chars().count() } else { usize::MAX };
    let count = i128::try_from(count).unwrap_or(i128::MAX);
    let place = |bound: Option<i128>, missing: usize| match bound {
        None => missing,
        Some(bound) => {
            let index = if bound < 0 { (bound + count).max(0) } else { bound };
            let found = text.char_indices().nth(usize::try_from(index).unwrap_or(usize::MAX));
            found.map_or(text.len(), |(at, _)| at)
        }
    };
    text.get(place(start, 0)..place(stop, text.len())).unwrap_or_default()
}

/// Python's `slice.indices`.
fn indices(
    length: usize,
    start: Option<i128>,
    stop: Option<i128>,
    step: i128,
) -> impl Iterator<Item = usize> {
    let length = i128::try_from(length).unwrap_or(i128::MAX);
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: i128| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        bound.clamp(low, high)
    };
    let start = start.map_or(if step > 0 { low } else { high }, clamp);
    let stop = stop.map_or(if step > 0 { high } else { low }, clamp);
    let next = move |at: &i128| at.checked_add(step);
    std::iter::successors(Some(start), next)
        .take_while(move |at| if step > 0 { *at < stop } else { *at > stop })
        .filter_map(|at| usize::try_from(at).ok())
}

/// `value.name` where `name` is a method of dictionaries: never an entry.
fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if is_dict(value) { Ok(bound(value, name)) } else { value.get_attr(name) }
}

/// `value['name']` where `name` is a method of dictionaries: the method if there is no such entry.
fn item(value: &Value, name: &str) -> Result<Value, Error> {
    let found = value.get_item(&Value::from(name))?;
    if found.is_undefined() && is_dict(value) { Ok(bound(value, name)) } else { Ok(found) }
}

fn bound(value: &Value, name: &str) -> Value {
    Value::from_object(Method { of: value.clone(), name: name.to_owned() })
}
