//! From the tensors of files to what models are made of, one at a time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::FloatDType;

use super::WeightSource;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{FileEntry, Rolling};
use crate::model::description::StoredTensors;
use crate::model::{Description, LM_HEAD, Matrix, Parameter};
use crate::weights::formats::CodedMatrix;
use crate::weights::ggml::TensorType;
use crate::weights::{
    Blocks, Element, NumberMatrix, RawNumbers, ShardStream, SpillFile, StoredBytes, TensorPlace,
    shard_names,
};

/// Bytes that are read, hashed and converted at once: they fit into the cache of a core.
const PIECE_BYTES: usize = 1 << 20;

/// A tensor of a file.
pub(super) struct LoadedTensor {
    pub shape: Vec<usize>,
    pub element: Element,
    pub weights: LoadedWeights,
}

/// Matrices are made as soon as they are read, so that files are never in memory whole; what else
/// there is, is converted when it is asked for.
pub(super) enum LoadedWeights {
    Numbers(RawNumbers),
    /// The same on disk, until they are asked for.
    Stored(StoredBytes, Element),
    /// One matrix or several, as the file has them.
    Blocks(Blocks),
    /// Numbers with a row per token that are left on disk.
    Coded(Arc<dyn CodedMatrix>),
    /// Of a linear layer.
    Linear(Matrix),
    /// With a row per token, in pieces.
    Table(Vec<Parameter<2>>),
}

impl LoadedWeights {
    /// What was set aside is read back.
    pub(super) fn in_memory(self) -> Self {
        let Self::Stored(bytes, element) = self else { return self };
        let all = bytes.get(0, bytes.size());
        let mut numbers = RawNumbers::with_capacity(element, all.len() / element.size());
        numbers.extend(&all);
        Self::Numbers(numbers)
    }
}

/// Which tensors are matrices of which kind, by path.
struct KnownMatrices {
    /// Those that matrices of experts are made of.
    experts: StoredTensors,
    linears: BTreeMap<String, [usize; 2]>,
    tables: BTreeMap<&'static str, [usize; 2]>,
}

impl KnownMatrices {
    fn of(description: &Description) -> Self {
        // Routers are kept in 32 bits: rounding would choose other experts.
        let routers: BTreeSet<String> = description.routers().collect();
        let linears = description.linears.iter().filter(|(path, _)| !routers.contains(path));
        let linears = linears.map(|(path, dims)| (format!("{path}.weight"), *dims)).collect();
        let experts = StoredTensors::of(description);
        Self { experts, linears, tables: description.tables().collect() }
    }
}

/// Memory for so many bytes of numbers.
fn memory_for(element: Element, bytes: u64) -> Result<RawNumbers> {
    let bytes = usize::try_from(bytes).context_code(ErrorCode::Weights, "a tensor is too large")?;
    let mut numbers = RawNumbers::with_capacity(element, bytes / element.size());
    // The system clears new memory, which takes longer than all else of the reading.
    numbers.touch();
    Ok(numbers)
}

impl WeightSource {
    /// Every file is read whole, for its digest; what is not of the decoder is not kept.
    pub(super) fn read_shards(
        &mut self,
        directory: &Path,
        description: &Description,
    ) -> Result<Vec<FileEntry>> {
        let (names, matrices) = (description.names, KnownMatrices::of(description));
        let (mut files, mut buffer) = (Vec::new(), Vec::new());
        for name in shard_names(directory)? {
            let mut shard = ShardStream::open(directory, &name)?;
            while let Some(place) = shard.begin() {
                // A copy of the embedding: one that differs is a head of its own.
                // One of the vocabulary is not used where labels are scored.
                let unused = description.tied || description.labels.is_some();
                let is_copy = |path: &String| unused && path == LM_HEAD;
                let Some(path) = names.path_of(&place.name).filter(|path| !is_copy(path)) else {
                    shard.read_all(&mut buffer, PIECE_BYTES, |_| ())?;
                    continue;
                };
                let in_blocks = self.keeps_blocks && description.in_blocks.contains_key(&path);
                let weights = match place.blocks.filter(|_| in_blocks) {
                    Some(kind) => {
                        let disk = match matrices.tables.contains_key(&path[..]) {
                            true => self.disk_of_tables().cloned(),
                            false => self.disk_of_layers().cloned(),
                        };
                        let tensor = (&path[..], &place, kind);
                        let blocks = self.blocks(tensor, &mut shard, &mut buffer, disk.as_ref())?;
                        LoadedWeights::Blocks(blocks)
                    }
                    None => self.numbers_of((&path, &place), &mut shard, &mut buffer, &matrices)?,
                };
                let entry = LoadedTensor { shape: place.shape, element: place.element, weights };
                if self.held.insert(path, entry).is_some() {
                    let what = format!("tensor `{}` is in two files", place.name);
                    return Err(Error::model(what).at(directory));
                }
            }
            shard.refuse_not_finite(|name| names.path_of(name).is_some())?;
            files.push(shard.finish()?);
        }
        Ok(files)
    }

    /// The numbers of a tensor. Those of a matrix that is left on disk go there as they are read.
    fn numbers_of(
        &mut self,
        (path, place): (&str, &TensorPlace),
        shard: &mut ShardStream,
        buffer: &mut Vec<u8>,
        matrices: &KnownMatrices,
    ) -> Result<LoadedWeights> {
        if let Some((is_table, dims, disk)) = self.straight_to_disk(path, &place.shape, matrices) {
            let element = self.element_on_disk(place.element);
            let (tensor, room) = ((shard, place), (buffer, PIECE_BYTES));
            let matrix = Arc::new(NumberMatrix::from_file(tensor, room, (element, dims), disk)?);
            return Ok(match is_table {
                true => LoadedWeights::Coded(matrix),
                false => LoadedWeights::Linear(Matrix::Coded(matrix)),
            });
        }
        let mut numbers = memory_for(place.element, place.bytes)?;
        shard.read_all(buffer, PIECE_BYTES, |bytes| numbers.extend(bytes))?;
        self.loaded(path, &place.shape, numbers, matrices)
    }

    /// Whether a matrix of numbers is one with a row for each token, its dimensions, and the disk
    /// on which it is left, if it is.
    fn straight_to_disk(
        &self,
        path: &str,
        shape: &[usize],
        matrices: &KnownMatrices,
    ) -> Option<(bool, [usize; 2], &Arc<SpillFile>)> {
        if let Some(dims) = matrices.tables.get(path) {
            return (dims[..] == *shape).then_some((true, *dims, self.disk_of_tables()?));
        }
        let dims = matrices.linears.get(path).filter(|dims| dims[..] == *shape)?;
        let as_numbers = self.coding().is_none();
        as_numbers.then_some((false, *dims, self.disk_of_layers()?))
    }

    /// The blocks of a tensor, in memory or on disk.
    fn blocks(
        &mut self,
        (path, place, kind): (&str, &TensorPlace, &'static TensorType),
        shard: &mut ShardStream,
        buffer: &mut Vec<u8>,
        disk: Option<&Arc<SpillFile>>,
    ) -> Result<Blocks> {
        let columns = place.shape.last().copied().unwrap_or_default();
        shard.keep_blocks();
        let mut digest = Rolling::default();
        let codes = match disk {
            Some(disk) => shard.read_to_disk((buffer, PIECE_BYTES), disk, |bytes| {
                digest.update(bytes);
                Cow::Borrowed(bytes)
            })?,
            None => {
                let mut codes = memory_for(Element::U8, place.stored_bytes())?;
                shard.read_all(buffer, PIECE_BYTES, |bytes| {
                    digest.update(bytes);
                    codes.extend(bytes);
                })?;
                let RawNumbers::U8(codes) = codes else {
                    unreachable!("memory was made for bytes")
                };
                codes.into()
            }
        };
        self.in_files.insert(path.to_owned(), digest.digest());
        Ok(Blocks::new(codes, kind, columns))
    }

    /// What is kept of the numbers of a tensor.
    fn loaded(
        &mut self,
        path: &str,
        shape: &[usize],
        numbers: RawNumbers,
        matrices: &KnownMatrices,
    ) -> Result<LoadedWeights> {
        let rounds = self.coding().is_none() && self.format == Some(FloatDType::BF16);
        if rounds && !path.ends_with("bias") && matrices.experts.get(path).is_some() {
            return self.set_aside(numbers.rounded()); // they are kept so
        }
        let fits = self.computing.limits.holds(numbers.len() as u64);
        if let Some(dims) = matrices.linears.get(path).filter(|dims| fits && dims[..] == *shape) {
            return Ok(LoadedWeights::Linear(self.linear_of(path, numbers, *dims)?));
        }
        match matrices.tables.get(path).filter(|dims| dims[..] == *shape) {
            Some(dims) => Ok(LoadedWeights::Table(self.pieces(numbers, *dims))),
            None => self.set_aside(numbers),
        }
    }

    /// Numbers until they are asked for: many of them on disk, if frozen weights are left there.
    fn set_aside(&self, numbers: RawNumbers) -> Result<LoadedWeights> {
        match self.disk_of_layers() {
            Some(disk) if numbers.len() > PIECE_BYTES => {
                let (count, element) = (numbers.len(), numbers.element());
                let parts = (0..count).step_by(PIECE_BYTES);
                let part = |first| numbers.encoded(first..count.min(first + PIECE_BYTES), element);
                Ok(LoadedWeights::Stored(disk.put(parts.map(part))?, element))
            }
            _ => Ok(LoadedWeights::Numbers(numbers)),
        }
    }
}
