//! Muon (Jordan et al. 2024) with the formulas of `torch.optim.Muon`, in 32 bits where that rounds
//! the iteration to bfloat16: matrices move along their momentum, made orthogonal. Vectors,
//! embeddings and the output head are moved by AdamW.

use burn::tensor::Tensor;

use super::adamw::AdamW;
use super::parameter::{Kept, StateSpec, UpdatedParameter, WeightDecay, numbers_of};
use super::{Moving, Optimizer, OptimizerEntry, UpdateStep};
use crate::document::key::{DefaultValue, Key, Range, ValueKind};
use crate::document::{Values, choices};

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "muon",
    keys: KEYS,
    notes: &[],
    smooth: &[("train.adam_epsilon", 1e-3)],
    tolerance: 1e-3,
    build: |values| Box::new(Muon::read(values)),
};

choices! {
    /// How the learning rate of a matrix follows its shape.
    MuonRate {
        /// 0.2 times the root of the larger side: updates have the size of AdamW's.
        MatchRmsAdamW = "match_rms_adamw",
        /// The root of rows by columns, at least 1.
        Original = "original",
    }
}

const KEYS: &[Key] = &[
    Key::new(
        "train.muon_momentum",
        ValueKind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0.95"),
        "Decay of Muon's momentum of matrices. Embeddings, output head and vectors are moved by \
         AdamW under the same learning rate and weight decay.",
    )
    .example("0.9")
    .only_with("train.optimizer", &["muon"]),
    Key::new(
        "train.muon_nesterov",
        ValueKind::Boolean,
        DefaultValue::Value("true"),
        "Muon looks ahead along its momentum (Nesterov).",
    )
    .example("false")
    .only_with("train.optimizer", &["muon"]),
    Key::new(
        "train.muon_ns_steps",
        ValueKind::Integer { min: 1, max: 99 },
        DefaultValue::Value("5"),
        "Newton-Schulz steps that make Muon's update orthogonal.",
    )
    .example("6")
    .only_with("train.optimizer", &["muon"]),
    Key::new(
        "train.muon_adjust_lr_fn",
        ValueKind::Choice(MuonRate::NAMES),
        DefaultValue::Value("\"match_rms_adamw\""),
        "How the learning rate of a matrix follows its shape: `match_rms_adamw` takes rates of \
         AdamW (Liu et al. 2025), `original` is that of Jordan et al. and wants larger ones.",
    )
    .example("\"original\"")
    .only_with("train.optimizer", &["muon"]),
];

/// Coefficients of the iteration.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.775, 2.0315];
/// The least norm that a matrix is divided by.
const NORM_LEAST: f64 = 1e-7;

/// Settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    momentum: f64,
    nesterov: bool,
    steps: usize,
    rate: MuonRate,
    weight_decay: WeightDecay,
    /// What moves everything but matrices.
    others: AdamW,
}

impl Muon {
    fn read(values: &Values) -> Self {
        Self {
            momentum: values.number("train.muon_momentum"),
            nesterov: values.boolean("train.muon_nesterov"),
            steps: values.size("train.muon_ns_steps"),
            rate: values.choice("train.muon_adjust_lr_fn", MuonRate::from_name),
            weight_decay: WeightDecay::read(values),
            others: AdamW::read(values),
        }
    }

    /// Rows and columns of a parameter that it moves itself.
    fn own(parameter: &UpdatedParameter) -> Option<[usize; 2]> {
        parameter.matrix().filter(|_| !parameter.is_vocabulary())
    }

    /// What the learning rate of a matrix is multiplied with.
    #[expect(clippy::cast_precision_loss)] // sides of matrices
    fn adjustment(&self, [rows, columns]: [usize; 2]) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self.rate {
            MuonRate::MatchRmsAdamW => 0.2 * rows.max(columns).sqrt(),
            MuonRate::Original => (rows / columns).max(1.0).sqrt(),
        }
    }

    /// A matrix with about the same singular vectors, and singular values near one.
    fn orthogonal(&self, matrix: Tensor<2>) -> Tensor<2> {
        let [a, b, c] = COEFFICIENTS;
        let [rows, columns] = matrix.dims();
        let tall = rows > columns;
        let mut x = if tall { matrix.transpose() } else { matrix };
        let norm = x.clone().square().sum().sqrt().clamp_min(NORM_LEAST);
        x = x / norm.reshape([1, 1]);
        for _ in 0..self.steps {
            let gram = x.clone().matmul(x.clone().transpose());
            let more = gram.clone().matmul(gram.clone()).mul_scalar(c);
            x = x.clone().mul_scalar(a) + (gram.mul_scalar(b) + more).matmul(x);
        }
        if tall { x.transpose() } else { x }
    }
}

impl Optimizer for Muon {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        match Self::own(parameter) {
            Some(_) => StateSpec::each(&["momentum"], parameter),
            None => self.others.state(parameter),
        }
    }

    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        let Some([rows, columns]) = Self::own(&moving.parameter) else {
            return self.others.update(moving, step);
        };
        let decay = self.weight_decay.of(&moving.parameter, step);
        let Moving { value, gradient, state, .. } = moving;
        let [momentum] = numbers_of(state);
        let kept = self.momentum;
        let momentum = momentum.mul_scalar(kept) + gradient.clone().mul_scalar(1.0 - kept);
        let direction = match self.nesterov {
            true => gradient.mul_scalar(1.0 - kept) + momentum.clone().mul_scalar(kept),
            false => momentum.clone(),
        };
        let update = self.orthogonal(direction.reshape([rows, columns]));
        let update: Tensor<1> = update.reshape([rows * columns]);
        let rate = step.learning_rate;
        let change = update.mul_scalar(rate * self.adjustment([rows, columns]));
        (value.mul_scalar(1.0 - rate * decay) - change, vec![Kept::Numbers(momentum)])
    }
}
