//! Twenty steps of every family beside those of PyTorch and PEFT (`tests/reference/family_steps.py`).

use firebrand::adapters;
use firebrand::config::Kernels;
use firebrand::engine::Trainer;
use firebrand::model::Model;
use serde_json::Value;

use super::Case;
use crate::common::{adamw, repository, step_settings};

/// Relative. Where models are steep, errors of single precision grow: a reference that begins one
/// part in ten million off is then further off than this after twenty steps, and so may ours be.
const LOSSES: f64 = 1e-3;
const RATES: [(&str, f64); 2] = [("lora", 3e-3), ("full", 3e-4)];

#[test]
fn twenty_steps_have_the_losses_of_pytorch_and_peft() {
    let text = std::fs::read_to_string(repository("tests/reference/family_steps.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut problems = Vec::new();
    for case in Case::all() {
        let wanted = &all[&case.name];
        assert!(wanted["lora"].is_object(), "{} has no steps", case.name);
        let frozen = case.json["expected"]["full"].as_object().unwrap().is_empty();
        assert_eq!(wanted["full"].is_object(), !frozen, "{}", case.name);
        for (kind, rate) in RATES.into_iter().filter(|(kind, _)| wanted[*kind].is_object()) {
            let mut model: Model = match kind {
                "lora" => case.adapted(Kernels::Fast, 0.0),
                _ => case.model(Kernels::Fast),
            };
            if kind == "full" {
                adapters::unfreeze_all(&mut model);
            }
            let mut trainer = Trainer::new(model, step_settings(rate), adamw());
            let limit = LOSSES.max(2.0 * wanted[kind]["rounding"].as_f64().unwrap());
            let wanted = wanted[kind]["losses"].as_array().unwrap();
            assert_eq!(wanted.len(), 20);
            let batch = [case.batch()];
            let mut losses = wanted.iter().map(|wanted| {
                let (report, _) = trainer.step(&batch, 0.0).unwrap();
                (report.loss, wanted.as_f64().unwrap())
            });
            let far = |(ours, wanted): &(f64, f64)| (ours / wanted - 1.0).abs() > limit;
            if let Some((ours, wanted)) = losses.find(far) {
                problems.push(format!("{} {kind}: {ours} for {wanted}", case.name));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
