//! What is known of points beyond this process: in the folder of the sweep, or told by a store.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::board::{Board, Facts};
use super::elsewhere::SweepStore;
use super::manifest::{PlannedPoint, SweepFolder};
use super::results::{PointStatus, status_of, values_at};
use crate::checkpoint::newest;
use crate::error::Result;

/// How often it is looked at points at which other processes are at work.
const ELSEWHERE: Duration = Duration::from_secs(1);
/// How soon a store is asked again; each time that nothing was heard it takes twice as long.
const ASKED: Duration = Duration::from_millis(500);
/// Of the time, at most one part in so many is spent on looking.
const SPENT: u32 = 10;

/// What is known of points, and where it is told.
pub struct Others<'a> {
    folder: &'a SweepFolder,
    told: Option<(Board, BTreeMap<String, Facts>)>,
    /// When something was heard, or done here.
    heard: Instant,
    /// How often it was looked since.
    looks: u32,
    /// When it is looked again.
    due: Instant,
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
        let now = Instant::now();
        Ok(Self { folder, told, heard: now, looks: 0, due: now + ASKED })
    }

    /// Whether workers hear of each other by a store.
    pub fn by_store(&self) -> bool {
        self.told.is_some()
    }

    /// Whether it is time to look again.
    pub fn are_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// How long nothing was heard, and nothing done here that others could have gone on with.
    pub fn silence(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Something was done here: it is time to look.
    pub fn wake(&mut self) {
        (self.heard, self.looks, self.due) = (Instant::now(), 0, Instant::now());
    }

    /// Hears what is new in the store.
    ///
    /// # Errors
    /// When the store does not say: what was known stays.
    pub fn look(&mut self) -> Result<()> {
        let Some((board, known)) = &mut self.told else { return Ok(()) };
        let now = board.read()?;
        if now != *known {
            *known = now;
            self.wake();
        }
        Ok(())
    }

    /// It was looked for so long. A store is asked more rarely the longer nothing is heard.
    pub fn looked_for(&mut self, time: Duration) {
        let pause = match self.by_store() {
            true => ASKED.saturating_mul(1 << self.looks.min(5)),
            false => ELSEWHERE,
        };
        self.looks += 1;
        self.due = Instant::now() + pause.max(time * SPENT);
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
        if !self.by_store() {
            return Ok(());
        }
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
