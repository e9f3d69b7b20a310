//! The mixer by the gated delta rule, by the kernels of the CPU.

use super::DeltaNet;
use crate::model::blocks::Setting;
use crate::model::blocks::convolution::ConvolutionOnCpu;
use crate::model::blocks::joint::JointOnCpu;
use crate::model::blocks::norm::NormOnCpu;
use crate::model::{Parameter, PassContext};
use crate::ops::cpu::{
    AsLhs, Back, DeltaGradients, DeltaRule, Given, HostTensor, Left, Narrow, PathGradients,
    Projection, View, gated, gated_backward,
};
use crate::ops::{Activation, DeltaHeads};

/// From where on softplus(x) is x in the reference.
const SOFTPLUS_MAX: f32 = 20.0;

/// The block for the kernels of the CPU.
pub struct DeltaNetOnCpu {
    /// To queries, keys and values; the gate; β; what the decay is made of.
    inputs: [Projection; 4],
    output: Projection,
    convolution: ConvolutionOnCpu,
    a_log: VectorOnCpu,
    decay_bias: VectorOnCpu,
    norm: NormOnCpu,
    heads: DeltaHeads,
}

/// A number for each head of values.
struct VectorOnCpu {
    name: &'static str,
    values: HostTensor,
    trainable: bool,
}

/// What its backward pass needs: in the format of factors, but for numbers of heads.
pub struct SavedDeltaNet<F: AsLhs> {
    /// Before the convolution.
    raw: Left<F>,
    z: Left<F>,
    /// Inputs of β and of the decay, `[tokens, value heads]`.
    of_heads: [Vec<f32>; 2],
    /// What left the rule.
    mixed: Left<F>,
    narrow_inputs: [Narrow<F>; 4],
    narrow_output: Narrow<F>,
}

/// g and β, `[tokens, value heads]`.
struct Strengths {
    log_decay: Vec<f32>,
    beta: Vec<f32>,
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    if x > SOFTPLUS_MAX { x } else { x.exp().ln_1p() }
}

impl VectorOnCpu {
    fn of((name, values): &(&'static str, Parameter<1>)) -> Option<Self> {
        let Parameter { value, trainable } = values;
        Some(Self { name, values: HostTensor::of(value)?, trainable: *trainable })
    }

    fn push(&self, gradient: Vec<f32>, gradients: &mut PathGradients) {
        if self.trainable {
            gradients.push((self.name.to_owned(), gradient));
        }
    }
}

impl DeltaNetOnCpu {
    /// None where something in it is of a kind that the kernels do not know.
    pub fn of(block: &DeltaNet, context: &PassContext) -> Option<Self> {
        let JointOnCpu::Separate(inputs) = block.inputs.on_cpu(context)? else { return None };
        if !block.heads.value_width.is_multiple_of(2) {
            return None; // rows of bfloat16 are kept in pairs
        }
        Some(Self {
            inputs,
            output: block.output.on_cpu(context)?,
            convolution: block.convolution.on_cpu()?,
            a_log: VectorOnCpu::of(&block.a_log)?,
            decay_bias: VectorOnCpu::of(&block.decay_bias)?,
            norm: block.norm.on_cpu()?,
            heads: block.heads,
        })
    }

    fn strengths(&self, [beta, decay]: &[Vec<f32>; 2]) -> Strengths {
        let (rates, biases) = (self.a_log.values.single(), self.decay_bias.values.single());
        let mut log_decay = Vec::with_capacity(decay.len());
        for row in decay.chunks_exact(self.heads.values) {
            let of_heads = row.iter().zip(rates).zip(biases);
            log_decay.extend(of_heads.map(|((x, rate), bias)| -rate.exp() * softplus(x + bias)));
        }
        Strengths { log_decay, beta: beta.iter().map(|x| sigmoid(*x)).collect() }
    }

    fn rule<'a>(
        &self,
        qkv: &'a [f32],
        strengths: &'a Strengths,
        documents: &'a [(usize, usize)],
    ) -> DeltaRule<'a> {
        let Strengths { log_decay, beta } = strengths;
        DeltaRule { qkv, log_decay, beta, heads: self.heads, documents }
    }

    /// Heads of what left the rule, normalised: `[tokens, values]`.
    fn normed<F: AsLhs, N: crate::ops::cpu::Number>(&self, mixed: &[N]) -> Left<F> {
        let rows = mixed.len() / self.heads.values_wide();
        Left::from_numbers(self.norm.operation().forward::<F>(mixed).into_numbers(), rows)
    }

    /// Adds what it gives for `x: [tokens, hidden]` to a target, a row for each token that is
    /// wanted.
    pub fn forward<F: AsLhs>(
        &self,
        x: Left<F>,
        target: &mut [f32],
        setting: Setting,
    ) -> SavedDeltaNet<F> {
        let [to_qkv, to_z, to_beta, to_decay] = &self.inputs;
        let wide = || {
            let z = || to_z.forward_factor::<F>(x.view());
            rayon::join(|| to_qkv.forward_factor::<F>(x.view()), z)
        };
        let narrow = || {
            let decay = || to_decay.forward::<F>(x.view());
            rayon::join(|| to_beta.forward::<F>(x.view()), decay)
        };
        let (((raw, narrow_qkv), (z, narrow_z)), ((beta, narrow_beta), (decay, narrow_decay))) =
            rayon::join(wide, narrow);
        drop(x);
        let of_heads = [beta, decay];
        let strengths = self.strengths(&of_heads);
        let qkv = self.convolution.operation(setting.documents, true).forward(raw.view());
        let mixed = self.rule(&qkv, &strengths, setting.documents).forward();
        drop(qkv);
        let through = self.passed(&z, &self.normed::<F, f32>(&mixed), setting);
        let narrow_output = self.output.add::<F>(through.view(), target);
        let columns = self.heads.values_wide();
        let mixed = Left::of(View::new(&mixed, mixed.len() / columns, columns));
        let narrow_inputs = [narrow_qkv, narrow_z, narrow_beta, narrow_decay];
        SavedDeltaNet { raw, z, of_heads, mixed, narrow_inputs, narrow_output }
    }

    /// What the gate lets through, of the tokens that are wanted.
    fn passed<F: AsLhs>(&self, z: &Left<F>, normed: &Left<F>, setting: Setting) -> Left<F> {
        match setting.wanted {
            Some(rows) => gated(Activation::Silu, &z.picked(rows), &normed.picked(rows)),
            None => gated(Activation::Silu, z, normed),
        }
    }

    /// The gradient of the input, of all tokens, from that of what was added; `x` makes the input
    /// again.
    pub fn backward<F: AsLhs>(
        &self,
        saved: SavedDeltaNet<F>,
        d: &[f32],
        x: impl FnOnce() -> Left<F>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let SavedDeltaNet { raw, mut z, of_heads, mixed, narrow_inputs, narrow_output } = saved;
        let factor = F::factor_of(d, self.output.weight.rows());
        let mut normed = self.normed::<F, F::Stored>(mixed.numbers());
        let through = self.passed(&z, &normed, setting);
        let given = [(&self.output, factor.view(), &narrow_output)];
        let mut d_through = Back::through(&given, through.view(), gradients).input_factor();
        drop((through, factor));
        if let Some(rows) = setting.wanted {
            d_through = d_through.spread(rows, mixed.view().rows);
        }
        gated_backward(Activation::Silu, &mut z, &mut normed, &d_through);
        drop(d_through);
        let (d_z, d_normed) = (z, normed);
        let mut d_mixed = vec![0.0; mixed.numbers().len()];
        self.norm.backward(&mixed, d_normed.numbers(), &mut d_mixed, gradients);
        drop((d_normed, mixed));

        let strengths = self.strengths(&of_heads);
        let qkv = self.convolution.operation(setting.documents, true).forward(raw.view());
        let found = self.rule(&qkv, &strengths, setting.documents).backward(&d_mixed);
        drop((qkv, d_mixed));
        let d_raw = (raw.view(), found.qkv.as_slice());
        let d_raw = self.convolution.backward(d_raw, (setting.documents, true), gradients);
        drop(raw);
        let [d_beta, d_decay] =
            self.strengths_backward(&of_heads[1], &strengths, &found, gradients);
        let factors = |d: &[f32], to: &Projection| {
            Left::<F>::of(View::new(d, d.len() / to.weight.rows(), to.weight.rows()))
        };
        let [to_qkv, _, to_beta, to_decay] = &self.inputs;
        let d_raw = factors(&d_raw, to_qkv);
        let (d_beta, d_decay) = (factors(&d_beta, to_beta), factors(&d_decay, to_decay));
        let all = self.inputs.iter().zip([&d_raw, &d_z, &d_beta, &d_decay]).zip(&narrow_inputs);
        let given: Vec<Given<F>> = all.map(|((to, d), narrow)| (to, d.view(), narrow)).collect();
        Back::through(&given, x().view(), gradients).input()
    }

    /// The gradients of the inputs of β and of the decay; those of its parameters go to the others.
    fn strengths_backward(
        &self,
        decay: &[f32],
        strengths: &Strengths,
        found: &DeltaGradients,
        gradients: &mut PathGradients,
    ) -> [Vec<f32>; 2] {
        let heads = self.heads.values;
        let (rates, biases) = (self.a_log.values.single(), self.decay_bias.values.single());
        let d_beta =
            strengths.beta.iter().zip(&found.beta).map(|(beta, d)| d * beta * (1.0 - beta));
        let (mut of_rates, mut of_biases) = (vec![0.0; heads], vec![0.0; heads]);
        let mut d_decay = Vec::with_capacity(decay.len());
        for (number, (x, d)) in decay.iter().zip(&found.log_decay).enumerate() {
            let head = number % heads;
            let one = -rates[head].exp() * d * sigmoid(x + biases[head]);
            of_biases[head] += one;
            of_rates[head] += d * strengths.log_decay[number];
            d_decay.push(one);
        }
        self.a_log.push(of_rates, gradients);
        self.decay_bias.push(of_biases, gradients);
        [d_beta.collect(), d_decay]
    }
}
