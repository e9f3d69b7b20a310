//! Answers that the model writes itself to prompts of the data, in the place of theirs, for a
//! teacher to score (Agarwal et al. 2024, "On-Policy Distillation of Language Models"). Whether a
//! step has them is a function of the run's seed and the step, as is every draw.

use serde::{Deserialize, Serialize};

use super::RolloutPrompt;
use crate::data::{
    Batch, Codec, CorpusEntry, Example, Packing, RecordId, SampledToken, Target, pack,
};
use crate::error::Result;
use crate::files::Digest;
use crate::model::{Completion, Model, Sampling, generate_groups};
use crate::objectives::OnPolicyConfig;
use crate::random::Stream;

/// A prompt of the data with what its record's tokens count.
#[derive(Debug, Clone, PartialEq)]
pub struct WeighedPrompt {
    /// What precedes the last answer of the record, and that answer.
    pub prompt: RolloutPrompt,
    /// What the loss of its targets is multiplied with.
    pub weight: f32,
}

/// What the model answered, as a line of `rollouts.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnPolicyAnswer {
    /// The step that it was written for, from 1.
    pub step: u64,
    /// The file of the record.
    pub file: String,
    /// Its line there.
    pub line: u64,
    /// The tokens of the prompt.
    pub prompt: Vec<u32>,
    /// The record's own answer.
    pub reference: String,
    /// What the model wrote, without the token that ended it.
    pub text: String,
    /// All its tokens.
    pub tokens: Vec<u32>,
    /// Whether the model ended it.
    pub ended: bool,
}

/// Has a model answer prompts.
pub struct OnPolicyWriter {
    config: OnPolicyConfig,
    seed: u64,
    max_seq_len: usize,
    packing: Packing,
}

impl OnPolicyWriter {
    /// With the settings of a run, of which rows have at most `max_seq_len` tokens.
    pub fn new(config: OnPolicyConfig, seed: u64, max_seq_len: usize, packing: Packing) -> Self {
        Self { config, seed, max_seq_len, packing }
    }

    /// Whether the model answers itself in a step, from 1: in `lmbda` of all, each for itself.
    pub fn writes(&self, step: u64) -> bool {
        Stream::new(self.seed).site("on-policy steps").number(step).uniform(0) < self.config.lmbda
    }

    /// An answer to each prompt; `watch` hears how many are done.
    ///
    /// # Errors
    /// When the model's scores are not finite, or the tokenizer cannot write the text.
    pub fn write(
        &self,
        (model, codec): (&Model, &Codec),
        step: u64,
        prompts: &[WeighedPrompt],
        watch: &mut dyn FnMut(usize),
    ) -> Result<Vec<OnPolicyAnswer>> {
        let ends: Vec<u32> = codec.stops().iter().copied().collect();
        let of_step = Stream::new(self.seed).site("on-policy answers").number(step);
        let asked: Vec<(&[u32], Vec<Sampling>)> = (0..)
            .zip(prompts)
            .map(|(number, WeighedPrompt { prompt, .. })| {
                let most = prompt.room(self.max_seq_len, self.config.max_new_tokens);
                let draws = of_step.number(number);
                (&*prompt.tokens, vec![Sampling::new(self.config.temperature, draws, most)])
            })
            .collect();
        let written = generate_groups(model, &asked, &ends, watch)?.into_iter().flatten();
        let answer = |(of, completion): (&WeighedPrompt, Completion)| {
            let prompt = &of.prompt;
            Ok(OnPolicyAnswer {
                step,
                file: prompt.record.file.to_string(),
                line: prompt.record.line,
                prompt: prompt.tokens.clone(),
                reference: prompt.reference_text(codec)?,
                text: codec.tokenizer.decode(completion.said(), false)?,
                tokens: completion.tokens,
                ended: completion.ended,
            })
        };
        prompts.iter().zip(written).map(answer).collect()
    }

    /// Micro-batches of so many rows to learn from, packed as those of the data are.
    pub fn rows(
        &self,
        prompts: &[WeighedPrompt],
        answers: &[OnPolicyAnswer],
        rows: usize,
    ) -> Vec<Batch> {
        let entry = |(of, answer): (&WeighedPrompt, &OnPolicyAnswer)| {
            let tokens = [&answer.prompt[..], &answer.tokens].concat();
            let begin = answer.prompt.len();
            let loss_mask = (0..tokens.len()).map(|place| place >= begin).collect();
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            CorpusEntry {
                record: of.prompt.record.clone(),
                digest: Digest::of(&bytes),
                weight: of.weight,
                margin: 0.0,
                example: Example { tokens, loss_mask },
            }
        };
        let entries: Vec<CorpusEntry> = prompts.iter().zip(answers).map(entry).collect();
        let lengths = (0..).zip(entries.iter().map(|entry| entry.example.tokens.len()));
        let packed = pack(lengths, self.max_seq_len, self.packing);
        let packed = packed.iter().map(|row| row.iter().map(|at| &entries[*at as usize]).collect());
        let packed: Vec<Vec<&CorpusEntry>> = packed.collect();
        let micro_batch = |rows: &[Vec<&CorpusEntry>]| {
            let mut batch = Batch::new(rows);
            let own = SampledToken { advantage: 0.0, log_prob: None, masked: false };
            batch.sampled = vec![own; batch.targets.len()];
            batch
        };
        packed.chunks(rows.max(1)).map(micro_batch).collect()
    }
}

/// What precedes the last answer of each document that has target tokens, in their order.
pub fn last_answers_of(batches: &[Batch]) -> Vec<WeighedPrompt> {
    let mut prompts = Vec::new();
    for batch in batches {
        for (places, targets) in batch.documents_with_targets() {
            let of = &batch.targets[targets.clone()];
            let gap = of.windows(2).rposition(|pair| pair[0].index + 1 != pair[1].index);
            let begin = gap.map_or(0, |gap| gap + 1);
            let answer: &[Target] = &of[begin..];
            let row = places.start / batch.length.max(1);
            let number = batch.documents[places.start] as usize;
            let record = batch.sources.get(row).and_then(|all| all.get(number.checked_sub(1)?));
            prompts.push(WeighedPrompt {
                prompt: RolloutPrompt {
                    record: record
                        .cloned()
                        .unwrap_or_else(|| RecordId { file: "".into(), line: 0 }),
                    // The token at a target's place is the one before it.
                    tokens: batch.tokens[places.start..=answer[0].index as usize].to_vec(),
                    answer: answer.iter().map(|target| target.token).collect(),
                },
                weight: batch.weights.get(targets.start + begin).copied().unwrap_or(1.0),
            });
        }
    }
    prompts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: u64) -> RecordId {
        RecordId { file: "a.jsonl".into(), line }
    }

    fn entry(line: u64, weight: f32, tokens: &[u32], targets: &[bool]) -> CorpusEntry {
        CorpusEntry {
            record: record(line),
            digest: Digest::of(b""),
            weight,
            margin: 0.0,
            example: Example { tokens: tokens.to_vec(), loss_mask: targets.to_vec() },
        }
    }

    fn writer(lmbda: f64, packing: Packing) -> OnPolicyWriter {
        let config = OnPolicyConfig { lmbda, temperature: 1.0, max_new_tokens: 4 };
        OnPolicyWriter::new(config, 7, 8, packing)
    }

    #[test]
    fn a_document_is_a_prompt_and_its_last_answer() {
        let [no, yes] = [false, true];
        let two = entry(3, 2.0, &[1, 2, 3, 4, 5, 6], &[no, yes, no, no, yes, yes]);
        let text = entry(9, 1.0, &[7, 8], &[no, yes]);
        let silent = entry(5, 1.0, &[7, 8, 9], &[no; 3]);
        let batch = Batch::new(&[vec![&silent, &two], vec![&text]]);
        let prompt = |line, weight, tokens: &[u32], answer: &[u32]| WeighedPrompt {
            prompt: RolloutPrompt {
                record: record(line),
                tokens: tokens.to_vec(),
                answer: answer.to_vec(),
            },
            weight,
        };
        let wanted = [prompt(3, 2.0, &[1, 2, 3, 4], &[5, 6]), prompt(9, 1.0, &[7], &[8])];
        assert_eq!(last_answers_of(&[batch]), wanted);
    }

    #[test]
    fn answers_are_packed_as_the_data_are() {
        let [no, yes] = [false, true];
        let one = entry(3, 2.0, &[1, 2, 3], &[no, no, yes]);
        let other = entry(4, 0.5, &[5, 6], &[no, yes]);
        let prompts = last_answers_of(&[Batch::new(&[vec![&one, &other]])]);
        let answer = |of: &WeighedPrompt, tokens: &[u32]| OnPolicyAnswer {
            step: 1,
            file: of.prompt.record.file.to_string(),
            line: of.prompt.record.line,
            prompt: of.prompt.tokens.clone(),
            reference: String::new(),
            text: String::new(),
            tokens: tokens.to_vec(),
            ended: true,
        };
        let answers = [answer(&prompts[0], &[8, 9, 10]), answer(&prompts[1], &[11, 12])];
        let packed = writer(1.0, Packing::BestFit).rows(&prompts, &answers, 1);
        assert_eq!(packed.len(), 1);
        let batch = &packed[0];
        assert_eq!(batch.tokens, [1, 2, 8, 9, 10, 5, 11, 12]);
        assert_eq!(batch.documents, [1, 1, 1, 1, 1, 2, 2, 2]);
        let targets: Vec<_> = batch.targets.iter().map(|it| (it.index, it.token)).collect();
        assert_eq!(targets, [(1, 8), (2, 9), (3, 10), (5, 11), (6, 12)]);
        assert_eq!(batch.weights, [2.0, 2.0, 2.0, 0.5, 0.5]);
        assert_eq!((batch.sampled.len(), batch.describe_rows()), (5, packed[0].describe_rows()));
        assert_eq!(batch.describe_rows(), ["a.jsonl:3, a.jsonl:4"]);
        let apart = writer(1.0, Packing::None).rows(&prompts, &answers, 1);
        assert_eq!(apart.iter().map(|batch| batch.length).collect::<Vec<_>>(), [5, 3]);
    }

    #[test]
    fn the_share_of_steps_is_lambda_and_a_step_is_drawn_for_itself() {
        let count = |lmbda| {
            let writer = writer(lmbda, Packing::None);
            (1..=2000).filter(|step| writer.writes(*step)).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 2000));
        let some = count(0.3);
        assert!((540..=660).contains(&some), "{some}");
        let writer = writer(0.5, Packing::None);
        let once: Vec<bool> = (1..=40).map(|step| writer.writes(step)).collect();
        let again: Vec<bool> = (1..=40).rev().map(|step| writer.writes(step)).rev().collect();
        assert_eq!(once, again);
    }
}
