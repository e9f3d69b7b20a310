//! Prompts with an answer to compare with, for objectives that have the model answer itself: what
//! precedes the last answer, and the answer, which is the only run of targets, and whole.

use super::example::RecordOutcome;
use super::formats::Content;
use super::made::{Made, Record};
use super::paired::{last_alone, one_run};

/// Why a record of another shape is not used.
const NO_PROMPT: &str = "the objective asks the model, and this record has no prompt: it is plain \
                         text, or a pair of answers";
/// Why one is not used that is longer than a row.
const CUT: &str = "it is longer than `data.max_seq_len`, and an answer that is cut is nothing to \
                   compare with";

/// Leaves the last answers of conversations as the only targets; what cannot be used says so.
pub fn take(records: &mut [Record]) {
    for record in records {
        match &mut record.content {
            Ok((Content::Chat(chat), _)) => *chat = last_alone(std::mem::take(chat)),
            Ok((Content::Completion { .. }, _)) | Err(_) => {}
            Ok((Content::Text(_) | Content::Preference { .. }, _)) => {
                record.content = Err(NO_PROMPT.to_owned());
            }
        }
    }
}

/// What became of a record, without what follows its answer.
pub fn whole(mut made: Made) -> Made {
    made.outcome = match made.outcome {
        RecordOutcome::Whole(example) => {
            let example = one_run(example);
            // A prompt without a token says nothing to go on from.
            match example.loss_mask.first() {
                Some(false) => RecordOutcome::Whole(example),
                _ => RecordOutcome::NothingToLearn,
            }
        }
        RecordOutcome::Truncated(_) => RecordOutcome::Bad(CUT.to_owned()),
        other => other,
    };
    made
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Overlong;
    use crate::data::example::RecordId;
    use crate::data::fixture::{codec, config, two_answers};
    use crate::data::formats::Fields;
    use crate::data::maker::Maker;

    fn made(content: Content, most: usize) -> RecordOutcome {
        let codec = codec();
        let mut config = config(&[Path::new("a.jsonl")]);
        (config.max_seq_len, config.overlong, config.prompts) = (most, Overlong::Truncate, true);
        let record = RecordId { file: "a.jsonl".into(), line: 1 };
        Maker::new(&codec, &config).make(content, Fields::new(), &record).unwrap().outcome
    }

    #[test]
    fn a_conversation_is_asked_for_its_last_answer() {
        let RecordOutcome::Whole(example) = made(two_answers(), 4096) else { panic!("an example") };
        let runs: Vec<bool> =
            example.loss_mask.chunk_by(|one, next| one == next).map(|run| run[0]).collect();
        assert_eq!(runs, [false, true]);
        let whole = example.tokens.len();
        // The template writes one more token behind it.
        assert!(matches!(made(two_answers(), whole + 1), RecordOutcome::Whole(_)));
        let RecordOutcome::Bad(why) = made(two_answers(), whole - 2) else { panic!("it is cut") };
        assert_eq!(why, CUT);
    }

    #[test]
    fn what_has_no_prompt_is_told_so() {
        let why = |content| match made(content, 64) {
            RecordOutcome::Bad(why) => why,
            other => panic!("it is used: {other:?}"),
        };
        assert_eq!(why(Content::Text("text".into())), NO_PROMPT);
        let completion = Content::Completion { prompt: "a".into(), completion: " b".into() };
        assert!(matches!(made(completion, 64), RecordOutcome::Whole(_)));
    }
}
