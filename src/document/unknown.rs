//! Keys that are not in the table: what they were probably meant to be.

use super::foreign;
use super::key::{Key, quoted_list};
use super::key_table::KeyTable;
use super::place::{Origin, join, shown};
use super::tree::{Node, Tree, Word};
use super::typed;
use crate::error::{Error, nearest};

/// Longer words are not compared: no key is longer, and comparing takes time by their length.
const COMPARED_MAX: usize = 64;

/// An unknown key, explained.
pub(super) struct Unknown {
    pub(super) origin: Origin,
    pub(super) error: Error,
    /// Paths of the keys that it was probably meant to be.
    pub(super) meant: Vec<String>,
}

/// A hint, and the paths of the keys that it names.
struct Guess {
    hint: String,
    meant: Vec<String>,
}

/// Explains a key that is not among `keys`, the keys of the section or table `prefix`.
pub(super) fn explain(
    known: &KeyTable,
    keys: &[&'static Key],
    prefix: &str,
    word: &Word,
    node: &Node,
) -> Vec<Unknown> {
    if prefix.is_empty()
        && let Tree::Table(table) = &node.tree
    {
        return section(known, word, table);
    }
    let place = inside(known, &without_indices(prefix));
    let what = format!("unknown key `{}` {place}", shown(&word.text));
    vec![of(word, what, guess(known, keys, prefix, &word.text))]
}

fn of(word: &Word, what: String, guess: Option<Guess>) -> Unknown {
    let error = Error::config(what);
    match guess {
        Some(Guess { hint, meant }) => {
            Unknown { origin: word.origin, error: error.hint(hint), meant }
        }
        None => Unknown { origin: word.origin, error, meant: Vec::new() },
    }
}

/// An unknown section: its keys are explained one by one where another tool has such a section.
fn section(known: &KeyTable, word: &Word, table: &[(Word, Node)]) -> Vec<Unknown> {
    let is_foreign =
        |(inner, _): &&(Word, Node)| foreign::in_section(known, &word.text, &inner.text);
    if table.iter().any(|entry| is_foreign(&entry)) {
        return table
            .iter()
            .map(|(inner, _)| {
                let place = format!("in `[{}]`", shown(&word.text));
                let what = format!("unknown key `{}` {place}", shown(&inner.text));
                of(inner, what, guess(known, &[], &word.text, &inner.text))
            })
            .collect();
    }
    let guess = if let Some(name) = near(&word.text, section_names(known)) {
        let keys = known.sections().iter().filter(|section| section.name == name);
        let paths = keys.flat_map(|section| &section.keys).map(|key| key.path.to_owned());
        Some(Guess { hint: format!("did you mean `[{name}]`?"), meant: paths.collect() })
    } else {
        Some(elsewhere(known, "", &word.text).unwrap_or_else(|| list_of_sections(known)))
    };
    vec![of(word, format!("unknown section `[{}]`", shown(&word.text)), guess)]
}

fn section_names(known: &KeyTable) -> impl Iterator<Item = &'static str> {
    known.sections().iter().map(|section| section.name).filter(|name| !name.is_empty())
}

fn list_of_sections(known: &KeyTable) -> Guess {
    let tables = known.sections()[0].keys.iter().filter(|key| typed::tables(key).is_some());
    let names: Vec<&str> = section_names(known).chain(tables.map(|key| key.path)).collect();
    Guess { hint: format!("the sections are {}", quoted_list(&names)), meant: Vec::new() }
}

fn guess(known: &KeyTable, keys: &[&'static Key], prefix: &str, word: &str) -> Option<Guess> {
    let section = without_indices(prefix);
    if let Some(found) = elsewhere(known, &section, word) {
        return Some(found);
    }
    let keys: Vec<&Key> = keys.iter().copied().filter(|key| !key.internal).collect();
    if let Some(name) = near(word, keys.iter().map(|key| key.name())) {
        let meant = vec![join(prefix, name)];
        return Some(Guess { hint: format!("did you mean `{name}`?"), meant });
    }
    let places = places(known);
    if let Some(name) = near(word, places.iter().map(|(_, key)| key.name())) {
        let (section, key) = places.iter().find(|(_, key)| key.name() == name)?;
        let path = join(section, key.name());
        return Some(Guess { hint: format!("did you mean `{path}`?"), meant: vec![path] });
    }
    if keys.is_empty() {
        return Some(list_of_sections(known));
    }
    let names: Vec<&str> = keys.iter().map(|key| key.name()).collect();
    let hint = format!("the keys {} are {}", inside(known, &section), quoted_list(&names));
    Some(Guess { hint, meant: Vec::new() })
}

/// A key of another section by exactly this name, or another tool's name for one.
fn elsewhere(known: &KeyTable, prefix: &str, word: &str) -> Option<Guess> {
    let places = places(known);
    let homes: Vec<_> =
        places.iter().filter(|(section, key)| key.name() == word && section != prefix).collect();
    if !homes.is_empty() {
        let owners: Vec<String> = homes.iter().map(|(section, _)| inside(known, section)).collect();
        let meant: Vec<_> = homes.iter().map(|(section, _)| join(section, word)).collect();
        let mut hint = format!("`{word}` belongs {}", owners.join(" or "));
        if !owners.iter().any(|owner| owner.contains("[[")) {
            let paths: Vec<String> = meant.iter().map(|path| format!("`{path}`")).collect();
            hint = format!("{hint}; its full name is {}", paths.join(" or "));
        }
        return Some(Guess { hint, meant });
    }
    for wanted in [join(prefix, word), word.to_owned()] {
        for (section, key) in &places {
            if let Some((tool, name)) = key.names.iter().find(|(_, name)| *name == wanted) {
                let path = join(section, key.name());
                let path = if typed::tables(key).is_some() { format!("[[{path}]]") } else { path };
                let hint = format!("`{name}` is {} name for `{path}`", foreign::possessive(tool));
                let path = path.trim_matches(['[', ']']).to_owned();
                return Some(Guess { hint, meant: vec![path] });
            }
        }
    }
    let note = foreign::note(known, word)?;
    Some(Guess { hint: note, meant: Vec::new() })
}

/// Every key with the section or array of tables that holds it.
fn places(known: &KeyTable) -> Vec<(String, &'static Key)> {
    let mut places = Vec::new();
    for section in known.sections() {
        places.extend(section.shown().map(|key| (section.name.to_owned(), key)));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (path, keys) in known.keys().filter_map(|key| Some((key.path, typed::tables(key)?.0))) {
        // The validation sets have the keys of the training sets; one suggestion is enough.
        let new = keys.iter().filter(|key| !seen.contains(&key.path));
        let new: Vec<_> = new.map(|key| (path.to_owned(), key)).collect();
        seen.extend(new.iter().map(|(_, key)| key.path));
        places.extend(new);
    }
    places
}

fn near<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of one or two letters is the whole word: everything would be near.
    if word.len() < 3 || word.len() > COMPARED_MAX { None } else { nearest(word, names) }
}

/// Where a key stands, to be read after "unknown key" or "belongs".
fn inside(known: &KeyTable, prefix: &str) -> String {
    if prefix.is_empty() {
        return "at the top level".to_owned();
    }
    let is_array = known.keys().any(|key| key.path == prefix && typed::tables(key).is_some());
    if is_array { format!("in `[[{prefix}]]`") } else { format!("in `[{prefix}]`") }
}

fn without_indices(prefix: &str) -> String {
    let parts = prefix.split('.').filter(|part| part.parse::<usize>().is_err());
    parts.collect::<Vec<_>>().join(".")
}
