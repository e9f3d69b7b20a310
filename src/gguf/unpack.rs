//! A GGUF file as a model directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::architectures::{GgufArchitecture, TensorTarget};
use super::file::{GgufFile, GgufTensor};
use super::tokenizer::{self, TokenizerFiles};
use crate::error::{Context, Error, Result};
use crate::files::{
    FileEntry, create_dir_new, has_file, hash_file, read_json, remove_dir, rename_new, sync_dir,
    write_synced,
};
use crate::weights::{Element, TensorSpec, write_safetensors};

/// What is said in an unpacked directory of the file that it comes from.
const SOURCE_FILE: &str = "gguf.json";
/// A change of what is made of a file changes this, so that older ones are not taken.
const FORM: u32 = 1;
const SOURCE_BYTES_MAX: u64 = 1 << 16;

/// Whether a path names a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// The model directory of a GGUF file, below `cache`: made now if it is not there. The digest of
/// the file, which names the directory, is taken each time.
///
/// # Errors
/// When the file cannot be read, or says something that has no counterpart here.
pub fn unpack(path: &Path, cache: &Path) -> Result<(PathBuf, FileEntry)> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let source = hash_file(path, &name.unwrap_or_default())?;
    let folder = cache.join("gguf").join(format!("{}-{FORM}", source.sha256));
    if !has_file(&folder.join(SOURCE_FILE))? {
        let made = cache.join("gguf").join(format!(".{}.{}", source.sha256, std::process::id()));
        std::fs::create_dir_all(cache.join("gguf")).context_at("cannot make a folder", cache)?;
        let done = make(path, &made, &source).and_then(|()| put(&made, &folder));
        if done.is_err() {
            let _ = remove_dir(&made);
        }
        done?;
    }
    Ok((folder, source))
}

/// The file that a model directory was unpacked from, if it was.
///
/// # Errors
/// When what the directory says of it is damaged.
pub fn source_of(directory: &Path) -> Result<Option<FileEntry>> {
    let path = directory.join(SOURCE_FILE);
    if !has_file(&path)? {
        return Ok(None);
    }
    let json = read_json(&path, SOURCE_BYTES_MAX)?;
    let entry = serde_json::from_value(json["file"].clone());
    entry.map(Some).map_err(|error| {
        Error::model("what this directory was unpacked from is damaged").at(&path).because(error)
    })
}

fn put(made: &Path, folder: &Path) -> Result<()> {
    sync_dir(made)?;
    match rename_new(made, folder) {
        // Another process was sooner, with the same bytes.
        Err(_) if folder.exists() => remove_dir(made),
        moved => moved,
    }
}

fn make(path: &Path, folder: &Path, source: &FileEntry) -> Result<()> {
    let mut file = GgufFile::open(path)?;
    let refused = |why: String| {
        Error::model("this GGUF file cannot be a base")
            .at(path)
            .because(why)
            .hint("use the same model as safetensors")
    };
    let architecture = GgufArchitecture::of(&file.metadata).map_err(refused)?;
    let mut factors = BTreeMap::new();
    for name in GgufArchitecture::FACTORS {
        if let Some(tensor) = file.tensors.remove(name) {
            factors.insert(name, file.values(&tensor)?);
        }
    }
    let config = architecture.config(&file.metadata, &file.tensors, factors).map_err(refused)?;
    let targets: BTreeMap<String, (TensorTarget, GgufTensor)> = file
        .tensors
        .iter()
        .map(|(name, tensor)| {
            let target = architecture.target(name, &config)?;
            Ok((target.name.clone(), (target, tensor.clone())))
        })
        .collect::<Result<_, String>>()
        .map_err(refused)?;
    if targets.len() != file.tensors.len() {
        return Err(refused("two of its tensors have one name in a checkpoint".to_owned()));
    }
    let files = tokenizer::read(&file.metadata).map_err(refused)?;
    create_dir_new(folder)?;
    write_texts(folder, config, files, &targets)?;
    let specs = targets.iter().map(|(name, (_, tensor))| TensorSpec {
        name: name.clone(),
        element: element(tensor),
        shape: tensor.shape.clone(),
    });
    write_safetensors(
        &folder.join("model.safetensors"),
        specs.collect(),
        &BTreeMap::new(),
        |spec| {
            let (target, tensor) = &targets[&spec.name];
            let values = file.values(tensor)?;
            match target.turned {
                None => Ok(values),
                Some(head) => turned_back(&values, head, &spec.shape)
                    .ok_or_else(|| refused(format!("`{}` has no whole heads", spec.name))),
            }
        },
    )?;
    let again = hash_file(path, &source.path)?;
    if again.sha256 != source.sha256 {
        return Err(Error::changed("the file changed while it was read").at(path));
    }
    // Last: it says that all else is there.
    let json = json!({ "file": source, "firebrand": env!("CARGO_PKG_VERSION") });
    write_text(folder, SOURCE_FILE, &json)
}

/// Quantised numbers have more digits than 16 bits hold.
fn element(tensor: &GgufTensor) -> Element {
    match tensor.kind.name {
        "F16" => Element::F16,
        "BF16" => Element::BF16,
        _ => Element::F32,
    }
}

fn write_texts(
    folder: &Path,
    mut config: Value,
    files: TokenizerFiles,
    targets: &BTreeMap<String, (TensorTarget, GgufTensor)>,
) -> Result<()> {
    let largest = targets.values().max_by_key(|(_, tensor)| tensor.shape.iter().product::<usize>());
    config["dtype"] = match largest.map(|(_, tensor)| element(tensor)) {
        Some(Element::F16) => "float16",
        Some(Element::BF16) => "bfloat16",
        _ => "float32",
    }
    .into();
    write_text(folder, "config.json", &config)?;
    write_text(folder, "tokenizer.json", &files.tokenizer)?;
    write_text(folder, "tokenizer_config.json", &files.config)?;
    write_text(folder, "generation_config.json", &files.generation)?;
    if let Some(template) = &files.template {
        let path = folder.join("chat_template.jinja");
        write_synced(&path, template.as_bytes())?;
    }
    Ok(())
}

fn write_text(folder: &Path, name: &str, json: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(json).context("cannot encode a file")? + "\n";
    write_synced(&folder.join(name), text.as_bytes())
}

/// Rows of heads as transformers has them, two halves, where llama.cpp has neighbours. A bias is a
/// row of one number each.
fn turned_back(values: &[f32], head: usize, shape: &[usize]) -> Option<Vec<f32>> {
    let width: usize = shape.iter().skip(1).product();
    let (half, size) = (head / 2, head * width);
    (size > 0 && values.len().is_multiple_of(size) && head.is_multiple_of(2)).then_some(())?;
    let mut turned = vec![0.0; values.len()];
    for (head, out) in values.chunks_exact(size).zip(turned.chunks_exact_mut(size)) {
        for row in 0..half {
            for part in 0..2 {
                let (from, to) = ((2 * row + part) * width, (part * half + row) * width);
                out[to..to + width].copy_from_slice(&head[from..from + width]);
            }
        }
    }
    Some(turned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_halves_in_every_head() {
        let rows = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
        let halves = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        assert_eq!(turned_back(&rows, 4, &[8, 1]).unwrap(), halves);
        assert_eq!(turned_back(&rows, 4, &[8]).unwrap(), halves);
        assert_eq!(turned_back(&rows, 3, &[8]), None);
    }
}
