//! Runs points, some at a time, and goes on wherever an earlier process stopped.

use std::path::PathBuf;
use std::time::Duration;

use super::child::PointProcess;
use super::manifest::{PlannedPoint, SweepFolder};
use super::queue::{NextRun, Queue};
use super::results::values_at;
use super::stopping::{Limit, Progress, Stopping};
use crate::checkpoint::newest;
use crate::device::memory_bytes_available;
use crate::error::{Error, Result};
use crate::event::Stop;
use crate::files::{Digest, RunDirectory, read_bytes};
use crate::train::has_result;

/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often it is looked at a point at which another process is at work.
const ELSEWHERE: Duration = Duration::from_secs(1);
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
    /// The points to run.
    pub points: Vec<&'a PlannedPoint>,
    /// This program.
    pub program: PathBuf,
    /// How many runs at a time.
    pub jobs: usize,
    /// Further arguments of each run.
    pub arguments: Vec<String>,
    /// Whether the user wants to stop.
    pub stop: &'a dyn Fn() -> Option<Stop>,
    /// Hears what happens.
    pub say: &'a dyn Fn(&str),
}

/// What came of running points.
#[derive(Debug, Default)]
pub struct SweepOutcome {
    /// Points that are finished, before and now.
    pub finished: usize,
    /// Those of them that this process has run.
    pub run_now: usize,
    /// Points that were stopped, since others were better.
    pub stopped_early: usize,
    /// Points that failed, and why.
    pub failed: Vec<(String, String)>,
    /// Who asked to stop before all was done.
    pub stopped: Option<Stop>,
}

/// Runs the points that are not finished.
///
/// # Errors
/// When processes cannot be started. A point that fails is part of the outcome.
pub fn run_points(request: &SweepRequest) -> Result<SweepOutcome> {
    let reached = |point: &PlannedPoint| match has_result(&request.folder.run(point)) {
        Ok(true) => None,
        _ => Some(steps_of(request.folder, point)),
    };
    let queue = Queue::new(&request.points, reached);
    let mut runner = Runner {
        request,
        queue,
        active: Vec::new(),
        attempts: vec![0; request.points.len()],
        outcome: SweepOutcome::default(),
        budget: memory_bytes_available(),
        waits: false,
    };
    if let Some(stopping) = &request.folder.manifest.stopping
        && request.points.len() < request.folder.manifest.points.len()
    {
        let what = "`[stopping]` compares all points, and a worker has a part of them";
        return Err(Error::usage(what)
            .because(format!("it compares them after the steps {:?}", stopping.steps))
            .hint("run the sweep without `--index`, or leave `[stopping]` out"));
    }
    runner.outcome.finished =
        request.points.iter().filter(|point| reached(point).is_none()).count();
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
    queue: Queue,
    active: Vec<(NextRun, PointProcess)>,
    attempts: Vec<u32>,
    outcome: SweepOutcome,
    /// Memory that there was before anything ran.
    budget: Option<u64>,
    /// Whether it was said that another process is waited for.
    waits: bool,
}

impl Runner<'_> {
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
            std::thread::sleep(if idle { ELSEWHERE } else { TICK });
            if idle {
                self.look_elsewhere();
            }
        }
    }

    fn point(&self, entry: usize) -> &PlannedPoint {
        self.request.points[entry]
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
            let (program, log) = (&self.request.program, folder.log(point));
            let arguments = &self.request.arguments;
            let process = PointProcess::start(program, &config, next.stop_at, arguments, &log)?;
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
            self.ended(next, status.code(), &process);
            self.compare();
        }
        Ok(())
    }

    /// Decides who goes on where all have come to a step at which they are compared.
    fn compare(&mut self) {
        let manifest = &self.request.folder.manifest;
        let Some(stopping) = &manifest.stopping else { return };
        let progress: Vec<Progress> =
            (0..self.request.points.len()).map(|entry| self.progress(stopping, entry)).collect();
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
        let run = self.request.folder.run(point);
        let failed = self.outcome.failed.iter().any(|(id, _)| *id == point.id);
        Progress {
            total: point.steps,
            // One that is settled is finished, has failed, or was stopped where it has come to.
            reached: self.queue.reached(entry).unwrap_or(u64::MAX),
            failed,
            values: values_at(&run, &self.request.folder.manifest.metric, &stopping.steps),
        }
    }

    fn ended(&mut self, next: NextRun, code: Option<i32>, process: &PointProcess) {
        let entry = next.entry;
        let point = self.point(entry);
        let run = self.request.folder.run(point);
        match has_result(&run) {
            Ok(true) => {
                self.attempts[entry] = 0;
                self.queue.settle(entry);
                self.outcome.finished += 1;
                self.outcome.run_now += 1;
                let (done, all) = (self.outcome.finished, self.request.points.len());
                (self.request.say)(&format!("{done} of {all}  {}  finished", self.point(entry).id));
            }
            Ok(false) if code == Some(0) && next.stop_at.is_some() => {
                self.queue.pause(entry, steps_of(self.request.folder, point));
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
    }

    fn fail(&mut self, entry: usize, why: &str) {
        self.queue.settle(entry);
        let id = self.point(entry).id.clone();
        (self.request.say)(&format!("{id}  failed: {why}"));
        self.outcome.failed.push((id, why.to_owned()));
    }

    /// What others have finished since.
    fn look_elsewhere(&mut self) {
        for (entry, point) in self.request.points.iter().enumerate() {
            let run = self.request.folder.run(point);
            let open = self.queue.is_open(entry) && !RunDirectory::is_locked(&run);
            if open && has_result(&run).is_ok_and(|there| there) {
                self.queue.settle(entry);
                self.outcome.finished += 1;
            }
        }
        self.compare();
    }
}

impl SweepOutcome {
    /// The failure of the sweep, if points failed.
    pub fn failure(&self) -> Option<Error> {
        let (id, why) = self.failed.first()?;
        let what = match self.failed.len() {
            1 => format!("the point {id} failed"),
            count => format!("{count} points failed, first {id}"),
        };
        Some(
            Error::run(what)
                .because(why)
                .hint("what is finished stays; the same command tries them again"),
        )
    }
}
