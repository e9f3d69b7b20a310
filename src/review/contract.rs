//! Is every answer that the evaluation admits one that the code expects?

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use super::subschema::fits;
use super::witness::witness;
use crate::error::{Context, Error, Result};
use crate::files::{parse_json, read_bytes};

/// A schema has some hundreds of lines; a larger file is something else.
const BYTES_MAX: u64 = 1 << 20;

/// How two schemas go together.
#[derive(Debug, Clone, PartialEq)]
pub enum Contract {
    /// Every document of the first is one of the second.
    Holds,
    /// This one is not.
    Broken(Value),
    /// Neither was shown, for this reason.
    Unknown(String),
}

/// Compares what an evaluation admits with what the code expects.
///
/// # Errors
/// When one of the files is no JSON Schema.
pub fn compare(evaluated: &Path, expected: &Path) -> Result<Contract> {
    let [inner, outer] = [evaluated, expected].map(read);
    let ((inner, admits), (outer, expects)) = (inner?, outer?);
    Ok(between((&inner, &admits), (&outer, &expects)))
}

fn between(inner: (&Value, &Validator), outer: (&Value, &Validator)) -> Contract {
    match fits(inner.0, outer.0) {
        Ok(()) => Contract::Holds,
        Err(why) => witness(inner, outer).map_or(Contract::Unknown(why), Contract::Broken),
    }
}

fn read(path: &Path) -> Result<(Value, Validator)> {
    std::fs::metadata(path).context_at("cannot read the schema", path)?;
    let bytes = read_bytes(path, BYTES_MAX)?;
    let json = parse_json(&bytes).map_err(|error| {
        Error::config("the schema is no JSON").at(path).because(error.into_what())
    })?;
    let validator = jsonschema::validator_for(&json).map_err(|error| {
        Error::config("this is no JSON Schema").at(path).because(error.to_string())
    })?;
    Ok((json, validator))
}
