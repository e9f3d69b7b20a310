//! `[model]`: the model that is fine-tuned.

use crate::document::key::{DefaultValue, Key, Section, TextRule, ValueKind};
use crate::document::{Effect, choices, settings};

/// The longest token that may be added, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

const TOKEN: TextRule = TextRule {
    describe: || format!("a text of 1 to {TOKEN_BYTES_MAX} bytes"),
    names: &[],
    pattern: None,
    dates: false,
    check: |text| match text.len() {
        1..=TOKEN_BYTES_MAX => Ok(()),
        _ => Err(String::new()),
    },
    hint: |_| None,
};

settings! {
    /// The model that is fine-tuned.
    pub struct ModelConfig, KEYS {
        /// A directory, or `owner/name` on the hub.
        base: String = Key::new(
            "model.base",
            ValueKind::Line,
            DefaultValue::Required,
            "The base model: a directory with config.json, safetensors and tokenizer, owner/name \
             on the hub, or a GGUF file: a path, or owner/name/file.gguf on the hub.",
        )
        .effect(Effect::Weights)
        .example("\"checkpoints/base-tiny\"")
        .names(&[
            ("axolotl", "base_model"),
            ("TRL and LLaMA-Factory", "model_name_or_path"),
            ("Unsloth", "model_name"),
            ("torchtune", "checkpointer.checkpoint_dir"),
            ("torchtune", "checkpoint_dir"),
        ]);
        /// Branch, tag or commit on the hub.
        revision: String = Key::new(
            "model.revision",
            ValueKind::Line,
            DefaultValue::Value("\"main\""),
            "Branch, tag or commit of a base model on the hub; a directory has none.",
        )
        .effect(Effect::Weights)
        .example("\"v1.0\"")
        .names(&[("axolotl", "revision_of_model"), ("TRL and LLaMA-Factory", "model_revision")]);
        /// The adapter whose training goes on; a new one is made without it.
        adapter: Option<String> = Key::new(
            "model.adapter",
            ValueKind::Line,
            DefaultValue::Absent("a new adapter is trained"),
            "An adapter of PEFT whose values training starts from: a directory, an artifact, or \
             owner/name@revision on the hub. The run must ask for an adapter with its settings.",
        )
        .effect(Effect::Weights)
        .example("\"checkpoints/first/artifact\"")
        .names(&[("LLaMA-Factory", "adapter_name_or_path")]);
        /// Adapters below the one that is trained, in their order.
        base_adapters: Vec<String> = Key::new(
            "model.base_adapters",
            ValueKind::Texts,
            DefaultValue::Value("[]"),
            "Adapters of PEFT that the new one is trained on top of: directories, artifacts, or \
             owner/name@revision on the hub. Before training they are merged into the weights of \
             the base, one after the other in this order; they stay as they are.",
        )
        .effect(Effect::Weights)
        .example("[\"checkpoints/first/artifact\"]")
        .silent_default();
        /// What the hub calls a base model that lies in a directory.
        base_id: Option<String> = Key::new(
            "model.base_id",
            ValueKind::Line,
            DefaultValue::Absent("the model card names no base model where it is a directory"),
            "What the hub calls the base model where `model.base` is a directory: the model card \
             names it so, since the hub refuses a card whose base model is a path.",
        )
        .effect(Effect::Artifact)
        .example("\"HuggingFaceTB/SmolLM2-135M-Instruct\"");
        /// Tokens that the tokenizer gets beside its own.
        add_tokens: Vec<String> = Key::new(
            "model.add_tokens",
            ValueKind::TextsOf(&TOKEN),
            DefaultValue::Value("[]"),
            "Tokens that the tokenizer of the base gets beside its own. They get the next ids; \
             where the embedding, or an output head of its own, has no rows for them, it is \
             resized, and new rows begin as the mean of the others. Beside an adapter their rows \
             are trained and saved with it.",
        )
        .effect(Effect::Weights)
        .example("[\"<think>\", \"</think>\"]")
        .names(&[("axolotl", "tokens")])
        .silent_default();
        /// The same, marked as special: they stand for no text.
        add_special_tokens: Vec<String> = Key::new(
            "model.add_special_tokens",
            ValueKind::TextsOf(&TOKEN),
            DefaultValue::Value("[]"),
            "The same, marked as special: whoever writes tokens as text leaves them out, as those \
             that end a turn.",
        )
        .effect(Effect::Weights)
        .example("[\"<|tool|>\"]")
        .names(&[("axolotl", "special_tokens.additional_special_tokens")])
        .silent_default();
        /// Public keys of which one must have signed the base model; empty if nobody need have.
        trusted_keys: Vec<String> = Key::new(
            "model.trusted_keys",
            ValueKind::Texts,
            DefaultValue::Absent("the base model need not be signed"),
            "Files with public keys (PEM), or lists in the form of `trusted-keys.toml` (for \
             certificates and keyless signatures), of which one must have signed the base model in \
             the OpenSSF Model Signing format: every file of it that is used, as it was signed.",
        )
        .effect(Effect::Aside)
        .example("[\"keys/acme.pub.pem\"]");
        /// Where the weights start.
        init: Init = Key::new(
            "model.init",
            ValueKind::Choice(Init::NAMES),
            DefaultValue::Value("\"pretrained\""),
            "Where the weights start: from the base model's own weights, or from random numbers in \
             its shape (then only config.json and the tokenizer are read from the base).",
        )
        .effect(Effect::Weights)
        .example("\"random\"")
        .names(&[("axolotl", "reinit_weights"), ("LLaMA-Factory", "train_from_scratch")]);
    }
}

choices! {
    /// Where the weights start.
    Init {
        /// From the weights of the base model.
        Pretrained = "pretrained",
        /// From random numbers; only `config.json` and the tokenizer are read from the base.
        Random = "random",
    }
}

pub(in crate::config) const SECTION: Section =
    Section::new("model", "The model that is fine-tuned.", KEYS)
        .plain_value("model.base", "the base model itself is `base` in `[model]`");
