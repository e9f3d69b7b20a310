//! `manifest.json`: what belongs to a planned sweep.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::keys::Direction;
use super::spec::better;
use super::stopping::Stopping;
use crate::error::{Context, Error, Result};
use crate::files::{Digest, read_bytes};

/// Its name in the folder of a sweep.
pub const MANIFEST: &str = "manifest.json";
/// The form that this version writes.
pub const VERSION: u32 = 1;
/// A hundred thousand points fit.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// A planned sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the sweep.
    pub name: String,
    /// The program that planned it.
    pub program: String,
    /// The file that was planned.
    pub sweep: String,
    /// Digest of it.
    pub sweep_sha256: Digest,
    /// How points were chosen.
    pub method: String,
    /// What decided the draws.
    pub seed: u64,
    /// What points are compared by.
    pub metric: String,
    /// Which values of it are better: `lower` or `higher`.
    pub direction: String,
    /// The keys that are varied.
    pub parameters: Vec<String>,
    /// When points are compared before their end, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// The runs, in their order.
    pub points: Vec<PlannedPoint>,
}

/// A run of a planned sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedPoint {
    /// Its name.
    pub id: String,
    /// Its configuration, in the folder of the sweep.
    pub config: String,
    /// Digest of that file.
    pub config_sha256: Digest,
    /// Digest of the settings that decide numbers, as `plan --json` and the lineage have it.
    pub settings_sha256: Digest,
    /// The configuration that it began with.
    pub from: String,
    /// The data set, where the sweep names some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The values of the parameters.
    pub settings: Map<String, Json>,
    /// Its steps, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The first steps, which another point computes as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<SharedWith>,
    /// Predicted memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// About how many seconds its steps take on the machine where the sweep was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// Steps that two points have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedWith {
    /// The point that computes them.
    pub point: String,
    /// How many.
    pub steps: u64,
}

impl Manifest {
    /// Which values of the metric are better.
    pub fn better(&self) -> Direction {
        Direction::from_name(&self.direction).unwrap_or_else(|| better(&self.metric))
    }

    /// About how many seconds all points take, one after the other, if that is known of each. Steps
    /// that a point takes from another are computed once.
    #[expect(clippy::cast_precision_loss)] // what comes of it is rough
    pub fn seconds(&self) -> Option<f64> {
        let own = |point: &PlannedPoint| {
            let (seconds, steps) = (point.seconds?, point.steps?);
            let shared = point.shares.as_ref().map_or(0, |it| it.steps);
            Some(seconds * steps.saturating_sub(shared) as f64 / steps.max(1) as f64)
        };
        self.points.iter().map(own).sum()
    }
}

/// The folder of a planned sweep.
#[derive(Debug, Clone)]
pub struct SweepFolder {
    root: PathBuf,
    /// What belongs to it.
    pub manifest: Manifest,
}

impl SweepFolder {
    /// Reads what a folder holds.
    ///
    /// # Errors
    /// When it is not that of a planned sweep.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(MANIFEST);
        if !path.is_file() {
            return Err(Error::file("this is not the folder of a planned sweep")
                .at(root)
                .hint("`firebrand sweep plan SWEEP.toml` makes one and prints its name"));
        }
        let bytes = read_bytes(&path, MANIFEST_BYTES_MAX)?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).context_at("cannot read the manifest", &path)?;
        if manifest.version != VERSION {
            let version = manifest.version;
            let what =
                format!("the manifest has version {version}, which this program cannot read");
            return Err(Error::file(what).at(&path));
        }
        Ok(Self { root: root.to_path_buf(), manifest })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration of a point.
    pub fn config(&self, point: &PlannedPoint) -> PathBuf {
        self.root.join(&point.config)
    }

    /// The run directory of a point.
    pub fn run(&self, point: &PlannedPoint) -> PathBuf {
        runs(&self.root).join(&point.id)
    }

    /// What a run said, when it ran here.
    pub fn log(&self, point: &PlannedPoint) -> PathBuf {
        self.root.join("logs").join(format!("{}.log", point.id))
    }
}

/// Where the runs of a sweep go.
pub fn runs(root: &Path) -> PathBuf {
    root.join("runs")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(points: Json) -> Manifest {
        let digest = Digest::of(b"");
        let point = |own: &Json| {
            let mut point = json!({
                "id": "a", "config": "a.toml", "config_sha256": digest, "settings_sha256": digest,
                "from": "run.toml", "settings": {}, "steps": 10,
            });
            point.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            point
        };
        let points: Vec<Json> = points.as_array().unwrap().iter().map(point).collect();
        serde_json::from_value(json!({
            "version": VERSION, "name": "s", "program": "", "sweep": "s.toml",
            "sweep_sha256": digest, "method": "grid", "seed": 0, "metric": "loss",
            "direction": "lower", "parameters": [], "points": points,
        }))
        .unwrap()
    }

    #[test]
    fn all_points_take_their_seconds_together_without_steps_that_they_share() {
        let alone = json!([{"seconds": 40.0}, {"seconds": 40.0}, {"seconds": 40.0}]);
        assert_eq!(planned(alone).seconds(), Some(120.0));
        let shares = json!({"point": "a", "steps": 7});
        let shared = json!([{"seconds": 40.0}, {"seconds": 20.0, "shares": shares}]);
        assert_eq!(planned(shared).seconds(), Some(46.0));
        // Of one it is not known: an earlier version planned it, or a GPU runs it.
        assert_eq!(planned(json!([{"seconds": 40.0}, {}])).seconds(), None);
    }
}
