//! Does a policy demand no less than before?

use std::path::Path;

use super::scene::{Answer, PolicySubject, Scene};
use crate::error::Result;
use crate::gate::loosened;

const ADVICE: &str = "put it back, or let whoever answers for the gate decide about it";

/// Compares a policy with the one before the change, key by key.
pub fn policy_limits(scene: &Scene, subject: &PolicySubject) -> Result<Vec<Answer>> {
    let path = &subject.path;
    let Some(before) = scene.change.before(path) else {
        return Ok(vec![Answer::passed("there was no such policy before the change")]);
    };
    let found = match loosened(&before, &subject.policy) {
        Ok(found) => found,
        Err(error) => {
            let mut answer = Answer::of_error("the policy before cannot be compared", &error);
            answer.advice.get_or_insert_with(|| ADVICE.to_owned());
            return Ok(vec![answer]);
        }
    };
    let mut answers: Vec<Answer> = Vec::new();
    for it in found.loosened {
        let what = format!("`{}` was {} and is {}", it.key, it.was, it.is);
        let place = it.line.map(|line| (path.clone(), line));
        answers.push(Answer { place, ..Answer::failed(what, ADVICE) });
    }
    if let Some([was, is]) = found.suites {
        let what = format!("`eval.suite` was {was} and is {is}: limits of another suite");
        answers.push(Answer::undecided(what, "compare the two suites"));
    }
    if answers.is_empty() {
        answers.push(Answer::passed("it demands no less than before"));
    }
    Ok(answers)
}

/// A policy that is no longer there.
pub fn gone(path: &Path) -> Answer {
    let what = format!("the policy `{}` was there before and is gone", path.display());
    Answer::failed(what, ADVICE)
}
