//! Settings in a few words, for people.

use super::biases::LoraBias;
use super::settings::{InitLoraWeights, LoraSettings, TargetModules};

/// The settings of the method `title`.
pub fn describe(title: &str, settings: &LoraSettings) -> String {
    let layers = match &settings.target_modules {
        TargetModules::AllLinear => "all linear layers".to_owned(),
        TargetModules::Names(names) => names.join(", "),
    };
    let parameters = settings.target_parameters.iter().map(|name| format!(", {name}"));
    let numbers: Vec<String> = settings.layers_to_transform.iter().map(usize::to_string).collect();
    let of_layers = match numbers.is_empty() {
        true => String::new(),
        false => format!(" of the decoder layers {}", numbers.join(", ")),
    };
    let parameters = parameters.collect::<String>();
    let others: Vec<String> =
        settings.rank_pattern.iter().map(|(name, rank)| format!("{rank} on {name}")).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(" (r {})", others.join(", ")),
    };
    let start = match settings.init_lora_weights {
        InitLoraWeights::Default => String::new(),
        other => format!(" ({other})"),
    };
    let tokens = match settings.trainable_token_indices.len() {
        0 => String::new(),
        1 => ", and a token".to_owned(),
        count => format!(", and {count} tokens"),
    };
    let biases = match settings.bias {
        LoraBias::None => "",
        LoraBias::All => ", and all biases",
        LoraBias::LoraOnly => ", and their biases",
    };
    let layers = format!("{layers}{of_layers}{parameters}{biases}{tokens}");
    format!("{title}{start} r {}{others} on {layers}", settings.r)
}
