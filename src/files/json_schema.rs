//! JSON Schemas of files. A schema never fetches another: what it refers to must be inside it.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use super::{Digest, parse_json, read_bytes};
use crate::error::{Context, Error, Result};

/// A schema has some hundreds of lines; a larger file is something else.
const BYTES_MAX: u64 = 1 << 20;

/// A schema, and what judges by it.
pub struct JsonSchema {
    /// As it stands in the file.
    pub value: Value,
    /// The judge.
    pub validator: Validator,
    /// Of the file's bytes.
    pub sha256: Digest,
}

/// Reads one.
///
/// # Errors
/// When the file cannot be read or is no JSON Schema.
pub fn read_json_schema(path: &Path) -> Result<JsonSchema> {
    std::fs::metadata(path).context_at("cannot read the schema", path)?;
    let bytes = read_bytes(path, BYTES_MAX)?;
    let value = parse_json(&bytes).map_err(|error| {
        Error::config("the schema is no JSON").at(path).because(error.into_what())
    })?;
    let validator = jsonschema::validator_for(&value).map_err(|error| {
        Error::config("this is no JSON Schema").at(path).because(error.to_string())
    })?;
    Ok(JsonSchema { value, validator, sha256: Digest::of(&bytes) })
}
