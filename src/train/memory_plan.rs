//! What a step holds at once.

use serde::{Serialize, Serializer};

use crate::config::{ActivationOffload, OptimizerOffload, Recompute};
use crate::device::{ComputeConfig, OpenedDevice};
use crate::model::{MLP_TILE, Streamed};

/// What is held in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// What is computed again in the backward pass.
    #[serde(serialize_with = "by_name")]
    pub recompute: Recompute,
    /// Whether MLPs are computed a tile of tokens at a time.
    pub tiled_mlp: bool,
    /// Target tokens whose logits are held at once.
    pub loss_chunk_tokens: usize,
    /// Rows of a micro-batch that are computed at once.
    pub rows: usize,
    /// Which frozen matrices are left on disk, and are in memory while they are multiplied with.
    #[serde(serialize_with = "which")]
    pub streamed: Option<Streamed>,
    /// Where the optimizer's state is between updates.
    #[serde(serialize_with = "place_by_name")]
    pub optimizer_offload: OptimizerOffload,
    /// Where inputs of layers are until the backward pass comes to them.
    #[serde(serialize_with = "inputs_by_name")]
    pub activation_offload: ActivationOffload,
}

fn by_name<S: Serializer>(recompute: &Recompute, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(recompute.name())
}

fn place_by_name<S: Serializer>(
    place: &OptimizerOffload,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(place.name())
}

fn inputs_by_name<S: Serializer>(
    place: &ActivationOffload,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(place.name())
}

#[expect(clippy::ref_option)] // serde hands a field over so
fn which<S: Serializer>(
    streamed: &Option<Streamed>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(match streamed {
        None => "none",
        Some(Streamed::Tables) => "tables",
        Some(Streamed::All) => "all",
    })
}

impl MemoryPlan {
    /// How a device computes under it.
    pub fn computing(&self, opened: &OpenedDevice) -> ComputeConfig {
        let mlp_tile = self.tiled_mlp.then_some(MLP_TILE);
        ComputeConfig { mlp_tile, ..opened.computing() }
    }

    /// In words.
    pub fn about(&self) -> String {
        let layers = match self.recompute {
            Recompute::None => "nothing computed again",
            Recompute::Layers => "layers computed again",
        };
        let tiles = match self.tiled_mlp {
            true => format!(", MLPs {MLP_TILE} tokens at a time"),
            false => String::new(),
        };
        let rows = match self.rows {
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        };
        let chunk = self.loss_chunk_tokens;
        let streamed = match self.streamed {
            None => "",
            Some(Streamed::Tables) => ", embedding and output head on disk",
            Some(Streamed::All) => ", frozen weights on disk",
        };
        let offloaded = match self.optimizer_offload {
            OptimizerOffload::None => "",
            OptimizerOffload::Host => ", the optimizer's state in host memory",
            OptimizerOffload::Disk => ", the optimizer's state on disk",
        };
        let inputs = match self.activation_offload {
            ActivationOffload::None => "",
            ActivationOffload::Host => ", inputs of layers in host memory",
            ActivationOffload::Disk => ", inputs of layers on disk",
        };
        let kept = format!("{streamed}{offloaded}{inputs}");
        format!("{layers}{tiles}, logits of {chunk} target tokens and {rows} at once{kept}")
    }
}
