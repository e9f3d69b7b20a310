//! The model of a run on a GPU once more on the CPU, to compare gradients with: its frozen weights
//! are on disk, rounded as the device has them, and what is trained is copied from there.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};

use super::head;
use super::prepare::Prepared;
use crate::adapters;
use crate::checkpoint::trainable;
use crate::config::Init;
use crate::data::Batch;
use crate::device::{self, Arithmetic, ComputeConfig, memory_bytes_available};
use crate::engine::{CheckVerdict, Trainer, beside_gpu};
use crate::error::{Error, Result};
use crate::event::bytes;
use crate::files::free_bytes;
use crate::model::{self, FrozenWeights, Model, Parameter, Streamed, Visitor};
use crate::ops::{from_vec, host_in_parts};
use crate::random::Stream;

/// Of what is free in memory and on disk, the comparison takes this part at most.
const PART: [u64; 2] = [3, 4];

impl Prepared<'_> {
    /// Where the first values of the base come from.
    pub(super) fn init(&self) -> model::Init {
        match self.config.model.init {
            Init::Pretrained => model::Init::Pretrained,
            Init::Random => model::Init::Random(Stream::new(self.config.seed).site("init")),
        }
    }

    /// How what is not trained is kept, wherever that is.
    pub(super) fn frozen_weights(&self) -> FrozenWeights<'static> {
        let seed = Stream::new(self.config.seed);
        FrozenWeights {
            frozen: self.adapter.is_some(),
            linears: self.weight_format,
            head: head::new_head(self.score_head.as_ref(), seed),
            ..FrozenWeights::default()
        }
    }

    /// Compares a batch on the device with the CPU.
    ///
    /// # Errors
    /// When the device fails, or a file of the base is not what it was. Inside, why nothing can be
    /// compared.
    pub(super) fn compare_beside_gpu(
        &self,
        trainer: &mut Trainer,
        batch: &Batch,
        chunk: usize,
    ) -> Result<std::result::Result<CheckVerdict, String>> {
        if let Err(why) = self.has_room(batch.rows * batch.length) {
            return Ok(Err(why));
        }
        let mut reference = match self.on_cpu() {
            Ok(reference) => reference,
            Err(Reference::Changed(error)) => return Err(error),
            Err(Reference::None(error)) => {
                let why = error.causes.first().map(|why| format!(" ({why})")).unwrap_or_default();
                return Ok(Err(format!("the CPU has no copy of the model: {}{why}", error.what)));
            }
        };
        let copy = || copy_trained(trainer, &mut reference);
        if let Err(path) = device::guarded(true, "comparing gradients", copy)? {
            return Ok(Err(format!("the copy of the model on the CPU has another `{path}`")));
        }
        match trainer.check_beside(&mut reference, batch, chunk) {
            Ok(verdict) => Ok(Ok(verdict)),
            Err(device::Failure::Memory(why)) => {
                trainer.model.device.memory_cleanup();
                Ok(Err(format!("the device has no memory left for it: {why}")))
            }
            Err(failure) => Err(failure.while_doing("comparing gradients")),
        }
    }

    /// Whether memory and disk hold the model once more.
    fn has_room(&self, tokens: usize) -> std::result::Result<(), String> {
        let adapted = self.adapter.is_some();
        let (description, arithmetic) = (&self.description, self.precision.arithmetic);
        let part = |free: u64| free / PART[1] * PART[0];
        let needed = beside_gpu(description, (self.trained, adapted), arithmetic, tokens);
        if memory_bytes_available().is_some_and(|free| needed > part(free)) {
            return Err(format!(
                "the host has no memory for a copy of the model, which takes {}",
                bytes(needed)
            ));
        }
        let size = if arithmetic == Arithmetic::F32 { 4 } else { 2 };
        let needed = if adapted { size * description.parameters } else { 0 };
        if free_bytes(Path::new(&self.config.output.dir)).is_some_and(|free| needed > part(free)) {
            return Err(format!(
                "the disk has no room for a copy of the frozen weights, which takes {}",
                bytes(needed)
            ));
        }
        Ok(())
    }

    /// The model on the CPU, as it was before anything was trained.
    fn on_cpu(&self) -> std::result::Result<Model, Reference> {
        let folder = Path::new(&self.config.output.dir);
        let frozen = FrozenWeights {
            on_disk: Some((Streamed::All, folder)),
            as_on_gpu: true,
            ..self.frozen_weights()
        };
        let arithmetic = self.precision.arithmetic;
        let computing = ComputeConfig { arithmetic, ..ComputeConfig::default() };
        let (base, device) = (&self.base.path, Device::flex());
        let loaded = model::load_for(base, self.init(), &device, computing, frozen);
        let loaded = loaded.map_err(Reference::None)?;
        self.unchanged(&loaded.files).map_err(Reference::Changed)?;
        let mut model = loaded.model;
        let made = model.resize_vocabulary(self.description.vocabulary).and_then(|()| {
            match self.adapter.as_deref() {
                Some(adapter) => {
                    let seed = Stream::new(self.config.seed);
                    adapters::attach(&mut model, adapter, seed).map(drop)
                }
                None => {
                    adapters::unfreeze_all(&mut model);
                    Ok(())
                }
            }
        });
        made.map(|()| model).map_err(Reference::None)
    }
}

/// Why there is no model to compare with.
enum Reference {
    /// A file of the base was changed meanwhile.
    Changed(Error),
    /// It could not be made.
    None(Error),
}

/// Gives the trainable parameters of a model on the CPU the values that they have on the device,
/// one after the other.
///
/// # Errors
/// The path of one that is not there, or has another size.
fn copy_trained(trainer: &mut Trainer, reference: &mut Model) -> std::result::Result<(), String> {
    let of_device = trainable(&mut trainer.model).into_iter();
    let values = of_device.map(|tensor| (tensor.path, tensor.values)).collect();
    let mut copy = Copy { values, other: None };
    reference.visit(&mut copy);
    copy.other.or_else(|| copy.values.into_keys().next()).map_or(Ok(()), Err)
}

struct Copy {
    values: BTreeMap<String, Vec<Tensor<1>>>,
    other: Option<String>,
}

impl Copy {
    fn set<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
        if !parameter.trainable {
            return;
        }
        let dims = parameter.value.dims();
        let count = dims.iter().product();
        let pieces = self.values.remove(path).unwrap_or_default();
        let mut values = Vec::with_capacity(count);
        pieces.iter().for_each(|piece| host_in_parts(piece, |part| values.extend(part)));
        match values.len() == count {
            true => parameter.value = from_vec(values, dims, &Device::flex()),
            false => self.other = Some(path.to_owned()),
        }
    }
}

impl Visitor for Copy {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.set(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.set(path, parameter);
    }
}
