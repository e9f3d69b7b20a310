//! A linear layer with an addition of low rank (LoRA, Hu et al. 2021) beside it, forward and
//! backward: both are terms of one sum of products.

use rayon::prelude::*;

use super::element::{Format, Number};
use super::held::{Borrow, Factor, Held};
use super::packed::{Left, Packed, View};
use super::product::{Term, add_product, factor_product, product};

/// Gradients by path within the layer.
pub type PathGradients = Vec<(String, Vec<f32>)>;

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

/// `scale · (x ⊙ mask) · aᵀ`, of a projection that has an addition.
pub(super) type Narrow<F> = Option<Left<F>>;

impl Projection {
    /// `x · wᵀ` and all additions; what the addition of low rank keeps.
    pub(super) fn forward<F: Borrow>(&self, x: View<F::Kept>) -> (Vec<f32>, Narrow<F>) {
        let (mut y, narrow) = self.multiplied(x, product);
        self.add_bias(&mut y);
        (y, narrow)
    }

    /// The same as a factor.
    pub(super) fn forward_factor<F: Borrow>(&self, x: View<F::Kept>) -> (Left<F>, Narrow<F>) {
        if self.bias.is_none() {
            return self.multiplied(x, factor_product);
        }
        let (y, narrow) = self.forward(x);
        (Left::of(View::new(&y, x.rows, self.weight.rows())), narrow)
    }

    /// The same, added to a target.
    pub(super) fn add<F: Borrow>(&self, x: View<F::Kept>, target: &mut [f32]) -> Narrow<F> {
        let ((), narrow) = self.multiplied(x, |terms| add_product(target, terms));
        self.add_bias(target);
        narrow
    }

    fn multiplied<F: Borrow, R>(
        &self,
        x: View<F::Kept>,
        multiply: impl FnOnce(&[Term<F>]) -> R,
    ) -> (R, Narrow<F>) {
        let pack = || self.weight.numbers().of_outputs::<F>();
        let Some(low) = &self.low_rank else {
            return (multiply(&[Term { left: x, right: &pack() }]), None);
        };
        let addition = || (low.narrow::<F>(x), low.b.numbers().of_outputs::<F>());
        let (right, (narrow, b)) = rayon::join(pack, addition);
        let terms = [Term { left: x, right: &right }, Term { left: narrow.view(), right: &b }];
        (multiply(&terms), Some(narrow))
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
    d: View<'a, F::Kept>,
    weight: Packed<F>,
    /// Through the addition, where nothing is dropped.
    narrow: Option<(Left<F>, Packed<F>)>,
}

impl<F: Borrow> Way<'_, F> {
    fn terms(&self) -> impl Iterator<Item = Term<'_, F>> {
        let whole = Term { left: self.d, right: &self.weight };
        let narrow = self.narrow.as_ref();
        let narrow = narrow.map(|(left, right)| Term { left: left.view(), right });
        std::iter::once(whole).chain(narrow)
    }
}

/// A projection, the gradient of what it gave, and what its addition kept.
pub(super) type Given<'a, F> = (&'a Projection, View<'a, <F as Format>::Kept>, &'a Narrow<F>);

/// How gradients go back through several projections of one input.
pub(super) struct Back<'a, F: Borrow> {
    ways: Vec<Way<'a, F>>,
    /// Additions whose inputs were dropped in part.
    dropped: Vec<(&'a LowRank, Left<F>)>,
}

impl<'a, F: Borrow> Back<'a, F> {
    /// For the gradients of what projections gave for `x: [tokens, in]`; those of their weights are
    /// made here. What is independent of each other is left to the threads to take, so that none
    /// waits for the others more often than it has to.
    pub(super) fn through(
        given: &[Given<'a, F>],
        x: View<F::Kept>,
        gradients: &mut PathGradients,
    ) -> Self {
        let uses_x = |to: &Projection| {
            to.learns || to.low_rank.as_ref().is_some_and(|low| low.mask.is_none())
        };
        let packed_x = given.iter().any(|(to, ..)| uses_x(to)).then(|| {
            let inputs = given[0].0.weight.columns();
            Packed::<F>::of_inner(x.part((0, x.rows), (0, inputs)))
        });
        let one = |(to, d, narrow): &Given<'a, F>| {
            let pack = || to.weight.numbers().of_inner();
            let learn = || to.gradients(*d, narrow.as_ref(), x, packed_x.as_ref());
            let (weight, (gradients, d_narrow)) = rayon::join(pack, learn);
            (Way { d: *d, weight, narrow: None }, gradients, d_narrow)
        };
        let mut back = Self { ways: Vec::new(), dropped: Vec::new() };
        let all: Vec<_> = given.par_iter().map(one).collect();
        for ((to, ..), (mut way, mut found, d_narrow)) in given.iter().zip(all) {
            gradients.append(&mut found);
            if let (Some(low), Some(d_narrow)) = (&to.low_rank, d_narrow) {
                match low.mask {
                    None => way.narrow = Some((d_narrow, low.a.numbers().of_inner())),
                    Some(_) => back.dropped.push((low, d_narrow)),
                }
            }
            back.ways.push(way);
        }
        back
    }

    fn terms(&self) -> Vec<Term<'_, F>> {
        self.ways.iter().flat_map(Way::terms).collect()
    }

    /// The gradient of the input, `[tokens, in]`.
    pub(super) fn input(&self) -> Vec<f32> {
        let mut dx = product(&self.terms());
        for (low, d_narrow) in &self.dropped {
            low.add_dropped(d_narrow, &mut dx);
        }
        dx
    }

    /// The same as a factor.
    pub(super) fn input_factor(&self) -> Left<F> {
        if self.dropped.is_empty() {
            return factor_product(&self.terms());
        }
        let dx = self.input();
        let rows = self.ways[0].d.rows;
        Left::of(View::new(&dx, rows, dx.len() / rows))
    }
}

impl Projection {
    /// Gradients of what learns, for that of what was given for `x`; and what goes back through the
    /// addition, `[tokens, rank]`.
    fn gradients<F: Borrow>(
        &self,
        d: View<F::Kept>,
        narrow: Option<&Left<F>>,
        x: View<F::Kept>,
        packed_x: Option<&Packed<F>>,
    ) -> (PathGradients, Option<Left<F>>) {
        let mut gradients = Vec::new();
        if let (true, Some(packed_x)) = (self.learns, packed_x) {
            let gradient = transposed_product(d, self.weight.rows(), packed_x);
            gradients.push((format!("{}.weight", self.path), gradient));
        }
        if let Some((bias, true)) = &self.bias {
            let mut sum = vec![0.0_f32; bias.columns()];
            for row in (0..d.rows).map(|row| d.row(row)) {
                sum.iter_mut().zip(row).for_each(|(sum, d)| *sum += d.wide());
            }
            gradients.push((format!("{}.bias", self.path), sum));
        }
        let (Some(low), Some(narrow)) = (&self.low_rank, narrow) else { return (gradients, None) };
        let back = || {
            let d_narrow = low.back(d);
            let masked = low.mask.as_ref().map(|_| {
                let x = low.masked::<F>(x);
                Packed::of_inner(x.view().part((0, x.view().rows), (0, low.a.columns())))
            });
            let x = masked.as_ref().or(packed_x).expect("it was packed for this");
            (transposed_product(d_narrow.view(), low.rank(), x), d_narrow)
        };
        let (d_b, (d_a, d_narrow)) = rayon::join(|| low.b_gradient(d, narrow), back);
        for (name, gradient) in low.names.into_iter().zip([d_a, d_b]) {
            gradients.push((format!("{}.{name}", self.path), gradient));
        }
        (gradients, Some(d_narrow))
    }
}

/// `leftᵀ · right` for `left: [tokens, rows]`.
fn transposed_product<F: Borrow>(left: View<F::Kept>, rows: usize, right: &Packed<F>) -> Vec<f32> {
    let left = Left::<F>::transposed(left.part((0, left.rows), (0, rows)));
    product(&[Term { left: left.view(), right }])
}

impl LowRank {
    /// The gradient of what [`Self::narrow`] gave, with its factor.
    fn back<F: Borrow>(&self, d: View<F::Kept>) -> Left<F> {
        let right = self.b.numbers().of_inner::<F>();
        self.scaled(product(&[Term { left: d, right: &right }]))
    }

    /// That of `b`, `[out, rank]`.
    fn b_gradient<F: Borrow>(&self, d: View<F::Kept>, narrow: &Left<F>) -> Vec<f32> {
        // The few rows on the left: bᵀ, turned at the end.
        let outputs = self.b.rows();
        let d = Packed::<F>::of_inner(d.part((0, d.rows), (0, outputs)));
        let turned = transposed_product(narrow.view(), self.rank(), &d);
        let mut gradient = vec![0.0; turned.len()];
        for (rank, row) in turned.chunks_exact(outputs).enumerate() {
            for (output, number) in row.iter().enumerate() {
                gradient[output * self.rank() + rank] = *number;
            }
        }
        gradient
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
