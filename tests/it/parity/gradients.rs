//! Losses and gradients: those of PyTorch, PEFT and TRL, and the same however they are computed.

use super::*;

#[test]
fn loss_and_every_lora_gradient_equal_those_of_peft() {
    for (name, kernels) in each_case() {
        let expected = expected(name);
        let batch = expected.batch();
        let model = by(kernels, with_lora(name, &expected));
        let ours = real(&batch, &logits(&model, &batch));
        assert_near(name, &ours, &real(&batch, expected.floats("lora_logits")), LIMIT);

        let reference = f64::from(expected.floats("lora_loss")[0]);
        for pass in both_ways(&batch) {
            let (loss, sums) = gradients(&model, &batch, pass);
            assert!((loss / reference - 1.0).abs() < LIMIT, "{name}: {loss} for {reference}");
            let mut count = 0;
            for (key, gradient) in expected.under("grad.base_model.model.") {
                let ours = sums.get(key).unwrap_or_else(|| panic!("{name}: no gradient for {key}"));
                assert_near(&format!("{name} {key}"), &host(ours.clone()), gradient, LIMIT);
                count += 1;
            }
            assert_eq!(count, sums.paths().count(), "{name}: gradients nobody asked for");
        }
    }
}

#[test]
fn every_gradient_of_full_training_equals_that_of_pytorch() {
    for (name, kernels) in each_case() {
        let expected = expected(name);
        let batch = expected.batch();
        let mut model = by(kernels, model(name));
        adapters::unfreeze_all(&mut model);
        let reference = f64::from(expected.floats("loss")[0]);
        for pass in both_ways(&batch) {
            let (loss, sums) = gradients(&model, &batch, pass);
            assert!((loss / reference - 1.0).abs() < LIMIT, "{name}: {loss} for {reference}");
            for (key, gradient) in expected.under("full_grad.") {
                let ours = sums.get(key).unwrap_or_else(|| panic!("{name}: no gradient for {key}"));
                assert_near(&format!("{name} {key}"), &host(ours.clone()), gradient, LIMIT);
            }
        }
    }
}

/// Pairs as the data has them: one document a pair, the prompt before each answer.
pub(super) fn batch_of_pairs(pairs: &[[Vec<u32>; 3]]) -> Batch {
    row_of_documents(pairs.iter().map(|[prompt, chosen, rejected]| {
        (vec![[&prompt[..], &chosen[..]], [&prompt[..], &rejected[..]]], None)
    }))
}

/// Packed into one row or in a micro-batch each: what is compared is the mean over both pairs.
#[test]
fn orpo_has_loss_metrics_and_gradients_of_trl() {
    let path = crate::common::repository("tests/reference/orpo.json");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let step = &json["step"];
    let pairs: Vec<[Vec<u32>; 3]> = serde_json::from_value(step["pairs"].clone()).unwrap();
    let beta = firebrand::document::Value::Number(step["beta"].as_f64().unwrap());
    let orpo = objectives::with("orpo", &[("orpo.beta", beta)]);
    let near = |what: &str, ours: f64, wanted: &serde_json::Value, limit: f64| {
        let wanted = wanted.as_f64().unwrap();
        assert!((ours - wanted).abs() < limit * wanted.abs().max(1e-2), "{what}: {ours} {wanted}");
    };
    let apart: Vec<Batch> = pairs.chunks(1).map(batch_of_pairs).collect();
    for kernels in KERNELS {
        for batches in [vec![batch_of_pairs(&pairs)], apart.clone()] {
            assert_eq!(batches.iter().map(|batch| orpo.count(batch)).sum::<u64>(), 2);
            let mut model = by(kernels, model("gqa-tied"));
            adapters::unfreeze_all(&mut model);
            let (loss, sums) = step_on(&model, &*orpo, &batches, Recompute::None);
            for (name, wanted) in step["metrics"].as_object().unwrap() {
                near(name, orpo.report(&loss.metrics)[name], wanted, 1e-4);
            }
            near("loss", loss.number(), &step["loss"], 1e-5);
            let sums = sums.into_sums();
            let wanted = step["gradients"].as_object().unwrap();
            assert!(sums.keys().eq(wanted.keys().collect::<std::collections::BTreeSet<_>>()));
            for (path, gradient) in sums {
                let ours = host(gradient);
                let norm = ours.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let size = wanted[&path]["norm"].as_f64().unwrap();
                near(&path, norm, &wanted[&path]["norm"], 1e-3);
                for (ours, wanted) in ours.iter().zip(wanted[&path]["first"].as_array().unwrap()) {
                    let difference = f64::from(*ours) - wanted.as_f64().unwrap();
                    assert!(difference.abs() < 1e-4 * size, "{path}: {ours} {wanted}");
                }
            }
        }
    }
}

/// The reference model with everything learning, adapters with dropout included: every path of
/// the backward pass is used.
fn everything_learns(name: &str, dropout: f64) -> (Model, Batch) {
    let expected = expected(name);
    let mut model = model(name);
    adapters::attach(&mut model, &lora(dropout), Stream::new(7)).unwrap();
    adapters::unfreeze_all(&mut model);
    (model, expected.batch())
}

#[test]
fn recomputing_layers_changes_no_bit_with_dropout_too() {
    for kernels in KERNELS {
        let (model, batch) = everything_learns("gqa-tied", 0.3);
        let model = by(kernels, model);
        let kept = gradients(&model, &batch, pass(&batch));
        let again = Pass { recompute: Recompute::Layers, ..pass(&batch) };
        assert_same_gradients("recompute", gradients(&model, &batch, again), kept, 0.0);
    }
}

/// The fast kernels compute no padding, the portable ones do; both drop the same inputs, in parts
/// of a micro-batch too. Dropping others would change gradients by a tenth and more.
#[test]
fn neither_padding_nor_parts_change_what_is_learnt_or_dropped() {
    for name in CASES {
        let steps = |kernels, rows| {
            let (model, batch) = everything_learns(name, 0.3);
            let padded = batch.documents.contains(&0);
            let mut trainer = Trainer::new(by(kernels, model), step_settings(1e-3), adamw());
            trainer.micro_batch_split.rows = rows;
            let batches = [batch];
            let reports = [0, 1].map(|_| trainer.step(&batches, 0.0).unwrap().0);
            (padded, reports.map(|report| [report.loss, report.grad_norm]).concat())
        };
        let (padded, whole) = steps(Kernels::Portable, None);
        assert!(padded, "{name} has no padding");
        for (kernels, rows) in
            [(Kernels::Fast, None), (Kernels::Fast, Some(1)), (Kernels::Portable, Some(1))]
        {
            for (ours, reference) in steps(kernels, rows).1.iter().zip(&whole) {
                let difference = (ours / reference - 1.0).abs();
                assert!(difference < 1e-3, "{name} {kernels} {rows:?}: {ours} for {reference}");
            }
        }
    }
}

#[test]
fn dropout_acts_and_is_a_pure_function_of_the_step() {
    let expected = expected("gqa-tied");
    let batch = expected.batch();
    let model = with_lora("gqa-tied", &expected);
    let plain = gradients(&model, &batch, pass(&batch)).0;
    let dropped = with_adapter("gqa-tied", &expected, &lora(0.5));
    let first = gradients(&dropped, &batch, pass(&batch)).0;
    assert_ne!(first, plain, "dropout changes the loss");
    assert_eq!(first, gradients(&dropped, &batch, pass(&batch)).0, "the same step drops the same");
    let later = Pass { dropout: Some(Stream::new(4).into()), ..pass(&batch) };
    assert_ne!(first, gradients(&dropped, &batch, later).0, "another step drops others");
    assert_eq!(logits(&dropped, &batch), logits(&model, &batch), "evaluation drops nothing");
}

#[test]
fn chunks_of_the_loss_change_nothing_but_rounding() {
    let (model, batch) = everything_learns("mha-untied", 0.0);
    let whole = gradients(&model, &batch, pass(&batch));
    for loss_chunk_tokens in [1, 3, 7] {
        let chunked = gradients(&model, &batch, Pass { loss_chunk_tokens, ..pass(&batch) });
        let whole = gradients(&model, &batch, pass(&batch));
        assert_same_gradients("chunks", chunked, whole, 1e-5);
    }
    assert!(whole.0.is_finite());
}

#[test]
fn layer_by_layer_equals_one_tape() {
    let expected = expected("gqa-tied");
    let batch = expected.batch();
    let model = with_lora("gqa-tied", &expected);
    let (loss, sums) = gradients(&model, &batch, pass(&batch));

    // One tape over the whole model, with the loss as Burn composes it.
    let (tokens, context) = upload(&model, &batch);
    let mut layers: Vec<_> = model.layers.iter().map(|layer| layer.tracked()).collect();
    let mut x = model.embedding.forward(&tokens).autodiff().require_grad();
    for layer in &layers {
        x = layer.composed(x, &context);
    }
    let count = batch.targets.len();
    let index = firebrand::ops::indices(batch.targets.iter().map(|t| t.index), &cpu());
    let token = firebrand::ops::indices(batch.targets.iter().map(|t| t.token), &cpu());
    let logits = model.logits(x.select(0, index));
    let picked =
        burn::tensor::activation::log_softmax(logits, 1).gather(1, token.reshape([count, 1]));
    let total = picked.sum().neg().div_scalar(count as f64);
    let one_tape_loss = f64::from(host(total.clone().inner())[0]);
    assert!((loss / one_tape_loss - 1.0).abs() < 1e-6, "{loss} {one_tape_loss}");
    let mut tape = [total.backward()];
    let mut whole = Gradients::default();
    for layer in &mut layers {
        whole.collect(&mut tape, |visitor| layer.visit(visitor));
    }
    assert_same_gradients("one tape", (loss, sums), (one_tape_loss, whole), 1e-5);
}

#[test]
fn one_times_eight_rows_equals_eight_times_one() {
    let expected = expected("gqa-tied");
    let batch = expected.batch();
    // Rows of different lengths with different numbers of targets, so that means of means differ.
    let rows: Vec<Batch> = (0..8).map(|number| row(&batch, number % 2)).collect();
    let joined = join(&rows);
    let mut together = Trainer::new(with_lora("gqa-tied", &expected), step_settings(1e-2), adamw());
    let mut apart = Trainer::new(with_lora("gqa-tied", &expected), step_settings(1e-2), adamw());
    for _ in 0..3 {
        let (one, _) = together.step(std::slice::from_ref(&joined), 0.0).unwrap();
        let (eight, _) = apart.step(&rows, 0.0).unwrap();
        assert!((one.loss / eight.loss - 1.0).abs() < 1e-6);
        assert!((one.grad_norm / eight.grad_norm - 1.0).abs() < 1e-5);
        assert_eq!(one.tokens, eight.tokens);
    }
}

/// A weight is what the loss of its token is multiplied with, and its gradient; what is divided by
/// stays the number of tokens, also where a batch is split.
#[test]
fn weights_multiply_losses_and_gradients() {
    let expected = expected("gqa-tied");
    let sft = &*objectives::with("sft", &[]);
    let rows: Vec<Batch> = (0..2).map(|number| row(&expected.batch(), number)).collect();
    let of = |model: &Model, batches: &[Batch]| {
        let (loss, sums) = step_on(model, sft, batches, Recompute::None);
        let judged = firebrand::engine::evaluate(model, sft, batches, 0, (None, 5)).unwrap();
        let loss = loss.number();
        assert!((judged.eval_loss - loss).abs() < 1e-6 * loss, "{} {loss}", judged.eval_loss);
        (loss, sums.into_sums())
    };
    let weighted = |weight: f32, batch: &Batch| Batch {
        weights: vec![weight; batch.targets.len()],
        ..batch.clone()
    };
    for kernels in KERNELS {
        let model = by(kernels, with_lora("gqa-tied", &expected));
        let apart: Vec<_> =
            rows.iter().map(|batch| of(&model, std::slice::from_ref(batch))).collect();
        let weights = [2.5, 0.25];
        let batches: Vec<Batch> =
            rows.iter().zip(weights).map(|(batch, weight)| weighted(weight, batch)).collect();
        let count = |batch: &Batch| batch.targets.len() as f64;
        let all: f64 = rows.iter().map(count).sum();
        let shares: Vec<f64> = rows
            .iter()
            .zip(weights)
            .map(|(batch, weight)| f64::from(weight) * count(batch) / all)
            .collect();
        let wanted: f64 = apart.iter().zip(&shares).map(|((loss, _), share)| loss * share).sum();
        let joined = Batch {
            weights: batches.iter().flat_map(|batch| batch.weights.clone()).collect(),
            ..join(&rows)
        };
        for batches in [batches, vec![joined]] {
            let (loss, sums) = of(&model, &batches);
            assert!((loss - wanted).abs() < 1e-5 * wanted, "{loss} {wanted}");
            for (path, sum) in sums {
                let [one, other] = [0, 1].map(|at| host(apart[at].1[&path].clone()));
                let wanted = one.iter().zip(&other);
                let wanted: Vec<f32> = wanted
                    .map(|(a, b)| (f64::from(*a) * shares[0] + f64::from(*b) * shares[1]) as f32)
                    .collect();
                assert_near(&path, &host(sum), &wanted, 1e-5);
            }
        }
    }
}

/// Several one-row batches as one, padded to the longest.
fn join(rows: &[Batch]) -> Batch {
    let length = rows.iter().map(|row| row.length).max().unwrap();
    let mut all = Batch {
        rows: rows.len(),
        length,
        tokens: Vec::new(),
        positions: Vec::new(),
        documents: Vec::new(),
        targets: Vec::new(),
        ..Batch::default()
    };
    for (number, row) in rows.iter().enumerate() {
        let pad = |list: &[u32]| [list, &vec![0; length - row.length]].concat();
        all.tokens.extend(pad(&row.tokens));
        all.positions.extend(pad(&row.positions));
        all.documents.extend(pad(&row.documents));
        let first = u32::try_from(number * length).unwrap();
        all.targets.extend(row.targets.iter().map(|target| firebrand::data::Target {
            index: first + target.index,
            token: target.token,
        }));
    }
    all
}

#[test]
fn the_first_values_of_an_adapter_are_those_of_peft_in_kind() {
    let mut model = model("gqa-tied");
    adapters::attach(&mut model, &lora(0.0), Stream::new(5)).unwrap();
    let (specs, values) = firebrand::checkpoint::learning_specs(&mut model, str::to_owned, |_| {
        firebrand::weights::Element::F32
    });
    let mut largest: f32 = 0.0;
    for spec in &specs {
        let values = firebrand::checkpoint::learning_values(&values, spec);
        if spec.name.contains("lora_B") {
            assert!(values.iter().all(|x| *x == 0.0), "B starts at zero");
        } else {
            let bound = 1.0 / (spec.shape[1] as f32).sqrt();
            assert!(values.iter().all(|x| x.abs() <= bound), "{}", spec.name);
            let share = values.iter().fold(0.0_f32, |max, x| max.max(x.abs())) / bound;
            largest = largest.max(share);
        }
    }
    assert!(largest > 0.95, "A fills its interval");
}

/// A device that takes no large tensors gets the embedding in pieces, and products in parts.
#[test]
fn small_tensors_and_products_change_nothing_but_rounding() {
    use firebrand::device::{ComputeConfig, DeviceLimits};
    for name in ["gqa-tied", "mha-untied"] {
        let batch = expected(name).batch();
        let trainer = |limits| {
            let computing = ComputeConfig { limits, ..ComputeConfig::default() };
            let loaded =
                firebrand::model::load_for(&case(name), Init::Pretrained, &cpu(), computing, false);
            let mut model = loaded.unwrap().model;
            adapters::unfreeze_all(&mut model);
            Trainer::new(model, step_settings(1e-3), adamw())
        };
        let mut whole = trainer(DeviceLimits::NONE);
        let small = DeviceLimits { tensor_bytes: 8192, dispatch_flops: 30_000 };
        let mut parts = trainer(small);
        assert!(parts.model.embedding.matrix.pieces().len() > 1, "{name}: the limit is not met");
        let ours = logits(&parts.model, &batch);
        assert_near(name, &ours, &logits(&whole.model, &batch), 1e-6);
        for _ in 0..3 {
            let (a, _) = whole.step(std::slice::from_ref(&batch), 0.0).unwrap();
            let (b, _) = parts.step(std::slice::from_ref(&batch), 0.0).unwrap();
            assert!((a.loss / b.loss - 1.0).abs() < 1e-5, "{name}: {} {}", a.loss, b.loss);
            assert!((a.grad_norm / b.grad_norm - 1.0).abs() < 1e-4);
        }
        let (whole, parts) = (trainable(&mut whole.model), trainable(&mut parts.model));
        for ((path, whole), (other, parts)) in whole.iter().zip(&parts) {
            assert_eq!(path, other);
            assert_near(path, parts, whole, 1e-3);
        }
        assert_eq!(whole.len(), parts.len());
    }
}

/// Weights that files have in bfloat16 stay so where they are frozen: half the memory, and the
/// same numbers in every product.
#[test]
fn frozen_weights_that_stay_in_bfloat16_change_no_bit() {
    use firebrand::device::ComputeConfig;
    let name = "bf16-sharded";
    let batch = expected(name).batch();
    let adapted = |kernels, frozen| {
        let computing = ComputeConfig { kernels, ..ComputeConfig::default() };
        let loaded =
            firebrand::model::load_for(&case(name), Init::Pretrained, &cpu(), computing, frozen);
        let mut model = loaded.unwrap().model;
        let stays = model.embedding.matrix.pieces()[0].value.dtype() == burn::tensor::DType::BF16;
        assert_eq!(stays, frozen && kernels == Kernels::Fast);
        adapters::attach(&mut model, &lora(0.2), Stream::new(1)).unwrap();
        model
    };
    for kernels in KERNELS {
        let (kept, wide) = (adapted(kernels, true), adapted(kernels, false));
        let ours = gradients(&kept, &batch, pass(&batch));
        assert_same_gradients(name, ours, gradients(&wide, &batch, pass(&batch)), 0.0);
        assert_eq!(logits(&kept, &batch), logits(&wide, &batch));
    }
}

/// In mixed arithmetic losses and gradients are those of 32 bits, up to what 16 bits round.
#[test]
fn mixed_gradients_are_near_those_of_f32() {
    use firebrand::device::Arithmetic;
    for name in ["gqa-tied", "biases"] {
        let expected = expected(name);
        let batch = expected.batch();
        let plain = gradients(&with_lora(name, &expected), &batch, pass(&batch));
        let mut model = with_lora(name, &expected);
        model.compute_in(Arithmetic::MixedF16);
        let scaled = Pass { scale: 1024.0 / batch.targets.len() as f64, ..pass(&batch) };
        let (loss, sums) = gradients(&model, &batch, scaled);
        assert!((loss / 1024.0 / plain.0 - 1.0).abs() < 1e-3, "{name}: {loss}");
        let mut different = false;
        for path in plain.1.paths() {
            let reference = host(plain.1.get(path).unwrap().clone());
            let ours = host(sums.get(path).unwrap().clone().div_scalar(1024.0));
            different |= ours != reference;
            assert_near(&format!("{name} {path}"), &ours, &reference, 2e-2);
        }
        assert!(different, "it is another arithmetic");
    }
}

/// Both ways of the CPU with everything that there is at once: dropout, weights that learn beside
/// adapters, biases, norms, and rows that end in padding.
#[test]
fn fast_and_portable_kernels_have_the_same_gradients() {
    for name in ["gqa-tied", "mha-untied", "biases"] {
        let (model, batch) = everything_learns(name, 0.3);
        let fast = gradients(&model, &batch, pass(&batch));
        let portable = by(Kernels::Portable, model);
        let portable = gradients(&portable, &batch, pass(&batch));
        assert_ne!(
            host(fast.1.get("model.norm.weight").unwrap().clone()),
            host(portable.1.get("model.norm.weight").unwrap().clone()),
            "two ways to compute"
        );
        assert_same_gradients(name, fast, portable, 1e-5);
    }
}

/// In bfloat16 both ways round the same factors, and are as far from 32 bits as that takes them.
#[test]
fn bfloat16_gradients_are_near_those_of_f32_by_both_kernels() {
    use firebrand::device::Arithmetic;
    for (name, kernels) in
        [("gqa-tied", KERNELS[0]), ("biases", KERNELS[0]), ("biases", KERNELS[1])]
    {
        let expected = expected(name);
        let batch = expected.batch();
        let plain = gradients(&with_lora(name, &expected), &batch, pass(&batch));
        let mut model = by(kernels, with_lora(name, &expected));
        model.compute_in(Arithmetic::MixedBf16);
        let (loss, sums) = gradients(&model, &batch, pass(&batch));
        assert!((loss / plain.0 - 1.0).abs() < 5e-3, "{name}: {loss} for {}", plain.0);
        let mut different = false;
        for path in plain.1.paths() {
            let reference = host(plain.1.get(path).unwrap().clone());
            let ours = host(sums.get(path).unwrap().clone());
            different |= ours != reference;
            assert_near(&format!("{name} {path}"), &ours, &reference, 0.1);
        }
        assert!(different, "it is another arithmetic");
    }
}

/// The number of threads changes no bit, in any format.
#[test]
fn threads_change_no_bit_of_losses_and_gradients() {
    use firebrand::device::Arithmetic;
    for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16] {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut model, batch) = everything_learns("gqa-tied", 0.2);
                model.compute_in(arithmetic);
                gradients(&model, &batch, pass(&batch))
            })
        };
        let one = with(1);
        for threads in [2, 3, 7] {
            let many = with(threads);
            let one = (one.0, &one.1);
            assert_eq!(one.0.to_bits(), many.0.to_bits(), "{threads} threads");
            for path in one.1.paths() {
                let bits = |sums: &Gradients| -> Vec<u32> {
                    let numbers = host(sums.get(path).unwrap().clone());
                    numbers.into_iter().map(f32::to_bits).collect()
                };
                assert_eq!(bits(one.1), bits(&many.1), "{path}, {threads} threads");
            }
        }
    }
}
