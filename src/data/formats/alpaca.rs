//! The shape `alpaca`: an instruction, perhaps an input, and the output.

use serde_json::json;

use super::{Content, Conversation, Fields, Format, optional_string, string};
use crate::config::FormatChoice;

/// The shape `alpaca`.
pub struct Alpaca;

impl Format for Alpaca {
    fn name(&self) -> &'static str {
        "alpaca"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::Alpaca
    }

    fn expects(&self) -> &'static str {
        "`instruction` and `output`, perhaps `input`"
    }

    fn recognises(&self, record: &Fields) -> bool {
        record.contains_key("instruction") && record.contains_key("output")
    }

    /// One turn of the user (instruction, blank line, input) and one of the assistant, so that the
    /// model's own chat template is used rather than a fixed English preamble.
    fn read(&self, mut record: Fields) -> Result<Content, String> {
        let mut question = string(&mut record, "instruction")?;
        let input = optional_string(&mut record, "input")?;
        let output = string(&mut record, "output")?;
        if !input.is_empty() {
            question.push_str("\n\n");
            question.push_str(&input);
        }
        let messages = vec![
            json!({ "role": "user", "content": question }),
            json!({ "role": "assistant", "content": output }),
        ];
        Ok(Content::Chat(Conversation { messages, ..Conversation::default() }))
    }
}
