//! What a layer adds of its own input (Gemma 3n, Gemma 4): `output(activation(gate(x)) ⊙ input)`.
//! Each token by itself, after the last part of the layer that mixes tokens.

use burn::tensor::{Gradients as Tape, Tensor};

use super::linear::NamedLinear;
use crate::error::Result;
use crate::model::description::LayerInputDescription;
use crate::model::{PassContext, WeightSource};
use crate::ops::cpu::{
    AsLhs, Back, HostTensor, Left, Narrow, PathGradients, Projection, gated, gated_backward,
};
use crate::ops::{Activation, gate};

/// The weights.
pub struct LayerInput {
    layer: usize,
    gate: NamedLinear,
    output: NamedLinear,
    activation: Activation,
}

impl LayerInput {
    /// Takes its weights, under the module path of the layer.
    pub fn read(
        path: &str,
        description: &LayerInputDescription,
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let LayerInputDescription { layer, gate, output, activation } = *description;
        Ok(Self {
            layer,
            gate: NamedLinear::read(path, gate, weights)?,
            output: NamedLinear::read(path, output, weights)?,
            activation,
        })
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        vec![&mut self.gate, &mut self.output]
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self { gate: self.gate.tracked(), output: self.output.tracked(), ..*self }
    }

    /// The layer's input, of the tokens that are still there.
    fn input(&self, context: &PassContext) -> Tensor<2> {
        context.picked(context.side.input(self.layer))
    }

    fn with(&self, x: Tensor<2>, input: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let to_gate = self.gate.linear.forward(x, context);
        self.output.linear.forward(gate(self.activation, to_gate, input), context)
    }

    /// `[tokens, hidden]` in and out.
    pub fn forward(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        self.with(x, self.input(context), context)
    }

    /// The same for `x` on a tape; the input is a leaf of it.
    pub fn taped(&self, x: Tensor<2>, context: &PassContext) -> (Tensor<2>, Tensor<2>) {
        let input = self.input(context).autodiff();
        let input = if context.side.inputs_learn() { input.require_grad() } else { input };
        (self.with(x, input.clone(), context), input)
    }

    /// Hands the gradient of the input on.
    pub fn back(&self, input: &Tensor<2>, context: &PassContext, tape: &mut Tape) {
        if context.side.inputs_learn() {
            let d = input.grad_remove(tape).expect("it is a leaf of the tape");
            context.side.set_input_gradient(self.layer, context.spread(d));
        }
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu<'a>(&self, context: &'a PassContext) -> Option<LayerInputOnCpu<'a>> {
        Some(LayerInputOnCpu {
            layer: self.layer,
            gate: self.gate.on_cpu(context)?,
            output: self.output.on_cpu(context)?,
            activation: self.activation,
            input: HostTensor::of(&self.input(context))?,
            context,
        })
    }
}

/// The block for the kernels of the CPU.
pub struct LayerInputOnCpu<'a> {
    layer: usize,
    gate: Projection,
    output: Projection,
    activation: Activation,
    input: HostTensor,
    context: &'a PassContext,
}

/// What its backward pass needs, in the format of factors.
pub struct SavedLayerInput<F: AsLhs> {
    gate: Left<F>,
    narrow_gate: Narrow<F>,
    narrow_output: Narrow<F>,
}

impl LayerInputOnCpu<'_> {
    /// Adds what it gives for `x: [tokens, hidden]` to a target.
    pub fn forward<F: AsLhs>(&self, x: Left<F>, target: &mut [f32]) -> SavedLayerInput<F> {
        let (gate, narrow_gate) = self.gate.forward_factor::<F>(x.view());
        drop(x);
        let through = gated(self.activation, &gate, &self.input.numbers().converted());
        let narrow_output = self.output.add::<F>(through.view(), target);
        SavedLayerInput { gate, narrow_gate, narrow_output }
    }

    /// The gradient of the input from that of what was added; `x` makes the input again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedLayerInput<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let SavedLayerInput { mut gate, narrow_gate, narrow_output } = saved;
        let mut input: Left<F> = self.input.numbers().converted();
        let through = gated(self.activation, &gate, &input);
        let factor = F::factor_of(d, self.output.weight.rows());
        let given = [(&self.output, factor.view(), &narrow_output)];
        let d_through = Back::through(&given, through.view(), gradients).input_factor();
        drop((through, factor));
        gated_backward(self.activation, &mut gate, &mut input, &d_through);
        if self.context.side.inputs_learn() {
            let d = self.context.spread(input.to_tensor(self.gate.weight.rows()));
            self.context.side.set_input_gradient(self.layer, d);
        }
        let given = [(&self.gate, gate.view(), &narrow_gate)];
        Back::through(&given, x().view(), gradients).input()
    }
}
