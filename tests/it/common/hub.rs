//! A hub for tests: two small HTTP servers on this machine, the hub and the store that it
//! redirects large files to, with repositories in memory, faults on demand, and a log.
//!
//! ```text
//! let hub = Hub::start();
//! let commit = hub.add("models/o/n", "main", &[("config.json", b"{}")]);
//! hub.fault(Fault::on("/_cdn/", Kind::Reset { at: 1000 }).times(3));
//! ```
#![allow(dead_code)] // each test program uses a part of it

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Files above this size are sent in parts of the other.
const PARTS_FROM: usize = 64 << 10;
const PART: usize = 40_000;

/// From this size on, a file is kept in the store, as the real hub does with large ones.
pub const LARGE_FROM: usize = 1024;

/// What goes wrong. `at` counts the bytes of the body of the answer in question.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Another status, with headers and a body.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// The line is reset.
    Reset { at: usize },
    /// The line is closed.
    Close { at: usize },
    /// Nothing comes for a while, then the rest.
    Stall { at: usize, pause: Duration },
    /// Only so many bytes in a second.
    Slow { bytes_per_second: usize },
    /// The answer begins late.
    Delay(Duration),
    /// One byte is another.
    Corrupt { at: usize },
    /// The body is short, and its `Content-Length` says so.
    Truncate { at: usize },
    /// No `Content-Length`; the body ends where the line is closed.
    NoLength { at: usize },
    /// `Range` is ignored: 200 and everything.
    NoRange,
    /// 206 for another range than the one asked for.
    WrongRange,
    /// 416, whatever was asked for.
    Unsatisfiable,
    /// A branch moves to a commit, then the answer comes.
    Move { repo: &'static str, branch: &'static str, commit: String },
    /// The line is reset before there is an answer.
    Refuse,
    /// 200 and a web page.
    WebPage { declared: bool },
    /// Another `ETag` and `X-Linked-Etag`.
    Etag(&'static str),
    /// 200 and this body instead of the real one.
    Body(String),
    /// The content is said to be compressed.
    Encoded,
}

/// A kind of fault, where it happens and how often.
#[derive(Clone, Debug)]
pub struct Fault {
    on: String,
    kind: Kind,
    times: usize,
    after: usize,
    seen: usize,
}

impl Fault {
    /// Happens once, to requests whose `METHOD /path` has `part` in it.
    pub fn on(part: &str, kind: Kind) -> Self {
        Self { on: part.to_owned(), kind, times: 1, after: 0, seen: 0 }
    }

    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    pub fn for_ever(self) -> Self {
        self.times(usize::MAX)
    }

    /// Lets so many requests pass first.
    pub fn after(self, after: usize) -> Self {
        Self { after, ..self }
    }
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    /// Did it carry a token?
    pub auth: bool,
    pub status: u16,
    /// What was sent with it.
    pub sent: Vec<u8>,
    /// Bytes of body sent.
    pub bytes: usize,
    pub begun: Instant,
}

/// Content by path.
type Files = BTreeMap<String, Arc<Vec<u8>>>;

#[derive(Default)]
struct Repo {
    branches: BTreeMap<String, String>,
    commits: BTreeMap<String, Files>,
    /// What the list of a commit says instead of the truth.
    lists: BTreeMap<String, Value>,
}

#[derive(Default)]
struct State {
    repos: Mutex<BTreeMap<String, Repo>>,
    faults: Mutex<Vec<Fault>>,
    log: Mutex<Vec<Arc<Mutex<Request>>>>,
    page: Mutex<usize>,
    store: Mutex<String>,
    /// Large files that were put into the store, and parts of some.
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    parts: Mutex<BTreeMap<(String, usize), Vec<u8>>>,
    closed: AtomicBool,
}

impl State {
    /// A new commit on a branch.
    fn commit(&self, repo: &str, branch: &str, files: Files) -> String {
        let mut state = Sha1::new();
        for (path, bytes) in &files {
            state.update(format!("{path}\0{}\n", git_id(bytes)));
        }
        let commit = hex(&state.finalize());
        let mut repos = self.repos.lock().unwrap();
        let repo = repos.entry(repo.to_owned()).or_default();
        repo.commits.insert(commit.clone(), files);
        repo.branches.insert(branch.to_owned(), commit.clone());
        commit
    }
}

/// The running servers; they end with it.
pub struct Hub {
    state: Arc<State>,
    addresses: [String; 2],
}

impl Hub {
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        *state.page.lock().unwrap() = 1000;
        let addresses = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if state.closed.load(Ordering::Relaxed) {
                        return;
                    }
                    let (state, stream) = (Arc::clone(&state), stream.unwrap());
                    std::thread::spawn(move || converse(&state, stream));
                }
            });
            address
        });
        *state.store.lock().unwrap() = format!("http://{}", addresses[1]);
        Self { state, addresses }
    }

    /// For `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// A new commit on a branch of `models/OWNER/NAME` or `datasets/OWNER/NAME`.
    pub fn add<B: AsRef<[u8]>>(&self, repo: &str, branch: &str, files: &[(&str, B)]) -> String {
        let files: Files = files
            .iter()
            .map(|(path, bytes)| ((*path).to_owned(), Arc::new(bytes.as_ref().to_vec())))
            .collect();
        self.state.commit(repo, branch, files)
    }

    /// The files of a branch.
    pub fn files(&self, repo: &str, branch: &str) -> BTreeMap<String, Vec<u8>> {
        let repos = self.state.repos.lock().unwrap();
        let files = &repos[repo].commits[&repos[repo].branches[branch]];
        files.iter().map(|(path, bytes)| (path.clone(), bytes.to_vec())).collect()
    }

    /// Other bytes for one file, while commit and list stay as they were.
    pub fn replace(&self, repo: &str, commit: &str, path: &str, bytes: &[u8]) {
        let list = self.list(repo, commit);
        let mut repos = self.state.repos.lock().unwrap();
        let repo = repos.get_mut(repo).unwrap();
        repo.lists.entry(commit.to_owned()).or_insert(list);
        let files = repo.commits.get_mut(commit).unwrap();
        files.insert(path.to_owned(), Arc::new(bytes.to_vec()));
    }

    /// Another list for a commit.
    pub fn set_list(&self, repo: &str, commit: &str, list: Value) {
        let mut repos = self.state.repos.lock().unwrap();
        repos.get_mut(repo).unwrap().lists.insert(commit.to_owned(), list);
    }

    /// The true list of a commit.
    pub fn list(&self, repo: &str, commit: &str) -> Value {
        list_of(&self.state.repos.lock().unwrap()[repo].commits[commit])
    }

    /// Deletes a commit and the branches that are on it.
    pub fn forget(&self, repo: &str, commit: &str) {
        let mut repos = self.state.repos.lock().unwrap();
        let repo = repos.get_mut(repo).unwrap();
        repo.commits.remove(commit);
        repo.branches.retain(|_, on| on != commit);
    }

    pub fn fault(&self, fault: Fault) {
        self.state.faults.lock().unwrap().push(fault);
    }

    pub fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// So many entries on a page of a list.
    pub fn page(&self, entries: usize) {
        *self.state.page.lock().unwrap() = entries;
    }

    pub fn log(&self) -> Vec<Request> {
        let log = self.state.log.lock().unwrap();
        log.iter().map(|request| request.lock().unwrap().clone()).collect()
    }

    /// Requests with `part` in their path.
    pub fn asked(&self, part: &str) -> Vec<Request> {
        self.log().into_iter().filter(|request| request.path.contains(part)).collect()
    }

    pub fn clear_log(&self) {
        self.state.log.lock().unwrap().clear();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        for address in &self.addresses {
            let _ = TcpStream::connect(address); // wakes the thread that accepts
        }
    }
}

/// Serves one line until either side closes it.
fn converse(state: &State, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    loop {
        let Some(head) = read_head(&mut stream) else { return };
        if state.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut exchange = Exchange::new(state, &head, &mut stream);
        let next = exchange.answer();
        let is_read = exchange.is_read;
        match next {
            Ok(Next::KeepOpen) if is_read => continue,
            Ok(Next::KeepOpen) => {}
            Ok(Next::Close) | Err(_) => return close(stream),
            Ok(Next::Reset) => {
                // Closing with a byte unread makes the system send a reset; what was written
                // before needs a moment to get through.
                std::thread::sleep(Duration::from_millis(20));
                return;
            }
        }
        let _ = stream.read_exact(&mut [0]);
    }
}

/// Closes with everything read, so that no reset is sent.
fn close(mut stream: TcpStream) {
    let _ = stream.read_exact(&mut [0]);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.read(&mut [0]);
}

/// Takes the head of a request but for its last byte.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.peek(&mut buffer).ok().filter(|count| *count > 0)?;
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            stream.read_exact(&mut buffer[..end + 3]).ok()?;
            return Some(text[..end].to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

enum Next {
    KeepOpen,
    Close,
    Reset,
}

struct Exchange<'a> {
    state: &'a State,
    stream: &'a mut TcpStream,
    request: Request,
    /// The same, as it is seen so far.
    logged: Arc<Mutex<Request>>,
    fault: Option<Kind>,
    /// Bytes of the body to come.
    length: usize,
    /// Was the last byte of the head read, and the body?
    is_read: bool,
}

impl<'a> Exchange<'a> {
    fn new(state: &'a State, head: &str, stream: &'a mut TcpStream) -> Self {
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let request = Request {
            method: first.next().unwrap_or_default().to_owned(),
            path: first.next().unwrap_or_default().to_owned(),
            range: headers.get("range").cloned(),
            auth: headers.contains_key("authorization"),
            status: 0,
            sent: Vec::new(),
            bytes: 0,
            begun: Instant::now(),
        };
        let line = format!("{} {}", request.method, request.path);
        let fault = state.faults.lock().unwrap().iter_mut().find_map(|fault| {
            if !line.contains(&fault.on) {
                return None;
            }
            fault.seen += 1;
            let number = fault.seen.checked_sub(fault.after + 1)?;
            (number < fault.times).then(|| fault.kind.clone())
        });
        let logged = Arc::new(Mutex::new(request.clone()));
        state.log.lock().unwrap().push(Arc::clone(&logged));
        let length = headers.get("content-length").and_then(|length| length.parse().ok());
        let length = length.unwrap_or_default();
        Self { state, stream, request, logged, fault, length, is_read: false }
    }

    /// Reads what was sent with the request.
    fn read_sent(&mut self) -> std::io::Result<()> {
        self.stream.read_exact(&mut [0])?;
        self.request.sent = vec![0; self.length];
        self.stream.read_exact(&mut self.request.sent)?;
        self.is_read = true;
        self.logged.lock().unwrap().sent.clone_from(&self.request.sent);
        Ok(())
    }

    fn answer(&mut self) -> std::io::Result<Next> {
        let writes = matches!(self.request.method.as_str(), "POST" | "PUT");
        if writes && !matches!(self.fault, Some(Kind::Refuse)) {
            self.read_sent()?;
        }
        match self.fault.clone() {
            Some(Kind::Refuse) => return Ok(Next::Reset),
            Some(Kind::Delay(pause)) => std::thread::sleep(pause),
            Some(Kind::Move { repo, branch, commit }) => {
                let mut repos = self.state.repos.lock().unwrap();
                repos.get_mut(repo).unwrap().branches.insert(branch.to_owned(), commit);
            }
            Some(Kind::Status(status, headers, body)) => {
                return self.send(status, &headers, body.as_bytes());
            }
            Some(Kind::Body(body)) => return self.send(200, &[], body.as_bytes()),
            Some(Kind::WebPage { declared }) => {
                let kind = if declared { "text/html; charset=utf-8" } else { "text/plain" };
                let headers = [("Content-Type", kind.to_owned())];
                return self.send(200, &headers, b"<!DOCTYPE html><html>log in</html>");
            }
            Some(Kind::Unsatisfiable) => {
                return self.send(416, &[("Content-Range", "bytes */1".to_owned())], b"");
            }
            _ => {}
        }
        let path = self.request.path.clone();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        if writes {
            return self.write(path.trim_start_matches('/'), query);
        }
        if let Some(sha256) = path.strip_prefix("/_cdn/") {
            let Some(bytes) = self.stored(sha256) else { return self.missing("EntryNotFound") };
            return self.content(&bytes, &[("ETag", format!("\"{sha256}\""))]);
        }
        match path.strip_prefix("/api/") {
            Some(api) => self.api(api, query),
            None => self.resolve(path.trim_start_matches('/')),
        }
    }

    fn stored(&self, sha256: &str) -> Option<Arc<Vec<u8>>> {
        let repos = self.state.repos.lock().unwrap();
        let mut all = repos.values().flat_map(|repo| repo.commits.values());
        all.find_map(|files| files.values().find(|bytes| sha256_of(bytes) == sha256).cloned())
    }

    /// `models/OWNER/NAME/revision/REV` and `models/OWNER/NAME/tree/REV`.
    fn api(&mut self, path: &str, query: &str) -> std::io::Result<Next> {
        let parts: Vec<&str> = path.split('/').collect();
        let [kind, owner, name, what, revision] = parts[..] else {
            return self.missing("EntryNotFound");
        };
        let (id, full) = (format!("{owner}/{name}"), format!("{kind}/{owner}/{name}"));
        let (commit, files) = match self.lookup(&full, &decode(revision)) {
            Ok(found) => found,
            Err(code) => return self.missing(code),
        };
        if what == "revision" {
            let siblings: Vec<Value> =
                files.keys().map(|path| json!({"rfilename": path})).collect();
            let answer = json!({"id": id, "sha": commit, "private": false, "gated": false,
                "disabled": false, "siblings": siblings});
            return self.json(&answer, &[("X-Repo-Commit", commit)]);
        }
        let told = self.state.repos.lock().unwrap()[&full].lists.get(&commit).cloned();
        let list = told.unwrap_or_else(|| list_of(&files));
        let Some(entries) = list.as_array() else { return self.json(&list, &[]) };
        let page = *self.state.page.lock().unwrap();
        let cursor = query.split('&').find_map(|part| part.strip_prefix("cursor="));
        let begin: usize = cursor.map_or(0, |text| text.parse().unwrap());
        let end = entries.len().min(begin + page);
        let mut headers = Vec::new();
        if end < entries.len() {
            let host = self.address();
            let next = format!("<{host}/api/{path}?recursive=true&cursor={end}>; rel=\"next\"");
            headers.push(("Link", next));
        }
        self.json(&json!(entries[begin..end]), &headers)
    }

    /// What `huggingface_hub` calls to upload: the same paths, bodies and answers.
    fn write(&mut self, path: &str, query: &str) -> std::io::Result<Next> {
        let at_store = path.starts_with("_store/") || path.starts_with("_complete/");
        if !self.request.auth && !at_store {
            return self.send(401, &[], b"{}");
        }
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["_store", oid, ref part @ ..] => self.store(oid, part.first().copied()),
            ["_complete", oid] => self.complete(oid),
            ["_verify", oid] => {
                let is_here = self.state.objects.lock().unwrap().contains_key(oid);
                self.send(if is_here { 200 } else { 404 }, &[], b"")
            }
            ["api", "repos", "create"] => {
                let asked = self.sent_json();
                let name = |key: &str| asked[key].as_str().unwrap().to_owned();
                let repo = format!("models/{}/{}", name("organization"), name("name"));
                if self.state.repos.lock().unwrap().contains_key(&repo) {
                    return self.send(409, &[], b"{}");
                }
                let text = Arc::new(b"*.safetensors filter=lfs\n".to_vec());
                let files = Files::from([(".gitattributes".to_owned(), text)]);
                self.state.commit(&repo, "main", files);
                self.json(&json!({"url": "there"}), &[])
            }
            ["api", kind, owner, name, what, revision] => {
                let repo = format!("{kind}/{owner}/{name}");
                self.write_repo(&repo, what, &decode(revision), query)
            }
            [owner, name, "info", "lfs", "objects", "batch"] => {
                let repo = format!("models/{owner}/{}", name.trim_end_matches(".git"));
                self.batch(&repo)
            }
            _ => self.missing("EntryNotFound"),
        }
    }

    fn sent_json(&self) -> Value {
        serde_json::from_slice(&self.request.sent).unwrap()
    }

    fn write_repo(
        &mut self,
        repo: &str,
        what: &str,
        revision: &str,
        query: &str,
    ) -> std::io::Result<Next> {
        if what == "branch" {
            let mut repos = self.state.repos.lock().unwrap();
            let branches = &mut repos.get_mut(repo).unwrap().branches;
            let is_there = branches.contains_key(revision);
            let main = branches["main"].clone();
            branches.entry(revision.to_owned()).or_insert(main);
            drop(repos);
            return self.send(if is_there { 409 } else { 200 }, &[], b"{}");
        }
        let (head, files) = match self.lookup(repo, revision) {
            Ok(found) => found,
            Err(code) => return self.missing(code),
        };
        if what == "preupload" {
            let asked = self.sent_json();
            let told = asked["files"].as_array().unwrap().iter().map(|file| {
                let large = file["size"].as_u64().unwrap() >= LARGE_FROM as u64;
                json!({"path": file["path"], "shouldIgnore": false,
                    "uploadMode": if large { "lfs" } else { "regular" }})
            });
            let told: Vec<Value> = told.collect();
            return self.json(&json!({"files": told}), &[]);
        }
        let mut files = files;
        for line in String::from_utf8(self.request.sent.clone()).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let value = &line["value"];
            let path = value["path"].as_str().unwrap_or_default().to_owned();
            match line["key"].as_str().unwrap() {
                "header" if value["parentCommit"] != head => return self.send(412, &[], b"{}"),
                "header" => {}
                "file" => {
                    let bytes = STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                    files.insert(path, Arc::new(bytes));
                }
                "lfsFile" => {
                    let objects = self.state.objects.lock().unwrap();
                    let bytes = objects[value["oid"].as_str().unwrap()].clone();
                    drop(objects);
                    files.insert(path, Arc::new(bytes));
                }
                "deletedFile" => drop(files.remove(&path)),
                other => panic!("{other}"),
            }
        }
        let branch = if query.contains("create_pr=1") { "refs/pr/1" } else { revision };
        let commit = self.state.commit(repo, branch, files);
        self.json(&json!({"success": true, "commitOid": commit, "commitUrl": "there"}), &[])
    }

    /// Where large files go: whole ones to one address, larger ones in parts.
    fn batch(&mut self, repo: &str) -> std::io::Result<Next> {
        let (asked, store) = (self.sent_json(), self.state.store.lock().unwrap().clone());
        assert_eq!(asked["operation"], "upload", "{repo}");
        let hub = self.address();
        let told = asked["objects"].as_array().unwrap().iter().map(|object| {
            let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
            if self.state.objects.lock().unwrap().contains_key(oid) {
                return object.clone();
            }
            let verify = json!({"href": format!("{hub}/_verify/{oid}")});
            let upload = match size as usize > PARTS_FROM {
                false => json!({"href": format!("{store}/_store/{oid}?X-Signature=opens-it")}),
                true => {
                    let mut header = json!({"chunk_size": PART.to_string()});
                    for number in 1..=(size as usize).div_ceil(PART) {
                        let href = format!("{store}/_store/{oid}/{number}?X-Signature=opens-it");
                        header[format!("{number:05}")] = href.into();
                    }
                    json!({"href": format!("{hub}/_complete/{oid}"), "header": header})
                }
            };
            json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
        });
        let told: Vec<Value> = told.collect();
        self.json(&json!({"transfer": "basic", "objects": told}), &[])
    }

    fn store(&mut self, oid: &str, part: Option<&str>) -> std::io::Result<Next> {
        assert!(!self.request.auth, "the token goes to the hub alone");
        let mut bytes = self.request.sent.clone();
        if let Some(Kind::Corrupt { at }) = self.fault {
            bytes[at] ^= 0xff;
        }
        match part {
            Some(number) => {
                let key = (oid.to_owned(), number.parse().unwrap());
                self.state.parts.lock().unwrap().insert(key, bytes);
            }
            None => drop(self.state.objects.lock().unwrap().insert(oid.to_owned(), bytes)),
        }
        self.send(200, &[("ETag", format!("\"{}\"", part.unwrap_or("whole")))], b"")
    }

    fn complete(&mut self, oid: &str) -> std::io::Result<Next> {
        let asked = self.sent_json();
        let numbers = asked["parts"].as_array().unwrap().iter();
        let mut bytes = Vec::new();
        for part in numbers {
            let number = part["partNumber"].as_u64().unwrap() as usize;
            assert_eq!(part["etag"], format!("\"{number}\""));
            bytes.extend(&self.state.parts.lock().unwrap()[&(oid.to_owned(), number)]);
        }
        self.state.objects.lock().unwrap().insert(oid.to_owned(), bytes);
        self.json(&json!({"success": true}), &[])
    }

    fn address(&self) -> String {
        format!("http://{}", self.stream.local_addr().unwrap())
    }

    /// `OWNER/NAME/resolve/REV/PATH`, for data sets after `datasets/`.
    fn resolve(&mut self, path: &str) -> std::io::Result<Next> {
        let (kind, rest) = match path.strip_prefix("datasets/") {
            Some(rest) => ("datasets", rest),
            None => ("models", path),
        };
        let Some((repo, file)) = rest.split_once("/resolve/") else {
            return self.missing("EntryNotFound");
        };
        let (revision, file) = file.split_once('/').unwrap_or((file, ""));
        let (commit, files) = match self.lookup(&format!("{kind}/{repo}"), &decode(revision)) {
            Ok(found) => found,
            Err(code) => return self.missing(code),
        };
        let Some(bytes) = files.get(&decode(file)) else { return self.missing("EntryNotFound") };
        let large = bytes.len() >= LARGE_FROM;
        let etag = match self.fault {
            Some(Kind::Etag(other)) => other.to_owned(),
            _ if large => sha256_of(bytes),
            _ => git_id(bytes),
        };
        let mut headers = vec![("X-Repo-Commit", commit), ("ETag", format!("\"{etag}\""))];
        if !large {
            return self.content(&Arc::clone(bytes), &headers);
        }
        let store = self.state.store.lock().unwrap().clone();
        headers.push(("X-Linked-Etag", format!("\"{etag}\"")));
        headers.push(("X-Linked-Size", bytes.len().to_string()));
        let address = format!("{store}/_cdn/{}?X-Signature=opens-it", sha256_of(bytes));
        headers.push(("Location", address));
        self.send(302, &headers, b"Found. Redirecting")
    }

    fn lookup(&self, repo: &str, revision: &str) -> Result<(String, Files), &'static str> {
        let repos = self.state.repos.lock().unwrap();
        let repo = repos.get(repo).ok_or("RepoNotFound")?;
        let commit = repo.branches.get(revision).map_or(revision, String::as_str);
        let files = repo.commits.get(commit).ok_or("RevisionNotFound")?;
        Ok((commit.to_owned(), files.clone()))
    }

    fn missing(&mut self, code: &str) -> std::io::Result<Next> {
        let headers = [
            ("X-Error-Code", code.to_owned()),
            ("X-Error-Message", "not here".to_owned()),
            ("X-Request-Id", "Root=1-test".to_owned()),
        ];
        self.send(404, &headers, b"{\"error\":\"not here\"}")
    }

    fn json(&mut self, value: &Value, headers: &[(&str, String)]) -> std::io::Result<Next> {
        let mut all = vec![("Content-Type", "application/json; charset=utf-8".to_owned())];
        all.extend(headers.iter().cloned());
        self.send(200, &all, value.to_string().as_bytes())
    }

    /// The content of a file, or the part that was asked for, with what goes wrong in a body.
    fn content(&mut self, bytes: &[u8], headers: &[(&str, String)]) -> std::io::Result<Next> {
        let mut headers = headers.to_vec();
        headers.push(("Content-Type", "application/octet-stream".to_owned()));
        let (mut begin, mut status) = (0, 200);
        let range = self.request.range.clone();
        let asked = range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        if let Some(from) = asked.and_then(|range| range.strip_suffix('-')?.parse().ok())
            && !matches!(self.fault, Some(Kind::NoRange))
        {
            (begin, status) = (from, 206);
            if begin >= bytes.len() {
                return self.send(416, &[], b"");
            }
            if matches!(self.fault, Some(Kind::WrongRange)) {
                begin = 0;
            }
            let range = format!("bytes {begin}-{}/{}", bytes.len() - 1, bytes.len());
            headers.push(("Content-Range", range));
        }
        self.send(status, &headers, &bytes[begin..])
    }

    /// Head and body, with what goes wrong in a body.
    fn send(
        &mut self,
        status: u16,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> std::io::Result<Next> {
        self.logged.lock().unwrap().status = status;
        // The pieces of a fault concern contents, not redirects.
        let fault = self.fault.take().filter(|_| matches!(status, 200 | 206));
        let mut body = body.to_vec();
        let mut end = body.len();
        let mut declared = Some(body.len());
        let mut next = Next::KeepOpen;
        match fault {
            Some(Kind::Truncate { at }) => {
                end = at.min(end);
                declared = Some(end);
            }
            Some(Kind::NoLength { at }) => {
                (end, declared, next) = (at.min(end), None, Next::Close);
            }
            Some(Kind::Reset { at }) => (end, next) = (at.min(end), Next::Reset),
            Some(Kind::Close { at }) => (end, next) = (at.min(end), Next::Close),
            Some(Kind::Corrupt { at }) if at < end => body[at] ^= 0xff,
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match declared {
            Some(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
            None => head.push_str("Connection: close\r\n"),
        }
        if matches!(fault, Some(Kind::Encoded)) {
            head.push_str("Content-Encoding: gzip\r\n");
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes())?;
        if self.request.method == "HEAD" {
            return Ok(next);
        }
        let step = match fault {
            Some(Kind::Slow { bytes_per_second }) => (bytes_per_second / 50).max(1),
            _ => 256 << 10,
        };
        let mut sent = 0;
        while sent < end {
            let mut to = end.min(sent + step);
            if let Some(Kind::Stall { at, pause }) = fault {
                if sent < at {
                    to = to.min(at);
                } else if sent == at {
                    std::thread::sleep(pause);
                }
            }
            self.stream.write_all(&body[sent..to])?;
            self.logged.lock().unwrap().bytes += to - sent;
            sent = to;
            if matches!(fault, Some(Kind::Slow { .. })) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(next)
    }
}

/// What the API lists: folders, and files with their ids.
fn list_of(files: &Files) -> Value {
    let folders: BTreeSet<&str> =
        files.keys().flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at])).collect();
    let mut entries: Vec<Value> = folders
        .into_iter()
        .map(|path| {
            json!({"type": "directory", "oid": git_id(path.as_bytes()), "size": 0,
            "path": path})
        })
        .collect();
    entries.extend(files.iter().map(|(path, bytes)| entry(path, bytes)));
    json!(entries)
}

/// What the API says of one file.
pub fn entry(path: &str, bytes: &[u8]) -> Value {
    if bytes.len() < LARGE_FROM {
        return json!({"type": "file", "oid": git_id(bytes), "size": bytes.len(), "path": path});
    }
    let sha256 = sha256_of(bytes);
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n",
        bytes.len()
    );
    json!({"type": "file", "oid": git_id(pointer.as_bytes()), "size": bytes.len(), "path": path,
        "lfs": {"oid": sha256, "size": bytes.len(), "pointerSize": pointer.len()}})
}

/// The id that git gives to a content.
pub fn git_id(bytes: &[u8]) -> String {
    let mut state = Sha1::new();
    state.update(format!("blob {}\0", bytes.len()));
    state.update(bytes);
    hex(&state.finalize())
}

pub fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [a, b, ..]) => {
                let digits = [*a, *b];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
