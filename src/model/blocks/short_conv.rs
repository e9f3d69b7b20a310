//! A mixer by a short convolution between two gates, as LFM2 has it:
//! `output(after ⊙ convolution(before ⊙ x))`. The convolution begins anew at every document.

use burn::tensor::Tensor;

use super::convolution::{Convolution, ConvolutionOnCpu};
use super::joint::{JointLinear, JointNarrow, JointOnCpu};
use super::linear::NamedLinear;
use super::{RecurrentCache, Setting};
use crate::error::Result;
use crate::model::description::ShortConvDescription;
use crate::model::{PassContext, Visitor, WeightSource};
use crate::ops::cpu::{
    AsLhs, Back, F32, Left, Narrow, PathGradients, Projection, View, multiplied,
};

/// The weights.
pub struct ShortConv {
    /// To the gate before the convolution, that after it, and what is convolved.
    inputs: JointLinear<3>,
    output: NamedLinear,
    convolution: Convolution,
}

impl ShortConv {
    /// Takes its weights, under the module path of the layer.
    pub fn read(
        path: &str,
        description: &ShortConvDescription,
        weights: &mut WeightSource,
    ) -> Result<Self> {
        Ok(Self {
            inputs: JointLinear::read(path, &description.inputs, weights)?,
            output: NamedLinear::read(path, description.output, weights)?,
            convolution: Convolution::read(path, &description.convolution, weights)?,
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
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            inputs: self.inputs.tracked(),
            output: self.output.tracked(),
            convolution: self.convolution.tracked(),
        }
    }

    /// `[tokens, hidden]` in and out; a cache keeps what [`Self::next`] needs.
    pub fn forward(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
        cache: Option<&mut RecurrentCache>,
    ) -> Tensor<2> {
        let [before, after, x] = self.inputs.forward(x, context);
        let mixed = after * self.convolution.forward(before * x, context, cache);
        self.output.linear.forward(if picks { context.picked(mixed) } else { mixed }, context)
    }

    /// The same for one more token of each of several texts.
    pub fn next(
        &self,
        x: Tensor<2>,
        context: &PassContext,
        caches: &mut [&mut RecurrentCache],
    ) -> Tensor<2> {
        let [before, after, x] = self.inputs.forward(x, context);
        let mixed = after * self.convolution.next(&(before * x), caches);
        self.output.linear.forward(mixed, context)
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self, context: &PassContext) -> Option<ShortConvOnCpu> {
        ShortConvOnCpu::of(self, context)
    }
}

/// The block for the kernels of the CPU.
pub struct ShortConvOnCpu {
    inputs: JointOnCpu<3>,
    output: Projection,
    convolution: ConvolutionOnCpu,
}

/// What its backward pass needs, in the format of factors.
pub struct SavedShortConv<F: AsLhs> {
    inputs: [Left<F>; 3],
    narrow_inputs: JointNarrow<F, 3>,
    narrow_output: Narrow<F>,
}

impl ShortConvOnCpu {
    fn of(block: &ShortConv, context: &PassContext) -> Option<Self> {
        Some(Self {
            inputs: block.inputs.on_cpu(context)?,
            output: block.output.on_cpu(context)?,
            convolution: block.convolution.on_cpu()?,
        })
    }

    fn project<F: AsLhs>(&self, x: &Left<F>) -> ([Left<F>; 3], JointNarrow<F, 3>) {
        match &self.inputs {
            JointOnCpu::Separate(all) => {
                let [a, b, c] = all.each_ref().map(|to| to.forward_factor::<F>(x.view()));
                ([a.0, b.0, c.0], JointNarrow::Separate([a.1, b.1, c.1]))
            }
            JointOnCpu::Fused(to_all, widths) => {
                let (all, narrow) = to_all.forward_factor::<F>(x.view());
                let parts = JointOnCpu::parts(all.view(), *widths);
                (parts.map(Left::of), JointNarrow::Fused(narrow))
            }
        }
    }

    /// What the first gate lets through, and what the convolution makes of it.
    fn convolved<F: AsLhs>(
        &self,
        [before, _, x]: &[Left<F>; 3],
        setting: Setting,
    ) -> (Left<F>, Left<F>) {
        let given = multiplied::<F, _, _>(before.view(), x.view());
        let found = self.convolution.operation(setting.documents, false).forward(given.view());
        let shape = x.view();
        (given, Left::of(View::new(&found, shape.rows, found.len() / shape.rows)))
    }

    /// What the second gate lets through, of the tokens that are wanted.
    fn passed<F: AsLhs>(after: &Left<F>, convolved: &Left<F>, setting: Setting) -> Left<F> {
        let all = multiplied(after.view(), convolved.view());
        match setting.wanted {
            Some(rows) => all.picked(rows),
            None => all,
        }
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target, a row for each token that is
    /// wanted.
    pub fn forward<F: AsLhs>(
        &self,
        x: Left<F>,
        target: &mut [f32],
        setting: Setting,
    ) -> SavedShortConv<F> {
        let (inputs, narrow_inputs) = self.project(&x);
        drop(x);
        let (_, convolved) = self.convolved(&inputs, setting);
        let through = Self::passed(&inputs[1], &convolved, setting);
        let narrow_output = self.output.add::<F>(through.view(), target);
        SavedShortConv { inputs, narrow_inputs, narrow_output }
    }

    /// The gradient of the input, of all tokens, from that of what was added; `x` makes the input
    /// again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedShortConv<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let (given, convolved) = self.convolved(&saved.inputs, setting);
        let [before, after, inner] = &saved.inputs;
        let through = Self::passed(after, &convolved, setting);
        let factor = F::factor_of(d, self.output.weight.rows());
        let way = [(&self.output, factor.view(), &saved.narrow_output)];
        let mut d_through = Back::through(&way, through.view(), gradients).input_factor();
        drop((through, factor));
        if let Some(rows) = setting.wanted {
            d_through = d_through.spread(rows, after.view().rows);
        }
        let d_after = multiplied::<F, _, _>(d_through.view(), convolved.view());
        let d_convolved = multiplied::<F32, _, _>(d_through.view(), after.view());
        let d_given = (given.view(), d_convolved.numbers());
        let d_given = self.convolution.backward(d_given, (setting.documents, false), gradients);
        let d_given = View::new(&d_given, given.view().rows, given.view().columns);
        let d_before = multiplied::<F, _, _>(d_given, inner.view());
        let d_inner = multiplied::<F, _, _>(d_given, before.view());
        let d = [d_before, d_after, d_inner];
        self.inputs.back(&d, &saved.narrow_inputs, x().view(), gradients)
    }
}
