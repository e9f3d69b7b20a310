//! Reads safetensors files whole: the bytes that are hashed are the bytes that are used.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::error::{Context, Error, Result};
use crate::files::{Digest, FileEntry, read_json};
use crate::weights::Element;

/// Largest index file read; those of the largest public models stay under 1 MiB.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// One safetensors file in memory, with the digest of exactly these bytes.
pub struct Shard {
    bytes: Vec<u8>,
    /// Name inside the model directory, size and digest.
    pub entry: FileEntry,
    path: PathBuf,
}

/// A tensor as it lies in the file.
pub struct TensorBytes<'a> {
    /// Hugging Face name, e.g. `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Number format.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Little-endian values.
    pub bytes: &'a [u8],
}

impl Shard {
    /// Reads a file and checks its header.
    pub fn read(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let mut file = File::open(&path).context_at("cannot open the weights", &path)?;
        let length = file.metadata().context_at("cannot read the weights", &path)?.len();
        let capacity = usize::try_from(length).context_at("the file is too large", &path)?;
        let mut bytes = Vec::with_capacity(capacity);
        file.read_to_end(&mut bytes).context_at("cannot read the weights", &path)?;
        let (digest, header) =
            rayon::join(|| Digest::of(&bytes), || SafeTensors::deserialize(&bytes).map(|_| ()));
        header.context_at("not a valid safetensors file", &path)?;
        let entry = FileEntry { path: name.to_owned(), size: bytes.len() as u64, sha256: digest };
        Ok(Self { bytes, entry, path })
    }

    /// Every tensor of the file, by name.
    pub fn tensors(&self) -> Result<Vec<TensorBytes<'_>>> {
        let parsed = SafeTensors::deserialize(&self.bytes)
            .context_at("not a valid safetensors file", &self.path)?;
        let mut tensors = Vec::with_capacity(parsed.len());
        for (name, view) in parsed.iter() {
            tensors.push(TensorBytes {
                element: Element::from_safetensors(view.dtype())
                    .map_err(|error| error.at(&self.path).because(format!("tensor `{name}`")))?,
                name: name.to_owned(),
                shape: view.shape().to_vec(),
                bytes: view.data(),
            });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tensors)
    }

    /// The raw header (length prefix included) and the data that follows it.
    pub fn header_and_data(&self) -> Result<(&[u8], &[u8])> {
        let (header_length, _) = SafeTensors::read_metadata(&self.bytes)
            .context_at("not a valid safetensors file", &self.path)?;
        Ok(self.bytes.split_at(header_length + 8))
    }
}

/// The weight files of a model directory: `model.safetensors`, or those that
/// `model.safetensors.index.json` names.
///
/// # Errors
/// Names with path separators are refused: an index is hostile input.
pub fn shard_names(directory: &Path) -> Result<Vec<String>> {
    let index = directory.join("model.safetensors.index.json");
    if !index.exists() {
        let single = directory.join("model.safetensors");
        if !single.exists() {
            return Err(Error::new("the model has no `model.safetensors`")
                .at(directory)
                .hint("Firebrand reads safetensors only; convert other formats first"));
        }
        return Ok(vec!["model.safetensors".to_owned()]);
    }
    let json = read_json(&index, INDEX_BYTES_MAX)?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| Error::new("the index has no `weight_map`").at(&index))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().unwrap_or_default();
        let plain = !file.is_empty()
            && !file.starts_with('.')
            && !file.contains(['/', '\\', '\0', ':'])
            && file.ends_with(".safetensors");
        if !plain {
            return Err(Error::new(format!(
                "tensor `{tensor}` lies in the unusable file `{file}`"
            ))
            .at(&index)
            .hint("an index may only name safetensors files in its own folder"));
        }
        names.insert(file.to_owned());
    }
    Ok(names.into_iter().collect())
}
