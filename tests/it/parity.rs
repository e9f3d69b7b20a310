//! Logits, losses, gradients and optimiser steps against transformers, PEFT and PyTorch, on the
//! tiny models of `tests/reference/tiny`; and the equalities that hold between our own paths.

mod base_adapters;
mod bitsandbytes;
mod classification;
mod distillation;
mod dora;
mod forward;
mod gguf_blocks;
mod on_disk;
mod gradients;
mod layers;
mod lora_variants;
mod grpo;
mod preference;
mod steps;
mod weight_formats;

use crate::common::{CASES, Expected, adamw, assert_near, case, cpu, row, says, step_settings};
use std::collections::BTreeMap;

use burn::tensor::Device;
use firebrand::adapters::{self, Lora, LoraSettings};
use firebrand::config::{Kernels, Recompute};
use firebrand::data::{Batch, Target};
use firebrand::engine::{
    OptimizerState, ParameterGroups, Pass, Trainer, forward_backward, optimizers, upload,
};
use firebrand::model::{
    Gradients, Init, Model, ModelJson, Parameter, PassContext, Sampling, Visitor, families,
    generate, generate_all, load,
};
use firebrand::objectives::{self, Loss, Objective};
use firebrand::ops::{from_vec, host, indices};
use firebrand::random::Stream;
use snapbox::str;

/// What the issue asks for; measured differences are about 1e-6.
const LIMIT: f64 = 1e-4;

fn expected(name: &str) -> Expected {
    Expected::read(&case(name).join("expected.safetensors"))
}

fn model(name: &str) -> Model {
    load(&case(name), Init::Pretrained, &cpu()).unwrap().model
}

/// Both ways of the CPU to compute.
const KERNELS: [Kernels; 2] = [Kernels::Fast, Kernels::Portable];

fn by(kernels: Kernels, mut model: Model) -> Model {
    model.computing.kernels = kernels;
    model
}

/// The ways in which objectives are compared with others'.
const WAYS: [(Kernels, Recompute); 3] = [
    (Kernels::Fast, Recompute::None),
    (Kernels::Portable, Recompute::Layers),
    (Kernels::Fast, Recompute::Layers),
];

/// A step on these micro-batches: loss and gradients are means over what the objective counts.
fn step_on(
    model: &Model,
    objective: &dyn Objective,
    batches: &[Batch],
    recompute: Recompute,
) -> (Loss, Gradients) {
    let scale = 1.0 / batches.iter().map(|batch| objective.count(batch)).sum::<u64>() as f64;
    let (mut loss, mut sums) = (Loss::default(), Gradients::default());
    for batch in batches {
        let (dropout, noise, loss_chunk_tokens) = (None, None, 3);
        let pass = Pass { scale, recompute, loss_chunk_tokens, dropout, noise };
        let (of_batch, _) = forward_backward(model, objective, batch, pass, &mut sums);
        loss = loss.plus(of_batch.times(scale));
    }
    (loss, sums)
}

/// What takes the steps of a reference, without weight decay.
fn stepping(model: Model, steps: &serde_json::Value, objective: Box<dyn Objective>) -> Trainer {
    let rate = steps["learning_rate"].as_f64().unwrap();
    let no_decay = optimizers::with("adamw", &[("train.weight_decay", 0.0)]);
    let mut trainer = Trainer::new(model, step_settings(rate), no_decay);
    trainer.objective = objective;
    trainer
}

/// Its losses on the same micro-batches at every step.
fn assert_step_losses(
    what: &str,
    trainer: &mut Trainer,
    batches: &[Batch],
    steps: &serde_json::Value,
) {
    for wanted in steps["losses"].as_array().unwrap() {
        let (report, _) = trainer.step(batches, 0.0).unwrap();
        preference::near(&format!("{what} step {}", report.step), report.loss, wanted, 5e-4);
    }
}

/// Documents in one row, each of prompts with their answers, which are trained on; a document may
/// end with a token that is no target.
fn row_of_documents<'a>(
    documents: impl IntoIterator<Item = (Vec<[&'a [u32]; 2]>, Option<u32>)>,
) -> Batch {
    let mut batch = Batch { rows: 1, ..Batch::default() };
    for (document, (parts, end)) in (1..).zip(documents) {
        let first = batch.tokens.len();
        for [prompt, answer] in parts {
            batch.tokens.extend(prompt);
            for &token in answer {
                let index = u32::try_from(batch.tokens.len() - 1).unwrap();
                batch.targets.push(Target { index, token });
                batch.tokens.push(token);
            }
        }
        batch.tokens.extend(end);
        batch.documents.resize(batch.tokens.len(), document);
        batch.positions.extend(0..u32::try_from(batch.tokens.len() - first).unwrap());
    }
    batch.length = batch.tokens.len();
    batch
}

/// The groups of parameters of a config with these lines.
fn groups_of(lines: &str) -> ParameterGroups {
    let text = format!("[model]\nbase = \"base\"\n[[data.train]]\npath = \"a.jsonl\"\n{lines}");
    let loaded = firebrand::settings::parse("run.toml".as_ref(), text.as_bytes(), &[]).unwrap();
    ParameterGroups::read(&loaded.config.owned)
}

fn each_case() -> impl Iterator<Item = (&'static str, Kernels)> {
    CASES.into_iter().flat_map(|name| KERNELS.map(|kernels| (name, kernels)))
}

fn lora(dropout: f64) -> Lora {
    let settings = LoraSettings { lora_dropout: dropout, ..LoraSettings::new(4, 8.0) };
    Lora { settings }
}

/// The model with the adapter of the reference.
fn with_lora(name: &str, expected: &Expected) -> Model {
    with_adapter(name, expected, &lora(0.0))
}

fn with_adapter(name: &str, expected: &Expected, adapter: &Lora) -> Model {
    adapted(model(name), expected, adapter)
}

fn adapted(mut model: Model, expected: &Expected, adapter: &Lora) -> Model {
    struct Set<'a>(&'a Expected, Device);
    impl Visitor for Set<'_> {
        fn vector(&mut self, _: &str, _: &mut Parameter<1>) {}
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            if path.contains(".lora_") {
                let values = self.0.floats(&format!("lora.base_model.model.{path}")).to_vec();
                parameter.value = from_vec(values, parameter.value.dims(), &self.1);
            }
        }
    }
    adapters::attach(&mut model, adapter, Stream::new(1)).unwrap();
    model.visit(&mut Set(expected, cpu()));
    model
}

/// Two layers of the tiny models, with their dimensions, whose merged weights PEFT wrote.
const MERGED: [(&str, [usize; 2]); 2] =
    [("model.layers.0.self_attn.q_proj", [32, 32]), ("model.layers.1.mlp.down_proj", [32, 64])];

/// What an adapter's file has beside a layer.
fn beside(
    adapter: &dyn adapters::Adapter,
    weights: &Expected,
    layer: &str,
) -> BTreeMap<&'static str, Vec<f32>> {
    let names = adapter.kind().parameters().iter();
    names.map(|name| (*name, weights.floats(&adapters::file_name(layer, name)).to_vec())).collect()
}

fn pass(batch: &Batch) -> Pass {
    Pass {
        scale: 1.0 / batch.targets.len() as f64,
        recompute: Recompute::None,
        loss_chunk_tokens: 512,
        dropout: Some(Stream::new(3).into()),
        noise: None,
    }
}

/// All tokens through the last layer, and target positions alone.
fn both_ways(batch: &Batch) -> [Pass; 2] {
    [pass(batch), Pass { dropout: None, ..pass(batch) }]
}

fn gradients(model: &Model, batch: &Batch, pass: Pass) -> (f64, Gradients) {
    let mut sums = Gradients::default();
    let scale = pass.scale;
    let (loss, _) = forward_backward(model, &*objectives::with("sft", &[]), batch, pass, &mut sums);
    (loss.number() * scale, sums)
}

fn logits(model: &Model, batch: &Batch) -> Vec<f32> {
    let (tokens, context) = upload(model, batch);
    host(model.logits(model.hidden(tokens, &context)))
}

/// Everything that learns, by its name in files.
fn trainable(model: &mut Model) -> Vec<(String, Vec<f32>)> {
    let (specs, values) = firebrand::checkpoint::learning_specs(model, str::to_owned, |_| {
        firebrand::weights::Element::F32
    });
    let values = |spec| firebrand::checkpoint::learning_values(&values, spec);
    specs.iter().map(|spec| (spec.name.clone(), values(spec))).collect()
}

/// Logits at positions that are no padding.
fn real(batch: &Batch, logits: &[f32]) -> Vec<f32> {
    let width = logits.len() / batch.documents.len();
    let rows = logits.chunks_exact(width).zip(&batch.documents);
    rows.filter(|(_, document)| **document > 0).flat_map(|(row, _)| row.to_vec()).collect()
}

/// Compares all gradients of two ways to compute the same thing.
fn assert_same_gradients(what: &str, a: (f64, Gradients), b: (f64, Gradients), limit: f64) {
    assert!((a.0 / b.0 - 1.0).abs() <= limit, "{what}: losses {} and {}", a.0, b.0);
    let paths: Vec<String> = a.1.paths().map(str::to_owned).collect();
    assert!(!paths.is_empty() && paths.len() == b.1.paths().count());
    for path in paths {
        let [a, b] = [&a.1, &b.1].map(|sums| host(sums.get(&path).unwrap().clone()));
        assert_near(&format!("{what} {path}"), &a, &b, limit);
    }
}
