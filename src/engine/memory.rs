//! How much memory a run will take, by part, before anything is loaded.

mod answers;
mod around;
mod held;
mod on_cpu;
mod on_gpu;
mod tapes;

pub use around::beside_gpu;

use std::collections::BTreeMap;

use crate::config::{ActivationOffload, Kernels, OptimizerOffload, Recompute};
use crate::device::{Arithmetic, ComputeConfig, DeviceLimits};
use crate::model::description::TrainedLinear;
use crate::model::{Description, Streamed};
use crate::ops::cpu::Products;
use crate::weights::Element;

/// Bytes by part.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// All weights: 32 bits, or 16 where they stay as they are and are multiplied so.
    pub weights: u64,
    /// What the optimizer keeps, gradients that are summed over micro-batches, and what an update
    /// takes as far as it is more than the passes before it; by tensor operations all gradients.
    pub optimizer: u64,
    /// What the forward pass keeps for the backward pass; by the kernels of the CPU also what the
    /// backward pass works on.
    pub activations: u64,
    /// Scores of one block of queries; on the CPU, and on a GPU where rows are short, there is no
    /// such tensor.
    pub attention: u64,
    /// What the loss of a chunk of positions takes; by the kernels of the CPU as far as that is
    /// more than the backward pass takes, which comes after it.
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
    /// What writing answers takes, as far as that is more than a step works on: keys and values of
    /// the texts, and scores over the vocabulary.
    #[serde(skip_serializing_if = "is_nothing")]
    pub answers: u64,
    /// What the optimizer keeps in host memory, off a GPU, and inputs of layers.
    #[serde(skip_serializing_if = "is_nothing")]
    pub offloaded: u64,
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
        self.on_device() + self.offloaded + self.checkpoint + self.data + self.program
    }

    /// What a GPU has to hold.
    pub fn on_device(&self) -> u64 {
        let step = self.weights + self.optimizer + self.activations + self.attention + self.logits;
        step + self.answers + self.teacher + self.resident_teacher
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
                // It is asked before a step, when nothing of that is in memory, and answers are
                // written before that.
                let at_work = |of: &Self| of.activations + of.attention + of.logits;
                let teacher = at_work(asked).saturating_sub(at_work(&self) + self.answers);
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
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainedParameters {
    /// How many numbers.
    pub count: u64,
    /// Bytes that the optimizer keeps for all of them.
    pub state_bytes: u64,
    /// Whether a checkpoint has the weights that are used beside those that are trained.
    pub averages: bool,
    /// Numbers of the largest tensor.
    pub largest: u64,
    /// The most bytes that the optimizer keeps for one tensor.
    pub largest_state: u64,
}

impl TrainedParameters {
    /// Bytes of a checkpoint.
    pub fn checkpoint_bytes(&self) -> u64 {
        let copies = if self.averages { 2 } else { 1 };
        self.count * F32 * copies + self.state_bytes
    }
}

/// What the model writes in a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct WrittenAnswers {
    /// Texts at the same time.
    pub texts: usize,
    /// Prompts that these begin with, and the one that was read last.
    pub prompts: usize,
    /// Tokens of the longest, without its prompt.
    pub tokens: usize,
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
    /// Whether a step has more of them, whose gradients are summed.
    pub accumulates: bool,
    /// Whether another step follows the first: the optimizer keeps nothing before its first update.
    pub several_steps: bool,
    /// Threads of the CPU.
    pub threads: usize,
    /// Tokens of the longest.
    pub length: usize,
    /// Target positions that have logits at the same time.
    pub chunk: usize,
    /// What is kept for the backward pass.
    pub recompute: Recompute,
    /// Tokens of which an MLP is computed at once; all of them where this is `None`.
    pub mlp_tile: Option<usize>,
    /// Where the optimizer's state is between updates.
    pub offload: OptimizerOffload,
    /// Where inputs of layers that are computed again are until the backward pass.
    pub activation_offload: ActivationOffload,
    /// Frozen numbers that are kept in a format of their own or left on disk, and the bytes that
    /// they take in memory.
    pub coded: (u64, u64),
    /// Numbers of codes that are dequantised at once for a product on a GPU.
    pub dequantised: u64,
    /// Whether frozen matrices are left on disk, and read when they are multiplied with.
    pub streamed: Option<Streamed>,
    /// Numbers of matrices of layers that are read from there, and their bytes.
    pub on_disk: (u64, u64),
    /// Bytes of the largest tensor that is in memory on its way to disk.
    pub loaded: u64,
    /// Bytes of examples that are at hand at once.
    pub data: u64,
    /// Tokens on which gradients are compared before the first step; none where they are not.
    pub checked: usize,
    /// Tokens of the tokenizer.
    pub tokenizer: u64,
    /// What the model writes in a step, to learn from it.
    pub answers: WrittenAnswers,
    /// Whether checkpoints are written before the last step.
    pub saves: bool,
    /// Whether tensors are on a GPU.
    pub on_gpu: bool,
    /// What the device takes at once.
    pub limits: DeviceLimits,
    /// How matrices are multiplied.
    pub arithmetic: Arithmetic,
    /// How the CPU computes.
    pub kernels: Kernels,
}

/// Bytes of a number.
const F32: u64 = 4;
/// Queries whose scores tensor operations have at once.
const QUERIES_AT_ONCE: usize = 512;
/// Measured: the pages of the program that a run uses (47 MB), those that loading it changes (12
/// MB), and what threads and the allocator of small blocks have for themselves (7 MB).
const PROGRAM: u64 = 66_000_000;
/// So much of that is large pages that are used in part; plans that save memory ask for small ones.
const LARGE_PAGES: u64 = 4_000_000;
/// Holes between large blocks: a share of what a step works on, and a few large pages at most; half
/// as many again where matrices are read from disk.
const HOLES: u64 = 8_000_000;
const SHARE_OF_HOLES: u64 = 4;
/// What a tokenizer has for each token, and what reading it takes.
const TOKEN: u64 = 300;
const TOKEN_READ: u64 = 1100;

/// Bytes of a step beside weights and program.
struct Step {
    /// What the optimizer keeps, gradients that are summed, and what an update takes as far as it
    /// is more than the passes before it.
    optimizer: u64,
    /// What is kept for the backward pass, and worked on by it.
    activations: u64,
    /// What the loss takes, as far as it is more than the backward pass.
    logits: u64,
}

/// What an adapter adds to the layers that it is beside.
#[derive(Debug, Clone, Default)]
pub struct AdapterMemory {
    /// What is trained of each, by module path.
    pub linears: BTreeMap<String, TrainedLinear>,
    /// Bytes that tapes keep of it for the backward pass.
    pub taped: u64,
    /// Whether it stands beside the output head, whose loss is by tensor operations then.
    pub beside_head: bool,
}

/// Estimates a run with what an adapter adds to layers.
pub fn estimate(description: &Description, work: Workload, adapted: &AdapterMemory) -> Estimate {
    let trained = work.trained;
    let learning = if work.adapted { trained.count } else { description.parameters };
    let estimate = Estimate {
        weights: work.frozen(description) + learning * F32,
        data: work.data,
        offloaded: match work.offload {
            OptimizerOffload::Host => trained.state_bytes,
            OptimizerOffload::None | OptimizerOffload::Disk => 0,
        } + work.inputs_in_host_memory(description),
        program: PROGRAM + work.tokenizer * TOKEN,
        ..Estimate::default()
    };
    let estimate = match (work.on_gpu, Products::of(work.computing())) {
        (true, _) => {
            let step = on_gpu::step(description, &work, adapted);
            estimate.with_step(step).with_scores(5 * work.scores(description))
        }
        (false, Some(_)) => estimate.with_step(on_cpu::step(description, &work, adapted)),
        (false, None) => estimate.with_tapes(description, work, adapted.taped),
    };
    estimate.with_answers(description, &work).around_steps(description, &work)
}

impl Estimate {
    /// With what a step takes by the kernels of the CPU, or of a GPU.
    fn with_step(self, step: Step) -> Self {
        let Step { optimizer, activations, logits } = step;
        Self { optimizer, activations, logits, ..self }
    }

    /// With scores of queries that no kernel does without.
    fn with_scores(self, attention: u64) -> Self {
        Self { attention, ..self }
    }

    /// With what the model writes before a step, when nothing of that is in memory.
    fn with_answers(self, description: &Description, work: &Workload) -> Self {
        let at_work = self.activations + self.attention + self.logits;
        Self { answers: answers::bytes(description, work).saturating_sub(at_work), ..self }
    }
}

impl Workload {
    /// Nothing to do yet, on a device that computes so.
    pub fn on(on_gpu: bool, arithmetic: Arithmetic, kernels: Kernels) -> Self {
        Self {
            trained: TrainedParameters::default(),
            adapted: false,
            rows: 0,
            micro_batches: 1,
            accumulates: false,
            several_steps: true,
            threads: 1,
            length: 0,
            chunk: 0,
            recompute: Recompute::None,
            mlp_tile: None,
            offload: OptimizerOffload::None,
            activation_offload: ActivationOffload::None,
            coded: (0, 0),
            dequantised: 0,
            streamed: None,
            on_disk: (0, 0),
            loaded: 0,
            data: 0,
            checked: 0,
            tokenizer: 0,
            answers: WrittenAnswers::default(),
            saves: false,
            on_gpu,
            limits: DeviceLimits::NONE,
            arithmetic,
            kernels,
        }
    }

    /// Bytes of the scores of one block of queries where a GPU has such a tensor; five of them are
    /// there at once: scores, weights, and the gradients of both.
    fn scores(&self, description: &Description) -> u64 {
        let Self { rows, length, .. } = *self;
        let heads = description.heads_with_scores((rows, length), self.limits) as u64;
        (rows * length) as u64 * heads * length.min(QUERIES_AT_ONCE) as u64 * F32
    }

    /// Bytes of the gradient of the embedding, which is made before it is added to that of the
    /// output projection.
    fn table_gradient(&self, description: &Description) -> u64 {
        let table = (description.vocabulary * description.hidden) as u64 * F32;
        if self.adapted { 0 } else { table }
    }

    /// Target positions of a micro-batch that have logits at the same time.
    fn chunk_of_each(&self) -> usize {
        self.chunk.min(self.rows / self.micro_batches * self.length)
    }

    /// How it is computed.
    pub fn computing(&self) -> ComputeConfig {
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

    /// Bytes that are read of so many numbers of a matrix that is multiplied with.
    fn read(&self, count: u64) -> u64 {
        let (numbers, bytes) = self.on_disk;
        count * (bytes >> 10) / (numbers >> 10).max(1)
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

#[cfg(test)]
mod tests;
