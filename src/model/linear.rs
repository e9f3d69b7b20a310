//! A linear layer with a slot beside it, into which an adapter may be put.

use burn::tensor::Tensor;

use crate::model::{Context, Parameter, Visitor};
use crate::ops::{cpu, project};

/// `y = x·Wᵀ + b`, plus what the side path adds.
pub struct Linear {
    /// `[out, in]`, as Hugging Face stores it.
    pub weight: Parameter<2>,
    /// `[out]`.
    pub bias: Option<Parameter<1>>,
    /// An adapter.
    pub side: Option<Box<dyn SidePath>>,
}

/// What an adapter adds beside a linear layer.
pub trait SidePath: Send + Sync {
    /// The addition for `x: [tokens, in]`, `[tokens, out]`.
    fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2>;
    /// Whether inputs are dropped in training.
    fn drops(&self) -> bool;
    /// Visits its parameters; `path` is the module path of the linear layer.
    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor);
    /// A copy whose learning parameters are leaves of a tape.
    fn tracked(&self) -> Box<dyn SidePath>;
    /// The addition as the kernels of the CPU know it; none on other devices, or if it is another
    /// kind of addition.
    fn low_rank(&self, context: &Context) -> Option<cpu::LowRank>;
}

impl Linear {
    /// `x: [tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        let mut y = project(x.clone(), self.weight.value.clone(), context.computing);
        if let Some(bias) = &self.bias {
            y = y + bias.value.clone().unsqueeze::<2>();
        }
        match &self.side {
            Some(side) => y + side.forward(x, context),
            None => y,
        }
    }

    /// The layer as the kernels of the CPU know it, `path` within its decoder layer.
    pub fn projection(&self, path: &'static str, context: &Context) -> Option<cpu::Projection> {
        let bias = match &self.bias {
            Some(bias) => Some((cpu::Held::of(&bias.value)?, bias.learns)),
            None => None,
        };
        let low_rank = match &self.side {
            Some(side) => Some(side.low_rank(context)?),
            None => None,
        };
        let weight = cpu::Held::of(&self.weight.value)?;
        Some(cpu::Projection { path, weight, learns: self.weight.learns, bias, low_rank })
    }

    /// Visits weight, bias and side path.
    pub fn visit(&mut self, path: &str, visitor: &mut dyn Visitor) {
        visitor.matrix(&format!("{path}.weight"), &mut self.weight);
        if let Some(bias) = &mut self.bias {
            visitor.vector(&format!("{path}.bias"), bias);
        }
        if let Some(side) = &mut self.side {
            side.visit(path, visitor);
        }
    }

    /// A copy whose learning parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            weight: self.weight.tracked(),
            bias: self.bias.as_ref().map(Parameter::tracked),
            side: self.side.as_ref().map(|side| side.tracked()),
        }
    }
}
