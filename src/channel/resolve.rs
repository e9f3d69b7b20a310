//! Which model is in use? The answer holds down to the last byte, or there is none.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::chain::{Channel, ChannelEntry};
use super::model::{Checked, place};
use crate::error::{Error, ErrorCode, Result};
use crate::verify::{self, Seen, Trust};

/// The model that a channel points to.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The pointer.
    pub entry: ChannelEntry,
    /// Who signed the pointer.
    pub signed: verify::Signed,
    /// The model, checked just now.
    pub model: Checked,
}

impl Channel {
    /// The pointer that counts now, and who signed it.
    ///
    /// # Errors
    /// Refuses a channel of which anything is missing, changed, expired, older than what was seen
    /// before, or signed by nobody whom `trust` lets promote.
    pub fn pointed(&self, trust: &Trust, seen: &Seen) -> Result<(ChannelEntry, verify::Signed)> {
        let (mut chain, signed) = self.read_checked(|chain| chain.trusted(trust, seen))?;
        chain.newest()?;
        let entry = chain.entries.swap_remove(chain.entries.len() - 1);
        let expires = entry.pointer.expires;
        if expires <= trust.now() {
            let what = format!("the channel's newest pointer expired at {expires:.0}");
            return Err(Error::refused(ErrorCode::Channel, what)
                .at(&entry.path)
                .because("no newer signed pointer confirms this model")
                .hint("promote it again, or another one"));
        }
        Ok((entry, signed))
    }

    /// Where that pointer says that its model is: a folder, or where it was published. Nothing is
    /// known yet of what is there.
    pub fn where_to(&self, trust: &Trust, seen: &Seen) -> Result<String> {
        let (entry, _) = self.pointed(trust, seen)?;
        match &entry.pointer.model.uri {
            Some(uri) => Ok(uri.clone()),
            None => {
                let path = place(&self.registry, &entry.pointer.model, None)?;
                Ok(path.display().to_string())
            }
        }
    }

    /// The model in use; `given` is where the caller has it, if not where the pointer says.
    ///
    /// # Errors
    /// As [`Self::pointed`]; and refuses a model that is not the very one that is named, or that
    /// does not verify.
    pub fn resolve(&self, given: Option<&Path>, trust: &Trust, seen: &Seen) -> Result<Resolved> {
        let (entry, signed) = self.pointed(trust, seen)?;
        let pointer = &entry.pointer;
        let directory = place(&self.registry, &pointer.model, given)?;
        let model = Checked::named(&directory, &pointer.model, trust)?;
        Ok(Resolved { entry, signed, model })
    }
}

impl Resolved {
    /// Where the model is.
    pub fn path(&self) -> PathBuf {
        self.model.directory.clone()
    }

    /// All of it for machines.
    pub fn to_json(&self) -> Value {
        json!({
            "path": self.model.directory.display().to_string(),
            "pointer": self.entry.pointer,
            "signer": self.signed.signer,
            "model_signer": self.model.signer,
        })
    }
}
