//! What goes to stores once it is saved: on a thread of its own, in the order of the saves, so that
//! a save in a hurry does not wait for a network.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Chain, Mirror, StepCache, folder_name};
use crate::error::Error;

/// How often whoever waits asks whether it is to wait on.
const TICK: Duration = Duration::from_millis(50);

/// A committed checkpoint that is to go to stores.
pub(super) struct Upload {
    /// The run directory.
    pub root: PathBuf,
    /// Its step.
    pub step: u64,
    /// Where steps are kept that other machines take, and the name of these.
    pub shared: Option<(StepCache, Chain)>,
    /// Where the run is mirrored.
    pub mirror: Option<Mirror>,
}

/// The checkpoints of a run that are under way to stores.
#[derive(Clone, Default)]
pub struct Uploads(Arc<(Mutex<Queue>, Condvar)>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Upload>,
    at_work: bool,
    /// Steps, and what went wrong with them.
    warnings: Vec<(u64, String)>,
}

impl Upload {
    fn send(&self) -> Vec<Error> {
        let shared = self.shared.as_ref().map(|(shelf, chain)| shelf.send(self.step, *chain));
        let mirrored = self.mirror.as_ref().map(|mirror| mirror.put_step(&self.root, self.step));
        // One that retention has removed meanwhile is followed by a later one.
        let gone = !self.root.join(folder_name(self.step)).exists();
        let mirrored = mirrored.filter(|_| !gone);
        shared.into_iter().chain(mirrored).filter_map(Result::err).collect()
    }
}

impl Uploads {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a checkpoint after those before it.
    pub(super) fn add(&self, upload: Upload) {
        let mut queue = self.queue();
        queue.waiting.push_back(upload);
        if !std::mem::replace(&mut queue.at_work, true) {
            let own = self.clone();
            std::thread::spawn(move || own.work());
        }
    }

    fn work(&self) {
        let _ended = Ended(self);
        while let Some(next) = self.next() {
            let errors = next.send();
            let warnings = errors.into_iter().map(|error| (next.step, error.with_causes()));
            self.queue().warnings.extend(warnings);
        }
    }

    /// The next checkpoint to send; without one, the thread that asks has ended.
    fn next(&self) -> Option<Upload> {
        let mut queue = self.queue();
        let next = queue.waiting.pop_front();
        queue.at_work = next.is_some();
        next
    }

    /// Waits until everything is sent, or could not be; or for as long as `waits`.
    pub fn wait(&self, waits: impl Fn() -> bool) {
        let mut queue = self.queue();
        while queue.at_work && waits() {
            let woken = self.0.1.wait_timeout(queue, TICK);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What could not be sent since this was asked last: steps, and why.
    pub fn warnings(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.queue().warnings)
    }
}

/// Nobody waits for a thread that has ended; another may be at work by then.
struct Ended<'a>(&'a Uploads);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue();
            queue.at_work = false;
            queue.waiting.clear();
        }
        self.0.0.1.notify_all();
    }
}
