//! What is reviewed: the configurations and policies that a change touches, with what is known of
//! them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::changes::Change;
use super::settings::{FILE, ReviewSettings};
use crate::config::{DataSetConfig, Loaded};
use crate::error::{Error, Result};
use crate::files::{parse_toml, read_text};
use crate::gate::{Policy, TestOutcome};
use crate::hub::{DataLock, Supply};
use crate::scorers::ScorerKind;
use crate::train::{Access, supply_for};
use crate::verify::Trust;

/// A larger TOML file is none of ours.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// What is to be reviewed.
pub struct Request<'a> {
    /// What the change is compared with.
    pub base: &'a str,
    /// Also what the change does not touch.
    pub all: bool,
    /// The settings, in place of `review.toml`.
    pub settings: Option<&'a Path>,
    /// The artifact that the change makes, in place of those of the runs.
    pub candidate: Option<&'a Path>,
    /// A report of the gate, in place of the signed verdicts beside the artifact.
    pub gate_report: Option<&'a Path>,
    /// Whose verdicts count.
    pub trust: &'a Trust,
}

/// A configuration of a run.
pub struct RunSubject {
    /// Its file.
    pub path: PathBuf,
    /// What it says.
    pub loaded: Loaded,
    /// Its lock, if there is one.
    pub lock: Option<DataLock>,
    /// Where its files come from: this machine alone.
    pub supply: Arc<Supply>,
    touched: bool,
}

/// A policy of a gate.
pub struct PolicySubject {
    /// Its file.
    pub path: PathBuf,
    /// What it says, with its suite.
    pub policy: Policy,
    touched: bool,
}

/// Everything that a review looks at.
pub struct Scene<'a> {
    /// What was asked.
    pub request: &'a Request<'a>,
    /// The change.
    pub change: Change,
    /// By what it is reviewed.
    pub settings: ReviewSettings,
    /// Every configuration; what is evaluated on must be apart from the data of each.
    pub runs: Vec<RunSubject>,
    /// Every policy.
    pub policies: Vec<PolicySubject>,
    /// Policies that there were before the change, and are no longer.
    pub gone: Vec<PathBuf>,
    /// Where the files of suites come from: this machine alone.
    pub supply: Arc<Supply>,
}

/// How a check went for one file.
pub struct Answer {
    /// How it went.
    pub outcome: TestOutcome,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// Another file than the subject, with a line, that says it.
    pub place: Option<(PathBuf, usize)>,
}

impl Answer {
    fn new(outcome: TestOutcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), advice: None, place: None }
    }

    /// It holds.
    pub fn passed(detail: impl Into<String>) -> Self {
        Self::new(TestOutcome::Passed, detail)
    }

    /// It does not hold.
    pub fn failed(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..Self::new(TestOutcome::Failed, detail) }
    }

    /// It cannot be judged.
    pub fn undecided(detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..Self::new(TestOutcome::Undecided, detail) }
    }

    /// It cannot be judged for an error.
    pub fn of_error(what: &str, error: &Error) -> Self {
        let causes: String = error.causes.iter().map(|why| format!(": {why}")).collect();
        let hint = error.hints.first().cloned();
        let detail = format!("{what}: {}{causes}", error.what);
        Self { advice: hint, ..Self::new(TestOutcome::Undecided, detail) }
    }
}

impl<'a> Scene<'a> {
    /// Reads what is there.
    ///
    /// # Errors
    /// When a configuration or a policy cannot be read, or git does not know what is asked.
    pub fn new(request: &'a Request<'a>) -> Result<Self> {
        let change = Change::since(request.base)?;
        let settings = ReviewSettings::read(request.settings, &change)?;
        let (mut configs, mut policies) = (Vec::new(), Vec::new());
        for path in change.files().filter(|name| name.ends_with(".toml")) {
            match kind_of(Path::new(path)) {
                Some(Kind::Run) => configs.push(path.to_owned()),
                Some(Kind::Policy) => policies.push(path.to_owned()),
                None => {}
            }
        }
        let configs = settings.configs.clone().unwrap_or(configs);
        let policies = settings.policies.clone().unwrap_or(policies);
        let all = request.all || change.touches(request.settings.unwrap_or(Path::new(FILE)));
        let runs: Vec<RunSubject> =
            configs.iter().map(|path| run(Path::new(path), &change, all)).collect::<Result<_>>()?;
        let trains = runs.iter().any(|run| run.touched);
        let of = |path: &String| {
            let path = PathBuf::from(path);
            let policy = Policy::read(&path)?;
            let touched = all || trains || touches(&policy, &settings, &change);
            Ok(PolicySubject { path, policy, touched })
        };
        let policies = policies.iter().map(of).collect::<Result<Vec<_>>>()?;
        let access = Access { offline: true, ..Access::default() };
        let supply = Arc::new(access.supply(crate::hub::Policy {
            offline: true,
            extensions: crate::data::extensions(),
            ..crate::hub::Policy::default()
        })?);
        let gone = gone(&change, &policies);
        let scene = Self { request, change, settings, runs, policies, gone, supply };
        scene.refuse_idle_contracts()?;
        Ok(scene)
    }

    /// The configurations that are reviewed.
    pub fn touched_runs(&self) -> impl Iterator<Item = &RunSubject> {
        self.runs.iter().filter(|run| run.touched)
    }

    /// The policies that are reviewed.
    pub fn touched_policies(&self) -> impl Iterator<Item = &PolicySubject> {
        self.policies.iter().filter(|policy| policy.touched)
    }

    /// A contract of a task that no suite has is a mistake.
    fn refuse_idle_contracts(&self) -> Result<()> {
        for rule in &self.settings.contracts {
            let known = |subject: &PolicySubject| {
                schemas(&subject.policy).any(|(task, _)| task == rule.task)
            };
            if !self.policies.iter().any(known) {
                let what = format!("no suite has a task `{}` of the kind `json_schema`", rule.task);
                let path = self.request.settings.unwrap_or(Path::new(FILE));
                return Err(Error::config(what).at_position(path, rule.line.unwrap_or(1), 1));
            }
        }
        Ok(())
    }
}

/// The tasks of a policy's suite that are judged by a JSON Schema, with its file.
pub fn schemas(policy: &Policy) -> impl Iterator<Item = (&str, &Path)> {
    policy.suite.tasks.iter().filter_map(|task| match &task.scorer.kind {
        ScorerKind::JsonSchema { path, .. } => Some((task.name.as_str(), path.as_path())),
        _ => None,
    })
}

enum Kind {
    Run,
    Policy,
}

/// What a TOML file is, by the tables that none of the others has.
fn kind_of(path: &Path) -> Option<Kind> {
    kind_of_text(path, &read_text(path, TEXT_BYTES_MAX).ok()?)
}

/// Policies that a change removes, or makes something else of.
fn gone(change: &Change, there: &[PolicySubject]) -> Vec<PathBuf> {
    let was_policy = |path: &Path| {
        let text = change.before(path).and_then(|bytes| String::from_utf8(bytes).ok());
        text.is_some_and(|text| matches!(kind_of_text(path, &text), Some(Kind::Policy)))
    };
    let known = |path: &PathBuf| there.iter().any(|policy| policy.path == *path);
    let changed = change.changed().filter(|name| name.ends_with(".toml")).map(PathBuf::from);
    changed.filter(|path| !known(path) && !is_policy(path) && was_policy(path)).collect()
}

/// Whether a file is one now, be it one that is not reviewed.
fn is_policy(path: &Path) -> bool {
    matches!(kind_of(path), Some(Kind::Policy))
}

fn kind_of_text(path: &Path, text: &str) -> Option<Kind> {
    let table: toml::Table = parse_toml(text, "", path).ok()?;
    let has = |section: &str, key: &str| table.get(section).and_then(|it| it.get(key)).is_some();
    if has("model", "base") && table.contains_key("data") {
        return Some(Kind::Run);
    }
    has("eval", "suite").then_some(Kind::Policy)
}

fn run(path: &Path, change: &Change, all: bool) -> Result<RunSubject> {
    let loaded = crate::settings::load(path, &[])?;
    let lock = DataLock::path_of(path);
    let config = &loaded.config;
    let data = config.data.train.iter().chain(&config.data.validation);
    let models = config.model.base_adapters.iter().chain([&config.model.base]);
    let inputs: Vec<&str> = data.map(|set| &set.path).chain(models).map(String::as_str).collect();
    let touched = all
        || change.touches(path)
        || change.touches(&lock)
        || inputs.into_iter().any(|input| change.touches(Path::new(input)));
    let access = Access { offline: true, ..Access::default() };
    let supply = supply_for(path, None, &access)?;
    let lock = DataLock::read(&lock)?;
    Ok(RunSubject { path: path.to_path_buf(), loaded, lock, supply, touched })
}

fn touches(policy: &Policy, settings: &ReviewSettings, change: &Change) -> bool {
    let DataSetConfig { path: data, .. } = &policy.suite.data;
    let tasks: Vec<(&str, &Path)> = schemas(policy).collect();
    let contracts = settings.contracts.iter();
    let contracts = contracts.filter(|rule| tasks.iter().any(|(task, _)| *task == rule.task));
    change.touches(&policy.path)
        || change.touches(&policy.suite.path)
        || change.touches(Path::new(data))
        || tasks.iter().any(|(_, path)| change.touches(path))
        || contracts.into_iter().any(|rule| change.touches(&rule.schema))
        || settings.coverage.as_ref().is_some_and(|path| change.touches(path))
}
