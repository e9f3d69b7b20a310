//! Runs points, some at a time, and goes on wherever an earlier process stopped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::at_work::{PointAtWork, PointStarter};
use super::elsewhere::SweepStore;
use super::manifest::{PlannedPoint, SweepFolder};
use super::others::Others;
use super::outcome::SweepOutcome;
use super::queue::{Begins, NextRun, Queue};
use super::results::values_at;
use super::stopping::{Limit, Progress, Stopping};
use crate::checkpoint::newest;
use crate::device::memory_bytes_available;
use crate::error::Result;
use crate::event::Stop;
use crate::files::{Digest, RunDirectory, read_bytes};
use crate::train::has_result;

/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often a run is begun again that ends without a word, such as one for which there is not
/// enough memory.
const ATTEMPTS: u32 = 3;
/// Longer configurations were not planned.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Of the memory that is available, the part that predictions may add up to.
const MEMORY_SHARE: f64 = 0.9;

/// What is asked of a sweep.
pub struct SweepRequest<'a> {
    /// The planned sweep.
    pub folder: &'a SweepFolder,
    /// The points to run, by their numbers.
    pub own: Vec<usize>,
    /// Where results go, and workers of other machines hear of each other.
    pub store: Option<&'a SweepStore>,
    /// How long steps of other workers are waited for while nothing is heard of any.
    pub patience: Duration,
    /// How they are started.
    pub starter: PointStarter,
    /// How many runs at a time.
    pub jobs: usize,
    /// Whether the user wants to stop.
    pub stop: &'a dyn Fn() -> Option<Stop>,
    /// Hears what happens.
    pub say: &'a dyn Fn(&str),
}

/// Runs the points that are not finished.
///
/// # Errors
/// When processes cannot be started, or the store cannot be reached at the beginning. A point that
/// fails is part of the outcome.
pub fn run_points(request: &SweepRequest) -> Result<SweepOutcome> {
    let folder = request.folder;
    if let Some(store) = request.store {
        store.put_manifest(&folder.manifest)?;
    }
    let others = Others::of(folder, request.store)?;
    let points: Vec<&PlannedPoint> = folder.manifest.points.iter().collect();
    let own: BTreeSet<&str> = request.own.iter().map(|at| points[*at].id.as_str()).collect();
    let is_finished = |point: &PlannedPoint| {
        matches!(has_result(&folder.run(point)), Ok(true)) || others.told(point).finished
    };
    let finished = request.own.iter().map(|at| points[*at]).filter(|point| is_finished(point));
    let finished: BTreeSet<&str> = finished.map(|point| point.id.as_str()).collect();
    let begins = |point: &PlannedPoint| match own.contains(point.id.as_str()) {
        true if finished.contains(point.id.as_str()) => Begins::Done,
        true => Begins::Here(steps_of(folder, point).max(others.told(point).reached)),
        false => Begins::Elsewhere(0), // until it is looked at
    };
    let mut runner = Runner {
        request,
        queue: Queue::new(&points, others.by_store(), begins),
        active: Vec::new(),
        attempts: vec![0; points.len()],
        outcome: SweepOutcome { finished: finished.len(), ..SweepOutcome::default() },
        points,
        others,
        budget: memory_bytes_available(),
        waits: false,
    };
    runner.tell_all();
    runner.hear();
    runner.compare();
    runner.go()?;
    Ok(runner.outcome)
}

/// The step of the newest checkpoint of a point.
fn steps_of(folder: &SweepFolder, point: &PlannedPoint) -> u64 {
    let found = newest(&folder.run(point)).ok();
    found.and_then(|all| all.first().map(|(step, _)| *step)).unwrap_or(0)
}

struct Runner<'a> {
    request: &'a SweepRequest<'a>,
    /// All points of the sweep.
    points: Vec<&'a PlannedPoint>,
    others: Others<'a>,
    queue: Queue,
    active: Vec<(NextRun, PointAtWork)>,
    attempts: Vec<u32>,
    outcome: SweepOutcome,
    /// Memory that there was before anything ran.
    budget: Option<u64>,
    /// Whether it was said that another process is waited for.
    waits: bool,
}

impl<'a> Runner<'a> {
    fn go(&mut self) -> Result<()> {
        loop {
            self.reap()?;
            if self.outcome.stopped.is_none()
                && let Some(stop) = (self.request.stop)()
            {
                self.outcome.stopped = Some(stop);
                self.active.iter_mut().for_each(|(_, process)| process.stop());
            }
            if self.outcome.stopped.is_none() {
                if self.others.are_due() && self.has_place() {
                    self.look_elsewhere();
                }
                self.start()?;
            }
            let idle = self.active.is_empty();
            if idle && (self.queue.is_settled() || self.outcome.stopped.is_some()) {
                return Ok(());
            }
            if idle && !self.waits {
                self.waits = true;
                (self.request.say)("another process is at work in what is left; waiting for it");
            }
            std::thread::sleep(TICK);
        }
    }

    /// Whether another run could begin, if it were ready: what others have done since may make one
    /// ready, whether runs are at work here or not.
    fn has_place(&self) -> bool {
        let mut own = self.request.own.iter();
        self.active.len() < self.request.jobs && own.any(|entry| self.queue.is_open(*entry))
    }

    fn point(&self, entry: usize) -> &'a PlannedPoint {
        self.points[entry]
    }

    /// Tells others what is known here of the points of this process.
    fn tell_all(&mut self) {
        for entry in self.request.own.clone() {
            if self.others.by_store() && self.request.folder.run(self.point(entry)).exists() {
                self.tell(entry, None);
            }
        }
    }

    /// Tells others of a point. Whoever waits for it waits longer if that cannot be done now: it is
    /// told again with the next news of it, and when the sweep is run again.
    fn tell(&mut self, entry: usize, why: Option<&str>) {
        if let Err(error) = self.others.tell(self.points[entry], why) {
            let why = error.with_causes();
            (self.request.say)(&format!("warning: other workers were not told: {why}"));
        }
    }

    /// Starts what may run.
    fn start(&mut self) -> Result<()> {
        while self.active.len() < self.request.jobs {
            let folder = self.request.folder;
            let free = |entry: usize| {
                !RunDirectory::is_locked(&folder.run(self.point(entry))) && self.has_room(entry)
            };
            let Some(next) = self.queue.next(free) else { return Ok(()) };
            let point = self.point(next.entry);
            if has_result(&folder.run(point)).is_ok_and(|there| there) {
                self.found_finished(next.entry);
                continue;
            }
            let config = folder.config(point);
            let planned = read_bytes(&config, CONFIG_BYTES_MAX)
                .map(|bytes| Digest::of(&bytes) == point.config_sha256);
            match planned {
                Ok(true) => {}
                Ok(false) => {
                    self.fail(next.entry, "its configuration is not the one that was planned");
                    continue;
                }
                Err(error) => {
                    self.fail(next.entry, &error.with_causes());
                    continue;
                }
            }
            let starter = &self.request.starter;
            let process = starter.start(&config, next.stop_at, &folder.log(point))?;
            self.queue.begin(next.entry);
            self.active.push((next, process));
        }
        Ok(())
    }

    /// Whether the memory that is predicted for a point is there beside those that run. One that
    /// runs alone always may.
    fn has_room(&self, entry: usize) -> bool {
        let (Some(budget), Some(own)) = (self.budget, self.point(entry).memory_bytes) else {
            return true;
        };
        let running =
            self.active.iter().filter_map(|(next, _)| self.point(next.entry).memory_bytes);
        let all = own + running.sum::<u64>();
        #[expect(clippy::cast_precision_loss)] // a share of bytes
        let fits = all as f64 <= budget as f64 * MEMORY_SHARE;
        self.active.is_empty() || fits
    }

    /// Hears of processes that have ended.
    fn reap(&mut self) -> Result<()> {
        let mut at = 0;
        while at < self.active.len() {
            let Some(status) = self.active[at].1.ended()? else {
                at += 1;
                continue;
            };
            let (next, process) = self.active.remove(at);
            self.ended(next, status, &process);
            self.compare();
            self.others.wake();
        }
        Ok(())
    }

    /// Decides who goes on where all have come to a step at which they are compared.
    fn compare(&mut self) {
        let manifest = &self.request.folder.manifest;
        let Some(stopping) = &manifest.stopping else { return };
        let progress: Vec<Progress> =
            (0..self.points.len()).map(|entry| self.progress(stopping, entry)).collect();
        for (entry, limit) in stopping.limits(manifest.better(), &progress).into_iter().enumerate()
        {
            match limit {
                Limit::End => self.queue.limit(entry, None),
                Limit::Step(step) => self.queue.limit(entry, Some(step)),
                Limit::Stopped(step) if self.queue.is_open(entry) => {
                    self.queue.settle(entry);
                    self.outcome.stopped_early += 1;
                    let id = &self.point(entry).id;
                    (self.request.say)(&format!("{id}  stopped at step {step}, others are better"));
                }
                Limit::Stopped(_) => {}
            }
        }
    }

    fn progress(&self, stopping: &Stopping, entry: usize) -> Progress {
        let point = self.point(entry);
        let own = self.request.own.contains(&entry);
        let told = if own { self.others.told(point) } else { self.others.facts(point) };
        let values = match own {
            true => {
                let metric = &self.request.folder.manifest.metric;
                values_at(&self.request.folder.run(point), metric, &stopping.steps)
            }
            false => vec![None; stopping.steps.len()],
        };
        let values = stopping
            .steps
            .iter()
            .zip(values)
            .map(|(step, here)| here.or_else(|| told.values.get(step).copied().flatten()));
        let failed = self.outcome.failed.iter().any(|(id, _)| *id == point.id);
        Progress {
            total: point.steps,
            // One that is settled is finished, has failed, or was stopped where it has come to.
            reached: self.queue.reached(entry).unwrap_or(u64::MAX),
            failed: failed || (!own && told.failed),
            values: values.collect(),
        }
    }

    fn ended(&mut self, next: NextRun, code: Option<i32>, process: &PointAtWork) {
        let entry = next.entry;
        let point = self.point(entry);
        let run = self.request.folder.run(point);
        match has_result(&run) {
            Ok(true) => {
                self.attempts[entry] = 0;
                self.queue.settle(entry);
                self.outcome.finished += 1;
                self.outcome.run_now += 1;
                self.tell(entry, None);
                let (done, all) = (self.outcome.finished, self.request.own.len());
                (self.request.say)(&format!("{done} of {all}  {}  finished", self.point(entry).id));
            }
            Ok(false) if code == Some(0) && next.stop_at.is_some() => {
                self.queue.pause(entry, steps_of(self.request.folder, point));
                self.tell(entry, None);
            }
            // It was asked to stop, or somebody else is at work there.
            Ok(false) if matches!(code, Some(130 | 143)) || RunDirectory::is_locked(&run) => {
                self.again(entry);
            }
            Ok(false) if code.is_none() => self.again(entry),
            Ok(false) => {
                let why = process.reason().unwrap_or_else(|| format!("exit code {code:?}"));
                self.fail(entry, &why);
            }
            Err(error) => self.fail(entry, &error.with_causes()),
        }
    }

    fn again(&mut self, entry: usize) {
        let reached = steps_of(self.request.folder, self.point(entry));
        self.attempts[entry] += 1;
        if self.outcome.stopped.is_none() && self.attempts[entry] >= ATTEMPTS {
            self.fail(entry, &format!("its process was ended {ATTEMPTS} times from outside"));
            return;
        }
        self.queue.pause(entry, reached);
        self.tell(entry, None);
    }

    fn fail(&mut self, entry: usize, why: &str) {
        self.queue.settle(entry);
        let id = self.point(entry).id.clone();
        (self.request.say)(&format!("{id}  failed: {why}"));
        self.tell(entry, Some(why));
        self.outcome.failed.push((id, why.to_owned()));
    }

    /// Another process has finished a point of this one.
    fn found_finished(&mut self, entry: usize) {
        self.queue.settle(entry);
        self.outcome.finished += 1;
        self.compare();
    }

    /// What is known of the points of other workers, where it matters here; whether it is new.
    fn hear(&mut self) -> bool {
        let all = self.points.len();
        let stopping = self.request.folder.manifest.stopping.is_some();
        if self.request.own.len() == all || !(stopping || self.others.by_store()) {
            return false;
        }
        let mut is_new = false;
        for entry in (0..all).filter(|entry| !self.request.own.contains(entry)) {
            let facts = self.others.facts(self.point(entry));
            let before = self.queue.reached(entry);
            self.queue.hear(entry, facts.reached);
            if facts.finished || facts.failed {
                self.queue.settle(entry);
            }
            is_new |= self.queue.reached(entry) != before;
        }
        is_new
    }

    /// What others have done since.
    fn look_elsewhere(&mut self) {
        let began = Instant::now();
        if let Err(error) = self.others.look() {
            let why = error.with_causes();
            (self.request.say)(&format!("warning: other workers are not heard of: {why}"));
        }
        if self.hear() {
            self.compare();
        }
        for entry in &self.request.own {
            let run = self.request.folder.run(self.point(*entry));
            let open = self.queue.is_open(*entry) && !RunDirectory::is_locked(&run);
            if open && has_result(&run).is_ok_and(|there| there) {
                self.found_finished(*entry);
            }
        }
        if self.others.by_store() && self.others.silence() > self.request.patience {
            let count = self.queue.wait_no_longer();
            if count > 0 {
                let seconds = self.request.patience.as_secs();
                (self.request.say)(&format!(
                    "nothing was heard of other workers for {seconds} s: {count} points compute \
                     the steps that they would have shared"
                ));
            }
        }
        self.others.looked_for(began.elapsed());
    }
}
