//! The weights of a model as a stream, with an adapter added on the way: `W + s·B·A` in f32. Held
//! in memory: the adapter, and a few rows of one weight.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::peft::{self, peft_key};
use crate::adapters::lora_scale;
use crate::config::LoraConfig;
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};
use crate::weights::{OwnedTensor, ShardStream, TensorPlace, read_tensors, shard_names, to_f32};

/// How many bytes are read and written at a time.
const PIECE_BYTES: usize = 4 << 20;

/// The two factors beside one linear layer.
pub struct Factors {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    inputs: usize,
    scale: f64,
}

impl Factors {
    /// Adds `s·B·A` to the rows of the weight that begin with `first`, and writes it into `added`
    /// as well. Where the addition is exactly zero the value stays as it is: adding zero would turn
    /// −0 into +0.
    pub fn add_to(&self, first: usize, values: &mut [f32], added: &mut [f32]) {
        let Self { a, b, rank, inputs, scale } = self;
        let rows = values.par_chunks_mut(*inputs).zip(added.par_chunks_mut(*inputs));
        rows.enumerate().for_each(|(row, (values, added))| {
            let row = first + row;
            let mut addition = vec![0.0_f64; *inputs];
            for k in 0..*rank {
                let left = f64::from(b[row * rank + k]);
                for (sum, right) in addition.iter_mut().zip(&a[k * inputs..(k + 1) * inputs]) {
                    *sum += left * f64::from(*right);
                }
            }
            for ((value, added), addition) in values.iter_mut().zip(added).zip(addition) {
                *added = 0.0;
                if addition != 0.0 {
                    let addition = scale * addition;
                    #[expect(clippy::cast_possible_truncation)] // the one rounding to f32
                    let (sum, change) = ((f64::from(*value) + addition) as f32, addition as f32);
                    *value = sum;
                    *added = change;
                }
            }
        });
    }
}

/// An adapter's tensors, each taken out when its weight comes by.
pub struct Addition {
    tensors: BTreeMap<String, OwnedTensor>,
    settings: LoraConfig,
    path: PathBuf,
    /// The weights file, as read.
    pub file: FileEntry,
}

impl Addition {
    /// Reads the adapter in a directory.
    pub fn read(adapter: &Path, settings: &LoraConfig) -> Result<Self> {
        let (tensors, file) = read_tensors(adapter, peft::WEIGHTS_FILE)?;
        for (name, tensor) in &tensors {
            let count = tensor.element.not_finite(&tensor.bytes);
            if count > 0 {
                let what = format!("the adapter holds {count} NaN or infinite numbers in `{name}`");
                return Err(Error::new(what).at(adapter));
            }
        }
        let (settings, path) = (settings.clone(), adapter.to_owned());
        Ok(Self { tensors, settings, path, file })
    }

    /// What is to be added to a tensor of the base, if anything is.
    fn take(&mut self, place: &TensorPlace) -> Result<Option<Factors>> {
        let Some(layer) = place.name.strip_suffix(".weight") else { return Ok(None) };
        let mut take = |matrix: &str| self.tensors.remove(&peft_key(layer, matrix));
        let (a, b) = match (take("lora_A"), take("lora_B")) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) => (a, b),
            _ => {
                let what = format!("`{layer}` has one of the two factors only");
                return Err(Error::new(what).at(&self.path));
            }
        };
        let (&[rank, inputs], &[outputs, also]) = (&a.shape[..], &b.shape[..]) else {
            let what = format!("the factors of `{layer}` are no matrices");
            return Err(Error::new(what).at(&self.path));
        };
        if rank != self.settings.r || also != rank {
            let what =
                format!("the factors of `{layer}` have rank {rank}, not {}", self.settings.r);
            return Err(Error::new(what).at(&self.path));
        }
        if place.shape != [outputs, inputs] {
            let what = format!("the adapter does not fit `{}`", place.name);
            return Err(Error::new(what).at(&self.path).because(format!(
                "the weight is {:?}, the adapter is for {:?}",
                place.shape,
                [outputs, inputs]
            )));
        }
        let (a, b) = (to_f32(a.element, &a.bytes), to_f32(b.element, &b.bytes));
        Ok(Some(Factors { a, b, rank, inputs, scale: lora_scale(&self.settings) }))
    }

    /// Everything must have found its weight.
    fn finish(self) -> Result<()> {
        let Some(name) = self.tensors.keys().next() else { return Ok(()) };
        let layer = ["lora_A", "lora_B"].iter().find_map(|matrix| {
            name.strip_suffix(&format!(".{matrix}.weight"))?.strip_prefix("base_model.model.")
        });
        Err(match layer {
            Some(layer) => Error::new(format!("the base has no layer `{layer}`")),
            None => Error::new(format!("cannot merge the tensor `{name}`")),
        }
        .at(&self.path))
    }
}

/// The weights of a model, opened: one reading, in the order of the files.
pub struct Weights {
    shards: Vec<ShardStream>,
    addition: Option<Addition>,
    expected: BTreeMap<String, Digest>,
    base: PathBuf,
}

/// Rows of a tensor.
pub enum Rows<'a> {
    /// As they lie in the file, in its number format.
    Unchanged(&'a [u8]),
    /// With the adapter added.
    Changed(Change<'a>),
}

/// Rows that an adapter changes, in f32.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// As they were.
    pub before: &'a [f32],
    /// What is added.
    pub added: &'a [f32],
    /// The sum, not rounded to any shorter format yet.
    pub after: &'a [f32],
}

/// Takes the weights as they come.
pub trait Sink {
    /// A file begins.
    fn shard(&mut self, shard: &ShardStream) -> Result<()>;
    /// A tensor begins; its rows come in multiples of the answer, at the end perhaps fewer.
    fn tensor(&mut self, place: &TensorPlace) -> Result<usize>;
    /// The next rows of the tensor.
    fn rows(&mut self, place: &TensorPlace, rows: Rows) -> Result<()>;
    /// The file has ended.
    fn end(&mut self) -> Result<()>;
}

impl Weights {
    /// Opens the weight files of `base`, of which those that `expected` names must have the digests
    /// given there.
    pub fn open(
        base: &Path,
        addition: Option<Addition>,
        expected: BTreeMap<String, Digest>,
    ) -> Result<Self> {
        let names = shard_names(base)?;
        let mut shards: Vec<ShardStream> = Vec::new();
        let mut seen = BTreeSet::new();
        for name in &names {
            let shard = ShardStream::open(base, name)?;
            if let Some(place) = shard.places().iter().find(|p| !seen.insert(p.name.clone())) {
                let what = format!("tensor `{}` stands in two files", place.name);
                return Err(Error::new(what).at(base));
            }
            shards.push(shard);
        }
        let is_weights = |name: &&String| name.ends_with(".safetensors");
        if let Some(name) = expected.keys().filter(is_weights).find(|name| !names.contains(name)) {
            return Err(other_base(base, name)
                .because("the lineage names this file, the base does not have it"));
        }
        Ok(Self { shards, addition, expected, base: base.to_owned() })
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
        let Self { shards, mut addition, expected, base } = self;
        let mut files = Vec::new();
        for mut shard in shards {
            sink.shard(&shard)?;
            while let Some(place) = shard.begin() {
                let factors = match &mut addition {
                    Some(addition) => addition.take(&place)?,
                    None => None,
                };
                read_tensor(&mut shard, &place, factors.as_ref(), sink)?;
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
        match addition {
            Some(addition) => addition.finish().map(|()| files),
            None => Ok(files),
        }
    }
}

fn read_tensor(
    shard: &mut ShardStream,
    place: &TensorPlace,
    factors: Option<&Factors>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let width: usize = place.shape.iter().skip(1).product();
    let row_bytes = (width * place.element.size()).max(1);
    let unit = sink.tensor(place)?.max(1);
    let count = (PIECE_BYTES / row_bytes / unit).max(1) * unit;
    let mut buffer = Vec::new();
    let mut first = 0;
    loop {
        let bytes = shard.read(&mut buffer, count * row_bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        shard.refuse_not_finite()?;
        let rows = bytes.len() / row_bytes;
        match factors {
            None => sink.rows(place, Rows::Unchanged(bytes))?,
            Some(factors) => {
                let before = to_f32(place.element, bytes);
                let (mut after, mut added) = (before.clone(), vec![0.0; before.len()]);
                factors.add_to(first, &mut after, &mut added);
                let change = Change { before: &before, added: &added, after: &after };
                sink.rows(place, Rows::Changed(change))?;
            }
        }
        first += rows;
    }
}

/// A file of the base that is not what the adapter's lineage says.
pub fn other_base(base: &Path, name: &str) -> Error {
    Error::refused(format!("`{name}` is not the base model that the adapter was trained on"))
        .at(base)
}
