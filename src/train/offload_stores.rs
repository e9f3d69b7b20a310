//! Where the optimizer's state of a run is between updates, and inputs of layers between passes.

use std::path::Path;

use super::Prepared;
use crate::config::{ActivationOffload, OptimizerOffload};
use crate::engine::{ActivationStore, StateStore, Trainer};
use crate::error::Result;

impl Prepared<'_> {
    /// Keeps the optimizer's state off the device, if the plan says so.
    ///
    /// # Errors
    /// When it is to be on disk, and the run's directory cannot be written to or the disk has no
    /// room for it. Where checkpoints are written beside steps, that is twice the state: an update
    /// puts new numbers beside those that are being saved.
    pub(super) fn keep_state_elsewhere(&self, trainer: &mut Trainer) -> Result<()> {
        let store = match self.memory_plan().optimizer_offload {
            OptimizerOffload::None => return Ok(()),
            OptimizerOffload::Host => StateStore::Host,
            OptimizerOffload::Disk => {
                let every = self.config.checkpoint.every_steps;
                let copies = if (1..self.total_steps).contains(&every) { 2 } else { 1 };
                let folder = Path::new(&self.config.output.dir);
                StateStore::on_disk(folder, copies * self.trained.state_bytes)?
            }
        };
        trainer.optimizer.offload_to(store);
        Ok(())
    }

    /// Keeps inputs of layers off the device until the backward pass, if the plan says so.
    ///
    /// # Errors
    /// When they are to be on disk, and the run's directory cannot be written to or the disk has no
    /// room for those of all micro-batches that are differentiated at the same time.
    pub(super) fn keep_inputs_elsewhere(&self, trainer: &mut Trainer) -> Result<()> {
        trainer.activations = match self.memory_plan().activation_offload {
            ActivationOffload::None => None,
            ActivationOffload::Host => Some(ActivationStore::Host),
            ActivationOffload::Disk => {
                let at_once = self.step_settings().parallel_micro_batches.max(1);
                let inputs = (self.description.layers.len() * at_once) as u64;
                let bytes = self.memory_plans.chosen().input_bytes;
                let folder = Path::new(&self.config.output.dir);
                Some(ActivationStore::on_disk(folder, inputs, bytes / inputs.max(1))?)
            }
        };
        Ok(())
    }
}
