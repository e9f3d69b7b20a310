//! A mixer by the gated delta rule (Yang et al. 2024) as Qwen3-Next and Qwen3.5 have it: queries,
//! keys and values go through a short convolution, and what leaves the rule through a norm and a
//! gate. Convolution and state begin anew at every document.

mod on_cpu;

use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, silu};

use super::RecurrentCache;
pub use on_cpu::{DeltaNetOnCpu, SavedDeltaNet};

use super::convolution::Convolution;
use super::joint::JointLinear;
use super::linear::NamedLinear;
use super::norm::Norm;
use crate::error::Result;
use crate::model::description::DeltaNetDescription;
use crate::model::{Parameter, PassContext, Visitor, WeightSource};
use crate::ops::{
    Activation, DeltaHeads, DeltaInputs, delta_step, gate, gated_delta_rule,
    gated_delta_rule_with_state, log_decay,
};

/// The weights.
pub struct DeltaNet {
    /// To queries, keys and values; the gate; β; what the decay is made of.
    inputs: JointLinear<4>,
    output: NamedLinear,
    convolution: Convolution,
    /// Path within the layer, and logarithms of the rates of decay, of each head of values.
    a_log: (&'static str, Parameter<1>),
    /// What is added to the input of the decay.
    decay_bias: (&'static str, Parameter<1>),
    /// Of each head of values.
    norm: Norm,
    heads: DeltaHeads,
}

impl DeltaNet {
    /// Takes its weights, under the module path of the layer.
    pub fn read(
        path: &str,
        description: &DeltaNetDescription,
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let DeltaNetDescription { a_log, decay_bias, heads, .. } = *description;
        let place = |name: &str| format!("{path}.{name}");
        Ok(Self {
            inputs: JointLinear::read(path, &description.inputs, weights)?,
            output: NamedLinear::read(path, description.output, weights)?,
            convolution: Convolution::read(path, &description.convolution, weights)?,
            a_log: (a_log, weights.log_rates(&place(a_log), heads.values)?),
            decay_bias: (decay_bias, weights.gain(&place(decay_bias), heads.values)?),
            norm: Norm::read(Some(path), &description.norm, weights)?,
            heads,
        })
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        let mut linears = self.inputs.linears();
        linears.push(&mut self.output);
        linears
    }

    /// Visits what is no linear layer; `path` is that of the decoder layer.
    pub fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        self.convolution.visit(path, visitor);
        for (name, values) in [&mut self.a_log, &mut self.decay_bias] {
            visitor.vector(&format!("{path}.{name}"), values);
        }
        self.norm.visit(Some(path), visitor);
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        let vector = |(name, values): &(&'static str, Parameter<1>)| (*name, values.tracked());
        Self {
            inputs: self.inputs.tracked(),
            output: self.output.tracked(),
            convolution: self.convolution.tracked(),
            a_log: vector(&self.a_log),
            decay_bias: vector(&self.decay_bias),
            norm: self.norm.tracked(),
            heads: self.heads,
        }
    }

    /// What the rule is given, of what the convolution gave and of the inputs of β and decay.
    fn rule(&self, convolved: Tensor<2>, beta: Tensor<2>, decay: Tensor<2>) -> DeltaInputs {
        DeltaInputs {
            qkv: silu(convolved),
            log_decay: log_decay(decay, &self.a_log.1.value, &self.decay_bias.1.value),
            beta: sigmoid(beta),
        }
    }

    /// From what leaves the rule back to the width of the residual stream.
    fn leave(&self, mixed: Tensor<2>, z: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let gated = gate(Activation::Silu, z, self.norm.forward(mixed));
        self.output.linear.forward(gated, context)
    }

    /// `[tokens, hidden]` in and out; a cache keeps what [`Self::next`] needs.
    pub fn forward(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
        mut cache: Option<&mut RecurrentCache>,
    ) -> Tensor<2> {
        let [qkv, z, beta, decay] = self.inputs.forward(x, context);
        let convolved = self.convolution.forward(qkv, context, cache.as_deref_mut());
        let (rule, documents) = (self.rule(convolved, beta, decay), &context.documents);
        let mixed = match cache {
            Some(cache) => {
                let (mixed, state) = gated_delta_rule_with_state(rule, self.heads, documents);
                cache.state = Some(state);
                mixed
            }
            None => gated_delta_rule(rule, self.heads, documents, context.computing),
        };
        let picked = |x: Tensor<2>| if picks { context.picked(x) } else { x };
        self.leave(picked(mixed), picked(z), context)
    }

    /// The same for one more token of each of several texts.
    pub fn next(
        &self,
        x: Tensor<2>,
        context: &PassContext,
        caches: &mut [&mut RecurrentCache],
    ) -> Tensor<2> {
        let [qkv, z, beta, decay] = self.inputs.forward(x, context);
        let convolved = self.convolution.next(&qkv, caches);
        let states = caches.iter_mut().map(|cache| cache.state.take().expect("a prompt was read"));
        let state = Tensor::cat(states.collect(), 0);
        let (mixed, state) = delta_step(self.rule(convolved, beta, decay), self.heads, state);
        for (text, cache) in caches.iter_mut().enumerate() {
            cache.state = Some(state.clone().narrow(0, text, 1));
        }
        self.leave(mixed, z, context)
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<DeltaNetOnCpu> {
        DeltaNetOnCpu::of(self, context)
    }
}
