//! A base with adapters below the one that is trained on it: each is merged into what those before
//! it left, as `merge` does, so that a run on them is a run on the merged model.
//!
//! The whole model that this makes is kept in the cache, as what a GGUF file is unpacked into,
//! under the digest of all that it is made of; those digests are taken each time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::adapter_directory::{AdapterDirectory, read_weights};
use super::base_adapters::BaseAdapter;
use super::base_record::BaseRecord;
use super::bundle;
use super::merge::other_base;
use super::parent::{Parent, ParentSignature};
use super::past::Past;
use super::peft;
use super::ready::WeightParts;
use super::rewrite::write_merged;
use super::score_head;
use crate::adapters::{Adapter, resized};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{
    Digest, FileEntry, create_dir_new, has_file, hash_file, remove_dir, rename_new, sync_dir,
};
use crate::gguf;
use crate::hub::{
    DEFAULT_REVISION, InputTrust, Locked, ModelDirectory, RepoKind, RepoName, Supply, resolve,
};
use crate::model::{Description, TIED, inspect};
use crate::weights::{INDEX_FILE, shard_names};

/// Says in a merged directory that all else is there, and what it is made of.
const DONE_FILE: &str = "stack.json";
/// A change of what is made of the same files changes this, so that older ones are not taken.
const FORM: u32 = 1;
/// How many folders above an artifact a relative name is tried from.
const ABOVE_MAX: usize = 8;

/// A base and the adapters that are merged into it.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The base without them.
    pub base: ModelDirectory,
    /// Its configuration and weights.
    pub base_files: Vec<FileEntry>,
    /// They themselves, in their order.
    pub adapters: Vec<StackedAdapter>,
    /// Of what goes along with base and adapters unchanged.
    sidecars: Vec<FileEntry>,
}

/// One of the adapters.
#[derive(Debug, Clone)]
pub struct StackedAdapter {
    /// Where it lies.
    pub directory: ModelDirectory,
    /// Its settings, its weights, and what it brings of tokenizer and templates.
    pub files: Vec<FileEntry>,
    adapter: Arc<dyn Adapter>,
    past: Past,
}

impl StackedAdapter {
    fn read(directory: ModelDirectory) -> Result<Self> {
        let path = &directory.path;
        if !directory.adapter {
            let what = format!("`{}` is a whole model, not an adapter", directory.id);
            return Err(Error::adapter(what).at(path));
        }
        score_head::refuse(path, "lie below another adapter")?;
        let (found, settings) = AdapterDirectory::read_hashed(path)?;
        let mut files =
            vec![settings, hash_file(&path.join(peft::WEIGHTS_FILE), peft::WEIGHTS_FILE)?];
        for name in bundle::texts(path)? {
            files.push(hash_file(&path.join(&name), &name)?);
        }
        let past = Past::read(path)?;
        Ok(Self { adapter: found.adapter, past, files, directory })
    }

    /// As a lineage has it.
    ///
    /// # Errors
    /// When its own lineage cannot be read.
    pub fn record(&self, trust: InputTrust, signature: ParentSignature) -> Result<BaseRecord> {
        let mut parent = Parent::of(&self.directory.path, signature)?;
        if let (Some(parent), Some(_)) = (&mut parent, self.directory.commit()) {
            parent.name.clone_from(&self.directory.id);
        }
        Ok(BaseRecord {
            id: self.directory.id.clone(),
            revision: self.directory.commit().map(str::to_owned),
            files: self.files.clone(),
            gguf: None,
            trust,
            parent,
        })
    }

    /// Its settings and weights, by which it is known.
    fn essence(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.files.iter().take(2).map(|file| (file.path.as_str(), file.sha256))
    }

    fn is(&self, stated: &BaseAdapter) -> bool {
        self.essence().all(|(name, sha256)| stated.files.get(name) == Some(&sha256))
    }

    /// It must have been trained on this base, with these adapters below it if on any.
    fn refuse_other_base(&self, below: &[Self], base: &[FileEntry]) -> Result<()> {
        let path = &self.directory.path;
        let trained_on = &self.past.base_files;
        let other = |file: &&FileEntry| {
            trained_on.get(&file.path).is_some_and(|digest| *digest != file.sha256)
        };
        if let Some(file) = base.iter().find(other) {
            return Err(
                other_base(path, &file.path).because("it was trained on a file of other bytes")
            );
        }
        let stated = &self.past.base_adapters;
        if stated.is_empty() || are(below, stated) {
            return Ok(());
        }
        let names: Vec<String> = stated.iter().map(|it| format!("`{}`", it.id)).collect();
        Err(Error::refused(
            ErrorCode::Adapter,
            "the adapter was trained on other adapters than those below it",
        )
        .at(path)
        .because(format!("by its lineage it stands on {}", names.join(", then ")))
        .hint("name these before it, in this order"))
    }
}

/// Whether adapters are those of a lineage.
fn are(found: &[StackedAdapter], stated: &[BaseAdapter]) -> bool {
    found.len() == stated.len() && found.iter().zip(stated).all(|(one, other)| one.is(other))
}

impl Stack {
    /// Looks at a base and the adapters that are to be merged into it; nothing is written.
    ///
    /// # Errors
    /// When one is of another base, of a kind that is not supported, or does not fit.
    pub fn look(base: ModelDirectory, adapters: Vec<ModelDirectory>) -> Result<Self> {
        let found = inspect(&base.path)?;
        if !found.headers.coded().is_empty() {
            let what = "adapters cannot be merged into a base in four bits of bitsandbytes";
            return Err(Error::adapter(what)
                .at(&base.path)
                .because("its files have no place for the sums")
                .hint("name the same model in floating-point numbers, and `model.weight_format`"));
        }
        let base_files = base_files(&base.path)?;
        let mut sidecars = hashed(&base.path, &bundle::sidecars(&base.path)?)?;
        let mut description = found.description;
        let mut all: Vec<StackedAdapter> = Vec::new();
        for (number, directory) in (1..).zip(adapters) {
            let id = directory.id.clone();
            let read = || -> Result<(StackedAdapter, Description)> {
                let adapter = StackedAdapter::read(directory)?;
                adapter.refuse_other_base(&all, &base_files)?;
                let grown = resized(adapter.adapter.as_ref(), &description)?;
                read_weights(&adapter.directory.path, adapter.adapter.as_ref(), &grown)?;
                Ok((adapter, grown))
            };
            let (adapter, grown) = read().map_err(|error| {
                error.because(format!("`{id}` is number {number} of the adapters below"))
            })?;
            description = grown;
            let path = &adapter.directory.path;
            sidecars.extend(hashed(path, &bundle::sidecars(path)?)?);
            all.push(adapter);
        }
        Ok(Self { base, base_files, adapters: all, sidecars })
    }

    /// Whether its adapters are those of a lineage.
    pub fn is_of(&self, stated: &[BaseAdapter]) -> bool {
        are(&self.adapters, stated)
    }

    /// The digest of all that it is made of.
    fn digest(&self) -> Digest {
        let base = self.base_files.iter();
        let adapters = self.adapters.iter().flat_map(|adapter| &adapter.files);
        let all: Vec<_> = base.chain(adapters).chain(&self.sidecars).collect();
        Digest::of(json!([FORM, env!("CARGO_PKG_VERSION"), all]).to_string().as_bytes())
    }

    /// The whole model that it makes, which is called by the name of its base: made now if it is
    /// not in the cache.
    ///
    /// # Errors
    /// When files changed meanwhile, or there is no room.
    pub fn merged(&self, supply: &Supply) -> Result<ModelDirectory> {
        let (stacks, digest) = (supply.cache().join("stacks"), self.digest());
        let folder = stacks.join(digest.to_string());
        if !has_file(&folder.join(DONE_FILE))? {
            std::fs::create_dir_all(&stacks).context_at("cannot make a folder", &stacks)?;
            let count = self.adapters.len();
            supply.tell(&format!(
                "merging {count} adapter{} into a model directory in the cache, once",
                if count == 1 { "" } else { "s" }
            ));
            let scratch = stacks.join(format!(".{digest}.{}", std::process::id()));
            let done = self.make(&scratch).and_then(|last| put(&last, &folder));
            let _ = remove_dir(&scratch);
            done?;
        }
        // What a hub listed are the files of the base, not those that were made of it.
        let locked = self.base.locked.clone();
        let locked = locked.map(|locked| Locked { files: Vec::new(), ..locked });
        Ok(ModelDirectory { path: folder, locked, ..self.base.clone() })
    }

    /// Merges one adapter after the other, each into what the one before it left.
    fn make(&self, scratch: &Path) -> Result<PathBuf> {
        create_dir_new(scratch)?;
        let mut below = self.base.path.clone();
        for (number, adapter) in self.adapters.iter().enumerate() {
            let target = scratch.join(number.to_string());
            create_dir_new(&target)?;
            let read = merge_one(&below, adapter, &target)?;
            if number == 0 {
                refuse_changed(&self.base.path, &self.base_files, &read)?;
            } else {
                remove_dir(&below)?;
            }
            below = target;
        }
        // Last: it says that all else is there.
        let adapters: Vec<_> = self.adapters.iter().map(|adapter| &adapter.files).collect();
        let json = json!({ "base": self.base_files, "adapters": adapters });
        bundle::write_json(&below.join(DONE_FILE), &json)?;
        Ok(below)
    }
}

/// Merges an adapter into the model of a directory; returns the files of that, as read.
fn merge_one(below: &Path, adapter: &StackedAdapter, target: &Path) -> Result<Vec<FileEntry>> {
    let path = &adapter.directory.path;
    let parts = WeightParts {
        base: below,
        expected: BTreeMap::new(),
        adapters: vec![(path.clone(), adapter.adapter.clone())],
        head: None,
    };
    let ready = parts.open(None)?;
    refuse_changed(path, &adapter.files, &ready.adapter_files)?;
    let written = write_merged(ready.weights, target, None)?;
    bundle::copy_sidecars(path, target, false)?;
    bundle::copy_missing(below, target)?;
    if ready.untied {
        bundle::change_config(target, &[(TIED, false.into())])?;
    }
    if let Some(rows) = ready.vocabulary {
        bundle::change_vocabulary(target, rows)?;
    }
    Ok(written.base_files)
}

fn put(made: &Path, folder: &Path) -> Result<()> {
    sync_dir(made)?;
    match rename_new(made, folder) {
        // Another process was sooner, with the same bytes.
        Err(_) if folder.exists() => Ok(()),
        moved => moved,
    }
}

/// Files that are read must be those that were looked at.
fn refuse_changed(directory: &Path, known: &[FileEntry], read: &[FileEntry]) -> Result<()> {
    let changed =
        |file: &&FileEntry| known.iter().any(|it| it.path == file.path && it.sha256 != file.sha256);
    read.iter().find(changed).map_or(Ok(()), |file| {
        let what = "the file changed after it was checked";
        Err(Error::refused(ErrorCode::Changed, what).at(directory.join(&file.path)))
    })
}

/// Configuration and weights of a model.
fn base_files(directory: &Path) -> Result<Vec<FileEntry>> {
    let mut names = vec!["config.json".to_owned()];
    if has_file(&directory.join(INDEX_FILE))? {
        names.push(INDEX_FILE.to_owned());
    }
    names.extend(shard_names(directory)?);
    hashed(directory, &names)
}

fn hashed(directory: &Path, names: &[String]) -> Result<Vec<FileEntry>> {
    names.iter().map(|name| hash_file(&directory.join(name), name)).collect()
}

/// The base of a configuration: with `names` merged into it, if there are any.
///
/// # Errors
/// Those of [`Stack::look`] and [`Stack::merged`].
pub fn on_named(base: ModelDirectory, names: &[String], supply: &Supply) -> Result<ModelDirectory> {
    if names.is_empty() {
        return Ok(base);
    }
    let adapters: Result<Vec<_>> = names.iter().map(|name| supply.named(name)).collect();
    Stack::look(base, adapters?)?.merged(supply)
}

/// What an adapter stands on by its lineage, if that is more than a base.
///
/// # Errors
/// When one of the adapters cannot be found, or is not the one of the lineage.
pub fn of_adapter(
    found: &ModelDirectory,
    past: &Past,
    base: &ModelDirectory,
    supply: &Supply,
) -> Result<Option<Stack>> {
    if past.base_adapters.is_empty() {
        return Ok(None);
    }
    let adapters = past.base_adapters.iter().map(|stated| find(found, stated, supply));
    let stack = Stack::look(base.clone(), adapters.collect::<Result<_>>()?)?;
    for (adapter, stated) in stack.adapters.iter().zip(&past.base_adapters) {
        if !adapter.is(stated) {
            return Err(Error::refused(
                ErrorCode::Adapter,
                format!("`{}` is not the adapter that `{}` stands on", stated.id, found.id),
            )
            .at(&adapter.directory.path)
            .because("the lineage names files of other bytes"));
        }
    }
    let other = |file: &&FileEntry| {
        past.base_files.get(&file.path).is_some_and(|digest| *digest != file.sha256)
    };
    match stack.base_files.iter().find(other) {
        Some(file) => Err(other_base(&base.path, &file.path)),
        None => Ok(Some(stack)),
    }
}

/// One that an adapter stands on. A stranger's word decides which one of the hub is read, and never
/// which folder here.
fn find(found: &ModelDirectory, stated: &BaseAdapter, supply: &Supply) -> Result<ModelDirectory> {
    let missing = |error: Error| {
        error.hint(format!(
            "`{}` was trained on the adapter `{}`, which must be there as well: put it where it \
             lay, or beside it by this name",
            found.id, stated.id
        ))
    };
    if let Some(revision) = &stated.revision {
        return supply.on_hub(&stated.id, revision).map_err(missing);
    }
    if found.commit().is_some() {
        let why = match RepoName::parse(RepoKind::Model, &stated.id) {
            Ok(_) => return supply.on_hub(&stated.id, DEFAULT_REVISION).map_err(missing),
            Err(_) => format!("`{}` is a folder of its maker", stated.id),
        };
        let what = "the adapter stands on one that is on no hub";
        return Err(missing(Error::adapter(what).because(why).at(&found.path)));
    }
    let own = found.path.canonicalize().unwrap_or_default();
    let above = own.ancestors().skip(1).take(ABOVE_MAX).map(|root| root.join(&stated.id));
    let asked = stated.asked.iter().map(PathBuf::from);
    let mut places = [PathBuf::from(&stated.id)].into_iter().chain(asked).chain(above);
    let there = |path: &PathBuf| resolve(&path.display().to_string()).is_ok_and(|it| it.adapter);
    match places.find(there) {
        Some(place) => resolve(&place.display().to_string()),
        None => {
            let what = format!("there is no adapter `{}`", stated.id);
            Err(missing(Error::adapter(what)))
        }
    }
}

/// The file of GGUF that the base of a stack was unpacked from, if it was.
///
/// # Errors
/// When what the directory says of it is damaged.
pub fn gguf_of(stack: Option<&Stack>, base: &ModelDirectory) -> Result<Option<FileEntry>> {
    gguf::source_of(stack.map_or(&base.path, |stack| &stack.base.path))
}
