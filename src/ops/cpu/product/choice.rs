//! Which tiles products are made of: those that `FIREBRAND_TILE` names, or the fastest of the
//! processor, found by a trial of some milliseconds. Tiles of the same instructions make each sum
//! in the same order, so that no bit depends on what a trial found.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use super::blocking::{PASS, step_depth};
use super::{Multiply, RowBlock, Skipped, Term, divided, rows_of};
use crate::device::{Tile, TileShape, instruction_set, named_shape};
use crate::ops::cpu::packed::{Left, PANEL, PackedRhs, View};
use crate::ops::cpu::target::Target;

/// Rows, inner numbers and outputs of the product of a trial: whole tiles of both shapes, a panel
/// beyond the first-level cache, left factors read as often as in a step.
const TRIAL: [usize; 3] = [84, 1024, 256];
/// The fastest of so many counts.
const TRIES: usize = 4;
/// So much of the time of wide tiles tall ones may take at most to be chosen: no trial of a
/// processor that does both alike shall end one way and another.
const SHARE: f64 = 0.97;
/// Fewer outputs are not worth packing left factors.
const OUTPUTS: usize = 4 * PANEL;

/// The tile for the products of a format where sizes do not speak against it.
pub fn chosen_tile<F: Multiply>() -> Tile {
    Tile { instructions: instruction_set(), shape: named_shape().unwrap_or_else(tried::<F>) }
}

/// The tile for a sum of products.
pub fn tile_for<F: Multiply>(terms: &[Term<F>]) -> Tile {
    let (rows, outputs) = (terms[0].left.rows, terms[0].right.outputs());
    let wide = Tile { instructions: instruction_set(), shape: TileShape::Wide };
    match named_shape() {
        Some(shape) => Tile { shape, ..wide },
        None if outputs < OUTPUTS || wastes_rows(rows) => wide,
        None => chosen_tile::<F>(),
    }
}

/// The tile for what one thread multiplies by itself: blocks too small for another than the usual.
pub fn tile_here() -> Tile {
    let shape = named_shape().unwrap_or(TileShape::Wide);
    Tile { instructions: instruction_set(), shape }
}

/// Whether tall tiles would compute many more rows beyond the last than wide ones.
fn wastes_rows(rows: usize) -> bool {
    let [tall, wide] =
        [TileShape::Tall, TileShape::Wide].map(|shape| rows.next_multiple_of(rows_of(shape)));
    tall * 32 > wide * 33
}

/// What the trials of formats of one number in 32 bits, and of two, have found: 0 before.
static FOUND: [AtomicU8; 2] = [AtomicU8::new(0), AtomicU8::new(0)];
const WIDE: u8 = 1;
const TALL: u8 = 2;

/// The fastest shape for a format.
fn tried<F: Multiply>() -> TileShape {
    let set = instruction_set();
    if !Tile::supported().contains(&Tile { instructions: set, shape: TileShape::Tall }) {
        return TileShape::Wide;
    }
    let found = &FOUND[F::GROUP - 1];
    // Threads that come at the same time all try: one that waited for another inside of a task of
    // that one's would wait for ever.
    if found.load(Ordering::Relaxed) == 0 {
        let shape = trial::<F>();
        found.store(if shape == TileShape::Tall { TALL } else { WIDE }, Ordering::Relaxed);
    }
    match found.load(Ordering::Relaxed) {
        TALL => TileShape::Tall,
        _ => TileShape::Wide,
    }
}

/// Has this thread multiply by both.
fn trial<F: Multiply>() -> TileShape {
    let [rows, inner, outputs] = TRIAL;
    let numbers = |count: usize| (0..count).map(|at| (at % 31) as f32 - 15.0).collect::<Vec<_>>();
    let left = Left::<F>::of(View::new(&numbers(rows * inner), rows, inner));
    let right = PackedRhs::<F>::pack_cols(View::new(&numbers(inner * outputs), inner, outputs));
    let terms = [Term { left: left.view(), right: &right }];
    let mut sums = vec![0.0; rows * outputs];
    let mut fastest = [f64::INFINITY; 2];
    for _ in 0..TRIES {
        for (shape, fastest) in [TileShape::Wide, TileShape::Tall].into_iter().zip(&mut fastest) {
            let began = Instant::now();
            alone(shape, &terms, &mut sums);
            *fastest = fastest.min(began.elapsed().as_secs_f64());
        }
    }
    let [wide, tall] = fastest;
    if tall < wide * SHARE { TileShape::Tall } else { TileShape::Wide }
}

/// A product on this thread alone, added to a target.
fn alone<F: Multiply>(shape: TileShape, terms: &[Term<F>], target: &mut [f32]) {
    let outputs = terms[0].right.outputs();
    let passes = divided(terms.iter().map(|term| term.left.columns), PASS, step_depth());
    F::rows(RowBlock {
        target: Target::Sum(target),
        outputs,
        first_row: 0,
        terms,
        skipped: Skipped::default(),
        passes: &passes,
        tile: Tile { instructions: instruction_set(), shape },
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::element::{Bf16, F32};

    #[test]
    fn a_trial_ends_with_a_tile_that_the_processor_has() {
        let tiles = Tile::supported();
        assert!(tiles.contains(&chosen_tile::<F32>()));
        assert_eq!(chosen_tile::<F32>(), chosen_tile::<F32>());
        if crate::device::multiplies_bfloat16() {
            assert!(tiles.contains(&chosen_tile::<Bf16>()));
        }
    }

    #[test]
    fn tall_tiles_are_for_many_rows_or_whole_ones() {
        assert!([14, 28, 42, 84, 256, 512, 1000].iter().all(|rows| !wastes_rows(*rows)));
        assert!([1, 6, 15, 16, 30, 64, 72, 113, 128].iter().all(|rows| wastes_rows(*rows)));
    }
}
