//! The HTTP client of object stores: `ureq`, as for everything else, behind the interface of
//! `object_store`.
//!
//! Requests block: each store has a runtime of one thread, which waits for one request at a time.

use std::future::Future;
use std::io::Read;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use ureq::http::{Request, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use super::traffic::Traffic;

/// Longer answers are none: files are asked for in parts, and lists come in pages.
const ANSWER_BYTES_MAX: u64 = 96 << 20;
const CONNECT: Duration = Duration::from_secs(10);
/// A store answers when it has written everything.
const ANSWER: Duration = Duration::from_secs(120);
const IDLE: Duration = Duration::from_secs(30);

/// Makes clients that count what they ask.
#[derive(Debug)]
pub(super) struct UreqConnector(pub Arc<Traffic>);

impl HttpConnector for UreqConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let said = options.get_config_value(&ClientConfigKey::AllowHttp);
        let unencrypted = said.is_some_and(|said| said == "true");
        let agent = |proxy| {
            let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
            Agent::config_builder()
                .tls_config(tls)
                .proxy(proxy)
                .http_status_as_error(false)
                .max_redirects(0)
                .user_agent(concat!("firebrand/", env!("CARGO_PKG_VERSION")))
                .accept_encoding("identity")
                .timeout_resolve(Some(CONNECT))
                .timeout_connect(Some(CONNECT))
                .timeout_recv_response(Some(ANSWER))
                .timeout_per_read(Some(IDLE))
                .timeout_per_write(Some(IDLE))
                .build()
                .new_agent()
        };
        Ok(HttpClient::new(UreqService {
            direct: agent(None),
            proxied: agent(Proxy::try_from_env()),
            unencrypted,
            traffic: Arc::clone(&self.0),
        }))
    }
}

#[derive(Debug)]
struct UreqService {
    /// For this very machine, and for what lies beside it: a proxy does not reach it.
    direct: Agent,
    proxied: Agent,
    /// Whether addresses without encryption may be asked.
    unencrypted: bool,
    traffic: Arc<Traffic>,
}

type Answered<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for UreqService {
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Answered<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            // Bodies of requests give their bytes as those of answers do.
            let body = HttpResponseBody::new(body).bytes().await?;
            self.ask(Request::from_parts(parts, &body[..]))
        })
    }
}

impl UreqService {
    fn ask(&self, request: Request<&[u8]>) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().clone();
        let near = is_near(&uri);
        if uri.scheme_str() != Some("https") && !self.unencrypted && !near {
            let host = uri.host().unwrap_or_default();
            let why = format!(
                "{host} would be asked without encryption; `AWS_ALLOW_HTTP=true` allows it"
            );
            return Err(HttpError::new(HttpErrorKind::Decode, std::io::Error::other(why)));
        }
        let agent = if near { &self.direct } else { &self.proxied };
        self.traffic.request(request.method().as_str(), uri.query(), request.body().len());
        let is_empty = request.body().is_empty();
        let answer =
            match is_empty && matches!(request.method().as_str(), "GET" | "HEAD" | "DELETE") {
                true => agent.run(request.map(|_| ())),
                false => agent.run(request),
            };
        let (parts, body) = answer.map_err(|error| failed(&error))?.into_parts();
        let mut bytes = Vec::new();
        let read = body.into_reader().take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
        self.traffic.answer(bytes.len());
        if bytes.len() as u64 > ANSWER_BYTES_MAX {
            let why = format!("the store answered more than {ANSWER_BYTES_MAX} bytes");
            return Err(HttpError::new(HttpErrorKind::Decode, std::io::Error::other(why)));
        }
        Ok(Response::from_parts(parts, HttpResponseBody::from(bytes)))
    }
}

/// This machine, or what clouds put beside each machine to tell it who it is.
fn is_near(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.parse().is_ok_and(|address: IpAddr| match address {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback(),
        })
}

/// No answer at all. What may pass by itself is told apart: it is tried again.
fn failed(error: &ureq::Error) -> HttpError {
    use ureq::{Error as E, Timeout};
    let kind = match error {
        E::HostNotFound
        | E::ConnectionFailed
        | E::ConnectProxyFailed(_)
        | E::Timeout(Timeout::Resolve | Timeout::Connect) => HttpErrorKind::Connect,
        E::Timeout(_) => HttpErrorKind::Timeout,
        // A certificate that does not hold comes as invalid data.
        E::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => HttpErrorKind::Decode,
        E::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => HttpErrorKind::Connect,
        E::Io(_) | E::Protocol(_) | E::BodyStalled => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, std::io::Error::other(error.to_string()))
}
