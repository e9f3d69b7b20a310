//! Texts with labels as examples, for objectives that score them: the whole text, and behind it its
//! labels in tokens of their own, which alone are targets. What comes later changes nothing of what
//! a decoder makes of the last token of the text, and so no row, window or cache need know of
//! labels.

use std::ops::Range;

use serde_json::Value;

use super::batch::{Batch, Target};
use super::ends_of_runs::too_long;
use super::example::{Example, RecordId, RecordOutcome};
use super::formats::Content;
use super::made::{Made, Record};
use crate::config::{Overlong, ProblemType, ScoreHead};
use crate::error::{Result, nearest};

/// The column of labels.
pub const LABEL: &str = "label";
/// Labels of which one token tells: every vocabulary has so many tokens as four bits make.
const LABELS_A_TOKEN: usize = 4;
/// Four bits.
const DIGIT: u32 = 0xf;
/// Tokens that a number takes: the bits of an f32, four each.
const NUMBER_TOKENS: usize = 8;
/// Why a record of another shape is not used.
const PAIR: &str =
    "the objective trains on texts with a label, and this record is a pair of answers";

/// What a text is to be scored as.
#[derive(Debug, Clone, PartialEq)]
pub enum TextLabel {
    /// The number of its only label.
    One(usize),
    /// Which labels it has.
    Several(Vec<bool>),
    /// A number for each label.
    Numbers(Vec<f32>),
}

impl TextLabel {
    /// As tokens, which every vocabulary has for so many labels.
    pub fn tokens(&self) -> Vec<u32> {
        match self {
            Self::One(number) => vec![u32::try_from(*number).expect("labels are few")],
            Self::Several(all) => {
                let bits = |some: &[bool]| {
                    some.iter().rev().fold(0, |bits, has| 2 * bits + u32::from(*has))
                };
                all.chunks(LABELS_A_TOKEN).map(bits).collect()
            }
            Self::Numbers(all) => {
                let digits = |number: &f32| {
                    let bits = number.to_bits();
                    (0..NUMBER_TOKENS).map(move |digit| bits >> (LABELS_A_TOKEN * digit) & DIGIT)
                };
                all.iter().flat_map(digits).collect()
            }
        }
    }

    /// As a number for each of so many labels: 1 for those that the text has, else 0.
    pub fn numbers(&self, labels: usize) -> Vec<f64> {
        let share = |has: bool| if has { 1.0 } else { 0.0 };
        match self {
            Self::One(number) => (0..labels).map(|label| share(label == *number)).collect(),
            Self::Several(all) => all.iter().map(|has| share(*has)).collect(),
            Self::Numbers(all) => all.iter().map(|number| f64::from(*number)).collect(),
        }
    }

    /// From those tokens; none where they are too few.
    pub fn of_tokens(problem: ProblemType, labels: usize, tokens: &[u32]) -> Option<Self> {
        Some(match problem {
            ProblemType::SingleLabel => Self::One(*tokens.first()? as usize),
            ProblemType::MultiLabel => {
                let has = |label: usize| {
                    let bits = tokens.get(label / LABELS_A_TOKEN)?;
                    Some(bits >> (label % LABELS_A_TOKEN) & 1 == 1)
                };
                Self::Several((0..labels).map(has).collect::<Option<_>>()?)
            }
            ProblemType::Regression => {
                let digits = tokens.get(..labels * NUMBER_TOKENS)?.chunks_exact(NUMBER_TOKENS);
                let number = |digits: &[u32]| {
                    let bits = digits.iter().rev();
                    f32::from_bits(bits.fold(0, |bits, digit| bits << LABELS_A_TOKEN | digit))
                };
                Self::Numbers(digits.map(number).collect())
            }
        })
    }

    /// What the column of a record says.
    ///
    /// # Errors
    /// Why it is no label, in words.
    pub fn read(head: &ScoreHead, value: &Value) -> std::result::Result<Self, String> {
        let number_of = |name: &str| {
            head.number_of(name).ok_or_else(|| {
                let shown = name.escape_debug();
                let near = nearest(name, head.labels.iter().map(String::as_str));
                let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                format!("`{LABEL}` is `{shown}`, which is not one of the labels{near}")
            })
        };
        match head.problem_type {
            Some(ProblemType::MultiLabel) => {
                let mut has = vec![false; head.labels.len()];
                for name in names_in(value)? {
                    has[number_of(&name)?] = true;
                }
                Ok(Self::Several(has))
            }
            Some(ProblemType::Regression) | None => {
                let list = match value {
                    Value::Array(list) => list.as_slice(),
                    one => std::slice::from_ref(one),
                };
                let count = head.labels.len();
                if list.len() != count {
                    return Err(format!(
                        "`{LABEL}` has {} numbers, and there are {count} labels",
                        list.len()
                    ));
                }
                let numbers = list.iter().map(|value| {
                    #[expect(clippy::cast_possible_truncation)] // models compute in f32
                    let number = value.as_f64().map(|number| number as f32);
                    number
                        .filter(|number| number.is_finite())
                        .ok_or_else(|| format!("`{LABEL}` must be a number, not `{value}`"))
                });
                numbers.collect::<std::result::Result<_, _>>().map(Self::Numbers)
            }
            Some(ProblemType::SingleLabel) => number_of(&name_in(value)?).map(Self::One),
        }
    }
}

/// The name of a label: a text, a whole number, `true` or `false`.
fn name_in(value: &Value) -> std::result::Result<String, String> {
    match value {
        Value::String(name) => Ok(name.clone()),
        Value::Bool(_) => Ok(value.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        other => Err(format!("`{LABEL}` must be the name or the number of a label, not `{other}`")),
    }
}

fn names_in(value: &Value) -> std::result::Result<Vec<String>, String> {
    match value {
        Value::Array(names) => names.iter().map(name_in).collect(),
        other => Err(format!("`{LABEL}` must be a list of labels, not `{other}`")),
    }
}

/// The names of labels in a column, for those who look for all of them.
pub fn names(problem: ProblemType, value: &Value) -> Vec<String> {
    match problem {
        ProblemType::MultiLabel => names_in(value).unwrap_or_default(),
        ProblemType::SingleLabel => name_in(value).into_iter().collect(),
        ProblemType::Regression => Vec::new(),
    }
}

/// Takes the labels out of records; what cannot be used says so.
pub fn take(records: &mut [Record], head: &ScoreHead) -> Vec<Option<TextLabel>> {
    let taken = records.iter_mut().map(|record| {
        let Ok((content, left)) = &mut record.content else { return None };
        let label = match (left.remove(LABEL), &content) {
            (_, Content::Preference { .. }) => Err(PAIR.to_owned()),
            (None | Some(Value::Null), _) => {
                Err(format!("the objective trains on texts with a label, and `{LABEL}` is missing"))
            }
            (Some(value), _) => TextLabel::read(head, &value),
        };
        label.map_err(|why| record.content = Err(why)).ok()
    });
    taken.collect()
}

/// Puts the labels behind what became of the records; `end` is the token that was put behind plain
/// texts, which no tokenizer of transformers puts there.
///
/// # Errors
/// When a text has no room for its labels in a row, and the settings say that this ends the run.
pub fn mark(
    made: Vec<Made>,
    (records, labels): (&[Record], Vec<Option<TextLabel>>),
    end: Option<u32>,
    row: (usize, Overlong),
) -> Result<Vec<Made>> {
    let with_label = |(mut made, (record, label)): (Made, (&Record, Option<TextLabel>))| {
        let chat = matches!(record.content, Ok((Content::Chat(_), _)));
        made.outcome = match (made.outcome, label) {
            (RecordOutcome::Whole(mut example), Some(label)) => {
                if !chat && end.is_some() && example.tokens.last().copied() == end {
                    example.cut(example.tokens.len() - 1);
                }
                marked(example, &label, &record.id, row)?
            }
            (other, _) => other,
        };
        Ok(made)
    };
    made.into_iter().zip(records.iter().zip(labels)).map(with_label).collect()
}

fn marked(
    mut example: Example,
    label: &TextLabel,
    id: &RecordId,
    (most, overlong): (usize, Overlong),
) -> Result<RecordOutcome> {
    let tokens = label.tokens();
    let length = example.tokens.len() + tokens.len();
    if length > most {
        match overlong {
            Overlong::Drop => return Ok(RecordOutcome::Dropped),
            Overlong::Error => return Err(too_long(length, most, id)),
            Overlong::Truncate => example.cut(most.saturating_sub(tokens.len())),
        }
    }
    if example.tokens.is_empty() {
        return Ok(RecordOutcome::NothingToLearn);
    }
    example.loss_mask.fill(false);
    example.loss_mask.extend(tokens.iter().map(|_| true));
    example.tokens.extend(tokens);
    Ok(match length > most {
        true => RecordOutcome::Truncated(example),
        false => RecordOutcome::Whole(example),
    })
}

/// The batch with one target for each text: its last token, and the first of those that tell its
/// labels.
pub fn arranged(batch: &Batch) -> Batch {
    let targets = runs(batch).into_iter().map(|run| batch.targets[run.start]).collect();
    Batch { targets, ..batch.clone() }
}

/// How many texts with labels there are, arranged or not.
pub fn count(batch: &Batch) -> u64 {
    runs(batch).len() as u64
}

/// The targets of each document.
fn runs(batch: &Batch) -> Vec<Range<usize>> {
    let row = |target: &Target| target.index as usize / batch.length.max(1);
    let document = |target: &Target| (row(target), batch.documents[target.index as usize]);
    let mut begin = 0;
    let run = |run: &[Target]| {
        begin += run.len();
        begin - run.len()..begin
    };
    batch.targets.chunk_by(|one, next| document(one) == document(next)).map(run).collect()
}

/// The labels of each text of an arranged batch; none where they were cut off.
pub fn labels(batch: &Batch, problem: ProblemType, count: usize) -> Vec<Option<TextLabel>> {
    let label = |target: &Target| {
        let place = target.index as usize;
        let end = (place / batch.length.max(1) + 1) * batch.length;
        TextLabel::of_tokens(problem, count, &batch.tokens[place + 1..end])
    };
    batch.targets.iter().map(label).collect()
}
