//! The signed statement over a model directory, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::artifact::signature::{PREDICATE_TYPE, STATEMENT_TYPE};
use crate::files::{self, Digest};

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The directory's name at the time.
    pub name: String,
    /// The digest over all digests.
    pub root: Digest,
    /// Name and digest of each file, in the order over which the root digest goes.
    pub resources: Vec<(String, Digest)>,
    /// What the signer left out.
    pub ignored: BTreeSet<String>,
}

impl Manifest {
    /// The files by name.
    pub fn digests(&self) -> BTreeMap<&str, Digest> {
        self.resources.iter().map(|(name, digest)| (name.as_str(), *digest)).collect()
    }
}

/// Why there is no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// Legal, but this program cannot check it.
    Unsupported(String),
    /// Not as the standard has it.
    Malformed(String),
}

type Parsed<T> = Result<T, Problem>;

/// Reads a payload.
pub(super) fn parse(payload: &[u8]) -> Parsed<Manifest> {
    let value = files::parse_json(payload).map_err(|error| malformed(error.with_causes()))?;
    let statement = object(&value, "the statement")?;
    keys(statement, "the statement", &["_type", "subject", "predicateType", "predicate"])?;
    expect(statement, "_type", STATEMENT_TYPE)?;
    expect(statement, "predicateType", PREDICATE_TYPE)?;
    let [subject] = list(statement, "subject")? else {
        return Err(malformed("there is not exactly one subject"));
    };
    let subject = object(subject, "the subject")?;
    keys(subject, "the subject", &["name", "digest", "uri", "annotations"])?;
    let digests = object(member(subject, "digest")?, "the subject's `digest`")?;
    keys(digests, "the subject's `digest`", &["sha256"])?;
    let predicate = object(member(statement, "predicate")?, "`predicate`")?;
    keys(predicate, "`predicate`", &["resources", "serialization"])?;
    let ignored = serialization(member(predicate, "serialization")?)?;
    let mut names = BTreeSet::new();
    let mut resources = Vec::new();
    for value in list(predicate, "resources")? {
        let (name, digest) = resource(value)?;
        if !names.insert(name.clone()) {
            return Err(malformed(format!("the file `{name}` is listed twice")));
        }
        resources.push((name, digest));
    }
    if resources.is_empty() {
        return Err(malformed("no file is listed"));
    }
    let name = text(subject, "name")?.to_owned();
    Ok(Manifest { name, root: digest(digests, "sha256")?, resources, ignored })
}

fn serialization(value: &Value) -> Parsed<BTreeSet<String>> {
    let what = "`serialization`";
    let map = object(value, what)?;
    keys(map, what, &["method", "hash_type", "allow_symlinks", "ignore_paths", "shard_size"])?;
    for (key, supported) in [("method", "files"), ("hash_type", "sha256")] {
        let found = text(map, key)?;
        if found != supported {
            let message = format!("`{key}` is `{found}`, only `{supported}` can be checked");
            return Err(Problem::Unsupported(message));
        }
    }
    if map.contains_key("shard_size") {
        return Err(malformed("`shard_size` stands beside the method `files`"));
    }
    match member(map, "allow_symlinks")? {
        Value::Bool(false) => {}
        _ => return Err(malformed("`allow_symlinks` is not `false`")),
    }
    let mut ignored = BTreeSet::new();
    if map.contains_key("ignore_paths") {
        for path in list(map, "ignore_paths")? {
            let path = path.as_str().ok_or_else(|| malformed("an ignored path is not text"))?;
            ignored.insert(path.to_owned());
        }
    }
    Ok(ignored)
}

fn resource(value: &Value) -> Parsed<(String, Digest)> {
    let map = object(value, "a listed file")?;
    keys(map, "a listed file", &["name", "algorithm", "digest", "annotations"])?;
    let name = text(map, "name")?;
    let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if name.split('/').any(odd) {
        return Err(malformed(format!("`{name}` is not a plain relative file name")));
    }
    expect(map, "algorithm", "sha256")?;
    Ok((name.to_owned(), digest(map, "digest")?))
}

fn malformed(message: impl Into<String>) -> Problem {
    Problem::Malformed(message.into())
}

fn object<'a>(value: &'a Value, what: &str) -> Parsed<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| malformed(format!("{what} is not an object")))
}

fn member<'a>(map: &'a Map<String, Value>, key: &str) -> Parsed<&'a Value> {
    map.get(key).ok_or_else(|| malformed(format!("`{key}` is missing")))
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Parsed<&'a str> {
    member(map, key)?.as_str().ok_or_else(|| malformed(format!("`{key}` is not text")))
}

fn list<'a>(map: &'a Map<String, Value>, key: &str) -> Parsed<&'a [Value]> {
    let list = member(map, key)?.as_array();
    list.map(Vec::as_slice).ok_or_else(|| malformed(format!("`{key}` is not a list")))
}

fn digest(map: &Map<String, Value>, key: &str) -> Parsed<Digest> {
    let text = text(map, key)?;
    text.parse().map_err(|_| malformed(format!("`{text}` is not a lower-case SHA-256 digest")))
}

fn expect(map: &Map<String, Value>, key: &str, wanted: &str) -> Parsed<()> {
    let found = text(map, key)?;
    if found == wanted {
        Ok(())
    } else {
        Err(malformed(format!("`{key}` is `{found}`, not `{wanted}`")))
    }
}

fn keys(map: &Map<String, Value>, what: &str, known: &[&str]) -> Parsed<()> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(malformed(format!("{what} has the unknown key `{key}`"))),
        None => Ok(()),
    }
}
