//! Addresses: where they point, how they are joined, and how much of them may be shown.

use std::fmt::Write as _;

use ureq::http::Uri;

use crate::error::{Error, Result};

/// Scheme, host and port: whoever shares them may see the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// An absolute `http` or `https` address.
#[derive(Debug, Clone)]
pub(super) struct Url {
    text: String,
    origin: Origin,
}

impl Url {
    /// Parses an absolute address.
    ///
    /// # Errors
    /// Other schemes, names and passwords inside the address, characters that may not stand there.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::hub(format!("`{}` is not the address of a hub", shown(text))).because(why)
        };
        let uri: Uri = text.parse().map_err(|error| wrong(format!("{error}")))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(wrong("it must begin with `https://` or `http://`".to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host".to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it must not hold a name or a password".to_owned())
                .hint("put an access token into the environment variable `HF_TOKEN`"));
        }
        let origin = Origin {
            scheme,
            host: authority.host().to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(port),
        };
        Ok(Self { text: text.to_owned(), origin })
    }

    /// The address that a `Location` or `Link` header of an answer from here names.
    pub fn join(&self, location: &str) -> Result<Self> {
        if location.starts_with("http://") || location.starts_with("https://") {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.origin.scheme));
        }
        let scheme_end = self.text.find("://").map_or(0, |at| at + 3);
        let host_end = self.text[scheme_end..]
            .find(['/', '?', '#'])
            .map_or(self.text.len(), |at| scheme_end + at);
        let host = &self.text[..host_end];
        if location.starts_with('/') {
            return Self::parse(&format!("{host}{location}"));
        }
        let path = self.text[host_end..].split(['?', '#']).next().unwrap_or_default();
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        Self::parse(&format!("{host}{folder}{location}"))
    }

    /// The whole address, signature included: for requests, never for people.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Is it an address of the loopback interface?
    pub fn is_this_machine(&self) -> bool {
        let host = self.origin.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    /// Encrypted?
    pub fn is_https(&self) -> bool {
        self.origin.scheme == "https"
    }

    /// For people and logs: without the query, which may be a signature that opens the file.
    pub fn shown(&self) -> &str {
        shown(&self.text)
    }
}

/// An address without its query and fragment.
fn shown(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

/// Percent-encodes everything but the characters that RFC 3986 calls unreserved, and `/` where
/// it separates.
pub(super) fn encode(text: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || (keep_slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a string cannot fail
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_joined_as_servers_mean_them() {
        let base = Url::parse("https://hub.example/api/models/o/n/tree/x?recursive=true").unwrap();
        let joined = |location: &str| base.join(location).unwrap().as_str().to_owned();
        assert_eq!(joined("http://cdn.example/a?sig=1"), "http://cdn.example/a?sig=1");
        assert_eq!(joined("//cdn.example/a"), "https://cdn.example/a");
        assert_eq!(joined("/b?c=d"), "https://hub.example/b?c=d");
        assert_eq!(joined("y"), "https://hub.example/api/models/o/n/tree/y");
        assert_eq!(Url::parse("http://h").unwrap().join("x").unwrap().as_str(), "http://h/x");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| Url::parse(text).unwrap().origin().clone();
        assert_eq!(origin("https://Hub.example/a"), origin("https://hub.example:443/b"));
        assert_ne!(origin("https://hub.example"), origin("http://hub.example"));
        assert_ne!(origin("http://127.0.0.1:1"), origin("http://127.0.0.1:2"));
        assert_ne!(origin("https://hub.example"), origin("https://hub.example.evil"));
    }

    #[test]
    fn signatures_and_passwords_are_not_shown() {
        let url = Url::parse("https://cdn.example/a?X-Signature=secret#x").unwrap();
        assert_eq!(url.shown(), "https://cdn.example/a");
        assert!(Url::parse("https://me:secret@hub.example").is_err());
        assert!(Url::parse("file:///etc/passwd").is_err());
        assert!(Url::parse("hub.example/a").is_err());
    }

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        let is = |text: &str| Url::parse(text).unwrap().is_this_machine();
        assert!(is("http://localhost:1") && is("http://127.0.0.1") && is("http://[::1]:8"));
        assert!(!is("http://hub.example") && !is("http://10.0.0.1"));
    }

    #[test]
    fn odd_names_are_encoded() {
        assert_eq!(encode("refs/pr/4", false), "refs%2Fpr%2F4");
        assert_eq!(encode("data/a b#ü.txt", true), "data/a%20b%23%C3%BC.txt");
    }
}
