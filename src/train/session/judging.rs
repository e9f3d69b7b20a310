//! What the model can do so far: validation loss, and answers to the user's prompts.

use super::Session;
use crate::device;
use crate::engine::{self, Trainer};
use crate::error::{Error, Result};
use crate::event::{EvaluationLine, Event, Observer, Sample};
use crate::model::{Sampling, generate_all};
use crate::random::Stream;
use crate::train::Prepared;

impl Session<'_> {
    /// Validation loss and answers to the prompts, unless this step has them already.
    pub fn evaluate(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.validate(prepared, trainer, observer)?;
        if self.samples.last().is_some_and(|sample| sample.step == trainer.step) {
            return Ok(());
        }
        let trained = trainer.use_averaged();
        let answered = self.answer(prepared, trainer, observer);
        trainer.train_on(trained);
        answered
    }

    /// Answers all prompts at once: a step of the model costs nearly the same for all of them.
    pub(super) fn answer(
        &mut self,
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let (codec, eval) = (&prepared.corpus.codec, &self.config.eval);
        if !eval.prompts.is_empty() {
            observer.on(Event::Doing("the answers to `eval.prompts`".to_owned()));
        }
        let ends: Vec<u32> = codec.stops().iter().copied().collect();
        let prompts: Vec<Vec<u32>> =
            eval.prompts.iter().map(|prompt| codec.prompt(prompt)).collect::<Result<_>>()?;
        let sampling = |number| {
            let stream = Stream::new(self.config.seed).site("samples").number(number);
            Sampling::new(eval.temperature, stream, eval.max_tokens)
        };
        let asked: Vec<(&[u32], Sampling)> = prompts
            .iter()
            .zip(0..)
            .map(|(tokens, number)| (tokens.as_slice(), sampling(number)))
            .collect();
        let mut written = vec![0; asked.len()];
        let mut watch = |prompt: usize, _| {
            written[prompt] += 1;
            if written.iter().take(prompt).all(|count| *count < written[prompt]) {
                let (prompts, most) = (written.len(), eval.max_tokens);
                observer.on(Event::Answering { prompts, done: written[prompt], most });
            }
            true
        };
        let found = device::guarded(prepared.on_gpu(), "answering the prompts", || {
            generate_all(&trainer.model, &asked, &ends, None, &mut watch)
        })??;
        for (prompt, found) in eval.prompts.iter().zip(found) {
            let sample = Sample {
                step: trainer.step,
                prompt: prompt.clone(),
                answer: codec.tokenizer.decode(&found.tokens, true)?,
            };
            observer.on(Event::Sample(sample.clone()));
            self.samples.push(sample);
        }
        Ok(())
    }

    /// Validation loss, unless this step has it already.
    pub fn validate(
        &mut self,
        prepared: &Prepared,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if self.evaluations.last().is_some_and(|found| found.step == trainer.step) {
            return Ok(());
        }
        self.finish_pending_step(observer)?;
        let trained = trainer.use_averaged();
        let measured = self.measure(prepared, trainer, observer);
        trainer.train_on(trained);
        measured
    }

    fn measure(
        &mut self,
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if !prepared.validation.is_empty() {
            observer.on(Event::Doing(format!("the validation after step {}", trainer.step)));
        }
        let chunk = trainer
            .micro_batch_split
            .loss_chunk
            .unwrap_or(prepared.memory_plan().loss_chunk_tokens);
        let judge = |rows| {
            engine::evaluate(
                &trainer.model,
                &*trainer.objective,
                &prepared.validation,
                trainer.step,
                (rows, chunk),
            )
        };
        let whole = device::attempt(prepared.on_gpu(), || judge(trainer.micro_batch_split.rows));
        let found = match whole {
            Ok(found) => found,
            // What is measured does not depend on how many rows are at it together.
            Err(_) => device::guarded(prepared.on_gpu(), "measuring the loss", || judge(Some(1)))?,
        };
        if let Some(mut found) = found {
            found.metrics.extend(self.validation_rewards(prepared, trainer, observer)?);
            if !found.eval_loss.is_finite() {
                let why = format!("after step {} it is {}", found.step, found.eval_loss);
                return Err(Error::not_finite("the validation loss is not finite").because(why));
            }
            observer.on(Event::Evaluation(found.clone()));
            if found.is_due(self.config.eval.every_steps) {
                self.append(&EvaluationLine::from(&found), observer)?;
            }
            self.evaluations.push(found);
        }
        Ok(())
    }

    /// Writes down the validation of the run's end, after its last checkpoint: a run that is
    /// extended from there goes on without it, as one that was so long from its beginning.
    ///
    /// # Errors
    /// When the disk does not take it, and is not waited for.
    pub fn note_end(&mut self, step: u64, observer: &mut dyn Observer) -> Result<()> {
        let every = self.config.eval.every_steps;
        let last = self.evaluations.last().filter(|found| found.step == step);
        let Some(found) = last.filter(|found| !found.is_due(every)) else { return Ok(()) };
        let mut appended = self.metrics.append(&EvaluationLine::from(found));
        loop {
            // A line that was not taken waits in memory, and is written by the next call.
            let lines = appended.and_then(|()| self.metrics.lines());
            match lines.and_then(|(_, _, lines)| lines.sync()) {
                Ok(()) => return Ok(()),
                Err(error) => self.saving.wait_or_give_up(error, observer)?,
            }
            appended = Ok(());
        }
    }
}
