//! `[checkpoint]`: how much work a stop can cost.

use crate::config::key::{DefaultValue, Key, Kind, MANY, Section};
use crate::config::render::Entries;
use crate::config::value::Values;

/// How much work a stop can cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Saved after every so many steps; 0 only at the end and on interruption.
    pub every_steps: u64,
    /// How many are kept; at least two, so that a damaged one can be passed over.
    pub keep_last: usize,
}

pub(in crate::config) const SECTION: Section = Section::new(
    "checkpoint",
    "State to continue from after a stop.",
    &[
        Key::new(
            "checkpoint.every_steps",
            Kind::Integer { min: 0, max: MANY },
            DefaultValue::Value("100"),
            "Saved after every so many steps. 0 saves only at the end and on interruption.",
        )
        .example("20")
        .names(&[("axolotl, TRL and LLaMA-Factory", "save_steps"), ("mlx-lm", "save_every")]),
        Key::new(
            "checkpoint.keep_last",
            Kind::Integer { min: 2, max: MANY },
            DefaultValue::Value("2"),
            "How many checkpoints are kept. At least two, so that a damaged one can be passed \
             over.",
        )
        .example("3")
        .names(&[("axolotl, TRL and LLaMA-Factory", "save_total_limit")]),
    ],
);

impl CheckpointConfig {
    pub(in crate::config) fn read(values: &Values) -> Self {
        Self {
            every_steps: values.integer("checkpoint.every_steps"),
            keep_last: values.size("checkpoint.keep_last"),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        out.integer("checkpoint.every_steps", self.every_steps);
        out.size("checkpoint.keep_last", self.keep_last);
    }
}
