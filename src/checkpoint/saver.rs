//! Saves on another thread while training goes on, one checkpoint at a time.

use std::thread::JoinHandle;

use crate::checkpoint::{Job, Saved};
use crate::error::{Error, Result};

/// The save in flight, if there is one.
#[derive(Default)]
pub struct Saver(Option<JoinHandle<Result<Saved>>>);

impl Saver {
    /// Begins to save. One that is still in flight is waited for, so that memory stays bounded;
    /// whoever wants to know how it ended asks before.
    pub fn start(&mut self, job: Job) {
        let _ = self.wait();
        self.0 = Some(std::thread::spawn(move || job.commit()));
    }

    /// What became of the last one, if it has ended since this was asked last.
    pub fn ended(&mut self) -> Option<Result<Saved>> {
        match &self.0 {
            Some(thread) if thread.is_finished() => self.wait(),
            _ => None,
        }
    }

    /// Waits for the one in flight.
    pub fn wait(&mut self) -> Option<Result<Saved>> {
        let ended = self.0.take()?.join();
        Some(ended.unwrap_or_else(|_| {
            Err(Error::checkpoint("the thread that saves checkpoints has failed"))
        }))
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // Whatever ends the run, a checkpoint that was begun is finished.
        let _ = self.wait();
    }
}
