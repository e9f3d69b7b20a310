//! What becomes of a setting.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::adapters;
use crate::document::key::DefaultValue;
use crate::settings;
use crate::train::Prepared;

/// What is done with a setting.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// It has the same meaning under another name.
    Is(&'static str),
    /// The rows hold what it decides.
    InRows,
    /// It is about this program alone: where things lie, who signs, how memory is used.
    Here,
    /// It has no counterpart, unless it is left at its default.
    Without(&'static str),
    /// Whatever this says.
    Make(fn(&JobSettings, &str) -> Became),
}

/// What a setting has become.
pub(super) enum Became {
    /// These settings of the target.
    Settings(Vec<(String, Json)>),
    /// Nothing is needed.
    Nothing,
    /// Nothing, and something is missing: why.
    Left(String),
}

/// One setting.
pub(super) fn one(name: &str, value: impl Into<Json>) -> Became {
    Became::Settings(vec![(name.to_owned(), value.into())])
}

/// Whether a name in a table is that of a key, or of all keys of a section (`dpo.*`).
pub(super) fn names(name: &str, key: &str) -> bool {
    match name.strip_suffix('*') {
        Some(section) => key.starts_with(section),
        None => name == key,
    }
}

/// The settings of a run, and what was found out for it.
pub(super) struct JobSettings {
    all: BTreeMap<String, String>,
    /// Steps in all.
    pub steps: u64,
    /// Numbers are computed in this.
    pub precision: &'static str,
    /// Rows of a step.
    pub rows: u64,
    /// Whether an adapter is trained, and not all weights.
    pub has_adapter: bool,
    /// The base as others load it, and its revision.
    pub base: (String, Option<String>),
    /// Tokens whose rows are trained, as PEFT has them.
    tokens: Json,
}

impl JobSettings {
    pub fn new(prepared: &Prepared, resolved: &BTreeMap<String, String>) -> Self {
        let (train, adapter) = (&prepared.config().train, &prepared.adapter);
        Self {
            all: resolved.clone(),
            steps: prepared.total_steps,
            precision: prepared.precision.arithmetic.name(),
            rows: (train.micro_batch_size * train.gradient_accumulation_steps) as u64,
            has_adapter: adapter.is_some(),
            base: base_of(prepared),
            tokens: adapter
                .as_ref()
                .map_or(Json::Null, |it| adapters::peft_token_indices(it.settings())),
        }
    }

    /// Paths and values.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of a setting; nothing where it is not set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// It as a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.parse().ok()
    }

    /// The numbers of all tokens whose rows are trained, under this name, as PEFT has them.
    pub fn tokens(&self, name: &str) -> Became {
        if self.tokens.is_null() { Became::Nothing } else { one(name, self.tokens.clone()) }
    }

    /// It as a JSON value.
    pub fn json(&self, key: &str) -> Json {
        json(self.get(key).unwrap_or_default())
    }

    /// What a rule makes of a setting.
    pub fn apply(&self, rule: Rule, key: &str, value: &str) -> Became {
        match rule {
            Rule::Is(name) if !value.is_empty() => one(name, json(value)),
            Rule::Is(_) | Rule::InRows | Rule::Here => Became::Nothing,
            Rule::Without(_) if is_default(key, value) => Became::Nothing,
            Rule::Without(why) => Became::Left(why.to_owned()),
            Rule::Make(make) => make(self, value),
        }
    }
}

/// The base as others load it: by its name on the hub, or by where it lies on this machine.
fn base_of(prepared: &Prepared) -> (String, Option<String>) {
    let base = &prepared.base;
    match base.commit() {
        Some(commit) => (base.id.clone(), Some(commit.to_owned())),
        None => {
            let full = base.path.canonicalize();
            (full.unwrap_or_else(|_| base.path.clone()).display().to_string(), None)
        }
    }
}

/// Whether a setting says what is so without it.
pub(super) fn is_default(key: &str, value: &str) -> bool {
    let plain = |text: &str| text.trim_matches('"').replace('_', "");
    match settings::KEYS.key(key).map(|key| &key.default) {
        Some(DefaultValue::Value(default)) => {
            let number = |text: &str| text.parse::<f64>().ok().map(f64::to_bits);
            plain(default) == plain(value)
                || (number(default).is_some() && number(default) == number(value))
        }
        _ => value.is_empty() || value == "[]" || value == "{}",
    }
}

/// A value as others read it: TOML's numbers, truth values, lists and strings.
pub(super) fn json(value: &str) -> Json {
    crate::document::literal(value).unwrap_or_else(|| Json::String(value.to_owned()))
}
