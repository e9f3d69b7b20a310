//! Writes safetensors deterministically: equal tensors and metadata give equal bytes.
//!
//! Layout as the format's own writer has it (safetensors `serialize`): tensors by decreasing
//! alignment, then by name; header padded with spaces to a multiple of 8. The crate's writer
//! itself is not used, since it writes metadata in random order (safetensors issue 584).

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::files::{FileEntry, Hashing, NewFile, failed};
use crate::weights::Element;

/// What will be written under a name.
#[derive(Debug, Clone)]
pub struct TensorSpec {
    /// Hugging Face or PEFT name.
    pub name: String,
    /// Number format in the file.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Bytes of all numbers.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.element.size() as u64
    }
}

/// Writes a new file, asking `values` for one tensor at a time, and waits until the disk has it.
///
/// `values` returns the f32 values of a tensor of `specs`; its length must fit the shape.
pub fn write_safetensors(
    path: &Path,
    specs: Vec<TensorSpec>,
    metadata: &BTreeMap<String, String>,
    mut values: impl FnMut(&TensorSpec) -> Result<Vec<f32>>,
) -> Result<FileEntry> {
    write_tensors(path, specs, metadata, |spec| Ok(spec.element.encode(&values(spec)?)))
}

/// The same, with the bytes of each tensor.
pub fn write_tensors(
    path: &Path,
    mut specs: Vec<TensorSpec>,
    metadata: &BTreeMap<String, String>,
    mut bytes: impl FnMut(&TensorSpec) -> Result<Vec<u8>>,
) -> Result<FileEntry> {
    specs.sort_by(|a, b| (b.element.size(), &a.name).cmp(&(a.element.size(), &b.name)));
    let broken = |error| failed("cannot write the file", path, &error);
    let file = NewFile::begin(path).map_err(broken)?;
    let header = header(&specs, metadata);
    let size = header.len() as u64 + specs.iter().map(TensorSpec::bytes).sum::<u64>();
    file.reserve(size).map_err(broken)?;
    let mut out = Hashing::new(BufWriter::with_capacity(1 << 20, file));
    out.write_all(&header).map_err(broken)?;
    for spec in &specs {
        let bytes = bytes(spec)?;
        let name = &spec.name;
        assert_eq!(bytes.len() as u64, spec.bytes(), "tensor {name} does not fit its shape");
        out.write_all(&bytes).map_err(broken)?;
    }
    let (buffered, size, sha256) = out.finish();
    let file = buffered.into_inner().map_err(|error| broken(error.into_error()))?;
    file.sync().map_err(broken)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(FileEntry { path: name.unwrap_or_default(), size, sha256 })
}

/// The length prefix and the JSON header.
fn header(specs: &[TensorSpec], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut offset = 0;
    for spec in specs {
        let end = offset + spec.bytes();
        let entry = json!({
            "dtype": spec.element.name(),
            "shape": spec.shape,
            "data_offsets": [offset, end],
        });
        entries.insert(spec.name.clone(), entry);
        offset = end;
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;
    use crate::weights::{Shard, to_f32};

    #[test]
    fn what_is_written_is_read_back_and_twice_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |name: &str, element, shape: &[usize]| TensorSpec {
            name: name.to_owned(),
            element,
            shape: shape.to_vec(),
        };
        let specs = vec![
            spec("b", Element::BF16, &[3]),
            spec("z", Element::F32, &[2, 2]),
            spec("a", Element::F32, &[1]),
        ];
        let metadata: BTreeMap<_, _> =
            [("format", "pt"), ("x", "y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let write = |name: &str| {
            write_safetensors(&folder.path().join(name), specs.clone(), &metadata, |spec| {
                Ok((0..spec.shape.iter().product()).map(|i| i as f32 + 0.5).collect())
            })
            .unwrap()
        };
        let (one, two) = (write("1.safetensors"), write("2.safetensors"));
        assert_eq!(one.sha256, two.sha256);

        let shard = Shard::read(folder.path(), "1.safetensors").unwrap();
        assert_eq!(shard.entry.sha256, one.sha256);
        let tensors = shard.tensors().unwrap();
        let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "z"]);
        assert_eq!(to_f32(tensors[2].element, tensors[2].bytes), [0.5, 1.5, 2.5, 3.5]);
        let (header, _) = shard.header_and_data().unwrap();
        assert_eq!(header.len() % 8, 0);
    }

    #[test]
    fn an_index_cannot_point_outside() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        std::fs::write(&index, r#"{"weight_map":{"a":"../../x.safetensors"}}"#).unwrap();
        let error = crate::weights::shard_names(folder.path()).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[weights]: tensor `a` lies in the unusable file `../../x.safetensors`
  at [FOLDER]/model.safetensors.index.json

hint: an index may only name safetensors files in its own folder
"#]],
        );
    }

    #[test]
    fn a_folder_with_two_models_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let names = || crate::weights::shard_names(folder.path());
        write("model.safetensors.index.json", r#"{"weight_map":{"a":"one.safetensors"}}"#);
        assert_eq!(names().unwrap(), ["one.safetensors"]);
        write("model.safetensors", "");
        says(
            names().unwrap_err(),
            snapbox::str![[r#"
error[weights]: the folder holds two models: `model.safetensors` and shards
  at [FOLDER]
  because `model.safetensors.index.json` does not name `model.safetensors`

hint: remove the older of the two; transformers would load the single file
"#]],
        );
        write("model.safetensors.index.json", r#"{"weight_map":{"a":"model.safetensors"}}"#);
        assert_eq!(names().unwrap(), ["model.safetensors"]);
    }
}
