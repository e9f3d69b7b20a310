//! Examples as people read them: text, with what is learnt marked.

use serde::Serialize;

use super::codec::Codec;
use super::example::Example;
use super::tokens::TextStream;
use crate::error::Result;

/// Consecutive tokens that are all learnt, or all given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// Their text, special tokens included.
    pub text: String,
    /// Whether they are learnt.
    pub learnt: bool,
    /// How many they are.
    pub tokens: usize,
}

/// An example in pieces; joined, their texts are the example's text.
///
/// A character that is spread over several tokens belongs to the piece of its last one.
pub fn pieces(codec: &Codec, example: &Example) -> Result<Vec<Piece>> {
    let mut stream = TextStream::new(false);
    let mut pieces: Vec<Piece> = Vec::new();
    for (&token, &learnt) in example.tokens.iter().zip(&example.learn) {
        let text = stream.push(&codec.tokenizer, token)?;
        match pieces.last_mut() {
            Some(last) if last.learnt == learnt => {
                last.text += &text;
                last.tokens += 1;
            }
            _ => pieces.push(Piece { text, learnt, tokens: 1 }),
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.text += &stream.finish(&codec.tokenizer)?;
    }
    Ok(pieces)
}
