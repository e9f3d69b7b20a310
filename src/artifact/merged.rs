//! A whole model made of an adapter and its base, signed and with its lineage like any artifact.

use std::collections::BTreeMap;
use std::path::Path;

use super::bundle;
use super::card::{Card, Relation};
use super::keys::SigningKey;
use super::lineage::{ADAPTER_KEY, BaseRecord, Inputs, Outcome, RunRecord};
use super::merge::merge_weights;
use super::open::{Adapter, base_of};
use super::parent::{Parent, ParentSignature};
use super::peft;
use crate::error::{Error, Result};
use crate::files::{FileEntry, hash_file};
use crate::hub::{DEFAULT_REVISION, InputTrust, ModelDirectory, Supply};

/// What a merge is asked to do.
pub struct Merge<'a> {
    /// The adapter: an artifact, or a run that has one.
    pub adapter: &'a str,
    /// The base, if it is not where the adapter says.
    pub base: Option<&'a str>,
    /// The directory to make.
    pub out: &'a Path,
    /// Who signs; nobody without one.
    pub key: Option<&'a SigningKey>,
    /// The state of the adapter's own signature.
    pub parent: ParentSignature,
    /// The present time, RFC 3339.
    pub time: &'a str,
    /// Where models come from.
    pub supply: &'a Supply,
}

/// Merges an adapter into its base and writes the result into a new directory.
pub fn merge(request: &Merge) -> Result<()> {
    if request.out.exists() {
        return Err(Error::new("refusing to replace what is already there").at(request.out));
    }
    let found = request.supply.find(request.adapter, DEFAULT_REVISION)?;
    if !found.adapter {
        return Err(
            Error::new(format!("`{}` is a whole model, not an adapter", found.id)).at(&found.path)
        );
    }
    let adapter = Adapter::read(&found.path)?;
    let base = base_of(&found, &adapter, request.base, request.supply)?;
    let scratch = bundle::scratch(request.out)?;
    let result = (|| {
        let mut files = merge_weights(&found.path, &base.path, &scratch)?;
        // The adapter's tokenizer is the base's, unless training changed the template.
        bundle::copy_sidecars(&found.path, &scratch, false)?;
        bundle::copy_missing(&base.path, &scratch)?;
        files.push(hash_file(&base.path.join("config.json"), "config.json")?);
        seal(request, &found.path, &base, files, &scratch)
    })();
    if result.is_err() {
        let _ = std::fs::remove_dir_all(&scratch);
    }
    result
}

fn seal(
    request: &Merge,
    adapter: &Path,
    base: &ModelDirectory,
    base_files: Vec<FileEntry>,
    scratch: &Path,
) -> Result<()> {
    let settings = hash_file(&adapter.join(peft::CONFIG_FILE), peft::CONFIG_FILE)?;
    let weights = hash_file(&adapter.join(peft::WEIGHTS_FILE), peft::WEIGHTS_FILE)?;
    let mut inputs_of = base_files.clone();
    inputs_of.push(weights.clone());
    let inputs = Inputs::new(&RunRecord {
        config: (settings.path.clone(), settings.sha256),
        // Where the parent lies; the base below is the adapter's own.
        overrides: BTreeMap::from([(ADAPTER_KEY.to_owned(), request.adapter.to_owned())]),
        method: "merge".to_owned(),
        base: BaseRecord {
            id: base.id.clone(),
            revision: base.commit().map(str::to_owned),
            files: inputs_of,
            trust: InputTrust::Tofu,
            parent: Parent::of(adapter, request.parent)?,
        },
        datasets: Vec::new(),
        template: None,
        tokenizer: Vec::new(),
        resolved: BTreeMap::new(),
        seed: 0,
        device: BTreeMap::new(),
        deterministic: true,
        lock: None,
        registry: None,
        source: None,
    });
    let name = request.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let card = Card {
        name,
        relation: Relation::Merge,
        base: base.id.clone(),
        revision: base.commit().map(str::to_owned),
        base_files,
        license: None,
        datasets: Vec::new(),
        settings: vec![("adapter".to_owned(), request.adapter.to_owned())],
        loss: None,
        samples: Vec::new(),
        inputs: inputs.digest(),
        signer: request.key.map(|key| key.public().hint().to_owned()),
        versions: Vec::new(),
    };
    let outcome = Outcome {
        invocation_id: bundle::invocation_id(request.out),
        started: request.time.to_owned(),
        finished: request.time.to_owned(),
        versions: BTreeMap::new(),
        metrics: BTreeMap::new(),
        metrics_log: weights,
        checkpoints: Vec::new(),
        resumed: Vec::new(),
        reused: Vec::new(),
        changes: Vec::new(),
    };
    bundle::seal(scratch, request.out, &card, &inputs, &outcome, request.key)
}
