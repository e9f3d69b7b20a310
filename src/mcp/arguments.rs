//! What a client passes to a tool.

use serde_json::{Map, Value};

use crate::error::{Context, Error, Result, printable};

/// So many problems are told at once.
const PROBLEMS_MAX: usize = 5;

/// Arguments that fit the schema of their tool.
#[derive(Debug)]
pub(super) struct Arguments(Map<String, Value>);

impl Arguments {
    /// Checks what a client has passed.
    pub fn check(given: Map<String, Value>, schema: &Value) -> Result<Self> {
        let validator = jsonschema::validator_for(schema).context("cannot read the schema")?;
        let given = Value::Object(given);
        let problem = |error: jsonschema::ValidationError| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            let text: String = format!("{place}{error}").chars().take(300).collect();
            printable(&text)
        };
        let problems: Vec<String> =
            validator.iter_errors(&given).take(PROBLEMS_MAX).map(problem).collect();
        match given {
            Value::Object(map) if problems.is_empty() => Ok(Self(map)),
            _ => Err(problems
                .into_iter()
                .fold(Error::usage("the arguments do not fit the tool"), Error::because)
                .hint("its input schema says what it takes")),
        }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// One that the schema requires.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| Error::usage(format!("`{name}` is missing")))
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let values = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }
}
