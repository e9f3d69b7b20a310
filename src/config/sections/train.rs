//! `[train]`: how long, how fast, and in which arithmetic.

use crate::document::key::{DefaultValue, Key, MANY, Range, Section, ValueKind};
use crate::document::{Effect, Setting, Values, choices, settings};

settings! {
    /// How long, how fast, and in which arithmetic the model learns.
    pub struct TrainConfig, KEYS {
        /// When the run ends.
        length: Length = Key::new(
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
        .names(&[("mlx-lm", "iters"), ("torchtune", "max_steps_per_epoch")]);
        /// Rows in one forward pass.
        micro_batch_size: usize = Key::new(
            "train.micro_batch_size",
            ValueKind::Integer { min: 1, max: 65_536 },
            DefaultValue::Value("1"),
            "Rows in one forward pass. Memory grows with it. Shorter rows are padded; what is \
             padding costs a GPU as much as tokens, and the fast kernels of the CPU nothing.",
        )
        .example("2")
        .names(&[
            ("TRL and LLaMA-Factory", "per_device_train_batch_size"),
            ("mlx-lm and torchtune", "batch_size"),
        ]);
        /// Forward passes in one step.
        gradient_accumulation_steps: usize = Key::new(
            "train.gradient_accumulation_steps",
            ValueKind::Integer { min: 1, max: 65_536 },
            DefaultValue::Value("1"),
            "Forward passes whose gradients make one step, each weighted by its target tokens. \
             Memory does not grow with it.",
        )
        .example("4")
        .names(&[("mlx-lm", "grad_accumulation_steps")]);
        /// The highest learning rate of the run.
        learning_rate: f64 = Key::new(
            "train.learning_rate",
            ValueKind::Number(Range::above(0.0, 1.0)),
            DefaultValue::Depends(
                "2e-4 beside an adapter, 2e-5 without one, 1e-3 from random weights",
            ),
            "The highest learning rate of the run.",
        )
        .example("1e-4")
        .names(&[("torchtune", "optimizer.lr"), ("torchtune", "lr")]);
        /// How the learning rate moves.
        lr_scheduler: Scheduler = Key::new(
            "train.lr_scheduler",
            ValueKind::Choice(Scheduler::NAMES),
            DefaultValue::Value("\"cosine\""),
            "How the learning rate moves after warm-up: not at all, along a straight line, along \
             half a cosine, once or several times, with a power of the steps that are left, with \
             the inverse square root of the steps, or constant and falling only at the end (wsd).",
        )
        .example("\"linear\"")
        .names(&[
            ("TRL and LLaMA-Factory", "lr_scheduler_type"),
            ("mlx-lm", "lr_schedule.name"),
            ("mlx-lm", "lr_schedule"),
        ]);
        /// How long it rises from zero.
        warmup: Warmup = Key::new(
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
        .excludes(&["train.warmup_steps"]);
        /// The lowest learning rate after warm-up, as a share of the highest. Not for `constant`.
        min_lr_ratio: f64 = Key::new(
            "train.min_lr_ratio",
            ValueKind::Number(Range::closed(0.0, 1.0)),
            DefaultValue::Value("0.0"),
            "Where the learning rate ends, as a share of `learning_rate`.",
        )
        .example("0.1")
        .only_with(
            "train.lr_scheduler",
            &["linear", "cosine", "cosine-with-restarts", "polynomial", "wsd"],
        )
        .names(&[("axolotl", "cosine_min_lr_ratio")]);
        /// Share of the steps that `wsd` spends decaying. For no other schedule.
        decay_ratio: f64 = Key::new(
            "train.decay_ratio",
            ValueKind::Number(Range::above(0.0, 1.0)),
            DefaultValue::Value("0.2"),
            "Share of all steps in which the learning rate falls at the end of wsd.",
        )
        .example("0.1")
        .only_with("train.lr_scheduler", &["wsd"]);
        /// How often `cosine-with-restarts` falls. For no other schedule.
        cycles: u64 = Key::new(
            "train.cycles",
            ValueKind::Integer { min: 1, max: 10_000 },
            DefaultValue::Value("2"),
            "How often the learning rate falls in `cosine-with-restarts`, each time from the peak.",
        )
        .example("4")
        .only_with("train.lr_scheduler", &["cosine-with-restarts"])
        .names(&[("other tools", "num_cycles")]);
        /// The power of `polynomial`. For no other schedule.
        power: f64 = Key::new(
            "train.power",
            ValueKind::Number(Range::above(0.0, 100.0)),
            DefaultValue::Value("1.0"),
            "The power in `polynomial` of the share of steps that is left.",
        )
        .example("2.0")
        .only_with("train.lr_scheduler", &["polynomial"]);
        /// Gradients are scaled down to this global norm; 0 leaves them alone.
        max_grad_norm: f64 = Key::new(
            "train.max_grad_norm",
            ValueKind::Number(Range::closed(0.0, 1e9)),
            DefaultValue::Value("1.0"),
            "Gradients whose global norm is larger are scaled down to it. 0 leaves them alone.",
        )
        .example("0.5")
        .names(&[("torchtune", "clip_grad_norm"), ("other tools", "gradient_clipping")]);
        /// How much noise is added to embeddings in training.
        neftune_noise_alpha: Option<f64> = Key::new(
            "train.neftune_noise_alpha",
            ValueKind::Number(Range::above(0.0, 1000.0)),
            DefaultValue::Absent("no noise is added"),
            "Adds noise to embeddings in training (NEFTune): uniform, at most alpha over the root \
             of the tokens of a document times the features of an embedding. 5 to 15 are usual.",
        )
        .example("5.0");
        /// What is computed again in the backward pass; none where a plan says it.
        recompute: Option<Recompute> = Key::new(
            "train.recompute",
            ValueKind::Choice(Recompute::NAMES),
            DefaultValue::Value("\"none\""),
            "What is computed again in the backward pass to save memory; others call it gradient \
             checkpointing. `layers` is slower and gives the same numbers.",
        )
        .effect(Effect::Speed)
        .example("\"layers\"")
        .names(&[
            ("axolotl, TRL and LLaMA-Factory", "gradient_checkpointing"),
            ("mlx-lm", "grad_checkpoint"),
            ("torchtune", "enable_activation_checkpointing"),
        ]);
        /// Whether MLPs are computed a tile of tokens at a time; not where it is not set.
        tiled_mlp: Option<bool> = Key::new(
            "train.tiled_mlp",
            ValueKind::Boolean,
            DefaultValue::Absent("MLPs are computed of all tokens of a micro-batch at once"),
            "Computes MLPs 2048 tokens at a time, forward and backward, so that the activations \
             between their linear layers are never held of a whole long row. On the CPU it gives \
             the same bytes. Experts of mixtures are computed as before.",
        )
        .effect(Effect::Speed)
        .example("true")
        .only_with("train.recompute", &["layers"]);
        /// Which plan says what is held in memory at once; none where the settings say it.
        memory: Option<MemoryChoice> = Key::new(
            "train.memory",
            ValueKind::Choice(MemoryChoice::NAMES),
            DefaultValue::Absent("`train.recompute` and `train.loss_chunk_tokens` decide"),
            "A plan of what is held in memory at once. `auto` takes the fastest that fits into \
             the memory that is free, or into `device.memory_limit`. `fastest` computes nothing \
             again; `small-loss` holds the logits of fewer target tokens; `recompute` computes \
             layers again in the backward pass; `small` does both, and takes a row at a time on a \
             GPU; `tiled-mlp` is that with MLPs computed 2048 tokens at a time. On the CPU and \
             beside an adapter, `streamed-tables` leaves embedding and output head on disk as \
             well, and `streamed` all frozen matrices. `offloaded` is `fastest`, and \
             `small-offloaded` is `small`, with the optimizer's state on disk on the CPU and in \
             host memory on a GPU. `activations-offloaded` is `tiled-mlp` with the inputs of \
             layers there, and `all-offloaded` has both there. On the CPU all give the same \
             bytes. `firebrand plan` lists what each needs.",
        )
        .effect(Effect::Speed)
        .example("\"auto\"")
        .excludes(&["train.recompute"]);
        /// Where the optimizer's state is between updates; none where a plan says it.
        optimizer_offload: Option<OptimizerOffload> = Key::new(
            "train.optimizer_offload",
            ValueKind::Choice(OptimizerOffload::NAMES),
            DefaultValue::Absent("`train.memory` decides, and without it nothing is moved"),
            "Where the optimizer's state is between updates: on the device (`none`), in `host` \
             memory, which is another one on a GPU alone, or on `disk`, in a file without a name \
             in the run's directory. An update brings back that of a few parameters at a time. \
             Slower, with the same numbers; it goes along with any `train.memory`.",
        )
        .effect(Effect::Speed)
        .example("\"disk\"")
        .names(&[("other tools", "offload_optimizer")]);
        /// Where inputs of layers that are computed again are meanwhile; none where a plan says it.
        activation_offload: Option<ActivationOffload> = Key::new(
            "train.activation_offload",
            ValueKind::Choice(ActivationOffload::NAMES),
            DefaultValue::Absent("`train.memory` decides, and without it nothing is moved"),
            "Where the inputs of layers that are computed again are until the backward pass comes \
             to them: on the device (`none`), in `host` memory, which is another one on a GPU \
             alone, or on `disk`, in a file without a name in the run's directory. Without it \
             memory grows with the number of layers. Slower, with the same numbers; it needs \
             `train.recompute = \"layers\"` or a `train.memory` that computes layers again.",
        )
        .effect(Effect::Speed)
        .example("\"disk\"")
        .names(&[("axolotl and TRL", "activation_offloading")]);
        /// Target tokens whose logits exist at the same time.
        loss_chunk_tokens: usize = Key::new(
            "train.loss_chunk_tokens",
            ValueKind::Integer { min: 1, max: 1_048_576 },
            DefaultValue::Value("128"),
            "Target tokens whose logits are held in memory at the same time.",
        )
        .example("64");
        /// Arithmetic of the forward and backward pass.
        precision: PrecisionChoice = Key::new(
            "train.precision",
            ValueKind::Choice(PrecisionChoice::NAMES),
            DefaultValue::Value("\"auto\""),
            "Arithmetic of the forward and backward pass. `auto` takes 16 bits on a GPU that has \
             them and 32 on every CPU, and says why; `mixed-bf16` is faster on CPUs with \
             AVX512-BF16. Mixed ones multiply matrices in 16 bits; weights that learn, sums, \
             norms, softmax and the loss stay in 32.",
        )
        .example("\"f32\"")
        .names(&[
            ("axolotl, TRL and LLaMA-Factory", "bf16"),
            ("axolotl, TRL and LLaMA-Factory", "fp16"),
            ("torchtune", "dtype"),
            ("TRL", "torch_dtype"),
            ("other tools", "mixed_precision"),
        ]);
    }
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
        /// Along half a cosine, several times from the peak.
        CosineWithRestarts = "cosine-with-restarts",
        /// With a power of the share of steps that is left.
        Polynomial = "polynomial",
        /// With the inverse square root of the steps.
        InverseSqrt = "inverse-sqrt",
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
    /// A plan of what is held in memory at once.
    MemoryChoice {
        /// The fastest that fits.
        Auto = "auto",
        /// Nothing is computed again.
        Fastest = "fastest",
        /// Logits of fewer target tokens.
        SmallLoss = "small-loss",
        /// Layers are computed again.
        Recompute = "recompute",
        /// Both, and on a GPU one row at a time.
        Small = "small",
        /// The same, with MLPs computed a tile of tokens at a time.
        TiledMlp = "tiled-mlp",
        /// The same, with embedding and output head on disk.
        StreamedTables = "streamed-tables",
        /// The same, with all frozen matrices on disk.
        Streamed = "streamed",
        /// The fastest, with the optimizer's state off the device.
        Offloaded = "offloaded",
        /// The small one, with the optimizer's state off the device.
        SmallOffloaded = "small-offloaded",
        /// The one with MLPs in tiles, with inputs of layers off the device.
        ActivationsOffloaded = "activations-offloaded",
        /// The same, with the optimizer's state off the device as well.
        AllOffloaded = "all-offloaded",
    }
}

choices! {
    /// Where inputs of layers that are computed again are until the backward pass needs them.
    ActivationOffload {
        /// On the device.
        None = "none",
        /// In host memory, beside a GPU.
        Host = "host",
        /// On disk.
        Disk = "disk",
    }
}

choices! {
    /// Where the optimizer's state is between updates.
    OptimizerOffload {
        /// On the device.
        None = "none",
        /// In host memory, beside a GPU.
        Host = "host",
        /// On disk.
        Disk = "disk",
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

impl Setting for Length {
    fn of(values: &Values, _: &str) -> Self {
        match values.optional_integer("train.max_steps") {
            Some(steps) => Self::Steps(steps),
            None => Self::Epochs(values.integer("train.epochs")),
        }
    }
}

impl Setting for Warmup {
    fn of(values: &Values, _: &str) -> Self {
        match values.optional_number("train.warmup_ratio") {
            Some(ratio) => Self::Ratio(ratio),
            None => Self::Steps(values.integer("train.warmup_steps")),
        }
    }
}
