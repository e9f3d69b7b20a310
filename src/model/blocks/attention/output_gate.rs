//! A gate of what attention mixes, which the linear layer of the queries makes beside them: in each
//! head first a query, then what its output is multiplied with, through a sigmoid (Qiu et al. 2025,
//! arXiv:2505.06708).

use burn::tensor::{Tensor, activation::sigmoid};

use crate::model::blocks::Setting;
use crate::ops::Heads;
use crate::ops::cpu::{AsLhs, Left, View, sigmoid_gated, sigmoid_gated_backward};

/// Queries and gate, `[tokens, queries · width]` each, of what the linear layer gave.
pub fn split(both: Tensor<2>, heads: Heads) -> [Tensor<2>; 2] {
    let [tokens, wide] = both.dims();
    let both: Tensor<4> = both.reshape([tokens, heads.queries, 2, heads.width]);
    [0, 1].map(|part| both.clone().narrow(2, part, 1).reshape([tokens, wide / 2]))
}

/// What the gate lets through.
pub fn gated(mixed: Tensor<2>, gate: Option<Tensor<2>>) -> Tensor<2> {
    match gate {
        Some(gate) => mixed * sigmoid(gate),
        None => mixed,
    }
}

/// [`split`] of the numbers on the CPU: queries in 32 bits, and the gate as a factor.
pub fn split_on_cpu<F: AsLhs>(both: View<f32>, heads: Heads) -> (Vec<f32>, Left<F>) {
    let width = heads.width;
    let mut queries = Vec::with_capacity(both.rows * heads.queries * width);
    for row in (0..both.rows).map(|row| both.row(row)) {
        queries.extend(row.chunks_exact(2 * width).flat_map(|head| &head[..width]));
    }
    let gate = Left::with(both.rows, heads.queries * width, |row, target| {
        let heads = both.row(row).chunks_exact(2 * width);
        for (target, head) in target.chunks_exact_mut(width).zip(heads) {
            crate::ops::cpu::convert::<F, _>(&head[width..], target);
        }
    });
    (queries, gate)
}

/// The gradients of queries and gate beside each other, as the linear layer gave them.
pub fn joined<F: AsLhs>(queries: &Left<F>, gate: &Left<F>, heads: Heads) -> Left<F> {
    let width = heads.width;
    let rows = queries.view().rows;
    Left::with(rows, 2 * heads.queries * width, |row, target| {
        let (queries, gate) = (queries.view(), gate.view());
        let parts = queries.row(row).chunks_exact(width).zip(gate.row(row).chunks_exact(width));
        for (target, (query, gate)) in target.chunks_exact_mut(2 * width).zip(parts) {
            target[..width].copy_from_slice(query);
            target[width..].copy_from_slice(gate);
        }
    })
}

/// What the gate lets through, of the tokens that are wanted.
pub fn passed<F: AsLhs>(mixed: &Left<F>, gate: &Left<F>, setting: Setting) -> Left<F> {
    match setting.wanted {
        Some(rows) => sigmoid_gated(&mixed.picked(rows), &gate.picked(rows)),
        None => sigmoid_gated(mixed, gate),
    }
}

/// The gradients of what was mixed and of the gate, of all tokens, from that of what [`passed`]
/// gave.
pub fn passed_backward<F: AsLhs>(
    mixed: &Left<F>,
    gate: &Left<F>,
    d: &Left<F>,
    setting: Setting,
) -> [Left<F>; 2] {
    let Some(rows) = setting.wanted else { return sigmoid_gated_backward(mixed, gate, d) };
    let all = mixed.view().rows;
    let found = sigmoid_gated_backward(&mixed.picked(rows), &gate.picked(rows), d);
    found.map(|d| d.spread(rows, all))
}
