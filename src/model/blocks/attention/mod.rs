//! Attention with grouped queries (Ainslie et al. 2023): projections, norms of queries and keys,
//! rotation, what is mixed, and back to the width of the residual stream.

mod cache;
mod on_cpu;

use burn::tensor::{Gradients as Tape, Tensor};

pub use cache::KeyValueCache;
pub use on_cpu::{AttentionOnCpu, SavedAttention};
use on_cpu::{RotationOnCpu, SinksOnCpu};

use super::joint::JointLinear;
use super::linear::NamedLinear;
use super::norm::Norm;
use crate::error::Result;
use crate::model::description::{AttentionDescription, Rope};
use crate::model::{Parameter, PassContext, Visitor, WeightSource};
use crate::ops::cpu::HostTensor;
use crate::ops::{
    Angles, AttentionConfig, AttentionInputs, attend, attend_backward, attend_cached,
    attend_composed, rotate,
};

/// The weights.
pub struct Attention {
    qkv: JointLinear<3>,
    output: NamedLinear,
    /// Of queries and keys.
    norms: Option<[Norm; 2]>,
    /// Path within the layer, and a score of nothing for each query head.
    sinks: Option<(&'static str, Parameter<1>)>,
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
        let AttentionDescription { qkv, output, qk_norms, sinks, config, rope } = description;
        let qkv = JointLinear::read(path, qkv, weights)?;
        let output = NamedLinear::read(path, *output, weights)?;
        let norms = match qk_norms {
            Some([q, k]) => {
                Some([Norm::read(Some(path), q, weights)?, Norm::read(Some(path), k, weights)?])
            }
            None => None,
        };
        let sinks = match sinks {
            Some(name) => {
                let values = weights.zeros(&format!("{path}.{name}"), config.heads.queries)?;
                Some((*name, values))
            }
            None => None,
        };
        let width = config.heads.width;
        let known = |rope: &Rope| ropes.iter().position(|(of, wide)| of == rope && *wide == width);
        let rope = rope.as_ref().and_then(known);
        Ok(Self { qkv, output, norms, sinks, config: *config, rope })
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        let mut linears = self.qkv.linears();
        linears.push(&mut self.output);
        linears
    }

    /// Visits the norms, and the sinks; `path` is that of the layer.
    pub fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        self.norms.iter_mut().flatten().for_each(|norm| norm.visit(Some(path), visitor));
        if let Some((name, values)) = &mut self.sinks {
            visitor.vector(&format!("{path}.{name}"), values);
        }
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            qkv: self.qkv.tracked(),
            output: self.output.tracked(),
            norms: self.norms.as_ref().map(|norms| norms.each_ref().map(Norm::tracked)),
            sinks: self.sinks.as_ref().map(|(name, values)| (*name, values.tracked())),
            ..*self
        }
    }

    /// Queries, keys and values of `x: [tokens, hidden]`, normalised and rotated.
    fn project(&self, x: Tensor<2>, context: &PassContext) -> [Tensor<2>; 3] {
        let [q, k, v] = self.qkv.forward(x, context);
        let turned = |mut y: Tensor<2>, norm: Option<&Norm>, angles: Option<&Angles>| {
            if let Some(norm) = norm {
                y = norm.forward(y);
            }
            let Some(angles) = angles else { return y };
            let ([tokens, features], width) = (y.dims(), self.config.heads.width);
            let heads = y.reshape([tokens, features / width, width]);
            rotate(heads, angles).reshape([tokens, features])
        };
        let (norms, rotary) = (self.norms.as_ref(), self.rope.map(|rope| &context.rotary[rope]));
        let q = turned(q, norms.map(|norms| &norms[0]), rotary.map(|of| &of.queries));
        let k = turned(k, norms.map(|norms| &norms[1]), rotary.map(|of| &of.keys));
        [q, k, v]
    }

    /// What is mixed, with the sinks on the tape that they are on.
    fn inputs<'a>(&'a self, qkv: &'a [Tensor<2>; 3]) -> AttentionInputs<'a> {
        let sinks = self.sinks.as_ref().map(|(_, sinks)| &sinks.value);
        AttentionInputs { qkv: qkv.each_ref(), sinks }
    }

    /// The sinks as a plain tensor.
    fn plain_sinks(&self) -> Option<Tensor<1>> {
        self.sinks.as_ref().map(|(_, sinks)| match sinks.trainable {
            true => sinks.value.clone().inner(),
            false => sinks.value.clone(),
        })
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
        let qkv = self.project(x, context);
        if let Some(cache) = cache {
            cache.extend(self.placed(&qkv[1]), self.placed(&qkv[2]), self.config.window);
        }
        let inputs = self.inputs(&qkv);
        let mixed = attend(inputs, self.config, &context.documents, context.computing);
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
            let sinks = self.sinks.as_ref().map(|(_, sinks)| &sinks.value);
            attend_cached(q, [keys, values], sinks, self.config)
        });
        self.leave(Tensor::cat(mixed.collect(), 0), context)
    }

    /// The same as tensor operations that one tape follows.
    pub fn composed(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let qkv = self.project(x, context);
        let mixed = attend_composed(self.inputs(&qkv), self.config, &context.documents);
        self.leave(mixed, context)
    }

    /// The same for `x` on a tape, and what was mixed on another.
    pub fn taped(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
    ) -> (Tensor<2>, TapedAttention) {
        let qkv = self.project(x, context);
        let (plain, sinks) = (qkv.clone().map(Tensor::inner), self.plain_sinks());
        let inputs = AttentionInputs { qkv: plain.each_ref(), sinks: sinks.as_ref() };
        let mixed = attend(inputs, self.config, &context.documents, context.computing);
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
        let (plain, sinks) = (qkv.clone().map(Tensor::inner), self.plain_sinks());
        let inputs = AttentionInputs { qkv: plain.each_ref(), sinks: sinks.as_ref() };
        let (documents, computing) = (&context.documents, context.computing);
        let d_inputs = attend_backward(inputs, &d, self.config, documents, computing);
        let products = qkv.into_iter().zip(d_inputs.qkv).map(|(x, d)| (x * d).sum());
        let mut total = products.reduce(|a, b| a + b).expect("there are three of them");
        if let (Some((_, sinks)), Some(d)) = (&self.sinks, d_inputs.sinks)
            && sinks.trainable
        {
            total = total + (sinks.value.clone() * d).sum();
        }
        tapes.push(total.backward());
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<AttentionOnCpu> {
        let norms = match &self.norms {
            Some([q, k]) => Some([q.on_cpu()?, k.on_cpu()?]),
            None => None,
        };
        let rope = match self.rope {
            Some(rope) => {
                let rotary = &context.rotary[rope];
                let on_cpu = |(cosines, sines): &Angles| {
                    Some(RotationOnCpu([HostTensor::of(cosines)?, HostTensor::of(sines)?]))
                };
                Some([on_cpu(&rotary.queries)?, on_cpu(&rotary.keys)?])
            }
            None => None,
        };
        let sinks = match &self.sinks {
            Some((name, Parameter { value, trainable })) => {
                let values = HostTensor::of(value)?;
                Some(SinksOnCpu { name, values, trainable: *trainable })
            }
            None => None,
        };
        let (qkv, output) = (self.qkv.on_cpu(context)?, self.output.on_cpu(context)?);
        Some(AttentionOnCpu { qkv, output, norms, config: self.config, rope, sinks })
    }
}

/// What the gradient needs of a forward pass on tapes.
pub struct TapedAttention {
    /// On the first.
    qkv: [Tensor<2>; 3],
    /// The leaf of the second.
    mixed: Tensor<2>,
}
