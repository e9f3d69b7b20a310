//! The finished result of a run: its signature, its lineage, and the files that describe it.

pub mod attestations;
pub mod bundle;
pub mod card;
pub mod derived;
pub mod certificate;
pub mod ecdsa;
pub mod envelope;
pub(crate) mod pae;
pub mod exports;
pub mod keys;
pub mod base_record;
mod licenses;
mod resource;
pub mod logit_diff;
pub mod lineage;
pub mod measured;
pub mod merge;
mod merge_experts;
pub mod merged;
pub mod open;
pub mod origin;
pub mod parent;
pub mod past;
pub mod peft;
pub mod program;
pub mod rewrite;
pub(crate) mod sarif;
pub mod sbom;
pub mod signature;
mod key_files;
pub(crate) mod markup;
mod password;
mod pem;
mod source;
pub mod stops;

pub use source::{Source, source};
