//! What is known of points beyond this process: in the folder of the sweep, or told by a store.

use std::collections::BTreeMap;

use super::board::{Board, Facts};
use super::elsewhere::SweepStore;
use super::manifest::{PlannedPoint, SweepFolder};
use super::results::{PointStatus, status_of, values_at};
use crate::checkpoint::newest;
use crate::error::Result;

/// What is known of points, and where it is told.
pub struct Others<'a> {
    folder: &'a SweepFolder,
    told: Option<(Board, BTreeMap<String, Facts>)>,
}

impl<'a> Others<'a> {
    /// What is in a folder, and in a store if there is one.
    ///
    /// # Errors
    /// When the store does not say.
    pub fn of(folder: &'a SweepFolder, store: Option<&SweepStore>) -> Result<Self> {
        let told = match store {
            Some(store) => {
                let board = store.board()?;
                let known = board.read()?;
                Some((board, known))
            }
            None => None,
        };
        Ok(Self { folder, told })
    }

    /// Whether workers hear of each other by a store.
    pub fn by_store(&self) -> bool {
        self.told.is_some()
    }

    /// Hears what is new; whether anything is.
    ///
    /// # Errors
    /// When the store does not say: what was known stays.
    pub fn look(&mut self) -> Result<bool> {
        let Some((board, known)) = &mut self.told else { return Ok(true) };
        let now = board.read()?;
        let is_new = now != *known;
        *known = now;
        Ok(is_new)
    }

    /// What the store tells of a point.
    pub fn told(&self, point: &PlannedPoint) -> Facts {
        let told = self.told.as_ref().and_then(|(_, known)| known.get(&point.id));
        told.cloned().unwrap_or_default()
    }

    /// What is known of the point of another worker: in the folder, if there is no store.
    pub fn facts(&self, point: &PlannedPoint) -> Facts {
        if self.by_store() { self.told(point) } else { self.here(point) }
    }

    /// What the folder has of a point.
    fn here(&self, point: &PlannedPoint) -> Facts {
        let (folder, manifest) = (self.folder, &self.folder.manifest);
        let run = folder.run(point);
        let status = status_of(folder, point, &run);
        let finished = status == PointStatus::Finished;
        let saved = newest(&run).ok().and_then(|all| all.first().map(|(step, _)| *step));
        let reached = saved.unwrap_or(0).max(if finished { point.steps.unwrap_or(0) } else { 0 });
        let steps = manifest.stopping.as_ref().map_or(&[][..], |stopping| &stopping.steps);
        let values = values_at(&run, &manifest.metric, steps);
        let values = steps.iter().copied().zip(values).filter(|(step, _)| *step <= reached);
        Facts {
            reached,
            finished,
            failed: matches!(status, PointStatus::Failed { .. }),
            values: values.collect(),
        }
    }

    /// Tells others what this process knows of a point; `why` is the reason of a failure.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn tell(&mut self, point: &PlannedPoint, why: Option<&str>) -> Result<()> {
        let mut now = self.here(point);
        now.failed = why.is_some();
        let Some((board, known)) = &mut self.told else { return Ok(()) };
        let before = known.entry(point.id.clone()).or_default();
        // What is known from another machine stays known.
        now.reached = now.reached.max(before.reached);
        now.finished |= before.finished;
        board.tell(&point.id, before, &now, why.unwrap_or_default())?;
        now.values.extend(before.values.iter().map(|(step, value)| (*step, *value)));
        *before = now;
        Ok(())
    }
}
