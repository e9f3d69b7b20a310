//! The page of a run while it is at work: written again and again beside what the screen shows.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::page::write_live_page;
use crate::event::{Event, Observer, Stop};

/// How often it is written at most.
const EVERY: Duration = Duration::from_secs(30);
/// Writing takes at most this share of the time, however long the run is.
const SHARE: u32 = 100;

/// Passes everything on, and writes the page of the run between steps.
pub struct LivePage<'a, O: Observer> {
    inner: &'a mut O,
    run: PathBuf,
    /// When it is written next.
    due: Instant,
    /// Whether it could not be written, which is told once.
    failed: bool,
}

impl<'a, O: Observer> LivePage<'a, O> {
    /// Of the run in this directory.
    pub fn new(inner: &'a mut O, run: &Path) -> Self {
        Self { inner, run: run.to_owned(), due: Instant::now() + EVERY, failed: false }
    }

    fn write(&mut self) {
        let began = Instant::now();
        match write_live_page(&self.run) {
            Ok(()) => self.failed = false,
            Err(_) if self.failed => {}
            Err(error) => {
                self.failed = true;
                let why = error.with_causes();
                self.inner.on(Event::Warning(format!("the page of the run is not new: {why}")));
            }
        }
        self.due = Instant::now() + EVERY.max(began.elapsed() * SHARE);
    }
}

impl<O: Observer> Observer for LivePage<'_, O> {
    fn on(&mut self, event: Event) {
        let between = matches!(event, Event::Step(..) | Event::Evaluation(_) | Event::Saved { .. });
        self.inner.on(event);
        if between && Instant::now() >= self.due {
            self.write();
        }
    }

    fn stop_requested(&self) -> Option<Stop> {
        self.inner.stop_requested()
    }
}
