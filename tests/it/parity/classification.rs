//! Heads that score labels against transformers, PEFT and TRL
//! (`tests/reference/classification.py`).

use firebrand::artifact::adapter_directory::AdapterDirectory;
use firebrand::artifact::open::with_adapter;
use firebrand::config::{ProblemType, ScoreHead};
use firebrand::data::classified::{TextLabel, arranged};
use firebrand::data::{CorpusEntry, Example, RecordId};
use firebrand::device::ComputeConfig;
use firebrand::document::Value;
use firebrand::evaluation::label_scores::{scores, unlabelled};
use firebrand::files::Digest;
use firebrand::model::{FrozenWeights, NewHead, load_for};
use serde_json::Value as Json;

use super::gradients::batch_of_pairs;
use super::preference::{assert_gradients, near, pairs, reference};
use super::*;

const NAME: &str = "gqa-tied";

/// The base with the adapter and the head of a case.
fn with_head(case_of: &Json, kernels: Kernels) -> Model {
    let rows: Vec<Vec<f32>> = serde_json::from_value(case_of["head"].clone()).unwrap();
    let head = Some(NewHead { labels: rows.len(), stream: Stream::new(1) });
    let frozen = FrozenWeights { head, ..FrozenWeights::from(true) };
    let loaded = load_for(&case(NAME), Init::Pretrained, &cpu(), ComputeConfig::default(), frozen);
    let mut model = adapted(loaded.unwrap().model, &expected(NAME), &lora(0.0));
    let matrix = &mut model.head.matrix.as_mut().unwrap().pieces_mut()[0];
    assert!(matrix.trainable);
    matrix.value = from_vec(rows.concat(), [rows.len(), 32], &cpu());
    by(kernels, model)
}

fn texts(json: &Json) -> Vec<Vec<u32>> {
    serde_json::from_value(json["texts"].clone()).unwrap()
}

/// One row for texts together, each with its label.
fn batch(texts: &[Vec<u32>], labels: &[TextLabel]) -> Batch {
    let record = RecordId { file: "a".into(), line: 1 };
    let entry = |(text, label): (&Vec<u32>, &TextLabel)| {
        let behind = label.tokens();
        let loss_mask = [vec![false; text.len()], vec![true; behind.len()]].concat();
        let example = Example { tokens: [text.clone(), behind].concat(), loss_mask };
        CorpusEntry {
            record: record.clone(),
            digest: Digest::of(b""),
            weight: 1.0,
            margin: 0.0,
            example,
        }
    };
    let entries: Vec<CorpusEntry> = texts.iter().zip(labels).map(entry).collect();
    Batch::new(&[entries.iter().collect()])
}

fn problem(case_of: &Json) -> ProblemType {
    ProblemType::from_name(case_of["problem_type"].as_str().unwrap()).unwrap()
}

fn labels(case_of: &Json) -> Vec<TextLabel> {
    let names = (0..case_of["head"].as_array().unwrap().len()).map(|number| number.to_string());
    let (problem_type, labels) = (Some(problem(case_of)), names.collect());
    let head = ScoreHead { problem_type, labels, temperature: 1.0 };
    let all = case_of["labels"].as_array().unwrap().iter();
    all.map(|label| TextLabel::read(&head, label).unwrap()).collect()
}

fn objective(case_of: &Json) -> Box<dyn Objective> {
    match case_of["objective"].as_str().unwrap() {
        "reward" => {
            let center = case_of["center_rewards_coefficient"].as_f64().unwrap();
            let center = Value::Number(center);
            objectives::with("reward", &[("reward.center_rewards_coefficient", center)])
        }
        name => {
            let problem = Value::Text(problem(case_of).name().to_owned());
            objectives::with(name, &[("classification.problem_type", problem)])
        }
    }
}

/// The micro-batches of a case: all in one row, or one each.
fn batches(json: &Json, case_of: &Json) -> [Vec<Batch>; 2] {
    if case_of["objective"] == "reward" {
        let pairs = pairs(json);
        return [vec![batch_of_pairs(&pairs)], pairs.chunks(1).map(batch_of_pairs).collect()];
    }
    let (texts, labels) = (texts(json), labels(case_of));
    let apart = texts.chunks(1).zip(labels.chunks(1)).map(|(text, label)| batch(text, label));
    [vec![batch(&texts, &labels)], apart.collect()]
}

#[test]
fn scores_losses_and_gradients_are_those_of_transformers_and_trl() {
    let json = reference("classification.json");
    for case_of in json["cases"].as_array().unwrap() {
        let what = format!("{} {}", case_of["objective"], case_of["problem_type"]);
        let objective = objective(case_of);
        for (kernels, recompute) in WAYS {
            let model = with_head(case_of, kernels);
            if let Some(wanted) = case_of["scores"].as_array() {
                let examples: Vec<Example> = texts(&json).into_iter().map(unlabelled).collect();
                let found = scores(&model, &examples, (64, 2), &mut |_| ()).unwrap();
                for (ours, wanted) in found
                    .iter()
                    .flatten()
                    .zip(wanted.iter().flat_map(|row| row.as_array().unwrap()))
                {
                    near(&format!("{what} score"), *ours, wanted, 1e-5);
                }
            }
            for batches in batches(&json, case_of) {
                let (loss, sums) = step_on(&model, &*objective, &batches, recompute);
                let found = objective.report(&loss.metrics);
                for (name, wanted) in case_of["metrics"].as_object().into_iter().flatten() {
                    near(&format!("{what} {name}"), found[name], wanted, 1e-5);
                }
                near(&what, loss.number(), &case_of["loss"], 1e-5);
                let judged =
                    firebrand::engine::evaluate(&model, &*objective, &batches, 0, (None, 5));
                near(&what, judged.unwrap().eval_loss, &case_of["loss"], 1e-5);
                assert_gradients(&what, sums, &case_of["gradients"]);
            }
        }
    }
}

#[test]
fn twenty_steps_have_the_losses_of_transformers_and_trl() {
    let json = reference("classification.json");
    for name in ["classification", "reward"] {
        let steps = &json["steps"][name];
        let cases = json["cases"].as_array().unwrap();
        let case_of = cases.iter().find(|case_of| case_of["objective"] == name).unwrap();
        for kernels in KERNELS {
            let mut trainer = stepping(with_head(case_of, kernels), steps, objective(case_of));
            let [_, micro_batches] = batches(&json, case_of);
            assert_step_losses(name, &mut trainer, &micro_batches, steps);
        }
    }
}

/// An adapter that PEFT saved, with no more than its own files.
#[test]
fn an_adapter_of_peft_has_its_scores() {
    let json = reference("classification.json");
    let folder = crate::common::repository("tests/reference/classification");
    let (found, _) = AdapterDirectory::read_hashed(&folder).unwrap();
    let base = case(NAME);
    let loaded = with_adapter((&base, None), &folder, found.adapter.as_ref(), &cpu()).unwrap();
    let examples: Vec<Example> = texts(&json).into_iter().map(unlabelled).collect();
    let found = scores(&loaded.model, &examples, (64, 1), &mut |_| ()).unwrap();
    let wanted: Vec<Vec<f64>> = serde_json::from_value(json["saved"].clone()).unwrap();
    for (ours, wanted) in found.iter().flatten().zip(wanted.iter().flatten()) {
        assert!((ours - wanted).abs() < 1e-5, "{ours} {wanted}");
    }
}

#[test]
fn labels_come_back_out_of_a_packed_batch() {
    let json = reference("classification.json");
    for case_of in json["cases"].as_array().unwrap() {
        if case_of["objective"] != "classification" {
            continue;
        }
        let labels = labels(case_of);
        let batch = batch(&texts(&json), &labels).padded(2, 90).into_owned();
        let arranged = arranged(&batch);
        let count = case_of["head"].as_array().unwrap().len();
        let found = firebrand::data::classified::labels(&arranged, problem(case_of), count);
        assert!(found.into_iter().eq(labels.into_iter().map(Some)));
        let places: Vec<u32> = arranged.targets.iter().map(|target| target.index).collect();
        assert_eq!(places.len(), 4);
        assert_eq!(places[0], 4); // the last token of the first text
    }
}
