//! What all kernels here share: new tensors, grids of workgroups, sums over a workgroup, and what
//! is said of a launch to whoever keeps account.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::device;
pub(super) use crate::device::elem;

/// Units of a workgroup: what every interface allows.
pub(super) const UNITS: u32 = 256;
/// Workgroups along an axis: every interface allows 65,535.
const AXIS: usize = 32_768;

/// Room for a result, contiguous and not written.
pub(super) fn empty<const D: usize>(like: &CubeTensor, dims: [usize; D], to: DType) -> CubeTensor {
    empty_device_dtype(like.client.clone(), like.device.clone(), Shape::new(dims), to)
}

/// So many workgroups, along two axes if need be; a kernel leaves out those that are too many.
pub(super) fn grid(workgroups: usize) -> CubeCount {
    let count = |number: usize| u32::try_from(number).expect("grids stay below 2^31 workgroups");
    match workgroups <= AXIS {
        true => CubeCount::Static(count(workgroups.max(1)), 1, 1),
        false => CubeCount::Static(count(AXIS), count(workgroups.div_ceil(AXIS)), 1),
    }
}

/// A workgroup for each so many elements.
pub(super) fn grid_of_elements(elements: usize) -> CubeCount {
    grid(elements.div_ceil(UNITS as usize))
}

/// Units for rows of a width: as many as it has numbers, in whole halves of 256.
pub(super) fn units_of_row(width: usize) -> CubeDim {
    let width = u32::try_from(width).unwrap_or(UNITS);
    CubeDim::new_1d(width.next_power_of_two().clamp(32, UNITS))
}

/// Bytes of a tensor.
pub(super) fn bytes(x: &CubeTensor) -> usize {
    x.meta.num_elements() * x.dtype.size()
}

/// Says what a launch moves: what it reads, each tensor once however often it is given, and what it
/// writes.
pub(super) fn moves(kernel: &str, read: &[&CubeTensor], written: &[&CubeTensor], flops: usize) {
    if !device::keeps_ledger() {
        return;
    }
    let (mut places, mut total) = (Vec::new(), 0);
    for x in read {
        let place = (x.handle.memory.descriptor().id, x.handle.offset_start.unwrap_or(0));
        if !places.contains(&place) {
            places.push(place);
            total += bytes(x);
        }
    }
    let written: usize = written.iter().map(|x| bytes(x)).sum();
    device::launching(kernel, total + written, flops);
}

/// The sum of what each unit of a workgroup has, always added in the same order; all units get it.
/// Their number is a power of two, and that of `room`.
#[cube]
pub(super) fn sum_of_units(room: &mut Shared<[f32]>, value: f32) -> f32 {
    of_units(room, value, false)
}

/// The largest of what each unit has.
#[cube]
pub(super) fn max_of_units(room: &mut Shared<[f32]>, value: f32) -> f32 {
    of_units(room, value, true)
}

#[cube]
fn of_units(room: &mut Shared<[f32]>, value: f32, #[comptime] largest: bool) -> f32 {
    let unit = UNIT_POS as usize;
    sync_cube();
    room[unit] = value;
    sync_cube();
    let mut active = CUBE_DIM / 2;
    while active > 0 {
        if UNIT_POS < active {
            let (mine, other) = (room[unit], room[(UNIT_POS + active) as usize]);
            room[unit] = if comptime!(largest) { max(mine, other) } else { mine + other };
        }
        sync_cube();
        active /= 2;
    }
    room[0]
}
