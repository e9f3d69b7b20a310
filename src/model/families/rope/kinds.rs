//! Rotations of models whose layers with a window turn otherwise than the others.

use serde_json::{Map, Value};

use super::{RopeContext, parse};
use crate::error::Result;
use crate::model::ModelJson;
use crate::model::description::Rope;

/// Kinds of layers as `layer_types` names them: those that see everything, and those with a window.
const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// What there is of rotations in models whose layers with a window have another than the others.
#[derive(Debug, Clone)]
pub(in crate::model::families) struct RopeOfKinds {
    /// Of layers that see everything.
    pub full: Rope,
    /// Of layers with a window.
    pub sliding: Rope,
}

impl RopeOfKinds {
    /// That of each layer of a list that says which have a window.
    pub fn of_layers(self, sliding: &[bool]) -> Vec<Option<Rope>> {
        let of = |sliding: &bool| Some(if *sliding { &self.sliding } else { &self.full }.clone());
        sliding.iter().map(of).collect()
    }
}

/// A rotation for each kind of layer: from `rope_parameters` with an object for each (transformers
/// 5), or from `rope_scaling` for layers without a window (before). `thetas` are the bases of both
/// where no object says one.
pub(in crate::model::families) fn read_of_kinds(
    config: &ModelJson,
    context: RopeContext,
    thetas: [f64; 2],
) -> Result<RopeOfKinds> {
    const PLACE: &str = "rope_parameters";
    let empty = Map::new();
    let of = |place, map: &Map<String, Value>, theta| {
        let theta = ModelJson::positive_in(map, "rope_theta", Some(theta))
            .map_err(|error| config.wrong(place, "is wrong").because(error.into_what()))?;
        parse(config, (place, map), theta, context)
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
