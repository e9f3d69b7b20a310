//! Attention of one more token of each of several texts, by the kernels of the CPU.

use super::AttentionOnCpu;
use super::output_gate::split_on_cpu;
use super::qkv::QkvOnCpu;
use crate::ops::cpu::{
    CachedKeys, F32, Left, View, attend_next, decode_outputs, each, sigmoid_gated,
};

/// Adds what it gives for `x: [texts, hidden]` to a target, and the keys and values of these tokens
/// to the caches of the texts; keys are the layer's own.
pub fn decode_attention(
    of: &AttentionOnCpu,
    x: View<f32>,
    target: &mut [f32],
    mut caches: Vec<&mut CachedKeys>,
    rounds: bool,
) {
    let (config, rows) = (of.config, x.rows);
    let (q, keys_values) = match &of.qkv {
        QkvOnCpu::Joint(joint) => {
            let [q, k, v] = joint.decode(x, rounds);
            let turned = [(1, &k), (2, &v)].map(|(number, y)| {
                of.turned::<F32>(number, View::new(y, rows, config.key_width())).1
            });
            (q, turned)
        }
        QkvOnCpu::KeysAsValues(joint) => {
            let [q, k] = joint.decode(x, rounds);
            let y = View::new(&k, rows, config.key_width());
            (q, of.keys_as_values::<F32>(y).map(|turned| turned.1))
        }
        QkvOnCpu::Queries(_) => unreachable!("keys are its own"),
    };
    let (mut q, mut gate) = (View::new(&q, rows, q.len() / rows), None);
    let queries;
    if of.gated {
        let parts = split_on_cpu::<F32>(q, config.heads);
        (queries, gate) = (parts.0, Some(parts.1));
        q = View::new(&queries, rows, config.query_width());
    }
    let (_, q) = of.turned::<F32>(0, q);
    let [keys, values] = keys_values.each_ref().map(Left::view);
    each(caches.iter_mut().enumerate().collect(), |(text, cache)| {
        cache.push(keys.row(text), values.row(text), config.window);
    });
    let seen: Vec<&CachedKeys> = caches.iter().map(|cache| &**cache).collect();
    let sinks = of.sinks.as_ref().map(|sinks| sinks.values.single());
    let mut mixed = Left::<F32>::from_numbers(attend_next(q.view(), &seen, sinks, config), rows);
    if let Some(gate) = &gate {
        mixed = sigmoid_gated(&mixed, gate);
    }
    let [y] = decode_outputs([&of.output], mixed.view(), rounds);
    target.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
}
