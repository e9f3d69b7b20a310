//! Saves beside training, and what happens when the disk has no room.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::checkpoint::{Job, Saved, Saver, Uploads};
use crate::config::OnDiskFull;
use crate::error::{Error, ErrorCode, Result};
use crate::event::{Event, Observer};

/// Between looks at a full disk.
const PATIENCE: Duration = Duration::from_millis(500);

/// The saves of a run.
pub struct Saving {
    saver: Saver,
    /// What is under way to stores.
    pub uploads: Uploads,
    policy: OnDiskFull,
    /// The last attempt found no room.
    degraded: bool,
    /// The step of the newest checkpoint.
    pub saved_step: Option<u64>,
    /// How long the last save took.
    pub last_seconds: f64,
    began: Instant,
    count: u64,
    stalled: Duration,
    /// As much of it as was asked for.
    known: Duration,
    /// What was said already: a cache that cannot be written to need not be told of at each save.
    told: BTreeSet<String>,
}

impl Saving {
    /// Before the first save.
    pub fn new(policy: OnDiskFull) -> Self {
        Self {
            saver: Saver::default(),
            uploads: Uploads::default(),
            policy,
            degraded: false,
            saved_step: None,
            last_seconds: 0.0,
            began: Instant::now(),
            count: 0,
            stalled: Duration::ZERO,
            known: Duration::ZERO,
            told: BTreeSet::new(),
        }
    }

    /// Waits for the save before, so that two copies are never in memory; and until stores have
    /// it, so that a machine that is lost costs no more than the steps since. Whoever is asked to
    /// stop does not wait for stores.
    ///
    /// # Errors
    /// When it failed.
    pub fn make_ready(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let ended = self.saver.wait();
        ended.map_or(Ok(()), |ended| self.finish_pending_step(ended, observer))?;
        self.uploads.wait(|| observer.stop_requested().is_none());
        self.tell_of_uploads(observer);
        Ok(())
    }

    /// Waits until stores have what is saved.
    pub fn finish_uploads(&mut self, observer: &mut dyn Observer) {
        self.uploads.wait(|| true);
        self.tell_of_uploads(observer);
    }

    fn tell_of_uploads(&mut self, observer: &mut dyn Observer) {
        for (step, warning) in self.uploads.warnings() {
            self.warn(step, warning, observer);
        }
    }

    /// Tells of what goes wrong after a save, once.
    fn warn(&mut self, step: u64, warning: String, observer: &mut dyn Observer) {
        if self.told.insert(warning.clone()) {
            observer.on(Event::Warning(format!("after saving step {step}: {warning}")));
        }
    }

    /// Begins to save, while training goes on; it has stalled since `began`.
    pub fn begin(&mut self, job: Job, began: Instant) {
        self.saver.start(job);
        self.count += 1;
        self.stalled += began.elapsed();
    }

    /// Hears how the save in flight ended, if it has. True when the run has to stand still until
    /// there is room.
    ///
    /// # Errors
    /// When it failed.
    pub fn poll(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        if let Some(ended) = self.saver.ended() {
            self.finish_pending_step(ended, observer)?;
        }
        self.tell_of_uploads(observer);
        Ok(self.degraded && self.policy == OnDiskFull::Wait)
    }

    /// Waits for the save in flight, which another is about to follow: if it found no room, that
    /// one will tell.
    ///
    /// # Errors
    /// When it failed otherwise.
    pub fn supersede(&mut self, observer: &mut dyn Observer) -> Result<()> {
        match self.saver.wait() {
            Some(Err(error)) if error.code == ErrorCode::DiskFull => Ok(()),
            Some(ended) => self.finish_pending_step(ended, observer),
            None => Ok(()),
        }
    }

    /// After a save that failed: waits a while if that is wanted and may help.
    ///
    /// # Errors
    /// The same error otherwise.
    pub fn wait_or_give_up(&mut self, error: Error, observer: &mut dyn Observer) -> Result<()> {
        let wait = error.code == ErrorCode::DiskFull
            && self.policy == OnDiskFull::Wait
            && observer.stop_requested().is_none();
        if !wait {
            return Err(self.hopeless(error));
        }
        let what = "waiting for room (`checkpoint.on_disk_full`)";
        if self.told.insert(what.to_owned()) {
            observer.on(Event::Warning(format!("{what}: {}", line(&error))));
        }
        std::thread::sleep(PATIENCE);
        Ok(())
    }

    /// Takes note of how a save ended.
    ///
    /// # Errors
    /// When it failed, unless the run is to go on or to wait.
    pub fn finish_pending_step(
        &mut self,
        ended: Result<Saved>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        match ended {
            Ok(saved) => {
                self.tell(saved, observer);
                Ok(())
            }
            Err(error) if error.code == ErrorCode::DiskFull && self.policy != OnDiskFull::Stop => {
                self.degraded = true;
                let what = match self.policy {
                    OnDiskFull::Wait => "not saved",
                    _ => "not saved; training goes on, and what it does can be lost",
                };
                observer.on(Event::Warning(format!("{what}: {}", line(&error))));
                Ok(())
            }
            Err(error) => Err(self.hopeless(error)),
        }
    }

    fn hopeless(&self, error: Error) -> Error {
        let error = match self.saved_step {
            Some(step) => error.hint(format!("step {step} is saved; the run continues from there")),
            None => error,
        };
        match error.code {
            ErrorCode::DiskFull => error.hint(
                "make room; `checkpoint.on_disk_full = \"wait\"` or `\"continue\"` would not stop",
            ),
            _ => error,
        }
    }

    /// Passes on what was saved.
    pub fn tell(&mut self, saved: Saved, observer: &mut dyn Observer) {
        self.degraded = false;
        self.told.retain(|what| !what.starts_with("waiting"));
        self.saved_step = Some(saved.step);
        self.last_seconds = saved.seconds;
        for warning in saved.warnings {
            self.warn(saved.step, warning, observer);
        }
        if saved.new {
            let Saved { step, path, seconds, .. } = saved;
            observer.on(Event::Saved { step, path, seconds });
        }
    }

    /// For how long a checkpoint stalled training since this was asked last.
    pub fn stood_still(&mut self) -> Duration {
        let since = self.stalled - self.known;
        self.known = self.stalled;
        since
    }

    /// How long checkpoint stall: saving, for people; nothing if it never did.
    pub fn summary(&self) -> Option<String> {
        let (stalled, all) = (self.stalled.as_secs_f64(), self.began.elapsed().as_secs_f64());
        (self.count > 0).then(|| {
            format!(
                "checkpoint stall: {stalled:.3} s in {} saves, {:.2} % of {all:.1} s",
                self.count,
                100.0 * stalled / all.max(1e-9)
            )
        })
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        // Whatever ends the run, what was saved goes where it is to go.
        let _ = self.saver.wait();
        self.uploads.wait(|| true);
    }
}

fn line(error: &Error) -> String {
    match error.causes.first() {
        Some(cause) => format!("{}: {cause}", error.what),
        None => error.what.clone(),
    }
}
