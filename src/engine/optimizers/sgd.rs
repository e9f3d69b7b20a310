//! Stochastic gradient descent with momentum, with the formulas of `torch.optim.SGD`.

use burn::tensor::Tensor;

use super::parameter::{Kept, StateSpec, UpdatedParameter, WeightDecay, numbers_of};
use super::{Moving, Optimizer, OptimizerEntry, UpdateStep};
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, Range, ValueKind};

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "sgd",
    keys: KEYS,
    notes: &[],
    smooth: &[],
    tolerance: 1e-5,
    build: |values| Box::new(Sgd::read(values)),
};

const KEYS: &[Key] = &[
    Key::new(
        "train.sgd_momentum",
        ValueKind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.9"),
        "How much of the sum of earlier gradients stays in SGD's step. 0 keeps no sum, and no \
         state. Weight decay is added to the gradient, as `torch.optim.SGD` has it. The learning \
         rate is far above AdamW's.",
    )
    .example("0.95")
    .only_with("train.optimizer", &["sgd"]),
    Key::new(
        "train.sgd_nesterov",
        ValueKind::Boolean,
        DefaultValue::Value("false"),
        "SGD looks ahead along its momentum (Nesterov).",
    )
    .example("true")
    .only_with("train.optimizer", &["sgd"]),
];

/// Settings; weight decay is a part of the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Decay of the sum of gradients.
    pub momentum: f64,
    /// Whether a step looks ahead along it.
    pub nesterov: bool,
    /// Added to the gradient, times the weights.
    pub weight_decay: WeightDecay,
}

impl Sgd {
    fn read(values: &Values) -> Self {
        Self {
            momentum: values.number("train.sgd_momentum"),
            nesterov: values.boolean("train.sgd_nesterov"),
            weight_decay: WeightDecay::read(values),
        }
    }
}

impl Optimizer for Sgd {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        let names: &[&str] = if self.momentum > 0.0 { &["momentum"] } else { &[] };
        StateSpec::each(names, parameter)
    }

    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        let decay = self.weight_decay.of(&moving.parameter, step);
        let Moving { value, gradient, state, .. } = moving;
        let gradient = match decay > 0.0 {
            true => gradient + value.clone().mul_scalar(decay),
            false => gradient,
        };
        if state.is_empty() {
            return (value - gradient.mul_scalar(step.learning_rate), state);
        }
        // Before the first step the sum is zero, so that it is the gradient after it, as there.
        let [sum] = numbers_of(state);
        let sum = sum.mul_scalar(self.momentum) + gradient.clone();
        let direction = match self.nesterov {
            true => gradient + sum.clone().mul_scalar(self.momentum),
            false => sum.clone(),
        };
        (value - direction.mul_scalar(step.learning_rate), vec![Kept::Numbers(sum)])
    }
}
