//! Products of tiles, of which fused attention is made: 64 rows by 32 columns, of which each of 256
//! units has four rows and two columns, and parts of 32 to sum over.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Rows of a tile.
pub(super) const ROWS: usize = crate::ops::options::ATTENTION_TILE;
/// Columns of a tile, and what is summed over at once.
pub(super) const COLUMNS: usize = 32;
/// Numbers between rows in shared memory: units of a column are at different banks.
pub(super) const STRIDE: usize = COLUMNS + 1;
/// Numbers of a tile that a unit has.
pub(super) const OF_UNIT: usize = 8;
/// Units of a workgroup.
pub(super) const UNITS: usize = 256;
/// Rows and columns between those that a unit has.
pub(super) const APART: usize = 16;
/// Rows that all units read at once.
const READ: usize = UNITS / COLUMNS;

/// The row of the unit in a tile, of the rows that it has the one with a number.
#[cube]
pub(super) fn row_of_unit(#[comptime] number: usize) -> usize {
    UNIT_POS as usize / APART + comptime!(number * APART)
}

/// Its column.
#[cube]
pub(super) fn column_of_unit(#[comptime] number: usize) -> usize {
    UNIT_POS as usize % APART + comptime!(number * APART)
}

/// Reads a part of so many rows, whose first number is at `start`: no more of them than are left,
/// and of each no more numbers than are left. `across`: what stands in a row comes into a column.
#[cube]
pub(super) fn read(
    from: &[f32],
    to: &mut Shared<[f32]>,
    start: usize,
    rows_left: usize,
    #[comptime] stride: usize,
    left: usize,
    #[comptime] rows: usize,
    #[comptime] across: bool,
) {
    let column = UNIT_POS as usize % COLUMNS;
    let first = UNIT_POS as usize / COLUMNS;
    #[unroll]
    for part in 0..comptime!(rows / READ) {
        let row = first + comptime!(part * READ);
        let mut number = f32::new(0.0);
        if row < rows_left && column < left {
            number = from[start + row * stride + column];
        }
        if comptime!(across) {
            to[column * STRIDE + row] = number;
        } else {
            to[row * STRIDE + column] = number;
        }
    }
}

/// Adds the product of a part of 64 rows with one of 32 columns to the sums of a unit, which begin
/// at a number; `right` has its columns as rows.
#[cube]
pub(super) fn multiply(
    left: &mut Shared<[f32]>,
    right: &mut Shared<[f32]>,
    sums: &mut Array<f32>,
    #[comptime] first: usize,
) {
    let rows = row_of_unit(0usize) * STRIDE;
    let columns = column_of_unit(0usize) * STRIDE;
    for k in 0..COLUMNS {
        let here = right[columns + k];
        let there = right[columns + k + comptime!(APART * STRIDE)];
        #[unroll]
        for row in 0..4usize {
            let number = left[rows + k + comptime!(row * APART * STRIDE)];
            sums[comptime!(first + 2 * row)] += number * here;
            sums[comptime!(first + 2 * row + 1)] += number * there;
        }
    }
}

/// Puts the sums of all units into a tile.
#[cube]
pub(super) fn put(sums: &Array<f32>, to: &mut Shared<[f32]>) {
    #[unroll]
    for row in 0..4usize {
        #[unroll]
        for column in 0..2usize {
            let place = row_of_unit(row) * STRIDE + column_of_unit(column);
            to[place] = sums[comptime!(2 * row + column)];
        }
    }
}

/// Nothing, before a sum.
#[cube]
pub(super) fn clear(sums: &mut Array<f32>) {
    #[unroll]
    for number in 0..OF_UNIT {
        sums[number] = f32::new(0.0);
    }
}

/// Adds the product of a tile of 64 rows with 32 rows of a matrix, the first of which begins at
/// `start`, to sums of 64 rows that are as wide as it.
#[cube]
pub(super) fn add_products(
    tile: &mut Shared<[f32]>,
    from: &[f32],
    right: &mut Shared<[f32]>,
    sums: &mut Array<f32>,
    start: usize,
    rows_left: usize,
    #[comptime] stride: usize,
    #[comptime] width: usize,
) {
    #[unroll]
    for part in 0..comptime!(width.div_ceil(COLUMNS)) {
        let first = start + comptime!(part * COLUMNS);
        let more = comptime!(width - part * COLUMNS).runtime();
        sync_cube();
        read(from, right, first, rows_left, stride, more, COLUMNS, true);
        sync_cube();
        multiply(tile, right, sums, comptime!(part * OF_UNIT));
    }
}

/// Multiplies sums of 64 rows by a number for each row, or divides them by it.
#[cube]
pub(super) fn scale_rows(
    sums: &mut Array<f32>,
    by: &Shared<[f32]>,
    #[comptime] divides: bool,
    #[comptime] width: usize,
) {
    #[unroll]
    for place in 0..comptime!(OF_UNIT * width.div_ceil(COLUMNS)) {
        let factor = by[row_of_unit(comptime!(place % OF_UNIT / 2))];
        if comptime!(divides) {
            sums[place] /= factor;
        } else {
            sums[place] *= factor;
        }
    }
}

/// Writes sums of 64 rows, the first of which begins at `start`: no more rows than are left.
#[cube]
pub(super) fn write(
    sums: &Array<f32>,
    to: &mut [f32],
    start: usize,
    rows_left: usize,
    #[comptime] stride: usize,
    #[comptime] width: usize,
) {
    #[unroll]
    for place in 0..comptime!(OF_UNIT * width.div_ceil(COLUMNS)) {
        let row = row_of_unit(comptime!(place % OF_UNIT / 2));
        let column = column_of_unit(comptime!(place % 2)) + comptime!(place / OF_UNIT * COLUMNS);
        if row < rows_left && column < width {
            to[start + row * stride + column] = sums[place];
        }
    }
}
