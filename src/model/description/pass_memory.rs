//! What the kernels of the CPU take for a pass through a layer: what is kept from the forward pass,
//! and the most that the backward pass works on beside that. It is counted in their code
//! (`model/blocks`, `ops/cpu`), block by block, and compared with the peak of runs
//! (`benches/memory_plans.py`).

use super::{
    AttentionDescription, BlockDescription, DeltaNetDescription, ExpertMatrix, ExpertsDescription,
    GatedMlpDescription, LayerDescription, LayerInputDescription, LinearDescription,
    QkvDescription, ShortConvDescription, TermDescription,
};
use crate::ops::cpu::{packed_numbers, task_keys};

/// Bytes of a number of the residual stream and of its gradient.
pub(super) const F32: u64 = 4;

/// What is trained of a linear layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrainedLinear {
    /// Rank of the addition beside it; 0 where there is none.
    pub rank: usize,
    /// Numbers of a token that the addition keeps besides.
    pub kept: usize,
    /// Whether its matrix is trained.
    pub whole: bool,
}

/// A pass through a layer.
pub struct CpuPass<'a> {
    /// Rows, and tokens of the longest.
    pub rows: (usize, usize),
    /// Bytes of a factor of a product.
    pub factor: u64,
    /// Tokens of which an MLP is computed at once; all of them where this is `None`.
    pub mlp_tile: Option<usize>,
    /// Threads that work on it.
    pub threads: usize,
    /// What is trained of a linear layer, by its module path.
    pub trained: &'a dyn Fn(&str) -> TrainedLinear,
    /// Bytes that are read of a matrix while it is packed.
    pub read: &'a dyn Fn([usize; 2]) -> u64,
}

/// Bytes of a pass through a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassMemory {
    /// Kept from the forward pass.
    pub kept: u64,
    /// Worked on by the backward pass beside that, at most.
    pub backward: u64,
}

/// Linear layers of one input, with what is trained of each.
struct Given(Vec<([usize; 2], TrainedLinear)>);

/// Going back through linear layers of one input.
struct Back {
    /// While the gradients of what is trained are made.
    through: u64,
    /// Packed matrices, which stay until the gradient of the input is there.
    packed: u64,
}

impl CpuPass<'_> {
    pub(super) fn tokens(&self) -> u64 {
        (self.rows.0 * self.rows.1) as u64
    }

    /// Bytes of so many numbers of each token as factors.
    pub(super) fn factors(&self, columns: usize) -> u64 {
        self.tokens() * columns as u64 * self.factor
    }

    /// The same in 32 bits.
    pub(super) fn wide(&self, columns: usize) -> u64 {
        self.tokens() * columns as u64 * F32
    }

    /// A gradient as a factor: a copy, where it has another format.
    fn as_factor(&self, columns: usize) -> u64 {
        if self.factor == F32 { 0 } else { self.factors(columns) }
    }

    /// The most that the threads have of these at once.
    fn at_once(&self, each: impl Iterator<Item = u64>) -> u64 {
        let mut each: Vec<u64> = each.collect();
        each.sort_unstable_by(|a, b| b.cmp(a));
        each.iter().take(self.threads.max(1)).sum()
    }

    fn given(&self, layer: &str, linears: &[LinearDescription]) -> Given {
        let one = |linear: &LinearDescription| {
            (linear.dims, (self.trained)(&format!("{layer}.{}", linear.name)))
        };
        Given(linears.iter().map(one).collect())
    }
}

impl Given {
    /// Kept of additions.
    fn kept(&self, pass: &CpuPass) -> u64 {
        self.0.iter().map(|(_, trained)| pass.factors(trained.rank + trained.kept)).sum()
    }

    fn back(&self, pass: &CpuPass) -> Back {
        let inputs = self.0.first().map_or(0, |([_, inputs], _)| *inputs);
        let learns = |trained: &TrainedLinear| trained.whole || trained.rank > 0;
        let packed_input =
            if self.0.iter().any(|(_, trained)| learns(trained)) { inputs } else { 0 };
        // The gradient is packed or turned for that of the addition or the matrix.
        let learning = self.0.iter().map(
            |([outputs, _], trained)| {
                if learns(trained) { pass.factors(*outputs) } else { 0 }
            },
        );
        let read = pass.at_once(self.0.iter().map(|(dims, _)| (pass.read)(*dims)));
        let packed = self.0.iter().map(|(dims, _)| packed_numbers(*dims) * pass.factor).sum();
        let learning = pass.at_once(learning);
        Back { through: packed + pass.factors(packed_input) + learning.max(read), packed }
    }
}

impl LayerDescription {
    /// What a pass through the layer takes, for a residual stream of `hidden` numbers.
    pub fn pass_memory(&self, hidden: usize, pass: &CpuPass) -> PassMemory {
        let (mut kept, mut most) = (0, 0);
        for residual in &self.residuals {
            let of_block = residual.block.pass_memory(&self.path, hidden, pass);
            let is_plain = residual.after.is_none() && residual.multiplier == 1.0;
            // The gradient of what the block gave, and of that before its norm.
            let about = if is_plain { 0 } else { 2 * pass.wide(hidden) };
            let output = if residual.after.is_some() { pass.factors(hidden) } else { 0 };
            kept += pass.factors(hidden) + output + of_block.kept;
            // What later parts kept is free by then.
            most = most.max(kept + about + of_block.backward);
        }
        // And the gradient of the stream.
        PassMemory { kept, backward: most - kept + pass.wide(hidden) }
    }
}

impl BlockDescription {
    fn pass_memory(&self, layer: &str, hidden: usize, pass: &CpuPass) -> PassMemory {
        match self {
            Self::Attention(block) => block.pass_memory(layer, hidden, pass),
            Self::GatedMlp(block) => block.pass_memory(layer, hidden, pass),
            Self::Experts(block) => block.pass_memory(layer, pass),
            Self::Sum(terms) => of_sum(terms, layer, hidden, pass),
            Self::LayerInput(block) => block.pass_memory(layer, hidden, pass),
            Self::DeltaNet(block) => block.pass_memory(layer, hidden, pass),
            Self::ShortConv(block) => block.pass_memory(layer, hidden, pass),
        }
    }
}

impl GatedMlpDescription {
    /// Of all tokens at once.
    pub(super) fn whole_pass_memory(
        &self,
        layer: &str,
        hidden: usize,
        pass: &CpuPass,
    ) -> PassMemory {
        let width = pass.factors(self.width());
        let (gate_up, down) =
            (pass.given(layer, self.gate_up.linears()), pass.given(layer, &[self.down]));
        let (back_up, back_down) = (gate_up.back(pass), down.back(pass));
        // What was let through, and its gradient.
        let through =
            pass.as_factor(hidden) + width + back_down.through.max(back_down.packed + width);
        // The input, made again, and its gradient.
        let input = pass.factors(hidden) + back_up.through.max(back_up.packed + pass.wide(hidden));
        let kept = 2 * width + gate_up.kept(pass) + down.kept(pass);
        PassMemory { kept, backward: through.max(input) }
    }
}

impl AttentionDescription {
    fn pass_memory(&self, layer: &str, hidden: usize, pass: &CpuPass) -> PassMemory {
        let (query, key) = (self.config.query_width(), self.config.key_width());
        let is_own = !matches!(self.qkv, QkvDescription::Queries(..));
        let own_keys = if is_own { 2 * pass.factors(key) } else { 0 };
        let value_norms = match self.qkv {
            QkvDescription::Joint(_) => usize::from(self.value_norm.is_some()),
            QkvDescription::KeysAsValues(_) | QkvDescription::Queries(..) => 0,
        };
        let normed_keys = if is_own { key } else { 0 };
        let normed = if self.qk_norms.is_some() { query + normed_keys } else { 0 };
        let gate = if self.gated { query } else { 0 };
        let (qkv, output) =
            (pass.given(layer, self.qkv.linears()), pass.given(layer, &[self.output]));
        let mixed = pass.factors(query) + pass.wide(self.config.heads.queries);
        let kept = pass.factors(query + normed + value_norms * key + gate)
            + own_keys
            + mixed
            + qkv.kept(pass)
            + output.kept(pass);
        let (back_qkv, back_output) = (qkv.back(pass), output.back(pass));
        let d_mixed = pass.factors(query + gate);
        let before = pass.as_factor(hidden) + back_output.through.max(back_output.packed + d_mixed);
        // Keys and values packed; gradients of tasks, those of keys and values of each that saw
        // them; and all as factors.
        let borrowed = if is_own { 0 } else { 2 * pass.factors(key) };
        let heads = self.config.heads.kv_heads;
        let keys_of_tasks = task_keys(pass.rows, heads, self.config.window);
        let of_tasks = pass.wide(query) + keys_of_tasks * (2 * key / heads.max(1)) as u64 * F32;
        let mixing = d_mixed + borrowed + pass.factors(query + 5 * key) + of_tasks;
        let joint = pass.factors(query + gate + 2 * key);
        let input = pass.factors(hidden)
            + joint
            + back_qkv.through.max(back_qkv.packed + pass.wide(hidden));
        // What was mixed is free by then, and so are keys and values.
        let input = input.saturating_sub(mixed + own_keys);
        PassMemory { kept, backward: before.max(mixing).max(input) }
    }
}

impl ExpertsDescription {
    fn pass_memory(&self, layer: &str, pass: &CpuPass) -> PassMemory {
        let rows = pass.tokens() * self.top_k as u64;
        let (hidden, width) = (self.hidden as u64, self.width as u64);
        let (joint, down) = self.expert(0);
        let linears = [joint.linears(), &[down]].concat();
        let given = pass.given(layer, &linears);
        let ranks: usize = given.0.iter().map(|(_, trained)| trained.rank).sum();
        let scores = pass.wide(2 * self.count + 3 * self.top_k);
        let kept = rows * (2 * width + ranks as u64) * pass.factor + scores;
        // Those that the threads are at, each with its share of the rows.
        let experts = (self.count as u64).min(rows).max(1);
        let at_once = (pass.threads as u64).min(experts);
        let of_row = (hidden * (2 * pass.factor + F32)) + 6 * width * pass.factor;
        let matrices = ExpertMatrix::ALL.map(|matrix| self.dims(matrix));
        let packed = matrices.map(|dims| packed_numbers(dims) * pass.factor + (pass.read)(dims));
        let working = at_once * (rows.div_ceil(experts) * of_row + packed.iter().sum::<u64>());
        // The gradients of the rows of all, and that of the input.
        let sums = rows * hidden * F32 + pass.wide(self.hidden) + pass.factors(self.hidden);
        PassMemory { kept, backward: sums + working }
    }
}

/// Blocks of one input, one after the other.
fn of_sum(terms: &[TermDescription], layer: &str, hidden: usize, pass: &CpuPass) -> PassMemory {
    let (mut kept, mut most) = (0, 0);
    for term in terms {
        let of_block = term.block.pass_memory(layer, hidden, pass);
        let output = if term.after.is_some() || term.gate.is_some() { hidden } else { 0 };
        kept += of_block.kept + pass.factors(output);
        // The gradient of what it gave, before its norm as well.
        most = most.max(of_block.backward + 2 * pass.wide(hidden));
    }
    PassMemory { kept, backward: most + pass.factors(hidden) + pass.wide(hidden) }
}

impl LayerInputDescription {
    fn pass_memory(&self, layer: &str, hidden: usize, pass: &CpuPass) -> PassMemory {
        let width = self.gate.dims[0];
        let (gate, output) = (pass.given(layer, &[self.gate]), pass.given(layer, &[self.output]));
        let (back_gate, back_output) = (gate.back(pass), output.back(pass));
        // The part of the layer is a copy.
        let kept = pass.factors(width) + pass.wide(width) + gate.kept(pass) + output.kept(pass);
        let through = pass.as_factor(hidden)
            + pass.factors(2 * width)
            + back_output.through.max(back_output.packed + pass.factors(width));
        let input = pass.factors(hidden + width)
            + back_gate.through.max(back_gate.packed + pass.wide(hidden));
        PassMemory { kept, backward: through.max(input) }
    }
}

impl DeltaNetDescription {
    fn pass_memory(&self, layer: &str, hidden: usize, pass: &CpuPass) -> PassMemory {
        let (wide, values) = (self.heads.wide(), self.heads.values_wide());
        let (inputs, output) =
            (pass.given(layer, self.inputs.linears()), pass.given(layer, &[self.output]));
        let (back_inputs, back_output) = (inputs.back(pass), output.back(pass));
        let kept = pass.factors(wide + 2 * values)
            + pass.wide(2 * self.heads.values)
            + inputs.kept(pass)
            + output.kept(pass);
        let through = pass.as_factor(hidden) + pass.factors(2 * values) + back_output.through;
        // What the convolution gave, made again, its gradient, and that of what it is of.
        let rule = pass.wide(2 * wide + 2 * values) + pass.wide(wide);
        let input = pass.factors(hidden + 2 * wide + values)
            + pass.wide(wide)
            + back_inputs.through.max(back_inputs.packed + pass.wide(hidden));
        PassMemory { kept, backward: through.max(rule).max(input) }
    }
}

impl ShortConvDescription {
    fn pass_memory(&self, layer: &str, hidden: usize, pass: &CpuPass) -> PassMemory {
        let channels = self.convolution.channels;
        let (inputs, output) =
            (pass.given(layer, self.inputs.linears()), pass.given(layer, &[self.output]));
        let (back_inputs, back_output) = (inputs.back(pass), output.back(pass));
        let kept = pass.factors(3 * channels) + inputs.kept(pass) + output.kept(pass);
        // What was convolved, before and after, and what goes on.
        let convolved = pass.factors(2 * channels);
        let through = pass.as_factor(hidden) + pass.factors(channels) + back_output.through;
        let input = pass.factors(hidden + 4 * channels)
            + 2 * pass.wide(channels)
            + back_inputs.through.max(back_inputs.packed + pass.wide(hidden));
        PassMemory { kept, backward: convolved + through.max(input) }
    }
}
