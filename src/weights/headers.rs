//! What the weight files of a model hold, by their headers alone: looked at before anything is
//! allocated, drawn or trained.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::header;
use super::header::TensorPlace;
use super::read::{INDEX_FILE, listed};
use super::stream::ShardStream;
use crate::error::{Context, Error, Result};
use crate::weights::bitsandbytes::QuantState;
use crate::weights::ggml::TensorType;
use crate::weights::{Element, to_f32};

/// Numbers that are compared at a time.
const COMPARED: usize = 1 << 18;
/// Files and names of one complaint.
const NAMES_SHOWN: usize = 5;

/// The headers of all weight files of a model.
pub struct Headers {
    pub(super) directory: PathBuf,
    pub(super) tensors: BTreeMap<String, LocatedTensor>,
    /// Tensors that the model has no part in.
    others: Vec<LocatedTensor>,
    /// Matrices that are coded, and the tensors that they are made of besides their codes.
    pub(super) coded: BTreeMap<String, QuantState>,
    pub(super) parts: Vec<LocatedTensor>,
    /// Files, in the order of their names.
    files: Vec<String>,
}

/// A tensor, and where it is.
#[derive(Debug, Clone)]
pub struct LocatedTensor {
    /// What its header says of it.
    pub place: TensorPlace,
    /// The file's name in its directory.
    pub file: String,
    /// Where in the file it begins.
    begin: u64,
}

impl Headers {
    /// Opens every weight file of a model, and reads their headers.
    ///
    /// # Errors
    /// When one is not a whole safetensors file, when a tensor stands in two, or when the index
    /// says something else than the files do.
    pub fn read(directory: &Path) -> Result<Self> {
        let listed = listed(directory)?;
        let mut tensors: BTreeMap<String, LocatedTensor> = BTreeMap::new();
        for file in &listed.names {
            let shard = ShardStream::open(directory, file)?;
            let mut begin = shard.header().len() as u64;
            for place in shard.places() {
                let found = LocatedTensor { place: place.clone(), file: file.clone(), begin };
                begin += place.stored_bytes();
                if let Some(other) = tensors.insert(place.name.clone(), found) {
                    let (name, other) = (&place.name, other.file);
                    return Err(Error::weights(format!("tensor `{name}` is in two files"))
                        .at(directory)
                        .because(format!("they are `{other}` and `{file}`")));
                }
            }
        }
        let (directory, files) = (directory.to_owned(), listed.names);
        let (others, parts, coded) = (Vec::new(), Vec::new(), BTreeMap::new());
        let headers = Self { directory, tensors, others, coded, parts, files };
        if let Some(index) = &listed.index {
            headers.agree_with(index)?;
        }
        Ok(headers)
    }

    /// The same by other names than those in the files; tensors that get none are set apart.
    ///
    /// # Errors
    /// When two get the same.
    pub fn renamed(self, name_of: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut renamed = Self { tensors: BTreeMap::new(), ..self };
        for (in_file, found) in self.tensors {
            let Some(name) = name_of(&in_file) else {
                renamed.others.push(found);
                continue;
            };
            if let Some(other) = renamed.tensors.insert(name.clone(), found) {
                let what = format!("the weights hold `{name}` twice");
                let other = &other.place.name;
                return Err(Error::weights(what)
                    .at(&renamed.directory)
                    .because(format!("as `{other}` and as `{in_file}`")));
            }
        }
        Ok(renamed)
    }

    /// The matrices that are coded.
    pub fn coded(&self) -> &BTreeMap<String, QuantState> {
        &self.coded
    }

    /// Tensors that were set apart.
    pub fn others(&self) -> &[LocatedTensor] {
        &self.others
    }

    /// The numbers of a tensor.
    pub fn values(&self, found: &LocatedTensor) -> Result<Vec<f32>> {
        let mut values = self.open(found)?;
        let mut all = Vec::new();
        loop {
            let some = values.some()?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some);
        }
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&LocatedTensor> {
        self.tensors.get(name)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> u64 {
        let all = self.tensors.values().chain(&self.others).chain(&self.parts);
        all.map(|found| found.place.stored_bytes()).sum()
    }

    fn agree_with(&self, index: &BTreeMap<String, String>) -> Result<()> {
        let place = self.directory.join(INDEX_FILE);
        let wrong = |what: String| {
            let hint = "the index and the files belong to different models, or a download is mixed";
            Err(Error::weights(what).at(&place).hint(hint))
        };
        for (name, file) in index {
            match self.tensors.get(name) {
                Some(found) if found.file == *file => {}
                Some(found) => {
                    let what = format!("the index has tensor `{name}` in `{file}`, and it is in");
                    return wrong(format!("{what} `{}`", found.file));
                }
                None => return wrong(format!("`{file}` lacks the tensor `{name}` of the index")),
            }
        }
        let extra: Vec<&LocatedTensor> =
            self.tensors.values().filter(|found| !index.contains_key(&found.place.name)).collect();
        match extra.first() {
            None => Ok(()),
            Some(found) => wrong(format!(
                "the index lacks the tensor `{}` of `{}`{}",
                found.place.name,
                found.file,
                more(extra.len() - 1)
            )),
        }
    }

    /// Whether two tensors of one shape hold the same values, in whatever formats.
    pub fn equal(&self, one: &str, other: &str) -> Result<bool> {
        let (Some(one), Some(other)) = (self.get(one), self.get(other)) else { return Ok(false) };
        if one.place.shape != other.place.shape {
            return Ok(false);
        }
        let (mut left, mut right) = (self.open(one)?, self.open(other)?);
        loop {
            let (a, b) = (left.some()?, right.some()?);
            if a != b {
                return Ok(false);
            }
            if a.is_empty() {
                return Ok(true);
            }
        }
    }

    fn open(&self, found: &LocatedTensor) -> Result<Values> {
        let path = self.directory.join(&found.file);
        let (mut file, _) = header::open(&path)?;
        file.seek(SeekFrom::Start(found.begin)).context_at("cannot read the weights", &path)?;
        let (element, blocks) = (found.place.element, found.place.blocks);
        Ok(Values { file, path, element, blocks, left: found.place.stored_bytes() })
    }

    /// Reads all weights once; those of other parts may be infinite.
    ///
    /// # Errors
    /// When some are NaN or infinite.
    pub fn refuse_not_finite(&self) -> Result<()> {
        let mut buffer = Vec::new();
        for name in &self.files {
            let mut shard = ShardStream::open(&self.directory, name)?;
            shard.look_through(&mut buffer)?;
            let other = |name: &str| self.others.iter().any(|found| found.place.name == name);
            shard.refuse_not_finite(|name| !other(name))?;
        }
        Ok(())
    }

    /// Compares with what a model needs: each tensor by name and shape; `unused` says which may be
    /// there besides.
    ///
    /// # Errors
    /// Names the tensors that are missing, of another shape, or left over.
    pub fn fit(
        &self,
        needed: &[(String, Vec<usize>)],
        unused: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let missing: Vec<&str> = needed
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !self.tensors.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            let what = format!("the weights lack {}", list(&missing));
            return Err(Error::weights(what).at(&self.directory).hint("is the download complete?"));
        }
        for (name, shape) in needed {
            let found = &self.tensors[name];
            if found.place.shape != *shape {
                let found_shape = &found.place.shape;
                let what = format!("tensor `{name}` has shape {found_shape:?}");
                return Err(Error::weights(format!(
                    "{what}, but `config.json` makes it {shape:?}"
                ))
                .at(self.directory.join(&found.file))
                .hint("`config.json` and the weights belong to different models"));
            }
        }
        let wanted: BTreeSet<&str> = needed.iter().map(|(name, _)| name.as_str()).collect();
        let left: Vec<&str> =
            self.names().filter(|name| !wanted.contains(name) && !unused(name)).collect();
        if !left.is_empty() {
            let what = format!("the model does not use the weights {}", list(&left));
            return Err(Error::weights(what)
                .at(&self.directory)
                .hint("`config.json` and the weights belong to different models"));
        }
        Ok(())
    }
}

/// The numbers of a tensor, some at a time.
struct Values {
    file: File,
    path: PathBuf,
    element: Element,
    /// The type of its blocks, if it is in blocks.
    blocks: Option<&'static TensorType>,
    left: u64,
}

impl Values {
    fn some(&mut self) -> Result<Vec<f32>> {
        let most = match self.blocks {
            None => COMPARED * self.element.size(),
            Some(kind) => COMPARED / kind.block * kind.bytes,
        };
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; count];
        self.file.read_exact(&mut bytes).context_at("cannot read the weights", &self.path)?;
        self.left -= count as u64;
        Ok(match self.blocks {
            None => to_f32(self.element, &bytes),
            Some(kind) => kind.values(&bytes),
        })
    }
}

fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", and {count} more") }
}

fn list(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES_SHOWN)].join("`, `");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => format!("`{shown}`"),
        more => format!("`{shown}` and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::snapshots::says;
    use crate::weights::{TensorSpec, write_safetensors};

    fn write(folder: &Path, file: &str, tensors: &[(&str, Element, f32)]) {
        let specs = tensors.iter().map(|(name, element, _)| TensorSpec {
            name: (*name).to_owned(),
            element: *element,
            shape: vec![2, 3],
        });
        let value = |name: &str| tensors.iter().find(|tensor| tensor.0 == name).unwrap().2;
        write_safetensors(&folder.join(file), specs.collect(), &BTreeMap::new(), |spec| {
            Ok(vec![value(&spec.name); 6])
        })
        .unwrap();
    }

    fn index(folder: &Path, map: serde_json::Value) {
        std::fs::write(folder.join(INDEX_FILE), json!({"weight_map": map}).to_string()).unwrap();
    }

    #[test]
    fn index_and_files_must_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(path, "1.safetensors", &[("a", Element::F32, 1.0)]);
        write(path, "2.safetensors", &[("b", Element::F32, 1.0), ("c", Element::F32, 1.0)]);
        let (one, two) = ("1.safetensors", "2.safetensors");
        index(path, json!({"a": one, "b": two, "c": two}));
        assert_eq!(Headers::read(path).unwrap().bytes(), 72);
        let mut messages = String::new();
        for map in [
            json!({"a": one, "b": two}),
            json!({"a": one, "b": one, "c": two}),
            json!({"a": one, "b": two, "c": two, "d": two}),
            json!({"a": one, "b": two, "c": "3.safetensors"}),
            json!({}),
        ] {
            index(path, map);
            let error = Headers::read(path).err().unwrap().to_string();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
error[weights]: the index lacks the tensor `c` of `2.safetensors`
  at [FOLDER]/model.safetensors.index.json

hint: the index and the files belong to different models, or a download is mixed
error[weights]: the index has tensor `b` in `1.safetensors`, and it is in `2.safetensors`
  at [FOLDER]/model.safetensors.index.json

hint: the index and the files belong to different models, or a download is mixed
error[weights]: `2.safetensors` lacks the tensor `d` of the index
  at [FOLDER]/model.safetensors.index.json

hint: the index and the files belong to different models, or a download is mixed
error[file]: cannot read the file
  at [FOLDER]/3.safetensors
  because No such file or directory (os error 2)
error[weights]: the index names no file
  at [FOLDER]/model.safetensors.index.json

"#]],
        );
        write(path, "3.safetensors", &[("a", Element::F32, 1.0)]);
        index(path, json!({"a": one, "b": two, "c": two, "d": "3.safetensors"}));
        let error = Headers::read(path).err().unwrap().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[weights]: tensor `a` is in two files
  at [FOLDER]
  because they are `1.safetensors` and `3.safetensors`
"#]],
        );
    }

    #[test]
    fn values_are_compared_whatever_their_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let tensors = [
            ("a", Element::F32, 1.5),
            ("b", Element::BF16, 1.5),
            ("c", Element::BF16, -1.5),
            ("d", Element::F16, f32::INFINITY),
        ];
        write(path, "model.safetensors", &tensors);
        let headers = Headers::read(path).unwrap();
        assert!(headers.equal("a", "b").unwrap());
        assert!(!headers.equal("a", "c").unwrap());
        assert!(!headers.equal("a", "nothing").unwrap());
        let error = headers.refuse_not_finite().unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[weights]: the weights hold 6 NaN or infinite numbers in `d`
  at [FOLDER]/model.safetensors

hint: a training run that diverged leaves such weights; use an earlier state of the model
"#]],
        );
    }

    #[test]
    fn what_is_missing_different_or_left_over_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "model.safetensors", &[("a", Element::F32, 1.0)]);
        let headers = Headers::read(folder.path()).unwrap();
        let need = |name: &str, shape: &[usize]| vec![(name.to_owned(), shape.to_vec())];
        headers.fit(&need("a", &[2, 3]), |_| false).unwrap();
        headers.fit(&[], |name| name == "a").unwrap();
        for (needed, words) in [
            (need("b", &[2, 3]), "the weights lack `b`"),
            (need("a", &[3, 2]), "`a` has shape [2, 3], but `config.json` makes it [3, 2]"),
            (Vec::new(), "does not use the weights `a`"),
        ] {
            let error = headers.fit(&needed, |_| false).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
