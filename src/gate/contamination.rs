//! Is what a candidate is evaluated on apart from what it trained? By file, by record, and by words
//! in a row, over everything that its lineage and those of its ancestors name.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::checks::{older, sha256};
use super::checks_config::Check;
use super::decision::{Test, TestKind, TestOutcome};
use super::ngrams::Runs;
use super::policy::Policy;
use crate::data::{Cases, each_record};
use crate::error::{Error, Result};
use crate::files::Digest;
use crate::hub::{RepoKind, RepoName, Supply, path_fault, sha256_of};
use crate::verify::Ancestry;

/// How many folders above the candidate a relative name is tried from.
const ABOVE_MAX: usize = 8;

/// A data file that a lineage names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DataFile {
    name: String,
    uri: Option<String>,
    sha256: Digest,
    /// Only measured on: its records were kept out of the training data.
    validation: bool,
}

/// Where files are looked for.
pub struct Places<'a> {
    /// The candidate's folder.
    pub candidate: &'a Path,
    /// The hub's cache.
    pub supply: &'a Supply,
    /// Our own cache.
    pub cache: &'a Path,
}

/// The data of one training.
struct Training {
    files: Vec<DataFile>,
}

/// Every training in the ancestry of a model, and what of it is not known.
fn trainings(family: &Ancestry) -> (Vec<Training>, Vec<String>) {
    let mut unknown = Vec::new();
    let mut all = Vec::new();
    for member in std::iter::successors(Some(family), |it| older(it)) {
        let mut files = Vec::new();
        for item in &member.datasets {
            let text = |key: &str| item.notes.get(key).and_then(Value::as_str);
            match sha256(item) {
                Some(sha256) => files.push(DataFile {
                    name: item.name.clone(),
                    uri: text("uri").map(str::to_owned),
                    sha256,
                    validation: text("split") == Some("validation"),
                }),
                None => unknown.push(format!("`{}` has no digest", item.name)),
            }
        }
        all.push(Training { files });
        if let Some(parent) = member.parent.as_ref().filter(|parent| parent.family.is_none()) {
            unknown.push(format!("the lineage of `{}` was not found", parent.name));
        }
    }
    (all, unknown)
}

/// What was found in the training data.
struct Findings {
    /// Files of the evaluation that were trained on.
    files: Vec<String>,
    /// Records of the evaluation that were trained on.
    records: HashSet<Digest>,
    runs: Runs,
    /// What could not be looked at.
    unknown: Vec<String>,
    /// Training records that were looked at.
    seen: u64,
}

/// The tests, by file, by record and by words.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn check(
    policy: &Policy,
    family: std::result::Result<&Ancestry, &str>,
    cases: &Cases,
    places: &Places,
) -> Result<Vec<Test>> {
    if !policy.checks.has(Check::EvaluationApart) {
        return Ok(Vec::new());
    }
    let family = match family {
        Ok(family) => family,
        Err(why) => {
            let test = |what: &str| verdict(policy, what, (TestOutcome::Failed, why.to_owned()));
            return Ok(vec![test("files"), test("records"), test("words")]);
        }
    };
    let (trainings, unknown) = trainings(family);
    let records = cases.cases.iter().map(|case| &case.fields);
    let mut findings = Findings {
        files: Vec::new(),
        records: HashSet::new(),
        runs: Runs::new(records, policy.checks.ngram),
        unknown,
        seen: 0,
    };
    let judged: HashSet<Digest> = cases.cases.iter().map(|case| case.digest).collect();
    let trained: BTreeMap<Digest, &str> = trainings
        .iter()
        .flat_map(|training| &training.files)
        .filter(|file| !file.validation)
        .map(|file| (file.sha256, file.name.as_str()))
        .collect();
    for file in &cases.files {
        if let Some(name) = trained.get(&file.file.sha256) {
            findings.files.push(format!("`{}` is the training file `{name}`", file.file.path));
        }
    }
    let mut done = BTreeSet::new();
    for training in &trainings {
        look(training, &judged, places, &mut findings, &mut done)?;
    }
    if trainings.iter().all(|training| training.files.is_empty()) {
        findings.unknown.push("the lineage names no training data".to_owned());
    }
    Ok(tests(policy, &findings, cases.cases.len()))
}

/// Looks through the files of one training. Records that it measured on were not trained on,
/// wherever else they stand.
fn look(
    training: &Training,
    judged: &HashSet<Digest>,
    places: &Places,
    findings: &mut Findings,
    done: &mut BTreeSet<Digest>,
) -> Result<()> {
    let mut held_out: HashSet<Digest> = HashSet::new();
    for file in training.files.iter().filter(|file| file.validation) {
        // Where it is not here, more counts as trained on, never less.
        let Some(path) = find(file, places) else { continue };
        read(&path, file, &mut |records| {
            held_out.extend(records.iter().map(|record| record.digest));
        })?;
    }
    for file in training.files.iter().filter(|file| !file.validation) {
        // The same file in another training may have other records held out.
        if held_out.is_empty() && !done.insert(file.sha256) {
            continue;
        }
        let Some(path) = find(file, places) else {
            findings.unknown.push(format!("`{}` is not on this machine", file.name));
            continue;
        };
        let (mut seen, mut hits) = (0, Vec::new());
        let runs = &mut findings.runs;
        read(&path, file, &mut |records| {
            seen += records.len() as u64;
            let trained = || records.iter().filter(|it| !held_out.contains(&it.digest));
            hits.extend(trained().map(|it| it.digest).filter(|digest| judged.contains(digest)));
            let fields: Vec<_> = trained().filter_map(|it| it.fields.as_ref()).collect();
            runs.look(&fields);
        })?;
        findings.seen += seen;
        findings.records.extend(hits);
    }
    Ok(())
}

/// Reads a data file, which must have the bytes that the lineage names.
fn read(
    path: &Path,
    file: &DataFile,
    look: &mut dyn FnMut(&[crate::data::RawRecord]),
) -> Result<()> {
    let read = each_record(path, look)?;
    if read.sha256 == file.sha256 {
        return Ok(());
    }
    Err(Error::changed("the file changed while it was being read").at(path))
}

/// The file with these bytes: where it was, or near the candidate, or in the hub's cache.
fn find(file: &DataFile, places: &Places) -> Option<PathBuf> {
    let mut roots = vec![PathBuf::new()];
    let own = places.candidate.canonicalize().unwrap_or_default();
    roots.extend(own.ancestors().skip(1).take(ABOVE_MAX).map(Path::to_path_buf));
    let here = roots.iter().map(|root| root.join(&file.name));
    let cached = file.uri.as_deref().and_then(|uri| of_hub(uri, places.supply));
    let is_it = |path: &PathBuf| {
        path.is_file() && sha256_of(path, places.cache).is_ok_and(|found| found == file.sha256)
    };
    cached.into_iter().chain(here).find(is_it)
}

/// Where a file of a data set lies in the hub's cache; nothing is asked of the hub.
fn of_hub(uri: &str, supply: &Supply) -> Option<PathBuf> {
    let (name, rest) = uri.strip_prefix("hf://datasets/")?.split_once('@')?;
    let (commit, path) = rest.split_once('/')?;
    let repo = RepoName::parse(RepoKind::Dataset, name).ok()?;
    let plain = path_fault(path).is_none() && super::checks::commit(uri) == Some(commit);
    plain.then(|| Some(supply.hub().ok()?.snapshot_dir(&repo, commit).join(path)))?
}

fn tests(policy: &Policy, findings: &Findings, records: usize) -> Vec<Test> {
    let checks = &policy.checks;
    let files = match findings.files.as_slice() {
        [] => (TestOutcome::Passed, "no file of the evaluation was trained on".to_owned()),
        files => (TestOutcome::Failed, files.join("; ")),
    };
    let shares = findings.runs.shares();
    let trained = shares.iter().flatten().filter(|share| **share > checks.ngram_share).count();
    let missing = match (findings.unknown.as_slice(), checks.allow_missing_data) {
        ([], _) => None,
        (unknown, allow) => {
            let what = format!("could not look at everything: {}", unknown.join("; "));
            Some((if allow { TestOutcome::Warned } else { TestOutcome::Undecided }, what))
        }
    };
    let seen = findings.seen;
    let judge = |count: usize, what: String| {
        #[expect(clippy::cast_precision_loss)] // counts of records
        let too_many = count as f64 > checks.max_overlap * records as f64;
        match (&missing, too_many) {
            (_, true) => (TestOutcome::Failed, what),
            (Some((outcome, why)), _) => (*outcome, format!("{what}; {why}")),
            (None, _) => (TestOutcome::Passed, what),
        }
    };
    let count = findings.records.len();
    let by_record =
        judge(count, format!("{count} of {records} records stand among {seen} training records"));
    let n = checks.ngram;
    let sampled = if findings.runs.is_sampled() { ", a sample of them" } else { "" };
    let by_words = judge(
        trained,
        format!(
            "{trained} of {} records have more than {:.0} % of their {n}-grams{sampled} in the \
             training data",
            findings.runs.comparable(),
            100.0 * checks.ngram_share
        ),
    );
    vec![
        verdict(policy, "files", files),
        verdict(policy, "records", by_record),
        verdict(policy, "words", by_words),
    ]
}

fn verdict(policy: &Policy, what: &str, (outcome, detail): (TestOutcome, String)) -> Test {
    let check = Check::EvaluationApart;
    let line = policy.checks.line(check);
    Test { line, ..Test::new(TestKind::Check, format!("{}/{what}", check.name()), outcome, detail) }
}

#[cfg(test)]
#[path = "contamination_tests.rs"]
mod tests;
