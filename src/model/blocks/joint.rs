//! Linear layers of one input: each by itself, or one whose outputs are those of all, as Phi-3 has
//! them. Adapters stand beside the layers that there are.

use burn::tensor::Tensor;

use super::linear::NamedLinear;
use super::together::{forward_together, place_together};
use crate::device::DeviceLimits;
use crate::error::Result;
use crate::model::description::JointDescription;
use crate::model::{PassContext, WeightSource};
use crate::ops::cpu::{
    AsLhs, Back, Given, Left, Narrow, PathGradients, Projection, View, decode_outputs,
};

/// The weights.
pub enum JointLinear<const N: usize> {
    /// Each by itself.
    Separate([NamedLinear; N]),
    /// One, and how many of its outputs are whose.
    Fused(NamedLinear, [usize; N]),
}

impl<const N: usize> JointLinear<N> {
    /// Takes the weights, under the module path of the layer.
    pub fn read(
        path: &str,
        description: &JointDescription<N>,
        weights: &mut WeightSource,
    ) -> Result<Self> {
        Ok(match description {
            JointDescription::Separate(linears) => {
                let mut read = Vec::with_capacity(N);
                for linear in linears {
                    read.push(NamedLinear::read(path, *linear, weights)?);
                }
                let Ok(all) = read.try_into() else { unreachable!("one was read for each") };
                Self::Separate(all)
            }
            JointDescription::Fused(linear, widths) => {
                Self::Fused(NamedLinear::read(path, *linear, weights)?, *widths)
            }
        })
    }

    /// The linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        match self {
            Self::Separate(linears) => linears.iter_mut().collect(),
            Self::Fused(linear, _) => vec![linear],
        }
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        match self {
            Self::Separate(linears) => Self::Separate(linears.each_ref().map(NamedLinear::tracked)),
            Self::Fused(linear, widths) => Self::Fused(linear.tracked(), *widths),
        }
    }

    /// What each gives for `x: [tokens, in]`.
    pub fn forward(&self, x: Tensor<2>, context: &PassContext) -> [Tensor<2>; N] {
        match self {
            Self::Separate(linears) => {
                linears.each_ref().map(|to| to.linear.forward(x.clone(), context))
            }
            Self::Fused(to_all, widths) => {
                let (y, mut first) = (to_all.linear.forward(x, context), 0);
                widths.map(|width| {
                    first += width;
                    y.clone().narrow(1, first - width, width)
                })
            }
        }
    }

    /// The same beside each other, `[tokens, outputs of all]`, where that takes one product.
    pub fn beside(&self, x: &Tensor<2>, context: &PassContext) -> Option<Tensor<2>> {
        match self {
            Self::Separate(linears) => {
                forward_together(&linears.each_ref().map(|to| &to.linear), x, context)
            }
            Self::Fused(to_all, _) => Some(to_all.linear.forward(x.clone(), context)),
        }
    }

    /// Makes one product of all possible on a GPU.
    pub fn place_together(&mut self, limits: DeviceLimits) {
        place_together(self.linears().into_iter().map(|to| &mut to.linear).collect(), limits);
    }

    /// As the kernels of the CPU know them.
    pub fn on_cpu(&self, context: &PassContext) -> Option<JointOnCpu<N>> {
        Some(match self {
            Self::Separate(linears) => {
                let all: Option<Vec<_>> = linears.iter().map(|to| to.on_cpu(context)).collect();
                let Ok(all) = all?.try_into() else { unreachable!("there is one for each") };
                JointOnCpu::Separate(all)
            }
            Self::Fused(to_all, widths) => {
                JointOnCpu::Fused(Box::new(to_all.on_cpu(context)?), *widths)
            }
        })
    }
}

/// Linear layers of one input for the kernels of the CPU.
#[derive(Clone)]
pub enum JointOnCpu<const N: usize> {
    /// Each by itself.
    Separate([Projection; N]),
    /// One, and how many of its outputs are whose.
    Fused(Box<Projection>, [usize; N]),
}

/// What the gradients of their additions of low rank need.
pub enum JointNarrow<F: AsLhs, const N: usize> {
    /// Of each.
    Separate([Narrow<F>; N]),
    /// Of the one.
    Fused(Narrow<F>),
}

impl<const N: usize> JointOnCpu<N> {
    /// The linear layers, in order.
    pub fn projections(&self) -> &[Projection] {
        match self {
            Self::Separate(linears) => linears,
            Self::Fused(to_all, _) => std::slice::from_ref(to_all),
        }
    }

    /// The same for some of the tokens ([`Projection::of_tokens`]).
    #[must_use]
    pub fn of_tokens(&self, first: usize, count: usize) -> Self {
        let part = |to: &Projection| to.of_tokens(first, count);
        match self {
            Self::Separate(linears) => Self::Separate(linears.each_ref().map(part)),
            Self::Fused(to_all, widths) => Self::Fused(Box::new(part(to_all)), *widths),
        }
    }

    /// Whose columns are whose, of what a fused one gave.
    pub fn parts<M: crate::ops::cpu::Number>(y: View<M>, widths: [usize; N]) -> [View<M>; N] {
        let mut first = 0;
        widths.map(|width| {
            first += width;
            y.part((0, y.rows), (first - width, width))
        })
    }

    /// What each gives for a few rows `x: [rows, in]`, where text is written.
    pub fn decode(&self, x: View<f32>, rounds: bool) -> [Vec<f32>; N] {
        match self {
            Self::Separate(linears) => decode_outputs(linears.each_ref(), x, rounds),
            Self::Fused(to_all, widths) => {
                let [y] = decode_outputs([to_all.as_ref()], x, rounds);
                let y = View::new(&y, x.rows, widths.iter().sum());
                Self::parts(y, *widths)
                    .map(|part| (0..part.rows).flat_map(|row| part.row(row)).copied().collect())
            }
        }
    }

    /// The gradient of the input `x: [tokens, in]` from those of what each gave; those of the
    /// weights go to the others.
    pub fn back<F: AsLhs>(
        &self,
        d: &[Left<F>; N],
        narrow: &JointNarrow<F, N>,
        x: View<F::Stored>,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        match (self, narrow) {
            (Self::Separate(linears), JointNarrow::Separate(narrow)) => {
                let ways = linears.iter().zip(d).zip(narrow);
                let given: Vec<Given<F>> =
                    ways.map(|((to, d), narrow)| (to, d.view(), narrow)).collect();
                Back::through(&given, x, gradients).input()
            }
            (Self::Fused(to_all, widths), JointNarrow::Fused(narrow)) => {
                let joined = joined(d, *widths);
                let given: [Given<F>; 1] = [(to_all.as_ref(), joined.view(), narrow)];
                Back::through(&given, x, gradients).input()
            }
            _ => unreachable!("what is handed back is what the layers gave"),
        }
    }
}

/// Rows of several matrices beside each other.
fn joined<F: AsLhs, const N: usize>(parts: &[Left<F>; N], widths: [usize; N]) -> Left<F> {
    Left::with(parts[0].view().rows, widths.iter().sum(), |row, mut target| {
        for (part, width) in parts.iter().zip(widths) {
            let (here, rest) = target.split_at_mut(width);
            here.copy_from_slice(&part.view().row(row)[..width]);
            target = rest;
        }
    })
}
