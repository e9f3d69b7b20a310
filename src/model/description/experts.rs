//! Mixtures of experts (Shazeer et al. 2017): a router gives each token a few of many MLPs.

use super::{
    JointDescription, LinearDescription, NormDescription, RouterDescription, TargetParameter,
};
use crate::model::names::interned;
use crate::ops::Activation;
use crate::weights::mxfp4;

/// A mixture of experts with gates.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsDescription {
    /// Which gives each token its experts.
    pub router: RouterDescription,
    /// Experts of a token.
    pub top_k: usize,
    /// Of the input of the experts; the router has the input as it is.
    pub before: Option<NormDescription>,
    /// Module path of the experts within the decoder layer.
    pub module: &'static str,
    /// How many there are.
    pub count: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Numbers that the gate of an expert lets through.
    pub width: usize,
    /// Whether their linear layers have biases.
    pub bias: bool,
    /// What is done to the gate.
    pub activation: Activation,
    /// How files have them.
    pub storage: ExpertStorage,
    /// Module path of the experts in vLLM.
    pub served_as: &'static str,
    /// Whether PEFT takes the names of an MLP's layers for those of experts
    /// (`_convert_peft_config_moe`).
    pub takes_mlp_names: bool,
}

/// How files have the matrices of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertStorage {
    /// `MODULE.N.NAME.weight` of each expert, `[out, in]`: to the gate, up, and down.
    Separate([&'static str; 3]),
    /// `MODULE.gate_up_proj` and `down_proj` of all experts, `[experts, out, in]`.
    Stacked,
    /// The same as `[experts, in, out]`, with biases `[experts, out]`; numbers for gate and up
    /// alternate.
    Alternating,
    /// The same with matrices `[experts, out, in]` in MXFP4: `MODULE.gate_up_proj_blocks` and
    /// `_scales`.
    Mxfp4,
}

/// A matrix of each expert, as the model has it: gate and up are one, with the rows of the gate
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertMatrix {
    /// `[2 · width, hidden]`.
    GateUp,
    /// `[hidden, width]`.
    Down,
}

impl ExpertStorage {
    /// Separate matrices with their usual names.
    pub const USUAL: Self = Self::Separate(Self::NAMES);
    const NAMES: [&'static str; 3] = ["gate_proj", "up_proj", "down_proj"];

    /// Names of the matrices of an expert where each has its own: to the gate, up, and down.
    pub fn names(self) -> [&'static str; 3] {
        match self {
            Self::Separate(names) => names,
            _ => Self::NAMES,
        }
    }

    /// The other way in which files may have them, if there are two.
    pub(super) fn other(self) -> Option<Self> {
        match self {
            Self::Stacked => Some(Self::USUAL),
            usual if usual == Self::USUAL => Some(Self::Stacked),
            _ => None,
        }
    }

    /// Whether numbers for gate and up alternate.
    pub fn alternates(self) -> bool {
        matches!(self, Self::Alternating | Self::Mxfp4)
    }
}

impl ExpertMatrix {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::GateUp, Self::Down];

    /// Its name within the module of the experts, as transformers has it in memory.
    pub fn name(self) -> &'static str {
        match self {
            Self::GateUp => "gate_up_proj",
            Self::Down => "down_proj",
        }
    }
}

impl ExpertsDescription {
    /// `[out, in]` of a matrix of an expert.
    pub fn dims(&self, matrix: ExpertMatrix) -> [usize; 2] {
        match matrix {
            ExpertMatrix::GateUp => [2 * self.width, self.hidden],
            ExpertMatrix::Down => [self.hidden, self.width],
        }
    }

    /// A linear layer of an expert: `MODULE.N.gate_up_proj`.
    pub fn linear(&self, number: usize, matrix: ExpertMatrix) -> LinearDescription {
        let name = interned(format!("{}.{number}.{}", self.module, matrix.name()));
        LinearDescription::new(name, self.dims(matrix), self.bias)
    }

    /// The linear layers of an expert: from its input to gate and up, and back.
    pub fn expert(&self, number: usize) -> (JointDescription<2>, LinearDescription) {
        let gate_up = self.linear(number, ExpertMatrix::GateUp);
        let joint = JointDescription::Fused(gate_up, [self.width; 2]);
        (joint, self.linear(number, ExpertMatrix::Down))
    }

    /// The linear layers of all experts, in order.
    pub fn linears(&self) -> impl Iterator<Item = LinearDescription> {
        let of_expert = |number| ExpertMatrix::ALL.map(|matrix| self.linear(number, matrix));
        (0..self.count).flat_map(of_expert)
    }

    /// Numbers of one expert.
    pub fn parameters_of_one(&self) -> u64 {
        let of_matrix = |matrix| {
            let [outputs, inputs] = self.dims(matrix);
            outputs * inputs + if self.bias { outputs } else { 0 }
        };
        ExpertMatrix::ALL.into_iter().map(of_matrix).sum::<usize>() as u64
    }

    /// Names and dimensions of the tensors of files but for the router's, in the decoder layer of a
    /// path.
    pub fn tensors(&self, layer: &str) -> Vec<(String, Vec<usize>)> {
        let mut tensors = Vec::new();
        for stored in self.stored(layer) {
            match (self.storage, &stored.shape[..]) {
                (ExpertStorage::Mxfp4, &[experts, inputs, outputs]) => {
                    let scales = vec![experts, outputs, inputs / mxfp4::BLOCK];
                    let blocks = [&scales[..], &[mxfp4::BLOCK_BYTES]].concat();
                    tensors.push((format!("{}_blocks", stored.name), blocks));
                    tensors.push((format!("{}_scales", stored.name), scales));
                }
                _ => tensors.push((stored.name, stored.shape)),
            }
        }
        tensors
    }

    /// Numbers of all matrices that files have in a format of their own, and their bytes.
    pub fn coded(&self) -> (u64, u64) {
        if self.storage != ExpertStorage::Mxfp4 {
            return (0, 0);
        }
        let all = ExpertMatrix::ALL.map(|matrix| self.dims(matrix));
        let numbers = all.iter().map(|dims| (dims[0] * dims[1]) as u64).sum::<u64>();
        let bytes = all.iter().map(|dims| mxfp4::bytes(*dims)).sum::<u64>();
        (self.count as u64 * numbers, self.count as u64 * bytes)
    }

    /// The parameters that adapters may be put beside, in the decoder layer of a path.
    pub(super) fn targets(&self, layer: &str) -> Vec<TargetParameter> {
        let path = |name: &str| format!("{layer}.{name}");
        let of_experts = |matrix: ExpertMatrix| TargetParameter {
            path: path(&format!("{}.{}", self.module, matrix.name())),
            linears: (0..self.count)
                .map(|number| (path(self.linear(number, matrix).name), self.dims(matrix)))
                .collect(),
            stacked: true,
            alternating: matrix == ExpertMatrix::GateUp && self.storage.alternates(),
        };
        self.router.target(layer).into_iter().chain(ExpertMatrix::ALL.map(of_experts)).collect()
    }

    /// Numbers of a token that tapes keep for the backward pass: gathered inputs, outputs before
    /// and after their weights, and their sum.
    pub(super) fn taped(&self) -> usize {
        let scores = self.count + 2 * self.top_k;
        let norms = [self.before, self.router.input].iter().flatten().count();
        let taped = self.top_k * (5 * self.hidden + 8 * self.width) + 3 * norms * self.hidden;
        taped + 3 * scores
    }
}
