//! Bases that transformers saved in four bits of bitsandbytes.

use firebrand::device::ComputeConfig;
use firebrand::model::{FrozenWeights, Matrix, load_for};
use firebrand::weights::formats::WEIGHT_FORMATS;

use super::*;
use crate::common::repository;

/// `tests/reference/bitsandbytes_base.py` made the files.
#[test]
fn logits_are_those_of_the_numbers_that_bitsandbytes_restores() {
    for name in ["nf4-nested", "nf4-plain", "fp4-nested"] {
        let folder = repository("tests/reference/bitsandbytes").join(name);
        let mut model = load(&folder, Init::Pretrained, &cpu()).unwrap().model;
        let mut coded = 0;
        model.linears(&mut |_, linear| {
            coded += usize::from(matches!(linear.weight, Matrix::Coded(_)))
        });
        assert_eq!(coded, 2 * 7, "{name}");
        let expected = Expected::read(&folder.join("expected.safetensors"));
        let tokens = expected.integers("tokens");
        let positions: Vec<u32> = (0..).take(tokens.len()).collect();
        let ones = vec![1; tokens.len()];
        let context = PassContext::packed(
            1,
            tokens.len(),
            &positions,
            &ones,
            &model.frequencies,
            &model.device,
        );
        let tokens = indices(tokens.iter().copied(), &model.device);
        let found = host(model.logits(model.hidden(tokens, &context)));
        assert_near(name, &found, expected.floats("logits"), LIMIT);
    }
}

/// Made here of the numbers, or there and read: the same bytes.
#[test]
fn codes_of_files_are_those_that_are_made_of_the_numbers() {
    let format = WEIGHT_FORMATS.iter().find(|format| format.name() == "nf4").copied();
    let frozen = FrozenWeights { linears: format, ..FrozenWeights::from(true) };
    let load = |folder: &std::path::Path, frozen| {
        let loaded = load_for(folder, Init::Pretrained, &cpu(), ComputeConfig::default(), frozen);
        loaded.unwrap().quantised.unwrap()
    };
    let made = load(&case("gqa-tied"), frozen);
    let read = load(
        &repository("tests/reference/bitsandbytes").join("nf4-nested"),
        FrozenWeights::from(true),
    );
    assert_eq!(made, read);
}
