//! The bytes that each token stands for, as an answer is written: by the decoder, not by what the
//! encoder does with a text.

use tokenizers::DecoderWrapper;

use super::kinds::{Opening, SpellingKind};
use super::spelling::spelled;
use super::{Inner, Tokenizer};
use crate::error::{Error, Result};

/// A token of more bytes is left out: none that an answer needs has so many.
const BYTES_MAX: usize = 256;

impl Tokenizer {
    /// What each token writes, by its number; empty for added tokens, for those without text, and
    /// where there is no token.
    ///
    /// # Errors
    /// When the decoder is neither byte-level nor of the SentencePiece kind.
    pub fn token_bytes(&self) -> Result<Vec<Vec<u8>>> {
        let inner = &*self.inner;
        let kind = written(inner).ok_or_else(|| {
            Error::tokenizer("it is not known which bytes the tokens of this tokenizer write")
                .because("its decoder is neither byte-level nor of the SentencePiece kind")
        })?;
        let mut bytes = vec![Vec::new(); self.vocabulary];
        let added = inner.get_added_tokens_decoder();
        for (name, id) in inner.get_vocab(false) {
            if !added.contains_key(&id)
                && !self.is_special(id)
                && let Some(place) = bytes.get_mut(id as usize)
                && let Some((text, _)) = spelled(&name, kind)
                && text.len() <= BYTES_MAX
            {
                *place = text;
            }
        }
        Ok(bytes)
    }
}

/// How the decoder writes tokens.
fn written(inner: &Inner) -> Option<SpellingKind> {
    let of = |decoder: &DecoderWrapper| match decoder {
        DecoderWrapper::ByteLevel(_) => Some(SpellingKind::Bytes),
        DecoderWrapper::Metaspace(_) | DecoderWrapper::ByteFallback(_) => {
            Some(SpellingKind::Marks(Opening::Never))
        }
        _ => None,
    };
    match inner.get_decoder()? {
        DecoderWrapper::Sequence(list) => list.get_decoders().iter().find_map(of),
        one => of(one),
    }
}
