//! Before the first step of a new run: its own gradients beside those of the tensor operations.

use serde_json::Value;

use super::prepare::Prepared;
use crate::config::Kernels;
use crate::data::Cursor;
use crate::device::{Arithmetic, ComputeConfig};
use crate::engine::{CHECKED_CHUNK, Trainer, check_gradients, first_tokens};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::event::{Event, Observer};
use crate::files::{FileEntry, RunDirectory, read_json_hashed, write_atomic};
use crate::weights::formats;

/// The file with what was found, in the run directory.
pub(super) const FILE: &str = "gradient-check.json";
/// Tokens that are compared at most, and at least.
const TOKENS: [u64; 2] = [64, 16];
/// So much is computed about: tensor operations make tens of billions of products a second, and a
/// forward and backward pass takes six for each parameter and token. That is some seconds.
const PRODUCTS: u64 = 60_000_000_000;
/// The largest such file that is read.
const BYTES_MAX: u64 = 1 << 20;
/// Rows of pairs and of labels cannot be cut; longer batches of them are not compared.
const WHOLE_TOKENS_MAX: usize = 1024;

/// What the check of a run found, for its provenance; nothing where it was not made.
pub(super) fn found(run: &RunDirectory) -> Result<Option<(FileEntry, Value)>> {
    let path = run.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let (found, entry) = read_json_hashed(&path, FILE, BYTES_MAX)?;
    Ok(Some((entry, found)))
}

/// Compares loss and gradients on the first tokens of the run's data, on the CPU, and notes what
/// was found. Kernels of GPUs have no other form on their device: `firebrand doctor` compares
/// those.
///
/// # Errors
/// When a gradient is not what it should be: the run must not go on.
pub(super) fn check(
    run: &RunDirectory,
    prepared: &Prepared,
    trainer: &mut Trainer,
    observer: &mut dyn Observer,
) -> Result<()> {
    let computing = trainer.model.computing;
    let reference = ComputeConfig { kernels: Kernels::Portable, ..computing };
    let routed = trainer.model.description.experts().next().is_some();
    // Of two experts that are nearly as good, rounding to 16 bits may choose either.
    let unclear = routed && computing.arithmetic != Arithmetic::F32;
    // Tensor operations take frozen codes as numbers, a layer of them at a time: where weights are
    // kept in few bits, there is no memory for that.
    let as_in_files = prepared.weight_format.is_none() && prepared.description.coded().0 > 0;
    let coded = prepared.weight_format.is_some_and(formats::makes_codes)
        || prepared.in_blocks.is_some()
        || prepared.memory_plan().streamed.is_some()
        || as_in_files;
    if prepared.on_gpu() || computing.kernels == Kernels::Portable || unclear || coded {
        return Ok(());
    }
    observer.on(Event::Doing("the comparison of gradients".to_owned()));
    let mut batches = prepared.take(&mut Cursor::default())?;
    batches.truncate(1);
    prepared.score_by_teacher(&mut batches)?;
    let Some(batch) = batches.first() else { return Ok(()) };
    let parameters = trainer.model.description.active_parameters().max(1);
    let tokens = (PRODUCTS / (6 * parameters)).clamp(TOKENS[1], TOKENS[0]);
    let data = &prepared.config.data;
    let first = || first_tokens(batch, usize::try_from(tokens).unwrap_or(usize::MAX));
    let is_small = batch.rows * batch.length <= WHOLE_TOKENS_MAX;
    let batch = match data.no_pairs.is_none() || data.labels {
        // Answers to compare with are short: of few targets, rounding is more of a gradient.
        false if data.prompts && is_small => batch.clone(),
        false => first(),
        true if is_small => batch.clone(),
        true => return Ok(()),
    };
    if batch.targets.is_empty() {
        return Ok(());
    }
    let chunk = prepared.memory_plan().loss_chunk_tokens.min(CHECKED_CHUNK);
    let Trainer { model, objective, .. } = trainer;
    let found = check_gradients(model, &**objective, &batch, [computing, reference], chunk);
    let found = found.map_err(|why| {
        let what = "the gradients of this run are not what they should be, so it was not begun";
        Error::refused(ErrorCode::Device, what)
            .because(why)
            .because("kernels of the CPU were compared with tensor operations on its first tokens")
            .hint(
                "please report it, with the model's `config.json` and what `firebrand doctor` says",
            )
    })?;
    let Some(found) = found else { return Ok(()) };
    let json = serde_json::to_string(&found).context("cannot encode what was found")?;
    write_atomic(&run.join(FILE), format!("{json}\n").as_bytes())
}
