//! Keys that exclude each other, and keys that mean nothing beside the value of another.

use super::key::{DefaultValue, Key, quoted_list};
use super::place::{Origin, Problems, Source};
use super::sections::{KEYS, key};
use super::typed;
use super::value::{Value, Values};
use crate::error::Error;

/// Reports conflicts. Between the file and the command line there is none: the command line wins,
/// and what it makes meaningless is forgotten, so that `--set train.max_steps=5` shortens a run
/// whose file gives `epochs`.
pub(super) fn settle(values: &mut Values, source: &Source, problems: &mut Problems) {
    for key in KEYS.iter() {
        for other in key.excludes {
            exclude(key.path, other, values, source, problems);
        }
        if let Some((decider, wanted)) = key.only_with {
            require(key, decider, wanted, values, problems);
        }
    }
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
    needy: &'static Key,
    decider: &'static str,
    wanted: &[&str],
    values: &mut Values,
    problems: &mut Problems,
) {
    let Some(origin) = values.given(needy.path) else { return };
    let given = values.given(decider);
    let Some(current) = (match (given, values.get(decider)) {
        (_, Some(Value::Text(text))) => Some(text.clone()),
        // What was given is no valid choice, which has been reported.
        (Some(_), _) => None,
        (None, _) => default_text(decider),
    }) else {
        return;
    };
    if wanted.contains(&current.as_str()) {
        return;
    }
    if matches!((origin, given), (Origin::At(_), Some(Origin::Set(_)))) {
        values.forget(needy.path);
        return;
    }
    let what = format!("`{}` means nothing when `{decider}` is `{current}`", needy.path);
    let name = decider.rsplit('.').next().unwrap_or(decider);
    let choice = if wanted.len() > 1 { "one of " } else { "" };
    let hint = format!("remove it, or set `{name}` to {choice}{}", quoted_list(wanted));
    problems.report(origin, Error::new(what).hint(hint));
}

fn default_text(path: &str) -> Option<String> {
    let key = key(path)?;
    match key.default {
        DefaultValue::Value(toml) => match typed::own(key, toml) {
            Value::Text(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}
