//! Whom commands that nobody watches tell of what happened.

use serde_json::Value;

use super::environment;
use crate::cli::sign::command;
use crate::cli::talk;
use crate::error::{Error, Result};
use crate::report::NotifyTarget;

/// Whom to tell where no option says so.
const NOTIFY: &str = "FIREBRAND_NOTIFY";

/// Whom to tell: `named` by `--notify`, else by the environment.
pub fn notified(named: Option<&str>) -> Result<Option<NotifyTarget>> {
    let named = named.map(str::to_owned).or_else(|| environment::value_of(NOTIFY));
    let Some(named) = named.filter(|named| !named.is_empty()) else { return Ok(None) };
    if named.starts_with("https://") || named.starts_with("http://") {
        return Ok(Some(NotifyTarget::Address(named)));
    }
    match command(&named) {
        Ok(command) if !command.is_empty() => Ok(Some(NotifyTarget::Program(command))),
        _ => Err(Error::usage("whom `--notify` names is no address and no program")
            .hint("write an address, a program, or `[\"program\", \"argument\"]`")),
    }
}

/// Tells them; that they cannot be told is a warning about `what`.
pub fn tell(target: &NotifyTarget, message: &Value, what: &str) {
    if let Err(error) = target.tell(message) {
        talk(&format!("warning: nobody was told {what}: {}", error.with_causes()));
    }
}
