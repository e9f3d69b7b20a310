//! Errors of one record that end a run: no setting lets such a record pass.

use super::codec::Codec;
use super::example::RecordId;
use crate::error::Error;

/// A record is longer than a row, and that is to be an error.
pub fn too_long(length: usize, max: usize, record: &RecordId) -> Error {
    longer_than_a_row(&format!("{length} tokens, and `data.max_seq_len` is {max}"), record)
}

/// The same of one that is so long that it was not tokenised to its end.
pub fn much_too_long(max: usize, record: &RecordId) -> Error {
    longer_than_a_row(&format!("more than {max} tokens, which is `data.max_seq_len`"), record)
}

fn longer_than_a_row(has: &str, record: &RecordId) -> Error {
    Error::data(format!("a record has {has}"))
        .at_position(&*record.file, line(record), 1)
        .hint("set `data.overlong` to `truncate` or `drop`, or raise `data.max_seq_len`")
}

/// A preference pair, which has two answers, where no examples are made of pairs; `hint` names what
/// would.
pub fn pair(record: &RecordId, hint: Option<&str>) -> Error {
    let error = Error::pairs("the objective does not learn from pairs of answers")
        .at_position(&*record.file, line(record), 1)
        .hint(
            "with `columns = { messages = \"chosen\" }` and `format = \"messages\"` the chosen \
         answers are trained on",
        );
    match hint {
        Some(hint) if !hint.is_empty() => error.hint(hint),
        _ => error,
    }
}

/// Two tokens that begin a text, of which the template wrote one too many.
pub fn doubled(codec: &Codec, bos: u32, template: &str, record: &RecordId) -> Error {
    let name = codec.tokenizer.token_name(bos).unwrap_or_default();
    Error::data(format!("the rendered conversation begins with `{name}` twice"))
        .at_position(&*record.file, line(record), 1)
        .because(format!("the chat template {template} writes it so"))
        .hint("remove it from the first message of the records, or from the template")
}

/// An error in one line.
pub fn one_line(error: &Error) -> String {
    match error.causes.first() {
        Some(cause) => format!("{}: {cause}", error.what),
        None => error.what.clone(),
    }
}

/// The line of a record, as places in files are given.
pub fn line(record: &RecordId) -> usize {
    usize::try_from(record.line).unwrap_or(usize::MAX)
}
