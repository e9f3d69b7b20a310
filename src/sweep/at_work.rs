//! A run at work: a process, or a thread of this one.

use std::path::{Path, PathBuf};

use super::child::{PointProcess, reason};
use super::point_thread::{PointThread, ThreadRequest};
use crate::error::Result;

/// How runs are started.
pub enum PointStarter {
    /// This program again, with these arguments.
    Process {
        /// It.
        program: PathBuf,
        /// Further arguments of each run.
        arguments: Vec<String>,
    },
    /// A thread beside others on the same base in memory.
    Thread(ThreadRequest),
}

/// A run at work.
pub enum PointAtWork {
    /// As a process.
    Process(PointProcess),
    /// As a thread; its log, and where this run began in it.
    Thread(PointThread, PathBuf, u64),
}

impl PointStarter {
    /// Starts a run.
    ///
    /// # Errors
    /// When it cannot be started, or its log not written.
    pub fn start(&self, config: &Path, stop_at: Option<u64>, log: &Path) -> Result<PointAtWork> {
        match self {
            Self::Process { program, arguments } => {
                let process = PointProcess::start(program, config, stop_at, arguments, log)?;
                Ok(PointAtWork::Process(process))
            }
            Self::Thread(request) => {
                let begins = log.metadata().map_or(0, |found| found.len());
                let thread = PointThread::start(request, config, stop_at, log)?;
                Ok(PointAtWork::Thread(thread, log.to_path_buf(), begins))
            }
        }
    }
}

impl PointAtWork {
    /// Asks it to save and stop.
    pub fn stop(&mut self) {
        match self {
            Self::Process(process) => process.stop(),
            Self::Thread(thread, ..) => thread.stop(),
        }
    }

    /// How it ended, if it has: the exit code, or none where the system ended it.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<Option<i32>>> {
        match self {
            Self::Process(process) => Ok(process.ended()?.map(|status| status.code())),
            Self::Thread(thread, ..) => Ok(thread.ended().map(Some)),
        }
    }

    /// What it said last as an error.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Process(process) => process.reason(),
            Self::Thread(_, log, begins) => reason(log, *begins),
        }
    }
}
