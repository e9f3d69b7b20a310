//! A model whose weights several runs have in common.

use super::{Embedding, Head, Layer, Model};

impl Model {
    /// The same weights once more, as a model of its own: tensors and codes are in memory once, and
    /// each of the two may get adapters of its own beside them. For models of which nothing is
    /// trained yet.
    #[must_use]
    pub fn sharing(&self) -> Self {
        let Head { norm, matrix, config } = &self.head;
        Self {
            embedding: Embedding { matrix: self.embedding.matrix.sharing(), ..self.embedding },
            layer_inputs: self.layer_inputs.as_ref().map(super::LayerInputs::sharing),
            // Nothing of them is a leaf of a tape, since nothing is trained.
            layers: self.layers.iter().map(Layer::tracked).collect(),
            head: Head {
                norm: norm.tracked(),
                matrix: matrix.as_ref().map(super::VocabularyMatrix::sharing),
                config: *config,
            },
            description: self.description.clone(),
            frequencies: self.frequencies.clone(),
            device: self.device.clone(),
            computing: self.computing,
        }
    }
}
