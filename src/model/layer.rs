//! What every decoder layer offers, and what it is given besides its input.

use burn::tensor::{Device, Tensor};

use crate::model::{Linear, Parameter, Visitor};
use crate::ops::{self, Frequencies};
use crate::random::Stream;

/// One decoder layer.
pub trait Layer: Send {
    /// `x: [tokens, hidden]` in and out. With a cache, `x` continues what the cache holds.
    fn forward(
        &self,
        x: Tensor<2>,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<2>;
    /// Visits every parameter under `path`.
    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor);
    /// Visits every linear layer under `path`.
    fn linears(&mut self, path: &str, change: &mut dyn FnMut(&str, &mut Linear));
    /// A copy whose learning parameters are leaves of a tape.
    fn tracked(&self) -> Box<dyn Layer>;
}

/// What all layers of one forward pass share.
pub struct Context {
    /// Rows of the micro-batch.
    pub rows: usize,
    /// Positions in each row.
    pub length: usize,
    /// Cosines and sines by position, `[tokens, 1, head_dim]`.
    pub rotary: (Tensor<3>, Tensor<3>),
    /// Who sees whom; `None`: every key is seen (one new token after a cache).
    pub mask: Option<Tensor<4>>,
    /// Dropout of adapters acts only in training; the stream names step and micro-batch.
    pub dropout: Option<Stream>,
}

impl Context {
    /// The context of packed rows.
    pub fn packed(
        rows: usize,
        length: usize,
        positions: &[u32],
        documents: &[u32],
        frequencies: &Frequencies,
        device: &Device,
    ) -> Self {
        Self {
            rows,
            length,
            rotary: frequencies.tables(positions, device),
            mask: Some(ops::attention_mask(documents, rows, length, device)),
            dropout: None,
        }
    }
}

/// Keys and values of the tokens so far, for one layer: `[rows, tokens, groups, head_dim]`.
#[derive(Default)]
pub struct LayerCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl LayerCache {
    /// Appends, and returns all keys and values.
    pub fn extend(&mut self, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let join = |held: Option<Tensor<4>>, new: Tensor<4>| match held {
            Some(held) => Tensor::cat(vec![held, new], 1),
            None => new,
        };
        let keys = join(self.keys.take(), keys);
        let values = join(self.values.take(), values);
        self.keys = Some(keys.clone());
        self.values = Some(values.clone());
        (keys, values)
    }
}

/// Keys and values of all layers.
pub struct Cache {
    /// One per layer.
    pub layers: Vec<LayerCache>,
}

impl Cache {
    /// An empty cache.
    pub fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| LayerCache::default()).collect() }
    }
}

/// Root mean square norm with a gain.
pub struct RmsNorm {
    /// `[features]`.
    pub gain: Parameter<1>,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl RmsNorm {
    /// Normalises `x: [tokens, features]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        ops::rms_norm(x, self.gain.value.clone(), self.epsilon)
    }

    /// A copy whose gain is a leaf of a tape if it learns.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self { gain: self.gain.tracked(), epsilon: self.epsilon }
    }
}
