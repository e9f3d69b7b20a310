//! Is a model directory what it claims to be: signed by a trusted key, complete, unchanged?
//!
//! Stricter than the standard's reference program wherever two readers could disagree.

mod attestations;
mod signed_files;
mod chain;
mod crypto;
pub mod conformance;
mod directory;
mod effect;
mod file;
mod files;
mod keyless;
mod ancestry;
mod ancestry_text;
mod lineage;
mod manifest;
pub mod allowlist;
mod report;
mod reproductions;
pub mod safetensors;
mod rollback_guard;
mod signer;
mod statement;
mod trust;
mod trusted_keys;
mod trusted_keys_table;

pub use ancestry::{Ancestry, Base, Item, Parent, ParentState, family};
pub use directory::{verify, verify_signed_files};
pub use effect::demand_effect;
pub use file::{demand_signed, verify_file};
pub use keyless::SigstoreRoot;
pub use report::{Check, CheckVerdict, Finding, Report, Signer, Verdict};
pub use reproductions::{Reproducers, demand_reproducers, reproducers};
pub use rollback_guard::{FILE as SEEN_FILE, Seen};
pub use signed_files::signed_files;
pub use signer::{Signed, who_signed};
pub use trust::Trust;
pub use trusted_keys::{Authority, TrustedIdentity, TrustedKey};
pub use trusted_keys::{FILE as TRUSTED_KEYS_FILE, KeyLimits};
pub use trusted_keys_table::{KEYS as TRUSTED_KEYS, Role};

#[cfg(test)]
mod tests;
