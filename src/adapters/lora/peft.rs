//! PEFT's `LoraConfig`: written and read.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::biases::LoraBias;
use super::patterns::ModulePatterns;
use super::settings::{InitLoraWeights, LoraSettings, TargetModules};
use crate::error::{Error, Result};

/// Limits of an `adapter_config.json`, as those of `[lora]`; its weights must fit them besides.
const RANK_MAX: usize = 65_536;
const ALPHA_MAX: f64 = 1e6;
const MODULES_MAX: usize = 4096;
/// The output head, as its module is called.
const HEAD: &str = "lm_head";
/// The input embedding.
const EMBEDDING: &str = "embed_tokens";

/// What changes the arithmetic of PEFT's LoRA layers, and is not known here.
const UNSUPPORTED: [&str; 10] = [
    "fan_in_fan_out",
    "lora_bias",
    "layers_pattern",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
    "arrow_config",
];

/// PEFT's `trainable_token_indices`: a list for the embedding alone, or one for each of embedding
/// and output head; null where no rows are trained.
pub fn peft_token_indices(settings: &LoraSettings) -> Value {
    match (&*settings.trainable_token_indices, &*settings.head_token_indices) {
        ([], []) => Value::Null,
        (tokens, []) => json!(tokens),
        ([], head) => json!({ HEAD: head }),
        (tokens, head) => json!({ EMBEDDING: tokens, HEAD: head }),
    }
}

/// PEFT's `LoraConfig`, without what every adapter has.
pub fn to_peft(settings: &LoraSettings, modules: &BTreeSet<String>) -> Map<String, Value> {
    let parameters = match &settings.target_parameters {
        names if names.is_empty() => Value::Null,
        names => json!(names),
    };
    let layers = match &settings.layers_to_transform {
        numbers if numbers.is_empty() => Value::Null,
        numbers => json!(numbers),
    };
    let saved = match &settings.modules_to_save {
        names if names.is_empty() => Value::Null,
        names => json!(names),
    };
    let tokens = peft_token_indices(settings);
    let start = match settings.init_lora_weights {
        InitLoraWeights::Default => json!(true),
        other => json!(other.name()),
    };
    let value = json!({
        "peft_type": "LORA",
        "r": settings.r,
        "lora_alpha": number(settings.lora_alpha),
        "lora_dropout": settings.lora_dropout,
        "target_modules": modules,
        "use_rslora": settings.use_rslora,
        "exclude_modules": null,
        "bias": settings.bias.name(),
        "fan_in_fan_out": false,
        "use_dora": false,
        "lora_bias": false,
        "init_lora_weights": start,
        "modules_to_save": saved,
        "layers_to_transform": layers,
        "layers_pattern": null,
        "rank_pattern": pattern(&settings.rank_pattern, |rank| json!(rank)),
        "alpha_pattern": pattern(&settings.alpha_pattern, |alpha| number(*alpha)),
        "layer_replication": null,
        "trainable_token_indices": tokens,
        "target_parameters": parameters,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "loftq_config": {},
        "eva_config": null,
        "corda_config": null,
    });
    let Value::Object(map) = value else { unreachable!("it is written as an object") };
    map
}

fn pattern<T>(patterns: &ModulePatterns<T>, value: impl Fn(&T) -> Value) -> Value {
    patterns.iter().map(|(text, of)| (text.to_owned(), value(of))).collect()
}

/// The patterns of a key, in the order of the file, of which each value must be one of `read`.
fn read_pattern<T>(
    key: &str,
    value: &Value,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<ModulePatterns<T>> {
    let map = match value {
        Value::Null => return Ok(ModulePatterns::default()),
        Value::Object(map) if map.len() <= MODULES_MAX => map,
        _ => return Err(Error::adapter(format!("`{key}` is not an object of patterns"))),
    };
    let patterns = map.iter().map(|(text, value)| match read(value) {
        Some(value) => Ok((text.clone(), value)),
        None => Err(Error::adapter(format!(
            "`{key}` has no value that is allowed for `{}`",
            text.escape_debug()
        ))),
    });
    ModulePatterns::new(patterns.collect::<Result<Vec<_>>>()?).map_err(|(text, why)| {
        let text = text.escape_debug();
        Error::adapter(format!("the pattern `{text}` in `{key}` is not supported")).because(why)
    })
}

/// PEFT declares `lora_alpha` as an integer; other readers insist on it where it is one.
fn number(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation)] // below 2^53 a whole number converts exactly
    if value.fract() == 0.0 && value.abs() < 9.0e15 { json!(value as i64) } else { json!(value) }
}

/// The settings in PEFT's `LoraConfig`; none if it is one of another type.
pub fn read_peft(json: &Map<String, Value>) -> Result<Option<LoraSettings>> {
    let of = |key: &str| json.get(key).unwrap_or(&Value::Null);
    if of("peft_type") != "LORA" {
        return Ok(None);
    }
    let wrong = |what: &str| Err(Error::adapter(what));
    if let Some(key) = UNSUPPORTED.into_iter().find(|key| !is_off(of(key))) {
        return wrong(&format!("adapters with `{key}` are not supported"));
    }
    refuse_start(of("init_lora_weights"))?;
    if !(of("use_rslora").is_boolean() || of("use_rslora").is_null()) {
        return wrong("`use_rslora` must be true or false");
    }
    let rank = |value: &Value| {
        let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok());
        rank.filter(|rank| (1..=RANK_MAX).contains(rank))
    };
    let Some(r) = rank(of("r")) else {
        let found = shown(of("r"));
        return wrong(&format!("`r` must be between 1 and {RANK_MAX}, and it {found}"));
    };
    let alpha = |value: &Value| value.as_f64().filter(|alpha| alpha.abs() <= ALPHA_MAX);
    let Some(lora_alpha) = alpha(of("lora_alpha")) else {
        let found = shown(of("lora_alpha"));
        return wrong(&format!("`lora_alpha` must be a number up to {ALPHA_MAX}, and it {found}"));
    };
    let Some(target_modules) = target_modules(of("target_modules")) else {
        return wrong("`target_modules` is neither a list of names nor `all-linear`");
    };
    let Some(target_parameters) = names_in(of("target_parameters")) else {
        return wrong("`target_parameters` is not a list of names");
    };
    let Some(modules_to_save) = names_in(of("modules_to_save")) else {
        return wrong("`modules_to_save` is not a list of names");
    };
    let [trainable_token_indices, head_token_indices] =
        token_indices(of("trainable_token_indices"))?;
    let rows = trainable_token_indices.iter().chain(&head_token_indices).max();
    let vocabulary = rows.map(|token| token.saturating_add(1));
    let Some(bias) = bias(of("bias")) else {
        let names = LoraBias::NAMES.join("`, `");
        return wrong(&format!("`bias` must be one of `{names}`"));
    };
    let Some(layers_to_transform) = layers_to_transform(of("layers_to_transform")) else {
        return wrong("`layers_to_transform` is neither a number nor a list of numbers");
    };
    let use_rslora = *of("use_rslora") == true;
    // Dropout and rates are of training alone.
    Ok(Some(LoraSettings {
        r,
        lora_alpha,
        lora_dropout: 0.0,
        target_modules,
        target_parameters,
        layers_to_transform,
        use_rslora,
        rank_pattern: read_pattern("rank_pattern", of("rank_pattern"), rank)?,
        alpha_pattern: read_pattern("alpha_pattern", of("alpha_pattern"), alpha)?,
        loraplus_lr_ratio: 1.0,
        modules_to_save,
        trainable_token_indices,
        trainable_tokens: Vec::new(),
        head_token_indices,
        vocabulary,
        bias,
        init_lora_weights: match of("init_lora_weights").as_str() {
            Some("gaussian") => InitLoraWeights::Gaussian,
            _ => InitLoraWeights::Default,
        },
    }))
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Starts of PEFT after which factors go onto a base that was changed along with them.
fn refuse_start(value: &Value) -> Result<()> {
    const CHANGE_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];
    let name = value.as_str().unwrap_or_default().to_lowercase();
    if !CHANGE_BASE.iter().any(|start| name.starts_with(start)) {
        return Ok(());
    }
    let what = format!("adapters with `init_lora_weights` = `{name}` are not supported");
    Err(Error::adapter(what.escape_debug().to_string())
        .because("it changes the base when it is loaded, by numbers that are not in the adapter")
        .hint(
            "PEFT makes a LoRA of it: `save_pretrained` with \
             `path_initial_model_for_weight_conversion`",
        ))
}

/// What stands in place of what is wanted.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "is missing".to_owned(),
        Value::Number(number) => format!("is {number}"),
        _ => "is not a number".to_owned(),
    }
}

fn names_in(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(names) if names.len() <= MODULES_MAX => {
            names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    }
}

fn layers_to_transform(value: &Value) -> Option<Vec<usize>> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(numbers) if numbers.len() <= MODULES_MAX => {
            numbers.iter().map(number).collect()
        }
        other => number(other).map(|number| vec![number]),
    }
}

fn bias(value: &Value) -> Option<LoraBias> {
    match value {
        Value::Null => Some(LoraBias::None),
        other => other.as_str().and_then(LoraBias::from_name),
    }
}

/// Tokens of the input embedding and of the output head: a list, which is the embedding's, or one
/// under the name of each module.
fn token_indices(value: &Value) -> Result<[Vec<usize>; 2]> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    let list = |value: &Value| match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(tokens) => tokens.iter().map(number).collect::<Option<_>>().ok_or(()),
        _ => Err(()),
    };
    let wrong = |()| Error::adapter("`trainable_token_indices` is not a list of tokens");
    let Value::Object(modules) = value else {
        return Ok([list(value).map_err(wrong)?, Vec::new()]);
    };
    let mut found = [None, None];
    for (name, tokens) in modules {
        let place = &mut found[usize::from(name.ends_with(HEAD))];
        if place.replace(list(tokens).map_err(wrong)?).is_some() {
            let what = "`trainable_token_indices` names other modules than the input embedding \
                        and the output head";
            return Err(Error::adapter(what));
        }
    }
    Ok(found.map(Option::unwrap_or_default))
}

fn target_modules(value: &Value) -> Option<TargetModules> {
    match value {
        Value::String(name) if name == "all-linear" => Some(TargetModules::AllLinear),
        Value::Array(names) if names.len() <= MODULES_MAX => {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
            names.collect::<Option<_>>().map(TargetModules::Names)
        }
        _ => None,
    }
}
