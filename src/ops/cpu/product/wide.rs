//! Tiles of 6 rows and a whole panel: left factors are read where they are.

use pulp::Simd;

use super::{Format, RowBlock, TERMS};
use crate::ops::cpu::packed::{PANEL, width};

/// Rows of the product that are summed at once: with a panel of four vectors, 24 sums are under
/// way, as many as hide the latency of one and as registers hold.
pub const ROWS: usize = 6;

/// What a tile of the product is summed from: rows of left factors and a panel of right ones.
pub struct TileInput<'a, F: Format> {
    /// Inner numbers of each row.
    pub rows: [&'a [F::Stored]; ROWS],
    /// `[groups, width]`.
    pub panel: &'a [F::Group],
}

/// Sums of a tile.
pub type Sums = [[f32; PANEL]; ROWS];

/// Calls `tile` for every tile, and puts its sums where they belong. `tile` is told whether its
/// sums begin; they go on from those that it is given otherwise.
///
/// A pass of one step needs no memory beside the target. Where a pass has several, all rows go
/// through a step before the next: its panel is read from the first-level cache for all of them,
/// and what is summed so far waits beside it.
#[inline(always)]
pub fn sweep<F: Format>(
    block: RowBlock<'_, F>,
    mut tile: impl FnMut(&[TileInput<'_, F>], usize, bool, &mut Sums),
) {
    let RowBlock { mut target, outputs, first_row, terms, skipped, passes, .. } = block;
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

/// Rows of a product in 32 bits.
#[inline(always)]
pub fn rows<S: Simd, F: Format<Stored = f32, Group = f32>>(simd: S, block: RowBlock<F>) {
    sweep(block, |parts, width, begins, sums| match S::F32_LANES {
        16 => match width / 16 {
            4 => tile::<S, F, 4>(simd, parts, (width, 0), begins, sums),
            3 => tile::<S, F, 3>(simd, parts, (width, 0), begins, sums),
            2 => tile::<S, F, 2>(simd, parts, (width, 0), begins, sums),
            _ => tile::<S, F, 1>(simd, parts, (width, 0), begins, sums),
        },
        // In loops: a closure that is not inlined is compiled for any processor.
        8 => {
            for at in (0..width).step_by(16) {
                tile::<S, F, 2>(simd, parts, (width, at), begins, sums);
            }
        }
        4 => {
            for at in (0..width).step_by(16) {
                tile::<S, F, 4>(simd, parts, (width, at), begins, sums);
            }
        }
        _ => {
            for at in (0..width).step_by(S::F32_LANES) {
                tile::<S, F, 1>(simd, parts, (width, at), begins, sums);
            }
        }
    });
}

/// `V` vectors of a panel of `width` outputs, from `at` on.
#[inline(always)]
fn tile<S: Simd, F: Format<Stored = f32, Group = f32>, const V: usize>(
    simd: S,
    parts: &[TileInput<'_, F>],
    (width, at): (usize, usize),
    begins: bool,
    sums: &mut Sums,
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
