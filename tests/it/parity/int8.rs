//! Frozen weights in int8: products are those of the numbers that the codes stand for.

use firebrand::adapters::{ADAPTERS, attach};
use firebrand::device::{Arithmetic, ComputeConfig};
use firebrand::model::{FrozenWeights, Matrix, load_for};
use firebrand::weights::formats::WEIGHT_FORMATS;

use super::*;

fn coded(name: &str, kernels: Kernels, arithmetic: Arithmetic) -> Model {
    let format = WEIGHT_FORMATS.iter().find(|format| format.name() == "int8");
    let frozen = FrozenWeights { frozen: true, linears: format.copied() };
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
    for name in ["gqa-tied", "biases", "bf16-sharded"] {
        let batch = super::expected(name).batch();
        for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16, Arithmetic::MixedF16] {
            for (kernels, kind) in
                KERNELS.into_iter().flat_map(|kernels| ADAPTERS.iter().map(move |k| (kernels, k)))
            {
                let adapted = |mut model: Model| {
                    attach(&mut model, kind.sample().as_ref(), Stream::new(1)).unwrap();
                    model
                };
                let codes = adapted(coded(name, kernels, arithmetic));
                let wide = adapted(dequantised(coded(name, kernels, arithmetic)));
                let ours = gradients(&codes, &batch, pass(&batch));
                assert_same_gradients(name, ours, gradients(&wide, &batch, pass(&batch)), 0.0);
                assert_eq!(logits(&codes, &batch), logits(&wide, &batch), "{name} {kernels}");
            }
        }
        let plain = gradients(&with_lora(name, &super::expected(name)), &batch, pass(&batch)).0;
        let mut rounded = coded(name, Kernels::Fast, Arithmetic::F32);
        attach(&mut rounded, ADAPTERS[0].sample().as_ref(), Stream::new(1)).unwrap();
        let rounded = gradients(&rounded, &batch, pass(&batch)).0;
        assert_ne!(plain, rounded, "8 bits do not hold the weights");
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
    let codes = coded(name, Kernels::Fast, Arithmetic::F32);
    let wide = dequantised(coded(name, Kernels::Fast, Arithmetic::F32));
    assert_eq!(write(&codes), write(&wide));
}
