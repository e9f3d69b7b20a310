//! The learning rates that a configuration asks for.

use crate::config::{Scheduler, TrainConfig, Warmup};
use crate::engine::{Schedule, Shape};

/// The schedule of a run of so many steps.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
// a share of a step count
pub fn schedule_of(train: &TrainConfig, total_steps: u64) -> Schedule {
    let warmup_steps = match train.warmup {
        Warmup::Steps(steps) => steps,
        Warmup::Ratio(ratio) => (ratio * total_steps as f64).round() as u64,
    };
    let shape = match train.lr_scheduler {
        Scheduler::Constant => Shape::Constant,
        Scheduler::Linear => Shape::Linear,
        Scheduler::Cosine => Shape::Cosine,
        Scheduler::CosineWithRestarts => Shape::CosineWithRestarts { cycles: train.cycles },
        Scheduler::Polynomial => Shape::Polynomial { power: train.power },
        Scheduler::InverseSqrt => Shape::InverseSqrt,
        Scheduler::Wsd => Shape::Wsd { decay_ratio: train.decay_ratio },
    };
    let (peak, min_ratio) = (train.learning_rate, train.min_lr_ratio);
    Schedule { peak, warmup_steps, total_steps, min_ratio, shape }
}
