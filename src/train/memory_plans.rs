//! Ways to make the same step in less memory, the fastest first. On the CPU all of them give the
//! same bytes; on a GPU, sums of fewer rows are rounded in another order.

mod refused;

use serde::Serialize;

use crate::adapters::{self, Adapter};
use crate::config::{ActivationOffload, MemoryChoice, OptimizerOffload, Recompute, RunConfig};
use crate::device::{OpenedDevice, memory_bytes_available};
use crate::engine::{Estimate, TeacherMemory, Workload};
use crate::error::Result;
use crate::event::bytes;
use crate::model::description::LayerDescription;
use crate::model::{Description, LM_HEAD, MLP_TILE, Streamed};
use crate::objectives;
use crate::train::memory_plan::MemoryPlan;
use crate::train::step_time::{StepProducts, tokens_per_second};
use crate::train::{frozen_weights, memory_fit};
use crate::weights::formats::WeightFormat;

/// Target tokens whose logits are held at once where memory counts more than time.
const SMALL_CHUNK: usize = 32;

/// State of an optimizer and inputs of layers of less than that are not worth moving, nor where
/// they are less than such a part of what a step takes.
const MOVED_LEAST: u64 = 32 << 20;
const MOVED_PART: u64 = 10;

/// What a plan changes of the settings.
struct NamedPlan {
    choice: MemoryChoice,
    recompute: Recompute,
    /// Logits of few target tokens are held at once.
    small_loss: bool,
    /// A GPU works on a row at a time.
    single_rows: bool,
    /// MLPs are computed a tile of tokens at a time, where there are more.
    tiled_mlp: bool,
    streamed: Option<Streamed>,
    /// The optimizer's state is off the device between updates.
    offloaded: bool,
    /// Inputs of layers are off the device until the backward pass.
    inputs_offloaded: bool,
}

const FASTEST: NamedPlan = NamedPlan {
    choice: MemoryChoice::Fastest,
    recompute: Recompute::None,
    small_loss: false,
    single_rows: false,
    tiled_mlp: false,
    streamed: None,
    offloaded: false,
    inputs_offloaded: false,
};
const SMALL: NamedPlan = NamedPlan {
    choice: MemoryChoice::Small,
    recompute: Recompute::Layers,
    small_loss: true,
    single_rows: true,
    tiled_mlp: false,
    streamed: None,
    offloaded: false,
    inputs_offloaded: false,
};
const TILED: NamedPlan = NamedPlan { choice: MemoryChoice::TiledMlp, tiled_mlp: true, ..SMALL };
const INPUTS_OFFLOADED: NamedPlan =
    NamedPlan { choice: MemoryChoice::ActivationsOffloaded, inputs_offloaded: true, ..TILED };

/// The plans that `auto` chooses from.
static PLANS: [NamedPlan; 11] = [
    FASTEST,
    NamedPlan { choice: MemoryChoice::SmallLoss, small_loss: true, ..FASTEST },
    NamedPlan { choice: MemoryChoice::Recompute, recompute: Recompute::Layers, ..FASTEST },
    SMALL,
    TILED,
    NamedPlan { choice: MemoryChoice::StreamedTables, streamed: Some(Streamed::Tables), ..TILED },
    NamedPlan { choice: MemoryChoice::Streamed, streamed: Some(Streamed::All), ..TILED },
    NamedPlan { choice: MemoryChoice::Offloaded, offloaded: true, ..FASTEST },
    NamedPlan { choice: MemoryChoice::SmallOffloaded, offloaded: true, ..SMALL },
    INPUTS_OFFLOADED,
    NamedPlan { choice: MemoryChoice::AllOffloaded, offloaded: true, ..INPUTS_OFFLOADED },
];

fn plan_named(choice: MemoryChoice) -> Option<&'static NamedPlan> {
    PLANS.iter().find(|named| named.choice == choice)
}

/// A plan, and what it takes.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryCandidate {
    /// As `train.memory` calls it; none where the settings are such as no plan has.
    pub name: Option<&'static str>,
    /// What is held at once.
    #[serde(flatten)]
    pub plan: MemoryPlan,
    /// Its predicted peak: on a GPU of the device, else of the process.
    pub memory_bytes: u64,
    /// The time of a step beside that of the fastest, predicted by its products.
    pub relative_time: f64,
    /// About how many tokens it trains on in a second on this machine; none unless that was
    /// measured ([`Prepared::predict_speed`](crate::train::Prepared::predict_speed)).
    pub tokens_per_second: Option<f64>,
    /// Bytes of the inputs of all layers, of what is differentiated at the same time.
    #[serde(skip)]
    pub(super) input_bytes: u64,
    /// Multiplications with addition of a token.
    #[serde(skip)]
    products: f64,
    /// Whether it is the one that is taken.
    pub chosen: bool,
    /// All parts of the peak.
    #[serde(skip)]
    pub estimate: Estimate,
}

/// All plans of a run, the fastest first, of which one is chosen.
#[derive(Debug, Clone)]
pub struct MemoryPlans {
    all: Vec<MemoryCandidate>,
    /// What `train.memory` asks for.
    asked: Option<MemoryChoice>,
}

impl MemoryPlans {
    /// The one that is taken.
    pub fn chosen(&self) -> &MemoryCandidate {
        self.all.iter().find(|candidate| candidate.chosen).expect("one of them is chosen")
    }

    /// All of them.
    pub fn all(&self) -> &[MemoryCandidate] {
        &self.all
    }

    /// Predicts how fast all of them are where products have this speed.
    pub(super) fn expect_products(&mut self, gflops: f64) {
        for candidate in &mut self.all {
            candidate.tokens_per_second = Some(tokens_per_second(candidate.products, gflops));
        }
    }

    /// What provenance tells of the one that was taken, if a plan was asked for.
    pub fn record(&self) -> Vec<(String, String)> {
        let Some(asked) = self.asked else { return Vec::new() };
        let chosen = self.chosen();
        let plan = format!("{asked}: {}", chosen.plan.about());
        let predicted = bytes(chosen.memory_bytes);
        [("memory plan", plan), ("memory predicted", predicted)]
            .map(|(key, value)| (key.to_owned(), value))
            .to_vec()
    }
}

impl MemoryCandidate {
    /// In a line.
    pub fn line(&self) -> String {
        let name = self.name.unwrap_or("as set");
        let chosen = if self.chosen { " (chosen)" } else { "" };
        let (size, about) = (bytes(self.memory_bytes), self.plan.about());
        let time = self.relative_time;
        let speed = self.tokens_per_second.map(|speed| format!(", about {speed} tokens/s"));
        let speed = speed.unwrap_or_default();
        format!("{name}{chosen}: about {size}, {time:.2} of the shortest time{speed}: {about}")
    }
}

/// The plans of a run of a model with what is trained beside it, if an adapter is; `work` is what
/// there is to do with the settings as they are, `teacher` what one takes that it learns from.
///
/// # Errors
/// When none fits the device, or the chosen one not into what it may take.
pub fn of(
    config: &RunConfig,
    opened: &OpenedDevice,
    (description, adapter): (&Description, Option<&dyn Adapter>),
    weight_format: Option<&'static dyn WeightFormat>,
    (work, teacher): (Workload, Option<TeacherMemory>),
) -> Result<MemoryPlans> {
    Planned { config, description, adapter, weight_format, opened, work, teacher }.plans()
}

/// What plans are made for.
struct Planned<'a> {
    config: &'a RunConfig,
    description: &'a Description,
    adapter: Option<&'a dyn Adapter>,
    weight_format: Option<&'static dyn WeightFormat>,
    opened: &'a OpenedDevice,
    work: Workload,
    teacher: Option<TeacherMemory>,
}

impl Planned<'_> {
    /// All plans, the fastest first, and what is set if that is none of them.
    fn plans(&self) -> Result<MemoryPlans> {
        let asked = self.config.train.memory;
        if let Some(choice) = asked.filter(|choice| *choice != MemoryChoice::Auto)
            && self.named(choice).streamed.is_some()
        {
            self.refuse_streamed(choice)?;
        }
        self.refuse_offload()?;
        self.refuse_activation_offload()?;
        let mut all: Vec<MemoryCandidate> = Vec::new();
        for named in &PLANS {
            let plan = self.plan(named);
            let streams = self.refuse_streamed(named.choice).is_ok();
            let streams = plan.streamed.is_none() || streams;
            if streams
                && self.is_worth_moving(named, &all)
                && !all.iter().any(|other| other.plan == plan)
            {
                all.push(self.candidate(Some(named.choice.name()), plan)?);
            }
        }
        all.sort_by(|a, b| a.relative_time.total_cmp(&b.relative_time));
        let wanted = match asked {
            None => self.as_set(),
            Some(MemoryChoice::Auto) => self.fitting(&all),
            Some(choice) => self.named(choice),
        };
        if !all.iter().any(|candidate| candidate.plan == wanted) {
            all.push(self.candidate(None, wanted)?);
        }
        all.iter_mut().for_each(|candidate| candidate.chosen = candidate.plan == wanted);
        let chosen = all.iter().find(|candidate| candidate.chosen);
        chosen.map_or(Ok(()), |chosen| self.refuse_hopeless(chosen, &all))?;
        self.refuse_too_large(&all)?;
        Ok(MemoryPlans { all, asked })
    }

    /// The settings as they are.
    fn as_set(&self) -> MemoryPlan {
        let train = &self.config.train;
        MemoryPlan {
            recompute: train.recompute.unwrap_or(Recompute::None),
            tiled_mlp: train.tiled_mlp.unwrap_or(false),
            loss_chunk_tokens: train.loss_chunk_tokens,
            rows: train.micro_batch_size,
            streamed: None,
            optimizer_offload: train.optimizer_offload.unwrap_or(OptimizerOffload::None),
            activation_offload: train.activation_offload.unwrap_or(ActivationOffload::None),
        }
    }

    fn named(&self, choice: MemoryChoice) -> MemoryPlan {
        self.plan(plan_named(choice).expect("every choice but `auto` is a plan"))
    }

    /// The settings with what a plan changes of them; two plans may be the same.
    fn plan(&self, named: &NamedPlan) -> MemoryPlan {
        let as_set = self.as_set();
        let MemoryPlan { loss_chunk_tokens: chunk, rows, .. } = as_set;
        // The gradient of the head is summed over chunks, and rounded at each.
        let rounds = !self.opened.on_gpu() && self.trains_head();
        let rows = if named.single_rows && self.opened.on_gpu() { 1 } else { rows };
        MemoryPlan {
            recompute: named.recompute,
            tiled_mlp: named.tiled_mlp && self.has_tiles(rows),
            loss_chunk_tokens: match named.small_loss && !rounds {
                true => chunk.min(SMALL_CHUNK),
                false => chunk,
            },
            rows,
            streamed: named.streamed,
            optimizer_offload: match self.config.train.optimizer_offload {
                None if named.offloaded && self.opened.on_gpu() => OptimizerOffload::Host,
                None if named.offloaded => OptimizerOffload::Disk,
                _ => as_set.optimizer_offload,
            },
            activation_offload: match self.config.train.activation_offload {
                _ if named.recompute == Recompute::None => ActivationOffload::None,
                None if named.inputs_offloaded && self.opened.on_gpu() => ActivationOffload::Host,
                None if named.inputs_offloaded => ActivationOffload::Disk,
                _ => as_set.activation_offload,
            },
        }
    }

    /// Whether a micro-batch of so many rows has more tokens than a tile, and an MLP is computed in
    /// tiles.
    fn has_tiles(&self, rows: usize) -> bool {
        rows * self.work.length > MLP_TILE
            && self.description.layers.iter().any(LayerDescription::has_mlp)
    }

    /// Whether it is worth its time to move what a plan moves off the device, or is asked for;
    /// these are the plans before it.
    fn is_worth_moving(&self, named: &NamedPlan, all: &[MemoryCandidate]) -> bool {
        let train = &self.config.train;
        let (set, recompute) = (train.activation_offload, named.recompute);
        let moves = set.is_some_and(|it| it != ActivationOffload::None);
        let stays = set == Some(ActivationOffload::None);
        if moves && recompute == Recompute::None || stays && named.inputs_offloaded {
            return false;
        }
        if train.memory == Some(named.choice) {
            return true;
        }
        let is_large = |bytes: u64, recompute: Recompute| {
            let mut others = all.iter().filter(|it| it.plan.recompute == recompute);
            let step = others.next().map_or(u64::MAX, |first| first.estimate.on_device());
            bytes >= MOVED_LEAST && bytes >= step / MOVED_PART
        };
        let first = all.first().map_or(Recompute::None, |first| first.plan.recompute);
        let state = !named.offloaded || is_large(self.work.trained.state_bytes, first);
        let inputs = !named.inputs_offloaded
            || moves
            || is_large(self.work.input_bytes(self.description), Recompute::Layers);
        state && inputs
    }

    /// Whether the gradient of the output projection is wanted, or of rows of it, or of factors
    /// beside it.
    fn trains_head(&self) -> bool {
        let Some(adapter) = self.adapter else { return true };
        let head = match self.description.tied {
            true => self.description.names.embedding,
            false => LM_HEAD,
        };
        adapters::trains_beside_head(adapter, self.description).unwrap_or_default()
            || adapters::changed_tables(adapter, self.description)
                .unwrap_or_default()
                .contains(&head)
    }

    /// Products of a token, by which the times of plans are compared.
    fn products(&self, plan: MemoryPlan) -> f64 {
        let train = &self.config.train;
        let step = StepProducts {
            description: self.description,
            adapted: self.adapter.is_some(),
            reference: objectives::chosen(&self.config.owned).needs_reference(),
            tokens: self.work.rows * self.work.length,
            step_tokens: train.micro_batch_size
                * train.gradient_accumulation_steps
                * self.work.length,
            state_bytes: self.work.trained.state_bytes,
            on_gpu: self.opened.on_gpu(),
        };
        step.of_token(plan)
    }

    fn candidate(&self, name: Option<&'static str>, plan: MemoryPlan) -> Result<MemoryCandidate> {
        let MemoryPlan { recompute, tiled_mlp, loss_chunk_tokens: chunk, rows, streamed, .. } =
            plan;
        let rows = if self.opened.on_gpu() { self.work.rows.min(rows) } else { self.work.rows };
        let (mlp_tile, offload) = (tiled_mlp.then_some(MLP_TILE), plan.optimizer_offload);
        let activation_offload = plan.activation_offload;
        let mut work =
            Workload { recompute, mlp_tile, chunk, rows, offload, activation_offload, ..self.work };
        if let (Some(which), Some(adapter)) = (streamed, self.adapter) {
            let model = (adapter, self.description);
            work = frozen_weights::streamed(which, self.weight_format, model, work)?;
        }
        let estimate =
            memory_fit::memory(self.description, (work, self.teacher.as_ref()), self.adapter)?;
        let memory_bytes = match self.opened.on_gpu() {
            true => estimate.on_device(),
            false => estimate.total(),
        };
        let products = self.products(plan);
        let relative_time = products / self.products(self.plan(&FASTEST));
        let relative_time = (relative_time * 100.0).round() / 100.0;
        Ok(MemoryCandidate {
            name,
            plan,
            memory_bytes,
            relative_time,
            tokens_per_second: None,
            input_bytes: work.input_bytes(self.description),
            products,
            chosen: false,
            estimate,
        })
    }

    /// What there is for the run.
    fn room(&self) -> Option<u64> {
        let free = match self.opened.on_gpu() {
            true => self.opened.memory_bytes,
            false => memory_bytes_available(),
        };
        let limit = self.config.device.memory_limit;
        free.into_iter().chain(limit).min()
    }

    /// The fastest that fits, or the smallest of all.
    fn fitting(&self, all: &[MemoryCandidate]) -> MemoryPlan {
        let room = self.room().unwrap_or(u64::MAX);
        let fits = all.iter().find(|candidate| candidate.memory_bytes <= room);
        let smallest = || all.iter().min_by_key(|candidate| candidate.memory_bytes);
        fits.or_else(smallest).map_or_else(|| self.as_set(), |candidate| candidate.plan)
    }
}
