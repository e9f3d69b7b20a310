//! Pulls from a hub where everything goes wrong that can: the outcome is the exact file or an
//! error, never anything else under a file's name.

mod answers;
mod cache;
mod processes;
mod transfers;

use crate::common::hub as server;
use crate::common::{says, this_test, wait};
use firebrand::files::Digest;
use firebrand::hub::{Fetched, Hub, RemoteFile, RepoKind, RepoName, Settings, Timing};
use server::{Fault, Hub as Server, Kind};
use snapbox::str;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a client hands over at once; a reset loses no more than one on its way.
const CHUNK: usize = 1 << 20;

/// Bytes without a pattern that repeats.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let stream = firebrand::random::Stream::new(seed);
    let words = (0..size.div_ceil(8) as u64).flat_map(|at| stream.bits(at).to_le_bytes());
    words.take(size).collect()
}

/// A hub with the model `o/n`, a cache, and a client between them.
struct Case {
    server: Server,
    folder: tempfile::TempDir,
    commit: String,
    notices: Arc<Mutex<Vec<String>>>,
    big: Vec<u8>,
}

const CONFIG: &[u8] = b"{\"model_type\": \"llama\"}\n";

impl Case {
    /// `config.json` is small and inside git; `sub/model.safetensors` is large.
    fn new() -> Self {
        Self::with(3_000_000)
    }

    fn with(size: usize) -> Self {
        let big = noise(size, 7);
        let server = Server::start();
        let files = [("config.json", CONFIG), ("sub/model.safetensors", &big)];
        let commit = server.add("models/o/n", "main", &files);
        let folder = tempfile::tempdir().unwrap();
        Self { server, folder, commit, notices: Arc::default(), big }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.server.endpoint(),
            token: None,
            cache: self.cache(),
            notes: Some(self.folder.path().join("notes")),
            offline: false,
            // Only pauses are short: where a limit is reached, a test sets that limit.
            timing: Timing {
                connect: wait::NEVER,
                header: wait::NEVER,
                idle: wait::NEVER,
                slow: Duration::from_secs(60),
                slowest: 1024,
                answer: wait::NEVER,
                listing: wait::NEVER,
                backoff_base: Duration::from_millis(4),
                backoff_cap: Duration::from_millis(30),
                retry_after_cap: wait::NEVER,
                tries: 8,
            },
        }
    }

    fn client(&self) -> Hub {
        self.client_with(self.settings())
    }

    fn client_with(&self, settings: Settings) -> Hub {
        let notices = Arc::clone(&self.notices);
        let note = move |text| notices.lock().unwrap().push(text);
        Hub::new(settings).unwrap().with_notice(note)
    }

    fn offline(&self) -> Hub {
        self.client_with(Settings { offline: true, ..self.settings() })
    }

    fn files(&self, hub: &Hub) -> Vec<RemoteFile> {
        hub.tree(&model(), &self.commit).unwrap()
    }

    fn fetch(&self, hub: &Hub, path: &str) -> firebrand::error::Result<Fetched> {
        let files = hub.tree(&model(), &self.commit)?;
        let file = files.iter().find(|file| file.path == path).unwrap();
        hub.fetch(&model(), &self.commit, file, &|_| ())
    }

    fn fetch_big(&self, hub: &Hub) -> firebrand::error::Result<Fetched> {
        self.fetch(hub, "sub/model.safetensors")
    }

    fn repo_folder(&self) -> PathBuf {
        self.cache().join("models--o--n")
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        let large = bytes.len() >= server::LARGE_FROM;
        let name = if large { server::sha256_of(bytes) } else { server::git_id(bytes) };
        self.repo_folder().join("blobs").join(name)
    }

    /// The large file came exactly, and nothing else is left.
    fn assert_exact(&self, fetched: &Fetched) {
        assert_eq!(fetched.sha256, Digest::of(&self.big));
        assert!(fs::read(&fetched.path).unwrap() == self.big);
        assert_eq!(self.leftovers(), Vec::<String>::new());
    }

    /// Nothing stands under a final name.
    fn assert_nothing_published(&self) {
        assert!(!self.blob(&self.big).exists());
        assert!(!self.pointer().exists());
    }

    fn pointer(&self) -> PathBuf {
        self.repo_folder().join("snapshots").join(&self.commit).join("sub/model.safetensors")
    }

    /// Names among the blobs that are no final names.
    fn leftovers(&self) -> Vec<String> {
        let Ok(blobs) = fs::read_dir(self.repo_folder().join("blobs")) else { return Vec::new() };
        let names = blobs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains('.')).collect()
    }

    /// Bytes that the store sent.
    fn sent(&self) -> usize {
        self.server.asked("/_cdn/").iter().map(|request| request.bytes).sum()
    }

    fn ranges(&self) -> Vec<String> {
        self.server.asked("/_cdn/").into_iter().filter_map(|request| request.range).collect()
    }
}

fn model() -> RepoName {
    RepoName::parse(RepoKind::Model, "o/n").unwrap()
}

fn said(error: &firebrand::error::Error, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} not in:\n{text}");
}
