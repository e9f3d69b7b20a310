//! Git, called as a program.

use std::borrow::BorrowMut;
use std::path::Path;
use std::process::{Command, Stdio};

/// Git on one directory, changing nothing and starting no program that its settings name.
pub fn git(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(["-c", "core.fsmonitor=false"]).args(arguments);
    command.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// What it prints, if it succeeds.
pub fn text(command: impl BorrowMut<Command>) -> Option<String> {
    String::from_utf8(bytes(command)?).ok()
}

/// The same where it need not be text.
pub fn bytes(mut command: impl BorrowMut<Command>) -> Option<Vec<u8>> {
    let output = command.borrow_mut().output().ok()?;
    output.status.success().then_some(output.stdout)
}
