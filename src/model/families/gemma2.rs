//! Gemma 2: a window in every second layer, and scores of attention and of the vocabulary that stay
//! below caps. Reference: transformers `models/gemma2/modeling_gemma2.py`.

use super::Family;
use super::gemma;
use super::options::window;
use crate::error::Result;
use crate::model::{Description, ModelJson};

/// The family.
pub(super) struct Gemma2;

const POSITIONS_MAX: usize = 8192;
/// Where `config.json` does not say how wide windows are.
const WINDOW: usize = 4096;
/// Where it does not say how high scores are: those of attention, and those of the vocabulary.
const CAPS: [f64; 2] = [50.0, 30.0];

impl Family for Gemma2 {
    fn model_types(&self) -> &'static [&'static str] {
        &["gemma2"]
    }

    fn describe(&self, config: &ModelJson) -> Result<Description> {
        let mut dense = gemma::read(config, POSITIONS_MAX)?;
        dense.soft_cap = gemma::soft_cap(config, "attn_logit_softcapping", Some(CAPS[0]))?;
        dense.logits = gemma::logits(config, Some(CAPS[1]))?;
        let sliding = dense.sliding_layers(config, |index| index % 2 == 0)?;
        let window = window(config, WINDOW)?;
        // A name that exports of the first days have beside the other.
        if config
            .optional_size("sliding_window_size", 1 << 30)?
            .is_some_and(|it| Some(it) != window)
        {
            return Err(config.wrong("sliding_window_size", "is another than `sliding_window`"));
        }
        dense.set_windows(config, &sliding, window)?;
        dense.describe(config)
    }
}
