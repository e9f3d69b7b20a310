//! The table of keys of a kind of document: its own, and those that other parts of the program own.
//! All are handed in, so that a new optimizer or adapter changes nothing here.

use std::collections::BTreeMap;

use super::DocumentKind;
use super::effect::Effect;
use super::key::{Key, OwnedKeys, Section, ValueKind};
use super::value::{Value, Values};

/// A setting of another tool that has no key here: tool, name, what takes its place.
pub type Note = (&'static str, &'static str, &'static str);

/// Everything that a kind of document may say.
#[derive(Debug)]
pub struct KeyTable {
    kind: &'static DocumentKind,
    sections: Vec<TableSection>,
    notes: &'static [Note],
    owned: Vec<OwnedKeys>,
}

/// A section with all its keys, whoever they belong to.
#[derive(Debug, Clone)]
pub struct TableSection {
    /// The name in brackets; empty for the keys above the first section.
    pub name: &'static str,
    /// One paragraph for people.
    pub doc: &'static str,
    /// Its keys, in the order in which they are shown.
    pub keys: Vec<&'static Key>,
    /// The section means something only while a key has one of these values.
    pub only_with: Option<(&'static str, &'static [&'static str])>,
    pub(super) optional: bool,
    pub(super) suggested: bool,
    pub(super) plain_value: Option<(&'static str, &'static str)>,
    effect: Option<Effect>,
    defaults: &'static [(&'static str, &'static str)],
}

impl TableSection {
    fn of(section: &Section) -> Self {
        Self {
            name: section.name,
            doc: section.doc,
            keys: section.keys.iter().collect(),
            only_with: section.only_with,
            optional: section.optional,
            suggested: section.suggested,
            plain_value: section.plain_value,
            effect: section.effect,
            defaults: section.defaults,
        }
    }

    /// The keys that people are told of.
    pub fn shown(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied().filter(|key| !key.internal)
    }
}

impl KeyTable {
    /// The keys of a kind of document; its first section holds those above all others.
    pub fn new(kind: &'static DocumentKind, sections: &[Section]) -> Self {
        let sections = sections.iter().map(TableSection::of).collect();
        Self { kind, sections, notes: &[], owned: Vec::new() }
    }

    /// Adds what is said of settings of other tools that have no key here.
    #[must_use]
    pub fn notes_of(self, notes: &'static [Note]) -> Self {
        Self { notes, ..self }
    }

    /// Adds the keys of others in the order in which they are given.
    ///
    /// # Panics
    /// When keys are to stand before a key or a section that does not exist.
    #[must_use]
    pub fn owned_by(self, owned: Vec<OwnedKeys>) -> Self {
        let mut sections = self.sections;
        for OwnedKeys { section, before, .. } in &owned {
            let lost = || panic!("there is no `{before}` in {}", self.kind.what);
            match sections.iter_mut().find(|found| found.name == section.name) {
                Some(found) => {
                    let place = match *before {
                        "" => found.keys.len(),
                        _ => found
                            .keys
                            .iter()
                            .position(|key| key.path == *before)
                            .unwrap_or_else(lost),
                    };
                    drop(found.keys.splice(place..place, section.keys));
                }
                None => {
                    let place = sections.iter().position(|found| found.name == *before);
                    sections.insert(place.unwrap_or_else(lost), TableSection::of(section));
                }
            }
        }
        Self { sections, owned, ..self }
    }

    /// What the document is.
    pub fn kind(&self) -> &'static DocumentKind {
        self.kind
    }

    /// Every section, in the order in which they are shown; the first is the top level.
    pub fn sections(&self) -> &[TableSection] {
        &self.sections
    }

    /// Every key but those inside arrays of tables, in the same order.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.sections.iter().flat_map(|section| section.keys.iter().copied())
    }

    /// The key of this path.
    pub fn key(&self, path: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.path == path)
    }

    /// The key of this path, which may lead into an array of tables: `data.train.0.path`.
    pub(super) fn find(&self, path: &[&str]) -> Option<&'static Key> {
        match path {
            [array @ .., index, name] if index.parse::<usize>().is_ok() => {
                match self.key(&array.join("."))?.kind {
                    ValueKind::Tables { keys, .. } => keys.iter().find(|key| key.path == *name),
                    _ => None,
                }
            }
            _ => self.key(&path.join(".")),
        }
    }

    /// The key that decides about a path, which may lead into an array of tables, or into a table
    /// of names such as `data.train.0.columns.prompt`.
    pub(crate) fn deciding(&self, path: &str) -> Option<&'static Key> {
        let parts: Vec<&str> = path.split('.').collect();
        (1..=parts.len()).rev().find_map(|length| {
            let whole = length == parts.len();
            self.find(&parts[..length]).filter(|key| whole || key.kind.is_table_of_names())
        })
    }

    /// Whether the key of a path takes a string on one line, which may be the path of a file.
    pub(crate) fn is_line(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('.').collect();
        self.find(&parts).is_some_and(|key| matches!(key.kind, ValueKind::Line))
    }

    /// What is said of settings of other tools that have no key here.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &'static Note> {
        self.owned.iter().flat_map(|part| part.notes).chain(self.notes)
    }

    /// What a change of a key does, such as `train.max_steps` or `data.train.0.path`; of one that
    /// is not known, as old checkpoints may have them, the safe one.
    pub fn effect(&self, path: &str) -> Effect {
        self.known_effect(path).unwrap_or(Effect::Weights)
    }

    pub(crate) fn known_effect(&self, path: &str) -> Option<Effect> {
        let section = path.split_once('.').map_or("", |(section, _)| section);
        let section = self.sections.iter().find(|found| found.name == section)?;
        let key = section.keys.iter().find(|key| key.path == path);
        key.and_then(|key| key.effect).or(section.effect)
    }

    /// The default of a key that one of the sections which were written decides, as TOML.
    pub(crate) fn default_by_section(&self, path: &str, values: &Values) -> Option<&'static str> {
        let written = self.sections.iter().filter(|section| values.section(section.name).is_some());
        let mut defaults = written.flat_map(|section| section.defaults);
        defaults.find(|(key, _)| *key == path).map(|(_, toml)| *toml)
    }

    /// The keys that have a value which means something beside the others, in their order.
    pub(super) fn telling<'a>(
        &'a self,
        values: &'a Values,
    ) -> impl Iterator<Item = (&'static Key, &'a Value)> {
        let holds = |condition: Option<(&str, &[&str])>| {
            condition.is_none_or(|(decider, wanted)| {
                values.word(decider).is_some_and(|value| wanted.contains(&value))
            })
        };
        let sections = self.sections.iter().filter(move |section| {
            let is_there = !section.optional || values.has_section(section.name);
            is_there && holds(section.only_with)
        });
        let keys = sections.flat_map(|section| section.keys.iter().copied());
        keys.filter(move |key| holds(key.only_with))
            .filter_map(|key| Some((key, values.get(key.path)?)))
    }

    /// The values that belong to others, as far as they mean something beside the rest.
    pub(crate) fn owned_of(&self, values: &Values) -> Values {
        let mut owned = Values::default();
        for (key, value) in self.telling(values) {
            let owners = self.owned.iter().map(|part| part.section);
            let mut keys = owners.flat_map(|section| section.keys);
            if keys.any(|it| it.path == key.path) {
                owned.insert(key.path, value.clone());
            }
        }
        for section in self.owned.iter().map(|part| part.section).filter(|it| it.optional) {
            if let Some(origin) = values.section(section.name) {
                owned.mark_section(section.name, origin);
            }
        }
        owned
    }

    /// Of values by path, those whose effect passes a test.
    pub(crate) fn having(
        &self,
        resolved: &BTreeMap<String, String>,
        wanted: impl Fn(Effect) -> bool,
    ) -> BTreeMap<String, String> {
        let all = resolved.iter().filter(|(key, _)| wanted(self.effect(key)));
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
