//! Frozen weights as codes: products are those of the numbers that the codes stand for.

use firebrand::adapters::{ADAPTERS, attach};
use firebrand::device::{Arithmetic, ComputeConfig};
use firebrand::model::{FrozenWeights, Matrix, load_for};
use firebrand::weights::formats::{Storage, WEIGHT_FORMATS, WeightFormat};

use super::*;

/// The formats that a user may choose.
pub(super) fn formats() -> impl Iterator<Item = &'static dyn WeightFormat> {
    let chosen = |format: &&dyn WeightFormat| matches!(format.storage(), Storage::Coded(_));
    WEIGHT_FORMATS.iter().copied().filter(chosen)
}

fn coded(
    format: &'static dyn WeightFormat,
    name: &str,
    kernels: Kernels,
    arithmetic: Arithmetic,
) -> Model {
    let frozen = FrozenWeights { linears: Some(format), ..FrozenWeights::from(true) };
    let computing = ComputeConfig { kernels, arithmetic, ..ComputeConfig::default() };
    let loaded = load_for(&case(name), Init::Pretrained, &cpu(), computing, frozen).unwrap();
    by(kernels, loaded.model)
}

/// The same model with tensors in place of codes.
fn dequantised(mut model: Model) -> Model {
    let mut changed = 0;
    model.linears(&mut |_, linear| {
        assert!(matches!(linear.weight, Matrix::Coded(_)));
        linear.weight = Matrix::Tensor(Parameter::frozen(linear.values()));
        changed += 1;
    });
    assert_eq!(changed, 2 * 7);
    model
}

#[test]
fn products_are_those_of_the_dequantised_matrices() {
    let names = ["gqa-tied", "biases", "bf16-sharded"];
    for (format, name) in formats().flat_map(|format| names.map(|name| (format, name))) {
        let batch = super::expected(name).batch();
        for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16, Arithmetic::MixedF16] {
            for (kernels, kind) in
                KERNELS.into_iter().flat_map(|kernels| ADAPTERS.iter().map(move |k| (kernels, k)))
            {
                let adapted = |mut model: Model| {
                    attach(&mut model, kind.sample().as_ref(), Stream::new(1)).unwrap();
                    model
                };
                let codes = adapted(coded(format, name, kernels, arithmetic));
                let wide = adapted(dequantised(coded(format, name, kernels, arithmetic)));
                let ours = gradients(&codes, &batch, pass(&batch));
                assert_same_gradients(name, ours, gradients(&wide, &batch, pass(&batch)), 0.0);
                assert_eq!(logits(&codes, &batch), logits(&wide, &batch), "{name} {kernels}");
            }
        }
        let plain = gradients(&with_lora(name, &super::expected(name)), &batch, pass(&batch)).0;
        let mut rounded = coded(format, name, Kernels::Fast, Arithmetic::F32);
        attach(&mut rounded, ADAPTERS[0].sample().as_ref(), Stream::new(1)).unwrap();
        let rounded = gradients(&rounded, &batch, pass(&batch)).0;
        assert_ne!(plain, rounded, "{} does not hold the weights", format.name());
    }
}

/// Text is written with products of a few rows, which read the codes as they are.
#[test]
fn text_is_that_of_the_dequantised_model() {
    let name = "gqa-tied";
    let write = |model: &Model| {
        let sampling = Sampling::new(0.0, Stream::new(1), 12);
        generate(model, &[5, 9, 30], &[], sampling, &mut |_| true).unwrap().tokens
    };
    for format in formats() {
        let codes = coded(format, name, Kernels::Fast, Arithmetic::F32);
        let wide = dequantised(coded(format, name, Kernels::Fast, Arithmetic::F32));
        assert_eq!(write(&codes), write(&wide), "{}", format.name());
    }
}

/// The digest is of the names and codes of all matrices, and the same whoever makes them.
#[test]
fn the_codes_of_a_model_have_one_digest() {
    let digest = |format: &'static dyn WeightFormat, name: &str, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let frozen = FrozenWeights { linears: Some(format), ..FrozenWeights::from(true) };
        let load =
            || load_for(&case(name), Init::Pretrained, &cpu(), ComputeConfig::default(), frozen);
        pool.install(load).unwrap().quantised.unwrap()
    };
    let all: Vec<_> = formats()
        .flat_map(|format| ["gqa-tied", "biases"].map(|name| (format, name)))
        .map(|(format, name)| {
            let found = digest(format, name, 1);
            assert_eq!(found, digest(format, name, 3), "{} {name}", format.name());
            found
        })
        .collect();
    assert!((1..all.len()).all(|place| !all[..place].contains(&all[place])), "{all:?}");
}
