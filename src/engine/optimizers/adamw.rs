//! AdamW (Loshchilov, Hutter 2019) with the formulas and defaults of `torch.optim.AdamW`.

use burn::tensor::Tensor;

#[cfg(feature = "gpu")]
use super::one_by_one;
use super::parameter::{Kept, StateSpec, UpdatedParameter, WeightDecay, numbers_of};
use super::{Moving, Optimizer, OptimizerEntry, UpdateStep};
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, Range, ValueKind};
#[cfg(feature = "gpu")]
use crate::ops::gpu;

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "adamw",
    keys: KEYS,
    notes: &[("torchtune", "betas", "here `train.adam_beta1` and `train.adam_beta2`")],
    // With 1e-8 the smallest gradients would decide the sign of an update.
    smooth: &[("train.adam_epsilon", 1e-3)],
    tolerance: 1e-5,
    build: |values| Box::new(AdamW::read(values)),
};

/// Optimizers that have a part of these settings.
const FAMILY: &[&str] = &["adamw", "muon", "adamw-8bit"];
const SECOND: &[&str] = &["adamw", "muon", "adamw-8bit", "schedule-free-adamw"];

const KEYS: &[Key] = &[
    Key::new(
        "train.adam_beta1",
        ValueKind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.9"),
        "Decay of AdamW's running mean of gradients.",
    )
    .example("0.95")
    .only_with("train.optimizer", FAMILY),
    Key::new(
        "train.adam_beta2",
        ValueKind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.999"),
        "Decay of AdamW's running mean of squared gradients.",
    )
    .example("0.95")
    .only_with("train.optimizer", SECOND),
    Key::new(
        "train.adam_epsilon",
        ValueKind::Number(Range::above(0.0, 1.0)),
        DefaultValue::Value("1e-8"),
        "Added to the divisor of AdamW's update.",
    )
    .example("1e-6")
    .names(&[("torchtune", "optimizer.eps"), ("other tools", "eps")])
    .only_with("train.optimizer", SECOND),
];

/// Settings; weight decay acts on every trainable parameter, as it does in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay: a step multiplies weights by `1 − learning_rate · weight_decay`.
    pub weight_decay: WeightDecay,
}

impl AdamW {
    pub(super) fn read(values: &Values) -> Self {
        Self {
            beta1: values.number("train.adam_beta1"),
            beta2: values.number("train.adam_beta2"),
            epsilon: values.number("train.adam_epsilon"),
            weight_decay: WeightDecay::read(values),
        }
    }
}

#[cfg(feature = "gpu")]
impl AdamW {
    /// What its kernel is told of an update.
    #[expect(clippy::cast_possible_truncation)] // tensors are f32
    fn numbers(&self, step: UpdateStep, weight_decay: f64) -> gpu::MomentNumbers {
        let correction = |beta: f64| 1.0 - beta.powi(step.number);
        gpu::MomentNumbers {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rest1: (1.0 - self.beta1) as f32,
            rest2: (1.0 - self.beta2) as f32,
            epsilon: self.epsilon as f32,
            root: (1.0 / correction(self.beta2).sqrt()) as f32,
            rate: (step.learning_rate / correction(self.beta1)) as f32,
            kept: (1.0 - step.learning_rate * weight_decay) as f32,
        }
    }
}

impl Optimizer for AdamW {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        StateSpec::each(&["first_moment", "second_moment"], parameter)
    }

    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        let Self { beta1, beta2, epsilon, .. } = *self;
        let UpdateStep { learning_rate, number, .. } = step;
        let weight_decay = self.weight_decay.of(&moving.parameter, step);
        let Moving { value, gradient, state, .. } = moving;
        let [first, second] = numbers_of(state);
        let first = first.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
        let second = second.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
        let correction1 = 1.0 - beta1.powi(number);
        let correction2 = 1.0 - beta2.powi(number);
        let root = second.clone().sqrt().mul_scalar(1.0 / correction2.sqrt()).add_scalar(epsilon);
        let change = first.clone().div(root).mul_scalar(learning_rate / correction1);
        let value = value.mul_scalar(1.0 - learning_rate * weight_decay) - change;
        (value, vec![Kept::Numbers(first), Kept::Numbers(second)])
    }

    #[cfg(feature = "gpu")]
    fn update_together(
        &self,
        all: Vec<Moving>,
        factor: &Tensor<1>,
        step: UpdateStep,
    ) -> Vec<(Tensor<1>, Vec<Kept>)> {
        if !gpu::holds(factor) {
            return one_by_one(|moving| self.update(moving, step), all, factor);
        }
        let decays: Vec<f64> =
            all.iter().map(|moving| self.weight_decay.of(&moving.parameter, step)).collect();
        let mut all: Vec<_> = all.into_iter().map(Some).collect();
        let mut done: Vec<_> = all.iter().map(|_| None).collect();
        // A launch moves parameters under one decay.
        for decay in [self.weight_decay.of_matrices(step), 0.0] {
            let places: Vec<usize> = (0..all.len())
                .filter(|place| all[*place].is_some() && decays[*place] == decay)
                .collect();
            let group = places.iter().filter_map(|place| all[*place].take()).map(|moving| {
                let [first, second] = numbers_of(moving.state);
                [moving.value, moving.gradient, first, second]
            });
            let moved = gpu::move_all(group.collect(), factor.clone(), self.numbers(step, decay));
            for (place, [value, first, second]) in places.into_iter().zip(moved) {
                done[place] = Some((value, vec![Kept::Numbers(first), Kept::Numbers(second)]));
            }
        }
        done.into_iter().flatten().collect()
    }
}
