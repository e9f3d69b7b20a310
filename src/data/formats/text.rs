//! The shape `text`: plain text to learn as a whole.

use super::{Content, Fields, Format, string};
use crate::config::FormatChoice;

/// The shape `text`.
pub struct Text;

impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn choice(&self) -> FormatChoice {
        FormatChoice::Text
    }

    fn expects(&self) -> &'static str {
        "`text`, a string"
    }

    fn recognises(&self, record: &Fields) -> bool {
        record.contains_key("text")
    }

    fn read(&self, record: &mut Fields) -> Result<Content, String> {
        Ok(Content::Text(string(record, "text")?))
    }
}
