//! Schedule-free AdamW (Defazio et al. 2024, "The Road Less Scheduled") with the formulas of the
//! authors' `schedulefree.AdamWScheduleFree`. Gradients are taken between the average of all steps
//! and the last one; the average is what is measured, saved for use and published.

use burn::tensor::Tensor;

use super::parameter::{Kept, StateSpec, UpdatedParameter, WeightDecay, numbers_of};
use super::{Moving, Optimizer, OptimizerEntry, UpdateStep, nothing_yet};
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, Range, ValueKind};

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "schedule-free-adamw",
    keys: KEYS,
    notes: &[],
    smooth: &[("train.adam_epsilon", 1e-3)],
    tolerance: 1e-5,
    build: |values| Box::new(ScheduleFree::read(values)),
};

const KEYS: &[Key] = &[Key::new(
    "train.schedule_free_beta1",
    ValueKind::Number(Range { min: 0.0, max: 1.0, min_excluded: true, max_excluded: true }),
    DefaultValue::Value("0.9"),
    "How near to the average of all steps schedule-free AdamW takes its gradients. It wants \
     `train.lr_scheduler = \"constant\"`, with a warm-up, and a larger learning rate than AdamW.",
)
.example("0.95")
.only_with("train.optimizer", &["schedule-free-adamw"])];

/// Keeps a first step under a rate of zero from dividing zero by zero.
const WEIGHT_LEAST: f64 = 1e-30;

/// Settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleFree {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: WeightDecay,
}

impl ScheduleFree {
    fn read(values: &Values) -> Self {
        Self {
            beta1: values.number("train.schedule_free_beta1"),
            beta2: values.number("train.adam_beta2"),
            epsilon: values.number("train.adam_epsilon"),
            weight_decay: WeightDecay::read(values),
        }
    }
}

impl Optimizer for ScheduleFree {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        let mut specs = StateSpec::each(&["last_step", "second_moment"], parameter);
        // The largest learning rate, and the sum of the squares of those.
        specs.push(StateSpec::numbers("averaging", 2));
        specs
    }

    fn initial(&self, parameter: &UpdatedParameter, value: &Tensor<1>) -> Vec<Kept> {
        let specs = self.state(parameter);
        let mut all: Vec<Kept> = specs.iter().map(|spec| nothing_yet(spec, value)).collect();
        all[0] = Kept::Numbers(value.clone());
        all
    }

    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        let (rate, decay) = (step.learning_rate, self.weight_decay.of(&moving.parameter, step));
        let Moving { value, gradient, state, .. } = moving;
        let [last, second, averaging] = numbers_of(state);
        let second =
            second.mul_scalar(self.beta2) + gradient.clone().square().mul_scalar(1.0 - self.beta2);
        let correction = 1.0 - self.beta2.powi(step.number);
        let root = second.clone().mul_scalar(1.0 / correction).sqrt().add_scalar(self.epsilon);
        let direction = gradient / root + value.clone().mul_scalar(decay);
        let largest = averaging.clone().narrow(0, 0, 1).clamp_min(rate);
        let weight = largest.clone().square();
        let sum = averaging.narrow(0, 1, 1) + weight.clone();
        let share = weight / sum.clone().clamp_min(WEIGHT_LEAST);
        // Towards the last step by its share in the average, and along the gradient.
        let along = (share.clone().neg().add_scalar(1.0)).mul_scalar(self.beta1).sub_scalar(1.0);
        let value = value.clone()
            + (last.clone() - value) * share
            + direction.clone() * along.mul_scalar(rate);
        let last = last - direction.mul_scalar(rate);
        let averaging = Tensor::cat(vec![largest, sum], 0);
        (value, [last, second, averaging].map(Kept::Numbers).into())
    }

    fn averages(&self) -> bool {
        true
    }

    fn averaged(&self, value: Tensor<1>, state: &[Kept]) -> Tensor<1> {
        let last = state[0].clone().numbers();
        value.clone() + (last - value).mul_scalar(1.0 - 1.0 / self.beta1)
    }
}
