//! What a plan leaves on the device of a tape, of inputs of layers and of the optimizer's state.

use super::{F32, TrainedParameters, Workload};
use crate::config::{ActivationOffload, OptimizerOffload, Recompute};
use crate::engine::STATE_AT_ONCE;
use crate::model::Description;
use crate::model::description::LayerDescription;

impl Workload {
    /// Numbers on the tape of the widest layer.
    pub(super) fn most_taped(&self, description: &Description) -> u64 {
        let (tokens, hidden) = ((self.rows * self.length) as u64, description.hidden);
        let tile = self.mlp_tile.map_or(tokens, |tile| tokens.min(tile as u64));
        let of_layer = |layer: &LayerDescription| {
            let (all, in_tiles) = (layer.taped(hidden), layer.taped_in_tiles(hidden));
            // Of what is computed in tiles the input, and the gradients of it and of the output.
            let beside = if tile < tokens && in_tiles > 0 { 3 * hidden } else { 0 };
            tokens * (all - in_tiles + beside) as u64 + tile * in_tiles as u64
        };
        description.layers.iter().map(of_layer).max().unwrap_or(0)
    }

    /// Whether inputs of layers leave the device until the backward pass.
    pub(super) fn moves_inputs(&self) -> bool {
        self.recompute == Recompute::Layers && self.activation_offload != ActivationOffload::None
    }

    /// Inputs of so many layers that are there at once in the backward pass: where they come back,
    /// that of the layer which is computed again, and the next one on its way.
    pub(super) fn inputs_at_once(&self, layers: u64) -> u64 {
        if self.moves_inputs() { layers.min(2) } else { layers }
    }

    /// Bytes of them in host memory, off a GPU.
    pub(super) fn inputs_in_host_memory(&self, description: &Description) -> u64 {
        match self.activation_offload {
            ActivationOffload::Host if self.moves_inputs() => self.input_bytes(description),
            _ => 0,
        }
    }

    /// Bytes of the inputs of all layers.
    pub fn input_bytes(&self, description: &Description) -> u64 {
        let numbers = self.rows * self.length * description.hidden * description.layers.len();
        numbers as u64 * F32
    }

    /// Bytes of the optimizer's state that stay on the device.
    pub(super) fn state_bytes(&self) -> u64 {
        match self.offload {
            OptimizerOffload::None => self.trained.state_bytes,
            OptimizerOffload::Host | OptimizerOffload::Disk => 0,
        }
    }

    /// Bytes of it that an update brings there at once, where it is kept elsewhere; on the CPU with
    /// a tensor on its way from or to disk.
    pub(super) fn brought_bytes(&self) -> u64 {
        let TrainedParameters { state_bytes, largest, largest_state, .. } = self.trained;
        match (self.offload, self.on_gpu) {
            (OptimizerOffload::None, _) => 0,
            (_, true) => state_bytes.min(largest_state.max(STATE_AT_ONCE)),
            (_, false) => state_bytes.min(largest_state + largest * F32),
        }
    }
}
