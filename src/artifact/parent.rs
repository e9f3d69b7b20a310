//! The lineage of a base model that is an artifact of this program itself.

use std::path::Path;

use serde_json::{Value, json};

use super::resource::dependency;
use super::signature;
use crate::error::{Context, Result};
use crate::files::{self, Digest};

/// The whole statement.
pub const STATEMENT_FILE: &str = "lineage.statement.json";
/// The largest lineage that is read.
pub const LINEAGE_BYTES_MAX: u64 = 64 << 20;

/// The lineage of a base model that this program made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The artifact's name.
    pub name: String,
    /// SHA-256 of its statement.
    pub statement: Digest,
    /// SHA-256 of its signature file.
    pub signature: Digest,
    /// What is known about its signature.
    pub state: ParentSignature,
}

/// What the run knew about its base model's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentSignature {
    /// Nobody looked.
    Unchecked,
    /// It verified under a key that the user trusts.
    Verified,
    /// It was looked at, and no trusted key vouches for it.
    Untrusted,
}

impl ParentSignature {
    fn name(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Verified => "verified",
            Self::Untrusted => "untrusted",
        }
    }
}

impl Parent {
    /// As a dependency of what was made of it.
    pub(super) fn to_dependency(&self, role: &str) -> Value {
        let notes = json!({
            "role": role,
            "signatureSha256": self.signature,
            "signature": self.state.name(),
        });
        dependency(&format!("{}/{STATEMENT_FILE}", self.name), &self.statement, notes)
    }

    /// The lineage in `directory`, if it is an artifact; whether its signature holds is for the
    /// caller to find out.
    pub fn of(directory: &Path, state: ParentSignature) -> Result<Option<Self>> {
        let (statement, signature) =
            (directory.join(STATEMENT_FILE), directory.join(signature::FILE));
        if !statement.is_file() || !signature.is_file() {
            return Ok(None);
        }
        let path = directory.canonicalize().context_at("cannot find the base model", directory)?;
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Some(Self {
            name,
            statement: files::hash_file(&statement, STATEMENT_FILE)?.sha256,
            signature: files::hash_file(&signature, signature::FILE)?.sha256,
            state,
        }))
    }
}
