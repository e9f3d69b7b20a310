//! One request: redirects by hand, the token to its own origin only, and a plain word for every
//! way in which it can fail.

use crate::hub::header_text::header;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, SendBody};

use super::retry::Failure;
use super::settings::Settings;
use super::url::Url;
use crate::error::Result;

/// Redirects of one request that are followed.
const REDIRECTS_MAX: usize = 10;

/// Bytes that are read at once, from the network and by the hashing thread.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// Longest body of an answer without interest that is read, so that its connection can be used
/// again.
const DRAIN_BYTES_MAX: u64 = 64 << 10;

/// Longest that is waited for it.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Who asks.
pub(super) struct Client {
    agent: Agent,
    endpoint: Url,
    token: Option<String>,
    /// For all of an answer that is no file.
    within: Duration,
}

/// An answer that carries something: its body is still to be read.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
    /// Who answered, after all redirects.
    pub url: Url,
    /// The commit that the hub said it answers for.
    pub commit: Option<String>,
}

/// What is asked with a body.
pub(super) struct Call {
    pub url: Url,
    /// `PUT`, and not `POST`.
    pub puts: bool,
    /// The hub's own calls carry the token.
    pub with_token: bool,
    pub headers: Vec<(String, String)>,
}

/// A body.
pub(super) enum Sent<'a> {
    /// In memory.
    Text(Vec<u8>),
    /// A part of a file.
    File { path: &'a Path, from: u64, length: u64 },
}

impl Client {
    pub fn new(settings: &Settings) -> Result<Self> {
        let timing = &settings.timing;
        // The roots of the system: firms add their own there.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let endpoint = Url::parse(&settings.endpoint)?;
        // A proxy that the environment names does not reach this very machine.
        let proxy = if endpoint.is_this_machine() { None } else { Proxy::try_from_env() };
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("firebrand/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .input_buffer_size(BUFFER_BYTES)
            .timeout_resolve(Some(timing.connect))
            .timeout_connect(Some(timing.connect))
            .timeout_recv_response(Some(timing.header))
            .timeout_per_read(Some(timing.idle))
            .timeout_per_write(Some(timing.idle))
            .build();
        let (token, within) = (settings.token.clone(), timing.answer);
        Ok(Self { agent: config.new_agent(), endpoint, token, within })
    }

    /// Address of a path on the hub; the path is already encoded.
    pub fn on_hub(&self, path: &str) -> Result<Url> {
        Url::parse(&format!("{}/{path}", self.endpoint.as_str()))
    }

    /// Does this address lie on the hub itself, not on a store that it redirects to?
    pub fn is_hub(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// Would a request carry a token?
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Ends all requests under way, from another thread; none can be made after that.
    pub fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// Asks for the bytes from `from` on, or for everything. Answers of status 200 and 206 come
    /// back, all others are failures.
    pub fn get(&self, url: &Url, from: Option<u64>) -> Result<Answer, Failure> {
        let mut url = url.clone();
        let mut commit = None;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.get_once(&url, from)?;
            let status = response.status().as_u16();
            if self.is_hub(&url) {
                commit = header(response.headers(), "x-repo-commit").map(str::to_owned).or(commit);
            }
            if matches!(status, 200 | 206) {
                let (parts, body) = response.into_parts();
                let answer = Answer { status, headers: parts.headers, body, url, commit };
                return answer.checked();
            }
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Err(self.refused(&url, response));
            }
            let location = header(response.headers(), "location").map(str::to_owned);
            drain(response, self.within);
            let location = location.ok_or_else(|| {
                Failure::again(format!("{} answered {status} without an address", url.shown()))
            })?;
            let next = url.join(&location).map_err(|error| {
                Failure::again(format!("{} redirects: {}", url.shown(), error.what))
            })?;
            if url.is_https() && !next.is_https() {
                return Err(Failure::for_good(format!(
                    "{} redirects to {}, which is not encrypted",
                    url.shown(),
                    next.shown()
                )));
            }
            url = next;
        }
        Err(Failure::for_good(format!("{} redirects without end", url.shown())))
    }

    fn get_once(&self, url: &Url, from: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(url.as_str());
        if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            // No `If-Range`: the digest of the whole decides in the end, whoever sent the parts.
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| failed(url, &error))
    }

    /// Sends a body; answers of status 200 to 204 come back, all others are failures. The hub's own
    /// redirects, of a repository with a new name, are followed.
    pub fn send(&self, call: &Call, body: &Sent) -> Result<Answer, Failure> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send_once(call, &url, body)?;
            let status = response.status().as_u16();
            if matches!(status, 200..=204) {
                let (parts, body) = response.into_parts();
                return Answer { status, headers: parts.headers, body, url, commit: None }
                    .checked();
            }
            let location = header(response.headers(), "location").map(str::to_owned);
            let next = location.and_then(|location| url.join(&location).ok());
            match next.filter(|next| matches!(status, 307 | 308) && self.is_hub(next)) {
                Some(next) => {
                    drain(response, self.within);
                    url = next;
                }
                None => return Err(self.refused(&url, response)),
            }
        }
        Err(Failure::for_good(format!("{} redirects without end", url.shown())))
    }

    fn send_once(&self, call: &Call, url: &Url, body: &Sent) -> Result<Response<Body>, Failure> {
        let address = url.as_str();
        let request = if call.puts { self.agent.put(address) } else { self.agent.post(address) };
        // A store answers when it has written everything.
        let mut request = request.config().timeout_recv_response(Some(self.within)).build();
        if let Some(token) = self.token.as_ref().filter(|_| call.with_token && self.is_hub(url)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in &call.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        let sent = match body {
            Sent::Text(text) => request.send(text.as_slice()),
            Sent::File { path, from, length } => {
                let part = || {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(*from))?;
                    io::Result::Ok(file.take(*length))
                };
                let mut part = part().map_err(|error| {
                    Failure::for_good(format!("cannot read {}: {error}", path.display()))
                })?;
                let request = request.header("Content-Length", length.to_string());
                request.send(SendBody::from_reader(&mut part))
            }
        };
        sent.map_err(|error| failed(url, &error))
    }

    /// An answer that is neither content nor a redirect.
    fn refused(&self, url: &Url, response: Response<Body>) -> Failure {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        drain(response, self.within);
        let mut cause = format!("{} answered {status}", url.shown());
        if let Some(message) = header(&headers, "x-error-message") {
            cause.push_str(&format!(", `{}`", message.chars().take(200).collect::<String>()));
        }
        if let Some(request) = request_id(&headers) {
            cause.push_str(&format!(" (request {request})"));
        }
        // A store's address expires: the hub must be asked for a new one.
        let expired = !self.is_hub(url) && (400..500).contains(&status);
        let temporary = matches!(status, 408 | 416 | 425 | 429 | 500..=599);
        Failure {
            cause,
            again: temporary || expired,
            pause: super::retry::asked_pause(status, &headers),
            status: Some(status),
            code: header(&headers, "x-error-code").filter(|_| self.is_hub(url)).map(str::to_owned),
            at_hub: self.is_hub(url),
        }
    }
}

impl Answer {
    /// Refuses what cannot be the bytes that were asked for.
    fn checked(self) -> Result<Self, Failure> {
        if let Some(encoding) = header(&self.headers, "content-encoding")
            && !encoding.eq_ignore_ascii_case("identity")
        {
            return Err(Failure::for_good(format!(
                "{} answered in the encoding `{encoding}`, which was not asked for",
                self.url.shown()
            )));
        }
        Ok(self)
    }

    /// Does the answer say that it is a web page?
    pub fn is_web_page(&self) -> bool {
        self.body.mime_type().is_some_and(|kind| {
            kind.eq_ignore_ascii_case("text/html")
                || kind.eq_ignore_ascii_case("application/xhtml+xml")
        })
    }

    /// The failure that a web page in place of `wanted` is.
    pub fn web_page_instead_of(&self, wanted: &str) -> Failure {
        Failure::for_good(format!(
            "{} answered with a web page instead of {wanted}; something between here and the hub \
             may want a login",
            self.url.shown()
        ))
    }

    /// Reads a body of at most `limit` bytes into memory, for no longer than `within` in all.
    pub fn read_all(self, limit: u64, within: Duration) -> Result<Vec<u8>, Failure> {
        let shown = self.url.shown().to_owned();
        let declared = self.body.content_length().unwrap_or_default();
        let mut bytes = Vec::new();
        if declared <= limit {
            let mut reader = self.body.into_reader().take(limit + 1);
            let read = read_within(&mut reader, &mut bytes, within);
            read.map_err(|error| Failure::again(format!("{shown} broke off: {error}")))?;
        }
        if bytes.len() as u64 > limit || declared > limit {
            return Err(Failure::for_good(format!("{shown} answered more than {limit} bytes")));
        }
        Ok(bytes)
    }
}

/// The number under which the hub or its store knows this request, for whoever runs them.
fn request_id(headers: &HeaderMap) -> Option<&str> {
    ["x-request-id", "x-amz-cf-id", "x-amz-request-id", "x-amzn-trace-id"]
        .iter()
        .find_map(|name| header(headers, name))
        .filter(|text| text.len() <= 200)
}

/// Reads what little an answer without interest holds.
fn drain(response: Response<Body>, within: Duration) {
    let body = response.into_body();
    if body.content_length().is_some_and(|length| length <= DRAIN_BYTES_MAX) {
        // Failing costs the connection only.
        let mut reader = body.into_reader().take(DRAIN_BYTES_MAX);
        let _ = read_within(&mut reader, &mut Vec::new(), within.min(DRAIN_MAX));
    }
}

/// Reads to the end, for no longer than `within`, though each read may bring something. Whatever
/// came before an error is in `bytes`.
///
/// # Errors
/// Also when the time is over: a server that sends one byte after another never comes to an end.
pub(super) fn read_within(
    reader: &mut dyn Read,
    bytes: &mut Vec<u8>,
    within: Duration,
) -> io::Result<()> {
    let begun = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if begun.elapsed() > within {
            let what = format!("{} bytes came in {:.1} s", bytes.len(), within.as_secs_f64());
            return Err(io::Error::other(format!("{what}, and there was no end")));
        }
    }
}

/// No answer at all.
fn failed(url: &Url, error: &ureq::Error) -> Failure {
    use ureq::{Error as E, Timeout};
    let (why, again) = match error {
        E::HostNotFound => ("its host is not known".to_owned(), true),
        E::Timeout(Timeout::Resolve | Timeout::Connect) => {
            ("no connection in time".to_owned(), true)
        }
        E::Timeout(_) => ("no answer in time".to_owned(), true),
        // A certificate that does not hold comes as invalid data.
        E::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => (io.to_string(), false),
        E::Io(io) => (io.to_string(), true),
        E::ConnectionFailed | E::ConnectProxyFailed(_) | E::Protocol(_) | E::BodyStalled => {
            (error.to_string(), true)
        }
        other => (other.to_string(), false),
    };
    let cause = format!("{} gave no answer: {why}", url.shown());
    if again { Failure::again(cause) } else { Failure::for_good(cause) }
}

/// A client must be usable from several threads at once.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Client>();
};
