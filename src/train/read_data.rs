//! The data of a run, and the rows that it makes.

use std::sync::Arc;

use crate::config::{DataConfig, Length, RunConfig};
use crate::data::{self, BaseTokenizer, Corpus, Extent, Plan};
use crate::device::OpenedDevice;
use crate::error::Result;
use crate::files::cache_home;
use crate::hub::Supply;
use crate::objectives::{self, RolloutConfig};

/// Finds it, and reads as much of it as is asked for.
pub(super) fn read_data(
    config: &RunConfig,
    data: &DataConfig,
    tokenizer: BaseTokenizer,
    supply: &Arc<Supply>,
    extent: Extent,
) -> Result<Corpus> {
    let extent = match config.train.length {
        Length::Epochs(_) => Extent::Everything, // a schedule needs the number of steps
        Length::Steps(_) if asked_before(config) => Extent::Everything,
        Length::Steps(_) => extent,
    };
    let cache = cache_home()?;
    data::open(data, tokenizer, supply, &cache, extent, config.eval.max_records)
}

/// Whether a teacher is asked about all of it before the run.
fn asked_before(config: &RunConfig) -> bool {
    let objective = objectives::chosen(&config.owned);
    objective.teacher().is_some() && objective.on_policy().is_none()
}

/// Bytes of examples that are at hand at once.
pub(super) fn data_bytes(config: &DataConfig, corpus: &Corpus) -> u64 {
    // Of data that nobody has counted yet: no more than a token a byte.
    let tokens = corpus.statistics.as_ref().map_or(corpus.train.bytes(), |counts| counts.tokens);
    let window = config.window_bytes.min(tokens * data::TOKEN_BYTES);
    window * (2 + config.prefetch_windows)
}

/// The rows of a run, the tokens of the longest as the device has it, and steps in all.
pub(super) fn planned(
    config: &RunConfig,
    corpus: &Corpus,
    opened: &OpenedDevice,
) -> Result<(Plan, usize, u64)> {
    let plan = corpus.plan(config.seed);
    let length = longest(config, &plan, opened)?;
    let total_steps = total_steps(config, &plan, objectives::chosen(&config.owned).rollouts())?;
    Ok((plan, length, total_steps))
}

/// The most tokens of a row, as the device has it: of the data, or of a prompt with what the model
/// writes to it.
pub(super) fn longest(config: &RunConfig, plan: &Plan, opened: &OpenedDevice) -> Result<usize> {
    let objective = objectives::chosen(&config.owned);
    let written = objective.rollouts().map(|rollouts| rollouts.max_completion_length);
    let written = written.or(objective.on_policy().map(|on_policy| on_policy.max_new_tokens));
    let longest = plan.longest_row()?;
    let with =
        |written: usize| longest.saturating_add(written).min(config.data.max_seq_len).max(longest);
    Ok(written.map_or(longest, with).next_multiple_of(opened.computing().pad_multiple))
}

/// Rows of the data that a step learns from.
pub(super) fn rows_per_step(config: &RunConfig) -> u64 {
    (config.train.micro_batch_size * config.train.gradient_accumulation_steps) as u64
}

/// Micro-batches that are read for a step: more than it learns from, where it may choose.
pub(super) fn batches_read(config: &RunConfig) -> usize {
    let objective = objectives::chosen(&config.owned);
    let times = objective.rollouts().map_or(1, |rollouts| rollouts.dynamic_sampling);
    config.train.gradient_accumulation_steps * times
}

fn total_steps(config: &RunConfig, plan: &Plan, rollouts: Option<&RolloutConfig>) -> Result<u64> {
    // Several steps may be made with the same prompts.
    let each = rollouts.map_or(1, |rollouts| rollouts.num_iterations);
    let read = (config.train.micro_batch_size * batches_read(config)) as u64;
    match config.train.length {
        Length::Steps(steps) => Ok(steps),
        Length::Epochs(epochs) => Ok(each * plan.steps_in_epochs(epochs, read)?),
    }
}
