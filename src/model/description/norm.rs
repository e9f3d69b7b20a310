//! Norms.

/// A root mean square norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormDescription {
    /// Module path within the decoder layer.
    pub name: &'static str,
    /// Numbers that are normalised together: rows of a multiple of it are so in parts.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f64,
    /// What is multiplied with.
    pub gain: NormGain,
}

/// What a norm multiplies with. Activations have 32 bits until they are factors of a product, so
/// that it makes no difference whether that is before or after they are rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormGain {
    /// The weight.
    Weight,
    /// One more than the weight.
    OnePlusWeight,
    /// The weight times a number. It has the path of the norm itself, without `weight` behind it.
    Scaled(f32),
    /// Nothing: there is no weight.
    One,
}

impl NormDescription {
    /// Path of what is multiplied with, within the decoder layer.
    pub fn gain_path(&self) -> String {
        match self.gain {
            NormGain::Scaled(_) => self.name.to_owned(),
            _ => format!("{}.weight", self.name),
        }
    }
}
