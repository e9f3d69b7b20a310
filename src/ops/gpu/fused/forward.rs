//! Attention forward without scores in memory (Dao et al. 2022): a workgroup has 64 queries of a
//! head, goes through the keys that any of them sees, and keeps the softmax as it goes.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::Layout;
use super::tiles::{
    COLUMNS, OF_UNIT, ROWS, STRIDE, add_products, clear, column_of_unit, multiply, put, read,
    row_of_unit, scale_rows, write,
};
use crate::ops::gpu::attention::{HIDDEN, score};

/// Where the rows of a micro-batch and a head begin in queries, keys and values that lie beside
/// each other, and in what is mixed.
#[cube]
pub(super) fn places(
    row: usize,
    head: usize,
    #[comptime] of: Layout,
) -> (usize, usize, usize, usize) {
    let token = row * comptime!(of.length);
    let first = token * comptime!(of.stride());
    let kv = head / comptime!(of.heads / of.kv_heads) * comptime!(of.width);
    (
        first + head * comptime!(of.width),
        first + kv + comptime!(of.heads * of.width),
        first + kv + comptime!((of.heads + of.kv_heads) * of.width),
        token * comptime!(of.wide()) + head * comptime!(of.width),
    )
}

/// Whether a query of a row of the micro-batch sees a key; both may be behind its end.
#[cube]
pub(super) fn sees(
    query: usize,
    key: usize,
    row: usize,
    seen: &[i32],
    #[comptime] of: Layout,
) -> bool {
    let mut visible = false;
    if query < comptime!(of.length) && key <= query && key + comptime!(of.window) > query {
        let first = row * comptime!(of.length);
        visible = seen[first + key] == seen[first + query];
    }
    visible
}

/// The scores of 64 queries and 32 keys, for each unit its own.
#[cube]
pub(super) fn scores(
    left: &mut Shared<[f32]>,
    right: &mut Shared<[f32]>,
    from: (&[f32], &[f32]),
    starts: (usize, usize),
    rows_left: (usize, usize),
    sums: &mut Array<f32>,
    #[comptime] strides: (usize, usize),
    #[comptime] width: usize,
) {
    clear(sums);
    // No unrolled loop: kernels for wide heads would take long to compile.
    let mut first = 0usize.runtime();
    while first < width {
        sync_cube();
        let more = width - first;
        read(from.0, left, starts.0 + first, rows_left.0, strides.0, more, ROWS, false);
        read(from.1, right, starts.1 + first, rows_left.1, strides.1, more, COLUMNS, false);
        sync_cube();
        multiply(left, right, sums, 0usize);
        first += COLUMNS;
    }
}

/// Scaled and capped scores of a tile in place of raw products, [`HIDDEN`] where a query does not
/// see a key.
#[cube]
pub(super) fn hide(
    raw: &mut Array<f32>,
    seen: &[i32],
    row: usize,
    first_query: usize,
    first_key: usize,
    scale: f32,
    cap: f32,
    #[comptime] of: Layout,
) {
    #[unroll]
    for i in 0..OF_UNIT {
        let query = first_query + row_of_unit(comptime!(i / 2));
        let key = first_key + column_of_unit(comptime!(i % 2));
        let mut number = f32::new(HIDDEN);
        if sees(query, key, row, seen, of) {
            number = score(raw[i], scale, cap, comptime!(of.capped));
        }
        raw[i] = number;
    }
}

/// Exponentials in place of the scores of a row, less the largest so far; and what the sums of
/// tiles before are multiplied with for that. A unit for each row.
#[cube]
fn weigh(
    weights: &mut Shared<[f32]>,
    most: &mut Shared<[f32]>,
    total: &mut Shared<[f32]>,
    fading: &mut Shared<[f32]>,
) {
    let unit = UNIT_POS as usize;
    if unit < ROWS {
        let before = most[unit];
        let mut now = before;
        for column in 0..COLUMNS {
            now = max(now, weights[unit * STRIDE + column]);
        }
        let mut sum = f32::new(0.0);
        for column in 0..COLUMNS {
            let number = weights[unit * STRIDE + column];
            let mut weight = f32::new(0.0);
            if number > f32::new(HIDDEN) {
                weight = (number - now).exp();
            }
            weights[unit * STRIDE + column] = weight;
            sum += weight;
        }
        let factor = fading_of(before, now);
        most[unit] = now;
        total[unit] = total[unit] * factor + sum;
        fading[unit] = factor;
    }
}

/// What sums of exponentials less one number are multiplied with to be less another one.
#[cube]
pub(super) fn fading_of(before: f32, now: f32) -> f32 {
    let mut factor = f32::new(0.0);
    if before > f32::new(HIDDEN) {
        factor = (before - now).exp();
    }
    factor
}

/// The grid has tiles of queries, heads and rows.
#[cube(launch)]
pub(super) fn fused_attention(
    qkv: &[f32],
    seen: &[i32],
    mixed: &mut [f32],
    scale: f32,
    cap: f32,
    #[comptime] of: Layout,
) {
    let (row, head) = (CUBE_POS_Z as usize, CUBE_POS_Y as usize);
    let first = CUBE_POS_X as usize * ROWS;
    let (q, k, v, out) = places(row, head, of);
    let (length, width) = comptime!((of.length, of.width));
    let (stride, wide) = comptime!((of.stride(), of.wide()));
    let mut left = Shared::<[f32]>::new_slice(comptime!(ROWS * STRIDE));
    let mut right = Shared::<[f32]>::new_slice(comptime!(COLUMNS * STRIDE));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(ROWS * STRIDE));
    let mut most = Shared::<[f32]>::new_slice(ROWS);
    let mut total = Shared::<[f32]>::new_slice(ROWS);
    let mut fading = Shared::<[f32]>::new_slice(ROWS);
    let mut raw = Array::<f32>::new(OF_UNIT);
    let mut sums = Array::<f32>::new(comptime!(OF_UNIT * width.div_ceil(COLUMNS)));
    if UNIT_POS < comptime!(ROWS as u32) {
        most[UNIT_POS as usize] = f32::new(HIDDEN);
        total[UNIT_POS as usize] = f32::new(0.0);
    }
    let tile = row * comptime!(of.query_tiles()) + CUBE_POS_X as usize;
    let mut key = seen[comptime!(of.first_keys()) + tile] as usize;
    let end = min(first + ROWS, length);
    while key < end {
        scores(
            &mut left,
            &mut right,
            (qkv, qkv),
            (q + first * stride, k + key * stride),
            (length - first, length - key),
            &mut raw,
            comptime!((stride, stride)),
            width,
        );
        hide(&mut raw, seen, row, first, key, scale, cap, of);
        put(&raw, &mut weights);
        sync_cube();
        weigh(&mut weights, &mut most, &mut total, &mut fading);
        sync_cube();
        scale_rows(&mut sums, &fading, false, width);
        let start = v + key * stride;
        add_products(&mut weights, qkv, &mut right, &mut sums, start, length - key, stride, width);
        key += COLUMNS;
    }
    scale_rows(&mut sums, &total, true, width);
    write(&sums, mixed, out + first * wide, length - first, wide, width);
}
