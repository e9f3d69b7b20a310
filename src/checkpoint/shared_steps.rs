//! Kept steps in a store that several machines share: what one has computed, the others take.
//!
//! `steps/BEGINNING/STEP-LAST` is a bundle: the same files as in the cache on the disk. Its name is
//! made of digests of everything that determined the steps, so that a list of names says what is
//! there, and whoever writes it second writes the same. It is written only if it is not there;
//! where a store knows no such writes, the second one replaces the first by its equal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Chain;
use crate::error::Result;
use crate::files::Digest;
use crate::stores::{
    BundleFile, ObjectInfo, Store, bundle_of, fetch, in_key, publish, remove_bundle,
};

/// What all names begin with.
const FOLDER: &str = "steps/";

/// Steps that are kept, and the names of all steps so far ([`chain_name`]).
pub type KeptSteps = BTreeMap<u64, BTreeSet<String>>;

/// The name of steps: digits of the digest of all of them.
pub fn chain_name(last: Digest) -> String {
    in_key(last)
}

/// Steps under the same settings, in a store.
#[derive(Debug, Clone)]
pub struct SharedSteps {
    store: Store,
    settings: Digest,
    limit: u64,
}

impl SharedSteps {
    /// Those of these settings in a store, where steps may take `limit` bytes.
    pub fn new(store: Store, settings: Digest, limit: u64) -> Self {
        Self { store, settings, limit }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn name(&self, step: u64, chain: Chain) -> Option<String> {
        let (first, last) = (chain.first?, chain.last?);
        Some(format!("{}{step:08}-{}", self.prefix(first), in_key(last)))
    }

    /// What names of steps of runs with this first step begin with.
    fn prefix(&self, first: Digest) -> String {
        let both = Digest::of_parts(&[&self.settings.0, &first.0]);
        format!("{FOLDER}{}/", in_key(both))
    }

    /// What is there: steps, by the name of all of them, of runs with this first step.
    ///
    /// # Errors
    /// When the store does not say.
    pub fn kept(&self, first: Digest) -> Result<KeptSteps> {
        let prefix = self.prefix(first);
        let mut all = KeptSteps::new();
        for object in self.store.list(&prefix)? {
            let name = bundle_of(&object.key).and_then(|name| name.strip_prefix(&prefix));
            if let Some((step, last)) = name.and_then(|name| name.split_once('-'))
                && let Ok(step) = step.parse()
            {
                all.entry(step).or_default().insert(last.to_owned());
            }
        }
        Ok(all)
    }

    /// Bytes of these steps, if they are there.
    ///
    /// # Errors
    /// When the store does not give them, or something else.
    pub fn take(&self, step: u64, chain: Chain, into: &Path) -> Result<bool> {
        let Some(name) = self.name(step, chain) else { return Ok(false) };
        let Some(bundle) = fetch(&self.store, &name)? else { return Ok(false) };
        let names: Vec<String> = bundle.files().map(|(path, _)| path.to_owned()).collect();
        if bundle.size() > self.limit || names.iter().any(|name| name.contains('/')) {
            return Ok(false);
        }
        names.iter().try_for_each(|name| bundle.save(name, &into.join(name)))?;
        Ok(true)
    }

    /// Gives steps that lie in a folder of the cache to others, unless they have them.
    ///
    /// # Errors
    /// When the store does not take them.
    pub fn put(&self, folder: &Path, step: u64, chain: Chain) -> Result<()> {
        let Some(name) = self.name(step, chain) else { return Ok(()) };
        let there = self.store.list(&name)?;
        if there.iter().any(|object| bundle_of(&object.key) == Some(name.as_str())) {
            return Ok(());
        }
        let mut files = Vec::new();
        let mut needed = 0;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            needed += entry.metadata().map_or(0, |found| found.len());
            files.push(BundleFile::at(file, entry.path()));
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        if files.is_empty() || needed > self.limit {
            return Ok(());
        }
        self.make_room(needed, &name)?;
        publish(&self.store, &name, &files, &there, false).map(drop)
    }

    /// Removes what was written longest ago, until so many bytes fit beside the others than `name`:
    /// steps, and what writers have left that were killed before their steps were complete. Whoever
    /// reads it meanwhile finds a part missing, and computes the steps.
    fn make_room(&self, needed: u64, name: &str) -> Result<()> {
        let mut owners: BTreeMap<String, Vec<ObjectInfo>> = BTreeMap::new();
        for object in self.store.list(FOLDER)? {
            let data = object.key.split_once(".data/").map(|(owner, _)| owner);
            if let Some(owner) = data.or_else(|| bundle_of(&object.key)).filter(|it| *it != name) {
                owners.entry(owner.to_owned()).or_default().push(object);
            }
        }
        let bytes = |all: &[ObjectInfo]| all.iter().map(|object| object.bytes).sum::<u64>();
        let mut total: u64 = owners.values().map(|all| bytes(all)).sum();
        let mut owners: Vec<(String, Vec<ObjectInfo>)> = owners.into_iter().collect();
        owners.sort_by_key(|(_, all)| all.iter().map(|object| object.modified).max());
        for (owner, all) in owners {
            if total + needed <= self.limit {
                break;
            }
            remove_bundle(&self.store, &owner, &all)?;
            total -= bytes(&all);
        }
        Ok(())
    }
}

/// What is here and what is there.
pub(super) fn joined(mut here: KeptSteps, there: KeptSteps) -> KeptSteps {
    for (step, chains) in there {
        here.entry(step).or_default().extend(chains);
    }
    here
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::StoreAddress;

    #[test]
    fn what_was_written_longest_ago_goes_when_the_store_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let address = StoreAddress::Folder(folder.path().join("store"));
        let (first, store) = (Digest::of(b"first"), Store::open(&address).unwrap());
        let chain = |step: u8| Chain { first: Some(first), last: Some(Digest::of(&[step])) };
        let from = folder.path().join("from");
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("a.safetensors"), vec![0xff; 4000]).unwrap();
        std::fs::write(from.join("state.json"), "{}").unwrap();
        let steps = SharedSteps::new(store.clone(), Digest::of(b"settings"), 10_000);
        for step in 1..=2 {
            steps.put(&from, u64::from(step), chain(step)).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let kept = |steps: &SharedSteps| -> Vec<u64> {
            steps.kept(first).unwrap().keys().copied().collect()
        };
        assert_eq!(kept(&steps), [1, 2]);
        steps.put(&from, 3, chain(3)).unwrap();
        assert_eq!(kept(&steps), [2, 3], "the first one is gone, with its data");
        assert_eq!(store.list("").unwrap().len(), 4);
        // A writer that was killed has left files of steps that nobody reads: they go before the
        // steps that came after them, and take no room for good.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let left = format!("{}.data/0011", steps.name(9, chain(9)).unwrap());
        store.put(&left, vec![0; 9000]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        steps.put(&from, 3, chain(3)).unwrap(); // it is there
        steps.put(&from, 4, chain(4)).unwrap();
        steps.put(&from, 5, chain(5)).unwrap();
        assert_eq!(kept(&steps), [4, 5]);
        assert_eq!(store.list("").unwrap().len(), 4, "what was left is gone");
        steps.put(&from, 3, chain(3)).unwrap();
        assert_eq!(kept(&steps), [3, 5]);
        let into = folder.path().join("into");
        assert!(!steps.take(1, chain(1), &into).unwrap());
        assert!(steps.take(3, chain(3), &into).unwrap());
        assert_eq!(std::fs::read(into.join("a.safetensors")).unwrap().len(), 4000);
        // What would be too large is neither sent nor taken.
        let small = SharedSteps::new(store, Digest::of(b"settings"), 3000);
        small.put(&from, 4, chain(4)).unwrap();
        assert!(!small.take(3, chain(3), &folder.path().join("other")).unwrap());
        assert_eq!(kept(&small), [3, 5]);
        let other = SharedSteps::new(small.store().clone(), Digest::of(b"others"), 10_000);
        assert_eq!(kept(&other), [0; 0]);
    }
}
