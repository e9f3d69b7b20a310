//! Methods of Python's strings, dictionaries and lists.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

use super::operators::{Number, printable};
use super::python::type_name;
use super::{View, is_dict, is_list, items, refused};
use crate::data::template::text::is_space;
use crate::data::template::text::{self, Pad};

/// Methods that change a list or a dictionary; Jinja's sandbox allows none of them.
const CHANGING: [&str; 13] = [
    "append",
    "extend",
    "insert",
    "remove",
    "sort",
    "reverse",
    "add",
    "discard",
    "clear",
    "pop",
    "popitem",
    "setdefault",
    "update",
];

/// Calls a method, as the engine asks for one that it does not know.
pub fn method(
    _state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let (positional, named): (&[Value], Kwargs) = from_args(arguments)?;
    let given = Given { method: name, positional, named };
    if let Some(text) = value.as_str() {
        return of_text(text, &given, arguments);
    }
    let container = is_dict(value) || value.kind() == ValueKind::Seq || is_list(value);
    if container && CHANGING.contains(&name) && (name != "remove" || !is_dict(value)) {
        return Err(refused(format!("`{name}` would change a value, which templates may not do")));
    }
    match value.kind() {
        ValueKind::Map if is_dict(value) => of_dict(value, &given),
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() || is_list(value) => {
            of_list(value, &given)
        }
        ValueKind::Number if name == "is_integer" && !value.is_integer() => {
            let [] = given.take([])?;
            Ok(Value::from(Number::of(value).is_some_and(|number| number.float().fract() == 0.0)))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// The arguments of a call.
pub(super) struct Given<'a> {
    method: &'a str,
    positional: &'a [Value],
    named: Kwargs,
}

impl Given<'_> {
    /// The arguments in their order; those that have a name may be given by it.
    fn take<const N: usize>(&self, names: [&'static str; N]) -> Result<[Option<Value>; N], Error> {
        if self.positional.len() > N {
            return Err(refused(format!("`{}` takes at most {N} arguments", self.method)));
        }
        let mut found = [const { None }; N];
        for (index, name) in names.into_iter().enumerate() {
            found[index] = self.positional.get(index).cloned();
            if found[index].is_none() && !name.is_empty() {
                found[index] = self.named.get(name)?;
            }
        }
        self.named.assert_all_used()?;
        Ok(found)
    }

    fn text(&self, value: Option<&Value>) -> Result<String, Error> {
        let text = value.and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| {
            let found = value.map_or("nothing", type_name);
            refused(format!("`{}` takes a string, {found} was given", self.method))
        })
    }

    /// A string that may be missing or `None`.
    fn optional(&self, value: Option<&Value>) -> Result<Option<String>, Error> {
        value.filter(|value| !value.is_none()).map(|value| self.text(Some(value))).transpose()
    }

    fn number(&self, value: Option<&Value>, missing: i128) -> Result<i128, Error> {
        match value {
            None => Ok(missing),
            Some(value) => match Number::of(value) {
                Some(Number::Whole(number)) => Ok(number),
                _ => {
                    let found = type_name(value);
                    Err(refused(format!("`{}` takes a number, {found} was given", self.method)))
                }
            },
        }
    }
}

fn list(parts: Vec<&str>) -> Value {
    Value::from(parts.into_iter().map(Value::from).collect::<Vec<Value>>())
}

fn of_text(subject: &str, given: &Given, arguments: &[Value]) -> Result<Value, Error> {
    let name = given.method;
    if let Some(found) = text::plain(subject, name) {
        let [] = given.take([])?;
        return Ok(found);
    }
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = given.take([""])?;
            let chars = given.optional(chars.as_ref())?;
            let of = |c: char| chars.as_ref().map_or_else(|| is_space(c), |set| set.contains(c));
            Ok(Value::from(match name {
                "strip" => subject.trim_matches(of),
                "lstrip" => subject.trim_start_matches(of),
                _ => subject.trim_end_matches(of),
            }))
        }
        "split" | "rsplit" => {
            let [separator, limit] = given.take(["sep", "maxsplit"])?;
            let separator = given.optional(separator.as_ref())?;
            let limit = usize::try_from(given.number(limit.as_ref(), -1)?).unwrap_or(usize::MAX);
            text::split(subject, separator.as_deref(), limit, name == "rsplit")
                .map(list)
                .ok_or_else(|| refused("an empty separator"))
        }
        "splitlines" => {
            let [keep] = given.take(["keepends"])?;
            Ok(list(text::lines(subject, keep.is_some_and(|keep| keep.is_true()))))
        }
        "partition" | "rpartition" => {
            let [separator] = given.take([""])?;
            let separator = given.text(separator.as_ref())?;
            let parts = text::partition(subject, &separator, name == "rpartition")
                .ok_or_else(|| refused("an empty separator"))?;
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "replace" => {
            let [old, new, count] = given.take(["", "", "count"])?;
            let (old, new) = (given.text(old.as_ref())?, given.text(new.as_ref())?);
            let count = usize::try_from(given.number(count.as_ref(), -1)?).unwrap_or(usize::MAX);
            Ok(Value::from(subject.replacen(&old, &new, count)))
        }
        "removeprefix" | "removesuffix" => {
            let [part] = given.take([""])?;
            let part = given.text(part.as_ref())?;
            let rest = match name {
                "removeprefix" => subject.strip_prefix(part.as_str()),
                _ => subject.strip_suffix(part.as_str()),
            };
            Ok(Value::from(rest.unwrap_or(subject)))
        }
        _ => made_of_text(subject, given, arguments),
    }
}

/// Methods that put a text together.
fn made_of_text(subject: &str, given: &Given, arguments: &[Value]) -> Result<Value, Error> {
    match given.method {
        "join" => {
            let [parts] = given.take([""])?;
            let parts = items(&parts.unwrap_or_default())?;
            let parts: Vec<String> =
                parts.iter().map(|part| given.text(Some(part))).collect::<Result<_, Error>>()?;
            Ok(Value::from(parts.join(subject)))
        }
        "format" => {
            let simple = !subject.contains(['.', '[']);
            let printed = match simple {
                true => arguments
                    .iter()
                    .map(
                        |value| {
                            if value.is_kwargs() { Ok(value.clone()) } else { printable(value) }
                        },
                    )
                    .collect::<Result<Vec<Value>, Error>>()?,
                false => arguments.to_vec(),
            };
            format(FormatStyle::StrFormat, subject, &printed).map(Value::from)
        }
        name @ ("zfill" | "center" | "ljust" | "rjust") => {
            let [width, fill] = given.take(["", ""])?;
            let width = usize::try_from(given.number(width.as_ref(), 0)?).unwrap_or(0);
            let fill = given.optional(fill.as_ref())?.unwrap_or_else(|| " ".to_owned());
            let pad = Pad::of(name, &fill).ok_or_else(|| refused("one character to fill with"))?;
            pad.apply(subject, width).map(Value::from).ok_or_else(|| refused("too wide"))
        }
        _ => search(subject, given),
    }
}

/// Methods that look for a part of a text, maybe between two places.
fn search(subject: &str, given: &Given) -> Result<Value, Error> {
    let name = given.method;
    let known = ["find", "rfind", "index", "rindex", "count", "startswith", "endswith"];
    if !known.contains(&name) {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    let [part, start, stop] = given.take(["", "", ""])?;
    let bound = |value: &Option<Value>| -> Result<Option<i128>, Error> {
        let value = value.as_ref().filter(|value| !value.is_none());
        value.map(|value| given.number(Some(value), 0)).transpose()
    };
    let window = text::window(subject, bound(&start)?, bound(&stop)?);
    if matches!(name, "startswith" | "endswith") {
        let part = part.unwrap_or_default();
        let parts = if part.is_tuple() { items(&part)? } else { vec![part] };
        let mut found = false;
        for part in &parts {
            let part = given.text(Some(part))?;
            found |= window.is_some_and(|(_, inside)| match name {
                "startswith" => inside.starts_with(&part),
                _ => inside.ends_with(&part),
            });
        }
        return Ok(Value::from(found));
    }
    let part = given.text(part.as_ref())?;
    let Some((before, inside)) = window else {
        return match name {
            "count" => Ok(Value::from(0)),
            "index" | "rindex" => Err(refused("the substring was not found")),
            _ => Ok(Value::from(-1)),
        };
    };
    if name == "count" {
        return Ok(Value::from(inside.matches(&part).count()));
    }
    let found = if name.starts_with('r') { inside.rfind(&part) } else { inside.find(&part) };
    match found {
        Some(at) => Ok(Value::from(before + inside[..at].chars().count())),
        None if name.ends_with("index") => Err(refused("the substring was not found")),
        None => Ok(Value::from(-1)),
    }
}

fn of_dict(dict: &Value, given: &Given) -> Result<Value, Error> {
    match given.method {
        "get" => {
            let [key, missing] = given.take(["", ""])?;
            let key = key.ok_or_else(|| refused("`get` takes a key"))?;
            if is_list(&key) || is_dict(&key) {
                return Err(refused(format!("{} cannot be a key", type_name(&key))));
            }
            let found = dict.as_object().and_then(|map| map.get_value(&key));
            Ok(found.or(missing).unwrap_or_else(|| Value::from(())))
        }
        name @ ("keys" | "values" | "items") => {
            let [] = given.take([])?;
            View::of(dict, name).ok_or_else(|| Error::from(ErrorKind::UnknownMethod))
        }
        "copy" => {
            let [] = given.take([])?;
            Ok(dict.clone())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn of_list(list: &Value, given: &Given) -> Result<Value, Error> {
    match given.method {
        "count" => {
            let [item] = given.take([""])?;
            let item = item.ok_or_else(|| refused("`count` takes a value"))?;
            Ok(Value::from(items(list)?.iter().filter(|other| **other == item).count()))
        }
        "index" => {
            let [item, start, stop] = given.take(["", "", ""])?;
            let item = item.ok_or_else(|| refused("`index` takes a value"))?;
            let all = items(list)?;
            let count = i128::try_from(all.len()).unwrap_or(i128::MAX);
            let place = |value: Option<&Value>, missing: i128| -> Result<usize, Error> {
                let at = given.number(value, missing)?;
                let at = if at < 0 { (at + count).max(0) } else { at.min(count) };
                Ok(usize::try_from(at).unwrap_or(0))
            };
            let (start, stop) = (place(start.as_ref(), 0)?, place(stop.as_ref(), count)?);
            let inside = all.get(start..stop).unwrap_or_default();
            let found = inside.iter().position(|other| *other == item);
            found.map(|at| Value::from(start + at)).ok_or_else(|| refused("it is not in the list"))
        }
        "copy" if !list.is_tuple() => {
            let [] = given.take([])?;
            Ok(list.clone())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
