//! Rotary embeddings as `config.json` describes them, in all families the same.

use serde_json::{Map, Value};

use crate::error::Result;
use crate::model::ModelJson;
use crate::ops::RopeScaling;

/// `rope_theta` and scaling, from `rope_parameters` (transformers 5) or from `rope_theta` and
/// `rope_scaling` (before).
pub(super) fn read(config: &ModelJson, positions_max: usize) -> Result<(f64, RopeScaling)> {
    let empty = Map::new();
    let (theta, map, place) = match config.json.get("rope_parameters") {
        Some(Value::Object(map)) => {
            let fallback = config.positive("rope_theta", 10_000.0)?;
            let theta = ModelJson::positive_in(map, "rope_theta", Some(fallback))
                .map_err(|error| config.wrong("rope_parameters", "is wrong").because(error.what))?;
            (theta, map, "rope_parameters")
        }
        Some(other) if !other.is_null() => {
            return Err(config.wrong("rope_parameters", "must be an object"));
        }
        _ => {
            let map = match config.json.get("rope_scaling") {
                None | Some(Value::Null) => &empty,
                Some(Value::Object(map)) => map,
                Some(_) => return Err(config.wrong("rope_scaling", "must be an object")),
            };
            (config.positive("rope_theta", 10_000.0)?, map, "rope_scaling")
        }
    };
    let kind = match map.get("rope_type").or_else(|| map.get("type")) {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) => Some(kind.as_str()),
        Some(_) => return Err(config.wrong(place, "has a rope type that is no text")),
    };
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
