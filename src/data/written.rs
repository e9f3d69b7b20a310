//! Conversations written by their chat template, many at once.

use super::codec::Codec;
use super::ends_of_runs::{line, one_line};
use super::example::RecordId;
use super::finding::Examiner;
use super::formats::Conversation;
use super::handed::Handed;
use crate::error::{Error, Result};

/// A conversation, with its place among the records and where it stands.
pub type Chat<'c> = (usize, &'c Conversation, &'c RecordId);

/// Why a conversation was not written.
pub struct Unwritten {
    /// The reason, in one line.
    pub reason: String,
    /// Whether a run would end with it.
    pub ends_a_run: bool,
}

/// How conversations are written.
pub struct Writing<'a> {
    /// With its templates.
    pub codec: &'a Codec,
    /// There where an examination goes on after what ends a run.
    pub examiner: Option<&'a Examiner>,
    /// Whether the turns of the assistant are looked for.
    pub find_turns: bool,
}

impl Writing<'_> {
    /// Writes conversations with the chat template for those with or without tools.
    ///
    /// # Errors
    /// When there is no template, or one goes beyond its limits, and no examination goes on.
    pub fn all(&self, has_tools: bool, chats: &[Chat]) -> Result<Vec<Result<Handed, Unwritten>>> {
        let unwritten = |reason| Unwritten { reason, ends_a_run: false };
        let error = match self.together(has_tools, chats) {
            Ok(all) => return Ok(all.into_iter().map(|one| one.map_err(unwritten)).collect()),
            Err(error) => error,
        };
        let Some(examiner) = self.examiner else { return Err(error) };
        let ends = |error: &Error| Unwritten { reason: one_line(error), ends_a_run: true };
        if let Err(none) = self.codec.template_for(has_tools) {
            return Ok(chats.iter().map(|_| Err(ends(&none))).collect());
        }
        // Which of them go beyond the template's limits? Each may take as long as those allow.
        let mut all = Vec::new();
        for chat in chats {
            let one = self.together(has_tools, &[*chat]).map(|mut one| one.pop());
            if one.is_err() && !examiner.may_go_beyond_limits() {
                return Err(error);
            }
            all.push(match one {
                Ok(Some(one)) => one.map_err(unwritten),
                Ok(None) => Err(unwritten("it was not rendered".to_owned())),
                Err(error) => Err(ends(&error)),
            });
        }
        Ok(all)
    }

    fn together(&self, has_tools: bool, chats: &[Chat]) -> Result<Vec<Result<Handed, String>>> {
        if chats.is_empty() {
            return Ok(Vec::new());
        }
        let conversations: Vec<&Conversation> = chats.iter().map(|(_, chat, _)| *chat).collect();
        let template = self.codec.template_for(has_tools)?;
        template.render(&conversations, self.find_turns).map_err(|exceeded| {
            let error = exceeded.error;
            let Some((_, _, record)) = chats.get(exceeded.index) else { return error };
            let template = error.place.as_ref().map(ToString::to_string).unwrap_or_default();
            let error = error.because(format!("the chat template is {template}"));
            error.at_position(&*record.file, line(record), 1)
        })
    }
}
