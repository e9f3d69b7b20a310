//! Tiles of 14 rows and half a panel, for processors that do two 512-bit multiplications with
//! addition a cycle: 128 bytes of the panel for each 28 of them, where tiles of 6 rows read 256
//! for each 24. So many rows are more than a processor has registers to point at, so that left
//! factors are packed: beside each other the groups of every row. Each sum is made in the order in
//! which the other tiles make it.

use std::cell::Cell;

use pulp::Simd;

use super::blocking::{Pass, Piece};
use super::{Format, RowBlock, TERMS, Term};
use crate::ops::cpu::element::Group;
use crate::ops::cpu::packed::{LANES, PANEL, width};
use crate::ops::cpu::transpose::Transpose16x16;

/// Rows of the product that are summed at once: with two vectors 28 sums, and registers for the
/// vectors and a factor.
pub const ROWS: usize = 14;
/// Outputs of a tile.
pub const OUTPUTS: usize = 32;

/// What a tile is summed from.
#[derive(Clone, Copy)]
pub struct TileInput<'a, F: Format> {
    /// The bits of groups, `[groups, ROWS]`.
    pub rows: &'a [u32],
    /// `[groups, width]`, from the first output of the tile on.
    pub panel: &'a [F::Group],
    /// From group to group of the panel.
    pub width: usize,
}

/// Sums of a tile.
pub type Sums = [[f32; OUTPUTS]; ROWS];

/// Makes sums of tiles, with the instructions of some processor.
pub trait Tiles<F: Format> {
    /// Sums of so many outputs, 16 or 32; they go on from those that are there unless they begin.
    fn sum(self, parts: &[TileInput<F>], outputs: usize, begins: bool, sums: &mut Sums);
}

thread_local! {
    /// Where left factors are packed, kept from product to product.
    static MEMORY: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Has `tiles` make every tile, and puts its sums where they belong: those of a half of a panel for
/// all rows, then those of the next, so that the half stays in the first-level cache.
#[inline(always)]
pub fn sweep<F: Format>(block: RowBlock<'_, F>, tiles: impl Tiles<F> + Copy) {
    let RowBlock { mut target, outputs, first_row, terms, skipped, passes, .. } = block;
    let rows = target.len() / outputs;
    let count = rows.div_ceil(ROWS);
    let most = passes.iter().map(Vec::len).max().unwrap_or(0);
    let mut one = [[0.0; OUTPUTS]; ROWS];
    let mut waiting = vec![one; if most > 1 { count } else { 0 }];
    let mut packed = MEMORY.take();
    for pass in passes {
        pack(pass, terms, (first_row, rows), &mut packed);
        for first in (0..outputs).step_by(OUTPUTS) {
            let (panel, from) = (first / PANEL, first % PANEL);
            let width = width(outputs, panel);
            let padded = OUTPUTS.min(width - from);
            let wanted = OUTPUTS.min(outputs - first);
            let mut before = 0;
            for (number, step) in pass.iter().enumerate() {
                assert!(step.len() <= TERMS, "a sum has at most {TERMS} terms");
                let mut parts = [TileInput::<F> { rows: &[], panel: &[], width }; TERMS];
                for (part, piece) in parts.iter_mut().zip(step) {
                    let inner = (piece.inner.0 + skipped.inner, piece.inner.1 + skipped.inner);
                    let panel = panel + skipped.outputs / PANEL;
                    let panel = terms[piece.term].right.panel(panel, inner);
                    // A step without inner numbers has none of these either.
                    part.panel = &panel[from.min(panel.len())..];
                }
                let ends = number + 1 == pass.len();
                for tile in 0..count {
                    let mut at = before;
                    for (part, piece) in parts.iter_mut().zip(step) {
                        let groups = groups::<F>(*piece);
                        let place = (at * count + tile * groups) * ROWS;
                        part.rows = &packed[place..][..groups * ROWS];
                        at += groups;
                    }
                    let sums = waiting.get_mut(tile).unwrap_or(&mut one);
                    tiles.sum(&parts[..step.len()], padded, number == 0, sums);
                    if ends {
                        for (i, sums) in sums.iter().take(rows - tile * ROWS).enumerate() {
                            let at = (tile * ROWS + i) * outputs + first;
                            // A length that is known is copied without a loop.
                            match wanted {
                                OUTPUTS => target.put(at, sums),
                                wanted => target.put(at, &sums[..wanted]),
                            }
                        }
                    }
                }
                before += step.iter().map(|piece| groups::<F>(*piece)).sum::<usize>();
            }
        }
        target = target.written();
    }
    MEMORY.set(packed);
}

/// Groups of a piece.
#[inline(always)]
fn groups<F: Format>(piece: Piece) -> usize {
    (piece.inner.1 - piece.inner.0) / F::GROUP
}

/// The left factors of a pass: piece after piece, of each the tiles of rows, in each the groups.
/// Rows beyond the last are the last again.
#[inline(always)]
fn pack<F: Format>(
    pass: &Pass,
    terms: &[Term<'_, F>],
    (first_row, rows): (usize, usize),
    packed: &mut Vec<u32>,
) {
    let (turn, tiles) = (Transpose16x16::new(), rows.div_ceil(ROWS));
    let mut all = 0;
    for piece in pass.iter().flatten() {
        all += groups::<F>(*piece);
    }
    packed.resize(all * tiles * ROWS, 0);
    let mut rest = packed.as_mut_slice();
    for piece in pass.iter().flatten() {
        let (left, length) = (&terms[piece.term].left, groups::<F>(*piece) * ROWS);
        for tile in 0..tiles {
            let mut sources: [&[F::Stored]; LANES] = [&[]; LANES];
            for (i, source) in sources.iter_mut().enumerate() {
                let row = (tile * ROWS + i.min(ROWS - 1)).min(rows - 1);
                *source = &left.row(first_row + row)[piece.inner.0..piece.inner.1];
            }
            let (target, later) = rest.split_at_mut(length);
            pack_tile::<F>(turn, &sources, target);
            rest = later;
        }
    }
}

/// The rows of a tile, turned in squares; two rows of each are left out.
#[inline(always)]
fn pack_tile<F: Format>(turn: Transpose16x16, rows: &[&[F::Stored]; LANES], target: &mut [u32]) {
    let groups = target.len() / ROWS;
    let whole = groups / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        let mut square = [[0; LANES]; LANES];
        for row in 0..LANES {
            let numbers = &rows[row][first * F::GROUP..][..LANES * F::GROUP];
            for (group, bits_of) in square[row].iter_mut().enumerate() {
                *bits_of = bits::<F>(numbers, group);
            }
        }
        let square = turn.square(square);
        for (group, numbers) in square.iter().enumerate() {
            target[(first + group) * ROWS..][..ROWS].copy_from_slice(&numbers[..ROWS]);
        }
    }
    for group in whole..groups {
        for row in 0..ROWS {
            target[group * ROWS + row] = bits::<F>(rows[row], group);
        }
    }
}

/// The bits of a group of a row.
#[inline(always)]
fn bits<F: Format>(row: &[F::Stored], group: usize) -> u32 {
    let last = group * F::GROUP + F::GROUP - 1;
    F::Group::of_numbers([row[group * F::GROUP], row[last]]).bits()
}

/// Rows of a product in 32 bits.
#[inline(always)]
pub fn rows<S: Simd, F: Format<Stored = f32, Group = f32>>(simd: S, block: RowBlock<F>) {
    sweep(block, In32Bits(simd));
}

/// Tiles in 32 bits.
#[derive(Clone, Copy)]
struct In32Bits<S>(S);

impl<S: Simd, F: Format<Stored = f32, Group = f32>> Tiles<F> for In32Bits<S> {
    #[inline(always)]
    fn sum(self, parts: &[TileInput<F>], outputs: usize, begins: bool, sums: &mut Sums) {
        if S::F32_LANES == 16 {
            match outputs {
                OUTPUTS => tile::<S, F, 2>(self.0, parts, 0, begins, sums),
                _ => tile::<S, F, 1>(self.0, parts, 0, begins, sums),
            }
        } else {
            for at in (0..outputs).step_by(S::F32_LANES) {
                tile::<S, F, 1>(self.0, parts, at, begins, sums);
            }
        }
    }
}

/// `V` vectors of outputs, from one on.
#[inline(always)]
fn tile<S: Simd, F: Format<Stored = f32, Group = f32>, const V: usize>(
    simd: S,
    parts: &[TileInput<F>],
    at: usize,
    begins: bool,
    sums: &mut Sums,
) {
    let mut held = [[simd.splat_f32s(0.0); V]; ROWS];
    if !begins {
        for row in 0..ROWS {
            held[row].copy_from_slice(S::as_simd_f32s(&sums[row][at..][..V * S::F32_LANES]).0);
        }
    }
    for part in parts {
        for (k, factors) in part.rows.chunks_exact(ROWS).enumerate() {
            let numbers = &part.panel[k * part.width + at..][..V * S::F32_LANES];
            let mut vectors = [simd.splat_f32s(0.0); V];
            vectors.copy_from_slice(S::as_simd_f32s(numbers).0);
            for row in 0..ROWS {
                let factor = simd.splat_f32s(f32::from_bits(factors[row]));
                for vector in 0..V {
                    held[row][vector] =
                        simd.mul_add_f32s(factor, vectors[vector], held[row][vector]);
                }
            }
        }
    }
    for row in 0..ROWS {
        let target = S::as_mut_simd_f32s(&mut sums[row][at..][..V * S::F32_LANES]).0;
        target.copy_from_slice(&held[row]);
    }
}
