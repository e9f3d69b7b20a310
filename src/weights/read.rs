//! Reads safetensors files whole: the bytes that are hashed are the bytes that are used.

use std::collections::BTreeMap;
use std::path::Path;

use super::header::TensorPlace;
use super::stream::ShardStream;
use crate::error::{Error, Result};
use crate::files::{FileEntry, read_json};
use crate::weights::Element;

/// Largest index file read; those of the largest public models stay under 1 MiB.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// One safetensors file in memory, with the digest of exactly these bytes.
pub struct Shard {
    bytes: Vec<u8>,
    /// Name inside the model directory, size and digest.
    pub entry: FileEntry,
    /// Bytes of the header, length prefix included.
    header: usize,
    places: Vec<TensorPlace>,
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
    /// Reads a file, once its header was found to describe it.
    pub fn read(directory: &Path, name: &str) -> Result<Self> {
        Self::read_if(directory, name, |_| Ok(()))
    }

    /// Reads a file, if `fits` says that its tensors are those that are wanted.
    ///
    /// # Errors
    /// Those of `fits`, before anything but the header was read.
    pub fn read_if(
        directory: &Path,
        name: &str,
        fits: impl FnOnce(&[TensorPlace]) -> Result<()>,
    ) -> Result<Self> {
        let mut stream = ShardStream::open(directory, name)?;
        fits(stream.places()).map_err(|error| error.at(directory.join(name)))?;
        let (header, places) = (stream.header().len(), stream.places().to_vec());
        let mut bytes = stream.header().to_vec();
        let size = usize::try_from(stream.size());
        bytes.reserve_exact(size.unwrap_or(usize::MAX).saturating_sub(header));
        let mut piece = Vec::new();
        while stream.begin().is_some() {
            stream.read_all(&mut piece, PIECE_BYTES, |piece| bytes.extend_from_slice(piece))?;
        }
        Ok(Self { bytes, entry: stream.finish()?, header, places })
    }

    /// Every tensor of the file, by name.
    pub fn tensors(&self) -> Result<Vec<TensorBytes<'_>>> {
        let mut rest = &self.bytes[self.header..];
        let mut tensors = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let count = usize::try_from(place.bytes).unwrap_or(usize::MAX).min(rest.len());
            let (bytes, after) = rest.split_at(count);
            let (name, shape) = (place.name.clone(), place.shape.clone());
            tensors.push(TensorBytes { name, element: place.element, shape, bytes });
            rest = after;
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tensors)
    }

    /// Whether all of its tensors are numbers.
    ///
    /// # Errors
    /// When one holds NaN or infinite numbers.
    pub fn refuse_not_finite(&self) -> Result<()> {
        for tensor in self.tensors()? {
            let count = tensor.element.not_finite(tensor.bytes);
            if count > 0 {
                let (name, file) = (&tensor.name, &self.entry.path);
                let what = format!("`{file}` holds {count} NaN or infinite numbers in `{name}`");
                return Err(Error::weights(what));
            }
        }
        Ok(())
    }

    /// The raw header (length prefix included) and the data that follows it.
    pub fn header_and_data(&self) -> Result<(&[u8], &[u8])> {
        Ok(self.bytes.split_at(self.header))
    }
}

/// Bytes that are read and hashed at once.
const PIECE_BYTES: usize = 1 << 20;

/// The weight files of a model directory, and the file of each tensor where an index says it.
pub(super) struct Listed {
    /// Their names.
    pub names: Vec<String>,
    /// File by tensor, if there is an index.
    pub index: Option<BTreeMap<String, String>>,
}

/// The weight files of a model directory: `model.safetensors`, or those that
/// `model.safetensors.index.json` names.
///
/// # Errors
/// Names with path separators are refused: an index is hostile input.
pub fn shard_names(directory: &Path) -> Result<Vec<String>> {
    listed(directory).map(|listed| listed.names)
}

/// The same, with what the index says of each tensor.
pub(super) fn listed(directory: &Path) -> Result<Listed> {
    const SINGLE: &str = "model.safetensors";
    let (index, single) = (directory.join(INDEX_FILE), directory.join(SINGLE));
    if !index.exists() {
        if !single.exists() {
            return Err(Error::weights("the model has no `model.safetensors`")
                .at(directory)
                .hint("Firebrand reads safetensors only; convert other formats first"));
        }
        return Ok(Listed { names: vec![SINGLE.to_owned()], index: None });
    }
    let json = read_json(&index, INDEX_BYTES_MAX)?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| Error::weights("the index has no `weight_map`").at(&index))?;
    let mut of_tensor = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().unwrap_or_default();
        let plain = !file.is_empty()
            && !file.starts_with('.')
            && !file.contains(['/', '\\', '\0', ':'])
            && file.ends_with(".safetensors");
        if !plain {
            return Err(Error::weights(format!(
                "tensor `{tensor}` lies in the unusable file `{file}`"
            ))
            .at(&index)
            .hint("an index may only name safetensors files in its own folder"));
        }
        of_tensor.insert(tensor.clone(), file.to_owned());
    }
    let mut names: Vec<String> = of_tensor.values().cloned().collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(Error::weights("the index names no file").at(&index));
    }
    // A model that was saved again into a folder of shards: programs differ in which they take.
    if single.exists() && !names.iter().any(|name| name == SINGLE) {
        return Err(Error::weights(format!("the folder holds two models: `{SINGLE}` and shards"))
            .at(directory)
            .because(format!("`{INDEX_FILE}` does not name `{SINGLE}`"))
            .hint("remove the older of the two; transformers would load the single file"));
    }
    Ok(Listed { names, index: Some(of_tensor) })
}

/// The file that says in which file a tensor is.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
