//! What gives each token its experts and their weights, in tensor operations and by the kernels of
//! the CPU.

use burn::tensor::Tensor;

use super::{Choices, Routing};
use crate::error::Result;
use crate::model::blocks::{NamedLinear, Norm, NormOnCpu};
use crate::model::description::ExpertsDescription;
use crate::model::{Linear, Parameter, PassContext, Visitor, WeightSource};
use crate::ops::cpu::{
    AsLhs, Back, F32, HostTensor, Left, Narrow, PathGradients, Projection, decode_outputs,
};
use crate::ops::{host, indices};

/// The weights.
pub struct Router {
    /// Of its input.
    input: Option<Norm>,
    /// To a score for each expert.
    pub scores: NamedLinear,
    /// What the weight of each expert is multiplied with, and its path.
    expert_scale: Option<(&'static str, Parameter<1>)>,
    /// How scores become choices and weights.
    pub routing: Routing,
}

impl Router {
    /// Takes its weights, under the module path of the layer.
    pub fn read(path: &str, of: &ExpertsDescription, weights: &mut WeightSource) -> Result<Self> {
        let router = &of.router;
        let linear = Linear { adapter: None, ..weights.router(path, &router.scores)? };
        let input = router.input.map(|norm| Norm::read(Some(path), &norm, weights)).transpose()?;
        let scale = |name: &'static str| -> Result<_> {
            Ok((name, weights.gain(&format!("{path}.{name}"), of.count)?))
        };
        let expert_scale = router.expert_scale.map(scale).transpose()?;
        let bias = |name| weights.buffer(&format!("{path}.{name}"), of.count);
        let choice_bias = router.choice_bias.map(bias).transpose()?;
        let (top_k, count, weights) = (of.top_k, of.count, router.weights);
        Ok(Self {
            input,
            scores: NamedLinear { name: router.scores.name, linear },
            expert_scale,
            routing: Routing { top_k, count, weights, choice_bias },
        })
    }

    /// Visits what is no linear layer; `path` is that of the decoder layer.
    pub fn visit_vectors(&mut self, path: &str, visitor: &mut dyn Visitor) {
        if let Some(norm) = &mut self.input {
            norm.visit(Some(path), visitor);
        }
        if let Some((name, scale)) = &mut self.expert_scale {
            visitor.vector(&format!("{path}.{name}"), scale);
        }
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            input: self.input.as_ref().map(Norm::tracked),
            scores: self.scores.tracked(),
            expert_scale: self.expert_scale.as_ref().map(|(name, of)| (*name, of.tracked())),
            routing: self.routing.clone(),
        }
    }

    /// The experts of `x: [tokens, hidden]`, and their weights, `[slots, 1]`. The scores are waited
    /// for.
    pub fn route(&self, x: Tensor<2>, context: &PassContext) -> (Choices, Tensor<2>) {
        let x = self.input.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(x.clone()));
        let scores = self.scores.linear.forward(x, context);
        let choices = self.routing.choose(&host(scores.clone()));
        let device = context.device();
        let slots = choices.rows.len();
        let weights = self.routing.weights_of(scores, &choices, device).reshape([slots, 1]);
        let weights = match &self.expert_scale {
            Some((_, scale)) => {
                let experts = indices(choices.experts.iter().copied(), device);
                weights * scale.value.clone().select(0, experts).reshape([slots, 1])
            }
            None => weights,
        };
        (choices, weights)
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<RouterOnCpu> {
        let scale = |(name, of): &(&'static str, Parameter<1>)| {
            let (values, trainable) = (HostTensor::of(&of.value)?, of.trainable);
            Some(ExpertScaleOnCpu { name, values, trainable })
        };
        Some(RouterOnCpu {
            input: match &self.input {
                Some(norm) => Some(norm.on_cpu()?),
                None => None,
            },
            scores: self.scores.on_cpu(context)?,
            expert_scale: match &self.expert_scale {
                Some(of) => Some(scale(of)?),
                None => None,
            },
            routing: self.routing.clone(),
        })
    }
}

/// A router for the kernels of the CPU.
pub struct RouterOnCpu {
    input: Option<NormOnCpu>,
    scores: Projection,
    expert_scale: Option<ExpertScaleOnCpu>,
    /// How scores become choices and weights.
    pub routing: Routing,
}

struct ExpertScaleOnCpu {
    name: &'static str,
    values: HostTensor,
    trainable: bool,
}

/// The experts of tokens, and what a router's backward pass needs.
pub struct Routed<F: AsLhs> {
    /// The experts.
    pub choices: Choices,
    /// The weights of all slots.
    pub weights: Vec<f32>,
    /// The same before they were multiplied with numbers of experts.
    unscaled: Option<Vec<f32>>,
    probabilities: Vec<f32>,
    narrow: Narrow<F>,
}

impl RouterOnCpu {
    fn entering<F: AsLhs>(&self, x: &Left<F>) -> Option<Left<F>> {
        self.input.as_ref().map(|norm| norm.operation().forward::<F>(x.numbers()))
    }

    /// The experts of `x: [tokens, hidden]`.
    pub fn route<F: AsLhs>(&self, x: &Left<F>) -> Routed<F> {
        let entering = self.entering(x);
        let (scores, narrow) = self.scores.forward::<F>(entering.as_ref().unwrap_or(x).view());
        self.routed(&scores, narrow)
    }

    /// The same for a few rows, where text is written.
    pub fn route_decoded(&self, x: &Left<F32>, rounds: bool) -> Routed<F32> {
        let entering = self.entering(x);
        let x = entering.as_ref().unwrap_or(x).view();
        let [scores] = decode_outputs([&self.scores], x, rounds);
        self.routed(&scores, None)
    }

    fn routed<F: AsLhs>(&self, scores: &[f32], narrow: Narrow<F>) -> Routed<F> {
        let choices = self.routing.choose(scores);
        let (mut weights, probabilities) = self.routing.weights(scores, &choices);
        let unscaled = self.expert_scale.as_ref().map(|scale| {
            let unscaled = weights.clone();
            let scales = scale.values.single();
            for (weight, expert) in weights.iter_mut().zip(&choices.experts) {
                *weight *= scales[*expert as usize];
            }
            unscaled
        });
        Routed { choices, weights, unscaled, probabilities, narrow }
    }

    /// The gradient of the input `x` from that of the weights of all slots.
    pub fn back<F: AsLhs>(
        &self,
        routed: &Routed<F>,
        mut d: Vec<f32>,
        x: &Left<F>,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let experts = &routed.choices.experts;
        if let (Some(scale), Some(unscaled)) = (&self.expert_scale, &routed.unscaled) {
            if scale.trainable {
                let mut sum = vec![0.0; self.routing.count];
                for (expert, (d, weight)) in experts.iter().zip(d.iter().zip(unscaled)) {
                    sum[*expert as usize] += d * weight;
                }
                gradients.push((scale.name.to_owned(), sum));
            }
            let scales = scale.values.single();
            d.iter_mut().zip(experts).for_each(|(d, expert)| *d *= scales[*expert as usize]);
        }
        let d_scores = self.routing.back(&routed.choices, &routed.probabilities, &d);
        let factor = F::factor_of(&d_scores, self.routing.count);
        let given = [(&self.scores, factor.view(), &routed.narrow)];
        let entering = self.entering(x);
        let entering = entering.as_ref().unwrap_or(x);
        let d_entering = Back::through(&given, entering.view(), gradients).input();
        let Some(norm) = &self.input else { return d_entering };
        let mut dx = vec![0.0; d_entering.len()];
        norm.backward(x, &d_entering, &mut dx, gradients);
        dx
    }
}
