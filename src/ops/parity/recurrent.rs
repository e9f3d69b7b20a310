//! What goes through documents from their beginning.

use burn::tensor::{Device, activation::sigmoid};

use super::{Outputs, leaf, random, with_gradients};
use crate::device::ComputeConfig;
use crate::ops::{
    DeltaHeads, DeltaInputs, Documents, causal_convolution, delta_step, gated_delta_rule, host,
    log_decay,
};

const HEADS: DeltaHeads = DeltaHeads { keys: 2, key_width: 8, values: 4, value_width: 6 };

/// Padding, documents of several chunks and of less than one.
fn documents() -> Documents {
    let lengths = [(1, 130), (0, 2), (2, 5), (3, 64)];
    let numbers: Vec<u32> = lengths
        .into_iter()
        .flat_map(|(number, count)| std::iter::repeat_n(number, count))
        .collect();
    Documents::new(&numbers, 1, numbers.len())
}

/// The convolution with the gradients of input and weight.
pub fn convolution(device: &Device, _: ComputeConfig) -> Outputs {
    let documents = documents();
    let x = leaf([documents.length, 12], "x", device);
    let weight = leaf([12, 4], "weight", device);
    let y = causal_convolution(x.clone(), &weight, &documents);
    with_gradients(y, [("d x", x), ("d weight", weight)])
}

/// The gated delta rule with the gradients of queries, keys and values, and of what the strength of
/// writing is made of.
pub fn delta_rule(device: &Device, computing: ComputeConfig) -> Outputs {
    let documents = documents();
    let tokens = documents.length;
    let qkv = leaf([tokens, HEADS.wide()], "qkv", device);
    let strength = leaf([tokens, HEADS.values], "beta", device);
    let rate = random([1, HEADS.values], "rate", device).reshape([HEADS.values]);
    let inputs = DeltaInputs {
        qkv: qkv.clone(),
        log_decay: log_decay(strength.clone(), &rate, &rate),
        beta: sigmoid(strength.clone()),
    };
    let y = gated_delta_rule(inputs, HEADS, &documents, computing);
    with_gradients(y, [("d qkv", qkv), ("d strength", strength)])
}

/// A token more, and the states after it.
pub fn delta_rule_step(device: &Device, _: ComputeConfig) -> Outputs {
    let inputs = DeltaInputs {
        qkv: random([3, HEADS.wide()], "qkv", device),
        log_decay: random([3, HEADS.values], "decay", device).abs().neg(),
        beta: sigmoid(random([3, HEADS.values], "beta", device)),
    };
    let state = [3, HEADS.values, HEADS.key_width, HEADS.value_width];
    let (y, state) = delta_step(inputs, HEADS, random(state, "state", device));
    vec![("forward", host(y)), ("state", host(state))]
}
