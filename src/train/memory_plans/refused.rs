//! Plans that cannot be: what a device or a run has not, and what does not fit.

use super::{MemoryCandidate, Planned, plan_named};
use crate::adapters;
use crate::config::{ActivationOffload, MemoryChoice, OptimizerOffload, Recompute};
use crate::error::{Error, Result};
use crate::event::bytes;
use crate::train::memory_fit;

impl Planned<'_> {
    /// Why frozen weights cannot be left on disk, where they cannot.
    pub(super) fn refuse_streamed(&self, choice: MemoryChoice) -> Result<()> {
        let what = format!("`train.memory = \"{choice}\"` leaves frozen weights on disk");
        let error = Error::run(what);
        match self.adapter {
            _ if self.opened.on_gpu() => Err(error
                .because("a GPU holds all of them")
                .hint("`device.name = \"cpu\"`, or another `train.memory`")),
            None => Err(error
                .because("without an adapter every weight is trained")
                .hint(format!("add {}, or use another `train.memory`", adapters::asked_by()))),
            Some(adapter) if adapter.changes_base() => Err(error
                .because("the start of the adapter changes them (`lora.init_lora_weights`)")
                .hint("use `lora.init_lora_weights = \"default\"`, or another `train.memory`")),
            Some(_) => Ok(()),
        }
    }

    /// Why the optimizer's state cannot be off the device, where it is asked for and cannot.
    pub(super) fn refuse_offload(&self) -> Result<()> {
        let train = &self.config.train;
        let planned = train.memory.and_then(plan_named).filter(|named| named.offloaded);
        let asked = match (train.optimizer_offload, planned) {
            (None | Some(OptimizerOffload::None), None) => return Ok(()),
            (_, Some(named)) => format!("`train.memory = \"{}\"`", named.choice),
            (Some(place), None) => format!("`train.optimizer_offload = \"{place}\"`"),
        };
        let error = Error::run(format!("{asked} moves the optimizer's state off the device"));
        match train.optimizer_offload {
            Some(OptimizerOffload::None) => Err(error
                .because("`train.optimizer_offload = \"none\"` leaves it there")
                .hint("leave one of the two out")),
            Some(OptimizerOffload::Host) if !self.opened.on_gpu() => Err(error
                .because("on the CPU that is in host memory already (`\"host\"`)")
                .hint("`train.optimizer_offload = \"disk\"` moves it to disk")),
            _ if self.work.trained.state_bytes == 0 => {
                let optimizer = self.config.owned.text("train.optimizer");
                Err(error
                    .because(format!("`{optimizer}` keeps none with these settings"))
                    .hint("leave it out"))
            }
            _ => Ok(()),
        }
    }

    /// Why inputs of layers cannot be off the device, where that is asked for and cannot.
    pub(super) fn refuse_activation_offload(&self) -> Result<()> {
        let train = &self.config.train;
        let planned = train.memory.and_then(plan_named);
        let moves = planned.filter(|named| named.inputs_offloaded);
        let asked = match (train.activation_offload, moves) {
            (None | Some(ActivationOffload::None), None) => return Ok(()),
            (_, Some(named)) => format!("`train.memory = \"{}\"`", named.choice),
            (Some(place), None) => format!("`train.activation_offload = \"{place}\"`"),
        };
        let error = Error::run(format!("{asked} moves inputs of layers off the device"));
        match (train.activation_offload, planned, train.memory) {
            (Some(ActivationOffload::None), ..) => Err(error
                .because("`train.activation_offload = \"none\"` leaves them there")
                .hint("leave one of the two out")),
            (Some(ActivationOffload::Host), ..) if !self.opened.on_gpu() => Err(error
                .because("on the CPU they are in host memory already (`\"host\"`)")
                .hint("`train.activation_offload = \"disk\"` moves them to disk")),
            (_, Some(named), _) if named.recompute == Recompute::None => Err(error
                .because(format!(
                    "with `train.memory = \"{}\"` nothing is computed again, and layers keep \
                     more than that",
                    named.choice
                ))
                .hint(
                    "take a plan that computes layers again, such as `train.memory = \
                     \"recompute\"`",
                )),
            (_, None, None) if train.recompute != Some(Recompute::Layers) => Err(error
                .because("nothing is computed again, and layers keep more than that")
                .hint("add `train.recompute = \"layers\"`, or `train.memory = \"auto\"`")),
            _ => Ok(()),
        }
    }

    /// What can never fit the device.
    pub(super) fn refuse_hopeless(
        &self,
        chosen: &MemoryCandidate,
        all: &[MemoryCandidate],
    ) -> Result<()> {
        memory_fit::check_memory(&chosen.estimate, self.opened).map_err(|error| {
            let fits = |other: &&MemoryCandidate| {
                memory_fit::check_memory(&other.estimate, self.opened).is_ok()
            };
            match all.iter().find(fits).and_then(|other| other.name) {
                Some(name) => error.hint(format!("`train.memory = \"{name}\"` may fit")),
                None => error,
            }
        })
    }

    pub(super) fn refuse_too_large(&self, all: &[MemoryCandidate]) -> Result<()> {
        let Some(limit) = self.config.device.memory_limit else { return Ok(()) };
        let chosen = all.iter().find(|candidate| candidate.chosen);
        let Some(chosen) = chosen.filter(|chosen| chosen.memory_bytes > limit) else {
            return Ok(());
        };
        let error = Error::out_of_memory("the run does not fit into `device.memory_limit`")
            .because(format!(
                "it needs about {} ({}), and may take {}",
                bytes(chosen.memory_bytes),
                chosen.plan.about(),
                bytes(limit)
            ));
        let fits = all.iter().find(|candidate| candidate.memory_bytes <= limit);
        Err(match fits.and_then(|candidate| Some((candidate.name?, candidate.memory_bytes))) {
            Some((name, size)) => {
                error.hint(format!("`train.memory = \"{name}\"` needs about {}", bytes(size)))
            }
            None => error.hint(
                "a shorter `data.max_seq_len`, a smaller `train.micro_batch_size` or another \
                 `model.weight_format` needs less",
            ),
        })
    }
}
