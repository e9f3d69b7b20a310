//! `[checkpoint]`: how much work a stop can cost, and how much disk that may take.

use crate::document::key::{DefaultValue, Key, MANY, Section, ValueKind};
use crate::document::{Effect, choices, settings};

choices! {
    /// What happens when the disk has no room for a checkpoint.
    OnDiskFull {
        /// The run ends with an error; the checkpoints before are kept.
        Stop = "stop",
        /// The run stands still until there is room.
        Wait = "wait",
        /// The run goes on, and tries again when the next one is due.
        Continue = "continue",
    }
}

choices! {
    /// Whether steps that another run has computed are taken from the cache.
    Reuse {
        /// Where they are the same, bit for bit.
        Auto = "auto",
        /// Every step is computed, and none is kept for others.
        Never = "never",
    }
}

settings! {
    /// How much work a stop can cost, and how much disk that may take.
    pub struct CheckpointConfig, KEYS {
        /// Saved after every so many steps; 0 only at the end and on interruption.
        every_steps: u64 = Key::new(
            "checkpoint.every_steps",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("100"),
            "Saved after every so many steps. 0 saves only at the end and on interruption.",
        )
        .example("20")
        .names(&[("axolotl, TRL and LLaMA-Factory", "save_steps"), ("mlx-lm", "save_every")]);
        /// How many are kept; at least two, so that a damaged one can be passed over.
        keep_last: usize = Key::new(
            "checkpoint.keep_last",
            ValueKind::Integer { min: 2, max: MANY },
            DefaultValue::Value("2"),
            "How many checkpoints are kept. At least two, so that a damaged one can be passed \
             over.",
        )
        .example("3")
        .names(&[("axolotl, TRL and LLaMA-Factory", "save_total_limit")]);
        /// Those of every so many steps are kept too, for ever; 0 for none.
        keep_every: u64 = Key::new(
            "checkpoint.keep_every",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "Checkpoints of every so many steps are kept for ever. 0 keeps none for that.",
        )
        .example("1000");
        /// So many with the least validation loss are kept too.
        keep_best: usize = Key::new(
            "checkpoint.keep_best",
            ValueKind::Integer { min: 0, max: MANY },
            DefaultValue::Value("0"),
            "So many checkpoints with the least validation loss are kept as well; \
             `eval.every_steps` says when it is measured.",
        )
        .example("1");
        /// Bytes that the checkpoints of the run may take; `None` for any number.
        disk_budget: Option<u64> = Key::new(
            "checkpoint.disk_budget",
            ValueKind::Bytes { min: 1 << 20, max: 1 << 50 },
            DefaultValue::Absent("no limit"),
            "How many bytes the checkpoints of the run may take. What `keep_every` and `keep_best` \
             keep goes first; a run whose newest ones cannot fit is refused before it begins.",
        )
        .example("\"10 GB\"");
        /// When the disk has no room.
        on_disk_full: OnDiskFull = Key::new(
            "checkpoint.on_disk_full",
            ValueKind::Choice(OnDiskFull::NAMES),
            DefaultValue::Value("\"stop\""),
            "When the disk has no room for a checkpoint: `stop` ends the run, `wait` stands still \
             until there is room, `continue` goes on and tries again when the next one is due.",
        )
        .example("\"wait\"");
        /// Whether steps of other runs are used.
        reuse: Reuse = Key::new(
            "checkpoint.reuse",
            ValueKind::Choice(Reuse::NAMES),
            DefaultValue::Value("\"auto\""),
            "`auto` starts from steps that another run has computed and that are the same bit for \
             bit: same base, rows, settings, program and device. `never` computes every step.",
        )
        .example("\"never\"");
        /// Bytes that steps kept for other runs may take in the cache.
        reuse_limit: u64 = Key::new(
            "checkpoint.reuse_limit",
            ValueKind::Bytes { min: 0, max: 1 << 50 },
            DefaultValue::Value("10000000000"),
            "How many bytes the steps kept for other runs may take in the cache. What was not used \
             for longest goes first.",
        )
        .example("\"2 GB\"")
        .only_with("checkpoint.reuse", &["auto"]);
        /// A store with steps that several machines share.
        reuse_store: Option<String> = Key::new(
            "checkpoint.reuse_store",
            ValueKind::Line,
            DefaultValue::Absent("steps are shared on this machine alone"),
            "A store that several machines share, `s3://bucket/prefix`, `gs://bucket/prefix` or a \
             folder: steps that are not in the cache are taken from there, and saved ones are put \
             there, up to `checkpoint.reuse_limit` bytes. What was written longest ago goes first.",
        )
        .example("\"s3://bucket/firebrand\"")
        .only_with("checkpoint.reuse", &["auto"]);
    }
}

pub(in crate::config) const SECTION: Section =
    Section::new("checkpoint", "State to continue from after a stop.", KEYS).effect(Effect::Aside);
