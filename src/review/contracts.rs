//! Does code understand every answer that the evaluation admits?

use super::contract::{Contract, compare};
use super::scene::{Answer, PolicySubject, Scene, schemas};
use super::settings::FILE;
use crate::error::Result;

/// Compares the schemas of a suite's tasks with those that the code reads by.
pub fn contract(scene: &Scene, subject: &PolicySubject) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let file = scene.request.settings.unwrap_or(std::path::Path::new(FILE));
    for (task, evaluated) in schemas(&subject.policy) {
        let rules = scene.settings.contracts.iter().filter(|rule| rule.task == task);
        let before = answers.len();
        for rule in rules {
            let (judged, expected) = (evaluated.display(), rule.schema.display());
            let answer = match compare(evaluated, &rule.schema) {
                Ok(Contract::Holds) => {
                    Answer::passed(format!("every answer that {judged} admits fits {expected}"))
                }
                Ok(Contract::Broken(document)) => Answer::failed(
                    format!("{judged} admits {document}, which {expected} refuses"),
                    "make the task's schema as narrow as the code's, or let the code read more",
                ),
                Ok(Contract::Unknown(why)) => Answer::undecided(
                    format!("whether {judged} admits more than {expected} is not decided: {why}"),
                    "write both with the same keywords; docs/review.md lists what is decided",
                ),
                Err(error) => {
                    let place = error.place.as_ref().map(|it| it.file.display().to_string());
                    let what = format!("`{}`", place.unwrap_or_default());
                    Answer::of_error(&what, &error)
                }
            };
            let place = rule.line.map(|line| (file.to_path_buf(), line));
            answers.push(Answer { place, ..answer });
        }
        if answers.len() == before {
            answers.push(Answer::undecided(
                format!("nothing says what the code expects of `{task}`"),
                format!("name the code's JSON Schema in a `[[contract]]` of {FILE}"),
            ));
        }
    }
    if answers.is_empty() {
        answers.push(Answer::undecided(
            "no task has a JSON Schema to compare with that of the code",
            "add a `[[task]]` of the kind `json_schema` to the suite",
        ));
    }
    Ok(answers)
}
