//! Llama: pre-norm decoder, grouped queries, half-rotation RoPE, SwiGLU.
//! Reference: transformers `models/llama/modeling_llama.py`.

use burn::tensor::{Tensor, activation::silu};
use serde_json::Value;

use crate::error::Result;
use crate::model::families::{Family, rope};
use crate::model::{
    Context, EMBEDDING, Facts, LM_HEAD, Layer, Linear, Model, ModelJson, RmsNorm, Visitor,
    WeightSource,
};
use crate::ops::cpu::{Decoder, Gain, Held};
use crate::ops::{Frequencies, Heads, RopeScaling, rotate};

/// Limits that no real model comes near; a config beyond them is an attack or an accident.
const SIZE_MAX: usize = 1 << 20;
const LAYERS_MAX: usize = 1024;
const HEAD_SIZE_MAX: usize = 1 << 14;
const PARAMETERS_MAX: u128 = 1 << 48;

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
        let head_dim = match config.optional_size("head_dim", HEAD_SIZE_MAX)? {
            Some(size) => size,
            None if hidden % heads == 0 => hidden / heads,
            None => return Err(config.wrong("hidden_size", "is not a multiple of the heads")),
        };
        if head_dim % 2 != 0 {
            return Err(config.wrong("head_dim", "must be even, for the rotary embedding"));
        }
        match config.json.get("hidden_act") {
            None | Some(Value::Null) => {}
            Some(Value::String(activation)) if activation == "silu" => {}
            Some(other) => return Err(config.wrong("hidden_act", &format!("is {other}, not silu"))),
        }
        let positions_max =
            config.optional_size("max_position_embeddings", 1 << 30)?.unwrap_or(2048);
        let (theta, scaling) = rope::read(config, positions_max)?;
        let shape = Self {
            hidden,
            intermediate: config.size("intermediate_size", SIZE_MAX)?,
            layers: config.size("num_hidden_layers", LAYERS_MAX)?,
            heads,
            groups,
            head_dim,
            vocabulary: config.size("vocab_size", 1 << 24)?,
            positions_max,
            norm_epsilon: config.positive("rms_norm_eps", 1e-6)?,
            tied: config.tied()?,
            attention_bias: config.flag("attention_bias", false)?,
            mlp_bias: config.flag("mlp_bias", false)?,
            theta,
            scaling,
        };
        match shape.parameters() {
            0..=PARAMETERS_MAX => Ok(shape),
            count => Err(config
                .wrong("hidden_size", "and the other sizes multiply to too much")
                .because(format!("the model would have {count} weights"))),
        }
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

    /// How many weights there are; each size is bounded, and so is their product here.
    fn parameters(&self) -> u128 {
        let wide = |size: usize| size as u128;
        let (query, key) = (wide(self.heads * self.head_dim), wide(self.groups * self.head_dim));
        let (hidden, intermediate) = (wide(self.hidden), wide(self.intermediate));
        let mut layer = hidden * (2 * query + 2 * key + 3 * intermediate + 2);
        if self.attention_bias {
            layer += query + 2 * key + hidden;
        }
        if self.mlp_bias {
            layer += 2 * intermediate + hidden;
        }
        let tables = if self.tied { 1 } else { 2 };
        wide(self.layers) * layer + tables * wide(self.vocabulary) * hidden + hidden
    }

    /// Every tensor that the weights hold, with its dimensions.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let table = vec![self.vocabulary, self.hidden];
        let mut tensors = vec![
            (EMBEDDING.to_owned(), table.clone()),
            ("model.norm.weight".to_owned(), vec![self.hidden]),
        ];
        if !self.tied {
            tensors.push((LM_HEAD.to_owned(), table));
        }
        for layer in 0..self.layers {
            let path = format!("model.layers.{layer}");
            for (name, dims) in self.layer_linears() {
                tensors.push((format!("{path}.{name}.weight"), dims.to_vec()));
                if self.has_bias(name) {
                    tensors.push((format!("{path}.{name}.bias"), vec![dims[0]]));
                }
            }
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("{path}.{norm}.weight"), vec![self.hidden]));
            }
        }
        tensors
    }

    fn has_bias(&self, name: &str) -> bool {
        if name.starts_with("mlp") { self.mlp_bias } else { self.attention_bias }
    }
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
            parameters: u64::try_from(shape.parameters()).expect("bounded when it was read"),
            linears: shape.linears(),
            element: config.element(),
        })
    }

    fn tensors(&self, config: &ModelJson) -> Result<Vec<(String, Vec<usize>)>> {
        Shape::read(config).map(|shape| shape.tensors())
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
            weights.ignore(LM_HEAD); // a copy: one that differs unties the model before this
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
            linears.push(weights.linear(&format!("{path}.{name}"), dims, shape.has_bias(name))?);
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
    fn tensors_are_those_that_are_counted_and_built() {
        for change in [
            json!({}),
            json!({"tie_word_embeddings": true}),
            json!({"attention_bias": true, "mlp_bias": true, "head_dim": 20}),
        ] {
            let shape = shape(change).unwrap();
            let count: usize =
                shape.tensors().iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
            assert_eq!(count as u128, shape.parameters());
        }
    }

    #[test]
    fn impossible_configs_are_named() {
        for (change, key) in [
            (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
            (json!({"head_dim": 7}), "head_dim"),
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"hidden_act": 3}), "hidden_act"),
            (json!({"vocab_size": 0}), "vocab_size"),
            (json!({"hidden_size": 1u64 << 40}), "hidden_size"),
            (json!({"rope_scaling": {"rope_type": "yarn"}}), "rope_scaling"),
            (json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling"),
            (json!({"rms_norm_eps": -1.0}), "rms_norm_eps"),
            (json!({"rope_scaling": "linear"}), "rope_scaling"),
            (json!({"rope_scaling": {"rope_type": 3}}), "rope_scaling"),
            (json!({"rope_parameters": ["linear"]}), "rope_parameters"),
            (json!({"rope_theta": 0}), "rope_theta"),
            (json!({"rope_theta": 1e300}), "rope_theta"),
            (json!({"rope_parameters": {"rope_theta": -1.0}}), "rope_theta"),
            (json!({"num_hidden_layers": 0}), "num_hidden_layers"),
            (json!({"hidden_size": -64}), "hidden_size"),
            (json!({"num_attention_heads": 7}), "num_key_value_heads"),
            (json!({"head_dim": 1 << 20}), "head_dim"),
            (
                json!({"num_hidden_layers": 1024, "hidden_size": 1 << 20, "head_dim": 1 << 14,
                    "num_attention_heads": 1 << 20, "num_key_value_heads": 1 << 20}),
                "weights",
            ),
        ] {
            let error = shape(change.clone()).err().expect("must be refused").to_string();
            assert!(error.contains(key), "{change} gave {error}");
        }
    }
}
