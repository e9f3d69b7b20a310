//! A set of objects by their keys.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::address::{StoreAddress, is_plain};
use super::cloud::Cloud;
use super::folder::FolderStore;
use super::objects::{ObjectInfo, Objects, slashed};
use super::traffic::TrafficCount;
use crate::error::{Error, Result};

/// A store, or a place within one.
#[derive(Debug, Clone)]
pub struct Store {
    address: StoreAddress,
    objects: Arc<dyn Objects>,
}

impl Store {
    /// Opens a store. Credentials and an endpoint of one's own are taken from the environment;
    /// nothing is asked of it yet.
    ///
    /// # Errors
    /// When the environment does not say how.
    pub fn open(address: &StoreAddress) -> Result<Self> {
        let objects: Arc<dyn Objects> = match address {
            StoreAddress::Folder(root) => Arc::new(FolderStore::new(root)),
            StoreAddress::S3 { .. } | StoreAddress::Google { .. } => {
                Arc::new(Cloud::open(address)?)
            }
        };
        Ok(Self { address: address.clone(), objects })
    }

    /// Where it is.
    pub fn address(&self) -> &StoreAddress {
        &self.address
    }

    /// A place within it, over the same connections.
    ///
    /// # Errors
    /// When the name is not one that every store can have.
    pub fn within(&self, name: &str) -> Result<Self> {
        checked(name)?;
        Ok(Self { address: self.address.join(name), objects: Arc::clone(&self.objects) })
    }

    /// The key of an object in the whole store.
    fn key(&self, name: &str) -> Result<String> {
        checked(name)?;
        Ok(self.prefixed(name))
    }

    fn prefixed(&self, name: &str) -> String {
        match self.address.join(name) {
            StoreAddress::S3 { prefix, .. } | StoreAddress::Google { prefix, .. } => prefix,
            StoreAddress::Folder(path) => slashed(&path.display().to_string()),
        }
    }

    /// Writes an object, in place of one that is there.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.objects.put(&self.key(name)?, bytes)
    }

    /// Writes an object unless there is one; whether it was written. Where a store knows no
    /// conditional writes, of two that write at the same moment both may, and the last one stays:
    /// nothing may depend on which.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<bool> {
        self.objects.put_new(&self.key(name)?, bytes)
    }

    /// Writes an object from a file of this size.
    ///
    /// # Errors
    /// When the store does not take it, or the file cannot be read.
    pub fn put_file(&self, name: &str, path: &Path, size: u64) -> Result<()> {
        self.objects.put_file(&self.key(name)?, path, size)
    }

    /// An object of at most `limit` bytes, if it is there.
    ///
    /// # Errors
    /// When it is larger, or the store does not give it.
    pub fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.objects.get(&self.key(name)?, limit)
    }

    /// Writes the `size` bytes of an object into `sink`.
    ///
    /// # Errors
    /// When it is not there or has another size.
    pub fn read(&self, name: &str, size: u64, sink: &mut dyn Write) -> Result<()> {
        self.objects.read(&self.key(name)?, size, sink)
    }

    /// The objects whose names begin with `prefix`, in the order of their names. What has a name
    /// that this program does not write is left out.
    ///
    /// # Errors
    /// When the store does not say.
    pub fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let own = self.prefixed("");
        let mut found = self.objects.list(&self.prefixed(prefix))?;
        found.retain_mut(|object| {
            let name = object.key.strip_prefix(&own).filter(|name| checked(name).is_ok());
            match name.map(str::to_owned) {
                Some(name) => {
                    object.key = name;
                    true
                }
                None => false,
            }
        });
        found.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    /// Removes an object; it may be gone already.
    ///
    /// # Errors
    /// When the store does not allow it.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.objects.delete(&self.key(name)?)
    }

    /// Requests and bytes so far, of everything that was opened together with it.
    pub fn traffic(&self) -> TrafficCount {
        self.objects.traffic()
    }
}

/// A name is made of plain parts.
fn checked(name: &str) -> Result<()> {
    if name.len() <= 900 && name.split('/').all(is_plain) {
        return Ok(());
    }
    let name = name.escape_debug();
    Err(Error::store(format!("`{name}` is not the name of an object of a store")))
}
