//! What every decoder layer offers, and what it is given besides its input.

use std::sync::Arc;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

use crate::device::Computing;
use crate::model::{Linear, OnCpu, Parameter, Visitor};
use crate::ops::{self, Documents, Frequencies, Heads, attend, attend_cached, cpu, indices};
use crate::random::Stream;

/// One decoder layer, in two halves with attention between them: the halves are differentiated by
/// a tape each, attention by hand.
pub trait Layer: Send + Sync {
    /// Queries, keys and values of `x: [tokens, hidden]`, rotated: `[tokens, heads · width]` each.
    fn project(&self, x: Tensor<2>, context: &Context) -> [Tensor<2>; 3];
    /// What leaves the layer, `[tokens, hidden]`, from its input and what attention mixed.
    fn finish(&self, x: Tensor<2>, mixed: Tensor<2>, context: &Context) -> Tensor<2>;
    /// How queries, keys and values are laid out.
    fn heads(&self) -> Heads;
    /// Visits every parameter under `path`.
    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor);
    /// Visits every linear layer under `path`.
    fn linears(&mut self, path: &str, change: &mut dyn FnMut(&str, &mut Linear));
    /// A copy whose learning parameters are leaves of a tape.
    fn tracked(&self) -> Box<dyn Layer>;
    /// The layer as the kernels of the CPU know it; none on other devices, or if it is another
    /// kind of layer.
    fn decoder(&self, context: &Context) -> Option<cpu::Decoder>;

    /// Both halves on plain tensors. A cache, empty until then, keeps what [`Self::next`] needs.
    /// The output has rows for the tokens that are [`Wanted`].
    fn forward(
        &self,
        x: Tensor<2>,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<2> {
        if cache.is_none()
            && let Some(here) = OnCpu::of(self, &x, context)
        {
            return here.forward(x).0;
        }
        let heads = self.heads();
        let [q, k, v] = self.project(x.clone(), context);
        let (rows, length) = (context.documents.rows, context.documents.length);
        let place = |x: &Tensor<2>| x.clone().reshape([rows, length, heads.groups, heads.width]);
        let mixed = match cache {
            Some(cache) if cache.is_empty() => {
                cache.extend(place(&k), place(&v));
                attend(&q, &k, &v, heads, &context.documents, context.computing).output
            }
            Some(_) => unreachable!("after the prompt, tokens come one by one"),
            None => attend(&q, &k, &v, heads, &context.documents, context.computing).output,
        };
        self.finish(context.picked(x), context.picked(mixed), context)
    }

    /// The output for one more token of each of several texts, `x: [texts, hidden]`, whose caches
    /// hold what came before.
    fn next(&self, x: Tensor<2>, context: &Context, caches: &mut [&mut LayerCache]) -> Tensor<2> {
        let heads = self.heads();
        let [q, k, v] = self.project(x.clone(), context);
        let mixed = caches.iter_mut().enumerate().map(|(text, cache)| {
            let of_text = |x: &Tensor<2>| x.clone().narrow(0, text, 1);
            let place = |x: &Tensor<2>| of_text(x).reshape([1, 1, heads.groups, heads.width]);
            let (keys, values) = cache.extend(place(&k), place(&v));
            attend_cached(of_text(&q), keys, values, heads)
        });
        let mixed = Tensor::cat(mixed.collect(), 0);
        self.finish(x, mixed, context)
    }
}

/// Tokens of which the output of a layer is wanted. Of the last one it is what the loss is taken
/// of: what is done to each token by itself need not be done to the others.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Their numbers, each at most once.
    pub tokens: Vec<u32>,
    indices: Tensor<1, Int>,
}

/// What the layers of one forward pass are given besides their input.
#[derive(Debug, Clone)]
pub struct Context {
    /// Rows, lengths, and who sees whom.
    pub documents: Documents,
    /// Cosines and sines by position, `[tokens, 1, head_dim]`.
    pub rotary: (Tensor<3>, Tensor<3>),
    /// Dropout of adapters acts only in training.
    pub dropout: Option<Dropout>,
    /// How matrices are multiplied, and how large they may be.
    pub computing: Computing,
    /// Of which tokens the output is wanted; of all where this is `None`.
    pub wanted: Option<Wanted>,
}

/// Which inputs are dropped.
#[derive(Debug, Clone)]
pub struct Dropout {
    /// Names step and micro-batch.
    pub stream: Stream,
    /// What [`Self::number`] gives where it is not the place of a token.
    pub numbers: Option<Arc<[Option<usize>]>>,
}

impl From<Stream> for Dropout {
    fn from(stream: Stream) -> Self {
        Self { stream, numbers: None }
    }
}

impl Dropout {
    /// The number of a token of these in its micro-batch, or nothing for padding that was added: a
    /// micro-batch that is worked on in parts, with more padding or less, drops what it would drop
    /// as a whole.
    pub fn number(&self, token: usize) -> Option<usize> {
        match &self.numbers {
            Some(numbers) => numbers[token],
            None => Some(token),
        }
    }
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
            documents: Documents::new(documents, rows, length),
            rotary: frequencies.tables(positions, device),
            dropout: None,
            computing: Computing::default(),
            wanted: None,
        }
    }

    /// The same, computed in another way.
    #[must_use]
    pub fn computed(self, computing: Computing) -> Self {
        Self { computing, ..self }
    }

    /// The same, with the output wanted of some tokens.
    #[must_use]
    pub fn only(&self, tokens: Vec<u32>) -> Self {
        let indices = indices(tokens.iter().copied(), &self.rotary.0.device());
        Self { wanted: Some(Wanted { tokens, indices }), ..self.clone() }
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

/// Keys and values of the tokens so far, for one layer: `[rows, tokens, groups, head_dim]`.
#[derive(Default)]
pub struct LayerCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl LayerCache {
    /// Does it hold nothing yet?
    pub fn is_empty(&self) -> bool {
        self.keys.is_none()
    }

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
