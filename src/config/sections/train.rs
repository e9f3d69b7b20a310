//! `[train]`: how long, how fast, and in which arithmetic.

use crate::document::key::{DefaultValue, Key, MANY, Range, Section, ValueKind};
use crate::document::{Effect, Entries, Values, choices};

/// How long, how fast, and in which arithmetic the model learns.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// When the run ends.
    pub length: Length,
    /// Rows in one forward pass.
    pub micro_batch_size: usize,
    /// Forward passes in one step.
    pub gradient_accumulation_steps: usize,
    /// The highest learning rate of the run.
    pub learning_rate: f64,
    /// How the learning rate moves.
    pub lr_scheduler: Scheduler,
    /// How long it rises from zero.
    pub warmup: Warmup,
    /// The lowest learning rate after warm-up, as a share of the highest. Not for `constant`.
    pub min_lr_ratio: f64,
    /// Share of the steps that `wsd` spends decaying. For no other schedule.
    pub decay_ratio: f64,
    /// Gradients are scaled down to this global norm; 0 leaves them alone.
    pub max_grad_norm: f64,
    /// What is computed again in the backward pass.
    pub recompute: Recompute,
    /// Target tokens whose logits exist at the same time.
    pub loss_chunk_tokens: usize,
    /// Arithmetic of the forward and backward pass.
    pub precision: PrecisionChoice,
}

/// When the run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// After this many passes over the data.
    Epochs(u64),
    /// After this many steps.
    Steps(u64),
}

/// How long the learning rate rises from zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warmup {
    /// For this many steps.
    Steps(u64),
    /// For this share of all steps.
    Ratio(f64),
}

choices! {
    /// How the learning rate moves after warm-up.
    Scheduler {
        /// Not at all.
        Constant = "constant",
        /// Along a straight line.
        Linear = "linear",
        /// Along half a cosine.
        Cosine = "cosine",
        /// Warm-up, stable, decay: constant until the last steps, then linear.
        Wsd = "wsd",
    }
}

choices! {
    /// What is computed again in the backward pass, to save memory.
    Recompute {
        /// Nothing; activations are kept.
        None = "none",
        /// Every layer; only its input is kept.
        Layers = "layers",
    }
}

choices! {
    /// Arithmetic of the forward and backward pass.
    PrecisionChoice {
        /// The device's best.
        Auto = "auto",
        /// 32-bit floats.
        F32 = "f32",
        /// Products of 16-bit floats, everything else in 32 bits, and a scaled loss.
        MixedF16 = "mixed-f16",
        /// Products of bfloat16, everything else in 32 bits.
        MixedBf16 = "mixed-bf16",
    }
}

pub(in crate::config) const SECTION: Section =
    Section::new("train", "How long, how fast, and in which arithmetic the model learns.", KEYS)
        .effect(Effect::Weights);

const KEYS: &[Key] = &[
    Key::new(
        "train.epochs",
        ValueKind::Integer { min: 1, max: MANY },
        DefaultValue::Value("1"),
        "How many times the run goes through the data.",
    )
    .effect(Effect::Length)
    .example("3")
    .names(&[("axolotl", "num_epochs"), ("TRL and LLaMA-Factory", "num_train_epochs")]),
    Key::new(
        "train.max_steps",
        ValueKind::Integer { min: 1, max: MANY },
        DefaultValue::Absent("`epochs` decides"),
        "How many steps the run takes, in place of `epochs`.",
    )
    .effect(Effect::Length)
    .example("100")
    .excludes(&["train.epochs"])
    .names(&[("mlx-lm", "iters"), ("torchtune", "max_steps_per_epoch")]),
    Key::new(
        "train.micro_batch_size",
        ValueKind::Integer { min: 1, max: 65_536 },
        DefaultValue::Value("1"),
        "Rows in one forward pass. Memory grows with it. Shorter rows are padded; what is padding \
         costs a GPU as much as tokens, and the fast kernels of the CPU nothing.",
    )
    .example("2")
    .names(&[
        ("TRL and LLaMA-Factory", "per_device_train_batch_size"),
        ("mlx-lm and torchtune", "batch_size"),
    ]),
    Key::new(
        "train.gradient_accumulation_steps",
        ValueKind::Integer { min: 1, max: 65_536 },
        DefaultValue::Value("1"),
        "Forward passes whose gradients make one step, each weighted by its target tokens. \
         Memory does not grow with it.",
    )
    .example("4")
    .names(&[("mlx-lm", "grad_accumulation_steps")]),
    Key::new(
        "train.learning_rate",
        ValueKind::Number(Range::above(0.0, 1.0)),
        DefaultValue::Depends("2e-4 beside an adapter, 2e-5 without one, 1e-3 from random weights"),
        "The highest learning rate of the run.",
    )
    .example("1e-4")
    .names(&[("torchtune", "optimizer.lr"), ("torchtune", "lr")]),
    Key::new(
        "train.lr_scheduler",
        ValueKind::Choice(Scheduler::NAMES),
        DefaultValue::Value("\"cosine\""),
        "How the learning rate moves after warm-up: not at all, along a straight line, along \
         half a cosine, or constant and falling only at the end (wsd).",
    )
    .example("\"linear\"")
    .names(&[
        ("TRL and LLaMA-Factory", "lr_scheduler_type"),
        ("mlx-lm", "lr_schedule.name"),
        ("mlx-lm", "lr_schedule"),
    ]),
    Key::new(
        "train.warmup_steps",
        ValueKind::Integer { min: 0, max: MANY },
        DefaultValue::Value("0"),
        "Steps in which the learning rate rises from zero.",
    )
    .example("10")
    .names(&[
        ("torchtune", "num_warmup_steps"),
        ("mlx-lm", "lr_schedule.warmup"),
        ("mlx-lm", "warmup"),
    ]),
    Key::new(
        "train.warmup_ratio",
        ValueKind::Number(Range::closed(0.0, 1.0)),
        DefaultValue::Absent("`warmup_steps` decides"),
        "The same as a share of all steps, in place of `warmup_steps`.",
    )
    .example("0.03")
    .excludes(&["train.warmup_steps"]),
    Key::new(
        "train.min_lr_ratio",
        ValueKind::Number(Range::closed(0.0, 1.0)),
        DefaultValue::Value("0.0"),
        "Where the learning rate ends, as a share of `learning_rate`.",
    )
    .example("0.1")
    .only_with("train.lr_scheduler", &["linear", "cosine", "wsd"])
    .names(&[("axolotl", "cosine_min_lr_ratio")]),
    Key::new(
        "train.decay_ratio",
        ValueKind::Number(Range::above(0.0, 1.0)),
        DefaultValue::Value("0.2"),
        "Share of all steps in which the learning rate falls at the end of wsd.",
    )
    .example("0.1")
    .only_with("train.lr_scheduler", &["wsd"]),
    Key::new(
        "train.max_grad_norm",
        ValueKind::Number(Range::closed(0.0, 1e9)),
        DefaultValue::Value("1.0"),
        "Gradients whose global norm is larger are scaled down to it. 0 leaves them alone.",
    )
    .example("0.5")
    .names(&[("torchtune", "clip_grad_norm"), ("other tools", "gradient_clipping")]),
    Key::new(
        "train.recompute",
        ValueKind::Choice(Recompute::NAMES),
        DefaultValue::Value("\"none\""),
        "What is computed again in the backward pass to save memory; others call it gradient \
         checkpointing. `layers` is slower and gives the same numbers.",
    )
    .example("\"layers\"")
    .names(&[
        ("axolotl, TRL and LLaMA-Factory", "gradient_checkpointing"),
        ("mlx-lm", "grad_checkpoint"),
        ("torchtune", "enable_activation_checkpointing"),
    ]),
    Key::new(
        "train.loss_chunk_tokens",
        ValueKind::Integer { min: 1, max: 1_048_576 },
        DefaultValue::Value("128"),
        "Target tokens whose logits are held in memory at the same time.",
    )
    .example("64"),
    Key::new(
        "train.precision",
        ValueKind::Choice(PrecisionChoice::NAMES),
        DefaultValue::Value("\"auto\""),
        "Arithmetic of the forward and backward pass. `auto` takes 16 bits on a GPU \
         that has them and 32 on every CPU, and says why; `mixed-bf16` is faster on CPUs with \
         AVX512-BF16. Mixed ones multiply matrices in 16 bits; weights that learn, sums, norms, \
         softmax and the loss stay in 32.",
    )
    .example("\"f32\"")
    .names(&[
        ("axolotl, TRL and LLaMA-Factory", "bf16"),
        ("axolotl, TRL and LLaMA-Factory", "fp16"),
        ("torchtune", "dtype"),
        ("TRL", "torch_dtype"),
        ("other tools", "mixed_precision"),
    ]),
];

impl TrainConfig {
    /// `learning_rate` is what holds when the key is not given.
    pub(in crate::config) fn read(values: &Values, learning_rate: f64) -> Self {
        Self {
            length: match values.optional_integer("train.max_steps") {
                Some(steps) => Length::Steps(steps),
                None => Length::Epochs(values.integer("train.epochs")),
            },
            micro_batch_size: values.size("train.micro_batch_size"),
            gradient_accumulation_steps: values.size("train.gradient_accumulation_steps"),
            learning_rate: values.optional_number("train.learning_rate").unwrap_or(learning_rate),
            lr_scheduler: values.choice("train.lr_scheduler", Scheduler::from_name),
            warmup: match values.optional_number("train.warmup_ratio") {
                Some(ratio) => Warmup::Ratio(ratio),
                None => Warmup::Steps(values.integer("train.warmup_steps")),
            },
            min_lr_ratio: values.number("train.min_lr_ratio"),
            decay_ratio: values.number("train.decay_ratio"),
            max_grad_norm: values.number("train.max_grad_norm"),
            recompute: values.choice("train.recompute", Recompute::from_name),
            loss_chunk_tokens: values.size("train.loss_chunk_tokens"),
            precision: values.choice("train.precision", PrecisionChoice::from_name),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        match self.length {
            Length::Epochs(epochs) => out.integer("train.epochs", epochs),
            Length::Steps(steps) => out.integer("train.max_steps", steps),
        }
        out.size("train.micro_batch_size", self.micro_batch_size);
        out.size("train.gradient_accumulation_steps", self.gradient_accumulation_steps);
        out.number("train.learning_rate", self.learning_rate);
        out.text("train.lr_scheduler", self.lr_scheduler.name());
        match self.warmup {
            Warmup::Steps(steps) => out.integer("train.warmup_steps", steps),
            Warmup::Ratio(ratio) => out.number("train.warmup_ratio", ratio),
        }
        // What the schedule does not use would be refused when it is read again.
        if self.lr_scheduler != Scheduler::Constant {
            out.number("train.min_lr_ratio", self.min_lr_ratio);
        }
        if self.lr_scheduler == Scheduler::Wsd {
            out.number("train.decay_ratio", self.decay_ratio);
        }
        out.number("train.max_grad_norm", self.max_grad_norm);
        out.text("train.recompute", self.recompute.name());
        out.size("train.loss_chunk_tokens", self.loss_chunk_tokens);
        out.text("train.precision", self.precision.name());
    }
}
