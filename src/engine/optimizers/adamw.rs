//! AdamW (Loshchilov, Hutter 2019) with the formulas and defaults of `torch.optim.AdamW`.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::config::Values;
use crate::config::key::{DefaultValue, Key, Kind, Range};

/// Settings of other tools that take several keys here.
pub(super) const NOTES: &[(&str, &str, &str)] =
    &[("torchtune", "betas", "here `train.adam_beta1` and `train.adam_beta2`")];

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "train.adam_beta1",
        Kind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.9"),
        "Decay of AdamW's running mean of gradients.",
    )
    .example("0.95")
    .only_with("train.optimizer", &["adamw"]),
    Key::new(
        "train.adam_beta2",
        Kind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.999"),
        "Decay of AdamW's running mean of squared gradients.",
    )
    .example("0.95")
    .only_with("train.optimizer", &["adamw"]),
    Key::new(
        "train.adam_epsilon",
        Kind::Number(Range::above(0.0, 1.0)),
        DefaultValue::Value("1e-8"),
        "Added to the divisor of AdamW's update.",
    )
    .example("1e-6")
    .names(&[("torchtune", "optimizer.eps"), ("other tools", "eps")])
    .only_with("train.optimizer", &["adamw"]),
];

/// Settings; weight decay acts on every learning parameter, as it does in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay: a step multiplies weights by `1 − learning_rate · weight_decay`.
    pub weight_decay: f64,
}

impl AdamWSettings {
    /// As a config has them.
    pub fn read(values: &Values) -> Self {
        Self {
            beta1: values.number("train.adam_beta1"),
            beta2: values.number("train.adam_beta2"),
            epsilon: values.number("train.adam_epsilon"),
            weight_decay: values.number("train.weight_decay"),
        }
    }
}

/// Moments of one parameter.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Tensor<1>,
    /// Running mean of its square.
    pub second: Tensor<1>,
}

/// The optimiser: moments by parameter path, and the number of updates done.
pub struct AdamW {
    settings: AdamWSettings,
    moments: BTreeMap<String, Moments>,
    updates: i32,
}

impl AdamW {
    /// An optimiser that has seen nothing.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, moments: BTreeMap::new(), updates: 0 }
    }

    /// Begins an update of all parameters.
    pub fn begin_update(&mut self) {
        self.updates += 1;
    }

    /// The new values of one parameter.
    pub fn update(
        &mut self,
        path: &str,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let (first, second) = match self.moments.remove(path) {
            Some(Moments { first, second }) => (first, second),
            None => (gradient.zeros_like(), gradient.zeros_like()),
        };
        let first = first.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
        let second = second.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
        let correction1 = 1.0 - beta1.powi(self.updates);
        let correction2 = 1.0 - beta2.powi(self.updates);
        let root = second.clone().sqrt().mul_scalar(1.0 / correction2.sqrt()).add_scalar(epsilon);
        let change = first.clone().div(root).mul_scalar(learning_rate / correction1);
        self.moments.insert(path.to_owned(), Moments { first, second });
        value.mul_scalar(1.0 - learning_rate * weight_decay) - change
    }

    /// Number of updates done.
    pub fn updates(&self) -> u64 {
        u64::try_from(self.updates).expect("it only grows from zero")
    }

    /// All moments, by path.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Goes on from a saved state.
    pub fn restore(&mut self, moments: BTreeMap<String, Moments>, updates: u64) {
        self.moments = moments;
        self.updates = i32::try_from(updates).expect("runs stay below 2^31 updates");
    }
}
