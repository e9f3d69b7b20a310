//! A commented document to start from, made from the table of keys.

use super::key::{DefaultValue, Key, ValueKind};
use super::key_table::{KeyTable, TableSection};
use super::schema::description;

/// Comments are wrapped before this column.
const WIDTH: usize = 88;

const OPENING: &str = "Lines that start with `#` and no space show the default, or an example \
    where the default is not one value; take the `#` away to change it.";

/// A commented document: what must be given is given, everything else is there as a comment that
/// shows its default. A line that starts with `#` and no space becomes a setting when the `#` is
/// taken away.
pub fn template(known: &KeyTable) -> String {
    let mut out = String::new();
    let kind = known.kind();
    comment(&mut out, &[kind.opening, OPENING, kind.paths].join(" "));
    let is_table = |key: &&'static Key| matches!(key.kind, ValueKind::Tables { .. });
    let (top, sections) = known.sections().split_first().expect("the first entry is the top level");
    let (tables, plain): (Vec<_>, Vec<_>) = top.shown().partition(is_table);
    if !plain.is_empty() {
        out.push('\n');
        entries(&mut out, &plain, "");
    }
    for section in sections {
        section_template(&mut out, section);
    }
    // `[[tables]]` of the top level end it, so that they come last.
    if !tables.is_empty() {
        out.push('\n');
        entries(&mut out, &tables, "");
    }
    out
}

fn section_template(out: &mut String, section: &TableSection) {
    out.push('\n');
    let condition = section.only_with.map(only_with).unwrap_or_default();
    let left_out = section.optional && !section.suggested;
    let mark = if section.only_with.is_some() || left_out { "#" } else { "" };
    comment(out, &format!("{}{condition}", section.doc));
    line(out, &format!("{mark}[{}]", section.name));
    let keys: Vec<&'static Key> = section.shown().collect();
    entries(out, &keys, if left_out { "#" } else { "" });
}

/// `mark` is what every setting begins with, be it one that must be given.
fn entries(out: &mut String, keys: &[&'static Key], mark: &'static str) {
    for (index, key) in keys.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        entry(out, key, mark);
    }
}

fn entry(out: &mut String, key: &Key, outer: &'static str) {
    if let ValueKind::Tables { keys, .. } = key.kind {
        comment(out, &description(key));
        let mark = if matches!(key.default, DefaultValue::Required) { "" } else { "#" };
        line(out, &format!("{mark}[[{}]]", key.path));
        for inner in keys {
            comment(out, &text(inner));
            let (inner_mark, value) = setting(inner);
            let mark = if mark.is_empty() { inner_mark } else { mark };
            line(out, &format!("{mark}{} = {value}", inner.name()));
        }
        return;
    }
    comment(out, &text(key));
    let (mark, value) = setting(key);
    let mark = if outer.is_empty() { mark } else { outer };
    line(out, &format!("{mark}{} = {value}", key.name()));
}

/// Whether the setting is a comment, and the value that it shows.
fn setting(key: &Key) -> (&'static str, &'static str) {
    match key.default {
        DefaultValue::Required => ("", key.example),
        DefaultValue::Value(toml) => ("#", toml),
        DefaultValue::Absent(_) | DefaultValue::Depends(_) => ("#", key.example),
    }
}

/// The text of a key with its choices and its limits.
fn text(key: &Key) -> String {
    let mut text = description(key);
    match &key.kind {
        ValueKind::Choice(names) if names.len() > 1 => {
            text = format!("{text} One of: {}.", names.join(", "));
        }
        ValueKind::Choices(names) => text = format!("{text} Of: {}.", names.join(", ")),
        ValueKind::Rule(rule) if !rule.names.is_empty() => {
            text = format!("{text} One of: {}.", rule.names.join(", "));
        }
        _ => {}
    }
    if let Some(needed) = key.only_with {
        text += &only_with(needed);
    }
    text
}

/// A sentence, with the space before it.
fn only_with((decider, wanted): (&str, &[&str])) -> String {
    format!(" Only with {decider} = {}.", wanted.join(" or "))
}

fn comment(out: &mut String, text: &str) {
    let mut wrapped = String::from("#");
    for word in text.split_whitespace() {
        if wrapped.chars().count() + 1 + word.chars().count() > WIDTH {
            line(out, &wrapped);
            wrapped = String::from("#");
        }
        wrapped.push(' ');
        wrapped.push_str(word);
    }
    line(out, &wrapped);
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}
