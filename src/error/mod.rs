//! What went wrong, where, and what to do next.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use crate::terminal::{hung, one_line};

mod code;

pub use code::ErrorCode;

pub use crate::terminal::printable;

/// The result of everything in this library that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How the process ends when an error reaches `main` (ARCHITECTURE, decision 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A well-formed no: a signature that does not hold, a gate that refuses. Exit code 1.
    Refused,
    /// Anything else that stopped the work. Exit code 2.
    Failed,
}

/// A place in a file that a person can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: PathBuf,
    /// Line and column, both counted from 1.
    pub position: Option<(usize, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", one_line(&self.file.display().to_string()))?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// One problem: what, where, the lower-level cause, and hints on what to do.
///
/// Several problems found at once travel as one error with `others`. It is one pointer wide: most
/// functions return it, and few ever do.
#[derive(Debug)]
pub struct Error(Box<ErrorParts>);

/// What an error says.
#[derive(Debug)]
pub struct ErrorParts {
    /// Lower case, no final period, names in backticks.
    pub what: String,
    /// Where it happened.
    pub place: Option<Place>,
    /// What lay underneath, outermost first.
    pub causes: Vec<String>,
    /// What the user can do.
    pub hints: Vec<String>,
    /// Which exit code it leads to.
    pub kind: Kind,
    /// What kind of error it is, for programs.
    pub code: ErrorCode,
    /// Further problems of the same check, so that all are reported at once.
    pub others: Vec<Error>,
}

impl Error {
    /// The constructors, one for each code, stand beside the codes.
    fn new(code: ErrorCode, what: impl Into<String>) -> Self {
        Self(Box::new(ErrorParts {
            what: what.into(),
            place: None,
            causes: Vec::new(),
            hints: Vec::new(),
            kind: Kind::Failed,
            code,
            others: Vec::new(),
        }))
    }

    /// A well-formed no (exit code 1).
    pub fn refused(code: ErrorCode, what: impl Into<String>) -> Self {
        let mut error = Self::new(code, what);
        error.kind = Kind::Refused;
        error
    }

    /// Says what kind of error it is.
    #[must_use]
    pub fn code(mut self, code: ErrorCode) -> Self {
        self.code = code;
        self
    }

    /// Makes a no into something that stopped the work (exit code 2).
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.kind = Kind::Failed;
        self
    }

    /// What went wrong, without anything else.
    pub fn into_what(self) -> String {
        self.0.what
    }

    /// What went wrong and what lay underneath, in one line.
    pub fn with_causes(self) -> String {
        let ErrorParts { what, causes, .. } = *self.0;
        [vec![what], causes].concat().join(": ")
    }

    /// Its parts, to move them.
    pub fn into_parts(self) -> ErrorParts {
        *self.0
    }

    /// An error about a whole file.
    #[must_use]
    pub fn at(mut self, file: impl AsRef<Path>) -> Self {
        self.place = Some(Place { file: file.as_ref().to_path_buf(), position: None });
        self
    }

    /// An error at a line and column of a file, both counted from 1.
    #[must_use]
    pub fn at_position(mut self, file: impl AsRef<Path>, line: usize, column: usize) -> Self {
        let position = Some((line, column));
        self.place = Some(Place { file: file.as_ref().to_path_buf(), position });
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds something that the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Joins problems that were found together; `None` when there are none.
    pub fn all(mut problems: Vec<Error>) -> Option<Error> {
        if problems.is_empty() {
            return None;
        }
        let mut first = problems.remove(0);
        first.others.extend(problems);
        Some(first)
    }
}

impl Deref for Error {
    type Target = ErrorParts;

    fn deref(&self) -> &ErrorParts {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut ErrorParts {
        &mut self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, hung(&self.what))?;
        if let Some(place) = &self.place {
            write!(f, "\n  at {place}")?;
        }
        for cause in &self.causes {
            write!(f, "\n  because {}", hung(cause))?;
        }
        for hint in &self.hints {
            write!(f, "\n\nhint: {}", hung(hint))?;
        }
        for other in &self.others {
            write!(f, "\n\n{other}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

thread_local! {
    /// Whether a panic of this thread becomes an error, so that nothing is printed about it.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Does work in a library that may panic over input from outside. The panic is not printed: the
/// text that is returned instead says what it was about.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                before(info);
            }
        }));
    });
    let before = EXPECTED.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(before);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "it says nothing".to_owned())
    })
}

/// What a library says, in one line of bounded length.
pub fn in_a_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}

/// Says what was being done when a lower-level error came.
pub trait Context<T> {
    /// Wraps an error that no input leads to: one of the code `internal`.
    fn context(self, what: impl Into<String>) -> Result<T>;
    /// Wraps the error with `what`, and says what kind of error that is.
    fn context_code(self, code: ErrorCode, what: impl Into<String>) -> Result<T>;
    /// Wraps the error with `what`, and names the file: one of the code `file`.
    fn context_at(self, what: impl Into<String>, file: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.context_code(ErrorCode::Internal, what)
    }

    fn context_code(self, code: ErrorCode, what: impl Into<String>) -> Result<T> {
        self.map_err(|cause| Error::new(code, what).because(cause))
    }

    fn context_at(self, what: impl Into<String>, file: impl AsRef<Path>) -> Result<T> {
        self.map_err(|cause| Error::file(what).at(file).because(cause))
    }
}

/// The name in `known` that `unknown` was probably meant to be.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = unknown.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        // A third of the letters may be wrong; beyond that a suggestion misleads.
        .filter(|(distance, name)| *distance <= (name.len().max(wanted.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_what_where_why_and_what_to_do() {
        let error = Error::config("unknown key `lr_rate` in `[train]`")
            .at_position("a.toml", 14, 1)
            .because("strict")
            .hint("did you mean `learning_rate`?");
        assert_eq!(
            error.to_string(),
            "error[config]: unknown key `lr_rate` in `[train]`\n  at a.toml:14:1\n  because strict\n\n\
             hint: did you mean `learning_rate`?"
        );
    }

    #[test]
    fn a_panic_that_is_expected_becomes_a_text() {
        assert_eq!(catch_panic(|| 1), Ok(1));
        let nested = || catch_panic(|| -> () { panic!("no {}", 1) });
        assert_eq!(catch_panic(nested), Ok(Err("no 1".to_owned())));
        let outside = catch_panic(|| [0][std::hint::black_box(1)]).unwrap_err();
        assert_eq!(outside, "index out of bounds: the len is 1 but the index is 1");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let error = Error::weights("tensor `a\u{1b}[2J`");
        assert_eq!(error.to_string(), "error[weights]: tensor `a\\u{1b}[2J`");
    }

    #[test]
    fn nearest_suggests_only_what_is_near() {
        assert_eq!(nearest("learning_rat", ["learning_rate", "seed"]), Some("learning_rate"));
        assert_eq!(nearest("banana", ["learning_rate", "seed"]), None);
    }
}
