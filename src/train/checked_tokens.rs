//! How many tokens gradients are compared on before the first step.

use crate::config::{DataConfig, RunConfig};
use crate::device::{Arithmetic, ComputeConfig};
use crate::engine::{CheckBudget, Workload};
use crate::model::Description;
use crate::objectives;
use crate::ops::cpu::Products;

/// Documents that are pairs or have labels cannot be cut; longer ones are not compared.
pub(super) const WHOLE_TOKENS_MAX: usize = 1024;
pub(super) const TOO_COSTLY: &str =
    "it would take more than some seconds, and more than 3 % of the run";

/// What comparing may cost, of a run of so many steps whose rows have at most `length` tokens, and
/// whose frozen weights have so many numbers in codes.
///
/// # Errors
/// Why this run is not compared, for its record.
pub(super) fn budget(
    (config, description): (&RunConfig, &Description),
    (total_steps, length): (u64, usize),
    on_gpu: bool,
    (computing, coded): (ComputeConfig, u64),
) -> Result<CheckBudget, &'static str> {
    if !on_gpu && Products::of(computing).is_none() {
        return Err("the run is computed by tensor operations itself");
    }
    if description.experts().next().is_some() && computing.arithmetic != Arithmetic::F32 {
        return Err(
            "of two experts that are nearly as good, rounding to 16 bits may choose either",
        );
    }
    let train = &config.train;
    let rows = train.micro_batch_size.saturating_mul(train.gradient_accumulation_steps);
    let tokens_of_run = total_steps.saturating_mul(rows.saturating_mul(length) as u64);
    let reference = objectives::chosen(&config.owned).needs_reference();
    let budget = CheckBudget::new(description, coded, tokens_of_run, reference);
    let budget = if on_gpu { budget.beside_gpu(description) } else { budget };
    if budget.allows(budget.tokens()) { Ok(budget) } else { Err(TOO_COSTLY) }
}

/// How many tokens are compared at most where the run computes; none where that is left out, and
/// on a GPU, beside which the host has them.
pub(super) fn tokens(
    work: &Workload,
    model: (&RunConfig, &Description),
    total_steps: u64,
) -> usize {
    if work.on_gpu {
        return 0;
    }
    let extent = (total_steps, work.length);
    let computed = (work.computing(), work.coded.0);
    let Ok(budget) = budget(model, extent, false, computed) else { return 0 };
    let config = model.0;
    let whole = work.length.saturating_mul(config.train.micro_batch_size);
    match Units::of(&config.data) {
        Units::Tokens => budget.tokens().min(work.length),
        Units::Answers | Units::Documents => budget.tokens().max(whole.min(WHOLE_TOKENS_MAX)),
    }
}

/// What a loss is the mean over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// Tokens of texts, which may be cut.
    Tokens,
    /// Those of answers to prompts: they are short, and of few targets, rounding is more of a
    /// gradient.
    Answers,
    /// Documents, which are pairs or have labels.
    Documents,
}

impl Units {
    /// Of what the data is read for.
    pub fn of(data: &DataConfig) -> Self {
        match data.no_pairs.is_none() || data.labels {
            true => Self::Documents,
            false if data.prompts => Self::Answers,
            false => Self::Tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kernels;
    use crate::model::{ModelJson, families};
    use crate::settings;

    /// Rows of 48 tokens in ten steps are fewer than those that are worth a comparison of sixteen,
    /// however long they might be.
    #[test]
    fn the_part_of_a_run_is_one_of_the_rows_that_there_are() {
        let text = "[model]\nbase = \"base\"\n[[data.train]]\npath = \"a.jsonl\"\n[train]\n\
                    micro_batch_size = 1\ngradient_accumulation_steps = 1\n";
        let loaded = settings::parse("run.toml".as_ref(), text.as_bytes(), &[]).unwrap();
        let json = serde_json::json!({
            "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "num_hidden_layers": 32,
            "vocab_size": 128_000,
        });
        let description = families::describe(&ModelJson::from_value(json)).unwrap();
        let computing = ComputeConfig { kernels: Kernels::Fast, ..ComputeConfig::default() };
        let found =
            |length| budget((&loaded.config, &description), (10, length), false, (computing, 0));
        assert_eq!(found(48), Err(TOO_COSTLY));
        assert!(found(96).is_ok());
    }
}
