//! What an adapter gained, and what is left of it once it was merged: the validation loss of base,
//! adapter and merged model on the data that the adapter's run was measured on.

use std::path::Path;
use std::sync::Arc;

use super::card::Sample;
use super::origin::Origin;
use crate::config::Loaded;
use crate::data::{self, BaseTokenizer, Batch, Codec, Extent};
use crate::engine::{self, ReferenceLogProbs};
use crate::error::{Error, Result};
use crate::event::Evaluation;
use crate::files::cache_home;
use crate::hub::Supply;
use crate::model::{Model, Sampling, generate_all};
use crate::objectives;
use crate::random::Stream;
use crate::settings;

/// A gain smaller than this, in nats for each target token, is none: to speak of shares of it would
/// be to speak of rounding.
const GAIN_MIN: f64 = 1e-5;

/// Validation tokens that are measured at most: three models read them, on the CPU.
const TOKENS_MAX: u64 = 32_768;

/// The data and the prompts of a run, at hand again.
pub struct Trial {
    loaded: Loaded,
    codec: Arc<Codec>,
    batches: Vec<Batch>,
    /// What the loss is measured on, as the lineage calls it.
    pub dataset: String,
}

/// Three models on the same data.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What they were measured on.
    pub dataset: String,
    /// Validation loss of the base, in nats for each target token.
    pub base: f64,
    /// That of the base with the adapter beside it.
    pub adapter: f64,
    /// That of the merged model.
    pub merged: f64,
    /// Target tokens that were evaluated.
    pub target_tokens: u64,
    /// Whether the loss is a likelihood of tokens.
    pub of_tokens: bool,
}

impl Measured {
    /// The share of the adapter's gain that the merged model lacks; none where there was no gain.
    pub fn lost(&self) -> Option<f64> {
        let gain = self.base - self.adapter;
        (gain > GAIN_MIN).then(|| (self.merged - self.adapter) / gain)
    }
}

impl Trial {
    /// The data of the run that an adapter lies in, if it is still what the run was measured on.
    ///
    /// # Errors
    /// Why it is not at hand.
    pub fn find(origin: &Origin, supply: &Arc<Supply>) -> Result<Self> {
        let run = origin.model.path.parent().map(|run| run.join("config.toml"));
        let Some(config) = run.filter(|config| config.is_file()) else {
            return Err(Error::evaluation("the adapter does not lie in the folder of its run"));
        };
        let loaded = settings::load(&config, &[])?;
        // Earlier lineages have all settings, those of places among them.
        if ![&loaded.portable(), &loaded.resolved].contains(&&origin.past.resolved) {
            return Err(Error::evaluation(
                "the settings beside the adapter are not those of its lineage",
            ));
        }
        let (settings, cache) = (&loaded.config, cache_home()?);
        let (extent, most) = (Extent::AsNeeded, settings.eval.max_records);
        let data = data::with_labels(&settings.data, supply)?;
        let tokenizer = BaseTokenizer::of(&settings.model, &origin.base.path)?;
        let corpus = data::open(&data, tokenizer, supply, &cache, extent, most)?;
        for file in corpus.files() {
            let known = |set: &&super::past::CardDataset| set.sha256 == file.file.sha256;
            if !origin.past.datasets.iter().any(|set| known(&set)) {
                let what = format!("`{}` is not what the run read", file.file.path);
                return Err(Error::evaluation(what));
            }
        }
        let mut batches = data::validation_batches(
            &corpus.validation,
            &settings.data,
            settings.train.micro_batch_size,
        );
        if batches.is_empty() {
            return Err(Error::evaluation("its run had no validation data"));
        }
        let shortened = shorten(&mut batches, TOKENS_MAX);
        let sets = &origin.past.datasets;
        let set = sets.iter().find(|set| set.split.contains("validation")).or(sets.first());
        let mut dataset = set.map(|set| set.name.clone()).unwrap_or_default();
        if let Some((kept, all)) = shortened {
            dataset.push_str(&format!(" (the first {kept} of {all} tokens)"));
        }
        Ok(Self { codec: corpus.codec.clone(), batches, dataset, loaded })
    }

    /// Tokens that each model reads.
    pub fn tokens(&self) -> u64 {
        self.batches.iter().map(Batch::tokens_without_padding).sum()
    }

    /// What the base of a model with an adapter makes of the data, for losses that compare with it.
    pub fn reference(&self, adapted: &Model) -> ReferenceLogProbs {
        let chunk = self.loaded.config.train.loss_chunk_tokens;
        let objective = objectives::chosen(&self.loaded.config.owned);
        engine::reference_of(adapted, &*objective, &self.batches, chunk)
    }

    /// The validation loss of a model, beside the same reference for all that are compared.
    pub fn loss(&self, model: &Model, reference: &ReferenceLogProbs) -> Result<Evaluation> {
        let chunk = self.loaded.config.train.loss_chunk_tokens;
        let objective = objectives::chosen(&self.loaded.config.owned);
        let found = engine::evaluate_beside(model, &*objective, &self.batches, reference, chunk);
        let found =
            found.ok_or_else(|| Error::evaluation("the validation data has no target tokens"))?;
        match found.eval_loss.is_finite() {
            true => Ok(found),
            false => Err(Error::not_finite("the validation loss is not finite")),
        }
    }

    /// A model's answers to the prompts of the run.
    pub fn answers(&self, model: &Model) -> Result<Vec<String>> {
        let config = &self.loaded.config;
        let eval = &config.eval;
        let ends: Vec<u32> = self.codec.stops().iter().copied().collect();
        let prompts: Vec<Vec<u32>> =
            eval.prompts.iter().map(|prompt| self.codec.prompt(prompt)).collect::<Result<_>>()?;
        let sampling = |number: u64| {
            let stream = Stream::new(config.seed).site("samples").number(number);
            Sampling::new(eval.temperature, stream, eval.max_tokens)
        };
        let asked: Vec<(&[u32], Sampling)> = prompts
            .iter()
            .zip(0..)
            .map(|(tokens, number)| (tokens.as_slice(), sampling(number)))
            .collect();
        let made = generate_all(model, &asked, &ends, None, &mut |_, _| true)?;
        made.iter().map(|made| self.codec.tokenizer.decode(&made.tokens, true)).collect()
    }

    /// The prompts, with the answers of two models.
    pub fn samples(&self, before: Vec<String>, after: Vec<String>) -> Vec<Sample> {
        let prompts = self.loaded.config.eval.prompts.iter().cloned();
        prompts
            .zip(before)
            .zip(after)
            .map(|((prompt, before), after)| Sample { prompt, before, after })
            .collect()
    }
}

/// Leaves batches of at most so many tokens, one at least; tells how many are left of how many
/// where any were left out.
fn shorten(batches: &mut Vec<Batch>, most: u64) -> Option<(u64, u64)> {
    let counts: Vec<u64> = batches.iter().map(Batch::tokens_without_padding).collect();
    let mut sum = 0;
    let fits = |count: &&u64| {
        sum += **count;
        sum <= most
    };
    let kept = counts.iter().take_while(fits).count().max(1);
    batches.truncate(kept);
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    (kept < counts.len()).then(|| (sum(&counts[..kept]), sum(&counts)))
}

/// Where a run is looked for beside its artifact, in words.
pub fn not_at_hand(error: &Error, folder: &Path) -> String {
    let why: Vec<&str> = std::iter::once(error.what.as_str())
        .chain(error.causes.iter().map(String::as_str))
        .collect();
    format!("the validation data of `{}` is not at hand: {}", folder.display(), why.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_validation_data_is_measured_in_part() {
        let batch = |tokens: usize| Batch {
            rows: 1,
            length: tokens,
            tokens: vec![1; tokens],
            positions: (0..).take(tokens).collect(),
            documents: vec![1; tokens],
            ..Batch::default()
        };
        let left = |most| {
            let mut batches = vec![batch(10), batch(20), batch(30)];
            let told = shorten(&mut batches, most);
            (batches.len(), told)
        };
        assert_eq!(left(60), (3, None));
        assert_eq!(left(59), (2, Some((30, 60))));
        assert_eq!(left(5), (1, Some((10, 60))));
    }

    #[test]
    fn what_is_lost_is_a_share_of_the_gain() {
        let measured = |base, adapter, merged| Measured {
            dataset: "d".to_owned(),
            base,
            adapter,
            merged,
            target_tokens: 1,
            of_tokens: true,
        };
        assert_eq!(measured(3.0, 2.0, 2.25).lost(), Some(0.25));
        assert_eq!(measured(3.0, 2.0, 1.5).lost(), Some(-0.5));
        assert_eq!(measured(2.0, 2.0, 2.5).lost(), None);
        assert_eq!(measured(2.0, 3.0, 2.5).lost(), None);
    }
}
