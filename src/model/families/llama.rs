//! Llama: pre-norm decoder, grouped queries, half-rotation RoPE, SwiGLU.
//! Reference: transformers `models/llama/modeling_llama.py`.

use burn::tensor::{Tensor, activation::silu};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::model::families::Family;
use crate::model::{
    Context, EMBEDDING, Facts, LM_HEAD, Layer, Linear, Model, ModelJson, RmsNorm, Visitor,
    WeightSource,
};
use crate::ops::cpu::{Decoder, Gain, Held};
use crate::ops::{Frequencies, Heads, RopeScaling, rotate};

/// Limits that no real model comes near; a config beyond them is an attack or an accident.
const SIZE_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 1024;

/// The family.
pub(super) struct Llama;

/// The sizes in `config.json`.
struct Shape {
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    groups: usize,
    head_dim: usize,
    vocabulary: usize,
    positions_max: usize,
    norm_epsilon: f64,
    tied: bool,
    attention_bias: bool,
    mlp_bias: bool,
    theta: f64,
    scaling: RopeScaling,
}

impl Shape {
    fn read(config: &ModelJson) -> Result<Self> {
        let hidden = config.size("hidden_size", SIZE_MAX)?;
        let heads = config.size("num_attention_heads", SIZE_MAX)?;
        let groups = config.optional_size("num_key_value_heads", SIZE_MAX)?.unwrap_or(heads);
        if heads % groups != 0 {
            let what = format!("({groups}) must divide `num_attention_heads` ({heads})");
            return Err(config.wrong("num_key_value_heads", &what));
        }
        let head_dim = match config.optional_size("head_dim", SIZE_MAX)? {
            Some(size) => size,
            None if hidden % heads == 0 => hidden / heads,
            None => return Err(config.wrong("hidden_size", "is not a multiple of the heads")),
        };
        if head_dim % 2 != 0 {
            return Err(config.wrong("head_dim", "must be even, for the rotary embedding"));
        }
        if let Some(activation) = config.json.get("hidden_act").and_then(Value::as_str)
            && activation != "silu"
        {
            return Err(config.wrong("hidden_act", &format!("is `{activation}`, not `silu`")));
        }
        let positions_max =
            config.optional_size("max_position_embeddings", 1 << 30)?.unwrap_or(2048);
        let (theta, scaling) = rope(config, positions_max)?;
        Ok(Self {
            hidden,
            intermediate: config.size("intermediate_size", SIZE_MAX)?,
            layers: config.size("num_hidden_layers", LAYERS_MAX)?,
            heads,
            groups,
            head_dim,
            vocabulary: config.size("vocab_size", 1 << 24)?,
            positions_max,
            norm_epsilon: config.positive("rms_norm_eps", 1e-6)?,
            tied: config.flag("tie_word_embeddings", false)?,
            attention_bias: config.flag("attention_bias", false)?,
            mlp_bias: config.flag("mlp_bias", false)?,
            theta,
            scaling,
        })
    }

    /// Names and `[out, in]` of the linear layers of one decoder layer.
    fn layer_linears(&self) -> [(&'static str, [usize; 2]); 7] {
        let (query, key) = (self.heads * self.head_dim, self.groups * self.head_dim);
        [
            ("self_attn.q_proj", [query, self.hidden]),
            ("self_attn.k_proj", [key, self.hidden]),
            ("self_attn.v_proj", [key, self.hidden]),
            ("self_attn.o_proj", [self.hidden, query]),
            ("mlp.gate_proj", [self.intermediate, self.hidden]),
            ("mlp.up_proj", [self.intermediate, self.hidden]),
            ("mlp.down_proj", [self.hidden, self.intermediate]),
        ]
    }

    fn linears(&self) -> Vec<(String, [usize; 2])> {
        let path = |index, name| format!("model.layers.{index}.{name}");
        let one = |index| self.layer_linears().map(|(name, dims)| (path(index, name), dims));
        (0..self.layers).flat_map(one).collect()
    }

    fn parameters(&self) -> u64 {
        let (query, key) = (self.heads * self.head_dim, self.groups * self.head_dim);
        let mut layer = self.hidden * (2 * query + 2 * key + 3 * self.intermediate + 2);
        if self.attention_bias {
            layer += query + 2 * key + self.hidden;
        }
        if self.mlp_bias {
            layer += 2 * self.intermediate + self.hidden;
        }
        let tables = if self.tied { 1 } else { 2 };
        (self.layers * layer + tables * self.vocabulary * self.hidden + self.hidden) as u64
    }
}

/// `rope_theta` and scaling, from `rope_parameters` (transformers 5) or from `rope_theta` and
/// `rope_scaling` (before).
fn rope(config: &ModelJson, positions_max: usize) -> Result<(f64, RopeScaling)> {
    let empty = Map::new();
    let (theta, map, place) = match config.json.get("rope_parameters") {
        Some(Value::Object(map)) => {
            let fallback = config.positive("rope_theta", 10_000.0)?;
            (ModelJson::positive_in(map, "rope_theta", Some(fallback))?, map, "rope_parameters")
        }
        _ => {
            let map = config.json.get("rope_scaling").and_then(Value::as_object);
            (config.positive("rope_theta", 10_000.0)?, map.unwrap_or(&empty), "rope_scaling")
        }
    };
    let kind = map.get("rope_type").or_else(|| map.get("type")).and_then(Value::as_str);
    let number = |key: &str, default: Option<f64>| {
        #[expect(clippy::cast_possible_truncation)] // the reference computes in f32 as well
        ModelJson::positive_in(map, key, default)
            .map(|value| value as f32)
            .map_err(|error| config.wrong(place, "is incomplete").because(error.what))
    };
    let scaling = match kind {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: number("factor", None)? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: number("factor", None)?,
            low_frequency_factor: number("low_freq_factor", None)?,
            high_frequency_factor: number("high_freq_factor", None)?,
            original: number("original_max_position_embeddings", Some(positions_max as f64))?,
        },
        Some(other) => {
            return Err(config
                .wrong(place, &format!("asks for the rope type `{other}`"))
                .hint("supported: `default`, `linear`, `llama3`"));
        }
    };
    Ok((theta, scaling))
}

impl Family for Llama {
    fn model_types(&self) -> &'static [&'static str] {
        &["llama"]
    }

    fn facts(&self, config: &ModelJson) -> Result<Facts> {
        let shape = Shape::read(config)?;
        Ok(Facts {
            model_type: "llama".to_owned(),
            vocabulary: shape.vocabulary,
            hidden: shape.hidden,
            layers: shape.layers,
            heads: shape.heads,
            groups: shape.groups,
            head_width: shape.head_dim,
            intermediate: shape.intermediate,
            positions_max: shape.positions_max,
            norm_epsilon: shape.norm_epsilon,
            theta: shape.theta,
            scaling: shape.scaling,
            tied: shape.tied,
            parameters: shape.parameters(),
            linears: shape.linears(),
            element: config.element(),
        })
    }

    fn build(&self, config: &ModelJson, weights: &mut WeightSource) -> Result<Model> {
        let shape = Shape::read(config)?;
        let table = [shape.vocabulary, shape.hidden];
        let embedding = weights.table(EMBEDDING, table)?;
        let layers = (0..shape.layers)
            .map(|index| {
                let layer = LlamaLayer::read(&format!("model.layers.{index}"), &shape, weights)?;
                Ok(Box::new(layer) as Box<dyn Layer>)
            })
            .collect::<Result<_>>()?;
        let norm = RmsNorm {
            gain: weights.gain("model.norm.weight", shape.hidden)?,
            epsilon: shape.norm_epsilon,
        };
        let lm_head = if shape.tied {
            weights.ignore(LM_HEAD); // some exporters write the tied copy
            None
        } else {
            Some(weights.table(LM_HEAD, table)?)
        };
        #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
        let theta = shape.theta as f32;
        Ok(Model {
            embedding,
            layers,
            norm,
            lm_head,
            facts: self.facts(config)?,
            frequencies: Frequencies::new(theta, shape.head_dim, shape.scaling),
            device: weights.device().clone(),
            computing: weights.computing(),
        })
    }
}

struct LlamaLayer {
    input_layernorm: RmsNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    post_attention_layernorm: RmsNorm,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    heads: Heads,
}

impl LlamaLayer {
    fn read(path: &str, shape: &Shape, weights: &mut WeightSource) -> Result<Self> {
        let mut linears = Vec::new();
        for (name, dims) in shape.layer_linears() {
            let bias = if name.starts_with("mlp") { shape.mlp_bias } else { shape.attention_bias };
            linears.push(weights.linear(&format!("{path}.{name}"), dims, bias)?);
        }
        let Ok([q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]) =
            <[Linear; 7]>::try_from(linears)
        else {
            unreachable!("seven names give seven layers");
        };
        let mut norm = |name: &str| -> Result<RmsNorm> {
            let gain = weights.gain(&format!("{path}.{name}.weight"), shape.hidden)?;
            Ok(RmsNorm { gain, epsilon: shape.norm_epsilon })
        };
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            gate_proj,
            up_proj,
            down_proj,
            heads: Heads { queries: shape.heads, groups: shape.groups, width: shape.head_dim },
        })
    }

    fn mlp(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        let gate = silu(self.gate_proj.forward(x.clone(), context));
        self.down_proj.forward(gate * self.up_proj.forward(x, context), context)
    }

    fn each_linear(&mut self) -> [(&'static str, &mut Linear); 7] {
        [
            ("self_attn.q_proj", &mut self.q_proj),
            ("self_attn.k_proj", &mut self.k_proj),
            ("self_attn.v_proj", &mut self.v_proj),
            ("self_attn.o_proj", &mut self.o_proj),
            ("mlp.gate_proj", &mut self.gate_proj),
            ("mlp.up_proj", &mut self.up_proj),
            ("mlp.down_proj", &mut self.down_proj),
        ]
    }
}

impl Layer for LlamaLayer {
    fn project(&self, x: Tensor<2>, context: &Context) -> [Tensor<2>; 3] {
        let tokens = x.dims()[0];
        let (cosines, sines) = &context.rotary;
        let turn = |x: Tensor<2>, heads: usize| {
            let x = x.reshape([tokens, heads, self.heads.width]);
            rotate(x, cosines, sines).reshape([tokens, heads * self.heads.width])
        };
        let x = self.input_layernorm.forward(x);
        let q = turn(self.q_proj.forward(x.clone(), context), self.heads.queries);
        let k = turn(self.k_proj.forward(x.clone(), context), self.heads.groups);
        [q, k, self.v_proj.forward(x, context)]
    }

    fn finish(&self, x: Tensor<2>, mixed: Tensor<2>, context: &Context) -> Tensor<2> {
        let x = x + self.o_proj.forward(mixed, context);
        x.clone() + self.mlp(self.post_attention_layernorm.forward(x), context)
    }

    fn heads(&self) -> Heads {
        self.heads
    }

    fn decoder(&self, context: &Context) -> Option<Decoder> {
        let gain = |path, norm: &RmsNorm| {
            let value = Held::of(&norm.gain.value)?;
            #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
            let epsilon = norm.epsilon as f32;
            Some(Gain { path, value, epsilon, learns: norm.gain.learns })
        };
        Some(Decoder {
            attention_norm: gain("input_layernorm", &self.input_layernorm)?,
            qkv: [
                self.q_proj.projection("self_attn.q_proj", context)?,
                self.k_proj.projection("self_attn.k_proj", context)?,
                self.v_proj.projection("self_attn.v_proj", context)?,
            ],
            output: self.o_proj.projection("self_attn.o_proj", context)?,
            mlp_norm: gain("post_attention_layernorm", &self.post_attention_layernorm)?,
            gate_up: [
                self.gate_proj.projection("mlp.gate_proj", context)?,
                self.up_proj.projection("mlp.up_proj", context)?,
            ],
            down: self.down_proj.projection("mlp.down_proj", context)?,
            heads: self.heads,
        })
    }

    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor) {
        for (name, linear) in self.each_linear() {
            linear.visit(&format!("{path}.{name}"), visitor);
        }
        visitor.vector(&format!("{path}.input_layernorm.weight"), &mut self.input_layernorm.gain);
        visitor.vector(
            &format!("{path}.post_attention_layernorm.weight"),
            &mut self.post_attention_layernorm.gain,
        );
    }

    fn linears(&mut self, path: &str, change: &mut dyn FnMut(&str, &mut Linear)) {
        for (name, linear) in self.each_linear() {
            change(&format!("{path}.{name}"), linear);
        }
    }

    fn tracked(&self) -> Box<dyn Layer> {
        Box::new(Self {
            input_layernorm: self.input_layernorm.tracked(),
            q_proj: self.q_proj.tracked(),
            k_proj: self.k_proj.tracked(),
            v_proj: self.v_proj.tracked(),
            o_proj: self.o_proj.tracked(),
            post_attention_layernorm: self.post_attention_layernorm.tracked(),
            gate_proj: self.gate_proj.tracked(),
            up_proj: self.up_proj.tracked(),
            down_proj: self.down_proj.tracked(),
            heads: self.heads,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Value {
        json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
               "num_key_value_heads": 2, "intermediate_size": 128, "num_hidden_layers": 2,
               "vocab_size": 100})
    }

    fn shape(change: Value) -> Result<Shape> {
        let mut json = config();
        for (key, value) in change.as_object().unwrap() {
            json[key] = value.clone();
        }
        Shape::read(&ModelJson::from_value(json))
    }

    #[test]
    fn both_forms_of_rope_settings_mean_the_same() {
        let scaling = json!({"rope_type": "linear", "factor": 4.0});
        let old = shape(json!({"rope_theta": 5e5, "rope_scaling": scaling})).unwrap();
        let parameters = json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5});
        let new = shape(json!({"rope_parameters": parameters})).unwrap();
        assert_eq!((old.theta, old.scaling), (new.theta, new.scaling));
        assert_eq!(new.scaling, RopeScaling::Linear { factor: 4.0 });
    }

    #[test]
    fn impossible_configs_are_named() {
        for (change, key) in [
            (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
            (json!({"head_dim": 7}), "head_dim"),
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"vocab_size": 0}), "vocab_size"),
            (json!({"hidden_size": 1u64 << 40}), "hidden_size"),
            (json!({"rope_scaling": {"rope_type": "yarn"}}), "rope_scaling"),
            (json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling"),
            (json!({"rms_norm_eps": -1.0}), "rms_norm_eps"),
        ] {
            let error = shape(change.clone()).err().expect("must be refused").to_string();
            assert!(error.contains(key), "{change} gave {error}");
        }
    }
}
