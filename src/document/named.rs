//! Tables of names that the document makes up, or that are those of the data.

use std::collections::BTreeMap;

use super::key::{NameRule, Range, ValueKind, quoted_list};
use super::place::shown;
use super::tree::{Node, Table, Tree, number};
use super::value::Value;
use super::wrong::{Problem, written, wrong};
use crate::error::{Error, nearest};

/// Longer words are not compared: no name is longer.
const COMPARED_MAX: usize = 128;

/// Column names of ours, each with the name in the records.
pub(super) fn columns(label: &str, table: &Table, names: &[&str]) -> Result<Value, Vec<Problem>> {
    let mut pairs = BTreeMap::new();
    let mut problems = Vec::new();
    for (word, node) in table {
        let label = format!("{label}.{}", shown(&word.text));
        if !names.contains(&word.text.as_str()) {
            let near = nearest(&word.text, names.iter().copied());
            let hint = match near.filter(|_| word.text.len() <= COMPARED_MAX) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("left stands one of {}", quoted_list(names)),
            };
            let what = format!("`{label}` is no column that a shape knows");
            problems.push((word.origin, Error::config(what).hint(hint)));
            continue;
        }
        match &node.tree {
            Tree::Text(text) if !text.is_empty() && !text.contains(char::is_control) => {
                pairs.insert(word.text.clone(), text.clone());
            }
            _ => problems.push((node.origin, wrong(&ValueKind::Line, &label, node))),
        }
    }
    if problems.is_empty() { Ok(Value::Pairs(pairs)) } else { Err(problems) }
}

/// Whether a template can be handed a value by this name; the error says what is wrong with it.
pub(crate) fn argument_name(name: &str) -> Result<(), &'static str> {
    const OURS: [&str; 3] = ["messages", "tools", "add_generation_prompt"];
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("is no name that a template can ask for");
    }
    if OURS.contains(&name) {
        return Err("cannot be set: it comes from the records");
    }
    Ok(())
}

/// Names that a template can ask for, each with a value.
pub(super) fn arguments(label: &str, table: &Table) -> Result<Value, Vec<Problem>> {
    let mut arguments = BTreeMap::new();
    let mut problems = Vec::new();
    for (word, node) in table {
        let label = format!("{label}.{}", shown(&word.text));
        let mut wrong = |origin, what: &str| {
            problems.push((origin, Error::config(format!("`{label}` {what}"))));
        };
        if let Err(why) = argument_name(&word.text) {
            wrong(word.origin, why);
        } else if let Some(value) = argument(&node.tree) {
            arguments.insert(word.text.clone(), value);
        } else {
            let what = format!("must be a string, a number or a boolean, not {}", written(node));
            wrong(node.origin, &what);
        }
    }
    if problems.is_empty() { Ok(Value::Arguments(arguments)) } else { Err(problems) }
}

fn argument(tree: &Tree) -> Option<serde_json::Value> {
    Some(match tree {
        Tree::Text(text) => text.as_str().into(),
        Tree::Boolean(boolean) => (*boolean).into(),
        Tree::Integer(Some(integer), _) => i64::try_from(*integer).ok()?.into(),
        Tree::Float(number, _) if number.is_finite() => (*number + 0.0).into(),
        _ => return None,
    })
}

/// Names, each with a number.
pub(super) fn numbers(label: &str, table: &Table, range: Range) -> Result<Value, Vec<Problem>> {
    let mut numbers = BTreeMap::new();
    let mut problems = Vec::new();
    for (word, node) in table {
        match number(&node.tree).filter(|number| range.contains(*number)) {
            Some(number) => drop(numbers.insert(word.text.clone(), number)),
            None => {
                let label = format!("{label}.{}", shown(&word.text));
                problems.push((node.origin, wrong(&ValueKind::Number(range), &label, node)));
            }
        }
    }
    if problems.is_empty() { Ok(Value::Numbers(numbers)) } else { Err(problems) }
}

/// Names that a rule accepts, each with what `read` makes of its value, which must be of `kind`.
pub(super) fn of_each<T>(
    (label, table): (&str, &Table),
    rule: &NameRule,
    kind: &ValueKind,
    read: impl Fn(&Node) -> Option<T>,
) -> Result<BTreeMap<String, T>, Vec<Problem>> {
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    for (word, node) in table {
        let label = format!("{label}.{}", shown(&word.text));
        if let Err(why) = (rule.check)(&word.text) {
            let what = format!("`{label}` is not one of {}", rule.names);
            problems.push((word.origin, Error::config(what).because(why)));
        }
        match read(node) {
            Some(value) => drop(found.insert(word.text.clone(), value)),
            None => problems.push((node.origin, wrong(kind, &label, node))),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// Names, each with one of a few words.
pub(super) fn choices(
    label: &str,
    table: &Table,
    names: &'static [&'static str],
) -> Result<Value, Vec<Problem>> {
    let mut pairs = BTreeMap::new();
    let mut problems = Vec::new();
    for (word, node) in table {
        match &node.tree {
            Tree::Text(text) if names.contains(&text.as_str()) => {
                pairs.insert(word.text.clone(), text.clone());
            }
            _ => {
                let label = format!("{label}.{}", shown(&word.text));
                problems.push((node.origin, wrong(&ValueKind::Choice(names), &label, node)));
            }
        }
    }
    if problems.is_empty() { Ok(Value::Pairs(pairs)) } else { Err(problems) }
}
