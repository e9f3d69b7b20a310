//! LoRA beside parameters that are no linear layers to PEFT (`target_parameters`): routers, and the
//! matrices of experts, each of which has factors of its own.

use super::settings::{LoraSettings, fits, join};
use super::{A, B};
use crate::adapters::file_name;
use crate::error::{Error, Result, nearest};
use crate::model::Description;
use crate::model::description::{Arrangement, StackedTensor, TargetParameter};

/// The parameters that `target_parameters` means.
fn wanted<'a>(
    settings: &'a LoraSettings,
    description: &'a Description,
) -> impl Iterator<Item = &'a TargetParameter> {
    description
        .target_parameters
        .iter()
        .filter(|target| settings.target_parameters.iter().any(|name| fits(&target.path, name)))
}

/// What stands in a layer, without the layer's own path, which ends with a number.
fn short(path: &str) -> &str {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mut rest = path;
    while let Some((part, after)) = rest.split_once('.') {
        if is_number(part) {
            return after;
        }
        rest = after;
    }
    path
}

/// The layers that `target_parameters` means.
///
/// # Errors
/// When a name fits nothing, or inputs are to be dropped, which PEFT refuses there, too.
pub fn layers(
    settings: &LoraSettings,
    description: &Description,
) -> Result<Vec<(String, [usize; 2])>> {
    let names = &settings.target_parameters;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let all = &description.target_parameters;
    let unused = |name: &&String| !all.iter().any(|target| fits(&target.path, name));
    let known = all.iter().map(|target| short(&target.path)).collect();
    let problems = names.iter().filter(unused).map(|name| {
        let what = format!("`{name}` in `lora.target_parameters` fits no parameter");
        let error = Error::adapter(what);
        match nearest(name, all.iter().map(|target| short(&target.path))) {
            _ if all.is_empty() => error.because("the model has no experts"),
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("the model has: {}", join(&known))),
        }
    });
    if let Some(error) = Error::all(problems.collect()) {
        return Err(error);
    }
    if settings.lora_dropout > 0.0 {
        let what = "`lora.target_parameters` requires `lora.lora_dropout = 0`";
        return Err(Error::adapter(what).because("PEFT cannot drop inputs of parameters"));
    }
    Ok(wanted(settings, description).flat_map(|target| target.linears.clone()).collect())
}

/// The tensors that PEFT has of all experts at once. Beside two parameters of a module, the first
/// one's stand further inside.
pub fn stacked(settings: &LoraSettings, description: &Description) -> Vec<StackedTensor> {
    let targets: Vec<_> = wanted(settings, description).filter(|target| target.stacked).collect();
    let module = |target: &TargetParameter| -> String {
        target.path.rsplit_once('.').map_or("", |(module, _)| module).to_owned()
    };
    let mut tensors = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let outside = targets[number + 1..].iter().any(|other| module(other) == module(target));
        let place = module(target) + if outside { ".base_layer" } else { "" };
        let Some((_, [outputs, inputs])) = target.linears.first() else { continue };
        let columns = Arrangement::Columns { alternating: target.alternating };
        let rank = settings.r;
        for (parameter, part, arrangement) in
            [(A, [rank, *inputs], Arrangement::Rows), (B, [*outputs, rank], columns)]
        {
            let parts = target.linears.iter().map(|(layer, _)| file_name(layer, parameter));
            tensors.push(StackedTensor {
                name: file_name(&place, parameter),
                parts: parts.collect(),
                part,
                arrangement,
            });
        }
    }
    tensors
}
