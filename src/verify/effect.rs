//! Whether a model does what it did where it was made, by the scores that it carries.

use std::path::Path;
use std::sync::Arc;

use super::report::{Check, Report, Verdict};
use crate::artifact::effect::{EffectMatch, FILE, ModelEffect};
use crate::artifact::effect_run::{EffectScores, run_effect};
use crate::artifact::origin::Origin;
use crate::error::Result;
use crate::hub::Supply;

/// Runs the model and its base on the rows that it carries, as a further check of the report.
pub fn demand_effect(
    directory: &Path,
    base: Option<&str>,
    supply: &Arc<Supply>,
    report: &mut Report,
) {
    let signed = report.files.iter().any(|file| file.path == FILE)
        && !report.unsigned.iter().any(|name| name == FILE);
    let stated = match ModelEffect::read(directory) {
        Ok(Some(stated)) if signed => stated,
        Ok(_) => {
            let why = format!("the model carries no `{FILE}`, by which it could be checked");
            return report.stuck(Check::Effect, why);
        }
        Err(error) => return report.error(Check::Effect, &error),
    };
    match run(directory, base, supply, &stated) {
        Err(error) => report.error(Check::Effect, &error),
        Ok((with, without)) => match stated.compare(&with, without.as_deref()) {
            Ok(found) => report.pass(Check::Effect, describe(&stated, found, without.is_some())),
            Err(why) => {
                let hint = "a base, an adapter or a program is not the one that it was made with";
                report.fail(Check::Effect, Verdict::Tampered, why, hint);
            }
        },
    }
}

fn describe(stated: &ModelEffect, found: EffectMatch, based: bool) -> String {
    let how = match found {
        EffectMatch::Bits => "to the last bit".to_owned(),
        EffectMatch::Rounding(far) => format!("within {far:.1e} of the largest score"),
    };
    let what = if based { "with it and without it" } else { "with it alone" };
    format!("the scores that are stated, {what}, {how}; on {}", stated.what)
}

fn run(
    directory: &Path,
    base: Option<&str>,
    supply: &Arc<Supply>,
    stated: &ModelEffect,
) -> Result<EffectScores> {
    let origin = Origin::find(&directory.to_string_lossy(), base, supply)?;
    let of_whole = base.filter(|_| origin.adapter.is_none());
    let base = of_whole.map(|name| supply.named(name)?.as_base()).transpose()?;
    run_effect(&origin, base.as_ref(), stated)
}
