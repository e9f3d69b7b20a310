//! Attention within documents and windows, forward and backward, without scores in memory: three
//! kernels in place of seven products, two softmaxes and the copies between them. Queries, keys and
//! values of a token lie beside each other, as one product gives them, and so do their gradients.
//!
//! They multiply with ordinary units, in 32 bits.

mod backward;
mod forward;
mod tiles;

use std::collections::HashMap;

use burn::tensor::{DType, Device, Int, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use self::tiles::{COLUMNS, ROWS, STRIDE, UNITS};
use super::launch::{bytes, empty, moves};
use super::{cube, plain};
use crate::device;
use crate::ops::{AttentionConfig, indices};

/// What the kernels know when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Layout {
    /// Rows of the micro-batch, and positions in each.
    rows: usize,
    length: usize,
    /// Heads of queries, heads of keys and values, and their width.
    heads: usize,
    kv_heads: usize,
    width: usize,
    /// Keys that a query sees at most.
    window: usize,
    capped: bool,
}

impl Layout {
    fn of(config: AttentionConfig, (rows, length): (usize, usize)) -> Self {
        Self {
            rows,
            length,
            heads: config.heads.queries,
            kv_heads: config.heads.kv_heads,
            width: config.heads.width,
            window: config.window.unwrap_or(length).min(length),
            capped: config.soft_cap.is_some(),
        }
    }

    /// Numbers of a token: its queries, keys and values.
    fn stride(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    /// Numbers of the queries of a token.
    fn wide(&self) -> usize {
        self.heads * self.width
    }

    /// Tiles of the queries of a row, and of its keys.
    fn query_tiles(&self) -> usize {
        self.length.div_ceil(ROWS)
    }

    /// Operations of a product of queries and keys, or of weights and values, as of rows that are
    /// one document each.
    fn product_flops(&self) -> usize {
        2 * self.rows * pairs(self.length, self.window) * self.wide()
    }

    /// Where [`seen`] has the first key of each tile of queries.
    fn first_keys(&self) -> usize {
        self.rows * self.length
    }

    /// Where it has the end of the queries of each tile of keys.
    fn last_queries(&self) -> usize {
        self.first_keys() + self.rows * self.query_tiles()
    }
}

/// Pairs of a query and a key that it sees, in a document of so many tokens.
fn pairs(length: usize, window: usize) -> usize {
    let window = window.min(length);
    window * (window + 1) / 2 + (length - window) * window
}

/// Whether a device has the room in workgroups that they take.
pub fn fits(device: &Device) -> bool {
    let client = &cube(Tensor::<1>::empty([1], device)).client;
    let shared = (2 * ROWS + COLUMNS) * STRIDE + 3 * ROWS;
    let hardware = &client.properties().hardware;
    4 * shared <= hardware.max_shared_memory_size && hardware.max_units_per_cube as usize >= UNITS
}

/// What the kernels look up: the number of the document of each position; the first key that any
/// query of a tile sees; and where the queries end that see any key of a tile.
pub fn seen(
    numbers: &[u32],
    length: usize,
    window: Option<usize>,
    device: &Device,
) -> Tensor<1, Int> {
    let places = extents(numbers, length, window.unwrap_or(length).min(length));
    let small = |place: usize| u32::try_from(place).expect("rows stay below 2^32 positions");
    let places = places.into_iter().flatten().map(small);
    indices(numbers.iter().copied().chain(places), device)
}

/// The first key of each tile of queries, and the end of the queries of each tile of keys, row
/// after row.
fn extents(numbers: &[u32], length: usize, window: usize) -> [Vec<usize>; 2] {
    let (mut first_keys, mut last_queries) = (Vec::new(), Vec::new());
    for row in numbers.chunks(length.max(1)) {
        let mut places: HashMap<u32, (usize, usize)> = HashMap::new();
        for (place, number) in row.iter().enumerate() {
            places.entry(*number).or_insert((place, place)).1 = place;
        }
        for (tile, queries) in row.chunks(ROWS).enumerate() {
            let here = (tile * ROWS..).zip(queries);
            let first = |(query, number): (usize, &u32)| {
                places[number].0.max((query + 1).saturating_sub(window))
            };
            let last = |(key, number): (usize, &u32)| (places[number].1 + 1).min(key + window);
            first_keys.push(here.clone().map(first).min().unwrap_or(0));
            last_queries.push(here.map(last).max().unwrap_or(0));
        }
    }
    [first_keys, last_queries]
}

fn integers(seen: &Tensor<1, Int>) -> CubeTensor {
    seen.clone().try_into_primitive::<CubeBackend>().expect("it is where the queries are")
}

/// A grid of tiles, heads and rows.
fn tiles(of: Layout, heads: usize) -> CubeCount {
    let count = |number: usize| u32::try_from(number).expect("they are few");
    CubeCount::Static(count(of.query_tiles()), count(heads), count(of.rows))
}

fn units() -> CubeDim {
    CubeDim::new_1d(u32::try_from(UNITS).expect("they are few"))
}

/// What is mixed, `[tokens, queries]`, of queries, keys and values beside each other. `seen` is
/// that of the documents.
pub fn forward(
    qkv: Tensor<2>,
    seen: &Tensor<1, Int>,
    config: AttentionConfig,
    rows: (usize, usize),
) -> Tensor<2> {
    let (qkv, of) = (into_contiguous(cube(qkv)), Layout::of(config, rows));
    let mixed = empty(&qkv, [of.rows * of.length, config.query_width()], DType::F32);
    let (client, seen) = (qkv.client.clone(), integers(seen));
    moves("FusedAttention", &[&qkv, &seen], &[&mixed], 2 * of.product_flops());
    forward::fused_attention::launch(
        &client,
        tiles(of, of.heads),
        units(),
        qkv.into_buffer_arg(),
        seen.into_buffer_arg(),
        mixed.clone().into_buffer_arg(),
        config.scale,
        config.soft_cap.unwrap_or(1.0),
        of,
    );
    plain(mixed)
}

/// The gradient of queries, keys and values beside each other, from that of what is mixed.
pub fn backward(
    qkv: Tensor<2>,
    d: Tensor<2>,
    seen: &Tensor<1, Int>,
    config: AttentionConfig,
    rows: (usize, usize),
) -> Tensor<2> {
    let (qkv, d) = (into_contiguous(cube(qkv)), into_contiguous(cube(d)));
    let (of, seen) = (Layout::of(config, rows), integers(seen));
    let d_qkv = empty(&qkv, [of.rows * of.length, of.stride()], DType::F32);
    let of_queries = empty(&qkv, [2 * of.rows * of.length * of.heads], DType::F32);
    let (client, cap) = (qkv.client.clone(), config.soft_cap.unwrap_or(1.0));
    // Each writes its part of the gradient.
    let of_queries_alone = 4 * of.rows * of.length * of.wide();
    let read = bytes(&qkv) + bytes(&d) + bytes(&seen);
    let written = bytes(&of_queries) + of_queries_alone;
    device::launching("FusedAttentionQueries", read + written, 5 * of.product_flops());
    backward::fused_attention_queries::launch(
        &client,
        tiles(of, of.heads),
        units(),
        qkv.clone().into_buffer_arg(),
        d.clone().into_buffer_arg(),
        seen.clone().into_buffer_arg(),
        d_qkv.clone().into_buffer_arg(),
        of_queries.clone().into_buffer_arg(),
        config.scale,
        cap,
        of,
    );
    let written = bytes(&d_qkv) - of_queries_alone;
    let moved = read + bytes(&of_queries) + written;
    device::launching("FusedAttentionKeys", moved, 4 * of.product_flops());
    backward::fused_attention_keys::launch(
        &client,
        tiles(of, of.kv_heads),
        units(),
        qkv.into_buffer_arg(),
        d.into_buffer_arg(),
        seen.into_buffer_arg(),
        of_queries.into_buffer_arg(),
        d_qkv.clone().into_buffer_arg(),
        config.scale,
        cap,
        of,
    );
    plain(d_qkv)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiles end where the queries of their keys do, and nobody looks before the first key of any.
    #[test]
    fn tiles_go_no_further_than_documents_and_windows() {
        let numbers = [[1; 70].as_slice(), &[2; 60], &[0; 20]].concat();
        let [first_keys, last_queries] = extents(&numbers, 150, 150);
        assert_eq!(first_keys, [0, 0, 70]);
        assert_eq!(last_queries, [70, 130, 150]);
        let [first_keys, last_queries] = extents(&numbers, 150, 10);
        assert_eq!(first_keys, [0, 55, 119]);
        assert_eq!(last_queries, [70, 130, 150]);
        // Of two rows each has tiles of its own.
        let [first_keys, last_queries] = extents(&[[3; 4], [5; 4]].concat(), 4, 4);
        assert_eq!((first_keys, last_queries), (vec![0, 0], vec![4, 4]));
    }
}
