//! Every point as a checked configuration of its own.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value as Json};

use super::setting::{Dataset, Setting};
use super::space::{Assignment, assignments};
use super::spec::Sweep;
use crate::config::{Length, Loaded, Reuse, TrainConfig};
use crate::document::{Override, quoted};
use crate::engine::Schedule;
use crate::error::{Error, Place, Result};
use crate::files::{Digest, read_bytes};
use crate::settings;
use crate::train::{beside_rates, schedule_of};

/// So many problems are told; a sweep that has one often has it in many points.
const PROBLEMS_MAX: usize = 50;
/// Longer configurations are none.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// What stands for the name and the folder of a run until they are known.
const UNNAMED: &str = "a-point-of-a-sweep-without-a-name";
/// Letters of a digest in an id: 64 bits.
const ID_LETTERS: usize = 16;

/// A run of a sweep.
#[derive(Debug, Clone)]
pub struct Point {
    /// Its name: that of its data set, and digits of the digest of all its settings.
    pub id: String,
    /// The configuration, complete.
    pub config: String,
    /// Digest of the settings that decide numbers.
    pub digest: Digest,
    /// The configuration that it began with.
    pub from: String,
    /// The data set.
    pub dataset: Option<String>,
    /// The values of the parameters.
    pub settings: Map<String, Json>,
    /// Its steps, where its settings alone decide them.
    pub steps: Option<u64>,
    /// How it trains.
    pub train: TrainConfig,
    /// Whether it takes steps from others.
    pub reuses: bool,
    /// The memory that it is going to take, if that was looked at.
    pub memory_bytes: Option<u64>,
    /// About how many seconds it is going to take, if that was looked at and is known.
    pub seconds: Option<f64>,
    /// Digest of everything but the learning rates on which its numbers depend.
    pub beside_rates: Digest,
    /// Digest of what decides how much memory it takes.
    pub shape: Digest,
}

impl Point {
    /// Its learning rates, if it may share steps with others.
    pub fn schedule(&self) -> Option<Schedule> {
        let steps = self.steps.filter(|_| self.reuses)?;
        Some(schedule_of(&self.train, steps))
    }
}

/// The points of a sweep, each once, and how many were the same as an earlier one; `folder` is
/// where runs go.
///
/// # Errors
/// All problems of all points at once, where they were written.
pub fn points(sweep: &Sweep, folder: &Path) -> Result<(Vec<Point>, usize)> {
    let configs: Vec<(&String, Vec<u8>)> = sweep
        .configs
        .iter()
        .map(|path| Ok((path, read_bytes(Path::new(path), CONFIG_BYTES_MAX)?)))
        .collect::<Result<_>>()?;
    let assignments = assignments(sweep)?;
    let datasets: Vec<Option<&Dataset>> = match sweep.datasets.is_empty() {
        true => vec![None],
        false => sweep.datasets.iter().map(Some).collect(),
    };
    let mut drafts = Vec::new();
    for (config, bytes) in &configs {
        for dataset in &datasets {
            let draft = |assignment| Draft { sweep, config, bytes, dataset: *dataset, assignment };
            drafts.extend(assignments.iter().map(draft));
        }
    }
    let made: Vec<Result<Point>> = drafts.par_iter().map(|draft| draft.point(folder)).collect();
    let (mut points, mut problems) = (Vec::with_capacity(made.len()), Problems::default());
    for (point, draft) in made.into_iter().zip(&drafts) {
        match point {
            Ok(point) => points.push(point),
            Err(error) => problems.add(error, draft),
        }
    }
    problems.finish()?;
    let all = points.len();
    let mut seen = std::collections::BTreeSet::new();
    points.retain(|point| seen.insert(point.id.clone()));
    let same = all - points.len();
    Ok((points, same))
}

/// A point that was not checked yet.
struct Draft<'a> {
    sweep: &'a Sweep,
    config: &'a str,
    bytes: &'a [u8],
    dataset: Option<&'a Dataset>,
    assignment: &'a Assignment,
}

impl Draft<'_> {
    fn point(&self, folder: &Path) -> Result<Point> {
        let loaded = settings::put_over(Path::new(self.config), self.bytes, self.overrides())?;
        self.has_one_data_set(&loaded)?;
        self.is_measured_before_it_is_stopped(&loaded)?;
        let all = Digest::of(loaded.canonical.as_bytes()).to_string();
        let dataset = self.dataset.map(|dataset| dataset.name.clone());
        let id = match &dataset {
            Some(name) => format!("{name}-{}", &all[..ID_LETTERS]),
            None => all[..ID_LETTERS].to_owned(),
        };
        let place = folder.join(&id).display().to_string();
        let config = loaded
            .canonical
            .replacen(&format!("name = {}", quoted(UNNAMED)), &format!("name = {}", quoted(&id)), 1)
            .replacen(
                &format!("dir = {}", quoted(UNNAMED)),
                &format!("dir = {}", quoted(&place)),
                1,
            );
        let steps = match loaded.config.train.length {
            Length::Steps(steps) => Some(steps),
            Length::Epochs(_) => None,
        };
        let train = loaded.config.train.clone();
        let value = |setting: &Setting| {
            let json = crate::document::literal(&setting.toml).unwrap_or(Json::Null);
            (setting.key.clone(), json)
        };
        let mut beside = beside_rates(&loaded);
        let beside_rates = digest(&beside);
        beside.remove("seed");
        beside.retain(|key, _| !is_rate_or_decay(key));
        beside.insert("train length".to_owned(), format!("{:?}", train.length));
        Ok(Point {
            id,
            config,
            digest: loaded.digest,
            from: self.config.to_owned(),
            dataset,
            settings: self.assignment.iter().map(value).collect(),
            steps,
            memory_bytes: None,
            seconds: None,
            reuses: loaded.config.checkpoint.reuse == Reuse::Auto,
            beside_rates,
            shape: digest(&beside),
            train,
        })
    }

    /// What is put over the configuration, the strongest last.
    fn overrides(&self) -> Vec<Override> {
        let name = self.dataset.map(|dataset| dataset.name.as_str());
        let common = self.sweep.set.iter().map(|setting| setting.of_dataset(name));
        let path = |setting: &Setting, key: &str| {
            let key = format!("data.{key}.0.path");
            Setting { key, ..setting.clone() }
        };
        let mut all: Vec<Setting> = common.collect();
        if let Some(dataset) = self.dataset {
            all.extend(dataset.train.iter().map(|it| path(it, "train")));
            all.extend(dataset.validation.iter().map(|it| path(it, "validation")));
            all.extend(dataset.set.iter().map(|setting| setting.of_dataset(name)));
        }
        all.extend(self.assignment.iter().cloned());
        let placed = |Setting { key, toml, written }| Override {
            key,
            value: Some(toml),
            written: Some(written),
        };
        let own = ["name", "output.dir"].map(|key| Override {
            key: key.to_owned(),
            value: Some(UNNAMED.to_owned()),
            written: Some(Place { file: self.sweep.path.clone(), position: None }),
        });
        all.into_iter().map(placed).chain(own).collect()
    }

    /// A data set takes the place of the only one, or it is not clear of which.
    fn has_one_data_set(&self, loaded: &Loaded) -> Result<()> {
        let Some(dataset) = self.dataset else { return Ok(()) };
        let data = &loaded.config.data;
        for (given, sets, key) in [
            (&dataset.train, &data.train, "train"),
            (&dataset.validation, &data.validation, "validation"),
        ] {
            if let (Some(Setting { written, .. }), true) = (given, sets.len() > 1) {
                let count = sets.len();
                let what = format!("`{}` has {count} tables `[[data.{key}]]`", self.config);
                let mut error = Error::config(what)
                    .because(format!("`{key}` takes the place of the only one"))
                    .hint(format!("use `set = {{ \"data.{key}\" = [{{ path = \"…\" }}] }}`"));
                error.place = Some(written.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Where points are compared, they were validated.
    fn is_measured_before_it_is_stopped(&self, loaded: &Loaded) -> Result<()> {
        let Some(stopping) = &self.sweep.stopping else { return Ok(()) };
        let first = stopping.steps.first().copied().unwrap_or(0);
        let every = loaded.config.eval.every_steps;
        if self.sweep.metric == "loss" || (1..=first).contains(&every) {
            return Ok(());
        }
        let what =
            format!("`{}` is not measured by step {first} of `[stopping]`", self.sweep.metric);
        Err(Error::config(what)
            .at(&self.sweep.path)
            .because(format!("`eval.every_steps` is {every} in {}", self.config))
            .hint(format!("set = {{ \"eval.every_steps\" = {first} }}")))
    }

    /// The point in words.
    fn words(&self) -> String {
        let mut words: Vec<String> =
            self.assignment.iter().map(|it| format!("{} = {}", it.key, it.toml)).collect();
        words.extend(self.dataset.map(|dataset| format!("the data set {}", dataset.name)));
        words.join(", ")
    }
}

/// Whether a setting that is beside the chain of rates only says how parameters are changed.
fn is_rate_or_decay(key: &str) -> bool {
    let of_group = key.starts_with("train.param_groups.") && !key.ends_with(".modules");
    of_group || key == "train.learning_rate"
}

fn digest(facts: &BTreeMap<String, String>) -> Digest {
    let text: String = facts.iter().flat_map(|(key, value)| [key, "=", value, "\n"]).collect();
    Digest::of(text.as_bytes())
}

/// What is wrong with points: each problem once.
#[derive(Default)]
struct Problems {
    found: Vec<Error>,
    seen: std::collections::BTreeSet<String>,
    left_out: usize,
}

impl Problems {
    fn add(&mut self, mut error: Error, draft: &Draft) {
        let others = std::mem::take(&mut error.others);
        for error in std::iter::once(error).chain(others) {
            if !self.seen.insert(error.to_string()) {
                continue;
            }
            if self.found.len() == PROBLEMS_MAX {
                self.left_out += 1;
                continue;
            }
            // What the sweep itself does not say is of a point.
            let in_sweep = error.place.as_ref().is_some_and(|it| it.file == draft.sweep.path);
            let words = draft.words();
            self.found.push(match in_sweep || words.is_empty() {
                true => error,
                false => error.because(format!("of the point with {words}")),
            });
        }
    }

    fn finish(mut self) -> Result<()> {
        let place =
            |error: &Error| error.place.as_ref().map(|place| (place.file.clone(), place.position));
        self.found.sort_by_key(place);
        if self.left_out > 0 {
            let what = format!("{} more problems are not shown", self.left_out);
            self.found.push(Error::config(what));
        }
        Error::all(self.found).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates and decays of groups are looked at once, whichever they are; which parameters are of
    /// a group is another run.
    #[test]
    fn points_of_one_shape_differ_in_rates_decays_and_seeds_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let groups = "[[train.param_groups]]\nmodules = [\"norm\"]\nlearning_rate = 1e-3\n";
        let data = "[[data.train]]\npath = \"a.jsonl\"\n";
        std::fs::write(place("run.toml"), format!("[model]\nbase = \"base\"\n{data}{groups}"))
            .unwrap();
        let shapes = |parameters: &[(&str, &str)]| {
            let config = quoted(&place("run.toml").display().to_string());
            let mut text = format!("configs = [{config}]\n");
            for (key, values) in parameters {
                text += &format!("[[parameter]]\nkey = \"{key}\"\nvalues = {values}\n");
            }
            std::fs::write(place("sweep.toml"), text).unwrap();
            let sweep = Sweep::read(&place("sweep.toml")).unwrap();
            let (points, _) = points(&sweep, folder.path()).unwrap();
            let shapes: std::collections::BTreeSet<String> =
                points.iter().map(|point| point.shape.to_string()).collect();
            (points.len(), shapes.len())
        };
        let rates = ("train.learning_rate", "[1e-5, 1e-4, 1e-3]");
        let of_group = ("train.param_groups.0.learning_rate", "[1e-3, 1e-2]");
        let decays = ("train.param_groups.0.weight_decay", "[0.0, 0.1]");
        assert_eq!(shapes(&[rates, ("seed", "[1, 2]")]), (6, 1));
        assert_eq!(shapes(&[rates, of_group, decays]), (12, 1));
        let modules = ("train.param_groups.0.modules", "[[\"norm\"], [\"q_proj\"]]");
        assert_eq!(shapes(&[rates, modules]), (6, 2));
        assert_eq!(shapes(&[rates, ("data.max_seq_len", "[64, 128]")]), (6, 2));
    }
}
