//! The shape `completion`: a prompt and what follows it, without a chat template.

use super::{Content, Fields, Format, string};
use crate::config::FormatChoice;

/// The shape `completion`.
pub struct Completion;

impl Format for Completion {
    fn name(&self) -> &'static str {
        "completion"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::Completion
    }

    fn expects(&self) -> &'static str {
        "`prompt` and `completion`, both strings"
    }

    fn recognises(&self, record: &Fields) -> bool {
        record.contains_key("prompt") && record.contains_key("completion")
    }

    fn read(&self, mut record: Fields) -> Result<Content, String> {
        let prompt = string(&mut record, "prompt")?;
        let completion = string(&mut record, "completion")?;
        Ok(Content::Completion { prompt, completion })
    }
}
