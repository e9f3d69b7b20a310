//! A short causal convolution of each channel by itself, which begins anew at every document.

use burn::tensor::Tensor;

use super::RecurrentCache;
use crate::error::Result;
use crate::model::description::ConvolutionDescription;
use crate::model::{Parameter, PassContext, Visitor, WeightSource};
use crate::ops::cpu::{self, HostTensor, Number, PathGradients, View};
use crate::ops::{causal_convolution, convolution_step};

/// The weights.
pub struct Convolution {
    name: &'static str,
    /// `[channels, width]`, the last for the token itself.
    weight: Parameter<2>,
    /// `[channels]`.
    bias: Option<Parameter<1>>,
}

impl Convolution {
    /// Takes its weights, under the module path of the layer.
    pub fn read(
        path: &str,
        description: &ConvolutionDescription,
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let ConvolutionDescription { name, channels, width, bias } = *description;
        let weight = weights.convolution(&format!("{path}.{name}.weight"), [channels, width])?;
        let bias = match bias {
            true => Some(weights.zeros(&format!("{path}.{name}.bias"), channels)?),
            false => None,
        };
        Ok(Self { name, weight, bias })
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        let bias = self.bias.as_ref().map(Parameter::tracked);
        Self { name: self.name, weight: self.weight.tracked(), bias }
    }

    /// Visits weight and bias; `path` is that of the layer.
    pub fn visit(&mut self, path: &str, visitor: &mut dyn Visitor) {
        visitor.matrix(&format!("{path}.{}.weight", self.name), &mut self.weight);
        if let Some(bias) = &mut self.bias {
            visitor.vector(&format!("{path}.{}.bias", self.name), bias);
        }
    }

    /// Of `x: [tokens, channels]`; a cache keeps what [`Self::next`] needs.
    pub fn forward(
        &self,
        x: Tensor<2>,
        context: &PassContext,
        cache: Option<&mut RecurrentCache>,
    ) -> Tensor<2> {
        if let Some(cache) = cache {
            cache.extend(x.clone(), self.weight.value.dims()[1]);
        }
        self.biased(causal_convolution(x, &self.weight.value, &context.documents))
    }

    /// Of one more token of each of several texts.
    pub fn next(&self, x: &Tensor<2>, caches: &mut [&mut RecurrentCache]) -> Tensor<2> {
        let width = self.weight.value.dims()[1];
        let windows = caches.iter_mut().enumerate();
        let windows =
            windows.map(|(text, cache)| cache.extend(x.clone().narrow(0, text, 1), width));
        self.biased(convolution_step(Tensor::cat(windows.collect(), 0), &self.weight.value))
    }

    fn biased(&self, y: Tensor<2>) -> Tensor<2> {
        match &self.bias {
            Some(bias) => y + bias.value.clone().unsqueeze::<2>(),
            None => y,
        }
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu(&self) -> Option<ConvolutionOnCpu> {
        let weight = HostTensor::of(&self.weight.value)?;
        let bias = match &self.bias {
            Some(bias) => Some((HostTensor::of(&bias.value)?, bias.trainable)),
            None => None,
        };
        Some(ConvolutionOnCpu { name: self.name, weight, trainable: self.weight.trainable, bias })
    }
}

/// A convolution for the kernels of the CPU.
pub struct ConvolutionOnCpu {
    name: &'static str,
    /// `[channels, width]`.
    weight: HostTensor,
    trainable: bool,
    /// `[channels]`, and whether its gradient is wanted.
    bias: Option<(HostTensor, bool)>,
}

impl ConvolutionOnCpu {
    /// The operation, with SiLU of its sums or without.
    pub fn operation<'a>(
        &'a self,
        documents: &'a [(usize, usize)],
        silu: bool,
    ) -> cpu::Convolution<'a> {
        cpu::Convolution {
            weight: self.weight.single(),
            channels: self.weight.rows(),
            bias: self.bias.as_ref().map(|(bias, _)| bias.single()),
            silu,
            documents,
        }
    }

    /// The gradient of the input `x: [tokens, channels]` for that of the output, `d`; those of
    /// weight and bias go to the others.
    pub fn backward<N: Number>(
        &self,
        (x, d): (View<N>, &[f32]),
        (documents, silu): (&[(usize, usize)], bool),
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let trainable = (self.trainable, self.bias.as_ref().is_some_and(|(_, trains)| *trains));
        let found = self.operation(documents, silu).backward(x, d, trainable);
        if trainable.0 {
            gradients.push((format!("{}.weight", self.name), found.weight));
        }
        if trainable.1 {
            gradients.push((format!("{}.bias", self.name), found.bias));
        }
        found.x
    }
}
