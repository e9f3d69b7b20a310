//! Every objective on pairs with every family and every kind of adapter: packed as alone, computed
//! again as kept, and beside a reference that is the base model to the bit.

use firebrand::adapters::{ADAPTERS, AdapterKind};
use firebrand::engine::{evaluate, evaluate_beside, reference_of};
use firebrand::objectives::{OBJECTIVES, Objective, Records};

use super::*;

/// An adapter on every linear layer, moved away from where it begins.
fn adapted(case: &Case, kind: &dyn AdapterKind, kernels: Kernels) -> Model {
    struct Move;
    impl Move {
        fn moved<const D: usize>(path: &str, parameter: &mut Parameter<D>) {
            if adapters::is_adapter(path) {
                let dims = parameter.value.dims();
                let by = numbers(path, dims.iter().product());
                let by = from_vec(by.into_iter().map(|x| 0.3 * x).collect(), dims, &cpu());
                parameter.value = parameter.value.clone() + by;
            }
        }
    }
    impl Visitor for Move {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            Self::moved(path, parameter);
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            Self::moved(path, parameter);
        }
    }
    let mut model = case.model(kernels);
    adapters::attach(&mut model, kind.sample().as_ref(), Stream::new(1)).unwrap();
    model.visit(&mut Move);
    model
}

/// A pair for each pair of lengths of answers, in one row: what precedes an answer, and the answer.
fn pairs(lengths: &[[u32; 2]]) -> Batch {
    let mut batch = Batch { rows: 1, ..Batch::default() };
    for (document, answers) in (1..).zip(lengths) {
        let first = batch.tokens.len();
        for length in answers {
            for place in 0..3 + length {
                let index = u32::try_from(batch.tokens.len()).unwrap();
                let answer = place >= 3;
                let token = (document * 7 + place * 5 + if answer { length * 11 } else { 0 }) % 60;
                batch.tokens.push(token);
                if answer {
                    batch.targets.push(Target { index: index - 1, token });
                }
            }
        }
        batch.documents.resize(batch.tokens.len(), document);
        batch.positions.extend(0..u32::try_from(batch.tokens.len() - first).unwrap());
    }
    batch.length = batch.tokens.len();
    batch
}

fn sums(
    model: &Model,
    objective: &dyn Objective,
    batches: &[Batch],
    recompute: Recompute,
) -> (f64, BTreeMap<String, Vec<f32>>) {
    let (mut sums, mut loss) = (Gradients::default(), 0.0);
    for batch in batches {
        let pass =
            Pass { scale: 0.5, recompute, loss_chunk_tokens: 512, dropout: None, noise: None };
        loss += forward_backward(model, objective, batch, pass, &mut sums).0.number();
    }
    (loss, sums.into_sums().into_iter().map(|(path, sum)| (path, host(sum))).collect())
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// The model with a head that gives one score.
fn scoring(mut model: Model) -> Model {
    let hidden = model.description.hidden;
    let values = (0..hidden).map(|at| (at % 7) as f32 / 50.0 - 0.06).collect();
    let value = firebrand::ops::from_vec(values, [1, hidden], &model.device);
    let matrix = firebrand::model::Parameter { value, trainable: true };
    let matrix = firebrand::model::VocabularyMatrix::new(firebrand::model::SCORE, vec![matrix]);
    model.head.matrix = Some(matrix);
    model.head.config = firebrand::ops::LogitConfig::default();
    model.description = model.description.clone().scoring(1);
    model
}

#[test]
fn every_family_and_adapter_learns_from_pairs_packed_as_alone() {
    // Codes have sums of another order without a tape.
    let plain = |case: &Case| !case.json["config"]["quantization_config"].is_object();
    let all: Vec<Case> = Case::all().into_iter().filter(plain).collect();
    // One of each family: the first of its name.
    let family = |case: &&Case| case.json["config"]["model_type"].to_string();
    let mut seen = std::collections::BTreeSet::new();
    let cases: Vec<&Case> = all.iter().filter(|case| seen.insert(family(case))).collect();
    assert!(cases.len() > 10, "{}", cases.len());
    let lengths = [[4, 2], [1, 5]];
    let packed = [pairs(&lengths)];
    let alone: Vec<Batch> =
        lengths.chunks(1).map(|one| renumbered(&packed[0], one, &lengths)).collect();
    for (number, case) in cases.into_iter().enumerate() {
        for (of_kind, kind) in ADAPTERS.iter().enumerate() {
            let kernels = KERNELS[(number + of_kind) % 2];
            let model = adapted(case, *kind, kernels);
            for entry in OBJECTIVES.iter().filter(|entry| entry.records == Records::Pairs) {
                let what = format!("{} {} {} {kernels}", case.name, kind.name(), entry.name);
                let objective = objectives::with(entry.name, &[]);
                let scores = objective.score_head().map(|_| adapted(case, *kind, kernels));
                let scores = scores.map(scoring);
                let model = scores.as_ref().unwrap_or(&model);
                let kept = sums(model, &*objective, &packed, Recompute::None);
                let again = sums(model, &*objective, &packed, Recompute::Layers);
                assert_eq!(kept, again, "{what}: recompute");
                let (loss, of_alone) = sums(model, &*objective, &alone, Recompute::None);
                assert!((loss / kept.0 - 1.0).abs() < 1e-4, "{what}: {loss} {}", kept.0);
                let most = of_alone.values().map(|one| largest(one)).fold(0.0, f32::max);
                for (path, ours) in &kept.1 {
                    for (a, b) in ours.iter().zip(&of_alone[path]) {
                        assert!((a - b).abs() <= 1e-3 * most, "{what} {path}: {a} {b}");
                    }
                }
            }
        }
    }
}

/// The pair of the packed batch with these lengths, as a batch of its own.
fn renumbered(packed: &Batch, one: &[[u32; 2]], all: &[[u32; 2]]) -> Batch {
    let size = |lengths: &[u32; 2]| (6 + lengths[0] + lengths[1]) as usize;
    let before = all.iter().position(|lengths| lengths == &one[0]).unwrap();
    let first: usize = all[..before].iter().map(size).sum();
    let places = first..first + size(&one[0]);
    let inside = packed.targets.iter().filter(|it| places.contains(&(it.index as usize)));
    let moved = inside.map(|it| Target { index: it.index - first as u32, ..*it });
    Batch {
        rows: 1,
        length: places.len(),
        tokens: packed.tokens[places.clone()].to_vec(),
        positions: packed.positions[places.clone()].to_vec(),
        documents: vec![1; places.len()],
        targets: moved.collect(),
        ..Batch::default()
    }
}

/// With adapters off, a model is its base: no bit of what it makes of the answers is other.
#[test]
fn the_reference_is_the_base_model() {
    let batches = [pairs(&[[4, 2], [1, 5]])];
    let dpo = objectives::with("dpo", &[]);
    for name in ["llama-llama3", "gemma4-e2b", "qwen3.5", "qwen3-moe", "gpt-oss", "lfm2"] {
        let case = Case::read(name);
        for kernels in KERNELS {
            for kind in ADAPTERS {
                let mut model = adapted(&case, *kind, kernels);
                let reference = reference_of(&model, &*dpo, &batches, 7);
                let [own, beside] = [
                    evaluate(&model, &*dpo, &batches, 0, (None, 7)),
                    evaluate_beside(&model, &*dpo, &batches, &reference, 7),
                ];
                assert_eq!(own, beside, "{name} {kernels}");
                let own = own.unwrap().eval_loss;
                assert!((own - std::f64::consts::LN_2).abs() > 1e-4, "{name} {kernels}: {own}");
                model.linears(&mut |_, linear| linear.adapter = None);
                assert_eq!(reference, reference_of(&model, &*dpo, &batches, 7), "{name} {kernels}");
                // And the base against itself prefers nothing.
                let base = evaluate(&model, &*dpo, &batches, 0, (None, 7)).unwrap().eval_loss;
                assert!((base - std::f64::consts::LN_2).abs() < 1e-5, "{name}: {base}");
            }
        }
    }
}
