//! Keys that exclude each other, and keys that mean nothing beside the value of another.

use super::key::{DefaultValue, Key, ValueKind, quoted_list};
use super::key_table::KeyTable;
use super::place::{Origin, Problems, Source, join};
use super::typed;
use super::value::Values;
use crate::error::Error;

/// Reports conflicts. Between the file and the command line there is none: the command line wins,
/// and what it makes meaningless is forgotten, so that `--set train.max_steps=5` shortens a run
/// whose file gives `epochs`.
pub(super) fn settle(
    known: &KeyTable,
    values: &mut Values,
    source: &Source,
    problems: &mut Problems,
) {
    let keys: Vec<&'static Key> = known.keys().collect();
    let mut conflicts = Conflicts { source, problems, keys: &keys, prefix: "" };
    conflicts.among_keys(values);
    for section in known.sections() {
        if let (Some(origin), Some((decider, wanted))) =
            (values.section(section.name), section.only_with)
        {
            let needy = (format!("`[{}]`", section.name), origin);
            if conflicts.require(needy, decider, wanted, values) == Required::Overruled {
                values.forget_section(section.name);
                section.keys.iter().for_each(|key| values.forget(key.path));
            }
        }
    }
    for key in &keys {
        let ValueKind::Tables { keys: inner, .. } = &key.kind else { continue };
        let inner: Vec<&'static Key> = inner.iter().collect();
        for (index, table) in values.tables_mut(key.path).iter_mut().enumerate() {
            let prefix = format!("{}.{index}", key.path);
            Conflicts { source, problems, keys: &inner, prefix: &prefix }.among_keys(table);
        }
    }
}

/// What came of a key or section that needs another key to have a certain value.
#[derive(PartialEq)]
enum Required {
    /// It has it, or what is wrong was reported.
    Settled,
    /// The command line has made it meaningless.
    Overruled,
}

/// The conflicts of a document, or of one table in it.
struct Conflicts<'a> {
    source: &'a Source,
    problems: &'a mut Problems,
    keys: &'a [&'static Key],
    /// The path of the table; empty for the document.
    prefix: &'a str,
}

impl Conflicts<'_> {
    fn among_keys(&mut self, values: &mut Values) {
        for key in self.keys {
            for other in key.excludes {
                self.exclude(key.path, other, values);
            }
            if let (Some(origin), Some((decider, wanted))) = (values.given(key.path), key.only_with)
            {
                let needy = (format!("`{}`", join(self.prefix, key.path)), origin);
                if self.require(needy, decider, wanted, values) == Required::Overruled {
                    values.forget(key.path);
                }
            }
        }
    }

    fn exclude(&mut self, one: &'static str, other: &'static str, values: &mut Values) {
        let (Some(here), Some(there)) = (values.given(one), values.given(other)) else { return };
        match (here, there) {
            (Origin::Set(_), Origin::At(_)) => values.forget(other),
            (Origin::At(_), Origin::Set(_)) => values.forget(one),
            _ => {
                let (later, first_path, first) =
                    if here > there { (here, other, there) } else { (there, one, here) };
                let [one, other, first_path] =
                    [one, other, first_path].map(|path| join(self.prefix, path));
                let what = format!("`{one}` and `{other}` exclude each other");
                let first = self.source.show(first);
                let hint = format!("keep one of the two; `{first_path}` is given {first}");
                self.problems.report(later, Error::config(what).hint(hint));
            }
        }
    }

    fn require(
        &mut self,
        (needy, origin): (String, Origin),
        decider: &'static str,
        wanted: &[&str],
        values: &Values,
    ) -> Required {
        let given = values.given(decider);
        let Some(current) = (match (given, values.word(decider)) {
            (_, Some(word)) => Some(word.to_owned()),
            // What was given is no valid choice, which has been reported.
            (Some(_), None) => None,
            (None, None) => self.default_word(decider),
        }) else {
            return Required::Settled;
        };
        if wanted.contains(&current.as_str()) {
            return Required::Settled;
        }
        if matches!((origin, given), (Origin::At(_), Some(Origin::Set(_)))) {
            return Required::Overruled;
        }
        let path = join(self.prefix, decider);
        let what = format!("{needy} means nothing when `{path}` is `{current}`");
        let name = decider.rsplit('.').next().unwrap_or(decider);
        let choice = if wanted.len() > 1 { "one of " } else { "" };
        let hint = format!("remove it, or set `{name}` to {choice}{}", quoted_list(wanted));
        self.problems.report(origin, Error::config(what).hint(hint));
        Required::Settled
    }

    fn default_word(&self, path: &str) -> Option<String> {
        let key = self.keys.iter().find(|key| key.path == path)?;
        match key.default {
            DefaultValue::Value(toml) => typed::own(key, toml).word().map(str::to_owned),
            _ => None,
        }
    }
}
