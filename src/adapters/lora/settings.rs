//! `[lora]`: what a run is told about its low-rank factors.

use std::collections::BTreeSet;

use super::biases::LoraBias;
use super::patterns::{self, ModulePatterns};
use super::{A, B};
use crate::document::key::{DefaultValue, Key, OwnedKeys, Range, Section, ValueKind};
use crate::document::{Effect, Setting, Value, Values, choices, settings};
use crate::model::LM_HEAD;

/// The name of the section.
const SECTION: &str = "lora";
const INSTEAD: &str = "a `[lora]` section trains adapters; without it all parameters are trained";
const LAYERS: &str = "`lora.target_modules` chooses the layers that learn";

/// Settings of other tools that have no key here.
const NOTES: &[(&str, &str, &str)] = &[
    ("axolotl", "adapter", INSTEAD),
    ("axolotl", "lora_model_dir", "`model.adapter` names the adapter that training starts from"),
    ("LLaMA-Factory", "finetuning_type", INSTEAD),
    ("mlx-lm", "fine_tune_type", INSTEAD),
    ("TRL", "use_peft", INSTEAD),
    ("mlx-lm", "num_layers", LAYERS),
    ("torchtune", "apply_lora_to_mlp", LAYERS),
    ("mlx-lm", "scale", "`lora.lora_alpha` is that times `lora.r`"),
];

settings! {
    /// What a run is told about its low-rank factors.
    pub struct LoraSettings, KEYS {
        /// Rank of the two factors.
        r: usize = Key::new(
            "lora.r",
            ValueKind::Integer { min: 1, max: 65_536 },
            DefaultValue::Value("16"),
            "Rank of the adapters. Larger can learn more and takes more memory.",
        )
        .example("8")
        .names(&[
            ("axolotl and TRL", "lora_r"),
            ("LLaMA-Factory and torchtune", "lora_rank"),
            ("mlx-lm", "lora_parameters.rank"),
            ("mlx-lm", "rank"),
        ]);
        /// The product of the factors is scaled by `lora_alpha / r` (`/ sqrt(r)` with
        /// `use_rslora`).
        lora_alpha: f64 = Key::new(
            "lora.lora_alpha",
            ValueKind::Number(Range::above(0.0, 1e6)),
            DefaultValue::Value("32"),
            "The adapter's contribution is scaled by `lora_alpha / r`.",
        )
        .example("16")
        .names(&[("other tools", "alpha")]);
        /// Share of the factors' inputs that is set to zero in training.
        lora_dropout: f64 = Key::new(
            "lora.lora_dropout",
            ValueKind::Number(Range::below(0.0, 1.0)),
            DefaultValue::Value("0"),
            "Share of the adapter's inputs set to zero in training.",
        )
        .example("0.05")
        .names(&[("mlx-lm", "lora_parameters.dropout"), ("mlx-lm", "dropout")]);
        /// The linear layers that get an adapter.
        target_modules: TargetModules = Key::new(
            "lora.target_modules",
            ValueKind::Modules,
            DefaultValue::Value("\"all-linear\""),
            "Which linear layers get an adapter: all of them but the output head, or those named. \
             `lm_head` and `embed_tokens` may be named where these are two.",
        )
        .example("[\"q_proj\", \"v_proj\"]")
        .names(&[
            ("axolotl and TRL", "lora_target_modules"),
            ("axolotl", "lora_target_linear"),
            ("LLaMA-Factory", "lora_target"),
            ("torchtune", "lora_attn_modules"),
            ("mlx-lm", "lora_parameters.keys"),
        ]);
        /// The parameters besides them that get one, by names such as `mlp.experts.down_proj`.
        target_parameters: Vec<String> = Key::new(
            "lora.target_parameters",
            ValueKind::Texts,
            DefaultValue::Value("[]"),
            "Parameters that get an adapter and are no linear layers: `mlp.experts.gate_up_proj` \
             and `mlp.experts.down_proj` of mixtures of experts, each expert with factors of its \
             own, and their router (`mlp.gate.weight` of Qwen3, `mlp.router.weight` of gpt-oss). \
             The experts of Gemma 4 are `experts`, those of LFM2 `feed_forward.experts`.",
        )
        .example("[\"mlp.experts.gate_up_proj\", \"mlp.experts.down_proj\"]")
        .names(&[("axolotl", "lora_target_parameters")])
        .silent_default();
        /// The decoder layers whose modules get one, counted from 0; all of them if there are none.
        layers_to_transform: Vec<usize> = Key::new(
            "lora.layers_to_transform",
            ValueKind::Rising { min: 0, max: 65_535 },
            DefaultValue::Value("[]"),
            "Decoder layers, counted from 0, whose linear layers get an adapter. Without it all of \
             them.",
        )
        .example("[14, 15]")
        .names(&[("axolotl", "peft_layers_to_transform")])
        .silent_default();
        /// Scale by `lora_alpha / sqrt(r)`.
        use_rslora: bool = Key::new(
            "lora.use_rslora",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "Scale by `lora_alpha / sqrt(r)`, which keeps large ranks stable.",
        )
        .example("true")
        .names(&[("axolotl", "peft_use_rslora")]);
        /// Other ranks of some layers.
        rank_pattern: ModulePatterns<usize> = Key::new(
            "lora.rank_pattern",
            ValueKind::IntegerOfEach { min: 1, max: 65_536, names: &patterns::RULE },
            DefaultValue::Value("{}"),
            "Other ranks of some layers, by the end of their names or by regular expressions, as \
             PEFT has them. Of several that fit a layer the first in alphabetical order counts.",
        )
        .example("{ q_proj = 4 }")
        .silent_default();
        /// Another `lora_alpha` of some layers.
        alpha_pattern: ModulePatterns<f64> = Key::new(
            "lora.alpha_pattern",
            ValueKind::NumberOfEach(Range::above(0.0, 1e6), &patterns::RULE),
            DefaultValue::Value("{}"),
            "Another `lora_alpha` of some layers, named as in `rank_pattern`. A layer with a rank \
             of its own and without one here is scaled by `lora_alpha` over its own rank.",
        )
        .example("{ q_proj = 8 }")
        .silent_default();
        /// The rate of all parameters but A, as a multiple of that of A (LoRA+).
        loraplus_lr_ratio: f64 = Key::new(
            "lora.loraplus_lr_ratio",
            ValueKind::Number(Range::closed(1.0, 1e4)),
            DefaultValue::Value("1"),
            "LoRA+: the factor B, which begins at zero, learns at this many times \
             `train.learning_rate`, which is then that of A. 16 is usual; choose a smaller rate \
             along with it.",
        )
        .example("16")
        .silent_default();
        /// Modules that are trained whole and saved with the adapter.
        modules_to_save: Vec<String> = Key::new(
            "lora.modules_to_save",
            ValueKind::Texts,
            DefaultValue::Value("[]"),
            "Modules that are trained whole and saved with the adapter: the embedding \
             (`embed_tokens`) and the output head (`lm_head`), of models where these are two.",
        )
        .example("[\"embed_tokens\", \"lm_head\"]")
        .names(&[
            ("axolotl and TRL", "lora_modules_to_save"),
            ("LLaMA-Factory", "additional_target"),
        ])
        .silent_default();
        /// Tokens whose rows of the embedding are trained, by their numbers.
        trainable_token_indices: Vec<usize> = Key::new(
            "lora.trainable_token_indices",
            ValueKind::Rising { min: 0, max: 0x7fff_ffff },
            DefaultValue::Value("[]"),
            "Tokens, by their numbers, whose rows of the input embedding are trained and saved \
             with the adapter, while its other rows stay: special tokens that the base hardly \
             knows. Where the output head is the embedding, it has the same rows.",
        )
        .example("[151644, 151645]")
        .names(&[("axolotl", "peft_trainable_token_indices")])
        .silent_default();
        /// More of them by their texts, which are looked up in the tokenizer of the base.
        trainable_tokens: Vec<String> = Key::new(
            "lora.trainable_tokens",
            ValueKind::Texts,
            DefaultValue::Value("[]"),
            "The same for tokens by their texts, as `tokenizer.json` has them. The artifact has \
             their numbers, as PEFT does (`trainable_token_indices`).",
        )
        .example("[\"<|im_start|>\", \"<|im_end|>\"]")
        .silent_default();
        /// Biases that are trained and saved with the adapter.
        bias: LoraBias = Key::new(
            "lora.bias",
            ValueKind::Choice(LoraBias::NAMES),
            DefaultValue::Value("\"none\""),
            "Biases of linear layers that are trained and saved with the adapter, as PEFT's \
             setting of this name: `none`, `all`, or `lora_only` for those of layers with an \
             adapter.",
        )
        .example("\"lora_only\"")
        .silent_default();
        /// How the factors begin.
        init_lora_weights: InitLoraWeights = Key::new(
            "lora.init_lora_weights",
            ValueKind::Choice(InitLoraWeights::NAMES),
            DefaultValue::Value("\"default\""),
            "How the factors begin, as PEFT's setting of this name: `default` (A uniform, B \
             zero), `gaussian` (A normal, B zero), `pissa` (the largest singular values of each \
             weight) or `olora` (its QR decomposition). The latter two are taken out of the frozen \
             weights in memory; the artifact is a LoRA of twice the rank for the base as it is.",
        )
        .example("\"pissa\"")
        .names(&[("axolotl", "peft_init_lora_weights")])
        .silent_default();
    }
    beside {
        /// Tokens whose rows of an output head of its own are trained: those that a run adds.
        head_token_indices: Vec<usize> = Vec::new();
        /// Rows that the embedding has with it, where those of the base are fewer.
        vocabulary: Option<usize> = None;
    }
}

choices! {
    /// How the factors begin.
    InitLoraWeights {
        /// A from U(−1/√in, 1/√in), which is what Kaiming initialisation with a = √5 comes to.
        Default = "default",
        /// A from N(0, 1/r²).
        Gaussian = "gaussian",
        /// The largest singular values of the weight (Meng et al. 2024).
        Pissa = "pissa",
        /// The first columns of its QR decomposition (Büyükakyüz 2024).
        Olora = "olora",
    }
}

impl InitLoraWeights {
    /// Whether the weight beside the factors is changed for it.
    pub fn changes_base(self) -> bool {
        matches!(self, Self::Pissa | Self::Olora)
    }
}

/// Which linear layers get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear layer but the output head.
    AllLinear,
    /// The layers with these names, such as `q_proj`.
    Names(Vec<String>),
}

impl Setting for TargetModules {
    fn of(values: &Values, path: &str) -> Self {
        match values.get(path) {
            Some(Value::Texts(names)) => Self::Names(names.clone()),
            _ => Self::AllLinear,
        }
    }
}

/// What stands beside one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSettings {
    /// Its rank.
    pub rank: usize,
    /// What the product of its factors is multiplied with.
    pub scale: f64,
}

impl LoraSettings {
    /// LoRA of this rank beside all linear layers, without anything else.
    pub fn new(r: usize, lora_alpha: f64) -> Self {
        Self {
            r,
            lora_alpha,
            lora_dropout: 0.0,
            target_modules: TargetModules::AllLinear,
            target_parameters: Vec::new(),
            layers_to_transform: Vec::new(),
            use_rslora: false,
            rank_pattern: ModulePatterns::default(),
            alpha_pattern: ModulePatterns::default(),
            loraplus_lr_ratio: 1.0,
            modules_to_save: Vec::new(),
            trainable_token_indices: Vec::new(),
            trainable_tokens: Vec::new(),
            head_token_indices: Vec::new(),
            vocabulary: None,
            bias: LoraBias::None,
            init_lora_weights: InitLoraWeights::Default,
        }
    }

    /// Twice the ranks, with the same factors `s`: what is trained, and what it began with.
    #[must_use]
    pub fn doubled(&self) -> Self {
        let factor = if self.use_rslora { std::f64::consts::SQRT_2 } else { 2.0 };
        Self {
            r: 2 * self.r,
            lora_alpha: factor * self.lora_alpha,
            rank_pattern: self.rank_pattern.map(|rank| 2 * rank),
            alpha_pattern: self.alpha_pattern.map(|alpha| factor * alpha),
            init_lora_weights: InitLoraWeights::Default,
            ..self.clone()
        }
    }

    /// The same with these tokens, and none by text.
    #[must_use]
    pub fn with_tokens(&self, trainable_token_indices: Vec<usize>) -> Self {
        Self { trainable_token_indices, trainable_tokens: Vec::new(), ..self.clone() }
    }

    /// The tokens whose rows of the matrix at `path` are trained, in the order of the file.
    pub fn tokens_of(&self, path: &str) -> &[usize] {
        if path == LM_HEAD { &self.head_token_indices } else { &self.trainable_token_indices }
    }

    /// What the layer at `path` gets: its rank, and the factor `lora_alpha / r`, or
    /// `lora_alpha / √r` when rank-stabilised (Kalajdzievski 2023).
    #[expect(clippy::cast_precision_loss)] // ranks are small
    pub fn of_layer(&self, path: &str) -> LayerSettings {
        let rank = self.rank_pattern.value_of(path).copied().unwrap_or(self.r);
        let alpha = self.alpha_pattern.value_of(path).copied().unwrap_or(self.lora_alpha);
        let number = rank as f64;
        let scale = alpha / if self.use_rslora { number.sqrt() } else { number };
        LayerSettings { rank, scale }
    }

    /// The factors beside the layer at `path` of these dimensions, `[out, in]`, with theirs.
    pub fn factors(
        &self,
        path: &str,
        [outputs, inputs]: [usize; 2],
    ) -> Vec<(&'static str, Vec<usize>)> {
        let rank = self.of_layer(path).rank;
        vec![(A, vec![rank, inputs]), (B, vec![outputs, rank])]
    }

    /// The rate of a parameter, as a multiple of that of the run (LoRA+, Hayou et al. 2024; as in
    /// `peft.optimizers.create_loraplus_optimizer`, vectors have that of B).
    pub fn rate_ratio(&self, parameter: &str) -> f64 {
        if parameter == A { 1.0 } else { self.loraplus_lr_ratio }
    }

    /// As a config has them; none if it asks for no low-rank adapter.
    pub fn of_run(values: &Values) -> Option<Self> {
        values.has_section(SECTION).then(|| Self::read(values))
    }
}

/// The section `[lora]`.
pub fn keys() -> OwnedKeys {
    let section = Section {
        optional: true,
        suggested: true,
        effect: Some(Effect::Weights),
        // Trained weights are easily spoilt, random ones have nothing to lose; adapters lie
        // between.
        defaults: &[("train.learning_rate", "2e-4")],
        ..Section::new(
            SECTION,
            "Low-rank adapters: small added weights are trained while the base stays as it is. \
             Without this section all parameters are trained.",
            KEYS,
        )
    };
    OwnedKeys { notes: NOTES, ..OwnedKeys::section(section, "train") }
}

pub fn sample_settings() -> LoraSettings {
    LoraSettings::new(4, 8.0)
}

/// Does a name of `target_modules` mean the layer at `path`?
pub(super) fn fits(path: &str, name: &str) -> bool {
    path == name || path.ends_with(&format!(".{name}"))
}

/// The number of the decoder layer that a module is of.
pub(super) fn layer_number(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}

pub(super) fn wants(settings: &LoraSettings, path: &str) -> bool {
    let numbers = &settings.layers_to_transform;
    if !numbers.is_empty() && !layer_number(path).is_some_and(|number| numbers.contains(&number)) {
        return false;
    }
    match &settings.target_modules {
        TargetModules::AllLinear => true,
        TargetModules::Names(names) => names.iter().any(|name| fits(path, name)),
    }
}

pub(super) fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
