//! Keys that exclude each other, and keys that mean nothing beside the value of another.

use super::KeyTable;
use super::key::{DefaultValue, quoted_list};
use super::place::{Origin, Problems, Source};
use super::typed;
use super::value::{Value, Values};
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
    for key in known.keys() {
        for other in key.excludes {
            exclude(key.path, other, values, source, problems);
        }
        if let (Some(origin), Some((decider, wanted))) = (values.given(key.path), key.only_with) {
            let needy = (format!("`{}`", key.path), origin);
            if require(known, needy, decider, wanted, values, problems) == Required::Overruled {
                values.forget(key.path);
            }
        }
    }
    for section in known.sections() {
        if let (Some(origin), Some((decider, wanted))) =
            (values.section(section.name), section.only_with)
        {
            let needy = (format!("`[{}]`", section.name), origin);
            if require(known, needy, decider, wanted, values, problems) == Required::Overruled {
                values.forget_section(section.name);
                section.keys.iter().for_each(|key| values.forget(key.path));
            }
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

fn exclude(
    one: &'static str,
    other: &'static str,
    values: &mut Values,
    source: &Source,
    problems: &mut Problems,
) {
    let (Some(here), Some(there)) = (values.given(one), values.given(other)) else { return };
    match (here, there) {
        (Origin::Set(_), Origin::At(_)) => values.forget(other),
        (Origin::At(_), Origin::Set(_)) => values.forget(one),
        _ => {
            let (later, first_path, first) =
                if here > there { (here, other, there) } else { (there, one, here) };
            let what = format!("`{one}` and `{other}` exclude each other");
            let hint =
                format!("keep one of the two; `{first_path}` is given {}", source.show(first));
            problems.report(later, Error::new(what).hint(hint));
        }
    }
}

fn require(
    known: &KeyTable,
    (needy, origin): (String, Origin),
    decider: &'static str,
    wanted: &[&str],
    values: &Values,
    problems: &mut Problems,
) -> Required {
    let given = values.given(decider);
    let Some(current) = (match (given, values.get(decider)) {
        (_, Some(Value::Text(text))) => Some(text.clone()),
        // What was given is no valid choice, which has been reported.
        (Some(_), _) => None,
        (None, _) => default_text(known, decider),
    }) else {
        return Required::Settled;
    };
    if wanted.contains(&current.as_str()) {
        return Required::Settled;
    }
    if matches!((origin, given), (Origin::At(_), Some(Origin::Set(_)))) {
        return Required::Overruled;
    }
    let what = format!("{needy} means nothing when `{decider}` is `{current}`");
    let name = decider.rsplit('.').next().unwrap_or(decider);
    let choice = if wanted.len() > 1 { "one of " } else { "" };
    let hint = format!("remove it, or set `{name}` to {choice}{}", quoted_list(wanted));
    problems.report(origin, Error::new(what).hint(hint));
    Required::Settled
}

fn default_text(known: &KeyTable, path: &str) -> Option<String> {
    let key = known.key(path)?;
    match key.default {
        DefaultValue::Value(toml) => match typed::own(key, toml) {
            Value::Text(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}
