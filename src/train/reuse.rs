//! A new run begins with steps that another has computed, where they are the same bit for bit.

use std::collections::BTreeMap;

use crate::checkpoint::{
    CachedSteps, Chain, Identity, RunState, SharedSteps, StepCache, batches_digest, best_first,
    chain_name,
};
use crate::config::{Loaded, Reuse, RunConfig};
use crate::data::Cursor;
use crate::engine::learning_rate;
use crate::error::{Context, Result};
use crate::event::{Event, Observer};
use crate::files::{Digest, RunDirectory, cache_home};
use crate::hub;
use crate::objectives;
use crate::stores::{Store, StoreAddress};
use crate::train::{Access, Prepared};

/// Changed whenever the same settings begin to mean other numbers.
const VERSION: &str = "1";

/// Settings that act through rows and learning rates alone, which the chain of steps has.
const IN_THE_CHAIN: [&str; 10] = [
    "train.max_steps",
    "train.epochs",
    "train.learning_rate",
    "train.lr_scheduler",
    "train.warmup_steps",
    "train.warmup_ratio",
    "train.min_lr_ratio",
    "train.decay_ratio",
    "train.cycles",
    "train.power",
];

/// The settings on which the numbers of a run depend in another way than by its learning rates:
/// runs that have them in common share the steps in which their rates are the same.
pub fn beside_rates(loaded: &Loaded) -> BTreeMap<String, String> {
    let mut facts = loaded.deciding();
    facts.extend(loaded.measuring()); // a state has what was measured and asked so far
    // Rates of groups are multiples of the run's: theirs, over the highest of the run.
    let of_group = |key: &str| {
        key.strip_prefix("train.param_groups.").is_some_and(|key| key.ends_with(".learning_rate"))
    };
    let grouped = facts.keys().any(|key| of_group(key));
    let counts = |key: &str| grouped && key == "train.learning_rate";
    facts.retain(|key, _| counts(key) || !IN_THE_CHAIN.contains(&key.as_str()));
    facts
}

/// What decides the numbers of a run besides its rows and rates: the digest under which its steps
/// are filed. Nothing where equal inputs do not give equal bytes.
pub fn made_by(
    prepared: &Prepared,
    loaded: &Loaded,
    identity: &Identity,
) -> Result<Option<Digest>> {
    if !prepared.opened.deterministic {
        return Ok(None);
    }
    let cache = cache_home()?;
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    // The version's name stands for many builds while it is worked on; the bytes stand for one.
    let program = hub::sha256_of(&program, &cache)?;
    let mut facts = beside_rates(loaded);
    facts.retain(|key, _| !key.starts_with("data.") && key != "model.base");
    let mut put = |name: &str, value: String| facts.insert(format!(" {name}"), value);
    put("version", VERSION.to_owned());
    put("program", program.to_string());
    put("base", identity.base.to_string());
    put("codec", format!("{:?}", identity.codec));
    put("precision", identity.precision.clone());
    put("device", prepared.opened.class());
    put("validation", batches_digest(&prepared.validation).to_string());
    let json = serde_json::to_vec(&facts).context("cannot encode the settings")?;
    Ok(Some(Digest::of(&json)))
}

/// Where steps are shared, if the user wants that, and they are made of rows of data.
///
/// # Errors
/// When the store of `checkpoint.reuse_store` cannot be opened, or may not be used.
pub fn shelf(
    made_by: Option<Digest>,
    config: &RunConfig,
    access: &Access,
) -> Result<Option<StepCache>> {
    if objectives::chosen(&config.owned).writes_rows() {
        return Ok(None);
    }
    let config = &config.checkpoint;
    let Some(made_by) = made_by.filter(|_| config.reuse == Reuse::Auto) else { return Ok(None) };
    let shelf = StepCache::new(&cache_home()?, made_by, config.reuse_limit);
    let Some(address) = &config.reuse_store else { return Ok(Some(shelf)) };
    access.expect_reachable("checkpoint.reuse_store", address)?;
    let store = Store::open(&StoreAddress::parse(address)?)?;
    Ok(Some(shelf.with_shared(SharedSteps::new(store, made_by, config.reuse_limit))))
}

/// A run's own way through its first steps, without training.
struct Walk<'a> {
    prepared: &'a Prepared<'a>,
    cursor: Cursor,
    chain: Chain,
    step: u64,
    /// Position in the data after each step, in epochs.
    epochs: Vec<f64>,
}

impl<'a> Walk<'a> {
    fn new(prepared: &'a Prepared) -> Self {
        let (cursor, chain) = (Cursor::default(), Chain::default());
        Self { prepared, cursor, chain, step: 0, epochs: Vec::new() }
    }

    fn advance(&mut self) -> Result<()> {
        self.step += 1;
        let batches = self.prepared.take(&mut self.cursor)?;
        let rate = learning_rate(&self.prepared.step_settings().schedule, self.step);
        self.chain = self.chain.after(rate, &batches);
        self.epochs.push(self.prepared.plan.epochs_at(&self.cursor)?);
        Ok(())
    }
}

/// The chain of the first `steps` steps of a run.
pub fn chain_of(prepared: &Prepared, steps: u64) -> Result<Chain> {
    let mut walk = Walk::new(prepared);
    while walk.step < steps {
        walk.advance()?;
    }
    Ok(walk.chain)
}

/// Puts the longest beginning that is on the shelf into a new run. Whether there was one.
pub fn adopt(
    shelf: &StepCache,
    run: &RunDirectory,
    prepared: &Prepared,
    identity: &Identity,
    observer: &mut dyn Observer,
) -> Result<bool> {
    let total = prepared.total_steps;
    if shelf.is_empty() || total == 0 {
        return Ok(false); // nothing needs to be read ahead for that
    }
    let mut walk = Walk::new(prepared);
    walk.advance()?;
    let Some(first) = walk.chain.first else { return Ok(false) };
    let kept = shelf.kept(first).unwrap_or_else(|error| {
        let what = "the steps of other machines are not looked at";
        observer.on(Event::Warning(format!("{what}: {}", error.with_causes())));
        shelf.kept_here(first)
    });
    let longest = kept.keys().copied().filter(|step| *step <= total).max().unwrap_or(0);
    let mut places: Vec<(u64, Chain, Cursor)> = Vec::new();
    while walk.step <= longest {
        if let (Some(chains), Some(last)) = (kept.get(&walk.step), walk.chain.last)
            && chains.contains(&chain_name(last))
        {
            places.push((walk.step, walk.chain, walk.cursor));
        }
        // What cannot be had here is told of when it is trained on.
        if walk.step == longest || walk.advance().is_err() {
            break;
        }
    }
    let open = |(step, chain, cursor): (u64, Chain, Cursor)| {
        let kept = shelf.open(step, chain)?;
        let serves = step < total || is_judged(&kept.found.state, prepared);
        let serves = serves && has_its_best(&kept.found.state, prepared);
        serves.then_some((kept, cursor))
    };
    let Some((kept, cursor)) = places.into_iter().rev().find_map(open) else { return Ok(false) };
    if prepared.admit(Cursor::default(), cursor, observer).is_err() {
        return Ok(false);
    }
    let step = kept.found.state.step;
    if let Err(error) = place(&kept, run, prepared, identity, (cursor, &walk.epochs)) {
        // They may have been removed by another process, or the disk has no room for them.
        let what = "steps of another run could not be reused, they are computed";
        observer.on(Event::Warning(format!("{what}: {}", error.what)));
        return Ok(false);
    }
    observer.on(Event::Note(format!("reused {step} of {total} steps from run {}", kept.from)));
    Ok(true)
}

/// Whether a state has what belongs to the end of a run.
fn is_judged(state: &RunState, prepared: &Prepared) -> bool {
    let evaluated = state.evaluations.last().is_some_and(|found| found.step == state.step);
    let asked = state.samples.last().is_some_and(|sample| sample.step == state.step);
    (evaluated || prepared.validation.is_empty())
        && (asked || prepared.config.eval.prompts.is_empty())
}

/// Whether the result could be made of this checkpoint: earlier ones do not come along.
fn has_its_best(state: &RunState, prepared: &Prepared) -> bool {
    let best = best_first(&state.evaluations).first().is_none_or(|best| best.step == state.step);
    best || !prepared.config.eval.load_best_model_at_end
}

/// Writes the beginning as this run would have written it.
fn place(
    kept: &CachedSteps,
    run: &RunDirectory,
    prepared: &Prepared,
    identity: &Identity,
    (cursor, epochs): (Cursor, &[f64]),
) -> Result<()> {
    let total = prepared.total_steps;
    let mut state: RunState = kept.found.state.clone();
    if state.step < total {
        state = state.in_the_middle(prepared.config.eval.every_steps);
    }
    let mut ahead = cursor;
    let state = RunState {
        cursor,
        files: prepared.corpus.files(),
        next_batches: match state.step < total {
            true => prepared.take(&mut ahead).ok().map(|batches| batches_digest(&batches)),
            false => None,
        },
        identity: identity.clone(),
        ..state
    };
    // How far into the data a step is depends on how much data there is.
    let reports: Vec<_> = kept
        .reports
        .iter()
        .zip(epochs)
        .map(|(report, epoch)| crate::event::StepReport { epoch: *epoch, ..report.clone() })
        .collect();
    kept.adopt(run.root(), &reports, prepared.config.eval.every_steps, state)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings;

    /// A rate of a group is a multiple of the run's, so that equal rates of the run are not enough.
    #[test]
    fn the_highest_rate_decides_beside_the_chain_where_groups_have_rates() {
        let decides = |groups: &str| {
            let text =
                format!("[model]\nbase = \"base\"\n[[data.train]]\npath = \"a.jsonl\"\n{groups}");
            let loaded = settings::parse(Path::new("run.toml"), text.as_bytes(), &[]).unwrap();
            let facts = beside_rates(&loaded);
            assert!(!facts.contains_key("train.lr_scheduler"));
            facts.contains_key("train.learning_rate")
        };
        assert!(!decides(""));
        let group = "[[train.param_groups]]\nmodules = [\"norm\"]\n";
        assert!(decides(&format!("{group}learning_rate = 1e-3\n")));
        assert!(!decides(&format!("{group}weight_decay = 0.1\n")));
    }
}
