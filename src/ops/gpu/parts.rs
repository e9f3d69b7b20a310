//! Matrices beside each other: what one product in place of several is made of, and what it gives.
//! One kernel copies the parts of a matrix, or puts it together.

use burn::tensor::{DType, Tensor};
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{UNITS, empty, moves};
use super::{cube, plain};

/// Workgroups that copy a part at most; each goes on to further places of it.
const COPIERS: usize = 4096;

/// The first place of a unit, and how far the next one is.
#[cube]
pub(super) fn places() -> (usize, usize) {
    ((CUBE_POS_X * CUBE_DIM + UNIT_POS) as usize, (CUBE_COUNT_X * CUBE_DIM) as usize)
}

#[cube(launch)]
fn join_columns(parts: &Sequence<Box<[f32]>>, all: &mut [f32], rows: u32) {
    let (mine, apart) = places();
    let total = all.len() / rows as usize;
    let mut first = 0usize;
    #[unroll]
    for number in 0..parts.len() {
        let part = &parts[number];
        let width = part.len() / rows as usize;
        if CUBE_POS_Y as usize == number {
            let mut place = mine;
            while place < part.len() {
                all[place / width * total + first + place % width] = part[place];
                place += apart;
            }
        }
        first += width;
    }
}

#[cube(launch)]
fn split_columns(all: &[f32], parts: &mut Sequence<Box<[f32]>>, rows: u32) {
    let (mine, apart) = places();
    let total = all.len() / rows as usize;
    let mut first = 0usize;
    #[unroll]
    for number in 0..parts.len() {
        let part = parts.index_mut(number);
        let width = part.len() / rows as usize;
        if CUBE_POS_Y as usize == number {
            let mut place = mine;
            while place < part.len() {
                part[place] = all[place / width * total + first + place % width];
                place += apart;
            }
        }
        first += width;
    }
}

/// Factors `A: [rank, inner]` below each other, and `B: [outputs, rank]` as blocks of a matrix
/// with nothing beside them.
#[cube(launch)]
fn join_factors(
    a: &Sequence<Box<[f32]>>,
    b: &Sequence<Box<[f32]>>,
    below: &mut [f32],
    blocks: &mut [f32],
    rank: u32,
) {
    let (mine, apart) = places();
    let rank = rank as usize;
    let count = a.len();
    let wide = rank * count;
    let mut outputs = 0usize;
    #[unroll]
    for number in 0..a.len() {
        let (a, b) = (&a[number], &b[number]);
        if CUBE_POS_Y as usize == number {
            let mut place = mine;
            while place < a.len() {
                below[number * a.len() + place] = a[place];
                place += apart;
            }
        }
        if CUBE_POS_Y as usize == number + count {
            let mut place = mine;
            while place < b.len() * count {
                let (row, column) = (place / wide, place % wide);
                let mut value = f32::new(0.0);
                if column / rank == number {
                    value = b[row * rank + column % rank];
                }
                blocks[outputs * wide + place] = value;
                place += apart;
            }
        }
        outputs += b.len() / rank;
    }
}

/// The blocks of such a matrix.
#[cube(launch)]
fn split_blocks(blocks: &[f32], parts: &mut Sequence<Box<[f32]>>, rank: u32) {
    let (mine, apart) = places();
    let rank = rank as usize;
    let wide = rank * parts.len();
    let mut outputs = 0usize;
    #[unroll]
    for number in 0..parts.len() {
        let part = parts.index_mut(number);
        if CUBE_POS_Y as usize == number {
            let mut place = mine;
            while place < part.len() {
                let row = outputs + place / rank;
                part[place] = blocks[row * wide + number * rank + place % rank];
                place += apart;
            }
        }
        outputs += part.len() / rank;
    }
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).expect("matrices stay below 2^32 rows and columns")
}

/// Workgroups for so many parts, of which the longest has so many numbers.
pub(super) fn groups(longest: usize, parts: usize) -> CubeCount {
    let wide = longest.div_ceil(UNITS as usize).clamp(1, COPIERS);
    CubeCount::Static(count(wide), count(parts), 1)
}

fn rows(x: &CubeTensor) -> usize {
    x.meta.shape()[0]
}

fn columns(x: &CubeTensor) -> usize {
    x.meta.shape()[1]
}

fn length(x: &CubeTensor) -> usize {
    x.meta.num_elements()
}

fn longest(all: &[CubeTensor]) -> usize {
    all.iter().map(length).max().unwrap_or(0)
}

/// What is said of a launch.
fn each(all: &[CubeTensor]) -> Vec<&CubeTensor> {
    all.iter().collect()
}

fn arguments<T: FromIterator<BufferArg>>(all: &[CubeTensor]) -> T {
    all.iter().map(|x| x.clone().into_buffer_arg()).collect()
}

/// Matrices of as many rows beside each other.
pub fn joined_columns(parts: Vec<Tensor<2>>) -> Tensor<2> {
    let parts: Vec<_> = parts.into_iter().map(|x| into_contiguous(cube(x))).collect();
    let (like, rows) = (&parts[0], rows(&parts[0]));
    let all = empty(like, [rows, parts.iter().map(columns).sum()], DType::F32);
    moves("JoinColumns", &each(&parts), &[&all], 0);
    join_columns::launch(
        &like.client,
        groups(longest(&parts), parts.len()),
        CubeDim::new_1d(UNITS),
        arguments(&parts),
        all.clone().into_buffer_arg(),
        count(rows),
    );
    plain(all)
}

/// And back.
pub fn columns_apart<const N: usize>(all: Tensor<2>, widths: [usize; N]) -> [Tensor<2>; N] {
    let all = into_contiguous(cube(all));
    let rows = rows(&all);
    let parts = widths.map(|width| empty(&all, [rows, width], DType::F32));
    let client = all.client.clone();
    moves("SplitColumns", &[&all], &each(&parts), 0);
    split_columns::launch(
        &client,
        groups(longest(&parts), N),
        CubeDim::new_1d(UNITS),
        all.into_buffer_arg(),
        arguments(&parts),
        count(rows),
    );
    parts.map(plain)
}

/// Factors of low rank as those of one: `[a, b]`. All have the same rank.
pub(super) fn joined_factors(a: Vec<CubeTensor>, b: Vec<CubeTensor>) -> [CubeTensor; 2] {
    let [a, b] = [a, b].map(|all| all.into_iter().map(into_contiguous).collect::<Vec<_>>());
    let (like, rank, parts) = (&a[0], rows(&a[0]), a.len());
    let below = empty(like, [parts * rank, columns(like)], DType::F32);
    let blocks = empty(like, [b.iter().map(rows).sum(), parts * rank], DType::F32);
    let read = [each(&a), each(&b)].concat();
    moves("JoinFactors", &read, &[&below, &blocks], 0);
    join_factors::launch(
        &like.client,
        groups(longest(&a).max(parts * longest(&b)), 2 * parts),
        CubeDim::new_1d(UNITS),
        arguments(&a),
        arguments(&b),
        below.clone().into_buffer_arg(),
        blocks.clone().into_buffer_arg(),
        count(rank),
    );
    [below, blocks]
}

/// The blocks of so many rows each.
pub(super) fn blocks_apart(blocks: CubeTensor, heights: &[usize]) -> Vec<CubeTensor> {
    let blocks = into_contiguous(blocks);
    let rank = columns(&blocks) / heights.len();
    let parts: Vec<_> =
        heights.iter().map(|height| empty(&blocks, [*height, rank], DType::F32)).collect();
    let client = blocks.client.clone();
    moves("SplitBlocks", &[&blocks], &each(&parts), 0);
    split_blocks::launch(
        &client,
        groups(longest(&parts), parts.len()),
        CubeDim::new_1d(UNITS),
        blocks.into_buffer_arg(),
        arguments(&parts),
        count(rank),
    );
    parts
}

/// Whether kernels here take so many parts.
pub(super) fn takes_parts(like: &CubeTensor, parts: usize) -> bool {
    2 * parts + 3 <= like.client.properties().hardware.max_bindings as usize
}

/// Matrices `[rows, columns]` that lie below each other in memory as the one that they are; none if
/// they lie elsewhere.
pub fn lying_together(parts: &[&Tensor<2>]) -> Option<Tensor<2>> {
    let parts: Vec<CubeTensor> = parts.iter().map(|x| cube((*x).clone())).collect();
    let first = parts.first()?;
    let begin = |x: &CubeTensor| x.handle.offset_start.unwrap_or(0);
    let bytes = |x: &CubeTensor| (length(x) * x.dtype.size()) as u64;
    let follows = |pair: &[CubeTensor]| {
        let [one, next] = pair else { return false };
        let place = |x: &CubeTensor| x.handle.memory.descriptor().id;
        place(one) == place(next)
            && begin(one) + bytes(one) == begin(next)
            && (one.dtype, columns(one)) == (next.dtype, columns(next))
    };
    let in_order = |x: &CubeTensor| x.meta.strides()[..] == [columns(x), 1];
    if !parts.iter().all(in_order) || !parts.windows(2).all(follows) {
        return None;
    }
    let mut handle = first.handle.clone();
    handle.offset_end = parts.last()?.handle.offset_end;
    let shape = [parts.iter().map(rows).sum(), columns(first)].into();
    let (client, device) = (first.client.clone(), first.device.clone());
    Some(plain(CubeTensor::new_contiguous(client, device, shape, handle, first.dtype)))
}
