//! What the model can do so far: validation loss, and answers to the user's prompts.

use super::Session;
use crate::device;
use crate::engine::{self, Trainer};
use crate::error::Result;
use crate::event::{Event, Observer, Sample};
use crate::model::{Sampling, generate};
use crate::random::Stream;
use crate::train::Prepared;

impl Session<'_> {
    /// Validation loss and answers to the prompts, unless this step has them already.
    pub fn evaluate(
        &mut self,
        prepared: &Prepared,
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.validate(prepared, trainer, observer)?;
        if self.samples.last().is_some_and(|sample| sample.step == trainer.step) {
            return Ok(());
        }
        let codec = &prepared.corpus.codec;
        let ends: Vec<u32> = codec.stops().iter().copied().collect();
        for (prompt, number) in self.config.eval.prompts.iter().zip(0..) {
            let tokens = codec.prompt(prompt)?;
            let sampling = Sampling {
                temperature: self.config.eval.temperature,
                stream: Stream::new(self.config.seed).site("samples").number(number),
                max_tokens: self.config.eval.max_tokens,
            };
            let found = device::guarded(prepared.on_gpu(), "answering a prompt", || {
                generate(&trainer.model, &tokens, &ends, sampling, &mut |_| true)
            })?;
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
        trainer: &Trainer,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if self.evaluations.last().is_some_and(|found| found.step == trainer.step) {
            return Ok(());
        }
        self.settle(observer)?;
        let chunk = trainer.division.loss_chunk.unwrap_or(self.config.train.loss_chunk_tokens);
        let judge = |rows| {
            engine::evaluate(&trainer.model, &prepared.validation, trainer.step, (rows, chunk))
        };
        let whole = device::attempt(prepared.on_gpu(), || judge(trainer.division.rows));
        let found = match whole {
            Ok(found) => found,
            // What is measured does not depend on how many rows are at it together.
            Err(_) => device::guarded(prepared.on_gpu(), "measuring the loss", || judge(Some(1)))?,
        };
        if let Some(found) = found {
            observer.on(Event::Evaluation(found));
            self.evaluations.push(found);
        }
        Ok(())
    }
}
