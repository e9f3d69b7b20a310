//! Conversations of which it is known what the template writes around their contents.

use super::{Exceeded, TemplateRenderer};
use crate::data::formats::Conversation;
use crate::data::handed::Handed;
use crate::data::stencil::{Filled, Plain};
use crate::error::Error;

impl TemplateRenderer {
    /// What the template makes of a conversation, if that is known without rendering it.
    pub(super) fn filled(&self, conversation: &Conversation, find_turns: bool) -> Option<Filled> {
        let make = |plain: &Plain| self.stencil(plain);
        self.stencils.filled(self.source(), conversation, find_turns, &make)
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
            Error::template("the chat template wrote a conversation differently than expected")
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
    use crate::data::stencil::{Stencil, is_sampled};
    use crate::data::template::{ChatTemplate, TemplateText};
    use crate::snapshots::each_says;

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
        let plain = |at: usize| Plain::of(&conversations[at]).unwrap();
        let sampled = |at: usize| is_sampled(&conversations[at]);
        let count = (0..4000).filter(|at| sampled(*at)).count();
        assert!((1..20).contains(&count), "{count}");
        let other = ChatTemplate::new(&source(","), "u.jinja", BTreeMap::new()).unwrap();
        let mut errors = Vec::new();
        for compared in [false, true] {
            let stencil = Stencil::new(&other, &plain(0).outline, &[None]).unwrap();
            renderer.stencils.put(&plain(0), stencil, compared);
            let exceeded = renderer.render(&all, false).unwrap_err();
            assert!(sampled(exceeded.index) || !compared && exceeded.index == 0);
            errors.push(exceeded.error.to_string());
        }
        each_says(
            errors,
            snapbox::str![[r#"
error[template]: the chat template wrote a conversation differently than expected
  at t.jinja
  because most conversations are put together without running the template; of a sample both are compared, and here they differ, which is a fault of this program

hint: report it with the template; another template in `data.chat_template` may do
"#]],
        );
    }
}
