//! An MLP with a gate (Shazeer 2020): `down(activation(gate(x)) ⊙ up(x))`.

use burn::tensor::{Device, Tensor};

use super::joint::{JointLinear, JointNarrow, JointOnCpu};
use super::linear::NamedLinear;
use crate::device::{Arithmetic, DeviceLimits};
use crate::error::Result;
use crate::model::description::GatedMlpDescription;
use crate::model::{PassContext, WeightSource};
use crate::ops::cpu::{
    AsLhs, Back, F32, Left, Narrow, Number, PathGradients, Projection, View, decode_outputs, gated,
    gated_backward,
};
use crate::ops::{Activation, gate_beside, gate_factor};

/// The weights.
pub struct GatedMlp {
    gate_up: JointLinear<2>,
    down: NamedLinear,
    activation: Activation,
}

impl GatedMlp {
    /// Takes its weights, under the module path of the layer.
    pub fn read(
        path: &str,
        description: &GatedMlpDescription,
        weights: &mut WeightSource,
    ) -> Result<Self> {
        Ok(Self {
            gate_up: JointLinear::read(path, &description.gate_up, weights)?,
            down: NamedLinear::read(path, description.down, weights)?,
            activation: description.activation,
        })
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        let mut linears = self.gate_up.linears();
        linears.push(&mut self.down);
        linears
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            gate_up: self.gate_up.tracked(),
            down: self.down.tracked(),
            activation: self.activation,
        }
    }

    /// How many numbers of a token its last linear layer gets.
    pub fn units(&self) -> usize {
        self.down.linear.dims()[1]
    }

    /// `[tokens, hidden]` in and out.
    pub fn forward(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let arithmetic = match context.dropout {
            None => context.computing.arithmetic,
            Some(_) => Arithmetic::F32,
        };
        let through = self.gate_beside(&x, context, arithmetic).unwrap_or_else(|| {
            let [to_gate, up] = self.gate_up.forward(x, context);
            gate_factor(self.activation, to_gate, up, arithmetic)
        });
        self.down.linear.forward(through, context)
    }

    /// What is let through, of gate and up as one product gives them on a GPU.
    fn gate_beside(
        &self,
        x: &Tensor<2>,
        context: &PassContext,
        arithmetic: Arithmetic,
    ) -> Option<Tensor<2>> {
        if *context.device() == Device::flex() {
            return None;
        }
        gate_beside(self.activation, &self.gate_up.beside(x, context)?, arithmetic)
    }

    /// Makes one product of gate and up possible on a GPU.
    pub fn place_together(&mut self, limits: DeviceLimits) {
        self.gate_up.place_together(limits);
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<GatedMlpOnCpu> {
        Some(GatedMlpOnCpu {
            gate_up: self.gate_up.on_cpu(context)?,
            down: self.down.on_cpu(context)?,
            activation: self.activation,
        })
    }
}

/// The block for the kernels of the CPU.
pub struct GatedMlpOnCpu {
    gate_up: JointOnCpu<2>,
    down: Projection,
    activation: Activation,
}

/// What its backward pass needs, in the format of factors.
pub struct SavedGatedMlp<F: AsLhs> {
    gate_up: [Left<F>; 2],
    narrow_gate_up: JointNarrow<F, 2>,
    narrow_down: Narrow<F>,
}

impl GatedMlpOnCpu {
    /// Adds what it gives for `x: [tokens, hidden]` to a target.
    pub fn forward<F: AsLhs>(&self, x: Left<F>, target: &mut [f32]) -> SavedGatedMlp<F> {
        let to = |to: &Projection| to.forward_factor::<F>(x.view());
        let (gate_up, narrow_gate_up) = match &self.gate_up {
            JointOnCpu::Separate([to_gate, to_up]) => {
                let (gate, up) = rayon::join(|| to(to_gate), || to(to_up));
                ([gate.0, up.0], JointNarrow::Separate([gate.1, up.1]))
            }
            JointOnCpu::Fused(to_both, widths) => {
                let (both, narrow) = to(to_both);
                let parts = JointOnCpu::parts(both.view(), *widths);
                (parts.map(Left::of), JointNarrow::Fused(narrow))
            }
        };
        drop(x);
        let through = gated(self.activation, &gate_up[0], &gate_up[1]);
        let narrow_down = self.down.add::<F>(through.view(), target);
        SavedGatedMlp { gate_up, narrow_gate_up, narrow_down }
    }

    /// How many units there are.
    pub fn width(&self) -> usize {
        self.down.weight.columns()
    }

    /// What its last linear layer got, `[tokens, units]`.
    pub fn units<F: AsLhs>(&self, saved: &SavedGatedMlp<F>) -> Vec<f32> {
        let through = gated(self.activation, &saved.gate_up[0], &saved.gate_up[1]);
        let (through, units) = (through.view(), self.width());
        let rows = (0..through.rows).flat_map(|row| &through.row(row)[..units]);
        rows.map(|number| number.wide()).collect()
    }

    /// Adds what it gives for a few rows `x: [rows, hidden]` to a target, where text is written.
    pub fn decode(&self, x: View<f32>, target: &mut [f32], rounds: bool) {
        let of_rows = |y| Left::<F32>::from_numbers(y, x.rows);
        let [gate, up] = self.gate_up.decode(x, rounds).map(of_rows);
        let through = gated(self.activation, &gate, &up);
        let [y] = decode_outputs([&self.down], through.view(), rounds);
        target.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
    }

    /// The gradient of the input from that of what was added; `x` makes the input again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedGatedMlp<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let mut gate_up = saved.gate_up;
        let [gate, up] = &mut gate_up;
        let through = gated(self.activation, gate, up);
        let factor = F::factor_of(d, self.down.weight.rows());
        let given = [(&self.down, factor.view(), &saved.narrow_down)];
        let d_through = Back::through(&given, through.view(), gradients).input_factor();
        drop((through, factor));
        gated_backward(self.activation, gate, up, &d_through);
        drop(d_through);
        self.gate_up.back(&gate_up, &saved.narrow_gate_up, x().view(), gradients)
    }
}
