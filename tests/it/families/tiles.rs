//! MLPs that are computed a tile of tokens at a time give the bits of those that are not.

use firebrand::model::MLP_TILE;

use super::*;

/// Beside a mixture, fused, with biases, with norms about it and with a factor.
const NAMES: [&str; 6] =
    ["llama-biases", "gemma3-tied", "gemma4-moe", "qwen3.5-moe", "phi3-window", "granite"];

/// The rows of a case again and again, for more tokens than two tiles have.
fn long_batch(case: &Case) -> Batch {
    let short = case.batch();
    let mut batch = Batch { rows: 0, ..short.clone() };
    batch.tokens.clear();
    batch.positions.clear();
    batch.documents.clear();
    batch.targets.clear();
    while batch.tokens.len() <= 2 * MLP_TILE {
        let first = u32::try_from(batch.tokens.len()).unwrap();
        batch.rows += short.rows;
        batch.tokens.extend(&short.tokens);
        batch.positions.extend(&short.positions);
        batch.documents.extend(&short.documents);
        let moved = |target: &Target| Target { index: first + target.index, ..*target };
        batch.targets.extend(short.targets.iter().map(moved));
    }
    batch
}

/// Everything trained beside an adapter that drops inputs, an adapter alone, and everything.
fn models(case: &Case, kernels: Kernels) -> Vec<(&'static str, Model)> {
    let mut both = case.adapted(kernels, 0.3);
    adapters::unfreeze_all(&mut both);
    let mut full = case.model(kernels);
    adapters::unfreeze_all(&mut full);
    vec![
        ("both", both),
        ("dropout", case.adapted(kernels, 0.3)),
        ("adapter", case.adapted(kernels, 0.0)),
        ("full", full),
    ]
}

fn in_tiles(mut model: Model) -> Model {
    model.computing.mlp_tile = Some(MLP_TILE);
    model
}

#[test]
fn tiles_give_the_same_bits() {
    for name in NAMES {
        let case = Case::read(name);
        let batch = long_batch(&case);
        let models = || models(&case, Kernels::Fast).into_iter();
        for ((what, whole), (_, tiled)) in models().zip(models()) {
            let tiled = in_tiles(tiled);
            assert_eq!(logits(&whole, &batch), logits(&tiled, &batch), "{name} {what}");
            for pass in [pass(&batch), Pass { dropout: None, ..pass(&batch) }] {
                let wanted = gradients(&whole, &batch, pass.clone());
                for recompute in [Recompute::Layers, Recompute::None] {
                    let found = gradients(&tiled, &batch, Pass { recompute, ..pass.clone() });
                    assert!(found == wanted, "{name} {what} {recompute:?}");
                }
            }
        }
    }
}

/// In 16 bits, too.
#[test]
fn tiles_give_the_same_bits_in_mixed_arithmetic() {
    for name in ["llama-biases", "gemma3-tied"] {
        let case = Case::read(name);
        let batch = long_batch(&case);
        let all = |tiles: bool| {
            let mut model = case.adapted(Kernels::Fast, 0.3);
            model.compute_in(Arithmetic::MixedBf16);
            let model = if tiles { in_tiles(model) } else { model };
            gradients(&model, &batch, Pass { recompute: Recompute::Layers, ..pass(&batch) })
        };
        assert!(all(true) == all(false), "{name}");
    }
}

/// A magnitude beside a matrix that is trained has a gradient of two sums: it is not computed in
/// tiles then, and in tiles otherwise.
#[test]
fn magnitudes_of_dora_have_the_same_bits() {
    let case = Case::read("llama-biases");
    let batch = long_batch(&case);
    for (everything, dropout) in [(false, 0.0), (false, 0.3), (true, 0.3)] {
        let all = |tiles: bool| {
            let mut model = case.model(Kernels::Fast);
            let settings = LoraSettings { lora_dropout: dropout, ..LoraSettings::new(3, 6.0) };
            adapters::attach(&mut model, &adapters::Dora { settings }, Stream::new(1)).unwrap();
            if everything {
                adapters::unfreeze_all(&mut model);
            }
            let model = if tiles { in_tiles(model) } else { model };
            gradients(&model, &batch, Pass { recompute: Recompute::Layers, ..pass(&batch) })
        };
        assert!(all(true) == all(false), "{everything} {dropout}");
    }
}

/// Tensor operations sum fewer rows in another order.
#[test]
fn tensor_operations_have_tiles() {
    for name in ["llama-biases", "gemma3-tied"] {
        let case = Case::read(name);
        let batch = long_batch(&case);
        let models = || models(&case, Kernels::Portable).into_iter();
        for ((what, whole), (_, tiled)) in models().zip(models()) {
            let again = Pass { recompute: Recompute::Layers, ..pass(&batch) };
            let (loss, wanted) = gradients(&whole, &batch, again.clone());
            let (found_loss, found) = gradients(&in_tiles(tiled), &batch, again);
            assert!((found_loss / loss - 1.0).abs() < 1e-5, "{name} {what}");
            assert!(found.keys().eq(wanted.keys()), "{name} {what}");
            for (path, found) in &found {
                let apart = relative(found, &wanted[path]);
                assert!(apart < 1e-4, "{name} {what} {path}: {apart}");
            }
        }
    }
}
