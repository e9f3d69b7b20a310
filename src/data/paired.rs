//! Pairs of answers as examples, for objectives that learn from them: what precedes the chosen
//! answer and the answer, then the same with the rejected one, all in one example. So both are in
//! one row, whatever packing, shuffling and micro-batches do. Targets are the two answers alone,
//! each in one run: that is how the objective finds them.

use super::ends_of_runs::too_long;
use super::example::{Example, RecordId, RecordOutcome};
use super::formats::{Content, Conversation};
use super::made::{Made, Record};
use crate::config::Overlong;
use crate::error::Result;

/// Why a record of another shape is not used.
const NO_PAIR: &str =
    "the objective trains on pairs of answers (`chosen`, `rejected`), and this record is not one";

/// Both answers of each pair as records of their own, the chosen one first; what was no pair says
/// so.
pub fn answers(records: &mut [Record]) -> Vec<Record> {
    let mut sides: Vec<Record> = Vec::with_capacity(2 * records.len());
    for record in records.iter_mut() {
        let id = record.id.clone();
        let side = |content| Record { id: id.clone(), content };
        match std::mem::replace(&mut record.content, Err(String::new())) {
            Ok((Content::Preference { chosen, rejected }, left)) => {
                sides.push(side(Ok((Content::Chat(last_alone(chosen)), left))));
                sides.push(side(Ok((Content::Chat(last_alone(rejected)), <_>::default()))));
            }
            Ok(_) => sides.extend([side(Err(NO_PAIR.to_owned())), side(Err(NO_PAIR.to_owned()))]),
            Err(why) => sides.extend([side(Err(why.clone())), side(Err(why))]),
        }
    }
    sides
}

/// What becomes of pairs, in their order, from what became of their [`answers`], each of which
/// becomes [`one_run`] or [`whole`].
///
/// # Errors
/// When a pair is longer than a row and the settings say that this ends the run.
pub fn join(
    made: Vec<Made>,
    records: &[Record],
    side: fn(Example) -> Example,
    row: (usize, Overlong),
) -> Result<Vec<Made>> {
    let mut made = made.into_iter();
    let mut pairs = Vec::with_capacity(records.len());
    while let (Some(chosen), Some(rejected)) = (made.next(), made.next()) {
        let id = &records[pairs.len()].id;
        pairs.push(joined(chosen, rejected, id, side, row)?);
    }
    Ok(pairs)
}

/// The conversation with its last answer as the only target.
pub fn last_alone(mut conversation: Conversation) -> Conversation {
    conversation.as_context();
    conversation.not_targets.pop_last();
    conversation
}

fn joined(
    mut one: Made,
    other: Made,
    id: &RecordId,
    side: fn(Example) -> Example,
    row: (usize, Overlong),
) -> Result<Made> {
    one.unused.extend(other.unused);
    one.undefined.extend(other.undefined);
    one.lossy |= other.lossy;
    let named = |which: &str, why: String| RecordOutcome::Bad(format!("the {which} answer: {why}"));
    one.outcome = match (one.outcome, other.outcome) {
        (RecordOutcome::Bad(why), RecordOutcome::Bad(same)) if why == same => {
            RecordOutcome::Bad(why)
        }
        (RecordOutcome::Bad(why), _) => named("chosen", why),
        (_, RecordOutcome::Bad(why)) => named("rejected", why),
        (RecordOutcome::Whole(chosen), RecordOutcome::Whole(rejected)) => {
            let [chosen, rejected] = [chosen, rejected].map(side);
            fit(chosen, rejected, id, row)?
        }
        _ => RecordOutcome::NothingToLearn,
    };
    Ok(one)
}

/// Without what follows the last target, which nothing is predicted from, and with everything
/// between the first and the last one as a target.
pub fn one_run(mut example: Example) -> Example {
    let first = example.loss_mask.iter().position(|target| *target).unwrap_or(0);
    let end = example.loss_mask.iter().rposition(|target| *target).map_or(0, |last| last + 1);
    example.tokens.truncate(end);
    example.loss_mask.truncate(end);
    example.loss_mask[first..].fill(true);
    example
}

/// The same with what follows the last target, up to the end of the conversation: what a model that
/// scores conversations is given (`whole_conversation` of the codec).
pub fn whole(mut example: Example) -> Example {
    let first = example.loss_mask.iter().position(|target| *target);
    if let Some(first) = first {
        example.loss_mask[first..].fill(true);
    }
    example
}

/// One example of both, no longer than a row. Where it is cut, each answer keeps half a row, or
/// what the other one leaves.
fn fit(
    mut chosen: Example,
    mut rejected: Example,
    id: &RecordId,
    (most, overlong): (usize, Overlong),
) -> Result<RecordOutcome> {
    let (length, other) = (chosen.tokens.len(), rejected.tokens.len());
    let cut = length + other > most;
    if cut {
        match overlong {
            Overlong::Drop => return Ok(RecordOutcome::Dropped),
            Overlong::Error => return Err(too_long(length + other, most, id)),
            Overlong::Truncate => {
                let half = most / 2;
                let room = half.max(most.saturating_sub(other));
                chosen.tokens.truncate(room);
                chosen.loss_mask.truncate(room);
                let room = most - chosen.tokens.len();
                rejected.tokens.truncate(room);
                rejected.loss_mask.truncate(room);
            }
        }
    }
    // A pair of which one answer is gone is no pair.
    if chosen.target_count() == 0 || rejected.target_count() == 0 {
        return Ok(RecordOutcome::NothingToLearn);
    }
    chosen.tokens.extend(rejected.tokens);
    chosen.loss_mask.extend(rejected.loss_mask);
    Ok(if cut { RecordOutcome::Truncated(chosen) } else { RecordOutcome::Whole(chosen) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::config::TrainOn;
    use crate::data::example::RecordId;
    use crate::data::fixture::{codec, config};
    use crate::data::formats::Fields;
    use crate::data::maker::Maker;
    use crate::snapshots::says;

    fn conversation(answers: &[&str]) -> Conversation {
        let turns = answers.iter().flat_map(|answer| {
            [
                json!({ "role": "user", "content": "What is it?" }),
                json!({ "role": "assistant", "content": answer }),
            ]
        });
        Conversation { messages: turns.collect(), ..Conversation::default() }
    }

    fn pair(chosen: &[&str], rejected: &[&str]) -> Content {
        Content::Preference { chosen: conversation(chosen), rejected: conversation(rejected) }
    }

    fn made(content: Content, max_seq_len: usize, overlong: Overlong) -> Result<RecordOutcome> {
        let codec = codec();
        let mut config = config(&[Path::new("a.jsonl")]);
        (config.max_seq_len, config.overlong, config.no_pairs) = (max_seq_len, overlong, None);
        let record = RecordId { file: "a.jsonl".into(), line: 1 };
        let maker = Maker::new(&codec, &config);
        Ok(maker.make(content, Fields::new(), &record)?.outcome)
    }

    /// Runs of tokens that are targets or not, by length.
    fn runs(example: &Example) -> Vec<(bool, usize)> {
        example.loss_mask.chunk_by(|one, next| one == next).map(|run| (run[0], run.len())).collect()
    }

    #[test]
    fn the_last_answers_are_the_targets_each_in_one_run() {
        let content = pair(&["It is 4.", "Four."], &["It is 5.", "Five, I think."]);
        let RecordOutcome::Whole(example) = made(content, 4096, Overlong::Error).unwrap() else {
            panic!("it is whole");
        };
        let runs = runs(&example);
        assert_eq!(runs.iter().map(|run| run.0).collect::<Vec<_>>(), [false, true, false, true]);
        assert!(runs[3].1 > runs[1].1, "{runs:?}");
        let RecordOutcome::Whole(alone) =
            made(pair(&["Four."], &["Five, I think."]), 4096, Overlong::Error).unwrap()
        else {
            panic!("it is whole");
        };
        let targets = [1, 3].map(|at| runs[at].1);
        assert_eq!(targets, [1, 3].map(|at| self::runs(&alone)[at].1), "earlier answers are none");
        // Both begin with a conversation from its start.
        let chosen = runs[0].1 + runs[1].1;
        assert_eq!(example.tokens[..8], example.tokens[chosen..chosen + 8]);
    }

    #[test]
    fn pairs_that_are_too_long_are_cut_on_both_sides_left_out_or_refused() {
        let long = "two and two is four ".repeat(40);
        let content = || pair(&["Four."], &[&long]);
        let RecordOutcome::Truncated(example) = made(content(), 100, Overlong::Truncate).unwrap()
        else {
            panic!("it is cut");
        };
        assert_eq!((example.tokens.len(), runs(&example).len()), (100, 4));
        assert!(matches!(made(content(), 100, Overlong::Drop).unwrap(), RecordOutcome::Dropped));
        let error = made(content(), 100, Overlong::Error).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[data]: a record has 491 tokens, and `data.max_seq_len` is 100
  at a.jsonl:1:1

hint: set `data.overlong` to `truncate` or `drop`, or raise `data.max_seq_len`
"#]],
        );
        // Nothing of an answer is left: then there is no pair.
        let cut = made(content(), 8, Overlong::Truncate).unwrap();
        assert!(matches!(cut, RecordOutcome::NothingToLearn), "{cut:?}");
    }

    #[test]
    fn what_is_no_pair_is_told_so_and_pairs_need_their_objective() {
        let RecordOutcome::Bad(why) =
            made(Content::Text("text".to_owned()), 64, Overlong::Drop).unwrap()
        else {
            panic!("it is not a pair");
        };
        assert_eq!(why, NO_PAIR);
        let codec = codec();
        let mut config = config(&[Path::new("a.jsonl")]);
        config.train_on = TrainOn::Assistant;
        config.no_pairs = Some("another one does".to_owned());
        let record = RecordId { file: "a.jsonl".into(), line: 1 };
        let maker = Maker::new(&codec, &config);
        let error = maker.make(pair(&["a"], &["b"]), Fields::new(), &record).unwrap_err();
        says(
            &error,
            snapbox::str![[r#"
error[pairs]: the objective does not learn from pairs of answers
  at a.jsonl:1:1

hint: with `columns = { messages = "chosen" }` and `format = "messages"` the chosen answers are trained on

hint: another one does
"#]],
        );
    }
}
