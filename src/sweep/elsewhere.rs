//! A sweep whose results are in a store: what lies where, and how tables read it.
//!
//! `manifest.json` is the plan, `board/` has what workers tell each other, `runs/POINT/` mirrors a
//! run (`checkpoint::Mirror`), `steps/` has steps that points share (`checkpoint::SharedSteps`).

use std::fs;
use std::path::{Path, PathBuf};

use super::board::{Board, Facts};
use super::manifest::{MANIFEST, MANIFEST_BYTES_MAX, Manifest, PlannedPoint, SweepFolder};
use crate::artifact::parent::STATEMENT_FILE;
use crate::checkpoint::Mirror;
use crate::error::{Context, Error, Result};
use crate::files::{remove_dir, write_atomic};
use crate::stores::{Store, StoreAddress, TrafficCount};

/// Where runs are mirrored.
const RUNS: &str = "runs";

/// The store of a sweep.
#[derive(Debug, Clone)]
pub struct SweepStore {
    store: Store,
}

impl SweepStore {
    /// Opens the store at an address.
    ///
    /// # Errors
    /// When it is none, or the environment does not say how to reach it.
    pub fn open(address: &str) -> Result<Self> {
        Ok(Self { store: Store::open(&StoreAddress::parse(address)?)? })
    }

    /// Where runs are mirrored, as a configuration names it.
    pub fn mirror(&self) -> String {
        self.store.address().join(RUNS).to_string()
    }

    /// What workers tell each other.
    ///
    /// # Errors
    /// Never for a store that was opened.
    pub fn board(&self) -> Result<Board> {
        Board::of(&self.store)
    }

    /// Requests and bytes so far.
    pub fn traffic(&self) -> TrafficCount {
        self.store.traffic()
    }

    /// Puts the plan of a sweep there, unless it is.
    ///
    /// # Errors
    /// When the store has that of another sweep.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let json = serde_json::to_vec(manifest).context("cannot encode the manifest")?;
        match self.store.get(MANIFEST, MANIFEST_BYTES_MAX)? {
            Some(there) if there == json => Ok(()),
            Some(there) => {
                let there: Option<Manifest> = serde_json::from_slice(&there).ok();
                let name = there.map_or_else(|| "something else".to_owned(), |it| it.name);
                if name == manifest.name {
                    return self.store.put(MANIFEST, json); // it was planned again
                }
                let what = format!("the store has results of another sweep, `{name}`");
                Err(Error::store(what)
                    .at(self.store.address().to_string())
                    .hint("give each sweep a prefix of its own"))
            }
            None => self.store.put(MANIFEST, json),
        }
    }

    /// Makes a folder below `cache` with the plan and the records of all points, as far as they are
    /// in the store: no weights. What was finished before is not asked for again.
    ///
    /// # Errors
    /// When there is no sweep in the store, or it does not give what it has.
    pub fn records(&self, cache: &Path) -> Result<SweepFolder> {
        let address = self.store.address();
        let missing = || {
            Error::store("there is no sweep in the store")
                .at(address.to_string())
                .hint("`firebrand sweep run FOLDER --store ADDRESS` puts one there")
        };
        let bytes = self.store.get(MANIFEST, MANIFEST_BYTES_MAX)?.ok_or_else(missing)?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .context_at("cannot read the manifest", address.to_string())?;
        let root = cache.join("sweeps").join(manifest.sweep_sha256.to_string());
        fs::create_dir_all(&root).context_at("cannot make the folder", &root)?;
        write_atomic(&root.join(MANIFEST), &bytes)?;
        let folder = SweepFolder::open(&root)?;
        let (board, runs) = (self.board()?, self.store.within(RUNS)?);
        let facts = board.read()?;
        for point in &folder.manifest.points {
            let mirror = Mirror::within(&runs, &point.id)?; // its name leads nowhere else
            let known = facts.get(&point.id).cloned().unwrap_or_default();
            self.point(&folder, point, &mirror, &known)?;
        }
        Ok(folder)
    }

    fn point(
        &self,
        folder: &SweepFolder,
        point: &PlannedPoint,
        mirror: &Mirror,
        facts: &Facts,
    ) -> Result<()> {
        let (run, log) = (folder.run(point), folder.log(point));
        if facts.finished && run.join("artifact").join(STATEMENT_FILE).is_file() {
            return Ok(());
        }
        if run.exists() {
            remove_dir(&run)?;
        }
        let _ = fs::remove_file(&log);
        if facts.failed {
            let why = self.board()?.reason(&point.id)?;
            let parent = log.parent().unwrap_or(folder.root());
            fs::create_dir_all(parent).context_at("cannot make the folder", parent)?;
            return write_atomic(&log, why.as_bytes());
        }
        fs::create_dir_all(&run).context_at("cannot make the folder", &run)?;
        if mirror.take_records(&run, &[STATEMENT_FILE])? {
            write_atomic(&run.join("config.toml"), b"# the run is in a store\n")?;
        }
        Ok(())
    }

    /// Takes the artifact of a point into such a folder.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn artifact(&self, folder: &SweepFolder, point: &PlannedPoint) -> Result<PathBuf> {
        let run = folder.run(point);
        let artifact = run.join("artifact");
        if artifact.exists() {
            remove_dir(&artifact)?; // as much of it as a table needs
        }
        Mirror::within(&self.store.within(RUNS)?, &point.id)?.take_result(&run, || Ok(()))?;
        Ok(artifact)
    }
}
