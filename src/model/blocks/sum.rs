//! The sum of what several blocks give for one input, each with norms about it and a gate: a shared
//! expert beside a mixture (Qwen), an MLP beside one (Gemma 4).

use burn::tensor::{Tensor, activation::sigmoid};

use super::linear::NamedLinear;
use super::norm::{Norm, NormOnCpu};
use super::{Block, BlockOnCpu, SavedBlock, Setting};
use crate::device::DeviceLimits;
use crate::error::Result;
use crate::model::description::{Rope, TermDescription};
use crate::model::{PassContext, Visitor, WeightSource};
use crate::ops::cpu::{AsLhs, Back, F32, Left, Narrow, PathGradients, Projection, View, dot};

/// The weights.
pub struct Sum {
    terms: Vec<Term>,
}

/// `gate(x) · after(block(before(x)))`.
struct Term {
    before: Option<Norm>,
    block: Block,
    after: Option<Norm>,
    gate: Option<NamedLinear>,
}

impl Term {
    fn read(
        path: &str,
        of: &TermDescription,
        ropes: &[(Rope, usize)],
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let mut norm = |of: &Option<_>| -> Result<_> {
            of.as_ref().map(|of| Norm::read(Some(path), of, weights)).transpose()
        };
        let (before, after) = (norm(&of.before)?, norm(&of.after)?);
        let block = Block::read(path, &of.block, ropes, weights)?;
        assert!(!block.mixes(), "terms of a sum see each token by itself");
        let gate = of.gate.map(|gate| NamedLinear::read(path, gate, weights)).transpose()?;
        Ok(Self { before, block, after, gate })
    }

    fn tracked(&self) -> Self {
        Self {
            before: self.before.as_ref().map(Norm::tracked),
            block: self.block.tracked(),
            after: self.after.as_ref().map(Norm::tracked),
            gate: self.gate.as_ref().map(NamedLinear::tracked),
        }
    }

    fn forward(&self, x: &Tensor<2>, context: &PassContext) -> Tensor<2> {
        let normed = |norm: &Option<Norm>, x: Tensor<2>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let entering = normed(&self.before, x.clone());
        let y = normed(&self.after, self.block.forward(entering, (context, false), None));
        match &self.gate {
            Some(gate) => y * sigmoid(gate.linear.forward(x.clone(), context)),
            None => y,
        }
    }
}

impl Sum {
    /// Takes its weights, under the module path of the layer.
    pub fn read(
        path: &str,
        terms: &[TermDescription],
        ropes: &[(Rope, usize)],
        weights: &mut WeightSource,
    ) -> Result<Self> {
        let terms = terms.iter().map(|of| Term::read(path, of, ropes, weights));
        Ok(Self { terms: terms.collect::<Result<_>>()? })
    }

    /// Its linear layers, in order.
    pub fn linears(&mut self) -> Vec<&mut NamedLinear> {
        let of_term = |term| {
            let Term { block, gate, .. }: &mut Term = term;
            block.linears().into_iter().chain(gate)
        };
        self.terms.iter_mut().flat_map(of_term).collect()
    }

    /// Makes one product of layers of one input possible on a GPU.
    pub fn place_together(&mut self, limits: DeviceLimits) {
        self.terms.iter_mut().for_each(|term| term.block.place_together(limits));
    }

    /// Visits what is no linear layer; `path` is that of the decoder layer.
    pub fn visit_norms(&mut self, path: &str, visitor: &mut dyn Visitor) {
        for Term { before, block, after, .. } in &mut self.terms {
            before.iter_mut().chain(after).for_each(|norm| norm.visit(Some(path), visitor));
            block.visit_norms(path, visitor);
        }
    }

    /// What routers in it choose by besides scores.
    pub fn choice_bias(&self) -> Option<&[f32]> {
        self.terms.iter().find_map(|term| term.block.choice_bias())
    }

    /// Its blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.terms.iter().map(|term| &term.block)
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self { terms: self.terms.iter().map(Term::tracked).collect() }
    }

    /// `[tokens, hidden]` in and out.
    pub fn forward(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let terms = self.terms.iter().map(|term| term.forward(&x, context));
        terms.reduce(|sum, more| sum + more).unwrap_or_else(|| x.zeros_like())
    }

    /// As the kernels of the CPU know it.
    pub fn on_cpu<'a>(&self, context: &'a PassContext) -> Option<SumOnCpu<'a>> {
        let terms = self.terms.iter().map(|term| TermOnCpu::of(term, context));
        Some(SumOnCpu { terms: terms.collect::<Option<_>>()? })
    }
}

/// The block for the kernels of the CPU.
pub struct SumOnCpu<'a> {
    terms: Vec<TermOnCpu<'a>>,
}

struct TermOnCpu<'a> {
    before: Option<NormOnCpu>,
    block: BlockOnCpu<'a>,
    after: Option<NormOnCpu>,
    gate: Option<Projection>,
}

/// What the backward pass of a term needs.
pub struct SavedTerm<F: AsLhs> {
    block: SavedBlock<F>,
    /// What the block gave, where something is done to it.
    y: Option<Left<F>>,
    /// What the gate lets through of each token.
    gate: Option<(Vec<f32>, Narrow<F>)>,
}

impl<'a> TermOnCpu<'a> {
    fn of(term: &Term, context: &'a PassContext) -> Option<Self> {
        let norm = |norm: &Option<Norm>| match norm {
            Some(norm) => norm.on_cpu().map(Some),
            None => Some(None),
        };
        Some(Self {
            before: norm(&term.before)?,
            block: term.block.on_cpu(context)?,
            after: norm(&term.after)?,
            gate: match &term.gate {
                Some(gate) => Some(gate.on_cpu(context)?),
                None => None,
            },
        })
    }

    fn entering<F: AsLhs>(&self, x: &Left<F>) -> Left<F> {
        match &self.before {
            Some(norm) => norm.operation().forward::<F>(x.numbers()),
            None => x.clone(),
        }
    }

    fn forward<F: AsLhs>(&self, x: &Left<F>, target: &mut [f32], setting: Setting) -> SavedTerm<F> {
        let entering = self.entering(x);
        if self.after.is_none() && self.gate.is_none() {
            let block = self.block.forward(entering, target, setting);
            return SavedTerm { block, y: None, gate: None };
        }
        let (mut y, rows) = (vec![0.0; target.len()], x.view().rows);
        let width = target.len() / rows.max(1);
        let block = self.block.forward(entering, &mut y, setting);
        let given = Left::of(View::new(&y, rows, width));
        if let Some(norm) = &self.after {
            y = norm.operation().rows(&y);
        }
        let gate = self.gate.as_ref().map(|gate| {
            let (mut scores, narrow) = gate.forward::<F>(x.view());
            scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
            for (y, share) in y.chunks_exact_mut(width).zip(&scores) {
                y.iter_mut().for_each(|y| *y *= share);
            }
            (scores, narrow)
        });
        target.iter_mut().zip(&y).for_each(|(sum, y)| *sum += y);
        SavedTerm { block, y: Some(given), gate }
    }

    /// Adds the gradient of the input `x` to `dx`, for that of what was added.
    fn backward<F: AsLhs>(
        &self,
        saved: SavedTerm<F>,
        d: &[f32],
        (x, dx): (&Left<F>, &mut [f32]),
        setting: Setting,
        gradients: &mut PathGradients,
    ) {
        let rows = x.view().rows;
        let mut d = d.to_vec();
        if let (Some(gate), Some((shares, narrow)), Some(y)) = (&self.gate, &saved.gate, &saved.y) {
            let normed: Option<Left<F32>> =
                self.after.as_ref().map(|norm| norm.operation().forward(y.numbers()));
            let width = d.len() / rows.max(1);
            let mut d_scores = Vec::with_capacity(rows);
            for (row, (d, share)) in d.chunks_exact_mut(width).zip(shares).enumerate() {
                let d_share = match &normed {
                    Some(normed) => dot(d, normed.view().row(row)),
                    None => dot(d, y.view().row(row)),
                };
                d_scores.push(d_share * share * (1.0 - share));
                d.iter_mut().for_each(|d| *d *= share);
            }
            let factor = F::factor_of(&d_scores, 1);
            let given = [(gate, factor.view(), narrow)];
            let back = Back::through(&given, x.view(), gradients).input();
            dx.iter_mut().zip(back).for_each(|(sum, d)| *sum += d);
        }
        if let (Some(norm), Some(y)) = (&self.after, &saved.y) {
            let mut before = vec![0.0; d.len()];
            norm.backward(y, &d, &mut before, gradients);
            d = before;
        }
        let entering = || self.entering(x);
        let d = self.block.backward(saved.block, &d, entering, setting, gradients);
        match &self.before {
            Some(norm) => norm.backward(x, &d, dx, gradients),
            None => dx.iter_mut().zip(&d).for_each(|(sum, d)| *sum += d),
        }
    }
}

impl<'a> SumOnCpu<'a> {
    /// Its blocks, in order, with what each saved.
    pub fn blocks<'b, F: AsLhs>(
        &'b self,
        saved: &'b [SavedTerm<F>],
    ) -> impl Iterator<Item = (&'b BlockOnCpu<'a>, &'b SavedBlock<F>)> {
        self.terms.iter().zip(saved).map(|(term, saved)| (&term.block, &saved.block))
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target.
    pub fn forward<F: AsLhs>(
        &self,
        x: &Left<F>,
        target: &mut [f32],
        setting: Setting,
    ) -> Vec<SavedTerm<F>> {
        self.terms.iter().map(|term| term.forward(x, target, setting)).collect()
    }

    /// The gradient of the input from that of what was added; `x` makes the input again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: Vec<SavedTerm<F>>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let x = x();
        let mut dx = vec![0.0; d.len()];
        for (term, saved) in self.terms.iter().zip(saved) {
            term.backward(saved, d, (&x, &mut dx), setting, gradients);
        }
        dx
    }
}
