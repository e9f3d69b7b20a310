//! What a run is: a checkpoint is continued by the same run, or by one whose changes were allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::document::Effect;
use crate::files::Digest;
use crate::settings::effect_of;

/// What determines a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Digest of the settings that decide numbers.
    pub config: Digest,
    /// Those settings, path and value; empty in checkpoints of before they were kept.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Digest over the base model's files.
    pub base: Digest,
    /// Digest over the data files.
    pub data: Digest,
    /// Digest over tokenizer and chat template.
    #[serde(default)]
    pub codec: Option<Digest>,
    /// Version of the program.
    pub code: String,
    /// Backend that computes, and the kind of machine: what decides bits.
    pub device: String,
    /// Number formats.
    pub precision: String,
}

/// A part of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityPart {
    /// How many steps there are.
    Length,
    /// Any other setting.
    Settings,
    /// The base model.
    Base,
    /// Data files, settings of `[data]`, tokenizer, chat template.
    Data,
    /// The program.
    Code,
    /// Backend and number formats.
    Device,
}

/// One thing that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What kind of thing.
    pub part: IdentityPart,
    /// Its name, for people: a key in backticks, or a noun.
    pub name: String,
    /// What it was.
    pub was: String,
    /// What it is.
    pub is: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was {} and is {}", self.name, self.was, self.is)
    }
}

impl Identity {
    /// What differs, in a fixed order.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let known = !self.settings.is_empty();
        let mut all = match known {
            true => settings_differences(&self.settings, &now.settings),
            false => Vec::new(),
        };
        let mut add = |part, name: &str, was: String, is: String| {
            if was != is {
                all.push(Difference { part, name: name.to_owned(), was, is });
            }
        };
        let codec = |of: &Self| of.codec.as_ref().map_or("unknown".to_owned(), Digest::short);
        if !known {
            let (was, is) = (self.config.short(), now.config.short());
            add(IdentityPart::Settings, "the configuration", was, is);
        }
        add(IdentityPart::Base, "the base model", self.base.short(), now.base.short());
        add(IdentityPart::Data, "the data", self.data.short(), now.data.short());
        add(IdentityPart::Data, "the tokenizer or chat template", codec(self), codec(now));
        add(IdentityPart::Code, "the program's version", self.code.clone(), now.code.clone());
        // Before the kind of machine was kept, there was the backend alone.
        if now.device.split(' ').next() != Some(self.device.as_str()) {
            add(IdentityPart::Device, "the device", self.device.clone(), now.device.clone());
        }
        add(IdentityPart::Device, "the precision", self.precision.clone(), now.precision.clone());
        all
    }
}

/// Which settings differ.
pub fn settings_differences(
    was: &BTreeMap<String, String>,
    is: &BTreeMap<String, String>,
) -> Vec<Difference> {
    // Earlier versions kept settings that decide nothing.
    let deciding = |key: &&String| effect_of(key).decides();
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).filter(deciding).collect();
    let value = |of: &BTreeMap<String, String>, key: &String| {
        of.get(key).map_or("not set".to_owned(), |value| format!("`{value}`"))
    };
    let difference = |key: &String| Difference {
        part: part_of(key),
        name: format!("`{key}`"),
        was: value(was, key),
        is: value(is, key),
    };
    keys.into_iter().filter(|key| was.get(*key) != is.get(*key)).map(difference).collect()
}

/// Which part of a run a setting belongs to.
fn part_of(key: &str) -> IdentityPart {
    match effect_of(key) {
        Effect::Length => IdentityPart::Length,
        Effect::Data => IdentityPart::Data,
        Effect::Device => IdentityPart::Device,
        Effect::Weights | Effect::Measures | Effect::Speed | Effect::Artifact | Effect::Aside => {
            IdentityPart::Settings
        }
    }
}

/// Changes that the user wants to go on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(pub BTreeSet<IdentityPart>);

impl Allowed {
    /// The differences that stand in the way.
    pub fn refuses<'a>(&self, differences: &'a [Difference]) -> Vec<&'a Difference> {
        differences.iter().filter(|found| !self.0.contains(&found.part)).collect()
    }
}

/// The option with which a change is allowed, if there is one.
pub fn option_for(part: IdentityPart) -> Option<&'static str> {
    match part {
        IdentityPart::Length => Some("--extend"),
        IdentityPart::Data => Some("--allow-data-change"),
        IdentityPart::Code => Some("--allow-code-change"),
        IdentityPart::Device => Some("--allow-device-change"),
        IdentityPart::Settings | IdentityPart::Base => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn identity(settings: &[(&str, &str)]) -> Identity {
        let settings: BTreeMap<String, String> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Identity {
            config: Digest::of(format!("{settings:?}").as_bytes()),
            settings,
            base: Digest::of(b"base"),
            data: Digest::of(b"data"),
            codec: None,
            code: "firebrand 1".to_owned(),
            device: "flex".to_owned(),
            precision: "f32".to_owned(),
        }
    }

    #[test]
    fn each_difference_has_a_part_and_only_allowed_ones_pass() {
        let saved = identity(&[("train.max_steps", "6"), ("train.learning_rate", "1e-3")]);
        let longer = identity(&[("train.max_steps", "9"), ("train.learning_rate", "1e-3")]);
        let found = saved.differences(&longer);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "`train.max_steps` was `6` and is `9`");
        let extend = Allowed([IdentityPart::Length].into());
        assert!(extend.refuses(&found).is_empty());
        assert_eq!(Allowed::default().refuses(&found).len(), 1);

        let other = Identity {
            code: "firebrand 2".to_owned(),
            ..identity(&[("data.packing", "true"), ("train.max_steps", "9")])
        };
        let found = longer.differences(&other);
        let parts: Vec<IdentityPart> = found.iter().map(|found| found.part).collect();
        assert_eq!(parts, [IdentityPart::Data, IdentityPart::Settings, IdentityPart::Code]);
        assert_eq!(found[1].to_string(), "`train.learning_rate` was `1e-3` and is not set");
        assert_eq!(extend.refuses(&found).len(), 3);
    }

    #[test]
    fn what_decides_no_weight_is_no_difference() {
        let saved = identity(&[("eval.prompts", "[]"), ("name", "a"), ("seed", "1")]);
        assert!(
            saved.differences(&identity(&[("eval.prompts", "[\"x\"]"), ("seed", "1")])).is_empty()
        );
        assert_eq!(saved.differences(&identity(&[("seed", "2")])).len(), 1);
    }

    #[test]
    fn without_settings_the_digest_decides() {
        let old = Identity { settings: BTreeMap::new(), ..identity(&[("seed", "1")]) };
        assert!(old.differences(&identity(&[("seed", "1")])).is_empty());
        let found = old.differences(&identity(&[("seed", "2")]));
        assert_eq!(
            (found[0].part, found[0].name.as_str()),
            (IdentityPart::Settings, "the configuration")
        );
    }
}
