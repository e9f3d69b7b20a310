//! Layers by the kernels of the CPU.

use burn::tensor::Tensor;

use crate::model::{Context, Gradients, Layer};
use crate::ops::cpu::{Decoder, Held, Products, Rotation, Setting, Taped};
use crate::ops::{from_vec, host};

/// A layer, and what all layers share, as the numbers that they are.
pub struct OnCpu<'a> {
    decoder: Decoder,
    products: Products,
    cosines: Held,
    sines: Held,
    context: &'a Context,
}

impl<'a> OnCpu<'a> {
    /// None where these kernels are not asked for, or do not know what is to be computed.
    pub fn of<L: Layer + ?Sized>(layer: &L, x: &Tensor<2>, context: &'a Context) -> Option<Self> {
        let products = Products::of(context.computing)?;
        let x = Held::of(x)?; // not on a tape, and on the CPU
        if !x.columns().is_multiple_of(2) {
            return None; // rows of bfloat16 are kept in pairs
        }
        let (cosines, sines) = &context.rotary;
        Some(Self {
            decoder: layer.decoder(context)?,
            products,
            cosines: Held::of(cosines)?,
            sines: Held::of(sines)?,
            context,
        })
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            rotation: Rotation {
                cosines: self.cosines.single(),
                sines: self.sines.single(),
                width: self.cosines.columns(),
            },
            documents: self.context.documents.spans(),
            wanted: self.context.wanted.as_ref().map(|wanted| wanted.tokens.as_slice()),
        }
    }

    /// What leaves the layer, and what [`Self::backward`] needs.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Taped) {
        let ([_, hidden], device) = (x.dims(), x.device());
        let (y, taped) = self.decoder.run(self.products, host(x), self.setting());
        let shape = [y.len() / hidden, hidden];
        (from_vec(y, shape, &device), taped)
    }

    /// The gradient of the layer's input from that of its output; those of its weights go into
    /// `sums`, under `path`.
    pub fn backward(
        &self,
        taped: Taped,
        d: Tensor<2>,
        path: &str,
        sums: &mut Gradients,
    ) -> Tensor<2> {
        let ([_, hidden], device) = (d.dims(), d.device());
        let (d, gradients) = self.decoder.run_back(taped, host(d), self.setting());
        let input = [d.len() / hidden, hidden];
        for (name, gradient) in gradients {
            let shape = [gradient.len()];
            sums.add(&format!("{path}.{name}"), from_vec(gradient, shape, &device));
        }
        from_vec(d, input, &device)
    }
}
