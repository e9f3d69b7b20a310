//! `[lora]`: low-rank adapters in place of learning every weight.

use crate::config::Effect;
use crate::config::key::{DefaultValue, Key, Kind, Range, Section};
use crate::config::render::Entries;
use crate::config::value::{Value, Values};

/// Low-rank adapters. Without this section every weight learns.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of the two factors.
    pub r: usize,
    /// The side path is scaled by `lora_alpha / r` (`/ sqrt(r)` with `use_rslora`).
    pub lora_alpha: f64,
    /// Share of the side path's inputs that is set to zero in training.
    pub lora_dropout: f64,
    /// Which linear layers get a side path.
    pub target_modules: TargetModules,
    /// Scale by `lora_alpha / sqrt(r)`.
    pub use_rslora: bool,
}

/// Which linear layers get a side path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear layer but the output head.
    AllLinear,
    /// The layers with these names, such as `q_proj`.
    Names(Vec<String>),
}

pub(in crate::config) const ALL_LINEAR: &str = "all-linear";

pub(in crate::config) const SECTION: Section = Section {
    optional: true,
    effect: Some(Effect::Weights),
    ..Section::new(
        "lora",
        "Low-rank adapters: small added weights learn while the base stays as it is. Without \
         this section every weight learns.",
        KEYS,
    )
};

const KEYS: &[Key] = &[
    Key::new(
        "lora.r",
        Kind::Integer { min: 1, max: 65_536 },
        DefaultValue::Value("16"),
        "Rank of the adapters. Larger can learn more and takes more memory.",
    )
    .example("8")
    .names(&[
        ("axolotl and TRL", "lora_r"),
        ("LLaMA-Factory and torchtune", "lora_rank"),
        ("mlx-lm", "lora_parameters.rank"),
        ("mlx-lm", "rank"),
    ]),
    Key::new(
        "lora.lora_alpha",
        Kind::Number(Range::above(0.0, 1e6)),
        DefaultValue::Value("32"),
        "The adapter's contribution is scaled by `lora_alpha / r`.",
    )
    .example("16")
    .names(&[("other tools", "alpha")]),
    Key::new(
        "lora.lora_dropout",
        Kind::Number(Range::below(0.0, 1.0)),
        DefaultValue::Value("0"),
        "Share of the adapter's inputs set to zero in training.",
    )
    .example("0.05")
    .names(&[("mlx-lm", "lora_parameters.dropout"), ("mlx-lm", "dropout")]),
    Key::new(
        "lora.target_modules",
        Kind::Modules,
        DefaultValue::Value("\"all-linear\""),
        "Which linear layers get an adapter: all of them but the output head, or those named.",
    )
    .example("[\"q_proj\", \"v_proj\"]")
    .names(&[
        ("axolotl and TRL", "lora_target_modules"),
        ("axolotl", "lora_target_linear"),
        ("LLaMA-Factory", "lora_target"),
        ("torchtune", "lora_attn_modules"),
        ("mlx-lm", "lora_parameters.keys"),
    ]),
    Key::new(
        "lora.use_rslora",
        Kind::Boolean,
        DefaultValue::Value("false"),
        "Scale by `lora_alpha / sqrt(r)`, which keeps large ranks stable.",
    )
    .example("true")
    .names(&[("axolotl", "peft_use_rslora")]),
];

impl LoraConfig {
    pub(in crate::config) fn read(values: &Values) -> Option<Self> {
        values.has_section("lora").then(|| Self {
            r: values.size("lora.r"),
            lora_alpha: values.number("lora.lora_alpha"),
            lora_dropout: values.number("lora.lora_dropout"),
            target_modules: match values.get("lora.target_modules") {
                Some(Value::Texts(names)) => TargetModules::Names(names.clone()),
                _ => TargetModules::AllLinear,
            },
            use_rslora: values.boolean("lora.use_rslora"),
        })
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        out.size("lora.r", self.r);
        out.number("lora.lora_alpha", self.lora_alpha);
        out.number("lora.lora_dropout", self.lora_dropout);
        match &self.target_modules {
            TargetModules::AllLinear => out.text("lora.target_modules", ALL_LINEAR),
            TargetModules::Names(names) => out.texts("lora.target_modules", names),
        }
        out.boolean("lora.use_rslora", self.use_rslora);
    }
}
