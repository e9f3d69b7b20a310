//! Asks about adapters in a process of its own: a driver that crashes or hangs costs that process,
//! and becomes a sentence.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::adapter::{Adapter, Trial};
use crate::config::GraphicsApi;
use crate::error::{Context, Error, Result};

/// The hidden command of the program that answers.
pub const COMMAND: &str = "probe-device";

/// How long a driver may think about what it has, and about the first product.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_TRIAL: Duration = Duration::from_secs(90);
/// What a line begins with that says what is being done, and is no answer.
const STAGE: &str = "at ";
/// How much of an answer is read; real ones have a kilobyte an adapter.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The program that has the hidden command.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that drivers are asked in. Without one they are asked in this process: a
/// program that uses the library must not be started again by it.
pub fn probe_with(program: PathBuf) {
    let _ = PROGRAM.set(program); // the first one holds
}

/// The adapters of an interface.
///
/// # Errors
/// In one sentence, when its driver fails.
pub fn adapters(api: GraphicsApi) -> Result<Vec<Adapter>, String> {
    super::kernels::make_folder();
    match PROGRAM.get() {
        Some(program) => {
            ask(program, &[COMMAND.to_owned(), api.name().to_owned()], PATIENCE, &mut |_| {})
        }
        None => here(move || Ok(super::gpu::adapters(api))),
    }
}

/// Computes a small product on an adapter.
///
/// # Errors
/// In one sentence, when that fails.
pub fn trial(adapter: &Adapter) -> Result<Trial, String> {
    without_bfloat16_if_it_fails(adapter, &|adapter| match PROGRAM.get() {
        Some(program) => {
            let question = serde_json::to_string(adapter).map_err(|error| error.to_string())?;
            let words = [COMMAND.to_owned(), adapter.api.clone(), question];
            ask(program, &words, PATIENCE_TRIAL, &mut |_| {})
        }
        None => {
            let adapter = adapter.clone();
            here(move || super::gpu::trial(&adapter))
        }
    })
}

/// Kernels in bfloat16 are new to drivers: one that crashes over them is tried once more without.
fn without_bfloat16_if_it_fails(
    adapter: &Adapter,
    trial: &dyn Fn(&Adapter) -> Result<Trial, String>,
) -> Result<Trial, String> {
    match trial(adapter) {
        Err(why) if adapter.bfloat16 => {
            let found = trial(&Adapter { bfloat16: false, ..adapter.clone() })?;
            Ok(Trial { bf16_failure: Some(why), ..found })
        }
        found => found,
    }
}

/// The other half: what the hidden command prints for its arguments.
pub fn answer(api: &str, adapter: Option<&str>) -> Result<String> {
    let api = GraphicsApi::from_name(api)
        .ok_or_else(|| Error::device(format!("there is no interface `{api}`")))?;
    let answer = match adapter {
        None => serde_json::to_string(&Ok::<_, String>(super::gpu::adapters(api))),
        Some(json) => {
            let adapter: Adapter = serde_json::from_str(json).context("not an adapter")?;
            serde_json::to_string(&super::gpu::trial(&adapter))
        }
    };
    answer.context("cannot encode the answer")
}

/// Has work on a device done in a process of its own, which prints its answer as the commands here
/// do, and before that what it is about to do ([`stage`]), which `at` is told. It may be silent for
/// as long as `patience`. `None` where no program was named.
pub fn ask_aside<T: DeserializeOwned>(
    arguments: &[String],
    patience: Duration,
    at: &mut dyn FnMut(&str),
) -> Option<Result<T, String>> {
    PROGRAM.get().map(|program| ask(program, arguments, patience, at))
}

/// The line by which the other half says what it is about to do.
pub fn stage(what: &str) -> String {
    format!("{STAGE}{what}")
}

/// A driver's panic becomes a sentence; its crash does not.
fn here<T>(
    question: impl FnOnce() -> Result<T, String> + std::panic::UnwindSafe,
) -> Result<T, String> {
    std::panic::catch_unwind(question).unwrap_or_else(|_| Err("the driver failed".to_owned()))
}

fn ask<T: DeserializeOwned>(
    program: &Path,
    arguments: &[String],
    patience: Duration,
    at: &mut dyn FnMut(&str),
) -> Result<T, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|error| format!("the driver could not be asked: {error}"))?;
    let lines = lines_of(child.stdout.take());
    let mut text = String::new();
    loop {
        match lines.recv_timeout(patience) {
            Ok(line) => match line.strip_prefix(STAGE) {
                Some(what) => at(what),
                None => text.push_str(&line),
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => return Err(given_up(&mut child, patience)),
        }
    }
    let status = wait(&mut child, patience)?;
    if !status.success() {
        return Err(ended(status));
    }
    let answer: Result<T, String> = serde_json::from_str(text.trim())
        .map_err(|_| "the process that asked the driver gave no answer".to_owned())?;
    answer
}

/// The lines of an answer as they come, read by a thread so that waiting for them can end.
fn lines_of(out: Option<ChildStdout>) -> Receiver<String> {
    let (give, lines) = channel();
    std::thread::spawn(move || {
        let out = out.into_iter().map(|out| BufReader::new(out.take(ANSWER_BYTES_MAX)));
        let mut lines = out.flat_map(BufRead::lines).map_while(std::result::Result::ok);
        lines.try_for_each(|line| give.send(line))
    });
    lines
}

fn given_up(child: &mut Child, patience: Duration) -> String {
    let _ = child.kill();
    let _ = child.wait();
    format!("the driver did not answer within {} seconds", patience.as_secs())
}

fn wait(child: &mut Child, patience: Duration) -> Result<ExitStatus, String> {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if began.elapsed() < patience => std::thread::sleep(Duration::from_millis(3)),
            Ok(None) => return Err(given_up(child, patience)),
            Err(error) => return Err(format!("the driver could not be asked: {error}")),
        }
    }
}

/// How a process ended that a driver took down with it.
fn ended(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            4 => ", an illegal instruction",
            6 => ", it aborted itself",
            7 | 11 => ", a segmentation fault",
            8 => ", an arithmetic error",
            9 => ", perhaps out of memory",
            _ => "",
        };
        return format!("the driver crashed (signal {signal}{name})");
    }
    match status.code() {
        Some(code) => format!("the driver failed (exit code {code:#x})"),
        None => "the driver failed".to_owned(),
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::snapshots::says;

    fn program(folder: &Path, script: &str) -> PathBuf {
        let (text, path) = (folder.join("text"), folder.join("program"));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // A program that any process has open to write cannot be started, and what other tests start
        // at this moment would have it open with this one.
        assert!(Command::new("cp").args([&text, &path]).status().unwrap().success());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn whatever_a_driver_does_becomes_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let within = |patience: Duration, script: &str| -> String {
            let program = program(folder.path(), script);
            let words = [COMMAND, "vulkan"].map(str::to_owned);
            ask::<Vec<Adapter>>(&program, &words, patience, &mut |_| {}).unwrap_err()
        };
        let ask = |script: &str| within(Duration::from_secs(600), script);
        says(
            ask("kill -SEGV $$"),
            snapbox::str!["the driver crashed (signal 11, a segmentation fault)"],
        );
        says(
            ask("kill -ABRT $$"),
            snapbox::str!["the driver crashed (signal 6, it aborted itself)"],
        );
        let hangs = within(Duration::from_millis(400), "exec sleep 600");
        says(&hangs, snapbox::str!["the driver did not answer within 0 seconds"]);
        says(ask("echo '{'"), snapbox::str!["the process that asked the driver gave no answer"]);
        let much = ask("yes | head -c 3000000"); // more than is read
        assert!(much.contains("the driver failed") || much.contains("no answer"), "{much}");
        says(ask("echo '{\"Err\":\"no memory\"}'"), snapbox::str!["no memory"]);
        says(ask("exit 3"), snapbox::str!["the driver failed (exit code 0x3)"]);
        let none = super::ask::<Vec<Adapter>>(&folder.path().join("x"), &[], PATIENCE, &mut |_| {});
        let none = none.unwrap_err();
        says(
            &none,
            snapbox::str!["the driver could not be asked: No such file or directory (os error 2)"],
        );
    }

    #[test]
    fn a_driver_that_crashes_over_bfloat16_is_tried_without() {
        let old =
            super::super::fixture::adapter("vulkan", 0, super::super::AdapterKind::Discrete, 0);
        let new = Adapter { bfloat16: true, ..old.clone() };
        let crash = "the driver crashed (signal 11, a segmentation fault)";
        let trial = |adapter: &Adapter| match adapter.bfloat16 {
            true => Err(crash.to_owned()),
            false => Ok(super::super::fixture::right_trial()),
        };
        let found = without_bfloat16_if_it_fails(&new, &trial).unwrap();
        assert!(found.has_f16() && !found.has_bf16() && found.problem().is_none());
        assert_eq!(found.bf16_problem().as_deref(), Some(crash));
        let found = without_bfloat16_if_it_fails(&old, &trial).unwrap();
        assert_eq!(found.bf16_problem(), None);
        // What crashes over everything is as it was.
        let always = |_: &Adapter| Err("it hangs".to_owned());
        assert_eq!(without_bfloat16_if_it_fails(&new, &always).unwrap_err(), "it hangs");
    }

    #[test]
    fn an_answer_is_read_with_what_was_asked() {
        let folder = tempfile::tempdir().unwrap();
        let script = "[ \"$1 $2\" = 'probe-device gl' ] && echo '{\"Ok\":[]}'";
        let program = program(folder.path(), script);
        let words = [COMMAND, "gl"].map(str::to_owned);
        let found: Vec<Adapter> = ask(&program, &words, PATIENCE, &mut |_| {}).unwrap();
        assert!(found.is_empty());
    }

    /// Slow work goes on as long as it says what it does; what hangs is ended, and known by name.
    #[test]
    fn patience_is_for_silence() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |script: &str| {
            let program = program(folder.path(), script);
            let mut stages = Vec::new();
            let patience = Duration::from_secs(3);
            let mut at = |what: &str| stages.push(what.to_owned());
            let found = ask::<u32>(&program, &[], patience, &mut at);
            (found, stages.join(", "))
        };
        let line = |what: &str| format!("echo '{}'; ", stage(what));
        // Four seconds in all, and far from silent for three, however loaded the machine is.
        let slow = (line("one") + "sleep 0.1; ").repeat(40) + "echo '{\"Ok\":7}'";
        assert_eq!(ask(&slow), (Ok(7), ["one"; 40].join(", ")));
        let (found, stages) = ask(&(line("attention") + "exec sleep 600"));
        says(found.unwrap_err(), snapbox::str!["the driver did not answer within 3 seconds"]);
        assert_eq!(stages, "attention");
    }
}
