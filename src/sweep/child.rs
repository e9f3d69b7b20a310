//! The process of a run, as the sweep sees it. It is this program again, so that every run is alone
//! in its memory and gives the bytes that it gives alone.
//!
//! It stops, saved, when its input ends: when the sweep is asked to stop, and also when it is
//! killed. Signals of a terminal are for the sweep alone.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::error::{Context, Result};
use crate::files::folder_of;

/// The hidden command that a run is started with.
pub const POINT_COMMAND: &str = "sweep-point";

/// So much of a log is read for the reason of a failure.
const LOG_BYTES: u64 = 64 << 10;

/// A run at work.
pub struct PointProcess {
    child: Child,
    log: PathBuf,
    /// Where this process began to write.
    log_begins: u64,
}

impl PointProcess {
    /// Starts `program` with a configuration.
    ///
    /// # Errors
    /// When it cannot be started, or its log not written.
    pub fn start(
        program: &Path,
        config: &Path,
        stop_at: Option<u64>,
        arguments: &[String],
        log: &Path,
    ) -> Result<Self> {
        let folder = folder_of(log);
        fs::create_dir_all(folder).context_at("cannot make the folder of logs", folder)?;
        let open = || OpenOptions::new().append(true).create(true).open(log);
        let file = open().context_at("cannot write the log", log)?;
        let log_begins = file.metadata().map_or(0, |found| found.len());
        let second = file.try_clone().context_at("cannot write the log", log)?;
        let mut command = Command::new(program);
        command.arg(POINT_COMMAND).arg(config).args(arguments);
        if let Some(step) = stop_at {
            command.arg("--stop-at-step").arg(step.to_string());
        }
        command.stdin(Stdio::piped()).stdout(file).stderr(second);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().context_at("cannot start the program", program)?;
        Ok(Self { child, log: log.to_path_buf(), log_begins })
    }

    /// Asks it to save and stop.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for a run")
    }

    /// What it said last as an error.
    pub fn reason(&self) -> Option<String> {
        reason(&self.log, self.log_begins)
    }
}

/// The last error in a log behind a place, in one line.
pub fn reason(log: &Path, begins: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(begins.max(length.saturating_sub(LOG_BYTES)))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let last = text.lines().collect::<Vec<_>>().iter().rposition(|it| it.starts_with("error"))?;
    let mut lines = text.lines().skip(last);
    let first = lines.next()?;
    let more = lines.take_while(|line| line.starts_with("  ")).map(str::trim);
    Some(std::iter::once(first).chain(more).collect::<Vec<_>>().join(", "))
}
