//! The loss over the vocabulary: the logarithm of the sum, and the gradient of the logits, a
//! workgroup per target. And rows at the places where they belong, each by itself.

use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::launch::{
    UNITS, elem, empty, grid, grid_of_elements, max_of_units, moves, sum_of_units, units_of_row,
};
use super::{cube, plain};
use crate::device;

/// `losses[row] = log Σ exp(z) − z[target]`, and `d = scale · (softmax(z) − onehot)`, times the
/// slope of the cap that makes `z` of logits. Rows from `count` on are filled up, and zero.
#[cube(launch)]
fn loss_rows<O: Float>(
    logits: &[f32],
    targets: &[i32],
    losses: &mut [f32],
    d: &mut [O],
    count: u32,
    scale: f32,
    cap: f32,
    #[comptime] vocabulary: usize,
    #[comptime] capped: bool,
    #[comptime] units: usize,
    #[define(O)] _to: ElemType,
) {
    let row = CUBE_POS;
    if row >= losses.len() {
        terminate!();
    }
    let first = row * vocabulary;
    let mut room = Shared::<[f32]>::new_slice(units);
    let mut most = f32::new(-3.0e38);
    let mut place = UNIT_POS as usize;
    while place < vocabulary {
        most = max(most, capped_logit(logits[first + place], cap, capped));
        place += units;
    }
    let most = max_of_units(&mut room, most);
    let mut sum = f32::new(0.0);
    let mut place = UNIT_POS as usize;
    while place < vocabulary {
        sum += (capped_logit(logits[first + place], cap, capped) - most).exp();
        place += units;
    }
    let total = sum_of_units(&mut room, sum);
    let target = targets[row] as usize;
    let mut counts = f32::new(0.0);
    if row < count as usize {
        counts = f32::new(1.0);
    }
    if UNIT_POS == 0 {
        let wanted = capped_logit(logits[first + target], cap, capped);
        losses[row] = (total.ln() + most - wanted) * counts;
    }
    let mut place = UNIT_POS as usize;
    while place < vocabulary {
        let z = capped_logit(logits[first + place], cap, capped);
        let mut slope = (z - most).exp() / total;
        if place == target {
            slope -= f32::new(1.0);
        }
        if comptime!(capped) {
            slope *= f32::new(1.0) - (z / cap) * (z / cap);
        }
        d[first + place] = O::cast_from(slope * scale * counts);
        place += units;
    }
}

#[cube]
fn capped_logit(raw: f32, cap: f32, #[comptime] capped: bool) -> f32 {
    if comptime!(capped) { (raw / cap).tanh() * cap } else { raw }
}

/// One workgroup: the sum of all, always in the same order.
#[cube(launch)]
fn sum_all(numbers: &[f32], sum: &mut [f32], #[comptime] units: usize) {
    let mut room = Shared::<[f32]>::new_slice(units);
    let mut mine = f32::new(0.0);
    let mut place = UNIT_POS as usize;
    while place < numbers.len() {
        mine += numbers[place];
        place += units;
    }
    let total = sum_of_units(&mut room, mine);
    if UNIT_POS == 0 {
        sum[0] = total;
    }
}

/// Row `i` of `rows` becomes row `places[i]` of `y`, for the first so many; no place comes twice.
#[cube(launch)]
fn rows_placed(rows: &[f32], places: &[i32], y: &mut [f32], count: u32, #[comptime] width: usize) {
    let row = ABSOLUTE_POS / width;
    if row >= count as usize {
        terminate!();
    }
    y[places[row] as usize * width + ABSOLUTE_POS % width] = rows[ABSOLUTE_POS];
}

/// The sum of the losses `[1]`, and the gradient of the logits in a format.
pub fn losses(
    logits: Tensor<2>,
    targets: &Tensor<1, Int>,
    (count, scale, soft_cap): (usize, f32, Option<f32>),
    to: DType,
) -> (Tensor<1>, Tensor<2>) {
    let logits = into_contiguous(cube(logits));
    let [rows, vocabulary] = [logits.meta.shape()[0], logits.meta.shape()[1]];
    let (losses, d) = (empty(&logits, [rows], DType::F32), empty(&logits, [rows, vocabulary], to));
    let (sum, dim) = (empty(&logits, [1], DType::F32), units_of_row(vocabulary));
    let client = logits.client.clone();
    let targets = targets.clone().try_into_primitive::<CubeBackend>();
    let targets = targets.expect("targets are where the logits are");
    moves("LossRows", &[&logits, &targets], &[&losses, &d], 8 * rows * vocabulary);
    loss_rows::launch(
        &client,
        grid(rows),
        dim,
        logits.into_buffer_arg(),
        targets.into_buffer_arg(),
        losses.clone().into_buffer_arg(),
        d.clone().into_buffer_arg(),
        u32::try_from(count).expect("chunks are small"),
        scale,
        soft_cap.unwrap_or(1.0),
        vocabulary,
        soft_cap.is_some(),
        dim.x as usize,
        elem(to),
    );
    moves("SumAll", &[&losses], &[&sum], rows);
    sum_all::launch(
        &client,
        grid(1),
        CubeDim::new_1d(UNITS),
        losses.into_buffer_arg(),
        sum.clone().into_buffer_arg(),
        UNITS as usize,
    );
    (plain(sum), plain(d))
}

/// `y` with the first `count` rows at their places; what stood there is gone.
pub fn placed(y: Tensor<2>, rows: Tensor<2>, places: &Tensor<1, Int>, count: usize) -> Tensor<2> {
    let (y, rows) = (into_contiguous(cube(y)), into_contiguous(cube(rows)));
    // Others may hold it, and see what it was.
    let y = if y.can_mut() { y } else { y.copy() };
    let width = y.meta.shape()[1];
    let client = y.client.clone();
    let places = places.clone().try_into_primitive::<CubeBackend>();
    let places = places.expect("places are where the rows are");
    // Only these rows, of each its place, too.
    device::launching("RowsPlaced", count * (8 * width + 4), 0);
    rows_placed::launch(
        &client,
        grid_of_elements(count * width),
        CubeDim::new_1d(UNITS),
        rows.into_buffer_arg(),
        places.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        u32::try_from(count).expect("chunks are small"),
        width,
    );
    plain(y)
}
