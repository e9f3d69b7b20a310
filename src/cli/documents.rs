//! Every kind of TOML that people write.

use std::sync::LazyLock;

use clap::builder::PossibleValue;

use crate::channel::WATCH_KEYS;
use crate::document::KeyTable;
use crate::evaluation::SUITE_KEYS;
use crate::gate::POLICY_KEYS;
use crate::review::REVIEW_KEYS;
use crate::settings;
use crate::sweep::SWEEP_KEYS;
use crate::verify::TRUSTED_KEYS;

/// A kind of document, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document(usize);

/// Every kind, in the order in which they are listed.
const TABLES: [&LazyLock<KeyTable>; 7] = [
    &settings::KEYS,
    &SUITE_KEYS,
    &POLICY_KEYS,
    &WATCH_KEYS,
    &TRUSTED_KEYS,
    &SWEEP_KEYS,
    &REVIEW_KEYS,
];

/// The table of keys of every kind of document.
pub fn tables() -> impl Iterator<Item = &'static KeyTable> {
    TABLES.into_iter().map(|table| &**table)
}

impl Document {
    /// A run.
    pub const CONFIG: Self = Self(0);

    /// Its table of keys.
    pub fn keys(self) -> &'static KeyTable {
        TABLES[self.0]
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::CONFIG
    }
}

impl clap::ValueEnum for Document {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(0), Self(1), Self(2), Self(3), Self(4), Self(5), Self(6)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let kind = self.keys().kind();
        Some(PossibleValue::new(kind.name).help(kind.about.trim_end_matches('.')))
    }
}
