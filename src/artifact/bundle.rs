//! The folder of an artifact: begun in a scratch place, sealed with card, lineage and signature,
//! committed by one rename.

use super::parent;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::card::{self, Card};
use super::envelope::{Bundle, IN_TOTO};
use super::keys::SigningKey;
use super::lineage::INPUTS_FILE;
use super::provenance::{self, Lineage};
use super::signature;
use crate::error::{Error, Result};
use crate::files::{
    create_dir_new, folder_of, has_file, hash_tree, read_bytes, read_json, remove_dir, rename_new,
    sync_dir, write_atomic, write_synced,
};
use crate::random::mix;

/// Files that go along with a model unchanged, where they exist.
const SIDECARS: [&str; 12] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "USE_POLICY.md",
];
/// Those that only a whole model needs; the last two are of models that read images, too.
const MODEL_SIDECARS: [&str; 3] =
    ["config.json", "preprocessor_config.json", "processor_config.json"];
/// Those that decide how text becomes tokens.
const TEXTS: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];
/// Named chat templates beside the model's own, as transformers keeps them.
const NAMED_TEMPLATES: &str = "additional_chat_templates";
/// More of them than this are no templates of a model.
const NAMED_TEMPLATES_MAX: usize = 64;

/// Largest JSON file of a model that is changed.
const JSON_BYTES_MAX: u64 = 16 << 20;
/// Files that are taken over as they are; a tokenizer is the largest of them.
const COPIED_BYTES_MAX: u64 = 256 << 20;

/// A new scratch folder beside the place where the finished folder will be.
pub fn scratch(target: &Path) -> Result<PathBuf> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let scratch = target.with_file_name(format!(".tmp-{name}.{}", std::process::id()));
    remove_leftovers(target)?;
    create_dir_new(&scratch)?;
    Ok(scratch)
}

/// Removes what processes that were killed have left beside `target`. Who writes there holds a lock
/// or is alone.
fn remove_leftovers(target: &Path) -> Result<()> {
    let folder = folder_of(target);
    let begins = format!(".tmp-{}.", target.file_name().unwrap_or_default().to_string_lossy());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&begins) {
            remove_dir(&entry.path())?;
        }
    }
    Ok(())
}

/// Adds card, lineage and signature, and commits the folder; its provenance is put beside it.
pub fn seal(
    scratch: &Path,
    target: &Path,
    card: &Card,
    lineage: &Lineage,
    key: Option<&SigningKey>,
) -> Result<()> {
    write_synced(&scratch.join(card::FILE), card.to_markdown().as_bytes())?;
    write_synced(&scratch.join(INPUTS_FILE), lineage.inputs.to_json().as_bytes())?;
    let subjects = hash_tree(scratch)?;
    let statement = lineage.statement(&subjects);
    write_synced(&scratch.join(parent::STATEMENT_FILE), statement.as_bytes())?;
    let provenance = lineage.provenance(&subjects);
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unsigned = provenance::unsigned_of(target);
    if let Some(key) = key {
        signature::sign_named(scratch, &name, key)?;
        let bundle = Bundle::sign(IN_TOTO, provenance.into_bytes(), key)?;
        let line = format!("{}\n", bundle.to_json());
        let beside = target.with_file_name(format!("{name}{}", signature::ATTESTATIONS));
        write_atomic(&beside, line.as_bytes())?;
    } else if let Some(path) = unsigned {
        write_atomic(&path, provenance.as_bytes())?;
    }
    sync_dir(scratch)?;
    rename_new(scratch, target)?;
    sync_dir(folder_of(target))
}

/// Copies tokenizer, templates and licence; for a whole model its configuration too.
pub fn copy_sidecars(from: &Path, target: &Path, whole_model: bool) -> Result<()> {
    let more: &[&str] = if whole_model { &MODEL_SIDECARS } else { &[] };
    SIDECARS.iter().chain(more).try_for_each(|name| copy(from, target, name))?;
    copy_named_templates(from, target)
}

/// What of a directory goes along with a model made of it.
///
/// # Errors
/// When one of them is no file.
pub fn sidecars(from: &Path) -> Result<Vec<String>> {
    there(from, SIDECARS.iter().chain(&MODEL_SIDECARS))
}

/// What of it decides how text becomes tokens.
///
/// # Errors
/// When one of them is no file.
pub fn texts(from: &Path) -> Result<Vec<String>> {
    there(from, TEXTS.iter())
}

fn there<'a>(from: &Path, names: impl Iterator<Item = &'a &'static str>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in names {
        if has_file(&from.join(name))? {
            all.push((*name).to_owned());
        }
    }
    all.extend(named_templates(from));
    Ok(all)
}

/// The named templates of a directory, in order.
fn named_templates(from: &Path) -> Vec<String> {
    let entries = fs::read_dir(from.join(NAMED_TEMPLATES)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".jinja"))
        .map(|name| format!("{NAMED_TEMPLATES}/{name}"))
        .collect();
    names.sort_unstable();
    names
}

fn copy_named_templates(from: &Path, target: &Path) -> Result<()> {
    let names = named_templates(from);
    if names.len() > NAMED_TEMPLATES_MAX {
        return Err(Error::model(format!("{} chat templates are too many", names.len()))
            .at(from.join(NAMED_TEMPLATES)));
    }
    if !names.is_empty() && !target.join(NAMED_TEMPLATES).exists() {
        create_dir_new(&target.join(NAMED_TEMPLATES))?;
        names.iter().try_for_each(|name| copy(from, target, name))?;
    }
    Ok(())
}

/// Puts a template in the place of all that the model has.
pub fn replace_templates(target: &Path, template: &str) -> Result<()> {
    if target.join(NAMED_TEMPLATES).exists() {
        remove_dir(&target.join(NAMED_TEMPLATES))?;
    }
    let path = target.join("chat_template.jinja");
    let _ = fs::remove_file(&path); // the base model's
    write_synced(&path, template.as_bytes())
}

/// Copies those files of a whole model that are not there yet, and the index of its shards.
pub fn copy_missing(from: &Path, target: &Path) -> Result<()> {
    let index = ["model.safetensors.index.json"];
    let own_template = target.join("chat_template.jinja").exists();
    let names = SIDECARS.iter().chain(&MODEL_SIDECARS).chain(&index);
    let missing = names.filter(|name| !target.join(name).exists());
    missing.into_iter().try_for_each(|name| copy(from, target, name))?;
    if own_template { Ok(()) } else { copy_named_templates(from, target) }
}

/// Changes keys of the `config.json` that was copied into a folder.
pub fn change_config(target: &Path, changes: &[(&str, Value)]) -> Result<()> {
    change_json(&target.join("config.json"), |json| {
        for (key, value) in changes {
            json[*key] = value.clone();
        }
    })
}

/// Says in the `config.json` of a folder how many rows the embedding has.
pub fn change_vocabulary(folder: &Path, rows: usize) -> Result<()> {
    const KEY: &str = "vocab_size";
    change_json(&folder.join("config.json"), |json| {
        let text = json.get("text_config").is_some_and(Value::is_object);
        if text {
            json["text_config"][KEY] = rows.into();
        }
        if !text || json.get(KEY).is_some() {
            json[KEY] = rows.into();
        }
    })
}

/// Writes a JSON file as people read it.
pub fn write_json(path: &Path, json: &Value) -> Result<()> {
    write_synced(path, format!("{json:#}\n").as_bytes())
}

/// Changes a JSON file; its other keys stay as they are, in their order.
pub fn change_json(path: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut json = read_json(path, JSON_BYTES_MAX)?;
    if !json.is_object() {
        return Err(Error::model("not a JSON object").at(path));
    }
    change(&mut json);
    write_atomic(path, format!("{json:#}\n").as_bytes())
}

fn copy(from: &Path, target: &Path, name: &str) -> Result<()> {
    let path = from.join(name);
    if !has_file(&path)? {
        return Ok(());
    }
    let bytes = read_bytes(&path, COPIED_BYTES_MAX)?;
    write_synced(&target.join(name), &bytes)
}

/// A name for this making of this run, in the form of a random UUID.
pub fn invocation_id(run: &Path) -> String {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond().unsigned_abs();
    #[expect(clippy::cast_possible_truncation)] // all bits are mixed in
    let time = (nanoseconds as u64) ^ ((nanoseconds >> 64) as u64);
    let place = run.display().to_string();
    let place = place.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
    let high = mix(time ^ u64::from(std::process::id()));
    let low = mix(high ^ place);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
