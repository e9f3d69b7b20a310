//! Root mean square norm with a gain, forward and backward.

use burn::tensor::{Device, Tensor};

use crate::device::Arithmetic;
use crate::error::Result;
use crate::model::description::{NormDescription, NormGain};
use crate::model::{Parameter, Visitor, WeightSource};
use crate::ops::cpu::{self, AsLhs, HostTensor, Number, PathGradients};
use crate::ops::{rms_norm, rms_norm_backward, rms_norm_factor};

/// The weights of a norm.
pub struct Norm {
    /// `[features]`.
    pub gain: Parameter<1>,
    /// Added to the mean square.
    pub epsilon: f64,
    /// What is multiplied with.
    kind: NormGain,
    name: &'static str,
}

impl Norm {
    /// Takes its weight, under the module path `path` of the layer; none for that of the model.
    pub fn read(
        path: Option<&str>,
        description: &NormDescription,
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let NormDescription { name, width, epsilon, gain: kind } = *description;
        let path = within(path, description.gain_path());
        let gain = match kind {
            NormGain::One => Parameter::frozen(Tensor::ones([width], weights.device())),
            NormGain::Weight | NormGain::Scaled(_) => weights.gain(&path, width)?,
            NormGain::OnePlusWeight => weights.zeros(&path, width)?,
        };
        Ok(Self { gain, epsilon, kind, name })
    }

    /// What features are multiplied with, `[features]`.
    pub fn factors(&self) -> Tensor<1> {
        let gain = self.gain.value.clone();
        match self.kind {
            NormGain::Weight | NormGain::One => gain,
            NormGain::OnePlusWeight => gain.add_scalar(1.0),
            NormGain::Scaled(factor) => gain.mul_scalar(factor),
        }
    }

    /// Normalises `x: [tokens, features]`; rows of several widths in parts.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let ([tokens, features], [width]) = (x.dims(), self.gain.value.dims());
        if width == features {
            return rms_norm(x, self.factors(), self.epsilon);
        }
        let parts = x.reshape([tokens * features / width, width]);
        rms_norm(parts, self.factors(), self.epsilon).reshape([tokens, features])
    }

    /// The same as a factor of products.
    pub fn forward_factor(&self, x: Tensor<2>, arithmetic: Arithmetic) -> Tensor<2> {
        match self.gain.value.dims()[0] == x.dims()[1] {
            true => rms_norm_factor(x, self.factors(), self.epsilon, arithmetic),
            false => self.forward(x),
        }
    }

    /// Whether [`Self::backward_with`] is for `x: [tokens, features]`: a GPU has a kernel for it,
    /// and nothing is wanted of the gain.
    pub fn has_gradient_by_hand(&self, x: &Tensor<2>) -> bool {
        let frozen = !self.gain.trainable && self.gain.value.dims()[0] == x.dims()[1];
        frozen && x.device() != Device::flex()
    }

    /// The gradient of `x` for that of what it becomes, and `past` added to it.
    pub fn backward_with(&self, x: Tensor<2>, d: Tensor<2>, past: Tensor<2>) -> Tensor<2> {
        rms_norm_backward(x, self.factors(), self.epsilon, [d, past])
    }

    /// A copy whose gain is a leaf of a tape if it learns.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self { gain: self.gain.tracked(), ..*self }
    }

    /// The path of the gain; `path` is that of the layer, if it is in one.
    pub fn weight_path(&self, path: Option<&str>) -> String {
        within(path, self.description().gain_path())
    }

    /// Visits the gain.
    pub fn visit(&mut self, path: Option<&str>, visitor: &mut dyn Visitor) {
        if self.kind != NormGain::One {
            visitor.vector(&self.weight_path(path), &mut self.gain);
        }
    }

    /// As the kernels of the CPU know it; none on other devices, or for a norm that they do not
    /// know.
    pub fn on_cpu(&self) -> Option<NormOnCpu> {
        let value = HostTensor::of(&self.factors())?;
        #[expect(clippy::cast_possible_truncation)] // the reference computes in f32
        let epsilon = self.epsilon as f32;
        let (gain_path, trainable) = (self.description().gain_path(), self.gain.trainable);
        let factor = match self.kind {
            NormGain::Scaled(factor) => factor,
            _ => 1.0,
        };
        Some(NormOnCpu { gain_path, value, factor, epsilon, trainable })
    }

    fn description(&self) -> NormDescription {
        let ([width], name) = (self.gain.value.dims(), self.name);
        NormDescription { name, width, epsilon: self.epsilon, gain: self.kind }
    }
}

fn within(layer: Option<&str>, path: String) -> String {
    match layer {
        Some(layer) => format!("{layer}.{path}"),
        None => path,
    }
}

/// A norm for the kernels of the CPU.
pub struct NormOnCpu {
    /// Path of the gain within the layer.
    gain_path: String,
    /// What features are multiplied with.
    pub value: HostTensor,
    /// What the gain was multiplied with for that.
    factor: f32,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Whether the gradient of the gain is wanted.
    pub trainable: bool,
}

impl NormOnCpu {
    /// The operation.
    pub fn operation(&self) -> cpu::Norm<'_> {
        cpu::Norm { gain: self.value.single(), epsilon: self.epsilon }
    }

    /// Adds the gradient of the input `x` to `dx`, for that of the output, `d`; that of the gain
    /// goes to the others.
    pub fn backward<F: AsLhs>(
        &self,
        x: &cpu::Left<F>,
        d: &[impl Number],
        dx: &mut [f32],
        gradients: &mut PathGradients,
    ) {
        let mut gain = self.operation().backward(x.numbers(), d, dx, self.trainable);
        if self.trainable {
            if self.factor != 1.0 {
                gain.iter_mut().for_each(|d| *d *= self.factor);
            }
            gradients.push((self.gain_path.clone(), gain));
        }
    }
}
