//! From a sweep to a folder with a configuration for each point, and a manifest.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::estimate::estimate;
use super::keys::Method;
use super::manifest::{MANIFEST, Manifest, PlannedPoint, SharedWith, SweepFolder, VERSION, runs};
use super::points::{Point, points};
use super::shared::{SharedSteps, shared_steps};
use super::spec::Sweep;
use crate::error::{Context, Error, Result};
use crate::files::{Digest, NewFile, failed, write_atomic};
use crate::hub::DataLock;
use crate::train::Access;

const POINTS: &str = "points";

/// What came of planning.
#[derive(Debug)]
pub struct Planned {
    /// The folder.
    pub folder: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// Points that were the same as others, which are there once.
    pub same: usize,
    /// Points that were not there before.
    pub new: usize,
    /// Points of an earlier plan that are no longer in the sweep; their runs stay.
    pub left: usize,
}

/// Where a sweep is planned unless something else is said.
pub fn usual_folder(sweep: &Sweep) -> PathBuf {
    Path::new("sweeps").join(&sweep.name)
}

/// Checks every point and writes the folder. One that is there is brought up to date: points that
/// the sweep has no longer go, their runs stay.
/// With `access` to models and data, memory, steps and time are predicted as well.
///
/// # Errors
/// All problems of all points at once; when the folder is something else.
pub fn plan(sweep: &Sweep, folder: &Path, access: Option<&Access>) -> Result<Planned> {
    let before = before(folder)?;
    let (mut points, same) = points(sweep, &runs(folder))?;
    if points.is_empty() {
        return Err(Error::config("the sweep has no points").at(&sweep.path));
    }
    if let Some(access) = access {
        estimate(&mut points, access)?;
    }
    let manifest = manifest(sweep, &points);
    let ids: BTreeSet<&str> = points.iter().map(|point| point.id.as_str()).collect();
    let left: Vec<&String> = before.iter().filter(|id| !ids.contains(id.as_str())).collect();
    let at = folder.join(POINTS);
    fs::create_dir_all(&at).context_at("cannot make the folder", &at)?;
    for point in &points {
        write(&at, point)?;
    }
    let mut json = serde_json::to_vec_pretty(&manifest).context("cannot encode the manifest")?;
    json.push(b'\n');
    // The last file: without it nothing in the folder counts.
    write_atomic(&folder.join(MANIFEST), &json)?;
    for id in &left {
        for ending in ["toml", "lock"] {
            let _ = fs::remove_file(at.join(format!("{id}.{ending}"))); // nothing names it any more
        }
    }
    let new = ids.iter().filter(|id| !before.contains(**id)).count();
    Ok(Planned { folder: folder.to_path_buf(), same, new, left: left.len(), manifest })
}

/// The points of an earlier plan in the folder.
fn before(folder: &Path) -> Result<BTreeSet<String>> {
    if folder.join(MANIFEST).exists() {
        let folder = SweepFolder::open(folder)?;
        return Ok(folder.manifest.points.into_iter().map(|point| point.id).collect());
    }
    let holds_runs = runs(folder).exists();
    let is_empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && (holds_runs || !folder.join(POINTS).is_dir()) {
        return Err(Error::exists("the folder holds something else than a planned sweep")
            .at(folder)
            .hint("choose another one with `--out FOLDER`"));
    }
    Ok(BTreeSet::new())
}

fn manifest(sweep: &Sweep, points: &[Point]) -> Manifest {
    let shared = shared_steps(points);
    let planned = |(point, shared): (&Point, Option<SharedSteps>)| PlannedPoint {
        id: point.id.clone(),
        config: format!("{POINTS}/{}.toml", point.id),
        config_sha256: Digest::of(point.config.as_bytes()),
        settings_sha256: point.digest,
        from: point.from.clone(),
        dataset: point.dataset.clone(),
        settings: point.settings.clone(),
        steps: point.steps,
        shares: shared.map(|it| SharedWith { point: points[it.with].id.clone(), steps: it.steps }),
        memory_bytes: point.memory_bytes,
        seconds: point.seconds,
    };
    Manifest {
        version: VERSION,
        name: sweep.name.clone(),
        program: format!("firebrand {}", env!("CARGO_PKG_VERSION")),
        sweep: sweep.path.display().to_string(),
        sweep_sha256: sweep.sha256,
        method: sweep.method.to_string(),
        seed: if sweep.method == Method::Grid { 0 } else { sweep.seed },
        metric: sweep.metric.clone(),
        direction: sweep.direction.to_string(),
        stopping: sweep.stopping.clone(),
        parameters: sweep.parameters.iter().map(|parameter| parameter.key.clone()).collect(),
        points: points.iter().zip(shared).map(planned).collect(),
    }
}

/// Writes the configuration of a point, with the lock of the one that it began with. They are not
/// waited for: the manifest has their digests.
fn write(folder: &Path, point: &Point) -> Result<()> {
    let path = folder.join(format!("{}.toml", point.id));
    if fs::read(&path).is_ok_and(|bytes| bytes == point.config.as_bytes()) {
        return Ok(());
    }
    let scratch = folder.join(format!(".{}.tmp", point.id));
    let text = point.config.as_bytes();
    let written = NewFile::begin(&scratch).and_then(|mut file| file.write_all(text));
    written
        .and_then(|()| fs::rename(&scratch, &path))
        .map_err(|error| failed("cannot write the configuration", &path, &error))?;
    let lock = DataLock::path_of(Path::new(&point.from));
    if lock.is_file() {
        let own = DataLock::path_of(&path);
        fs::copy(&lock, &own).map_err(|error| failed("cannot copy the lock", &own, &error))?;
    }
    Ok(())
}
