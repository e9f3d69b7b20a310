//! Where queries, keys and values come from: linear layers of the input, or an earlier layer.

use burn::tensor::Tensor;

use crate::device::DeviceLimits;
use crate::error::Result;
use crate::model::blocks::joint::{JointLinear, JointNarrow, JointOnCpu};
use crate::model::blocks::linear::NamedLinear;
use crate::model::description::QkvDescription;
use crate::model::{PassContext, WeightSource};
use crate::ops::cpu::{AsLhs, Back, Left, Narrow, PathGradients, Projection, View};

/// The weights.
pub enum Qkv {
    /// All from the input.
    Joint(JointLinear<3>),
    /// Queries and keys from the input; keys are values as well.
    KeysAsValues(JointLinear<2>),
    /// Queries from the input; keys and values are shared under a number.
    Queries(NamedLinear, usize),
}

impl Qkv {
    /// Takes the weights, under the module path of the layer.
    pub fn read(path: &str, of: &QkvDescription, weights: &mut WeightSource) -> Result<Self> {
        Ok(match of {
            QkvDescription::Joint(joint) => Self::Joint(JointLinear::read(path, joint, weights)?),
            QkvDescription::KeysAsValues(joint) => {
                Self::KeysAsValues(JointLinear::read(path, joint, weights)?)
            }
            QkvDescription::Queries(linear, number) => {
                Self::Queries(NamedLinear::read(path, *linear, weights)?, *number)
            }
        })
    }

    /// The number of the keys and values that it has of an earlier layer.
    pub fn borrowed(&self) -> Option<usize> {
        match self {
            Self::Queries(_, number) => Some(*number),
            _ => None,
        }
    }

    /// The linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        match self {
            Self::Joint(joint) => joint.linears(),
            Self::KeysAsValues(joint) => joint.linears(),
            Self::Queries(linear, _) => vec![linear],
        }
    }

    /// Makes one product of all possible on a GPU.
    pub fn place_together(&mut self, limits: DeviceLimits) {
        match self {
            Self::Joint(joint) => joint.place_together(limits),
            Self::KeysAsValues(_) | Self::Queries(..) => {}
        }
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        match self {
            Self::Joint(joint) => Self::Joint(joint.tracked()),
            Self::KeysAsValues(joint) => Self::KeysAsValues(joint.tracked()),
            Self::Queries(linear, number) => Self::Queries(linear.tracked(), *number),
        }
    }

    /// Queries, and the keys and values that it makes of `x: [tokens, in]`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        context: &PassContext,
    ) -> (Tensor<2>, Option<[Tensor<2>; 2]>) {
        match self {
            Self::Joint(joint) => {
                let [q, k, v] = joint.forward(x, context);
                (q, Some([k, v]))
            }
            Self::KeysAsValues(joint) => {
                let [q, k] = joint.forward(x, context);
                (q, Some([k.clone(), k]))
            }
            Self::Queries(linear, _) => (linear.linear.forward(x, context), None),
        }
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<QkvOnCpu> {
        Some(match self {
            Self::Joint(joint) => QkvOnCpu::Joint(joint.on_cpu(context)?),
            Self::KeysAsValues(joint) => QkvOnCpu::KeysAsValues(joint.on_cpu(context)?),
            Self::Queries(linear, _) => QkvOnCpu::Queries(Box::new(linear.on_cpu(context)?)),
        })
    }
}

/// The same for the kernels of the CPU.
pub enum QkvOnCpu {
    /// All from the input.
    Joint(JointOnCpu<3>),
    /// Queries and keys from the input; keys are values as well.
    KeysAsValues(JointOnCpu<2>),
    /// Queries from the input.
    Queries(Box<Projection>),
}

/// What the gradients of additions of low rank need.
pub enum QkvNarrow<F: AsLhs> {
    /// Of three.
    Joint(JointNarrow<F, 3>),
    /// Of queries and keys.
    KeysAsValues(JointNarrow<F, 2>),
    /// Of queries.
    Queries(Narrow<F>),
}

impl QkvOnCpu {
    /// The gradient of the input `x: [tokens, in]` from those of what it gave; those of the weights
    /// go to the others. Where keys are values, that of keys is the sum of both.
    pub fn back<F: AsLhs>(
        &self,
        d_q: Left<F>,
        d_kv: [Option<Left<F>>; 2],
        (narrow, x): (&QkvNarrow<F>, View<F::Stored>),
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        match (self, narrow, d_kv) {
            (Self::Joint(joint), QkvNarrow::Joint(narrow), [Some(d_k), Some(d_v)]) => {
                joint.back(&[d_q, d_k, d_v], narrow, x, gradients)
            }
            (Self::KeysAsValues(joint), QkvNarrow::KeysAsValues(narrow), [Some(d_k), None]) => {
                joint.back(&[d_q, d_k], narrow, x, gradients)
            }
            (Self::Queries(linear), QkvNarrow::Queries(narrow), [None, None]) => {
                let given = [(linear.as_ref(), d_q.view(), narrow)];
                Back::through(&given, x, gradients).input()
            }
            _ => unreachable!("what is handed back is what the layers gave"),
        }
    }
}
