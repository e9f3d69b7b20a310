//! What a checkpoint holds besides the model that was trained goes along with a whole model as it
//! is, and the model's own tensors keep the names that they have in the base's files.

use std::collections::BTreeMap;

use crate::config::Init;
use crate::error::{Error, Result};
use crate::files::hash_file;
use crate::model::inspect;
use crate::train::Prepared;
use crate::weights::{Element, Headers, TensorSpec};

/// The tensors of a base model, by their headers.
pub(super) struct Carried(Headers);

impl Carried {
    /// Those of a whole model's base that may hold more; none of any other.
    ///
    /// # Errors
    /// When the base's files are not those that were trained on.
    pub fn of(prepared: &Prepared) -> Result<Option<Self>> {
        let whole = prepared.adapter.is_none() && prepared.config.model.init == Init::Pretrained;
        if !whole || !prepared.description.names.holds_more() {
            return Ok(None);
        }
        let base = &prepared.base.path;
        let weights = |path: &str| path.ends_with(".safetensors");
        if !prepared.base_files.iter().any(|file| weights(&file.path)) {
            return Ok(None); // they were drawn
        }
        for used in prepared.base_files.iter().filter(|file| weights(&file.path)) {
            if hash_file(&base.join(&used.path), &used.path)?.sha256 != used.sha256 {
                return Err(Error::changed("the file was changed while the run went on")
                    .at(base.join(&used.path))
                    .hint("put it back as it was, and run the same command again"));
            }
        }
        Ok(Some(Self(inspect(base)?.headers)))
    }

    /// The name in files of the tensor at a path.
    pub fn name_in_file(&self, path: &str) -> String {
        self.0.get(path).map_or_else(|| path.to_owned(), |found| found.place.name.clone())
    }

    /// The tensors that go along.
    pub fn specs(&self) -> impl Iterator<Item = TensorSpec> {
        self.0.others().iter().map(|found| TensorSpec {
            name: found.place.name.clone(),
            element: found.place.element,
            shape: found.place.shape.clone(),
        })
    }

    /// The numbers of one of them; none of a tensor that was trained.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn values(&self, name: &str) -> Option<Result<Vec<f32>>> {
        let found = self.0.others().iter().find(|found| found.place.name == name)?;
        Some(self.0.values(found))
    }
}

/// Numbers of a whole model that nothing trains, and that loaders want to find: the names in files,
/// paths and values.
pub(super) struct Buffers(BTreeMap<String, (String, Vec<f32>)>);

impl Buffers {
    /// Of paths and values.
    pub fn new(values: Vec<(String, Vec<f32>)>, name_of: impl Fn(&str) -> String) -> Self {
        Self(values.into_iter().map(|(path, value)| (name_of(&path), (path, value))).collect())
    }

    /// What is to be written, in the formats of paths.
    pub fn specs(&self, element: impl Fn(&str) -> Element) -> impl Iterator<Item = TensorSpec> {
        self.0.iter().map(move |(name, (path, values))| TensorSpec {
            name: name.clone(),
            element: element(path),
            shape: vec![values.len()],
        })
    }

    /// The values of a name.
    pub fn value(&self, name: &str) -> Option<Vec<f32>> {
        self.0.get(name).map(|(_, values)| values.clone())
    }
}
