//! The shape `alpaca`: an instruction, perhaps an input, and the output.

use serde_json::{Value, json};

use super::beside::take_beside;
use super::lists::list;
use super::turns::checked;
use super::{Content, Fields, Format, optional_string, string};
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
        "`instruction` and `output`, perhaps `input`, `system` and `history`"
    }

    fn recognises(&self, record: &Fields) -> bool {
        record.contains_key("instruction") && record.contains_key("output")
    }

    /// One turn of the user (instruction, blank line, input) and one of the assistant, so that the
    /// model's own chat template is used rather than a fixed English preamble. Earlier turns come
    /// before them, and their answers are targets, as LLaMA-Factory has it.
    fn read(&self, record: &mut Fields) -> Result<Content, String> {
        let mut question = string(record, "instruction")?;
        let input = optional_string(record, "input")?;
        let output = string(record, "output")?;
        record.remove("input"); // a null
        if !input.is_empty() {
            question.push_str("\n\n");
            question.push_str(&input);
        }
        let mut messages = history(record.remove("history"))?;
        messages.push(json!({ "role": "user", "content": question }));
        messages.push(json!({ "role": "assistant", "content": output }));
        let mut conversation = checked(messages)?;
        take_beside(record, &mut conversation)?;
        Ok(Content::Chat(conversation))
    }
}

/// Pairs of a question and its answer.
fn history(value: Option<Value>) -> Result<Vec<Value>, String> {
    let pairs = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(value) => list(value, "history")?,
    };
    let mut messages = Vec::with_capacity(2 * pairs.len());
    for pair in pairs {
        match pair.as_array().map(Vec::as_slice) {
            Some([question @ Value::String(_), answer @ Value::String(_)]) => {
                messages.push(json!({ "role": "user", "content": question }));
                messages.push(json!({ "role": "assistant", "content": answer }));
            }
            _ => {
                return Err("`history` must be a list of pairs, each a question and its answer, \
                            both strings"
                    .to_owned());
            }
        }
    }
    Ok(messages)
}
