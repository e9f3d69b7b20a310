//! Why the template engine ended: its reason in a line, and whether that is one of its limits.

use minijinja::ErrorKind;

use super::MAX_RENDERED;

/// Whether an error of the engine is one of its limits. For two of them it has no kind: their text,
/// which is that of this very version of the library, is all there is.
pub fn limits(error: &minijinja::Error) -> bool {
    const TEXTS: [&str; 3] = [
        "recursion limit exceeded",
        "template exceeds maximum recursion limits",
        "range has too many elements",
    ];
    matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure)
        || error.detail().is_some_and(|detail| TEXTS.contains(&detail))
}

/// The reason, in one line.
pub fn reason(error: &minijinja::Error) -> String {
    let text = match error.kind() {
        ErrorKind::OutOfFuel => "it runs for too long".to_owned(),
        ErrorKind::WriteFailure => format!("it writes more than {MAX_RENDERED} bytes"),
        _ => error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
    };
    match error.line() {
        Some(line) => format!("{text} (line {line} of the template)"),
        None => text,
    }
}
