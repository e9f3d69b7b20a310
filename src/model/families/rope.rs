//! Rotary embeddings as `config.json` describes them, in all families the same.

use serde_json::{Map, Value};

use crate::error::Result;
use crate::model::ModelJson;
use crate::model::description::Rope;
use crate::ops::RopeScaling;

/// The share of a head that is rotated: what is not all of it is not supported.
const PARTIAL: &str = "partial_rotary_factor";

/// Kinds of layers as `layer_types` names them: those that see everything, and those with a window.
const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// `rope_theta` and scaling, from `rope_parameters` (transformers 5) or from `rope_theta` and
/// `rope_scaling` (before).
pub(super) fn read(config: &ModelJson, positions_max: usize) -> Result<Rope> {
    if config.positive(PARTIAL, 1.0)? != 1.0 {
        return Err(config.wrong(PARTIAL, "must be 1: heads are rotated as a whole"));
    }
    let empty = Map::new();
    let (theta, map, place) = match config.get("rope_parameters") {
        Some(Value::Object(map)) => {
            let fallback = config.positive("rope_theta", 10_000.0)?;
            let theta = ModelJson::positive_in(map, "rope_theta", Some(fallback))
                .map_err(|error| config.wrong("rope_parameters", "is wrong").because(error.what))?;
            (theta, map, "rope_parameters")
        }
        Some(_) => return Err(config.wrong("rope_parameters", "must be an object")),
        None => {
            let map = match config.get("rope_scaling") {
                None => &empty,
                Some(Value::Object(map)) => map,
                Some(_) => return Err(config.wrong("rope_scaling", "must be an object")),
            };
            (config.positive("rope_theta", 10_000.0)?, map, "rope_scaling")
        }
    };
    parse(config, (place, map), theta, positions_max)
}

/// A rotation as an object of `config.json` describes it, of the place that errors name.
fn parse(
    config: &ModelJson,
    (place, map): (&str, &Map<String, Value>),
    theta: f64,
    positions_max: usize,
) -> Result<Rope> {
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
    let (scaling, keys): (_, &[&str]) = match kind {
        None | Some("default") => (RopeScaling::None, &[]),
        Some("linear") => (RopeScaling::Linear { factor: number("factor", None)? }, &["factor"]),
        Some("llama3") => {
            let scaling = RopeScaling::Llama3 {
                factor: number("factor", None)?,
                low_frequency_factor: number("low_freq_factor", None)?,
                high_frequency_factor: number("high_freq_factor", None)?,
                original: number("original_max_position_embeddings", Some(positions_max as f64))?,
            };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor"])
        }
        Some(other) => {
            return Err(config
                .wrong(place, &format!("asks for the rope type `{other}`"))
                .hint("supported: `default`, `linear`, `llama3`"));
        }
    };
    refuse_unknown(config, place, map, keys)?;
    Ok(Rope { theta, scaling })
}

/// What there is of rotations in models whose layers with a window have another than the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct RopeOfKinds {
    /// Of layers that see everything.
    pub full: Rope,
    /// Of layers with a window.
    pub sliding: Rope,
}

impl RopeOfKinds {
    /// That of each layer of a list that says which have a window.
    pub fn of_layers(self, sliding: &[bool]) -> Vec<Option<Rope>> {
        let of = |sliding: &bool| Some(if *sliding { self.sliding } else { self.full });
        sliding.iter().map(of).collect()
    }
}

/// A rotation for each kind of layer: from `rope_parameters` with an object for each (transformers
/// 5), or from `rope_scaling` for layers without a window (before). `thetas` are the bases of both
/// where no object says one.
pub(super) fn read_of_kinds(
    config: &ModelJson,
    positions_max: usize,
    thetas: [f64; 2],
) -> Result<RopeOfKinds> {
    const PLACE: &str = "rope_parameters";
    let empty = Map::new();
    let of = |place, map: &Map<String, Value>, theta| {
        let theta = ModelJson::positive_in(map, "rope_theta", Some(theta))
            .map_err(|error| config.wrong(place, "is wrong").because(error.what))?;
        parse(config, (place, map), theta, positions_max)
    };
    match config.get(PLACE) {
        Some(Value::Object(kinds)) => {
            if let Some(other) = kinds.keys().find(|kind| !KINDS.contains(&kind.as_str())) {
                let what = format!("has `{other}` where it has an object for each kind of layer");
                return Err(config.wrong(PLACE, &what));
            }
            let [full, sliding] = KINDS.map(|kind| match kinds.get(kind) {
                None | Some(Value::Null) => Ok(&empty),
                Some(Value::Object(map)) => Ok(map),
                Some(_) => Err(config.wrong(PLACE, &format!("must have an object as `{kind}`"))),
            });
            let (full, sliding) = (of(PLACE, full?, thetas[0])?, of(PLACE, sliding?, thetas[1])?);
            Ok(RopeOfKinds { full, sliding })
        }
        Some(_) => Err(config.wrong(PLACE, "must be an object")),
        None => {
            let map = match config.get("rope_scaling") {
                None => &empty,
                Some(Value::Object(map)) => map,
                Some(_) => return Err(config.wrong("rope_scaling", "must be an object")),
            };
            let full = of("rope_scaling", map, thetas[0])?;
            let sliding = of("rope_scaling", &empty, thetas[1])?;
            Ok(RopeOfKinds { full, sliding })
        }
    }
}

/// Refuses options of the rotation that the kind of scaling does not have.
fn refuse_unknown(
    config: &ModelJson,
    place: &str,
    map: &Map<String, Value>,
    known: &[&str],
) -> Result<()> {
    const ALWAYS: [&str; 4] =
        ["rope_type", "type", "rope_theta", "original_max_position_embeddings"];
    for (key, value) in map {
        let whole = key == PARTIAL && value.as_f64() == Some(1.0);
        if ALWAYS.contains(&key.as_str()) || known.contains(&key.as_str()) || whole {
            continue;
        }
        if !value.is_null() {
            let what = format!("asks for `{key}` = {value}, which is not supported");
            return Err(config.wrong(place, &what));
        }
    }
    Ok(())
}
