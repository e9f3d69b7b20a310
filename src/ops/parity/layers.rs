//! What the layers of a model are made of, in the sizes and combinations in which they have it.

use burn::tensor::{Device, Tensor};

use super::{Outputs, leaf, random, with_gradients};
use crate::device::ComputeConfig;
use crate::ops::{
    Activation, AttentionConfig, AttentionInputs, Documents, Frequencies, FrozenMatrix, Heads,
    LowRankFactors, RopeScaling, attend, attend_backward, attend_beside, attend_beside_backward,
    gate_beside, gate_factor, host, low_rank, low_rank_together, lying_together, product, project,
    rms_norm_factor, rotate, rotate_beside,
};

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
    let y = low_rank(&x, &w.clone().into(), (&a, &b, SCALE), computing).unwrap_or_else(|| {
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

/// Frozen projections of one input with additions of low rank, as one product where matrices lie
/// together; what they give goes through a gate.
pub(super) fn together(device: &Device, computing: ComputeConfig) -> Outputs {
    const SCALE: f64 = 0.5;
    let (x, w) = (leaf([70, 128], "x", device), random([192, 128], "w", device));
    let weights = [0, 96].map(|first| w.clone().narrow(0, first, 96));
    let a = ["a", "more a"].map(|name| leaf([20, 128], name, device));
    let b = ["b", "more b"].map(|name| leaf([96, 20], name, device));
    let all: Vec<LowRankFactors> = (a.iter().zip(&b))
        .map(|(a, b)| LowRankFactors { factors: [a.clone(), b.clone()], scale: SCALE })
        .collect();
    let beside = lying_together(&weights.clone().map(FrozenMatrix::from))
        .and_then(|weight| low_rank_together(&x, &weight, &all, computing));
    let y = match beside {
        Some(y) => gate_beside(Activation::Silu, &y, computing.arithmetic),
        None => None,
    };
    let y = y.unwrap_or_else(|| {
        let [gate, up] = [0, 1].map(|number| {
            let hidden = project(x.clone(), a[number].clone(), computing);
            let more = project(hidden, b[number].clone(), computing).mul_scalar(SCALE);
            project(x.clone(), weights[number].clone(), computing) + more
        });
        gate_factor(Activation::Silu, gate, up, computing.arithmetic)
    });
    // A loss by a product, which takes what is let through as it is.
    let to = random([40, 96], "to", device);
    let y = project(y, to, computing);
    let d = random([70, 40], "d", device);
    let mut outputs = vec![("forward", host(y.clone().inner()))];
    let mut tape = (y * d).backward();
    let ([a, more_a], [b, more_b]) = (a, b);
    let leaves = [("d x", x), ("d a", a), ("d more a", more_a), ("d b", b), ("d more b", more_b)];
    for (name, leaf) in leaves {
        outputs.push((name, leaf.grad_remove(&mut tape).map(host).unwrap_or_default()));
    }
    outputs
}

/// Queries and keys beside each other and before values, of which half of each head is rotated.
pub(super) fn rotary_beside(device: &Device, _: ComputeConfig) -> Outputs {
    let heads = Heads { queries: 4, kv_heads: 2, width: 16 };
    let positions: Vec<u32> = (0..24).collect();
    let rotary = Frequencies::new(10_000.0, 8, RopeScaling::None).tables(&positions, &[], device);
    let (x, none) = (leaf([24, 128], "x", device), leaf([1, 1], "none", device));
    let turned = rotate_beside(&x, &rotary, heads).unwrap_or_else(|| {
        let part = |first: usize, count: usize| {
            x.clone().narrow(1, 16 * first, 16 * count).reshape([24, count, 16])
        };
        let turned = |x: Tensor<3>, count: usize| rotate(x, &rotary.keys).reshape([24, 16 * count]);
        let [queries, keys] =
            [(0, 4), (4, 2)].map(|(first, count)| turned(part(first, count), count));
        Tensor::cat(vec![queries, keys, part(6, 2).reshape([24, 32])], 1)
    });
    with_gradients(turned, [("d x", x), ("", none)])
}

/// Attention over rows of several tiles, none of which ends with a document, of heads that are no
/// multiple of what is summed at once.
pub(super) fn long_attention(device: &Device, computing: ComputeConfig) -> Outputs {
    let heads = Heads { queries: 4, kv_heads: 2, width: 40 };
    let documents = [[1; 90].as_slice(), &[2; 47], &[0; 13], &[1; 30], &[2; 120]].concat();
    let documents = Documents::new(&documents, 2, 150);
    let [q, d] = ["q", "d"].map(|name| random([300, 160], name, device));
    let [k, v] = ["k", "v"].map(|name| random([300, 80], name, device));
    let inputs = AttentionInputs::from([&q, &k, &v]);
    let plain = AttentionConfig::of(heads);
    let capped = AttentionConfig { window: Some(37), soft_cap: Some(1.5), ..plain };
    // Padding is nobody's: what it gets is left open, and no gradient comes from it.
    let real =
        |x: Tensor<2>| Tensor::cat(vec![x.clone().narrow(0, 0, 137), x.narrow(0, 150, 150)], 0);
    let d = Tensor::cat(
        vec![d.clone().narrow(0, 0, 137), d.zeros_like().narrow(0, 0, 13), d.narrow(0, 150, 150)],
        0,
    );
    let names = [
        [(plain, ["forward", "d q", "d k", "d v"])],
        [(capped, ["in a window", "d q of it", "d k of it", "d v of it"])],
    ];
    let mut outputs = Outputs::new();
    for (config, [forward, d_q, d_k, d_v]) in names.concat() {
        let mixed = attend(inputs, config, &documents, computing);
        outputs.push((forward, host(real(mixed))));
        let gradients = attend_backward(inputs, &d, config, &documents, computing).qkv;
        for (name, gradient) in [d_q, d_k, d_v].into_iter().zip(gradients) {
            outputs.push((name, host(real(gradient))));
        }
    }
    outputs
}

/// Attention of heads that are too wide for kernels without scores, beside each other.
pub(super) fn wide_attention(device: &Device, computing: ComputeConfig) -> Outputs {
    let config = AttentionConfig::of(Heads { queries: 2, kv_heads: 1, width: 136 });
    let documents = Documents::new(&[[1; 30].as_slice(), &[2; 10]].concat(), 1, 40);
    let (qkv, d) = (random([40, 544], "qkv", device), random([40, 272], "d", device));
    let mixed = attend_beside(qkv.clone(), config, &documents, computing);
    let d_qkv = attend_beside_backward(qkv, d, config, &documents, computing);
    vec![("forward", host(mixed)), ("d q, k and v", host(d_qkv))]
}
