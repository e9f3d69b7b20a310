//! Optimisers: pure updates of flat f32 tensors, with state keyed by parameter path.

mod adamw;

pub use adamw::{AdamW, AdamWSettings, Moments};
