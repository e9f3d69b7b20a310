//! Adafactor (Shazeer, Stern 2018) with the formulas of transformers' `Adafactor` without relative
//! steps and first moment, as its trainers use it: of a matrix, the squares of gradients are kept
//! as means of rows and of columns.

use burn::tensor::Tensor;

use super::parameter::{Kept, StateSpec, UpdatedParameter, WeightDecay, numbers_of};
use super::{Moving, Optimizer, OptimizerEntry, UpdateStep};
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, Range, ValueKind};

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "adafactor",
    keys: KEYS,
    notes: &[],
    smooth: &[],
    tolerance: 1e-4,
    build: |values| Box::new(Adafactor::read(values)),
};

const KEYS: &[Key] = &[
    Key::new(
        "train.adafactor_decay_rate",
        ValueKind::Number(Range::closed(-10.0, 0.0)),
        DefaultValue::Value("-0.8"),
        "Adafactor's mean of squared gradients decays by `1 - step^decay_rate`.",
    )
    .example("-0.5")
    .only_with("train.optimizer", &["adafactor"]),
    Key::new(
        "train.adafactor_clip_threshold",
        ValueKind::Number(Range::above(0.0, 1e9)),
        DefaultValue::Value("1.0"),
        "The root mean square to which Adafactor's update of a parameter is brought down.",
    )
    .example("2.0")
    .only_with("train.optimizer", &["adafactor"]),
    Key::new(
        "train.adafactor_scale_parameter",
        ValueKind::Boolean,
        DefaultValue::Value("false"),
        "Adafactor's learning rate of a parameter is multiplied with the root mean square of its \
         weights, at least 0.001.",
    )
    .example("true")
    .only_with("train.optimizer", &["adafactor"]),
];

/// Added to squares of gradients.
const SQUARE_LEAST: f64 = 1e-30;
/// The least scale of a parameter.
const SCALE_LEAST: f64 = 1e-3;

/// Settings; weight decay is multiplied with the learning rate of the parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adafactor {
    /// Exponent of the decay.
    pub decay_rate: f64,
    /// Largest root mean square of an update.
    pub clip_threshold: f64,
    /// Whether the learning rate follows the size of the weights.
    pub scale_parameter: bool,
    /// Decoupled decay.
    pub weight_decay: WeightDecay,
}

impl Adafactor {
    fn read(values: &Values) -> Self {
        Self {
            decay_rate: values.number("train.adafactor_decay_rate"),
            clip_threshold: values.number("train.adafactor_clip_threshold"),
            scale_parameter: values.boolean("train.adafactor_scale_parameter"),
            weight_decay: WeightDecay::read(values),
        }
    }
}

/// The root mean square, `[1]`.
fn root_mean_square(x: Tensor<1>) -> Tensor<1> {
    x.square().mean().sqrt()
}

impl Optimizer for Adafactor {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        match parameter.matrix() {
            Some([rows, columns]) => vec![
                StateSpec::numbers("second_moment_rows", rows),
                StateSpec::numbers("second_moment_columns", columns),
            ],
            None => StateSpec::each(&["second_moment"], parameter),
        }
    }

    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        let decay = self.weight_decay.of(&moving.parameter, step);
        let matrix = moving.parameter.matrix();
        let Moving { value, gradient, state, .. } = moving;
        let kept = 1.0 - f64::from(step.number).powf(self.decay_rate);
        let mean =
            |old: Tensor<1>, new: Tensor<1>| old.mul_scalar(kept) + new.mul_scalar(1.0 - kept);
        let squares = gradient.clone().square().add_scalar(SQUARE_LEAST);
        let (update, state) = match matrix {
            None => {
                let [second] = numbers_of(state);
                let second = mean(second, squares);
                (gradient / second.clone().sqrt(), vec![second])
            }
            Some([rows, columns]) => {
                let [of_rows, of_columns] = numbers_of(state);
                let squares: Tensor<2> = squares.reshape([rows, columns]);
                let of_rows = mean(of_rows, squares.clone().mean_dim(1).reshape([rows]));
                let of_columns = mean(of_columns, squares.mean_dim(0).reshape([columns]));
                let row = (of_rows.clone() / of_rows.clone().mean()).sqrt().recip();
                let column = of_columns.clone().sqrt().recip();
                let factors: Tensor<2> =
                    row.reshape([rows, 1]) * column.reshape::<2, _>([1, columns]);
                let update = gradient * factors.reshape([rows * columns]);
                (update, vec![of_rows, of_columns])
            }
        };
        let excess = root_mean_square(update.clone()).div_scalar(self.clip_threshold);
        let update = update / excess.clamp_min(1.0);
        let rate = step.learning_rate;
        let value = match self.scale_parameter {
            false => value.mul_scalar(1.0 - rate * decay) - update.mul_scalar(rate),
            true => {
                let scale = root_mean_square(value.clone()).clamp_min(SCALE_LEAST);
                let rate = scale.mul_scalar(rate);
                let less = value.clone() * rate.clone().mul_scalar(decay);
                value - less - update * rate
            }
        };
        (value, state.into_iter().map(Kept::Numbers).collect())
    }
}
