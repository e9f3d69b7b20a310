//! A program that scores answers: a JSON line for each on stdin, a number a line on stdout.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Error, Result};

/// More output than this is something else than numbers.
const OUTPUT_MAX: u64 = 64 << 20;
/// How often a program is asked whether it is done.
const TICK: Duration = Duration::from_millis(5);

/// Asks the program; returns a number for each line, in order.
///
/// # Errors
/// When it cannot be started, fails, takes longer than `timeout`, or says something else.
pub fn scores(command: &[String], lines: &[Value], timeout: Duration) -> Result<Vec<f64>> {
    let failed = |what: String| Error::evaluation(what).at(&command[0]);
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed("cannot start the scorer".to_owned()).because(error))?;
    let mut text = String::new();
    for line in lines {
        text += &line.to_string();
        text.push('\n');
    }
    let stdin = child.stdin.take();
    std::thread::spawn(move || {
        // A program that reads less than everything is no mistake: its numbers are counted.
        let _ = stdin.map(|mut stdin| stdin.write_all(text.as_bytes()));
    });
    let stdout = child.stdout.take();
    let (send, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map(|stdout| {
            std::io::Read::read_to_end(&mut std::io::Read::take(stdout, OUTPUT_MAX), &mut bytes)
        });
        let _ = send.send(read.transpose().map(|_| bytes));
    });
    let deadline = Instant::now() + timeout;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(TICK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = timeout.as_secs();
                return Err(failed(format!("the scorer took longer than {seconds} s"))
                    .hint("give it more with `timeout_seconds`"));
            }
            Err(error) => return Err(failed("cannot wait for the scorer".into()).because(error)),
        }
    };
    if !status.success() {
        return Err(failed(format!("the scorer failed ({status})")));
    }
    let left = deadline.saturating_duration_since(Instant::now()).max(TICK);
    let bytes = output.recv_timeout(left);
    let bytes = bytes.map_err(|_| failed("the scorer left its output open".to_owned()))?;
    let bytes =
        bytes.map_err(|error| failed("cannot read the scorer's output".into()).because(error))?;
    numbers(&String::from_utf8_lossy(&bytes), lines.len()).map_err(|error| error.at(&command[0]))
}

fn numbers(text: &str, wanted: usize) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim().parse::<f64>() {
            Ok(score) if score.is_finite() => found.push(score),
            _ => {
                let shown: String = line.chars().take(60).collect();
                return Err(Error::evaluation(format!(
                    "line {number} of the scorer is not a number"
                ))
                .because(format!("it is `{shown}`")));
            }
        }
    }
    if found.len() != wanted {
        let what = format!("the scorer gave {} numbers for {wanted} answers", found.len());
        return Err(Error::evaluation(what).hint("one number a line, in the order of the records"));
    }
    Ok(found)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::snapshots::each_says;

    fn ask(script: &str, count: usize) -> Result<Vec<f64>> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let lines: Vec<Value> = (0..count).map(|id| json!({ "id": id })).collect();
        scores(&command, &lines, Duration::from_secs(600))
    }

    #[test]
    fn a_number_comes_back_for_each_line() {
        let found = ask("while read -r line; do echo \"$line\" | tr -cd 0-9; echo .5; done", 3);
        assert_eq!(found.unwrap(), [0.5, 1.5, 2.5]);
    }

    #[test]
    fn a_large_input_does_not_block_a_program_that_answers_at_once() {
        let found = ask(
            "cat > /dev/null; i=0; while [ $i -lt 20000 ]; do echo 1; i=$((i+1)); done",
            20_000,
        );
        assert_eq!(found.unwrap().len(), 20_000);
    }

    #[test]
    fn whatever_else_it_does_is_an_error() {
        let scripts = [
            "cat > /dev/null; echo 1",
            "cat > /dev/null; echo 1; echo high",
            "cat > /dev/null; echo 1; echo nan",
            "cat > /dev/null; exit 3",
        ];
        let missing = ["no-such-program".to_owned()];
        let slow = ["sleep", "60"].map(str::to_owned);
        let errors = scripts.map(|script| ask(script, 2)).into_iter().chain([
            scores(&missing, &[], Duration::from_secs(1)),
            scores(&slow, &[], Duration::from_millis(200)),
        ]);
        each_says(
            errors.map(|error| error.unwrap_err().to_string()),
            snapbox::str![[r#"
error[evaluation]: the scorer gave 1 numbers for 2 answers
  at sh

hint: one number a line, in the order of the records
error[evaluation]: line 2 of the scorer is not a number
  at sh
  because it is `high`
error[evaluation]: line 2 of the scorer is not a number
  at sh
  because it is `nan`
error[evaluation]: the scorer failed (exit status: 3)
  at sh
error[evaluation]: cannot start the scorer
  at no-such-program
  because No such file or directory (os error 2)
error[evaluation]: the scorer took longer than 0 s
  at sleep

hint: give it more with `timeout_seconds`
"#]],
        );
    }
}
