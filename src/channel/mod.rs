//! Which model is in use: channels such as `production`, each a list of signed pointers that only
//! grows, in a plain folder that keeps well in git or on a share.
//!
//! - `pointer`, `chain`: what a pointer says, and how pointers follow each other
//! - `verdict`, `model`: what a pointer rests on
//! - `promote`, `resolve`: writers and readers
//! - `leftovers`: what a killed writer leaves
//! - `drift`, `attest`: is the model in use still as good as it was?

mod attest;
mod chain;
mod drift;
mod drift_keys;
mod leftovers;
mod model;
mod pointer;
mod promote;
mod resolve;
mod verdict;

pub use attest::{TEST_RESULT, add as attest, statement as drift_statement};
pub use chain::{Chain, Channel, ChannelEntry, ChannelFile};
pub use drift::{Drift, Policy};
pub use drift_keys::{Direction, KEYS as WATCH_KEYS, OnDrift, duration};
pub use model::{Checked, FOLDER as MODELS};
pub use pointer::{ModelRef, PAYLOAD_TYPE, Pointer, PointerKind, Previous};
pub use promote::{Authority, Promotion, Return};
pub use resolve::Resolved;
pub use verdict::Verdicts;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
