//! The prompts of a step, as the data has them: each in a row with the answer of its record.

use crate::data::{Batch, Codec, RecordId};
use crate::error::Result;

/// What the model is asked, and what its record has for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPrompt {
    /// Where it stands.
    pub record: RecordId,
    /// Up to what introduces the answer.
    pub tokens: Vec<u32>,
    /// The tokens of the record's answer.
    pub answer: Vec<u32>,
}

/// The prompts of rows that are not packed, in their order.
pub fn prompts_of(batches: &[Batch]) -> Vec<RolloutPrompt> {
    let mut prompts = Vec::new();
    for batch in batches {
        let row = |index: u32| index as usize / batch.length.max(1);
        for targets in batch.targets.chunk_by(|one, next| row(one.index) == row(next.index)) {
            let (row, first) = (row(targets[0].index), targets[0].index as usize);
            let record = batch.sources.get(row).and_then(|sources| sources.first());
            prompts.push(RolloutPrompt {
                record: record.cloned().unwrap_or_else(|| RecordId { file: "".into(), line: 0 }),
                // The token at a target's place is the one before it.
                tokens: batch.tokens[row * batch.length..=first].to_vec(),
                answer: targets.iter().map(|target| target.token).collect(),
            });
        }
    }
    prompts
}

impl RolloutPrompt {
    /// How many tokens may follow it: at most so many, in a row of at most `max_seq_len`.
    pub fn room(&self, max_seq_len: usize, most: usize) -> usize {
        most.min(max_seq_len.saturating_sub(self.tokens.len()).max(1))
    }

    /// The record's answer, without the token that ends it and what follows that.
    ///
    /// # Errors
    /// When the tokenizer cannot write it.
    pub fn reference_text(&self, codec: &Codec) -> Result<String> {
        let end = self.answer.iter().rposition(|token| codec.stops().contains(token));
        let answer = &self.answer[..end.unwrap_or(self.answer.len())];
        codec.tokenizer.decode(answer, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Target;

    #[test]
    fn a_row_is_a_prompt_and_an_answer() {
        let record = |line| RecordId { file: "a.jsonl".into(), line };
        let batch = Batch {
            rows: 2,
            length: 5,
            tokens: vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 0],
            positions: [0, 1, 2, 3, 4].repeat(2),
            documents: vec![1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
            targets: [(2, 4), (3, 5), (6, 8)]
                .map(|(index, token)| Target { index, token })
                .to_vec(),
            sources: vec![vec![record(3)], vec![record(9)]],
            ..Batch::default()
        };
        let prompt = |line, tokens: &[u32], answer: &[u32]| RolloutPrompt {
            record: record(line),
            tokens: tokens.to_vec(),
            answer: answer.to_vec(),
        };
        assert_eq!(
            prompts_of(&[batch]),
            [prompt(3, &[1, 2, 3], &[4, 5]), prompt(9, &[6, 7], &[8])]
        );
    }
}
