//! Answers with a label as examples, for objectives that learn what is desirable: what precedes the
//! last answer, and the answer, which is the only run of targets. After one that is undesirable
//! stands a single token more, which is no target: that is how the objective tells them apart, and
//! so no row, window or cache need know of labels.

use super::ends_of_runs::too_long;
use super::example::{Example, RecordId, RecordOutcome};
use super::formats::Content;
use super::made::{Made, Record};
use super::paired::{last_alone, one_run};
use crate::config::Overlong;
use crate::error::Result;

/// The column of labels.
const LABEL: &str = "label";
/// Why a record of another shape is not used.
const NO_ANSWER: &str = "the objective trains on answers with a label, and this record has no \
                         answer of its own after a prompt";

/// Takes the labels out of records, and leaves the last answers of conversations as the only
/// targets; what cannot be used says so.
pub fn take(records: &mut [Record]) -> Vec<bool> {
    records
        .iter_mut()
        .map(|record| {
            let Ok((content, left)) = &mut record.content else { return true };
            let label = match left.remove(LABEL) {
                Some(serde_json::Value::Bool(label)) => Ok(label),
                Some(other) if other == 1 || other == 1.0 => Ok(true),
                Some(other) if other == 0 || other == 0.0 => Ok(false),
                Some(other) => Err(format!("`{LABEL}` must be `true` or `false`, not `{other}`")),
                None => Err(format!(
                    "the objective trains on answers with a label, and the column `{LABEL}` \
                     (`true` or `false`) is missing"
                )),
            };
            let label = label.and_then(|label| match content {
                Content::Chat(chat) => {
                    *chat = last_alone(std::mem::take(chat));
                    Ok(label)
                }
                Content::Completion { .. } => Ok(label),
                Content::Text(_) | Content::Preference { .. } => Err(NO_ANSWER.to_owned()),
            });
            label.unwrap_or_else(|why| {
                record.content = Err(why);
                true
            })
        })
        .collect()
}

/// Puts the labels into what became of the records.
///
/// # Errors
/// When an answer has no room for its label in a row, and the settings say that this ends the run.
pub fn mark(
    made: Vec<Made>,
    (records, labels): (&[Record], &[bool]),
    row: (usize, Overlong),
) -> Result<Vec<Made>> {
    let with_label = |(mut made, (record, label)): (Made, (&Record, &bool))| {
        made.outcome = match made.outcome {
            RecordOutcome::Whole(example) => marked(one_run(example), *label, &record.id, row)?,
            RecordOutcome::Truncated(example) => {
                let cut = (row.0, Overlong::Truncate);
                match marked(one_run(example), *label, &record.id, cut)? {
                    RecordOutcome::Whole(example) => RecordOutcome::Truncated(example),
                    other => other,
                }
            }
            other => other,
        };
        Ok(made)
    };
    made.into_iter().zip(records.iter().zip(labels)).map(with_label).collect()
}

fn marked(
    mut example: Example,
    label: bool,
    id: &RecordId,
    (most, overlong): (usize, Overlong),
) -> Result<RecordOutcome> {
    if label {
        return Ok(RecordOutcome::Whole(example));
    }
    let length = example.tokens.len() + 1;
    if length > most {
        match overlong {
            Overlong::Drop => return Ok(RecordOutcome::Dropped),
            Overlong::Error => return Err(too_long(length, most, id)),
            Overlong::Truncate => example.cut(most - 1),
        }
    }
    if example.target_count() == 0 {
        return Ok(RecordOutcome::NothingToLearn);
    }
    let last = example.tokens.last().copied().unwrap_or_default();
    example.tokens.push(last);
    example.loss_mask.push(false);
    Ok(match length > most {
        true => RecordOutcome::Truncated(example),
        false => RecordOutcome::Whole(example),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::data::fixture::{codec, config, two_answers};
    use crate::data::formats::Fields;
    use crate::data::maker::Maker;

    fn made(content: Content, label: Option<serde_json::Value>, most: usize) -> RecordOutcome {
        let codec = codec();
        let mut config = config(&[Path::new("a.jsonl")]);
        (config.max_seq_len, config.overlong, config.labels) = (most, Overlong::Truncate, true);
        let record = RecordId { file: "a.jsonl".into(), line: 1 };
        let left: Fields = label.map(|label| (LABEL.to_owned(), label)).into_iter().collect();
        Maker::new(&codec, &config).make(content, left, &record).unwrap().outcome
    }

    fn runs(outcome: &RecordOutcome) -> Vec<(bool, usize)> {
        let (RecordOutcome::Whole(example) | RecordOutcome::Truncated(example)) = outcome else {
            panic!("there is no example: {outcome:?}");
        };
        example.loss_mask.chunk_by(|one, next| one == next).map(|run| (run[0], run.len())).collect()
    }

    #[test]
    fn an_undesirable_answer_is_followed_by_one_token_that_is_no_target() {
        let desirable = runs(&made(two_answers(), Some(json!(true)), 4096));
        let undesirable = runs(&made(two_answers(), Some(json!(0)), 4096));
        assert_eq!(desirable.iter().map(|run| run.0).collect::<Vec<_>>(), [false, true]);
        assert_eq!(undesirable, [&desirable[..], &[(false, 1)]].concat());
        let completion = || Content::Completion { prompt: "a".into(), completion: " b".into() };
        assert_eq!(runs(&made(completion(), Some(json!(false)), 64)).last(), Some(&(false, 1)));
        // The label has room in a row, whatever else has not.
        let whole: usize = desirable.iter().map(|run| run.1).sum();
        let cut = made(two_answers(), Some(json!(false)), whole);
        assert!(matches!(cut, RecordOutcome::Truncated(_)), "{cut:?}");
        assert_eq!(runs(&cut)[1..], [(true, desirable[1].1 - 1), (false, 1)]);
        assert!(matches!(
            made(two_answers(), Some(json!(false)), desirable[0].1),
            RecordOutcome::NothingToLearn
        ));
    }

    #[test]
    fn what_has_no_label_or_no_answer_is_told_so() {
        let why = |content, label| match made(content, label, 64) {
            RecordOutcome::Bad(why) => why,
            other => panic!("it is used: {other:?}"),
        };
        let missing = "the objective trains on answers with a label, and the column `label` \
                       (`true` or `false`) is missing";
        assert_eq!(why(two_answers(), None), missing);
        let other = "`label` must be `true` or `false`, not `\"good\"`";
        assert_eq!(why(two_answers(), Some(json!("good"))), other);
        assert_eq!(why(Content::Text("text".into()), Some(json!(true))), NO_ANSWER);
    }
}
