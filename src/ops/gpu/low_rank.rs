//! The addition of low rank beside a product: `y += s · h · F`, in place, for `h: [rows, rank]` of
//! few columns, which is nothing for the units that multiply matrices. Tiles of 32 × 32 results.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::launch::{UNITS, elem, empty, moves};

/// Rows and columns of a tile, and how much of the rank is worked on at once.
const TILE: usize = 32;
/// Rows between the results of a unit: 256 units are 8 rows of a tile.
const STRIDE: usize = 8;

/// Where the factor is one of blocks with nothing beside them, the block that a column is in.
#[cube]
fn block_of(column: usize, #[comptime] heights: [usize; 3]) -> usize {
    let mut block = 0usize.runtime();
    if column >= comptime!(heights[0]) {
        block += 1;
    }
    if column >= comptime!(heights[0] + heights[1]) {
        block += 1;
    }
    block
}

/// Where a tile of columns begins and ends with summing over the rank: where the factor is one of
/// several blocks there is nothing beside them. The first tile goes through all.
#[cube]
fn steps_of_tile(
    first_column: usize,
    #[comptime] rank: usize,
    #[comptime] width: usize,
    #[comptime] heights: [usize; 3],
) -> (usize, usize) {
    let parts = comptime!(heights.iter().filter(|height| **height > 0).count());
    let mut first = 0usize.runtime();
    let mut end = rank.runtime();
    if comptime!(parts > 1) {
        let last = min(first_column + comptime!(TILE - 1), comptime!(width - 1).runtime());
        if first_column > 0 {
            first = block_of(first_column, heights) * comptime!(rank / parts);
            end = (block_of(last, heights) + 1) * comptime!(rank / parts);
        }
    }
    (first, end)
}

/// `across`: the factor is `[rank, width]`, else `[width, rank]`, of blocks of so many rows. The
/// first column of tiles also writes `s · h` for the gradients of the factors.
#[cube(launch)]
fn add_low_rank<O: Float>(
    hidden: &[f32],
    factor: &[f32],
    y: &mut [f32],
    scaled: &mut [O],
    scale: f32,
    #[comptime] rank: usize,
    #[comptime] width: usize,
    #[comptime] across: bool,
    #[comptime] heights: [usize; 3],
    #[define(O)] _to: ElemType,
) {
    let (column, row) = (UNIT_POS as usize % TILE, UNIT_POS as usize / TILE);
    let (first_column, first_row) = (CUBE_POS_X as usize * TILE, CUBE_POS_Y as usize * TILE);
    let rows = y.len() / width;
    let mut left = Shared::<[f32]>::new_slice(comptime!(TILE * TILE));
    let mut right = Shared::<[f32]>::new_slice(comptime!(TILE * TILE));
    let mut sum0 = f32::new(0.0);
    let mut sum1 = f32::new(0.0);
    let mut sum2 = f32::new(0.0);
    let mut sum3 = f32::new(0.0);
    let (first_step, end) = steps_of_tile(first_column, rank, width, heights);
    let mut step = first_step;
    while step < end {
        sync_cube();
        #[unroll]
        for part in 0..4usize {
            let (at, along) = (row + comptime!(part * STRIDE), step + column);
            let token = first_row + at;
            let mut number = f32::new(0.0);
            if token < rows && along < rank {
                number = hidden[token * rank + along];
                if CUBE_POS_X == 0 {
                    scaled[token * rank + along] = O::cast_from(number * scale);
                }
            }
            left[at * TILE + column] = number;
            let mut number = f32::new(0.0);
            if comptime!(across) {
                let (k, output) = (step + at, first_column + column);
                if k < rank && output < width {
                    number = factor[k * width + output];
                }
                right[at * TILE + column] = number;
            } else {
                let (k, output) = (step + column, first_column + at);
                if k < rank && output < width {
                    number = factor[output * rank + k];
                }
                right[column * TILE + at] = number;
            }
        }
        sync_cube();
        for k in 0..TILE {
            let here = right[k * TILE + column];
            sum0 += left[row * TILE + k] * here;
            sum1 += left[(row + STRIDE) * TILE + k] * here;
            sum2 += left[(row + comptime!(2 * STRIDE)) * TILE + k] * here;
            sum3 += left[(row + comptime!(3 * STRIDE)) * TILE + k] * here;
        }
        step += TILE;
    }
    let (output, token) = (first_column + column, first_row + row);
    if output < width {
        add_at(y, token, output, width, sum0 * scale);
        add_at(y, token + STRIDE, output, width, sum1 * scale);
        add_at(y, token + comptime!(2 * STRIDE), output, width, sum2 * scale);
        add_at(y, token + comptime!(3 * STRIDE), output, width, sum3 * scale);
    }
}

/// Adds to a result, if there is such a row.
#[cube]
fn add_at(y: &mut [f32], token: usize, output: usize, #[comptime] width: usize, number: f32) {
    let place = token * width + output;
    if place < y.len() {
        y[place] += number;
    }
}

/// How the factor of an addition lies in memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Factor<'a> {
    /// `[rank, width]`.
    Across,
    /// `[width, rank]`, of blocks of so many rows and as many columns each, three at most.
    Blocks(&'a [usize]),
}

/// `y + s · h · F`, and `s · h` in a format. `y` is a fresh result, which is written over.
pub(super) fn add(
    y: CubeTensor,
    hidden: CubeTensor,
    factor: CubeTensor,
    (scale, lies): (f32, Factor),
    to: DType,
) -> (CubeTensor, CubeTensor) {
    let (across, parts) = match lies {
        Factor::Across => (true, [].as_slice()),
        Factor::Blocks(heights) => (false, heights),
    };
    let mut heights = [0; 3];
    heights[..parts.len()].copy_from_slice(parts);
    let (hidden, factor) = (into_contiguous(hidden), into_contiguous(factor));
    let [rows, width] = [y.meta.shape()[0], y.meta.shape()[1]];
    let rank = hidden.meta.shape()[1];
    let scaled = empty(&y, [rows, rank], to);
    let count = |size: usize| u32::try_from(size.div_ceil(TILE)).expect("matrices are smaller");
    let client = y.client.clone();
    // What is beside the blocks of a factor is nothing.
    let flops = 2 * rows * width * rank / parts.len().max(1);
    moves("AddLowRank", &[&hidden, &factor, &y], &[&y, &scaled], flops);
    add_low_rank::launch(
        &client,
        CubeCount::Static(count(width), count(rows), 1),
        CubeDim::new_1d(UNITS),
        hidden.into_buffer_arg(),
        factor.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        scaled.clone().into_buffer_arg(),
        scale,
        rank,
        width,
        across,
        heights,
        elem(to),
    );
    (y, scaled)
}
