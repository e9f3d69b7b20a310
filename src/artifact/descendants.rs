//! What was made of an artifact: its descendants among the artifacts of a folder, by the digests
//! of weights that lineages name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::lineage::INPUTS_FILE;
use super::parent::{LINEAGE_BYTES_MAX, STATEMENT_FILE};
use crate::error::{Context, Result};
use crate::files::{Digest, read_json};

/// How deep below a folder artifacts are looked for.
const DEPTH_MAX: usize = 4;

/// How an artifact has to do with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Descent {
    /// The run made it after it had read them.
    OfTheRun,
    /// It was made of such an artifact.
    Descendant,
    /// Another run made it, of the same data file; whether it has read them is not known here.
    SameData,
}

/// An artifact that was made with records, or may have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Descendant {
    /// Where it lies.
    pub path: PathBuf,
    /// How it has to do with them.
    pub descent: Descent,
}

/// What a lineage names.
struct Named {
    path: PathBuf,
    /// Digests of its own weights.
    weights: BTreeSet<Digest>,
    /// Digests of all that it was made of.
    inputs: BTreeSet<Digest>,
}

/// Artifacts that the run in `run` made when it had done `step` steps or more, and all that was
/// made of them or of these data `files`, below the folder of the run and `places`.
///
/// # Errors
/// When a folder cannot be listed.
pub fn descendants(
    run: &Path,
    step: u64,
    places: &[PathBuf],
    files: &BTreeSet<Digest>,
) -> Result<Vec<Descendant>> {
    let own = run.canonicalize().context_at("cannot find the folder", run)?;
    let all = artifacts(&own, places)?;
    let mut found = Vec::new();
    let mut known: BTreeSet<Digest> = BTreeSet::new();
    let (of_run, mut others): (Vec<Named>, Vec<Named>) =
        all.into_iter().partition(|named| named.path.starts_with(&own));
    for named in of_run {
        let name = named.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_step = name.rsplit('-').find_map(|part| part.parse::<u64>().ok());
        if of_step.is_none_or(|of_step| of_step >= step) {
            known.extend(&named.weights);
            found.push(Descendant { path: named.path, descent: Descent::OfTheRun });
        }
    }
    loop {
        let of_them = |named: &Named| !named.inputs.is_disjoint(&known);
        let (new, rest): (Vec<Named>, Vec<Named>) = others.into_iter().partition(of_them);
        others = rest;
        if new.is_empty() {
            break;
        }
        for named in new {
            known.extend(&named.weights);
            found.push(Descendant { path: named.path, descent: Descent::Descendant });
        }
    }
    let same_data = others.into_iter().filter(|named| !named.inputs.is_disjoint(files));
    found
        .extend(same_data.map(|named| Descendant { path: named.path, descent: Descent::SameData }));
    Ok(found.into_iter().map(Descendant::seen_from_here).collect())
}

impl Descendant {
    /// With a path from the working folder, where it lies below that.
    fn seen_from_here(mut self) -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        if let Ok(relative) = self.path.strip_prefix(&here) {
            self.path = relative.to_path_buf();
        }
        self
    }
}

/// Every artifact below the folder of a run and these places, each once.
fn artifacts(run: &Path, places: &[PathBuf]) -> Result<Vec<Named>> {
    let mut all = Vec::new();
    let mut roots = BTreeSet::from([run.parent().unwrap_or(run).to_path_buf()]);
    for place in places {
        roots.insert(place.canonicalize().context_at("cannot find the folder", place)?);
    }
    for root in &roots {
        look(root, DEPTH_MAX, &mut all)?;
    }
    all.sort_by(|one, other| one.path.cmp(&other.path));
    all.dedup_by(|one, other| one.path == other.path);
    Ok(all)
}

/// Every artifact below a folder. What cannot be read names nothing: `verify` tells of it.
fn look(folder: &Path, depth: usize, all: &mut Vec<Named>) -> Result<()> {
    if let Some(named) = named(folder) {
        all.push(named);
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let entries = fs::read_dir(folder).context_at("cannot list the folder", folder)?;
    for entry in entries.flatten() {
        // A link would lead anywhere, and in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look(&entry.path(), depth - 1, all)?;
        }
    }
    Ok(())
}

fn named(folder: &Path) -> Option<Named> {
    let inputs = read_json(&folder.join(INPUTS_FILE), LINEAGE_BYTES_MAX).ok()?;
    let statement = read_json(&folder.join(STATEMENT_FILE), LINEAGE_BYTES_MAX).ok()?;
    let digest = |entry: &Value| entry["digest"]["sha256"].as_str()?.parse().ok();
    let is_weights = |entry: &&Value| {
        let name = entry["name"].as_str().unwrap_or_default();
        [".safetensors", ".gguf"].iter().any(|ending| name.ends_with(ending))
    };
    let subject = statement["subject"].as_array().into_iter().flatten();
    let inputs = inputs["resolvedDependencies"].as_array().into_iter().flatten();
    Some(Named {
        path: folder.to_path_buf(),
        weights: subject.filter(is_weights).filter_map(digest).collect(),
        inputs: inputs.filter_map(digest).collect(),
    })
}
