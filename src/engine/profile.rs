//! What a LoRA step launches, moves and computes on a device: of each layer, and of all else.
//! Counted with small models of one and of two layers, since launches do not depend on how large a
//! model is, as long as a row of tokens is no longer than a block of attention; and compared with
//! the formula, by which bytes and operations of any model are known.

use crate::data::Batch;
use crate::device::{Arithmetic, ComputeConfig, Launches, Ledger, OpenedDevice, Work, keep_ledger};
use crate::engine::optimizers::{self, OPTIMIZERS};
use crate::engine::parity::{small_batch, small_model_of, small_settings};
use crate::engine::{MicroBatchSplit, ModelShape, Size, StepSettings, StepShape, Trainer};
use crate::error::Result;
use crate::model::Model;

/// Rank of the small model's adapter.
const RANK: usize = 4;

/// Launches of a step.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct StepLaunches {
    /// How is multiplied.
    pub arithmetic: String,
    /// What a further layer adds.
    pub layer: Launches,
    /// What there is without any.
    pub rest: Launches,
    /// What they move and compute.
    pub moves: StepMoves,
}

/// What the launches of a step move and compute, of the small model that is counted.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct StepMoves {
    /// What a further layer adds.
    pub layer: Ledger,
    /// What there is without any.
    pub rest: Ledger,
    /// Kernels of which not every launch is known.
    pub unknown: Vec<String>,
    /// What is not as the formula has it: kernels, uploads, read-backs. Empty where nothing was
    /// launched.
    pub differs: Vec<String>,
    /// How many times the bytes of a perfectly fused step are moved, of a model of one layer.
    pub over_ideal: Vec<OverIdeal>,
}

/// A part of a step, and its bytes over those of a perfectly fused one.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct OverIdeal {
    /// What is done.
    pub part: String,
    /// The quotient.
    pub times: f64,
}

impl StepLaunches {
    /// Of a model of so many layers.
    pub fn of_layers(&self, layers: i64) -> i64 {
        self.rest.total() + layers * self.layer.total()
    }
}

/// A step that was counted, and its formula where there is one.
struct Counted {
    ledger: Ledger,
    shape: Option<StepShape>,
}

/// Counts in every arithmetic that a device has.
///
/// # Errors
/// When a model cannot be made, or a step fails.
pub fn step_launches(opened: &OpenedDevice) -> Result<Vec<StepLaunches>> {
    let all = [
        (Arithmetic::F32, true),
        (Arithmetic::MixedF16, opened.f16),
        (Arithmetic::MixedBf16, opened.bf16),
    ];
    let there = all.into_iter().filter(|(_, there)| *there);
    let counted = there.map(|(arithmetic, _)| {
        let computing = ComputeConfig { arithmetic, ..opened.computing() };
        let [one, two] = [1, 2].map(|layers| step(layers, opened, computing));
        Ok(compared(arithmetic, &one?, &two?))
    });
    counted.collect()
}

fn compared(arithmetic: Arithmetic, one: &Counted, two: &Counted) -> StepLaunches {
    let layer = two.ledger.without(&one.ledger);
    let rest = one.ledger.without(&layer);
    let mut unknown: Vec<String> =
        two.ledger.unknown().into_iter().map(ToOwned::to_owned).collect();
    unknown.retain(|_| two.ledger.total().launches > 0);
    let mut differs: Vec<String> = [one, two].into_iter().flat_map(Counted::differs).collect();
    differs.sort();
    differs.dedup();
    let launched = one.ledger.total().launches > 0;
    let shape = one.shape.iter().filter(|_| launched);
    let over = shape.flat_map(|shape| shape.moved().over(&shape.ideal()));
    let over_ideal = over.map(|(part, times)| OverIdeal { part: part.to_owned(), times });
    let arithmetic = arithmetic.name().to_owned();
    let (of_layer, of_rest) = (launches(&layer), launches(&rest));
    let over_ideal = over_ideal.collect();
    let moves = StepMoves { layer, rest, unknown, differs, over_ideal };
    StepLaunches { arithmetic, layer: of_layer, rest: of_rest, moves }
}

fn launches(ledger: &Ledger) -> Launches {
    ledger.kernels.iter().map(|(name, work)| (name.as_str(), work.launches)).collect()
}

impl Counted {
    /// What is not as the formula has it, and how.
    fn differs(&self) -> Vec<String> {
        let Some(formula) = self.shape.as_ref().map(StepShape::ledger) else { return Vec::new() };
        let ours = &self.ledger;
        if ours.total().launches == 0 {
            return Vec::new(); // nothing has kernels
        }
        let names = ours.kernels.keys().chain(formula.kernels.keys());
        let said = |work: Work| {
            let Work { launches, known, bytes, flops } = work;
            format!("{launches} launches, {known} known, {bytes} bytes, {flops} operations")
        };
        let of_kernel = |name: &String| {
            let (found, wanted) = (ours.of(name), formula.of(name));
            (found != wanted).then(|| format!("{name}: {}, not {}", said(found), said(wanted)))
        };
        let transfers = [
            ("uploads", ours.uploads, formula.uploads),
            ("read-backs", ours.read_backs, formula.read_backs),
        ];
        let of_transfers = transfers.into_iter().filter(|(_, found, wanted)| found != wanted);
        let of_transfers = of_transfers.map(|(what, found, wanted)| {
            let (times, bytes) = (found.times, found.bytes);
            format!("{what}: {times} of {bytes} bytes, not {} of {}", wanted.times, wanted.bytes)
        });
        names.filter_map(of_kernel).chain(of_transfers).collect()
    }
}

/// The second step: state of the optimizer is made in the first.
fn step(layers: usize, opened: &OpenedDevice, computing: ComputeConfig) -> Result<Counted> {
    let batch: Batch = small_batch();
    let model = small_model_of(layers, &opened.device, computing)?;
    let rule = optimizers::with(OPTIMIZERS[0].name, OPTIMIZERS[0].smooth);
    // One chunk of the loss, as a micro-batch of usual size has.
    let settings = StepSettings { loss_chunk_tokens: batch.tokens.len(), ..small_settings() };
    let shape = shape(&model, &batch, computing);
    let mut trainer = Trainer::new(model, settings, rule);
    let mut one = || trainer.begin(std::slice::from_ref(&batch), 0.0, true)?.finish();
    one()?;
    let (done, ledger) = keep_ledger(one);
    done.map(|_| Counted { ledger, shape })
}

/// The formula of the step.
fn shape(model: &Model, batch: &Batch, computing: ComputeConfig) -> Option<StepShape> {
    let size = Size::of(batch, 0, MicroBatchSplit::default(), computing);
    let shape = StepShape {
        model: ModelShape::of(&model.description)?,
        rank: RANK,
        rows: (size.rows, size.length),
        targets: batch.targets.len(),
        chunk: batch.tokens.len(),
        pad_multiple: computing.pad_multiple,
        arithmetic: computing.arithmetic,
        limits: computing.limits,
        bindings: bindings(model),
    };
    shape.holds().then_some(shape)
}

#[cfg(feature = "gpu")]
fn bindings(model: &Model) -> usize {
    match model.device == burn::tensor::Device::flex() {
        true => 0,
        false => crate::ops::gpu::bindings(&model.device),
    }
}

#[cfg(not(feature = "gpu"))]
fn bindings(_: &Model) -> usize {
    0
}
