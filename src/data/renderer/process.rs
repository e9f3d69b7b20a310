//! The process that renders, as the program sees it: asked, waited for, stopped, and let go of.

use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::limits::STACK;
use super::server::COMMAND;
use super::wire::{read_bytes, read_length, write_frame};
use crate::error::{Context, Error, Result};

/// How often it is looked whether a process takes too long.
const TICK: Duration = Duration::from_millis(100);
/// How long a process may take to end that gave no answer.
const GRACE: Duration = Duration::from_secs(2);
/// How much is read of what a process says when it fails.
const MAX_SAID: u64 = 4096;

/// Why a process gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The memory that it may have was not enough.
    Memory,
    /// Its stack was not enough.
    Stack,
    /// It took too much processor time, or too long.
    Time,
    /// Something else, in words.
    Other(String),
}

impl End {
    /// As a sentence about the template; `memory` is how many bytes it was allowed.
    pub fn sentence(&self, memory: u64) -> String {
        match self {
            Self::Memory => {
                format!("it needs more than {} MiB of memory for one conversation", memory >> 20)
            }
            Self::Stack => {
                format!("it nests deeper than a stack of {} MiB allows", STACK >> 20)
            }
            Self::Time => "it takes too long".to_owned(),
            Self::Other(why) => format!("the process that renders it ended: {why}"),
        }
    }
}

/// A process that renders one template.
pub struct Process {
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    said: ChildStderr,
    watched: Arc<Watched>,
}

impl Process {
    /// Starts `program` with its hidden command.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The allocator would set aside as much at once as the process may have.
            .env("MIMALLOC_ARENA_RESERVE", "32MiB");
        // An interrupt from the terminal is for the program, which ends this process with itself.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .context_at("cannot start the program that runs chat templates", program)?;
        let (input, output, said) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let watched = Arc::new(Watched {
            child: Mutex::new(child),
            deadline: Mutex::new(None),
            overran: AtomicBool::new(false),
        });
        let (Some(output), Some(said)) = (output, said) else {
            return Err(Error::file("the program has no output").at(program));
        };
        let process = Self { input, output: BufReader::new(output), said, watched };
        watch(&process.watched)?;
        Ok(process)
    }

    /// Asks for the answer to a request, for as long as `patience`.
    ///
    /// # Errors
    /// When there is none: the process is of no use then.
    pub fn ask(&mut self, request: &[&[u8]], patience: Duration) -> Result<Vec<u8>, End> {
        *lock(&self.watched.deadline) = Instant::now().checked_add(patience);
        let answer = self.exchange(request);
        *lock(&self.watched.deadline) = None;
        answer.map_or_else(|| Err(self.end()), Ok)
    }

    fn exchange(&mut self, request: &[&[u8]]) -> Option<Vec<u8>> {
        write_frame(self.input.as_mut()?, request).ok()?;
        let length = read_length(&mut self.output).ok()??;
        read_bytes(&mut self.output, length).ok()
    }

    /// Why there was no answer.
    fn end(&mut self) -> End {
        drop(self.input.take());
        // One that closed its output is about to end by itself, and its own status says more.
        let status = self.watched.stop(GRACE);
        let mut output = Vec::new();
        let _ = (&mut self.said).take(MAX_SAID).read_to_end(&mut output);
        let output = String::from_utf8_lossy(&output);
        if self.watched.overran.load(Ordering::Relaxed) || out_of_time(status) {
            return End::Time;
        }
        // The last words of Rust's runtime. A process that aborts says it in no other way: the
        // signal is the same for every reason.
        if output.contains("overflowed its stack") {
            return End::Stack;
        }
        if output.contains("memory allocation of") {
            return End::Memory;
        }
        let status = status.map_or_else(|| "without a status".to_owned(), |it| it.to_string());
        let line = output.lines().map(str::trim).find(|line| !line.is_empty());
        End::Other(line.map_or_else(|| status.clone(), |line| format!("{status}: {line}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watched.stop(Duration::ZERO);
    }
}

#[cfg(unix)]
fn out_of_time(status: Option<ExitStatus>) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.and_then(|status| status.signal()) == Some(signal_hook::consts::SIGXCPU)
}

#[cfg(not(unix))]
fn out_of_time(_status: Option<ExitStatus>) -> bool {
    false
}

/// What the thread sees of a process that looks whether one takes too long.
struct Watched {
    child: Mutex<Child>,
    deadline: Mutex<Option<Instant>>,
    overran: AtomicBool,
}

impl Watched {
    /// Stops the process if it still runs after a while, and takes note of its end, so that none
    /// is left behind.
    fn stop(&self, grace: Duration) -> Option<ExitStatus> {
        let mut child = lock(&self.child);
        let begin = Instant::now();
        while child.try_wait().ok().flatten().is_none() {
            if begin.elapsed() >= grace {
                let _ = child.kill(); // it may have ended just now
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().ok()
    }

    fn check(&self) {
        let late = lock(&self.deadline).is_some_and(|deadline| Instant::now() > deadline);
        if late && !self.overran.swap(true, Ordering::Relaxed) {
            let _ = lock(&self.child).kill();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after a process until it is dropped.
fn watch(process: &Arc<Watched>) -> Result<()> {
    /// The processes, and whether a thread looks after them.
    static WATCHED: Mutex<(Vec<Weak<Watched>>, bool)> = Mutex::new((Vec::new(), false));
    let mut watched = lock(&WATCHED);
    watched.0.push(Arc::downgrade(process));
    if watched.1 {
        return Ok(());
    }
    let look = || {
        loop {
            std::thread::sleep(TICK);
            let mut watched = lock(&WATCHED);
            watched.0.retain(|process| process.strong_count() > 0);
            watched.1 = !watched.0.is_empty();
            if !watched.1 {
                return;
            }
            let processes: Vec<_> = watched.0.iter().filter_map(Weak::upgrade).collect();
            drop(watched);
            processes.iter().for_each(|process| process.check());
        }
    };
    std::thread::Builder::new().spawn(look).context("cannot start a thread")?;
    watched.1 = true;
    Ok(())
}
