//! Settings of other tools that have no key here, and what takes their place.
//!
//! Names that do have a counterpart stand with their key in the table.

/// (tool, name, what takes its place).
pub(super) const WITHOUT_KEY: &[(&str, &str, &str)] = &[
    ("earlier versions", "registry", "it is called `trust.allowlist` now"),
    ("earlier versions", "registry_keys", "it is called `trust.allowlist_keys` now"),
    ("axolotl, TRL and LLaMA-Factory", "resume_from_checkpoint", RESUME),
    ("axolotl", "auto_resume_from_checkpoints", RESUME),
    ("mlx-lm", "resume_adapter_file", RESUME),
    ("axolotl", "evals_per_epoch", "`eval.every_steps` counts steps"),
    ("axolotl", "saves_per_epoch", "`checkpoint.every_steps` counts steps"),
    ("mlx-lm", "val_batches", "`eval.max_records` counts records"),
    ("axolotl, TRL and LLaMA-Factory", "logging_steps", LOGGING),
    ("mlx-lm", "steps_per_report", LOGGING),
    ("torchtune", "log_every_n_steps", LOGGING),
    ("axolotl", "wandb_project", NOTHING_SENT),
    ("axolotl", "wandb_entity", NOTHING_SENT),
    ("torchtune", "metric_logger", NOTHING_SENT),
    ("axolotl", "flash_attention", AUTOMATIC),
    ("LLaMA-Factory", "flash_attn", AUTOMATIC),
    ("TRL", "attn_implementation", AUTOMATIC),
    ("axolotl, TRL and LLaMA-Factory", "deepspeed", ONE_DEVICE),
    ("axolotl, TRL and LLaMA-Factory", "fsdp", ONE_DEVICE),
];

const RESUME: &str = "a run directory is continued with `--resume` on the command line";
const LOGGING: &str = "every step is recorded";
const NOTHING_SENT: &str = "nothing is sent anywhere";
const AUTOMATIC: &str = "there is nothing to choose";
const ONE_DEVICE: &str = "a run uses one device";
