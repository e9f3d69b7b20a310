//! Where output goes: stdout is data, stderr is talk.

use std::io::Write;

use crate::error::{Error, Result};

const BROKEN_PIPE: &str = "the reader of the output closed it";

/// Writes one line of data.
///
/// # Errors
/// When stdout is closed; a closed pipe ends the program quietly.
pub fn data_line(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").map_err(failed)
}

/// Writes data without a line end, at once.
pub fn data_piece(piece: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(piece.as_bytes()).and_then(|()| out.flush()).map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        Error::new(BROKEN_PIPE)
    } else {
        Error::new("cannot write the output").because(error)
    }
}

/// Is this the end of a pipe, which is no failure?
pub fn is_broken_pipe(error: &Error) -> bool {
    error.what == BROKEN_PIPE
}

/// Writes one line of talk; a closed stderr is nobody's problem.
pub fn talk(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
