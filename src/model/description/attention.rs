//! What attention is made of besides its options: where its inputs come from.

use super::{
    AttentionDescription, Description, JointDescription, LayerDescription, LinearDescription,
    NormDescription,
};
use crate::device::DeviceLimits;
use crate::ops::{AttentionConfig, keeps_no_scores};

/// Where queries, keys and values come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QkvDescription {
    /// All from the input.
    Joint(JointDescription<3>),
    /// Queries and keys from the input; keys are values as well, before their norm and rotation.
    KeysAsValues(JointDescription<2>),
    /// Queries from the input; keys and values are those that an earlier layer shares under this
    /// number ([`AttentionDescription::shares`]).
    Queries(LinearDescription, usize),
}

impl QkvDescription {
    /// The linear layers that there are.
    pub fn linears(&self) -> &[LinearDescription] {
        match self {
            Self::Joint(joint) => joint.linears(),
            Self::KeysAsValues(joint) => joint.linears(),
            Self::Queries(linear, _) => std::slice::from_ref(linear),
        }
    }

    /// The same, to change them.
    pub(super) fn linears_mut(&mut self) -> &mut [LinearDescription] {
        match self {
            Self::Joint(joint) => joint.linears_mut(),
            Self::KeysAsValues(joint) => joint.linears_mut(),
            Self::Queries(linear, _) => std::slice::from_mut(linear),
        }
    }
}

impl AttentionDescription {
    /// Its norms, in order: a layer without keys of its own has none of keys.
    pub(super) fn norms(&self) -> impl Iterator<Item = NormDescription> {
        let own = !matches!(self.qkv, QkvDescription::Queries(..));
        let [query, key] = self.qk_norms.map_or([None; 2], |norms| norms.map(Some));
        [query, key.filter(|_| own), self.value_norm].into_iter().flatten()
    }

    /// Numbers of a token that tapes keep for the backward pass. Keys of another layer are kept
    /// there.
    pub(super) fn taped(&self, hidden: usize) -> usize {
        let (query, all) = (self.config.query_width(), self.config.key_width());
        // Where keys are values, both norms are of the same numbers.
        let (key, value_norms) = match self.qkv {
            QkvDescription::Joint(_) => (all, usize::from(self.value_norm.is_some())),
            QkvDescription::KeysAsValues(_) => (all, 0),
            QkvDescription::Queries(..) => (0, 0),
        };
        let normed = if self.qk_norms.is_some() { query + key } else { 0 };
        let normed = normed + value_norms * key;
        let gate = if self.gated { query } else { 0 };
        8 * hidden.max(query) + 3 * (normed + gate)
    }
}

impl Description {
    /// Whether a layer takes keys and values of another.
    pub fn shares_keys(&self) -> bool {
        let mut attention = self.layers.iter().flat_map(LayerDescription::attention);
        attention.any(|attention| attention.shares.is_some())
    }

    /// Attention of layers that keep keys and values of their own where a text is written, and take
    /// not those of another.
    pub fn caching_attention(&self) -> impl Iterator<Item = AttentionConfig> {
        let attention = self.layers.iter().flat_map(LayerDescription::attention);
        let own = attention.filter(|it| !matches!(it.qkv, QkvDescription::Queries(..)));
        own.map(|attention| attention.config)
    }

    /// Most query heads of a layer.
    pub fn heads(&self) -> usize {
        let attention = self.layers.iter().flat_map(LayerDescription::attention);
        attention.map(|attention| attention.config.heads.queries).max().unwrap_or(0)
    }

    /// Most query heads of a layer whose scores are in the memory of a GPU, for so many rows of a
    /// length and a device that takes so much at once.
    pub fn heads_with_scores(&self, size: (usize, usize), limits: DeviceLimits) -> usize {
        let attention = self.layers.iter().flat_map(LayerDescription::attention);
        let kept =
            attention.filter(|of| of.sinks.is_some() || !keeps_no_scores(of.config, size, limits));
        kept.map(|attention| attention.config.heads.queries).max().unwrap_or(0)
    }
}
