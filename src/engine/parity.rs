//! What is made of operations, on a device and on the CPU: the loss, the optimiser, and one whole
//! step of a model of two layers with each kind of adapter.

use std::time::Instant;

use burn::tensor::Device;
use serde_json::json;

use crate::adapters::{self, ADAPTERS, Adapter};
use crate::config::Recompute;
use crate::data::{Batch, Target};
use crate::device::{Arithmetic, ComputeConfig, OpenedDevice, attempt};
use crate::engine::optimizers::{self, Kept, OPTIMIZERS, OptimizerEntry, UpdatedParameter};
use crate::engine::{OptimizerState, Schedule, Shape, StepSettings, Trainer};
use crate::error::Result;
use crate::model::{Model, ModelJson, Parameter, Visitor, WeightSource, families};
use crate::ops::parity::{self, Compared, OPERATIONS, Outputs};
use crate::ops::{flat, from_vec, host};
use crate::random::Stream;
use crate::weights::Element;

/// What a whole step may differ by, relative to the largest number of each tensor.
const STEP_TOLERANCE: f64 = 1e-3;
/// The same in mixed arithmetic, where both sides round to 16 bits, but after other sums.
const MIXED_TOLERANCE: f64 = 3e-2;

/// How a device compares with the CPU.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Parity {
    /// Every output of every operation, and of a step.
    pub lines: Vec<Compared>,
    /// Seconds it took, kernels compiled.
    pub seconds: f64,
    /// Why there are no lines: the driver took the process down that compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Parity {
    /// Whether everything was compared, and is right.
    pub fn is_right(&self) -> bool {
        self.failure.is_none() && self.wrong().is_empty()
    }

    /// The lines that are too far off.
    pub fn wrong(&self) -> Vec<&Compared> {
        self.lines.iter().filter(|line| !line.is_right()).collect()
    }
}

/// Compares everything that a device does with the CPU. The CPU itself is compared with a second
/// run of its own. `at` is told what comes next.
///
/// # Errors
/// When `at` fails, or the model of the comparison cannot be made.
pub fn parity(opened: &OpenedDevice, at: &mut dyn FnMut(&str) -> Result<()>) -> Result<Parity> {
    let began = Instant::now();
    let computing = opened.computing();
    let has = |arithmetic| match arithmetic {
        Arithmetic::F32 => true,
        Arithmetic::MixedF16 => opened.f16,
        Arithmetic::MixedBf16 => opened.bf16,
    };
    let mut lines = Vec::new();
    for operation in OPERATIONS.iter().filter(|operation| has(operation.arithmetic)) {
        at(operation.name)?;
        lines.extend(parity::compare(operation, &opened.device, computing));
    }
    for entry in OPTIMIZERS {
        at(entry.name)?;
        let update = |device: &Device| optimizer(entry, device);
        lines.extend(pair(entry.name, entry.tolerance, &opened.device, update)?);
    }
    for arithmetic in [Arithmetic::F32, Arithmetic::MixedF16, Arithmetic::MixedBf16] {
        if !has(arithmetic) {
            continue;
        }
        let computing = ComputeConfig { arithmetic, ..computing };
        for kind in ADAPTERS {
            let step = format!("{} step", kind.label().title);
            let (name, tolerance) = match arithmetic {
                Arithmetic::F32 => (step, STEP_TOLERANCE),
                _ => (format!("{step}, {}", arithmetic.name()), MIXED_TOLERANCE),
            };
            at(&name)?;
            let run = |device: &Device| self::step(kind.sample().as_ref(), device, computing);
            lines.extend(pair(&name, tolerance, &opened.device, run)?);
        }
    }
    lines.extend(step_in_tiles(&opened.device, computing, at)?);
    Ok(Parity { lines, seconds: began.elapsed().as_secs_f64(), failure: None })
}

/// A step whose MLPs are computed a tile of tokens at a time.
fn step_in_tiles(
    device: &Device,
    computing: ComputeConfig,
    at: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Vec<Compared>> {
    let computing = ComputeConfig { mlp_tile: Some(64), ..computing };
    let kind = ADAPTERS[0];
    let name = format!("{} step, MLPs in tiles", kind.label().title);
    at(&name)?;
    let run = |device: &Device| self::step(kind.sample().as_ref(), device, computing);
    pair(&name, STEP_TOLERANCE, device, run)
}

fn pair(
    name: &str,
    tolerance: f64,
    device: &Device,
    run: impl Fn(&Device) -> Result<Outputs>,
) -> Result<Vec<Compared>> {
    let reference = run(&Device::flex())?;
    let ours = match attempt(*device != Device::flex(), || run(device)) {
        Ok(outputs) => Ok(outputs?),
        Err(failure) => Err(failure),
    };
    Ok(parity::compare_outputs(name, tolerance, ours, reference))
}

/// Three updates of random numbers.
fn optimizer(entry: &OptimizerEntry, device: &Device) -> Result<Outputs> {
    // Enough numbers of one parameter for a state in codes.
    const MOST: usize = 4500;
    let mut optimizer = OptimizerState::new(optimizers::with(entry.name, entry.smooth));
    let random = |name: &str| -> burn::tensor::Tensor<1> {
        let stream = Stream::new(2).site(name);
        #[expect(clippy::cast_possible_truncation)] // f32 is wanted
        from_vec((0..MOST as u64).map(|i| stream.normal(i) as f32).collect(), [MOST], device)
    };
    // More tensors of more lengths than a kernel of a GPU moves at once; every other a matrix.
    let parameters: Vec<UpdatedParameter> = (0..20)
        .map(|number| {
            let count = if number == 19 { MOST } else { 500 - 25 * number };
            let dims = if number % 2 == 0 { vec![count] } else { vec![count / 25, 25] };
            UpdatedParameter::new(&format!("{number:02}"), &dims)
        })
        .collect();
    let all = |of: &str| -> Vec<_> {
        let parts = parameters.iter().map(|part| random(of).narrow(0, 0, part.count()));
        parts.collect()
    };
    let factor = from_vec(vec![0.75], [1], device);
    let mut values = all("value");
    for step in ["first", "second", "third"] {
        optimizer.begin_update();
        let both = values.into_iter().zip(all(step)).map(|(value, d)| [value, d]);
        let moving = parameters.iter().cloned().zip(both).collect();
        values = optimizer.update_together(moving, &factor, 1e-2)?.into_values().collect();
    }
    let mut kept: Vec<(&'static str, Vec<f32>)> = Vec::new();
    for parameter in &parameters {
        let state = &optimizer.by_path()[&parameter.path];
        for (spec, state) in optimizer.specs(parameter).iter().zip(state) {
            let numbers = match state {
                Kept::Numbers(numbers) => host(numbers.clone()),
                Kept::Codes(codes) => codes.iter().map(|code| f32::from(*code)).collect(),
                Kept::Stored(stored) => stored.numbers(),
            };
            match kept.iter_mut().find(|(name, _)| *name == spec.name) {
                Some((_, all)) => all.extend(numbers),
                None => kept.push((spec.name, numbers)),
            }
        }
    }
    let weights = values.into_iter().flat_map(host).collect();
    Ok(std::iter::once(("weights", weights)).chain(kept).collect())
}

/// A model with grouped queries, a tied head and an adapter, which numbers alone make.
pub fn small_model(device: &Device, computing: ComputeConfig) -> Result<Model> {
    small_model_of(2, device, computing)
}

/// The same of so many layers.
pub fn small_model_of(layers: usize, device: &Device, computing: ComputeConfig) -> Result<Model> {
    small_model_with(ADAPTERS[0].sample().as_ref(), layers, device, computing)
}

fn small_model_with(
    adapter: &dyn Adapter,
    layers: usize,
    device: &Device,
    computing: ComputeConfig,
) -> Result<Model> {
    let config = ModelJson::from_value(json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 160, "num_hidden_layers": layers,
        "vocab_size": 320, "tie_word_embeddings": true, "rms_norm_eps": 1e-5,
    }));
    // Larger than usual, so that logits and gradients are not next to nothing.
    let mut source = WeightSource::random(Stream::new(3), 0.1, Element::F32, device);
    let mut model = Model::build(families::describe(&config)?, &mut source)?;
    model.computing = computing;
    adapters::attach(&mut model, adapter, Stream::new(4))?;
    model.visit(&mut Disturb(device.clone()));
    model.compute_in(computing.arithmetic);
    Ok(model)
}

/// Moves an adapter away from its first values, which compute what the base model does and let no
/// gradient reach some of its parameters.
struct Disturb(Device);

impl Disturb {
    fn add<const D: usize>(&self, path: &str, parameter: &mut Parameter<D>) {
        if parameter.trainable {
            let dims = parameter.value.dims();
            let stream = Stream::new(5).site(path);
            let count = dims.iter().product::<usize>() as u64;
            #[expect(clippy::cast_possible_truncation)] // f32 is wanted
            let values = (0..count).map(|i| (0.05 * stream.normal(i)) as f32).collect();
            parameter.value = parameter.value.clone() + from_vec(values, dims, &self.0);
        }
    }
}

impl Visitor for Disturb {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.add(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.add(path, parameter);
    }
}

/// Two packed rows of 48 tokens, one with padding at its end.
pub fn small_batch() -> Batch {
    let stream = Stream::new(6);
    let (rows, length) = (2, 48);
    let ends: [u32; 2] = [48, 40];
    let mut batch = Batch { rows, length, ..Batch::default() };
    for (row, end) in ends.into_iter().enumerate() {
        for place in 0..48_u32 {
            let real = place < end;
            let index = u32::try_from(row * length).unwrap_or(0) + place;
            let token = |at: u32| {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 320
                let token = (stream.uniform(u64::from(at)) * 319.0) as u32;
                token
            };
            batch.tokens.push(if real { token(index) } else { 0 });
            batch.documents.push(if real { 1 + place / 20 } else { 0 });
            batch.positions.push(if real { place % 20 } else { 0 });
            if real && place % 20 > 4 && place + 1 < end {
                batch.targets.push(Target { index, token: token(index + 1) });
            }
        }
    }
    batch
}

/// How the step is made.
pub fn small_settings() -> StepSettings {
    StepSettings {
        schedule: Schedule {
            peak: 1e-2,
            warmup_steps: 0,
            total_steps: 10,
            min_ratio: 0.0,
            shape: Shape::Constant,
        },
        max_grad_norm: 1.0,
        recompute: Recompute::None,
        loss_chunk_tokens: 32,
        parallel_micro_batches: 1,
        rows: 0,
        neftune_noise_alpha: 0.0,
        seed: 1,
    }
}

fn step(adapter: &dyn Adapter, device: &Device, computing: ComputeConfig) -> Result<Outputs> {
    let batch = small_batch();
    let model = small_model_with(adapter, 2, device, computing)?;
    let rule = optimizers::with(OPTIMIZERS[0].name, OPTIMIZERS[0].smooth);
    let mut trainer = Trainer::new(model, small_settings(), rule);
    let (report, _) = trainer.step(&[batch], 0.0)?;
    #[expect(clippy::cast_possible_truncation)] // they are compared as everything else is
    let numbers = [report.loss, report.grad_norm].map(|x| x as f32);
    let mut weights = Vec::new();
    trainer.model.visit(&mut Trainable(&mut weights));
    let kept = trainer.optimizer.by_path().values();
    let first: Vec<f32> = kept.flat_map(|state| host(state[0].clone().numbers())).collect();
    Ok(vec![
        ("loss", vec![numbers[0]]),
        ("norm of the gradient", vec![numbers[1]]),
        ("gradients", first),
        ("weights", weights),
    ])
}

/// Everything that learns, one after the other.
struct Trainable<'a>(&'a mut Vec<f32>);

impl Visitor for Trainable<'_> {
    fn vector(&mut self, _: &str, parameter: &mut Parameter<1>) {
        if parameter.trainable {
            self.0.extend(host(parameter.value.clone()));
        }
    }
    fn matrix(&mut self, _: &str, parameter: &mut Parameter<2>) {
        if parameter.trainable {
            self.0.extend(host(flat(parameter.value.clone())));
        }
    }
}
