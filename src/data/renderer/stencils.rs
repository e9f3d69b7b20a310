//! Conversations of which it is known what the template writes around their contents.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Exceeded, TemplateRenderer};
use crate::data::formats::Conversation;
use crate::data::handed::Handed;
use crate::data::stencil::{Plain, Stencil};
use crate::error::Error;

/// So many kinds of conversations are remembered; data sets in use have some dozens.
const KINDS_MAX: usize = 512;

/// Stencils by what conversations have in common; `None` where there is none.
#[derive(Default)]
pub struct Stencils(Mutex<HashMap<String, Option<Arc<Known>>>>);

/// A stencil, and whether what it gives was compared with what the template writes.
pub struct Known {
    stencil: Stencil,
    compared: AtomicBool,
}

/// What a stencil gives.
pub struct Filled {
    /// What was put together.
    pub handed: Handed,
    /// Whether it is to be compared with what the template writes.
    pub compare: bool,
}

impl TemplateRenderer {
    /// What the template makes of a conversation, if that is known without rendering it.
    pub(super) fn filled(&self, conversation: &Conversation, find_turns: bool) -> Option<Filled> {
        let plain = Plain::of(conversation, find_turns)?;
        let known = self.stencil_for(&plain)?;
        let handed = known.stencil.fill(&plain)?;
        let first = !known.compared.load(Ordering::Relaxed)
            && !known.compared.swap(true, Ordering::Relaxed);
        Some(Filled { handed, compare: first || plain.is_sampled() })
    }

    fn stencil_for(&self, plain: &Plain) -> Option<Arc<Known>> {
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
        let found = self.stencil(&plain.outline());
        let found = found.map(|stencil| Arc::new(Known { stencil, compared: false.into() }));
        known().insert(key, found.clone());
        found
    }

    /// Whether a stencil gave what the template writes, where both are there.
    ///
    /// # Errors
    /// Where they differ. Nothing was trained of it, and nobody but this program is to blame.
    pub(super) fn agree(
        &self,
        index: usize,
        filled: Option<&Result<Handed, String>>,
        written: &Result<Handed, String>,
    ) -> Result<(), Exceeded> {
        if filled.is_none_or(|filled| filled == written) {
            return Ok(());
        }
        let error =
            Error::new("the chat template wrote a conversation otherwise than was foreseen")
                .at(self.origin())
                .because(
                    "most conversations are put together without running the template; of a sample \
                 both are compared, and here they differ, which is a fault of this program",
                )
                .hint(
                    "report it with the template; another template in `data.chat_template` may do",
                );
        Err(Exceeded { index, error })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::data::template::{ChatTemplate, TemplateText};

    #[test]
    fn a_stencil_that_gives_something_else_than_the_template_ends_the_run() {
        let source =
            |end: &str| format!("{{% for m in messages %}}{{{{ m.content }}}}{end}{{% endfor %}}");
        let text = TemplateText { source: source(";"), origin: "t.jinja".to_owned() };
        let renderer = TemplateRenderer::in_program(text, BTreeMap::new(), None).unwrap();
        let conversations: Vec<Conversation> = (0..4000)
            .map(|number| Conversation {
                messages: vec![json!({ "role": "user", "content": format!("a{number}") })],
                ..Conversation::default()
            })
            .collect();
        let all: Vec<&Conversation> = conversations.iter().collect();
        renderer.render(&all, false).unwrap();
        let plain = |at: usize| Plain::of(&conversations[at], false).unwrap();
        let sampled = (0..4000).filter(|at| plain(*at).is_sampled()).count();
        assert!((1..20).contains(&sampled), "{sampled}");
        let other = ChatTemplate::new(&source(","), "u.jinja", BTreeMap::new()).unwrap();
        let stencil = Stencil::new(&other, &plain(0).outline()).unwrap();
        for compared in [false, true] {
            let stencil = stencil.clone();
            let wrong = Known { stencil, compared: compared.into() };
            renderer.stencils.0.lock().unwrap().insert(plain(0).key(), Some(Arc::new(wrong)));
            let exceeded = renderer.render(&all, false).unwrap_err();
            assert!(plain(exceeded.index).is_sampled() || !compared && exceeded.index == 0);
            let error = exceeded.error.to_string();
            assert!(
                error.contains("t.jinja") && error.contains("fault of this program"),
                "{error}"
            );
        }
    }
}
