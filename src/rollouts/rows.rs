//! Completions as rows to learn from.

use super::RolloutGroup;
use crate::data::{Batch, RecordId, SampledToken, Target};

/// Micro-batches of so many rows, a completion after its prompt in each, in their order; with
/// `mask_truncated`, what did not end is left out of the loss.
pub fn rows_of(groups: &[RolloutGroup], rows: usize, mask_truncated: bool) -> Vec<Batch> {
    let all: Vec<(&RolloutGroup, usize)> = groups
        .iter()
        .filter(|group| !group.unused)
        .flat_map(|group| (0..group.completions.len()).map(move |number| (group, number)))
        .collect();
    all.chunks(rows.max(1)).map(|rows| micro_batch(rows, mask_truncated)).collect()
}

fn micro_batch(rows: &[(&RolloutGroup, usize)], mask_truncated: bool) -> Batch {
    let long = |(group, number): &(&RolloutGroup, usize)| {
        group.prompt.len() + group.completions[*number].tokens.len()
    };
    let length = rows.iter().map(long).max().unwrap_or(0);
    let mut batch = Batch { rows: rows.len(), length, ..Batch::default() };
    for (row, (group, number)) in rows.iter().enumerate() {
        let completion = &group.completions[*number];
        let used = group.prompt.len() + completion.tokens.len();
        let first = row * length + group.prompt.len() - 1;
        for (place, token) in completion.tokens.iter().enumerate() {
            let index = u32::try_from(first + place).expect("a batch has less than 2^32 tokens");
            batch.targets.push(Target { index, token: *token });
            batch.sampled.push(SampledToken {
                advantage: completion.advantage,
                log_prob: completion.log_probs.as_ref().map(|all| all[place]),
                masked: mask_truncated && !completion.ended,
            });
        }
        batch.tokens.extend(group.prompt.iter().chain(&completion.tokens));
        batch.documents.resize(row * length + used, 1);
        batch.positions.extend((0..).take(used));
        for list in [&mut batch.tokens, &mut batch.documents, &mut batch.positions] {
            list.resize((row + 1) * length, 0);
        }
        batch.sources.push(vec![RecordId { file: group.file.as_str().into(), line: group.line }]);
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rollouts::Rollout;

    fn rollout(tokens: &[u32], ended: bool, advantage: f32) -> Rollout {
        Rollout {
            text: String::new(),
            tokens: tokens.to_vec(),
            ended,
            rewards: BTreeMap::new(),
            reward: 0.0,
            advantage,
            log_probs: Some(tokens.iter().map(|_| -0.5).collect()),
        }
    }

    #[test]
    fn a_completion_is_what_its_row_is_trained_on() {
        let group = RolloutGroup {
            step: 1,
            file: "a.jsonl".to_owned(),
            line: 4,
            prompt: vec![1, 2],
            reference: String::new(),
            completions: vec![
                rollout(&[3, 4, 9], true, 0.5),
                rollout(&[5], false, -0.5),
                rollout(&[9], true, 0.0),
            ],
            unused: false,
        };
        let unused = RolloutGroup { unused: true, ..group.clone() };
        let batches = rows_of(&[unused, group], 2, true);
        assert_eq!(batches.len(), 2);
        let first = &batches[0];
        assert_eq!((first.rows, first.length), (2, 5));
        assert_eq!(first.tokens, [1, 2, 3, 4, 9, 1, 2, 5, 0, 0]);
        assert_eq!(first.documents, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(first.positions, [0, 1, 2, 3, 4, 0, 1, 2, 0, 0]);
        let targets: Vec<_> = first.targets.iter().map(|it| (it.index, it.token)).collect();
        assert_eq!(targets, [(1, 3), (2, 4), (3, 9), (6, 5)]);
        let masked: Vec<bool> = first.sampled.iter().map(|token| token.masked).collect();
        assert_eq!(masked, [false, false, false, true]);
        assert_eq!(first.sampled[3].advantage, -0.5);
        assert_eq!(first.sampled[0].log_prob, Some(-0.5));
        assert_eq!(first.describe_rows(), ["a.jsonl:4", "a.jsonl:4"]);
        assert_eq!((batches[1].rows, batches[1].length), (1, 3));
    }
}
