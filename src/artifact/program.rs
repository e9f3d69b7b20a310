//! A program that signs in our place: for keys in hardware, in a cloud, or behind a passphrase.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Long enough for a person to touch a key, short enough for a job that nobody watches.
const LIMIT: Duration = Duration::from_secs(60);
/// Long enough for a person to log in with an identity provider, in a browser.
const KEYLESS_LIMIT: Duration = Duration::from_secs(300);
/// How often a program that is not done yet is looked at.
const PAUSE: Duration = Duration::from_millis(5);
/// More than any signature has; what comes after it is not read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
/// The same for a bundle around a statement about some hundred thousand files.
const MAX_BUNDLE_BYTES: u64 = 64 << 20;
/// How much of what the program complains about is shown.
const MAX_COMPLAINT_CHARACTERS: usize = 500;

/// A command that gets the bytes to sign on stdin and prints the signature on stdout.
#[derive(Debug, Clone)]
pub struct Program {
    command: Vec<String>,
    limit: Duration,
    answer_bytes: u64,
}

impl Program {
    /// A program with its arguments; no shell is between.
    ///
    /// # Errors
    /// When the program has no name.
    pub fn new(command: &[String]) -> Result<Self> {
        match command.first() {
            Some(name) if !name.is_empty() => {
                Ok(Self { command: command.to_vec(), limit: LIMIT, answer_bytes: MAX_ANSWER_BYTES })
            }
            _ => Err(Error::key("the signing command is empty")),
        }
    }

    /// A program that answers with a whole bundle, after somebody has logged in perhaps.
    ///
    /// # Errors
    /// When the program has no name.
    pub fn keyless(command: &[String]) -> Result<Self> {
        let program = Self::new(command)?;
        Ok(Self { limit: KEYLESS_LIMIT, answer_bytes: MAX_BUNDLE_BYTES, ..program })
    }

    /// What the user calls it.
    pub fn name(&self) -> &str {
        &self.command[0]
    }

    /// What the program answers to `message`.
    ///
    /// # Errors
    /// When it cannot be started, fails, or is not done after a minute.
    pub fn ask(&self, message: &[u8]) -> Result<Vec<u8>> {
        let until = Instant::now() + self.limit;
        let mut child = Command::new(self.name())
            .args(&self.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.error("cannot be started").because(error))?;
        write_all(&mut child, message.to_vec());
        let answer = read_all(child.stdout.take(), self.answer_bytes);
        let complaint = read_all(child.stderr.take(), MAX_ANSWER_BYTES);
        let (status, answer) = self.wait(&mut child, &answer, until)?;
        if status.success() {
            return Ok(answer);
        }
        let error = self.error(&format!("failed ({status})"));
        // Its own words, if they are there: a child of it may keep stderr open.
        let words = complaint.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let words: String = words.trim().chars().take(MAX_COMPLAINT_CHARACTERS).collect();
        Err(if words.is_empty() { error } else { error.because(words) })
    }

    /// Waits until the program has ended and all that it printed is there; ends it at the limit.
    fn wait(
        &self,
        child: &mut Child,
        answer: &Receiver<Vec<u8>>,
        until: Instant,
    ) -> Result<(ExitStatus, Vec<u8>)> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let answer = answer.recv_timeout(left);
                    return Ok((status, answer.map_err(|_| self.too_slow())?));
                }
                Ok(None) if Instant::now() >= until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(self.too_slow());
                }
                Ok(None) => thread::sleep(PAUSE),
                Err(error) => return Err(self.error("cannot be waited for").because(error)),
            }
        }
    }

    fn too_slow(&self) -> Error {
        let seconds = self.limit.as_secs_f64();
        self.error(&format!("gave no signature within {seconds} seconds"))
            .hint("it must read stdin to its end, print the signature and end")
    }

    fn error(&self, what: &str) -> Error {
        Error::key(format!("the signing program `{}` {what}", self.name()))
    }
}

/// In a thread, since a program may print before it has read all. One that does not want to read
/// is no error here: its answer decides.
fn write_all(child: &mut Child, message: Vec<u8>) {
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || stdin.write_all(&message));
    }
}

/// In a thread that nobody waits for: whoever else holds the other end may keep it open for ever.
fn read_all(stream: Option<impl Read + Send + 'static>, limit: u64) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            let _ = stream.take(limit).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn shell(script: &str) -> Program {
        let command = ["sh", "-c", script].map(str::to_owned);
        Program { limit: Duration::from_millis(500), ..Program::new(&command).unwrap() }
    }

    #[test]
    fn the_program_gets_every_byte_and_its_answer_comes_back() {
        let message: Vec<u8> = (0..1 << 20).map(|number: u32| number.to_le_bytes()[0]).collect();
        let patient = Program { limit: LIMIT, ..shell("wc -c; exec cat > /dev/null") };
        assert_eq!(String::from_utf8(patient.ask(&message).unwrap()).unwrap().trim(), "1048576");
        // It may print before it reads, and need not read at all.
        assert_eq!(Program { limit: LIMIT, ..shell("printf abc") }.ask(&message).unwrap(), b"abc");
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_own_words() {
        let patient = Program { limit: LIMIT, ..shell("echo the card is locked >&2; exit 3") };
        let error = patient.ask(b"x").unwrap_err();
        let text = error.to_string();
        says(
            &text,
            snapbox::str![[r#"
error[key]: the signing program `sh` failed (exit status: 3)
  because the card is locked
"#]],
        );
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let mut messages = String::new();
        for script in ["exec sleep 60", "sleep 60 & exit 0"] {
            let began = Instant::now();
            let error = shell(script).ask(b"x").unwrap_err().to_string();
            messages += &format!("{error}\n");
            assert!(began.elapsed() < Duration::from_secs(60), "it waits for `{script}`");
        }
        says(
            messages,
            snapbox::str![[r#"
error[key]: the signing program `sh` gave no signature within 0.5 seconds

hint: it must read stdin to its end, print the signature and end
error[key]: the signing program `sh` gave no signature within 0.5 seconds

hint: it must read stdin to its end, print the signature and end

"#]],
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let program = Program::new(&["/does/not/exist".to_owned()]).unwrap();
        says(
            program.ask(b"x").unwrap_err(),
            snapbox::str![[r#"
error[key]: the signing program `/does/not/exist` cannot be started
  because No such file or directory (os error 2)
"#]],
        );
        assert!(Program::new(&[]).is_err());
        assert!(Program::new(&[String::new()]).is_err());
    }
}
