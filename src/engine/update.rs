//! Moving every weight: clipping, the loss scale's decision, the optimiser.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use crate::data::Batch;
use crate::device::{self, Failure};
use crate::engine::in_flight::{StepNumbers, broken, diverged};
use crate::engine::optimizers::{Kept, UpdatedParameter};
use crate::engine::trainer::{Stopped, Sums};
use crate::engine::{OptimizerState, Trainer};
use crate::error::{Error, Result};
use crate::model::{Gradients, Parameter, Visitor};
use crate::ops::{begin_reading, begun, counts, flat, from_vec, host};

/// As `torch.nn.utils.clip_grad_norm_` has it.
const CLIP_EPSILON: f64 = 1e-6;
/// Kernels by which a device decides what gradients are multiplied with, each for one number, and
/// the bytes that they move.
const CLIP_KERNELS: [(&str, usize); 6] = [
    ("SliceKernel", 8),
    ("KernelScalarBinop", 8),
    ("UnaryFloat", 8),
    ("KernelScalarBinop", 8),
    ("KernelScalarCmp", 8),
    ("MaskFillKernel", 12),
];

/// What gradients are multiplied with.
pub(super) enum Factor {
    /// Known to the host; nothing is done where it is one.
    Number(f64),
    /// `[1]`, on the device.
    OnDevice(Tensor<1>),
}

impl Factor {
    /// The same on a device, `[1]`.
    pub(super) fn on_device(&self, device: &Device) -> Tensor<1> {
        match self {
            #[expect(clippy::cast_possible_truncation)] // gradients are f32
            Self::Number(factor) => from_vec(vec![*factor as f32], [1], device),
            Self::OnDevice(factor) => factor.clone(),
        }
    }

    fn times(&self, gradient: Tensor<1>) -> Tensor<1> {
        match self {
            #[expect(clippy::float_cmp)] // exactly one means that there is nothing to do
            Self::Number(factor) if *factor == 1.0 => gradient,
            Self::Number(factor) => gradient.mul_scalar(*factor),
            Self::OnDevice(factor) => gradient * factor.clone(),
        }
    }
}

impl Trainer {
    /// Moves every weight, unless the gradient is too large for its arithmetic.
    pub(super) fn update(
        &mut self,
        sums: Sums,
        batches: &[Batch],
        rate: f64,
    ) -> Result<StepNumbers> {
        let step = self.step + 1;
        let rows = || batches.iter().flat_map(Batch::describe_rows).collect::<Vec<_>>();
        let scale = self.loss_scale.map_or(1.0, |found| found.scale);
        let (loss, norm) = match (&sums.measured, sums.loss) {
            (None, loss) => (loss.sum.number(), sums.gradients.norm()),
            (Some(both), _) => {
                let read = || host(both.clone());
                let both = device::attempt(true, read).map_err(|failure| failed(step, failure))?;
                (f64::from(both[0]), f64::from(both[1]))
            }
        };
        let norm = norm / scale;
        if !loss.is_finite() {
            return Err(diverged(step, "the loss is not finite", &rows()));
        }
        if let Some(found) = self.loss_scale {
            let next = found.after(!norm.is_finite());
            if next.is_exhausted() {
                let what = "the gradient is not finite, however small its scale is";
                return Err(diverged(step, what, &rows()));
            }
            self.loss_scale = Some(next);
        }
        if !norm.is_finite() {
            return match self.loss_scale {
                Some(_) => Ok(StepNumbers::Known { loss, norm: None }),
                None => Err(diverged(step, "the gradient is not finite", &rows())),
            };
        }
        let limit = self.settings.max_grad_norm;
        let clip = (limit > 0.0).then(|| limit / (norm + CLIP_EPSILON)).filter(|clip| *clip < 1.0);
        let factor = Factor::Number(clip.unwrap_or(1.0) / scale);
        self.move_weights(sums.gradients, &factor, rate)?;
        Ok(StepNumbers::Known { loss, norm: Some(norm) })
    }

    /// The same, with everything decided on the device, so that the host need not wait for it.
    pub(super) fn update_ahead(&mut self, sums: Sums, rate: f64) -> Result<StepNumbers> {
        let both = match &sums.measured {
            Some(both) => both.clone(),
            None => self.measure(&sums).map_err(|stopped| match stopped {
                Stopped::Memory(why) => broken(self.step + 1, &why),
                Stopped::Error(error) => error,
            })?,
        };
        let factor = self.clip_ahead(&both);
        let failed = |failure| failed(self.step + 1, failure);
        let reading = device::attempt(self.on_gpu(), || begin_reading(both)).map_err(failed)?;
        self.move_weights(sums.gradients, &factor, rate)?;
        Ok(StepNumbers::Waiting(reading))
    }

    /// What gradients are multiplied with, decided on the device by their norm.
    pub(super) fn clip_ahead(&self, both: &Tensor<1>) -> Factor {
        let limit = self.settings.max_grad_norm;
        if limit > 0.0 {
            let norm = both.clone().narrow(0, 1, 1);
            for (kernel, bytes) in CLIP_KERNELS {
                counts(kernel, &norm, (bytes, 1));
            }
            let norm = norm.add_scalar(CLIP_EPSILON);
            return Factor::OnDevice(norm.recip().mul_scalar(limit).clamp_max(1.0));
        }
        Factor::Number(1.0)
    }

    fn move_weights(&mut self, sums: Gradients, factor: &Factor, rate: f64) -> Result<()> {
        let step = self.step + 1;
        let on_gpu = self.on_gpu();
        let first = self.optimizer.updates() == 0;
        let work = || -> Result<std::result::Result<(), String>> {
            self.apply(sums, factor, rate)?;
            // The state is made in the first update: whether it fits is known after it.
            let made = self.optimizer.by_path().values().filter(|_| first && on_gpu);
            Ok(made.flatten().try_for_each(|kept| match kept {
                Kept::Numbers(numbers) => begun(numbers),
                Kept::Codes(_) | Kept::Stored(_) => Ok(()),
            }))
        };
        let done = device::attempt(on_gpu, work).map_err(|failure| failed(step, failure))??;
        done.map_err(|why| failed(step, Failure::of(&why)))
    }

    fn apply(&mut self, sums: Gradients, factor: &Factor, rate: f64) -> Result<()> {
        self.optimizer.begin_update();
        let (on_gpu, sums) = (self.on_gpu(), sums.into_sums());
        if on_gpu {
            return self.apply_together(sums, &factor.on_device(&self.model.device), rate);
        }
        let optimizer = &mut self.optimizer;
        let mut update = Update { sums, optimizer, factor, rate, failed: None };
        self.model.visit(&mut update);
        update.failed.map_or(Ok(()), Err)
    }

    /// On a GPU, where the launch of a kernel takes longer than moving a small tensor does.
    fn apply_together(
        &mut self,
        sums: BTreeMap<String, Tensor<1>>,
        factor: &Tensor<1>,
        rate: f64,
    ) -> Result<()> {
        let mut together = Together { sums, moving: Vec::new() };
        self.model.visit(&mut together);
        let moved = self.optimizer.update_together(together.moving, factor, rate)?;
        self.model.visit(&mut Moved(moved));
        Ok(())
    }
}

fn failed(step: u64, failure: Failure) -> Error {
    match failure {
        Failure::Memory(why) | Failure::Other(why) => broken(step, &why),
    }
}

/// Takes trainable parameters that have a gradient.
struct Together {
    sums: BTreeMap<String, Tensor<1>>,
    moving: Vec<(UpdatedParameter, [Tensor<1>; 2])>,
}

impl Together {
    fn take<const D: usize>(&mut self, path: &str, parameter: &Parameter<D>) {
        if parameter.trainable
            && let Some(gradient) = self.sums.remove(path)
        {
            let value = flat(parameter.value.clone());
            let of = UpdatedParameter::new(path, &parameter.value.dims());
            self.moving.push((of, [value, gradient]));
        }
    }
}

impl Visitor for Together {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.take(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.take(path, parameter);
    }
    fn changes(&self) -> bool {
        false
    }
}

/// Gives parameters their new values.
struct Moved(BTreeMap<String, Tensor<1>>);

impl Moved {
    fn give<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
        if let Some(value) = self.0.remove(path) {
            let shape = parameter.value.dims();
            parameter.value = value.reshape(shape.map(|size| size as i32));
        }
    }
}

impl Visitor for Moved {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.give(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.give(path, parameter);
    }
}

struct Update<'a> {
    sums: BTreeMap<String, Tensor<1>>,
    optimizer: &'a mut OptimizerState,
    factor: &'a Factor,
    rate: f64,
    /// Why the rest was not moved.
    failed: Option<Error>,
}

impl Update<'_> {
    fn apply<const D: usize>(&mut self, path: &str, parameter: &mut Parameter<D>) {
        if !parameter.trainable || self.failed.is_some() {
            return;
        }
        let Some(gradient) = self.sums.remove(path) else {
            return; // no target position reached it
        };
        let gradient = self.factor.times(gradient);
        let shape = parameter.value.dims();
        let value = flat(parameter.value.clone());
        let of = UpdatedParameter::new(path, &shape);
        match self.optimizer.update(of, value, gradient, self.rate) {
            Ok(value) => parameter.value = value.reshape(shape.map(|size| size as i32)),
            Err(error) => self.failed = Some(error),
        }
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
