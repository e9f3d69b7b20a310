//! A sweep as it was written, checked.

use std::path::{Path, PathBuf};

use super::datasets;
use super::keys::{Direction, KEYS, Method, Scale};
use super::setting::{Dataset, Setting};
use super::sobol::DIMENSIONS_MAX;
use super::stopping::Stopping;
use crate::document::key::ValueKind;
use crate::document::{Document, Findings, Literal, Values};
use crate::error::{Error, Place, Result, nearest};
use crate::files::Digest;
use crate::settings;

/// Settings that the sweep decides for each run.
const OWN: [&str; 2] = ["name", "output.dir"];

/// Many runs.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Its name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Digest of the file.
    pub sha256: Digest,
    /// Configurations that points begin with.
    pub configs: Vec<String>,
    /// How points are chosen.
    pub method: Method,
    /// How many are drawn; none of a grid.
    pub points: Option<u64>,
    /// Decides the draws.
    pub seed: u64,
    /// What points are compared by.
    pub metric: String,
    /// Which values of it are better.
    pub direction: Direction,
    /// Settings of every point.
    pub set: Vec<Setting>,
    /// The data sets; none for those of the configurations.
    pub datasets: Vec<Dataset>,
    /// What is varied.
    pub parameters: Vec<Parameter>,
    /// When points are compared before their end.
    pub stopping: Option<Stopping>,
}

/// A setting that is varied.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its dotted path.
    pub key: String,
    /// Where it was written.
    pub written: Place,
    /// Its values.
    pub domain: Domain,
    /// Parameters before it, by number, and the values with which this one is varied.
    pub when: Vec<(usize, Vec<String>)>,
}

/// The values of a parameter.
#[derive(Debug, Clone)]
pub enum Domain {
    /// These, as TOML, and where each was written.
    List(Vec<(String, Place)>),
    /// Those from one end to another.
    Range {
        /// The lower end.
        min: f64,
        /// The upper end.
        max: f64,
        /// How they lie between the ends.
        scale: Scale,
        /// How many of them a grid has.
        count: u64,
        /// Whether they are whole numbers.
        whole: bool,
    },
}

impl Sweep {
    /// Reads a sweep.
    ///
    /// # Errors
    /// All problems at once with line and column, when it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let document = Document::read(&KEYS, path)?;
        let values = &document.values;
        let mut findings = document.findings();
        let reader = Reader { document: &document };
        let method = values.choice("method", Method::from_name);
        let parameters = reader.parameters(method, &mut findings);
        let set = reader.settings(values, "set", &mut findings);
        let mut datasets = reader.datasets(&mut findings);
        if let Some(folder) = values.optional_text("datasets") {
            let written = document.written(values.place("datasets"));
            match datasets::of_folder(Path::new(&folder), &written) {
                Ok(found) => datasets = found,
                Err(mut error) => {
                    let found = error.place.take();
                    let found = found.map(|place| format!("this is so at {place}"));
                    let error = found.into_iter().fold(error, Error::because);
                    findings.report((error, values.place("datasets")));
                }
            }
        }
        reader.collisions(&parameters, &set, &datasets, &mut findings);
        if method != Method::Grid && !values.is_given("points") {
            let error = Error::config(format!("`points` is missing with `method = \"{method}\"`"))
                .hint("for instance `points = 64`");
            findings.report((error, values.place("method")));
        }
        let stopping = stopping(values, &mut findings);
        findings.finish()?;
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let metric = values.text("metric");
        let direction = values.optional_text("direction");
        let direction = direction.and_then(|name| Direction::from_name(&name));
        Ok(Self {
            name: values.optional_text("name").unwrap_or_else(stem),
            path: path.to_path_buf(),
            sha256: document.sha256,
            configs: values.texts("configs"),
            method,
            points: values.optional_integer("points"),
            seed: values.integer("seed"),
            direction: direction.unwrap_or_else(|| better(&metric)),
            metric,
            set,
            datasets,
            parameters,
            stopping,
        })
    }
}

/// The section `[stopping]`, if it is written.
fn stopping(values: &Values, findings: &mut Findings) -> Option<Stopping> {
    let section = "stopping";
    if !values.has_section(section) || values.get("stopping.steps").is_none() {
        return None;
    }
    let steps: Vec<u64> = values.sizes("stopping.steps").iter().map(|step| *step as u64).collect();
    if steps.is_empty() {
        let error = Error::config("`stopping.steps` must not be empty");
        findings.report((error, values.place("stopping.steps")));
    }
    let metric = values.text("metric");
    if !["loss", "best_eval_loss"].contains(&metric.as_str()) && !metric.starts_with("eval_") {
        let what = format!("`{metric}` is measured at the end of a run, not at `stopping.steps`");
        let error = Error::config(what).hint("compare by `eval_loss` or `loss`");
        findings.report((error, values.section_place(section)));
    }
    Some(Stopping {
        rule: values.text("stopping.rule"),
        steps,
        eta: values.integer("stopping.eta"),
    })
}

/// Which values of a metric are better where nobody says it.
pub fn better(metric: &str) -> Direction {
    match metric == "perplexity" || metric.ends_with("loss") {
        true => Direction::Lower,
        false => Direction::Higher,
    }
}

/// Reads the parts of a sweep.
struct Reader<'a> {
    document: &'a Document,
}

impl Reader<'_> {
    fn setting(&self, key: &str, literal: &Literal) -> Setting {
        let written = self.document.written(literal.origin);
        Setting { key: key.to_owned(), toml: literal.toml.clone(), written }
    }

    fn settings(&self, values: &Values, path: &str, findings: &mut Findings) -> Vec<Setting> {
        let mut found = Vec::new();
        for (key, literal) in values.settings(path) {
            match problem_of_key(key) {
                Some(error) => findings.report((error, literal.origin)),
                None => found.push(self.setting(key, literal)),
            }
        }
        found
    }

    fn datasets(&self, findings: &mut Findings) -> Vec<Dataset> {
        let mut found: Vec<Dataset> = Vec::new();
        for values in self.document.values.tables("dataset") {
            let Some(name) = values.optional_text("name") else { continue };
            if found.iter().any(|other| other.name == name) {
                let error = Error::config(format!("the data set `{name}` appears twice"));
                findings.report((error, values.place("name")));
            }
            let path = |key: &str| {
                let text = values.optional_text(key)?;
                let (key, toml) = (key.to_owned(), crate::document::quoted(&text));
                let written = self.document.written(values.place(&key));
                Some(Setting { key, toml, written })
            };
            let (train, validation) = (path("train"), path("validation"));
            let set = self.settings(values, "set", findings);
            if train.is_none() && validation.is_none() && set.is_empty() {
                let error = Error::config(format!("the data set `{name}` has no data"))
                    .hint("add `train = \"…\"`, or `set = { … }`");
                findings.report((error, values.table_place()));
            }
            found.push(Dataset { name, train, validation, set });
        }
        found
    }

    fn parameters(&self, method: Method, findings: &mut Findings) -> Vec<Parameter> {
        let tables = self.document.values.tables("parameter");
        let mut found: Vec<Parameter> = Vec::new();
        for values in tables {
            let Some(key) = values.optional_text("key") else { continue };
            if let Some(error) = problem_of_key(&key) {
                findings.report((error, values.place("key")));
                continue;
            }
            if found.iter().any(|other| other.key == key) {
                let error = Error::config(format!("the parameter `{key}` appears twice"))
                    .hint("give all its values in one `[[parameter]]`");
                findings.report((error, values.place("key")));
            }
            let when = conditions(values, &found, findings);
            if let Some(domain) = self.domain(&key, values, method, findings) {
                let written = self.document.written(values.place("key"));
                found.push(Parameter { key, written, domain, when });
            }
        }
        if method == Method::Sobol && found.len() > DIMENSIONS_MAX {
            let what = format!(
                "a Sobol sequence has at most {DIMENSIONS_MAX} parameters, and there are {}",
                found.len()
            );
            let error = Error::config(what).hint("use `method = \"random\"`");
            findings.report((error, self.document.values.place("method")));
        }
        found
    }

    fn domain(
        &self,
        key: &str,
        values: &Values,
        method: Method,
        findings: &mut Findings,
    ) -> Option<Domain> {
        let listed = values.literals("values");
        if !listed.is_empty() {
            let one = |it: &Literal| (it.toml.clone(), self.document.written(it.origin));
            return Some(Domain::List(listed.iter().map(one).collect()));
        }
        if values.is_given("values") {
            return None; // what is wrong with them was reported
        }
        let [min, max] = ["min", "max"].map(|end| values.optional_number(end));
        let (Some(min), Some(max)) = (min, max) else {
            let error = Error::config(format!("the parameter `{key}` has no values"))
                .hint("add `values = [ … ]`, or `min = …` and `max = …`");
            findings.report((error, values.place("key")));
            return None;
        };
        let scale = values.choice("scale", Scale::from_name);
        if min >= max {
            let error = Error::config(format!("`max` must be above `min`, which is {min}"));
            findings.report((error, values.place("max")));
        } else if scale == Scale::Log && min <= 0.0 {
            let error = Error::config(format!("`min` must be above 0 on a log scale, not {min}"));
            findings.report((error, values.place("min")));
        }
        let count = values.optional_integer("count");
        match (method, count) {
            (Method::Grid, None) => {
                let error = Error::config("a range in a grid needs `count`")
                    .hint("add `count = 5`, or give `values = [ … ]`");
                findings.report((error, values.place("min")));
            }
            (Method::Random | Method::Sobol, Some(_)) => {
                let what = format!("`count` means nothing when `method` is `{method}`");
                let error = Error::config(what).hint("remove it; `points` says how many are drawn");
                findings.report((error, values.place("count")));
            }
            _ => {}
        }
        let kind = settings::KEYS.deciding(key).map(|key| &key.kind);
        let whole = matches!(kind, Some(ValueKind::Integer { .. } | ValueKind::Bytes { .. }));
        Some(Domain::Range { min, max, scale, count: count.unwrap_or(0), whole })
    }

    /// A setting has one place: that of a parameter is nowhere else.
    fn collisions(
        &self,
        parameters: &[Parameter],
        set: &[Setting],
        datasets: &[Dataset],
        findings: &mut Findings,
    ) {
        for parameter in parameters {
            let of_datasets = datasets.iter().flat_map(|dataset| &dataset.set);
            let given = set.iter().chain(of_datasets).find(|given| given.key == parameter.key);
            if let Some(given) = given {
                let what = format!("`{}` is a parameter, and is set as well", parameter.key);
                let hint = format!("keep one of the two; it is set at {}", given.written);
                let tables = self.document.values.tables("parameter");
                let own = tables.iter().find(|table| {
                    table.optional_text("key").as_deref() == Some(parameter.key.as_str())
                });
                let place = own.map_or(self.document.values.table_place(), |it| it.place("key"));
                findings.report((Error::config(what).hint(hint), place));
            }
        }
    }
}

/// The parameters before, by number, and values that a parameter wants of them.
fn conditions(
    values: &Values,
    before: &[Parameter],
    findings: &mut Findings,
) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (key, literal) in values.settings("when") {
        let Some(number) = before.iter().position(|parameter| parameter.key == *key) else {
            let what = format!("`when` names `{key}`, which is not a parameter above this one");
            let names = before.iter().map(|parameter| parameter.key.as_str());
            let error = match nearest(key, names) {
                Some(name) => Error::config(what).hint(format!("did you mean `{name}`?")),
                None => Error::config(what),
            };
            findings.report((error, literal.origin));
            continue;
        };
        let wanted = match crate::document::literal(&literal.toml) {
            Some(serde_json::Value::Array(items)) => items,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let json = |text: &str| crate::document::literal(text);
        if let Domain::List(listed) = &before[number].domain {
            let has = |value: &serde_json::Value| {
                listed.iter().any(|(toml, _)| json(toml).as_ref() == Some(value))
            };
            if let Some(missing) = wanted.iter().find(|value| !has(value)) {
                let what = format!("`{key}` never has the value `{missing}` of `when`");
                findings.report((Error::config(what), literal.origin));
            }
        }
        found.push((number, wanted.iter().map(ToString::to_string).collect()));
    }
    found
}

/// What is wrong with the name of a setting.
fn problem_of_key(key: &str) -> Option<Error> {
    if OWN.contains(&key) {
        let what = format!("`{key}` is decided by the sweep");
        return Some(Error::config(what).hint("remove it: every run has a name and a folder"));
    }
    if settings::KEYS.deciding(key).is_some() {
        return None;
    }
    let error = Error::config(format!("`{key}` is not a setting of a run"));
    let names = settings::KEYS.keys().filter(|key| !key.internal).map(|key| key.path);
    Some(match nearest(key, names) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error.hint("`firebrand init` shows every setting"),
    })
}
