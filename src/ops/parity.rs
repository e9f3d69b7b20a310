//! The table of operations with what each computes from fixed numbers, forward and backward, so
//! that a device can be compared with the CPU. A new operation adds a line.

mod codes;
mod layers;
mod recurrent;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, IndexingUpdateOp, Tensor};

use crate::device::{Arithmetic, ComputeConfig, Failure, attempt};
use crate::ops::{
    Activation, AttentionConfig, AttentionInputs, Documents, Frequencies, Heads, RopeScaling,
    attend, attend_backward, attend_cached, from_vec, gate, host, indices, product, project,
    rms_norm, rms_norm_backward, rotate,
};
use crate::random::Stream;

/// What an operation gave: name and numbers of each output or gradient.
pub type Outputs = Vec<(&'static str, Vec<f32>)>;

/// An operation.
pub struct Operation {
    /// For people.
    pub name: &'static str,
    /// How far a device may be from the CPU, relative to the largest number of each output. Sums
    /// are made in another order there, and exponentials are approximated otherwise.
    pub tolerance: f64,
    /// The arithmetic that it is for; all of those for 32 bits are compared in 32 bits.
    pub arithmetic: Arithmetic,
    /// Computes it.
    pub run: fn(&Device, ComputeConfig) -> Outputs,
}

/// One output of an operation on two devices.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Compared {
    /// The operation.
    pub operation: String,
    /// Which output or gradient.
    pub output: String,
    /// Largest difference, relative to the largest number; infinite if something is not a number.
    #[serde(deserialize_with = "infinite")]
    pub error: f64,
    /// What it may be.
    pub tolerance: f64,
    /// Why there is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// JSON has `null` for numbers that are not finite.
fn infinite<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let number: Option<f64> = serde::Deserialize::deserialize(from)?;
    Ok(number.unwrap_or(f64::INFINITY))
}

impl Compared {
    /// Whether the device is near enough.
    pub fn is_right(&self) -> bool {
        self.error <= self.tolerance
    }
}

const fn operation(
    name: &'static str,
    tolerance: f64,
    run: fn(&Device, ComputeConfig) -> Outputs,
) -> Operation {
    Operation { name, tolerance, arithmetic: Arithmetic::F32, run }
}

impl Operation {
    const fn by(self, arithmetic: Arithmetic) -> Self {
        Self { arithmetic, ..self }
    }
}

/// Every operation.
pub static OPERATIONS: &[Operation] = &[
    operation("upload and read", 0.0, upload),
    operation("elementwise", 1e-6, elementwise),
    operation("sums and maxima", 1e-5, reductions),
    operation("rows by number", 0.0, select),
    operation("rows added by number", 1e-6, select_add),
    operation("columns by number", 0.0, gather),
    operation("parts and joins", 0.0, parts),
    operation("product", 1e-5, products),
    operation("batched product", 1e-5, batched),
    operation("products as layers have them", 1e-5, layers::layer_products),
    operation("projection", 1e-5, projection),
    operation("projection of low rank", 1e-5, layers::adapted),
    operation("projections of one input", 1e-5, layers::together),
    operation("numbers of codes", 0.0, codes::numbers),
    operation("projections by codes", 1e-5, codes::products),
    operation("rms norm", 1e-5, norm),
    operation("rotary", 1e-6, rotary),
    operation("rotary of all heads", 1e-6, layers::rotary_beside),
    operation("gate", 1e-5, silu_gate),
    operation("gate by GELU", 1e-5, gelu_gate),
    operation("softmax", 1e-5, soft),
    operation("attention", 2e-5, attention),
    operation("attention over tiles", 2e-5, layers::long_attention),
    operation("attention of wide heads", 2e-5, layers::wide_attention),
    operation("attention in a window", 2e-5, windowed),
    operation("attention with a cap", 2e-5, capped),
    operation("attention with sinks", 2e-5, sinking),
    operation("attention over a cache", 2e-5, cached),
    operation("convolution", 1e-5, recurrent::convolution),
    operation("gated delta rule", 5e-5, recurrent::delta_rule),
    operation("gated delta rule, a token", 1e-5, recurrent::delta_rule_step),
    operation("product of f16", 2e-3, products).by(Arithmetic::MixedF16),
    operation("f16 formats", 1e-3, formats).by(Arithmetic::MixedF16),
    operation("products of f16 as layers have them", 2e-3, layers::layer_products)
        .by(Arithmetic::MixedF16),
    operation("projection of low rank in f16", 4e-3, layers::adapted).by(Arithmetic::MixedF16),
    operation("projections of one input in f16", 6e-3, layers::together).by(Arithmetic::MixedF16),
    operation("numbers of codes in f16", 1e-3, codes::factors).by(Arithmetic::MixedF16),
    operation("projections by codes in f16", 6e-3, codes::products).by(Arithmetic::MixedF16),
    operation("norm and gate in f16", 2e-3, layers::factors).by(Arithmetic::MixedF16),
    operation("attention of f16", 4e-3, attention).by(Arithmetic::MixedF16),
    operation("product of bfloat16", 2e-2, products).by(Arithmetic::MixedBf16),
];

/// Compares an operation on a device with the CPU; one line for each output.
pub fn compare(operation: &Operation, device: &Device, computing: ComputeConfig) -> Vec<Compared> {
    let computing = ComputeConfig { arithmetic: operation.arithmetic, ..computing };
    let run =
        |device: &Device| attempt(*device != Device::flex(), || (operation.run)(device, computing));
    let reference = (operation.run)(&Device::flex(), computing);
    compare_outputs(operation.name, operation.tolerance, run(device), reference)
}

/// Compares outputs one by one.
pub fn compare_outputs(
    operation: &str,
    tolerance: f64,
    ours: Result<Outputs, Failure>,
    reference: Outputs,
) -> Vec<Compared> {
    let line = |output: &str, error: f64, failure: Option<String>| Compared {
        operation: operation.to_owned(),
        output: output.to_owned(),
        error,
        tolerance,
        failure,
    };
    match ours {
        Ok(ours) => ours
            .iter()
            .zip(&reference)
            .map(|((name, ours), (_, reference))| line(name, difference(ours, reference), None))
            .collect(),
        Err(Failure::Memory(why) | Failure::Other(why)) => {
            vec![line("all", f64::INFINITY, Some(why))]
        }
    }
}

/// Largest difference, relative to the largest number of the reference.
pub fn difference(ours: &[f32], reference: &[f32]) -> f64 {
    if ours.len() != reference.len() {
        return f64::INFINITY;
    }
    let largest = reference.iter().fold(0.0_f64, |max, x| max.max(f64::from(x.abs())));
    let mut most = 0.0_f64;
    for (a, b) in ours.iter().zip(reference) {
        let difference = (f64::from(*a) - f64::from(*b)).abs();
        if !difference.is_finite() && a.to_bits() != b.to_bits() {
            return f64::INFINITY;
        }
        if difference.is_finite() {
            most = most.max(difference);
        }
    }
    if most == 0.0 { 0.0 } else { most / largest.max(f64::MIN_POSITIVE) }
}

fn random<const D: usize>(shape: [usize; D], name: &str, device: &Device) -> Tensor<D> {
    let stream = Stream::new(11).site(name);
    let count: usize = shape.iter().product();
    #[expect(clippy::cast_possible_truncation)] // f32 is wanted
    let values = (0..count as u64).map(|i| stream.normal(i) as f32).collect();
    from_vec(values, shape, device)
}

fn leaf<const D: usize>(shape: [usize; D], name: &str, device: &Device) -> Tensor<D> {
    random(shape, name, device).autodiff().require_grad()
}

/// The output, and the gradients of the leaves for a random gradient of the output.
fn with_gradients<const D: usize, const E: usize>(
    output: Tensor<D>,
    leaves: [(&'static str, Tensor<E>); 2],
) -> Outputs {
    let device = output.device().inner();
    let d = random(output.dims(), "d", &device);
    let mut outputs = vec![("forward", host(output.clone().inner()))];
    let mut tape = (output * d).backward();
    for (name, leaf) in leaves {
        if let Some(gradient) = leaf.grad_remove(&mut tape) {
            outputs.push((name, host(gradient)));
        }
    }
    outputs
}

fn upload(device: &Device, _: ComputeConfig) -> Outputs {
    vec![("round trip", host(random([7, 13], "x", device)))]
}

fn elementwise(device: &Device, _: ComputeConfig) -> Outputs {
    let (x, y) = (leaf([33, 17], "x", device), leaf([33, 17], "y", device));
    let z = x.clone() * y.clone() + x.clone().mul_scalar(0.5) - y.clone();
    let z = z / (x.clone().square().add_scalar(1.0).sqrt());
    with_gradients(z, [("d x", x), ("d y", y)])
}

fn reductions(device: &Device, _: ComputeConfig) -> Outputs {
    let x = random([19, 301], "x", device);
    vec![
        ("sum of rows", host(x.clone().sum_dim(1))),
        ("sum of columns", host(x.clone().sum_dim(0))),
        ("mean of rows", host(x.clone().mean_dim(1))),
        ("maximum of rows", host(x.clone().max_dim(1))),
        ("sum of all squares", host(x.square().sum())),
    ]
}

fn select(device: &Device, _: ComputeConfig) -> Outputs {
    let rows = indices([5, 0, 31, 5, 17, 2].into_iter(), device);
    vec![("rows", host(random([32, 24], "x", device).select(0, rows)))]
}

fn select_add(device: &Device, _: ComputeConfig) -> Outputs {
    let rows = indices([5, 0, 31, 5, 17, 5].into_iter(), device);
    let sum = random([32, 24], "x", device);
    let more = random([6, 24], "y", device);
    vec![("rows", host(sum.select_assign(0, rows, more, IndexingUpdateOp::Add)))]
}

fn gather(device: &Device, _: ComputeConfig) -> Outputs {
    let columns = indices([3, 90, 0, 41].into_iter(), device).reshape([4, 1]);
    vec![("columns", host(random([4, 91], "x", device).gather(1, columns)))]
}

fn parts(device: &Device, _: ComputeConfig) -> Outputs {
    let x = random([6, 5, 8], "x", device);
    let halves = vec![x.clone().narrow(2, 4, 4).neg(), x.clone().narrow(2, 0, 4)];
    vec![
        ("halves", host(Tensor::cat(halves, 2))),
        ("swapped", host(x.clone().swap_dims(0, 1).reshape([30, 8]))),
        ("part", host(x.slice([1..4, 2..5]))),
    ]
}

fn products(device: &Device, computing: ComputeConfig) -> Outputs {
    let (a, b) = (leaf([65, 96], "a", device), leaf([96, 40], "b", device));
    let c = product(a.clone(), b.clone(), computing.arithmetic);
    with_gradients(c, [("d a", a), ("d b", b)])
}

fn batched(device: &Device, computing: ComputeConfig) -> Outputs {
    let (a, b) = (leaf([2, 3, 33, 16], "a", device), leaf([2, 3, 29, 16], "b", device));
    let c = product(a.clone(), b.clone().transpose(), computing.arithmetic);
    with_gradients(c, [("d a", a), ("d b", b)])
}

fn projection(device: &Device, computing: ComputeConfig) -> Outputs {
    let (x, w) = (leaf([48, 64], "x", device), leaf([160, 64], "w", device));
    let y = project(x.clone(), w.clone(), computing);
    with_gradients(y, [("d x", x), ("d w", w)])
}

fn norm(device: &Device, _: ComputeConfig) -> Outputs {
    let (x, gain) = (leaf([31, 64], "x", device), leaf([64], "gain", device));
    let y = rms_norm(x.clone(), gain.clone(), 1e-5);
    let [d, past] = ["d", "past"].map(|name| random([31, 64], name, device));
    let both = [d.clone(), past];
    let and_past = rms_norm_backward(x.clone().inner(), gain.clone().inner(), 1e-5, both);
    let forward = host(y.clone().inner());
    let mut tape = (y * d).backward();
    let d_x = x.grad_remove(&mut tape).map(host);
    let d_gain = gain.grad_remove(&mut tape).map(host);
    vec![
        ("forward", forward),
        ("d x", d_x.unwrap_or_default()),
        ("d gain", d_gain.unwrap_or_default()),
        ("d x and what is past", host(and_past)),
    ]
}

fn rotary(device: &Device, _: ComputeConfig) -> Outputs {
    let frequencies = Frequencies::new(10_000.0, 16, RopeScaling::None);
    let positions: Vec<u32> = (0..24).collect();
    let rotary = frequencies.tables(&positions, &[], device);
    let x = leaf([24, 3, 16], "x", device);
    let turned = rotate(x.clone(), &rotary.keys);
    let none = leaf([1, 1, 1], "none", device);
    with_gradients(turned, [("d x", x), ("", none)])
}

fn silu_gate(device: &Device, _: ComputeConfig) -> Outputs {
    gated(Activation::Silu, device)
}

fn gelu_gate(device: &Device, _: ComputeConfig) -> Outputs {
    gated(Activation::GeluTanh, device)
}

fn gated(activation: Activation, device: &Device) -> Outputs {
    let (x, y) = (leaf([33, 48], "x", device), leaf([33, 48], "y", device));
    with_gradients(gate(activation, x.clone(), y.clone()), [("d x", x), ("d y", y)])
}

fn soft(device: &Device, _: ComputeConfig) -> Outputs {
    let (x, none) = (leaf([21, 130], "x", device), leaf([1, 1], "none", device));
    let plain = random([21, 130], "z", device).mul_scalar(4.0);
    let shifted = plain.clone() - plain.max_dim(1);
    let sums = shifted.exp().sum_dim(1).log();
    let mut outputs = with_gradients(softmax(x.clone(), 1), [("d x", x), ("", none)]);
    outputs.push(("logarithm of sums", host(sums)));
    outputs
}

const HEADS: Heads = Heads { queries: 4, kv_heads: 2, width: 8 };

fn attention(device: &Device, computing: ComputeConfig) -> Outputs {
    attended(AttentionConfig::of(HEADS), device, computing)
}

fn windowed(device: &Device, computing: ComputeConfig) -> Outputs {
    let config = AttentionConfig { window: Some(6), ..AttentionConfig::of(HEADS) };
    attended(config, device, computing)
}

fn capped(device: &Device, computing: ComputeConfig) -> Outputs {
    let config = AttentionConfig { soft_cap: Some(2.0), ..AttentionConfig::of(HEADS) };
    attended(config, device, computing)
}

fn attended(config: AttentionConfig, device: &Device, computing: ComputeConfig) -> Outputs {
    attended_with(None, config, device, computing)
}

fn sinking(device: &Device, computing: ComputeConfig) -> Outputs {
    let sinks = random([1, 4], "sinks", device).reshape([4]);
    attended_with(Some(&sinks), AttentionConfig::of(HEADS), device, computing)
}

fn attended_with(
    sinks: Option<&Tensor<1>>,
    config: AttentionConfig,
    device: &Device,
    computing: ComputeConfig,
) -> Outputs {
    let numbers: Vec<u32> = [[1; 20], [2; 20], [1; 20], [3; 20]].concat();
    let documents = Documents::new(&numbers, 2, 40);
    let [q, d] = ["q", "d"].map(|name| random([80, 32], name, device));
    let [k, v] = ["k", "v"].map(|name| random([80, 16], name, device));
    let inputs = AttentionInputs { qkv: [&q, &k, &v], sinks };
    let mixed = attend(inputs, config, &documents, computing);
    let gradients = attend_backward(inputs, &d, config, &documents, computing);
    let [dq, dk, dv] = gradients.qkv.map(host);
    let mut outputs = vec![("forward", host(mixed)), ("d q", dq), ("d k", dk), ("d v", dv)];
    outputs.extend(gradients.sinks.map(|d| ("d sinks", host(d))));
    outputs
}

fn cached(device: &Device, _: ComputeConfig) -> Outputs {
    let q = random([2, 32], "q", device);
    let [k, v] = ["k", "v"].map(|name| random([2, 19, 2, 8], name, device));
    vec![("forward", host(attend_cached(q, [k, v], None, AttentionConfig::of(HEADS))))]
}

fn formats(device: &Device, _: ComputeConfig) -> Outputs {
    let x = random([9, 64], "x", device);
    vec![("there and back", host(x.cast(FloatDType::F16).cast(FloatDType::F32)))]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CPU against itself is exact; so nothing here depends on chance or on time.
    #[test]
    fn every_operation_repeats_itself_bit_for_bit() {
        for operation in OPERATIONS {
            let found = compare(operation, &Device::flex(), ComputeConfig::default());
            assert!(!found.is_empty(), "{}", operation.name);
            for line in found {
                assert_eq!(line.error, 0.0, "{} {}", line.operation, line.output);
            }
        }
    }

    #[test]
    fn differences_are_found() {
        assert_eq!(difference(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
        assert_eq!(difference(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
        for wrong in [[f32::NAN, 2.0], [f32::INFINITY, 2.0]] {
            assert_eq!(difference(&wrong, &[1.0, 2.0]), f64::INFINITY);
        }
        assert_eq!(difference(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(difference(&[0.0], &[0.0]), 0.0);
        let failed = compare_outputs("x", 1.0, Err(Failure::Other("lost".into())), Vec::new());
        assert!(!failed[0].is_right() && failed[0].failure.as_deref() == Some("lost"));
    }
}
