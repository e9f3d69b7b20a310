//! GRPO and its variants against TRL, on the tiny model with the adapter of its reference and with
//! fixed completions (`tests/reference/grpo.py`).

use std::collections::BTreeMap;

use firebrand::document::Value;
use firebrand::objectives::{AdvantageBaseline, RewardScale};
use firebrand::rollouts::{Rollout, RolloutGroup, advantages, rows_of};
use serde_json::Value as Json;

use super::preference::{assert_gradients, near, reference};
use super::*;

const NAME: &str = "gqa-tied";

fn grpo(json: &Json, settings: &Json) -> Box<dyn Objective> {
    let entry = objectives::OBJECTIVES.iter().find(|entry| entry.name == "grpo").unwrap();
    let keys = entry.section.unwrap().keys;
    let settings = settings.as_object().unwrap().iter().map(|(name, value)| {
        let path = format!("grpo.{name}");
        let key = keys.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("no `{path}`"));
        let value = match value {
            Json::String(text) => Value::Text(text.clone()),
            Json::Bool(flag) => Value::Boolean(*flag),
            other if name == "num_iterations" => Value::Integer(other.as_u64().unwrap()),
            other => Value::Number(other.as_f64().unwrap()),
        };
        (key.path, value)
    });
    let length = Value::Integer(json["max_completion_length"].as_u64().unwrap());
    let length = ("grpo.max_completion_length", length);
    objectives::with("grpo", &settings.chain([length]).collect::<Vec<_>>())
}

/// The completions with what they are learnt by.
fn groups(json: &Json, objective: &dyn Objective, case: &Json) -> Vec<RolloutGroup> {
    type Completions = Vec<(Vec<u32>, bool, f64)>;
    let groups: Vec<(Vec<u32>, Completions)> =
        serde_json::from_value(json["groups"].clone()).unwrap();
    let rewards: Vec<f64> =
        groups.iter().flat_map(|(_, all)| all.iter().map(|(_, _, reward)| *reward)).collect();
    let config = objective.rollouts().unwrap();
    let found = advantages(&rewards, 3, config.scale_rewards, config.baseline);
    let wanted: Vec<f64> = serde_json::from_value(case["advantages"].clone()).unwrap();
    for (ours, wanted) in found.iter().zip(&wanted) {
        assert!((ours - wanted).abs() < 1e-5, "{ours} {wanted}");
    }
    let old: Option<Vec<Vec<f32>>> = serde_json::from_value(case["old"].clone()).unwrap();
    let group = |(number, (prompt, completions)): (usize, (Vec<u32>, Completions))| RolloutGroup {
        unused: false,
        step: 1,
        file: String::new(),
        line: 1,
        prompt,
        reference: String::new(),
        completions: (3 * number..)
            .zip(completions)
            .map(|(place, (tokens, ended, reward))| Rollout {
                text: String::new(),
                tokens,
                ended,
                rewards: BTreeMap::new(),
                reward,
                advantage: found[place] as f32,
                log_probs: old.as_ref().map(|old| old[place].clone()),
            })
            .collect(),
    };
    groups.into_iter().enumerate().map(group).collect()
}

/// All completions at once or in micro-batches: what is compared is the mean of the step.
#[test]
fn losses_metrics_and_gradients_are_those_of_trl() {
    let (json, expected) = (reference("grpo.json"), expected(NAME));
    let cases = json["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let objective = grpo(&json, &case["settings"]);
        let what = case["settings"].to_string();
        let groups = groups(&json, &*objective, case);
        let mask = objective.rollouts().unwrap().mask_truncated;
        for (kernels, recompute) in WAYS {
            let model = by(kernels, with_lora(NAME, &expected));
            for rows in [6, 1] {
                let batches = rows_of(&groups, rows, mask);
                let (loss, sums) = step_on(&model, &*objective, &batches, recompute);
                let found = objective.report(&loss.metrics);
                for (name, wanted) in case["metrics"].as_object().unwrap() {
                    near(&format!("{what} {name}"), found[name], wanted, 1e-4);
                }
                near(&what, loss.number(), &case["loss"], 1e-5);
                assert_gradients(&what, sums, &case["gradients"]);
            }
        }
    }
    let has = |key: &str, name: &str| cases.iter().any(|case| case["settings"][key] == name);
    assert!(RewardScale::NAMES.iter().all(|name| *name == "group" || has("scale_rewards", name)));
    assert!(AdvantageBaseline::NAMES.iter().all(|name| *name == "mean" || has("baseline", name)));
}

#[test]
fn twenty_steps_on_the_same_completions_have_the_losses_of_trl() {
    let (json, expected) = (reference("grpo.json"), expected(NAME));
    let steps = &json["steps"];
    for kernels in KERNELS {
        let model = by(kernels, with_lora(NAME, &expected));
        let mut trainer = stepping(model, steps, grpo(&json, &steps["settings"]));
        let batches = rows_of(&groups(&json, &*trainer.objective, steps), 2, false);
        let old: Vec<f32> =
            serde_json::from_value::<Vec<Vec<f32>>>(steps["old"].clone()).unwrap().concat();
        for (ours, wanted) in trainer.log_probs(&batches).unwrap().iter().zip(&old) {
            assert!((ours - wanted).abs() < 1e-4, "{ours} {wanted}");
        }
        assert_step_losses("grpo", &mut trainer, &batches, steps);
    }
}

/// Where nothing counts there is nothing to learn, and no number that is none.
#[test]
fn a_step_of_which_all_is_left_out_changes_nothing() {
    let (json, expected) = (reference("grpo.json"), expected(NAME));
    let case = &json["cases"][7];
    let objective = grpo(&json, &case["settings"]);
    let mut groups = groups(&json, &*objective, case);
    groups.iter_mut().flat_map(|group| &mut group.completions).for_each(|it| it.ended = false);
    let mut trainer = Trainer::new(with_lora(NAME, &expected), step_settings(1e-2), adamw());
    trainer.objective = objective;
    let (report, _) = trainer.step(&rows_of(&groups, 2, true), 0.0).unwrap();
    assert_eq!((report.loss, report.grad_norm), (0.0, 0.0));
}

/// More than are written at the same time, of prompts of several lengths, some of which end early.
#[test]
fn completions_of_a_prompt_are_those_that_are_written_alone() {
    let expected = expected(NAME);
    let model = with_lora(NAME, &expected);
    let (ends, stream) = ([3, 11, 50, 61], Stream::new(8));
    let prompts: [&[u32]; 3] = [&[5, 17, 42, 8], &[50, 2, 55], &[9]];
    let sampling = |prompt: u64, number: u64| {
        Sampling::new(1.3, stream.number(prompt).number(number), 12 - number as usize)
    };
    let groups: Vec<(&[u32], Vec<Sampling>)> = (0..)
        .zip(prompts)
        .map(|(prompt, tokens)| (tokens, (0..9).map(|number| sampling(prompt, number)).collect()))
        .collect();
    let mut heard = 0;
    let made = firebrand::model::generate_groups(&model, &groups, &ends, &mut |done| heard = done);
    let made = made.unwrap();
    assert_eq!((made.len(), heard), (3, 27));
    let mut ended = 0;
    for ((tokens, all), made) in groups.iter().zip(&made) {
        for (sampling, completion) in all.iter().zip(made) {
            let alone = generate(&model, tokens, &ends, *sampling, &mut |_| true).unwrap();
            let count = completion.tokens.len() - usize::from(completion.ended);
            assert_eq!(completion.tokens[..count], alone.tokens);
            assert_eq!(completion.ended, alone.ended);
            let last = completion.tokens.last().unwrap();
            assert_eq!(completion.ended, ends.contains(last));
            ended += usize::from(completion.ended);
        }
    }
    assert!((1..27).contains(&ended), "{ended}");
}
