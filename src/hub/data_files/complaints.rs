//! What is said where a data set has not what is asked for: what it has, and what to do.

use super::files::Files;
use super::pattern::Pattern;
use crate::error::Error;

impl Files<'_> {
    /// A pattern or path that chooses nothing; `unread` is a file that it does match.
    pub fn no_match(&self, pattern: &Pattern, unread: Option<&str>) -> Error {
        let text = pattern.text();
        if let Some(path) = unread {
            return self.unreadable(Error::data(format!("`{text}` names no file to read")), path);
        }
        let error = Error::data(format!("no file of the data set matches `{text}`"));
        let folder = format!("{text}/");
        if self.listing.iter().any(|path| path.starts_with(&folder)) {
            return error.hint(format!("it is a folder; for all files in it write `{text}/**`"));
        }
        if text.contains(['{', '}']) {
            return error.hint("braces are letters; write one pattern for each case");
        }
        let readable = || self.listing.iter().filter(|path| self.ending(path).is_some());
        // The distance of long texts takes long to find.
        let short = readable().filter(|path| path.len() + text.len() < 400).take(1000);
        match short.min_by_key(|path| strsim::damerau_levenshtein(text, path)) {
            Some(near) => error.hint(format!("a file that is there: `{near}`")),
            None if readable().next().is_some() => error,
            None => self.with_reasons(error, ""),
        }
    }

    /// A file was chosen that cannot be read.
    pub fn unreadable(&self, error: Error, path: &str) -> Error {
        self.with_reasons(error.because(format!("`{path}` cannot be read")), "")
    }

    /// No file could be chosen at all.
    pub fn nothing_readable(&self, folder: &str) -> Error {
        let error = match folder {
            "" => Error::data("the data set has no file that can be read"),
            _ => Error::data(format!("the data set has no file in `{folder}` that can be read")),
        };
        self.with_reasons(error, folder)
    }

    /// Says why the files at hand are no use.
    fn with_reasons(&self, error: Error, folder: &str) -> Error {
        let has = |endings: &[&str]| {
            self.listing.iter().filter(|path| path.starts_with(folder)).find(|path| {
                let name = path.to_lowercase();
                endings.iter().any(|ending| name.ends_with(ending))
            })
        };
        let mut error = error;
        if self.listing.is_empty() {
            error = error.because("it is empty");
        } else if let Some(path) = has(&[".arrow"]) {
            error = error.because(format!("`{path}` is an Arrow file of `save_to_disk`"));
            error = error.hint("write it as Parquet: `dataset.to_parquet(\"train.parquet\")`");
        } else if let Some(path) = has(&[".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"]) {
            error = error.because(format!("`{path}` is an archive, and archives are not unpacked"));
        } else if let Some(path) = has(&[".py"]) {
            error =
                error.because(format!("`{path}` may be a data set script; scripts are not run"));
            error = error.hint("look on the hub for a copy of the data set as Parquet");
        }
        let endings: Vec<String> = self.extensions.iter().map(|one| format!("`.{one}`")).collect();
        error.hint(format!("endings that can be read: {}", endings.join(", ")))
    }

    /// A subset was asked for where the card has none.
    pub fn no_subsets(&self, asked: &str) -> Error {
        let error = Error::data(format!("the data set has no subset `{asked}`"))
            .because("its card declares none");
        let folder = format!("{asked}/");
        match self.listing.iter().any(|path| path.starts_with(&folder)) {
            true => error.hint(format!("it has such a folder: `files = [\"{asked}/**\"]`")),
            false => error.hint("leave `subset` out, or choose with `files`"),
        }
    }
}
