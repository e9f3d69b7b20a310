//! GGUF, the format of llama.cpp and of the programs built on it.

mod architecture;
mod change;
mod checks;
mod file;
mod gemma4;
mod keys;
mod layout;
mod numbers;
mod own;
mod qwen35;
mod shape;
mod splitting;
mod targets;
mod vocabulary;
mod writer;

use std::path::Path;

use file::{ALIGNMENT, Keys};
use layout::Layout;
use numbers::NumberFormat;
use vocabulary::Vocabulary;
use writer::Writer;

use super::{Contents, Export, Source, Written};
use crate::artifact::merge::Weights;
use crate::error::Result;
use crate::hub::ModelDirectory;
use crate::model::{Description, families};
use crate::weights::Element;

/// The format.
pub struct Gguf;

/// Types by name, with what file names call them and the number that says so (`enum llama_ftype`).
const TYPES: [(&str, &str, NumberFormat, u32); 4] = [
    ("f16", "F16", NumberFormat::Plain(Element::F16), 1),
    ("q8_0", "Q8_0", NumberFormat::Blocks, 7),
    ("bf16", "BF16", NumberFormat::Plain(Element::BF16), 32),
    ("f32", "F32", NumberFormat::Plain(Element::F32), 0),
];
const NAMES: [&str; 4] = [TYPES[0].0, TYPES[1].0, TYPES[2].0, TYPES[3].0];
/// Of the format of quantised numbers; readers refuse others.
const QUANTIZATION_VERSION: u32 = 2;
/// Under this key the file holds the SHA-256 of its `lineage.inputs.json`.
const INPUTS_KEY: &str = "firebrand.inputs_sha256";

impl Export for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn types(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn contents(&self) -> Contents {
        Contents::Model(write)
    }
}

fn write(source: &Source, weights: Weights, target: &Path) -> Result<Written> {
    let (_, label, numbers, file_type) = *TYPES
        .iter()
        .find(|(name, ..)| *name == source.number)
        .expect("the type was found among ours");
    let mut facts = families::describe(&source.config)?;
    if let Some((_, apart)) = facts.stacked_expert()
        && weights.places().any(|place| facts.names.path_of(&place.name) == Some(apart.clone()))
    {
        facts = facts.with_experts_apart();
    }
    let architecture = architecture::find(&facts)?;
    let mut keys = Keys::default();
    keys.text("general.architecture", architecture.name);
    general(source, &facts, file_type, &mut keys);
    let binding = keys.text(INPUTS_KEY, &"0".repeat(64));
    keys.text("firebrand.version", env!("CARGO_PKG_VERSION"));
    architecture.write_keys(&facts, &mut keys)?;
    Vocabulary::read(&source.tokenizer, facts.vocabulary)?.write(&source.codec, &mut keys)?;
    let layout = Layout::new(architecture, &facts, &weights, numbers)
        .map_err(|error| error.at(&source.origin.base.path))?;
    let mut notes = Vec::new();
    if layout.kept > 0 {
        notes.push(format!(
            "{} matrices stay in f16: their rows are not whole blocks of {label}",
            layout.kept
        ));
    }
    if layout.left_out > 0 {
        let left_out = layout.left_out;
        notes.push(format!("{left_out} tensors that the text model does not use are left out"));
    }
    if layout.coded > 0 {
        notes.push(format!("{} tensors of experts stay in MXFP4", layout.coded));
    }
    notes.extend(architecture.note(&facts));
    let file = format!("{}-{label}.gguf", plain(source.name));
    let mut writer = Writer::begin(&target.join(&file), &keys, layout)?;
    let base_files = weights.read(&mut writer)?;
    let binding = Some(writer.keys_begin + binding);
    writer.finish()?;
    Ok(Written { file, base_files, binding, notes })
}

/// A name without anything that shells, file systems or pages would take for something else.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(keep).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "model".to_owned(),
        rest => rest.to_owned(),
    }
}

/// What the file says of itself: name, size, licence, where it comes from.
fn general(source: &Source, facts: &Description, file_type: u32, keys: &mut Keys) {
    let (origin, past) = (source.origin, &source.origin.past);
    keys.text("general.type", "model");
    keys.text("general.name", source.name);
    keys.text("general.size_label", &size_label(facts.parameters));
    if let Some(license) = &past.license {
        keys.text("general.license", license);
    }
    keys.texts("general.tags", &["firebrand", "text-generation"]);
    keys.text("firebrand.source", &origin.model.id);
    let mut parents: Vec<&ModelDirectory> = vec![&origin.base];
    if origin.adapter.is_some() {
        parents.push(&origin.model);
    }
    keys.number("general.base_model.count", parents.len() as u32);
    for (number, parent) in parents.into_iter().enumerate() {
        let commit = parent.commit();
        // On a hub it is `owner/name`, here a path: that is its name.
        let id = commit.and_then(|_| parent.id.split_once('/'));
        let name = |key: &str| format!("general.base_model.{number}.{key}");
        keys.text(&name("name"), id.map_or(&parent.id, |(_, rest)| rest));
        if let (Some((owner, _)), Some(commit)) = (id, commit) {
            keys.text(&name("organization"), owner);
            keys.text(&name("version"), commit);
        }
        let endpoint = parent.locked.as_ref().and_then(|locked| locked.endpoint.as_deref());
        if let Some(endpoint) = endpoint {
            keys.text(&name("repo_url"), &format!("{endpoint}/{}", parent.id));
        }
    }
    let datasets: Vec<_> = past.datasets.iter().collect();
    keys.number("general.dataset.count", u32::try_from(datasets.len()).unwrap_or(u32::MAX));
    for (number, set) in datasets.into_iter().enumerate() {
        let name = |key: &str| format!("general.dataset.{number}.{key}");
        keys.text(&name("name"), &set.name);
        if let Some((id, commit)) = set.on_hub() {
            keys.text(&name("version"), commit);
            keys.text(&name("organization"), id.split('/').next().unwrap_or(id));
        }
        keys.text(&name("description"), &format!("sha256 {}", set.sha256));
    }
    keys.number("general.file_type", file_type);
    keys.number("general.quantization_version", QUANTIZATION_VERSION);
    keys.number("general.alignment", ALIGNMENT as u32);
}

/// How many weights there are, as llama.cpp's converter rounds it.
#[expect(clippy::cast_precision_loss)] // for people
fn size_label(parameters: u64) -> String {
    let (scaled, unit) = match parameters {
        0..1_000_000 => (parameters as f64 / 1e3, "K"),
        1_000_000..1_000_000_000 => (parameters as f64 / 1e6, "M"),
        _ => (parameters as f64 / 1e9, "B"),
    };
    let digits = if scaled < 10.0 { 1 } else { 0 };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
