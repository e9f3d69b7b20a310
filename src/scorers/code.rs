//! Answers that are programs: each is run in a sandbox, and is right if it ends without an error.
//!
//! The sandbox is bubblewrap's (`bwrap`): nothing but an empty folder can be written to, there is
//! no network, and what was started ends with it. Time, memory and the size of files are limited by
//! `prlimit` of util-linux.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::error::{Context, Error, Result};

/// How often a program is asked whether it is done.
const TICK: Duration = Duration::from_millis(5);
/// Beyond its processor time it may wait, and others may have the processor.
const PATIENCE: u64 = 4;
/// The largest file that it may write.
const FILE_BYTES: u64 = 16 << 20;
/// How many processes it may have; root may have more.
const PROCESSES: u64 = 64;

/// How answers are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRunner {
    /// The program that gets an answer on stdin, with its arguments.
    pub command: Vec<String>,
    /// Processor time of each answer.
    pub seconds: u64,
    /// Memory of each answer in bytes.
    pub memory: u64,
    /// Whether the record's own answer follows that of the model, as tests of it.
    pub append_reference: bool,
}

impl CodeRunner {
    /// Sees to it that there is a sandbox.
    ///
    /// # Errors
    /// When there is none, or the program does not start in it.
    pub fn check(&self) -> Result<()> {
        let known = |name: &str| Self { command: vec![name.to_owned()], ..self.clone() };
        let works = known("true").run("").map_err(|error| {
            error.hint(
                "install bubblewrap and util-linux (Linux); elsewhere, and where namespaces \
                        are forbidden, `kind = \"command\"` lets a program of yours run the code",
            )
        })?;
        if works {
            return Ok(());
        }
        Err(Error::config("code cannot be run in a sandbox here")
            .because("`bwrap` is installed, and fails")
            .hint("allow user namespaces, or let a program of yours run it (`kind = \"command\"`)"))
    }

    /// 1 for each answer that ends without an error, else 0.
    ///
    /// # Errors
    /// When the sandbox cannot be started.
    pub fn scores(&self, answers: &[(String, &str)]) -> Result<Vec<f64>> {
        let score = |(answer, reference): &(String, &str)| {
            let tests =
                if self.append_reference { format!("\n{reference}\n") } else { String::new() };
            Ok(f64::from(u8::from(self.run(&format!("{answer}{tests}"))?)))
        };
        let scores = answers.par_iter().map(score).collect::<Result<Vec<f64>>>()?;
        if scores.iter().all(|score| *score == 0.0) {
            self.check()?; // that may be for want of a sandbox
        }
        Ok(scores)
    }

    /// Whether a text ends without an error.
    fn run(&self, text: &str) -> Result<bool> {
        let mut child = self.start()?;
        let stdin = child.stdin.take();
        let text = text.to_owned();
        std::thread::spawn(move || {
            // A program that reads less than everything may be right all the same.
            let _ = stdin.map(|mut stdin| stdin.write_all(text.as_bytes()));
        });
        let deadline = Instant::now() + Duration::from_secs(self.seconds.saturating_mul(PATIENCE));
        loop {
            match child.try_wait().context("cannot wait for the sandbox")? {
                Some(status) => return Ok(status.success()),
                None if Instant::now() < deadline => std::thread::sleep(TICK),
                None => {
                    let _ = child.kill(); // all within ends with it
                    let _ = child.wait();
                    return Ok(false);
                }
            }
        }
    }

    fn start(&self) -> Result<Child> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let limit = |name: &str, most: u64| format!("--{name}={most}");
        Command::new("bwrap")
            .args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"])
            .args(["--chdir", "/tmp", "--unshare-all", "--die-with-parent", "--new-session"])
            .args(["--clearenv", "--setenv", "HOME", "/tmp", "--setenv", "PATH"])
            .arg(path)
            .args(["--", "prlimit", "--core=0"])
            .arg(limit("cpu", self.seconds))
            .arg(limit("as", self.memory))
            .arg(limit("fsize", FILE_BYTES))
            .arg(limit("nproc", PROCESSES))
            .arg("--")
            .args(&self.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                Error::config("there is no sandbox to run code in").at("bwrap").because(error)
            })
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    fn shell(seconds: u64) -> CodeRunner {
        let command = vec!["sh".to_owned()];
        CodeRunner { command, seconds, memory: 256 << 20, append_reference: true }
    }

    #[test]
    fn code_is_right_if_it_ends_without_an_error_and_can_do_no_harm() {
        let runner = shell(60);
        if let Err(error) = runner.check() {
            eprintln!("NOT TESTED: {error}");
            return;
        }
        let folder = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let file = folder.path().join("harm").display().to_string();
        let write = format!("echo x > '{file}'");
        let answers = [
            "f() { echo 3; }",
            "f() { echo 4; }",
            "f() { echo 3; }; kill -9 $$",
            "f() { echo 3; }; echo x > here && cat here > /tmp/there",
            &*write,
            "test -z \"$FIREBRAND_TEST_SECRET$CARGO\" || exit 1; f() { echo 3; }",
        ];
        let tests = "test \"$(f)\" = 3";
        let answers: Vec<_> = answers.map(|text| (text.to_owned(), tests)).to_vec();
        let scores = runner.scores(&answers).unwrap();
        assert_eq!(scores, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        assert!(!folder.path().join("harm").exists());
        let endless = ["while :; do :; done", "exec sleep 600"].map(|it| (it.to_owned(), tests));
        assert_eq!(shell(1).scores(&endless).unwrap(), [0.0, 0.0]);
        let alone = CodeRunner { append_reference: false, ..runner };
        assert_eq!(alone.scores(&[("true".to_owned(), "false")]).unwrap(), [1.0]);
    }
}
