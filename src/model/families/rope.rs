//! Rotary embeddings as `config.json` describes them, in all families the same.

mod kinds;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::model::ModelJson;
use crate::model::description::Rope;
use crate::ops::{QueryScale, RopeScaling};

pub(super) use kinds::{RopeOfKinds, read_of_kinds};

/// The share of a head that is rotated.
const PARTIAL: &str = "partial_rotary_factor";
/// Context length of the original training.
const ORIGINAL: &str = "original_max_position_embeddings";

/// What a family says of its rotations.
#[derive(Debug, Clone, Copy)]
pub(super) struct RopeContext {
    /// Width of a head.
    pub width: usize,
    /// Longest position.
    pub positions_max: usize,
    /// Base where `config.json` is silent.
    pub theta: f64,
    /// Whether a share of each head may be rotated alone.
    pub partial: bool,
    /// Context length of the original training where `config.json` does not say it beside the
    /// object of the rotation.
    pub original: Option<usize>,
    /// Whether queries are scaled by their positions.
    pub scales_queries: bool,
    /// Other names of the rope type `longrope`.
    pub longrope: &'static [&'static str],
}

/// `rope_theta` and scaling, from `rope_parameters` (transformers 5) or from `rope_theta` and
/// `rope_scaling` (before).
pub(super) fn read(config: &ModelJson, context: RopeContext) -> Result<Rope> {
    read_with(config, context, None)
}

/// The same with a base of its own, whatever `config.json` says of it.
pub(super) fn read_with(
    config: &ModelJson,
    context: RopeContext,
    base: Option<f64>,
) -> Result<Rope> {
    let empty = Map::new();
    let theta = config.positive("rope_theta", context.theta)?;
    let object = |place| match config.get(place) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some((place, map))),
        Some(_) => Err(config.wrong(place, "must be an object")),
    };
    // Where a file has both, for both versions, the older one counts (`PreTrainedConfig`).
    let (new, old) = (object("rope_parameters")?, object("rope_scaling")?);
    let found = old.filter(|(_, map)| !map.is_empty()).or(new);
    let (place, map) = found.unwrap_or(("rope_scaling", &empty));
    let theta = ModelJson::positive_in(map, "rope_theta", Some(theta))
        .map_err(|error| config.wrong(place, "is wrong").because(error.into_what()))?;
    parse(config, (place, map), base.unwrap_or(theta), context)
}

/// A rotation as an object of `config.json` describes it, of the place that errors name.
fn parse(
    config: &ModelJson,
    (place, map): (&str, &Map<String, Value>),
    theta: f64,
    context: RopeContext,
) -> Result<Rope> {
    let object = RopeObject { config, place, map, theta, context };
    let kind = match map.get("rope_type").or_else(|| map.get("type")) {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) if context.longrope.contains(&kind.as_str()) => Some("longrope"),
        Some(Value::String(kind)) => Some(kind.as_str()),
        Some(_) => return Err(config.wrong(place, "has a rope type that is not a string")),
    };
    let share = object.share(kind)?;
    object.original()?; // kinds that have no use for it may say it
    let rotated = if kind == Some("proportional") { None } else { object.rotated(share)? };
    let width = rotated.unwrap_or(context.width);
    let (scaling, keys): (_, &[&str]) = match kind {
        None | Some("default") => (RopeScaling::None, &[]),
        Some("linear") => {
            (RopeScaling::Linear { factor: object.number("factor", None)? }, &["factor"])
        }
        Some("dynamic") => (object.dynamic(width)?, &["factor"]),
        Some("llama3") => (object.llama3()?, &["factor", "low_freq_factor", "high_freq_factor"]),
        Some("yarn") => (object.yarn(width)?, YARN),
        Some("longrope") => (
            object.longrope(width)?,
            &["factor", "short_factor", "long_factor", "attention_factor"],
        ),
        Some("proportional") => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            #[expect(clippy::cast_precision_loss)] // head sizes are small
            let planes = (share * context.width as f64 / 2.0) as usize;
            let factor = object.number("factor", Some(1.0))?;
            (RopeScaling::Proportional { planes, factor }, &["factor"])
        }
        Some(other) => {
            return Err(config.wrong(place, &format!("asks for the rope type `{other}`")).hint(
                "supported: `default`, `linear`, `dynamic`, `llama3`, `yarn`, `longrope`, \
                     `proportional`",
            ));
        }
    };
    let query_scale = if context.scales_queries {
        #[expect(clippy::cast_precision_loss)] // contexts are below 2^24
        let original = object.original()? as f32;
        // Zero scales nothing, as in Devstral 2 of 123 billion parameters.
        let beta = match map.get(QUERY_SCALE).and_then(Value::as_f64) {
            Some(0.0) => None,
            _ => Some(object.number(QUERY_SCALE, None)?),
        };
        beta.map(|beta| QueryScale { beta, original })
    } else {
        None
    };
    refuse_unknown(config, place, map, (keys, context))?;
    Ok(Rope { theta, scaling, rotated, query_scale })
}

/// β of the scale of queries, and the context length that Ministral 3 writes beside it, which
/// changes nothing.
const QUERY_SCALE: &str = "llama_4_scaling_beta";
const QUERY_SCALE_KEYS: [&str; 2] = [QUERY_SCALE, "max_position_embeddings"];
const YARN: &[&str] = &[
    "factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
];

/// An object that describes a rotation.
struct RopeObject<'a> {
    config: &'a ModelJson,
    place: &'a str,
    map: &'a Map<String, Value>,
    theta: f64,
    context: RopeContext,
}

impl RopeObject<'_> {
    fn wide(&self, key: &str, default: Option<f64>) -> Result<f64> {
        ModelJson::positive_in(self.map, key, default).map_err(|error| {
            self.config.wrong(self.place, "is incomplete").because(error.into_what())
        })
    }

    #[expect(clippy::cast_possible_truncation)] // the reference computes in f32 as well
    fn number(&self, key: &str, default: Option<f64>) -> Result<f32> {
        self.wide(key, default).map(|value| value as f32)
    }

    /// A number that may be missing; zero counts as missing, as in the reference.
    fn optional(&self, key: &str) -> Result<Option<f64>> {
        match self.map.get(key).filter(|value| value.as_f64() != Some(0.0)) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.wide(key, None).map(Some),
        }
    }

    /// What cosines and sines are multiplied with; zero is none of those that may be left out.
    fn attention_factor(&self) -> Result<Option<f64>> {
        let given = self.map.get("attention_factor").filter(|value| !value.is_null());
        given.map(|_| self.wide("attention_factor", None)).transpose()
    }

    /// Which share of a head is rotated.
    fn share(&self, kind: Option<&str>) -> Result<f64> {
        let beside = self.config.positive(PARTIAL, 1.0)?;
        let share = self.wide(PARTIAL, Some(beside))?;
        if share > 1.0 {
            return Err(self.config.wrong(PARTIAL, "must be a share of 1"));
        }
        if share != 1.0 && !self.context.partial && kind != Some("proportional") {
            let what = "must be 1: this family rotates heads as a whole";
            return Err(self.config.wrong(PARTIAL, what));
        }
        Ok(share)
    }

    /// So many numbers of a head, if it is not all of them.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    #[expect(clippy::cast_precision_loss)] // head sizes are small
    fn rotated(&self, share: f64) -> Result<Option<usize>> {
        let rotated = (self.context.width as f64 * share) as usize;
        if rotated == 0 || !rotated.is_multiple_of(2) {
            let what = format!("makes {rotated} of {} numbers rotate", self.context.width);
            return Err(self.config.wrong(PARTIAL, &what).because("there must be whole pairs"));
        }
        Ok((rotated < self.context.width).then_some(rotated))
    }

    /// Context length of the original training: what stands beside the object counts first.
    fn original(&self) -> Result<usize> {
        const MAX: usize = 1 << 24;
        let beside = self.config.optional_size(ORIGINAL, MAX)?.or(self.context.original);
        let inside = match self.map.get(ORIGINAL) {
            None | Some(Value::Null) => None,
            Some(value) => {
                let size = value.as_f64().filter(|size| (1.0..=MAX as f64).contains(size));
                let size = size.filter(|size| size.fract() == 0.0).ok_or_else(|| {
                    let what = format!("has no context length as `{ORIGINAL}`");
                    self.config.wrong(self.place, &what)
                })?;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // see above
                Some(size as usize)
            }
        };
        Ok(beside.or(inside).unwrap_or(self.context.positions_max))
    }

    fn dynamic(&self, width: usize) -> Result<RopeScaling> {
        if width == 2 {
            return Err(self.config.wrong(self.place, "needs heads of more than 2 numbers"));
        }
        let trained = u32::try_from(self.context.positions_max).unwrap_or(u32::MAX);
        Ok(RopeScaling::Dynamic { factor: self.number("factor", None)?, trained })
    }

    #[expect(clippy::cast_precision_loss)] // contexts are below 2^24
    fn llama3(&self) -> Result<RopeScaling> {
        Ok(RopeScaling::Llama3 {
            factor: self.number("factor", None)?,
            low_frequency_factor: self.number("low_freq_factor", None)?,
            high_frequency_factor: self.number("high_freq_factor", None)?,
            original: self.original()? as f32,
        })
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // small numbers
    fn yarn(&self, width: usize) -> Result<RopeScaling> {
        let factor = self.wide("factor", None)?;
        let original = self.original()? as f64;
        let attention_factor = match self.attention_factor()? {
            Some(factor) => factor,
            None => match (self.optional("mscale")?, self.optional("mscale_all_dim")?) {
                (Some(one), Some(all)) => mscale(factor, one) / mscale(factor, all),
                _ => mscale(factor, 1.0),
            },
        };
        let plane_of = |rotations: f64| {
            let period = original / (rotations * std::f64::consts::TAU);
            width as f64 * period.ln() / (2.0 * self.theta.ln())
        };
        let betas = [
            self.optional("beta_fast")?.unwrap_or(32.0),
            self.optional("beta_slow")?.unwrap_or(1.0),
        ];
        let [low, high] = betas.map(plane_of);
        let truncate = match self.map.get("truncate") {
            None | Some(Value::Bool(true)) => true,
            Some(Value::Null | Value::Bool(false)) => false,
            Some(_) => {
                return Err(self.config.wrong(self.place, "has a `truncate` that is no flag"));
            }
        };
        let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(width as f64 - 1.0));
        // Otherwise there would be nothing to divide by.
        let high = if low == high { high + 0.001 } else { high };
        if !low.is_finite() || !high.is_finite() {
            return Err(self
                .config
                .wrong("rope_theta", "must be above 1 for the rope type `yarn`"));
        }
        Ok(RopeScaling::Yarn {
            factor: factor as f32,
            ramp: [low as f32, high as f32],
            betas: betas.map(|beta| beta as f32),
            original: self.original()? as u32,
            attention_factor: attention_factor as f32,
        })
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // contexts are small
    fn longrope(&self, width: usize) -> Result<RopeScaling> {
        let original = self.original()?;
        let longer = self.context.positions_max as f64 / original as f64;
        let factor = self.wide("factor", Some(longer))?;
        let usual = match factor > 1.0 {
            true => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
            false => 1.0,
        };
        let attention_factor = self.attention_factor()?.unwrap_or(usual);
        if !attention_factor.is_finite() {
            return Err(self
                .config
                .wrong(ORIGINAL, "must be above 1 for the rope type `longrope`"));
        }
        Ok(RopeScaling::LongRope {
            short: self.factors("short_factor", width / 2)?,
            long: self.factors("long_factor", width / 2)?,
            original: original as u32,
            attention_factor: attention_factor as f32,
        })
    }

    /// A divisor for each plane.
    fn factors(&self, key: &str, planes: usize) -> Result<Vec<f32>> {
        let list = self.map.get(key).and_then(Value::as_array);
        #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
        let usable = |value: &Value| value.as_f64().map(|x| x as f32);
        let numbers: Option<Vec<f32>> =
            list.and_then(|list| list.iter().map(usable).collect::<Option<_>>());
        let fits = |numbers: &Vec<f32>| {
            numbers.len() == planes && numbers.iter().all(|x| x.is_finite() && *x > 0.0)
        };
        numbers.filter(fits).ok_or_else(|| {
            let what = format!("must have {planes} numbers above 0 as `{key}`");
            self.config.wrong(self.place, &what)
        })
    }
}

/// What yarn multiplies cosines and sines with.
fn mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// Refuses options of the rotation that the kind of scaling does not have.
fn refuse_unknown(
    config: &ModelJson,
    place: &str,
    map: &Map<String, Value>,
    (known, context): (&[&str], RopeContext),
) -> Result<()> {
    // `finetuned` says how a model came to be. The last two divide positions in images among the
    // planes; in text all three of a token are the same. Text models taken out of those that read
    // images have them still.
    const ALWAYS: [&str; 8] = [
        "rope_type",
        "type",
        "rope_theta",
        ORIGINAL,
        PARTIAL,
        "finetuned",
        "mrope_section",
        "mrope_interleaved",
    ];
    for (key, value) in map {
        let key = key.as_str();
        let scales = context.scales_queries && QUERY_SCALE_KEYS.contains(&key);
        if ALWAYS.contains(&key) || known.contains(&key) || scales {
            continue;
        }
        if !value.is_null() {
            let what = format!("asks for `{key}` = {value}, which is not supported");
            return Err(config.wrong(place, &what));
        }
    }
    Ok(())
}
