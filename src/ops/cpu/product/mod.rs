//! Products of matrices: sums of `left · right` with all sums of an output in one order, whatever
//! the number of threads is.

mod bf16;
mod blocking;

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use self::blocking::{PASS, Pass, divided};
pub use self::blocking::{set_step_depth, step_depth};
use super::element::{Bf16, F32, F32RoundedToBf16, Format, Number};
use super::packed::{Left, PANEL, PackedRhs, View, width};
use super::target::Target;

/// Rows of the product that are summed at once: with a panel of four vectors, 24 sums are under
/// way, as many as hide the latency of one and as registers hold.
pub const ROWS: usize = 6;
/// Rows of a task at most.
const TASK_ROWS: usize = 128;
/// Multiplications below which threads cost more than they bring.
const SERIAL: usize = 1 << 18;

/// `left · right`, one of the terms of a sum.
pub struct Term<'a, F: Format> {
    /// `[rows, inner]`.
    pub left: View<'a, F::Stored>,
    /// `[inner, outputs]`.
    pub right: &'a PackedRhs<F>,
}

impl<F: Format> Clone for Term<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Format> Copy for Term<'_, F> {}

/// What a tile of the product is summed from: rows of left factors and a panel of right ones.
pub(super) struct TileInput<'a, F: Format> {
    /// Inner numbers of each row.
    pub rows: [&'a [F::Stored]; ROWS],
    /// `[groups, width]`.
    pub panel: &'a [F::Group],
}

/// What products leave out of right factors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Skipped {
    /// So many of the first outputs: whole panels.
    pub outputs: usize,
    /// So many of the first inner numbers: whole groups.
    pub inner: usize,
}

/// Sums of a tile.
pub(super) type Tile = [[f32; PANEL]; ROWS];

/// A format that products can be made of.
pub trait Multiply: Format {
    /// Computes rows of a product.
    #[doc(hidden)]
    fn rows(block: RowBlock<'_, Self>);
}

impl Multiply for F32 {
    fn rows(block: RowBlock<'_, Self>) {
        Arch::new().dispatch(block);
    }
}

impl Multiply for F32RoundedToBf16 {
    fn rows(block: RowBlock<'_, Self>) {
        Arch::new().dispatch(block);
    }
}

impl Multiply for Bf16 {
    fn rows(block: RowBlock<'_, Self>) {
        bf16::rows(block);
    }
}

/// Rows of a product.
pub struct RowBlock<'a, F: Format> {
    target: Target<'a, F>,
    outputs: usize,
    first_row: usize,
    terms: &'a [Term<'a, F>],
    skipped: Skipped,
    passes: &'a [Pass],
}

/// `Σ left · right`, `[rows, outputs]`.
pub fn product<F: Multiply>(terms: &[Term<F>]) -> Vec<f32> {
    let outputs = terms[0].right.outputs();
    make(terms, outputs, PASS, |room| Target::New(room))
}

/// `Σ left · right`, each sum rounded to the format of factors: to be one itself.
pub fn factor_product<F: Multiply>(terms: &[Term<F>]) -> Left<F> {
    let (rows, outputs) = (terms[0].left.rows, terms[0].right.outputs());
    if outputs.is_multiple_of(F::GROUP) {
        // In one pass, since what is rounded cannot be added to.
        return Left::from_numbers(
            make(terms, outputs, usize::MAX, |room| Target::Factor(room)),
            rows,
        );
    }
    Left::of(View::new(&product(terms), rows, outputs))
}

/// The product in new memory, of which `target` makes the kind that it is.
fn make<F: Multiply, N: Number>(
    terms: &[Term<F>],
    outputs: usize,
    pass: usize,
    target: impl for<'a> Fn(&'a mut [MaybeUninit<N>]) -> Target<'a, F> + Sync,
) -> Vec<N> {
    let (length, skipped) = (terms[0].left.rows * outputs, Skipped::default());
    check(terms, outputs, skipped);
    let passes = passes(terms, pass);
    let mut product = Vec::with_capacity(length);
    let room = &mut product.spare_capacity_mut()[..length];
    tasks(terms, room, outputs).into_par_iter().for_each(|(first_row, room)| {
        let passes = passes.as_slice();
        F::rows(RowBlock { target: target(room), outputs, first_row, terms, skipped, passes });
    });
    // SAFETY: tasks are all of the room, and each writes every number of it (`sweep`), since there
    // is a pass of one step at least, also for no inner numbers (`divided`).
    #[expect(unsafe_code)]
    unsafe {
        product.set_len(length);
    }
    product
}

/// Adds the product to `target: [rows, outputs]`.
pub fn add_product<F: Multiply>(target: &mut [f32], terms: &[Term<F>]) {
    let skipped = Skipped::default();
    let (outputs, passes) = plan(target.len(), terms, skipped);
    tasks(terms, target, outputs).into_par_iter().for_each(|(first_row, target)| {
        let (target, passes) = (Target::Sum(target), passes.as_slice());
        F::rows(RowBlock { target, outputs, first_row, terms, skipped, passes });
    });
}

/// Divides the rows of a product, `target: [rows, outputs]`: as many tasks for every thread, each
/// of as many whole tiles as another or one more. With each comes its first row.
fn tasks<'a, F: Format, N>(
    terms: &[Term<F>],
    mut target: &'a mut [N],
    outputs: usize,
) -> Vec<(usize, &'a mut [N])> {
    let rows = terms[0].left.rows;
    let inner: usize = terms.iter().map(|term| term.left.columns).sum();
    let threads = rayon::current_num_threads();
    let count = match inner * rows * outputs < SERIAL {
        true => 1,
        false => threads * rows.div_ceil(threads * TASK_ROWS),
    };
    let tiles = rows.div_ceil(ROWS);
    let first = |task: usize| (tiles * task / count * ROWS).min(rows);
    let mut tasks = Vec::with_capacity(count);
    for task in 0..count {
        let part = target.split_off_mut(..(first(task + 1) - first(task)) * outputs);
        tasks.push((first(task), part.expect("tasks are all of the rows")));
    }
    tasks.retain(|(_, part)| !part.is_empty());
    tasks
}

/// Adds the product to a target on this thread alone. Right factors may be longer than left ones
/// and what is skipped, and have more outputs than the target if those are whole panels: the rest
/// is left out.
pub fn add_product_here<F: Multiply>(target: &mut [f32], terms: &[Term<F>], skipped: Skipped) {
    if !target.is_empty() {
        let (outputs, passes) = plan(target.len(), terms, skipped);
        let (target, passes) = (Target::Sum(target), passes.as_slice());
        F::rows(RowBlock { target, outputs, first_row: 0, terms, skipped, passes });
    }
}

/// The first `outputs` columns of a product after what is skipped, in the memory of `target`, on
/// this thread alone.
pub fn product_here<F: Multiply>(
    target: &mut Vec<f32>,
    outputs: usize,
    terms: &[Term<F>],
    skipped: Skipped,
) {
    let length = terms[0].left.rows * outputs;
    target.clear();
    target.reserve(length);
    let (_, passes) = plan(length, terms, skipped);
    if length > 0 {
        let target = Target::New(&mut target.spare_capacity_mut()[..length]);
        F::rows(RowBlock { target, outputs, first_row: 0, terms, skipped, passes: &passes });
    }
    // SAFETY: `sweep` wrote every number.
    #[expect(unsafe_code)]
    unsafe {
        target.set_len(length);
    }
}

/// The inner numbers of all terms in passes of a length.
fn passes<F: Format>(terms: &[Term<F>], length: usize) -> Vec<Pass> {
    divided(terms.iter().map(|term| term.left.columns), length, step_depth())
}

/// Columns of the product and the order of its sums.
fn plan<F: Format>(numbers: usize, terms: &[Term<F>], skipped: Skipped) -> (usize, Vec<Pass>) {
    let rows = terms[0].left.rows;
    let outputs = numbers / rows;
    assert_eq!(numbers, rows * outputs, "the target has {rows} rows");
    check(terms, outputs, skipped);
    (outputs, passes(terms, PASS))
}

/// Factors must fit each other and the target.
fn check<F: Format>(terms: &[Term<F>], outputs: usize, skipped: Skipped) {
    let rows = terms[0].left.rows;
    let whole = skipped.outputs.is_multiple_of(PANEL) && skipped.inner.is_multiple_of(F::GROUP);
    assert!(whole, "whole panels and groups are skipped");
    for term in terms {
        let (left, right) = (&term.left, term.right);
        let inner = left.columns + skipped.inner;
        assert!(inner <= right.inner(), "left factors are not longer than right ones");
        assert!(left.columns.is_multiple_of(F::GROUP), "left factors are padded");
        let end = skipped.outputs + outputs;
        let whole = outputs.is_multiple_of(PANEL) && end < right.outputs();
        assert!(left.rows == rows && (end == right.outputs() || whole), "factors fit");
    }
}

/// Calls `tile` for every tile, and puts its sums where they belong. `tile` is told whether its
/// sums begin; they go on from those that it is given otherwise.
///
/// A pass of one step needs no memory beside the target. Where a pass has several, all rows go
/// through a step before the next: its panel is read from the first-level cache for all of them,
/// and what is summed so far waits beside it.
#[inline(always)]
pub(super) fn sweep<F: Format>(
    block: RowBlock<'_, F>,
    mut tile: impl FnMut(&[TileInput<'_, F>], usize, bool, &mut Tile),
) {
    const TERMS: usize = 8;
    let RowBlock { mut target, outputs, first_row, terms, skipped, passes } = block;
    let rows = target.len() / outputs;
    let most = passes.iter().map(Vec::len).max().unwrap_or(0);
    let mut one = [[0.0; PANEL]; ROWS];
    let mut waiting = vec![one; if most > 1 { rows.div_ceil(ROWS) } else { 0 }];
    for pass in passes {
        for panel in 0..outputs.div_ceil(PANEL) {
            let count = PANEL.min(outputs - panel * PANEL);
            for (number, step) in pass.iter().enumerate() {
                assert!(step.len() <= TERMS, "a sum has at most {TERMS} terms");
                let mut parts: [TileInput<F>; TERMS] =
                    std::array::from_fn(|_| TileInput { rows: [&[]; ROWS], panel: &[] });
                for (part, piece) in parts.iter_mut().zip(step) {
                    let inner = (piece.inner.0 + skipped.inner, piece.inner.1 + skipped.inner);
                    let panel = panel + skipped.outputs / PANEL;
                    part.panel = terms[piece.term].right.panel(panel, inner);
                }
                let ends = number + 1 == pass.len();
                for row in (0..rows).step_by(ROWS) {
                    for (part, piece) in parts.iter_mut().zip(step) {
                        let left = &terms[piece.term].left;
                        for (i, numbers) in part.rows.iter_mut().enumerate() {
                            // Rows beyond the last are the last again, and go nowhere.
                            let row = left.row(first_row + (row + i).min(rows - 1));
                            *numbers = &row[piece.inner.0..piece.inner.1];
                        }
                    }
                    let sums = waiting.get_mut(row / ROWS).unwrap_or(&mut one);
                    tile(&parts[..step.len()], width(outputs, panel), number == 0, sums);
                    if ends {
                        for (i, sums) in sums.iter().take(rows - row).enumerate() {
                            let at = (row + i) * outputs + panel * PANEL;
                            // A length that is known is copied without a loop.
                            match count {
                                PANEL => target.put(at, sums),
                                count => target.put(at, &sums[..count]),
                            }
                        }
                    }
                }
            }
        }
        target = target.written();
    }
}

impl<F: Format<Stored = f32, Group = f32>> WithSimd for RowBlock<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        sweep(self, |parts, width, begins, sums| match S::F32_LANES {
            16 => match width / 16 {
                4 => tile::<S, F, 4>(simd, parts, (width, 0), begins, sums),
                3 => tile::<S, F, 3>(simd, parts, (width, 0), begins, sums),
                2 => tile::<S, F, 2>(simd, parts, (width, 0), begins, sums),
                _ => tile::<S, F, 1>(simd, parts, (width, 0), begins, sums),
            },
            8 => (0..width).step_by(16).for_each(|at| {
                tile::<S, F, 2>(simd, parts, (width, at), begins, sums);
            }),
            4 => (0..width).step_by(16).for_each(|at| {
                tile::<S, F, 4>(simd, parts, (width, at), begins, sums);
            }),
            _ => (0..width).step_by(S::F32_LANES).for_each(|at| {
                tile::<S, F, 1>(simd, parts, (width, at), begins, sums);
            }),
        });
    }
}

/// `V` vectors of a panel of `width` outputs, from `at` on.
#[inline(always)]
fn tile<S: Simd, F: Format<Stored = f32, Group = f32>, const V: usize>(
    simd: S,
    parts: &[TileInput<'_, F>],
    (width, at): (usize, usize),
    begins: bool,
    sums: &mut Tile,
) {
    let mut held = [[simd.splat_f32s(0.0); V]; ROWS];
    if !begins {
        for (held, sums) in held.iter_mut().zip(&*sums) {
            let sums = S::as_simd_f32s(&sums[at..at + V * S::F32_LANES]).0;
            held.copy_from_slice(sums);
        }
    }
    for part in parts {
        let inner = part.panel.len() / width;
        let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &part.rows[row][..inner]);
        for (k, numbers) in part.panel.chunks_exact(width).enumerate() {
            let numbers = S::as_simd_f32s(&numbers[at..at + V * S::F32_LANES]).0;
            let numbers: [S::f32s; V] = std::array::from_fn(|vector| numbers[vector]);
            for (row, held) in rows.iter().zip(&mut held) {
                let factor = simd.splat_f32s(row[k]);
                for (held, number) in held.iter_mut().zip(numbers) {
                    *held = simd.mul_add_f32s(factor, number, *held);
                }
            }
        }
    }
    for (held, sums) in held.iter().zip(sums) {
        let targets = S::as_mut_simd_f32s(&mut sums[at..at + V * S::F32_LANES]).0;
        targets.copy_from_slice(held);
    }
}

#[cfg(test)]
mod tests;
