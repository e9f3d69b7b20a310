//! A mixture of experts (Shazeer et al. 2017): the sum of a few MLPs with gates, which a router
//! chooses for each token, times their weights.
//!
//! Tokens are grouped by expert, in their order, so that each expert multiplies once; the outputs
//! of a token's experts are added in the order of their scores. What comes out depends neither on
//! the number of threads nor on what else is in a batch.

mod on_cpu;
mod router;
mod routing;

use burn::tensor::Tensor;

pub use on_cpu::{ExpertsOnCpu, SavedExperts};
pub use router::{Routed, Router, RouterOnCpu};
pub use routing::{Choices, Routing};

use super::joint::JointLinear;
use super::linear::NamedLinear;
use super::norm::Norm;
use crate::error::Result;
use crate::model::description::ExpertsDescription;
use crate::model::{PassContext, Visitor, WeightSource};
use crate::ops::{Activation, gate, indices};

/// The weights.
pub struct Experts {
    router: Router,
    /// Of the input of the experts.
    before: Option<Norm>,
    experts: Vec<Expert>,
}

/// One of them.
struct Expert {
    gate_up: JointLinear<2>,
    down: NamedLinear,
    activation: Activation,
}

impl Expert {
    fn tracked(&self) -> Self {
        Self {
            gate_up: self.gate_up.tracked(),
            down: self.down.tracked(),
            activation: self.activation,
        }
    }

    fn linears(&mut self) -> impl Iterator<Item = &mut NamedLinear> {
        self.gate_up.linears().into_iter().chain([&mut self.down])
    }

    fn forward(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let [to_gate, up] = self.gate_up.forward(x, context);
        self.down.linear.forward(gate(self.activation, to_gate, up), context)
    }
}

impl Experts {
    /// Takes its weights, under the module path of the layer.
    pub fn read(path: &str, of: &ExpertsDescription, weights: &mut WeightSource) -> Result<Self> {
        let router = Router::read(path, of, weights)?;
        let before = of.before.map(|norm| Norm::read(Some(path), &norm, weights)).transpose()?;
        let read = weights.experts(path, of)?.into_iter().enumerate();
        let experts = read.map(|(number, [gate_up, down])| {
            let names = of.expert(number);
            let gate_up = NamedLinear { name: names.0.linears()[0].name, linear: gate_up };
            Expert {
                gate_up: JointLinear::Fused(gate_up, [of.width; 2]),
                down: NamedLinear { name: names.1.name, linear: down },
                activation: of.activation,
            }
        });
        Ok(Self { router, before, experts: experts.collect() })
    }

    /// Its linear layers: the router, then those of one expert after the other.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        let experts = self.experts.iter_mut().flat_map(Expert::linears);
        std::iter::once(&mut self.router.scores).chain(experts).collect()
    }

    /// Visits what is no linear layer; `path` is that of the decoder layer.
    pub fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        if let Some(norm) = &mut self.before {
            norm.visit(Some(path), visitor);
        }
        self.router.visit_vectors(path, visitor);
    }

    /// How many experts there are.
    pub fn count(&self) -> usize {
        self.experts.len()
    }

    /// How many numbers of a token the last linear layer of an expert gets.
    pub fn units(&self) -> usize {
        self.experts.first().map_or(0, |expert| expert.down.linear.dims()[1])
    }

    /// What the router chooses by besides scores.
    pub fn choice_bias(&self) -> Option<&[f32]> {
        self.router.routing.choice_bias.as_deref()
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            router: self.router.tracked(),
            before: self.before.as_ref().map(Norm::tracked),
            experts: self.experts.iter().map(Expert::tracked).collect(),
        }
    }

    /// `[tokens, hidden]` in and out. The scores are waited for: they decide how many rows each
    /// expert gets.
    pub fn forward(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let [tokens, hidden] = x.dims();
        if tokens == 0 {
            return x;
        }
        let (choices, weights) = self.router.route(x.clone(), context);
        let x = self.before.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(x.clone()));
        let (device, top_k) = (context.device(), self.router.routing.top_k);
        let pick = |rows: &[u32]| indices(rows.iter().copied(), device);
        let used = self.experts.iter().enumerate().filter(|(n, _)| !choices.slots[*n].is_empty());
        let outputs = used.map(|(number, expert)| {
            let rows = x.clone().select(0, pick(&choices.tokens(number)));
            let weights = weights.clone().select(0, pick(&choices.slots[number]));
            expert.forward(rows, context) * weights
        });
        let outputs = Tensor::cat(outputs.collect(), 0); // [slots, hidden]
        let of_choice = |choice: usize| {
            let rows: Vec<u32> = choices.rows.iter().skip(choice).step_by(top_k).copied().collect();
            outputs.clone().select(0, pick(&rows))
        };
        let sum = (0..top_k).map(of_choice).reduce(|sum, more| sum + more);
        sum.unwrap_or_else(|| Tensor::zeros([tokens, hidden], device))
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<ExpertsOnCpu> {
        let experts = self.experts.iter().map(|expert| expert.on_cpu(context));
        Some(ExpertsOnCpu {
            router: self.router.on_cpu(context)?,
            before: match &self.before {
                Some(norm) => Some(norm.on_cpu()?),
                None => None,
            },
            experts: experts.collect::<Option<_>>()?,
        })
    }
}
