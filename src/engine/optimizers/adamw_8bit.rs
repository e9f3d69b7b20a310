//! AdamW with its state in eight bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise
//! Quantization"): blocks of 256 numbers with a scale each, the codes of bitsandbytes' dynamic
//! maps. The state is in host memory, where the update is computed on every device.

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::adamw::AdamW;
use super::parameter::{Kept, StateSpec, UpdatedParameter};
use super::{Moving, Optimizer, OptimizerEntry, UpdateStep};
use crate::ops::{from_vec, host};
use crate::weights::dynamic::{SIGNED, UNSIGNED};

pub(super) const ENTRY: OptimizerEntry = OptimizerEntry {
    name: "adamw-8bit",
    keys: &[], // those of AdamW
    notes: &[],
    smooth: &[("train.adam_epsilon", 1e-3)],
    tolerance: 1e-5,
    build: |values| Box::new(AdamW8Bit(AdamW::read(values))),
};

/// Numbers of a block.
const BLOCK: usize = 256;
/// Smaller parameters keep their state in 32 bits, as there.
const COUNT_MIN: usize = 4096;
/// Blocks that a task moves at least.
const TASK_BLOCKS: usize = 64;

/// Settings: those of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW8Bit(AdamW);

impl AdamW8Bit {
    /// Whether the state of a parameter is in eight bits. Rows of rare tokens have gradients that
    /// eight bits in a block with others do not hold, so that transformers leaves embeddings out.
    fn codes(parameter: &UpdatedParameter) -> bool {
        parameter.count() >= COUNT_MIN && !parameter.is_vocabulary()
    }
}

/// What is the same for all numbers of an update.
#[derive(Clone, Copy)]
struct Factors {
    beta: [f32; 2],
    rest: [f32; 2],
    root: f32,
    epsilon: f32,
    rate: f32,
    kept: f32,
}

/// A block of numbers, and the codes and the scale of each moment.
struct Block<'a> {
    value: &'a mut [f32],
    gradient: &'a [f32],
    codes: [&'a mut [u8]; 2],
    absmax: [&'a mut f32; 2],
}

impl Block<'_> {
    fn move_by(self, factors: Factors) {
        let Self { value, gradient, codes: [first, second], absmax: [scale1, scale2] } = self;
        let mut moments = [[0.0_f32; BLOCK]; 2];
        for (place, (value, d)) in value.iter_mut().zip(gradient).enumerate() {
            let of = |numbers: &[f32; 256], code: u8| numbers[usize::from(code)];
            let mean = of(&SIGNED.numbers, first[place]) * *scale1;
            let square = of(&UNSIGNED.numbers, second[place]) * *scale2;
            let mean = mean * factors.beta[0] + d * factors.rest[0];
            let square = square * factors.beta[1] + d * d * factors.rest[1];
            let root = square.sqrt() / factors.root + factors.epsilon;
            *value = *value * factors.kept - factors.rate * mean / root;
            (moments[0][place], moments[1][place]) = (mean, square);
        }
        let count = value.len();
        *scale1 = SIGNED.code_block(&moments[0][..count], first);
        *scale2 = UNSIGNED.code_block(&moments[1][..count], second);
    }
}

impl Optimizer for AdamW8Bit {
    fn state(&self, parameter: &UpdatedParameter) -> Vec<StateSpec> {
        if !Self::codes(parameter) {
            return self.0.state(parameter);
        }
        let (count, blocks) = (parameter.count(), parameter.count().div_ceil(BLOCK));
        vec![
            StateSpec::codes("first_moment_codes", count),
            StateSpec::numbers("first_moment_absmax", blocks),
            StateSpec::codes("second_moment_codes", count),
            StateSpec::numbers("second_moment_absmax", blocks),
        ]
    }

    #[expect(clippy::cast_possible_truncation)] // tensors are f32
    fn update(&self, moving: Moving, step: UpdateStep) -> (Tensor<1>, Vec<Kept>) {
        if !Self::codes(&moving.parameter) {
            return self.0.update(moving, step);
        }
        let AdamW { beta1, beta2, epsilon, weight_decay } = self.0;
        let correction = |beta: f64| 1.0 - beta.powi(step.number);
        let factors = Factors {
            beta: [beta1, beta2].map(|beta| beta as f32),
            rest: [beta1, beta2].map(|beta| (1.0 - beta) as f32),
            root: correction(beta2).sqrt() as f32,
            epsilon: epsilon as f32,
            rate: (step.learning_rate / correction(beta1)) as f32,
            kept: (1.0 - step.learning_rate * weight_decay.of(&moving.parameter, step)) as f32,
        };
        let Moving { value, gradient, state, .. } = moving;
        let (device, count) = (value.device(), value.dims()[0]);
        let (mut value, gradient) = (host(value), host(gradient));
        let [first, absmax1, second, absmax2] =
            <[Kept; 4]>::try_from(state).expect("two moments, each with scales");
        let own = |codes: Kept| Arc::unwrap_or_clone(codes.codes());
        let (mut first, mut second) = (own(first), own(second));
        let (mut absmax1, mut absmax2) = (host(absmax1.numbers()), host(absmax2.numbers()));
        let numbers = value.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
        let codes = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
        let scales = absmax1.par_iter_mut().zip(&mut absmax2);
        numbers.zip(codes).zip(scales).with_min_len(TASK_BLOCKS).for_each(
            |(((value, gradient), (first, second)), (absmax1, absmax2))| {
                let (codes, absmax) = ([first, second], [absmax1, absmax2]);
                Block { value, gradient, codes, absmax }.move_by(factors);
            },
        );
        let scales = |scales: Vec<f32>| {
            let blocks = scales.len();
            Kept::Numbers(from_vec(scales, [blocks], &device))
        };
        let state = vec![
            Kept::Codes(Arc::new(first)),
            scales(absmax1),
            Kept::Codes(Arc::new(second)),
            scales(absmax2),
        ];
        (from_vec(value, [count], &device), state)
    }
}
