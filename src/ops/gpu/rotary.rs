//! Rotation of heads by the angles of their positions, and back by the opposite ones.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{UNITS, empty, grid_of_elements, moves};

/// The first `width` numbers of each head of `x: [tokens, heads, all]`; the others stay. Cosines
/// and sines are `[tokens, width]`, of which both halves are equal.
#[cube(launch)]
fn rotate_heads(
    x: &[f32],
    cosines: &[f32],
    sines: &[f32],
    y: &mut [f32],
    direction: f32,
    #[comptime] all: usize,
    #[comptime] width: usize,
    #[comptime] heads: usize,
) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let place = ABSOLUTE_POS % all;
    let number = x[ABSOLUTE_POS];
    if place < width {
        let half = comptime!(width / 2);
        let angle = ABSOLUTE_POS / comptime!(all * heads) * width + place;
        let mut turned = number * cosines[angle];
        if place < half {
            turned -= direction * x[ABSOLUTE_POS + half] * sines[angle];
        } else {
            turned += direction * x[ABSOLUTE_POS - half] * sines[angle];
        }
        y[ABSOLUTE_POS] = turned;
    } else {
        y[ABSOLUTE_POS] = number;
    }
}

/// Rotates `x: [tokens, heads, all]`; `direction` is 1, or −1 for the gradient.
pub(super) fn rotate(
    x: CubeTensor,
    cosines: CubeTensor,
    sines: CubeTensor,
    direction: f32,
) -> CubeTensor {
    let x = into_contiguous(x);
    let (cosines, sines) = (into_contiguous(cosines), into_contiguous(sines));
    let [tokens, heads, all] = [0, 1, 2].map(|axis| x.meta.shape()[axis]);
    let width = cosines.meta.shape()[2];
    let y = empty(&x, [tokens, heads, all], DType::F32);
    let client = x.client.clone();
    moves("RotateHeads", &[&x, &cosines, &sines], &[&y], 3 * tokens * heads * width);
    rotate_heads::launch(
        &client,
        grid_of_elements(tokens * heads * all),
        CubeDim::new_1d(UNITS),
        x.into_buffer_arg(),
        cosines.into_buffer_arg(),
        sines.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        direction,
        all,
        width,
        heads,
    );
    y
}

/// The same of queries and keys that lie beside each other in a row, with values after them that
/// stay as they are: `heads` of queries, `kv_heads` of keys, and as many of values.
#[cube(launch)]
fn rotate_beside(
    x: &[f32],
    cosines: &[f32],
    sines: &[f32],
    key_cosines: &[f32],
    key_sines: &[f32],
    y: &mut [f32],
    direction: f32,
    #[comptime] all: usize,
    #[comptime] width: usize,
    #[comptime] heads: usize,
    #[comptime] kv_heads: usize,
) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let (head, place) = (ABSOLUTE_POS / all % comptime!(heads + 2 * kv_heads), ABSOLUTE_POS % all);
    let mut turned = x[ABSOLUTE_POS];
    if place < width && head < comptime!(heads + kv_heads) {
        let half = comptime!(width / 2);
        let angle = ABSOLUTE_POS / comptime!(all * (heads + 2 * kv_heads)) * width + place;
        let mut cosine = cosines[angle];
        let mut sine = sines[angle];
        if head >= heads {
            cosine = key_cosines[angle];
            sine = key_sines[angle];
        }
        turned *= cosine;
        if place < half {
            turned -= direction * x[ABSOLUTE_POS + half] * sine;
        } else {
            turned += direction * x[ABSOLUTE_POS - half] * sine;
        }
    }
    y[ABSOLUTE_POS] = turned;
}

/// Cosines and sines of queries, and those of keys.
pub(super) type Tables = [CubeTensor; 4];

/// Rotates `x: [tokens, queries · keys · values]` of heads of a width.
pub(super) fn rotate_all(
    x: CubeTensor,
    tables: Tables,
    [heads, kv_heads, all]: [usize; 3],
    direction: f32,
) -> CubeTensor {
    let x = into_contiguous(x);
    let [cosines, sines, key_cosines, key_sines] = tables.map(into_contiguous);
    let [tokens, wide] = [0, 1].map(|axis| x.meta.shape()[axis]);
    let width = cosines.meta.shape()[2];
    let y = empty(&x, [tokens, wide], DType::F32);
    let client = x.client.clone();
    let read = [&x, &cosines, &sines, &key_cosines, &key_sines];
    moves("RotateBeside", &read, &[&y], 3 * tokens * (heads + kv_heads) * width);
    rotate_beside::launch(
        &client,
        grid_of_elements(tokens * wide),
        CubeDim::new_1d(UNITS),
        x.into_buffer_arg(),
        cosines.into_buffer_arg(),
        sines.into_buffer_arg(),
        key_cosines.into_buffer_arg(),
        key_sines.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        direction,
        all,
        width,
        heads,
        kv_heads,
    );
    y
}
