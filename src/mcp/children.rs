//! Processes of this program that do the work: calls, which end with an answer, and runs, which
//! outlive the call that started them, and the server.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Context, Error, Result, printable};

/// How often a process is asked whether it is done.
const TICK: Duration = Duration::from_millis(20);
/// Calls that are answered at the same time.
const CALLS_MAX: usize = 4;
/// More of an answer is not read.
const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// So many lines of what a process says are kept, the newest, each so long.
const LINES_MAX: usize = 100;
const LINE_BYTES_MAX: u64 = 4096;

/// How a call ended.
pub(super) struct Answer {
    /// Whether it was done, with a yes (exit code 0) or a no (1).
    pub code: Option<i32>,
    pub stdout: String,
    /// The last lines of what it said.
    pub said: Vec<String>,
}

type Said = Arc<Mutex<VecDeque<String>>>;

/// A run that was started here.
struct StartedRun {
    directory: PathBuf,
    child: Child,
    said: Said,
    /// Once it has ended; nothing where a signal has ended it.
    exit: Option<Option<i32>>,
}

impl StartedRun {
    fn is_running(&mut self) -> bool {
        if self.exit.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.exit = Some(status.code());
        }
        self.exit.is_none()
    }
}

/// All processes of this server.
pub(super) struct Children {
    program: PathBuf,
    folder: PathBuf,
    patience: Duration,
    calls: Mutex<Vec<u32>>,
    runs: Mutex<Vec<StartedRun>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Children {
    /// Processes that work in this folder; a call may take so long.
    pub fn new(folder: &Path, patience: Duration) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the program itself")?;
        let (calls, runs) = (Mutex::default(), Mutex::default());
        Ok(Self { program, folder: folder.to_owned(), patience, calls, runs })
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.env("NO_COLOR", "1").env_remove(crate::terminal::LOG_FORMAT);
        // Keys and signals for the server are not for its children, and what a call has started
        // can be ended with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// Has a command done, and waits for it.
    ///
    /// # Errors
    /// When it cannot be started, takes too long, or the client no longer wants it.
    pub fn call(&self, arguments: &[String], unwanted: &dyn Fn() -> bool) -> Result<Answer> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = {
            let mut calls = locked(&self.calls);
            if calls.len() >= CALLS_MAX {
                return Err(Error::usage(format!("{CALLS_MAX} calls are at work already"))
                    .hint("wait until one of them is answered"));
            }
            let child = command.spawn().context("cannot start the program")?;
            calls.push(child.id());
            child
        };
        let id = child.id();
        let answer = self.answer(&mut child, unwanted);
        if answer.is_err() {
            end(id);
        }
        let _ = child.kill();
        let _ = child.wait();
        locked(&self.calls).retain(|call| *call != id);
        answer
    }

    fn answer(&self, child: &mut Child, unwanted: &dyn Fn() -> bool) -> Result<Answer> {
        let stdout = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stdout) = stdout {
                let _ = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        let (said, listener) = listen(child);
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = ended(child).context("cannot wait for the program")? {
                break status;
            }
            if unwanted() {
                return Err(Error::usage("the call was cancelled"));
            }
            if begun.elapsed() > self.patience {
                let seconds = self.patience.as_secs();
                return Err(Error::run(format!("the call took longer than {seconds} s"))
                    .hint("`--timeout` of the server says how long it may take"));
            }
            std::thread::sleep(TICK);
        };
        let stdout = reader.join().unwrap_or_default();
        let _ = listener.join();
        let said = locked(&said).iter().cloned().collect();
        Ok(Answer { code: status.code(), stdout, said })
    }

    /// Starts a run that writes into a directory, unless one is at work.
    ///
    /// # Errors
    /// When it cannot be started, or another one is at work.
    pub fn start(&self, arguments: &[String], directory: &Path) -> Result<()> {
        let mut runs = locked(&self.runs);
        if let Some(at_work) = runs.iter_mut().find_map(|run| run.is_running().then_some(run)) {
            let name = at_work.directory.display();
            return Err(Error::already_running(format!("the run in {name} is at work"))
                .because("this server starts one run at a time")
                .hint("wait for it (`status`), or stop it (`stop`)"));
        }
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the program")?;
        let (said, _) = listen(&mut child);
        runs.retain(|run| run.directory != directory);
        runs.push(StartedRun { directory: directory.to_owned(), child, said, exit: None });
        Ok(())
    }

    /// Waits until a run that was started here has ended, for so long at most.
    pub fn wait_for(&self, directory: &Path, patience: Duration, unwanted: &dyn Fn() -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < patience && !unwanted() && self.is_running(directory) {
            std::thread::sleep(TICK);
        }
    }

    fn is_running(&self, directory: &Path) -> bool {
        let mut runs = locked(&self.runs);
        let mut found = runs.iter_mut().filter(|run| run.directory == directory);
        found.any(StartedRun::is_running)
    }

    /// The process of a run, if it was started here: whether it is at work, how it ended, and the
    /// last that it said.
    pub fn process(&self, directory: &Path) -> Option<Value> {
        let mut runs = locked(&self.runs);
        let run = runs.iter_mut().find(|run| run.directory == directory)?;
        let running = run.is_running();
        let said: Vec<String> = locked(&run.said).iter().cloned().collect();
        let (id, code) = (run.child.id(), run.exit.flatten());
        Some(json!({"id": id, "running": running, "exit_code": code, "messages": said}))
    }

    /// Asks a run that was started here to save and stop.
    ///
    /// # Errors
    /// When there is none, or it cannot be asked.
    pub fn stop(&self, directory: &Path) -> Result<()> {
        let mut runs = locked(&self.runs);
        let mut found = runs.iter_mut().filter(|run| run.directory == directory);
        let Some(run) = found.find_map(|run| run.is_running().then_some(run)) else {
            return Err(Error::run("no run of this server is at work there")
                .at(directory)
                .hint("a run that somebody else has started is stopped where it was started"));
        };
        ask_to_stop(&run.child)
    }

    /// Ends the calls that nobody waits for any more. Runs go on.
    pub fn end_calls(&self) {
        for call in locked(&self.calls).drain(..) {
            end(call);
        }
    }
}

/// Collects what a process says, in a thread of its own.
fn listen(child: &mut Child) -> (Said, std::thread::JoinHandle<()>) {
    let said = Said::default();
    let (stderr, kept) = (child.stderr.take(), Arc::clone(&said));
    let listen = move || {
        let Some(stderr) = stderr else { return };
        let mut reader = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = printable(String::from_utf8_lossy(&line).trim_end());
            let mut kept = locked(&kept);
            if kept.len() == LINES_MAX {
                kept.pop_front();
            }
            kept.push_back(text);
        }
    };
    (said, std::thread::spawn(listen))
}

#[cfg(unix)]
fn ask_to_stop(child: &Child) -> Result<()> {
    let id = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM)
        .context("cannot ask the run to stop")
}

#[cfg(not(unix))]
fn ask_to_stop(_child: &Child) -> Result<()> {
    Err(Error::run("a run cannot be asked to stop on this system")
        .hint("it saves checkpoints by itself (`checkpoint.every_steps`)"))
}

/// Ends a call with all that it has started.
#[cfg(unix)]
fn end(id: u32) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
    }
}

/// How a call has ended, if it has. What it left behind ends with it, since it would keep the pipes
/// open, and before the call is waited for: from then on its number may be somebody else's.
#[cfg(unix)]
fn ended(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let asked = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if waitid(WaitId::Pid(Pid::from_child(child)), asked)?.is_none() {
        return Ok(None);
    }
    end(child.id());
    child.wait().map(Some)
}

#[cfg(not(unix))]
fn ended(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    child.try_wait()
}

/// They end by themselves, at the latest when their time is over.
#[cfg(not(unix))]
fn end(_id: u32) {}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn children(patience: Duration) -> Children {
        let (calls, runs) = (Mutex::default(), Mutex::default());
        Children { program: "/bin/sh".into(), folder: "/".into(), patience, calls, runs }
    }

    fn script(text: &str) -> Vec<String> {
        ["-c", text].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_call_has_its_answer_and_the_last_that_was_said() {
        let children = children(LONG);
        let text = "echo yes; for i in $(seq 150); do echo line $i >&2; done; exit 1";
        let answer = children.call(&script(text), &|| false).unwrap();
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), "yes\n"));
        assert_eq!((answer.said.len(), answer.said[99].as_str()), (100, "line 150"));
        let long = "head -c 10000 /dev/zero | tr '\\0' x >&2; printf '\\033[2J' >&2";
        let answer = children.call(&script(long), &|| false).unwrap();
        assert!(answer.said.iter().all(|line| line.len() <= 4096), "{:?}", answer.said);
        assert!(answer.said.last().unwrap().ends_with("\\u{1b}[2J"));
    }

    #[test]
    fn a_call_ends_when_its_time_is_over_or_nobody_waits() {
        let begun = Instant::now();
        let error = children(Duration::from_millis(50)).call(&script("exec sleep 60"), &|| false);
        assert_eq!(error.err().unwrap().what, "the call took longer than 0 s");
        let error = children(LONG).call(&script("exec sleep 60"), &|| true);
        assert_eq!(error.err().unwrap().what, "the call was cancelled");
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn what_a_call_has_started_ends_with_it() {
        let begun = Instant::now();
        let answer = children(LONG).call(&script("sleep 60 & echo yes"), &|| false).unwrap();
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "yes\n"));
        assert!(begun.elapsed() < LONG, "it waited for what the call had left behind");
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late");
        let text = format!("(sleep 1; touch '{}') & wait", late.display());
        let error = children(Duration::from_millis(50)).call(&script(&text), &|| false).err();
        assert_eq!(error.unwrap().what, "the call took longer than 0 s");
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!late.exists());
    }

    #[test]
    fn there_are_only_so_many_calls_and_they_can_all_be_ended() {
        let children = Arc::new(children(LONG));
        let threads: Vec<_> = (0..CALLS_MAX)
            .map(|_| {
                let children = Arc::clone(&children);
                std::thread::spawn(move || {
                    children.call(&script("exec sleep 60"), &|| false).unwrap().code
                })
            })
            .collect();
        while locked(&children.calls).len() < CALLS_MAX {
            std::thread::sleep(TICK);
        }
        let error = children.call(&script("true"), &|| false).err().unwrap();
        assert_eq!(error.what, "4 calls are at work already");
        children.end_calls();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), None));
    }

    #[test]
    fn one_run_at_a_time_is_started_and_can_be_stopped() {
        let children = children(LONG);
        let (one, two) = (Path::new("/one"), Path::new("/two"));
        assert!(children.process(one).is_none());
        let waits =
            "trap 'echo stopped >&2; exit 143' TERM; echo begun >&2; while :; do sleep 0.02; done";
        children.start(&script(waits), one).unwrap();
        let error = children.start(&script("true"), two).unwrap_err();
        assert_eq!(error.what, "the run in /one is at work");
        while children.process(one).unwrap()["messages"].as_array().unwrap().is_empty() {
            std::thread::sleep(TICK);
        }
        children.stop(one).unwrap();
        children.wait_for(one, LONG, &|| false);
        let process = children.process(one).unwrap();
        assert_eq!((&process["running"], &process["exit_code"]), (&false.into(), &143.into()));
        assert!(children.stop(one).is_err());
        children.start(&script("exit 3"), two).unwrap();
        children.wait_for(two, LONG, &|| false);
        assert_eq!(children.process(two).unwrap()["exit_code"], 3);
    }
}
