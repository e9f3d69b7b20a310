//! What a file says of its model, and what that is in a `config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::file::GgufTensor;
use super::metadata::{Metadata, MetadataValue};

/// What Llama 3 divides its frequencies by.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";
pub(super) const ROPE_LONG: &str = "rope_factors_long.weight";
pub(super) const ROPE_SHORT: &str = "rope_factors_short.weight";

/// The most layers of a model, as in a `config.json`: lists are made with an item for each.
const LAYERS_MAX: u64 = 1024;

/// What is known of a model.
pub struct Facts<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) tensors: &'a BTreeMap<String, GgufTensor>,
    /// Divisors of the rotary frequencies, by the names of their tensors.
    pub(super) factors: BTreeMap<&'static str, Vec<f32>>,
    pub(super) name: &'static str,
    pub(super) head: u64,
}

impl Facts<'_> {
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    pub(super) fn size(&self, key: &str) -> Result<u64, String> {
        self.optional(key)?.ok_or_else(|| format!("it has no `{}`", self.key(key)))
    }

    /// How many layers it has.
    pub(super) fn depth(&self) -> Result<u64, String> {
        match self.size("block_count")? {
            layers @ ..=LAYERS_MAX => Ok(layers),
            layers => {
                let key = self.key("block_count");
                Err(format!("`{key}` is {layers}, and models have {LAYERS_MAX} layers at most"))
            }
        }
    }

    /// A size; one that each layer has of its own where they are all the same.
    pub(super) fn optional(&self, key: &str) -> Result<Option<u64>, String> {
        let key = self.key(key);
        let Some(items) = self.metadata.get(&key).and_then(|value| value.list()) else {
            return self.metadata.integer(&key);
        };
        let first = items.first().and_then(|item| item.integer());
        match items.iter().all(|item| item.integer() == first) {
            true => Ok(first),
            false => Err(format!("`{key}` differs between layers")),
        }
    }

    /// A size that layers have or that is zero.
    pub(super) fn largest(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(items) = self.layers(key) else { return self.optional(key) };
        let (most, key) = (items.iter().copied().max(), self.key(key));
        match items.iter().all(|item| *item == 0 || Some(*item) == most) {
            true => Ok(most),
            false => Err(format!("`{key}` differs between layers")),
        }
    }

    /// A size, the smallest that layers have; that of experts where it is not said.
    pub(super) fn narrowest(&self, key: &str) -> Result<u64, String> {
        if let Some(least) = self.layers(key).and_then(|items| items.into_iter().min()) {
            return Ok(least);
        }
        match (self.optional(key)?, self.optional("expert_feed_forward_length")?) {
            (Some(size), _) | (None, Some(size)) => Ok(size),
            (None, None) => self.size(key),
        }
    }

    /// A size of each layer.
    pub(super) fn layers(&self, key: &str) -> Option<Vec<u64>> {
        let items = self.metadata.get(&self.key(key))?.list()?;
        items.iter().map(MetadataValue::integer).collect()
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, String> {
        self.optional_number(key)?.ok_or_else(|| format!("it has no `{}`", self.key(key)))
    }

    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>, String> {
        let number = self.metadata.number(&self.key(key))?;
        // The file has an f32: 1e-5 and not 0.000009999999747.
        #[expect(clippy::cast_possible_truncation)]
        let shortest = |number: f64| (number as f32).to_string().parse().unwrap_or(number);
        Ok(number.map(shortest))
    }

    pub(super) fn rows(&self, tensor: &str) -> Option<u64> {
        self.tensors.get(tensor)?.shape.first().map(|rows| *rows as u64)
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// How positions are stretched.
    pub(super) fn scaling(&self, config: &mut Map<String, Value>) -> Result<(), String> {
        let kind = self.metadata.text(&self.key("rope.scaling.type"))?.unwrap_or("none");
        let factor = self.optional_number("rope.scaling.factor")?;
        let original = self.optional("rope.scaling.original_context_length")?;
        let attention = self.optional_number("rope.scaling.attn_factor")?;
        let factors = |name: &str| self.factors.get(name);
        let scaling = match (kind, factors(ROPE_FREQS), factors(ROPE_LONG), factors(ROPE_SHORT)) {
            ("none", None, None, None) => return Ok(()),
            ("linear", None, None, None) => json!({
                "rope_type": "linear", "factor": factor.ok_or("it has no `rope.scaling.factor`")?,
            }),
            ("yarn", None, None, None) => self.yarn(factor, original, attention)?,
            ("none", Some(factors), None, None) => self.llama3(factors, config),
            ("none" | "longrope", None, Some(long), Some(short)) => {
                let original =
                    original.unwrap_or(config["max_position_embeddings"].as_u64().unwrap_or(0));
                config.insert("original_max_position_embeddings".to_owned(), original.into());
                let mut scaling = json!({
                    "rope_type": "longrope", "long_factor": long, "short_factor": short,
                    "original_max_position_embeddings": original,
                });
                if let Some(attention) = attention {
                    scaling["attention_factor"] = attention.into();
                }
                scaling
            }
            (kind, ..) => return Err(format!("its positions are stretched by `{kind}`")),
        };
        config.insert("rope_scaling".to_owned(), scaling);
        Ok(())
    }

    /// The file has what frequencies are divided by, and not how that was worked out. Where it is
    /// as in one of the models that there are, that is said; elsewhere it is a list, whatever the
    /// length of a text is.
    pub(super) fn llama3(&self, factors: &[f32], config: &Map<String, Value>) -> Value {
        let theta = config["rope_theta"].as_f64().unwrap_or(1.0);
        let pairs = factors.len().max(1);
        for factor in [8.0, 32.0] {
            let expected = (0..pairs).map(|pair| {
                #[expect(clippy::cast_precision_loss)] // heads are small
                let exponent = pair as f64 / pairs as f64;
                let wavelength = 2.0 * std::f64::consts::PI * theta.powf(exponent);
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                match smooth {
                    ..=0.0 => factor,
                    1.0.. => 1.0,
                    _ => 1.0 / ((1.0 - smooth) / factor + smooth),
                }
            });
            let near = |(one, other): (f64, &f32)| (one - f64::from(*other)).abs() < 1e-4 * one;
            if expected.zip(factors).all(near) {
                return json!({
                    "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                });
            }
        }
        let positions = config["max_position_embeddings"].clone();
        json!({
            "rope_type": "longrope", "long_factor": factors, "short_factor": factors,
            "original_max_position_embeddings": positions, "attention_factor": 1.0,
        })
    }
}

impl Facts<'_> {
    /// llama.cpp multiplies with the usual factor of attention, and with what a file says besides.
    pub(super) fn yarn(
        &self,
        factor: Option<f64>,
        original: Option<u64>,
        beside: Option<f64>,
    ) -> Result<Value, String> {
        let factor = factor.ok_or("it has no `rope.scaling.factor`")?;
        let original = original.ok_or("it has no `rope.scaling.original_context_length`")?;
        let usual = usual_attention_factor(factor);
        let mut scaling = json!({
            "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
            "attention_factor": usual * beside.unwrap_or(1.0),
        });
        for (theirs, ours) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
            if let Some(beta) = self.optional_number(&format!("rope.scaling.{theirs}"))? {
                scaling[ours] = beta.into();
            }
        }
        Ok(scaling)
    }

    /// A flag for each layer, or in all but every so many.
    pub(super) fn pattern(&self, key: &str, period: u64) -> Result<Vec<bool>, String> {
        let layers = self.depth()?;
        let regular = |period: u64| (1..=layers).map(|number| number % period != 0).collect();
        let key = self.key(key);
        match self.metadata.get(&key) {
            None => Ok(regular(period)),
            Some(value) => match (value.integer(), value.list()) {
                (Some(period), _) if period > 0 => Ok(regular(period)),
                (_, Some(list)) if list.len() as u64 == layers => {
                    Ok(list.iter().map(|item| *item == MetadataValue::Flag(true)).collect())
                }
                _ => Err(format!("`{key}` must be a number, or a flag for each layer")),
            },
        }
    }

    /// Which layers have a window, and how wide it is: in all but every so many, where the file
    /// does not say which.
    pub(super) fn windows(
        &self,
        period: u64,
        config: &mut Map<String, Value>,
    ) -> Result<bool, String> {
        let window = self.optional("attention.sliding_window")?.filter(|window| *window > 0);
        let windowed = self.pattern("attention.sliding_window_pattern", period)?;
        let Some(window) = window else { return Ok(false) };
        let kind = |is: &bool| if *is { "sliding_attention" } else { "full_attention" };
        set(config, "sliding_window", window);
        set(config, "layer_types", windowed.iter().map(kind).collect::<Vec<_>>());
        Ok(true)
    }

    /// Puts the rotation of layers that see everything beside that of those with a window.
    pub(super) fn two_rotations(&self, near_theta: f64, config: &mut Map<String, Value>) {
        let mut far = match config.remove("rope_scaling") {
            Some(Value::Object(scaling)) => scaling,
            _ => Map::from_iter([("rope_type".to_owned(), "default".into())]),
        };
        if let Some(theta) = config.remove("rope_theta") {
            far.insert("rope_theta".to_owned(), theta);
        }
        let near = json!({ "rope_type": "default", "rope_theta": near_theta });
        let both = json!({ "full_attention": far, "sliding_attention": near });
        set(config, "rope_parameters", both);
    }

    /// Scores are divided by the root of a head's width, but in models of so many layers by that of
    /// the hidden width over the heads.
    pub(super) fn score_scale(
        &self,
        wide_at: u64,
        config: &mut Map<String, Value>,
    ) -> Result<(), String> {
        let wide = self.depth()? == wide_at;
        let heads = self.size("attention.head_count")?.max(1);
        let scalar = if wide { self.size("embedding_length")? / heads } else { self.head };
        set(config, "query_pre_attn_scalar", scalar);
        Ok(())
    }
}

/// What yarn multiplies cosines and sines with where nothing is said.
pub(super) fn usual_attention_factor(factor: f64) -> f64 {
    if factor > 1.0 { 0.1f64.mul_add(factor.ln(), 1.0) } else { 1.0 }
}

/// Puts a key into a `config.json`.
pub(super) fn set(config: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    config.insert(key.to_owned(), value.into());
}
