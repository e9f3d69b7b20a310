//! Products of matrices: sums of `left · right` with all sums of an output in one order, whatever
//! the number of threads is, and whichever tiles they are made of: `wide` or `tall` ones, as
//! `choice` has it.

mod bf16;
mod blocking;
mod choice;
mod tall;
mod wide;

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

pub use self::blocking::{PASS, set_step_depth, step_depth};
use self::blocking::{Pass, divided};
pub use self::choice::chosen_tile;
use super::element::{Bf16, F32, F32RoundedToBf16, Format, Number};
use super::packed::{Left, PANEL, PackedRhs, View};
use super::target::Target;
use crate::device::{Tile, TileShape};

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

/// What products leave out of right factors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Skipped {
    /// So many of the first outputs: whole panels.
    pub outputs: usize,
    /// So many of the first inner numbers: whole groups.
    pub inner: usize,
}

/// Terms of a sum at most.
const TERMS: usize = 8;

/// A format that products can be made of.
pub trait Multiply: Format {
    /// Computes rows of a product.
    #[doc(hidden)]
    fn rows(block: RowBlock<'_, Self>);
}

impl Multiply for F32 {
    fn rows(block: RowBlock<'_, Self>) {
        in_32_bits(block);
    }
}

impl Multiply for F32RoundedToBf16 {
    fn rows(block: RowBlock<'_, Self>) {
        in_32_bits(block);
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
    tile: Tile,
}

/// `Σ left · right`, `[rows, outputs]`.
pub fn product<F: Multiply>(terms: &[Term<F>]) -> Vec<f32> {
    product_by(choice::tile_for(terms), terms)
}

/// The same by a tile that the processor has: no bit depends on it, but with bfloat16 on whether
/// its instructions are used.
pub fn product_by<F: Multiply>(tile: Tile, terms: &[Term<F>]) -> Vec<f32> {
    let outputs = terms[0].right.outputs();
    make(tile, terms, outputs, PASS, |room| Target::New(room))
}

/// `Σ left · right`, each sum rounded to the format of factors: to be one itself.
pub fn factor_product<F: Multiply>(terms: &[Term<F>]) -> Left<F> {
    let (rows, outputs) = (terms[0].left.rows, terms[0].right.outputs());
    if outputs.is_multiple_of(F::GROUP) {
        // In one pass, since what is rounded cannot be added to.
        let tile = choice::tile_for(terms);
        let numbers = make(tile, terms, outputs, usize::MAX, |room| Target::Factor(room));
        return Left::from_numbers(numbers, rows);
    }
    Left::of(View::new(&product(terms), rows, outputs))
}

/// The product in new memory, of which `target` makes the kind that it is.
fn make<F: Multiply, N: Number>(
    tile: Tile,
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
    tasks(terms, room, (outputs, tile)).into_par_iter().for_each(|(first_row, room)| {
        let (target, passes) = (target(room), passes.as_slice());
        F::rows(RowBlock { target, outputs, first_row, terms, skipped, passes, tile });
    });
    // SAFETY: tasks are all of the room, and each writes every number of it (both `sweep`s), since
    // there is a pass of one step at least, also for no inner numbers (`divided`).
    #[expect(unsafe_code)]
    unsafe {
        product.set_len(length);
    }
    product
}

/// Adds the product to `target: [rows, outputs]`.
pub fn add_product<F: Multiply>(target: &mut [f32], terms: &[Term<F>]) {
    let (skipped, tile) = (Skipped::default(), choice::tile_for(terms));
    let (outputs, passes) = plan(target.len(), terms, skipped);
    tasks(terms, target, (outputs, tile)).into_par_iter().for_each(|(first_row, target)| {
        let (target, passes) = (Target::Sum(target), passes.as_slice());
        F::rows(RowBlock { target, outputs, first_row, terms, skipped, passes, tile });
    });
}

/// Divides the rows of a product, `target: [rows, outputs]`: as many tasks for every thread, each
/// of as many whole tiles as another or one more. With each comes its first row.
fn tasks<'a, F: Format, N>(
    terms: &[Term<F>],
    mut target: &'a mut [N],
    (outputs, tile): (usize, Tile),
) -> Vec<(usize, &'a mut [N])> {
    let rows = terms[0].left.rows;
    let inner: usize = terms.iter().map(|term| term.left.columns).sum();
    let threads = rayon::current_num_threads();
    let count = match inner * rows * outputs < SERIAL {
        true => 1,
        false => threads * rows.div_ceil(threads * TASK_ROWS),
    };
    let tile_rows = rows_of(tile.shape);
    let tiles = rows.div_ceil(tile_rows);
    let first = |task: usize| (tiles * task / count * tile_rows).min(rows);
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
        let (target, passes, tile) = (Target::Sum(target), passes.as_slice(), choice::tile_here());
        F::rows(RowBlock { target, outputs, first_row: 0, terms, skipped, passes, tile });
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
    product_here_by(choice::tile_here(), target, outputs, terms, skipped);
}

fn product_here_by<F: Multiply>(
    tile: Tile,
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
        let passes = passes.as_slice();
        F::rows(RowBlock { target, outputs, first_row: 0, terms, skipped, passes, tile });
    }
    // SAFETY: either `sweep` wrote every number.
    #[expect(unsafe_code)]
    unsafe {
        target.set_len(length);
    }
}

/// Rows of a tile.
fn rows_of(shape: TileShape) -> usize {
    match shape {
        TileShape::Wide => wide::ROWS,
        TileShape::Tall => tall::ROWS,
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

/// In 32 bits, with the instructions that a block asks for.
fn in_32_bits<F: Format<Stored = f32, Group = f32>>(block: RowBlock<F>) {
    block.tile.instructions.arch().dispatch(block);
}

impl<F: Format<Stored = f32, Group = f32>> WithSimd for RowBlock<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.tile.shape {
            TileShape::Wide => wide::rows(simd, self),
            TileShape::Tall => tall::rows(simd, self),
        }
    }
}

#[cfg(test)]
mod tests;
