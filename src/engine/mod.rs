//! One step: gradients, optimiser, schedule. Knows no files and no screens.

mod activations;
mod averaged;
mod micro_batch_split;
mod beforehand;
mod check_budget;
mod device_check;
mod evaluate;
mod gradient_check;
mod in_flight;
mod layerwise;
mod loss_scale;
mod memory;
mod offload;
mod optimizer_state;
mod output_rows;
pub mod optimizers;
mod parameter_groups;
pub mod parity;
mod profile;
mod roofline;
mod reference;
mod schedule;
mod scratch;
mod shared_prompts;
mod sizes;
mod step_work;
mod teacher;
mod trainer;
mod update;
mod warm_up;

pub use activations::ActivationStore;
pub use averaged::TrainedWeights;
pub use check_budget::{CheckBudget, checked_chunk};
pub use device_check::CheckVerdict;
pub use evaluate::{ReferenceLogProbs, evaluate, evaluate_beside, reference_of};
pub use gradient_check::{GradientCheck, check_gradients, first_documents, first_tokens};
pub use in_flight::InFlight;
pub use layerwise::{Pass, forward_backward};
pub use loss_scale::LossScale;
pub use memory::{
    AdapterMemory, Estimate, TeacherMemory, TrainedParameters, Workload, WrittenAnswers,
    beside_gpu, estimate,
};
pub use micro_batch_split::MicroBatchSplit;
pub use offload::{STATE_AT_ONCE, StateStore, StoredState};
pub use optimizer_state::{OptimizerState, ParameterRule, ParameterRules, StateByPath};
pub use optimizers::Optimizer;
pub use parameter_groups::{ParameterGroups, keys as parameter_group_keys};
pub use profile::{OverIdeal, StepLaunches, StepMoves, step_launches};
pub use roofline::{CARDS, Card, PREDICTED_MODELS, PredictedStep, predicted_steps};
pub use schedule::{Schedule, Shape, learning_rate};
pub use sizes::Size;
pub use step_work::{Launched, ModelShape, Parts, StepShape};
pub use teacher::teacher_tops;
pub use trainer::{StepSettings, Trainer};

use burn::tensor::{Int, Tensor};

use crate::data::Batch;
use crate::model::{Model, PassContext};
use crate::ops::indices;

/// The tensors of a micro-batch: tokens and what all layers share.
pub fn upload(model: &Model, batch: &Batch) -> (Tensor<1, Int>, PassContext) {
    let (documents, branches) = shared_prompts::branching(batch);
    let mut context = PassContext::packed(
        batch.rows,
        batch.length,
        &batch.positions,
        &documents,
        &model.frequencies,
        &model.device,
    );
    if !branches.is_empty() {
        context.documents = context.documents.with_branches(branches);
    }
    let context = context.computed(model.computing);
    (indices(batch.tokens.iter().copied(), &model.device), context)
}

/// Target positions as pairs of position and token.
pub fn target_pairs(batch: &Batch) -> Vec<(u32, u32)> {
    batch.targets.iter().map(|target| (target.index, target.token)).collect()
}
