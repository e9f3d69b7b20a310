//! Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2): the sign
//! of a momentum, and one tensor of state where AdamW has two.

use burn::tensor::Tensor;

use super::{Optimizer, OptimizerEntry, UpdateStep};
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, Range, ValueKind};

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "lion",
    keys: KEYS,
    notes: &[],
    smooth: &[],
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
    pub weight_decay: f64,
}

impl Lion {
    fn read(values: &Values) -> Self {
        Self {
            beta1: values.number("train.lion_beta1"),
            beta2: values.number("train.lion_beta2"),
            weight_decay: values.number("train.weight_decay"),
        }
    }
}

impl Optimizer for Lion {
    fn state_names(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        state: Vec<Tensor<1>>,
        step: UpdateStep,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let Self { beta1, beta2, weight_decay } = *self;
        let rate = step.learning_rate;
        let [momentum] = <[_; 1]>::try_from(state).expect("there is one momentum");
        let mixed = momentum.clone().mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
        let momentum = momentum.mul_scalar(beta2) + gradient.mul_scalar(1.0 - beta2);
        let value = value.mul_scalar(1.0 - rate * weight_decay) - mixed.sign().mul_scalar(rate);
        (value, vec![momentum])
    }
}
