//! The settings in the directory of a run, as text by key.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// The settings of a run, all that hold, by path.
///
/// # Errors
/// When they cannot be read.
pub fn settings_of_run(run: &Path) -> Result<BTreeMap<String, String>> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).context_at("cannot read the settings", &path)?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| Error::run("the run's settings are damaged").because(error).at(&path))?;
    let mut flat = BTreeMap::new();
    flatten("", &toml::Value::Table(table), &mut flat);
    Ok(flat)
}

fn flatten(path: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| flatten(&below(name), value, into));
        }
        toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
            let numbered = values.iter().enumerate();
            numbered.for_each(|(at, value)| flatten(&below(&at.to_string()), value, into));
        }
        value => {
            into.insert(path.to_owned(), value.to_string());
        }
    }
}
