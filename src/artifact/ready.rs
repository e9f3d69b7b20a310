//! The weights of a base with the adapters that are added to it, ready to be read once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::merge::{Addition, Weights};
use super::requantised::Requantised;
use crate::adapters::{Adapter, resized};
use crate::config::ScoreHead;
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};
use crate::model::{CheckpointNames, inspect_for};
use crate::weights::formats::WeightFormat;

/// A model whose weights are ready to be read.
pub struct ReadyWeights {
    /// The weights, with the adapter on top if there is one.
    pub weights: Weights,
    /// The weights file of each adapter, as read.
    pub adapter_files: Vec<FileEntry>,
    /// Whether the weights hold an output projection that the base's `config.json` denies.
    pub untied: bool,
    /// What a user should know about the base.
    pub note: Option<String>,
    /// Which of them are those of the text model.
    pub names: CheckpointNames,
    /// What it scores in the place of tokens, if it does.
    pub head: Option<ScoreHead>,
    /// Rows of the embedding, where an adapter has more than the base.
    pub vocabulary: Option<usize>,
}

/// What weights are made of.
pub struct WeightParts<'a> {
    /// The directory of the base.
    pub base: &'a Path,
    /// Digests that files of the base must have.
    pub expected: BTreeMap<String, Digest>,
    /// Where the adapters lie that are added one after the other.
    pub adapters: Vec<(PathBuf, Arc<dyn Adapter>)>,
    /// The head that scores labels, if there is one.
    pub head: Option<ScoreHead>,
}

impl WeightParts<'_> {
    /// Opens them; those of linear layers are what `linears` makes of them.
    ///
    /// # Errors
    /// When the base cannot be loaded, by its headers, or the file of an adapter is broken.
    pub fn open(self, linears: Option<&'static dyn WeightFormat>) -> Result<ReadyWeights> {
        let Self { base: path, expected, adapters, head } = self;
        let base = inspect_for(path, head.as_ref().map(|head| head.labels.len()))?;
        if !base.headers.coded().is_empty() {
            let what = "a base in four bits of bitsandbytes cannot be merged or exported";
            return Err(Error::adapter(what)
                .at(path)
                .because("its files have no place for the sums")
                .hint(
                    "train beside the same model in floating-point numbers, with \
                     `model.weight_format` in four bits: the codes are the same",
                ));
        }
        let mut additions = Vec::new();
        let mut rows = base.description.vocabulary;
        for (place, adapter) in &adapters {
            let description = resized(adapter.as_ref(), &base.description)?;
            rows = description.vocabulary;
            if adapters.len() > 1 && rows > base.description.vocabulary {
                let what = "an adapter with rows for new tokens is merged alone";
                return Err(Error::adapter(what)
                    .at(place)
                    .because("all parts of a composition have one tokenizer"));
            }
            additions.push(Addition::read(place, adapter.clone(), &description)?);
        }
        Ok(ReadyWeights {
            head,
            adapter_files: additions.iter().map(|addition| addition.file.clone()).collect(),
            vocabulary: (rows > base.description.vocabulary).then_some(rows),
            weights: Weights::open(path, base.description.names, additions, expected)?
                .resized(&base.description, rows)
                .requantised(linears.and_then(|it| Requantised::new(&base.description, it))),
            untied: base.config.untied,
            names: base.description.names,
            note: base.note(),
        })
    }
}
