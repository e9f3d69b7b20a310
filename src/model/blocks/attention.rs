//! Attention with grouped queries (Ainslie et al. 2023): projections, norms of queries and keys,
//! rotation, what is mixed, and back to the width of the residual stream. The cache with which text
//! is written token by token is here, too.

use burn::tensor::{Gradients as Tape, Tensor};

use super::{NamedLinear, Norm, NormOnCpu, Setting};
use crate::error::Result;
use crate::model::description::{AttentionDescription, Rope};
use crate::model::{PassContext, Visitor, WeightSource};
use crate::ops::cpu::{
    AsLhs, Attention as Mixing, Back, Given, HostTensor, Left, Mixed, Narrow, PathGradients,
    Projection, Rotation, View,
};
use crate::ops::{
    AttentionConfig, attend, attend_backward, attend_cached, attend_composed, rotate,
};

/// The weights.
pub struct Attention {
    qkv: [NamedLinear; 3],
    output: NamedLinear,
    /// Of queries and keys.
    norms: Option<[Norm; 2]>,
    config: AttentionConfig,
    /// Which of the rotations of the model turns queries and keys, if one does.
    rope: Option<usize>,
}

impl Attention {
    /// Takes its weights, under the module path of the layer; `ropes` are those of the model.
    pub fn read(
        path: &str,
        description: &AttentionDescription,
        ropes: &[(Rope, usize)],
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let AttentionDescription { qkv: [q, k, v], output, qk_norms, config, rope } = description;
        let mut linear = |of| NamedLinear::read(path, of, weights);
        let (qkv, output) = ([linear(*q)?, linear(*k)?, linear(*v)?], linear(*output)?);
        let norms = match qk_norms {
            Some([q, k]) => {
                Some([Norm::read(Some(path), q, weights)?, Norm::read(Some(path), k, weights)?])
            }
            None => None,
        };
        let width = config.heads.width;
        let rope = rope.and_then(|rope| ropes.iter().position(|known| *known == (rope, width)));
        Ok(Self { qkv, output, norms, config: *config, rope })
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        self.qkv.iter_mut().chain([&mut self.output]).collect()
    }

    /// Visits the norms; `path` is that of the layer.
    pub fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        self.norms.iter_mut().flatten().for_each(|norm| norm.visit(Some(path), visitor));
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            qkv: self.qkv.each_ref().map(NamedLinear::tracked),
            output: self.output.tracked(),
            norms: self.norms.as_ref().map(|norms| norms.each_ref().map(Norm::tracked)),
            ..*self
        }
    }

    /// Queries, keys and values of `x: [tokens, hidden]`, normalised and rotated.
    fn project(&self, x: Tensor<2>, context: &PassContext) -> [Tensor<2>; 3] {
        let [q, k, v] = &self.qkv;
        let turned = |to: &NamedLinear, norm: Option<&Norm>| {
            let mut y = to.linear.forward(x.clone(), context);
            if let Some(norm) = norm {
                y = norm.forward(y);
            }
            let Some(rope) = self.rope else { return y };
            let ([tokens, features], width) = (y.dims(), self.config.heads.width);
            let (cosines, sines) = &context.rotary[rope];
            let heads = y.reshape([tokens, features / width, width]);
            rotate(heads, cosines, sines).reshape([tokens, features])
        };
        let norms = self.norms.as_ref();
        let q = turned(q, norms.map(|norms| &norms[0]));
        let k = turned(k, norms.map(|norms| &norms[1]));
        [q, k, v.linear.forward(x, context)]
    }

    /// Back to the width of the residual stream: `[tokens, hidden]`.
    fn leave(&self, mixed: Tensor<2>, context: &PassContext) -> Tensor<2> {
        self.output.linear.forward(mixed, context)
    }

    /// `[tokens, hidden]` in and out, on plain tensors; a cache keeps keys and values.
    pub fn forward(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<2> {
        let [q, k, v] = self.project(x, context);
        if let Some(cache) = cache {
            cache.extend(self.placed(&k), self.placed(&v), self.config.window);
        }
        let mixed = attend([&q, &k, &v], self.config, &context.documents, context.computing);
        self.leave(if picks { context.picked(mixed) } else { mixed }, context)
    }

    /// As rows of heads, of one text.
    fn placed(&self, x: &Tensor<2>) -> Tensor<4> {
        let heads = self.config.heads;
        x.clone().reshape([1, x.dims()[0], heads.kv_heads, heads.width])
    }

    /// The same for one more token of each of several texts.
    pub fn next(
        &self,
        x: Tensor<2>,
        context: &PassContext,
        caches: &mut [&mut KeyValueCache],
    ) -> Tensor<2> {
        let [q, k, v] = self.project(x, context);
        let mixed = caches.iter_mut().enumerate().map(|(text, cache)| {
            let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(0, text, 1));
            let (keys, values) = cache.extend(self.placed(&k), self.placed(&v), self.config.window);
            attend_cached(q, keys, values, self.config)
        });
        self.leave(Tensor::cat(mixed.collect(), 0), context)
    }

    /// The same as tensor operations that one tape follows.
    pub fn composed(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let mixed = attend_composed(self.project(x, context), self.config, &context.documents);
        self.leave(mixed, context)
    }

    /// The same for `x` on a tape, and what was mixed on another.
    pub fn taped(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
    ) -> (Tensor<2>, TapedAttention) {
        let qkv = self.project(x, context);
        let [q, k, v] = qkv.clone().map(Tensor::inner);
        let mixed = attend([&q, &k, &v], self.config, &context.documents, context.computing);
        let mixed = if picks { context.picked(mixed) } else { mixed };
        let mixed = mixed.autodiff().require_grad();
        (self.leave(mixed.clone(), context), TapedAttention { qkv, mixed })
    }

    /// From the tape of the output to that of the input, which is added to them.
    pub fn back(
        &self,
        taped: TapedAttention,
        (context, picks): (&PassContext, bool),
        tapes: &mut Vec<Tape>,
    ) {
        let TapedAttention { qkv, mixed } = taped;
        let after = tapes.last_mut().expect("that of the output");
        let d = mixed.grad_remove(after).expect("it is a leaf of the tape");
        let d = if picks { context.spread(d) } else { d };
        let [q, k, v] = qkv.clone().map(Tensor::inner);
        let (documents, computing) = (&context.documents, context.computing);
        let d_qkv = attend_backward([&q, &k, &v], &d, self.config, documents, computing);
        let products = qkv.into_iter().zip(d_qkv).map(|(x, d)| (x * d).sum());
        let total = products.reduce(|a, b| a + b).expect("there are three of them");
        tapes.push(total.backward());
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<AttentionOnCpu> {
        let [q, k, v] = self.qkv.each_ref().map(|linear| linear.on_cpu(context));
        let norms = match &self.norms {
            Some([q, k]) => Some([q.on_cpu()?, k.on_cpu()?]),
            None => None,
        };
        let rope = match self.rope {
            Some(rope) => {
                let (cosines, sines) = &context.rotary[rope];
                Some([HostTensor::of(cosines)?, HostTensor::of(sines)?])
            }
            None => None,
        };
        let (qkv, output) = ([q?, k?, v?], self.output.on_cpu(context)?);
        Some(AttentionOnCpu { qkv, output, norms, config: self.config, rope })
    }
}

/// What the gradient needs of a forward pass on tapes.
pub struct TapedAttention {
    /// On the first.
    qkv: [Tensor<2>; 3],
    /// The leaf of the second.
    mixed: Tensor<2>,
}

/// Keys and values of the tokens so far, of one block: `[rows, tokens, kv_heads, head_dim]`; only
/// the last of them where there is a window.
#[derive(Default)]
pub struct KeyValueCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl KeyValueCache {
    /// Appends, and returns all keys and values that the last token sees.
    pub fn extend(
        &mut self,
        keys: Tensor<4>,
        values: Tensor<4>,
        window: Option<usize>,
    ) -> (Tensor<4>, Tensor<4>) {
        let join = |held: Option<Tensor<4>>, new: Tensor<4>| {
            let all = match held {
                Some(held) => Tensor::cat(vec![held, new], 1),
                None => new,
            };
            let count = all.dims()[1];
            match window {
                Some(window) if window < count => all.narrow(1, count - window, window),
                _ => all,
            }
        };
        let keys = join(self.keys.take(), keys);
        let values = join(self.values.take(), values);
        self.keys = Some(keys.clone());
        self.values = Some(values.clone());
        (keys, values)
    }
}

/// The block for the kernels of the CPU.
pub struct AttentionOnCpu {
    qkv: [Projection; 3],
    output: Projection,
    norms: Option<[NormOnCpu; 2]>,
    config: AttentionConfig,
    /// Cosines and sines.
    rope: Option<[HostTensor; 2]>,
}

/// What its backward pass needs, in the format of factors.
pub struct SavedAttention<F: AsLhs> {
    qkv: [Left<F>; 3],
    /// Queries and keys before their norms.
    raw: [Option<Left<F>>; 2],
    mixed: Mixed<F>,
    narrow_qkv: [Narrow<F>; 3],
    narrow_output: Narrow<F>,
}

impl AttentionOnCpu {
    fn rotation(&self) -> Option<Rotation<'_>> {
        self.rope.as_ref().map(|[cosines, sines]| Rotation {
            cosines: cosines.single(),
            sines: sines.single(),
            width: self.config.heads.width,
        })
    }

    /// Queries or keys, before their norm if they have one and as they are mixed.
    fn turned<F: AsLhs>(
        &self,
        number: usize,
        x: &Left<F>,
    ) -> (Option<Left<F>>, Left<F>, Narrow<F>) {
        let tokens = x.view().rows;
        let factor = |y: &[f32]| Left::of(View::new(y, tokens, y.len() / tokens.max(1)));
        let (mut y, narrow) = self.qkv[number].forward::<F>(x.view());
        let raw = self.norms.as_ref().map(|norms| {
            let raw = factor(&y);
            y = norms[number].operation().rows(&y);
            raw
        });
        let turned = match self.rotation() {
            Some(rotation) => rotation.rows(&y),
            None => factor(&y),
        };
        (raw, turned, narrow)
    }

    fn mixing<'a, F: AsLhs>(
        &self,
        [q, k, v]: &'a [Left<F>; 3],
        setting: Setting<'a>,
    ) -> Mixing<'a, F> {
        let Setting { documents, wanted } = setting;
        Mixing { q, k, v, config: self.config, documents, wanted }
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target, a row for each token that is
    /// wanted.
    pub fn forward<F: AsLhs>(
        &self,
        x: Left<F>,
        target: &mut [f32],
        setting: Setting,
    ) -> SavedAttention<F> {
        let values = || self.qkv[2].forward_factor::<F>(x.view());
        let k_and_v = || rayon::join(|| self.turned(1, &x), values);
        let (q, (k, v)) = rayon::join(|| self.turned(0, &x), k_and_v);
        let ((raw_q, q, narrow_q), (raw_k, k, narrow_k), (v, narrow_v)) = (q, k, v);
        drop(x);
        let qkv = [q, k, v];
        let mixed = self.mixing(&qkv, setting).forward();
        // What follows is done to each token by itself.
        let some = setting.wanted.map(|rows| mixed.output.picked(rows));
        let narrow_output =
            self.output.add::<F>(some.as_ref().unwrap_or(&mixed.output).view(), target);
        let narrow_qkv = [narrow_q, narrow_k, narrow_v];
        SavedAttention { qkv, raw: [raw_q, raw_k], mixed, narrow_qkv, narrow_output }
    }

    /// The gradient of the input, of all tokens, from that of what was added; `x` makes the input
    /// again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedAttention<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let factor = F::factor_of(d, self.output.weight.rows());
        let given = [(&self.output, factor.view(), &saved.narrow_output)];
        let some = setting.wanted.map(|rows| saved.mixed.output.picked(rows));
        let mixed = some.as_ref().unwrap_or(&saved.mixed.output);
        let mut d_mixed = Back::through(&given, mixed.view(), gradients).input_factor();
        drop((factor, some));
        if let Some(rows) = setting.wanted {
            d_mixed = d_mixed.spread(rows, saved.qkv[0].view().rows);
        }
        let mixing = self.mixing(&saved.qkv, setting);
        let mut d_qkv = mixing.backward(&saved.mixed, &d_mixed, self.rotation());
        drop(d_mixed);
        let norms = self.norms.iter().flatten().zip(&saved.raw);
        for ((norm, raw), d) in norms.zip(&mut d_qkv) {
            let raw = raw.as_ref().expect("it was kept for its norm");
            let mut d_raw = vec![0.0; raw.numbers().len()];
            norm.backward(raw, d.numbers(), &mut d_raw, gradients);
            *d = Left::of(View::new(&d_raw, raw.view().rows, raw.view().columns));
        }
        let x = x();
        let ways = self.qkv.iter().zip(&d_qkv).zip(&saved.narrow_qkv);
        let given: Vec<Given<F>> = ways.map(|((to, d), narrow)| (to, d.view(), narrow)).collect();
        Back::through(&given, x.view(), gradients).input()
    }
}
