//! Pulls from a hub where everything goes wrong that can: the outcome is the exact file or an
//! error, never anything else under a file's name.

use crate::common::hub as server;
use crate::common::wait;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firebrand::files::Digest;
use firebrand::hub::{Fetched, Hub, RemoteFile, RepoKind, RepoName, Settings, Timing};
use server::{Fault, Hub as Server, Kind};

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

// ---------------------------------------------------------------------------------------------
// Without faults

#[test]
fn the_cache_is_laid_out_as_other_tools_expect_it() {
    let case = Case::new();
    let hub = case.client();
    assert_eq!(hub.commit_of(&model(), "main").unwrap(), case.commit);
    let files = case.files(&hub);
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["config.json", "sub/model.safetensors"]);
    let seen = AtomicU64::new(0);
    for file in &files {
        assert_eq!(hub.cached(&model(), &case.commit, file), None);
        let progress = |count| seen.store(count, Ordering::Relaxed);
        let fetched = hub.fetch(&model(), &case.commit, file, &progress).unwrap();
        assert!(fetched.downloaded);
        assert_eq!(seen.load(Ordering::Relaxed), file.size);
        assert_eq!(hub.cached(&model(), &case.commit, file), Some(fetched.path));
        assert!(hub.blob_path(&model(), file).is_file());
    }
    let folder = case.repo_folder();
    let snapshot = folder.join("snapshots").join(&case.commit);
    assert_eq!(hub.snapshot_dir(&model(), &case.commit), snapshot);
    assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), CONFIG);
    let link = |path: &str| fs::read_link(snapshot.join(path)).unwrap();
    assert_eq!(link("config.json"), Path::new("../../blobs").join(server::git_id(CONFIG)));
    assert_eq!(
        link("sub/model.safetensors"),
        Path::new("../../../blobs").join(server::sha256_of(&case.big))
    );
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), case.commit);
    let tree = fs::read_to_string(folder.join("trees").join(format!("{}.json", case.commit)));
    let tree: serde_json::Value = serde_json::from_str(&tree.unwrap()).unwrap();
    assert_eq!(tree["format_version"], 1);
    assert_eq!(tree["files"]["config.json"]["blob_id"], server::git_id(CONFIG));
    let large = &tree["files"]["sub/model.safetensors"];
    assert_eq!(large["lfs_sha256"], server::sha256_of(&case.big));
    assert_eq!(large["lfs_size"], case.big.len());
    // By the other crate's own eyes.
    let other = hf_hub::Cache::new(case.cache()).repo(hf_hub::Repo::model("o/n".to_owned()));
    assert_eq!(other.get("config.json"), Some(snapshot.join("config.json")));
    assert_eq!(case.leftovers(), Vec::<String>::new());
}

#[test]
fn a_second_fetch_asks_nobody() {
    let case = Case::with(6 << 20);
    case.fetch_big(&case.client()).unwrap();
    assert_eq!(fs::read_dir(case.folder.path().join("notes")).unwrap().count(), 1);
    case.server.clear_log();
    for hub in [case.client(), case.offline()] {
        let fetched = case.fetch_big(&hub).unwrap();
        assert!(!fetched.downloaded);
        case.assert_exact(&fetched);
    }
    assert!(case.server.log().is_empty());
    assert_eq!(case.offline().commit_of(&model(), &case.commit).unwrap(), case.commit);
}

#[test]
fn a_snapshot_of_another_tool_is_used_after_its_bytes_are_checked() {
    let case = Case::new();
    let hub = case.client();
    let files = case.files(&hub);
    let snapshot = hub.snapshot_dir(&model(), &case.commit);
    // One that links into blobs/, one that has no links, as on systems without them.
    fs::create_dir_all(snapshot.join("sub")).unwrap();
    fs::create_dir_all(case.repo_folder().join("blobs")).unwrap();
    fs::write(case.blob(&case.big), &case.big).unwrap();
    fs::write(snapshot.join("config.json"), CONFIG).unwrap();
    case.server.clear_log();
    for file in &files {
        assert!(!hub.fetch(&model(), &case.commit, file, &|_| ()).unwrap().downloaded);
    }
    assert!(case.server.log().is_empty());
    assert!(fs::read_link(case.pointer()).is_ok());
    assert!(!fs::symlink_metadata(snapshot.join("config.json")).unwrap().is_symlink());
}

#[test]
fn a_cache_that_cannot_be_written_is_enough_when_all_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    let hub = case.client();
    hub.commit_of(&model(), "main").unwrap();
    case.fetch_big(&hub).unwrap();
    let mode = |mode| fs::set_permissions(case.cache(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let fetched = hub.commit_of(&model(), "main").and_then(|_| case.fetch_big(&hub));
    mode(0o755);
    assert!(!fetched.unwrap().downloaded);
}

#[test]
fn long_lists_come_in_pages_and_data_sets_have_their_own_names() {
    let case = Case::new();
    let files: Vec<(String, Vec<u8>)> =
        (0..25).map(|n| (format!("data/{n:02}.json"), noise(n, n as u64))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(p, b)| (p.as_str(), b.as_slice())).collect();
    let commit = case.server.add("datasets/o/n", "refs/pr/1", &files);
    case.server.page(7);
    let hub = case.client();
    let repo = RepoName::parse(RepoKind::Dataset, "o/n").unwrap();
    assert_eq!(hub.commit_of(&repo, "refs/pr/1").unwrap(), commit);
    let listed = hub.tree(&repo, &commit).unwrap();
    assert_eq!(listed.len(), 25);
    assert_eq!(case.server.asked("/tree/").len(), 4);
    assert_eq!((listed[0].path.as_str(), listed[0].size), ("data/00.json", 0));
    for (file, (_, bytes)) in listed.iter().zip(files) {
        let fetched = hub.fetch(&repo, &commit, file, &|_| ()).unwrap();
        assert_eq!(fs::read(&fetched.path).unwrap(), bytes);
        assert_eq!(fetched.sha256, Digest::of(bytes));
        // A lock file knows the SHA-256 of small files too; they are the same files.
        let locked = RemoteFile { sha256: Some(Digest::of(bytes)), ..file.clone() };
        assert!(!hub.fetch(&repo, &commit, &locked, &|_| ()).unwrap().downloaded);
    }
    assert!(case.cache().join("datasets--o--n/refs/refs/pr/1").is_file());
}

#[test]
fn a_list_without_digests_of_large_files_is_enough() {
    let case = Case::new();
    let mut list = case.server.list("models/o/n", &case.commit);
    for entry in list.as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("lfs");
    }
    case.server.set_list("models/o/n", &case.commit, list);
    let hub = case.client();
    let fetched = case.fetch_big(&hub).unwrap();
    case.assert_exact(&fetched);
    assert!(case.blob(&case.big).is_file(), "under the name that other tools give it");
    assert!(!case.fetch_big(&hub).unwrap().downloaded);
}

// ---------------------------------------------------------------------------------------------
// 26: two processes, one cache. 29 with kill -9. The child is this test program again.

#[test]
#[ignore = "the other process of the tests below"]
fn child_process() {
    let Ok(cache) = std::env::var("TEST_HUB_CACHE") else { return };
    let settings = Settings {
        endpoint: std::env::var("TEST_HUB_ENDPOINT").unwrap(),
        token: None,
        cache: cache.into(),
        notes: None,
        offline: false,
        timing: Timing::default(),
    };
    let hub = Hub::new(settings).unwrap();
    let commit = hub.commit_of(&model(), "main").unwrap();
    for file in hub.tree(&model(), &commit).unwrap() {
        hub.fetch(&model(), &commit, &file, &|_| ()).unwrap();
    }
}

fn start_child(case: &Case) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hub::child_process"])
        .env("TEST_HUB_CACHE", case.cache())
        .env("TEST_HUB_ENDPOINT", case.server.endpoint())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn fault_26_two_processes_with_one_cache_transfer_each_file_once() {
    let case = Case::with(1_000_000);
    let slow = Kind::Slow { bytes_per_second: 1_000_000 };
    case.server.fault(Fault::on("/_cdn/", slow).for_ever());
    let mut children = [start_child(&case), start_child(&case)];
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let config = case.server.asked("/resolve/");
    assert_eq!(config.iter().filter(|request| request.path.ends_with("config.json")).count(), 1);
    assert_eq!((case.server.asked("/_cdn/").len(), case.sent()), (1, case.big.len()));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}

#[test]
fn threads_of_one_process_transfer_each_file_once() {
    let case = Case::new();
    let hub = case.client();
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| case.fetch_big(&hub))).collect();
        for fetch in fetches {
            case.assert_exact(&fetch.join().unwrap().unwrap());
        }
    });
    assert_eq!(case.server.asked("/_cdn/").len(), 1);
}

#[test]
fn a_killed_download_goes_on_from_the_byte_it_had() {
    let case = Case::new();
    let stall = Kind::Stall { at: 2_000_000, pause: wait::NEVER };
    case.server.fault(Fault::on("/_cdn/", stall));
    let mut child = start_child(&case);
    let partial = format!("{}.firebrand.incomplete", case.blob(&case.big).display());
    wait::until("a part of the file", || {
        fs::metadata(&partial).is_ok_and(|found| found.len() >= 1_000_000)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    case.assert_nothing_published();
    let kept = fs::metadata(&partial).unwrap().len();
    case.server.clear_log();
    let hub = case.client();
    let first = Mutex::new(None);
    let files = case.files(&hub);
    let progress = |count| {
        first.lock().unwrap().get_or_insert(count);
    };
    let fetched = hub.fetch(&model(), &case.commit, &files[1], &progress).unwrap();
    case.assert_exact(&fetched);
    assert_eq!(case.ranges(), [format!("bytes={kept}-")]);
    assert_eq!(first.into_inner().unwrap(), Some(kept));
}

#[test]
fn a_partial_file_of_other_bytes_costs_one_more_transfer() {
    for size in [1_000_000, 3_000_000, 3_000_001] {
        let case = Case::new();
        let hub = case.client();
        let partial = format!("{}.firebrand.incomplete", case.blob(&case.big).display());
        fs::create_dir_all(case.repo_folder().join("blobs")).unwrap();
        fs::write(partial, noise(size, 99)).unwrap();
        // A flipped byte on top of it is still not the end.
        case.server.fault(Fault::on("/_cdn/", Kind::Corrupt { at: 9 }).after(1));
        case.assert_exact(&case.fetch_big(&hub).unwrap());
    }
}

// ---------------------------------------------------------------------------------------------
// 27, 28: what stands in the cache is not what its name says

#[test]
fn fault_27_a_damaged_blob_is_found_and_fetched_anew() {
    // The larger one is noted as checked.
    for size in [3_000_000, 5 << 20] {
        let case = Case::with(size);
        case.fetch_big(&case.client()).unwrap();
        let mut damaged = case.big.clone();
        damaged[size / 2] ^= 1;
        fs::write(case.blob(&case.big), &damaged).unwrap();

        let error = case.fetch_big(&case.offline()).unwrap_err();
        said(&error, &["damaged in the cache", "sub/model.safetensors", "HF_HUB_OFFLINE"]);
        case.server.clear_log();
        let fetched = case.fetch_big(&case.client()).unwrap();
        assert!(fetched.downloaded);
        assert!(fs::read(&fetched.path).unwrap() == case.big);
        let aside = case.leftovers();
        assert!(aside.len() == 1 && aside[0].ends_with(".bad-1"), "{aside:?}");
        assert!(fs::read(case.repo_folder().join("blobs").join(&aside[0])).unwrap() == damaged);
        assert!(case.notices.lock().unwrap()[0].contains("was damaged in the cache"));
    }
}

#[test]
fn fault_28_an_error_page_under_a_good_name_is_found() {
    let case = Case::new();
    let hub = case.client();
    case.files(&hub);
    // As hf-hub 1.0.0 leaves it: linked, under the right name.
    let page = b"<html>log in</html>";
    fs::create_dir_all(case.pointer().parent().unwrap()).unwrap();
    fs::create_dir_all(case.repo_folder().join("blobs")).unwrap();
    fs::write(case.blob(&case.big), page).unwrap();
    let target = Path::new("../../../blobs").join(server::sha256_of(&case.big));
    std::os::unix::fs::symlink(target, case.pointer()).unwrap();
    let config = case.repo_folder().join("snapshots").join(&case.commit).join("config.json");
    fs::write(&config, page).unwrap(); // and without links
    assert!(fs::read(case.fetch_big(&hub).unwrap().path).unwrap() == case.big);
    let fetched = case.fetch(&hub, "config.json").unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), CONFIG);
    assert_eq!(case.leftovers().len(), 2);
    // The snapshot itself holds nothing else.
    assert_eq!(fs::read_dir(config.parent().unwrap()).unwrap().count(), 2);
}

// ---------------------------------------------------------------------------------------------
// 29, 30, 31: the line breaks, the hub is ill

#[test]
fn fault_29_resets_are_resumed() {
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Reset { at: 700_000 }).times(3));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    assert!(case.sent() <= case.big.len() + 3 * CHUNK, "{} bytes", case.sent());
    assert!(!case.ranges().is_empty());
}

#[test]
fn fault_30_short_bodies_are_resumed() {
    for kind in [
        Kind::Close { at: 700_000 },
        Kind::Truncate { at: 700_000 },
        Kind::NoLength { at: 700_000 },
    ] {
        let case = Case::new();
        case.server.fault(Fault::on("/_cdn/", kind.clone()).times(3));
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
        assert!(case.sent() <= case.big.len() + 3 * CHUNK, "{kind:?}: {} bytes", case.sent());
        // A whole that says it is shorter is not begun; a part of a part is taken.
        if !matches!(kind, Kind::Truncate { .. }) {
            assert_eq!(case.ranges()[0], "bytes=700000-", "{kind:?}");
        }
    }
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
    case.server.fault(Fault::on("/_cdn/", Kind::Truncate { at: 300_000 }).times(3));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    assert_eq!(
        case.ranges(),
        ["1000000", "1300000", "1600000", "1900000"].map(|at| { format!("bytes={at}-") })
    );
}

#[test]
fn fault_31_an_ill_hub_heals() {
    let case = Case::new();
    for (on, status) in [("/revision/", 500), ("/tree/", 502), ("/resolve/", 503), ("/_cdn/", 500)]
    {
        case.server.fault(Fault::on(on, Kind::Status(status, vec![], "ill")).times(3));
    }
    let hub = case.client();
    assert_eq!(hub.commit_of(&model(), "main").unwrap(), case.commit);
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    assert_eq!(case.server.asked("/_cdn/").len(), 4);
}

#[test]
fn fault_31_a_hub_that_stays_ill_ends_in_an_error() {
    for on in ["/resolve/", "/_cdn/"] {
        let case = Case::new();
        let hub = case.client();
        case.files(&hub);
        let headers = vec![("X-Request-Id", "Root=1-abc".to_owned())];
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
        let fault = Fault::on(on, Kind::Status(503, headers, "ill"));
        case.server.fault(fault.for_ever());
        case.server.clear_log();
        let error = case.fetch_big(&hub).unwrap_err();
        // One transfer broke off, and none of the tries after it brought a byte.
        assert_eq!(case.server.asked(on).len(), 8);
        let had = if on == "/_cdn/" { "1.0 MB of 3.0 MB had come" } else { "try 8 in a row" };
        said(
            &error,
            &["cannot download `sub/model.safetensors`", "answered 503", "Root=1-abc", had],
        );
        assert!(!error.to_string().contains("opens-it"), "a signature is shown:\n{error}");
        case.assert_nothing_published();
        // What came is kept, and the next start goes on with it.
        case.server.heal();
        case.server.clear_log();
        case.assert_exact(&case.fetch_big(&hub).unwrap());
        assert!(on == "/resolve/" || case.ranges()[0] == "bytes=1000000-");
    }
}

#[test]
fn a_hub_that_is_not_there_ends_in_an_error() {
    let case = Case::new();
    let hub = case.client();
    hub.commit_of(&model(), "main").unwrap();
    case.server.fault(Fault::on("/revision/", Kind::Refuse).for_ever());
    let error = hub.commit_of(&model(), "main").unwrap_err();
    said(&error, &["gave no answer", "try 8 in a row", "when it was last asked", &case.commit]);
    assert_eq!(case.server.asked("/revision/").len(), 9);
    let nobody = Settings { endpoint: "http://127.0.0.1:9".to_owned(), ..case.settings() };
    let error = case.client_with(nobody).commit_of(&model(), "other").unwrap_err();
    said(&error, &["http://127.0.0.1:9/", "refused"]);
}

// ---------------------------------------------------------------------------------------------
// 32, 33, 34: what the hub asks for, and what it refuses

#[test]
fn fault_32_the_pause_that_the_hub_asks_for_is_kept() {
    let date = |second| format!("Tue, 24 Nov 2026 08:00:{second:02} GMT");
    let cases = [
        vec![("Retry-After", "1".to_owned())],
        vec![("Date", date(10)), ("Retry-After", date(11))],
        vec![("RateLimit", "\"resolvers\";r=0;t=1".to_owned())],
    ];
    std::thread::scope(|scope| {
        for headers in cases {
            scope.spawn(move || {
                for on in ["/resolve/", "/_cdn/"] {
                    let case = Case::new();
                    let kind = Kind::Status(429, headers.clone(), "slow down");
                    case.server.fault(Fault::on(on, kind));
                    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
                    let asked = case.server.asked(on);
                    assert_eq!(asked.len(), 2, "one request before the pause, one after it");
                    let pause = asked[1].begun - asked[0].begun;
                    assert!(pause >= Duration::from_secs(1), "{headers:?}: {pause:?}");
                }
            });
        }
    });
}

#[test]
fn fault_33_an_expired_address_is_replaced_and_the_rest_asked_for() {
    for status in [401, 403, 404, 410] {
        let case = Case::new();
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
        let expired = Kind::Status(status, vec![], "expired");
        case.server.fault(Fault::on("/_cdn/", expired).times(2));
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
        assert_eq!(case.server.asked("/resolve/").len(), 4);
        assert_eq!(case.ranges(), ["bytes=1000000-"; 3]);
    }
}

#[test]
fn fault_34_refusals_are_said_at_once_in_plain_words() {
    let coded = |code: &str| vec![("X-Error-Code", code.to_owned())];
    for (status, headers, parts) in [
        (403, coded("GatedRepo"), vec!["accept its terms", "/o/n", "HF_TOKEN"]),
        (401, coded("GatedRepo"), vec!["accept its terms"]),
        (404, coded("RepoNotFound"), vec!["no model `o/n`, or it is private", "HF_TOKEN"]),
        (401, vec![], vec!["no model `o/n`, or it is private"]),
        (404, coded("RevisionNotFound"), vec!["no branch, tag or commit"]),
        (404, coded("EntryNotFound"), vec!["has no `sub/model.safetensors`"]),
        (403, vec![], vec!["does not let you read"]),
        (400, vec![], vec!["answered 400"]),
    ] {
        let case = Case::new();
        let hub = case.client();
        let files = case.files(&hub);
        case.server.clear_log();
        case.server.fault(Fault::on("GET /", Kind::Status(status, headers, "no")).for_ever());
        let error = hub.fetch(&model(), &case.commit, &files[1], &|_| ()).unwrap_err();
        said(&error, &parts);
        if status != 404 || parts[0].contains("branch") {
            let error = hub.commit_of(&model(), "v1").unwrap_err();
            said(&error, &parts[..1]);
        }
        assert!(case.server.log().len() <= 2, "asked again and again");
        case.assert_nothing_published();
    }
    let case = Case::new();
    let with_token = Settings { token: Some("hf_old".to_owned()), ..case.settings() };
    case.server.fault(Fault::on("/revision/", Kind::Status(401, vec![], "")));
    let error = case.client_with(with_token).commit_of(&model(), "main").unwrap_err();
    said(&error, &["does not accept the access token"]);
    assert!(!error.to_string().contains("hf_old"));
    // The true answers of the hub.
    let error = case.client().commit_of(&model(), "v9").unwrap_err();
    said(&error, &["no branch, tag or commit `v9`", "Root=1-test"]);
    let other = RepoName::parse(RepoKind::Dataset, "o/n").unwrap();
    said(&case.client().commit_of(&other, "main").unwrap_err(), &["no data set `o/n`"]);
    case.server.forget("models/o/n", &case.commit);
    said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["no branch, tag or commit"]);
}

// ---------------------------------------------------------------------------------------------
// 35 to 38: other bytes, late bytes, wrong parts

#[test]
fn fault_35_a_flipped_byte_is_refused() {
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Corrupt { at: 1_234_567 }));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    assert!(case.notices.lock().unwrap()[0].contains("came damaged"));

    for on in ["/_cdn/", "/resolve/"] {
        let case = Case::new();
        case.server.fault(Fault::on(on, Kind::Corrupt { at: 5 }).times(2));
        let path = if on == "/_cdn/" { "sub/model.safetensors" } else { "config.json" };
        let error = case.fetch(&case.client(), path).unwrap_err();
        said(&error, &["comes damaged", "twice", path]);
        case.assert_nothing_published();
        assert_eq!(case.leftovers(), Vec::<String>::new());
        case.fetch(&case.client(), path).unwrap();
    }
}

#[test]
fn fault_36_a_web_page_is_no_file() {
    for declared in [true, false] {
        for (on, path) in [
            ("/_cdn/", "sub/model.safetensors"),
            ("/resolve/", "sub/model.safetensors"),
            ("/resolve/", "config.json"),
        ] {
            let case = Case::new();
            let hub = case.client();
            case.files(&hub);
            case.server.clear_log();
            case.server.fault(Fault::on(on, Kind::WebPage { declared }).for_ever());
            let error = case.fetch(&hub, path).unwrap_err();
            said(&error, &["a web page instead of", path, "login"]);
            case.assert_nothing_published();
            assert!(case.server.log().len() <= 2);
        }
    }
    let case = Case::new();
    case.server.fault(Fault::on("/api/", Kind::WebPage { declared: true }).times(2));
    said(&case.client().commit_of(&model(), "main").unwrap_err(), &["a web page instead of"]);
    said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["a web page instead of"]);
    // A page that says it is something else is no JSON either.
    case.server.fault(Fault::on("/api/", Kind::WebPage { declared: false }).for_ever());
    said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["did not answer in JSON"]);
}

#[test]
fn a_web_page_that_is_the_file_is_fetched() {
    let server = Case::new();
    let page: &[u8] = b"<!DOCTYPE html><html>a data set of pages</html>";
    let commit = server.server.add("models/o/n", "main", &[("a.html", page), ("b.txt", page)]);
    let case = Case { commit, ..server };
    let kind = Kind::Status(
        200,
        vec![("Content-Type", "text/html".to_owned())],
        "<!DOCTYPE html><html>a data set of pages</html>",
    );
    case.server.fault(Fault::on("a.html", kind));
    assert_eq!(fs::read(case.fetch(&case.client(), "a.html").unwrap().path).unwrap(), page);
    assert_eq!(fs::read(case.fetch(&case.client(), "b.txt").unwrap().path).unwrap(), page);
}

#[test]
fn compressed_answers_are_refused() {
    let case = Case::new();
    case.server.fault(Fault::on("/_cdn/", Kind::Encoded));
    said(&case.fetch_big(&case.client()).unwrap_err(), &["encoding `gzip`"]);
    case.assert_nothing_published();
}

#[test]
fn fault_37_silence_has_a_limit_and_slowness_that_moves_has_none() {
    let case = Case::new();
    let short = Duration::from_millis(800);
    let silent = [Kind::Stall { at: 1_000_000, pause: wait::NEVER }, Kind::Delay(wait::NEVER)];
    for kind in silent {
        case.server.fault(Fault::on("/_cdn/", kind));
    }
    let timing = Timing { header: short, idle: short, ..case.settings().timing };
    let hub = case.client_with(Settings { timing, ..case.settings() });
    let begun = Instant::now();
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    assert!(begun.elapsed() < wait::NEVER, "it waited for what was silent");
    // A loaded machine may be silent once more, and loses nothing by it.
    assert!(case.ranges().len() >= 2 && case.ranges()[..2] == ["bytes=1000000-"; 2]);

    // Each pause is much shorter than the limit, all together are longer than it.
    let case = Case::with(2500);
    case.server.fault(Fault::on("/_cdn/", Kind::Slow { bytes_per_second: 500 }).for_ever());
    let limit = Duration::from_secs(4);
    let timing = Timing { idle: limit, ..case.settings().timing };
    let hub = case.client_with(Settings { timing, ..case.settings() });
    let begun = Instant::now();
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    assert!(begun.elapsed() > limit);
    assert_eq!(case.server.asked("/_cdn/").len(), 1);
}

/// Byte after byte, each well before the longest silence: the file would take a day.
#[test]
fn a_file_that_trickles_is_given_up_and_what_came_is_kept() {
    let slow = Duration::from_millis(400);
    for kind in [Kind::Slow { bytes_per_second: 50 }, Kind::Close { at: 3 }] {
        let case = Case::with(100_000);
        let timing = Timing { slow, tries: 3, ..case.settings().timing };
        assert_eq!(timing.least(), 25);
        case.server.fault(Fault::on("/_cdn/", kind.clone()).for_ever());
        let client = case.client_with(Settings { timing, ..case.settings() });
        let error = case.fetch_big(&client).unwrap_err();
        let trickles = matches!(kind, Kind::Slow { .. });
        said(&error, &["had come and are kept"]);
        if trickles {
            said(&error, &["bytes a second for", "and at least 1024 are expected"]);
        }
        assert_eq!(case.server.asked("/_cdn/").len(), 3);
        case.assert_nothing_published();
        case.server.heal();
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    }
    // A line that is slow, but not as slow, is waited for: much longer than it may be slow.
    let case = Case::with(2000);
    let timing = Timing { slow, slowest: 200, ..case.settings().timing };
    case.server.fault(Fault::on("/_cdn/", Kind::Slow { bytes_per_second: 1000 }).for_ever());
    let client = case.client_with(Settings { timing, ..case.settings() });
    case.assert_exact(&case.fetch_big(&client).unwrap());
    assert_eq!(case.server.asked("/_cdn/").len(), 1);
}

#[test]
fn fault_38_wrong_parts_still_give_the_exact_file() {
    for kind in [Kind::NoRange, Kind::WrongRange, Kind::Unsatisfiable] {
        let case = Case::new();
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at: 1_000_000 }));
        case.server.fault(Fault::on("/_cdn/", kind.clone()));
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
        let sent = case.sent();
        assert!(sent <= 2 * case.big.len() + case.big.len(), "{kind:?}: {sent} bytes");
    }
    // A server that never knows ranges, and whose line breaks ever later.
    let case = Case::new();
    for at in [500_000, 1_500_000, 1_000_000, 2_500_000] {
        case.server.fault(Fault::on("/_cdn/", Kind::Close { at }));
    }
    case.server.fault(Fault::on("/_cdn/", Kind::Unsatisfiable).after(1));
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}

// ---------------------------------------------------------------------------------------------
// 39, 40, 41: the hub changes, lies, goes away

#[test]
fn fault_39_a_branch_that_moves_changes_nothing() {
    let case = Case::new();
    let other = noise(3_000_000, 8);
    let moved = case.server.add("models/o/n", "next", &[("sub/model.safetensors", &other)]);
    let hub = case.client();
    let commit = hub.commit_of(&model(), "main").unwrap();
    let moves = Kind::Move { repo: "models/o/n", branch: "main", commit: moved.clone() };
    case.server.fault(Fault::on("/resolve/", moves));
    case.assert_exact(&case.fetch_big(&hub).unwrap());
    let asked = case.server.asked("/resolve/");
    assert!(asked.iter().all(|request| request.path.contains(&commit)));
    // Only who asks for the branch sees the new commit; the old snapshot stays.
    assert_eq!(hub.commit_of(&model(), "main").unwrap(), moved);
    assert!(!case.fetch_big(&hub).unwrap().downloaded);
}

#[test]
fn fault_40_other_files_under_the_same_commit_are_refused() {
    let case = Case::new();
    let hub = case.client();
    let files = case.files(&hub);
    let list = case.server.list("models/o/n", &case.commit);
    case.server.replace(
        "models/o/n",
        &case.commit,
        "config.json",
        b"{\"model_type\": \"other\"}\n",
    );
    case.server.replace("models/o/n", &case.commit, "sub/model.safetensors", &noise(3_000_000, 8));
    for file in &files {
        let error = hub.fetch(&model(), &case.commit, file, &|_| ()).unwrap_err();
        said(&error, &["comes damaged", &file.path]);
    }
    case.assert_nothing_published();
    // A list that contradicts itself: another content, the old pointer.
    let mut list = list;
    list[1 + 1]["lfs"]["oid"] = server::sha256_of(&noise(3_000_000, 8)).into();
    let commit = case.server.add("models/o/n", "lies", &[("other", b"x")]);
    case.server.set_list("models/o/n", &commit, list);
    said(&hub.tree(&model(), &commit).unwrap_err(), &["not that of its own pointer"]);
    // An answer for another commit.
    let case = Case::new();
    let other = vec![("X-Repo-Commit", "0".repeat(40))];
    case.server.fault(Fault::on("/resolve/", Kind::Status(200, other, "{}")));
    said(&case.fetch(&case.client(), "config.json").unwrap_err(), &["answers for the commit 000"]);
    // Another ETag is not what proves a file.
    case.server.fault(Fault::on("/resolve/", Kind::Etag("../../../x")).for_ever());
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}

#[test]
fn fault_41_a_hub_that_is_away_is_not_missed() {
    let case = Case::new();
    let hub = case.client();
    let commit = hub.commit_of(&model(), "main").unwrap();
    case.fetch_big(&hub).unwrap();
    let Case { server, folder, commit: _, notices, big } = case;
    let settings = Settings { endpoint: server.endpoint(), ..hub.settings().clone() };
    drop(server);
    // The hub is away: what is known by commit needs no question.
    let away = Hub::new(settings.clone()).unwrap();
    let files = away.tree(&model(), &commit).unwrap();
    let fetched = away.fetch(&model(), &commit, &files[1], &|_| ()).unwrap();
    assert!(!fetched.downloaded && fs::read(&fetched.path).unwrap() == big);
    // Offline the branch is what it last was.
    let offline = Hub::new(Settings { offline: true, ..settings }).unwrap();
    assert_eq!(offline.commit_of(&model(), "main").unwrap(), commit);
    said(&offline.commit_of(&model(), "v2").unwrap_err(), &["offline", "`v2`"]);
    said(&offline.tree(&model(), &"a".repeat(40)).unwrap_err(), &["offline"]);
    let error = offline.fetch(&model(), &commit, &files[0], &|_| ()).unwrap_err();
    said(&error, &["`config.json`", "is not in the cache"]);
    drop((folder, notices));
}

// ---------------------------------------------------------------------------------------------
// 42: a bad line

#[test]
fn fault_42_a_slow_line_that_breaks_again_and_again_gets_there() {
    let case = Case::with(600_000);
    let slow = Kind::Slow { bytes_per_second: 1_000_000 };
    for number in 0..12 {
        case.server.fault(Fault::on("/_cdn/", Kind::Reset { at: 40_000 + 1000 * number }));
    }
    case.server.fault(Fault::on("/_cdn/", slow).for_ever());
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    assert_eq!(case.server.asked("/_cdn/").len(), 13, "more breaks than tries, but with progress");
}

// ---------------------------------------------------------------------------------------------
// 43, 44: what the hub must not get, and must not do

#[test]
fn fault_43_the_token_goes_to_the_hub_only() {
    let case = Case::new();
    let settings = Settings { token: Some("hf_secret".to_owned()), ..case.settings() };
    let hub = case.client_with(settings);
    hub.commit_of(&model(), "main").unwrap();
    case.server.fault(Fault::on("/_cdn/", Kind::Reset { at: 9 }));
    case.fetch_big(&hub).unwrap();
    let log = case.server.log();
    let (store, asked): (Vec<_>, Vec<_>) =
        log.iter().partition(|request| request.path.starts_with("/_cdn/"));
    assert!(store.len() == 2 && store.iter().all(|request| !request.auth));
    assert!(asked.len() == 4 && asked.iter().all(|request| request.auth));
    // Nor to where a list says that it goes on.
    let thief = Server::start();
    let next = format!("<{}/api/steal>; rel=\"next\"", thief.endpoint());
    case.server.fault(Fault::on("/tree/", Kind::Status(200, vec![("Link", next)], "[]")));
    let commit = case.server.add("models/o/n", "other", &[("a", b"a")]);
    said(&hub.tree(&model(), &commit).unwrap_err(), &["its next page is said to be at"]);
    assert!(thief.log().is_empty());
}

#[test]
fn fault_44_names_that_lead_elsewhere_are_refused() {
    let long = "x".repeat(300);
    let cases: Vec<Vec<&str>> = vec![
        vec!["../x"],
        vec!["sub/../../../../x"],
        vec!["/etc/x"],
        vec!["C:\\x"],
        vec!["\\\\host\\share\\x"],
        vec!["a\0b"],
        vec!["a\u{1b}[2J"],
        vec!["x."],
        vec!["x "],
        vec!["NUL"],
        vec![&long],
        vec!["README.md", "readme.md"],
        vec!["a", "a/b"],
    ];
    for (number, paths) in cases.into_iter().enumerate() {
        let case = Case::new();
        let list: Vec<_> = paths.iter().map(|path| server::entry(path, b"evil")).collect();
        case.server.set_list("models/o/n", &case.commit, list.into());
        let hub = case.client();
        let error = hub.tree(&model(), &case.commit).unwrap_err();
        said(&error, &["refusing the file name"]);
        assert!(!error.to_string().contains(['\0', '\u{1b}']), "case {number}");
        // Nor from a lock file, or from a list that someone else kept.
        if paths.len() == 1 {
            let oid = server::git_id(b"evil");
            let file = RemoteFile { path: paths[0].to_owned(), size: 4, oid, sha256: None };
            assert!(hub.fetch(&model(), &case.commit, &file, &|_| ()).is_err());
            assert!(hub.cached(&model(), &case.commit, &file).is_none());
        }
        let kept = serde_json::json!({"format_version": 1, "files": paths.iter().map(|path| {
            (*path, serde_json::json!({"size": 4, "blob_id": server::git_id(b"evil")}))
        }).collect::<std::collections::BTreeMap<_, _>>()});
        let trees = case.repo_folder().join("trees");
        fs::create_dir_all(&trees).unwrap();
        fs::write(trees.join(format!("{}.json", case.commit)), kept.to_string()).unwrap();
        assert!(case.offline().tree(&model(), &case.commit).is_err());
        fs::remove_dir_all(trees).unwrap();
        let mut left = vec![case.folder.path().to_path_buf()];
        while let Some(path) = left.pop() {
            assert!(path.is_dir(), "{} was written", path.display());
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    for bad in ["", "main", "../../x", &"A".repeat(40), &"g".repeat(40)] {
        assert!(Case::new().client().tree(&model(), bad).is_err());
    }
    for oid in ["../../../x", "", "ABC"] {
        let case = Case::new();
        let mut list = serde_json::json!([server::entry("a", b"evil")]);
        list[0]["oid"] = oid.into();
        case.server.set_list("models/o/n", &case.commit, list);
        said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["not a git object id"]);
    }
    // A folder of the snapshot that is a link to elsewhere is not followed.
    let case = Case::new();
    let outside = case.folder.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let snapshot = case.repo_folder().join("snapshots").join(&case.commit);
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(&outside, snapshot.join("sub")).unwrap();
    assert!(case.fetch_big(&case.client()).is_err());
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn odd_answers_of_the_api_are_errors() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (on, body, part) in [
        ("/revision/", "{}", "has no `sha`"),
        ("/revision/", "{\"sha\": \"../../x\"}", "has no `sha`"),
        ("/revision/", "{\"sha\": 1, \"sha\": 2}", "stands twice"),
        ("/revision/", nested.as_str(), "did not answer in JSON"),
        ("/tree/", "{}", "it is not a list"),
        ("/tree/", "[{\"type\": \"file\"}]", "has no `path`"),
        ("/tree/", "[{\"type\": \"file\", \"path\": \"a\", \"size\": -1}]", "has no size"),
    ] {
        let case = Case::new();
        case.server.fault(Fault::on(on, Kind::Body(body.to_owned())).for_ever());
        let hub = case.client();
        let error = hub.commit_of(&model(), "main").and_then(|commit| hub.tree(&model(), &commit));
        said(&error.map(|_| ()).unwrap_err(), &[part]);
    }
    // A list whose pages never end, and redirects in a circle.
    let case = Case::new();
    let circle = format!("{}/api/models/o/n/tree/{}", case.server.endpoint(), case.commit);
    let link = vec![("Link", format!("<{circle}?recursive=true&expand=false>; rel=\"next\""))];
    case.server.fault(Fault::on("/tree/", Kind::Status(200, link, "[]")).for_ever());
    said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["round in a circle"]);
    case.server.heal();
    // By way of another page, with something on each.
    let entries = case.server.list("models/o/n", &case.commit).to_string();
    let entries: &'static str = entries.leak();
    for (on, to) in [("cursor=2", 1), ("cursor=1", 2), ("/tree/", 1)] {
        let link = vec![("Link", format!("<{circle}?cursor={to}>; rel=\"next\""))];
        case.server.fault(Fault::on(on, Kind::Status(200, link, entries)).for_ever());
    }
    said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["round in a circle"]);
    case.server.heal();
    // Another page each time, with nothing on it; and pages on another machine.
    for (address, part) in [
        (format!("{circle}?cursor=1"), "a page of it is empty"),
        ("http://127.0.0.1:9/api".to_owned(), "its next page is said to be at"),
    ] {
        let link = vec![("Link", format!("<{address}>; rel=\"next\""))];
        case.server.fault(Fault::on("/tree/", Kind::Status(200, link, "[]")).for_ever());
        said(&case.client().tree(&model(), &case.commit).unwrap_err(), &[part]);
        case.server.heal();
    }
    let around = vec![("Location", "/api/models/o/n/tree/x".to_owned())];
    case.server.fault(Fault::on("/tree/", Kind::Status(307, around, "")).for_ever());
    said(&case.client().tree(&model(), &case.commit).unwrap_err(), &["redirects without end"]);
}

/// One byte after another, each well before the longest silence.
#[test]
fn an_answer_that_trickles_comes_to_an_end() {
    let case = Case::new();
    let timing = Timing { tries: 2, answer: Duration::from_millis(300), ..case.settings().timing };
    let client = || case.client_with(Settings { timing: timing.clone(), ..case.settings() });
    let slow = Kind::Slow { bytes_per_second: 50 };
    case.server.fault(Fault::on("/api/", slow).for_ever());
    let part = ["broke off", "and there was no end"];
    said(&client().commit_of(&model(), "main").unwrap_err(), &part);
    said(&client().tree(&model(), &case.commit).unwrap_err(), &part);
    assert_eq!(case.server.asked("/api/").len(), 4, "two tries for each");
    case.server.heal();
    // All pages together have a limit, too.
    case.server.page(1);
    let timing = Timing { listing: Duration::ZERO, ..case.settings().timing };
    let client = case.client_with(Settings { timing, ..case.settings() });
    said(&client.tree(&model(), &case.commit).unwrap_err(), &["it did not end in 0 s"]);
    // An answer without interest is not waited for, either: a file comes by way of a redirect.
    case.files(&case.client());
    case.assert_exact(&case.fetch_big(&case.client()).unwrap());
}

// ---------------------------------------------------------------------------------------------
// Stopping, and a full disk

#[test]
fn a_download_ends_soon_when_asked_and_goes_on_later() {
    // Whoever does not end when asked waits for ten minutes.
    let silent = Kind::Stall { at: 1_500_000, pause: wait::NEVER };
    let asks = Kind::Status(429, vec![("Retry-After", "600".to_owned())], "");
    let slow = Kind::Slow { bytes_per_second: 5000 };
    for kind in [silent, slow, Kind::Delay(wait::NEVER), asks] {
        let case = Case::new();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let hub = case.client().with_stop(move || asked.load(Ordering::Relaxed));
        case.files(&hub);
        case.server.fault(Fault::on("/_cdn/", kind));
        let begun = Instant::now();
        let error = std::thread::scope(|scope| {
            let fetch = scope.spawn(|| case.fetch_big(&hub).unwrap_err());
            wait::until("a request", || !case.server.asked("/_cdn/").is_empty());
            stop.store(true, Ordering::Relaxed);
            fetch.join().unwrap()
        });
        said(&error, &["the download was stopped"]);
        assert!(begun.elapsed() < wait::NEVER, "it did not end");
        case.assert_nothing_published();
        said(&hub.commit_of(&model(), "main").unwrap_err(), &["was stopped"]);
        case.assert_exact(&case.fetch_big(&case.client()).unwrap());
    }
}

#[test]
fn waiting_for_another_process_ends_when_asked() {
    let case = Case::new();
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let hub = case.client().with_stop(move || asked.load(Ordering::Relaxed));
    let files = case.files(&hub);
    let locks = case.cache().join(".locks/models--o--n");
    fs::create_dir_all(&locks).unwrap();
    let name = format!("{}.lock", server::sha256_of(&case.big));
    let other = fs::File::create(locks.join(name)).unwrap();
    other.lock().unwrap();
    std::thread::scope(|scope| {
        let fetch = scope.spawn(|| hub.fetch(&model(), &case.commit, &files[1], &|_| ()));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!fetch.is_finished());
        stop.store(true, Ordering::Relaxed);
        said(&fetch.join().unwrap().unwrap_err(), &["was stopped"]);
    });
    assert!(case.server.asked("/_cdn/").is_empty());
}

#[test]
fn a_file_without_room_is_refused_before_it_is_begun() {
    let case = Case::new();
    let mut list = case.server.list("models/o/n", &case.commit);
    let mut entry = server::entry("huge", b"x");
    entry["size"] = (1_u64 << 60).into();
    list.as_array_mut().unwrap().push(entry);
    case.server.set_list("models/o/n", &case.commit, list);
    let error = case.fetch(&case.client(), "huge").unwrap_err();
    said(&error, &["not enough room on the disk for `huge`", "are free", "HF_HUB_CACHE"]);
    assert!(case.server.asked("/resolve/").is_empty());
}

/// Needs the right to mount a small disk; says so where there is none.
#[test]
fn a_disk_that_fills_up_leaves_no_half_file() {
    if std::env::var_os("TEST_HUB_SMALL_DISK").is_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().display();
        let this = std::env::current_exe().unwrap();
        let run = format!(
            "mount -t tmpfs -o size=2M none {disk} || exit 77; \
             exec {} --exact hub::a_disk_that_fills_up_leaves_no_half_file",
            this.display()
        );
        let status = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &run])
            .env("TEST_HUB_SMALL_DISK", folder.path())
            .stdout(Stdio::null())
            .status();
        match status.map(|status| status.code()) {
            Ok(Some(0)) => {}
            Ok(Some(1 | 77)) | Err(_) => eprintln!("SKIPPED: no small disk can be mounted here"),
            other => panic!("{other:?}"),
        }
        return;
    }
    let disk = PathBuf::from(std::env::var_os("TEST_HUB_SMALL_DISK").unwrap());
    let case = Case::with(1_500_000);
    let settings = Settings { cache: disk.join("hub"), ..case.settings() };
    let hub = case.client_with(settings);
    let files = case.files(&hub);
    case.server.fault(Fault::on("/_cdn/", Kind::Slow { bytes_per_second: 3_000_000 }));
    // Someone else fills the disk while it runs.
    let fill = |_| drop(fs::write(disk.join("other"), noise(2 << 20, 1)));
    let error = hub.fetch(&model(), &case.commit, &files[1], &fill).unwrap_err();
    said(&error, &["cannot write", "the partial file was removed", "HF_HUB_CACHE"]);
    let blobs = disk.join("hub/models--o--n/blobs");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
    fs::remove_file(disk.join("other")).unwrap();
    hub.fetch(&model(), &case.commit, &files[1], &|_| ()).unwrap();
}
