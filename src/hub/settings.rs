//! Where the hub is, who asks, where files are kept, and how long anything may take.
//!
//! The environment is read as Python's `huggingface_hub` reads it, so that both programs use the
//! same hub, token and cache without a word of configuration.

use std::path::PathBuf;
use std::time::Duration;

use super::url::Url;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::cache_home;

const ENDPOINT: &str = "https://huggingface.co";

/// How a hub is reached.
#[derive(Clone)]
pub struct Settings {
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// Access token; sent to the endpoint's own origin and to nobody else.
    pub token: Option<String>,
    /// The cache folder that all tools share; it holds `models--OWNER--NAME` and so on.
    pub cache: PathBuf,
    /// Where it is noted which large files were read and found right, so that they are not read
    /// again while nobody touches them; without it they are read each time.
    pub notes: Option<PathBuf>,
    /// Ask nobody: use what the cache has, or fail.
    pub offline: bool,
    /// How long anything may take.
    pub timing: Timing,
}

/// Never shows the token.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("cache", &self.cache)
            .field("notes", &self.notes)
            .field("offline", &self.offline)
            .field("timing", &self.timing)
            .finish()
    }
}

/// A line that breaks again and again is tried on while a try brings this part of what the slowest
/// line brings in the time that it may be slow.
const PART: u64 = 16;

/// Limits of a single try, and the pauses between tries. The transfer of a file as a whole has no
/// limit: a slow one that moves is kept, up to the size that was listed, as long as it moves faster
/// than `slowest`.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Until there is a connection.
    pub connect: Duration,
    /// From the request to the head of its answer.
    pub header: Duration,
    /// Longest silence within a body.
    pub idle: Duration,
    /// For so long a file may come more slowly than `slowest`.
    pub slow: Duration,
    /// Bytes in a second, on average over `slow`, below which a transfer is broken off.
    pub slowest: u32,
    /// For all of one answer that is no file, however little of it comes at a time.
    pub answer: Duration,
    /// For all pages of a list of files.
    pub listing: Duration,
    /// The first pause; each further one is twice as long, and a random part of it is waited.
    pub backoff_base: Duration,
    /// Longest pause of our own choice.
    pub backoff_cap: Duration,
    /// Longest pause that the hub may ask for (`Retry-After`).
    pub retry_after_cap: Duration,
    /// Failures in a row that brought next to nothing, before it is given up.
    pub tries: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            header: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            slow: Duration::from_secs(60),
            slowest: 1024,
            answer: Duration::from_secs(60),
            listing: Duration::from_secs(30 * 60),
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(30),
            retry_after_cap: Duration::from_secs(300),
            tries: 8,
        }
    }
}

impl Timing {
    /// Bytes that a try must bring so that those before it are forgotten.
    pub fn least(&self) -> u64 {
        let milliseconds = u64::try_from(self.slow.as_millis()).unwrap_or(u64::MAX);
        (milliseconds.saturating_mul(u64::from(self.slowest)) / 1000 / PART).max(1)
    }

    /// All limits and pauses of our own choice times `factor`; what a hub asks for stays.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            connect: self.connect.mul_f64(factor),
            header: self.header.mul_f64(factor),
            idle: self.idle.mul_f64(factor),
            slow: self.slow.mul_f64(factor),
            slowest: self.slowest,
            answer: self.answer.mul_f64(factor),
            listing: self.listing.mul_f64(factor),
            backoff_base: self.backoff_base.mul_f64(factor),
            backoff_cap: self.backoff_cap.mul_f64(factor),
            retry_after_cap: self.retry_after_cap,
            tries: self.tries,
        }
    }
}

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `XDG_CACHE_HOME`, `HF_HUB_OFFLINE`, `HF_HUB_DISABLE_IMPLICIT_TOKEN` and the names that these
    /// had before, and the token file. `FIREBRAND_HUB_TIME_SCALE` stretches or shrinks all limits.
    ///
    /// # Errors
    /// An endpoint that is no address, a token that no header can carry, no home directory.
    pub fn from_env() -> Result<Self> {
        let settings = Self::from(&Environment {
            variable: &|name| std::env::var(name).ok(),
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
        })?;
        Ok(Self { notes: Some(cache_home()?.join("checked")), ..settings })
    }

    fn from(environment: &Environment) -> Result<Self> {
        let set = |name: &str| environment.set(name);
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Url::parse(&endpoint)
            .map_err(|error| error.hint("see the environment variable `HF_ENDPOINT`"))?;

        let home = match set("HF_HOME") {
            Some(home) => environment.expand(&home)?,
            None => match set("XDG_CACHE_HOME") {
                Some(shared) => environment.expand(&shared)?.join("huggingface"),
                None => environment.home()?.join(".cache").join("huggingface"),
            },
        };
        let cache = match set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
            Some(cache) => environment.expand(&cache)?,
            None => home.join("hub"),
        };
        let token_file = match set("HF_TOKEN_PATH") {
            Some(path) => environment.expand(&path)?,
            None => home.join("token"),
        };
        let offline = set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE"));
        let token = if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|text| is_true(&text)) {
            None
        } else {
            let own = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN"));
            own.or_else(|| std::fs::read_to_string(token_file).ok())
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty())
        };
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::access("the access token holds characters that no token has")
                .hint("see `HF_TOKEN` and the token file; a token is one word, `hf_…`"));
        }
        let timing = match set("FIREBRAND_HUB_TIME_SCALE") {
            None => Timing::default(),
            Some(text) => {
                let factor: f64 = text
                    .parse()
                    .context_code(ErrorCode::Usage, "`FIREBRAND_HUB_TIME_SCALE` is not a number")?;
                if !(0.001..=1000.0).contains(&factor) {
                    return Err(Error::hub(
                        "`FIREBRAND_HUB_TIME_SCALE` must be between 0.001 and 1000",
                    ));
                }
                Timing::default().scaled(factor)
            }
        };
        let offline = offline.is_some_and(|text| is_true(&text));
        Ok(Self { endpoint, token, cache, notes: None, offline, timing })
    }
}

/// As `huggingface_hub` reads switches: anything else is off.
fn is_true(text: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&text.to_ascii_uppercase().as_str())
}

/// Where settings come from; a test has its own.
struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    home: Option<PathBuf>,
}

impl Environment<'_> {
    /// An empty variable counts as none.
    fn set(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Result<PathBuf> {
        self.home.clone().ok_or_else(|| {
            Error::file("this user has no home directory to keep downloads in")
                .hint("name a folder in the environment variable `HF_HOME`")
        })
    }

    /// `~`, `$NAME` and `${NAME}` as Python's `expanduser` and `expandvars` replace them; an unset
    /// variable stays as it is written.
    fn expand(&self, text: &str) -> Result<PathBuf> {
        let (mut out, mut rest) = (String::new(), text);
        if text == "~" || text.starts_with("~/") || (cfg!(windows) && text.starts_with("~\\")) {
            out.push_str(&self.home()?.to_string_lossy());
            rest = &text[1..];
        }
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let braced = rest[1..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let length = rest[1..].find(|c| !word(c)).unwrap_or(rest.len() - 1);
            let (name, written) = match braced {
                Some((name, _)) => (name, name.len() + 3),
                None => (&rest[1..=length], length + 1),
            };
            match (self.variable)(name) {
                Some(value) if !name.is_empty() => out.push_str(&value),
                _ => out.push_str(&rest[..written]),
            }
            rest = &rest[written..];
        }
        out.push_str(rest);
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::from(&Environment { variable: &find, home: Some("/home/me".into()) })
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        read(variables).unwrap().cache.to_str().unwrap().replace('\\', "/")
    }

    #[test]
    fn the_cache_lies_where_huggingface_hub_has_it() {
        assert_eq!(cache(&[]), "/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf")]), "/home/me/hf/hub");
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        let both = [("HF_HUB_CACHE", "/new/$A/${A}$"), ("HUGGINGFACE_HUB_CACHE", "/old")];
        assert_eq!(cache(&both), "/new/$A/${A}$");
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c/$A-${A}/b"), ("A", "a")]), "/c/a-a/b");
    }

    #[test]
    fn the_token_comes_from_the_environment_then_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "hf_file\n").unwrap();
        let file = ("HF_TOKEN_PATH", path.to_str().unwrap());
        let token = |variables: &[(&str, &str)]| read(variables).unwrap().token;
        assert_eq!(token(&[file]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[file, ("HF_TOKEN", " hf_own ")]).as_deref(), Some("hf_own"));
        assert_eq!(token(&[file, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes")]), None);
        assert_eq!(token(&[("HF_HOME", folder.path().to_str().unwrap())]).unwrap(), "hf_file");
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere/at/all")]), None);
        assert!(read(&[("HF_TOKEN", "two words")]).is_err());
        let shown = format!("{:?}", read(&[("HF_TOKEN", "hf_own")]).unwrap());
        assert!(!shown.contains("hf_own"), "{shown}");
    }

    #[test]
    fn endpoint_offline_and_limits() {
        let settings = read(&[("HF_ENDPOINT", "http://127.0.0.1:8000/")]).unwrap();
        assert_eq!(settings.endpoint, "http://127.0.0.1:8000");
        assert_eq!(read(&[]).unwrap().endpoint, ENDPOINT);
        assert!(read(&[("HF_ENDPOINT", "hub.example")]).is_err());
        assert!(read(&[("HF_HUB_OFFLINE", "1")]).unwrap().offline);
        assert!(read(&[("TRANSFORMERS_OFFLINE", "true")]).unwrap().offline);
        assert!(!read(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        let shrunk = read(&[("FIREBRAND_HUB_TIME_SCALE", "0.01")]).unwrap().timing;
        assert_eq!(shrunk.idle, Duration::from_millis(300));
        assert!(read(&[("FIREBRAND_HUB_TIME_SCALE", "-1")]).is_err());
    }
}
