//! Tokens of long texts, in as few bytes as their vocabulary needs.

use std::ops::Range;

/// Token ids.
#[derive(Debug)]
pub enum CompactTokens {
    /// Of a vocabulary of at most 65,536.
    Narrow(Vec<u16>),
    /// Of any other.
    Wide(Vec<u32>),
}

impl CompactTokens {
    /// None yet, of a vocabulary of this size.
    pub fn new(vocabulary: usize) -> Self {
        if vocabulary > 1 << 16 { Self::Wide(Vec::new()) } else { Self::Narrow(Vec::new()) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Narrow(tokens) => tokens.len(),
            Self::Wide(tokens) => tokens.len(),
        }
    }

    /// So many more are about to come.
    pub fn reserve(&mut self, count: usize) {
        match self {
            Self::Narrow(tokens) => tokens.reserve_exact(count),
            Self::Wide(tokens) => tokens.reserve_exact(count),
        }
    }

    /// Adds tokens.
    pub fn extend(&mut self, more: &[u32]) {
        match self {
            Self::Narrow(tokens) => tokens.extend(more.iter().map(|token| narrow(*token))),
            Self::Wide(tokens) => tokens.extend_from_slice(more),
        }
    }

    /// Some of them.
    pub fn range(&self, range: Range<usize>) -> Vec<u32> {
        match self {
            Self::Narrow(tokens) => tokens[range].iter().map(|token| u32::from(*token)).collect(),
            Self::Wide(tokens) => tokens[range].to_vec(),
        }
    }

    /// Puts tokens before all others.
    pub fn put_first(&mut self, first: &[u32]) {
        match self {
            Self::Narrow(tokens) => {
                tokens.splice(0..0, first.iter().map(|token| narrow(*token)));
            }
            Self::Wide(tokens) => {
                tokens.splice(0..0, first.iter().copied());
            }
        }
    }
}

fn narrow(token: u32) -> u16 {
    u16::try_from(token).expect("ids are below the size of the vocabulary")
}
