//! Distillation against TRL's `GKDTrainer` and PyTorch, on the tiny model with the adapter of its
//! reference and another one as the teacher (`tests/reference/distillation.py`).

use firebrand::data::{CorpusEntry, Example, Packing, RecordId};
use firebrand::document::Value;
use firebrand::engine::teacher_tops;
use firebrand::files::Digest;
use firebrand::objectives::{OnPolicyConfig, TeacherConfig};
use firebrand::rollouts::{OnPolicyAnswer, OnPolicyWriter, last_answers_of};
use serde_json::Value as Json;

use super::preference::{assert_gradients, near, reference};
use super::*;

const NAME: &str = "gqa-tied";
const TEACHER: &str = "mha-untied";
const VOCABULARY: usize = 96;

fn distillation(settings: &Json) -> Box<dyn Objective> {
    let entry = objectives::OBJECTIVES.iter().find(|entry| entry.name == "distillation").unwrap();
    let keys = entry.section.unwrap().keys;
    let settings = settings.as_object().unwrap().iter().map(|(name, value)| {
        let path = format!("distillation.{name}");
        let key = keys.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("no `{path}`"));
        let value = match value.as_u64() {
            Some(count) if name == "top_k" => Value::Integer(count),
            _ => Value::Number(value.as_f64().unwrap()),
        };
        (key.path, value)
    });
    objectives::with("distillation", &settings.collect::<Vec<_>>())
}

/// Answers after their prompts, packed into one row.
fn packed(answers: &[(Vec<u32>, Vec<u32>)]) -> Batch {
    row_of_documents(
        answers.iter().map(|(prompt, answer)| (vec![[&prompt[..], &answer[..]]], None)),
    )
}

/// The batches with what the teacher says of them.
fn taught(kernels: Kernels, mut batches: Vec<Batch>, config: &TeacherConfig) -> Vec<Batch> {
    let teacher = by(kernels, model(TEACHER));
    for batch in &mut batches {
        batch.teacher = teacher_tops(&teacher, batch, config, (VOCABULARY, 4));
    }
    batches
}

fn answers(json: &Json) -> Vec<(Vec<u32>, Vec<u32>)> {
    serde_json::from_value(json["answers"].clone()).unwrap()
}

#[test]
fn a_teacher_says_what_transformers_says() {
    let json = reference("distillation.json");
    let named = &json["teacher"];
    let tokens: Vec<Vec<u32>> = serde_json::from_value(named["tokens"].clone()).unwrap();
    let log_probs: Vec<Vec<f64>> = serde_json::from_value(named["log_probs"].clone()).unwrap();
    let temperature = named["temperature"].as_f64().unwrap() as f32;
    let config = TeacherConfig { model: String::new(), top_k: 3, temperature };
    for kernels in KERNELS {
        let batches = taught(kernels, vec![packed(&answers(&json))], &config);
        assert_eq!(batches[0].teacher.len(), tokens.len());
        for ((top, tokens), log_probs) in batches[0].teacher.iter().zip(&tokens).zip(&log_probs) {
            let (named, logs): (Vec<u32>, Vec<f64>) =
                top.likeliest.iter().map(|(token, log)| (*token, f64::from(*log))).unzip();
            assert_eq!(&named, tokens);
            let sum: f64 = log_probs.iter().map(|log| log.exp()).sum();
            assert!((f64::from(top.rest).exp() + sum - 1.0).abs() < 1e-5);
            for (ours, wanted) in logs.iter().zip(log_probs) {
                assert!((ours - wanted).abs() < 1e-5, "{ours} {wanted}");
            }
        }
    }
}

/// Packed into one row, or in a micro-batch each: what is compared is the mean over all tokens.
#[test]
fn losses_and_gradients_are_those_of_trl() {
    let (json, expected) = (reference("distillation.json"), expected(NAME));
    let answers = answers(&json);
    for case in json["cases"].as_array().unwrap() {
        let objective = distillation(&case["settings"]);
        let what = case["settings"].to_string();
        for (kernels, recompute) in WAYS {
            let model = by(kernels, with_lora(NAME, &expected));
            for batches in [vec![packed(&answers)], answers.chunks(1).map(packed).collect()] {
                let batches = taught(kernels, batches, objective.teacher().unwrap());
                let (loss, sums) = step_on(&model, &*objective, &batches, recompute);
                near(&what, loss.clone().number(), &case["loss"], 1e-5);
                let judged =
                    firebrand::engine::evaluate(&model, &*objective, &batches, 0, (None, 5));
                near(&what, judged.unwrap().eval_loss, &case["loss"], 1e-5);
                assert_gradients(&what, sums, &case["gradients"]);
                let reported = objective.report(&loss.metrics);
                let mixed = case["settings"]["kd_ratio"].as_f64();
                assert_eq!(reported.contains_key("cross_entropy"), mixed.is_some());
                let (ratio, of) = (mixed.unwrap_or(1.0), |name: &str| reported.get(name).copied());
                let both = ratio * of("divergence").unwrap()
                    + (1.0 - ratio) * of("cross_entropy").unwrap_or_default();
                assert!((both - loss.number()).abs() < 1e-9, "{what}: {reported:?}");
            }
        }
    }
}

/// Answers that the model gave itself make rows that the teacher scores as it does those of data.
#[test]
fn own_answers_have_the_losses_and_gradients_of_trl() {
    let (json, expected) = (reference("distillation.json"), expected(NAME));
    let answers = answers(&json);
    let record = || RecordId { file: "a.jsonl".into(), line: 1 };
    // As the data have them: other answers to the same prompts.
    let entry = |(prompt, _): &(Vec<u32>, Vec<u32>)| CorpusEntry {
        record: record(),
        digest: Digest::of(b""),
        weight: 1.0,
        margin: 0.0,
        example: Example {
            tokens: [&prompt[..], &[1, 2]].concat(),
            loss_mask: (0..prompt.len() + 2).map(|place| place >= prompt.len()).collect(),
        },
    };
    let entries: Vec<CorpusEntry> = answers.iter().map(entry).collect();
    let prompts = last_answers_of(&[Batch::new(&[entries.iter().collect()])]);
    let written = |(prompt, tokens): &(Vec<u32>, Vec<u32>)| OnPolicyAnswer {
        step: 1,
        file: String::new(),
        line: 1,
        prompt: prompt.clone(),
        reference: String::new(),
        text: String::new(),
        tokens: tokens.clone(),
        ended: true,
    };
    let written: Vec<OnPolicyAnswer> = answers.iter().map(written).collect();
    let config = OnPolicyConfig { lmbda: 1.0, temperature: 1.0, max_new_tokens: 8 };
    for case in json["cases"].as_array().unwrap() {
        if !case["settings"]["kd_ratio"].is_null() {
            continue; // the cross-entropy of own answers is no part of a loss
        }
        let objective = distillation(&case["settings"]);
        for packing in [Packing::BestFit, Packing::None] {
            let writer = OnPolicyWriter::new(config, 1, 64, packing);
            let batches = writer.rows(&prompts, &written, 2);
            let batches = taught(Kernels::Fast, batches, objective.teacher().unwrap());
            let model = by(Kernels::Fast, with_lora(NAME, &expected));
            let (loss, sums) = step_on(&model, &*objective, &batches, Recompute::None);
            let what = case["settings"].to_string();
            near(&what, loss.number(), &case["loss"], 1e-5);
            assert_gradients(&what, sums, &case["gradients"]);
        }
    }
}

#[test]
fn twenty_steps_have_the_losses_of_trl() {
    let (json, expected) = (reference("distillation.json"), expected(NAME));
    let steps = &json["steps"];
    for kernels in KERNELS {
        let model = by(kernels, with_lora(NAME, &expected));
        let mut trainer = stepping(model, steps, distillation(&steps["settings"]));
        let config = trainer.objective.teacher().unwrap().clone();
        let batches = answers(&json).chunks(2).map(packed).collect();
        let batches = taught(kernels, batches, &config);
        assert_step_losses("distillation", &mut trainer, &batches, steps);
    }
}

/// All weights learn: those of the output projection and the final norm have their gradient by
/// tensor operations, and by finite differences the same one.
#[test]
fn gradients_of_a_whole_model_are_those_of_finite_differences() {
    struct Moved<'a>(&'a str, usize, f32);
    impl Moved<'_> {
        fn in_parameter<const D: usize>(&self, path: &str, parameter: &mut Parameter<D>) {
            if path == self.0 {
                let shape = parameter.value.dims();
                let mut values = host(parameter.value.clone());
                values[self.1] += self.2;
                parameter.value = from_vec(values, shape, &cpu());
            }
        }
    }
    impl Visitor for Moved<'_> {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            self.in_parameter(path, parameter);
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            self.in_parameter(path, parameter);
        }
    }
    let json = reference("distillation.json");
    let settings =
        serde_json::json!({"beta": 0.4, "temperature": 1.5, "top_k": 5, "kd_ratio": 0.7});
    let objective = distillation(&settings);
    let batches = vec![packed(&answers(&json))];
    let batches = taught(Kernels::Fast, batches, objective.teacher().unwrap());
    let mut model = model(TEACHER);
    // Another model than its teacher.
    let mut noise = Moved("lm_head.weight", 0, 0.0);
    for place in 0..200 {
        (noise.1, noise.2) = (place * 13, 0.05 * ((place % 7) as f32 - 3.0));
        model.visit(&mut noise);
    }
    adapters::unfreeze_all(&mut model);
    let (_, sums) = step_on(&model, &*objective, &batches, Recompute::None);
    let sums = sums.into_sums();
    for path in ["lm_head.weight", "model.norm.weight", "model.layers.1.mlp.down_proj.weight"] {
        let gradient = host(sums[path].clone());
        let largest =
            (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()));
        let place = largest.unwrap();
        let step = 2e-2;
        let mut at = |by: f32| {
            model.visit(&mut Moved(path, place, by));
            let (loss, _) = step_on(&model, &*objective, &batches, Recompute::None);
            model.visit(&mut Moved(path, place, -by));
            loss.number()
        };
        let wanted = (at(step) - at(-step)) / f64::from(2.0 * step);
        let ours = f64::from(gradient[place]);
        assert!((ours - wanted).abs() < 1e-2 * wanted.abs(), "{path}: {ours} {wanted}");
    }
}
