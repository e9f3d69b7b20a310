//! Optimisers: pure updates of flat f32 tensors, with state keyed by parameter path.

mod adamw;

pub use adamw::{AdamW, AdamWSettings, Moments};

use crate::config::key::{DefaultValue, Key, Kind, OwnedKeys, Range};

/// The keys that choose an optimizer and configure it.
pub fn keys() -> Vec<OwnedKeys> {
    vec![
        OwnedKeys::within("train", "train.learning_rate", CHOICE),
        OwnedKeys::within("train", "train.max_grad_norm", SHARED),
        OwnedKeys {
            notes: adamw::NOTES,
            ..OwnedKeys::within("train", "train.max_grad_norm", adamw::KEYS)
        },
    ]
}

const CHOICE: &[Key] = &[Key::new(
    "train.optimizer",
    Kind::Choice(&["adamw"]),
    DefaultValue::Value("\"adamw\""),
    "The rule of the update.",
)
.names(&[("TRL and LLaMA-Factory", "optim"), ("torchtune", "optimizer._component_")])];

/// What every optimizer is told.
const SHARED: &[Key] = &[Key::new(
    "train.weight_decay",
    Kind::Number(Range::closed(0.0, 10.0)),
    DefaultValue::Value("0.01"),
    "Decoupled weight decay: a step multiplies weights by `1 - learning_rate * weight_decay`.",
)
.example("0.1")];
