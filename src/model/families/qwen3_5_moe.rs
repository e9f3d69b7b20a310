//! Qwen3.5 and its successors with mixtures of experts: mixers of tokens are those of the dense
//! models, and beside the experts of a token there is one that all tokens share, behind a gate of
//! its own. Reference: transformers `models/qwen3_5_moe/modeling_qwen3_5_moe.py`.

use serde_json::{Map, Value, json};

use super::Family;
use super::dense::Dense;
use super::experts::{Counts, refuse_router_loss};
use super::qwen3_5::Kind;
use crate::error::Result;
use crate::model::description::{
    BlockDescription, ExpertStorage, ExpertsDescription, GatedMlpDescription, JointDescription,
    LinearDescription, RouterDescription, RouterWeights, TermDescription,
};
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Qwen35Moe;

const KIND: Kind = Kind {
    text: "qwen3_5_moe_text",
    nested: "qwen3_5_moe",
    defaults,
    mixture: |config, dense| mixture(config, dense).map(Some),
};
/// Where `config.json` is silent.
const EXPERTS: usize = 256;
const TOP_K: usize = 8;
const WIDTH: usize = 512;
const KEY_VALUE_HEADS: usize = 2;
const SIZE_MAX: usize = 1 << 20;

impl Family for Qwen35Moe {
    fn model_types(&self) -> &'static [&'static str] {
        &[KIND.text, KIND.nested]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut config = config.clone();
        match config.json.get_mut("text_config") {
            Some(Value::Object(text)) => settle(text),
            _ => settle(&mut config.json),
        }
        KIND.describe(&config)
    }
}

fn settle(text: &mut Map<String, Value>) {
    // No layer has an MLP by itself, whatever is said of its width.
    text.insert("intermediate_size".to_owned(), json!(WIDTH));
    text.entry("num_key_value_heads").or_insert(json!(KEY_VALUE_HEADS));
}

fn defaults() -> Value {
    json!({
        "model_type": KIND.text, "vocab_size": 248_320, "hidden_size": 2048,
        "num_hidden_layers": 40, "num_attention_heads": 16,
    })
}

fn mixture(config: &ModelJson, dense: &Dense) -> Result<BlockDescription> {
    refuse_router_loss(config)?;
    if !config.flag("norm_topk_prob", true)? {
        return Err(config.wrong("norm_topk_prob", "must be true"));
    }
    let hidden = dense.hidden;
    let Counts { all, top_k } = Counts::read(config, EXPERTS, TOP_K)?;
    let width = |key| Ok(config.optional_size(key, SIZE_MAX)?.unwrap_or(WIDTH));
    let scores = LinearDescription::new("mlp.gate", [all, hidden], false);
    let experts = BlockDescription::Experts(ExpertsDescription {
        router: RouterDescription::new(scores, RouterWeights::OfChosen),
        top_k,
        before: None,
        module: "mlp.experts",
        count: all,
        hidden,
        width: width("moe_intermediate_size")?,
        bias: false,
        activation: dense.activation,
        storage: ExpertStorage::Stacked,
        served_as: "mlp.experts",
        takes_mlp_names: false,
    });
    let shared = shared_expert(dense, width("shared_expert_intermediate_size")?);
    let gate = LinearDescription::new("mlp.shared_expert_gate", [1, hidden], false);
    let shared = TermDescription { gate: Some(gate), ..TermDescription::plain(shared) };
    Ok(BlockDescription::Sum(vec![TermDescription::plain(experts), shared]))
}

fn shared_expert(dense: &Dense, width: usize) -> BlockDescription {
    let to = |name| LinearDescription::new(name, [width, dense.hidden], false);
    let gate_up = ["mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"].map(to);
    BlockDescription::GatedMlp(GatedMlpDescription {
        gate_up: JointDescription::Separate(gate_up),
        down: LinearDescription::new("mlp.shared_expert.down_proj", [dense.hidden, width], false),
        activation: dense.activation,
    })
}
