//! What people see: the one place that writes to stdout and stderr.
//!
//! Text from elsewhere (records, names of files and tensors, answers of a hub, causes of errors)
//! can hold characters that steer a terminal, hide or turn text around, or begin a line that a
//! build server takes for a command. Here they are made visible. A line end in such text is kept,
//! and what follows is indented, so that it never passes for a line of ours.

mod escape;
mod json_lines;
mod screen;

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar};

use self::escape::{Escape, Form};

pub use self::escape::{hung, is_invisible, one_line, printable};
pub use self::json_lines::{LOG_FORMAT, LOG_FORMATS, is_json, use_json};
pub use self::screen::{FullScreen, Key, close_screen, said};

/// Where messages go, and what the view of the whole terminal is drawn on.
fn errors() -> io::Stderr {
    io::stderr()
}

/// The standard output of a hidden command, which only this program reads.
pub fn answers() -> io::Stdout {
    io::stdout()
}

/// Whether bars can be drawn: a person looks at stderr.
pub fn draws() -> bool {
    !is_json() && io::stderr().is_terminal()
}

/// Whether a view can take the whole terminal: one is there that shows it, and keys to leave it.
pub fn can_fill() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
    draws() && io::stdin().is_terminal() && !dumb
}

/// Whether colours are wanted (<https://no-color.org>).
pub fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line of this level to stderr, with more beside it, where messages are JSON.
pub fn log(level: &str, message: &str, more: serde_json::Value) {
    if is_json() {
        let _ = writeln!(io::stderr(), "{}", json_lines::line_of_now(level, message, more));
    }
}

fn log_text(text: &str) {
    let (level, message) = json_lines::level_of(text);
    if !message.is_empty() {
        log(level, message, serde_json::Value::Null);
    }
}

/// Writes one message to stderr; a closed stderr is nobody's problem.
pub fn say(text: &str) {
    match is_json() {
        true => log_text(text),
        false => say_block(&hung(text)),
    }
}

/// Writes a message of several lines of ours to stderr: what is not ours in it was put on one line,
/// or indented, before.
pub fn say_block(text: &str) {
    if is_json() {
        return log_text(text);
    }
    let text = printable(text);
    if !screen::keep(&text) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Writes one message to stderr, above progress bars if there are any.
pub fn say_above(bars: Option<&MultiProgress>, bar: Option<&ProgressBar>, text: &str) {
    if screen::keep(&hung(text)) {
        return;
    }
    match (bars, bar) {
        (Some(bars), _) => drop(bars.println(hung(text))),
        (None, Some(bar)) => bar.println(hung(text)),
        (None, None) => say(text),
    }
}

/// Asks for input on a terminal, in front of what is typed.
pub fn invite(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What stands beside a progress bar.
pub fn label(bar: &ProgressBar, text: &str) {
    bar.set_message(one_line(text));
}

/// Help, or what is wrong with a command line.
pub fn usage(error: &clap::Error) {
    match error.use_stderr() {
        true => say_block(error.render().to_string().trim_end()),
        false => drop(error.print()), // our own text, to stdout
    }
}

/// Writes one message to stdout.
///
/// # Errors
/// When stdout is closed.
pub fn print(text: &str) -> io::Result<()> {
    print_block(&hung(text))
}

/// Writes lines of ours to stdout, as [`say_block`] does to stderr.
///
/// # Errors
/// When stdout is closed.
pub fn print_block(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", printable(text))
}

/// Writes JSON to stdout: exactly what it says, with characters that are not to reach a terminal
/// in JSON's own escapes.
///
/// # Errors
/// When stdout is closed.
pub fn print_json(json: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", Escape::new(Form::Json).all(json))
}

/// Writes text of ours to stdout as it is, without a line end.
///
/// # Errors
/// When stdout is closed.
pub fn print_exact(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Writes indented text to stdout of which some pieces are marked: in colour on a terminal, in
/// brackets elsewhere.
///
/// # Errors
/// When stdout is closed.
pub fn print_marked(pieces: &[(&str, bool)], indent: usize) -> io::Result<()> {
    let colour = io::stdout().is_terminal() && wants_colours();
    let marks = if colour { ("\u{1b}[32;1m", "\u{1b}[0m") } else { ("⟦", "⟧") };
    writeln!(io::stdout().lock(), "{}", marked(pieces, indent, marks))
}

fn marked(pieces: &[(&str, bool)], indent: usize, (open, close): (&str, &str)) -> String {
    let (mut escape, mut out) = (Escape::new(Form::People), String::new());
    for (text, is_marked) in pieces {
        let shown = escape.all(text);
        match is_marked {
            true => out.extend([open, &shown, close]),
            false => out.push_str(&shown),
        }
    }
    let margin = " ".repeat(indent);
    let out = out.trim_end().replace('\n', &format!("\n{margin}"));
    format!("{margin}{out}")
}

/// Text of a model on its way to stdout, piece by piece.
///
/// On a terminal it is made harmless as everything else is; a file or another program gets the
/// bytes as they are. A build server reads its commands from a pipe, so that on one (GitHub
/// Actions, Azure Pipelines) only a file does.
pub struct Stream {
    /// Nothing where the bytes are written as they are.
    escape: Option<Escape>,
}

impl Stream {
    /// To where stdout leads now.
    pub fn begin() -> Self {
        let set = |name| std::env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        let server = ["GITHUB_ACTIONS", "TF_BUILD"].into_iter().any(set);
        let shown = io::stdout().is_terminal() || (server && !stdout_is_file());
        Self { escape: shown.then(|| Escape::new(Form::People)) }
    }

    /// Writes the next piece at once.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn push(&mut self, piece: &str) -> io::Result<()> {
        match &mut self.escape {
            Some(escape) => print_exact(&escape.all(piece)),
            None => print_exact(piece),
        }
    }
}

#[cfg(unix)]
fn stdout_is_file() -> bool {
    use std::os::fd::AsFd;
    let own = io::stdout().as_fd().try_clone_to_owned();
    own.is_ok_and(|own| std::fs::File::from(own).metadata().is_ok_and(|found| found.is_file()))
}

#[cfg(windows)]
fn stdout_is_file() -> bool {
    use std::os::windows::io::AsHandle;
    let own = io::stdout().as_handle().try_clone_to_owned();
    own.is_ok_and(|own| std::fs::File::from(own).metadata().is_ok_and(|found| found.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_text_is_indented_and_harmless_whatever_it_holds() {
        let pieces = [("a\n", false), ("::error::b\u{202e}\n\n", true), ("\u{1b}[2Jc\n", false)];
        assert_eq!(
            marked(&pieces, 2, ("⟦", "⟧")),
            "  a\n  ⟦:\\u{3a}error::b\\u{202e}\n  \n  ⟧\\u{1b}[2Jc"
        );
    }

    #[test]
    fn a_command_in_two_pieces_is_found() {
        let mut stream = Stream { escape: Some(Escape::new(Form::People)) };
        let escape = stream.escape.as_mut().unwrap();
        let shown: String = ["x\n", ":", ":add-mask::", "#", "#[group]"]
            .into_iter()
            .map(|piece| escape.all(piece))
            .collect();
        assert_eq!(shown, "x\n:\\u{3a}add-mask::##\\u{5b}group]");
    }
}
