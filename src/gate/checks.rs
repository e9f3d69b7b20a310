//! The checklist: what signature and lineage say of a candidate.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks_config::Check;
use super::decision::{Test, TestKind, TestOutcome};
use super::policy::Policy;
use crate::evaluation::Report as Evaluation;
use crate::files::Digest;
use crate::scorers::ScorerKind;
use crate::verify::{self, Ancestry, CheckVerdict, Item, Report as Verified, Trust, Verdict};

/// What is known of a candidate besides its numbers.
pub struct Papers<'a> {
    /// What `verify` found.
    pub verified: &'a Verified,
    /// Its lineage; the error says why there is none.
    pub family: Result<&'a Ancestry, &'a str>,
    /// How it was evaluated.
    pub evaluation: &'a Evaluation,
    /// Whose attestations count.
    pub trust: &'a Trust,
}

/// How a check went, and what was found.
pub type Answer = (TestOutcome, String);

/// A check's test.
pub fn test(policy: &Policy, check: Check, (outcome, detail): Answer) -> Test {
    let line = policy.checks.line(check);
    Test { line, ..Test::new(TestKind::Check, check.name(), outcome, detail) }
}

/// Whether a trusted key vouches for exactly these files.
pub fn is_signed(verified: &Verified) -> bool {
    verified.root.is_some() && signature(verified).0 == TestOutcome::Passed
}

/// Every check that needs nothing but papers, as the policy demands them.
pub fn all(policy: &Policy, papers: &Papers) -> Vec<Test> {
    let checks = &policy.checks;
    let answer = |check: Check| -> Option<Answer> {
        Some(match check {
            Check::Signature => signature(papers.verified),
            Check::Lineage => lineage(papers),
            Check::ModelPinned => model_pinned(papers, checks.require_approved),
            Check::DataPinned => data_pinned(papers, checks.require_approved),
            Check::SourceClean => source_clean(papers),
            Check::ReproducedBy => reproduced_by(papers, checks.reproduced_by),
            Check::OutputSchema => output_schema(policy, papers.evaluation),
            Check::Tokenizer | Check::EvaluationApart => return None,
        })
    };
    let on = Check::ALL.into_iter().filter(|check| checks.has(*check));
    on.filter_map(|check| Some(test(policy, check, answer(check)?))).collect()
}

fn is_of_lineage(check: verify::Check) -> bool {
    use verify::Check::{LineageInputs, LineageStatement, LineageSubjects};
    matches!(check, LineageInputs | LineageStatement | LineageSubjects)
}

/// What went wrong with those checks of `verify` that `wanted` names.
fn problems(verified: &Verified, wanted: &dyn Fn(verify::Check) -> bool) -> Vec<String> {
    let failed = verified
        .checks
        .iter()
        .filter(|finding| finding.verdict == CheckVerdict::Fail && wanted(finding.check));
    failed.map(|finding| format!("{}: {}", finding.check.label(), finding.detail)).collect()
}

fn signature(verified: &Verified) -> Answer {
    let problems = problems(verified, &|check| !is_of_lineage(check));
    if !problems.is_empty() {
        return (TestOutcome::Failed, problems.join("; "));
    }
    match (verified.verdict, &verified.signer) {
        (Verdict::CouldNotCheck, _) => {
            let stuck = verified.checks.iter().filter(|it| it.verdict == CheckVerdict::Unchecked);
            let details: Vec<&str> = stuck.map(|finding| finding.detail.as_str()).collect();
            (TestOutcome::Undecided, format!("could not be checked: {}", details.join("; ")))
        }
        (_, Some(signer)) => {
            let (name, count) = (signer.short(), verified.files.len());
            (TestOutcome::Passed, format!("signed by {name}, {count} files"))
        }
        (_, None) => (TestOutcome::Failed, "no signature covers it".to_owned()),
    }
}

fn lineage(papers: &Papers) -> Answer {
    let problems = problems(papers.verified, &is_of_lineage);
    if !problems.is_empty() {
        return (TestOutcome::Failed, problems.join("; "));
    }
    match papers.family {
        Err(why) => (TestOutcome::Failed, why.to_owned()),
        Ok(family) if !family.is_sound() => {
            let what = "a model that it was made from is not what its lineage recorded";
            (TestOutcome::Failed, what.to_owned())
        }
        Ok(family) => {
            let generations = std::iter::successors(Some(family), |it| older(it)).count();
            let what = if generations == 1 { "generation" } else { "generations" };
            let text = format!("{generations} {what}, made by `{}`", family.method);
            (TestOutcome::Passed, text)
        }
    }
}

/// The model that a model was made from, where its lineage was found.
pub fn older(family: &Ancestry) -> Option<&Ancestry> {
    family.parent.as_ref()?.family.as_ref()
}

/// Whether a model was made of others without training.
fn is_derived(family: &Ancestry) -> bool {
    ["merge", "export"].contains(&family.method.as_str())
}

/// The training that made a model: its own, or that of what it was merged from.
pub fn training(family: &Ancestry) -> Option<&Ancestry> {
    std::iter::successors(Some(family), |it| older(it)).find(|family| !is_derived(family))
}

fn trained<'a>(papers: &Papers<'a>) -> Result<&'a Ancestry, Answer> {
    let family = papers.family.map_err(|why| (TestOutcome::Failed, why.to_owned()))?;
    training(family).ok_or_else(|| {
        let what = "the lineage of what it was merged from was not found";
        (TestOutcome::Undecided, what.to_owned())
    })
}

/// The digest of an entry of the lineage.
pub fn sha256(item: &Item) -> Option<Digest> {
    item.digest.get("sha256").and_then(Value::as_str)?.parse().ok()
}

fn note<'a>(item: &'a Item, key: &str) -> Option<&'a str> {
    item.notes.get(key).and_then(Value::as_str)
}

/// The commit in the address of a file on a hub.
pub fn commit(uri: &str) -> Option<&str> {
    let (_, rest) = uri.rsplit_once('@')?;
    let commit = rest.split(['/', '#']).next()?;
    let hex = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && commit.len() == 40).then_some(commit)
}

/// Why an input is not known for good.
fn loose(item: &Item, approved: bool) -> Option<String> {
    let name = &item.name;
    if sha256(item).is_none() {
        return Some(format!("`{name}` has no digest"));
    }
    if let Some(uri) = note(item, "uri")
        && commit(uri).is_none()
    {
        return Some(format!("`{name}` has no commit"));
    }
    let trust = note(item, "trust").unwrap_or("tofu");
    (approved && trust == "tofu").then(|| format!("no trusted allowlist has `{name}`"))
}

/// The first few problems in one line.
fn few(problems: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = problems.len().saturating_sub(SHOWN);
    let shown = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if more == 0 { shown } else { format!("{shown}; and {more} more") }
}

fn model_pinned(papers: &Papers, approved: bool) -> Answer {
    let family = match trained(papers) {
        Ok(family) => family,
        Err(answer) => return answer,
    };
    let mut problems: Vec<String> =
        family.base.files.iter().filter_map(|file| loose(file, approved)).collect();
    if family.base.files.is_empty() {
        problems.push("the lineage names no file of the base model".to_owned());
    }
    if family.base.revision.as_ref().is_some_and(|text| commit(&format!("@{text}")).is_none()) {
        problems.push(format!("`{}` has no commit", family.base.id));
    }
    // What was evaluated with an adapter must be what it was trained on.
    let known: BTreeSet<Digest> = family.base.files.iter().filter_map(sha256).collect();
    let used = papers.evaluation.model.files.iter();
    for file in used.filter_map(|file| Some((file.path.strip_prefix("base/")?, file))) {
        if !known.contains(&file.1.sha256) {
            problems.push(format!("the base model that was evaluated has another `{}`", file.0));
        }
    }
    match problems.as_slice() {
        [] => {
            let name = &family.base.id;
            (TestOutcome::Passed, format!("{} files of `{name}`", family.base.files.len()))
        }
        problems => (TestOutcome::Failed, few(problems)),
    }
}

fn data_pinned(papers: &Papers, approved: bool) -> Answer {
    let family = match trained(papers) {
        Ok(family) => family,
        Err(answer) => return answer,
    };
    let problems: Vec<String> =
        family.datasets.iter().filter_map(|file| loose(file, approved)).collect();
    match (problems.as_slice(), family.datasets.len()) {
        ([], 0) => (TestOutcome::Failed, "the lineage names no data".to_owned()),
        ([], count) => (TestOutcome::Passed, format!("{count} files")),
        (problems, _) => (TestOutcome::Failed, few(problems)),
    }
}

fn source_clean(papers: &Papers) -> Answer {
    let family = match trained(papers) {
        Ok(family) => family,
        Err(answer) => return answer,
    };
    let Some(source) = family.source.iter().find(|item| item.role == "source") else {
        let what = "the lineage names no commit: it was not trained inside a git repository";
        return (TestOutcome::Failed, what.to_owned());
    };
    let commit = source.digest.get("gitCommit").and_then(Value::as_str).unwrap_or_default();
    let short = commit.get(..12).unwrap_or(commit);
    match source.notes.get("dirty").and_then(Value::as_bool) {
        Some(false) => (TestOutcome::Passed, format!("commit {short}")),
        Some(true) => {
            let what = "it was trained with changes that are not in the commit";
            (TestOutcome::Failed, format!("{what} {short}"))
        }
        None => (TestOutcome::Failed, "the lineage does not say whether it was clean".to_owned()),
    }
}

/// Whether so many others got the same bytes. That whoever signed it does not count needs the check
/// of the signature, without which no policy asks for this.
fn reproduced_by(papers: &Papers, wanted: usize) -> Answer {
    if let Ok(family) = papers.family
        && is_derived(family)
    {
        let what = "only what was trained can be made again, and it was made by";
        let detail = format!("{what} `{}`: judge the model that it was made of", family.method);
        return (TestOutcome::Failed, detail);
    }
    match verify::reproducers(&papers.verified.directory, papers.verified, papers.trust) {
        Ok(found) => match found.told(wanted) {
            (true, detail) => (TestOutcome::Passed, detail),
            (false, detail) => {
                let missing = wanted - found.counted.len();
                let what = "must make it again (`firebrand reproduce`), signed by a key that you \
                            trust with the role `reproduce`";
                (TestOutcome::Failed, format!("{detail}; {missing} more {what}"))
            }
        },
        Err(error) => (TestOutcome::Undecided, format!("could not be checked: {}", error.what)),
    }
}

fn output_schema(policy: &Policy, evaluation: &Evaluation) -> Answer {
    let mut found = Vec::new();
    let mut fits = true;
    for task in &policy.suite.tasks {
        if !matches!(task.scorer.kind, ScorerKind::JsonSchema { .. }) {
            continue;
        }
        let share = evaluation.metrics.get(&task.name).map(|metric| metric.value);
        fits &= share.is_some_and(|share| share >= policy.checks.min_valid);
        let share = share.map_or("none".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        found.push(format!("{share} of the answers of `{}`", task.name));
    }
    if found.is_empty() {
        return (
            TestOutcome::Skipped,
            "the suite has no task of the kind `json_schema`".to_owned(),
        );
    }
    let needed = 100.0 * policy.checks.min_valid;
    let detail = format!("{} fit, {needed:.1} % are needed", found.join(", "));
    (if fits { TestOutcome::Passed } else { TestOutcome::Failed }, detail)
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
