//! A real S3 server: the program `s3s-fs`, named by `FIREBRAND_S3_SERVER` or found in `PATH`.
//!
//! It is no dependency of the tests, since its features would have everything compiled a second time:
//! `cargo install s3s-fs --features binary` makes it, as `.ci/run` does.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait;

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A server with an empty bucket, gone with the test.
pub struct S3Server {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FIREBRAND_S3_SERVER") {
        return Some(named.into());
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join("s3s-fs")).find(|path| path.is_file())
}

impl S3Server {
    /// Starts one. Where the program is missing, it is said past the capture of test output that
    /// `what` was not tested.
    pub fn start(what: &str) -> Option<Self> {
        let Some(program) = program() else {
            super::say_not_tested(&format!("{what}, since there is no `s3s-fs` here"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(&program)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--access-key", KEY, "--secret-key", SECRET])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, folder, port };
        wait::until("the S3 server listens", || {
            assert!(server.child.try_wait().unwrap().is_none(), "the S3 server has ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(server)
    }

    /// A place in its bucket.
    pub fn address(&self, prefix: &str) -> String {
        format!("s3://bucket/{prefix}")
    }

    /// What the program is told of it, as the tools of S3 are.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// The address of a line to it on which whatever it is told arrives late.
    pub fn slowly(&self, delay: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, server) = (listener.local_addr().unwrap(), self.port);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                let (to, back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || carry(client, to, delay));
                std::thread::spawn(move || carry(server, back, Duration::ZERO));
            }
        });
        format!("http://{own}")
    }

    /// Where it keeps the objects of its bucket, by their keys.
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join("bucket")
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        std::thread::sleep(delay);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both); // the other end may be gone
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}
