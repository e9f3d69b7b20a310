//! TOML text to a tree of values that know where they stand.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{Origin, Problems, Source, shown};
use crate::error::Error;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) tree: Tree,
    pub(super) origin: Origin,
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Text(String),
    /// The number, `None` when it is beyond 128 bits, and how it was written.
    Integer(Option<i128>, String),
    /// The number and how it was written.
    Float(f64, String),
    Boolean(bool),
    /// A date or a time, as it was written.
    Date(String),
    Array(Vec<Node>),
    Table(Table),
}

/// Keys and values in the order of the file.
pub(super) type Table = Vec<(Word, Node)>;

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Where syntax errors make what follows unreliable.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// Lines, from 0, whose values are guesses.
    lines: Vec<usize>,
    /// From this byte on everything is a guess.
    lost_from: Option<usize>,
}

impl Damage {
    pub(super) fn is_none(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether what stands there was really written that way.
    pub(super) fn spares(&self, origin: Origin, source: &Source) -> bool {
        match origin {
            Origin::At(offset) => {
                !self.lines.contains(&source.line(offset))
                    && self.lost_from.is_none_or(|start| offset < start)
            }
            // That something is missing cannot be said of a file that was not read to its end.
            Origin::File => self.is_none(),
            Origin::Set(_) => true,
        }
    }
}

/// Reads TOML; reports every syntax error and goes on as far as that makes sense.
pub(super) fn parse(text: &str, source: &Source, problems: &mut Problems) -> (Table, Damage) {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let mut damage = Damage::default();
    let breaking = breaking(&errors);
    if let Some(index) = breaking {
        let line = source.line(offset_of(&errors[index], text));
        damage.lost_from = Some(source.line_start(line));
        damage.lines.push(line);
    }
    for (index, error) in errors.iter().enumerate() {
        let offset = offset_of(error, text);
        let line = source.line(offset);
        let told = if Some(index) == breaking {
            broken(error, &errors, text)
        } else if damage.lost_from.is_some_and(|start| offset >= start) {
            continue;
        } else if is_duplicate(error) {
            duplicate(error, text)
        } else if damage.lines.contains(&line) {
            // The first error in a line is the cause, the others are its echo.
            continue;
        } else {
            damage.lines.push(line);
            syntax_error(error, text)
        };
        problems.report(Origin::At(offset), told);
        if problems.full() {
            damage.lost_from = damage.lost_from.map(|start| start.min(offset)).or(Some(offset));
            problems.leave_out(errors.len() - index - 1);
            break;
        }
    }
    (table_of(table.into_inner(), &Origin::At), damage)
}

// The parser gives its errors no kinds. What follows goes by its words, which the tests hold; a
// word that changes costs a hint or a problem that is an echo, and no error.

/// The error after which the file reads as something that nobody wrote: of a bracket that is
/// never closed, the first complaint about what then stands inside.
fn breaking(errors: &[toml::de::Error]) -> Option<usize> {
    let is_end =
        |message: &str| message.starts_with("unclosed") || message.starts_with("key with no value");
    if let Some(index) = errors.iter().position(is_too_deep) {
        return Some(index);
    }
    errors.iter().find(|error| is_end(error.message()))?;
    errors.iter().position(|error| {
        let words = error.message();
        is_end(words) || ["array", "inline table"].iter().any(|part| words.contains(part))
    })
}

fn broken(error: &toml::de::Error, errors: &[toml::de::Error], text: &str) -> Error {
    let told = syntax_error(error, text);
    if is_too_deep(error) {
        return told;
    }
    let unclosed = |what: &str| errors.iter().any(|error| error.message().starts_with(what));
    if unclosed("unclosed array") {
        told.hint("an array is not closed here or before: add the missing `]`")
    } else if unclosed("unclosed inline table") {
        told.hint("an inline table is not closed here or before: add the missing `}`")
    } else {
        told
    }
}

/// Reads one TOML value that stands in the override with this number.
pub(super) fn parse_override(text: &str, index: usize) -> Option<Node> {
    let value = DeValue::parse(text.trim()).ok()?;
    Some(node_of(value.into_inner(), Origin::Set(index), &|_| Origin::Set(index)))
}

/// Reads the TOML of a default or an example.
pub(super) fn parse_own(text: &str) -> Node {
    let value = DeValue::parse(text).expect("the table of keys holds valid TOML");
    node_of(value.into_inner(), Origin::File, &|_| Origin::File)
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message() == "duplicate key" || error.message().starts_with("cannot extend value")
}

fn is_too_deep(error: &toml::de::Error) -> bool {
    error.message() == "recursion limit" || error.message().starts_with("cannot recurse")
}

/// The byte at which an error stands; a value that is missing at the end of a line stands there.
fn offset_of(error: &toml::de::Error, text: &str) -> usize {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    // An error at a line break belongs to the line that it ends.
    if text[..start].ends_with('\n') && start == text.len() { start - 1 } else { start }
}

fn duplicate(error: &toml::de::Error, text: &str) -> Error {
    let span = error.span().unwrap_or_default();
    let key = shown(text.get(span.clone()).unwrap_or_default());
    if text.get(..span.start).is_some_and(|before| before.ends_with('[')) {
        return Error::config(format!("the section `[{key}]` is opened twice"))
            .hint(format!("put all its keys below one `[{key}]`"));
    }
    Error::config(format!("`{key}` is given twice")).hint("keep one of the two")
}

fn syntax_error(error: &toml::de::Error, text: &str) -> Error {
    let message = error.message();
    let written = error.span().and_then(|span| text.get(span)).unwrap_or_default().trim();
    let unquoted =
        message.starts_with("string values must be quoted") || message.starts_with("invalid bool");
    if unquoted && !written.is_empty() {
        let written = shown(written);
        let right = match written.to_lowercase().as_str() {
            boolean @ ("true" | "false") => boolean.to_owned(),
            _ => format!("\"{written}\""),
        };
        return Error::config(format!("not valid TOML: `{written}` is not a value"))
            .hint(format!("write `{right}`"));
    }
    if unquoted {
        return Error::config("not valid TOML: a value is missing");
    }
    if is_too_deep(error) {
        return Error::config("not valid TOML: values are nested too deeply");
    }
    Error::config(format!("not valid TOML: {message}"))
}

fn table_of(table: DeTable<'_>, place: &impl Fn(usize) -> Origin) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let origin = place(key.span().start);
            (Word { text: key.into_inner().into_owned(), origin }, spanned(value, place))
        })
        .collect()
}

fn spanned(value: Spanned<DeValue<'_>>, place: &impl Fn(usize) -> Origin) -> Node {
    let origin = place(value.span().start);
    node_of(value.into_inner(), origin, place)
}

fn node_of(value: DeValue<'_>, origin: Origin, place: &impl Fn(usize) -> Origin) -> Node {
    let tree = match value {
        DeValue::String(text) => Tree::Text(text.into_owned()),
        DeValue::Integer(integer) => Tree::Integer(
            i128::from_str_radix(integer.as_str(), integer.radix()).ok(),
            integer.to_string(),
        ),
        DeValue::Float(float) => {
            // What the TOML parser let through is a float to Rust too; else it is out of range.
            let number = float.as_str().parse().unwrap_or(f64::NAN);
            Tree::Float(number, float.as_str().to_owned())
        }
        DeValue::Boolean(boolean) => Tree::Boolean(boolean),
        DeValue::Datetime(date) => Tree::Date(date.to_string()),
        DeValue::Array(array) => {
            Tree::Array(array.into_iter().map(|item| spanned(item, place)).collect())
        }
        DeValue::Table(table) => Tree::Table(table_of(table, place)),
    };
    Node { tree, origin }
}

/// A number; minus zero becomes zero, so that equal configs render equally.
#[expect(clippy::cast_precision_loss, reason = "far outside every range where it would matter")]
pub(super) fn number(tree: &Tree) -> Option<f64> {
    match tree {
        Tree::Integer(Some(integer), _) => Some(*integer as f64),
        Tree::Float(number, _) => Some(*number + 0.0),
        _ => None,
    }
}
