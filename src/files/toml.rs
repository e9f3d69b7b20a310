//! TOML that the program itself writes: locks and lists, read into their types. The module
//! `document` reads what people write.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What a text means; `what` is the error's first line.
///
/// # Errors
/// With line and column, when it is not TOML or not of this type.
pub fn parse_toml<T: DeserializeOwned>(text: &str, what: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let (line, column) = (before.matches('\n').count(), before[line_start..].chars().count());
        let why = error.message().lines().collect::<Vec<_>>().join("; ");
        Error::file(what).at_position(path, line + 1, column + 1).because(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn what_is_wrong_is_told_with_line_and_column() {
        let read = |text: &str| parse_toml::<toml::Table>(text, "no list", Path::new("a.toml"));
        says(
            read("ä = 1\nb = [\n").unwrap_err(),
            snapbox::str![[r#"
error[file]: no list
  at a.toml:2:6
  because unclosed array, expected `]`
"#]],
        );
        // Columns are characters.
        says(
            read("é = \"ä\" x = 1\n").unwrap_err(),
            snapbox::str![[r#"
error[file]: no list
  at a.toml:1:9
  because unexpected key or value, expected newline, `#`
"#]],
        );
    }
}
