//! A run as a thread of this process, beside others on the same base in memory.
//!
//! Everything else of it is its own: directory, data, adapter, optimizer, log. Random numbers are
//! functions of seed and step, and products do not depend on what else is computed, so that it
//! gives the bytes that it gives alone.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::checkpoint::Allowed;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer, Stop};
use crate::files::folder_of;
use crate::settings;
use crate::trackers::Trackers;
use crate::train::{Access, Request, Resume, RunOutcome, train};

/// What a run is asked to do.
#[derive(Clone)]
pub struct ThreadRequest {
    /// Settings of every point that its configuration does not have.
    pub overrides: Arc<dyn Fn(&Path) -> Vec<String> + Send + Sync>,
    /// How files may be got.
    pub access: Access,
    /// How long the system waits between asking a run to end and ending it.
    pub grace: Duration,
}

/// A run at work.
pub struct PointThread {
    thread: Option<JoinHandle<i32>>,
    stop: Arc<AtomicBool>,
}

impl PointThread {
    /// Starts a run.
    ///
    /// # Errors
    /// When its log cannot be written, or no thread started.
    pub fn start(
        request: &ThreadRequest,
        config: &Path,
        stop_at: Option<u64>,
        log: &Path,
    ) -> Result<Self> {
        let folder = folder_of(log);
        fs::create_dir_all(folder).context_at("cannot make the folder of logs", folder)?;
        let file = OpenOptions::new().append(true).create(true).open(log);
        let log = file.context_at("cannot write the log", log)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (request, config, asked) = (request.clone(), config.to_path_buf(), Arc::clone(&stop));
        let run = move || {
            let (timings, trackers, step) = (None, Trackers::default(), AtomicU64::new(0));
            let mut observer = LogObserver { log, timings, trackers, stop: asked, stop_at, step };
            match point(&request, &config, &mut observer) {
                Ok(code) => code,
                Err(error) => {
                    observer.write(&error.to_string());
                    2
                }
            }
        };
        let thread = std::thread::Builder::new().name("point".to_owned()).spawn(run);
        let thread = thread.context("cannot start a thread for a run")?;
        Ok(Self { thread: Some(thread), stop })
    }

    /// Asks it to save and stop.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The exit code that a process of its own would have had, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        if !self.thread.as_ref()?.is_finished() {
            return None;
        }
        // A fault of the program's is one of this run alone.
        Some(self.thread.take()?.join().unwrap_or(2))
    }
}

fn point(request: &ThreadRequest, config: &Path, observer: &mut LogObserver) -> Result<i32> {
    let loaded = settings::load(config, &(request.overrides)(config))?;
    observer.trackers = Trackers::new(&loaded.config);
    let config_path = config.display().to_string();
    let outcome = train(
        &Request {
            loaded: &loaded,
            config_path: &config_path,
            resume: Resume::Auto,
            allowed: Allowed::default(),
            grace: request.grace,
            access: request.access.clone(),
        },
        observer,
    )?;
    Ok(match outcome {
        RunOutcome::Paused { stop: Stop::Terminate | Stop::Interrupt, .. } => 143,
        _ => 0,
    })
}

/// Writes what a run says into its log.
struct LogObserver {
    log: File,
    timings: Option<File>,
    trackers: Trackers,
    stop: Arc<AtomicBool>,
    /// The step at which others take what it has.
    stop_at: Option<u64>,
    step: AtomicU64,
}

impl LogObserver {
    fn write(&mut self, text: &str) {
        let _ = writeln!(self.log, "{text}"); // for people: the run is the same without it
    }
}

impl Drop for LogObserver {
    fn drop(&mut self) {
        for warning in self.trackers.finish() {
            self.write(&format!("warning: {warning}"));
        }
    }
}

impl Observer for LogObserver {
    fn on(&mut self, event: Event) {
        for warning in self.trackers.on(&event) {
            self.write(&format!("warning: {warning}"));
        }
        match event {
            Event::Note(text) => self.write(&text),
            Event::Fact(label, value) => self.write(&format!("{label:>12}  {value}")),
            Event::Warning(text) => self.write(&format!("warning: {text}")),
            Event::Begin { done, timings, .. } => {
                self.step.store(done, Ordering::Relaxed);
                self.timings = File::options().append(true).create(true).open(timings).ok();
            }
            Event::Begun(step) => self.step.store(step, Ordering::Relaxed),
            Event::Step(report, timing) => {
                self.write(&format!("step {}  loss {:.4}", report.step, report.loss));
                if let (Some(file), Ok(line)) = (&mut self.timings, serde_json::to_string(&timing))
                {
                    let _ = writeln!(file, "{line}");
                }
            }
            Event::Evaluation(found) => {
                self.write(&format!("step {}  {}", found.step, found.described()));
            }
            Event::Saved { step, .. } => self.write(&format!("saved step {step}")),
            Event::Doing(_) | Event::Answering { .. } | Event::Sample(_) | Event::End => {}
        }
    }

    fn stop_requested(&self) -> Option<Stop> {
        if self.stop.load(Ordering::Relaxed) {
            return Some(Stop::Terminate);
        }
        let step = self.step.load(Ordering::Relaxed);
        self.stop_at.filter(|stop_at| step >= *stop_at).map(|_| Stop::Asked)
    }
}

impl Drop for PointThread {
    fn drop(&mut self) {
        // Whoever ends the sweep waits for what is being saved.
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a run cannot be in a process with others.
///
/// # Errors
/// When two runs would want what a process has once.
pub fn expect_alike(configs: &[PathBuf]) -> Result<()> {
    let mut threads: Option<(usize, &PathBuf)> = None;
    for config in configs {
        let Ok(loaded) = settings::load(config, &[]) else { continue }; // told when it runs
        let own = loaded.config.device.threads;
        match threads {
            Some((known, first)) if known != own => {
                let what = "runs of one process have the same `device.threads`";
                return Err(Error::usage(what)
                    .because(format!("it is {known} in {}", first.display()))
                    .because(format!("it is {own} in {}", config.display()))
                    .hint("leave `--resident` out, or set it for all points"));
            }
            _ => threads = Some((own, config)),
        }
    }
    Ok(())
}
