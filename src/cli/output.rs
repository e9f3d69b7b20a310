//! Where output goes: stdout is data, stderr is talk. Both through [`terminal`].

use std::io;

use serde_json::json;

use crate::data::ExampleSpan;
use crate::error::{Error, ErrorCode, Result};
use crate::terminal;

/// Writes one line of data for people; what is below its first line is indented.
///
/// # Errors
/// When stdout is closed; a closed pipe ends the program quietly.
pub fn data_line(line: &str) -> Result<()> {
    terminal::print(line).map_err(failed)
}

/// Writes JSON, which a machine reads: exactly.
///
/// # Errors
/// As [`data_line`].
pub fn data_json(json: &str) -> Result<()> {
    terminal::print_json(json).map_err(failed)
}

/// Writes several lines of ours: what is not ours in them is on one line each.
///
/// # Errors
/// As [`data_line`].
pub fn data_lines(lines: &str) -> Result<()> {
    terminal::print_block(lines).map_err(failed)
}

/// Writes text of ours as it is, without a line end.
///
/// # Errors
/// As [`data_line`].
pub fn data_exact(text: &str) -> Result<()> {
    terminal::print_exact(text).map_err(failed)
}

/// Writes an example, indented, with what is trained on marked.
///
/// # Errors
/// As [`data_line`].
pub fn data_pieces(pieces: &[ExampleSpan]) -> Result<()> {
    const INDENT: usize = 4;
    let pieces: Vec<_> = pieces.iter().map(|piece| (piece.text.as_str(), piece.target)).collect();
    terminal::print_marked(&pieces, INDENT).map_err(failed)
}

/// The error of a write to stdout.
pub fn failed(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Error::output_closed("the reader of the output closed it")
    } else {
        Error::file("cannot write the output").because(error)
    }
}

/// Is this the end of a pipe, which is no failure?
pub fn is_broken_pipe(error: &Error) -> bool {
    error.code == ErrorCode::OutputClosed
}

/// Writes one message of talk; what is below its first line is indented.
pub fn talk(line: &str) {
    terminal::say(line);
}

/// Says what went wrong.
pub fn talk_of(error: &Error) {
    if !terminal::is_json() {
        return terminal::say_block(&error.to_string());
    }
    for error in std::iter::once(error).chain(&error.others) {
        let place = error.place.as_ref();
        let more = json!({
            "event": "error",
            "code": error.code.name(),
            "file": place.map(|place| place.file.display().to_string()),
            "line": place.and_then(|place| place.position).map(|(line, _)| line),
            "causes": error.causes,
            "hints": error.hints,
        });
        terminal::log("error", &error.what, more);
    }
}
