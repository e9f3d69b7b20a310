//! What a model has in common in all of its layers, where it has.

use crate::error::{Error, Result};
use crate::model::description::{
    AttentionDescription, BlockDescription, Description, LayerDescription, ResidualDescription,
    Rope,
};

/// What is added first in a layer, and then.
pub fn residuals(layer: &LayerDescription) -> Option<[&ResidualDescription; 2]> {
    match layer.residuals.as_slice() {
        [mixer, mlp] => Some([mixer, mlp]),
        _ => None,
    }
}

/// Its attention, if it has it.
pub fn attention(layer: &LayerDescription) -> Option<&AttentionDescription> {
    match &layer.residuals.first()?.block {
        BlockDescription::Attention(attention) => Some(attention),
        _ => None,
    }
}

/// Those of a model that the checks let through.
pub fn first(facts: &Description) -> &AttentionDescription {
    facts.layers.iter().find_map(attention).expect("others were refused")
}

/// Width of a head.
pub fn head_width(facts: &Description) -> usize {
    first(facts).config.heads.width
}

/// The rotation of layers that see everything, and of those with a window where it is another.
pub fn ropes(facts: &Description) -> [Option<&Rope>; 2] {
    let of = |windowed: bool| {
        let layers = facts.layers.iter().filter_map(attention);
        let mut layers = layers.filter(|of| of.config.window.is_some() == windowed);
        layers.find_map(|of| of.rope.as_ref())
    };
    [of(false), of(true)]
}

/// The rotation of layers that see everything, or of all.
pub fn far_rope(facts: &Description) -> &Rope {
    let [far, near] = ropes(facts);
    far.or(near).expect("others were refused")
}

/// Numbers that the gate of an MLP lets through, or of an expert's.
pub fn gate_width(facts: &Description) -> usize {
    let of = |layer: &LayerDescription| match &residuals(layer)?[1].block {
        BlockDescription::GatedMlp(mlp) => Some(mlp.width()),
        BlockDescription::Experts(experts) => Some(experts.width),
        _ => None,
    };
    facts.layers.iter().find_map(of).expect("others were refused")
}

/// Nearly the same, as numbers in 32 bits.
pub fn near(one: f32, other: f32, share: f32) -> bool {
    (one - other).abs() <= share * other.abs()
}

/// The root of a width.
pub fn root(width: usize) -> f32 {
    #[expect(clippy::cast_precision_loss)] // widths are small
    let width = width as f32;
    width.sqrt()
}

/// A size as files have it.
///
/// # Errors
/// When it is too large.
pub fn size_of(key: &str, size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| Error::export(format!("`{key}` is too large")))
}
