//! Which keys the user trusts. It is the reader's decision, never the model's.

use std::path::{Path, PathBuf};

use crate::artifact::keys::{self, PublicKey};
use crate::error::{Context, Result};

/// One key, and where it was found.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// The file that holds it.
    pub file: PathBuf,
}

/// The keys that may vouch for a model.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<TrustedKey>,
}

impl Trust {
    /// Only the key of this PEM file.
    pub fn key_file(path: &Path) -> Result<Self> {
        let key = PublicKey::from_file(path)?;
        Ok(Self { keys: vec![TrustedKey { key, file: path.to_path_buf() }] })
    }

    /// The user's own key, and every `.pem` file in `trusted-keys/` beside it.
    pub fn of_user(config_home: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let own = config_home.join(keys::PUBLIC_FILE);
        if own.exists() {
            files.push(own);
        }
        let folder = config_home.join(keys::TRUSTED_FOLDER);
        if folder.exists() {
            let entries = folder.read_dir().context_at("cannot list the folder", &folder)?;
            let mut others = Vec::new();
            for entry in entries {
                let path = entry.context_at("cannot list the folder", &folder)?.path();
                if path.extension().is_some_and(|extension| extension == "pem") {
                    others.push(path);
                }
            }
            others.sort();
            files.extend(others);
        }
        let keys = files
            .into_iter()
            .map(|file| Ok(TrustedKey { key: PublicKey::from_file(&file)?, file }))
            .collect::<Result<_>>()?;
        Ok(Self { keys })
    }

    /// The key that a signature names.
    pub fn find(&self, hint: &str) -> Option<&TrustedKey> {
        self.keys.iter().find(|trusted| trusted.key.hint() == hint)
    }

    /// Every trusted key.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }
}
