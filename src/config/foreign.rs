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
    ("TRL", "torch_compile", AUTOMATIC),
    ("TRL", "use_liger_kernel", AUTOMATIC),
    ("axolotl, TRL and LLaMA-Factory", "push_to_hub", PUSH),
    ("axolotl, TRL and LLaMA-Factory", "hub_model_id", PUSH),
    ("axolotl, TRL and LLaMA-Factory", "hub_strategy", PUSH),
    ("axolotl, TRL and LLaMA-Factory", "group_by_length", PACKING),
    ("TRL and LLaMA-Factory", "eval_strategy", "`eval.every_steps` counts steps"),
    ("TRL and LLaMA-Factory", "evaluation_strategy", "`eval.every_steps` counts steps"),
    ("TRL and LLaMA-Factory", "save_strategy", "`checkpoint.every_steps` counts steps"),
    ("TRL and LLaMA-Factory", "dataloader_num_workers", AUTOMATIC),
    ("TRL and LLaMA-Factory", "auto_find_batch_size", "`firebrand plan` says what fits"),
    ("axolotl, TRL and LLaMA-Factory", "trust_remote_code", "no code of a model is run"),
    ("axolotl, TRL and LLaMA-Factory", "deepspeed", ONE_DEVICE),
    ("axolotl, TRL and LLaMA-Factory", "fsdp", ONE_DEVICE),
];

const RESUME: &str = "a run directory is continued with `--resume` on the command line";
const LOGGING: &str = "every step is recorded";
const NOTHING_SENT: &str = "nothing is sent anywhere";
const AUTOMATIC: &str = "there is nothing to choose";
const PUSH: &str = "`firebrand push` uploads an artifact";
const PACKING: &str = "`data.packing` fills rows, so that little is padded";
const ONE_DEVICE: &str = "a run uses one device";
