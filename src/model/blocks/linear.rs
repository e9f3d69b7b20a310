//! A linear layer of a block.

use crate::error::Result;
use crate::model::description::LinearDescription;
use crate::model::{Linear, PassContext, WeightSource};
use crate::ops::cpu::Projection;

/// A linear layer with its module path within the decoder layer.
pub struct NamedLinear {
    /// The path.
    pub name: &'static str,
    /// The layer.
    pub linear: Linear,
}

impl NamedLinear {
    /// Takes its weights, under the module path of the layer.
    pub fn read(path: &str, of: LinearDescription, weights: &mut WeightSource) -> Result<Self> {
        let linear = weights.linear(&format!("{path}.{}", of.name), of.dims, of.bias)?;
        Ok(Self { name: of.name, linear })
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self { name: self.name, linear: self.linear.tracked() }
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<Projection> {
        self.linear.projection(self.name, context)
    }
}
