//! Before the first step of a new run: its own gradients beside those of the tensor operations,
//! which the CPU makes also where the run is on a GPU.

use serde_json::{Value, json};

use super::checked_tokens::{TOO_COSTLY, Units, WHOLE_TOKENS_MAX, budget};
use super::frozen_weights;
use super::prepare::Prepared;
use super::read_data::longest;
use crate::adapters::Adapter;
use crate::config::Kernels;
use crate::data::{Batch, Cursor};
use crate::device::ComputeConfig;
use crate::engine::{
    CheckBudget, GradientCheck, Trainer, check_gradients, checked_chunk, first_documents,
    first_tokens,
};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::event::{Event, Observer};
use crate::files::{FileEntry, RunDirectory, read_json_hashed, write_atomic};
use crate::model::Streamed;

/// The file with what was found, in the run directory.
pub(super) const FILE: &str = "gradient-check.json";
/// What the file has where nothing was compared.
const LEFT_OUT: &str = "left_out";
/// The largest such file that is read.
const BYTES_MAX: u64 = 1 << 20;
const CHANGED_THERE: &str = "the start of the adapter changes frozen weights on the device";
const TOO_LONG: &str = "the first documents are pairs or have labels, and are too long";

/// What the check of a run found, for its provenance; nothing where it was not made.
pub(super) fn found(run: &RunDirectory) -> Result<Option<(FileEntry, Value)>> {
    let path = run.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let (found, entry) = read_json_hashed(&path, FILE, BYTES_MAX)?;
    Ok(Some((entry, found)))
}

/// Compares loss and gradients on the first tokens of the run's data with those of tensor
/// operations on the CPU, and notes what was found, or why nothing was.
///
/// # Errors
/// When a gradient is not what it should be: the run must not go on.
pub fn check(
    run: &RunDirectory,
    prepared: &Prepared,
    trainer: &mut Trainer,
    observer: &mut dyn Observer,
) -> Result<()> {
    let json = match compare(prepared, trainer, observer)? {
        Ok(found) => serde_json::to_string(&found),
        Err(why) => serde_json::to_string(&json!({ LEFT_OUT: why })),
    };
    let json = json.context("cannot encode what was found")?;
    write_atomic(&run.join(FILE), format!("{json}\n").as_bytes())
}

/// What was found, or why nothing was compared.
fn compare(
    prepared: &Prepared,
    trainer: &mut Trainer,
    observer: &mut dyn Observer,
) -> Result<Result<GradientCheck, String>> {
    let Prepared { config, description, total_steps, .. } = prepared;
    let extent = (*total_steps, longest(config, &prepared.plan, &prepared.opened)?);
    let computed = (trainer.model.computing, numbers_in_codes(prepared));
    let budget = match budget((config, description), extent, prepared.on_gpu(), computed) {
        Ok(budget) => budget,
        Err(why) => return Ok(Err(why.to_owned())),
    };
    let adapter = prepared.adapter.as_deref();
    if prepared.on_gpu() && adapter.is_some_and(Adapter::changes_base) {
        return Ok(Err(CHANGED_THERE.to_owned()));
    }
    observer.on(Event::Doing("the comparison of gradients".to_owned()));
    let mut batches = prepared.take(&mut Cursor::default())?;
    batches.truncate(1);
    prepared.score_by_teacher(&mut batches)?;
    let first = batches.into_iter().next().unwrap_or_default();
    let part = match part_of(first, Units::of(&config.data), budget) {
        Ok(part) => part,
        Err(why) => return Ok(Err(why.to_owned())),
    };
    if part.targets.is_empty() {
        return Ok(Err("the first micro-batch has no target tokens".to_owned()));
    }
    let chunk = checked_chunk(description.outputs());
    let chunk = prepared.memory_plan().loss_chunk_tokens.min(chunk);
    let verdict = match prepared.on_gpu() {
        true => match prepared.compare_beside_gpu(trainer, &part, chunk)? {
            Ok(verdict) => verdict,
            Err(why) => return Ok(Err(why)),
        },
        false => {
            let Trainer { model, objective, .. } = trainer;
            let computing = model.computing;
            let reference = ComputeConfig { kernels: Kernels::Portable, ..computing };
            check_gradients(model, &**objective, &part, [computing, reference], chunk)
        }
    };
    let (device, reference) = (prepared.opened.name.clone(), cpu_name());
    match verdict {
        Ok(Some(found)) => Ok(Ok(GradientCheck { device, reference, ..found })),
        Ok(None) => {
            Ok(Err("loss or gradients are no numbers, or there is nothing to learn yet".to_owned()))
        }
        Err(why) if prepared.on_gpu() && description.experts().next().is_some() => {
            observer.on(Event::Warning(format!("gradients differ from those of the CPU: {why}")));
            Ok(Err(format!(
                "of two experts that are nearly as good, sums may choose either; {why}"
            )))
        }
        Err(why) => Err(wrong(why, prepared)),
    }
}

/// Numbers that the comparison reads from codes or from disk.
fn numbers_in_codes(prepared: &Prepared) -> u64 {
    let Prepared { description, weight_format, adapter, opened, .. } = prepared;
    match prepared.memory_plan().streamed {
        Some(Streamed::All) => description.parameters,
        _ if opened.on_gpu() && adapter.is_some() => description.parameters,
        _ if opened.on_gpu() => 0,
        _ => frozen_weights::coded(*weight_format, adapter.as_deref(), description, opened).0,
    }
}

/// What makes the reference.
fn cpu_name() -> String {
    format!("CPU, {} threads, tensor operations", rayon::current_num_threads())
}

/// The run must not go on.
fn wrong(why: String, prepared: &Prepared) -> Error {
    let what = "the gradients of this run are not what they should be, so it was not begun";
    let error = Error::refused(ErrorCode::Device, what).because(why);
    let report =
        "please report it, with the model's `config.json` and what `firebrand doctor` says";
    if !prepared.on_gpu() {
        return error
            .because("kernels of the CPU were compared with tensor operations on its first tokens")
            .hint(report);
    }
    let name = &prepared.opened.name;
    error
        .because(format!(
            "{name} was compared with tensor operations of the CPU on its first tokens, with the \
             same weights"
        ))
        .hint(format!("`device.name = \"cpu\"` works without the device; {report}"))
}

/// What is compared of the first micro-batch.
///
/// # Errors
/// Why nothing is, where no document is short enough.
fn part_of(batch: Batch, units: Units, budget: CheckBudget) -> Result<Batch, &'static str> {
    let is_small = |tokens: usize| tokens <= WHOLE_TOKENS_MAX && budget.allows(tokens);
    if units != Units::Tokens && is_small(batch.rows * batch.length) {
        return Ok(batch);
    }
    match units {
        Units::Documents => {
            let part = first_documents(&batch, budget.tokens());
            match is_small(part.length) {
                true => Ok(part),
                false if part.length > WHOLE_TOKENS_MAX => Err(TOO_LONG),
                false => Err(TOO_COSTLY),
            }
        }
        Units::Tokens | Units::Answers => Ok(first_tokens(&batch, budget.tokens())),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::Target;
    use crate::engine::parity::small_model;

    /// Two rows of documents with so many tokens each.
    fn batch(documents: usize, tokens: usize) -> Batch {
        let length = documents * tokens;
        let places = 0..u32::try_from(2 * length).unwrap();
        let [length_of, of_document] = [length, tokens].map(|it| u32::try_from(it).unwrap());
        Batch {
            rows: 2,
            length,
            tokens: places.clone().map(|place| place % 300).collect(),
            positions: places.clone().map(|place| place % of_document).collect(),
            documents: places.clone().map(|it| 1 + it % length_of / of_document).collect(),
            targets: places.map(|index| Target { index, token: 1 }).collect(),
            ..Batch::default()
        }
    }

    #[test]
    fn documents_that_are_one_are_not_cut_and_too_long_ones_not_compared() {
        let model = small_model(&Device::flex(), ComputeConfig::default()).unwrap();
        let budget = CheckBudget::new(&model.description, 0, 0, false);
        let size = |batch: Batch, units| {
            let part = part_of(batch, units, budget);
            part.map(|part| (part.rows, part.length, part.targets.len())).ok()
        };
        // Few tokens: all of them where documents are whole.
        assert_eq!(size(batch(5, 40), Units::Tokens), Some((1, 200, 200)));
        assert_eq!(size(batch(5, 40), Units::Answers), Some((2, 200, 400)));
        assert_eq!(size(batch(5, 40), Units::Documents), Some((2, 200, 400)));
        // Many: 256, or as many documents as have no more.
        assert_eq!(size(batch(15, 40), Units::Tokens), Some((1, 256, 256)));
        assert_eq!(size(batch(15, 40), Units::Answers), Some((1, 256, 256)));
        assert_eq!(size(batch(15, 40), Units::Documents), Some((1, 240, 240)));
        // Of long ones one, unless it is too long.
        assert_eq!(size(batch(2, 600), Units::Documents), Some((1, 600, 600)));
        assert_eq!(size(batch(1, 1100), Units::Documents), None);
        // Why, is said.
        let none = CheckBudget::new(&model.description, 1 << 40, 0, false);
        let why = |tokens: usize| part_of(batch(1, tokens), Units::Documents, none).err();
        assert_eq!((why(1100), why(600)), (Some(TOO_LONG), Some(TOO_COSTLY)));
    }
}
