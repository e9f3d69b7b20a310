//! OLMo 3: OLMo 2 with a window in three of four layers; long contexts stretch the rotation of the
//! others alone. Reference: transformers `models/olmo3/modeling_olmo3.py`.

use super::Family;
use super::olmo2;
use super::options::window;
use super::rope;
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Olmo3;

/// Where `config.json` does not say how wide windows are.
const WINDOW: usize = 4096;
/// Every so many layers one sees everything.
const PATTERN: usize = 4;
/// Base of the rotation in both kinds of layers.
const THETA: f64 = 5e5;

impl Family for Olmo3 {
    fn model_types(&self) -> &'static [&'static str] {
        &["olmo3"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = olmo2::read(config)?;
        let sliding = dense.sliding_layers(config, |index| (index + 1) % PATTERN != 0)?;
        dense.set_windows(config, &sliding, window(config, WINDOW)?)?;
        let theta = config.positive("rope_theta", THETA)?;
        if theta != THETA && config.get("rope_parameters").is_none() {
            // transformers takes it for the layers without a window alone, which nobody means.
            let what = "is another than 500000, and not said to be of which layers";
            return Err(config.wrong("rope_theta", what).hint("use `rope_parameters`"));
        }
        let ropes = rope::read_of_kinds(config, dense.rope_context(), [theta, THETA])?;
        dense.ropes = ropes.of_layers(&sliding);
        dense.describe(config)
    }
}
