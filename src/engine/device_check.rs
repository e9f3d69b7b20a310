//! The comparison of gradients of a run on a GPU: what it computes, beside tensor operations on the
//! CPU with the same weights. Gradients stay where they were made and are read some at a time.

use std::time::Instant;

use super::gradient_check::{
    CheckedBatch, ComparedPasses, Computed, GradientCheck, sizes_and_differences,
};
use super::sizes::pieces;
use super::{LossScale, Trainer, forward_backward};
use crate::config::Kernels;
use crate::data::Batch;
use crate::device::{Arithmetic, ComputeConfig, Failure, attempt};
use crate::model::{Gradients, Model};
use crate::ops::{from_vec, host};

/// How often both are computed again with a smaller loss scale, because the CPU's sums were too
/// large for it and those of the device were not; and how many times the scale is halved then.
const AGAIN: u32 = 3;
const HALVINGS: u32 = 4;

/// What was found, if there was something to compare, or what is too far off, in words.
pub type CheckVerdict = Result<Option<GradientCheck>, String>;

impl Trainer {
    /// Compares loss and gradients of a batch, as steps compute them, with those of `reference`:
    /// the same model on the CPU, with the same weights. Neither learns. Gradients that are too
    /// large for f16 are computed again with a smaller loss scale, as those of steps are.
    ///
    /// # Errors
    /// When the device fails.
    pub fn check_beside(
        &self,
        reference: &mut Model,
        batch: &Batch,
        loss_chunk_tokens: usize,
    ) -> Result<CheckVerdict, Failure> {
        let began = Instant::now();
        let arithmetic = self.model.computing.arithmetic;
        let exact = arithmetic == Arithmetic::F32;
        let portable = ComputeConfig { kernels: Kernels::Portable, ..ComputeConfig::default() };
        let same = ComputeConfig { arithmetic, ..portable };
        // What rounding takes is seen in 32 bits, or in them by sums in another order.
        let other = if exact { ComputeConfig::default() } else { portable };
        let mut scale = self.loss_scale;
        let mut left = AGAIN;
        let (checked, ours, wanted) = loop {
            let loss_scale = scale.map_or(1.0, |found| found.scale);
            let objective = &*self.objective;
            let checked = CheckedBatch { objective, batch, loss_chunk_tokens, loss_scale };
            let (ours, finite) = attempt(self.on_gpu(), || self.computed(checked))?;
            let smaller = move |times| scale.and_then(|scale| halved(scale, times));
            if !finite
                && ours.loss.is_finite()
                && let Some(next) = smaller(1)
            {
                scale = Some(next);
                continue;
            }
            let wanted = checked.by(reference, same);
            if finite
                && left > 0
                && !wanted.is_finite()
                && let Some(next) = smaller(HALVINGS)
            {
                (scale, left) = (Some(next), left - 1);
                continue;
            }
            break (checked, ours, wanted);
        };
        let compare = || sizes_and_differences(&ours, &wanted, checked.loss_scale);
        let pairs = attempt(self.on_gpu(), compare)?;
        let compared = ComparedPasses { loss: [ours.loss, wanted.loss], pairs, exact };
        drop(ours);
        let again = || {
            let again = checked.by(reference, other);
            Some((again.loss, sizes_and_differences(&wanted, &again, checked.loss_scale)))
        };
        let found = compared.judged(batch, again);
        let seconds = began.elapsed().as_secs_f64();
        Ok(found.map(|found| found.map(|found| GradientCheck { seconds, ..found })))
    }

    /// What the device gives for a batch, in the sizes in which steps are computed, and whether all
    /// of it are numbers.
    fn computed(&self, checked: CheckedBatch) -> (Computed, bool) {
        let (model, batch) = (&self.model, checked.batch);
        let (mut loss, mut sums) = (0.0, Gradients::default());
        for piece in pieces(batch, self.size_of(batch), model.computing) {
            let pass = checked.pass();
            let (part, _) =
                forward_backward(model, checked.objective, &piece.batch, pass, &mut sums);
            loss += part.number();
        }
        let norm = sums.with_norm(from_vec(vec![0.0], [1], &model.device));
        let finite = host(norm)[1].is_finite();
        (Computed::new(loss * checked.mean(), sums), finite)
    }
}

/// A scale that is halved so many times, unless that is hopeless.
fn halved(scale: LossScale, times: u32) -> Option<LossScale> {
    let next = (0..times).fold(scale, |scale, _| scale.after(true));
    (!next.is_exhausted()).then_some(next)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::engine::optimizers;
    use crate::engine::parity::{small_batch, small_model, small_settings};
    use crate::model::Matrix;
    use crate::objectives;

    /// The kernels of the CPU stand for a device.
    fn computing(arithmetic: Arithmetic) -> ComputeConfig {
        ComputeConfig { arithmetic, ..ComputeConfig::default() }
    }

    fn trainer(arithmetic: Arithmetic, fault: f64) -> Trainer {
        let mut model = small_model(&Device::flex(), computing(arithmetic)).unwrap();
        model.linears(&mut |path, linear| {
            if let Matrix::Tensor(weight) = &mut linear.weight
                && path.ends_with("layers.1.mlp.down_proj")
            {
                weight.value = weight.value.clone().mul_scalar(fault);
            }
        });
        let mut trainer = Trainer::new(model, small_settings(), optimizers::with("adamw", &[]));
        trainer.objective = objectives::with("sft", &[]);
        trainer
    }

    fn check(trainer: &Trainer) -> CheckVerdict {
        let arithmetic = trainer.model.computing.arithmetic;
        let mut reference = small_model(&Device::flex(), computing(arithmetic)).unwrap();
        trainer.check_beside(&mut reference, &small_batch(), 32).unwrap()
    }

    const ALL: [Arithmetic; 3] = [Arithmetic::F32, Arithmetic::MixedF16, Arithmetic::MixedBf16];

    #[test]
    fn a_model_on_another_device_has_the_gradients_of_the_reference_or_is_caught() {
        for arithmetic in ALL {
            let found = check(&trainer(arithmetic, 1.0)).unwrap().expect("there is a loss");
            assert!(found.difference <= found.tolerance, "{arithmetic:?}: {found:?}");
            let tokens = small_batch().documents.iter().filter(|it| **it > 0).count();
            assert!(found.tokens == tokens && found.tensors > 4, "{found:?}");
            for fault in [0.0, -1.0] {
                let faulty = check(&trainer(arithmetic, fault));
                assert!(faulty.is_err(), "{arithmetic:?} {fault}: {faulty:?}");
            }
        }
        // What 16 bits would hide is seen in 32.
        assert!(check(&trainer(Arithmetic::F32, 1.05)).is_err());
    }

    /// No scale is a fault: not one at which gradients are too large, nor what is left of them.
    #[test]
    fn a_loss_scale_that_is_too_large_is_halved_until_gradients_are_numbers() {
        let mut trainer = trainer(Arithmetic::MixedF16, 1.0);
        let usual = check(&trainer).unwrap().expect("there is a loss");
        let large = LossScale { scale: 2.0_f64.powi(40), good_steps: 0 };
        trainer.loss_scale = Some(large);
        let found = check(&trainer).unwrap().expect("there is a loss");
        assert!(found.difference <= found.tolerance, "{found:?}");
        assert_eq!((found.tokens, found.loss), (usual.tokens, usual.loss));
        assert_eq!(trainer.loss_scale, Some(large), "steps find theirs themselves");
        assert_eq!(halved(large, 57), None);
        assert_eq!(halved(large, 4).map(|it| it.scale), Some(2.0_f64.powi(36)));
    }
}
