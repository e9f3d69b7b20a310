//! `[trust]`: which inputs may be used.

use crate::document::key::{DefaultValue, Key, Section, ValueKind};
use crate::document::{Effect, settings};

settings! {
    /// Which inputs may be used.
    pub struct TrustConfig, KEYS {
        /// The signed list of approved base models and data sets.
        allowlist: Option<String> = Key::new(
            "trust.allowlist",
            ValueKind::Line,
            DefaultValue::Absent("inputs are pinned when they are first used, and recorded so"),
            "A signed list of approved base models and data sets (`firebrand allowlist` writes \
             it). Every file that trains must be in it, by digest; else the run is refused. \
             `model.trusted_keys` is another way for a base model.",
        )
        .example("\"allowlist.toml\"");
        /// Public keys that may sign it; empty for those that the user trusts.
        allowlist_keys: Vec<String> = Key::new(
            "trust.allowlist_keys",
            ValueKind::Texts,
            DefaultValue::Absent("the keys that you trust, with the role `allowlist`"),
            "Files with the public keys (PEM) that may sign the allowlist, or lists in the form of \
             `trusted-keys.toml`.",
        )
        .example("[\"keys/acme.pub.pem\"]");
        /// Public keys of which one must have signed every data file; empty if nobody need have.
        data_keys: Vec<String> = Key::new(
            "trust.data_keys",
            ValueKind::Texts,
            DefaultValue::Absent("data files need not be signed"),
            "Files with public keys (PEM), or lists in the form of `trusted-keys.toml`, of which \
             one with the role `allowlist` must have signed every data file that trains: \
             `FILE.sigstore.json` beside it, by `cosign sign-blob`, `sigstore sign`, or around an \
             in-toto statement.",
        )
        .example("[\"keys/data-team.toml\"]");
        /// Inputs that no trusted allowlist has may be used all the same if the lock holds them.
        tofu: bool = Key::new(
            "trust.tofu",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "What the allowlist does not list may be used all the same if the lock pins it (trust \
             on first use); it is recorded as such. Means nothing without `trust.allowlist`.",
        )
        .example("true");
    }
}

pub(in crate::config) const SECTION: Section = Section::new(
    "trust",
    "Which inputs may be used. None of it changes a number of the run.",
    KEYS,
)
.effect(Effect::Aside);
