//! Frozen weights that are left on disk: all that is computed is what they give in memory.

use std::path::Path;

use firebrand::adapters::{ADAPTERS, attach};
use firebrand::device::{Arithmetic, ComputeConfig};
use firebrand::model::{FrozenWeights, Matrix, Streamed, load_for};
use firebrand::weights::formats::{DEQUANTISED, WeightFormat};
use firebrand::weights::ggml::TYPES;

use super::weight_formats::formats;
use super::*;
use crate::common::repository;

/// Gradients of an adapter, logits and text.
fn assert_same(folder: &Path, linears: Option<&'static dyn WeightFormat>, batch: &Batch) {
    let spills = tempfile::tempdir().unwrap();
    for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16] {
        for kernels in KERNELS {
            let computing = ComputeConfig { kernels, arithmetic, ..ComputeConfig::default() };
            let what = format!("{} {linears:?} {kernels} {arithmetic:?}", folder.display());
            let in_memory = FrozenWeights { linears, ..FrozenWeights::from(true) };
            let streamed =
                |which| FrozenWeights { on_disk: Some((which, spills.path())), ..in_memory };
            let all = [in_memory, streamed(Streamed::Tables), streamed(Streamed::All)];
            let [memory, tables, all] = all.map(|frozen| {
                let loaded = load_for(folder, Init::Pretrained, &cpu(), computing, frozen).unwrap();
                let digests = (loaded.quantised, loaded.in_blocks);
                let mut model = by(kernels, loaded.model);
                attach(&mut model, ADAPTERS[0].sample().as_ref(), Stream::new(1)).unwrap();
                (model, digests)
            });
            let text = |model: &Model| {
                let sampling = Sampling::new(0.0, Stream::new(1), 4);
                generate(model, &[5, 9, 30], &[], sampling, &mut |_| true).unwrap().tokens
            };
            for (which, (mut disk, digests)) in [(Streamed::Tables, tables), (Streamed::All, all)] {
                let what = format!("{what} {which:?}");
                assert_eq!(digests, memory.1, "{what}");
                disk.linears(&mut |path, linear| {
                    let on_disk = matches!(linear.weight, Matrix::Coded(_));
                    assert!(on_disk || which == Streamed::Tables, "{what}: {path}");
                });
                assert!(disk.embedding.matrix.pieces().is_empty(), "{what}: the embedding");
                let [ours, theirs] =
                    [&disk, &memory.0].map(|model| gradients(model, batch, pass(batch)));
                assert_same_gradients(&what, ours, theirs, 0.0);
                assert_eq!(logits(&disk, batch), logits(&memory.0, batch), "{what}");
                assert_eq!(text(&disk), text(&memory.0), "{what}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(spills.path()).unwrap().count(), 0, "the file has no name");
}

#[test]
fn numbers_and_codes_that_are_made_of_them_are_the_same_on_disk() {
    let chosen = formats().map(Some).chain([None]);
    for (number, linears) in chosen.enumerate() {
        let name = ["gqa-tied", "mha-untied", "bf16-sharded"][number % 3];
        assert_same(&case(name), linears, &super::expected(name).batch());
    }
    for name in ["gqa-tied", "mha-untied"] {
        assert_same(&case(name), None, &super::expected(name).batch());
    }
}

/// A GPU keeps numbers that nothing trains in 16 bits where products take them so.
#[test]
fn numbers_that_are_kept_as_on_a_gpu_are_rounded_as_there() {
    let spills = tempfile::tempdir().unwrap();
    let values = |arithmetic, frozen: FrozenWeights| {
        let computing = ComputeConfig { arithmetic, ..ComputeConfig::default() };
        let folder = case("gqa-tied");
        let loaded = load_for(&folder, Init::Pretrained, &cpu(), computing, frozen).unwrap();
        let (mut model, mut all) = (loaded.model, Vec::new());
        model.linears(&mut |_, linear| all.extend(host(linear.values())));
        let tokens = firebrand::ops::indices([3, 7].into_iter(), &cpu());
        all.extend(host(model.embedding.matrix.rows(&tokens)));
        all
    };
    let plain = values(Arithmetic::F32, FrozenWeights::from(true));
    let [f16, bf16]: [fn(f32) -> f32; 2] =
        [|x| half::f16::from_f32(x).to_f32(), |x| half::bf16::from_f32(x).to_f32()];
    let in_memory = FrozenWeights { as_on_gpu: true, ..FrozenWeights::from(true) };
    let on_disk = FrozenWeights { on_disk: Some((Streamed::All, spills.path())), ..in_memory };
    for frozen in [in_memory, on_disk] {
        assert_eq!(values(Arithmetic::F32, frozen), plain);
        for (arithmetic, rounded) in [(Arithmetic::MixedF16, f16), (Arithmetic::MixedBf16, bf16)] {
            let wanted: Vec<f32> = plain.iter().map(|x| rounded(*x)).collect();
            assert!(wanted != plain, "there is something to round");
            assert_eq!(values(arithmetic, frozen), wanted, "{arithmetic:?}");
        }
    }
}

#[test]
fn codes_of_files_are_the_same_on_disk() {
    for name in ["nf4-nested", "nf4-plain"] {
        let folder = repository("tests/reference/bitsandbytes").join(name);
        for linears in [None, Some(DEQUANTISED)] {
            assert_same(&folder, linears, &super::expected("gqa-tied").batch());
        }
    }
    for (number, kind) in TYPES.iter().filter(|kind| kind.is_quantised()).enumerate() {
        let [in_blocks, _] = super::gguf_blocks::written(kind, number.is_multiple_of(2));
        assert_same(in_blocks.path(), None, &super::gguf_blocks::batch());
    }
}
