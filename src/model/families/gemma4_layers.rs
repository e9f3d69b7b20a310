//! What layers of Gemma 4 differ in: windows, heads, rotations, and whose keys and values they see.

use serde_json::{Map, Value, json};

use super::dense::Dense;
use super::rope;
use crate::error::Result;
use crate::model::ModelJson;
use crate::model::description::{
    AttentionDescription, BlockDescription, GatedMlpDescription, JointDescription,
    LayerDescription, LinearDescription, NormDescription, NormGain, QkvDescription, Rope,
};
use crate::ops::{AttentionConfig, Heads};

/// Bases of the rotation in layers that see everything, and in those with a window.
const THETAS: [f64; 2] = [1e6, 1e4];
/// Width of a head in layers that see everything.
const FULL_WIDTH: usize = 512;
const SIZE_MAX: usize = 1 << 20;
const LAYERS_OF_THEIR_OWN: &str = "per_layer_config";

/// What layers differ in.
pub(super) struct Layers {
    /// Which have a window.
    sliding: Vec<bool>,
    pub heads: Vec<Heads>,
    /// Whether keys are values in layers that see everything.
    keys_as_values: bool,
    /// Layers from this one on see keys and values of earlier ones.
    pub own: usize,
    /// Whether the MLP is twice as wide there.
    wide: bool,
}

impl Layers {
    /// Reads them; `sliding` says which layers have a window.
    pub fn read(config: &ModelJson, dense: &Dense, sliding: Vec<bool>) -> Result<Self> {
        const SHARED: &str = "num_kv_shared_layers";
        let layers = sliding.len();
        let shared = match config.get(SHARED) {
            None => 0,
            Some(value) => value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count < layers)
                .ok_or_else(|| {
                    config.wrong(SHARED, &format!("must be less than the {layers} layers"))
                })?,
        };
        let own = layers - shared;
        if let Some(kind) = sliding[own..].iter().find(|kind| !sliding[..own].contains(kind)) {
            let kind = if *kind { "with a window" } else { "without a window" };
            let what = format!("leaves no layer {kind} whose keys and values the others could see");
            return Err(config.wrong(SHARED, &what));
        }
        let keys_as_values = config.flag("attention_k_eq_v", false)?;
        let heads = heads(config, dense, &sliding, keys_as_values)?;
        let wide = config.flag("use_double_wide_mlp", false)?;
        Ok(Self { sliding, heads, keys_as_values, own, wide })
    }

    /// The first layer of a kind.
    fn first(&self, sliding: bool) -> Option<usize> {
        self.sliding.iter().position(|kind| *kind == sliding)
    }

    /// How positions turn queries and keys in each layer; heads are as wide as the kind has them.
    pub fn ropes(&self, config: &ModelJson, dense: &Dense) -> Result<Vec<Option<Rope>>> {
        const PLACE: &str = "rope_parameters";
        let mut config = config.clone();
        if config.get(PLACE).is_none() {
            let full = json!({"rope_type": "proportional", "partial_rotary_factor": 0.25});
            config.json.insert(PLACE.to_owned(), json!({"full_attention": full}));
        }
        let of_width = |width| {
            let context = rope::RopeContext { width, ..dense.rope_context() };
            rope::read_of_kinds(&config, context, THETAS)
        };
        let width = |sliding| self.first(sliding).map(|index| self.heads[index].width);
        let full = of_width(width(false).unwrap_or(FULL_WIDTH))?;
        let near = of_width(width(true).unwrap_or(FULL_WIDTH))?;
        let kinds = rope::RopeOfKinds { full: full.full, sliding: near.sliding };
        Ok(kinds.of_layers(&self.sliding))
    }

    /// Makes of a usual layer what this one is.
    pub fn arrange(&self, index: usize, layer: &mut LayerDescription, sizes: (usize, f64, bool)) {
        for part in &mut layer.residuals {
            match &mut part.block {
                BlockDescription::Attention(attention) => self.attention(index, attention, sizes),
                BlockDescription::GatedMlp(mlp) if self.wide && index >= self.own => {
                    *mlp = twice_as_wide(mlp, sizes.0);
                }
                _ => {}
            }
        }
    }

    fn attention(
        &self,
        index: usize,
        attention: &mut AttentionDescription,
        (hidden, epsilon, bias): (usize, f64, bool),
    ) {
        let (sliding, heads) = (self.sliding[index], self.heads[index]);
        let config = AttentionConfig { heads, ..attention.config };
        let (query, key) = (config.query_width(), config.key_width());
        let to = |name, out| LinearDescription::new(name, [out, hidden], bias);
        let [q, k, v] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        let number = usize::from(!sliding);
        attention.qkv = if index >= self.own {
            QkvDescription::Queries(to(q, query), number)
        } else if self.keys_as_values && !sliding {
            QkvDescription::KeysAsValues(JointDescription::Separate([to(q, query), to(k, key)]))
        } else {
            let all = [to(q, query), to(k, key), to(v, key)];
            QkvDescription::Joint(JointDescription::Separate(all))
        };
        attention.output = LinearDescription::new("self_attn.o_proj", [hidden, query], bias);
        let norm = |name, gain| NormDescription { name, width: heads.width, epsilon, gain };
        attention.qk_norms =
            Some(["self_attn.q_norm", "self_attn.k_norm"].map(|name| norm(name, NormGain::Weight)));
        let is_own = index < self.own;
        attention.value_norm = is_own.then(|| norm("self_attn.v_norm", NormGain::One));
        let later = &self.sliding[index + 1..];
        let last = is_own && !later[..self.own - index - 1].contains(&sliding);
        let seen = last && self.sliding[self.own..].contains(&sliding);
        attention.shares = seen.then_some(number);
        attention.config = config;
    }
}

fn twice_as_wide(mlp: &GatedMlpDescription, hidden: usize) -> GatedMlpDescription {
    let wide = 2 * mlp.width();
    let gate_up = ["mlp.gate_proj", "mlp.up_proj"]
        .map(|name| LinearDescription::new(name, [wide, hidden], false));
    GatedMlpDescription {
        gate_up: JointDescription::Separate(gate_up),
        down: LinearDescription::new("mlp.down_proj", [hidden, wide], false),
        activation: mlp.activation,
    }
}

/// The heads of each layer: as it says under `per_layer_config` (transformers 5.24), or as layers
/// that see everything have them (before).
fn heads(
    config: &ModelJson,
    dense: &Dense,
    sliding: &[bool],
    keys_as_values: bool,
) -> Result<Vec<Heads>> {
    let usual = dense.heads;
    let width = config.optional_size("global_head_dim", SIZE_MAX)?.unwrap_or(FULL_WIDTH);
    let kv_heads = config.optional_size("num_global_key_value_heads", SIZE_MAX)?;
    let kv_heads = kv_heads.filter(|_| keys_as_values).unwrap_or(usual.kv_heads);
    let full = Heads { width, kv_heads, ..usual };
    let mut heads: Vec<Heads> =
        sliding.iter().map(|sliding| if *sliding { usual } else { full }).collect();
    if config.json.contains_key(LAYERS_OF_THEIR_OWN) {
        heads = vec![usual; sliding.len()];
        match config.get(LAYERS_OF_THEIR_OWN) {
            None => {}
            Some(Value::Object(layers)) => own_heads(config, layers, &mut heads)?,
            Some(_) => return Err(config.wrong(LAYERS_OF_THEIR_OWN, "must be an object")),
        }
    }
    for (index, of) in heads.iter().enumerate() {
        let first = sliding.iter().position(|kind| *kind == sliding[index]).unwrap_or(index);
        if *of != heads[first] {
            let what = format!("has other heads in layer {index} than in {first}, of its kind");
            return Err(config.wrong(LAYERS_OF_THEIR_OWN, &what));
        }
        if !of.width.is_multiple_of(2) || !of.queries.is_multiple_of(of.kv_heads) {
            let what = format!(
                "makes {} heads of keys of width {} in layer {index}: they must divide {} heads of \
                 queries, and the width must be even",
                of.kv_heads, of.width, of.queries
            );
            return Err(config.wrong("num_attention_heads", &what));
        }
    }
    Ok(heads)
}

/// Reads what some layers have.
fn own_heads(config: &ModelJson, layers: &Map<String, Value>, heads: &mut [Heads]) -> Result<()> {
    let count = heads.len();
    for (name, options) in layers {
        let wrong = |what: String| config.wrong(LAYERS_OF_THEIR_OWN, &what);
        let layer = name.parse::<usize>().ok().and_then(|layer| heads.get_mut(layer));
        let layer = layer.ok_or_else(|| {
            wrong(format!("has `{name}` where the model has layers 0 to {}", count - 1))
        })?;
        let Value::Object(options) = options else {
            return Err(wrong(format!("must have an object as `{name}`")));
        };
        for (key, value) in options {
            let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
            let size = size.filter(|size| (1..=SIZE_MAX).contains(size));
            match (key.as_str(), size) {
                ("head_dim", Some(size)) => layer.width = size,
                ("num_key_value_heads", Some(size)) => layer.kv_heads = size,
                _ => {
                    let what = format!("asks for `{key}` = {value}, which is not supported");
                    return Err(wrong(what));
                }
            }
        }
    }
    Ok(())
}
