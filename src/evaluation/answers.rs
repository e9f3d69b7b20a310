//! What a model answers to each question, and how good the answers are.

use std::time::Instant;

use rayon::prelude::*;

use super::task::Task;
use crate::data::{Case, Codec, Question};
use crate::device;
use crate::error::{Error, Result};
use crate::model::{Model, Sampling, generate};
use crate::random::Stream;
use crate::scorers::ScoredAnswer;

/// An answer, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text, without the token that ended it.
    pub text: String,
    /// New tokens.
    pub tokens: u64,
    /// Until the first token was there.
    pub first_seconds: f64,
    /// In all.
    pub seconds: f64,
}

/// The likeliest answers to the questions of these cases, in their order. On the CPU several are
/// made at the same time; each is the same as if it were made alone.
pub fn answers(
    model: &Model,
    codec: &Codec,
    questions: &[(usize, &Question)],
    max_tokens: usize,
    at_once: bool,
    progress: &(dyn Fn() + Sync),
) -> Result<Vec<Answer>> {
    let ends: Vec<u32> = codec.stops().iter().copied().collect();
    let one = |(_, question): &(usize, &Question)| -> Result<Answer> {
        let began = Instant::now();
        let mut first = None;
        let sampling = Sampling::new(0.0, Stream::new(0), max_tokens);
        let mut watch = |_| {
            first.get_or_insert_with(|| began.elapsed().as_secs_f64());
            true
        };
        let made = device::room_for(1).and_then(|()| {
            let work = || generate(model, &question.tokens, &ends, sampling, &mut watch);
            device::attempt(!at_once, work)
        });
        let made = made.map_err(|failure| failure.while_doing("answering a question"))??;
        let seconds = began.elapsed().as_secs_f64();
        progress();
        Ok(Answer {
            text: codec.tokenizer.decode(&made.tokens, false)?,
            tokens: made.tokens.len() as u64,
            first_seconds: first.unwrap_or(seconds),
            seconds,
        })
    };
    match at_once {
        true => questions.par_iter().map(one).collect(),
        false => questions.iter().map(one).collect(),
    }
}

/// The cases that a task asks: those with a question, and of more than its limit those with the
/// smallest digests.
pub fn asked<'a>(task: &Task, cases: &'a [Case]) -> Result<Vec<(usize, &'a Question)>> {
    let all = (0..).zip(cases).filter_map(|(place, case)| Some((place, case.question.as_ref()?)));
    let mut chosen: Vec<(usize, &Question)> =
        all.filter(|(_, question)| !question.tokens.is_empty()).collect();
    if chosen.is_empty() {
        return Err(Error::evaluation(format!("the task `{}` has nothing to ask", task.name))
            .because("no record has an answer of its own: they are plain text")
            .hint("tasks are for conversations, and for prompts with completions"));
    }
    if task.max_records > 0 {
        chosen.sort_by_key(|(place, _)| (cases[*place].digest, *place));
        chosen.truncate(usize::try_from(task.max_records).unwrap_or(usize::MAX));
        chosen.sort_by_key(|(place, _)| *place);
    }
    Ok(chosen)
}

/// How good each answer is: 1 or 0, or what a program says.
///
/// # Errors
/// When the program fails or says something else than a number for each.
pub fn judge(
    task: &Task,
    cases: &[Case],
    questions: &[(usize, &Question)],
    answers: &[Answer],
) -> Result<Vec<f64>> {
    let ids: Vec<String> =
        questions.iter().map(|(place, _)| cases[*place].record.to_string()).collect();
    let asked = questions.iter().zip(answers).zip(&ids);
    let answers: Vec<ScoredAnswer> = asked
        .map(|(((place, question), answer), id)| ScoredAnswer {
            id,
            prompt: &question.prompt,
            answer: &answer.text,
            reference: &question.reference,
            record: Some(&cases[*place].fields),
        })
        .collect();
    let scored = task.scorer.scores(&answers);
    scored.map_err(|error| error.hint(format!("the task `{}` asks it", task.name)))
}
