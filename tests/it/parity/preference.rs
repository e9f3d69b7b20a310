//! Objectives on pairs of answers, and on answers with a label, against TRL, on the tiny model with
//! the adapter of its reference (`tests/reference/preference.py`, `kto.py`).

use firebrand::document::Value;
use firebrand::objectives::Records;
use serde_json::Value as Json;

use super::gradients::batch_of_pairs;
use super::*;

const NAME: &str = "gqa-tied";

pub(super) fn reference(name: &str) -> Json {
    let path = crate::common::repository(&format!("tests/reference/{name}"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(super) fn pairs(json: &Json) -> Vec<[Vec<u32>; 3]> {
    serde_json::from_value(json["pairs"].clone()).unwrap()
}

/// The objective of a case, whose settings have the names of our keys.
fn objective(case: &Json) -> Box<dyn Objective> {
    let name = case["objective"].as_str().unwrap();
    let section = objectives::OBJECTIVES.iter().find(|entry| entry.name == name).unwrap().section;
    let settings = case["settings"].as_object().unwrap().iter().map(|(key, value)| {
        let path = format!("{name}.{key}");
        let mut keys = section.unwrap().keys.iter();
        let key = keys.find(|key| key.path == path).unwrap_or_else(|| panic!("no key `{path}`"));
        let value = match value {
            Json::String(text) => Value::Text(text.clone()),
            other => Value::Number(other.as_f64().unwrap()),
        };
        (key.path, value)
    });
    objectives::with(name, &settings.collect::<Vec<_>>())
}

pub(super) fn near(what: &str, ours: f64, wanted: &Json, limit: f64) {
    let wanted = wanted.as_f64().unwrap();
    assert!((ours - wanted).abs() < limit * wanted.abs().max(1.0), "{what}: {ours} {wanted}");
}

/// Packed into one row or in a micro-batch each: what is compared is the mean over both pairs.
#[test]
fn losses_metrics_and_gradients_are_those_of_trl() {
    let json = reference("preference.json");
    let (pairs, expected) = (pairs(&json), expected(NAME));
    let apart: Vec<Batch> = pairs.chunks(1).map(batch_of_pairs).collect();
    let cases = json["cases"].as_array().unwrap();
    for case in cases {
        let objective = objective(case);
        let what = format!("{} {}", case["objective"], case["settings"]);
        for (kernels, recompute) in WAYS {
            let model = by(kernels, with_lora(NAME, &expected));
            for batches in [vec![batch_of_pairs(&pairs)], apart.clone()] {
                let count = batches.iter().map(|batch| objective.count(batch)).sum::<u64>();
                assert_eq!(count, 2);
                let (loss, sums) = step_on(&model, &*objective, &batches, recompute);
                let found = objective.report(&loss.metrics);
                for (name, wanted) in case["metrics"].as_object().unwrap() {
                    near(&format!("{what} {name}"), found[name], wanted, 1e-4);
                }
                near(&what, loss.number(), &case["loss"], 1e-5);
                let judged =
                    firebrand::engine::evaluate(&model, &*objective, &batches, 0, (None, 5));
                near(&what, judged.unwrap().eval_loss, &case["loss"], 1e-5);
                assert_gradients(&what, sums, &case["gradients"]);
            }
        }
    }
    for entry in objectives::OBJECTIVES.iter().filter(|entry| entry.records == Records::Pairs) {
        // `orpo.json`, `classification.json`
        let elsewhere = ["orpo", "reward"].contains(&entry.name);
        let has_case = cases.iter().any(|case| case["objective"] == entry.name);
        assert!(has_case || elsewhere, "`{}` has no reference", entry.name);
    }
}

pub(super) fn assert_gradients(what: &str, sums: Gradients, wanted: &Json) {
    let (sums, wanted) = (sums.into_sums(), wanted.as_object().unwrap());
    assert!(sums.keys().eq(wanted.keys().collect::<std::collections::BTreeSet<_>>()), "{what}");
    for (path, gradient) in sums {
        let ours = host(gradient);
        let norm = ours.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let size = wanted[&path]["norm"].as_f64().unwrap();
        assert!((norm - size).abs() <= 1e-4 * size, "{what} {path}: {norm} {size}");
        for (ours, wanted) in ours.iter().zip(wanted[&path]["first"].as_array().unwrap()) {
            let difference = f64::from(*ours) - wanted.as_f64().unwrap();
            assert!(difference.abs() <= 1e-4 * size, "{what} {path}: {ours} {wanted}");
        }
    }
}

#[test]
fn twenty_steps_have_the_losses_of_trl() {
    let json = reference("preference.json");
    let (pairs, expected) = (pairs(&json), expected(NAME));
    let steps = &json["steps"];
    for kernels in KERNELS {
        let beta = Value::Number(steps["beta"].as_f64().unwrap());
        let model = by(kernels, with_lora(NAME, &expected));
        let mut trainer = stepping(model, steps, objectives::with("dpo", &[("dpo.beta", beta)]));
        let micro_batches: Vec<Batch> = pairs.chunks(1).map(batch_of_pairs).collect();
        assert_step_losses("dpo", &mut trainer, &micro_batches, steps);
    }
}

/// All weights learn here, so that the embedding and its ties take part.
#[test]
fn twenty_steps_of_orpo_have_the_losses_of_trl() {
    let json = reference("orpo.json");
    let (pairs, steps) = (pairs(&json["step"]), &json["steps"]);
    assert_eq!(steps["losses"].as_array().unwrap().len(), 20);
    let apart: Vec<Batch> = pairs.chunks(1).map(batch_of_pairs).collect();
    for kernels in KERNELS {
        for batches in [vec![batch_of_pairs(&pairs)], apart.clone()] {
            let beta = Value::Number(steps["beta"].as_f64().unwrap());
            let mut model = by(kernels, model(NAME));
            adapters::unfreeze_all(&mut model);
            let orpo = objectives::with("orpo", &[("orpo.beta", beta)]);
            let mut trainer = stepping(model, steps, orpo);
            assert_step_losses("orpo", &mut trainer, &batches, steps);
        }
    }
}

/// Answers as the data has them: one document each, and a token more where it is undesirable.
fn batch_of_answers(answers: &[(Vec<u32>, Vec<u32>, bool)]) -> Batch {
    row_of_documents(answers.iter().map(|(prompt, answer, desirable)| {
        let end = (!desirable).then(|| answer[answer.len() - 1]);
        (vec![[&prompt[..], &answer[..]]], end)
    }))
}

/// In one micro-batch, or in two: the point of reference is that of the step.
#[test]
fn kto_has_loss_metrics_and_steps_of_trl() {
    let (json, expected) = (reference("kto.json"), expected(NAME));
    let answers: Vec<(Vec<u32>, Vec<u32>, bool)> =
        serde_json::from_value(json["answers"].clone()).unwrap();
    let divided: Vec<Batch> = answers.chunks(2).map(batch_of_answers).collect();
    for batches in [vec![batch_of_answers(&answers)], divided] {
        for kernels in KERNELS {
            let no_decay = || optimizers::with("adamw", &[("train.weight_decay", 0.0)]);
            let trainer = |rate: f64, objective| {
                let model = by(kernels, with_lora(NAME, &expected));
                let mut trainer = Trainer::new(model, step_settings(rate), no_decay());
                trainer.objective = objective;
                trainer
            };
            for case in json["cases"].as_array().unwrap() {
                let what = format!("{} {kernels}", case["settings"]);
                let mut trainer = trainer(1e-3, objective(case));
                let judged = firebrand::engine::evaluate(
                    &trainer.model,
                    &*trainer.objective,
                    &batches,
                    0,
                    (Some(1), 5),
                );
                near(&what, judged.unwrap().eval_loss, &case["loss"], 1e-5);
                let (report, _) = trainer.step(&batches, 0.0).unwrap();
                near(&what, report.loss, &case["loss"], 1e-5);
                for (name, wanted) in case["metrics"].as_object().unwrap() {
                    near(&format!("{what} {name}"), report.metrics[name], wanted, 1e-4);
                }
                let squares = case["gradients"].as_object().unwrap().values();
                let squares = squares.map(|of| of["norm"].as_f64().unwrap().powi(2));
                let norm = squares.sum::<f64>().sqrt();
                assert!((report.grad_norm / norm - 1.0).abs() < 1e-4, "{what}: {report:?} {norm}");
            }
            let steps = &json["steps"];
            let beta = Value::Number(steps["beta"].as_f64().unwrap());
            let kto = objectives::with("kto", &[("kto.beta", beta)]);
            let mut trainer = trainer(steps["learning_rate"].as_f64().unwrap(), kto);
            for wanted in steps["losses"].as_array().unwrap() {
                let (report, _) = trainer.step(&batches, 0.0).unwrap();
                near(&format!("step {}", report.step), report.loss, wanted, 5e-4);
            }
        }
    }
}

/// Every gradient where nothing is to be known beforehand: that of the loss itself.
#[test]
fn gradients_of_kto_are_those_of_trl() {
    let (json, expected) = (reference("kto.json"), expected(NAME));
    let answers: Vec<(Vec<u32>, Vec<u32>, bool)> =
        serde_json::from_value(json["answers"].clone()).unwrap();
    let batch = batch_of_answers(&answers);
    for case in json["cases"].as_array().unwrap() {
        let objective = objective(case);
        let measured = objective.beforehand(std::slice::from_ref(&batch));
        assert_eq!(measured.is_empty(), case["settings"].get("loss_type").is_some());
        // What the model gains on answers to other prompts is what TRL reports of it.
        let known = case["metrics"]["kl"].as_f64().unwrap() * answers.len() as f64;
        let objective = objective.knowing(known, &measured).filter(|_| !measured.is_empty());
        let objective = objective.unwrap_or_else(|| self::objective(case));
        for kernels in KERNELS {
            let model = by(kernels, with_lora(NAME, &expected));
            for recompute in [Recompute::None, Recompute::Layers] {
                let mut sums = Gradients::default();
                let (scale, loss_chunk_tokens) = (0.25, 3);
                let (dropout, noise) = (None, None);
                let pass = Pass { scale, recompute, loss_chunk_tokens, dropout, noise };
                let (loss, _) = forward_backward(&model, &*objective, &batch, pass, &mut sums);
                near("loss", loss.number() * 0.25, &case["loss"], 1e-5);
                assert_gradients("kto", sums, &case["gradients"]);
            }
        }
    }
}
