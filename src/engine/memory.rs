//! How much memory a run will take, by part, before anything is loaded.

use crate::config::{Kernels, Recompute};
use crate::device::{Arithmetic, ComputeConfig};
use crate::model::Description;
use crate::ops::cpu::Products;
use crate::weights::Element;

/// Bytes by part.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// All weights: 32 bits, or 16 where they stay as they are and are multiplied so.
    pub weights: u64,
    /// Gradients of the trainable parameters, and what the optimizer keeps for them.
    pub optimizer: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// Scores of one block of queries; on the CPU, and on a GPU where rows are short, there is no
    /// such tensor.
    pub attention: u64,
    /// One chunk of logits, with its softmax and temporaries.
    pub logits: u64,
    /// What is written as a checkpoint while training goes on, as far as it needs more than a step
    /// does before its update; always on the host.
    pub checkpoint: u64,
    /// The program itself: its code, tokenizer and template, what allocators keep; always on the
    /// host.
    pub program: u64,
    /// What a teacher takes while it is asked, as far as that is more than the run takes: before
    /// the run all of it, else without its weights.
    #[serde(skip_serializing_if = "is_nothing")]
    pub teacher: u64,
    /// The weights of a teacher that stays in memory beside the run.
    #[serde(skip_serializing_if = "is_nothing")]
    pub resident_teacher: u64,
    /// Windows of data: the one in use, the one before it, and those that are made ready; always
    /// on the host.
    pub data: u64,
}

impl Estimate {
    /// All parts together.
    pub fn total(&self) -> u64 {
        self.on_device() + self.checkpoint + self.data + self.program
    }

    /// What a GPU has to hold.
    pub fn on_device(&self) -> u64 {
        let step = self.weights + self.optimizer + self.activations + self.attention + self.logits;
        step + self.teacher + self.resident_teacher
    }

    /// The same with a teacher, which is asked before the run and gone then, or stays.
    #[must_use]
    pub fn with_teacher(self, teacher: &TeacherMemory) -> Self {
        match teacher {
            TeacherMemory::Before(asked) => {
                let teacher = asked.on_device().saturating_sub(self.on_device());
                Self { teacher, ..self }
            }
            TeacherMemory::Beside(asked) => {
                // It is asked before a step, when nothing of that is in memory.
                let at_work = |of: &Self| of.activations + of.attention + of.logits;
                let teacher = at_work(asked).saturating_sub(at_work(&self));
                Self { teacher, resident_teacher: asked.weights, ..self }
            }
        }
    }

    /// What stays however small a micro-batch is.
    pub fn at_least(&self) -> u64 {
        self.weights + self.optimizer + self.resident_teacher
    }
}

/// What a teacher takes while it is asked, and when that is.
#[derive(Debug, Clone)]
pub enum TeacherMemory {
    /// Before the run alone.
    Before(Estimate),
    /// In each step.
    Beside(Estimate),
}

#[expect(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

/// What is trained, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct TrainedParameters {
    /// How many numbers.
    pub count: u64,
    /// Bytes that the optimizer keeps for all of them.
    pub state_bytes: u64,
    /// Whether a checkpoint has the weights that are used beside those that are trained.
    pub averages: bool,
}

impl TrainedParameters {
    /// Bytes of a checkpoint.
    pub fn checkpoint_bytes(&self) -> u64 {
        let copies = if self.averages { 2 } else { 1 };
        self.count * F32 * copies + self.state_bytes
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// What is trained.
    pub trained: TrainedParameters,
    /// Whether they stand beside the weights, all of which are frozen.
    pub adapted: bool,
    /// Rows that are differentiated at the same time.
    pub rows: usize,
    /// Micro-batches that they are in, each of which has logits of its own.
    pub micro_batches: usize,
    /// Tokens of the longest.
    pub length: usize,
    /// Target positions that have logits at the same time.
    pub chunk: usize,
    /// What is kept for the backward pass.
    pub recompute: Recompute,
    /// Frozen numbers that are kept in a format of their own or left on disk, and the bytes that
    /// they take in memory.
    pub coded: (u64, u64),
    /// Bytes of the largest tensor that is in memory on its way to disk.
    pub loaded: u64,
    /// Bytes of examples that are at hand at once.
    pub data: u64,
    /// Whether checkpoints are written before the last step.
    pub saves: bool,
    /// Whether tensors are on a GPU.
    pub on_gpu: bool,
    /// How matrices are multiplied.
    pub arithmetic: Arithmetic,
    /// How the CPU computes.
    pub kernels: Kernels,
}

/// Bytes of a number.
const F32: u64 = 4;
/// Target positions that have logits at the same time where gradients are compared before the first
/// step.
pub const CHECKED_CHUNK: usize = 16;

/// Estimates a run; `of_adapter` are the bytes that an adapter adds to what the forward pass keeps
/// for the backward pass.
pub fn estimate(description: &Description, work: Workload, of_adapter: u64) -> Estimate {
    // Queries that the operations for other devices work on at once.
    const BLOCK: usize = 512;
    // Measured (`benches/memory.py`): the program, and what a tokenizer has for each token.
    const PROGRAM: u64 = 75_000_000;
    const TOKEN: u64 = 400;
    let Workload { rows, length, trained, .. } = work;
    let tokens = (rows * length) as u64;
    let fast =
        !work.on_gpu && work.kernels == Kernels::Fast && work.arithmetic != Arithmetic::MixedF16;
    // By the kernels of the CPU, about as many numbers in 32 bits are worked on as a layer keeps.
    let of_layers = description.layers.iter().map(|layer| layer.kept(description.hidden));
    let (mut all, mut most) = (0, 0);
    for [by_kernels, in_tapes] in of_layers {
        let kept = if fast { by_kernels } else { in_tapes } as u64;
        (all, most) = (all + kept, most.max(kept));
    }
    let computing = work.computing();
    let factor = match Products::of(computing) {
        Some(Products::Bf16) => 2,
        _ => F32,
    };
    let (factor, at_work) = if fast { (factor, tokens * most * F32) } else { (F32, 0) };
    let input = tokens * description.hidden as u64 * F32;
    let layers = description.layers.len() as u64;
    // Until the last gradient has come back; it and its gradient.
    let beside = 2 * tokens * description.beside_stream() as u64 * F32;
    let learning = if work.adapted { trained.count } else { description.parameters };
    let heads = description.heads_with_scores((rows, length)) as u64;
    let scores = tokens * heads * length.min(BLOCK) as u64 * F32;
    // The gradient of the embedding is made before it is added to that of the output projection.
    let table = (description.vocabulary * description.hidden) as u64 * F32;
    let table = if work.adapted { 0 } else { table };
    let estimate = Estimate {
        weights: work.frozen(description) + learning * F32,
        optimizer: trained.count * F32 + trained.state_bytes + table,
        activations: match work.recompute {
            Recompute::None => tokens * all * factor + at_work,
            Recompute::Layers => layers * input + tokens * most * factor + at_work,
        } + beside
            + of_adapter,
        // Scores, weights, and the gradients of both.
        attention: if work.on_gpu { 5 * scores } else { 0 },
        checkpoint: 0,
        teacher: 0,
        resident_teacher: 0,
        // A cap keeps the scores, and the slope at each of them.
        logits: match (fast, description.logits.soft_cap) {
            (true, _) => 1,
            (false, None) => 4,
            (false, Some(_)) => 6,
        } * (work.micro_batches * work.chunk_of_each() * description.outputs()) as u64
            * F32,
        data: work.data,
        program: PROGRAM + description.vocabulary as u64 * TOKEN,
    };
    let checks = fast && work.coded.0 == 0;
    let check = if checks { gradient_check(description, work) } else { 0 };
    estimate.around_steps(work, check)
}

impl Workload {
    /// Nothing to do yet, on a device that computes so.
    pub fn on(on_gpu: bool, arithmetic: Arithmetic, kernels: Kernels) -> Self {
        Self {
            trained: TrainedParameters { count: 0, state_bytes: 0, averages: false },
            adapted: false,
            rows: 0,
            micro_batches: 1,
            length: 0,
            chunk: 0,
            recompute: Recompute::None,
            coded: (0, 0),
            loaded: 0,
            data: 0,
            saves: false,
            on_gpu,
            arithmetic,
            kernels,
        }
    }

    /// Target positions of a micro-batch that have logits at the same time.
    fn chunk_of_each(&self) -> usize {
        self.chunk.min(self.rows / self.micro_batches * self.length)
    }

    fn computing(&self) -> ComputeConfig {
        let (arithmetic, kernels) = (self.arithmetic, self.kernels);
        ComputeConfig { arithmetic, kernels, ..ComputeConfig::default() }
    }

    /// Whether numbers that files have in bfloat16 stay so.
    fn stays(&self, description: &Description) -> bool {
        let computing = self.computing();
        description.element == Element::BF16 && computing.keeps_bfloat16(!self.on_gpu)
    }

    /// Bytes of a frozen number that is not kept in a format of its own.
    pub fn frozen_bytes(&self, description: &Description) -> u64 {
        match self.stays(description) {
            true => 2,
            false => self.arithmetic.frozen_bytes(!self.on_gpu),
        }
    }

    /// Bytes of frozen weights in memory.
    fn frozen(&self, description: &Description) -> u64 {
        if !self.adapted {
            return 0;
        }
        let (apart, bytes) = self.coded;
        bytes + description.parameters.saturating_sub(apart) * self.frozen_bytes(description)
    }
}

/// What the comparison of gradients takes.
fn gradient_check(description: &Description, work: Workload) -> u64 {
    // Tensor operations take weights in 32 bits, and turned: those of the output projection have a
    // copy, and where weights are kept in 16 bits those of a layer have two. Some dozens of tokens
    // are little beside that (`benches/memory_plans.py`).
    let head = (description.outputs() * description.hidden) as u64;
    let tables = description.tables().map(|(_, [rows, columns])| (rows * columns) as u64);
    let layers = description.parameters.saturating_sub(tables.sum());
    let layer = layers / (description.layers.len() as u64).max(1);
    let copies = head + if work.stays(description) { 2 * layer } else { 0 };
    let chunk = CHECKED_CHUNK.min(work.rows * work.length);
    let scores = 4 * (chunk * description.outputs()) as u64;
    (copies + scores + work.trained.count) * F32
}

impl Estimate {
    /// With what there is before the first step, and what is saved between steps. `check` is what
    /// the comparison of gradients takes beside weights and program.
    fn around_steps(mut self, work: Workload, check: u64) -> Self {
        // What reads files and records has so much beside the weights.
        const START: u64 = 100_000_000;
        if !work.on_gpu {
            let beside = self.total() - self.weights;
            let most = START.max(self.program + check.max(work.loaded));
            self.program += most.saturating_sub(beside);
        }
        if work.saves {
            // On the host it shares what an update has not changed, and waits for none before that.
            let before = if work.on_gpu { 0 } else { self.activations + self.logits };
            self.checkpoint = work.trained.checkpoint_bytes().saturating_sub(before);
        }
        self
    }
}
