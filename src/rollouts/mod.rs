//! What the model writes itself before a step: completions of prompts, what each is worth, and the
//! rows that are learnt from them. Every draw is a function of the run's seed, the step, the
//! prompt's place in it and the completion's number, so that a step that is made again is the same.

mod advantages;
mod prompts;
mod rows;
mod summary;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::advantages::advantages;
pub use self::prompts::{RolloutPrompt, prompts_of};
pub use self::rows::rows_of;
pub use self::summary::summary;
use crate::data::Codec;
use crate::error::Result;
use crate::model::{Model, Sampling, generate_groups};
use crate::objectives::RolloutConfig;
use crate::random::Stream;
use crate::scorers::{ScoredAnswer, Scorer};

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

impl RolloutWriter {
    /// With the settings of a run.
    ///
    /// # Errors
    /// When a reward cannot be used.
    pub fn new(config: &RolloutConfig, seed: u64, max_seq_len: usize) -> Result<Self> {
        let scorers = config.rewards.iter();
        let scorers = scorers.map(|it| Ok((it.name.clone(), it.weight, it.scorer()?)));
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

    /// Completions of all prompts for a step; `watch` hears how many are done.
    ///
    /// # Errors
    /// When the model's scores are not finite, or a reward fails.
    pub fn write(
        &self,
        (model, codec): (&Model, &Codec),
        step: u64,
        prompts: &[RolloutPrompt],
        watch: &mut dyn FnMut(usize),
    ) -> Result<Vec<RolloutGroup>> {
        let ends: Vec<u32> = codec.stops().iter().copied().collect();
        let of_step = Stream::new(self.seed).site("rollouts").number(step);
        let asked: Vec<(&[u32], Vec<Sampling>)> = (0..)
            .zip(prompts)
            .map(|(number, prompt)| {
                let of_prompt = of_step.number(number);
                let room = self.max_seq_len.saturating_sub(prompt.tokens.len());
                let max_tokens = self.config.max_completion_length.min(room.max(1));
                let sampling = |stream| Sampling {
                    filters: self.config.filters,
                    ..Sampling::new(self.config.temperature, stream, max_tokens)
                };
                let samples = 0..self.config.num_generations as u64;
                let samples = samples.map(|sample| sampling(of_prompt.number(sample)));
                (prompt.tokens.as_slice(), samples.collect())
            })
            .collect();
        let written = generate_groups(model, &asked, &ends, watch)?;
        let mut groups = Vec::with_capacity(prompts.len());
        for (prompt, completions) in prompts.iter().zip(written) {
            let completions = completions.into_iter().map(|completion| {
                let text = completion.tokens.len() - usize::from(completion.ended);
                Ok(Rollout {
                    text: codec.tokenizer.decode(&completion.tokens[..text], false)?,
                    tokens: completion.tokens,
                    ended: completion.ended,
                    rewards: BTreeMap::new(),
                    reward: 0.0,
                    advantage: 0.0,
                    log_probs: None,
                })
            });
            groups.push(RolloutGroup {
                step,
                file: prompt.record.file.to_string(),
                line: prompt.record.line,
                reference: prompt.reference_text(codec)?,
                prompt: prompt.tokens.clone(),
                completions: completions.collect::<Result<_>>()?,
            });
        }
        self.reward(codec, &mut groups)?;
        Ok(groups)
    }

    /// Asks all rewards, and makes advantages of what they give.
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
            let asks =
                |error: crate::error::Error| error.because(format!("the reward `{name}` asks it"));
            found.push(scorer.scores(&answers).map_err(asks)?);
        }
        let count = groups.iter().map(|group| group.completions.len()).sum();
        let weighted = self.scorers.iter().zip(&found);
        let mut rewards = vec![0.0; count];
        for ((_, weight, _), scores) in weighted {
            rewards.iter_mut().zip(scores).for_each(|(sum, score)| *sum += weight * score);
        }
        let (scale, baseline) = (self.config.scale_rewards, self.config.baseline);
        let advantages = advantages(&rewards, self.config.num_generations, scale, baseline);
        let completions = groups.iter_mut().flat_map(|group| &mut group.completions);
        for (place, completion) in completions.enumerate() {
            let named = self.scorers.iter().zip(&found);
            completion.rewards =
                named.map(|((name, ..), scores)| (name.clone(), scores[place])).collect();
            completion.reward = rewards[place];
            #[expect(clippy::cast_possible_truncation)] // gradients are f32
            let advantage = advantages[place] as f32;
            completion.advantage = advantage;
        }
        Ok(())
    }
}
