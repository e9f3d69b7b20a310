//! Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2): the sign
//! of a momentum, and one tensor of state where AdamW has two.

use burn::tensor::Tensor;

use super::parameter::{Kept, StateSpec, UpdatedParameter, WeightDecay, numbers_of};
use super::{Moving, Optimizer, OptimizerEntry, UpdateStep};
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, Range, ValueKind};

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "lion",
    keys: KEYS,
    notes: &[],
    smooth: &[],
    tolerance: 1e-5,
    build: |values| Box::new(Lion::read(values)),
};

const KEYS: &[Key] = &[
    Key::new(
        "train.lion_beta1",
        ValueKind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.9"),
        "How much of the momentum decides the sign of Lion's update; the gradient is the rest. \
         Every number moves by the whole learning rate: take a third to a tenth of what AdamW \
         gets, and three to ten times its weight decay.",
    )
    .example("0.95")
    .only_with("train.optimizer", &["lion"]),
    Key::new(
        "train.lion_beta2",
        ValueKind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.99"),
        "Decay of Lion's momentum.",
    )
    .example("0.98")
    .only_with("train.optimizer", &["lion"]),
];

/// Settings; weight decay acts on every trainable parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// Share of the momentum in the update.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// Decoupled decay: a step multiplies weights by `1 − learning_rate · weight_decay`.
    pub weight_decay: WeightDecay,
}

impl Lion {
    fn read(values: &Values) -> Self {
        Self {
            beta1: values.number("train.lion_beta1"),
            beta2: values.number("train.lion_beta2"),
            weight_decay: WeightDecay::read(values),
        }
    }
}

impl Optimizer for Lion {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        StateSpec::each(&["momentum"], parameter)
    }

    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        let Self { beta1, beta2, .. } = *self;
        let (rate, decay) = (step.learning_rate, self.weight_decay.of(&moving.parameter, step));
        let Moving { value, gradient, state, .. } = moving;
        let [momentum] = numbers_of(state);
        let mixed = momentum.clone().mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
        let momentum = momentum.mul_scalar(beta2) + gradient.mul_scalar(1.0 - beta2);
        let value = value.mul_scalar(1.0 - rate * decay) - mixed.sign().mul_scalar(rate);
        (value, vec![Kept::Numbers(momentum)])
    }
}
