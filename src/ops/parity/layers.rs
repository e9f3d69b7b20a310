//! What the layers of a model are made of, in the sizes and combinations in which they have it.

use burn::tensor::Device;

use super::{Outputs, leaf, random, with_gradients};
use crate::device::ComputeConfig;
use crate::ops::{Activation, gate_factor, host, low_rank, product, project, rms_norm_factor};

/// Sizes that reach the kernels of real layers: of many tiles, not of whole ones, with few columns
/// and with little to sum over, from both sides.
pub(super) fn layer_products(device: &Device, computing: ComputeConfig) -> Outputs {
    let sizes = [
        ("wide", [192, 200, 328]),
        ("few columns", [260, 520, 16]),
        ("little to sum over", [130, 16, 264]),
        ("many to sum over", [16, 1030, 96]),
    ];
    let each = sizes.into_iter().map(|(name, [rows, inner, columns])| {
        let (a, b) = (random([rows, inner], "a", device), random([inner, columns], "b", device));
        (name, host(product(a, b, computing.arithmetic)))
    });
    let mut all: Outputs = each.collect();
    let (a, b) = (random([200, 192], "a", device), random([328, 200], "b", device));
    let across = product(a.transpose(), b.transpose(), computing.arithmetic);
    all.push(("both transposed", host(across)));
    let (a, b) = (random([3, 2, 70, 64], "a", device), random([3, 2, 130, 64], "b", device));
    all.push(("batched", host(product(a, b.transpose(), computing.arithmetic))));
    all
}

/// A frozen projection with an addition of low rank, as adapters have it.
pub(super) fn adapted(device: &Device, computing: ComputeConfig) -> Outputs {
    const SCALE: f64 = 0.5;
    let (x, w) = (leaf([70, 72], "x", device), random([136, 72], "w", device));
    // A rank of more than a tile, and not of whole ones.
    let (a, b) = (leaf([40, 72], "a", device), leaf([136, 40], "b", device));
    let y = low_rank(&x, &w, (&a, &b, SCALE), computing).unwrap_or_else(|| {
        let hidden = project(x.clone(), a.clone(), computing);
        let more = project(hidden, b.clone(), computing).mul_scalar(SCALE);
        project(x.clone(), w.clone(), computing) + more
    });
    let d = random([70, 136], "d", device);
    let mut outputs = vec![("forward", host(y.clone().inner()))];
    let mut tape = (y * d).backward();
    for (name, leaf) in [("d x", x), ("d a", a), ("d b", b)] {
        outputs.push((name, leaf.grad_remove(&mut tape).map(host).unwrap_or_default()));
    }
    outputs
}

/// What is rounded once for several products, forward and backward.
pub(super) fn factors(device: &Device, computing: ComputeConfig) -> Outputs {
    let (x, gain) = (leaf([70, 96], "x", device), random([96], "gain", device));
    let (up, w) = (leaf([70, 96], "up", device), random([40, 96], "w", device));
    let normed = rms_norm_factor(x.clone(), gain, 1e-5, computing.arithmetic);
    let to_gate = project(normed, random([96, 96], "v", device), computing);
    let through = gate_factor(Activation::Silu, to_gate, up.clone(), computing.arithmetic);
    with_gradients(project(through, w, computing), [("d x", x), ("d up", up)])
}
