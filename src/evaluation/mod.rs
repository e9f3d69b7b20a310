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
mod losses;
mod report;
mod slices;
mod suite;
mod suite_keys;
mod task;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

pub use bootstrap::{Draws, Interval};
pub use report::{
    HISTORY, Metric, Metrics, ModelRecord, Performance, Record, Report, Score, Slice, SliceReport,
    SuiteRecord, judged, statistic,
};
pub use slices::{Slices, slices};
pub use suite::{SliceBy, Suite};
pub use suite_keys::KEYS as SUITE_KEYS;
pub use task::Task;

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
    let found = cases(&suite.data, codec, supply, &suite.case_settings(codec))?;
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

struct Judged<'a> {
    suite: &'a Suite,
    model: ModelRecord,
    data: SuiteRecord,
}

fn model_record(subject: &Subject) -> ModelRecord {
    let mut files = subject.files.to_vec();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let all: BTreeMap<&str, Digest> =
        files.iter().map(|file| (file.path.as_str(), file.sha256)).collect();
    let mut text = json!({"files": all, "codec": subject.codec.fingerprint()});
    if let Some(digest) = subject.quantised {
        text["quantised"] = json!(digest);
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
    let settings = suite.case_settings(codec);
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
        let scores = losses::losses(
            subject.model,
            cases,
            suite.max_seq_len,
            suite.micro_batch_size,
            &mut progress,
        )?;
        let seconds = began.elapsed().as_secs_f64();
        watcher.end();
        let mut records: Vec<Record> = cases
            .iter()
            .zip(scores)
            .map(|(case, score)| Record {
                id: case.record.to_string(),
                sha256: case.digest,
                tokens: case.tokens() as u64,
                score,
                tasks: BTreeMap::new(),
            })
            .collect();
        let speed = self.tasks(subject, cases, device, &mut records, watcher)?;
        let names: Vec<String> = suite.tasks.iter().map(|task| task.name.clone()).collect();
        let (seed, samples, confidence) = (suite.seed, suite.bootstrap, suite.confidence);
        let draws = Draws { seed, samples, confidence };
        let all: Vec<&Record> = records.iter().collect();
        let (metrics, slices) = (
            report::metrics(&all, &names, &draws),
            report::sliced(&slices, &records, &names, &draws),
        );
        #[expect(clippy::cast_precision_loss)] // token counts stay far below 2^53
        let tokens_per_second = tokens as f64 / seconds;
        Ok(Report {
            version: report::VERSION,
            model: self.model,
            suite: self.data,
            metrics,
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
