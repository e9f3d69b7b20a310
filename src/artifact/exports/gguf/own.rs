//! Architectures whose models are made otherwise than those of the others.

use super::file::Keys;
use crate::error::Result;
use crate::model::Description;

/// What an architecture has that shares nothing with the others: its checks and its keys.
#[derive(Clone, Copy)]
pub struct OwnRules {
    /// What of a model llama.cpp would not compute, if there is something.
    pub refused: fn(&Description) -> Option<&'static str>,
    /// Sizes and constants; keys begin with the name.
    pub write: fn(&Description, &str, &mut Keys) -> Result<()>,
    /// Divisors of the rotary frequencies, if the file has them.
    pub rope_factors: fn(&Description) -> Option<Vec<f32>>,
}
