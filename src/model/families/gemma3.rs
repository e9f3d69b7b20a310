//! Gemma 3 as it reads text: norms of queries and keys in each head, and a window in five of six
//! layers, whose positions turn faster. Reference: transformers `models/gemma3/modeling_gemma3.py`.

use super::Family;
use super::dense::QueryKeyNorms;
use super::gemma;
use super::rope::{self, RopeOfKinds};
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Gemma3;

const POSITIONS_MAX: usize = 131_072;
/// Where `config.json` does not say how wide windows are.
const WINDOW: usize = 4096;
/// Every so many layers one sees everything.
const PATTERN: usize = 6;
/// Bases of the rotation in layers that see everything, and in those with a window.
const THETAS: [f64; 2] = [1e6, 1e4];

impl Family for Gemma3 {
    fn model_types(&self) -> &'static [&'static str] {
        &["gemma3_text"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = gemma::read(config, POSITIONS_MAX)?;
        dense.qk_norms = QueryKeyNorms::Heads;
        dense.logits = gemma::logits(config, None)?;
        let pattern = config.optional_size("sliding_window_pattern", 1 << 20)?.unwrap_or(PATTERN);
        let sliding = dense.sliding_layers(config, |index| (index + 1) % pattern != 0)?;
        let silent = !config.json.contains_key("sliding_window");
        let window = config.optional_size("sliding_window", 1 << 30)?;
        dense.set_windows(config, &sliding, window.or(silent.then_some(WINDOW)))?;
        let theta = config.positive("rope_theta", THETAS[0])?;
        let near_theta = config.positive("rope_local_base_freq", THETAS[1])?;
        let thetas = [theta, near_theta];
        let RopeOfKinds { full, sliding: near } =
            rope::read_of_kinds(config, dense.positions_max(), thetas)?;
        dense.ropes =
            sliding.iter().map(|sliding| Some(if *sliding { near } else { full })).collect();
        dense.describe(config)
    }
}
