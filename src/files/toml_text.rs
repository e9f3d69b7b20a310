//! TOML that people write: what is wrong with it is told with its line and column.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::read_text;
use crate::error::{Context, Error, Result};

/// A result of which the error still lacks its place: where it stands in the text, in bytes.
pub type Placed<T> = Result<T, (Error, Range<usize>)>;

/// The text of a TOML file, and where it was read.
#[derive(Debug, Clone)]
pub struct TomlText {
    path: PathBuf,
    text: String,
}

impl TomlText {
    /// Reads a file of at most `limit` bytes; `what` is what people call it: `the policy`.
    pub fn read(path: &Path, what: &str, limit: u64) -> Result<Self> {
        let size = fs::metadata(path).context_at(&format!("cannot read {what}"), path)?.len();
        if size > limit {
            let error = Error::new(format!("{what} has {size} bytes and is refused"));
            return Err(error.at(path).hint(format!("at most {limit} are read")));
        }
        Ok(Self::new(path, read_text(path, limit)?))
    }

    /// A text that was read already.
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_path_buf(), text }
    }

    /// The text itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the text means.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(&self.text).map_err(|error| {
            let what = error.message().lines().collect::<Vec<_>>().join("; ");
            self.place(Error::new(what), error.span().unwrap_or_default())
        })
    }

    /// The line of a place, counted from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        self.before(span).matches('\n').count() + 1
    }

    /// An error with its line and column.
    pub fn place(&self, error: Error, span: Range<usize>) -> Error {
        let before = self.before(&span);
        let start = before.rfind('\n').map_or(0, |index| index + 1);
        error.at_position(&self.path, self.line(&span), before[start..].chars().count() + 1)
    }

    fn before(&self, span: &Range<usize>) -> &str {
        self.text.get(..span.start).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, "ä = 1\nb = [\n").unwrap();
        let text = TomlText::read(&path, "the list", 100).unwrap();
        let error = text.parse::<toml::Table>().unwrap_err().to_string();
        assert!(error.contains("a.toml:2:"), "{error}");
        let error = text.place(Error::new("no"), 3..4).to_string();
        assert!(error.contains("a.toml:1:3"), "columns are characters: {error}");
        let error = TomlText::read(&path, "the list", 5).unwrap_err().to_string();
        assert!(error.contains("the list has 13 bytes and is refused"), "{error}");
    }
}
