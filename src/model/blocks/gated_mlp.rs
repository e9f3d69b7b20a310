//! An MLP with a gate (Shazeer 2020): `down(activation(gate(x)) ⊙ up(x))`.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::joint::{JointLinear, JointNarrow, JointOnCpu};
use super::linear::NamedLinear;
use crate::device::{Arithmetic, DeviceLimits};
use crate::error::Result;
use crate::model::description::GatedMlpDescription;
use crate::model::{PassContext, WeightSource};
use crate::ops::cpu::{
    AsLhs, Back, F32, Left, Narrow, Number, PASS, PathGradients, Projection, View, decode_outputs,
    gated, gated_backward,
};
use crate::ops::{Activation, gate_beside, gate_factor};

/// Tokens of a tile: as many as products add up before they add the sum to those before it, so that
/// gradients of tiles add up to those of all tokens, bit for bit.
pub const MLP_TILE: usize = PASS;

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
        let tokens = context.documents.rows * context.documents.length;
        if let Some(tile) = context.computing.mlp_tile.filter(|tile| tokens > *tile) {
            let context = match context.dropout {
                Some(_) => Cow::Owned(context.clone().with_masks_by_tile()),
                None => Cow::Borrowed(context),
            };
            let tiled = self.whole_on_cpu(&context)?;
            if tiled.projections().all(Projection::adds_up) {
                return Some(GatedMlpOnCpu { tile: Some(tile), ..tiled });
            }
        }
        self.whole_on_cpu(context)
    }

    fn whole_on_cpu(&self, context: &PassContext) -> Option<GatedMlpOnCpu> {
        Some(GatedMlpOnCpu {
            gate_up: self.gate_up.on_cpu(context)?,
            down: self.down.on_cpu(context)?,
            activation: self.activation,
            tile: None,
        })
    }
}

/// The block for the kernels of the CPU.
#[derive(Clone)]
pub struct GatedMlpOnCpu {
    gate_up: JointOnCpu<2>,
    down: Projection,
    activation: Activation,
    /// Tokens that are computed at once, forward and, once more, backward.
    tile: Option<usize>,
}

/// What its backward pass needs.
pub struct SavedGatedMlp<F: AsLhs>(Saved<F>);

enum Saved<F: AsLhs> {
    Whole(SavedUnits<F>),
    /// The input, where it is computed again, a tile of tokens at a time: what is made once more of
    /// a sum that was rounded is not the same.
    InTiles(Left<F>),
}

/// The same in the format of factors.
struct SavedUnits<F: AsLhs> {
    gate_up: [Left<F>; 2],
    narrow_gate_up: JointNarrow<F, 2>,
    narrow_down: Narrow<F>,
}

impl<F: AsLhs> SavedGatedMlp<F> {
    /// What [`GatedMlpOnCpu::backward`] needs of a pass in tiles with this input.
    pub fn of_tiles(entering: Left<F>) -> Self {
        Self(Saved::InTiles(entering))
    }
}

impl GatedMlpOnCpu {
    fn projections(&self) -> impl Iterator<Item = &Projection> {
        self.gate_up.projections().iter().chain([&self.down])
    }

    /// Whether it computes a tile of tokens at a time, and keeps nothing.
    pub fn is_tiled(&self) -> bool {
        self.tile.is_some()
    }

    /// Some of the tokens: first and count of each tile, and the block as it computes them.
    fn tiles(
        &self,
        tile: usize,
        rows: usize,
    ) -> impl Iterator<Item = (usize, usize, Cow<'_, Self>)> {
        let masked = self.projections().any(Projection::wants_masks);
        (0..rows.max(1)).step_by(tile).map(move |first| {
            let count = tile.min(rows - first);
            let part = match masked {
                true => Cow::Owned(Self {
                    gate_up: self.gate_up.of_tokens(first, count),
                    down: self.down.of_tokens(first, count),
                    activation: self.activation,
                    tile: None,
                }),
                false => Cow::Borrowed(self),
            };
            (first, count, part)
        })
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target.
    pub fn forward<F: AsLhs>(&self, x: Left<F>, target: &mut [f32]) -> SavedGatedMlp<F> {
        let Some(tile) = self.tile else {
            return SavedGatedMlp(Saved::Whole(self.forward_whole(x, target)));
        };
        let rows = x.view().rows;
        let width = target.len() / rows.max(1);
        for (first, count, part) in self.tiles(tile, rows) {
            let target = &mut target[first * width..(first + count) * width];
            part.forward_whole(x.part(first, count), target);
        }
        SavedGatedMlp::of_tiles(x)
    }

    fn forward_whole<F: AsLhs>(&self, x: Left<F>, target: &mut [f32]) -> SavedUnits<F> {
        let (gate_up, narrow_gate_up) = self.gate_up(x);
        let through = gated(self.activation, &gate_up[0], &gate_up[1]);
        let narrow_down = self.down.add::<F>(through.view(), target);
        SavedUnits { gate_up, narrow_gate_up, narrow_down }
    }

    /// The same without the output.
    fn again<F: AsLhs>(&self, x: Left<F>) -> SavedUnits<F> {
        let (gate_up, narrow_gate_up) = self.gate_up(x);
        let through = gated(self.activation, &gate_up[0], &gate_up[1]);
        let narrow_down = self.down.kept::<F>(through.view());
        SavedUnits { gate_up, narrow_gate_up, narrow_down }
    }

    fn gate_up<F: AsLhs>(&self, x: Left<F>) -> ([Left<F>; 2], JointNarrow<F, 2>) {
        let to = |to: &Projection| to.forward_factor::<F>(x.view());
        match &self.gate_up {
            JointOnCpu::Separate([to_gate, to_up]) => {
                let (gate, up) = rayon::join(|| to(to_gate), || to(to_up));
                ([gate.0, up.0], JointNarrow::Separate([gate.1, up.1]))
            }
            JointOnCpu::Fused(to_both, widths) => {
                let (both, narrow) = to(to_both);
                let parts = JointOnCpu::parts(both.view(), *widths);
                (parts.map(Left::of), JointNarrow::Fused(narrow))
            }
        }
    }

    /// How many units there are.
    pub fn width(&self) -> usize {
        self.down.weight.columns()
    }

    /// What its last linear layer got, `[tokens, units]`.
    pub fn units<F: AsLhs>(&self, saved: &SavedGatedMlp<F>) -> Vec<f32> {
        let Saved::Whole(saved) = &saved.0 else {
            unreachable!("models are looked into without tiles")
        };
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
        match saved.0 {
            Saved::Whole(saved) => self.backward_whole(saved, d, x, gradients),
            Saved::InTiles(entering) => self.backward_tiles(&entering, d, &x(), gradients),
        }
    }

    /// The same, of which a tile of tokens is computed again at a time. Gradients of weights are
    /// sums over tokens that products make pass by pass: a tile is one, so that no bit differs.
    fn backward_tiles<F: AsLhs>(
        &self,
        entering: &Left<F>,
        d: &[f32],
        x: &Left<F>,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let rows = x.view().rows;
        let tile = self.tile.unwrap_or(rows);
        let width = d.len() / rows.max(1);
        let (mut dx, mut sums) = (Vec::with_capacity(d.len()), PathGradients::new());
        for (first, count, part) in self.tiles(tile, rows) {
            let (x, d) = (x.part(first, count), &d[first * width..(first + count) * width]);
            let saved = part.again(entering.part(first, count));
            let mut found = PathGradients::new();
            dx.extend(part.backward_whole(saved, d, || x, &mut found));
            add_gradients(&mut sums, found);
        }
        gradients.append(&mut sums);
        dx
    }

    fn backward_whole<F: AsLhs>(
        &self,
        saved: SavedUnits<F>,
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

/// Adds the gradients of a tile to those of the tiles before it.
fn add_gradients(sums: &mut PathGradients, tile: PathGradients) {
    if sums.is_empty() {
        *sums = tile;
        return;
    }
    for ((path, sum), (of_tile, more)) in sums.iter_mut().zip(tile) {
        assert_eq!(*path, of_tile, "gradients come in one order");
        sum.par_iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
}
