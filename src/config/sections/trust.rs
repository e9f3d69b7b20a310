//! `[trust]`: which inputs may be used.

use crate::document::key::{DefaultValue, Key, Section, ValueKind};
use crate::document::{Effect, Entries, Values};

/// Which inputs may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustConfig {
    /// The signed list of approved base models and data sets.
    pub allowlist: Option<String>,
    /// Public keys that may sign it; empty for those that the user trusts.
    pub allowlist_keys: Vec<String>,
    /// Inputs that no trusted allowlist has may be used all the same if the lock holds them.
    pub tofu: bool,
}

pub(in crate::config) const SECTION: Section = Section::new(
    "trust",
    "Which inputs may be used. None of it changes a number of the run.",
    &[
        Key::new(
            "trust.allowlist",
            ValueKind::Line,
            DefaultValue::Absent("inputs are pinned when they are first used, and recorded so"),
            "A signed list of approved base models and data sets (`firebrand allowlist` writes \
             it). Every file that trains must be in it, by digest; else the run is refused. \
             `model.trusted_keys` is another way for a base model.",
        )
        .example("\"allowlist.toml\""),
        Key::new(
            "trust.allowlist_keys",
            ValueKind::Texts,
            DefaultValue::Absent("the keys that you trust, with the role `allowlist`"),
            "Files with the public keys (PEM) that may sign the allowlist.",
        )
        .example("[\"keys/acme.pub.pem\"]"),
        Key::new(
            "trust.tofu",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "What the allowlist does not list may be used all the same if the lock pins it \
             (trust on first use); it is recorded as such. Means nothing without \
             `trust.allowlist`.",
        )
        .example("true"),
    ],
)
.effect(Effect::Aside);

impl TrustConfig {
    pub(in crate::config) fn read(values: &Values) -> Self {
        Self {
            allowlist: values.optional_text("trust.allowlist"),
            allowlist_keys: values.optional_texts("trust.allowlist_keys").unwrap_or_default(),
            tofu: values.boolean("trust.tofu"),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        out.optional_text("trust.allowlist", self.allowlist.as_deref());
        if !self.allowlist_keys.is_empty() {
            out.texts("trust.allowlist_keys", &self.allowlist_keys);
        }
        out.boolean("trust.tofu", self.tofu);
    }
}
