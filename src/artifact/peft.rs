//! PEFT's adapter format: the files of an adapter, and what every `adapter_config.json` has.

use std::collections::BTreeSet;

use serde_json::json;

use crate::adapters::Adapter;
use crate::model::CheckpointNames;

/// The PEFT release whose settings these fields are.
pub const PEFT_VERSION: &str = "0.21.2";
/// The configuration's file name.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The file name of the adapter's weights.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// What PEFT calls the task of a model that scores labels.
pub const CLASSIFIES: &str = "SEQ_CLS";
/// The modules that it saves whole with every adapter of one.
pub const CLASSIFIER_MODULES: [&str; 2] = ["classifier", "score"];

/// What an adapter's configuration is made of.
#[derive(Debug, Clone)]
pub struct AdapterConfig<'a> {
    /// Where the base model is: a directory or an id on the hub.
    pub base_model: &'a str,
    /// The base model's commit, if it came from the hub.
    pub revision: Option<&'a str>,
    /// Kind and settings.
    pub adapter: &'a dyn Adapter,
    /// The last parts of the names of the layers that have it.
    pub modules: &'a BTreeSet<String>,
    /// Names of the base model's modules.
    pub names: CheckpointNames,
    /// Whether it has a head that scores labels, which PEFT saves whole.
    pub scores: bool,
    /// Whether the output head of its base is the embedding.
    pub tied: bool,
}

impl AdapterConfig<'_> {
    /// The text of `adapter_config.json`, as PEFT itself writes it.
    pub fn to_json(&self) -> String {
        let mut value = json!({
            "task_type": "CAUSAL_LM",
            "peft_version": PEFT_VERSION,
            "base_model_name_or_path": self.base_model,
            "revision": self.revision,
            "inference_mode": true,
            "auto_mapping": null,
        });
        for (key, setting) in self.adapter.to_peft(self.modules) {
            value[key] = setting;
        }
        if self.scores {
            value["task_type"] = CLASSIFIES.into();
            let own = self.adapter.modules_to_save().iter().map(String::as_str);
            let all: Vec<&str> = CLASSIFIER_MODULES.into_iter().chain(own).collect();
            value["modules_to_save"] = all.into();
        }
        if self.tied && !self.scores && !self.adapter.modules_to_save().is_empty() {
            value["ensure_weight_tying"] = true.into();
        }
        if let Some(others) = self.names.exclude_modules() {
            // Their layers have the same names, and no adapter.
            value["exclude_modules"] = others.into();
        }
        value.sort_all_objects();
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::{Lora, LoraSettings};

    fn json(lora_alpha: f64) -> String {
        let settings = LoraSettings::new(16, lora_alpha);
        AdapterConfig {
            base_model: "checkpoints/base-tiny",
            revision: None,
            adapter: &Lora { settings },
            modules: &["v_proj", "q_proj"].map(String::from).into(),
            names: CheckpointNames::USUAL,
            scores: false,
            tied: false,
        }
        .to_json()
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
        assert_eq!(json(32.0), expected);
    }

    #[test]
    fn alpha_is_an_integer_only_where_it_is_one() {
        let text = json(22.5);
        assert!(text.contains("\"lora_alpha\": 22.5,"), "{text}");
    }
}
