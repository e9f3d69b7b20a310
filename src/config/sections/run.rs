//! The keys above the first section: which run this is.

use crate::document::Effect;
use crate::document::key::{DefaultValue, Key, Section, ValueKind};

pub(in crate::config) const SECTION: Section = Section::new(
    "",
    "Which run this is.",
    &[
        Key::new(
            "name",
            ValueKind::Name,
            DefaultValue::Depends("the name of the config file without its extension"),
            "Name of the run. It names the run directory and the model that comes out.",
        )
        .effect(Effect::Aside)
        .example("\"my-run\"")
        .names(&[("TRL", "run_name"), ("axolotl", "wandb_name")]),
        Key::new(
            "seed",
            ValueKind::Integer { min: 0, max: i64::MAX.cast_unsigned() },
            DefaultValue::Value("42"),
            "Decides every random choice: initial adapter weights, data order, dropout. The same \
             seed on the same data gives the same run.",
        )
        .effect(Effect::Weights)
        .example("7")
        .names(&[("other tools", "random_seed"), ("TRL", "data_seed")]),
    ],
);
