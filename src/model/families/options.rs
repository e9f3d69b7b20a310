//! Options of `config.json` that several families read.

use crate::error::Result;
use crate::model::ModelJson;
use crate::ops::Activation;

/// The token that fills up rows elsewhere.
const PADDING: &str = "pad_token_id";

/// The token whose row of an embedding lookups do not train, if there is one: transformers gives it
/// to PyTorch as `padding_idx`, which counts from the end of the vocabulary below zero. The default
/// where `config.json` does not say it, none where it is null.
///
/// # Errors
/// When it is not a whole number.
pub(super) fn padding(
    config: &ModelJson,
    default: Option<u32>,
    vocabulary: usize,
) -> Result<Option<u32>> {
    let Some(value) = config.get(PADDING) else {
        return Ok(default.filter(|_| !config.json.contains_key(PADDING)));
    };
    let number = value.as_i64().ok_or_else(|| config.wrong(PADDING, "must be a whole number"))?;
    let rows = i64::try_from(vocabulary).unwrap_or(i64::MAX);
    let token = if number < 0 { number + rows } else { number };
    Ok(u32::try_from(token).ok())
}

/// How wide windows are; the default where `config.json` does not say it, none where it is null.
pub(super) fn window(config: &ModelJson, default: usize) -> Result<Option<usize>> {
    let silent = !config.json.contains_key("sliding_window");
    let size = config.optional_size("sliding_window", 1 << 30)?;
    Ok(size.or(silent.then_some(default)))
}

/// What is done to the gate of the MLP, under a key of `config.json` and by transformers' names.
///
/// # Errors
/// When it is none of those that there are.
pub(super) fn activation(config: &ModelJson, key: &str) -> Result<Option<Activation>> {
    match config.get(key).map(|value| value.as_str()) {
        None => Ok(None),
        Some(Some("silu" | "swish")) => Ok(Some(Activation::Silu)),
        Some(Some("gelu_pytorch_tanh")) => Ok(Some(Activation::GeluTanh)),
        Some(other) => {
            let other = other.unwrap_or("no text");
            let error = config.wrong(key, &format!("is `{other}`, which is not supported"));
            Err(error.hint("supported: `silu`, `gelu_pytorch_tanh`"))
        }
    }
}
