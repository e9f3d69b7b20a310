//! Attention with grouped queries (Ainslie et al. 2023): projections, norms of queries and keys,
//! rotation, what is mixed, and back to the width of the residual stream.

mod activity;
mod beside;
mod cache;
mod decode;
mod on_cpu;
mod output_gate;
mod qkv;

use burn::tensor::{Gradients as Tape, Tensor};

pub use activity::{HeadActivity, HeadWeights};
use beside::TapedApart;
pub use beside::TapedAttention;
pub use cache::KeyValueCache;
pub use decode::decode_attention;
pub use on_cpu::{AttentionOnCpu, SavedAttention};
use on_cpu::{KeysElsewhere, RotationOnCpu, SinksOnCpu};
use qkv::Qkv;

use super::linear::NamedLinear;
use super::norm::Norm;
use crate::error::Result;
use crate::model::description::{AttentionDescription, Rope};
use crate::model::{Parameter, PassContext, Visitor, WeightSource};
use crate::ops::cpu::HostTensor;
use crate::ops::{
    Angles, AttentionConfig, AttentionInputs, GivenGradients, attend, attend_backward,
    attend_cached, attend_composed, rotate,
};

/// Queries, keys and values where they are the layer's own, and the gate.
type Own = (Tensor<2>, Option<[Tensor<2>; 2]>, Option<Tensor<2>>);

/// The weights.
pub struct Attention {
    qkv: Qkv,
    output: NamedLinear,
    /// Of queries; and of keys, if they are its own.
    norms: Option<(Norm, Option<Norm>)>,
    /// Of values.
    value_norm: Option<Norm>,
    /// The number under which later layers see its keys and values.
    shares: Option<usize>,
    /// Path within the layer, and a score of nothing for each query head.
    sinks: Option<(&'static str, Parameter<1>)>,
    /// Whether what is mixed goes through a gate.
    gated: bool,
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
        let AttentionDescription { qkv, output, qk_norms, value_norm, .. } = description;
        let AttentionDescription { shares, sinks, gated, config, rope, .. } = description;
        let qkv = Qkv::read(path, qkv, weights)?;
        let output = NamedLinear::read(path, *output, weights)?;
        let mut norm = |of| Norm::read(Some(path), of, weights);
        let norms = match qk_norms {
            Some([q, _]) if qkv.borrowed().is_some() => Some((norm(q)?, None)),
            Some([q, k]) => Some((norm(q)?, Some(norm(k)?))),
            None => None,
        };
        let value_norm = value_norm.as_ref().map(norm).transpose()?;
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
        let (config, shares, gated) = (*config, *shares, *gated);
        Ok(Self { qkv, output, norms, value_norm, shares, sinks, gated, config, rope })
    }

    /// How many query heads it has.
    pub fn heads(&self) -> usize {
        self.config.heads.queries
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        let mut linears = self.qkv.linears();
        linears.push(&mut self.output);
        linears
    }

    /// Visits the norms, and the sinks; `path` is that of the layer.
    pub fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        let norms = self.norms.iter_mut().flat_map(|(q, k)| [Some(q), k.as_mut()]);
        let norms = norms.flatten().chain(&mut self.value_norm);
        norms.for_each(|norm| norm.visit(Some(path), visitor));
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
            norms: self.norms.as_ref().map(|(q, k)| (q.tracked(), k.as_ref().map(Norm::tracked))),
            value_norm: self.value_norm.as_ref().map(Norm::tracked),
            sinks: self.sinks.as_ref().map(|(name, values)| (*name, values.tracked())),
            ..*self
        }
    }

    /// Queries of `x: [tokens, hidden]`, and the keys and values that are its own, normalised and
    /// rotated; and the gate.
    fn own(&self, x: Tensor<2>, context: &PassContext) -> Own {
        let (mut q, keys_values) = self.qkv.forward(x, context);
        let mut gate = None;
        if self.gated {
            let [queries, beside] = output_gate::split(q, self.config.heads);
            (q, gate) = (queries, Some(beside));
        }
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
        let q = turned(q, norms.map(|(q, _)| q), rotary.map(|of| &of.queries));
        let keys_values = keys_values.map(|[k, v]| {
            let of_keys = norms.and_then(|(_, k)| k.as_ref());
            let k = turned(k, of_keys, rotary.map(|of| &of.keys));
            [k, turned(v, self.value_norm.as_ref(), None)]
        });
        (q, keys_values, gate)
    }

    /// The same with keys and values of the layer that shares them, which are on no tape of this
    /// one.
    fn project(&self, x: Tensor<2>, context: &PassContext) -> ([Tensor<2>; 3], Option<Tensor<2>>) {
        let (q, own, gate) = self.own(x, context);
        let [k, v] = match (own, self.qkv.borrowed()) {
            (Some(own), _) => own,
            (None, Some(number)) => context.side.shared(number),
            (None, None) => unreachable!("keys are its own or another layer's"),
        };
        ([q, k, v], gate)
    }

    /// Shows keys and values to later layers, if it is to.
    fn share(&self, [_, k, v]: &[Tensor<2>; 3], context: &PassContext) {
        if let Some(number) = self.shares {
            context.side.share(number, [k.clone(), v.clone()]);
        }
    }

    /// What was projected, without the tapes that it is on.
    fn plain(&self, [q, k, v]: &[Tensor<2>; 3]) -> [Tensor<2>; 3] {
        let of_keys = |x: &Tensor<2>| match self.qkv.borrowed() {
            Some(_) => x.clone(),
            None => x.clone().inner(),
        };
        [q.clone().inner(), of_keys(k), of_keys(v)]
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
    fn leave(&self, mixed: Tensor<2>, gate: Option<Tensor<2>>, context: &PassContext) -> Tensor<2> {
        self.output.linear.forward(output_gate::gated(mixed, gate), context)
    }

    /// `[tokens, hidden]` in and out, on plain tensors; a cache keeps keys and values.
    pub fn forward(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<2> {
        if cache.is_none()
            && let Some(y) = self.forward_beside(&x, (context, picks))
        {
            return y;
        }
        let (qkv, gate) = self.project(x, context);
        self.share(&qkv, context);
        if let Some(cache) = cache.filter(|_| self.qkv.borrowed().is_none()) {
            cache.extend(self.placed(&qkv[1]), self.placed(&qkv[2]), self.config.window);
        }
        let inputs = self.inputs(&qkv);
        let mixed = attend(inputs, self.config, &context.documents, context.computing);
        let picked = |x: Tensor<2>| if picks { context.picked(x) } else { x };
        self.leave(picked(mixed), gate.map(picked), context)
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
        let (q, own, gate) = self.own(x, context);
        let keys_values: Vec<[Tensor<4>; 2]> = match (own, self.qkv.borrowed()) {
            (Some([k, v]), _) => {
                let extended = caches.iter_mut().enumerate().map(|(text, cache)| {
                    let [k, v] = [&k, &v].map(|x| self.placed(&x.clone().narrow(0, text, 1)));
                    let (keys, values) = cache.extend(k, v, self.config.window);
                    [keys, values]
                });
                extended.collect()
            }
            (None, Some(number)) => context.side.shared_of_texts(number),
            (None, None) => unreachable!("keys are its own or another layer's"),
        };
        if let Some(number) = self.shares {
            context.side.share_of_texts(number, keys_values.clone());
        }
        let mixed = keys_values.into_iter().enumerate().map(|(text, keys_values)| {
            let sinks = self.sinks.as_ref().map(|(_, sinks)| &sinks.value);
            attend_cached(q.clone().narrow(0, text, 1), keys_values, sinks, self.config)
        });
        self.leave(Tensor::cat(mixed.collect(), 0), gate, context)
    }

    /// The same as tensor operations that one tape follows.
    pub fn composed(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let (qkv, gate) = self.project(x, context);
        self.share(&qkv, context);
        let mixed = attend_composed(self.inputs(&qkv), self.config, &context.documents);
        self.leave(mixed, gate, context)
    }

    /// The same for `x` on a tape, and what was mixed on another.
    pub fn taped(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
    ) -> (Tensor<2>, TapedAttention) {
        if let Some((y, taped)) = self.taped_beside(&x, (context, picks)) {
            return (y, TapedAttention::Beside(taped));
        }
        let (qkv, gate) = self.project(x, context);
        let (plain, sinks) = (self.plain(&qkv), self.plain_sinks());
        self.share(&plain, context);
        let inputs = AttentionInputs { qkv: plain.each_ref(), sinks: sinks.as_ref() };
        let mixed = attend(inputs, self.config, &context.documents, context.computing);
        let picked = |x: Tensor<2>| if picks { context.picked(x) } else { x };
        let leaf = |x: Tensor<2>| picked(x).autodiff().require_grad();
        let mixed = leaf(mixed);
        let gate = gate.map(|gate| (gate.clone(), leaf(gate.inner())));
        let open = gate.as_ref().map(|(_, leaf)| leaf.clone());
        let y = self.leave(mixed.clone(), open, context);
        (y, TapedAttention::Apart(TapedApart { qkv, gate, mixed }))
    }

    /// From the tape of the output to that of the input, which is added to them.
    pub fn back(
        &self,
        taped: TapedAttention,
        (context, picks): (&PassContext, bool),
        tapes: &mut Vec<Tape>,
    ) {
        let TapedApart { qkv, gate, mixed } = match taped {
            TapedAttention::Apart(taped) => taped,
            TapedAttention::Beside(taped) => {
                return self.back_beside(taped, (context, picks), tapes);
            }
        };
        let after = tapes.last_mut().expect("that of the output");
        let mut gradient = |leaf: &Tensor<2>| {
            let d = leaf.grad_remove(after).expect("it is a leaf of the tape");
            if picks { context.spread(d) } else { d }
        };
        let d = gradient(&mixed);
        let gate = gate.map(|(gate, leaf)| (gate, gradient(&leaf)));
        let (plain, sinks) = (self.plain(&qkv), self.plain_sinks());
        let inputs = AttentionInputs { qkv: plain.each_ref(), sinks: sinks.as_ref() };
        let (documents, computing) = (&context.documents, context.computing);
        let d_inputs = attend_backward(inputs, &d, self.config, documents, computing);
        let d_qkv = self.exchanged(d_inputs.qkv, context);
        let ([q, k, v], [d_q, d_k, d_v]) = (qkv, d_qkv);
        let mut given = GivenGradients::of(q, d_q);
        if self.qkv.borrowed().is_none() {
            given = given.and(k, d_k).and(v, d_v);
        }
        if let Some((gate, d)) = gate {
            given = given.and(gate, d);
        }
        if let (Some((_, sinks)), Some(d)) = (&self.sinks, d_inputs.sinks)
            && sinks.trainable
        {
            given = given.and(sinks.value.clone(), d);
        }
        tapes.push(given.backward());
    }

    /// Gradients of queries, keys and values with those that later layers gave back; those of keys
    /// and values that are another layer's are given back to it.
    fn exchanged(&self, [d_q, d_k, d_v]: [Tensor<2>; 3], context: &PassContext) -> [Tensor<2>; 3] {
        if let Some(number) = self.qkv.borrowed() {
            context.side.give_back(number, [d_k.clone(), d_v.clone()]);
        }
        match self.shares.and_then(|number| context.side.take_back(number)) {
            Some([more_k, more_v]) => [d_q, d_k + more_k, d_v + more_v],
            None => [d_q, d_k, d_v],
        }
    }

    /// Whether keys and values are its own, and no other layer's.
    pub fn keeps_to_itself(&self) -> bool {
        self.qkv.borrowed().is_none() && self.shares.is_none()
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<AttentionOnCpu> {
        let of = |norm: Option<&Norm>| match norm {
            Some(norm) => norm.on_cpu().map(Some),
            None => Some(None),
        };
        let norms = self.norms.as_ref();
        let norms = [
            of(norms.map(|(q, _)| q))?,
            of(norms.and_then(|(_, k)| k.as_ref()))?,
            of(self.value_norm.as_ref())?,
        ];
        let borrowed = match self.qkv.borrowed() {
            Some(number) => {
                let [k, v] = context.side.shared(number);
                Some((number, [HostTensor::of(&k)?, HostTensor::of(&v)?]))
            }
            None => None,
        };
        let elsewhere = (borrowed.is_some() || self.shares.is_some()).then(|| KeysElsewhere {
            borrowed,
            shares: self.shares,
            side: context.side.clone(),
        });
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
        let (gated, config) = (self.gated, self.config);
        Some(AttentionOnCpu { qkv, output, norms, gated, config, rope, sinks, elsewhere })
    }
}
