//! A commented config to start from, made from the table of keys.

use super::key::{DefaultValue, Key, ValueKind};
use super::key_table::{KeyTable, TableSection};
use super::schema::description;
use crate::config::device_choice::DeviceChoice;

/// Comments are wrapped before this column.
const WIDTH: usize = 88;

const OPENING: &str = "A Firebrand run. `firebrand plan FILE` says what it would do, `firebrand \
    train FILE` does it. Lines that start with `#` and no space show the default, or an example \
    where the default is not one value; take the `#` away to change it. Paths are relative to the \
    folder where the command is run.";

/// A commented config that trains an adapter: what must be given is given, everything else
/// is there as a comment that shows its default. A line that starts with `#` and no space becomes
/// a setting when the `#` is taken away.
pub fn template(known: &KeyTable) -> String {
    let mut out = String::new();
    comment(&mut out, OPENING);
    for section in known.sections() {
        section_template(&mut out, section);
    }
    out
}

fn section_template(out: &mut String, section: &TableSection) {
    out.push('\n');
    if !section.name.is_empty() {
        let (condition, mark) = match section.only_with {
            Some(needed) => (only_with(needed), "#"),
            None => (String::new(), ""),
        };
        comment(out, &format!("{}{condition}", section.doc));
        line(out, &format!("{mark}[{}]", section.name));
    }
    for (index, key) in section.shown().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        entry(out, key);
    }
}

fn entry(out: &mut String, key: &Key) {
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
        ValueKind::Device => text = format!("{text} One of: {}.", DeviceChoice::NAMES.join(", ")),
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
