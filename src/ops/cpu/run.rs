//! The same code for every format of factors: which one is asked for is known when a run begins.

use super::element::{Brain, Rounded, Single};
use super::held::{Borrow, Held};
use super::loss::Scores;
use super::pointwise::Norm;
use crate::config::Kernels;
use crate::device::{Arithmetic, Computing, multiplies_bfloat16};

/// In which format products are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// 32 bits.
    Single,
    /// bfloat16.
    Brain,
    /// Rounded to bfloat16, in 32 bits.
    Rounded,
}

impl Products {
    /// What these kernels compute with; none if others are asked for.
    pub fn of(computing: Computing) -> Option<Self> {
        match (computing.kernels, computing.arithmetic) {
            (Kernels::Portable, _) | (_, Arithmetic::MixedF16) => None,
            (Kernels::Fast, Arithmetic::F32) => Some(Self::Single),
            (Kernels::Fast, Arithmetic::MixedBf16) if multiplies_bfloat16() => Some(Self::Brain),
            (Kernels::Fast, Arithmetic::MixedBf16) => Some(Self::Rounded),
        }
    }
}

/// The final norm and the output projection.
pub struct Head {
    /// `[vocabulary, hidden]`.
    pub table: Held,
    /// Whether the gradient of the table is wanted.
    pub table_learns: bool,
    /// `[hidden]`.
    pub gain: Held,
    /// Whether the gradient of the gain is wanted.
    pub gain_learns: bool,
    /// Added to the mean square.
    pub epsilon: f32,
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
}

impl Head {
    fn norm(&self) -> Norm<'_> {
        Norm { gain: self.gain.single(), epsilon: self.epsilon }
    }

    /// The negative log-likelihood of a token after each row of `x: [positions, hidden]`, in nats,
    /// and whether no other token is likelier.
    pub fn losses(&self, x: &[f32], wanted: &[u32]) -> Vec<(f32, bool)> {
        let hidden = self.norm().rows(x);
        let scores = match self.products {
            Products::Single => Scores::new::<Single>(&self.table, &hidden),
            Products::Brain => Scores::new::<Brain>(&self.table, &hidden),
            Products::Rounded => Scores::new::<Rounded>(&self.table, &hidden),
        };
        scores.losses(wanted)
    }

    /// The losses, and gradients of `scale` times their sum.
    pub fn backward(&self, x: &[f32], wanted: &[u32], scale: f32) -> (Vec<f32>, HeadGradients) {
        match self.products {
            Products::Single => self.backward_in::<Single>(x, wanted, scale),
            Products::Brain => self.backward_in::<Brain>(x, wanted, scale),
            Products::Rounded => self.backward_in::<Rounded>(x, wanted, scale),
        }
    }

    fn backward_in<F: Borrow>(
        &self,
        x: &[f32],
        wanted: &[u32],
        scale: f32,
    ) -> (Vec<f32>, HeadGradients) {
        let hidden = self.norm().rows(x);
        let scores = Scores::new::<F>(&self.table, &hidden);
        let (losses, gradient) = scores.into_gradient(wanted, scale);
        let d_hidden = gradient.of_hidden::<F>(&self.table);
        let mut gradients = HeadGradients { x: vec![0.0; x.len()], ..HeadGradients::default() };
        if self.table_learns {
            gradients.table = gradient.of_table::<F>(&hidden, self.table.columns());
        }
        let dx = &mut gradients.x;
        gradients.gain = self.norm().backward(x, &d_hidden, dx, self.gain_learns);
        (losses, gradients)
    }
}
