//! Is a model directory what it claims to be: signed by a trusted key, complete, unchanged?
//!
//! Stricter than the standard's reference program wherever two readers could disagree.

mod attestations;
mod covered;
mod chain;
pub mod conformance;
mod directory;
mod family;
mod family_text;
mod lineage;
mod manifest;
pub mod allowlist;
mod report;
pub mod safetensors;
mod seen;
mod signer;
mod statement;
mod trust;
mod trusted_keys;

pub use covered::covered;
pub use directory::{verify, verify_signed_files};
pub use family::{Base, Family, Found, Item, Parent, family};
pub use report::{Check, CheckVerdict, Finding, Report, Signer, Verdict};
pub use seen::{FILE as SEEN_FILE, Seen};
pub use signer::{Signed, who_signed};
pub use trust::{Authority, Trust, TrustedKey};
pub use trusted_keys::{FILE as TRUSTED_KEYS_FILE, Limits, Role};

#[cfg(test)]
mod tests;
