//! The same code for every format of factors: which one is asked for is known when a run begins.

use super::element::{Bf16, F32, F32RoundedToBf16};
use super::host_tensor::{AsLhs, HostTensor};
use super::loss::Scores;
use super::pointwise::Norm;
use crate::config::Kernels;
use crate::device::{Arithmetic, ComputeConfig, multiplies_bfloat16};
use crate::ops::LogitConfig;

/// In which format products are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// 32 bits.
    F32,
    /// bfloat16.
    Bf16,
    /// Rounded to bfloat16, in 32 bits.
    F32RoundedToBf16,
}

impl Products {
    /// What these kernels compute with; none if others are asked for.
    pub fn of(computing: ComputeConfig) -> Option<Self> {
        match (computing.kernels, computing.arithmetic) {
            (Kernels::Portable, _) | (_, Arithmetic::MixedF16) => None,
            (Kernels::Fast, Arithmetic::F32) => Some(Self::F32),
            (Kernels::Fast, Arithmetic::MixedBf16) if multiplies_bfloat16() => Some(Self::Bf16),
            (Kernels::Fast, Arithmetic::MixedBf16) => Some(Self::F32RoundedToBf16),
        }
    }

    /// Whether factors are rounded to bfloat16.
    pub fn rounds(self) -> bool {
        self != Self::F32
    }
}

/// The final norm and the output projection.
pub struct Head<'a> {
    /// `[vocabulary, hidden]`.
    pub table: HostTensor,
    /// Whether the gradient of the table is wanted.
    pub table_trainable: bool,
    /// Rows of the table whose gradient is wanted, where that of the whole is not.
    pub rows_trainable: &'a [u32],
    /// `[hidden]`.
    pub gain: HostTensor,
    /// Whether the gradient of the gain is wanted.
    pub gain_trainable: bool,
    /// Added to the mean square.
    pub epsilon: f32,
    /// What is done to scores.
    pub logits: LogitConfig,
    /// In which format products are made.
    pub products: Products,
}

/// Gradients of a [`Head`]; those that are not wanted are empty.
#[derive(Default)]
pub struct HeadGradients {
    /// Of `x: [positions, hidden]`.
    pub x: Vec<f32>,
    /// `[hidden]`.
    pub gain: Vec<f32>,
    /// `[vocabulary, hidden]`.
    pub table: Vec<f32>,
    /// `[rows_trainable, hidden]`.
    pub rows: Vec<f32>,
}

impl Head<'_> {
    fn norm(&self) -> Norm<'_> {
        Norm { gain: self.gain.single(), epsilon: self.epsilon }
    }

    /// What scores are made of, `[positions, hidden]`: multiplied with their scale already.
    fn hidden(&self, x: &[f32]) -> Vec<f32> {
        let mut hidden = self.norm().rows(x);
        self.scale(&mut hidden);
        hidden
    }

    fn scale(&self, numbers: &mut [f32]) {
        if self.logits.scale != 1.0 {
            numbers.iter_mut().for_each(|number| *number *= self.logits.scale);
        }
    }

    fn scores<F: AsLhs>(&self, hidden: &[f32]) -> Scores {
        Scores::new::<F>(&self.table, hidden, self.logits.soft_cap)
    }

    /// The negative log-likelihood of a token after each row of `x: [positions, hidden]`, in nats,
    /// and whether no other token is likelier.
    pub fn losses(&self, x: &[f32], wanted: &[u32]) -> Vec<(f32, bool)> {
        let hidden = self.hidden(x);
        let scores = match self.products {
            Products::F32 => self.scores::<F32>(&hidden),
            Products::Bf16 => self.scores::<Bf16>(&hidden),
            Products::F32RoundedToBf16 => self.scores::<F32RoundedToBf16>(&hidden),
        };
        scores.losses(wanted)
    }

    /// The losses, and gradients of their sum, each times its scale.
    pub fn backward(&self, x: &[f32], wanted: &[u32], scales: &[f32]) -> (Vec<f32>, HeadGradients) {
        match self.products {
            Products::F32 => self.backward_in::<F32>(x, wanted, scales),
            Products::Bf16 => self.backward_in::<Bf16>(x, wanted, scales),
            Products::F32RoundedToBf16 => self.backward_in::<F32RoundedToBf16>(x, wanted, scales),
        }
    }

    fn backward_in<F: AsLhs>(
        &self,
        x: &[f32],
        wanted: &[u32],
        scales: &[f32],
    ) -> (Vec<f32>, HeadGradients) {
        let hidden = self.hidden(x);
        let (losses, gradient) = self.scores::<F>(&hidden).into_gradient(wanted, scales);
        let mut d_hidden = gradient.of_hidden::<F>(&self.table);
        self.scale(&mut d_hidden);
        let mut gradients = HeadGradients { x: vec![0.0; x.len()], ..HeadGradients::default() };
        if self.table_trainable {
            gradients.table = gradient.of_table::<F>(&hidden, self.table.columns());
        }
        if !self.rows_trainable.is_empty() {
            let (rows, width) = (self.rows_trainable, self.table.columns());
            gradients.rows = gradient.of_rows(rows, &hidden, width);
        }
        let dx = &mut gradients.x;
        gradients.gain = self.norm().backward(x, &d_hidden, dx, self.gain_trainable);
        (losses, gradients)
    }
}
