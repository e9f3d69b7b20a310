//! Jinja's filters, where the engine's own differ from them or are missing.

use std::cmp::Ordering;

use minijinja::filters as engine;
use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State};

use super::objects::operators::{Number, compare, percent, whole};
use super::objects::python::{text, type_name};
use super::objects::{Generator, View, is_dict, is_iterable, is_list, items, refused};
use super::text::is_space;
use super::text::{Pad, capitalize, lines};

/// The filters of the engine that Jinja has not.
const FOREIGN: [&str; 5] = ["lines", "split", "bool", "chain", "zip"];

/// Adds the filters.
pub fn add(environment: &mut Environment) {
    for name in FOREIGN {
        environment.remove_filter(name);
    }
    environment.add_filter("tojson", super::json::tojson);
    environment.add_filter("string", string);
    environment.add_filter("__iter", |value: Value| {
        // The characters of a text as a list, so that a loop knows which is the last.
        let as_it_is = is_iterable(&value) && value.as_str().is_none();
        if as_it_is { Ok(value) } else { items(&value).map(Value::from) }
    });
    environment.add_filter("safe", |value: &Value| text(value).map(Value::from_safe_string));
    for name in ["escape", "e", "forceescape"] {
        environment.add_filter(name, |value: &Value| text(value).map(|text| escape(&text)));
    }
    add_of_text(environment);
    add_of_numbers(environment);
    add_of_lists(environment);
}

/// What a filter was called with, by place or by name.
struct Given<'a>(&'a [Value], &'a Kwargs);

impl Given<'_> {
    fn value(&self, index: usize, name: &'static str) -> Result<Option<Value>, Error> {
        match self.0.get(index) {
            Some(value) => Ok(Some(value.clone())),
            None => self.1.get(name),
        }
    }

    fn truth(&self, index: usize, name: &'static str) -> Result<bool, Error> {
        Ok(self.value(index, name)?.is_some_and(|value| value.is_true()))
    }

    fn whole(&self, index: usize, name: &'static str, missing: i64) -> Result<i64, Error> {
        match self.value(index, name)? {
            None => Ok(missing),
            Some(value) => {
                value.as_i64().ok_or_else(|| refused(format!("`{name}` must be a whole number")))
            }
        }
    }

    fn text(&self, index: usize, name: &'static str) -> Result<Option<String>, Error> {
        self.value(index, name)?.map(|value| text(&value)).transpose()
    }

    /// All arguments are known.
    fn done(&self, most: usize) -> Result<(), Error> {
        if self.0.len() > most {
            return Err(refused(format!("more than {most} arguments for a filter")));
        }
        self.1.assert_all_used()
    }
}

fn string(value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(_) => Ok(value.clone()),
        None => text(value).map(Value::from),
    }
}

fn escape(text: &str) -> Value {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    Value::from_safe_string(out)
}

fn add_of_text(environment: &mut Environment) {
    environment.add_filter("trim", |value: &Value, chars: Option<&Value>| {
        let set = match chars.filter(|chars| !chars.is_none()) {
            Some(chars) => Some(chars.as_str().ok_or_else(|| refused("`trim` takes a string"))?),
            None => None,
        };
        let of = |c: char| set.map_or_else(|| is_space(c), |set| set.contains(c));
        Ok::<_, Error>(match value.as_str() {
            Some(subject) => Value::from(subject.trim_matches(of)),
            None => Value::from(text(value)?.trim_matches(of)),
        })
    });
    environment.add_filter("upper", |value: &Value| Ok::<_, Error>(text(value)?.to_uppercase()));
    environment.add_filter("lower", |value: &Value| Ok::<_, Error>(text(value)?.to_lowercase()));
    environment.add_filter("capitalize", |value: &Value| Ok::<_, Error>(capitalize(&text(value)?)));
    environment
        .add_filter("title", |value: &Value| Ok::<_, Error>(engine::title(text(value)?.into())));
    environment.add_filter("wordcount", |value: &Value| {
        let of = |c: char| !c.is_alphanumeric() && c != '_';
        Ok::<_, Error>(text(value)?.split(of).filter(|word| !word.is_empty()).count())
    });
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("truncate", truncate);
    environment.add_filter("center", |value: &Value, width: Option<usize>| {
        let pad = Pad::of("center", " ").ok_or_else(|| refused("no fill"))?;
        pad.apply(&text(value)?, width.unwrap_or(80)).ok_or_else(|| refused("too wide"))
    });
    environment.add_filter("format", |value: &Value, values: Rest<Value>, named: Kwargs| {
        let pattern = text(value)?;
        let names: Vec<String> = named.args().map(str::to_owned).collect();
        if names.is_empty() {
            return percent(&pattern, &values);
        }
        let mut pairs = Vec::new();
        for name in &names {
            pairs.push((name.as_str(), named.get::<Value>(name)?));
        }
        percent(&pattern, &[Value::from_pairs(pairs)])
    });
    environment.add_filter("urlencode", |value: &Value| {
        let pairs =
            value.as_object().filter(|_| is_dict(value)).and_then(|map| map.try_iter_pairs());
        let Some(pairs) = pairs else { return Ok(quoted(&text(value)?, false)) };
        let pair = |(key, item): (Value, Value)| {
            Ok::<_, Error>(quoted(&text(&key)?, true) + "=" + &quoted(&text(&item)?, true))
        };
        Ok::<_, Error>(pairs.map(pair).collect::<Result<Vec<String>, Error>>()?.join("&"))
    });
    environment.add_filter("pprint", pprint);
}

/// Python's `pprint.pformat` of what fits on a line.
fn pprint(value: &Value) -> Result<String, Error> {
    const WIDTH: usize = 80;
    let mut out = String::new();
    super::objects::python::repr(&sorted(value, 0)?, 0, &mut out)?;
    let words = value.as_str().is_some_and(|text| text.contains(char::is_whitespace));
    let nested = value.as_str().is_none() && value.try_iter().is_ok();
    if out.chars().count() > WIDTH && (nested || words) {
        return Err(refused("`pprint` of more than a line is not supported: use `tojson`"));
    }
    Ok(out)
}

/// A value whose dictionaries have their keys in order.
fn sorted(value: &Value, depth: usize) -> Result<Value, Error> {
    if depth > super::objects::python::MAX_DEPTH {
        return Err(refused("a value is nested too deeply to be printed"));
    }
    let inner = |item: Value| sorted(&item, depth + 1);
    if is_dict(value) {
        let mut pairs = Vec::new();
        for key in value.try_iter()? {
            pairs.push((key.clone(), inner(value.get_item(&key)?)?));
        }
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        return Ok(Value::from_pairs(pairs));
    }
    match value.kind() {
        ValueKind::Seq if value.is_tuple() => {
            let items = value.try_iter()?.map(inner).collect::<Result<Vec<_>, Error>>()?;
            Ok(Value::from(Tuple::from(items)))
        }
        ValueKind::Seq => {
            value.try_iter()?.map(inner).collect::<Result<Vec<_>, Error>>().map(Value::from)
        }
        _ => Ok(value.clone()),
    }
}

/// Text as it stands in an address; in a query, spaces are `+` and slashes are quoted.
fn quoted(text: &str, query: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' if query => out.push('+'),
            b'/' if !query => out.push('/'),
            b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn replace(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let given = Given(&positional, &named);
    let (old, new) = (given.text(0, "old")?, given.text(1, "new")?);
    let count = given.value(2, "count")?.filter(|count| !count.is_none());
    given.done(3)?;
    let (Some(old), Some(new)) = (old, new) else {
        return Err(refused("`replace` takes what to replace and with what"));
    };
    let subject = text(value)?;
    let count = count.and_then(|count| count.as_i64()).unwrap_or(-1);
    Ok(subject.replacen(&old, &new, usize::try_from(count).unwrap_or(usize::MAX)))
}

fn indent(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let given = Given(&positional, &named);
    let by = match given.value(0, "width")? {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let width = width.as_usize().filter(|width| *width <= 1000);
                " ".repeat(width.ok_or_else(|| refused("`indent` takes a small number"))?)
            }
        },
    };
    let (first, blank) = (given.truth(1, "first")?, given.truth(2, "blank")?);
    given.done(3)?;
    let subject =
        value.as_str().ok_or_else(|| refused("`indent` takes a string"))?.to_owned() + "\n";
    let mut out = String::new();
    for (index, line) in lines(&subject, false).into_iter().enumerate() {
        let indented = match index {
            0 => first,
            _ => blank || !line.is_empty(),
        };
        out.push_str(if index > 0 { "\n" } else { "" });
        out.push_str(if indented { &by } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

fn truncate(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let given = Given(&positional, &named);
    let length = usize::try_from(given.whole(0, "length", 255)?).unwrap_or(0);
    let kill_words = given.truth(1, "killwords")?;
    let end = given.text(2, "end")?.unwrap_or_else(|| "...".to_owned());
    let leeway = usize::try_from(given.whole(3, "leeway", 5)?).unwrap_or(0);
    given.done(4)?;
    let size = if value.is_undefined() { Some(0) } else { value.len() };
    let size = size.ok_or_else(|| refused(format!("{} has no length", type_name(value))))?;
    if size <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let subject = value.as_str().ok_or_else(|| refused("`truncate` takes a string"))?;
    let kept = length.checked_sub(end.chars().count());
    let kept = kept.ok_or_else(|| refused("`truncate` to less than its end"))?;
    let head: String = subject.chars().take(kept).collect();
    let head = match head.rfind(' ') {
        Some(at) if !kill_words => &head[..at],
        _ => &head,
    };
    Ok(Value::from(format!("{head}{end}")))
}

fn add_of_numbers(environment: &mut Environment) {
    environment.add_filter("int", |value: &Value, positional: Rest<Value>, named: Kwargs| {
        let given = Given(&positional, &named);
        let missing = given.value(0, "default")?.unwrap_or_else(|| Value::from(0));
        let base = u32::try_from(given.whole(1, "base", 10)?).unwrap_or(10);
        given.done(2)?;
        defined(value)?;
        Ok::<_, Error>(integer(value, base).unwrap_or(missing))
    });
    environment.add_filter("float", |value: &Value, positional: Rest<Value>, named: Kwargs| {
        let given = Given(&positional, &named);
        let missing = given.value(0, "default")?.unwrap_or_else(|| Value::from(0.0));
        given.done(1)?;
        defined(value)?;
        let parsed = || parse_float(value.as_str()?);
        let number = Number::of(value).map(Number::float).or_else(parsed);
        Ok::<_, Error>(number.map_or(missing, Value::from))
    });
    environment.add_filter("abs", |value: &Value| match Number::of(value) {
        Some(Number::Whole(number)) => Ok(whole(number.saturating_abs())),
        Some(Number::Float(number)) => Ok(Value::from(number.abs())),
        None => Err(refused(format!("`abs` cannot be used on {}", type_name(value)))),
    });
    environment.add_filter("round", |value: &Value, positional: Rest<Value>, named: Kwargs| {
        let given = Given(&positional, &named);
        let precision = given.whole(0, "precision", 0)?.clamp(-400, 400);
        let method = given.text(1, "method")?.unwrap_or_else(|| "common".to_owned());
        given.done(2)?;
        round(value, i32::try_from(precision).unwrap_or(0), &method)
    });
}

fn defined(value: &Value) -> Result<(), Error> {
    if value.is_undefined() { Err(refused("an undefined value is not a number")) } else { Ok(()) }
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space).replace('_', "");
    text.parse().ok()
}

/// `int(value)`, and if that fails `int(float(value))`, as Jinja does it.
fn integer(value: &Value, base: u32) -> Option<Value> {
    let truncated = |number: f64| number.is_finite().then(|| whole(number.trunc() as i128));
    if let Some(text) = value.as_str() {
        let plain = text.trim_matches(is_space).replace('_', "").to_lowercase();
        let digits = match base {
            16 => plain.strip_prefix("0x").unwrap_or(&plain),
            8 => plain.strip_prefix("0o").unwrap_or(&plain),
            2 => plain.strip_prefix("0b").unwrap_or(&plain),
            _ => &plain,
        };
        let valid = (2..=36).contains(&base);
        let parsed = valid.then(|| i128::from_str_radix(digits, base).ok()).flatten();
        return parsed.map(whole).or_else(|| truncated(parse_float(text)?));
    }
    match Number::of(value)? {
        Number::Whole(number) => Some(whole(number)),
        Number::Float(number) => truncated(number),
    }
}

fn round(value: &Value, precision: i32, method: &str) -> Result<Value, Error> {
    let number = Number::of(value)
        .ok_or_else(|| refused(format!("`round` cannot be used on {}", type_name(value))))?;
    let scale = 10_f64.powi(precision);
    let directed = number.float() * scale;
    Ok(match (method, number) {
        ("ceil", _) => Value::from(directed.ceil() / scale),
        ("floor", _) => Value::from(directed.floor() / scale),
        ("common", Number::Whole(number)) if precision >= 0 => whole(number),
        ("common", Number::Float(number)) if precision >= 0 => {
            // Rust's formatting rounds exactly, and halves to even, as Python does.
            let digits = usize::try_from(precision).unwrap_or(0);
            Value::from(format!("{number:.digits$}").parse::<f64>().unwrap_or(number))
        }
        ("common", Number::Whole(_)) => whole((directed.round_ties_even() / scale) as i128),
        ("common", Number::Float(_)) => Value::from(directed.round_ties_even() / scale),
        _ => return Err(refused("the method of `round` must be common, ceil or floor")),
    })
}

#[path = "filters_of_lists.rs"]
mod lists;
use lists::add_of_lists;
