//! Pairs of answers as examples, for objectives that learn from them: what precedes the chosen
//! answer and the answer, then the same with the rejected one, all in one example. So both are in
//! one row, whatever packing, shuffling and micro-batches do. Targets are the two answers alone,
//! each in one run: that is how the objective finds them.

use super::ends_of_runs::too_long;
use super::example::{Example, Made, Maker, Outcome, Record};
use super::formats::{Content, Conversation};
use crate::config::Overlong;
use crate::error::Result;

/// Why a record of another shape is not used.
const NO_PAIR: &str = "the objective learns from pairs of answers (`chosen`, `rejected`), and the \
     record is none";

/// What becomes of pairs, in their order.
///
/// # Errors
/// Those of [`Maker::make_all`].
pub fn make_pairs(maker: &Maker, records: &mut [Record]) -> Result<Vec<Made>> {
    let answers = maker.of_answers();
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
    let mut made = answers.make_all(&mut sides)?.into_iter();
    let mut pairs = Vec::with_capacity(records.len());
    while let (Some(chosen), Some(rejected)) = (made.next(), made.next()) {
        let record = &records[pairs.len()];
        pairs.push(joined(maker, chosen, rejected, record)?);
    }
    Ok(pairs)
}

/// The conversation with its last answer as the only target.
fn last_alone(mut conversation: Conversation) -> Conversation {
    let is_answer = |message: &&serde_json::Value| message["role"] == "assistant";
    let answers = conversation.messages.iter().filter(is_answer).count();
    conversation.not_targets = (0..answers.saturating_sub(1)).collect();
    conversation
}

fn joined(maker: &Maker, mut one: Made, other: Made, record: &Record) -> Result<Made> {
    one.unused.extend(other.unused);
    one.undefined.extend(other.undefined);
    one.lossy |= other.lossy;
    let named = |which: &str, why: String| Outcome::Bad(format!("the {which} answer: {why}"));
    one.outcome = match (one.outcome, other.outcome) {
        (Outcome::Bad(why), Outcome::Bad(same)) if why == same => Outcome::Bad(why),
        (Outcome::Bad(why), _) => named("chosen", why),
        (_, Outcome::Bad(why)) => named("rejected", why),
        (Outcome::Whole(chosen), Outcome::Whole(rejected)) => {
            let [chosen, rejected] = [chosen, rejected].map(one_run);
            fit(maker, chosen, rejected, record)?
        }
        _ => Outcome::NothingToLearn,
    };
    Ok(one)
}

/// Without what follows the last target, which nothing is predicted from, and with everything
/// between the first and the last one as a target.
fn one_run(mut example: Example) -> Example {
    let first = example.learn.iter().position(|target| *target).unwrap_or(0);
    let end = example.learn.iter().rposition(|target| *target).map_or(0, |last| last + 1);
    example.tokens.truncate(end);
    example.learn.truncate(end);
    example.learn[first..].fill(true);
    example
}

/// One example of both, no longer than a row. Where it is cut, each answer keeps half a row, or
/// what the other one leaves.
fn fit(
    maker: &Maker,
    mut chosen: Example,
    mut rejected: Example,
    record: &Record,
) -> Result<Outcome> {
    let most = maker.max_seq_len;
    let (length, other) = (chosen.tokens.len(), rejected.tokens.len());
    let cut = length + other > most;
    if cut {
        match maker.overlong {
            Overlong::Drop => return Ok(Outcome::Dropped),
            Overlong::Error => return Err(too_long(length + other, most, &record.id)),
            Overlong::Truncate => {
                let half = most / 2;
                let room = half.max(most.saturating_sub(other));
                chosen.tokens.truncate(room);
                chosen.learn.truncate(room);
                let room = most - chosen.tokens.len();
                rejected.tokens.truncate(room);
                rejected.learn.truncate(room);
            }
        }
    }
    // A pair of which one answer is gone is no pair.
    if chosen.learnt() == 0 || rejected.learnt() == 0 {
        return Ok(Outcome::NothingToLearn);
    }
    chosen.tokens.extend(rejected.tokens);
    chosen.learn.extend(rejected.learn);
    Ok(if cut { Outcome::Truncated(chosen) } else { Outcome::Whole(chosen) })
}
