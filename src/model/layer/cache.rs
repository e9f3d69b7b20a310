//! What layers keep of the tokens of a text, for those that come next.

use super::Layer;
use crate::model::Model;
use crate::model::blocks::BlockCache;

/// What the parts of a layer keep of the tokens so far.
#[derive(Clone)]
pub struct LayerCache(pub(super) Vec<BlockCache>);

/// What all layers keep of one text.
#[derive(Clone)]
pub struct Cache {
    /// One per layer.
    pub layers: Vec<LayerCache>,
}

impl Cache {
    /// An empty cache.
    pub fn new(model: &Model) -> Self {
        let empty = |layer: &Layer| {
            LayerCache(layer.residuals().iter().map(|_| BlockCache::default()).collect())
        };
        Self { layers: model.layers.iter().map(empty).collect() }
    }
}
