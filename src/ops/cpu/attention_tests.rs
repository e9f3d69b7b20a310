//! Blocks against tensor operations.

use burn::tensor::Device;

use super::*;
use crate::config::Kernels;
use crate::ops::{AttentionInputs, Branch, Documents, attend, attend_backward, host};
use crate::random::Stream;

/// Padding before documents around the sizes of blocks and panels.
fn documents() -> (Documents, usize) {
    let lengths = [1, 47, 48, 49, 64, 65, 330, 3];
    let mut numbers: Vec<u32> = vec![0; 5];
    for (number, length) in (1..).zip(lengths) {
        numbers.extend(std::iter::repeat_n(number, length));
    }
    (Documents::new(&numbers, 1, numbers.len()), numbers.len())
}

/// The same, of which two go on in several ways.
fn branched() -> (Documents, usize) {
    let (documents, tokens) = documents();
    let branch = |document, places, hidden| Branch { document, places, hidden };
    let branches = vec![
        branch(4, 40..64, 20..40),
        branch(6, 100..110, 50..100),
        branch(6, 110..250, 50..110),
        branch(6, 250..330, 50..250),
    ];
    (documents.with_branches(branches), tokens)
}

/// Zero for padding: what it gets is left open.
fn random(tokens: usize, features: usize, name: &str) -> Tensor<2> {
    let stream = Stream::new(6).site(name);
    #[expect(clippy::cast_possible_truncation)]
    let numbers = (0..(tokens * features) as u64).map(|i| match i / features as u64 {
        0..5 => 0.0,
        _ => stream.normal(i) as f32,
    });
    from_vec(numbers.collect(), [tokens, features], &Device::flex())
}

#[test]
fn blocks_compute_what_tensor_operations_compute() {
    for (documents, tokens) in [documents(), branched()] {
        blocks_compute_what_tensor_operations_do(&documents, tokens);
    }
}

fn blocks_compute_what_tensor_operations_do(documents: &Documents, tokens: usize) {
    for (queries, kv_heads, width, window, soft_cap, with_sinks) in [
        (4, 2, 16, None, None, false),
        (3, 1, 10, Some(7), None, true),
        (2, 2, 64, Some(70), Some(1.2), false),
        (2, 1, 8, Some(1), None, false),
        (4, 1, 12, None, Some(0.4), true),
        (2, 1, 70, Some(130), None, true),
    ] {
        let heads = Heads { queries, kv_heads, width };
        let config = AttentionConfig { window, soft_cap, ..AttentionConfig::of(heads) };
        let [q, d] = ["q", "d"].map(|name| random(tokens, queries * width, name));
        let [k, v] = ["k", "v"].map(|name| random(tokens, kv_heads * width, name));
        let sinks = random(tokens, queries, "sinks").narrow(0, 9, 1).reshape([queries]);
        let sinks = with_sinks.then_some(sinks);
        let computing = ComputeConfig { kernels: Kernels::Portable, ..ComputeConfig::default() };
        let inputs = AttentionInputs { qkv: [&q, &k, &v], sinks: sinks.as_ref() };
        let mixed = attend(inputs, config, documents, computing);
        let back = attend_backward(inputs, &d, config, documents, computing);

        let [q, k, v, d] = [q, k, v, d].map(host);
        let sinks = sinks.map(host);
        let (branches, documents) = (documents.branches(), documents.spans());
        let left = |x| Left::<F32>::from_numbers(x, tokens);
        let [q, k, v, d] = [q, k, v, d].map(left);
        let sinks = sinks.as_deref();
        let (q, k, v) = (&q, &k, &v);
        let blocks = Attention { q, k, v, sinks, config, documents, branches, wanted: None };
        let output = blocks.forward();
        let gradients = blocks.backward(&output, &d, [None; 2]);
        let output = output.output.into_numbers();
        let near = |what: &str, ours: &[f32], reference: Vec<f32>| {
            assert_eq!(ours.len(), reference.len());
            let far = ours.iter().zip(&reference).map(|(a, b)| (a - b).abs());
            assert!(far.fold(0.0, f32::max) < 2e-5, "{what} of {config:?}");
        };
        near("output", &output, host(mixed));
        let ours = gradients.qkv.map(Left::into_numbers);
        for (ours, (what, reference)) in ours.iter().zip(["q", "k", "v"].iter().zip(back.qkv)) {
            near(what, ours, host(reference));
        }
        let of_sinks = back.sinks.map(host);
        assert_eq!(gradients.sinks.is_some(), of_sinks.is_some());
        near("sinks", &gradients.sinks.unwrap_or_default(), of_sinks.unwrap_or_default());
    }
}

/// Keys and values outside of the windows of the queries that are wanted are no numbers: nothing is
/// computed of them, forward or backward.
#[test]
fn what_lies_outside_of_windows_is_not_touched() {
    let (length, window) = (700, 100);
    let heads = Heads { queries: 2, kv_heads: 1, width: 8 };
    let config = AttentionConfig { window: Some(window), ..AttentionConfig::of(heads) };
    let [q, d] = ["q", "d"].map(|name| random(length, 16, name));
    let [k, v] = ["k", "v"].map(|name| random(length, 8, name));
    let spoilt = |x: Tensor<2>| {
        let mut numbers = host(x);
        numbers[..8 * 500].fill(f32::NAN);
        numbers
    };
    let (k, v) = (spoilt(k), spoilt(v));
    let wanted: Vec<u32> = (640..700).collect();
    let mut d = host(d);
    d[..16 * 640].fill(0.0);
    let left = |x| Left::<F32>::from_numbers(x, length);
    let [q, k, v, d] = [host(q), k, v, d].map(left);
    let (documents, wanted) = ([(0, length)], Some(wanted.as_slice()));
    let (documents, branches) = (documents.as_slice(), &[][..]);
    let (q, k, v) = (&q, &k, &v);
    let blocks = Attention { q, k, v, sinks: None, config, documents, branches, wanted };
    let mixed = blocks.forward();
    let gradients = blocks.backward(&mixed, &d, [None; 2]);
    let [dq, dk, dv] = gradients.qkv.map(Left::into_numbers);
    for numbers in [mixed.output.into_numbers(), dq, dk, dv] {
        assert!(numbers.iter().all(|number| number.is_finite()));
        assert!(numbers.iter().any(|number| *number != 0.0));
    }
}
