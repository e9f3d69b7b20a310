//! What is made of models on this machine and kept in the cache.

use std::path::Path;

use super::supply::Supply;

impl Supply {
    /// Our own cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Tells whoever listens to transfers of what takes long.
    pub fn tell(&self, text: &str) {
        self.transfers.tell(text);
    }
}
