//! Root mean square norm, a workgroup per row: `y = gain · x · r` with `r = 1/√(mean(x²) + ε)`, and
//! `dx = r·(gain·d) − x·r³·mean(gain·d·x)`.

use burn::tensor::{DType, Tensor};
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::launch::{elem, empty, grid, moves, sum_of_units, units_of_row};
use super::{cube, plain};

/// `r` of the row that begins at `first`.
#[cube]
fn scale_of_row(
    x: &[f32],
    first: usize,
    epsilon: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
) -> f32 {
    let mut room = Shared::<[f32]>::new_slice(units);
    let mut squares = f32::new(0.0);
    let mut place = UNIT_POS as usize;
    while place < width {
        let number = x[first + place];
        squares += number * number;
        place += units;
    }
    let total = sum_of_units(&mut room, squares);
    f32::new(1.0) / (total / (width as f32) + epsilon).sqrt()
}

#[cube(launch)]
fn norm_forward<O: Float>(
    x: &[f32],
    gain: &[f32],
    y: &mut [O],
    epsilon: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(O)] _to: ElemType,
) {
    let first = CUBE_POS * width;
    if first >= y.len() {
        terminate!();
    }
    let scale = scale_of_row(x, first, epsilon, width, units);
    let mut place = UNIT_POS as usize;
    while place < width {
        y[first + place] = O::cast_from(x[first + place] * scale * gain[place]);
        place += units;
    }
}

/// `past` is added where there is something.
#[cube(launch)]
fn norm_backward(
    x: &[f32],
    gain: &[f32],
    d: &[f32],
    past: &[f32],
    dx: &mut [f32],
    epsilon: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[comptime] adds: bool,
) {
    let first = CUBE_POS * width;
    if first >= dx.len() {
        terminate!();
    }
    let mut room = Shared::<[f32]>::new_slice(units);
    let mut squares = f32::new(0.0);
    let mut along = f32::new(0.0);
    let mut place = UNIT_POS as usize;
    while place < width {
        let number = x[first + place];
        squares += number * number;
        along += number * gain[place] * d[first + place];
        place += units;
    }
    let squares = sum_of_units(&mut room, squares);
    let along = sum_of_units(&mut room, along);
    let count = width as f32;
    let scale = f32::new(1.0) / (squares / count + epsilon).sqrt();
    let back = along / count * scale * scale * scale;
    let mut place = UNIT_POS as usize;
    while place < width {
        let number = x[first + place];
        let mut sum = scale * gain[place] * d[first + place] - number * back;
        if comptime!(adds) {
            sum += past[first + place];
        }
        dx[first + place] = sum;
        place += units;
    }
}

/// What each row adds to the gradient of the gain: `d · x · r`.
#[cube(launch)]
fn norm_gain_rows(
    x: &[f32],
    d: &[f32],
    rows: &mut [f32],
    epsilon: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
) {
    let first = CUBE_POS * width;
    if first >= rows.len() {
        terminate!();
    }
    let scale = scale_of_row(x, first, epsilon, width, units);
    let mut place = UNIT_POS as usize;
    while place < width {
        rows[first + place] = x[first + place] * d[first + place] * scale;
        place += units;
    }
}

fn dims(x: &CubeTensor) -> [usize; 2] {
    [x.meta.shape()[0], x.meta.shape()[1]]
}

/// `[rows, width]` in f32 to the same in a format.
pub(super) fn forward(x: CubeTensor, gain: CubeTensor, epsilon: f32, to: DType) -> CubeTensor {
    let (x, gain) = (into_contiguous(x), into_contiguous(gain));
    let [rows, width] = dims(&x);
    let (y, dim) = (empty(&x, [rows, width], to), units_of_row(width));
    let client = x.client.clone();
    moves("NormForward", &[&x, &gain], &[&y], 4 * rows * width);
    norm_forward::launch(
        &client,
        grid(rows),
        dim,
        x.into_buffer_arg(),
        gain.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        epsilon,
        width,
        dim.x as usize,
        elem(to),
    );
    y
}

/// The gradient of the input, and what is added to it.
pub(super) fn backward(
    x: CubeTensor,
    gain: CubeTensor,
    d: CubeTensor,
    past: Option<CubeTensor>,
    epsilon: f32,
) -> CubeTensor {
    let (x, gain, d) = (into_contiguous(x), into_contiguous(gain), into_contiguous(d));
    let adds = past.is_some();
    let past = past.map_or_else(|| gain.clone(), into_contiguous);
    let [rows, width] = dims(&x);
    let (dx, dim) = (empty(&x, [rows, width], DType::F32), units_of_row(width));
    let client = x.client.clone();
    moves("NormBackward", &[&x, &gain, &d, &past], &[&dx], 10 * rows * width);
    norm_backward::launch(
        &client,
        grid(rows),
        dim,
        x.into_buffer_arg(),
        gain.into_buffer_arg(),
        d.into_buffer_arg(),
        past.into_buffer_arg(),
        dx.clone().into_buffer_arg(),
        epsilon,
        width,
        dim.x as usize,
        adds,
    );
    dx
}

/// What each row adds to the gradient of the gain, `[rows, width]`.
pub(super) fn gain_rows(x: CubeTensor, d: CubeTensor, epsilon: f32) -> CubeTensor {
    let (x, d) = (into_contiguous(x), into_contiguous(d));
    let [rows, width] = dims(&x);
    let (parts, dim) = (empty(&x, [rows, width], DType::F32), units_of_row(width));
    let client = x.client.clone();
    moves("NormGainRows", &[&x, &d], &[&parts], 4 * rows * width);
    norm_gain_rows::launch(
        &client,
        grid(rows),
        dim,
        x.into_buffer_arg(),
        d.into_buffer_arg(),
        parts.clone().into_buffer_arg(),
        epsilon,
        width,
        dim.x as usize,
    );
    parts
}

/// The gradient of `x: [rows, width]` for that of what it becomes, and `past` added to it.
pub fn rms_norm_backward(
    x: Tensor<2>,
    gain: Tensor<1>,
    epsilon: f32,
    [d, past]: [Tensor<2>; 2],
) -> Tensor<2> {
    plain(backward(cube(x), cube(gain), cube(d), Some(cube(past)), epsilon))
}
