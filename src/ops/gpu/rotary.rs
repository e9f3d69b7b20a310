//! Rotation of heads by the angles of their positions, and back by the opposite ones.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{UNITS, empty, grid_of_elements};

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
