//! The TOML that people write. Each kind of document is one table of keys, and everything follows
//! from it: reading with all problems at once and their places, the nearest names for misspelt
//! ones, the JSON Schema for editors, and a commented template.

use std::io::Read;
use std::path::Path;

use crate::error::{Context, Error, ErrorCode, Place, Result};
use crate::files::{Digest, open_regular};

mod check;
mod choices;
mod conflicts;
mod effect;
mod foreign;
pub mod key;
mod key_table;
mod literal;
mod named;
mod overrides;
mod place;
mod quoted;
mod render;
mod rule;
mod schema;
mod setting;
mod template;
mod tree;
mod typed;
mod unknown;
mod value;
mod wrong;

#[cfg(test)]
mod tests;

pub(crate) use choices::choices;
pub use effect::Effect;
#[cfg(test)]
pub(crate) use foreign::note;
pub use key_table::{KeyTable, Note, TableSection};
pub(crate) use named::argument_name;
pub use place::{Origin, Override};
pub(crate) use place::{Problems, shown};
pub(crate) use quoted::quoted;
pub(crate) use render::{Entries, texts};
pub use schema::schema;
pub use setting::Setting;
pub(crate) use setting::settings;
pub use template::template;
pub use typed::set_defaults;
pub(crate) use typed::{is_name, size};
pub use value::{Literal, Value, Values};

use place::Source;
use tree::Damage;

/// A document has a few hundred lines; a larger file is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a kind of document is called, and what it is for.
#[derive(Debug)]
pub struct DocumentKind {
    /// Its name on the command line.
    pub name: &'static str,
    /// What messages call it: `the config`.
    pub what: &'static str,
    /// The title of its JSON Schema.
    pub title: &'static str,
    /// A sentence that says what it is.
    pub about: &'static str,
    /// What its template begins with: sentences that say what to do with it.
    pub opening: &'static str,
    /// A sentence that says what paths in it are relative to.
    pub paths: &'static str,
    /// What to do about a file that is too large to be one.
    pub too_large: &'static str,
}

/// A problem that lacks its place yet, and where that is.
pub type Misplaced = (Error, Origin);

/// A result of which the error lacks its place yet.
pub type Placed<T> = Result<T, Misplaced>;

/// A document that was read, and is as its table of keys has it.
#[derive(Debug, Clone)]
pub struct Document {
    /// Every value, defaults included.
    pub values: Values,
    /// Digest of the bytes of the file.
    pub sha256: Digest,
    /// The overrides as they were given, key and value.
    pub overrides: Vec<(String, String)>,
    source: Source,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// All problems at once, in the order of their places.
    pub fn read(known: &KeyTable, path: &Path) -> Result<Self> {
        Self::parse(known, path, &bytes_of(known, path)?)
    }

    /// Reads the bytes of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn parse(known: &KeyTable, path: &Path, bytes: &[u8]) -> Result<Self> {
        parse(known, path, bytes, Vec::new(), |_, _| {})
    }

    /// The line of a place, counted from 1; none for what stands nowhere in the file.
    pub fn line(&self, origin: Origin) -> Option<usize> {
        match origin {
            Origin::At(offset) => Some(self.source.line(offset) + 1),
            Origin::File | Origin::Set(_) => None,
        }
    }

    /// Where an origin is in the file, for values that go into other documents.
    pub fn written(&self, origin: Origin) -> Place {
        let position = match origin {
            Origin::At(offset) => Some(self.source.position(offset)),
            Origin::File | Origin::Set(_) => None,
        };
        Place { file: self.source.file().to_path_buf(), position }
    }

    /// An error with its place.
    pub fn place(&self, (error, origin): Misplaced) -> Error {
        self.source.placed(origin, error.code(ErrorCode::Config))
    }

    /// A list of what is wrong with values that are as the table of keys has them.
    pub fn findings(&self) -> Findings<'_> {
        Findings { document: self, problems: Problems::default() }
    }
}

/// What is wrong with the values of a document beyond what its table of keys can say.
#[derive(Debug)]
pub struct Findings<'a> {
    document: &'a Document,
    problems: Problems,
}

impl Findings<'_> {
    /// Adds a problem.
    pub fn report(&mut self, (error, origin): Misplaced) {
        self.problems.report(origin, error.code(ErrorCode::Config));
    }

    /// The value of a result, or none where it adds a problem.
    pub fn take<T>(&mut self, found: Placed<T>) -> Option<T> {
        found.map_err(|problem| self.report(problem)).ok()
    }

    /// # Errors
    /// All problems at once, if there is one.
    pub fn finish(self) -> Result<()> {
        self.problems.into_error(&self.document.source).map_or(Ok(()), Err)
    }
}

/// The bytes of a file that may be a document.
pub(crate) fn bytes_of(known: &KeyTable, path: &Path) -> Result<Vec<u8>> {
    let what = format!("cannot read {}", known.kind().what);
    std::fs::metadata(path).context_at(what.as_str(), path)?;
    let mut bytes = Vec::new();
    open_regular(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).context_at(what, path)?;
    Ok(bytes)
}

/// Reads the bytes of a document with overrides put over it; `further` are checks
/// that no table of keys can hold.
pub(crate) fn parse(
    known: &KeyTable,
    path: &Path,
    bytes: &[u8],
    overrides: Vec<Override>,
    further: impl FnOnce(&Values, &mut Problems),
) -> Result<Document> {
    let kind = known.kind();
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("{} is larger than {FILE_BYTES_MAX} bytes", kind.what);
        return Err(Error::config(what).at(path).hint(kind.too_large));
    }
    let text = utf8(known, path, bytes)?;
    let source = Source::new(path, text, overrides);
    let overrides = source.overrides();
    let mut problems = Problems::default();
    let (mut table, damage) = tree::parse(text, &source, &mut problems);
    overrides::apply(known, &mut table, overrides, &mut problems);
    let mut found = Problems::default();
    let mut values = check::check(known, &table, damage.is_none(), &mut found);
    conflicts::settle(known, &mut values, &source, &mut found);
    check::fill_defaults(known, &mut values);
    further(&values, &mut found);
    found.retain(|origin| damage.spares(origin, &source));
    problems.extend(found);
    if let Some(error) = problems.into_error(&source) {
        return Err(with_format_hint(error, path, &damage, kind));
    }
    let given = |it: &Override| (it.key.clone(), it.value.clone().unwrap_or_default());
    let overrides = overrides.iter().map(given).collect();
    Ok(Document { values, sha256: Digest::of(bytes), overrides, source })
}

/// Reads one value, in TOML, as the key of this path takes it, which may lead into an array of
/// tables; `None` if it does not take it.
pub(crate) fn value_of(known: &KeyTable, path: &str, text: &str) -> Option<Value> {
    let node = tree::parse_override(text, 0)?;
    let key = known.find(&path.split('.').collect::<Vec<_>>())?;
    typed::read(key, path, &node).ok()
}

/// Reads one value as records of resolved documents have it, whatever key it belonged to.
pub(crate) fn literal(text: &str) -> Option<serde_json::Value> {
    tree::parse_override(text, 0).map(|node| schema::to_json(&node))
}

fn utf8<'a>(known: &KeyTable, path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let what = format!("{} is not valid UTF-8", known.kind().what);
        Error::config(what).at_position(path, line, column)
    })
}

/// People arrive with YAML and JSON.
fn with_format_hint(error: Error, path: &Path, damage: &Damage, kind: &DocumentKind) -> Error {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("yaml" | "yml" | "json") if !damage.is_none() => {
            let what = kind.what;
            error.hint(format!("{what} is TOML: `[section]` lines, and `key = value` below them"))
        }
        _ => error,
    }
}
