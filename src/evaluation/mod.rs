//! How good is a model? Loss and accuracy on given records, per slice, and tasks of which the
//! answers are looked at. The same model, suite and kind of machine give the same numbers, so they
//! are kept.
//!
//! - `suite`, `task`: what is asked for
//! - `losses`, `answers`: what the model does, record by record
//! - `slices`, `bootstrap`, `report`: what that comes to

mod answers;
mod bootstrap;
mod kept;
mod label_metrics;
pub mod label_scores;
mod losses;
mod report;
mod score;
mod slices;
mod suite;
mod suite_keys;
mod task;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

pub use answers::asked;
pub use bootstrap::{Draws, Interval};
pub use label_metrics::{
    Confusion, LABEL_METRICS, LabelRecord, reliability, statistic as label_statistic,
};
pub use report::{
    HISTORY, Metric, Metrics, ModelRecord, Performance, Record, Report, Slice, SliceReport,
    SuiteRecord, judged, statistic,
};
pub use score::Score;
pub use slices::{Slices, slices};
pub use suite::{SliceBy, Suite};
pub use suite_keys::KEYS as SUITE_KEYS;
pub use task::Task;

use self::label_scores::of_labels;
use crate::config::{ProblemType, ScoreHead};
use crate::data::{Case, Cases, Codec, cases};
use crate::device::{OpenedDevice, memory_bytes_peak};
use crate::error::{Error, Result};
use crate::files::{Digest, FileEntry};
use crate::hub::Supply;
use crate::model::Model;
use crate::scorers::ScorerKind;

/// Hears how far an evaluation is.
pub trait Watcher: Sync {
    /// A part begins: what it is, and how many units it has.
    fn begin(&self, what: &str, units: u64);
    /// So many units more are done.
    fn advance(&self, units: u64);
    /// The part is done.
    fn end(&self);
    /// Something about the data that deserves attention.
    fn warn(&self, _text: &str) {}
}

/// Nobody watches.
pub struct Unwatched;

impl Watcher for Unwatched {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// A model that is evaluated.
pub struct Subject<'a> {
    /// What the user calls it.
    pub name: &'a str,
    /// The model itself.
    pub model: &'a Model,
    /// How it reads and writes text.
    pub codec: &'a Codec,
    /// The files of which bytes are used.
    pub files: &'a [FileEntry],
    /// The digest of weights that were coded when they were loaded: files do not tell of them.
    pub quantised: Option<Digest>,
    /// What it scores in the place of tokens, if it does.
    pub score_head: Option<&'a ScoreHead>,
}

/// Judges a model. A result that is kept in the folder `cache` is used, unless
/// `fresh`.
///
/// # Errors
/// When the data or a record cannot be used, a scorer fails, or there is nothing to judge.
pub fn evaluate(
    subject: &Subject,
    suite: &Suite,
    supply: &Arc<Supply>,
    device: &OpenedDevice,
    (cache, fresh): (&Path, bool),
    watcher: &dyn Watcher,
) -> Result<Report> {
    let codec = subject.codec;
    if let Some(head) = subject.score_head {
        refuse_for_labels(suite, head)?;
    }
    let found = cases(&suite.data, codec, supply, &suite.case_settings(codec, subject.score_head))?;
    found.warnings.iter().for_each(|text| watcher.warn(text));
    if found.cases.iter().all(|case| case.examples.is_empty()) {
        return Err(Error::evaluation("the evaluation has nothing to judge")
            .at(&suite.path)
            .because(format!("{} records were read", found.cases.len())));
    }
    let judged = Judged {
        suite,
        model: model_record(subject),
        data: suite_record(suite, codec, &found, device),
    };
    let place = kept::place(cache, &judged.model, &judged.data);
    if let Some(report) = kept::recall(&place).filter(|_| !fresh) {
        // What people call the model may be another name for the same bytes.
        return Ok(Report { model: judged.model, suite: judged.data, ..report });
    }
    let report = judged.measure(subject, &found.cases, device, watcher)?;
    kept::remember(&place, &report)?;
    Ok(report)
}

/// A model that scores labels writes no answers, and a reward is compared with others alone.
fn refuse_for_labels(suite: &Suite, head: &ScoreHead) -> Result<()> {
    if head.problem_type.is_none() {
        return Err(Error::evaluation(
            "a model with a single score has no labels to be evaluated by",
        )
        .because("such scores are compared with each other: the validation of its run does that"));
    }
    match suite.tasks.first() {
        None => Ok(()),
        Some(task) => Err(Error::evaluation("a model that scores labels cannot be asked anything")
            .at(&suite.path)
            .because(format!("the task `{}` asks for an answer", task.name))
            .hint("take a suite without tasks: its records are texts with a `label`")),
    }
}

struct Judged<'a> {
    suite: &'a Suite,
    model: ModelRecord,
    data: SuiteRecord,
}

/// What a model is, over all that decides what it computes.
pub fn model_record(subject: &Subject) -> ModelRecord {
    let mut files = subject.files.to_vec();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let all: BTreeMap<&str, Digest> =
        files.iter().map(|file| (file.path.as_str(), file.sha256)).collect();
    let mut text = json!({"files": all, "codec": subject.codec.fingerprint()});
    if let Some(digest) = subject.quantised {
        text["quantised"] = json!(digest);
    }
    if let Some(head) = subject.score_head {
        let problem = head.problem_type.map(ProblemType::name);
        text["score_head"] = json!([problem, head.labels, head.temperature]);
    }
    let sha256 = Digest::of(text.to_string().as_bytes());
    ModelRecord { name: subject.name.to_owned(), sha256, files }
}

fn suite_record(suite: &Suite, codec: &Codec, found: &Cases, device: &OpenedDevice) -> SuiteRecord {
    let data: Vec<Digest> = found.files.iter().map(|file| file.file.sha256).collect();
    let schemas: Vec<Digest> = suite
        .tasks
        .iter()
        .filter_map(|task| match &task.scorer.kind {
            ScorerKind::JsonSchema { sha256, .. } => Some(*sha256),
            _ => None,
        })
        .collect();
    let mut text = json!({
        "version": report::VERSION,
        "firebrand": env!("CARGO_PKG_VERSION"),
        "suite": suite.sha256,
        "data": data,
        "schemas": schemas,
        "class": device.class(),
    });
    // Only where they are set, so that earlier results stay comparable.
    let settings = suite.case_settings(codec, None);
    if !settings.template_args.is_empty() {
        text["template_args"] = settings.template_args.into();
    }
    SuiteRecord {
        name: suite.name.clone(),
        path: suite.path.display().to_string(),
        sha256: Digest::of(text.to_string().as_bytes()),
        data: found.files.clone(),
        commit: found.commit.clone(),
        truncated: found.truncated,
    }
}

impl Judged<'_> {
    fn measure(
        self,
        subject: &Subject,
        cases: &[Case],
        device: &OpenedDevice,
        watcher: &dyn Watcher,
    ) -> Result<Report> {
        let suite = self.suite;
        let slices = slices(suite, cases)?;
        let tokens: u64 = cases.iter().map(|case| case.tokens() as u64).sum();
        watcher.begin("records", tokens);
        let began = Instant::now();
        let mut progress = |tokens| watcher.advance(tokens);
        let (most, rows) = (suite.max_seq_len, suite.micro_batch_size);
        let labels = match subject.score_head {
            Some(head) => of_labels(subject.model, head, cases, (most, rows), &mut progress)?,
            None => vec![None; cases.len()],
        };
        let scores = match subject.score_head {
            Some(_) => labels.iter().map(|it| it.as_ref().map(LabelRecord::score)).collect(),
            None => {
                let all = losses::losses(subject.model, cases, most, rows, &mut progress)?;
                all.into_iter().map(Some).collect::<Vec<_>>()
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        watcher.end();
        let mut records: Vec<Record> = cases
            .iter()
            .zip(scores.into_iter().zip(labels))
            .map(|(case, (score, label))| Record {
                id: case.record.to_string(),
                sha256: case.digest,
                tokens: case.tokens() as u64,
                score: score.unwrap_or_default(),
                tasks: BTreeMap::new(),
                label,
            })
            .collect();
        let speed = self.tasks(subject, cases, device, &mut records, watcher)?;
        let names: Vec<String> = suite.tasks.iter().map(|task| task.name.clone()).collect();
        let (seed, samples, confidence) = (suite.seed, suite.bootstrap, suite.confidence);
        let draws = Draws { seed, samples, confidence };
        let all: Vec<&Record> = records.iter().collect();
        let (metrics, slices) = (
            report::metrics(&all, &names, &draws),
            report::sliced(&slices, &records, (&names, subject.score_head), &draws),
        );
        let confusion = subject.score_head.and_then(|head| report::confusion(head, &all));
        #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
        let tokens_per_second = tokens as f64 / seconds;
        Ok(Report {
            version: report::VERSION,
            model: self.model,
            suite: self.data,
            metrics,
            confusion,
            slices,
            performance: Performance {
                device: device.name.clone(),
                class: device.class(),
                tokens_per_second,
                answer_tokens_per_second: speed.map(|speed| speed.0),
                first_token_seconds: speed.map(|speed| speed.1),
                memory_bytes_peak: memory_bytes_peak(),
            },
            records,
        })
    }

    /// Asks everything that there is to ask; returns new tokens a second, and the median of the
    /// seconds to the first token.
    fn tasks(
        &self,
        subject: &Subject,
        cases: &[Case],
        device: &OpenedDevice,
        records: &mut [Record],
        watcher: &dyn Watcher,
    ) -> Result<Option<(f64, f64)>> {
        // Tasks that ask the same look at the same answers.
        let mut made: BTreeMap<(usize, Vec<usize>), Vec<answers::Answer>> = BTreeMap::new();
        let (mut seconds, mut tokens) = (0.0, 0);
        for task in &self.suite.tasks {
            let asked = answers::asked(task, cases).map_err(|e| e.at(&self.suite.path))?;
            let key = (task.max_tokens, asked.iter().map(|(place, _)| *place).collect());
            if !made.contains_key(&key) {
                watcher.begin(&task.name, asked.len() as u64);
                let began = Instant::now();
                let advance = || watcher.advance(1);
                let at_once = device.backend == "flex";
                let answers = answers::answers(
                    subject.model,
                    subject.codec,
                    &asked,
                    task.max_tokens,
                    at_once,
                    &advance,
                )?;
                seconds += began.elapsed().as_secs_f64();
                tokens += answers.iter().map(|answer| answer.tokens).sum::<u64>();
                watcher.end();
                made.insert(key.clone(), answers);
            }
            let scores = answers::judge(task, cases, &asked, &made[&key])?;
            for ((place, _), score) in asked.iter().zip(scores) {
                records[*place].tasks.insert(task.name.clone(), score);
            }
        }
        let mut first: Vec<f64> =
            made.values().flatten().map(|answer| answer.first_seconds).collect();
        first.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
        let speed = tokens as f64 / seconds;
        Ok(first.get(first.len() / 2).map(|median| (speed, *median)))
    }
}
