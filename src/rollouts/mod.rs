//! What the model writes itself before a step: completions of prompts, what each is worth, and the
//! rows that are learnt from them. Every draw is a function of the run's seed, the step, the
//! prompt's place in it and the completion's number, so that a step that is made again is the same.

mod advantages;
mod on_policy;
mod prompts;
mod rows;
mod summary;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::advantages::advantages;
use self::advantages::deviation;
pub use self::on_policy::{OnPolicyAnswer, OnPolicyWriter, WeighedPrompt, last_answers_of};
pub use self::prompts::{RolloutPrompt, prompts_of};
pub use self::rows::rows_of;
pub use self::summary::{on_policy_summary, summary, validation_summary};
use crate::data::Codec;
use crate::error::{Error, Result};
use crate::model::{Model, Sampling, generate_groups};
use crate::objectives::RolloutConfig;
use crate::random::Stream;
use crate::scorers::{ScoredAnswer, Scorer};

/// Rewards that deviate less are all the same.
const SAME: f64 = 1e-8;

/// A prompt with all its completions, as a line of `rollouts.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutGroup {
    /// The step that they were written for, from 1.
    pub step: u64,
    /// The file of the record.
    pub file: String,
    /// Its line there.
    pub line: u64,
    /// The tokens of the prompt.
    pub prompt: Vec<u32>,
    /// The record's own answer.
    pub reference: String,
    /// What the model wrote.
    pub completions: Vec<Rollout>,
    /// Whether nothing is learnt from it, since others have rewards that differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
}

impl RolloutGroup {
    /// Whether completions of it got different rewards: there is something to learn.
    pub fn differs(&self) -> bool {
        let rewards: Vec<f64> = self.completions.iter().map(|it| it.reward).collect();
        deviation(&rewards) >= SAME
    }
}

/// A completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Without the token that ended it.
    pub text: String,
    /// All its tokens.
    pub tokens: Vec<u32>,
    /// Whether the model ended it.
    pub ended: bool,
    /// What each reward gave, by its name.
    pub rewards: BTreeMap<String, f64>,
    /// The weighted sum.
    pub reward: f64,
    /// How much better than expected that is.
    pub advantage: f32,
    /// Of each token, in nats, by the model that wrote it; where more than one step is made with
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_probs: Option<Vec<f32>>,
}

/// Writes completions and values them.
pub struct RolloutWriter {
    config: RolloutConfig,
    /// With names and weights.
    scorers: Vec<(String, f64, Scorer)>,
    seed: u64,
    max_seq_len: usize,
}

/// Where draws come from.
struct SampleDraws {
    stream: Stream,
    /// What they are for.
    step: u64,
    /// So many other prompts come before.
    first: usize,
    /// Completions of each prompt.
    samples: usize,
}

impl RolloutWriter {
    /// With the settings of a run.
    ///
    /// # Errors
    /// When a reward cannot be used.
    pub fn new(config: &RolloutConfig, seed: u64, max_seq_len: usize) -> Result<Self> {
        let scorers = config.rewards.iter();
        let scorers = scorers.map(|it| {
            let scorer = it.scorer()?;
            let asks =
                |error: Error| error.because(format!("the reward `{}` asks for it", it.name));
            scorer.check().map_err(asks)?;
            Ok((it.name.clone(), it.weight, scorer))
        });
        Ok(Self {
            config: config.clone(),
            scorers: scorers.collect::<Result<_>>()?,
            seed,
            max_seq_len,
        })
    }

    /// What it was made with.
    pub fn config(&self) -> &RolloutConfig {
        &self.config
    }

    /// Completions of prompts for a step that learns from `most` of them; `watch` hears how many
    /// are done. Where there are more prompts, they are answered in their order until so many have
    /// rewards that differ.
    ///
    /// # Errors
    /// When the model's scores are not finite, or a reward fails.
    pub fn write(
        &self,
        by: (&Model, &Codec),
        step: u64,
        prompts: &[RolloutPrompt],
        most: usize,
        watch: &mut dyn FnMut(usize),
    ) -> Result<Vec<RolloutGroup>> {
        let mut groups: Vec<RolloutGroup> = Vec::new();
        for prompts in prompts.chunks(most.max(1)) {
            let (first, samples) = (groups.len(), self.config.num_generations);
            let mut watch = |done| watch(first * samples + done);
            let of_step = Stream::new(self.seed).site("rollouts").number(step);
            let draws = SampleDraws { stream: of_step, step, first, samples };
            groups.append(&mut self.answered(by, &draws, prompts, &mut watch)?);
            if groups.iter().filter(|group| group.differs()).count() >= most {
                break;
            }
        }
        choose(&mut groups, most);
        self.compare(&mut groups);
        Ok(groups)
    }

    /// A completion of each prompt, which nothing is learnt from: the same draws at any step.
    ///
    /// # Errors
    /// When the model's scores are not finite, or a reward fails.
    pub fn write_for_validation(
        &self,
        by: (&Model, &Codec),
        prompts: &[RolloutPrompt],
        watch: &mut dyn FnMut(usize),
    ) -> Result<Vec<RolloutGroup>> {
        let stream = Stream::new(self.seed).site("validation rollouts");
        self.answered(by, &SampleDraws { stream, step: 0, first: 0, samples: 1 }, prompts, watch)
    }

    /// Completions of prompts with their rewards.
    fn answered(
        &self,
        (model, codec): (&Model, &Codec),
        draws: &SampleDraws,
        prompts: &[RolloutPrompt],
        watch: &mut dyn FnMut(usize),
    ) -> Result<Vec<RolloutGroup>> {
        let ends: Vec<u32> = codec.stops().iter().copied().collect();
        let asked: Vec<(&[u32], Vec<Sampling>)> = (draws.first as u64..)
            .zip(prompts)
            .map(|(number, prompt)| {
                let of_prompt = draws.stream.number(number);
                let most = self.config.max_completion_length;
                let max_tokens = prompt.room(self.max_seq_len, most);
                let sampling = |stream| Sampling {
                    filters: self.config.filters,
                    ..Sampling::new(self.config.temperature, stream, max_tokens)
                };
                let samples = 0..draws.samples as u64;
                let samples = samples.map(|sample| sampling(of_prompt.number(sample)));
                (prompt.tokens.as_slice(), samples.collect())
            })
            .collect();
        let written = generate_groups(model, &asked, &ends, watch)?;
        let mut groups = Vec::with_capacity(prompts.len());
        for (prompt, completions) in prompts.iter().zip(written) {
            let completions = completions.into_iter().map(|completion| {
                Ok(Rollout {
                    text: codec.tokenizer.decode(completion.said(), false)?,
                    tokens: completion.tokens,
                    ended: completion.ended,
                    rewards: BTreeMap::new(),
                    reward: 0.0,
                    advantage: 0.0,
                    log_probs: None,
                })
            });
            groups.push(RolloutGroup {
                step: draws.step,
                file: prompt.record.file.to_string(),
                line: prompt.record.line,
                reference: prompt.reference_text(codec)?,
                prompt: prompt.tokens.clone(),
                completions: completions.collect::<Result<_>>()?,
                unused: false,
            });
        }
        self.reward(codec, &mut groups)?;
        Ok(groups)
    }

    /// Asks all rewards.
    fn reward(&self, codec: &Codec, groups: &mut [RolloutGroup]) -> Result<()> {
        let prompts = groups.iter().map(|group| codec.tokenizer.decode(&group.prompt, false));
        let prompts: Vec<String> = prompts.collect::<Result<_>>()?;
        let ids: Vec<String> =
            groups.iter().map(|group| format!("{}:{}", group.file, group.line)).collect();
        let mut found: Vec<Vec<f64>> = Vec::new();
        for (name, _, scorer) in &self.scorers {
            let groups = groups.iter().zip(prompts.iter().zip(&ids));
            let answers: Vec<ScoredAnswer> = groups
                .flat_map(|(group, (prompt, id))| {
                    group.completions.iter().map(move |completion| ScoredAnswer {
                        id,
                        prompt,
                        answer: &completion.text,
                        reference: &group.reference,
                        record: None,
                    })
                })
                .collect();
            let asks = |error: Error| error.because(format!("the reward `{name}` asks it"));
            found.push(scorer.scores(&answers).map_err(asks)?);
        }
        let completions = groups.iter_mut().flat_map(|group| &mut group.completions);
        for (place, completion) in completions.enumerate() {
            for ((name, weight, _), scores) in self.scorers.iter().zip(&found) {
                completion.rewards.insert(name.clone(), scores[place]);
                completion.reward += weight * scores[place];
            }
        }
        Ok(())
    }

    /// Makes advantages of the rewards of what is learnt from.
    fn compare(&self, groups: &mut [RolloutGroup]) {
        let used = || groups.iter().filter(|group| !group.unused);
        let rewards: Vec<f64> =
            used().flat_map(|group| group.completions.iter().map(|it| it.reward)).collect();
        let (scale, baseline) = (self.config.scale_rewards, self.config.baseline);
        let advantages = advantages(&rewards, self.config.num_generations, scale, baseline);
        let used = groups.iter_mut().filter(|group| !group.unused);
        let completions = used.flat_map(|group| &mut group.completions);
        for (completion, advantage) in completions.zip(advantages) {
            #[expect(clippy::cast_possible_truncation)] // gradients are f32
            let advantage = advantage as f32;
            completion.advantage = advantage;
        }
    }
}

/// Leaves so many prompts to learn from: the first of which rewards differ, then the first others.
fn choose(groups: &mut [RolloutGroup], most: usize) {
    let differ: Vec<bool> = groups.iter().map(RolloutGroup::differs).collect();
    let mut room = most;
    for wanted in [true, false] {
        for (group, _) in groups.iter_mut().zip(&differ).filter(|(_, differs)| **differs == wanted)
        {
            group.unused = room == 0;
            room = room.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rewards: [f64; 2]) -> RolloutGroup {
        let completion = |reward| Rollout {
            text: String::new(),
            tokens: vec![1],
            ended: true,
            rewards: BTreeMap::new(),
            reward,
            advantage: 0.0,
            log_probs: None,
        };
        RolloutGroup {
            step: 1,
            file: "a.jsonl".to_owned(),
            line: 1,
            prompt: vec![1],
            reference: String::new(),
            completions: rewards.map(completion).to_vec(),
            unused: false,
        }
    }

    fn unused(rewards: &[[f64; 2]], most: usize) -> Vec<bool> {
        let mut groups: Vec<RolloutGroup> = rewards.iter().copied().map(group).collect();
        choose(&mut groups, most);
        groups.iter().map(|group| group.unused).collect()
    }

    #[test]
    fn prompts_whose_rewards_differ_come_first() {
        let rewards = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]];
        assert_eq!(unused(&rewards, 4), [false; 4]);
        assert_eq!(unused(&rewards, 3), [false, false, true, false]);
        assert_eq!(unused(&rewards, 2), [true, false, true, false]);
        assert_eq!(unused(&rewards, 1), [true, false, true, true]);
    }
}
