//! One optimiser step over any number of micro-batches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::config::Recompute;
use crate::data::Batch;
use crate::device::{self, Arithmetic, Failure, memory_bytes_peak};
use crate::engine::activations::ActivationStore;
use crate::engine::in_flight::{InFlight, broken, diverged};
use crate::engine::layerwise::forward_backward_beside;
use crate::engine::sizes::{MicroBatchPart, Size, pieces};
use crate::engine::{
    LossScale, MicroBatchSplit, Optimizer, OptimizerState, Pass, Schedule, learning_rate,
};
use crate::error::{Error, Result};
use crate::event::{StepReport, Timing};
use crate::model::{Dropout, EmbeddingNoise, Gradients, Model};
use crate::objectives::{self, Loss, LossSum, Objective};
use crate::ops;
use crate::random::Stream;

/// How steps are made.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Largest global gradient norm; 0 never clips.
    pub max_grad_norm: f64,
    /// What is kept for the backward pass.
    pub recompute: Recompute,
    /// Target positions per chunk of the loss.
    pub loss_chunk_tokens: usize,
    /// Micro-batches that are differentiated at the same time. Changes speed and memory, and no
    /// bit: each has sums of its own, which are added in order.
    pub parallel_micro_batches: usize,
    /// Rows of a whole micro-batch. Where sizes are to come again, those with less are filled up.
    pub rows: usize,
    /// How much noise is added to embeddings (NEFTune); 0 for none.
    pub neftune_noise_alpha: f64,
    /// Seed of the run.
    pub seed: u64,
}

/// Everything that training changes.
pub struct Trainer {
    /// The model, adapters included.
    pub model: Model,
    /// The loss.
    pub objective: Box<dyn Objective>,
    /// The rule of the update, and its state.
    pub optimizer: OptimizerState,
    /// Steps done.
    pub step: u64,
    /// Scale of the loss, in arithmetic that needs one.
    pub loss_scale: Option<LossScale>,
    /// What is computed at once.
    pub micro_batch_split: MicroBatchSplit,
    /// Where inputs of layers that are computed again are meanwhile, if they leave the device.
    pub activations: Option<ActivationStore>,
    pub(super) settings: StepSettings,
    /// Whether inputs of adapters are dropped.
    drops: bool,
    /// Sizes that kernels were compiled for.
    pub(super) sizes: BTreeSet<Size>,
}

/// Sums over all micro-batches of a step.
#[derive(Default)]
pub(super) struct Sums {
    pub gradients: Gradients,
    pub loss: Loss,
    pub forward_seconds: f64,
    /// Loss and norm of the gradient on a GPU, `[2]`: read back together.
    pub measured: Option<Tensor<1>>,
}

/// Why a step was not made.
pub(super) enum Stopped {
    /// The device has no room; its words.
    Memory(String),
    /// Anything that trying again does not change.
    Error(Error),
}

impl Trainer {
    /// A trainer before its first step.
    pub fn new(mut model: Model, settings: StepSettings, optimizer: Box<dyn Optimizer>) -> Self {
        let mut drops = false;
        model.linears(&mut |_, linear| {
            drops |= linear.adapter.as_ref().is_some_and(|adapter| adapter.drops());
        });
        model.place_together();
        let scaled = model.computing.arithmetic == Arithmetic::MixedF16;
        Self {
            objective: objectives::by_default(),
            optimizer: OptimizerState::new(optimizer),
            step: 0,
            loss_scale: scaled.then(LossScale::default),
            micro_batch_split: MicroBatchSplit::default(),
            activations: None,
            model,
            drops,
            settings,
            sizes: BTreeSet::new(),
        }
    }

    /// Makes one step. Gradients are those of the mean over all that the objective counts in all
    /// micro-batches (target tokens, pairs), so that splitting a batch never changes the update (up
    /// to rounding). A device that has no room for a micro-batch gets smaller parts of it, then and
    /// from then on ([`Self::micro_batch_split`]).
    ///
    /// # Errors
    /// When loss or gradient is not finite, there are no target tokens, or the device fails: the
    /// model is left as it was before the step.
    pub fn step(&mut self, batches: &[Batch], epoch: f64) -> Result<(StepReport, Timing)> {
        self.begin(batches, epoch, false)?.finish()
    }

    /// The same, but `ahead` waits for nothing: numbers are known with [`InFlight::finish`], which
    /// is best asked when the device has the next step to do already. Where the arithmetic needs a
    /// loss scale the norm decides about the update, and so is waited for all the same.
    ///
    /// # Errors
    /// As far as they show at once. What shows later is an error of [`InFlight::finish`]: the
    /// trainer has then trained on what was not finite, and is of no further use.
    pub fn begin(&mut self, batches: &[Batch], epoch: f64, ahead: bool) -> Result<InFlight> {
        let began = Instant::now();
        if batches.iter().all(|batch| batch.targets.is_empty()) {
            // Rows of a run have target tokens; a mean over nothing would be no number.
            let what = format!("step {} has no target tokens", self.step + 1);
            let rows = batches.iter().flat_map(Batch::describe_rows);
            return Err(rows.fold(Error::device(what), Error::because));
        }
        let sums = loop {
            match self.differentiate(batches) {
                Ok(sums) => break sums,
                Err(Stopped::Error(error)) => return Err(error),
                Err(Stopped::Memory(why)) => self.make_smaller(batches, &why)?,
            }
        };
        let sizes: Vec<Size> = batches.iter().map(|batch| self.size_of(batch)).collect();
        self.sizes.extend(sizes);
        let differentiated = began.elapsed().as_secs_f64();
        let forward_seconds = sums.forward_seconds;
        let metrics = self.objective.report(&sums.loss.metrics);
        let rate = learning_rate(&self.settings.schedule, self.step + 1);
        let scale = self.loss_scale;
        let numbers = match ahead && scale.is_none() {
            true => self.update_ahead(sums, rate)?,
            false => self.update(sums, batches, rate)?,
        };
        self.step += 1;
        let step_seconds = began.elapsed().as_secs_f64();
        let report = StepReport {
            step: self.step,
            epoch,
            loss: 0.0,
            learning_rate: rate,
            grad_norm: 0.0,
            target_tokens: batches.iter().map(|batch| batch.targets.len() as u64).sum(),
            tokens: batches.iter().map(Batch::tokens_without_padding).sum(),
            loss_scale: scale.map(|scale| scale.scale),
            skipped: false,
            rows_at_once: self.micro_batch_split.rows,
            metrics,
        };
        let used = device::usage(&self.model.device);
        let timing = Timing {
            step: self.step,
            step_seconds,
            data_seconds: 0.0,
            forward_seconds,
            backward_seconds: differentiated - forward_seconds,
            update_seconds: step_seconds - differentiated,
            save_seconds: 0.0,
            memory_bytes_peak: memory_bytes_peak(),
            memory_bytes: used.host_bytes,
            device_bytes_in_use: used.device_bytes_in_use,
            device_bytes_reserved: used.device_bytes_reserved,
        };
        Ok(InFlight { report, timing, numbers, began, rows: rows_of(batches, ahead) })
    }

    pub(super) fn on_gpu(&self) -> bool {
        self.model.device != burn::tensor::Device::flex()
    }

    /// The size of what is computed at once.
    pub(super) fn size_of(&self, batch: &Batch) -> Size {
        Size::of(batch, self.settings.rows, self.micro_batch_split, self.model.computing)
    }

    /// What the loss of a step is the mean over.
    #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
    fn count(&self, batches: &[Batch]) -> f64 {
        batches.iter().map(|batch| self.objective.count(batch)).sum::<u64>() as f64
    }

    /// Mean loss and gradients of all micro-batches.
    fn differentiate(&self, batches: &[Batch]) -> std::result::Result<Sums, Stopped> {
        let step = self.step + 1;
        let count = self.count(batches);
        let dropout = Stream::new(self.settings.seed).site("dropout").number(step);
        let mean = 1.0 / count.max(1.0); // all that was sampled may be left out of the loss
        let scale = self.loss_scale.map_or(1.0, |found| found.scale);
        let known = self.objective_of_step(batches)?;
        let objective = known.as_deref().unwrap_or(&*self.objective);
        let mut sums = Sums::default();
        let numbered: Vec<(u64, &Batch)> = (0..).zip(batches).collect();
        for together in numbered.chunks(self.settings.parallel_micro_batches.max(1)) {
            let one = |(number, batch): &(u64, &Batch)| {
                self.micro_batch(objective, batch, mean * scale, dropout.number(*number))
            };
            // One thread alone talks to a GPU: each would have a queue of its own there.
            let passes: Vec<_> = match together {
                [only] if self.on_gpu() => vec![one(only)],
                // On a thread of the pool, which takes part in the work instead of waiting for it.
                [only] => vec![rayon::join(|| one(only), || ()).0],
                _ => together.par_iter().map(one).collect(),
            };
            let mut slowest = 0.0_f64;
            for ((_, batch), pass) in together.iter().zip(passes) {
                let pass = pass?;
                if matches!(pass.loss.sum, LossSum::Number(loss) if !loss.is_finite()) {
                    let rows = batch.describe_rows();
                    return Err(Stopped::Error(diverged(step, "the loss is not finite", &rows)));
                }
                sums.loss = sums.loss.plus(pass.loss.times(mean));
                slowest = slowest.max(pass.forward_seconds);
                sums.gradients.merge(pass.gradients);
            }
            sums.forward_seconds += slowest;
        }
        if self.on_gpu() {
            sums.measured = Some(self.measure(&sums)?);
        }
        Ok(sums)
    }

    /// Loss and norm of the gradient, `[2]`, without waiting for them. What a device has no memory
    /// for it tells of whoever asks for the result.
    pub(super) fn measure(&self, sums: &Sums) -> std::result::Result<Tensor<1>, Stopped> {
        let device = &self.model.device;
        let work = || {
            let loss = match &sums.loss.sum {
                LossSum::OnDevice(loss) => loss.clone(),
                #[expect(clippy::cast_possible_truncation)] // as it would be there
                LossSum::Number(loss) => ops::from_vec(vec![*loss as f32], [1], device),
            };
            let both = sums.gradients.with_norm(loss);
            ops::begun(&both).map(|()| both)
        };
        let failure = match device::attempt(self.on_gpu(), work) {
            Ok(Ok(both)) => return Ok(both),
            Ok(Err(why)) => Failure::of(&why),
            Err(failure) => failure,
        };
        Err(self.stopped(failure))
    }

    pub(super) fn stopped(&self, failure: Failure) -> Stopped {
        match failure {
            Failure::Memory(why) => Stopped::Memory(why),
            Failure::Other(why) => Stopped::Error(broken(self.step + 1, &why)),
        }
    }

    /// Loss, seconds of the forward part, and gradients of one micro-batch, in parts if need be.
    pub(super) fn micro_batch(
        &self,
        objective: &dyn Objective,
        batch: &Batch,
        scale: f64,
        dropout: Stream,
    ) -> std::result::Result<Sums, Stopped> {
        let settings = &self.settings;
        let recompute = match self.micro_batch_split.recompute {
            true => Recompute::Layers,
            false => settings.recompute,
        };
        let chunk = self.micro_batch_split.loss_chunk.unwrap_or(settings.loss_chunk_tokens);
        let mut sums = Sums::default();
        for piece in pieces(batch, self.size_of(batch), self.model.computing) {
            let MicroBatchPart { rows, numbers, batch } = piece;
            let pass = Pass {
                scale,
                recompute,
                loss_chunk_tokens: chunk.min(settings.loss_chunk_tokens),
                noise: self.noise(dropout, numbers.clone()),
                dropout: self.drops.then_some(Dropout { stream: dropout, numbers }),
            };
            let done = device::room_for(rows).and_then(|()| {
                let (model, kept) = (&self.model, self.activations.as_ref());
                let sums = &mut sums.gradients;
                let work = || forward_backward_beside(model, objective, &batch, pass, kept, sums);
                device::attempt(self.on_gpu(), work)
            });
            let done = done.map_err(|failure| self.stopped(failure))?;
            let (loss, forward) = done.map_err(Stopped::Error)?;
            sums.loss = sums.loss.plus(loss);
            sums.forward_seconds += forward.as_secs_f64();
        }
        Ok(sums)
    }

    /// The noise of a micro-batch whose stream is this; none where there is to be none.
    fn noise(
        &self,
        micro_batch: Stream,
        numbers: Option<Arc<[Option<usize>]>>,
    ) -> Option<EmbeddingNoise> {
        let alpha = self.settings.neftune_noise_alpha;
        let tokens = Dropout { stream: micro_batch.site("neftune"), numbers };
        (alpha > 0.0).then_some(EmbeddingNoise { alpha, tokens })
    }

    /// Divides micro-batches further.
    ///
    /// # Errors
    /// When they cannot be divided any further.
    pub(super) fn make_smaller(&mut self, batches: &[Batch], why: &str) -> Result<()> {
        let settings = &self.settings;
        let rows = batches.iter().map(|batch| batch.rows).max().unwrap_or(1);
        let (recompute, chunk) = (settings.recompute, settings.loss_chunk_tokens);
        if let Some(smaller) = self.micro_batch_split.smaller(rows, recompute, chunk) {
            self.micro_batch_split = smaller;
            self.model.device.memory_cleanup();
            return Ok(());
        }
        let length = batches.iter().map(|batch| batch.length).max().unwrap_or(0);
        let what = format!("step {} does not fit into the device's memory", self.step + 1);
        let used = device::usage(&self.model.device);
        let mut error = Error::device(what).because(why).because(format!(
            "one row of {length} tokens is computed at once already, with layers computed again"
        ));
        if let Some(reserved) = used.device_bytes_reserved {
            error = error.because(format!("{} are taken", crate::event::bytes(reserved)));
        }
        Err(error.hint("a smaller `data.max_seq_len` needs less, or another `device.name`"))
    }
}

/// The rows of a step, for whoever finds later that something was wrong with it.
fn rows_of(batches: &[Batch], ahead: bool) -> Vec<String> {
    match ahead {
        true => batches.iter().flat_map(Batch::describe_rows).collect(),
        false => Vec::new(),
    }
}
