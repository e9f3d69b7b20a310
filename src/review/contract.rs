//! Is every answer that the evaluation admits one that the code expects?

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use super::subschema::fits;
use super::witness::witness;
use crate::error::Result;
use crate::files::read_json_schema;

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
    let [inner, outer] = [evaluated, expected].map(read_json_schema);
    let (inner, outer) = (inner?, outer?);
    Ok(between((&inner.value, &inner.validator), (&outer.value, &outer.validator)))
}

fn between(inner: (&Value, &Validator), outer: (&Value, &Validator)) -> Contract {
    match fits(inner.0, outer.0) {
        Ok(()) => Contract::Holds,
        Err(why) => witness(inner, outer).map_or(Contract::Unknown(why), Contract::Broken),
    }
}
