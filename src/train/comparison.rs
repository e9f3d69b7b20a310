//! Two runs beside each other: the settings that differ, and their curves at common steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::runs::{Summary, details};
use crate::error::{Context, Error, Result};

/// How many steps of the curves are shown at most.
const STEPS_MAX: usize = 12;

/// What two runs have, in their order.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Name, state and size of each.
    pub runs: [Summary; 2],
    /// Key and values; none where a run does not have the key.
    pub settings: BTreeMap<String, [Option<String>; 2]>,
    /// Steps that both have, evenly spread, the last one among them.
    pub training: Vec<Compared>,
    /// The same of validations.
    pub validation: Vec<Compared>,
    /// All losses of each.
    #[serde(skip)]
    pub curves: [LossCurves; 2],
}

/// What both have at a step.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// After how many steps.
    pub step: u64,
    /// Losses, in nats.
    pub loss: [f64; 2],
}

impl Comparison {
    /// Looks at two run directories, of which `details` refuses what is no file of a run.
    ///
    /// # Errors
    /// When one is none, or cannot be read.
    pub fn of(one: &Path, other: &Path) -> Result<Self> {
        let runs = [details(one)?.summary, details(other)?.summary];
        let [of_one, of_other] = [settings(one)?, settings(other)?];
        let keys: BTreeSet<&String> = of_one.keys().chain(of_other.keys()).collect();
        let differ = keys.into_iter().filter_map(|key| {
            let values = [of_one.get(key), of_other.get(key)];
            (values[0] != values[1]).then(|| (key.clone(), values.map(Option::<&String>::cloned)))
        });
        let settings = differ.collect();
        let [one, other] = [LossCurves::read(one)?, LossCurves::read(other)?];
        Ok(Self {
            runs,
            settings,
            training: beside(&one.training, &other.training),
            validation: beside(&one.validation, &other.validation),
            curves: [one, other],
        })
    }
}

/// Losses by step.
#[derive(Debug, Default)]
pub struct LossCurves {
    /// Of training.
    pub training: BTreeMap<u64, f64>,
    /// Of validations.
    pub validation: BTreeMap<u64, f64>,
}

impl LossCurves {
    fn read(run: &Path) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        let mut curves = Self::default();
        if !path.exists() {
            return Ok(curves);
        }
        let text = std::fs::read_to_string(&path).context_at("cannot read the metrics", &path)?;
        // The last line of a run that is at work may be half written.
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let Some(step) = line["step"].as_u64() else { continue };
            let kinds = [("loss", &mut curves.training), ("eval_loss", &mut curves.validation)];
            for (name, curve) in kinds {
                if let Some(loss) = line[name].as_f64() {
                    curve.insert(step, loss);
                }
            }
        }
        Ok(curves)
    }
}

/// Some of the steps that both curves have.
fn beside(one: &BTreeMap<u64, f64>, other: &BTreeMap<u64, f64>) -> Vec<Compared> {
    let both = |(step, loss): (&u64, &f64)| {
        other.get(step).map(|theirs| Compared { step: *step, loss: [*loss, *theirs] })
    };
    let all: Vec<Compared> = one.iter().filter_map(both).collect();
    let (count, shown) = (all.len(), all.len().min(STEPS_MAX));
    let chosen: BTreeSet<usize> =
        (1..=shown).map(|part| (count * part).div_ceil(shown.max(1)) - 1).collect();
    let numbered = all.into_iter().enumerate();
    numbered.filter(|(number, _)| chosen.contains(number)).map(|(_, point)| point).collect()
}

/// The settings of a run, all that hold, by path.
fn settings(run: &Path) -> Result<BTreeMap<String, String>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_both_are_spread_and_the_last_is_there() {
        let curve = |steps: u64| -> BTreeMap<u64, f64> {
            (1..=steps).map(|step| (step, f64::from(u32::try_from(step).unwrap()))).collect()
        };
        let steps = |one, other| -> Vec<u64> {
            beside(&curve(one), &curve(other)).iter().map(|point| point.step).collect()
        };
        assert_eq!(steps(3, 2), [1, 2]);
        assert_eq!(steps(0, 2), [0; 0]);
        assert_eq!(steps(100, 120), [9, 17, 25, 34, 42, 50, 59, 67, 75, 84, 92, 100]);
    }
}
