//! One optimiser step over any number of micro-batches.

use std::time::Instant;

use rayon::prelude::*;

use crate::config::Recompute;
use crate::data::Batch;
use crate::device::memory_bytes_peak;
use crate::engine::{AdamW, AdamWSettings, Pass, Schedule, forward_backward, learning_rate};
use crate::error::{Error, Result};
use crate::event::{StepReport, Timing};
use crate::model::{Gradients, Model, Parameter, Visitor};
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
    settings: StepSettings,
}

impl Trainer {
    /// A trainer before its first step.
    pub fn new(model: Model, settings: StepSettings) -> Self {
        Self { model, optimizer: AdamW::new(settings.adamw), step: 0, settings }
    }

    /// Makes one step. Gradients are those of the mean over all learnt tokens of all
    /// micro-batches, so that splitting a batch never changes the update (up to rounding).
    ///
    /// # Errors
    /// When loss or gradient is not finite: the model is left as it was before the step.
    pub fn step(&mut self, batches: &[Batch], epoch: f64) -> Result<(StepReport, Timing)> {
        let began = Instant::now();
        let step = self.step + 1;
        let target_tokens: u64 = batches.iter().map(|batch| batch.targets.len() as u64).sum();
        let tokens = batches.iter().map(Batch::tokens_without_padding).sum();
        let dropout = Stream::new(self.settings.seed).site("dropout").number(step);

        let mut sums = Gradients::default();
        let mut loss = 0.0;
        let mut forward_seconds = 0.0;
        #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
        let scale = 1.0 / target_tokens as f64;
        let numbered: Vec<(u64, &Batch)> = (0..).zip(batches).collect();
        for together in numbered.chunks(self.settings.parallel_micro_batches.max(1)) {
            let passes: Vec<_> = together
                .par_iter()
                .map(|(number, batch)| self.differentiate(batch, scale, dropout.number(*number)))
                .collect();
            let mut slowest = 0.0_f64;
            for ((_, batch), (sum, forward, gradients)) in together.iter().zip(passes) {
                if !sum.is_finite() {
                    let batch = std::slice::from_ref(*batch);
                    return Err(diverged(step, "the loss is not finite", batch));
                }
                loss += sum * scale;
                slowest = slowest.max(forward);
                sums.merge(gradients);
            }
            forward_seconds += slowest;
        }
        let grad_norm = sums.norm();
        if !grad_norm.is_finite() {
            return Err(diverged(step, "the gradient is not finite", batches));
        }
        let differentiated = began.elapsed().as_secs_f64();

        let rate = learning_rate(&self.settings.schedule, step);
        self.update(sums, grad_norm, rate);
        self.step = step;
        let step_seconds = began.elapsed().as_secs_f64();
        let report =
            StepReport { step, epoch, loss, learning_rate: rate, grad_norm, target_tokens, tokens };
        let timing = Timing {
            step,
            step_seconds,
            data_seconds: 0.0,
            forward_seconds,
            backward_seconds: differentiated - forward_seconds,
            update_seconds: step_seconds - differentiated,
            memory_bytes_peak: memory_bytes_peak(),
        };
        Ok((report, timing))
    }

    /// Loss, seconds of the forward part, and gradients of one micro-batch.
    fn differentiate(&self, batch: &Batch, scale: f64, dropout: Stream) -> (f64, f64, Gradients) {
        let pass = Pass {
            scale,
            recompute: self.settings.recompute,
            loss_chunk_tokens: self.settings.loss_chunk_tokens,
            dropout,
        };
        let mut gradients = Gradients::default();
        let (sum, forward) = forward_backward(&self.model, batch, pass, &mut gradients);
        (sum, forward.as_secs_f64(), gradients)
    }

    fn update(&mut self, sums: Gradients, grad_norm: f64, rate: f64) {
        struct Update<'a> {
            sums: std::collections::BTreeMap<String, burn::tensor::Tensor<1>>,
            optimizer: &'a mut AdamW,
            shrink: Option<f64>,
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
                if let Some(shrink) = self.shrink {
                    gradient = gradient.mul_scalar(shrink);
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
        let limit = self.settings.max_grad_norm;
        // As torch.nn.utils.clip_grad_norm_ has it, small constant included.
        let shrink = (limit > 0.0).then(|| limit / (grad_norm + 1e-6)).filter(|s| *s < 1.0);
        self.optimizer.begin_update();
        let mut update =
            Update { sums: sums.into_sums(), optimizer: &mut self.optimizer, shrink, rate };
        self.model.visit(&mut update);
    }
}

fn diverged(step: u64, what: &str, batches: &[Batch]) -> Error {
    const ROWS_SHOWN: usize = 8;
    let rows: Vec<String> =
        batches.iter().flat_map(Batch::describe_rows).take(ROWS_SHOWN).collect();
    let error = Error::new(format!("{what} at step {step}; nothing was published"))
        .hint("try a smaller `train.learning_rate` or a longer warm-up, and look at these records");
    rows.into_iter().fold(error, |error, row| error.because(format!("it came from {row}")))
}
