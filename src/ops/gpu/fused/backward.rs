//! The gradient of fused attention, in two kernels that make the scores again: one has 64 queries
//! of a head and finds the sums of its softmax first, the other 64 keys with all queries that see
//! them. Each number of a gradient is one workgroup's, always summed in the same order.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::Layout;
use super::forward::{fading_of, hide, places, scores, sees};
use super::tiles::{
    COLUMNS, OF_UNIT, ROWS, STRIDE, add_products, column_of_unit, put, row_of_unit, write,
};
use crate::ops::gpu::attention::{HIDDEN, score};

/// The weight of a score, and the gradient of the product of query and key that it is of: `sum` is
/// the logarithm of the sum of all exponentials, `along` is `Σ dP ⊙ P`.
#[cube]
fn weight_and_slope(
    seen: f32,
    d_weight: f32,
    sum: f32,
    along: f32,
    scale: f32,
    cap: f32,
    #[comptime] capped: bool,
) -> (f32, f32) {
    let weight = (seen - sum).exp();
    let mut slope = weight * (d_weight - along) * scale;
    if comptime!(capped) {
        slope *= f32::new(1.0) - (seen / cap) * (seen / cap);
    }
    (weight, slope)
}

/// Products of queries and keys, and of gradients and values, for 64 queries and 32 keys.
#[cube]
fn both_products(
    left: &mut Shared<[f32]>,
    right: &mut Shared<[f32]>,
    qkv: &[f32],
    d: &[f32],
    places: (usize, usize, usize, usize),
    first: usize,
    key: usize,
    raw: &mut Array<f32>,
    d_weights: &mut Array<f32>,
    #[comptime] of: Layout,
) {
    let (stride, wide) = comptime!((of.stride(), of.wide()));
    let left_over = (comptime!(of.length) - first, comptime!(of.length) - key);
    scores(
        left,
        right,
        (qkv, qkv),
        (places.0 + first * stride, places.1 + key * stride),
        left_over,
        raw,
        comptime!((stride, stride)),
        comptime!(of.width),
    );
    scores(
        left,
        right,
        (d, qkv),
        (places.3 + first * wide, places.2 + key * stride),
        left_over,
        d_weights,
        comptime!((wide, stride)),
        comptime!(of.width),
    );
}

/// What a row of a tile adds to the sum of exponentials less the largest score so far, to that
/// of their products with gradients of weights, and that score: a unit for each row.
#[cube]
fn sum_row(
    scores: &Shared<[f32]>,
    d_weights: &Shared<[f32]>,
    total: f32,
    along: f32,
    before: f32,
) -> (f32, f32, f32) {
    let start = UNIT_POS as usize * STRIDE;
    let mut now = before;
    for column in 0..COLUMNS {
        now = max(now, scores[start + column]);
    }
    let factor = fading_of(before, now);
    let mut total = total * factor;
    let mut along = along * factor;
    for column in 0..COLUMNS {
        let number = scores[start + column];
        if number > f32::new(HIDDEN) {
            let weight = (number - now).exp();
            total += weight;
            along += weight * d_weights[start + column];
        }
    }
    (total, along, now)
}

/// Gradients of raw products in their place, of 64 queries of which sums are known.
#[cube]
fn slopes(
    raw: &mut Array<f32>,
    d_weights: &Array<f32>,
    log_sums: &Shared<[f32]>,
    alongs: &Shared<[f32]>,
    seen: &[i32],
    row: usize,
    first: usize,
    first_key: usize,
    scale: f32,
    cap: f32,
    #[comptime] of: Layout,
) {
    #[unroll]
    for i in 0..OF_UNIT {
        let query = row_of_unit(comptime!(i / 2));
        let key = first_key + column_of_unit(comptime!(i % 2));
        let mut slope = f32::new(0.0);
        if sees(first + query, key, row, seen, of) {
            let capped = comptime!(of.capped);
            let found = score(raw[i], scale, cap, capped);
            let (sum, along) = (log_sums[query], alongs[query]);
            let both = weight_and_slope(found, d_weights[i], sum, along, scale, cap, capped);
            slope = both.1;
        }
        raw[i] = slope;
    }
}

/// For each query the logarithm of the sum of its exponentials, and `Σ dP ⊙ P`; and the gradients
/// of queries, which go through all keys a second time.
#[cube(launch)]
pub(super) fn fused_attention_queries(
    qkv: &[f32],
    d: &[f32],
    seen: &[i32],
    d_qkv: &mut [f32],
    of_queries: &mut [f32],
    scale: f32,
    cap: f32,
    #[comptime] of: Layout,
) {
    let (row, head) = (CUBE_POS_Z as usize, CUBE_POS_Y as usize);
    let (first, unit) = (CUBE_POS_X as usize * ROWS, UNIT_POS as usize);
    let at = places(row, head, of);
    let (length, width, stride) = comptime!((of.length, of.width, of.stride()));
    let mut left = Shared::<[f32]>::new_slice(comptime!(ROWS * STRIDE));
    let mut right = Shared::<[f32]>::new_slice(comptime!(COLUMNS * STRIDE));
    let mut tile = Shared::<[f32]>::new_slice(comptime!(ROWS * STRIDE));
    let mut log_sums = Shared::<[f32]>::new_slice(ROWS);
    let mut alongs = Shared::<[f32]>::new_slice(ROWS);
    let mut raw = Array::<f32>::new(OF_UNIT);
    let mut d_weights = Array::<f32>::new(OF_UNIT);
    let mut sums = Array::<f32>::new(comptime!(OF_UNIT * width.div_ceil(COLUMNS)));
    let mut total = f32::new(0.0);
    let mut along = f32::new(0.0);
    let mut most = f32::new(HIDDEN);
    let number = row * comptime!(of.query_tiles()) + CUBE_POS_X as usize;
    let start = seen[comptime!(of.first_keys()) + number] as usize;
    let end = min(first + ROWS, length);
    let mut key = start;
    while key < end {
        both_products(&mut left, &mut right, qkv, d, at, first, key, &mut raw, &mut d_weights, of);
        hide(&mut raw, seen, row, first, key, scale, cap, of);
        put(&raw, &mut tile);
        sync_cube();
        put(&d_weights, &mut left);
        sync_cube();
        if unit < ROWS {
            let (sum, more, largest) = sum_row(&tile, &left, total, along, most);
            total = sum;
            along = more;
            most = largest;
        }
        key += COLUMNS;
    }
    if unit < ROWS && first + unit < length {
        log_sums[unit] = most + total.ln();
        alongs[unit] = along / total;
        let place = (row * comptime!(of.heads) + head) * length + first + unit;
        of_queries[2 * place] = most + total.ln();
        of_queries[2 * place + 1] = along / total;
    }
    sync_cube();
    let mut key = start;
    while key < end {
        both_products(&mut left, &mut right, qkv, d, at, first, key, &mut raw, &mut d_weights, of);
        slopes(&mut raw, &d_weights, &log_sums, &alongs, seen, row, first, key, scale, cap, of);
        put(&raw, &mut tile);
        let keys = at.1 + key * stride;
        add_products(&mut tile, qkv, &mut right, &mut sums, keys, length - key, stride, width);
        key += COLUMNS;
    }
    write(&sums, d_qkv, at.0 + first * stride, length - first, stride, width);
}

/// Weights in place of raw products of 64 keys and 32 queries, and gradients of those products in
/// place of those of weights. What is known of the queries of a head begins at `sums`.
#[cube]
fn weights_and_slopes(
    raw: &mut Array<f32>,
    d_weights: &mut Array<f32>,
    of_queries: &[f32],
    seen: &[i32],
    row: usize,
    sums: usize,
    first_key: usize,
    first_query: usize,
    scale: f32,
    cap: f32,
    #[comptime] of: Layout,
) {
    #[unroll]
    for i in 0..OF_UNIT {
        let key = first_key + row_of_unit(comptime!(i / 2));
        let query = first_query + column_of_unit(comptime!(i % 2));
        let mut weight = f32::new(0.0);
        let mut slope = f32::new(0.0);
        if sees(query, key, row, seen, of) {
            let capped = comptime!(of.capped);
            let found = score(raw[i], scale, cap, capped);
            let place = 2 * (sums + query);
            let (sum, along) = (of_queries[place], of_queries[place + 1]);
            let both = weight_and_slope(found, d_weights[i], sum, along, scale, cap, capped);
            weight = both.0;
            slope = both.1;
        }
        raw[i] = weight;
        d_weights[i] = slope;
    }
}

/// Products of keys and queries, and of values and gradients, for 64 keys and 32 queries.
#[cube]
fn both_across(
    left: &mut Shared<[f32]>,
    right: &mut Shared<[f32]>,
    qkv: &[f32],
    d: &[f32],
    places: (usize, usize, usize, usize),
    first: usize,
    query: usize,
    raw: &mut Array<f32>,
    d_weights: &mut Array<f32>,
    #[comptime] of: Layout,
) {
    let (stride, wide) = comptime!((of.stride(), of.wide()));
    let left_over = (comptime!(of.length) - first, comptime!(of.length) - query);
    scores(
        left,
        right,
        (qkv, qkv),
        (places.1 + first * stride, places.0 + query * stride),
        left_over,
        raw,
        comptime!((stride, stride)),
        comptime!(of.width),
    );
    scores(
        left,
        right,
        (qkv, d),
        (places.2 + first * stride, places.3 + query * wide),
        left_over,
        d_weights,
        comptime!((stride, wide)),
        comptime!(of.width),
    );
}

/// Gradients of keys and values; the grid has tiles of keys, heads of keys and rows.
#[cube(launch)]
pub(super) fn fused_attention_keys(
    qkv: &[f32],
    d: &[f32],
    seen: &[i32],
    of_queries: &[f32],
    d_qkv: &mut [f32],
    scale: f32,
    cap: f32,
    #[comptime] of: Layout,
) {
    let (row, first) = (CUBE_POS_Z as usize, CUBE_POS_X as usize * ROWS);
    let repeat = comptime!(of.heads / of.kv_heads);
    let (length, width, stride, wide) = comptime!((of.length, of.width, of.stride(), of.wide()));
    let mut left = Shared::<[f32]>::new_slice(comptime!(ROWS * STRIDE));
    let mut right = Shared::<[f32]>::new_slice(comptime!(COLUMNS * STRIDE));
    let mut tile = Shared::<[f32]>::new_slice(comptime!(ROWS * STRIDE));
    let mut raw = Array::<f32>::new(OF_UNIT);
    let mut d_weights = Array::<f32>::new(OF_UNIT);
    let mut of_keys = Array::<f32>::new(comptime!(OF_UNIT * width.div_ceil(COLUMNS)));
    let mut of_values = Array::<f32>::new(comptime!(OF_UNIT * width.div_ceil(COLUMNS)));
    let number = row * comptime!(of.query_tiles()) + CUBE_POS_X as usize;
    let end = seen[comptime!(of.last_queries()) + number] as usize;
    let mut head = CUBE_POS_Y as usize * repeat;
    while head < (CUBE_POS_Y as usize + 1) * repeat {
        let at = places(row, head, of);
        let sums = (row * comptime!(of.heads) + head) * length;
        // No query before the first key sees any of them.
        let mut query = first;
        while query < end {
            both_across(
                &mut left,
                &mut right,
                qkv,
                d,
                at,
                first,
                query,
                &mut raw,
                &mut d_weights,
                of,
            );
            weights_and_slopes(
                &mut raw,
                &mut d_weights,
                of_queries,
                seen,
                row,
                sums,
                first,
                query,
                scale,
                cap,
                of,
            );
            put(&raw, &mut tile);
            let (start, rows_left) = (at.3 + query * wide, length - query);
            add_products(&mut tile, d, &mut right, &mut of_values, start, rows_left, wide, width);
            sync_cube();
            put(&d_weights, &mut tile);
            let start = at.0 + query * stride;
            add_products(&mut tile, qkv, &mut right, &mut of_keys, start, rows_left, stride, width);
            query += COLUMNS;
        }
        head += 1;
    }
    let at = places(row, CUBE_POS_Y as usize * repeat, of);
    write(&of_keys, d_qkv, at.1 + first * stride, length - first, stride, width);
    write(&of_values, d_qkv, at.2 + first * stride, length - first, stride, width);
}
