//! Tells a program or an address how a run ended. That somebody cannot be told changes nothing of
//! the run.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use crate::error::{Context, Error, Result};

/// How long whoever is told may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a program is asked whether it is done.
const TICK: Duration = Duration::from_millis(20);

/// Whom to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyTarget {
    /// A program with its arguments, which gets the message on stdin.
    Program(Vec<String>),
    /// An address, to which the message is sent (`POST`).
    Address(String),
}

impl NotifyTarget {
    /// Tells them.
    ///
    /// # Errors
    /// When they cannot be told, or answer with an error.
    pub fn tell(&self, message: &Value) -> Result<()> {
        let text = message.to_string() + "\n";
        match self {
            Self::Program(command) => tell_program(command, text),
            Self::Address(address) => post(address, &text),
        }
    }
}

fn tell_program(command: &[String], text: String) -> Result<()> {
    let failed = |what: String| Error::run(what).at(&command[0]);
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null()) // ours has the path of the artifact
        .spawn()
        .map_err(|error| failed("cannot start the program".to_owned()).because(error))?;
    let stdin = child.stdin.take();
    std::thread::spawn(move || {
        // Whoever does not read it did not want it.
        let _ = stdin.map(|mut stdin| stdin.write_all(text.as_bytes()));
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().context("cannot wait for the program")? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(failed(format!("the program failed ({status})"))),
            None if Instant::now() < deadline => std::thread::sleep(TICK),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = PATIENCE.as_secs();
                return Err(failed(format!("the program took longer than {seconds} s")));
            }
        }
    }
}

/// The address may hold a secret, and so is in no message.
fn post(address: &str, text: &str) -> Result<()> {
    let here = ["//localhost", "//127.0.0.1", "//[::1]"].iter().any(|it| address.contains(it));
    let config = Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .proxy(if here { None } else { Proxy::try_from_env() })
        .max_redirects(0)
        .user_agent(concat!("firebrand/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(PATIENCE))
        .build();
    let sent = config.new_agent().post(address).content_type("application/json").send(text);
    sent.map(|_| ()).map_err(|error| {
        let error = Error::network("the address did not take the message").because(error);
        error.hint("it must answer a `POST` of JSON with a status from 200 to 299")
    })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;
    use crate::snapshots::says;

    #[test]
    fn a_program_gets_the_message_and_may_fail() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told").display().to_string();
        let program = |script: &str| {
            NotifyTarget::Program(["sh", "-c", script, "sh", &file].map(str::to_owned).to_vec())
        };
        program("cat > \"$1\"").tell(&json!({"event": "finished"})).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"event\":\"finished\"}\n");
        let error = program("exit 3").tell(&json!({})).unwrap_err();
        assert_eq!(error.what, "the program failed (exit status: 3)");
        let nobody = NotifyTarget::Program(vec!["no-such-program".to_owned()]);
        assert_eq!(nobody.tell(&json!({})).unwrap_err().what, "cannot start the program");
    }

    #[test]
    fn an_address_gets_the_message_and_may_refuse_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook?key=secret", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for status in ["204 No Content", "500 Internal Server Error"] {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let before = head.len();
                    reader.read_line(&mut head).unwrap();
                    let line = head[before..].to_ascii_lowercase();
                    if let Some(count) = line.strip_prefix("content-length:") {
                        length = count.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                heard.push((head, String::from_utf8(body).unwrap()));
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            heard
        });
        let notified = NotifyTarget::Address(address);
        notified.tell(&json!({"event": "failed"})).unwrap();
        says(
            notified.tell(&json!({})).unwrap_err().to_string(),
            snapbox::str![[r#"
error[network]: the address did not take the message
  because http status: 500

hint: it must answer a `POST` of JSON with a status from 200 to 299
"#]],
        );
        let heard = server.join().unwrap();
        assert!(heard[0].0.starts_with("POST /hook?key=secret HTTP/1.1"), "{}", heard[0].0);
        assert_eq!(heard[0].1, "{\"event\":\"failed\"}\n");
    }
}
