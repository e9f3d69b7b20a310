//! A linear layer with an addition of low rank (LoRA, Hu et al. 2021) beside it, forward and
//! backward: both are terms of one sum of products.

use rayon::prelude::*;

use super::element::{Format, Number};
use super::host_tensor::{AsLhs, Factor, HostTensor};
use super::low_rank::{LowRank, LowRankTape, sum_of_rows, transposed_product};
use super::packed::{Left, PackedRhs, View};
use super::product::{Term, add_product, factor_product, product};

/// Gradients by path within the layer.
pub type PathGradients = Vec<(String, Vec<f32>)>;

/// A linear layer `[out, in]` with an addition of low rank.
#[derive(Clone)]
pub struct Projection {
    /// Its path within the layer.
    pub path: &'static str,
    /// `[out, in]`.
    pub weight: HostTensor,
    /// Whether its gradient is wanted.
    pub trainable: bool,
    /// `[out]`, and whether its gradient is wanted.
    pub bias: Option<(HostTensor, bool)>,
    /// What an adapter adds.
    pub low_rank: Option<LowRank>,
}

/// What the gradient of a projection needs of its addition, if it has one.
pub type Narrow<F> = Option<LowRankTape<F>>;

impl Projection {
    /// `x · wᵀ` and all additions; what the addition of low rank keeps.
    pub fn forward<F: AsLhs>(&self, x: View<F::Stored>) -> (Vec<f32>, Narrow<F>) {
        let (mut y, narrow) = self.multiplied(x, product, |y| y);
        self.add_bias(&mut y);
        (y, narrow)
    }

    /// The same as a factor.
    pub fn forward_factor<F: AsLhs>(&self, x: View<F::Stored>) -> (Left<F>, Narrow<F>) {
        if self.bias.is_none() {
            let factor = |y: Vec<f32>| Left::of(View::new(&y, x.rows, self.weight.rows()));
            return self.multiplied(x, factor_product, factor);
        }
        let (y, narrow) = self.forward(x);
        (Left::of(View::new(&y, x.rows, self.weight.rows())), narrow)
    }

    /// The same, added to a target.
    pub fn add<F: AsLhs>(&self, x: View<F::Stored>, target: &mut [f32]) -> Narrow<F> {
        let narrow = match self.scaled(x) {
            Some((y, tape)) => {
                target.iter_mut().zip(y).for_each(|(target, y)| *target += y);
                Some(tape)
            }
            None => self.summed(x, |terms| add_product(target, terms)).1,
        };
        self.add_bias(target);
        narrow
    }

    /// What [`Self::add`] gives, without its output where that is not needed for it.
    pub fn kept<F: AsLhs>(&self, x: View<F::Stored>) -> Narrow<F> {
        if let Some((_, tape)) = self.scaled(x) {
            return Some(tape);
        }
        let low = self.low_rank.as_ref()?;
        let hidden = low.hidden::<F>(low.masked::<F>(x).view());
        Some(LowRankTape { hidden, unscaled: None })
    }

    /// Whether gradients of tiles of tokens add up to those of all, bit for bit: not where that of
    /// the matrix is a sum of two, each of which is summed over all tokens first.
    pub fn adds_up(&self) -> bool {
        let low = self.low_rank.as_ref();
        !self.trainable || low.is_none_or(|low| low.magnitude.is_none())
    }

    /// Whether a mask of some of the tokens is to be made before anything is computed of them.
    pub fn wants_masks(&self) -> bool {
        self.low_rank.as_ref().is_some_and(|low| low.masks.is_some())
    }

    /// The same for some of the tokens: with their mask.
    #[must_use]
    pub fn of_tokens(&self, first: usize, count: usize) -> Self {
        let mut part = self.clone();
        if let Some(low) = &mut part.low_rank
            && let Some(masks) = low.masks.take()
        {
            low.mask = Some(masks.of_tokens(first, count));
        }
        part
    }

    /// `multiply` makes the output of terms that are summed, `finish` of one that is there.
    fn multiplied<F: AsLhs, R>(
        &self,
        x: View<F::Stored>,
        multiply: impl FnOnce(&[Term<F>]) -> R,
        finish: impl FnOnce(Vec<f32>) -> R,
    ) -> (R, Narrow<F>) {
        match self.scaled(x) {
            Some((y, tape)) => (finish(y), Some(tape)),
            None => self.summed(x, multiply),
        }
    }

    /// Without a magnitude: weight and addition are terms of one sum.
    fn summed<F: AsLhs, R>(
        &self,
        x: View<F::Stored>,
        multiply: impl FnOnce(&[Term<F>]) -> R,
    ) -> (R, Narrow<F>) {
        let pack = || self.weight.numbers().pack_rows::<F>();
        let Some(low) = &self.low_rank else {
            return (multiply(&[Term { left: x, right: &pack() }]), None);
        };
        let addition =
            || (low.hidden::<F>(low.masked::<F>(x).view()), low.b.numbers().pack_rows::<F>());
        let (right, (hidden, b)) = rayon::join(pack, addition);
        let terms = [Term { left: x, right: &right }, Term { left: hidden.view(), right: &b }];
        (multiply(&terms), Some(LowRankTape { hidden, unscaled: None }))
    }

    /// With a magnitude, if there is one.
    fn scaled<F: AsLhs>(&self, x: View<F::Stored>) -> Option<(Vec<f32>, LowRankTape<F>)> {
        let low = self.low_rank.as_ref()?;
        let magnitude = low.magnitude.as_ref()?;
        let masked = low.masked::<F>(x);
        let pack = || self.weight.numbers().pack_rows::<F>();
        let addition = || (low.hidden::<F>(masked.view()), low.b.numbers().pack_rows::<F>());
        let (right, (hidden, b)) = rayon::join(pack, addition);
        let terms =
            [Term { left: masked.view(), right: &right }, Term { left: hidden.view(), right: &b }];
        let mut y = product(&terms);
        let outputs = self.weight.rows();
        let unscaled = Some(Left::of(View::new(&y, x.rows, outputs)));
        y.par_chunks_exact_mut(outputs).for_each(|row| {
            row.iter_mut().zip(&magnitude.factor).for_each(|(y, factor)| *y *= factor);
        });
        if low.mask.is_some() {
            let rest = low.unmasked::<F>(x);
            add_product(&mut y, &[Term { left: rest.view(), right: &right }]);
        }
        Some((y, LowRankTape { hidden, unscaled }))
    }

    fn add_bias(&self, y: &mut [f32]) {
        if let Some((bias, _)) = &self.bias {
            for row in y.chunks_exact_mut(bias.columns()) {
                row.iter_mut().zip(bias.single()).for_each(|(y, bias)| *y += bias);
            }
        }
    }
}

/// How a gradient goes back through a projection.
struct GradPath<'a, F: AsLhs> {
    d: Factor<'a, F>,
    weight: PackedRhs<F>,
    /// Through the addition, where nothing is dropped.
    narrow: Option<(Left<F>, PackedRhs<F>)>,
}

impl<F: AsLhs> GradPath<'_, F> {
    fn terms(&self) -> impl Iterator<Item = Term<'_, F>> {
        let whole = Term { left: self.d.view(), right: &self.weight };
        let narrow = self.narrow.as_ref();
        let narrow = narrow.map(|(left, right)| Term { left: left.view(), right });
        std::iter::once(whole).chain(narrow)
    }
}

/// A projection, the gradient of what it gave, and what its addition kept.
pub type Given<'a, F> = (&'a Projection, View<'a, <F as Format>::Stored>, &'a Narrow<F>);

/// How gradients go back through several projections of one input.
pub struct Back<'a, F: AsLhs> {
    ways: Vec<GradPath<'a, F>>,
    /// Additions whose inputs were dropped in part.
    dropped: Vec<Dropped<'a, F>>,
}

/// What goes back to the inputs that were not dropped.
struct Dropped<'a, F: AsLhs> {
    low: &'a LowRank,
    d_hidden: Left<F>,
    /// The number of its way, and what a magnitude changes of the gradient there:
    /// `(factor − 1) ⊙ d`.
    changed: Option<(usize, Left<F>)>,
}

impl<'a, F: AsLhs> Back<'a, F> {
    /// For the gradients of what projections gave for `x: [tokens, in]`; those of their weights are
    /// made here. What is independent of each other is left to the threads to take, so that none
    /// waits for the others more often than it has to.
    pub fn through(
        given: &[Given<'a, F>],
        x: View<F::Stored>,
        gradients: &mut PathGradients,
    ) -> Self {
        let uses_x = |to: &Projection| {
            to.trainable || to.low_rank.as_ref().is_some_and(|low| low.mask.is_none())
        };
        let packed_x = given.iter().any(|(to, ..)| uses_x(to)).then(|| {
            let inputs = given[0].0.weight.columns();
            PackedRhs::<F>::pack_cols(x.part((0, x.rows), (0, inputs)))
        });
        let one = |(to, d, narrow): &Given<'a, F>| {
            let magnitude = to.low_rank.as_ref().and_then(|low| low.magnitude.as_ref());
            let inside = match magnitude {
                Some(magnitude) => Factor::Owned(magnitude.times(*d, |factor| factor)),
                None => Factor::Borrowed(*d),
            };
            let pack = || to.weight.numbers().pack_cols();
            let learn = || to.gradients((*d, inside.view()), narrow.as_ref(), x, packed_x.as_ref());
            let (weight, (gradients, d_hidden)) = rayon::join(pack, learn);
            (GradPath { d: inside, weight, narrow: None }, gradients, d_hidden)
        };
        let mut back = Self { ways: Vec::new(), dropped: Vec::new() };
        let all: Vec<_> = given.par_iter().map(one).collect();
        for ((to, d, _), (mut way, mut found, d_hidden)) in given.iter().zip(all) {
            gradients.append(&mut found);
            if let (Some(low), Some(d_hidden)) = (&to.low_rank, d_hidden) {
                match low.mask {
                    None => way.narrow = Some((d_hidden, low.a.numbers().pack_cols())),
                    Some(_) => {
                        let number = back.ways.len();
                        let changed = low.magnitude.as_ref().map(|magnitude| {
                            way.d = Factor::Borrowed(*d);
                            (number, magnitude.times(*d, |factor| factor - 1.0))
                        });
                        back.dropped.push(Dropped { low, d_hidden, changed });
                    }
                }
            }
            back.ways.push(way);
        }
        back
    }

    fn terms(&self) -> Vec<Term<'_, F>> {
        self.ways.iter().flat_map(GradPath::terms).collect()
    }

    /// The gradient of the input, `[tokens, in]`.
    pub fn input(&self) -> Vec<f32> {
        let mut dx = product(&self.terms());
        for dropped in &self.dropped {
            dropped.add(&self.ways, &mut dx);
        }
        dx
    }

    /// The same as a factor.
    pub fn input_factor(&self) -> Left<F> {
        if self.dropped.is_empty() {
            return factor_product(&self.terms());
        }
        let dx = self.input();
        let rows = self.ways[0].d.view().rows;
        Left::of(View::new(&dx, rows, dx.len() / rows))
    }
}

impl Projection {
    /// Gradients of what learns, for that of what was given for `x` and that of what a magnitude
    /// multiplied; and what goes back through the addition, `[tokens, rank]`.
    fn gradients<F: AsLhs>(
        &self,
        (d, inside): (View<F::Stored>, View<F::Stored>),
        narrow: Option<&LowRankTape<F>>,
        x: View<F::Stored>,
        packed_x: Option<&PackedRhs<F>>,
    ) -> (PathGradients, Option<Left<F>>) {
        let mut gradients = Vec::new();
        if let (true, Some(packed_x)) = (self.trainable, packed_x) {
            gradients.push((format!("{}.weight", self.path), self.weight_gradient(d, x, packed_x)));
        }
        if let Some((bias, true)) = &self.bias {
            let sum = sum_of_rows(d.rows, bias.columns(), |rows, sum| {
                for row in rows.map(|row| d.row(row)) {
                    sum.iter_mut().zip(row).for_each(|(sum, d)| *sum += d.wide());
                }
            });
            gradients.push((format!("{}.bias", self.path), sum));
        }
        let (Some(low), Some(tape)) = (&self.low_rank, narrow) else { return (gradients, None) };
        let back = || {
            let d_hidden = low.back(inside);
            let masked = low.mask.as_ref().map(|_| {
                let x = low.masked::<F>(x);
                PackedRhs::pack_cols(x.view().part((0, x.view().rows), (0, low.a.columns())))
            });
            let x = masked.as_ref().or(packed_x).expect("it was packed for this");
            (transposed_product(d_hidden.view(), low.rank(), x), d_hidden)
        };
        let (d_b, (d_a, d_hidden)) = rayon::join(|| low.b_gradient(inside, &tape.hidden), back);
        for (name, gradient) in low.names.into_iter().zip([d_a, d_b]) {
            gradients.push((format!("{}.{name}", self.path), gradient));
        }
        if let (Some(magnitude), Some(unscaled)) = (&low.magnitude, &tape.unscaled) {
            let path = format!("{}.{}", self.path, magnitude.name);
            gradients.push((path, magnitude.gradient(d, unscaled)));
        }
        (gradients, Some(d_hidden))
    }

    /// That of the weight, `[out, in]`.
    fn weight_gradient<F: AsLhs>(
        &self,
        d: View<F::Stored>,
        x: View<F::Stored>,
        packed_x: &PackedRhs<F>,
    ) -> Vec<f32> {
        let outputs = self.weight.rows();
        let low = self.low_rank.as_ref();
        let Some((low, magnitude)) = low.and_then(|low| Some((low, low.magnitude.as_ref()?)))
        else {
            return transposed_product(d, outputs, packed_x);
        };
        if low.mask.is_none() {
            let inside = magnitude.times::<F>(d, |factor| factor);
            return transposed_product(inside.view(), outputs, packed_x);
        }
        let mut gradient = transposed_product(d, outputs, packed_x);
        let changed = magnitude.times::<F>(d, |factor| factor - 1.0);
        let masked = low.masked::<F>(x);
        let masked = masked.view();
        let masked = PackedRhs::<F>::pack_cols(masked.part((0, masked.rows), (0, low.a.columns())));
        let more = transposed_product(changed.view(), outputs, &masked);
        gradient.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        gradient
    }
}

impl<F: AsLhs> Dropped<'_, F> {
    /// Adds what goes back through the addition.
    fn add(&self, ways: &[GradPath<'_, F>], dx: &mut [f32]) {
        let a = self.low.a.numbers().pack_cols::<F>();
        let mut terms = vec![Term { left: self.d_hidden.view(), right: &a }];
        if let Some((number, changed)) = &self.changed {
            terms.push(Term { left: changed.view(), right: &ways[*number].weight });
        }
        let d = product(&terms);
        let mask = self.low.mask.iter().flatten();
        for ((dx, d), mask) in dx.iter_mut().zip(d).zip(mask) {
            *dx += d * mask;
        }
    }
}
