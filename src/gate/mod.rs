//! Is a candidate good enough to take the baseline's place? Both are evaluated here, on the same
//! bytes, by a policy that says what may not get worse and what must hold besides.
//!
//! - `loosened`: what a policy demands less of than before
//! - `limits`, `measures`, `switches`, `policy`: what is demanded
//! - `compare`, `performance`: numbers against numbers
//! - `checks`, `tokenizer`, `words`, `contamination`: the checklist
//! - `coverage`: what the evaluation goes through of the model
//! - `start`: a suite and a policy to begin with
//! - `decision`, `formats`: what that comes to, for people and for CI
//! - `attest`: the verdict, signed, and read back

mod limits;
mod loosened;
mod performance_config;
mod checks_config;
mod policy;
mod policy_keys;
mod decision;
mod compare;
mod performance;
mod checks;
mod ngrams;
mod tokenizer;
mod contamination;
mod coverage;
mod coverage_config;
mod formats;
mod start;
pub mod attest;
#[cfg(test)]
mod fixture;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use checks_config::{Check, Checks};
pub use coverage_config::CoverageRule;
pub use decision::{Decision, Report, Test, TestKind, TestNumbers, TestOutcome, VERSION};
pub use formats::{junit, markdown, sarif, text};
pub use limits::{Direction, MetricLimits};
pub use loosened::{Loosened, PolicyChange, loosened};
pub use ngrams::Runs as NgramRuns;
pub use performance::Meter;
pub use performance_config::{Measure, PerformanceRule};
pub use policy::{MetricRule, Policy, SliceRule};
pub use policy_keys::KEYS as POLICY_KEYS;
pub use start::{POLICY_FILE, SUITE_FILE, Start, start};

use crate::artifact::open::{BaseChoice, OpenedModel, open};
use crate::artifact::past::Past;
use crate::config::ScoreHead;
use crate::coverage::Coverage;
use crate::data::{Cases, Codec, cases};
use crate::device::OpenedDevice;
use crate::error::{Error, Result};
use crate::evaluation::{Draws, Report as Evaluation, Subject, Watcher, evaluate, slices};
use crate::hub::Supply;
use crate::model::{ModelJson, families};
use crate::verify::{self, Ancestry, Trust};

/// What is to be evaluated, and with what.
pub struct Request<'a> {
    /// What is demanded.
    pub policy: &'a Policy,
    /// The candidate: a folder with an artifact.
    pub candidate: &'a Path,
    /// The model to compare with; none for a first release.
    pub baseline: Option<&'a str>,
    /// Where both are computed.
    pub device: &'a OpenedDevice,
    /// Where models and data come from.
    pub supply: &'a Arc<Supply>,
    /// Whose signatures count.
    pub trust: &'a Trust,
    /// How speed is measured.
    pub meter: &'a Meter,
    /// Our own cache.
    pub cache: &'a Path,
    /// Hears how far it is.
    pub watcher: &'a dyn Watcher,
}

/// A model that was evaluated.
struct Seen {
    report: Evaluation,
    codec: Codec,
    /// Where its tokenizer lies.
    codec_folder: PathBuf,
    /// What it scores in the place of tokens, if it does.
    score_head: Option<ScoreHead>,
    /// What the suite exercises of it, where the policy asks and it is the model to ask of.
    coverage: Option<Coverage>,
}

/// Judges a candidate.
///
/// # Errors
/// When something stands in the way that is no test: a model that cannot be opened, data that
/// cannot be read, files that change meanwhile.
pub fn judge(request: &Request) -> Result<Report> {
    let Request { policy, supply, .. } = request;
    let verified = verify::verify(request.candidate, request.trust);
    let family = verify::family(request.candidate, request.trust);
    let why = family.as_ref().err().map(|error| error.what.clone()).unwrap_or_default();
    let family: std::result::Result<&Ancestry, &str> = family.as_ref().map_err(|_| why.as_str());
    let name = request.candidate.to_string_lossy();
    let candidate = see(request, &name)?;
    refuse_other_bytes(request.candidate, &candidate, &verified)?;
    let baseline = request.baseline.map(|name| see(request, name)).transpose()?;
    if let Some(baseline) = &baseline {
        refuse_other_data(&candidate.report, &baseline.report)?;
    }
    let suite = &policy.suite;
    let settings = suite.case_settings(&candidate.codec, candidate.score_head.as_ref());
    let found = cases(&suite.data, &candidate.codec, supply, &settings)?;
    if found.files != candidate.report.suite.data {
        return Err(other_data());
    }
    let mut tests = numbers(policy, &candidate.report, baseline.as_ref(), &found)?;
    if let Some(rule) = &policy.coverage {
        let seen = baseline.as_ref().and_then(|baseline| baseline.coverage.as_ref());
        let found = candidate.coverage.as_ref().or(seen);
        tests.push(coverage::test(rule, found, !request.device.on_gpu())?);
    }
    tests.extend(speed(request, &candidate.report, baseline.as_ref())?);
    let (evaluation, trust) = (&candidate.report, request.trust);
    let papers = checks::Papers { verified: &verified, family, evaluation, trust };
    tests.extend(checks::all(policy, &papers));
    tests.extend(tokens(request, &candidate, baseline.as_ref(), family.ok(), &found)?);
    let places =
        contamination::Places { candidate: request.candidate, supply, cache: request.cache };
    tests.extend(contamination::check(policy, family, &found, &places)?);
    let baseline = baseline.as_ref().map(|baseline| &baseline.report);
    let signed = checks::is_signed(&verified);
    Ok(Report::new(policy, &candidate.report, baseline, (&verified, signed), tests))
}

/// Judges one of the two. Numbers that were kept in a cache, which others may have written, decide
/// nothing.
fn see(request: &Request, name: &str) -> Result<Seen> {
    let opened = open(name, BaseChoice::default(), &request.device.device, request.supply)?;
    opened.notes.iter().for_each(|note| request.watcher.warn(&format!("{name}: {note}")));
    let codec = opened.codec(None)?;
    let OpenedModel { model, files, quantised, score_head, .. } = &opened;
    let (quantised, score_head) = (*quantised, score_head.as_ref());
    let subject = Subject { name, model, codec: &codec, files, quantised, score_head };
    let kept = (request.cache, true);
    let Request { policy, supply, device, .. } = request;
    let report = evaluate(&subject, &policy.suite, supply, device, kept, request.watcher)?;
    let on_cpu = !device.on_gpu();
    let coverage = policy.coverage.as_ref().map(|rule| {
        let (of, from) = ((&subject, &report), (*supply, on_cpu));
        coverage::of_suite(rule, of, &policy.suite, from, request.watcher)
    });
    let coverage = coverage.transpose()?.flatten();
    let score_head = score_head.cloned();
    Ok(Seen { report, codec, codec_folder: opened.codec, score_head, coverage })
}

/// What was evaluated must be what was verified.
fn refuse_other_bytes(folder: &Path, seen: &Seen, verified: &verify::Report) -> Result<()> {
    // Where the folder could not be read as a whole, `verify` has told so.
    if verified.files.is_empty() {
        return Ok(());
    }
    let own = seen.report.model.files.iter().filter(|file| !file.path.starts_with("base/"));
    let same_folder = seen.codec_folder.canonicalize().ok() == folder.canonicalize().ok();
    let text = seen.codec.tokenizer.files().iter().filter(|_| same_folder);
    for file in own.chain(text) {
        if !verified.files.contains(file) {
            return Err(Error::changed("the file was changed while the model was evaluated")
                .at(folder.join(&file.path)));
        }
    }
    Ok(())
}

fn other_data() -> Error {
    Error::changed("the data of the evaluation was changed while the models were evaluated")
        .hint("run the gate again; name a `revision` in the suite for data that moves")
}

fn refuse_other_data(candidate: &Evaluation, baseline: &Evaluation) -> Result<()> {
    let ids = |report: &Evaluation| -> Vec<_> {
        report.records.iter().map(|it| (it.id.clone(), it.sha256)).collect()
    };
    match candidate.suite.data == baseline.suite.data && ids(candidate) == ids(baseline) {
        true => Ok(()),
        false => Err(other_data()),
    }
}

/// The limits of numbers, over all records and over parts.
fn numbers(
    policy: &Policy,
    candidate: &Evaluation,
    baseline: Option<&Seen>,
    cases: &Cases,
) -> Result<Vec<Test>> {
    let suite = &policy.suite;
    let draws = Draws { seed: suite.seed, samples: suite.bootstrap, confidence: suite.confidence };
    let both = compare::Both {
        candidate: &candidate.records,
        baseline: baseline.map(|baseline| baseline.report.records.as_slice()),
        draws,
    };
    let mut tests: Vec<Test> =
        policy.metrics.iter().map(|rule| compare::metric(rule, &both)).collect();
    let parts = slices(suite, &cases.cases)?;
    for rule in &policy.slices {
        if let Some(parts) = parts.iter().find(|parts| parts.by == rule.by) {
            tests.extend(compare::slices(rule, &both, parts));
        }
    }
    Ok(tests)
}

fn speed(request: &Request, candidate: &Evaluation, baseline: Option<&Seen>) -> Result<Vec<Test>> {
    let Some(rule) = &request.policy.performance else { return Ok(Vec::new()) };
    let (Some(name), Some(baseline)) = (request.baseline, baseline) else {
        return Ok(performance::tests(rule, None));
    };
    let models = ((request.candidate, candidate), (name, &baseline.report));
    let (ours, theirs) = performance::measure(rule, request.meter, models, request.watcher)?;
    Ok(performance::tests(rule, Some((&ours, &theirs))))
}

fn tokens(
    request: &Request,
    candidate: &Seen,
    baseline: Option<&Seen>,
    family: Option<&Ancestry>,
    cases: &Cases,
) -> Result<Option<Test>> {
    let checks = &request.policy.checks;
    if !checks.has(Check::Tokenizer) {
        return Ok(None);
    }
    let base = family.and_then(|family| tokenizer::base_directory(family, request.supply));
    let base = base.map(|folder| crate::data::Tokenizer::load(&folder)).transpose()?;
    let of_base = base.as_ref().map(|it| tokenizer::Other { name: "its base", tokenizer: it });
    let of_baseline = baseline.map(|baseline| tokenizer::Other {
        name: "the baseline",
        tokenizer: &baseline.codec.tokenizer,
    });
    let wanted = tokenizer::Wanted {
        recorded: family.and_then(tokenizer::recorded),
        others: of_base.into_iter().chain(of_baseline).collect(),
        added: Past::read(request.candidate)?.added_tokens(),
        vocabulary: vocabulary(request),
        allow_change: checks.allow_tokenizer_change,
    };
    let answer = tokenizer::check(&candidate.codec.tokenizer, &cases.cases, &wanted);
    Ok(Some(checks::test(request.policy, Check::Tokenizer, answer)))
}

/// Rows of a whole model's embedding; an adapter's base was looked at when it was opened.
fn vocabulary(request: &Request) -> Option<usize> {
    let json = ModelJson::read(request.candidate).ok()?;
    Some(families::describe(&json).ok()?.vocabulary)
}
