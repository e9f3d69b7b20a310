//! What the program and the process that renders say to each other: a length, then JSON, or
//! conversations in their [compact](super::compact) form.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::formats::Conversation;
use crate::data::handed::Handed;
use crate::data::stencil::Stencil;
use crate::data::template::TemplateText;
use crate::error::ErrorCode;

/// What is asked. The first request of a process is [`Request::Load`], and the only one.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request<'a> {
    /// Read this template; the answer is an [`Objection`] or nothing.
    Load {
        /// Its text and where it stands.
        text: Cow<'a, TemplateText>,
        /// The special tokens that it may write.
        special: Cow<'a, BTreeMap<String, String>>,
    },
    /// Write the first turns of a conversation; the answer is a text or a reason.
    Write {
        /// The conversation.
        conversation: Cow<'a, Conversation>,
        /// How many of its turns.
        count: usize,
        /// Whether what precedes the assistant's answer is added.
        generation: bool,
    },
    /// Write a conversation in every way that a run would; the answer is a [`Tried`].
    Try {
        /// The conversation.
        conversation: Cow<'a, Conversation>,
        /// Whether what precedes the assistant's answer is added.
        generation: bool,
    },
    /// Tell what is written around the contents of conversations; the answer is a [`Stencil`] or
    /// nothing.
    Stencil {
        /// What the conversations have in common.
        outline: Cow<'a, str>,
        /// The values of one of them that are no texts, by the numbers of their holes.
        samples: Vec<Option<Cow<'a, Value>>>,
    },
}

/// Why a template cannot be used, as an error says it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Objection {
    /// In a sentence.
    pub what: String,
    /// What kind of error it is.
    pub code: ErrorCode,
    /// Line and column.
    pub position: Option<(usize, usize)>,
    /// What lay underneath.
    pub causes: Vec<String>,
    /// What can be done.
    pub hints: Vec<String>,
}

/// The answer to [`Request::Load`].
pub type Loaded = Result<(), Objection>;
/// What conversations in their compact form become: what was written, or a reason.
pub type AllRendered = Vec<Result<Handed, String>>;
/// The answer to [`Request::Write`].
pub type Written = Result<String, String>;
/// The answer to [`Request::Try`]: whether it is written, or the reason why not, and whether the
/// template came to a limit of the engine on the way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tried {
    /// The template's own reason, in one line.
    pub written: Result<(), String>,
    /// The engine ended it.
    pub at_limit: bool,
}
/// The answer to [`Request::Stencil`].
pub type Stencilled = Option<Stencil>;

/// How a frame begins whose rest are conversations in their compact form; JSON begins otherwise.
pub const COMPACT: u8 = b'C';

/// Writes bytes behind their number; what stands in several parts is one frame.
pub fn write_frame(output: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    output.write_all(&(length as u64).to_le_bytes())?;
    for part in parts {
        output.write_all(part)?;
    }
    output.flush()
}

/// The number of bytes that follow; `None` at the end of the input.
pub fn read_length(input: &mut impl Read) -> io::Result<Option<u64>> {
    let mut length = [0; 8];
    let mut got = 0;
    while got < length.len() {
        match input.read(length.get_mut(got..).unwrap_or_default()) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(u64::from_le_bytes(length)))
}

/// So many bytes; nothing is set aside for what does not come.
pub fn read_bytes(input: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        return Ok(bytes);
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_and_cut_ones_are_errors() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &[&b"o"[..], &b"ne"[..]]).unwrap();
        write_frame(&mut bytes, &[]).unwrap();
        let mut input = bytes.as_slice();
        let mut frames = Vec::new();
        while let Some(length) = read_length(&mut input).unwrap() {
            frames.push(read_bytes(&mut input, length).unwrap());
        }
        assert_eq!(frames, [b"one".to_vec(), Vec::new()]);
        assert!(read_length(&mut &bytes[..5]).is_err());
        assert!(read_bytes(&mut &b"ab"[..], u64::MAX).is_err());
    }
}
