//! One optimiser step over any number of micro-batches.

use std::time::Instant;

use rayon::prelude::*;

use crate::config::Recompute;
use crate::data::Batch;
use crate::device::{self, Arithmetic, Failure, memory_bytes_peak};
use crate::engine::{
    AdamW, AdamWSettings, Division, LossScale, Pass, Schedule, forward_backward, learning_rate,
};
use crate::error::{Error, Result};
use crate::event::{StepReport, Timing};
use crate::model::{Dropout, Gradients, Model, Parameter, Visitor};
use crate::ops::flat;
use crate::random::Stream;

/// How steps are made.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Optimiser.
    pub adamw: AdamWSettings,
    /// Largest global gradient norm; 0 never clips.
    pub max_grad_norm: f64,
    /// What is kept for the backward pass.
    pub recompute: Recompute,
    /// Learnt positions per chunk of the loss.
    pub loss_chunk_tokens: usize,
    /// Micro-batches that are differentiated at the same time. Changes speed and memory, and no
    /// bit: each has sums of its own, which are added in order.
    pub parallel_micro_batches: usize,
    /// Seed of the run.
    pub seed: u64,
}

/// Everything that training changes.
pub struct Trainer {
    /// The model, adapters included.
    pub model: Model,
    /// Moments.
    pub optimizer: AdamW,
    /// Steps done.
    pub step: u64,
    /// Scale of the loss, in arithmetic that needs one.
    pub loss_scale: Option<LossScale>,
    /// What is worked on at once.
    pub division: Division,
    settings: StepSettings,
}

/// Sums over all micro-batches of a step.
#[derive(Default)]
struct Sums {
    gradients: Gradients,
    loss: f64,
    forward_seconds: f64,
}

/// Why a step was not made.
enum Stopped {
    /// The device has no room; its words.
    Memory(String),
    /// Anything that trying again does not change.
    Error(Error),
}

impl Trainer {
    /// A trainer before its first step.
    pub fn new(model: Model, settings: StepSettings) -> Self {
        let scaled = model.computing.arithmetic == Arithmetic::MixedF16;
        Self {
            optimizer: AdamW::new(settings.adamw),
            step: 0,
            loss_scale: scaled.then(LossScale::default),
            division: Division::default(),
            model,
            settings,
        }
    }

    /// Makes one step. Gradients are those of the mean over all learnt tokens of all
    /// micro-batches, so that splitting a batch never changes the update (up to rounding). A device
    /// that has no room for a micro-batch gets smaller parts of it, then and from then on
    /// ([`Self::division`]).
    ///
    /// # Errors
    /// When loss or gradient is not finite, or the device fails: the model is left as it was
    /// before the step.
    pub fn step(&mut self, batches: &[Batch], epoch: f64) -> Result<(StepReport, Timing)> {
        let began = Instant::now();
        let sums = loop {
            match self.differentiate(batches) {
                Ok(sums) => break sums,
                Err(Stopped::Error(error)) => return Err(error),
                Err(Stopped::Memory(why)) => self.make_smaller(batches, &why)?,
            }
        };
        let differentiated = began.elapsed().as_secs_f64();
        let (loss, forward_seconds) = (sums.loss, sums.forward_seconds);
        let rate = learning_rate(&self.settings.schedule, self.step + 1);
        let scale = self.loss_scale;
        let grad_norm = self.update(sums.gradients, batches, rate)?;
        self.step += 1;
        let step_seconds = began.elapsed().as_secs_f64();
        let report = StepReport {
            step: self.step,
            epoch,
            loss,
            learning_rate: rate,
            grad_norm: grad_norm.unwrap_or(0.0),
            target_tokens: batches.iter().map(|batch| batch.targets.len() as u64).sum(),
            tokens: batches.iter().map(Batch::tokens_without_padding).sum(),
            loss_scale: scale.map(|scale| scale.scale),
            skipped: grad_norm.is_none(),
            rows_at_once: self.division.rows,
        };
        let used = device::usage(&self.model.device);
        let timing = Timing {
            step: self.step,
            step_seconds,
            data_seconds: 0.0,
            forward_seconds,
            backward_seconds: differentiated - forward_seconds,
            update_seconds: step_seconds - differentiated,
            memory_bytes_peak: memory_bytes_peak(),
            memory_bytes: used.host_bytes,
            device_bytes_in_use: used.device_bytes_in_use,
            device_bytes_reserved: used.device_bytes_reserved,
        };
        Ok((report, timing))
    }

    fn on_gpu(&self) -> bool {
        self.model.device != burn::tensor::Device::flex()
    }

    /// Losses and gradients of all micro-batches.
    fn differentiate(&self, batches: &[Batch]) -> std::result::Result<Sums, Stopped> {
        let step = self.step + 1;
        let target_tokens: u64 = batches.iter().map(|batch| batch.targets.len() as u64).sum();
        let dropout = Stream::new(self.settings.seed).site("dropout").number(step);
        #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
        let mean = 1.0 / target_tokens as f64;
        let scale = self.loss_scale.map_or(1.0, |found| found.scale);
        let mut sums = Sums::default();
        let numbered: Vec<(u64, &Batch)> = (0..).zip(batches).collect();
        for together in numbered.chunks(self.settings.parallel_micro_batches.max(1)) {
            let one = |(number, batch): &(u64, &Batch)| {
                self.micro_batch(batch, mean * scale, dropout.number(*number))
            };
            // One thread alone talks to a GPU: each would have a queue of its own there.
            let passes: Vec<_> = match together {
                [only] => vec![one(only)],
                _ => together.par_iter().map(one).collect(),
            };
            let mut slowest = 0.0_f64;
            for ((_, batch), pass) in together.iter().zip(passes) {
                let pass = pass?;
                if !pass.loss.is_finite() {
                    let batch = std::slice::from_ref(*batch);
                    return Err(Stopped::Error(diverged(step, "the loss is not finite", batch)));
                }
                sums.loss += pass.loss * mean;
                slowest = slowest.max(pass.forward_seconds);
                sums.gradients.merge(pass.gradients);
            }
            sums.forward_seconds += slowest;
        }
        Ok(sums)
    }

    /// Loss, seconds of the forward part, and gradients of one micro-batch, in parts if need be.
    fn micro_batch(
        &self,
        batch: &Batch,
        scale: f64,
        dropout: Stream,
    ) -> std::result::Result<Sums, Stopped> {
        let settings = &self.settings;
        let recompute = match self.division.recompute {
            true => Recompute::Layers,
            false => settings.recompute,
        };
        let chunk = self.division.loss_chunk.unwrap_or(settings.loss_chunk_tokens);
        let one = |batch: &Batch, tokens_before: usize, sums: &mut Sums| {
            let pass = Pass {
                scale,
                recompute,
                loss_chunk_tokens: chunk.min(settings.loss_chunk_tokens),
                dropout: Dropout { stream: dropout, tokens_before },
            };
            let done = device::room_for(batch.rows).and_then(|()| {
                let work = || forward_backward(&self.model, batch, pass, &mut sums.gradients);
                device::attempt(self.on_gpu(), work)
            });
            let (loss, forward) = done.map_err(|failure| match failure {
                Failure::Memory(why) => Stopped::Memory(why),
                Failure::Other(why) => Stopped::Error(broken(self.step + 1, &why)),
            })?;
            sums.loss += loss;
            sums.forward_seconds += forward.as_secs_f64();
            Ok(())
        };
        let mut sums = Sums::default();
        match self.division.rows {
            Some(rows) if rows < batch.rows => {
                for (before, part) in batch.split(rows) {
                    one(&part, before, &mut sums)?;
                }
            }
            _ => one(batch, 0, &mut sums)?,
        }
        Ok(sums)
    }

    /// Divides micro-batches further.
    ///
    /// # Errors
    /// When they cannot be divided any further.
    fn make_smaller(&mut self, batches: &[Batch], why: &str) -> Result<()> {
        let settings = &self.settings;
        let rows = batches.iter().map(|batch| batch.rows).max().unwrap_or(1);
        let (recompute, chunk) = (settings.recompute, settings.loss_chunk_tokens);
        if let Some(smaller) = self.division.smaller(rows, recompute, chunk) {
            self.division = smaller;
            self.model.device.memory_cleanup();
            return Ok(());
        }
        let length = batches.iter().map(|batch| batch.length).max().unwrap_or(0);
        let what = format!("step {} does not fit into the device's memory", self.step + 1);
        let used = device::usage(&self.model.device);
        let mut error = Error::new(what).because(why).because(format!(
            "one row of {length} tokens is worked on at once already, with layers computed again"
        ));
        if let Some(reserved) = used.device_bytes_reserved {
            error = error.because(format!("{} are taken", crate::event::bytes(reserved)));
        }
        Err(error.hint("a smaller `data.max_seq_len` needs less, or another `device.name`"))
    }

    /// Moves every weight, unless the gradient is too large for its arithmetic. Returns the norm
    /// of the gradient, or nothing if the update was left out.
    fn update(&mut self, sums: Gradients, batches: &[Batch], rate: f64) -> Result<Option<f64>> {
        let step = self.step + 1;
        let on_gpu = self.on_gpu();
        let failed = |failure| match failure {
            Failure::Memory(why) | Failure::Other(why) => broken(step, &why),
        };
        let scale = self.loss_scale.map_or(1.0, |found| found.scale);
        let norm = device::attempt(on_gpu, || sums.norm()).map_err(failed)? / scale;
        if let Some(found) = self.loss_scale {
            let next = found.after(!norm.is_finite());
            if next.is_exhausted() {
                let what = "the gradient is not finite, however small its scale is";
                return Err(diverged(step, what, batches));
            }
            self.loss_scale = Some(next);
        }
        if !norm.is_finite() {
            return match self.loss_scale {
                Some(_) => Ok(None),
                None => Err(diverged(step, "the gradient is not finite", batches)),
            };
        }
        let limit = self.settings.max_grad_norm;
        // As torch.nn.utils.clip_grad_norm_ has it, small constant included.
        let clip = (limit > 0.0).then(|| limit / (norm + 1e-6)).filter(|clip| *clip < 1.0);
        let factor = clip.unwrap_or(1.0) / scale;
        let first = self.optimizer.updates() == 0;
        let device = self.model.device.clone();
        let work = || {
            self.apply(sums, factor, rate);
            // Moments are made in the first update: whether they fit is known after it.
            if first && on_gpu { device.sync().map_err(|error| error.to_string()) } else { Ok(()) }
        };
        let done = device::attempt(on_gpu, work).map_err(failed)?;
        done.map_err(|why| failed(Failure::of(&why)))?;
        Ok(Some(norm))
    }

    fn apply(&mut self, sums: Gradients, factor: f64, rate: f64) {
        struct Update<'a> {
            sums: std::collections::BTreeMap<String, burn::tensor::Tensor<1>>,
            optimizer: &'a mut AdamW,
            factor: Option<f64>,
            rate: f64,
        }
        impl Update<'_> {
            fn apply<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
                if !parameter.learns {
                    return;
                }
                let Some(mut gradient) = self.sums.remove(path) else {
                    return; // no learnt position reached it
                };
                if let Some(factor) = self.factor {
                    gradient = gradient.mul_scalar(factor);
                }
                let shape = parameter.value.dims();
                let value = flat(parameter.value.clone());
                let value = self.optimizer.update(path, value, gradient, self.rate);
                parameter.value = value.reshape(shape.map(|size| size as i32));
            }
        }
        impl Visitor for Update<'_> {
            fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
                self.apply(path, parameter);
            }
            fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
                self.apply(path, parameter);
            }
        }
        #[expect(clippy::float_cmp)] // exactly one means that there is nothing to do
        let factor = (factor != 1.0).then_some(factor);
        self.optimizer.begin_update();
        let optimizer = &mut self.optimizer;
        let mut update = Update { sums: sums.into_sums(), optimizer, factor, rate };
        self.model.visit(&mut update);
    }
}

fn broken(step: u64, why: &str) -> Error {
    Error::new(format!("the device failed at step {step}")).because(why).hint(
        "the same command goes on from the last checkpoint; `firebrand doctor` looks at the device",
    )
}

fn diverged(step: u64, what: &str, batches: &[Batch]) -> Error {
    const ROWS_SHOWN: usize = 8;
    let rows: Vec<String> =
        batches.iter().flat_map(Batch::describe_rows).take(ROWS_SHOWN).collect();
    let error = Error::new(format!("{what} at step {step}; nothing was published"))
        .hint("try a smaller `train.learning_rate` or a longer warm-up, and look at these records");
    rows.into_iter().fold(error, |error, row| error.because(format!("it came from {row}")))
}
