//! The layers beside which low-rank factors stand.

use std::collections::BTreeSet;

use super::parameters;
use super::settings::{LoraSettings, TargetModules, fits, join, wants};
use super::start::refuse_ranks;
use super::tables::{names_module, table_modules};
use crate::adapters::last_name;
use crate::error::{Error, Result, nearest};
use crate::model::Description;

/// The layers that `target_modules` means. All names that fit none are reported.
pub fn layers(
    settings: &LoraSettings,
    description: &Description,
) -> Result<Vec<(String, [usize; 2])>> {
    let tables = table_modules(description).into_iter().map(|(module, _)| module);
    if let TargetModules::Names(names) = &settings.target_modules {
        let linears = description.linears.iter().map(|(path, _)| path.as_str());
        let all: Vec<&str> = linears.chain(tables.clone()).collect();
        let known: BTreeSet<&str> = all.iter().map(|path| last_name(path)).collect();
        let unused = |name: &&String| !all.iter().any(|path| fits(path, name.as_str()));
        let problems = names.iter().filter(unused).map(|name| {
            let error = Error::adapter(format!("`{name}` in `lora.target_modules` fits no layer"));
            match nearest(name, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the model has: {}", join(&known))),
            }
        });
        if let Some(error) = Error::all(problems.collect()) {
            return Err(error);
        }
    }
    refuse_layers(settings, description)?;
    refuse_patterns(settings)?;
    let all = description.linears.iter().filter(|(path, _)| wants(settings, path)).cloned();
    let mut layers: Vec<_> = all.collect();
    refuse_beside_experts(&layers, description)?;
    let named = tables.filter(|module| names_module(settings, module));
    refuse_unused_patterns(settings, &layers, named)?;
    refuse_ranks(settings, &layers)?;
    layers.extend(parameters::layers(settings, description)?);
    Ok(layers)
}

/// Layers that the model does not have, and those beside parameters, of which PEFT takes all.
fn refuse_layers(settings: &LoraSettings, description: &Description) -> Result<()> {
    let (numbers, count) = (&settings.layers_to_transform, description.layers.len());
    if let Some(number) = numbers.iter().find(|number| **number >= count) {
        let what = format!("`lora.layers_to_transform` names the layer {number}");
        let last = count.saturating_sub(1);
        return Err(Error::adapter(what).because(format!("the model has the layers 0 to {last}")));
    }
    if !numbers.is_empty() && !settings.target_parameters.is_empty() {
        let what = "`lora.layers_to_transform` cannot be used with `lora.target_parameters`";
        return Err(Error::adapter(what).because("PEFT puts these beside the parameters of all"));
    }
    Ok(())
}

/// PEFT looks for patterns of parameters under names that differ from those of their layers.
fn refuse_patterns(settings: &LoraSettings) -> Result<()> {
    let LoraSettings { rank_pattern, alpha_pattern, target_parameters, .. } = settings;
    let given = match (rank_pattern.is_empty(), alpha_pattern.is_empty()) {
        (false, _) => "lora.rank_pattern",
        (_, false) => "lora.alpha_pattern",
        (true, true) => return Ok(()),
    };
    if target_parameters.is_empty() {
        return Ok(());
    }
    let what = format!("`{given}` cannot be used with `lora.target_parameters`");
    Err(Error::adapter(what).hint("give all parameters of experts one rank and one `lora_alpha`"))
}

/// Patterns that decide for no layer are misspelt, or stand behind another that fits the same.
fn refuse_unused_patterns<'a>(
    settings: &LoraSettings,
    layers: &'a [(String, [usize; 2])],
    tables: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let paths: Vec<&str> = layers.iter().map(|(path, _)| path.as_str()).chain(tables).collect();
    let unused = [
        ("lora.rank_pattern", settings.rank_pattern.unused(&paths)),
        ("lora.alpha_pattern", settings.alpha_pattern.unused(&paths)),
    ];
    let problems = unused.into_iter().filter_map(|(key, unused)| {
        let known: BTreeSet<&str> = paths.iter().map(|path| last_name(path)).collect();
        let pattern = unused?;
        let what = format!("`{pattern}` in `{key}` decides for no layer that has an adapter");
        let hint = format!(
            "the layers are {}, with paths such as `{}`; of several patterns that fit, the first \
             counts",
            join(&known),
            paths.first()?
        );
        Some(Error::adapter(what).hint(hint))
    });
    Error::all(problems.collect()).map_or(Ok(()), Err)
}

/// PEFT takes the names of an MLP's layers for those of experts where the model has some
/// (`_convert_peft_config_moe`), so that it could not load an adapter of both.
fn refuse_beside_experts(layers: &[(String, [usize; 2])], description: &Description) -> Result<()> {
    const MLP: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];
    let taken = layers.iter().find(|(path, _)| MLP.contains(&last_name(path)));
    let takes = description.experts().any(|(_, experts)| experts.takes_mlp_names);
    match taken.filter(|_| takes) {
        None => Ok(()),
        Some((path, _)) => Err(Error::adapter(format!("`{path}` cannot have an adapter"))
            .because("PEFT takes its name for that of experts, which other layers have")
            .hint(
                "name the others: `lora.target_modules = [\"q_proj\", \"k_proj\", \"v_proj\", \
                 \"o_proj\"]`",
            )),
    }
}
