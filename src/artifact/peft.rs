//! PEFT's adapter format: `adapter_config.json` and the names of the tensors.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The PEFT release whose `LoraConfig` these fields are.
pub const PEFT_VERSION: &str = "0.21.2";
/// The configuration's file name.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The file name of the adapter's weights.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// What distinguishes one LoRA adapter's configuration from another's.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Where the base model is: a directory or an id on the hub.
    pub base_model: String,
    /// The base model's commit, if it came from the hub.
    pub revision: Option<String>,
    /// Rank.
    pub r: usize,
    /// Scale: the side path is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Share of inputs dropped in training.
    pub lora_dropout: f64,
    /// The last parts of the names of the layers that learn.
    pub target_modules: BTreeSet<String>,
    /// Scale by `lora_alpha / sqrt(r)` instead.
    pub use_rslora: bool,
}

impl AdapterConfig {
    /// The text of `adapter_config.json`, as PEFT itself writes it.
    pub fn to_json(&self) -> String {
        let mut value = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "peft_version": PEFT_VERSION,
            "base_model_name_or_path": self.base_model,
            "revision": self.revision,
            "inference_mode": true,
            "r": self.r,
            "lora_alpha": number(self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "target_modules": self.target_modules,
            "use_rslora": self.use_rslora,
            "exclude_modules": null,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_dora": false,
            "lora_bias": false,
            "init_lora_weights": true,
            "modules_to_save": null,
            "layers_to_transform": null,
            "layers_pattern": null,
            "rank_pattern": {},
            "alpha_pattern": {},
            "layer_replication": null,
            "trainable_token_indices": null,
            "target_parameters": null,
            "auto_mapping": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "loftq_config": {},
            "eva_config": null,
            "corda_config": null,
        });
        value.sort_all_objects();
        format!("{value:#}\n")
    }
}

/// PEFT declares `lora_alpha` as an integer; other readers insist on it where it is one.
fn number(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation)] // below 2^53 a whole number converts exactly
    if value.fract() == 0.0 && value.abs() < 9.0e15 { json!(value as i64) } else { json!(value) }
}

/// The name of a LoRA matrix (`lora_A` or `lora_B`) of the layer at `module_path`.
pub fn peft_key(module_path: &str, matrix: &str) -> String {
    format!("base_model.model.{module_path}.{matrix}.weight")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AdapterConfig {
        AdapterConfig {
            base_model: "checkpoints/base-tiny".into(),
            revision: None,
            r: 16,
            lora_alpha: 32.0,
            lora_dropout: 0.0,
            target_modules: ["v_proj", "q_proj"].map(String::from).into(),
            use_rslora: false,
        }
    }

    #[test]
    fn the_configuration_is_what_peft_writes() {
        let expected = r#"{
  "alpha_pattern": {},
  "auto_mapping": null,
  "base_model_name_or_path": "checkpoints/base-tiny",
  "bias": "none",
  "corda_config": null,
  "eva_config": null,
  "exclude_modules": null,
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "layer_replication": null,
  "layers_pattern": null,
  "layers_to_transform": null,
  "loftq_config": {},
  "lora_alpha": 32,
  "lora_bias": false,
  "lora_dropout": 0.0,
  "megatron_config": null,
  "megatron_core": "megatron.core",
  "modules_to_save": null,
  "peft_type": "LORA",
  "peft_version": "0.21.2",
  "r": 16,
  "rank_pattern": {},
  "revision": null,
  "target_modules": [
    "q_proj",
    "v_proj"
  ],
  "target_parameters": null,
  "task_type": "CAUSAL_LM",
  "trainable_token_indices": null,
  "use_dora": false,
  "use_rslora": false
}
"#;
        assert_eq!(config().to_json(), expected);
    }

    #[test]
    fn alpha_is_an_integer_only_where_it_is_one() {
        let text = AdapterConfig { lora_alpha: 22.5, ..config() }.to_json();
        assert!(text.contains("\"lora_alpha\": 22.5,"), "{text}");
    }

    #[test]
    fn tensor_names_are_pefts() {
        assert_eq!(
            peft_key("model.layers.0.self_attn.q_proj", "lora_A"),
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
        );
    }
}
