//! A chunk of the gated delta rule. With c the sums of the logarithms of decay, γ = exp(c) and
//! Γᵢⱼ = exp(cᵢ − cⱼ) for j ≤ i, a chunk that begins with a state S writes the solution V of
//!
//! `(1 + A) V = β ⊙ (v − γ ⊙ k S)`, `Aᵢⱼ = βᵢ (kᵢ · kⱼ) Γᵢⱼ` for j < i,
//!
//! gives `γ ⊙ q S + P V` with `Pᵢⱼ = (qᵢ · kⱼ) Γᵢⱼ`, and leaves `γ_last S + (κ ⊙ k)ᵀ V`, where κⱼ
//! is exp(c_last − cⱼ).

use pulp::NullaryFnOnce;

use crate::device::arch;
use crate::ops::cpu::element::F32;
use crate::ops::cpu::exponential::exponential;
use crate::ops::cpu::packed::{Left, PackedRhs, View};
use crate::ops::cpu::product::{Skipped, Term, add_product_here, product_here};

pub(super) type Packed = PackedRhs<F32>;

/// What a chunk is given, each a row for each of its tokens.
pub struct Chunk<'a> {
    /// Queries, of length 1 and times their scale.
    pub q: View<'a, f32>,
    /// Keys, of length 1.
    pub k: View<'a, f32>,
    /// Values.
    pub v: View<'a, f32>,
    /// c.
    pub decay: &'a [f32],
    /// β.
    pub beta: &'a [f32],
}

/// Products of keys with themselves and with queries.
pub(super) struct Squares {
    /// kᵢ · kⱼ.
    pub keys: Vec<f32>,
    /// Γ, zero above the diagonal.
    pub decays: Vec<f32>,
    /// A, zero above the diagonal and on it.
    pub system: Vec<f32>,
}

/// What was computed of a chunk.
pub struct Written {
    /// The state before it.
    pub before: Vec<f32>,
    /// What that says of the keys, `k S`.
    pub said: Vec<f32>,
    /// V.
    pub written: Vec<f32>,
    /// See above.
    pub(super) squares: Squares,
}

/// `Σ left · right`.
pub(super) fn times(terms: &[Term<F32>]) -> Vec<f32> {
    let mut product = Vec::new();
    product_here(&mut product, terms[0].right.outputs(), terms, Skipped::default());
    product
}

pub(super) fn term<'a>(left: View<'a, f32>, right: &'a Packed) -> Term<'a, F32> {
    Term { left, right }
}

pub(super) fn rows_of(numbers: &[f32], rows: usize) -> View<'_, f32> {
    View::new(numbers, rows, numbers.len() / rows)
}

/// Rows times a number each.
pub(super) fn scaled(x: View<f32>, factors: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut scaled = Vec::with_capacity(x.rows * x.columns);
    for (row, factor) in (0..x.rows).zip(factors) {
        scaled.extend(x.row(row).iter().map(|x| x * factor));
    }
    scaled
}

impl Chunk<'_> {
    pub(super) fn count(&self) -> usize {
        self.beta.len()
    }

    /// γ.
    pub(super) fn grown(&self) -> impl Iterator<Item = f32> {
        self.decay.iter().map(|sum| sum.exp())
    }

    /// The last of c.
    pub(super) fn last(&self) -> f32 {
        self.decay[self.count() - 1]
    }

    /// κ.
    pub(super) fn late(&self) -> impl Iterator<Item = f32> {
        let last = self.last();
        self.decay.iter().map(move |sum| (last - sum).exp())
    }

    pub(super) fn squares(&self, key_rows: &Packed) -> Squares {
        let count = self.count();
        let keys = times(&[term(self.k, key_rows)]);
        let (mut decays, mut system) = (vec![0.0; count * count], vec![0.0; count * count]);
        arch().dispatch(Decays { sums: self.decay, target: &mut decays });
        for i in 0..count {
            let row = i * count..i * count + i;
            let products = keys[row.clone()].iter().zip(&decays[row.clone()]);
            for (system, (key, decay)) in system[row].iter_mut().zip(products) {
                *system = self.beta[i] * key * decay;
            }
        }
        Squares { keys, decays, system }
    }

    /// P, zero above the diagonal.
    pub(super) fn seen(&self, key_rows: &Packed, squares: &Squares) -> Vec<f32> {
        let mut seen = times(&[term(self.q, key_rows)]);
        seen.iter_mut().zip(&squares.decays).for_each(|(seen, decay)| *seen *= decay);
        seen
    }

    /// V, of what the state says of the keys: `k S`.
    fn written(&self, said: &[f32], squares: &Squares) -> Vec<f32> {
        let width = self.v.columns;
        let mut written = Vec::with_capacity(self.count() * width);
        for (row, (said, grown)) in said.chunks_exact(width).zip(self.grown()).enumerate() {
            let beta = self.beta[row];
            let values = self.v.row(row).iter().zip(said);
            written.extend(values.map(|(v, said)| beta * (v - grown * said)));
        }
        let system = squares.system.as_slice();
        arch().dispatch(Solve { system, rows: &mut written, width });
        written
    }

    /// Replaces a state by that after the chunk.
    fn advance(&self, state: &mut [f32], written: &Packed) {
        let kept = self.last().exp();
        state.iter_mut().for_each(|number| *number *= kept);
        let late = scaled(self.k, self.late());
        let late = Left::<F32>::transposed(rows_of(&late, self.count()));
        add_product_here(state, &[term(late.view(), written)], Skipped::default());
    }

    /// What leaves the rule; the state becomes that after the chunk.
    pub fn forward(&self, state: &mut [f32]) -> Vec<f32> {
        let key_rows = Packed::pack_rows(self.k);
        let squares = self.squares(&key_rows);
        let before = Packed::pack_cols(rows_of(state, self.k.columns));
        let said = times(&[term(self.k, &before)]);
        let written = self.written(&said, &squares);
        let written = Packed::pack_cols(rows_of(&written, self.count()));
        let grown = scaled(self.q, self.grown());
        let seen = self.seen(&key_rows, &squares);
        let terms = [
            term(rows_of(&grown, self.count()), &before),
            term(rows_of(&seen, self.count()), &written),
        ];
        let output = times(&terms);
        self.advance(state, &written);
        output
    }

    /// What the gradient needs of a chunk; the state becomes that after it.
    pub fn write(&self, state: &mut [f32]) -> Written {
        let squares = self.squares(&Packed::pack_rows(self.k));
        let said = times(&[term(self.k, &Packed::pack_cols(rows_of(state, self.k.columns)))]);
        let written = self.written(&said, &squares);
        let before = state.to_vec();
        self.advance(state, &Packed::pack_cols(rows_of(&written, self.count())));
        Written { before, said, written, squares }
    }
}

/// Γ of the sums of the logarithms of decay, in a square of zeros.
struct Decays<'a> {
    sums: &'a [f32],
    target: &'a mut [f32],
}

impl NullaryFnOnce for Decays<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { sums, target } = self;
        for (i, row) in target.chunks_exact_mut(sums.len()).enumerate() {
            for (target, sum) in row[..=i].iter_mut().zip(sums) {
                *target = exponential(sums[i] - sum);
            }
        }
    }
}

/// Solves `(1 + system) X = rows` in the place of the rows.
struct Solve<'a> {
    system: &'a [f32],
    rows: &'a mut [f32],
    width: usize,
}

impl NullaryFnOnce for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { system, rows, width } = self;
        let count = rows.len() / width;
        for i in 1..count {
            let (before, rest) = rows.split_at_mut(i * width);
            let row = &mut rest[..width];
            for (other, factor) in before.chunks_exact(width).zip(&system[i * count..]) {
                row.iter_mut().zip(other).for_each(|(row, other)| *row -= factor * other);
            }
        }
    }
}
