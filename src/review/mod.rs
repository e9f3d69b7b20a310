//! Is a change of code, configuration or evaluation fit to be merged? A checklist for pull
//! requests: nothing is trained, evaluated or fetched for it.
//!
//! - `changes`: what git says of the change
//! - `review_keys`, `settings`: by what it is reviewed
//! - `scene`: the configurations and policies that it touches
//! - `pinned`, `policy_limits`, `verdicts`, `apart`, `exercised`, `contracts`: the checklist
//! - `contract`, `facts`, `limits_kept`, `subschema`, `witness`: two JSON Schemas beside each other
//! - `formats`: the answers for people and for code hosts

mod changes;
mod facts;
mod limits_kept;
mod subschema;
mod witness;
mod contract;
mod review_keys;
mod settings;
mod scene;
mod pinned;
mod policy_limits;
mod verdicts;
mod apart;
mod exercised;
mod contracts;
mod formats;

use std::path::Path;

pub use formats::{comment, json, sarif, text};
pub use review_keys::KEYS as REVIEW_KEYS;
pub use scene::Request;

use crate::error::Result;
use crate::gate::TestOutcome;
use scene::{Answer, PolicySubject, RunSubject, Scene};

/// A line of the checklist.
pub struct ReviewCheck {
    /// Its name in settings and reports.
    pub name: &'static str,
    /// What must hold.
    pub about: &'static str,
    judge: Judge,
}

/// What a check is made of.
enum Judge {
    /// Every configuration of a run.
    Run(fn(&Scene, &RunSubject) -> Result<Vec<Answer>>),
    /// Every policy with its suite.
    Policy(fn(&Scene, &PolicySubject) -> Result<Vec<Answer>>),
    /// The same, and every policy that is no longer there.
    Kept(fn(&Scene, &PolicySubject) -> Result<Vec<Answer>>, fn(&Path) -> Answer),
}

/// The checklist, in the order in which it is told.
pub static CHECKS: &[ReviewCheck] = &[
    ReviewCheck {
        name: "model_pinned",
        about: "The base model of a run is known by its commit or its bytes.",
        judge: Judge::Run(pinned::model),
    },
    ReviewCheck {
        name: "data_pinned",
        about: "The data of a run is known by its commit or its bytes.",
        judge: Judge::Run(pinned::data),
    },
    ReviewCheck {
        name: "output_schema",
        about: "The gate demands that answers fit a JSON Schema.",
        judge: Judge::Policy(verdicts::output_schema),
    },
    ReviewCheck {
        name: "policy_limits",
        about: "The gate demands no less than before.",
        judge: Judge::Kept(policy_limits::policy_limits, policy_limits::gone),
    },
    ReviewCheck {
        name: "regression_test",
        about: "The gate has passed the artifact that the change makes.",
        judge: Judge::Policy(verdicts::regression_test),
    },
    ReviewCheck {
        name: "evaluation_apart",
        about: "Nothing that models are evaluated on is trained on.",
        judge: Judge::Policy(apart::evaluation_apart),
    },
    ReviewCheck {
        name: "coverage",
        about: "The evaluation exercises no less of the model than before.",
        judge: Judge::Policy(exercised::coverage),
    },
    ReviewCheck {
        name: "contract",
        about: "Code understands every answer that the evaluation admits.",
        judge: Judge::Policy(contracts::contract),
    },
];

/// How a check went for one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its place in [`CHECKS`].
    pub check: usize,
    /// The configuration or the policy.
    pub subject: String,
    /// The file and the line to show it at.
    pub place: (String, Option<usize>),
    /// How it went: passed, failed or undecided.
    pub outcome: TestOutcome,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    /// The name of its check.
    pub fn name(&self) -> &'static str {
        CHECKS[self.check].name
    }
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// What the change is compared with, as it was named.
    pub base: String,
    /// The commit that it begins at.
    pub commit: String,
    /// How many configurations and policies were looked at.
    pub subjects: usize,
    /// What the user should know besides.
    pub note: Option<String>,
    /// Everything that was found.
    pub findings: Vec<Finding>,
}

impl Review {
    /// How many checks went so.
    pub fn count(&self, outcome: TestOutcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }

    /// The worst that was found.
    pub fn outcome(&self) -> TestOutcome {
        let has = |outcome| self.count(outcome) > 0;
        match (has(TestOutcome::Failed), has(TestOutcome::Undecided)) {
            (true, _) => TestOutcome::Failed,
            (false, true) => TestOutcome::Undecided,
            (false, false) => TestOutcome::Passed,
        }
    }

    /// How the program ends.
    pub fn exit_code(&self) -> u8 {
        match self.outcome() {
            TestOutcome::Failed => 1,
            TestOutcome::Undecided => 2,
            _ => 0,
        }
    }
}

/// Reviews a change in the current folder.
///
/// # Errors
/// When there is no repository, or a file that must be read cannot be.
pub fn review(request: &Request) -> Result<Review> {
    let scene = Scene::new(request)?;
    let mut findings = Vec::new();
    let mut add = |check: usize, path: &Path, answers: Vec<Answer>| {
        let subject = path.display().to_string();
        findings.extend(answers.into_iter().map(|answer| Finding {
            check,
            place: match answer.place {
                Some((path, line)) => (path.display().to_string(), Some(line)),
                None => (subject.clone(), None),
            },
            subject: subject.clone(),
            outcome: answer.outcome,
            detail: answer.detail,
            advice: answer.advice,
        }));
    };
    for (number, check) in CHECKS.iter().enumerate() {
        if !scene.settings.has(check.name) {
            continue;
        }
        match check.judge {
            Judge::Run(judge) => {
                for run in scene.touched_runs() {
                    add(number, &run.path, judge(&scene, run)?);
                }
            }
            Judge::Policy(judge) => {
                for policy in scene.touched_policies() {
                    add(number, &policy.path, judge(&scene, policy)?);
                }
            }
            Judge::Kept(judge, gone) => {
                for policy in scene.touched_policies() {
                    add(number, &policy.path, judge(&scene, policy)?);
                }
                scene.gone.iter().for_each(|path| add(number, path, vec![gone(path)]));
            }
        }
    }
    Ok(Review {
        base: request.base.to_owned(),
        commit: scene.change.commit.clone(),
        subjects: scene.touched_runs().count()
            + scene.touched_policies().count()
            + scene.gone.len(),
        note: scene.settings.note.clone(),
        findings,
    })
}
