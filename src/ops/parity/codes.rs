//! Matrices that stay codes in the memory of a GPU: their numbers, and products with them.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::{Outputs, leaf, random, with_gradients};
use crate::device::ComputeConfig;
use crate::ops::{
    DeviceCodes, FrozenMatrix, LowRankFactors, from_vec, host, low_rank_together, lying_together,
    project, project_frozen,
};
use crate::random::Stream;
use crate::weights::Blocks;
use crate::weights::blockwise::{Blockwise, NORMAL, Scales};
use crate::weights::formats::{CodedMatrix, Storage, WEIGHT_FORMATS, dequantised};
use crate::weights::ggml::{TYPES, TensorType};
use crate::weights::mxfp4::Mxfp4;

type Named = (&'static str, Arc<dyn CodedMatrix>);

/// Codes of random numbers, in every format that a user may choose. An odd number of columns has
/// blocks, bytes and words that go on in the next row.
fn of_formats(shape: [usize; 2]) -> Vec<Named> {
    let numbers = host(random(shape, "w", &Device::flex()));
    let coded = WEIGHT_FORMATS.iter().filter_map(|format| match format.storage() {
        Storage::Coded(code) => Some((format.name(), code(&numbers, shape))),
        Storage::Tensor(_) | Storage::Numbers => None,
    });
    coded.collect()
}

/// A byte for each place.
fn bytes(name: &str, count: usize) -> Vec<u8> {
    let stream = Stream::new(11).site(name);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // less than 256
    let byte = |at: usize| (stream.uniform(at as u64) * 256.0) as u8;
    (0..count).map(byte).collect()
}

/// Random blocks of a type, three to a row; of numbers that are finite, and not so small that a GPU
/// may take them for zero.
fn of_type(kind: &'static TensorType) -> Named {
    const COUNT: usize = 3 * 5;
    let drawn = bytes(kind.name, 4 * COUNT * kind.bytes);
    let usual = |number: &f32| number.is_finite() && (*number == 0.0 || number.abs() > 1e-30);
    let all = drawn.chunks_exact(kind.bytes);
    let usual = all.filter(|block| kind.values(block).iter().all(usual));
    let blocks: Vec<u8> = usual.take(COUNT).flatten().copied().collect();
    (kind.name, Blocks::new(blocks, kind, 3 * kind.block).matrix(0, 5))
}

/// Every kind of codes that there is a kernel for.
fn all() -> Vec<Named> {
    let mut all = of_formats([129, 161]);
    // As bitsandbytes may have them, too: scales as they are.
    let scales: Vec<f32> = (1..=35_u8).map(|scale| f32::from(scale) / 7.0).collect();
    let codes = bytes("codes", 35 * 16);
    let plain = Blockwise::new([35, 32], codes, (32, Scales::Plain(scales)), &NORMAL);
    all.push(("scales in 32 bits", Arc::new(plain)));
    all.extend(TYPES.iter().filter(|kind| kind.is_quantised()).map(of_type));
    // Powers of two from a thousandth on; rows of both halves alternate.
    let scales: Vec<u8> = (0..8 * 5).map(|block| 117 + block % 20).collect();
    let experts = Mxfp4::new(bytes("experts", 8 * 5 * 16), scales, [4, 5 * 32], true);
    all.extend(experts.map(|experts| ("experts in MXFP4", experts.matrix(1))));
    all
}

/// On a GPU codes, elsewhere their numbers.
fn frozen(codes: &dyn CodedMatrix, device: &Device) -> FrozenMatrix {
    match DeviceCodes::uploaded(codes, device) {
        Some(codes) => FrozenMatrix::Codes(codes),
        None => from_vec(dequantised(codes), codes.shape(), device).into(),
    }
}

/// Numbers of all kinds of codes.
pub(super) fn numbers(device: &Device, _: ComputeConfig) -> Outputs {
    let values = |(name, codes): Named| {
        let numbers = match frozen(codes.as_ref(), device) {
            FrozenMatrix::Codes(codes) => codes.values(),
            FrozenMatrix::Numbers(numbers) => numbers,
        };
        (name, host(numbers))
    };
    all().into_iter().map(values).collect()
}

/// Rows of ones at one place each: products with them are the numbers as products take them.
pub(super) fn factors(device: &Device, computing: ComputeConfig) -> Outputs {
    let ones = |width: usize| {
        let one = |place: usize| f32::from(u8::from(place / width == place % width));
        from_vec::<2>((0..width * width).map(one).collect(), [width, width], device)
    };
    let product = |(name, codes): Named| {
        let x = ones(codes.shape()[1]);
        (name, host(project_frozen(x, &frozen(codes.as_ref(), device), computing)))
    };
    of_formats([70, 72]).into_iter().map(product).collect()
}

/// Frozen projections of one input, of codes of different kinds, with additions of low rank; and
/// one by itself, no more of it at once than a limit allows.
pub(super) fn products(device: &Device, computing: ComputeConfig) -> Outputs {
    const SCALE: f64 = 0.5;
    const ROWS: [usize; 3] = [96, 40, 56];
    let of_rows = |(number, rows): (usize, &usize)| {
        let mut formats = of_formats([*rows, 128]);
        let (_, codes) = formats.swap_remove(number % formats.len());
        frozen(codes.as_ref(), device)
    };
    let weights: Vec<_> = ROWS.iter().enumerate().map(of_rows).collect();
    let x = leaf([70, 128], "x", device);
    let a = ["a", "b", "c"].map(|name| leaf([20, 128], name, device));
    let b: Vec<_> = ROWS.iter().map(|rows| leaf([*rows, 20], "more", device)).collect();
    let all: Vec<LowRankFactors> = (a.iter().zip(&b))
        .map(|(a, b)| LowRankFactors { factors: [a.clone(), b.clone()], scale: SCALE })
        .collect();
    let beside =
        lying_together(&weights).and_then(|weight| low_rank_together(&x, &weight, &all, computing));
    let y = beside.unwrap_or_else(|| {
        let parts = weights.iter().zip(a.iter().zip(&b)).map(|(weight, (a, b))| {
            let hidden = project(x.clone(), a.clone(), computing);
            let more = project(hidden, b.clone(), computing).mul_scalar(SCALE);
            project_frozen(x.clone(), weight, computing) + more
        });
        Tensor::cat(parts.collect(), 1)
    });
    let [first, ..] = a;
    let mut outputs = with_gradients(y, [("d x", x), ("d a", first)]);
    let mut limited = computing;
    limited.limits.dispatch_flops = 2 * 30 * 128 * ROWS[0] as u64;
    let (x, none) = (leaf([70, 128], "x", device), leaf([1, 1], "none", device));
    let y = project_frozen(x.clone(), &weights[0], limited);
    outputs.extend(with_gradients(y, [("d x of parts", x), ("", none)]));
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Arithmetic;

    #[test]
    fn every_format_and_every_type_is_compared() {
        let names: Vec<&str> = all().iter().map(|(name, _)| *name).collect();
        let types = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "MXFP4"];
        let formats = ["int8", "nf4", "scales in 32 bits"];
        assert_eq!(names, [&formats[..], &types[..], &["experts in MXFP4"]].concat());
        for (name, codes) in all() {
            let packed = codes.packed().unwrap();
            let count = packed.iter().map(|part| part.numbers()).sum::<usize>();
            assert_eq!(count, codes.shape().iter().product::<usize>(), "{name}");
            assert!(dequantised(codes.as_ref()).iter().all(|number| number.is_finite()), "{name}");
        }
    }

    /// Rounding to 16 bits is all that a product with ones does.
    #[test]
    fn products_with_ones_are_the_numbers() {
        for arithmetic in [Arithmetic::F32, Arithmetic::MixedF16] {
            let computing = ComputeConfig { arithmetic, ..ComputeConfig::default() };
            let found = factors(&Device::flex(), computing);
            for ((name, codes), (_, found)) in of_formats([70, 72]).into_iter().zip(found) {
                let numbers = dequantised(codes.as_ref()).into_iter().map(|x| match arithmetic {
                    Arithmetic::F32 => x,
                    _ => half::f16::from_f32(x).to_f32(),
                });
                let numbers = from_vec::<2>(numbers.collect(), [70, 72], &Device::flex());
                assert_eq!(host(numbers.transpose()), found, "{name}");
            }
        }
    }
}
