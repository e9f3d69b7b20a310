//! Conversations of which it is known what the template writes around their contents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::TemplateRenderer;
use crate::data::formats::Conversation;
use crate::data::handed::Handed;
use crate::data::stencil::{Plain, Stencil};

/// So many kinds of conversations are remembered; data sets in use have some dozens.
const KINDS_MAX: usize = 512;

/// Stencils by what conversations have in common; `None` where there is none.
#[derive(Default)]
pub struct Stencils(Mutex<HashMap<String, Option<Arc<Stencil>>>>);

impl TemplateRenderer {
    /// What the template makes of a conversation, if that is known without rendering it.
    pub(super) fn filled(&self, conversation: &Conversation, find_turns: bool) -> Option<Handed> {
        let plain = Plain::of(conversation, find_turns)?;
        self.stencil_for(&plain)?.fill(&plain)
    }

    fn stencil_for(&self, plain: &Plain) -> Option<Arc<Stencil>> {
        let key = plain.key();
        let known = || self.stencils.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let known = known();
            if let Some(found) = known.get(&key) {
                return found.clone();
            }
            if known.len() >= KINDS_MAX {
                return None;
            }
        }
        // Several threads may find it out at the same time: they find the same.
        let found = self.stencil(&plain.outline()).map(Arc::new);
        known().insert(key, found.clone());
        found
    }
}
