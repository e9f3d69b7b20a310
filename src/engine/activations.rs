//! What is kept of layers that are computed again, off the device between the forward and the
//! backward pass: the residual stream that enters each of them, in host memory or in a file without
//! a name.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use burn::tensor::{DType, Device, Tensor};

use super::scratch::{ScratchContent, ScratchFile, ScratchPart};
use crate::error::Result;
use crate::ops::{from_vec, host};

const LESS: &str = "make room, or keep them in memory (`train.activation_offload = \"none\"`)";

/// Where inputs of layers are until the backward pass comes to them.
#[derive(Debug, Clone)]
pub enum ActivationStore {
    /// In host memory.
    Host,
    /// On disk.
    Disk(Arc<ScratchFile>),
}

impl ActivationStore {
    /// A file without a name in a folder, with room for so many inputs of at most so many bytes.
    ///
    /// # Errors
    /// When it cannot be made, or the disk has no room.
    pub fn on_disk(folder: &Path, inputs: u64, bytes: u64) -> Result<Self> {
        let content = ScratchContent {
            name: "layer-inputs",
            what: "inputs of layers",
            less: LESS,
            place: bytes,
        };
        Ok(Self::Disk(ScratchFile::within(folder, content, inputs * bytes)?))
    }

    fn put(&self, x: Tensor<2>) -> Result<LayerInput> {
        assert_eq!(x.dtype(), DType::F32, "the residual stream has 32 bits");
        let shape = x.dims();
        let numbers = host(x);
        let place = match self {
            Self::Host => Place::Host(numbers),
            Self::Disk(file) => Place::Disk(file.put_numbers(&numbers)?),
        };
        Ok(LayerInput(Where::Elsewhere { shape, place }))
    }
}

/// The input of a layer, wherever it is.
#[derive(Debug)]
pub struct LayerInput(Where);

#[derive(Debug)]
enum Where {
    Here(Tensor<2>),
    Elsewhere { shape: [usize; 2], place: Place },
}

#[derive(Debug)]
enum Place {
    Host(Vec<f32>),
    Disk(Arc<ScratchPart>),
    /// Read by another thread.
    OnTheWay(JoinHandle<Result<Vec<f32>>>),
}

impl LayerInput {
    /// Keeps it where it is, or puts it into a store.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn kept(x: Tensor<2>, store: Option<&ActivationStore>) -> Result<Self> {
        match store {
            Some(store) => store.put(x),
            None => Ok(Self(Where::Here(x))),
        }
    }

    /// Begins to read it from disk, while something else is computed.
    pub fn expect(&mut self) {
        let Where::Elsewhere { place, .. } = &mut self.0 else { return };
        let Place::Disk(part) = place else { return };
        let part = part.clone();
        let reader = std::thread::Builder::new().name("layer-inputs".to_owned());
        // Where there is no thread for it, it is read when it is wanted.
        if let Ok(reading) = reader.spawn(move || part.numbers()) {
            *place = Place::OnTheWay(reading);
        }
    }

    /// The tensor, on the device.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn brought_to(self, device: &Device) -> Result<Tensor<2>> {
        let (shape, place) = match self.0 {
            Where::Here(x) => return Ok(x),
            Where::Elsewhere { shape, place } => (shape, place),
        };
        let numbers = match place {
            Place::Host(numbers) => numbers,
            Place::Disk(part) => part.numbers()?,
            Place::OnTheWay(reading) => match reading.join() {
                Ok(numbers) => numbers?,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        };
        Ok(from_vec(numbers, shape, device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Kernels, Recompute};
    use crate::device::ComputeConfig;
    use crate::engine::layerwise::{Pass, forward_backward_beside};
    use crate::engine::parity::{small_batch, small_model};
    use crate::error::ErrorCode;
    use crate::files::{Call, watch};
    use crate::model::Gradients;

    fn gradients(
        kernels: Kernels,
        recompute: Recompute,
        store: Option<&ActivationStore>,
    ) -> Result<(u64, Vec<(String, Vec<u32>)>)> {
        let computing = ComputeConfig { kernels, ..ComputeConfig::default() };
        let model = small_model(&Device::flex(), computing).unwrap();
        let sft = crate::objectives::with("sft", &[]);
        let pass =
            Pass { scale: 0.01, recompute, loss_chunk_tokens: 50, dropout: None, noise: None };
        let mut sums = Gradients::default();
        let batch = small_batch();
        let done = forward_backward_beside(&model, &*sft, &batch, pass, store, &mut sums)?;
        let bits = |x: Tensor<1>| host(x).into_iter().map(f32::to_bits).collect();
        let sums = sums.into_sums().into_iter().map(|(path, sum)| (path, bits(sum)));
        Ok((done.0.number().to_bits(), sums.collect()))
    }

    #[test]
    fn gradients_have_the_same_bits_wherever_inputs_are_and_all_are_written() {
        let batch = small_batch();
        for kernels in [Kernels::Fast, Kernels::Portable] {
            let model = small_model(&Device::flex(), ComputeConfig::default()).unwrap();
            let (layers, hidden) = (model.layers.len() as u64, model.description.hidden);
            let bytes = (batch.tokens.len() * hidden * 4) as u64;
            let folder = tempfile::tempdir().unwrap();
            let disk = ActivationStore::on_disk(folder.path(), layers, bytes).unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            let end = || match &disk {
                ActivationStore::Disk(file) => file.end(),
                ActivationStore::Host => 0,
            };
            let here = gradients(kernels, Recompute::Layers, None).unwrap();
            for store in [&ActivationStore::Host, &disk, &disk] {
                let found = gradients(kernels, Recompute::Layers, Some(store)).unwrap();
                assert!(found == here, "{kernels:?}");
            }
            // Twice, at the same places.
            assert_eq!(end(), layers * bytes);
            // Tapes stay where they are.
            let folder = tempfile::tempdir().unwrap();
            let unused = ActivationStore::on_disk(folder.path(), 0, bytes).unwrap();
            gradients(kernels, Recompute::None, Some(&unused)).unwrap();
            let ActivationStore::Disk(file) = &unused else { unreachable!() };
            assert_eq!(file.end(), 0);
        }
    }

    #[test]
    fn what_is_shorter_takes_a_place_that_was_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = ActivationStore::on_disk(folder.path(), 1, 80).unwrap();
        let ActivationStore::Disk(file) = &store else { unreachable!() };
        for rows in [4, 5, 1] {
            let values: Vec<f32> = (0..4 * rows).map(|at| at as f32 + 0.5).collect();
            let x = from_vec(values.clone(), [rows, 4], &Device::flex());
            let mut kept = LayerInput::kept(x, Some(&store)).unwrap();
            kept.expect();
            assert!(matches!(&kept.0, Where::Elsewhere { place: Place::OnTheWay(_), .. }));
            let x = kept.brought_to(&Device::flex()).unwrap();
            assert_eq!((x.dims(), host(x)), ([rows, 4], values));
        }
        assert_eq!(file.end(), 80);
    }

    #[test]
    fn a_disk_without_room_ends_the_pass_with_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = ActivationStore::on_disk(folder.path(), 0, 1).unwrap();
        let _watch = watch(folder.path(), |call, _| match call {
            Call::Write => Err(std::io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        let error = gradients(Kernels::Fast, Recompute::Layers, Some(&store)).unwrap_err();
        assert_eq!(error.code, ErrorCode::DiskFull);
        assert_eq!(error.what, "cannot write inputs of layers to disk");
        assert_eq!(error.hints, [LESS]);
    }
}
