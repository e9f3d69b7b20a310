//! What a process is asked, and how its answer is read.

use serde::de::DeserializeOwned;

use super::compact;
use super::limits;
use super::wire::{AllRendered, COMPACT, Request};
use crate::data::formats::Conversation;
use crate::error::{Context, Result};

/// How an answer is read; `None` where it is none.
pub type Reader<T> = fn(&[u8]) -> Option<T>;

/// JSON.
pub fn json<T: DeserializeOwned>(answer: &[u8]) -> Option<T> {
    serde_json::from_slice(answer).ok()
}

/// Conversations in their compact form.
pub fn rendered(answer: &[u8]) -> Option<AllRendered> {
    compact::read_rendered(answer)
}

/// What a process is asked, and how many milliseconds more than any other question it may take.
pub struct Question {
    /// What its frame begins with.
    pub begin: &'static [u8],
    /// The rest of the frame.
    pub rest: Vec<u8>,
    /// How many milliseconds more than any other it may take.
    pub more: u64,
}

impl Question {
    /// A request.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(request: &Request, more: u64) -> Result<Self> {
        let rest = serde_json::to_vec(request).context("cannot write a request")?;
        Ok(Self { begin: b"", rest, more })
    }

    /// Have these rendered.
    pub fn conversations(conversations: &[&Conversation], find_turns: bool) -> Self {
        let more = conversations.iter().map(|one| limits::time(one)).sum();
        let rest = compact::write_conversations(conversations, find_turns);
        Self { begin: &[COMPACT], rest, more }
    }
}
