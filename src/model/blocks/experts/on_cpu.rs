//! A mixture of experts by the kernels of the CPU: experts are independent of each other, and each
//! is a few products of the rows of its tokens.

use rayon::prelude::*;

use super::{Choices, Expert, Routed, RouterOnCpu};
use crate::model::PassContext;
use crate::model::blocks::joint::{JointNarrow, JointOnCpu};
use crate::model::blocks::norm::NormOnCpu;
use crate::ops::Activation;
use crate::ops::cpu::{
    AsLhs, Back, F32, HostTensor, Left, Narrow, Number, PathGradients, Projection, View,
    decode_outputs, dot, gated, gated_backward, picked,
};

/// The block for the kernels of the CPU.
pub struct ExpertsOnCpu {
    /// Which gives each token its experts.
    pub router: RouterOnCpu,
    /// Of the input of the experts.
    pub before: Option<NormOnCpu>,
    /// In order.
    pub experts: Vec<ExpertOnCpu>,
}

/// What its backward pass needs.
pub struct SavedExperts<F: AsLhs> {
    routed: Routed<F>,
    /// None of an expert without tokens.
    experts: Vec<Option<SavedExpert<F>>>,
}

/// An expert. The weight of a token multiplies what the gate let through: then the gradient of the
/// output of every expert is that of the sum, and what it adds to the gradient of the weight is
/// known without the output.
pub struct ExpertOnCpu {
    gate_up: JointOnCpu<2>,
    /// Without its bias.
    down: Projection,
    /// Of the output, and whether its gradient is wanted.
    bias: Option<(HostTensor, bool)>,
    activation: Activation,
}

struct SavedExpert<F: AsLhs> {
    gate_up: [Left<F>; 2],
    narrow_gate_up: JointNarrow<F, 2>,
    narrow_down: Narrow<F>,
}

/// Gradients of what one expert was given: its rows, their weights; and of its own weights.
struct BackOfExpert {
    rows: Vec<f32>,
    weights: Vec<f32>,
    gradients: PathGradients,
}

impl Expert {
    pub(super) fn on_cpu(&self, context: &PassContext) -> Option<ExpertOnCpu> {
        let mut down = self.down.on_cpu(context)?;
        let bias = down.bias.take();
        let gate_up = self.gate_up.on_cpu(context)?;
        Some(ExpertOnCpu { gate_up, down, bias, activation: self.activation })
    }
}

/// Rows, each times a number of its own.
fn weighted<F: AsLhs>(x: &Left<F>, weights: &[f32]) -> Left<F> {
    let view = x.view();
    Left::with(view.rows, view.columns, |row, target| {
        let weight = weights[row];
        for (target, x) in target.iter_mut().zip(view.row(row)) {
            *target = F::of(x.wide() * weight);
        }
    })
}

impl ExpertOnCpu {
    /// The output for `x: [tokens, hidden]`, times their weights.
    fn forward<F: AsLhs>(&self, x: &Left<F>, weights: &[f32]) -> (Vec<f32>, SavedExpert<F>) {
        let JointOnCpu::Fused(to_both, widths) = &self.gate_up else {
            unreachable!("gate and up of an expert are one matrix")
        };
        let (both, narrow) = to_both.forward_factor::<F>(x.view());
        let gate_up = JointOnCpu::parts(both.view(), *widths).map(Left::of);
        let through = gated(self.activation, &gate_up[0], &gate_up[1]);
        let (mut y, narrow_down) = self.down.forward::<F>(weighted(&through, weights).view());
        self.add_bias(&mut y, weights);
        let narrow_gate_up = JointNarrow::Fused(narrow);
        (y, SavedExpert { gate_up, narrow_gate_up, narrow_down })
    }

    /// The same for a few rows, where text is written.
    fn decode(&self, x: &Left<F32>, weights: &[f32], rounds: bool) -> Vec<f32> {
        let of_rows = |y| Left::<F32>::from_numbers(y, x.view().rows);
        let [gate, up] = self.gate_up.decode(x.view(), rounds).map(of_rows);
        let through = weighted(&gated(self.activation, &gate, &up), weights);
        let [mut y] = decode_outputs([&self.down], through.view(), rounds);
        self.add_bias(&mut y, weights);
        y
    }

    fn add_bias(&self, y: &mut [f32], weights: &[f32]) {
        let Some((bias, _)) = &self.bias else { return };
        for (row, weight) in y.chunks_exact_mut(bias.columns()).zip(weights) {
            row.iter_mut().zip(bias.single()).for_each(|(y, bias)| *y += weight * bias);
        }
    }

    /// `d` has the gradient of the sum, a row for each token of the expert.
    fn backward<F: AsLhs>(
        &self,
        saved: SavedExpert<F>,
        d: &[f32],
        x: &Left<F>,
        weights: &[f32],
    ) -> BackOfExpert {
        let mut gradients = Vec::new();
        let mut gate_up = saved.gate_up;
        let [gate, up] = &mut gate_up;
        let through = gated(self.activation, gate, up);
        let factor = F::factor_of(d, self.down.weight.rows());
        let given = [(&self.down, factor.view(), &saved.narrow_down)];
        let times_weight = weighted(&through, weights);
        let d_weighted: Left<F> =
            Back::through(&given, times_weight.view(), &mut gradients).input_factor();
        drop((times_weight, factor));
        let (through, d_view) = (through.view(), d_weighted.view());
        let mut d_weights: Vec<f32> =
            (0..d_view.rows).map(|row| dot(d_view.row(row), through.row(row))).collect();
        if let Some((bias, trainable)) = &self.bias {
            let rows = || d.chunks_exact(bias.columns()).zip(weights);
            for ((d, _), d_weight) in rows().zip(&mut d_weights) {
                *d_weight += dot(d, bias.single());
            }
            if *trainable {
                let mut sum = vec![0.0; bias.columns()];
                for (d, weight) in rows() {
                    sum.iter_mut().zip(d).for_each(|(sum, d)| *sum += weight * d);
                }
                gradients.push((format!("{}.bias", self.down.path), sum));
            }
        }
        let d_through = weighted(&d_weighted, weights);
        gated_backward(self.activation, gate, up, &d_through);
        drop((d_through, d_weighted));
        let rows = self.gate_up.back(&gate_up, &saved.narrow_gate_up, x.view(), &mut gradients);
        BackOfExpert { rows, weights: d_weights, gradients }
    }

    /// The gradients of what is trainable, where no token chose the expert.
    fn no_gradients(&self) -> PathGradients {
        let JointOnCpu::Fused(to_both, _) = &self.gate_up else { return Vec::new() };
        let mut gradients = Vec::new();
        let biases = [to_both.bias.as_ref(), self.bias.as_ref()];
        for (linear, bias) in [to_both.as_ref(), &self.down].into_iter().zip(biases) {
            let mut add = |name: &str, count| {
                gradients.push((format!("{}.{name}", linear.path), vec![0.0; count]));
            };
            if linear.trainable {
                add("weight", linear.weight.rows() * linear.weight.columns());
            }
            if let Some((bias, true)) = bias {
                add("bias", bias.columns());
            }
            if let Some(low) = &linear.low_rank {
                for (name, factor) in low.names.into_iter().zip([&low.a, &low.b]) {
                    add(name, factor.rows() * factor.columns());
                }
            }
        }
        gradients
    }
}

impl<F: AsLhs> SavedExperts<F> {
    /// The experts that were chosen, token after token; and how many each token has.
    pub fn chosen(&self) -> (&[u32], usize) {
        let choices = &self.routed.choices;
        (&choices.experts, choices.top_k)
    }
}

impl ExpertsOnCpu {
    /// What the last linear layer of each chosen expert got, before the weight of the choice:
    /// `[tokens, top_k, units]`; and how many units there are.
    pub fn units<F: AsLhs>(&self, saved: &SavedExperts<F>) -> (Vec<f32>, usize) {
        let choices = &saved.routed.choices;
        let width = |expert: &ExpertOnCpu| expert.down.weight.columns();
        let units = self.experts.first().map_or(0, width);
        let mut values = vec![0.0; choices.experts.len() * units];
        for ((expert, of), slots) in self.experts.iter().zip(&saved.experts).zip(&choices.slots) {
            let Some(SavedExpert { gate_up: [gate, up], .. }) = of else { continue };
            let through = gated(expert.activation, gate, up);
            let through = through.view();
            for (row, slot) in slots.iter().enumerate() {
                let target = &mut values[*slot as usize * units..][..units];
                for (target, number) in target.iter_mut().zip(through.row(row)) {
                    *target = number.wide();
                }
            }
        }
        (values, units)
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target.
    pub fn forward<F: AsLhs>(&self, x: &Left<F>, target: &mut [f32]) -> SavedExperts<F> {
        let routed = self.router.route(x);
        let (choices, weights) = (&routed.choices, &routed.weights);
        let entering = self.entering(x);
        let x = entering.as_ref().unwrap_or(x);
        let of_expert = |(number, expert): (usize, &ExpertOnCpu)| {
            let slots = &choices.slots[number];
            if slots.is_empty() {
                return (Vec::new(), None);
            }
            let (y, saved) =
                expert.forward(&x.picked(&choices.tokens(number)), &picked(weights, 1, slots));
            (y, Some(saved))
        };
        let (outputs, experts): (Vec<_>, Vec<_>) =
            self.experts.par_iter().enumerate().map(of_expert).unzip();
        self.add_rows(choices, &outputs, target);
        SavedExperts { routed, experts }
    }

    /// The same for a few rows, where text is written: only weights of chosen experts are read.
    pub fn decode(&self, x: View<f32>, target: &mut [f32], rounds: bool) {
        let x = Left::<F32>::of(x);
        let routed = self.router.route_decoded(&x, rounds);
        let (choices, weights) = (&routed.choices, &routed.weights);
        let entering = self.entering(&x);
        let x = entering.as_ref().unwrap_or(&x);
        let of_expert = |(expert, slots): (&ExpertOnCpu, (usize, &Vec<u32>))| match slots {
            (_, slots) if slots.is_empty() => Vec::new(),
            (number, slots) => {
                let rows = x.picked(&choices.tokens(number));
                expert.decode(&rows, &picked(weights, 1, slots), rounds)
            }
        };
        let slots = choices.slots.iter().enumerate();
        let outputs: Vec<Vec<f32>> = self.experts.iter().zip(slots).map(of_expert).collect();
        self.add_rows(choices, &outputs, target);
    }

    /// What the experts are given, if it is not the input itself.
    fn entering<F: AsLhs>(&self, x: &Left<F>) -> Option<Left<F>> {
        self.before.as_ref().map(|norm| norm.operation().forward::<F>(x.numbers()))
    }

    /// Adds the rows of the experts of each token, those of its first choice first.
    fn add_rows(&self, choices: &Choices, outputs: &[Vec<f32>], target: &mut [f32]) {
        let top_k = self.router.routing.top_k;
        let hidden = target.len() / (choices.experts.len() / top_k).max(1);
        let firsts = outputs.iter().scan(0, |first, rows| {
            let here = *first;
            *first += rows.len() / hidden.max(1);
            Some(here)
        });
        let firsts: Vec<usize> = firsts.collect();
        target.par_chunks_exact_mut(hidden.max(1)).enumerate().for_each(|(token, target)| {
            for slot in token * top_k..(token + 1) * top_k {
                let expert = choices.experts[slot] as usize;
                let row = choices.rows[slot] as usize - firsts[expert];
                let output = &outputs[expert][row * hidden..(row + 1) * hidden];
                target.iter_mut().zip(output).for_each(|(sum, y)| *sum += y);
            }
        });
    }

    /// The gradient of the input from that of what was added; `x` makes the input again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedExperts<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let SavedExperts { routed, experts } = saved;
        let (choices, weights) = (&routed.choices, &routed.weights);
        let x = x();
        let entering = self.entering(&x);
        let given = entering.as_ref().unwrap_or(&x);
        let hidden = self.experts[0].down.weight.rows();
        let of_expert = |(number, saved): (usize, Option<SavedExpert<F>>)| {
            let expert = &self.experts[number];
            let Some(saved) = saved else {
                let gradients = expert.no_gradients();
                return BackOfExpert { rows: Vec::new(), weights: Vec::new(), gradients };
            };
            let (tokens, slots) = (choices.tokens(number), &choices.slots[number]);
            let d = picked(d, hidden, &tokens);
            expert.backward(saved, &d, &given.picked(&tokens), &picked(weights, 1, slots))
        };
        let back: Vec<BackOfExpert> = experts.into_par_iter().enumerate().map(of_expert).collect();
        let (mut d_weights, mut rows) = (vec![0.0; weights.len()], Vec::new());
        for (slots, back) in choices.slots.iter().zip(back) {
            for (slot, d) in slots.iter().zip(back.weights) {
                d_weights[*slot as usize] = d;
            }
            gradients.extend(back.gradients);
            rows.push(back.rows);
        }
        let mut dx = self.router.back(&routed, d_weights, &x, gradients);
        match &self.before {
            None => self.add_rows(choices, &rows, &mut dx),
            Some(norm) => {
                let mut d = vec![0.0; dx.len()];
                self.add_rows(choices, &rows, &mut d);
                norm.backward(&x, &d, &mut dx, gradients);
            }
        }
        dx
    }
}
