//! `--set key=value`: values from the command line, put over those of the file.

use super::KeyTable;
use super::key::ValueKind;
use super::place::{Origin, Override, Problems, shown};
use super::tree::{Node, Table, Tree, Word, parse_override};
use super::typed;
use crate::error::Error;

/// No key is deeper; longer paths are refused before anything walks along them.
const DEPTH_MAX: usize = 8;

/// Puts the overrides over the table, the last one for a key on top.
///
/// Unknown keys are put in as well, so that the check finds and explains them like any other.
pub(super) fn apply(
    known: &KeyTable,
    table: &mut Table,
    overrides: &[Override],
    problems: &mut Problems,
) {
    for (index, Override { key, value, .. }) in overrides.iter().enumerate() {
        let origin = Origin::Set(index);
        let Some(value) = value else {
            let what = format!("`--set {}` gives no value", shown(key));
            problems.report(origin, Error::config(what).hint("write `--set key=value`"));
            continue;
        };
        let path: Vec<&str> = key.split('.').map(str::trim).collect();
        if path.len() > DEPTH_MAX || path.contains(&"") {
            let error = Error::config(format!("`{}` is no key", shown(key)))
                .hint("a key is a dotted path such as `train.learning_rate`");
            problems.report(origin, error);
            continue;
        }
        let node = read_value(known, &path, value, index);
        let told = match entry_without_number(known, &path) {
            Some(array) => {
                Some(Error::config(format!("`{}` does not say which entry", shown(key))).hint(
                    format!("write `{array}.0{}`, counted from 0", key.trim_start_matches(&array)),
                ))
            }
            None => set(table, &path, node).err().map(|failure| failure.explain(key, &path)),
        };
        if let Some(error) = told {
            problems.report(origin, error);
        }
    }
}

/// The array of tables that a path enters without the number of an entry.
fn entry_without_number(known: &KeyTable, path: &[&str]) -> Option<String> {
    (1..path.len()).find_map(|length| {
        let array = path[..length].join(".");
        let is_tables = known.key(&array).is_some_and(|key| typed::tables(key).is_some());
        (is_tables && !is_number(path[length])).then_some(array)
    })
}

/// Whether a part of a path is the number of an entry, be it one that no array has.
fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Why a value could not be put where its path leads.
enum Failure {
    /// The number is beyond the end of an array of this length.
    Beyond(usize),
    /// Something on the way is neither a table nor an array.
    NoTable,
}

impl Failure {
    fn explain(&self, key: &str, path: &[&str]) -> Error {
        match self {
            Self::Beyond(length) => {
                let array: Vec<&str> =
                    path.iter().copied().take_while(|part| !is_number(part)).collect();
                let array = shown(&array.join("."));
                Error::config(format!("`{}` leads beyond the end of `{array}`", shown(key)))
                    .hint(format!("the next entry is `{array}.{length}`"))
            }
            Self::NoTable => Error::config(format!("`{}` leads into a plain value", shown(key))),
        }
    }
}

/// A value is TOML, else a string. A key that takes only strings takes them without quotes.
fn read_value(known: &KeyTable, path: &[&str], value: &str, index: usize) -> Node {
    let text = || Node { tree: Tree::Text(value.to_owned()), origin: Origin::Set(index) };
    let only_text = known.find(path).is_some_and(|key| {
        matches!(
            key.kind,
            ValueKind::Line | ValueKind::Name | ValueKind::Choice(_) | ValueKind::Rule(_)
        )
    });
    match parse_override(value, index) {
        Some(node) if !only_text || matches!(node.tree, Tree::Text(_)) => node,
        _ => text(),
    }
}

fn set(table: &mut Table, path: &[&str], node: Node) -> Result<(), Failure> {
    let (first, rest) = path.split_first().expect("a path has at least one part");
    let existing = table.iter().position(|(word, _)| word.text == *first);
    let position = existing.unwrap_or_else(|| {
        let tree = match rest.first() {
            Some(next) if is_number(next) => Tree::Array(Vec::new()),
            _ => Tree::Table(Vec::new()),
        };
        let word = Word { text: (*first).to_owned(), origin: node.origin };
        table.push((word, Node { tree, origin: node.origin }));
        table.len() - 1
    });
    let (word, target) = &mut table[position];
    match (rest, &mut target.tree, &node.tree) {
        ([], Tree::Table(inner), Tree::Table(_)) => {
            let Tree::Table(entries) = node.tree else { unreachable!("matched as a table") };
            entries.into_iter().try_for_each(|(word, node)| set(inner, &[&word.text], node))
        }
        ([], _, _) => {
            word.origin = node.origin;
            *target = node;
            Ok(())
        }
        (_, Tree::Table(inner), _) => set(inner, rest, node),
        ([index, rest @ ..], Tree::Array(items), _) if is_number(index) => {
            set_item(items, index, rest, node)
        }
        _ => Err(Failure::NoTable),
    }
}

fn set_item(items: &mut Vec<Node>, index: &str, rest: &[&str], node: Node) -> Result<(), Failure> {
    let position: usize = index.parse().unwrap_or(usize::MAX);
    if position > items.len() {
        return Err(Failure::Beyond(items.len()));
    }
    if position == items.len() {
        items.push(Node { tree: Tree::Table(Vec::new()), origin: node.origin });
    }
    match (&mut items[position].tree, rest) {
        (_, []) => {
            items[position] = node;
            Ok(())
        }
        (Tree::Table(inner), rest) => set(inner, rest, node),
        _ => Err(Failure::NoTable),
    }
}
