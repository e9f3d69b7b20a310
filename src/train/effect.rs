//! What the trained model changes, for its artifact.

use std::path::Path;
use std::sync::Arc;

use super::prepare::Prepared;
use crate::adapters::{Adapter, leaves_base};
use crate::artifact::effect::{EXACT, ModelEffect, ROUNDED};
use crate::artifact::logit_diff::Rows;
use crate::device::{self, Arithmetic};
use crate::engine::Trainer;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::weights::Element;

/// So many rows of at most so many tokens: a file of some kilobytes, and a moment's work.
const ROWS: [usize; 2] = [4, 32];

/// Writes the scores with and without what was trained into a folder. Of a whole model, and of an
/// adapter that replaces weights of its base or began with a part of its base, there are only those
/// with it: the base is no longer in memory.
pub(super) fn write_effect(
    folder: &Path,
    prepared: &Prepared,
    trainer: &mut Trainer,
    observer: &mut dyn Observer,
) -> Result<()> {
    let prompts = &prepared.config.eval.prompts;
    let vocabulary = prepared.description.vocabulary;
    let rows = Rows::of_prompts(prompts, &prepared.corpus.codec, vocabulary)?;
    let rows = rows.shortened(ROWS[0], ROWS[1]);
    let model = &mut trainer.model;
    let trained_in = model.computing;
    if !prepared.on_gpu() {
        model.computing.arithmetic = Arithmetic::F32; // so that it can be compared anywhere
    }
    let arithmetic = model.computing.arithmetic;
    // Its head is trained with it.
    let scores = prepared.score_head.is_some();
    // With some adapters the base in memory is no longer that of the files.
    let based = !scores && prepared.adapter.as_deref().is_some_and(leaves_base);
    // The weights of a whole model are rounded once more when they are written, and rows of tokens
    // when they are put into an embedding in 16 bits.
    let of_rows = |it: &Arc<dyn Adapter>| {
        !it.trainable_token_indices().is_empty() || !it.settings().head_token_indices.is_empty()
    };
    let rounded = prepared.adapter.as_ref().is_none_or(of_rows)
        && prepared.elements.values().any(|element| *element != Element::F32);
    let name = match arithmetic {
        Arithmetic::F32 if rounded => ROUNDED,
        Arithmetic::F32 => EXACT,
        other => other.name(),
    };
    // One row after the other: the scores of all of them are a few hundred megabytes.
    let of_row = |row: Rows| {
        let with = row.logits(model);
        let without = based.then(|| row.logits_of_base(model));
        ModelEffect::new(&row, &with, without.as_deref(), name)
    };
    let found = device::guarded(prepared.on_gpu(), "computing the effect", || {
        rows.each().map(of_row).reduce(ModelEffect::and)
    });
    model.computing = trained_in;
    let Some(effect) = found? else { return Ok(()) };
    if effect.is_inert() {
        let what = "the adapter changes nothing: on the prompts, the model with it has the scores \
                    of its base, to the last bit";
        observer.on(Event::Warning(what.to_owned()));
    }
    effect.write(folder)
}
