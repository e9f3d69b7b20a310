//! Everything that a config may say: the one list of the keys that parts of the program own beside
//! those of `config` itself. Whoever reads a config reads it through here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::adapters::{self, Adapter};
use crate::config::{self, Loaded, Overlong, Reuse, RunConfig, TrainOn, ValSize};
use crate::data::AddedTokens;
use crate::document::{Effect, KeyTable, Override};
use crate::engine::{optimizers, parameter_group_keys};
use crate::error::{Error, Result};
use crate::objectives::{self, Objective, Records, RolloutConfig};
use crate::trackers;
use crate::weights::formats;

/// All keys, in the order in which they are shown.
pub static KEYS: LazyLock<KeyTable> = LazyLock::new(|| {
    let owned = [
        adapters::keys(),
        formats::keys(),
        optimizers::keys(),
        parameter_group_keys(),
        objectives::keys(),
        trackers::keys(),
    ];
    config::keys(owned.concat())
});

/// Reads a config file and puts the overrides (`key=value`) over it.
///
/// # Errors
/// All problems of the file and the overrides at once, in the order of their places.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded> {
    config::load(&KEYS, path, overrides).and_then(|loaded| of_objective(loaded, path))
}

/// Reads the bytes of a config; `path` is for messages and for the default of `name`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, bytes: &[u8], overrides: &[String]) -> Result<Loaded> {
    put_over(path, bytes, config::of_options(overrides))
}

/// Reads the bytes of a config with values put over it that other files may have written.
///
/// # Errors
/// As [`load`]; what is wrong with a value is told where it was written.
pub fn put_over(path: &Path, bytes: &[u8], overrides: Vec<Override>) -> Result<Loaded> {
    config::parse(&KEYS, path, bytes, overrides).and_then(|loaded| of_objective(loaded, path))
}

/// Tells the data what the objective wants of it.
fn of_objective(mut loaded: Loaded, path: &Path) -> Result<Loaded> {
    let entry = objectives::entry(&loaded.config.owned);
    let pairs = entry.records == Records::Pairs;
    loaded.config.data.no_pairs = (!pairs).then(objectives::hint_of_pairs);
    loaded.config.data.labels = entry.records == Records::Labels;
    loaded.config.data.prompts = entry.records == Records::Prompts;
    let objective = objectives::chosen(&loaded.config.owned);
    loaded.config.data.whole_pairs = pairs && objective.score_head().is_some();
    loaded.config.data.margin = objective.margin_column().map(str::to_owned);
    if entry.records == Records::Texts {
        loaded.config.data.score_head = objective.score_head();
    }
    if objective.score_head().is_some() {
        refuse_for_scores(&loaded.config, entry.name).map_err(|error| error.at(path))?;
    }
    let data = &loaded.config.data;
    let validates = !data.validation.is_empty() || data.val_size != ValSize::None;
    objective.check(validates).map_err(|error| error.at(path))?;
    if entry.records != Records::Any && loaded.config.data.train_on != TrainOn::Assistant {
        let (of, hint) = match entry.records {
            Records::Pairs => {
                ("pairs", "the two answers of a pair are compared, not what precedes them")
            }
            Records::Texts => ("labels of texts", "a label is that of the whole text"),
            Records::Prompts => ("rewards", "the model's own answers are learnt from"),
            _ => ("labels", "a label is that of an answer, not of what precedes it"),
        };
        let what = format!(
            "`data.train_on = \"{}\"` has no effect on an objective that trains on {of}",
            loaded.config.data.train_on.name()
        );
        return Err(Error::config(what).at(path).hint(format!("remove it: {hint}")));
    }
    if data.sample_weight.is_some() && !objective.weighs_tokens() {
        let name = entry.name;
        let what =
            format!("`data.sample_weight` cannot be used with `train.objective = \"{name}\"`");
        return Err(Error::config(what)
            .at(path)
            .because("it weighs the losses of tokens, of which this objective's is no sum")
            .hint(format!("remove it, or train with {}", objectives::that_weigh_tokens())));
    }
    if objective.needs_reference() && adapters::of_run(&loaded.config).is_none() {
        let name = entry.name;
        let what = format!("`train.objective = \"{name}\"` needs an adapter");
        let others = match entry.records {
            Records::Prompts => "leave `grpo.beta` at 0".to_owned(),
            _ => format!("train on pairs with {}", objectives::without_reference()),
        };
        return Err(Error::config(what)
            .at(path)
            .because("it compares with the base model, whose weights full training overwrites")
            .hint(format!("add {}, or {others}", adapters::asked_by())));
    }
    of_written_rows(&*objective, &loaded.config, path)?;
    let added = AddedTokens::of(&loaded.config.model).map_err(|error| error.at(path))?;
    let changed =
        |adapter: Arc<dyn Adapter>| !added.is_empty() || !adapters::leaves_base(adapter.as_ref());
    if objective.needs_reference() && adapters::of_run(&loaded.config).is_some_and(changed) {
        let name = entry.name;
        let what = format!("`train.objective = \"{name}\"` cannot be used with this adapter");
        return Err(Error::config(what)
            .at(path)
            .because("it compares with the base model, whose weights the adapter changes")
            .hint(
                "leave `lora.init_lora_weights`, `lora.modules_to_save`, `lora.bias`, trainable \
                 and added tokens, and `lm_head` and `embed_tokens` out",
            ));
    }
    Ok(loaded)
}

/// What a model cannot do that scores labels in the place of tokens.
fn refuse_for_scores(config: &RunConfig, name: &str) -> Result<()> {
    if config.eval.prompts.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!("`eval.prompts` has no effect with `train.objective = \"{name}\"`"))
        .because("a model that scores labels writes no answers")
        .hint("remove it"))
}

/// What cannot be together with rows that the model writes itself.
fn of_written_rows(objective: &dyn Objective, config: &RunConfig, path: &Path) -> Result<()> {
    if objective.on_policy().is_some() && config.data.train_on == TrainOn::All {
        return Err(Error::config(
            "`data.train_on = \"all\"` cannot be used with `distillation.lmbda`",
        )
        .at(path)
        .because("the model answers what precedes the targets, and all is a target")
        .hint("remove it, or leave `distillation.lmbda` at 0"));
    }
    let Some(rollouts) = objective.rollouts() else { return Ok(()) };
    of_rollouts(rollouts, config).map_err(|error| error.at(path))?;
    for reward in &rollouts.rewards {
        reward.scorer()?; // an error names the schema's file
    }
    Ok(())
}

/// The same where rewards are learnt from.
fn of_rollouts(rollouts: &RolloutConfig, config: &RunConfig) -> Result<()> {
    if rollouts.rewards.is_empty() {
        return Err(Error::config("`train.objective = \"grpo\"` needs a reward").hint(
            "add `[[grpo.reward]]` with `name = \"right\"` and `kind = \"exact\"`, or another kind",
        ));
    }
    let names: BTreeSet<&str> = rollouts.rewards.iter().map(|it| it.name.as_str()).collect();
    if names.len() < rollouts.rewards.len() {
        return Err(Error::config("two rewards have the same name")
            .hint("each `[[grpo.reward]]` needs a `name` of its own: metrics are told by it"));
    }
    if config.data.packing {
        return Err(Error::config(
            "`data.packing` cannot be used with `train.objective = \"grpo\"`",
        )
        .because("a row is one prompt, of which the model writes the completions")
        .hint("remove it: without it rows are not packed"));
    }
    if config.data.overlong == Overlong::Truncate {
        let what =
            "`data.overlong = \"truncate\"` cannot be used with `train.objective = \"grpo\"`";
        return Err(Error::config(what)
            .because("an answer that is cut is nothing to compare completions with")
            .hint("`drop` leaves long records out, `error` tells of the first one"));
    }
    if config.checkpoint.reuse == Reuse::Auto {
        let what = "`checkpoint.reuse = \"auto\"` cannot be used with `train.objective = \"grpo\"`";
        return Err(Error::config(what)
            .because("the rows of a step are written by the model, not read from data")
            .hint("set it to `never`"));
    }
    Ok(())
}

/// What a change of a setting does to a run that has begun.
pub fn effect_of(path: &str) -> Effect {
    KEYS.effect(path)
}
