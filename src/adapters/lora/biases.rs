//! Biases of linear layers that are trained beside an adapter and saved with it: PEFT's `bias`.

use std::collections::BTreeSet;

use crate::adapters::{Adapter, adapter_file_name, last_name};
use crate::document::choices;
use crate::error::{Error, Result};
use crate::model::description::StoredTensors;
use crate::model::{Description, Model, Parameter, Visitor};

/// What comes after the path of a layer in that of its bias.
const BIAS: &str = ".bias";

choices! {
    /// Which biases are trained.
    LoraBias {
        /// None of them.
        None = "none",
        /// Those of all linear layers.
        All = "all",
        /// Those of layers with an adapter.
        LoraOnly = "lora_only",
    }
}

/// Paths and dimensions of the biases that are trained with an adapter.
///
/// # Errors
/// When there are none, or one of another kind.
pub fn trained_biases(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<Vec<(String, Vec<usize>)>> {
    let choice = adapter.bias();
    if choice == LoraBias::None {
        return Ok(Vec::new());
    }
    let layers: BTreeSet<String> = match choice {
        LoraBias::LoraOnly => adapter.layers(description)?.into_iter().map(|it| it.0).collect(),
        _ => description.linears.iter().map(|(path, _)| path.clone()).collect(),
    };
    let stored = StoredTensors::of(description);
    let in_stacks = stored.parameters(); // PEFT takes no bias of stacked experts for one
    let biases = description.weights().into_iter().filter_map(|(path, dims)| {
        let layer = path.strip_suffix(BIAS)?.to_owned();
        (!in_stacks.contains(path.as_str())).then_some((layer, path, dims))
    });
    let mut trained = Vec::new();
    for (layer, path, dims) in biases {
        if layers.contains(&layer) {
            trained.push((path, dims));
        } else if choice == LoraBias::All {
            let what = format!("the bias `{path}` cannot be trained beside an adapter");
            return Err(Error::adapter(what)
                .because(format!("`{}` is not a linear layer", last_name(&layer)))
                .hint("`lora.bias = \"lora_only\"` trains those of layers with an adapter"));
        }
    }
    if trained.is_empty() {
        let what = format!("`lora.bias = \"{choice}\"` has nothing to train");
        let of = if choice == LoraBias::All { "linear layers" } else { "layers with an adapter" };
        return Err(Error::adapter(what)
            .because(format!("the {of} of this model have no biases"))
            .hint("leave it out"));
    }
    Ok(trained)
}

/// Makes them trainable.
pub fn unfreeze_biases(model: &mut Model, biases: &[(String, Vec<usize>)]) {
    struct Unfreeze<'a>(BTreeSet<&'a str>);
    impl Visitor for Unfreeze<'_> {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            parameter.trainable |= self.0.contains(path);
        }
        fn matrix(&mut self, _: &str, _: &mut Parameter<2>) {}
    }
    if !biases.is_empty() {
        model.visit(&mut Unfreeze(biases.iter().map(|(path, _)| path.as_str()).collect()));
    }
}

/// The names in the files of an adapter of whatever is trained with it. To PEFT, a layer with an
/// adapter is a layer around it, and its bias that of the one within.
///
/// # Errors
/// Those of [`Adapter::layers`].
pub fn names_in_files(
    adapter: &dyn Adapter,
    description: &Description,
) -> Result<impl Fn(&str) -> String + use<>> {
    let layers = adapter.layers(description)?.into_iter();
    let layers: BTreeSet<String> = layers.map(|(path, _)| path).collect();
    Ok(move |path: &str| match path.strip_suffix(BIAS) {
        Some(layer) if layers.contains(layer) => bias_within(layer),
        _ => adapter_file_name(path),
    })
}

/// What [`names_in_files`] may make of a path.
pub fn saved_names(path: &str) -> impl Iterator<Item = String> {
    let within = path.strip_suffix(BIAS).map(bias_within);
    std::iter::once(adapter_file_name(path)).chain(within)
}

fn bias_within(layer: &str) -> String {
    adapter_file_name(&format!("{layer}.base_layer{BIAS}"))
}
