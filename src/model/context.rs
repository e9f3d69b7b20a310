//! What the layers of one forward pass are given besides their input.

use std::borrow::Cow;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

use crate::device::ComputeConfig;
use crate::model::{Dropout, EmbeddingNoise, SideStreams};
use crate::ops::{Documents, Frequencies, Rotary, indices};

/// Tokens of which the output of a layer is wanted. Of the last one it is what the loss is taken
/// of: what is done to each token by itself need not be done to the others.
#[derive(Debug, Clone)]
pub struct OutputRows {
    /// Their numbers, each at most once.
    pub tokens: Vec<u32>,
    indices: Tensor<1, Int>,
}

/// What the layers of one forward pass are given besides their input.
#[derive(Debug, Clone)]
pub struct PassContext {
    /// Rows, lengths, and who sees whom.
    pub documents: Documents,
    /// Cosines and sines by position, of each rotation of the model.
    pub rotary: Vec<Rotary>,
    /// Dropout of adapters acts only in training.
    pub dropout: Option<Dropout>,
    /// What is added to what enters the first layer, in training.
    pub noise: Option<EmbeddingNoise>,
    /// How matrices are multiplied, and how large they may be.
    pub computing: ComputeConfig,
    /// Of which tokens the output is wanted; of all where this is `None`.
    pub wanted: Option<OutputRows>,
    /// What goes through the layers beside the residual stream.
    pub side: SideStreams,
    /// Whether adapters are off: linear layers are then those of the base model.
    pub adapters_off: bool,
    /// Whether masks of dropout are made when a tile of tokens is computed, by the kernels of the
    /// CPU.
    pub masks_by_tile: bool,
    device: Device,
}

impl PassContext {
    /// The context of packed rows, for a model with these rotations.
    pub fn packed(
        rows: usize,
        length: usize,
        positions: &[u32],
        documents: &[u32],
        frequencies: &[Frequencies],
        device: &Device,
    ) -> Self {
        let documents = Documents::new(documents, rows, length);
        let depends = frequencies.iter().any(Frequencies::depend_on_length);
        let lengths = if depends { lengths(&documents, positions) } else { Vec::new() };
        Self {
            rotary: frequencies.iter().map(|of| of.tables(positions, &lengths, device)).collect(),
            documents,
            device: device.clone(),
            dropout: None,
            noise: None,
            computing: ComputeConfig::default(),
            wanted: None,
            side: SideStreams::default(),
            adapters_off: false,
            masks_by_tile: false,
        }
    }

    /// First token and count of each tile in which an MLP computes so many tokens; none where it
    /// computes all at once.
    pub fn mlp_tiles(&self, tokens: usize) -> Option<Vec<(usize, usize)>> {
        let tile = self.computing.mlp_tile.filter(|tile| tokens > *tile)?;
        let firsts = (0..tokens).step_by(tile);
        Some(firsts.map(|first| (first, tile.min(tokens - first))).collect())
    }

    /// For some of the tokens, of which each is computed by itself. Where inputs are dropped, no
    /// token was left out before.
    pub fn of_tokens(&self, first: usize, count: usize) -> Cow<'_, Self> {
        let Some(dropout) = &self.dropout else { return Cow::Borrowed(self) };
        let numbers = Some((first..first + count).map(|token| dropout.number(token)).collect());
        let dropout = Some(Dropout { stream: dropout.stream, numbers });
        Cow::Owned(Self { dropout, ..self.clone() })
    }

    /// What enters the first layer, with its noise.
    pub fn with_noise(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.noise {
            Some(noise) => noise.add(x, &self.documents),
            None => x,
        }
    }

    /// The same, computed in another way.
    #[must_use]
    pub fn computed(self, computing: ComputeConfig) -> Self {
        Self { computing, ..self }
    }

    /// The same, with masks of dropout made when a tile of tokens is computed.
    #[must_use]
    pub fn with_masks_by_tile(self) -> Self {
        Self { masks_by_tile: true, ..self }
    }

    /// The same, through the base model alone.
    #[must_use]
    pub fn without_adapters(self) -> Self {
        Self { adapters_off: true, ..self }
    }

    /// The same, with the output wanted of some tokens.
    #[must_use]
    pub fn only(&self, tokens: Vec<u32>) -> Self {
        let indices = indices(tokens.iter().copied(), &self.device);
        Self { wanted: Some(OutputRows { tokens, indices }), ..self.clone() }
    }

    /// Where indices go.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Rows of `x: [tokens, features]` that are wanted.
    pub fn picked(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.wanted {
            Some(wanted) => x.select(0, wanted.indices.clone()),
            None => x,
        }
    }

    /// The gradient of what [`Self::picked`] was given, from that of what it gave.
    pub fn spread(&self, d: Tensor<2>) -> Tensor<2> {
        let Some(wanted) = &self.wanted else { return d };
        let tokens = self.documents.rows * self.documents.length;
        let zeros = Tensor::zeros([tokens, d.dims()[1]], &d.device());
        zeros.select_assign(0, wanted.indices.clone(), d, IndexingUpdateOp::Add)
    }
}

/// The length of the document of each token so far: one more than its last position, which is that
/// of the text where a token continues one.
fn lengths(documents: &Documents, positions: &[u32]) -> Vec<u32> {
    let mut lengths = vec![0; positions.len()];
    for (first, count) in documents.spans() {
        let here = *first..first + count;
        let last = positions[here.clone()].iter().max().copied().unwrap_or(0);
        lengths[here].fill(last + 1);
    }
    lengths
}
