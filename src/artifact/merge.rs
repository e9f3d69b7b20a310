//! The weights of a model as a stream, changed by an adapter on the way. Held in memory: the
//! adapter, and a few rows of one weight.

mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::rows::read_tensor;
pub use self::rows::{Change, Rows, Sink};
use super::merge_experts::{RowsChange, StackedChange};
use super::merge_saved::{check_saved, replacement};
use super::peft;
use super::requantised::Requantised;
use super::several::refuse_twice;
use crate::adapters::{
    Adapter, EMBEDDING_FACTORS, WeightChange, adapter_file_name, embedding_change, factored_tables,
    file_name, layer_of, saved_names,
};
use crate::error::{Error, ErrorCode, Result};
use crate::files::{Digest, FileEntry};
use crate::model::description::{StoredLayout, StoredTensor, StoredTensors};
use crate::model::{
    CheckpointNames, Description, LM_HEAD, SCORE, TableKind, matrix_of_token_rows, token_rows_path,
};
use crate::weights::{
    Element, OwnedTensor, ShardStream, TensorPlace, read_tensors, shard_names, to_f32,
};

/// An adapter's tensors, each taken out when its weight comes by.
pub struct Addition {
    tensors: BTreeMap<String, OwnedTensor>,
    /// Names of those whose weights are, or may be, in several tensors of the base.
    used: BTreeSet<String>,
    adapter: Arc<dyn Adapter>,
    names: CheckpointNames,
    stored: StoredTensors,
    /// The path of the embedding, where the output head is a copy of it.
    tied: Option<&'static str>,
    path: PathBuf,
    /// The weights file, as read.
    pub file: FileEntry,
}

impl Addition {
    /// Reads the weights of the adapter in a directory, of a base with this description, onto which
    /// they can be added.
    pub fn read(directory: &Path, adapter: Arc<dyn Adapter>, base: &Description) -> Result<Self> {
        if !adapter.stacked(base).is_empty() && base.coded().0 > 0 {
            let what = "an adapter of experts cannot be merged into a base in MXFP4";
            return Err(Error::adapter(what)
                .at(directory)
                .because("sums of its numbers have no place in four bits")
                .hint("name the same model in bfloat16 with `--base DIR`"));
        }
        Self::open(directory, adapter, base)
    }

    /// Its tensors, by their names in files; those of several layers are taken apart.
    pub fn into_tensors(self) -> BTreeMap<String, OwnedTensor> {
        self.tensors
    }

    /// The same beside a base of any kind.
    pub fn open(directory: &Path, adapter: Arc<dyn Adapter>, base: &Description) -> Result<Self> {
        factored_tables(adapter.as_ref(), base).map_err(|error| error.at(directory))?;
        let (mut tensors, file) = read_tensors(directory, peft::WEIGHTS_FILE)?;
        check_saved(directory, &mut tensors, (adapter.as_ref(), base))?;
        for all in adapter.stacked(base) {
            let fits = tensors.get(&all.name).is_some_and(|found| found.shape == all.shape());
            let Some(found) = tensors.remove(&all.name).filter(|_| fits) else {
                let what = format!("the adapter has no `{}` of {:?}", all.name, all.shape());
                return Err(Error::adapter(what).at(directory));
            };
            let (element, shape) = (Element::F32, all.part.to_vec());
            tensors.extend(all.taken_apart(&to_f32(found.element, &found.bytes)).map(
                |(name, numbers)| {
                    let bytes = element.encode(&numbers);
                    (name, OwnedTensor { element, shape: shape.clone(), bytes })
                },
            ));
        }
        let (names, stored) = (base.names, StoredTensors::of(base));
        let (used, path) = (BTreeSet::new(), directory.to_owned());
        let tied = base.tied.then_some(base.names.embedding);
        Ok(Self { tensors, used, adapter, names, stored, tied, path, file })
    }

    /// What is to be done to a tensor of the base, if anything is.
    fn take(&mut self, place: &TensorPlace) -> Result<Option<Box<dyn WeightChange>>> {
        let path = self.names.path_of(&place.name);
        if let Some(stored) = path.as_deref().and_then(|path| self.stored.get(path)).cloned() {
            return self.take_of_experts(place, &stored);
        }
        if let Some(change) = path.as_deref().and_then(|path| self.saved(path, &place.shape)) {
            return change.or_else(|why| self.misfit(place, why)).map(Some);
        }
        let Some(layer) = path.as_deref().and_then(|path| path.strip_suffix(".weight")) else {
            return Ok(None);
        };
        if let Some(change) = self.take_of_embedding(place, layer)? {
            return Ok(Some(change));
        }
        let mut found = BTreeMap::new();
        for parameter in self.adapter.kind().parameters() {
            if let Some(tensor) = self.tensors.remove(&file_name(layer, parameter)) {
                found.insert(*parameter, tensor);
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        let &[outputs, inputs] = &place.shape[..] else {
            return self.misfit(place, format!("the weight is {:?}, and no matrix", place.shape));
        };
        self.change((place, layer), [outputs, inputs], found).map(Some)
    }

    /// What is to be done to an embedding that has factors beside it.
    fn take_of_embedding(
        &mut self,
        place: &TensorPlace,
        module: &str,
    ) -> Result<Option<Box<dyn WeightChange>>> {
        let kind = TableKind::Embedding;
        let names = EMBEDDING_FACTORS.map(|name| file_name(module, name));
        let (a, b) = match names.map(|name| self.tensors.remove(&name)) {
            [Some(a), Some(b)] => (a, b),
            [None, None] => return Ok(None),
            _ => return self.misfit(place, "it has one of its two factors alone".to_owned()),
        };
        let &[rows, width] = &place.shape[..] else {
            return self.misfit(place, format!("the weight is {:?}, and no matrix", place.shape));
        };
        let rank = self.adapter.settings().of_layer(module).rank;
        let shapes = kind.dims([rows, width], rank);
        if a.shape != shapes[0] || b.shape != shapes[1] {
            let found = format!("{:?} and {:?}", a.shape, b.shape);
            return self.misfit(place, format!("its factors are {found} in place of {shapes:?}"));
        }
        let [a, b] = [a, b].map(|tensor| to_f32(tensor.element, &tensor.bytes));
        let settings = self.adapter.settings();
        Ok(Some(Box::new(embedding_change(settings, module, [rows, width], [&a, &b]))))
    }

    /// What was saved in the place of numbers of the weight at `path`.
    fn saved(
        &mut self,
        path: &str,
        shape: &[usize],
    ) -> Option<Result<Box<dyn WeightChange>, String>> {
        let path = if path == LM_HEAD { self.tied.unwrap_or(path) } else { path };
        let rows = adapter_file_name(&token_rows_path(path));
        let rows = (rows, Some(self.adapter.settings().tokens_of(path)));
        let mut names = saved_names(path).map(|name| (name, None)).chain([rows]);
        let (name, tokens) = names.find(|(name, _)| self.tensors.contains_key(name))?;
        let change = replacement(&self.tensors[&name], tokens, shape);
        self.used.insert(name);
        Some(change)
    }

    fn misfit<T>(&self, place: &TensorPlace, why: String) -> Result<T> {
        let what = format!("the adapter does not fit `{}`", place.name);
        Err(Error::adapter(what).at(&self.path).because(why))
    }

    /// What is to be done to a tensor that is made of matrices of experts.
    fn take_of_experts(
        &mut self,
        place: &TensorPlace,
        stored: &StoredTensor,
    ) -> Result<Option<Box<dyn WeightChange>>> {
        let mut changes = Vec::new();
        for path in &stored.parameters {
            let Some(layer) = path.strip_suffix(".weight") else { return Ok(None) };
            let mut found = BTreeMap::new();
            for parameter in self.adapter.kind().parameters() {
                let name = file_name(layer, parameter);
                if let Some(tensor) = self.tensors.get(&name) {
                    found.insert(*parameter, tensor.clone());
                    self.used.insert(name);
                }
            }
            if found.is_empty() {
                return Ok(None);
            }
            changes.push(self.change((place, layer), stored.dims, found)?);
        }
        Ok(match stored.layout {
            StoredLayout::Rows(first) => changes
                .pop()
                .map(|whole| Box::new(RowsChange { first, whole }) as Box<dyn WeightChange>),
            StoredLayout::Stacked | StoredLayout::Transposed { .. } => {
                let transposed = match stored.layout {
                    StoredLayout::Transposed { alternating } => Some(alternating),
                    _ => None,
                };
                Some(Box::new(StackedChange { experts: changes, dims: stored.dims, transposed }))
            }
        })
    }

    /// What tensors of the adapter do to a matrix `[out, in]`.
    fn change(
        &self,
        (place, layer): (&TensorPlace, &str),
        [outputs, inputs]: [usize; 2],
        mut found: BTreeMap<&'static str, OwnedTensor>,
    ) -> Result<Box<dyn WeightChange>> {
        let misfit = |why| self.misfit(place, why);
        let mut tensors = BTreeMap::new();
        for (name, shape) in self.adapter.tensors(layer, [outputs, inputs]) {
            let Some(tensor) = found.remove(name) else {
                return misfit(format!("it has no `{name}` for this layer"));
            };
            if tensor.shape != shape {
                return misfit(format!(
                    "its `{name}` is {:?}; a weight of {:?} and `{}` make it {shape:?}",
                    tensor.shape,
                    place.shape,
                    self.adapter.describe()
                ));
            }
            tensors.insert(name, to_f32(tensor.element, &tensor.bytes));
        }
        Ok(self.adapter.change(layer, [outputs, inputs], tensors))
    }

    /// Weights of which all or some rows were saved, and where.
    fn whole(&self) -> impl Iterator<Item = (String, &Path)> {
        let names = self.tensors.keys();
        let is_embedding_factor =
            |name: &&String| EMBEDDING_FACTORS.iter().any(|factor| name.ends_with(factor));
        let whole = names.filter(|name| layer_of(self.adapter.kind(), name).is_none());
        let whole = whole.filter(move |name| !is_embedding_factor(name));
        let weight = |name: &String| {
            matrix_of_token_rows(name).unwrap_or_else(|| name.replace(".base_layer.", "."))
        };
        whole.map(move |name| (weight(name), self.path.as_path()))
    }

    /// The head that scores labels, which the base may lack.
    fn head(&mut self) -> Option<OwnedTensor> {
        self.tensors.remove(&adapter_file_name(SCORE))
    }

    /// Everything must have found its weight.
    fn finish(self) -> Result<()> {
        let left = self.tensors.keys().find(|name| !self.used.contains(*name));
        let Some(name) = left else { return Ok(()) };
        Err(match layer_of(self.adapter.kind(), name) {
            Some(layer) => Error::adapter(format!("the base has no layer `{layer}`")),
            None => Error::adapter(format!("cannot merge the tensor `{name}`")),
        }
        .at(&self.path))
    }
}

/// The weights of a model, opened: one reading, in the order of the files.
pub struct Weights {
    shards: Vec<ShardStream>,
    /// Which of them are those of the text model.
    names: CheckpointNames,
    /// One after the other.
    additions: Vec<Addition>,
    requantised: Option<Requantised>,
    /// What the base lacks and the adapter is saved with.
    head: Option<OwnedTensor>,
    expected: BTreeMap<String, Digest>,
    base: PathBuf,
}

impl Weights {
    /// Opens the weight files of `base`, of which those that `expected` names must have the digests
    /// given there; `text` names those of the text model.
    pub fn open(
        base: &Path,
        text: CheckpointNames,
        mut additions: Vec<Addition>,
        expected: BTreeMap<String, Digest>,
    ) -> Result<Self> {
        refuse_twice(additions.iter().flat_map(Addition::whole))?;
        let names = shard_names(base)?;
        let mut shards: Vec<ShardStream> = Vec::new();
        let mut seen = BTreeSet::new();
        for name in &names {
            let shard = ShardStream::open(base, name)?;
            if let Some(place) = shard.places().iter().find(|p| !seen.insert(p.name.clone())) {
                let what = format!("tensor `{}` is in two files", place.name);
                return Err(Error::adapter(what).at(base));
            }
            shards.push(shard);
        }
        let is_weights = |name: &&String| name.ends_with(".safetensors");
        if let Some(name) = expected.keys().filter(is_weights).find(|name| !names.contains(name)) {
            return Err(other_base(base, name)
                .because("the lineage names this file, the base does not have it"));
        }
        let head = match seen.contains(SCORE) {
            true => None,
            false => additions.iter_mut().find_map(Addition::head),
        };
        let base = base.to_owned();
        Ok(Self { shards, names: text, additions, requantised: None, head, expected, base })
    }

    /// The same with so many rows in the matrices that have one for each token: the adapters have
    /// those that the files lack.
    #[must_use]
    pub fn resized(mut self, base: &Description, rows: usize) -> Self {
        let shape = [base.vocabulary, base.hidden];
        let names = self.names;
        let table =
            |path: &str| path == base.names.embedding || path == LM_HEAD && base.labels.is_none();
        for shard in &mut self.shards {
            shard.grow(|place| {
                let path = names.path_of(&place.name)?;
                (table(&path) && place.shape == shape).then_some(rows)
            });
        }
        self
    }

    /// The same, with other numbers in the place of those of linear layers.
    #[must_use]
    pub fn requantised(self, requantised: Option<Requantised>) -> Self {
        Self { requantised, ..self }
    }

    /// Every tensor, in the order in which they come.
    pub fn places(&self) -> impl Iterator<Item = &TensorPlace> {
        self.shards.iter().flat_map(ShardStream::places)
    }

    /// Reads everything once; returns the files, as read.
    ///
    /// # Errors
    /// When the base is not the expected one, which is known only at the end of each file: what was
    /// made until then is to be thrown away.
    pub fn read(self, sink: &mut dyn Sink) -> Result<Vec<FileEntry>> {
        let Self { shards, names, mut additions, requantised, mut head, expected, base } = self;
        let (mut files, count) = (Vec::new(), shards.len());
        for (number, mut shard) in (1..).zip(shards) {
            if let Some(head) = head.take_if(|_| number == count) {
                sink.more(SCORE, head);
            }
            sink.shard(&shard)?;
            while let Some(place) = shard.begin() {
                let mut changes = Vec::new();
                for addition in &mut additions {
                    changes.extend(addition.take(&place)?);
                }
                let path = names.path_of(&place.name);
                let codes = requantised.as_ref().zip(path.as_deref());
                let codes = codes.and_then(|(all, path)| all.of_tensor(path, &place.shape));
                read_tensor((&mut shard, names), &place, (codes, &changes), sink)?;
            }
            sink.end()?;
            let file = shard.finish()?;
            match expected.get(&file.path) {
                Some(digest) if *digest != file.sha256 => {
                    return Err(other_base(&base, &file.path).because(format!(
                        "its digest is {}, the lineage says {}",
                        file.sha256.short(),
                        digest.short()
                    )));
                }
                _ => files.push(file),
            }
        }
        additions.into_iter().try_for_each(Addition::finish).map(|()| files)
    }
}

/// A file of the base that is not what the adapter's lineage says.
pub fn other_base(base: &Path, name: &str) -> Error {
    Error::refused(
        ErrorCode::Adapter,
        format!("`{name}` is not the base model that the adapter was trained on"),
    )
    .at(base)
}
