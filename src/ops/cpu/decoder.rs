//! A pre-norm decoder layer with grouped queries, rotary positions and a gated MLP (Llama, Touvron
//! et al. 2023), forward and backward by hand. What the backward pass needs is kept; what one pass
//! over memory makes again is not.

use super::attention::Attention;
use super::element::Number;
use super::held::{Borrow, Factor, Held};
use super::packed::{Left, Packed, View};
use super::pointwise::{Norm, added, gated, gated_backward, rotate};
use super::product::{Term, add_product, product};
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

/// A linear layer `[out, in]` with an addition of low rank.
pub struct Projection {
    /// Its path within the layer.
    pub path: &'static str,
    /// `[out, in]`.
    pub weight: Held,
    /// Whether its gradient is wanted.
    pub learns: bool,
    /// `[out]`, and whether its gradient is wanted.
    pub bias: Option<(Held, bool)>,
    /// What an adapter adds.
    pub low_rank: Option<LowRank>,
}

/// `scale · (x ⊙ mask) · aᵀ · bᵀ`.
pub struct LowRank {
    /// Names of the two matrices within the linear layer.
    pub names: [&'static str; 2],
    /// `[rank, in]`.
    pub a: Held,
    /// `[out, rank]`.
    pub b: Held,
    /// The factor.
    pub scale: f32,
    /// `[tokens, in]`: which inputs are dropped.
    pub mask: Option<Vec<f32>>,
}

/// What all layers of a pass share.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Cosines and sines by position, `[tokens, width]` each.
    pub rotary: (&'a [f32], &'a [f32]),
    /// First token and length of each document.
    pub documents: &'a [(usize, usize)],
}

/// Gradients by path within the layer.
pub type PathGradients = Vec<(String, Vec<f32>)>;

/// What the backward pass of a layer needs.
pub struct Kept<F: Borrow> {
    x: Vec<f32>,
    qkv: [Vec<f32>; 3],
    mixed: Vec<f32>,
    middle: Vec<f32>,
    gate_up: [Vec<f32>; 2],
    narrow_qkv: [Narrow<F>; 3],
    narrow_output: Narrow<F>,
    narrow_gate_up: [Narrow<F>; 2],
    narrow_down: Narrow<F>,
}

/// `scale · (x ⊙ mask) · aᵀ`, of a projection that has an addition.
type Narrow<F> = Option<Left<F>>;

impl Gain {
    fn norm(&self) -> Norm<'_> {
        Norm { gain: self.value.single(), epsilon: self.epsilon }
    }

    fn backward(&self, x: &[f32], d: &[f32], dx: &mut [f32], gradients: &mut PathGradients) {
        let gain = self.norm().backward(x, d, dx, self.learns);
        if self.learns {
            gradients.push((format!("{}.weight", self.path), gain));
        }
    }
}

impl Projection {
    /// `x · wᵀ` and all additions; what the addition of low rank keeps.
    fn forward<F: Borrow>(&self, x: View<F::Kept>) -> (Vec<f32>, Narrow<F>) {
        let (mut y, narrow) = self.multiplied(x, product);
        self.add_bias(&mut y);
        (y, narrow)
    }

    /// The same, added to a target.
    fn add<F: Borrow>(&self, x: View<F::Kept>, target: &mut [f32]) -> Narrow<F> {
        let ((), narrow) = self.multiplied(x, |terms| add_product(target, terms));
        self.add_bias(target);
        narrow
    }

    fn multiplied<F: Borrow, R>(
        &self,
        x: View<F::Kept>,
        multiply: impl FnOnce(&[Term<F>]) -> R,
    ) -> (R, Narrow<F>) {
        let right = self.weight.numbers().of_outputs::<F>();
        let whole = Term { left: x, right: &right };
        let Some(low) = &self.low_rank else { return (multiply(&[whole]), None) };
        let narrow = low.narrow::<F>(x);
        let right = low.b.numbers().of_outputs::<F>();
        let addition = Term { left: narrow.view(), right: &right };
        (multiply(&[whole, addition]), Some(narrow))
    }

    fn add_bias(&self, y: &mut [f32]) {
        if let Some((bias, _)) = &self.bias {
            for row in y.chunks_exact_mut(bias.columns()) {
                row.iter_mut().zip(bias.single()).for_each(|(y, bias)| *y += bias);
            }
        }
    }
}

impl LowRank {
    fn rank(&self) -> usize {
        self.a.rows()
    }

    fn narrow<F: Borrow>(&self, x: View<F::Kept>) -> Left<F> {
        let x = self.masked::<F>(x);
        let right = self.a.numbers().of_outputs::<F>();
        self.scaled(product(&[Term { left: x.view(), right: &right }]))
    }

    fn scaled<F: Borrow>(&self, mut narrow: Vec<f32>) -> Left<F> {
        narrow.iter_mut().for_each(|x| *x *= self.scale);
        Left::of(View::new(&narrow, narrow.len() / self.rank(), self.rank()))
    }

    fn masked<'a, F: Borrow>(&self, x: View<'a, F::Kept>) -> Factor<'a, F> {
        let Some(mask) = &self.mask else { return Factor::Borrowed(x) };
        let columns = self.a.columns();
        Factor::Owned(Left::with(x.rows, columns, |row, target| {
            let mask = &mask[row * columns..(row + 1) * columns];
            for ((target, x), mask) in target.iter_mut().zip(x.row(row)).zip(mask) {
                *target = F::of(x.wide() * mask);
            }
        }))
    }
}

/// How a gradient goes back through a projection.
struct Way<'a, F: Borrow> {
    d: Factor<'a, F>,
    weight: Packed<F>,
    /// Through the addition, where nothing is dropped.
    narrow: Option<(Left<F>, Packed<F>)>,
}

impl<F: Borrow> Way<'_, F> {
    fn terms(&self) -> impl Iterator<Item = Term<'_, F>> {
        let whole = Term { left: self.d.view(), right: &self.weight };
        let narrow = self.narrow.as_ref();
        let narrow = narrow.map(|(left, right)| Term { left: left.view(), right });
        std::iter::once(whole).chain(narrow)
    }
}

/// A projection, the gradient of what it gave, and what its addition kept.
type Given<'a, F> = (&'a Projection, &'a [f32], &'a Narrow<F>);

/// The gradient of what several projections were given, `[tokens, in]`, for those of what they
/// gave.
fn backward<F: Borrow>(
    given: &[Given<F>],
    x: View<F::Kept>,
    gradients: &mut PathGradients,
) -> Vec<f32> {
    let inputs = given[0].0.weight.columns();
    let plain_x = x.part((0, x.rows), (0, inputs));
    let mut packed_x = None;
    let mut dropped = Vec::new();
    let mut ways = Vec::new();
    for (projection, d, narrow) in given {
        let mut way = Way {
            d: F::factor_of(d, projection.weight.rows()),
            weight: projection.weight.numbers().of_inner(),
            narrow: None,
        };
        let pack = || Packed::<F>::of_inner(plain_x);
        if projection.learns {
            let packed_x = packed_x.get_or_insert_with(pack);
            let gradient = transposed_product(way.d.view(), projection.weight.rows(), packed_x);
            gradients.push((format!("{}.weight", projection.path), gradient));
        }
        if let Some((bias, true)) = &projection.bias {
            let rows = d.chunks_exact(bias.columns());
            let sum = rows.fold(vec![0.0; bias.columns()], added);
            gradients.push((format!("{}.bias", projection.path), sum));
        }
        if let (Some(low), Some(narrow)) = (&projection.low_rank, narrow) {
            let d_narrow = low.backward(&way.d, d, narrow, projection.path, gradients);
            let masked = low.mask.as_ref().map(|_| {
                let x = low.masked::<F>(x);
                Packed::of_inner(x.view().part((0, x.view().rows), (0, inputs)))
            });
            let right = masked.as_ref().unwrap_or_else(|| packed_x.get_or_insert_with(pack));
            let d_a = transposed_product(d_narrow.view(), low.rank(), right);
            gradients.push((format!("{}.{}", projection.path, low.names[0]), d_a));
            match low.mask {
                None => way.narrow = Some((d_narrow, low.a.numbers().of_inner())),
                Some(_) => dropped.push((low, d_narrow)),
            }
        }
        ways.push(way);
    }
    let terms: Vec<Term<F>> = ways.iter().flat_map(Way::terms).collect();
    let mut dx = product(&terms);
    for (low, d_narrow) in dropped {
        low.add_dropped(&d_narrow, &mut dx);
    }
    dx
}

/// `leftᵀ · right` for `left: [tokens, rows]`.
fn transposed_product<F: Borrow>(left: View<F::Kept>, rows: usize, right: &Packed<F>) -> Vec<f32> {
    let left = Left::<F>::transposed(left.part((0, left.rows), (0, rows)));
    product(&[Term { left: left.view(), right }])
}

impl LowRank {
    /// The gradient of what [`Self::narrow`] gave, with its factor; that of `b` goes to the others.
    fn backward<F: Borrow>(
        &self,
        factor: &Factor<F>,
        d: &[f32],
        narrow: &Left<F>,
        path: &str,
        gradients: &mut PathGradients,
    ) -> Left<F> {
        let right = self.b.numbers().of_inner::<F>();
        let left = factor.view();
        let d_narrow = product(&[Term { left, right: &right }]);
        // The few rows on the left: bᵀ, turned at the end.
        let outputs = self.b.rows();
        let d = Packed::<F>::of_inner(View::new(d, left.rows, outputs));
        let turned = transposed_product(narrow.view(), self.rank(), &d);
        let mut gradient = vec![0.0; turned.len()];
        for (rank, row) in turned.chunks_exact(outputs).enumerate() {
            for (output, number) in row.iter().enumerate() {
                gradient[output * self.rank() + rank] = *number;
            }
        }
        gradients.push((format!("{path}.{}", self.names[1]), gradient));
        self.scaled(d_narrow)
    }

    /// Adds what goes back through the addition where inputs were dropped.
    fn add_dropped<F: Borrow>(&self, d_narrow: &Left<F>, dx: &mut [f32]) {
        let right = self.a.numbers().of_inner::<F>();
        let d = product(&[Term { left: d_narrow.view(), right: &right }]);
        let mask = self.mask.iter().flatten();
        for ((dx, d), mask) in dx.iter_mut().zip(d).zip(mask) {
            *dx += d * mask;
        }
    }
}

impl Decoder {
    /// What leaves the layer for `x: [tokens, hidden]`, and what the backward pass needs.
    pub fn forward<F: Borrow>(&self, x: Vec<f32>, setting: Setting) -> (Vec<f32>, Kept<F>) {
        let hidden = self.down.weight.rows();
        let tokens = x.len() / hidden;
        let normed = self.attention_norm.norm().forward::<F>(&x);
        let [q, k, v] = self.qkv.each_ref().map(|to| to.forward::<F>(normed.view()));
        drop(normed);
        let (mut qkv, narrow_qkv) = ([q.0, k.0, v.0], [q.1, k.1, v.1]);
        for x in &mut qkv[..2] {
            rotate(x, self.heads.width, setting.rotary, tokens, false);
        }
        let mixed = self.attention(&qkv, setting).forward::<F>();

        let mut middle = x.clone();
        let factor = F::factor_of(&mixed, self.output.weight.columns());
        let narrow_output = self.output.add::<F>(factor.view(), &mut middle);
        drop(factor);
        let normed = self.mlp_norm.norm().forward::<F>(&middle);
        let [gate, up] = self.gate_up.each_ref().map(|to| to.forward::<F>(normed.view()));
        drop(normed);
        let through = gated::<F>(&gate.0, &up.0, self.down.weight.columns());
        let mut y = middle.clone();
        let narrow_down = self.down.add::<F>(through.view(), &mut y);
        let kept = Kept {
            x,
            qkv,
            mixed,
            middle,
            gate_up: [gate.0, up.0],
            narrow_qkv,
            narrow_output,
            narrow_gate_up: [gate.1, up.1],
            narrow_down,
        };
        (y, kept)
    }

    fn attention<'a>(&self, [q, k, v]: &'a [Vec<f32>; 3], setting: Setting<'a>) -> Attention<'a> {
        Attention { q, k, v, heads: self.heads, documents: setting.documents }
    }

    /// The gradient of the layer's input from that of its output.
    pub fn backward<F: Borrow>(
        &self,
        kept: Kept<F>,
        d: Vec<f32>,
        setting: Setting,
        gradients: &mut PathGradients,
    ) -> Vec<f32> {
        let tokens = d.len() / self.down.weight.rows();
        let [mut gate, mut up] = kept.gate_up;
        let through = gated::<F>(&gate, &up, self.down.weight.columns());
        let given = [(&self.down, d.as_slice(), &kept.narrow_down)];
        let d_through = backward::<F>(&given, through.view(), gradients);
        drop(through);
        gated_backward(&mut gate, &mut up, &d_through);
        drop(d_through);
        let normed = self.mlp_norm.norm().forward::<F>(&kept.middle);
        let [to_gate, to_up] = &self.gate_up;
        let [narrow_gate, narrow_up] = &kept.narrow_gate_up;
        let given = [(to_gate, gate.as_slice(), narrow_gate), (to_up, up.as_slice(), narrow_up)];
        let d_normed = backward::<F>(&given, normed.view(), gradients);
        drop((normed, gate, up));
        let mut d = d;
        self.mlp_norm.backward(&kept.middle, &d_normed, &mut d, gradients);

        let mixed = F::factor_of(&kept.mixed, self.output.weight.columns());
        let given = [(&self.output, d.as_slice(), &kept.narrow_output)];
        let d_mixed = backward::<F>(&given, mixed.view(), gradients);
        drop(mixed);
        let mut d_qkv = self.attention(&kept.qkv, setting).backward::<F>(&kept.mixed, &d_mixed);
        for d in &mut d_qkv[..2] {
            rotate(d, self.heads.width, setting.rotary, tokens, true);
        }
        let normed = self.attention_norm.norm().forward::<F>(&kept.x);
        let ways = self.qkv.iter().zip(&d_qkv).zip(&kept.narrow_qkv);
        let given: Vec<Given<F>> =
            ways.map(|((projection, d), narrow)| (projection, d.as_slice(), narrow)).collect();
        let d_normed = backward::<F>(&given, normed.view(), gradients);
        self.attention_norm.backward(&kept.x, &d_normed, &mut d, gradients);
        d
    }
}
