//! What most families have in common (Touvron et al. 2023): norms about attention and MLP, grouped
//! queries, rotary positions, a gated MLP, and the names of all that. What a family has besides are
//! fields that it sets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::options::{activation, padding, window};
use super::rope::{self, RopeContext};
use crate::error::Result;
use crate::model::description::{
    AttentionDescription, BlockDescription, Description, GatedMlpDescription, JointDescription,
    LayerDescription, LinearDescription, NormDescription, NormGain, QkvDescription,
    ResidualDescription, Rope, head,
};
use crate::model::{CheckpointNames, ModelJson};
use crate::ops::{Activation, AttentionConfig, Heads, LogitConfig};

/// Limits that no real model comes near; a config beyond them is an attack or an accident.
const SIZE_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 1024;
const HEAD_SIZE_MAX: usize = 1 << 14;
const PARAMETERS_MAX: u128 = 1 << 48;

/// What transformers takes where `config.json` is silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    /// Heads of keys and values; as many as queries where this is `None`.
    pub kv_heads: Option<usize>,
    /// Width of a head; the hidden width over the heads where this is `None`.
    pub head_dim: Option<usize>,
    /// Longest position.
    pub positions_max: usize,
    /// The token that fills up rows.
    pub padding: Option<u32>,
}

/// Where the norms of a layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerNorms {
    /// Before attention and MLP.
    Before,
    /// After them, before what they give is added.
    After,
    /// Before and after.
    Both,
}

/// What of queries and keys is normalised at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryKeyNorms {
    /// Nothing.
    None,
    /// Each head.
    Heads,
    /// All heads together.
    Whole,
}

/// The sizes in `config.json`, and options that families set.
pub(super) struct Dense {
    /// Names of modules.
    pub names: CheckpointNames,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Of all layers.
    pub heads: Heads,
    vocabulary: usize,
    positions_max: usize,
    /// Of all norms.
    pub epsilon: f64,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// What is done to the gate of the MLP.
    pub activation: Activation,
    /// What embeddings are multiplied with.
    pub embedding_scale: f32,
    /// The token whose row lookups do not train.
    pub padding: Option<u32>,
    /// Where the norms of layers stand.
    pub layer_norms: LayerNorms,
    /// What norms multiply with.
    pub gain: NormGain,
    /// What scores of attention are multiplied with, if not by one over the root of a head's width.
    pub score_scale: Option<f32>,
    /// Where scores of attention are capped.
    pub soft_cap: Option<f32>,
    /// What is done to scores over the vocabulary.
    pub logits: LogitConfig,
    /// What attention and MLP give is multiplied with this before it is added.
    pub residual_multiplier: f32,
    /// Whether each query head has a score of nothing.
    pub sinks: bool,
    /// Whether queries have a gate of what is mixed beside them.
    pub gated: bool,
    /// What mixes tokens in a layer in the place of attention; attention in those beyond its end.
    pub mixers: Vec<Option<BlockDescription>>,
    /// Whether queries, keys and values have one linear layer, and gate and up another.
    pub fused: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether what was mixed gets one.
    pub output_bias: bool,
    /// Whether the linear layers of the MLP have some.
    pub mlp_bias: bool,
    /// What of queries and keys is normalised at once.
    pub qk_norms: QueryKeyNorms,
    /// The window of each layer, if it has one.
    pub windows: Vec<Option<usize>>,
    /// How positions turn queries and keys in each layer; where this is empty, in all as
    /// `config.json` has it for a whole model.
    pub ropes: Vec<Option<Rope>>,
    /// What stands in a layer in the place of the MLP; MLPs in those beyond its end.
    pub mixtures: Vec<Option<BlockDescription>>,
}

impl Dense {
    /// Reads what all of these families have, with nothing besides.
    pub fn read(config: &ModelJson, defaults: Defaults) -> Result<Self> {
        let hidden = config.size("hidden_size", SIZE_MAX)?;
        let queries = config.size("num_attention_heads", SIZE_MAX)?;
        // Where it is null there are as many as queries, whatever the default is.
        let silent = !config.json.contains_key("num_key_value_heads");
        let default = defaults.kv_heads.filter(|_| silent).unwrap_or(queries);
        let groups = config.optional_size("num_key_value_heads", SIZE_MAX)?.unwrap_or(default);
        if queries % groups != 0 {
            let what = format!("({groups}) must divide `num_attention_heads` ({queries})");
            return Err(config.wrong("num_key_value_heads", &what));
        }
        let width = config.optional_size("head_dim", HEAD_SIZE_MAX)?.or(defaults.head_dim);
        let width = match width {
            Some(size) => size,
            None if hidden % queries == 0 => hidden / queries,
            None => return Err(config.wrong("hidden_size", "is not a multiple of the heads")),
        };
        if width % 2 != 0 {
            return Err(config.wrong("head_dim", "must be even, for the rotary embedding"));
        }
        let positions_max = config.optional_size("max_position_embeddings", 1 << 30)?;
        let positions_max = positions_max.unwrap_or(defaults.positions_max);
        let layers = config.size("num_hidden_layers", LAYERS_MAX)?;
        let vocabulary = config.size("vocab_size", head::VOCABULARY_MAX)?;
        Ok(Self {
            names: CheckpointNames::USUAL,
            hidden,
            intermediate: config.size("intermediate_size", SIZE_MAX)?,
            heads: Heads { queries, kv_heads: groups, width },
            vocabulary,
            positions_max,
            epsilon: config.positive("rms_norm_eps", 1e-6)?,
            tied: config.tied(false)?,
            activation: activation(config, "hidden_act")?.unwrap_or(Activation::Silu),
            embedding_scale: 1.0,
            padding: padding(config, defaults.padding, vocabulary)?,
            layer_norms: LayerNorms::Before,
            gain: NormGain::Weight,
            score_scale: None,
            soft_cap: None,
            logits: LogitConfig::default(),
            residual_multiplier: 1.0,
            sinks: false,
            gated: false,
            mixers: Vec::new(),
            fused: false,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norms: QueryKeyNorms::None,
            windows: vec![None; layers],
            ropes: Vec::new(),
            mixtures: Vec::new(),
        })
    }

    /// What all of these families say of their rotations.
    pub fn rope_context(&self) -> RopeContext {
        RopeContext {
            width: self.heads.width,
            positions_max: self.positions_max,
            theta: 10_000.0,
            partial: false,
            original: None,
            scales_queries: false,
            longrope: &[],
        }
    }

    /// Reads windows of some layers: those that `layer_types` names, or all from
    /// `max_window_layers` on; none unless `use_sliding_window` is set.
    pub fn read_windows(&mut self, config: &ModelJson) -> Result<()> {
        const WINDOW: usize = 4096;
        const FIRST: u64 = 28;
        let used = config.flag("use_sliding_window", false)?;
        let window = window(config, WINDOW)?.filter(|_| used);
        let first = match config.get("max_window_layers") {
            None => FIRST,
            Some(value) => value
                .as_u64()
                .ok_or_else(|| config.wrong("max_window_layers", "must be a number of layers"))?,
        };
        let sliding =
            self.sliding_layers(config, |index| window.is_some() && index as u64 >= first)?;
        self.set_windows(config, &sliding, window)
    }

    /// Which layers `layer_types` gives a window; the default where it is not there.
    pub fn sliding_layers(
        &self,
        config: &ModelJson,
        default: impl Fn(usize) -> bool,
    ) -> Result<Vec<bool>> {
        let layers = self.windows.len();
        match config.get("layer_types") {
            None => Ok((0..layers).map(default).collect()),
            Some(Value::Array(kinds)) if kinds.len() == layers => {
                let sliding = |kind: &Value| match kind.as_str() {
                    Some("full_attention") => Ok(false),
                    Some("sliding_attention") => Ok(true),
                    _ => Err(config.wrong("layer_types", &format!("asks for `{kind}`"))),
                };
                kinds.iter().map(sliding).collect()
            }
            Some(_) => {
                let what = format!("must be a list with a kind for each of {layers} layers");
                Err(config.wrong("layer_types", &what))
            }
        }
    }

    /// Gives the layers of a list a window.
    pub fn set_windows(
        &mut self,
        config: &ModelJson,
        sliding: &[bool],
        window: Option<usize>,
    ) -> Result<()> {
        if window.is_none() && sliding.contains(&true) {
            return Err(config.wrong("layer_types", "asks for a window, and there is none"));
        }
        self.windows = sliding.iter().map(|sliding| window.filter(|_| *sliding)).collect();
        Ok(())
    }

    /// The description.
    pub fn describe(mut self, config: &ModelJson) -> Result<Description> {
        if self.ropes.is_empty() {
            let rope = rope::read(config, self.rope_context())?;
            self.ropes = vec![Some(rope); self.windows.len()];
        }
        let options = self.windows.iter().zip(&self.ropes);
        let layers = options.enumerate().map(|(index, (window, rope))| LayerDescription {
            path: format!("{}.{index}", self.names.layers),
            residuals: self.residuals(index, self.mixer(index, *window, rope.clone())),
            scalar: None,
        });
        let description = Description {
            model_type: config.model_type()?.to_owned(),
            vocabulary: self.vocabulary,
            hidden: self.hidden,
            positions_max: self.positions_max,
            embedding_scale: self.embedding_scale,
            padding: self.padding,
            layers: layers.collect(),
            layer_inputs: None,
            norm: self.norm(self.names.norm, self.hidden),
            tied: self.tied,
            logits: self.logits,
            labels: None,
            element: config.element(),
            names: self.names,
            parameters: 0,
            linears: Vec::new(),
            coded_linears: BTreeMap::new(),
            in_blocks: BTreeMap::new(),
            target_parameters: Vec::new(),
        };
        counted(description, config)
    }

    /// A norm of this name.
    pub fn norm(&self, name: &'static str, width: usize) -> NormDescription {
        NormDescription { name, width, epsilon: self.epsilon, gain: self.gain }
    }

    fn mixer(&self, index: usize, window: Option<usize>, rope: Option<Rope>) -> BlockDescription {
        let attention = || BlockDescription::Attention(self.attention(window, rope));
        self.mixers.get(index).cloned().flatten().unwrap_or_else(attention)
    }

    fn residuals(&self, index: usize, mixer: BlockDescription) -> Vec<ResidualDescription> {
        let norm = |name| Some(self.norm(name, self.hidden));
        let ([before, after], [before_mlp, after_mlp]) = match self.layer_norms {
            LayerNorms::Before => {
                ([norm("input_layernorm"), None], [norm("post_attention_layernorm"), None])
            }
            LayerNorms::After => (
                [None, norm("post_attention_layernorm")],
                [None, norm("post_feedforward_layernorm")],
            ),
            LayerNorms::Both => (
                [norm("input_layernorm"), norm("post_attention_layernorm")],
                [norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm")],
            ),
        };
        let multiplier = self.residual_multiplier;
        let residual =
            |before, block, after| ResidualDescription { before, block, after, multiplier };
        let mlp = || BlockDescription::GatedMlp(self.mlp());
        let mlp = self.mixtures.get(index).cloned().flatten().unwrap_or_else(mlp);
        vec![residual(before, mixer, after), residual(before_mlp, mlp, after_mlp)]
    }

    fn attention(&self, window: Option<usize>, rope: Option<Rope>) -> AttentionDescription {
        let usual = AttentionConfig::of(self.heads);
        let scale = self.score_scale.unwrap_or(usual.scale);
        let config = AttentionConfig { window, scale, soft_cap: self.soft_cap, ..usual };
        let (query, key, hidden) = (config.query_width(), config.key_width(), self.hidden);
        let to = |name, out| LinearDescription::new(name, [out, hidden], self.qkv_bias);
        let norms =
            |q, k| Some([self.norm("self_attn.q_norm", q), self.norm("self_attn.k_norm", k)]);
        let qkv = match self.fused {
            true => {
                let all = to("self_attn.qkv_proj", query + 2 * key);
                JointDescription::Fused(all, [query, key, key])
            }
            false => JointDescription::Separate([
                to("self_attn.q_proj", if self.gated { 2 * query } else { query }),
                to("self_attn.k_proj", key),
                to("self_attn.v_proj", key),
            ]),
        };
        AttentionDescription {
            qkv: QkvDescription::Joint(qkv),
            output: LinearDescription::new("self_attn.o_proj", [hidden, query], self.output_bias),
            qk_norms: match self.qk_norms {
                QueryKeyNorms::None => None,
                QueryKeyNorms::Heads => norms(self.heads.width, self.heads.width),
                QueryKeyNorms::Whole => norms(query, key),
            },
            value_norm: None,
            shares: None,
            sinks: self.sinks.then_some("self_attn.sinks"),
            gated: self.gated,
            config,
            rope,
        }
    }

    fn mlp(&self) -> GatedMlpDescription {
        let (hidden, wide, bias) = (self.hidden, self.intermediate, self.mlp_bias);
        let to = |name, out| LinearDescription::new(name, [out, hidden], bias);
        GatedMlpDescription {
            gate_up: match self.fused {
                true => JointDescription::Fused(to("mlp.gate_up_proj", 2 * wide), [wide; 2]),
                false => JointDescription::Separate(
                    ["mlp.gate_proj", "mlp.up_proj"].map(|name| to(name, wide)),
                ),
            },
            down: LinearDescription::new("mlp.down_proj", [hidden, wide], bias),
            activation: self.activation,
        }
    }
}

/// A description with its weights counted.
///
/// # Errors
/// When there are more than in any real model.
pub(super) fn counted(description: Description, config: &ModelJson) -> Result<Description> {
    description.counted(PARAMETERS_MAX).map_err(|count| {
        config
            .wrong("hidden_size", "and the other sizes multiply to too much")
            .because(format!("the model would have {count} weights"))
    })
}

#[cfg(test)]
#[path = "dense_tests.rs"]
mod tests;
