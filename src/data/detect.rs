//! Which shape the records of a file have: told from a sample, with the reason.

use std::path::Path;

use super::formats::{FORMATS, Fields, Format, found};
use super::sources::Record;
use crate::config::FormatChoice;
use crate::error::{Error, Result};

/// So many readable records are looked at.
const SAMPLE: usize = 100;

/// A shape and why it was chosen.
pub struct Choice {
    /// The shape.
    pub format: &'static dyn Format,
    /// Why, for people.
    pub reason: String,
}

/// Chooses the shape: as configured, or as the first records show.
///
/// Returns `None` when no record of the sample can be read. The sample only chooses: every
/// record is checked again when it is read.
pub fn detect(path: &Path, sample: &[Record], choice: FormatChoice) -> Result<Option<Choice>> {
    if let Some(format) = FORMATS.iter().find(|format| format.choice() == choice) {
        return Ok(Some(Choice { format: *format, reason: "as configured".to_owned() }));
    }
    let mut readable = sample
        .iter()
        .filter_map(|record| Some((record.line, record.content.as_ref().ok()?)))
        .take(SAMPLE);
    let Some((line, first)) = readable.next() else { return Ok(None) };
    let matching: Vec<&dyn Format> =
        FORMATS.iter().copied().filter(|format| format.recognises(first)).collect();
    let Some((&format, others)) = matching.split_first() else {
        return Err(unknown(path, line, first));
    };
    for (other_line, record) in readable {
        if format.recognises(record) {
            continue;
        }
        if let Some(other) = FORMATS.iter().find(|other| other.recognises(record)) {
            return Err(mixed(path, (line, format), (other_line, *other)));
        }
    }
    let mut reason = format!("the first records have {}", format.expects());
    for other in others {
        reason += &format!("; `{}` would fit too and can be set as `format`", other.name());
    }
    Ok(Some(Choice { format, reason }))
}

/// The shape that most of the sample has, for who wants to know what is wrong with the others.
pub fn detect_anyway(sample: &[Record]) -> Option<Choice> {
    let readable = || sample.iter().filter_map(|record| record.content.as_ref().ok()).take(SAMPLE);
    let count = |format: &&dyn Format| readable().filter(|it| format.recognises(it)).count();
    // Of equally many the first of the table.
    let format = FORMATS.iter().copied().rev().max_by_key(count).filter(|it| count(it) > 0)?;
    let reason = format!("most of the first records have {}", format.expects());
    Some(Choice { format, reason })
}

fn unknown(path: &Path, line: u64, record: &Fields) -> Error {
    let found = found(record);
    let error = Error::data(format!("the shape of the records is not known: {found}")).at_position(
        path,
        usize::try_from(line).unwrap_or(usize::MAX),
        1,
    );
    let shapes: Vec<String> =
        FORMATS.iter().map(|format| format!("  {}: {}", format.name(), format.expects())).collect();
    let error = error.hint(format!("known shapes are\n{}", shapes.join("\n")));
    match question_and_answer(record) {
        Some((question, answer)) => error.hint(format!(
            "for questions and answers of a chat write `columns = {{ instruction = \
             \"{question}\", output = \"{answer}\" }}`"
        )),
        None => error,
    }
}

/// Columns that by their names hold a question and its answer.
fn question_and_answer(record: &Fields) -> Option<(&'static str, &'static str)> {
    const QUESTIONS: [&str; 6] = ["question", "query", "instruction", "prompt", "input", "user"];
    const ANSWERS: [&str; 6] =
        ["answer", "response", "output", "completion", "assistant", "answers"];
    let has = |name: &&&str| record.get(**name).is_some_and(serde_json::Value::is_string);
    Some((*QUESTIONS.iter().find(has)?, *ANSWERS.iter().find(has)?))
}

fn mixed(path: &Path, first: (u64, &dyn Format), other: (u64, &dyn Format)) -> Error {
    let (path_shown, shapes) = (path.display(), (first.1.name(), other.1.name()));
    let what = format!(
        "the record at {path_shown}:{} has the shape `{}`, and this one has the shape `{}`",
        first.0, shapes.0, shapes.1
    );
    Error::data(what)
        .at_position(path, usize::try_from(other.0).unwrap_or(usize::MAX), 1)
        .hint("put records of different shapes into different files")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Digest;
    use crate::snapshots::says;

    fn records(lines: &[&str]) -> Vec<Record> {
        let record = |(index, text): (usize, &&str)| Record {
            line: index as u64 + 1,
            digest: Digest::of(text.as_bytes()),
            content: serde_json::from_str(text).map_err(|error| error.to_string()),
        };
        lines.iter().enumerate().map(record).collect()
    }

    fn choose(lines: &[&str]) -> Result<Option<Choice>> {
        detect(Path::new("a.jsonl"), &records(lines), FormatChoice::Auto)
    }

    #[test]
    fn the_choice_comes_with_its_reason() {
        let choice = choose(&["bad", r#"{"prompt":"a","completion":"b"}"#]).unwrap().unwrap();
        assert_eq!(choice.format.name(), "completion");
        assert_eq!(
            choice.reason,
            "the first records have `prompt` and `completion`, strings or lists of messages"
        );
        let choice = choose(&[r#"{"instruction":"a","output":"b","text":"c"}"#]).unwrap().unwrap();
        assert_eq!(choice.format.name(), "alpaca");
        says(
            &choice.reason,
            snapbox::str![
                "the first records have `instruction` and `output`, perhaps `input`, `system` and `history`; `text` would fit too and can be set as `format`"
            ],
        );
    }

    #[test]
    fn unknown_and_mixed_shapes_name_their_lines() {
        let error = choose(&[r#"{"question":"a","answer":"b"}"#]).err().unwrap().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[data]: the shape of the records is not known: found `question`, `answer`
  at a.jsonl:1:1

hint: known shapes are
  messages: `messages`, a list of objects with `role` and `content`
  sharegpt: `conversations`, a list of objects with `from` and `value`
  preference: `chosen` and `rejected`, perhaps `prompt`, each a string or a list of messages
  alpaca: `instruction` and `output`, perhaps `input`, `system` and `history`
  completion: `prompt` and `completion`, strings or lists of messages
  text: `text`, a string

hint: for questions and answers of a chat write `columns = { instruction = "question", output = "answer" }`
"#]],
        );
        let error =
            choose(&[r#"{"text":"a"}"#, r#"{"prompt":"a","completion":"b"}"#]).err().unwrap();
        says(
            &error,
            snapbox::str![[r#"
error[data]: the record at a.jsonl:1 has the shape `text`, and this one has the shape `completion`
  at a.jsonl:2:1

hint: put records of different shapes into different files
"#]],
        );
    }

    #[test]
    fn a_sample_without_a_readable_record_decides_nothing() {
        assert!(choose(&["x", "y"]).unwrap().is_none());
    }
}
