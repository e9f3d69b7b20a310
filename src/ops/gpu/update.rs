//! The norm of all gradients and the update of all parameters, many tensors with a launch. Sums are
//! made in two stages, always in the same order: no number depends on which workgroup came first.

use burn::tensor::{DType, Tensor};
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{UNITS, bytes, empty, grid, moves, sum_of_units};
use super::{cube, plain};
use crate::device;

/// Workgroups for each tensor whose squares are summed.
const PARTS: usize = 32;
/// Tensors that a kernel is made for at most.
const TOGETHER: usize = 16;
/// Workgroups that move a tensor at most; each goes on to further parts of it.
const MOVERS: usize = 256;

/// The sum of squares of a part of each tensor.
#[cube(launch)]
fn squares_of_parts(
    tensors: &Sequence<Box<[f32]>>,
    sums: &mut [f32],
    first: u32,
    #[comptime] units: usize,
) {
    let mut room = Shared::<[f32]>::new_slice(units);
    #[unroll]
    for number in 0..tensors.len() {
        if CUBE_POS_Y as usize == number {
            let tensor = &tensors[number];
            let mut mine = f32::new(0.0);
            let mut place = CUBE_POS_X as usize * units + UNIT_POS as usize;
            while place < tensor.len() {
                mine += tensor[place] * tensor[place];
                place += comptime!(units * PARTS);
            }
            let total = sum_of_units(&mut room, mine);
            if UNIT_POS == 0 {
                sums[(first as usize + number) * PARTS + CUBE_POS_X as usize] = total;
            }
        }
    }
}

/// One workgroup: the loss, and the root of the sum of all parts.
#[cube(launch)]
fn loss_and_norm(sums: &[f32], loss: &[f32], both: &mut [f32], #[comptime] units: usize) {
    let mut room = Shared::<[f32]>::new_slice(units);
    let mut mine = f32::new(0.0);
    let mut place = UNIT_POS as usize;
    while place < sums.len() {
        mine += sums[place];
        place += units;
    }
    let total = sum_of_units(&mut room, mine);
    if UNIT_POS == 0 {
        both[0] = loss[0];
        both[1] = total.sqrt();
    }
}

/// Numbers of an update by two running means.
#[derive(Debug, Clone, Copy)]
pub struct MomentNumbers {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// One without the first decay: a difference of numbers of 32 bits would be too far off.
    pub rest1: f32,
    /// One without the second.
    pub rest2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// What the root of the second moment is multiplied with before that.
    pub root: f32,
    /// What the quotient is multiplied with.
    pub rate: f32,
    /// What weights are multiplied with.
    pub kept: f32,
}

/// Each tensor by the quotient of the means of its gradients, times `factor[0]`, and of their
/// squares (Adam with decoupled decay).
#[cube(launch)]
fn move_parameters(
    values: &Sequence<Box<[f32]>>,
    gradients: &Sequence<Box<[f32]>>,
    first: &mut Sequence<Box<[f32]>>,
    second: &mut Sequence<Box<[f32]>>,
    moved: &mut Sequence<Box<[f32]>>,
    factor: &[f32],
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    epsilon: f32,
    root: f32,
    rate: f32,
    kept: f32,
) {
    let factor = factor[0];
    #[unroll]
    for number in 0..values.len() {
        if CUBE_POS_Y as usize == number {
            let (value, gradient) = (&values[number], &gradients[number]);
            let first = first.index_mut(number);
            let second = second.index_mut(number);
            let moved = moved.index_mut(number);
            let mut place = (CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize;
            while place < value.len() {
                let d = gradient[place] * factor;
                let mean = first[place] * beta1 + d * rest1;
                let square = second[place] * beta2 + d * d * rest2;
                first[place] = mean;
                second[place] = square;
                let change = mean / (square.sqrt() * root + epsilon) * rate;
                moved[place] = value[place] * kept - change;
                place += (CUBE_COUNT_X * CUBE_DIM) as usize;
            }
        }
    }
}

/// How many tensors a kernel may see, of which each is so many buffers, beside `others`.
fn together(like: &CubeTensor, buffers: usize, others: usize) -> usize {
    let bindings = like.client.properties().hardware.max_bindings as usize;
    (bindings.saturating_sub(others + 1) / buffers).clamp(1, TOGETHER)
}

fn length(x: &CubeTensor) -> usize {
    x.meta.num_elements()
}

/// Loss and norm of the gradient, `[2]`.
pub fn measured(loss: Tensor<1>, gradients: Vec<Tensor<1>>) -> Tensor<1> {
    let loss = into_contiguous(cube(loss));
    let gradients: Vec<_> = gradients.into_iter().map(|x| into_contiguous(cube(x))).collect();
    let sums = empty(&loss, [(gradients.len() * PARTS).max(1)], DType::F32);
    let (client, count) = (loss.client.clone(), together(&loss, 1, 1));
    for (number, tensors) in gradients.chunks(count).enumerate() {
        let first = u32::try_from(number * count).expect("models have fewer tensors");
        let wide = u32::try_from(PARTS).expect("there are few");
        let high = u32::try_from(tensors.len()).expect("there are few");
        let read: usize = tensors.iter().map(bytes).sum();
        let written = 4 * PARTS * tensors.len();
        device::launching("SquaresOfParts", read + written, read / 2);
        squares_of_parts::launch(
            &client,
            CubeCount::Static(wide, high, 1),
            CubeDim::new_1d(UNITS),
            tensors.iter().map(|x| x.clone().into_buffer_arg()).collect(),
            sums.clone().into_buffer_arg(),
            first,
            UNITS as usize,
        );
    }
    let both = empty(&loss, [2], DType::F32);
    moves("LossAndNorm", &[&sums, &loss], &[&both], length(&sums));
    loss_and_norm::launch(
        &client,
        grid(1),
        CubeDim::new_1d(UNITS),
        sums.into_buffer_arg(),
        loss.into_buffer_arg(),
        both.clone().into_buffer_arg(),
        UNITS as usize,
    );
    plain(both)
}

/// A parameter on its way through an update: value, gradient, first and second moment.
pub type Moving = [Tensor<1>; 4];

/// New values and moments of parameters. Moments that nobody else holds are written over.
pub fn move_all(all: Vec<Moving>, factor: Tensor<1>, by: MomentNumbers) -> Vec<[Tensor<1>; 3]> {
    let factor = into_contiguous(cube(factor));
    let own = |x: CubeTensor| if x.can_mut() { x } else { x.copy() };
    let mut done = Vec::with_capacity(all.len());
    let count = together(&factor, 5, 1);
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let batch: Vec<_> = all
            .by_ref()
            .take(count)
            .map(|moving| {
                let [value, d, first, second] = moving.map(|x| into_contiguous(cube(x)));
                let moved = empty(&value, [length(&value)], DType::F32);
                [value, d, own(first), own(second), moved]
            })
            .collect();
        let most = batch.iter().map(|[value, ..]| length(value)).max().unwrap_or(1);
        let wide = most.div_ceil(UNITS as usize).clamp(1, MOVERS);
        let wide = u32::try_from(wide).expect("it was limited");
        let high = u32::try_from(batch.len()).expect("there are few");
        let of =
            |part: usize| batch.iter().map(|all| all[part].clone().into_buffer_arg()).collect();
        let written: Vec<_> = batch.iter().flat_map(|all| &all[2..]).collect();
        let flops = 14 * batch.iter().map(|all| length(&all[0])).sum::<usize>();
        let read: Vec<_> = batch.iter().flat_map(|all| &all[..4]).chain([&factor]).collect();
        moves("MoveParameters", &read, &written, flops);
        move_parameters::launch(
            &factor.client,
            CubeCount::Static(wide, high, 1),
            CubeDim::new_1d(UNITS),
            of(0),
            of(1),
            of(2),
            of(3),
            of(4),
            factor.clone().into_buffer_arg(),
            by.beta1,
            by.beta2,
            by.rest1,
            by.rest2,
            by.epsilon,
            by.root,
            by.rate,
            by.kept,
        );
        done.extend(
            batch.into_iter().map(|[_, _, first, second, moved]| [moved, first, second].map(plain)),
        );
    }
    done
}
