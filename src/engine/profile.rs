//! What a LoRA step launches on a device: of each layer, and of everything else. Counted with small
//! models of one and of two layers, since the number does not depend on how large a model is, as
//! long as a row of tokens is no longer than a block of attention.

use burn::tensor::Device;

use crate::data::Batch;
use crate::device::{Arithmetic, ComputeConfig, Launches, OpenedDevice, count_launches};
use crate::engine::optimizers::{self, OPTIMIZERS};
use crate::engine::parity::{small_batch, small_model_of, small_settings};
use crate::engine::{Schedule, StepSettings, Trainer};
use crate::error::Result;

/// Launches of a step.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct StepLaunches {
    /// How is multiplied.
    pub arithmetic: String,
    /// What a further layer adds.
    pub layer: Launches,
    /// What there is without any.
    pub rest: Launches,
}

impl StepLaunches {
    /// Of a model of so many layers.
    pub fn of_layers(&self, layers: i64) -> i64 {
        self.rest.total() + layers * self.layer.total()
    }
}

/// Counts in every arithmetic that a device has.
///
/// # Errors
/// When a model cannot be made, or a step fails.
pub fn step_launches(opened: &OpenedDevice) -> Result<Vec<StepLaunches>> {
    let all = [
        (Arithmetic::F32, true),
        (Arithmetic::MixedF16, opened.f16),
        (Arithmetic::MixedBf16, opened.bf16),
    ];
    let there = all.into_iter().filter(|(_, there)| *there);
    let counted = there.map(|(arithmetic, _)| {
        let computing = ComputeConfig { arithmetic, ..opened.computing() };
        let [one, two] = [1, 2].map(|layers| step(layers, &opened.device, computing));
        let (one, two) = (one?, two?);
        let layer = two.without(&one);
        let arithmetic = arithmetic.name().to_owned();
        Ok(StepLaunches { arithmetic, rest: one.without(&layer), layer })
    });
    counted.collect()
}

/// The second step: state of the optimizer is made in the first.
fn step(layers: usize, device: &Device, computing: ComputeConfig) -> Result<Launches> {
    let batch: Batch = small_batch();
    let model = small_model_of(layers, device, computing)?;
    let rule = optimizers::with(OPTIMIZERS[0].name, OPTIMIZERS[0].smooth);
    let schedule = Schedule { peak: 1e-3, ..small_settings().schedule };
    let mut trainer = Trainer::new(model, StepSettings { schedule, ..small_settings() }, rule);
    let mut one = || trainer.begin(std::slice::from_ref(&batch), 0.0, true)?.finish();
    one()?;
    let (done, launches) = count_launches(one);
    done.map(|_| launches)
}
