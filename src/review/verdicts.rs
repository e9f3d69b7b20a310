//! What a gate demands of answers, and whether it has passed the newest artifact.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::scene::{Answer, PolicySubject, Scene, schemas};
use crate::artifact::past::Past;
use crate::channel::Verdicts;
use crate::error::Result;
use crate::files::{Digest, FileEntry, read_json};
use crate::gate::Check;
use crate::verify::verify;

/// A report of the gate has some thousands of lines.
const BYTES_MAX: u64 = 64 << 20;

/// Whether answers must fit a JSON Schema.
pub fn output_schema(_: &Scene, subject: &PolicySubject) -> Result<Vec<Answer>> {
    let policy = &subject.policy;
    let suite = policy.suite.path.display();
    let tasks: Vec<String> =
        schemas(policy).map(|(task, path)| format!("`{task}` by {}", path.display())).collect();
    if tasks.is_empty() {
        return Ok(vec![Answer::failed(
            format!("no task of `{suite}` validates answers by a JSON Schema"),
            "add a `[[task]]` of the kind `json_schema` to the suite",
        )]);
    }
    if !policy.checks.has(Check::OutputSchema) {
        return Ok(vec![Answer::failed(
            "the policy switches the check of its suite's schemas off".to_owned(),
            "remove `output_schema = false` from `[checks]` of the policy",
        )]);
    }
    let least = 100.0 * policy.checks.min_valid;
    Ok(vec![Answer::passed(format!("{}; at least {least:.1} % must fit", tasks.join(", ")))])
}

/// An artifact that the change makes.
struct MadeArtifact {
    directory: PathBuf,
    /// The settings of its run that are other ones now.
    stale: Vec<String>,
}

/// Whether the gate has passed what the change makes, by this very policy.
pub fn regression_test(scene: &Scene, subject: &PolicySubject) -> Result<Vec<Answer>> {
    let made = made(scene)?;
    if made.is_empty() {
        return Ok(vec![Answer::undecided(
            "no artifact of the change is here",
            "train it first, or name it with `--candidate ARTIFACT`",
        )]);
    }
    made.iter().map(|artifact| judged(scene, subject, artifact)).collect()
}

/// The artifact that was named; else those of the runs that are reviewed.
fn made(scene: &Scene) -> Result<Vec<MadeArtifact>> {
    if let Some(path) = scene.request.candidate {
        let directory = artifact_of(path);
        return Ok(vec![MadeArtifact { directory, stale: Vec::new() }]);
    }
    let mut all = Vec::new();
    for run in &scene.runs {
        let directory = artifact_of(Path::new(&run.loaded.config.output.dir));
        if !directory.join(crate::artifact::lineage::INPUTS_FILE).is_file() {
            continue;
        }
        let (past, portable) = (Past::read(&directory)?, run.loaded.portable());
        let is_other = |(key, value): &(&String, &String)| {
            let made = past.resolved.get(*key);
            made != Some(*value) && (made.is_none() || made != portable.get(*key))
        };
        let now = run.loaded.deciding();
        let stale = now.iter().filter(is_other).map(|(key, _)| key.clone()).collect();
        all.push(MadeArtifact { directory, stale });
    }
    Ok(all)
}

/// The artifact of a run; anything else itself.
fn artifact_of(path: &Path) -> PathBuf {
    let inside = path.join("artifact");
    if inside.is_dir() { inside } else { path.to_path_buf() }
}

fn judged(scene: &Scene, subject: &PolicySubject, artifact: &MadeArtifact) -> Result<Answer> {
    let MadeArtifact { directory, stale } = artifact;
    let name = directory.display();
    let policy = subject.path.display();
    let again = format!("`firebrand gate --policy {policy} --candidate {name}` gives a verdict");
    if let [first, ..] = stale.as_slice() {
        let what =
            format!("`{name}` was made by other settings ({} keys: `{first}`…)", stale.len());
        return Ok(Answer::undecided(what, format!("train it again; then {again}")));
    }
    let verified = verify(directory, scene.request.trust);
    if verified.files.is_empty() {
        let what = format!("`{name}` is no artifact that can be read");
        return Ok(Answer::undecided(what, "name it with `--candidate ARTIFACT`"));
    }
    if let Some(path) = scene.request.gate_report {
        return of_report(path, subject, &verified.files, &again);
    }
    let verdicts = Verdicts::read(directory, &verified.files, scene.request.trust)?;
    let own = |it: &&crate::gate::attest::Verdict| it.policy_sha256 == Some(subject.policy.sha256);
    let Some(verdict) = verdicts.valid.iter().rev().find(own) else {
        let what = match verdicts.valid.is_empty() {
            true => format!("no verdict of a trusted gate is about the files of `{name}`"),
            false => format!("the verdicts on `{name}` are by other policies than this one"),
        };
        return Ok(Answer::undecided(what, format!("{again}; `--gate-report` names one in JSON")));
    };
    let (time, by) = (verdict.time, &verdict.by);
    Ok(match verdict.passed {
        true => Answer::passed(format!("`{name}` passed at {time:.0}, signed by the {by}")),
        false => Answer::failed(
            format!("`{name}` was refused at {time:.0} by the {by}"),
            "do not merge it; the report of the gate says what is worse",
        ),
    })
}

/// What a report says, if it is about these files, this policy and this suite.
fn of_report(
    path: &Path,
    subject: &PolicySubject,
    files: &[FileEntry],
    again: &str,
) -> Result<Answer> {
    let report = read_json(path, BYTES_MAX)?;
    let digest = |value: &Value| value.as_str().and_then(|text| text.parse::<Digest>().ok());
    let (policy, suite) = (&subject.policy.sha256, &subject.policy.suite.sha256);
    let about = report["candidate"]["files"].as_array().into_iter().flatten();
    let mut own = 0;
    let mut other = None;
    for file in about {
        let name = file["path"].as_str().unwrap_or_default();
        if name.starts_with("base/") {
            continue;
        }
        own += 1;
        let known = files.iter().find(|it| it.path == name);
        if known.is_none_or(|it| Some(it.sha256) != digest(&file["sha256"])) {
            other = Some(name);
        }
    }
    let wrong = if digest(&report["policy"]["sha256"]).as_ref() != Some(policy) {
        Some("by another policy than this one".to_owned())
    } else if digest(&report["suite"]["sha256"]).as_ref() != Some(suite) {
        Some("on another suite than this one".to_owned())
    } else if own == 0 {
        Some("about no file of the artifact".to_owned())
    } else {
        other.map(|name| format!("about another `{name}`"))
    };
    let report_name = path.display();
    if let Some(wrong) = wrong {
        return Ok(Answer::undecided(format!("`{report_name}` is {wrong}"), again));
    }
    let first = report["rubber_stamp"].as_bool() == Some(true);
    let first = if first { "; a first release, there was nothing to compare with" } else { "" };
    Ok(match report["decision"].as_str() {
        Some("PASSED" | "WARNED") => Answer::passed(format!("`{report_name}` says so{first}")),
        Some("REFUSED") => Answer::failed(
            format!("`{report_name}` refuses it"),
            "do not merge it; the report of the gate says what is worse",
        ),
        _ => Answer::undecided(format!("`{report_name}` has no verdict"), again),
    })
}
