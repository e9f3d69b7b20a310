//! A pre-norm decoder layer with grouped queries, rotary positions and a gated MLP (Llama, Touvron
//! et al. 2023), forward and backward by hand. What the backward pass needs is kept; what one pass
//! over memory makes again is not.

use super::attention::{Attention, Mixed};
use super::held::{Borrow, Held};
use super::packed::{Left, View, picked, spread};
use super::pointwise::{Norm, Rotation, gated, gated_backward};
use super::projection::{Back, Given, Narrow, PathGradients, Projection};
use crate::ops::Heads;

/// A layer's weights.
pub struct Decoder {
    /// Before attention.
    pub attention_norm: Gain,
    /// To queries, keys and values.
    pub qkv: [Projection; 3],
    /// From what attention mixed.
    pub output: Projection,
    /// Before the MLP.
    pub mlp_norm: Gain,
    /// To the gate, and to what it lets through.
    pub gate_up: [Projection; 2],
    /// Back to the layer's width.
    pub down: Projection,
    /// How queries, keys and values are laid out.
    pub heads: Heads,
}

/// The gain of a norm.
pub struct Gain {
    /// Its path within the layer.
    pub path: &'static str,
    /// `[features]`.
    pub value: Held,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Whether its gradient is wanted.
    pub learns: bool,
}

/// What a layer is given besides its input.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// How positions turn queries and keys.
    pub rotation: Rotation<'a>,
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
    /// Tokens whose output is wanted, each once: the output has a row for each of them then, and so
    /// has its gradient. All tokens' where this is `None`.
    pub wanted: Option<&'a [u32]>,
}

/// What the backward pass of a layer needs, in the format of factors. What is added to has 32 bits
/// on its way through the layers; here it is kept for the norms, which products follow.
pub struct Kept<F: Borrow> {
    x: Left<F>,
    qkv: [Left<F>; 3],
    mixed: Mixed<F>,
    middle: Left<F>,
    gate_up: [Left<F>; 2],
    narrow_qkv: [Narrow<F>; 3],
    narrow_output: Narrow<F>,
    narrow_gate_up: [Narrow<F>; 2],
    narrow_down: Narrow<F>,
}

impl Gain {
    fn norm(&self) -> Norm<'_> {
        Norm { gain: self.value.single(), epsilon: self.epsilon }
    }

    fn backward<F: Borrow>(
        &self,
        x: &Left<F>,
        d: &[f32],
        dx: &mut [f32],
        gradients: &mut PathGradients,
    ) {
        let gain = self.norm().backward(x.numbers(), d, dx, self.learns);
        if self.learns {
            gradients.push((format!("{}.weight", self.path), gain));
        }
    }
}

impl Decoder {
    /// What leaves the layer for `x: [tokens, hidden]`, and what the backward pass needs.
    pub fn forward<F: Borrow>(&self, x: Vec<f32>, setting: Setting) -> (Vec<f32>, Kept<F>) {
        let hidden = self.down.weight.rows();
        let kept = |x: &[f32]| Left::<F>::of(View::new(x, x.len() / hidden, hidden));
        let mut sum = x;
        let x = kept(&sum);
        let normed = self.attention_norm.norm().forward::<F>(&sum);
        let [to_q, to_k, to_v] = &self.qkv;
        let turned = |to: &Projection| {
            let (x, narrow) = to.forward::<F>(normed.view());
            (setting.rotation.rows(&x), narrow)
        };
        let k_and_v = || rayon::join(|| turned(to_k), || to_v.forward_factor(normed.view()));
        let ((q, narrow_q), ((k, narrow_k), (v, narrow_v))) = rayon::join(|| turned(to_q), k_and_v);
        drop(normed);
        let qkv = [q, k, v];
        let mixed = self.attention(&qkv, setting).forward();

        // What follows is done to each token by itself.
        let some = setting.wanted.map(|rows| mixed.output.picked(rows));
        if let Some(rows) = setting.wanted {
            sum = picked(&sum, hidden, rows);
        }
        let narrow_output =
            self.output.add::<F>(some.as_ref().unwrap_or(&mixed.output).view(), &mut sum);
        drop(some);
        let middle = kept(&sum);
        let normed = self.mlp_norm.norm().forward::<F>(&sum);
        let [to_gate, to_up] = &self.gate_up;
        let through = |to: &Projection| to.forward_factor::<F>(normed.view());
        let (gate, up) = rayon::join(|| through(to_gate), || through(to_up));
        drop(normed);
        let through = gated(&gate.0, &up.0);
        let narrow_down = self.down.add::<F>(through.view(), &mut sum);
        let kept = Kept {
            x,
            qkv,
            mixed,
            middle,
            gate_up: [gate.0, up.0],
            narrow_qkv: [narrow_q, narrow_k, narrow_v],
            narrow_output,
            narrow_gate_up: [gate.1, up.1],
            narrow_down,
        };
        (sum, kept)
    }

    fn attention<'a, F: Borrow>(
        &self,
        [q, k, v]: &'a [Left<F>; 3],
        setting: Setting<'a>,
    ) -> Attention<'a, F> {
        let Setting { documents, wanted, .. } = setting;
        Attention { q, k, v, heads: self.heads, documents, wanted }
    }

    /// The gradient of the layer's input from that of its output.
    pub fn backward<F: Borrow>(
        &self,
        kept: Kept<F>,
        d: Vec<f32>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let hidden = self.down.weight.rows();
        let [mut gate, mut up] = kept.gate_up;
        let through = gated(&gate, &up);
        let factor = F::factor_of(&d, hidden);
        let given = [(&self.down, factor.view(), &kept.narrow_down)];
        let d_through = Back::through(&given, through.view(), gradients).input_factor();
        drop((through, factor));
        gated_backward(&mut gate, &mut up, &d_through);
        drop(d_through);
        let normed = self.mlp_norm.norm().forward::<F>(kept.middle.numbers());
        let [to_gate, to_up] = &self.gate_up;
        let [narrow_gate, narrow_up] = &kept.narrow_gate_up;
        let given = [(to_gate, gate.view(), narrow_gate), (to_up, up.view(), narrow_up)];
        let d_normed = Back::through(&given, normed.view(), gradients).input();
        drop((normed, gate, up));
        let mut d = d;
        self.mlp_norm.backward(&kept.middle, &d_normed, &mut d, gradients);

        let factor = F::factor_of(&d, hidden);
        let given = [(&self.output, factor.view(), &kept.narrow_output)];
        let some = setting.wanted.map(|rows| kept.mixed.output.picked(rows));
        let mixed = some.as_ref().unwrap_or(&kept.mixed.output);
        let mut d_mixed = Back::through(&given, mixed.view(), gradients).input_factor();
        drop((factor, some));
        if let Some(rows) = setting.wanted {
            let all = kept.x.view().rows;
            d_mixed = d_mixed.spread(rows, all);
            d = spread(&d, hidden, rows, all);
        }
        let attention = self.attention(&kept.qkv, setting);
        let d_qkv = attention.backward(&kept.mixed, &d_mixed, setting.rotation);
        let normed = self.attention_norm.norm().forward::<F>(kept.x.numbers());
        let ways = self.qkv.iter().zip(&d_qkv).zip(&kept.narrow_qkv);
        let given: Vec<Given<F>> = ways.map(|((to, d), narrow)| (to, d.view(), narrow)).collect();
        let d_normed = Back::through(&given, normed.view(), gradients).input();
        self.attention_norm.backward(&kept.x, &d_normed, &mut d, gradients);
        d
    }
}
