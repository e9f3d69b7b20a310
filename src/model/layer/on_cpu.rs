//! Layers by the kernels of the CPU, forward and backward by hand. What is added to has 32 bits on
//! its way through the parts of a layer; what the backward pass needs is kept in the format of
//! factors, and what one pass over memory makes again is not kept.

use burn::tensor::Tensor;

use super::Layer;
use super::Residual;
use crate::model::blocks::{
    BlockActivity, BlockCache, BlockOnCpu, LayerHeads, NormOnCpu, SavedBlock, SavedGatedMlp,
    Setting, decode, decodes,
};
use crate::model::{Gradients, PassContext};
use crate::ops::cpu::{
    AsLhs, Bf16, F32, F32RoundedToBf16, FEW_ROWS, HostTensor, Left, Number, PathGradients,
    Products, StoredNumbers, View, picked, spread,
};
use crate::ops::{from_vec, host};

/// A layer as the numbers that it is.
pub struct LayerOnCpu<'a> {
    residuals: Vec<ResidualOnCpu<'a>>,
    last_mixing: usize,
    /// What the output is multiplied with.
    scalar: f32,
    products: Products,
    hidden: usize,
    context: &'a PassContext,
}

struct ResidualOnCpu<'a> {
    before: Option<NormOnCpu>,
    block: BlockOnCpu<'a>,
    after: Option<NormOnCpu>,
    multiplier: f32,
}

/// What the backward pass of a layer needs, in the format in which products are made.
pub enum SavedLayer {
    /// Products in 32 bits.
    F32(Vec<SavedResidual<F32>>),
    /// Products in bfloat16.
    Bf16(Vec<SavedResidual<Bf16>>),
    /// Products of rounded numbers.
    F32RoundedToBf16(Vec<SavedResidual<F32RoundedToBf16>>),
}

/// What the backward pass of a part needs.
pub struct SavedResidual<F: AsLhs> {
    x: Left<F>,
    block: SavedBlock<F>,
    /// What the block gave, where a norm follows.
    y: Option<Left<F>>,
}

impl<'a> ResidualOnCpu<'a> {
    fn of(residual: &Residual, context: &'a PassContext) -> Option<Self> {
        let norm = |norm: &Option<crate::model::Norm>| match norm {
            Some(norm) => norm.on_cpu().map(Some),
            None => Some(None),
        };
        Some(Self {
            before: norm(&residual.before)?,
            block: residual.block.on_cpu(context)?,
            after: norm(&residual.after)?,
            multiplier: residual.multiplier,
        })
    }

    /// Whether what the block gives is added as it is.
    fn is_plain(&self) -> bool {
        self.after.is_none() && self.multiplier == 1.0
    }

    /// What the block is given of numbers that are `x` as a factor.
    fn entering<F: AsLhs>(&self, numbers: &[impl Number], x: &Left<F>) -> Left<F> {
        match &self.before {
            Some(norm) => norm.operation().forward::<F>(numbers),
            None => x.clone(),
        }
    }

    fn forward<F: AsLhs>(
        &self,
        sum: &mut Vec<f32>,
        hidden: usize,
        setting: Setting,
    ) -> SavedResidual<F> {
        let kept = |x: &[f32]| Left::<F>::of(View::new(x, x.len() / hidden, hidden));
        let x = kept(sum);
        let entering = self.entering(sum, &x);
        if let Some(rows) = setting.wanted {
            *sum = picked(sum, hidden, rows);
        }
        if self.is_plain() {
            let block = self.block.forward(entering, sum, setting);
            return SavedResidual { x, block, y: None };
        }
        let mut y = vec![0.0; sum.len()];
        let block = self.block.forward(entering, &mut y, setting);
        let of_norm = self.after.as_ref().map(|norm| {
            let before = kept(&y);
            y = norm.operation().rows(&y);
            before
        });
        sum.iter_mut().zip(&y).for_each(|(sum, y)| *sum += self.multiplier * y);
        SavedResidual { x, block, y: of_norm }
    }

    /// The same where the output is not wanted, which may be left out then.
    fn forward_without_output<F: AsLhs>(
        &self,
        sum: &mut Vec<f32>,
        hidden: usize,
        setting: Setting,
    ) -> SavedResidual<F> {
        match &self.block {
            BlockOnCpu::GatedMlp(mlp) if mlp.is_tiled() && self.is_plain() => {
                let x = Left::of(View::new(sum, sum.len() / hidden, hidden));
                let entering = self.entering(sum, &x);
                let block = SavedBlock::GatedMlp(SavedGatedMlp::of_tiles(entering));
                SavedResidual { x, block, y: None }
            }
            _ => self.forward(sum, hidden, setting),
        }
    }

    /// Makes the gradient of the input of that of the output.
    fn backward<F: AsLhs>(
        &self,
        saved: SavedResidual<F>,
        d: &mut Vec<f32>,
        hidden: usize,
        (setting, gradients): (Setting, &mut PathGradients),
    ) {
        let SavedResidual { x, block, y } = saved;
        let entering = || self.entering(x.numbers(), &x);
        let d_entering = if self.is_plain() {
            self.block.backward(block, d, entering, setting, gradients)
        } else {
            let mut d_y: Vec<f32> = d.iter().map(|d| self.multiplier * d).collect();
            if let (Some(norm), Some(y)) = (&self.after, y) {
                let mut before = vec![0.0; d_y.len()];
                norm.backward(&y, &d_y, &mut before, gradients);
                d_y = before;
            }
            self.block.backward(block, &d_y, entering, setting, gradients)
        };
        if let Some(rows) = setting.wanted {
            *d = spread(d, hidden, rows, x.view().rows);
        }
        match &self.before {
            Some(norm) => norm.backward(&x, &d_entering, d, gradients),
            None => d.iter_mut().zip(&d_entering).for_each(|(d, more)| *d += more),
        }
    }
}

/// What leaves a part for one more token of each of several texts, `x: [texts, hidden]`; none where
/// these kernels are not asked for, or do not know what is to be computed.
pub fn decode_on_cpu(
    residual: &Residual,
    x: &Tensor<2>,
    context: &PassContext,
    caches: &mut [&mut BlockCache],
) -> Option<Tensor<2>> {
    let ([rows, hidden], products) = (x.dims(), Products::of(context.computing)?);
    if rows > FEW_ROWS || !decodes(&residual.block) {
        return None;
    }
    let (given, part) = (HostTensor::of(x)?, ResidualOnCpu::of(residual, context)?);
    let StoredNumbers::F32(given) = given.numbers() else { return None };
    let mut sum = given.data.to_vec();
    let entering = part.before.as_ref().map(|norm| norm.operation().rows(&sum));
    let entering = View::new(entering.as_ref().unwrap_or(&sum), rows, hidden);
    let mut y = vec![0.0; sum.len()];
    decode(&part.block, entering, &mut y, caches, products.rounds());
    if let Some(norm) = &part.after {
        y = norm.operation().rows(&y);
    }
    sum.iter_mut().zip(&y).for_each(|(sum, y)| *sum += part.multiplier * y);
    Some(from_vec(sum, [rows, hidden], &x.device()))
}

impl<'a> LayerOnCpu<'a> {
    /// None where these kernels are not asked for, or do not know what is to be computed.
    pub fn of(layer: &Layer, x: &Tensor<2>, context: &'a PassContext) -> Option<Self> {
        let products = Products::of(context.computing)?;
        let hidden = HostTensor::of(x)?.columns(); // not on a tape, and on the CPU
        if !hidden.is_multiple_of(2) {
            return None; // rows of bfloat16 are kept in pairs
        }
        let residuals =
            layer.residuals().iter().map(|residual| ResidualOnCpu::of(residual, context));
        Some(Self {
            residuals: residuals.collect::<Option<_>>()?,
            last_mixing: layer.last_mixing(),
            scalar: layer.scalar(),
            products,
            hidden,
            context,
        })
    }

    fn setting(&self, number: usize) -> Setting<'_> {
        let wanted = self.context.wanted.as_ref().filter(|_| number == self.last_mixing);
        Setting {
            documents: self.context.documents.spans(),
            branches: self.context.documents.branches(),
            wanted: wanted.map(|wanted| wanted.tokens.as_slice()),
        }
    }

    /// What leaves the layer, and what [`Self::backward`] needs.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, SavedLayer) {
        let device = x.device();
        let mut sum = host(x);
        let saved = self.saved(&mut sum, true);
        let shape = [sum.len() / self.hidden, self.hidden];
        (from_vec(sum, shape, &device), saved)
    }

    /// What [`Self::backward`] needs, where what leaves the layer is known.
    pub fn again(&self, x: Tensor<2>) -> SavedLayer {
        self.saved(&mut host(x), false)
    }

    fn saved(&self, sum: &mut Vec<f32>, output: bool) -> SavedLayer {
        match self.products {
            Products::F32 => SavedLayer::F32(self.forward_in(sum, output)),
            Products::Bf16 => SavedLayer::Bf16(self.forward_in(sum, output)),
            Products::F32RoundedToBf16 => {
                SavedLayer::F32RoundedToBf16(self.forward_in(sum, output))
            }
        }
    }

    /// Whether [`Self::prompt`] can fill all caches.
    pub fn keeps_caches(&self) -> bool {
        self.residuals.iter().all(|residual| residual.block.keeps_caches())
    }

    /// What leaves the layer for a prompt, one cache for each of its parts.
    pub fn prompt(&self, x: Tensor<2>, caches: &mut [BlockCache]) -> Tensor<2> {
        let (y, saved) = self.forward(x);
        match &saved {
            SavedLayer::F32(saved) => self.keep(saved, caches),
            SavedLayer::Bf16(saved) => self.keep(saved, caches),
            SavedLayer::F32RoundedToBf16(saved) => self.keep(saved, caches),
        }
        y
    }

    /// What its blocks did in a forward pass; `heads` is kept for the next one.
    pub fn activity(&self, saved: &SavedLayer, heads: &mut LayerHeads) -> Vec<BlockActivity> {
        match saved {
            SavedLayer::F32(saved) => self.activity_in(saved, heads),
            SavedLayer::Bf16(saved) => self.activity_in(saved, heads),
            SavedLayer::F32RoundedToBf16(saved) => self.activity_in(saved, heads),
        }
    }

    fn activity_in<F: AsLhs>(
        &self,
        saved: &[SavedResidual<F>],
        heads: &mut LayerHeads,
    ) -> Vec<BlockActivity> {
        let mut found = Vec::new();
        for (number, (part, saved)) in self.residuals.iter().zip(saved).enumerate() {
            let setting = self.setting(number);
            part.block.activity(&saved.block, setting, heads, &mut found);
        }
        found
    }

    fn keep<F: AsLhs>(&self, saved: &[SavedResidual<F>], caches: &mut [BlockCache]) {
        for ((part, saved), cache) in self.residuals.iter().zip(saved).zip(caches) {
            part.block.keep(&saved.block, cache);
        }
    }

    /// `output` tells whether what leaves the layer is wanted.
    fn forward_in<F: AsLhs>(&self, sum: &mut Vec<f32>, output: bool) -> Vec<SavedResidual<F>> {
        let (count, hidden) = (self.residuals.len(), self.hidden);
        let one = |(number, part): (usize, &ResidualOnCpu)| {
            let setting = self.setting(number);
            match output || number + 1 < count {
                true => part.forward(sum, hidden, setting),
                false => part.forward_without_output(sum, hidden, setting),
            }
        };
        let saved = self.residuals.iter().enumerate().map(one).collect();
        self.scale(sum);
        saved
    }

    /// `scalar · x`, of the output or of its gradient.
    fn scale(&self, x: &mut [f32]) {
        if self.scalar != 1.0 {
            x.iter_mut().for_each(|x| *x *= self.scalar);
        }
    }

    /// The gradient of the layer's input from that of its output; those of its weights go into
    /// `sums`, under `path`.
    pub fn backward(
        &self,
        saved: SavedLayer,
        d: Tensor<2>,
        path: &str,
        sums: &mut Gradients,
    ) -> Tensor<2> {
        let device = d.device();
        let mut d = host(d);
        let gradients = match saved {
            SavedLayer::F32(saved) => self.backward_in(saved, &mut d),
            SavedLayer::Bf16(saved) => self.backward_in(saved, &mut d),
            SavedLayer::F32RoundedToBf16(saved) => self.backward_in(saved, &mut d),
        };
        for (name, gradient) in gradients {
            let shape = [gradient.len()];
            sums.add(&format!("{path}.{name}"), from_vec(gradient, shape, &device));
        }
        let shape = [d.len() / self.hidden, self.hidden];
        from_vec(d, shape, &device)
    }

    fn backward_in<F: AsLhs>(
        &self,
        saved: Vec<SavedResidual<F>>,
        d: &mut Vec<f32>,
    ) -> PathGradients {
        let mut gradients = Vec::new();
        self.scale(d);
        for (number, (part, saved)) in self.residuals.iter().zip(saved).enumerate().rev() {
            part.backward(saved, d, self.hidden, (self.setting(number), &mut gradients));
        }
        gradients
    }
}
