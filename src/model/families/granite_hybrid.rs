//! The dense models of Granite 4.0, which have the type of the hybrid ones: attention in every
//! layer, and the MLP that all tokens share beside experts in those that have some, with one linear
//! layer to gate and up. Reference: transformers
//! `models/granitemoehybrid/modeling_granitemoehybrid.py`.

use serde_json::{Value, json};

use super::Family;
use super::dense::{Defaults, Dense};
use super::experts::refuse_router_loss;
use super::{granite, rope};
use crate::error::{Error, Result};
use crate::model::ModelJson;
use crate::model::description::{
    BlockDescription, Description, GatedMlpDescription, JointDescription, LinearDescription, Rope,
};

/// The family, without experts and layers of Mamba.
pub(super) struct GraniteHybrid;

const DEFAULTS: Defaults =
    Defaults { kv_heads: None, head_dim: None, positions_max: 2048, padding: None };
/// Where `config.json` is silent.
const WIDTH: usize = 1024;
const EXPERTS: usize = 8;
const SIZE_MAX: usize = 1 << 20;
/// What there is to train in the place of others.
const DENSE: &str = "the dense models of Granite 4.0 are Micro, 1B and 350M, those without an `h` \
                     in their names";
/// Settings of experts and of layers of Mamba, which mean nothing where there are none, and how
/// weights were drawn.
const OF_OTHERS: [&str; 14] = [
    "init_method",
    "mamba_chunk_size",
    "mamba_conv_bias",
    "mamba_d_conv",
    "mamba_d_head",
    "mamba_d_state",
    "mamba_expand",
    "mamba_n_groups",
    "mamba_n_heads",
    "mamba_proj_bias",
    "num_experts_per_tok",
    "time_step_limit",
    "time_step_max",
    "time_step_min",
];

impl Family for GraniteHybrid {
    fn model_types(&self) -> &'static [&'static str] {
        &["granitemoehybrid"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        refuse_experts(config)?;
        for key in OF_OTHERS {
            config.get(key);
        }
        let norms = config.get("normalization_function");
        if norms.is_some_and(|name| name.as_str() != Some("rmsnorm")) {
            return Err(config.wrong("normalization_function", "must be `rmsnorm`"));
        }
        let config = &renamed(config)?;
        let mut dense = granite::read_multiplied(config, DEFAULTS)?;
        let layers = dense.windows.len();
        refuse_mamba(config, layers)?;
        dense.ropes = vec![rotation(config, &dense)?; layers];
        dense.mixtures = vec![Some(BlockDescription::GatedMlp(shared_mlp(&dense))); layers];
        dense.describe(config)
    }
}

/// With the width of the MLP under the name that it has in other families: here that is the width
/// of experts.
fn renamed(config: &ModelJson) -> Result<ModelJson> {
    let width = config.optional_size("shared_intermediate_size", SIZE_MAX)?.unwrap_or(WIDTH);
    let mut own = config.clone();
    own.json.insert("intermediate_size".to_owned(), json!(width));
    Ok(own)
}

fn refuse_experts(config: &ModelJson) -> Result<()> {
    const KEY: &str = "num_local_experts";
    refuse_router_loss(config)?;
    let because = match config.get(KEY) {
        Some(Value::Number(count)) if count.as_u64() == Some(0) => return Ok(()),
        Some(value) => format!("it is {value}"),
        // No default takes the place of null.
        None if config.json.contains_key(KEY) => "it is null, which is no number".to_owned(),
        None => format!("it is missing, which means {EXPERTS}"),
    };
    let what = "asks for experts, which models of `granitemoehybrid` here do not have";
    Err(config.wrong(KEY, what).because(because).hint(DENSE))
}

/// Layers have the names of transformers 5, or those from before.
fn refuse_mamba(config: &ModelJson, layers: usize) -> Result<()> {
    const KEY: &str = "layer_types";
    let mamba = |because: String| -> Error {
        let what = "asks for layers of Mamba, which are not supported";
        config.wrong(KEY, what).because(because).hint(DENSE)
    };
    let Some(value) = config.get(KEY) else {
        return Err(mamba("it is missing, which makes all layers such ones".to_owned()));
    };
    let kinds = value.as_array().filter(|kinds| kinds.len() == layers).ok_or_else(|| {
        config.wrong(KEY, &format!("must be a list with a kind for each of {layers} layers"))
    })?;
    for (number, kind) in kinds.iter().enumerate() {
        match kind.as_str() {
            Some("full_attention" | "attention") => {}
            Some("linear_attention" | "mamba") => {
                return Err(mamba(format!("layer {number} is {kind}")));
            }
            _ => return Err(config.wrong(KEY, &format!("asks for `{kind}`"))),
        }
    }
    Ok(())
}

/// How positions turn queries and keys, in all layers or in none.
fn rotation(config: &ModelJson, dense: &Dense) -> Result<Option<Rope>> {
    const KEY: &str = "position_embedding_type";
    let turns = match config.get(KEY).map(Value::as_str) {
        Some(Some("rope")) => true,
        None | Some(Some("nope")) => false,
        Some(_) => return Err(config.wrong(KEY, "must be `rope` or `nope`")),
    };
    // Files say how positions turn where they turn nothing, too.
    let rope = rope::read(config, dense.rope_context())?;
    Ok(turns.then_some(rope))
}

fn shared_mlp(dense: &Dense) -> GatedMlpDescription {
    let (hidden, wide) = (dense.hidden, dense.intermediate);
    let gate_up = LinearDescription::new("shared_mlp.input_linear", [2 * wide, hidden], false);
    GatedMlpDescription {
        gate_up: JointDescription::Fused(gate_up, [wide; 2]),
        down: LinearDescription::new("shared_mlp.output_linear", [hidden, wide], false),
        activation: dense.activation,
    }
}
