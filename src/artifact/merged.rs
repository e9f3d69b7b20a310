//! A whole model made of an adapter and its base, signed and with its lineage like any artifact.

use std::collections::BTreeMap;
use std::path::Path;

use super::bundle;
use super::card::Relation;
use super::derived::{Derivation, Made, hash_base_file, open_weights};
use super::likeness::{Likeness, Rows};
use super::merge::write_merged;
use super::open::with_adapter;
use super::origin::Origin;
use crate::config::DeviceChoice;
use crate::device;
use crate::error::{Error, Result};
use crate::model::{self, ModelJson, families};

/// Whether a merged model was compared with its adapter.
#[derive(Debug, Clone, PartialEq)]
pub enum Compared {
    /// It was.
    Yes(Likeness),
    /// It was not, and why.
    No(String),
}

/// Merges an adapter into its base and writes the result into a new directory. With `compare`, both
/// are then run on the prompts of the adapter's run, in f32 on the CPU, one after the other.
pub fn merge(request: &Derivation, compare: bool) -> Result<Compared> {
    request.refuse_existing()?;
    let origin = Origin::find(request.model, request.base, request.supply)?;
    if origin.adapter.is_none() {
        let found = &origin.model;
        return Err(
            Error::new(format!("`{}` is a whole model, not an adapter", found.id)).at(&found.path)
        );
    }
    let (weights, adapter_file) = open_weights(&origin)?;
    request.carry_out(|scratch| {
        let mut base_files = write_merged(weights, scratch)?;
        // The adapter's tokenizer is the base's, unless training changed the template.
        bundle::copy_sidecars(&origin.model.path, scratch, false)?;
        bundle::copy_missing(&origin.base.path, scratch)?;
        // Hashed where they were copied to: these bytes are the ones that are used.
        base_files.push(hash_base_file(&origin, scratch, "config.json")?);
        let index = "model.safetensors.index.json";
        if scratch.join(index).is_file() {
            base_files.push(hash_base_file(&origin, scratch, index)?);
        }
        origin.base.expect(&base_files)?;
        let compared = match compare {
            true => compared(&origin, scratch)?,
            false => Compared::No("not asked for".to_owned()),
        };
        let likeness = match &compared {
            Compared::Yes(found) => Some(found.clone()),
            Compared::No(_) => None,
        };
        let made = Made {
            method: "merge",
            relation: Relation::Merge,
            asked: BTreeMap::new(),
            base_files,
            adapter_file,
            likeness,
            exported: None,
        };
        let inputs = request.inputs(&origin, &made)?;
        Ok((origin, inputs, made, compared))
    })
}

/// Runs the adapter and the merged model on the same tokens.
fn compared(origin: &Origin, merged: &Path) -> Result<Compared> {
    let config = ModelJson::read(merged)?;
    let facts = families::find(&config)?.facts(&config)?;
    // One model in f32 at a time, and one of its files as it is read.
    let needed = 6 * facts.parameters;
    if let Some(left) = device::memory_bytes_available().filter(|left| *left < needed) {
        let (needed, left) = (needed >> 20, left >> 20);
        return Ok(Compared::No(format!(
            "to run both models takes about {needed} MiB of memory, of which {left} are left"
        )));
    }
    let opened = device::open(DeviceChoice::Cpu, 0)?;
    let rows = Rows::new(&origin.past.prompts, merged, &facts)?;
    let (lora, _) = origin.adapter.as_ref().expect("only adapters are merged");
    let (adapted, _) = with_adapter(&origin.base.path, &origin.model.path, lora, &opened.device)?;
    let of_adapter = rows.logits(&adapted);
    drop(adapted);
    let whole = model::load(merged, model::Init::Pretrained, &opened.device)?;
    let of_merged = rows.logits(&whole.model);
    Likeness::new(&rows, &of_adapter, &of_merged).map(Compared::Yes)
}
