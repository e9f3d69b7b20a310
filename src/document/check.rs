//! The tree against the table of keys: every problem found at once, and checked values.

use std::collections::BTreeSet;

use super::key::{DefaultValue, INTERNAL_KEYS, Key};
use super::key_table::{KeyTable, TableSection};
use super::place::{Origin, Problems, join, shown};
use super::quoted::quoted;
use super::tree::{Node, Table, Tree};
use super::typed;
use super::unknown;
use super::value::Values;
use super::wrong::written;
use crate::error::Error;

/// Checks a whole document. `complete` says that nothing of the file was lost to syntax errors.
pub(super) fn check(
    known: &KeyTable,
    table: &Table,
    complete: bool,
    problems: &mut Problems,
) -> Values {
    let mut check = Check { known, problems, meant: BTreeSet::new() };
    let mut values = Values::default();
    let top = &known.sections()[0];
    for (word, node) in table {
        let section = known.sections().iter().skip(1).find(|section| section.name == word.text);
        match section {
            Some(section) => {
                values.mark_section(section.name, word.origin);
                check.section(section, node, &mut values);
            }
            None => check.entry(&top.keys, "", (word, node), &mut values),
        }
    }
    if complete {
        for section in known.sections() {
            let header = values.section(section.name);
            if (section.only_with.is_some() || section.optional) && header.is_none() {
                continue; // what is missing in it is asked for where it is wanted
            }
            let origin = header.unwrap_or(Origin::File);
            check.missing(&section.keys, section.name, origin, &values);
        }
    }
    values
}

/// Fills in the defaults of all sections; those that a section which was written has for keys of
/// others come first.
pub(super) fn fill_defaults(known: &KeyTable, values: &mut Values) {
    for key in known.keys().filter(|key| matches!(key.default, DefaultValue::Value(_))) {
        let by_section = known.default_by_section(key.path, values);
        if let (None, Some(toml)) = (values.get(key.path), by_section) {
            values.set(key.path, typed::own(key, toml));
        }
    }
    for section in known.sections() {
        typed::set_defaults(values, section.keys.iter().copied());
    }
}

struct Check<'a> {
    known: &'a KeyTable,
    problems: &'a mut Problems,
    /// Keys that a misspelt or misplaced one was meant to be; they are not missing as well.
    meant: BTreeSet<String>,
}

impl Check<'_> {
    fn section(&mut self, section: &TableSection, node: &Node, values: &mut Values) {
        match &node.tree {
            Tree::Table(table) => {
                for (word, node) in table {
                    self.entry(&section.keys, section.name, (word, node), values);
                }
            }
            Tree::Array(items) if items.iter().all(|item| matches!(item.tree, Tree::Table(_))) => {
                let what = format!("`{}` must be one section, not an array", section.name);
                let hint = format!("write `[{}]`, in single brackets, once", section.name);
                self.problems.report(node.origin, Error::config(what).hint(hint));
            }
            _ => {
                let written = written(node);
                let what = format!("`{}` must be a section, not {written}", section.name);
                let mut error = Error::config(what).hint(format!(
                    "write `[{}]` on a line of its own, and its keys below it",
                    section.name
                ));
                if let Some((key, hint)) = section.plain_value {
                    self.meant.insert(key.to_owned());
                    error = error.hint(hint);
                }
                self.problems.report(node.origin, error);
            }
        }
    }

    fn entry(
        &mut self,
        keys: &[&'static Key],
        prefix: &str,
        (word, node): (&super::tree::Word, &Node),
        values: &mut Values,
    ) {
        let Some(key) = keys.iter().copied().find(|key| key.name() == word.text) else {
            if self.problems.full() && !matches!(word.origin, Origin::Set(_)) {
                self.problems.leave_out(1);
                return;
            }
            for found in unknown::explain(self.known, keys, prefix, word, node) {
                self.meant.extend(found.meant);
                self.problems.report(found.origin, found.error);
            }
            return;
        };
        let label = join(prefix, &word.text);
        let empty = matches!(&node.tree, Tree::Array(items) if items.is_empty());
        if !empty || typed::tables(key).is_none() {
            values.mark_given(key.path, node.origin);
        }
        if let (Some((keys, may_be_empty)), Tree::Array(items)) = (typed::tables(key), &node.tree) {
            if empty && !may_be_empty {
                let error = Error::config(format!("`{label}` must not be empty"))
                    .hint(format!("add `[[{label}]]` and below it `{}`", first_line(keys)));
                values.mark_given(key.path, node.origin);
                self.problems.report(node.origin, error);
            }
            let keys: Vec<&'static Key> = keys.iter().collect();
            let tables = items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| self.item(&keys, &format!("{label}.{index}"), item));
            let tables = tables.collect();
            values.insert(key.path, super::value::Value::Tables(tables));
            return;
        }
        match typed::read(key, &label, node) {
            Ok(value) => {
                if key.internal && !typed::is_default(key, &value) && !internal_keys() {
                    let what = format!("`{label}` is a switch of the program's own tests");
                    self.problems.report(node.origin, Error::config(what).hint("remove it"));
                }
                values.insert(key.path, value);
            }
            Err(errors) => {
                for (origin, error) in errors {
                    self.problems.report(origin, error);
                }
            }
        }
    }

    fn item(&mut self, keys: &[&'static Key], label: &str, node: &Node) -> Option<Values> {
        let Tree::Table(table) = &node.tree else {
            let what = format!("`{label}` must be a table, not {}", written(node));
            let first = match &node.tree {
                Tree::Text(text) => quoted(&shown(text)),
                _ => keys[0].example.to_owned(),
            };
            let hint = format!("write `{{ {} = {first} }}`", keys[0].name());
            self.problems.report(node.origin, Error::config(what).hint(hint));
            return None;
        };
        let mut values = Values::within(node.origin);
        for (word, node) in table {
            self.entry(keys, label, (word, node), &mut values);
        }
        self.missing(keys, label, node.origin, &values);
        typed::set_defaults(&mut values, keys.iter().copied());
        Some(values)
    }

    fn missing(&mut self, keys: &[&'static Key], prefix: &str, origin: Origin, values: &Values) {
        for key in keys {
            let label = join(prefix, key.name());
            let given = values.given(key.path).is_some() || self.meant.contains(&label);
            if given || !matches!(key.default, DefaultValue::Required) {
                continue;
            }
            let Some(why) = wanted_because(key, keys, prefix, values) else { continue };
            let hint = match typed::tables(key) {
                Some((keys, _)) => format!("add `[[{label}]]` and below it `{}`", first_line(keys)),
                None if origin == Origin::File && !prefix.is_empty() => {
                    format!("add `[{prefix}]` and below it `{} = {}`", key.name(), key.example)
                }
                None => format!("for instance `{} = {}`", key.name(), key.example),
            };
            let error = Error::config(format!("`{label}` is missing")).hint(hint);
            let error = if why.is_empty() { error } else { error.because(why) };
            self.problems.report(origin, error);
        }
    }
}

/// Why a key is wanted that another one decides about: an empty text for one that always is, `None`
/// for one that is not.
fn wanted_because(key: &Key, keys: &[&Key], prefix: &str, values: &Values) -> Option<String> {
    let Some((decider, wanted)) = key.only_with else { return Some(String::new()) };
    let decider = keys.iter().find(|key| key.path == decider)?;
    let own;
    let word = match (values.word(decider.path), &decider.default) {
        (None, DefaultValue::Value(toml)) => {
            own = typed::own(decider, toml);
            own.word()
        }
        (word, _) => word,
    };
    let word = word.filter(|word| wanted.contains(word))?;
    Some(format!("`{}` is `{word}`", join(prefix, decider.name())))
}

/// The first key of a table, as it could be written.
fn first_line(keys: &[Key]) -> String {
    format!("{} = {}", keys[0].name(), keys[0].example)
}

/// Whether this process is one of the program's own tests.
fn internal_keys() -> bool {
    std::env::var_os(INTERNAL_KEYS).is_some_and(|value| value == "1")
}
