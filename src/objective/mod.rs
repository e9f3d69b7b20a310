//! What a model learns from: losses, with their gradients.

mod next_token;
mod on_cpu;

pub use next_token::{LossSum, Targets, next_token_backward, next_token_loss, next_token_scores};
