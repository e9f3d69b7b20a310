//! The shape `messages`: a conversation as a list of role and content.

use super::beside::take_beside;
use super::lists::{First, first, turns};
use super::sharegpt::ShareGpt;
use super::turns::checked;
use super::{Content, Fields, Format};
use crate::config::FormatChoice;

/// The names under which the list is found in public data sets.
const KEYS: [&str; 2] = ["messages", "conversations"];

/// The shape `messages`.
pub struct Messages;

impl Format for Messages {
    fn name(&self) -> &'static str {
        "messages"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::Messages
    }

    fn expects(&self) -> &'static str {
        "`messages`, a list of objects with `role` and `content`"
    }

    fn recognises(&self, record: &Fields) -> bool {
        let fits = KEYS.iter().any(|key| match first(record, key) {
            Some(First::Turn(turn)) => turn.contains_key("role"),
            Some(First::Nothing) => *key == "messages",
            None => false,
        });
        fits && !ShareGpt.recognises(record)
    }

    fn read(&self, record: &mut Fields) -> Result<Content, String> {
        let mut conversation = checked(turns(record, &KEYS)?)?;
        take_beside(record, &mut conversation)?;
        Ok(Content::Chat(conversation))
    }
}
