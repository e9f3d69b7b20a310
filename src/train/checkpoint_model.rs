//! A checkpoint of a run as an artifact of its own, with lineage and signature, so that it can be
//! merged and exported as a finished one can.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::artifact::parent::{LINEAGE_BYTES_MAX, STATEMENT_FILE};
use crate::checkpoint::{
    Allowed, History, IdentityPart, NamedCheckpoint, RestoredCheckpoint, manifest_digest,
    restore_weights,
};
use crate::config::Loaded;
use crate::data::Extent;
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::files::{Digest, RunDirectory, read_json};
use crate::settings;
use crate::train::Request;
use crate::train::fetch_policy::{Access, supply_for};
use crate::train::prepare::{Prepared, prepare};
use crate::train::publish::{Signer, publish};
use crate::train::resume::Resume;
use crate::train::session::{BestCheckpoint, Record};

/// Begins the name of the artifact of a checkpoint, in the directory of its run.
pub const PREFIX: &str = "model-of-step-";
/// The artifact of a checkpoint, in the directory of its run; made, if it is not there.
///
/// # Errors
/// When there is no such checkpoint, the run is at work, or base and data are not those of the run.
pub fn checkpoint_model(
    name: &NamedCheckpoint,
    signer: Option<&Signer>,
    observer: &mut dyn Observer,
) -> Result<PathBuf> {
    let found = name.open()?;
    let run = RunDirectory::lock(&name.run)?;
    let (step, manifest) = (found.state.step, manifest_digest(&found.folder)?);
    let names = std::iter::once(format!("{PREFIX}{step:08}"));
    let names = names.chain((2..).map(|number| format!("{PREFIX}{step:08}-{number}")));
    for target in names.map(|name| run.join(&name)) {
        if !target.exists() {
            make(&run, &target, found, signer, observer)?;
            return Ok(target);
        }
        if result_of(&target) == Some(manifest) {
            return Ok(target);
        }
    }
    unreachable!("some number is free")
}

/// Digest of the manifest of the checkpoint that an artifact is made of.
fn result_of(artifact: &Path) -> Option<Digest> {
    let statement = read_json(&artifact.join(STATEMENT_FILE), LINEAGE_BYTES_MAX).ok()?;
    let byproducts = statement["predicate"]["runDetails"]["byproducts"].as_array()?;
    let is_result = |entry: &&Value| entry["annotations"]["role"] == "result";
    byproducts.iter().find(is_result)?["digest"]["sha256"].as_str()?.parse().ok()
}

fn make(
    run: &RunDirectory,
    target: &Path,
    found: RestoredCheckpoint,
    signer: Option<&Signer>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let config = run.join("config.toml");
    let loaded = settings_of(run.root())?;
    let config_path = config.display().to_string();
    let request = Request {
        loaded: &loaded,
        config_path: &config_path,
        resume: Resume::Auto,
        allowed: Allowed::default(),
        grace: Duration::ZERO,
        access: Access::default(),
    };
    let supply = supply_for(&config, Some(run), &request.access)?;
    let mut prepared = prepare(&loaded, &supply, Extent::AsNeeded, observer)?;
    let mut trainer = prepared.trainer()?;
    expect_same(&found, &loaded, &prepared)?;
    prepared.corpus.remember(&found.state.files);
    restore_weights(&found, &mut trainer.model)?;
    let (step, state) = (found.state.step, found.state);
    let mut history = History::of(run.root()).entries()?;
    history.retain(|entry| entry.step <= step);
    let record = Record {
        history,
        evaluations: state.evaluations,
        samples: state.samples,
        target_tokens: state.target_tokens,
        tokens: state.tokens,
        best: Some(BestCheckpoint { step, folder: found.folder }),
        judged: None,
    };
    publish((run, target), &request, &prepared, &mut trainer, record, signer, observer).map(|_| ())
}

/// The settings of a run that is only looked at: on the threads that are at work.
pub(super) fn settings_of(run: &Path) -> Result<Loaded> {
    let mut loaded = settings::load(&run.join("config.toml"), &[])?;
    loaded.config.device.threads = 0;
    Ok(loaded)
}

/// What goes into the lineage must be what the checkpoint was trained with.
pub(super) fn expect_same(
    found: &RestoredCheckpoint,
    loaded: &Loaded,
    prepared: &Prepared,
) -> Result<()> {
    let differences = found.state.identity.differences(&prepared.identity(loaded)?);
    // Another program or machine reads the same weights.
    let here = [IdentityPart::Code, IdentityPart::Device, IdentityPart::Length];
    let mut differences = differences.iter().filter(|found| !here.contains(&found.part)).peekable();
    if differences.peek().is_none() {
        return Ok(());
    }
    let what = "the run is not what it was at the checkpoint";
    let error = Error::run_changed(what).at(&found.folder).hint("undo the change");
    Err(differences.fold(error, Error::because))
}
