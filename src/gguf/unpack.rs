//! A GGUF file as a model directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::architectures::GgufArchitecture;
use super::file::{GgufFile, GgufTensor};
use super::targets::TensorTarget;
use super::tokenizer::{self, TokenizerFiles};
use crate::error::{Context, Error, Result};
use crate::event;
use crate::files::{
    FileEntry, create_dir_new, has_file, hash_file, read_json, remove_dir, rename_new, sync_dir,
    write_synced,
};
use crate::weights::ggml::TensorType;
use crate::weights::{BLOCKS_KEY, Element, TensorSpec, write_tensors};

/// What is said in an unpacked directory of the file that it comes from.
const SOURCE_FILE: &str = "gguf.json";
/// A change of what is made of a file changes this, so that older ones are not taken.
const FORM: u32 = 4;
const SOURCE_BYTES_MAX: u64 = 1 << 16;

/// Whether a path names a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// The model directory of a GGUF file, below `cache`: made now if it is not there, of which `tell`
/// hears. The digest of the file, which names the directory, is taken each time.
///
/// # Errors
/// When the file cannot be read, or says something that has no counterpart here.
pub fn unpack(path: &Path, cache: &Path, tell: impl FnOnce(&str)) -> Result<(PathBuf, FileEntry)> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let source = hash_file(path, &name.unwrap_or_default())?;
    let folder = cache.join("gguf").join(format!("{}-{FORM}", source.sha256));
    if !has_file(&folder.join(SOURCE_FILE))? {
        let made = cache.join("gguf").join(format!(".{}.{}", source.sha256, std::process::id()));
        std::fs::create_dir_all(cache.join("gguf")).context_at("cannot make a folder", cache)?;
        let done = make(path, &made, &source, tell).and_then(|()| put(&made, &folder));
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

fn make(path: &Path, folder: &Path, source: &FileEntry, tell: impl FnOnce(&str)) -> Result<()> {
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
    let targets = targets(architecture, &file, &config).map_err(refused)?;
    let files = tokenizer::read(&file.metadata).map_err(refused)?;
    tell(&format!(
        "unpacking `{}` into a model directory in the cache, once: {}",
        path.display(),
        event::bytes(unpacked_bytes(&targets))
    ));
    create_dir_new(folder)?;
    write_texts(folder, config, files, &targets)?;
    let specs = targets.iter().map(|(name, made)| made.spec(name));
    let weights = folder.join("model.safetensors");
    write_tensors(&weights, specs.collect(), &block_types(&targets)?, |spec| {
        targets[&spec.name].bytes(&mut file, refused)
    })?;
    let again = hash_file(path, &source.path)?;
    if again.sha256 != source.sha256 {
        return Err(Error::changed("the file changed while it was read").at(path));
    }
    // Last: it says that all else is there.
    let json = json!({ "file": source, "firebrand": env!("CARGO_PKG_VERSION") });
    write_text(folder, SOURCE_FILE, &json)
}

/// A tensor that is made of one of the file, or of several.
struct MadeTensor {
    target: TensorTarget,
    sources: Vec<GgufTensor>,
}

impl MadeTensor {
    fn shape(&self) -> Vec<usize> {
        self.target.shape(&self.sources[0].shape)
    }

    /// The type of its blocks, if it keeps those of the file.
    fn blocks(&self) -> Option<&'static TensorType> {
        let source = &self.sources[0];
        let kept = self.target.keeps_rows() && source.shape.len() > 1;
        Some(source.kind).filter(|kind| kept && kind.is_quantised())
    }

    /// How it stands in the file that is written: blocks are bytes.
    fn spec(&self, name: &str) -> TensorSpec {
        let (mut element, mut shape) = (self.element(), self.shape());
        if let Some((kind, row)) = self.blocks().zip(shape.last_mut()) {
            element = Element::U8;
            *row = *row / kind.block * kind.bytes;
        }
        TensorSpec { name: name.to_owned(), element, shape }
    }

    fn bytes(&self, file: &mut GgufFile, refused: impl Fn(String) -> Error) -> Result<Vec<u8>> {
        if self.blocks().is_none() {
            return Ok(self.element().encode(&self.values(file, refused)?));
        }
        let source = &self.sources[0];
        let (bytes, rows) = (file.bytes(source)?, source.shape[0]);
        let width = bytes.len() / rows;
        self.target.rows(bytes, width).ok_or_else(|| refused(self.target.no_heads()))
    }

    /// The format of its numbers: quantised ones have more digits than 16 bits hold.
    fn element(&self) -> Element {
        match self.sources[0].kind.name {
            _ if self.target.is_coded() => Element::U8,
            "F16" => Element::F16,
            "BF16" => Element::BF16,
            _ => Element::F32,
        }
    }

    fn values(&self, file: &mut GgufFile, refused: impl Fn(String) -> Error) -> Result<Vec<f32>> {
        let (target, shape) = (&self.target, &self.sources[0].shape);
        if target.is_coded() {
            let sources: Result<Vec<_>> = self.sources.iter().map(|of| file.bytes(of)).collect();
            return Ok(target.of_codes(&sources?, shape));
        }
        if target.is_joined() {
            let sources: Result<Vec<_>> = self.sources.iter().map(|of| file.values(of)).collect();
            return Ok(target.of_several(&sources?, shape));
        }
        let values = file.values(&self.sources[0])?;
        let made = target.of_one(values, shape);
        made.ok_or_else(|| refused(target.no_heads()))
    }
}

/// What becomes of the tensors of a file, by the names that they have then.
fn targets(
    architecture: &'static GgufArchitecture,
    file: &GgufFile,
    config: &Value,
) -> Result<BTreeMap<String, MadeTensor>, String> {
    let mut targets: BTreeMap<String, MadeTensor> = BTreeMap::new();
    // Those that are joined come in their order.
    let mut all = Vec::new();
    for (name, tensor) in &file.tensors {
        for target in architecture.targets(name, &file.tensors, config)? {
            all.push((name, tensor, target));
        }
    }
    all.sort_by_key(|(.., target)| target.joined[0]);
    for (name, tensor, target) in all {
        let part = match target.part {
            None => tensor.clone(),
            Some([number, count]) => tensor
                .part(number, count)
                .ok_or_else(|| format!("`{name}` is not made of {count} experts"))?,
        };
        match targets.get_mut(&target.name) {
            None if target.joined[0] == 0 => {
                let made = MadeTensor { sources: vec![part], target };
                targets.insert(made.target.name.clone(), made);
            }
            Some(made)
                if made.sources.len() == target.joined[0]
                    && made.sources[0].shape == part.shape
                    && made.sources[0].kind.id == part.kind.id =>
            {
                made.sources.push(part);
            }
            _ => return Err(format!("`{name}` does not fit what else the file has")),
        }
    }
    match targets.values().find(|made| made.sources.len() != made.target.joined[1]) {
        Some(made) => Err(format!("it has not all that `{}` is made of", made.target.name)),
        None => Ok(targets),
    }
}

fn unpacked_bytes(targets: &BTreeMap<String, MadeTensor>) -> u64 {
    targets.iter().map(|(name, made)| made.spec(name).bytes()).sum()
}

/// What the file that is written says of tensors in blocks.
fn block_types(targets: &BTreeMap<String, MadeTensor>) -> Result<BTreeMap<String, String>> {
    let of = |(name, made): (&String, &MadeTensor)| Some((name.clone(), made.blocks()?.name));
    let types: BTreeMap<String, &str> = targets.iter().filter_map(of).collect();
    if types.is_empty() {
        return Ok(BTreeMap::new());
    }
    let text = serde_json::to_string(&types).context("cannot encode a file")?;
    Ok(BTreeMap::from([(BLOCKS_KEY.to_owned(), text)]))
}

fn write_texts(
    folder: &Path,
    mut config: Value,
    files: TokenizerFiles,
    targets: &BTreeMap<String, MadeTensor>,
) -> Result<()> {
    let numbers = targets.values().filter(|made| !made.target.is_coded());
    let largest = numbers.max_by_key(|made| made.shape().iter().product::<usize>());
    config["dtype"] = match largest.map(MadeTensor::element) {
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
