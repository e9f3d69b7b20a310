//! Where in a document something stands, and the problems found there.

use std::path::{Path, PathBuf};

use crate::error::{Error, Place};

/// Beyond this many problems the rest is only counted; nobody reads more, and a file that is no
/// config at all has one in every line.
const PROBLEMS_MAX: usize = 50;

/// Names from a file are cut to this many characters in messages.
const SHOWN_MAX: usize = 60;

/// Where something was written. The order is the order of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// At this byte of the file.
    At(usize),
    /// In the file as a whole.
    File,
    /// In the override with this number.
    Set(usize),
}

/// A value that is put over the one in a file.
#[derive(Debug, Clone)]
pub struct Override {
    /// The key's dotted path.
    pub key: String,
    /// The value as TOML; a string may lack its quotes. None where the option has no `=`.
    pub value: Option<String>,
    /// Where another file says so; none for an option of the command line.
    pub written: Option<Place>,
}

impl Override {
    /// What an option says: `key=value`.
    pub fn of_option(text: &str) -> Self {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        Self { key: key.trim().to_owned(), value, written: None }
    }
}

/// The text of a document and the overrides, to turn origins into places.
#[derive(Debug, Clone)]
pub(super) struct Source {
    file: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    overrides: Vec<Override>,
}

impl Source {
    /// `overrides` are what is put over the file.
    pub(super) fn new(file: &Path, text: &str, overrides: Vec<Override>) -> Self {
        let after_breaks = text.match_indices('\n').map(|(index, _)| index + 1);
        Self {
            file: file.to_path_buf(),
            text: text.to_owned(),
            line_starts: std::iter::once(0).chain(after_breaks).collect(),
            overrides,
        }
    }

    /// What is put over the file.
    pub(super) fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The number of the line that holds this byte, from 0.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset) - 1
    }

    /// The byte at which a line starts, both from 0.
    pub(super) fn line_start(&self, line: usize) -> usize {
        self.line_starts[line]
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let before = self.text.get(self.line_starts[line]..offset).unwrap_or_default();
        // A byte order mark takes no column.
        let column = before.trim_start_matches('\u{feff}').chars().count();
        (line + 1, column + 1)
    }

    /// Adds the place to an error.
    pub(super) fn placed(&self, origin: Origin, error: Error) -> Error {
        match origin {
            Origin::At(offset) => {
                let (line, column) = self.position(offset);
                error.at_position(&self.file, line, column)
            }
            Origin::File => error.at(&self.file),
            Origin::Set(index) => match &self.overrides[index].written {
                Some(Place { file, position: Some((line, column)) }) => {
                    error.at_position(file, *line, *column)
                }
                Some(Place { file, position: None }) => error.at(file),
                None => error.at(self.option(index)),
            },
        }
    }

    /// A place to be read after "is given".
    pub(super) fn show(&self, origin: Origin) -> String {
        match origin {
            Origin::At(offset) => format!("in line {}", self.line(offset) + 1),
            Origin::File => "in the file".to_owned(),
            Origin::Set(index) => match &self.overrides[index].written {
                Some(place) => format!("at {place}"),
                None => format!("by `{}`", self.option(index)),
            },
        }
    }

    fn option(&self, index: usize) -> String {
        format!("--set {}", shown(&self.overrides[index].key))
    }
}

/// Problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    found: Vec<(Origin, Error)>,
    left_out: usize,
}

impl Problems {
    /// Adds a problem.
    pub(crate) fn report(&mut self, origin: Origin, error: Error) {
        // Room for those of the command line, which are checked last and are few.
        if self.found.len() < PROBLEMS_MAX || matches!(origin, Origin::Set(_)) {
            self.found.push((origin, error));
        } else {
            self.left_out += 1;
        }
    }

    /// Whether further problems in the file would only be counted.
    pub(super) fn full(&self) -> bool {
        self.found.len() >= PROBLEMS_MAX
    }

    /// Counts problems that are not reported one by one.
    pub(super) fn leave_out(&mut self, count: usize) {
        self.left_out += count;
    }

    /// Adds the problems of another check.
    pub(super) fn extend(&mut self, other: Self) {
        self.found.extend(other.found);
        self.left_out += other.left_out;
    }

    /// Keeps the problems that the test accepts.
    pub(super) fn retain(&mut self, keep: impl Fn(Origin) -> bool) {
        self.found.retain(|(origin, _)| keep(*origin));
    }

    /// One error that holds all problems in order of place; `None` when there are none.
    pub(super) fn into_error(mut self, source: &Source) -> Option<Error> {
        self.found.sort_by_key(|(origin, _)| *origin);
        let mut errors: Vec<Error> =
            self.found.into_iter().map(|(origin, error)| source.placed(origin, error)).collect();
        if self.left_out > 0 {
            let what = format!("at least {} more problems are not shown", self.left_out);
            errors.push(Error::config(what).at(&source.file));
        }
        Error::all(errors)
    }
}

/// The path of a key in a section or a table.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// A name from outside, cut to a length that fits a message.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
