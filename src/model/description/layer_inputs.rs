//! Inputs that layers have of their own beside the residual stream.

use super::{LinearDescription, NormDescription};
use crate::ops::Activation;

/// Inputs that each layer has of its own for every token (Gemma 3n, Gemma 4): numbers of a table
/// with a row for each token, and numbers that are made of the embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerInputsDescription {
    /// Numbers of a layer's input.
    pub width: usize,
    /// Path of the table: in its rows, `layers · width`, are those of all layers.
    pub table: &'static str,
    /// Rows of the table.
    pub vocabulary: usize,
    /// What its numbers are multiplied with.
    pub table_scale: f32,
    /// The token whose row lookups do not train.
    pub padding: Option<u32>,
    /// From the embedding to as many numbers, under its whole module path.
    pub projection: LinearDescription,
    /// What these are multiplied with.
    pub projection_scale: f32,
    /// Then normalised, those of each layer.
    pub norm: NormDescription,
    /// What the sum of both is multiplied with.
    pub scale: f32,
}

/// `out(activation(gate(x)) ⊙ input)`, with the layer's own input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerInputDescription {
    /// The number of the layer.
    pub layer: usize,
    /// To the width of its input.
    pub gate: LinearDescription,
    /// Back to the width of the residual stream.
    pub output: LinearDescription,
    /// What is done to the gate.
    pub activation: Activation,
}

impl LayerInputsDescription {
    /// Names and dimensions of its weights.
    pub(super) fn weights(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let Self { table, vocabulary, projection, norm, .. } = self;
        let of_table = ((*table).to_owned(), vec![*vocabulary, projection.dims[0]]);
        let of_linear = (format!("{}.weight", projection.name), projection.dims.to_vec());
        [of_table, of_linear].into_iter().chain(norm.weights())
    }
}

impl LayerInputDescription {
    /// Numbers of a token that tapes keep for the backward pass.
    pub(super) fn taped(&self, hidden: usize) -> usize {
        2 * hidden + 8 * self.gate.dims[0]
    }
}
