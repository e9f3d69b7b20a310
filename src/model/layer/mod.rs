//! A decoder layer: blocks between residual additions, one after the other.

mod cache;
mod on_cpu;
mod tape_start;
mod tiles;

use burn::tensor::Tensor;

pub use self::cache::{Cache, LayerCache};
use self::on_cpu::{LayerOnCpu, SavedLayer, decode_on_cpu};
use self::tape_start::TapeStart;
use self::tiles::TapedPart;
use crate::device::DeviceLimits;
use crate::error::Result;
use crate::model::blocks::{BlockActivity, BlockCache, LayerHeads, TapedBlock, decodes};
use crate::model::description::{LayerDescription, ResidualDescription, Rope};
use crate::model::{Block, Gradients, Linear, Norm, PassContext, Visitor, WeightSource};
use crate::ops::{TapedOutput, added};

/// A part of a layer: `x + multiplier · after(block(before(x)))`.
pub struct Residual {
    /// Of the input of the block.
    pub before: Option<Norm>,
    /// What is computed.
    pub block: Block,
    /// Of the output of the block.
    pub after: Option<Norm>,
    /// What is added is multiplied with this.
    pub multiplier: f32,
}

/// A decoder layer.
pub struct Layer {
    path: String,
    residuals: Vec<Residual>,
    /// The last part that mixes tokens. What comes after it is done to each token by itself, and
    /// only to those whose output is wanted.
    last_mixing: usize,
    /// What its output is multiplied with; nothing trains it.
    scalar: f32,
}

/// What the gradient of a layer needs of its forward pass.
pub enum LayerSaved<'a> {
    /// By the kernels of the CPU.
    OnCpu(LayerOnCpu<'a>, SavedLayer),
    /// By tensor operations.
    Taped(Vec<TapedPart>),
}

/// The forward pass of a part, on a tape.
pub struct TapedResidual {
    residual: Residual,
    start: TapeStart,
    /// What is added, before it is multiplied.
    output: TapedOutput,
    block: TapedBlock,
}

impl Residual {
    fn read(
        path: &str,
        description: &ResidualDescription,
        ropes: &[(Rope, usize)],
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let ResidualDescription { before, block, after, multiplier } = description;
        let mut norm = |of: &Option<_>| -> Result<_> {
            of.as_ref().map(|of| Norm::read(Some(path), of, weights)).transpose()
        };
        let (before, after) = (norm(before)?, norm(after)?);
        let block = Block::read(path, block, ropes, weights)?;
        Ok(Self { before, block, after, multiplier: *multiplier })
    }

    /// What enters the block; rounded once where that is all that is done with it.
    fn entering(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let Some(norm) = &self.before else { return x };
        match self.block.takes_factor() && context.dropout.is_none() {
            true => norm.forward_factor(x, context.computing.arithmetic),
            false => norm.forward(x),
        }
    }

    fn leaving(&self, y: Tensor<2>) -> Tensor<2> {
        self.after.as_ref().map_or_else(|| y.clone(), |norm| norm.forward(y.clone()))
    }

    /// `multiplier · y`, of what is added or of its gradient.
    fn times(&self, y: Tensor<2>) -> Tensor<2> {
        if self.multiplier == 1.0 { y } else { y.mul_scalar(self.multiplier) }
    }

    fn tracked(&self) -> Self {
        Self {
            before: self.before.as_ref().map(Norm::tracked),
            block: self.block.tracked(),
            after: self.after.as_ref().map(Norm::tracked),
            multiplier: self.multiplier,
        }
    }

    /// On plain tensors. Tokens are picked where this is the part that does.
    fn forward(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
        cache: Option<&mut BlockCache>,
    ) -> Tensor<2> {
        let tiles = self.forward_tiles(&x, context);
        tiles.unwrap_or_else(|| self.forward_whole(x, (context, picks), cache))
    }

    fn forward_whole(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
        cache: Option<&mut BlockCache>,
    ) -> Tensor<2> {
        let y = self.block.forward(self.entering(x.clone(), context), (context, picks), cache);
        let x = if picks { context.picked(x) } else { x };
        added(x, self.times(self.leaving(y)))
    }

    fn taped(
        &self,
        x: Tensor<2>,
        (context, picks): (&PassContext, bool),
    ) -> (Tensor<2>, TapedResidual) {
        let residual = self.tracked();
        let (entering, start) = residual.enter_tape(x.clone(), context);
        let (y, block) = residual.block.taped(entering, (context, picks));
        let output = residual.leaving(y);
        let x = if picks { context.picked(x) } else { x };
        let sum = added(x, self.times(output.clone().inner()));
        (sum, TapedResidual { residual, start, output: TapedOutput::of(output), block })
    }

    /// The visitor sees linear layers first, so that adapters come in the order of their layers.
    fn visit_linears(&mut self, path: &str, visitor: &mut dyn Visitor) {
        for named in self.block.linears() {
            named.linear.visit(&format!("{path}.{}", named.name), visitor);
        }
    }

    fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        if let Some(norm) = &mut self.before {
            norm.visit(Some(path), visitor);
        }
        self.block.visit_norms(path, visitor);
        if let Some(norm) = &mut self.after {
            norm.visit(Some(path), visitor);
        }
    }
}

impl TapedResidual {
    /// The gradient of the input from that of the output.
    fn backward(
        mut self,
        path: &str,
        (context, picks): (&PassContext, bool),
        d: Tensor<2>,
        sums: &mut Gradients,
    ) -> Tensor<2> {
        let d_output = self.residual.times(d.clone());
        let mut tapes = vec![self.output.with(d_output).backward()];
        self.residual.block.back(self.block, (context, picks), &mut tapes);
        let d = if picks { context.spread(d) } else { d };
        let (residual, first) = (&mut self.residual, tapes.last_mut().expect("there is one"));
        let d_input = self.start.gradient(residual.before.as_ref(), first, d);
        sums.collect(&mut tapes, |visitor| {
            residual.visit_linears(path, visitor);
            residual.visit_norms(path, visitor);
        });
        d_input
    }
}

impl Layer {
    /// Takes its weights; `ropes` are the rotations of the model.
    pub fn read(
        description: &LayerDescription,
        ropes: &[(Rope, usize)],
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let path = description.path.clone();
        let residuals = description.residuals.iter();
        let residuals: Vec<_> =
            residuals.map(|of| Residual::read(&path, of, ropes, weights)).collect::<Result<_>>()?;
        let last_mixing = residuals.iter().rposition(|residual| residual.block.mixes());
        let last_mixing = last_mixing.expect("every layer of a description mixes tokens");
        let is_input = |part: &Residual| matches!(part.block, Block::LayerInput(_));
        let early = residuals[..last_mixing].iter().any(is_input);
        assert!(!early, "inputs of a layer are added where tokens are no longer mixed");
        let scalar = match description.scalar {
            Some(name) => weights.number(&format!("{path}.{name}"))?,
            None => 1.0,
        };
        Ok(Self { path, residuals, last_mixing, scalar })
    }

    /// Its module path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its parts, in order.
    pub fn residuals(&self) -> &[Residual] {
        &self.residuals
    }

    /// The number of the last part that mixes tokens.
    pub fn last_mixing(&self) -> usize {
        self.last_mixing
    }

    /// What its output is multiplied with.
    pub fn scalar(&self) -> f32 {
        self.scalar
    }

    /// Paths and values of numbers that files hold and that nothing trains.
    pub fn buffers(&self, of: &LayerDescription) -> Vec<(String, Vec<f32>)> {
        let parts = self.residuals.iter().zip(&of.residuals);
        let of_blocks = parts.filter_map(|(part, of)| {
            Some((of.block.buffers()?.0, part.block.choice_bias()?.to_vec()))
        });
        let scalar = of.scalar.map(|name| (name, vec![self.scalar]));
        let named = |(name, values)| (format!("{}.{name}", self.path), values);
        of_blocks.chain(scalar).map(named).collect()
    }

    /// `scalar · x`, of the output or of its gradient.
    fn scaled(&self, x: Tensor<2>) -> Tensor<2> {
        if self.scalar == 1.0 { x } else { x.mul_scalar(self.scalar) }
    }

    /// Its parts, each with whether it picks the tokens that are wanted.
    fn parts(&self) -> impl DoubleEndedIterator<Item = (&Residual, bool)> + ExactSizeIterator {
        self.residuals.iter().enumerate().map(|(n, residual)| (residual, n == self.last_mixing))
    }

    /// What leaves the layer for `x: [tokens, hidden]`, with rows for the tokens that are
    /// [`crate::model::OutputRows`].
    pub fn forward(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        if let Some(here) = LayerOnCpu::of(self, &x, context) {
            return here.forward(x).0;
        }
        let y = self
            .parts()
            .fold(x, |x, (residual, picks)| residual.forward(x, (context, picks), None));
        self.scaled(y)
    }

    /// The same with what [`LayerSaved::backward`] needs.
    pub fn differentiable<'a>(
        &self,
        x: Tensor<2>,
        context: &'a PassContext,
    ) -> (Tensor<2>, LayerSaved<'a>) {
        if let Some(here) = LayerOnCpu::of(self, &x, context) {
            let (y, saved) = here.forward(x);
            return (y, LayerSaved::OnCpu(here, saved));
        }
        let (x, taped) = self.taped(x, context, true);
        (self.scaled(x), LayerSaved::Taped(taped))
    }

    /// What [`LayerSaved::backward`] needs, where what leaves the layer is known.
    pub fn again<'a>(&self, x: Tensor<2>, context: &'a PassContext) -> LayerSaved<'a> {
        let Some(here) = LayerOnCpu::of(self, &x, context) else {
            return LayerSaved::Taped(self.taped(x, context, false).1);
        };
        let saved = here.again(x);
        LayerSaved::OnCpu(here, saved)
    }

    /// The same as tensor operations that one tape follows through all of it; the reference for
    /// tests.
    pub fn composed(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let y = self.residuals.iter().fold(x, |x, residual| {
            let y = residual.block.composed(residual.entering(x.clone(), context), context);
            x + residual.times(residual.leaving(y))
        });
        self.scaled(y)
    }

    /// What leaves the layer for a prompt; an empty cache keeps what [`Self::next`] needs. Where
    /// only the last token's output is wanted, the others' may be left out.
    pub fn prompt(
        &self,
        x: Tensor<2>,
        (context, only_last): (&PassContext, bool),
        cache: &mut LayerCache,
    ) -> Tensor<2> {
        let last = u32::try_from(x.dims()[0] - 1).expect("contexts stay below 2^32 tokens");
        let picked = only_last.then(|| context.only(vec![last]));
        let here = LayerOnCpu::of(self, &x, picked.as_ref().unwrap_or(context))
            .filter(LayerOnCpu::keeps_caches);
        if let Some(here) = here {
            return here.prompt(x, &mut cache.0);
        }
        let parts = self.residuals.iter().zip(&mut cache.0);
        self.scaled(
            parts
                .fold(x, |x, (residual, cache)| residual.forward(x, (context, false), Some(cache))),
        )
    }

    /// Whether the kernels of the CPU do all of [`Self::next`].
    pub fn decodes(&self) -> bool {
        self.residuals.iter().all(|residual| decodes(&residual.block))
    }

    /// The output for one more token of each of several texts, `x: [texts, hidden]`, whose caches
    /// hold what came before.
    pub fn next(
        &self,
        x: Tensor<2>,
        context: &PassContext,
        caches: &mut [&mut LayerCache],
    ) -> Tensor<2> {
        let y = self.residuals.iter().enumerate().fold(x, |x, (number, residual)| {
            let mut caches: Vec<_> = caches.iter_mut().map(|cache| &mut cache.0[number]).collect();
            if let Some(y) = decode_on_cpu(residual, &x, context, &mut caches) {
                return y;
            }
            let y =
                residual.block.next(residual.entering(x.clone(), context), context, &mut caches);
            x + residual.times(residual.leaving(y))
        });
        self.scaled(y)
    }

    /// Visits every parameter.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        let Self { path, residuals, .. } = self;
        residuals.iter_mut().for_each(|residual| residual.visit_linears(path, visitor));
        residuals.iter_mut().for_each(|residual| residual.visit_norms(path, visitor));
    }

    /// Visits every linear layer, with its module path.
    pub fn linears(&mut self, change: &mut dyn FnMut(&str, &mut Linear)) {
        for named in self.residuals.iter_mut().flat_map(|residual| residual.block.linears()) {
            change(&format!("{}.{}", self.path, named.name), &mut named.linear);
        }
    }

    /// Makes one product of linear layers of one input possible on a GPU.
    pub fn place_together(&mut self, limits: DeviceLimits) {
        self.residuals.iter_mut().for_each(|residual| residual.block.place_together(limits));
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        let residuals = self.residuals.iter().map(Residual::tracked).collect();
        let (path, last_mixing) = (self.path.clone(), self.last_mixing);
        Self { path, residuals, last_mixing, scalar: self.scalar }
    }
}

impl LayerSaved<'_> {
    /// What units, heads and experts did in the forward pass; none where tensor operations computed
    /// it. `heads` is kept for the next pass through the same layer.
    pub fn activity(&self, heads: &mut LayerHeads) -> Option<Vec<BlockActivity>> {
        match self {
            Self::OnCpu(here, saved) => Some(here.activity(saved, heads)),
            Self::Taped(_) => None,
        }
    }

    /// The gradient of the layer's input from that of its output; those of its weights go into
    /// `sums`.
    pub fn backward(
        self,
        layer: &Layer,
        context: &PassContext,
        d: Tensor<2>,
        sums: &mut Gradients,
    ) -> Tensor<2> {
        match self {
            Self::OnCpu(here, saved) => here.backward(saved, d, &layer.path, sums),
            Self::Taped(taped) => {
                let parts = layer.parts().zip(taped).rev();
                parts.fold(layer.scaled(d), |d, ((residual, picks), taped)| {
                    taped.backward(residual, &layer.path, (context, picks), d, sums)
                })
            }
        }
    }
}
