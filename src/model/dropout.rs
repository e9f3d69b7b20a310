//! Random numbers of tokens, whatever parts their micro-batch is worked on in.

use std::sync::Arc;

use crate::random::Stream;

/// Which inputs are dropped.
#[derive(Debug, Clone)]
pub struct Dropout {
    /// Names step and micro-batch.
    pub stream: Stream,
    /// What [`Self::number`] gives where it is not the place of a token.
    pub numbers: Option<Arc<[Option<usize>]>>,
}

impl From<Stream> for Dropout {
    fn from(stream: Stream) -> Self {
        Self { stream, numbers: None }
    }
}

impl Dropout {
    /// The number of a token of these in its micro-batch, or nothing for padding that was added: a
    /// micro-batch that is worked on in parts, with more padding or less, drops what it would drop
    /// as a whole.
    pub fn number(&self, token: usize) -> Option<usize> {
        match &self.numbers {
            Some(numbers) => numbers[token],
            None => Some(token),
        }
    }
}
