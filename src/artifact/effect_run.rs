//! A model and its base, run on the rows by which its effect is stated.

use super::effect::ModelEffect;
use super::merge::other_base;
use super::open::{with_adapter, with_rows};
use super::origin::Origin;
use crate::adapters::leaves_base;
use crate::config::DeviceChoice;
use crate::device;
use crate::error::Result;
use crate::hub::ModelDirectory;
use crate::model::{Model, inspect};
use crate::weights::formats;

/// The scores of a model for a few rows, and those of its base where that is at hand.
pub type EffectScores = (Vec<Vec<f32>>, Option<Vec<Vec<f32>>>);

/// Runs an adapter beside its base, or a whole model and then `base`, on the CPU in 32 bits;
/// weights of an adapter's base are in the format beside which it was trained.
///
/// # Errors
/// When a model cannot be loaded, or is not the one of the lineage.
pub fn run_effect(
    origin: &Origin,
    base: Option<&ModelDirectory>,
    stated: &ModelEffect,
) -> Result<EffectScores> {
    let device = device::open(DeviceChoice::Cpu, 0)?.device;
    let rows = |model: &Model| stated.rows(model.description.vocabulary);
    let Some((adapter, _)) = &origin.adapter else {
        let load = |directory: &ModelDirectory, vocabulary: usize| -> Result<_> {
            let model = with_rows((&directory.path, None), vocabulary, &device)?;
            Ok((rows(&model)?.logits(&model), model.description.vocabulary))
        };
        let (with, vocabulary) = load(&origin.model, 0)?;
        let base = base.filter(|_| stated.has_base());
        let base = base.map(|base| load(base, vocabulary)).transpose()?;
        return Ok((with, base.map(|(scores, _)| scores)));
    };
    let linears = origin.past.weight_format().and_then(formats::named);
    let loaded =
        with_adapter((&origin.base.path, linears), &origin.model.path, adapter.as_ref(), &device)?;
    let expected = origin.expected();
    for file in &loaded.files {
        let name = file.path.strip_prefix("base/").unwrap_or_default();
        if expected.get(name).is_some_and(|digest| *digest != file.sha256) {
            return Err(other_base(&origin.base.path, name));
        }
    }
    let rows = rows(&loaded.model)?;
    let with = rows.logits(&loaded.model);
    // Weights that an adapter is saved with have taken the place of the base's.
    let apart = leaves_base(adapter.as_ref()) && loaded.model.description.labels.is_none();
    Ok((with, apart.then(|| rows.logits_of_base(&loaded.model))))
}

/// Looks whether an adapter does here what it states, before something else is made of it; what is
/// said where that cannot be seen.
///
/// # Errors
/// When it does something else.
pub fn check_effect(origin: &Origin) -> Result<Option<String>> {
    let Some(stated) = ModelEffect::read(&origin.model.path)? else { return Ok(None) };
    if origin.adapter.is_none() {
        return Ok(None);
    }
    let needed = inspect(&origin.base.path)?.description.parameters.saturating_mul(6);
    if let Some(left) = device::memory_bytes_available().filter(|left| *left < needed) {
        let (needed, left) = (needed >> 20, left >> 20);
        return Ok(Some(format!(
            "the effect of the adapter was not checked: to run it takes about {needed} MiB of \
             memory, of which {left} are left"
        )));
    }
    let (with, without) = run_effect(origin, None, &stated)?;
    stated.refuse_other(&with, without.as_deref(), &origin.model.path)?;
    Ok(None)
}
