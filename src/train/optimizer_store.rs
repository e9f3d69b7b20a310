//! Where the optimizer's state of a run is between updates.

use std::path::Path;

use super::Prepared;
use crate::config::OptimizerOffload;
use crate::engine::{StateStore, Trainer};
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
}
