//! Where tokens stand in a text: found by spelling them, which also proves that they say it.
//!
//! The exact engine follows every character through normalizing and splitting. For the kinds of
//! tokenizers in [`super::kinds`] this gives the same: the range of a token is that of the bytes it
//! spells, widened to whole characters; a mark before a stretch of text has the range of the
//! stretch's first character; an added token has the white space that it takes.

use tokenizers::models::ModelWrapper;

use super::Inner;
use super::kinds::{MARK, Opening, SpellingKind};

/// What every token of a vocabulary spells.
pub struct Spelling {
    kind: SpellingKind,
    /// The spelled bytes of all tokens, one after another.
    bytes: Vec<u8>,
    pieces: Vec<TokenText>,
}

#[derive(Clone, Copy)]
struct TokenText {
    /// The first eight of its bytes, the first one lowest: most tokens have no more, and are
    /// compared in one go.
    word: u64,
    start: u32,
    length: u16,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// No such token, or one that can stand for other text than its own.
    Unknown,
    /// Text; for [`SpellingKind::Marks`] with a space for every mark.
    Text,
    /// One byte of a character.
    Byte,
    /// An added token, which may take the white space before and after it.
    Added { left: bool, right: bool },
}

impl Spelling {
    /// Reads the vocabulary of a tokenizer of this kind.
    pub fn new(exact: &Inner, kind: SpellingKind) -> Self {
        let added = exact.get_added_tokens_decoder();
        let vocabulary = exact.get_vocab(true);
        let size = vocabulary.values().max().map_or(0, |largest| *largest as usize + 1);
        let unknown = match exact.get_model() {
            ModelWrapper::BPE(model) => model.unk_token.clone(),
            _ => None,
        };
        let nothing = TokenText { word: 0, start: 0, length: 0, role: Role::Unknown };
        let mut spelling = Self { kind, bytes: Vec::new(), pieces: vec![nothing; size] };
        for (name, &id) in &vocabulary {
            if !added.contains_key(&id)
                && Some(name) != unknown.as_ref()
                && let Some((bytes, role)) = spelled(name, kind)
            {
                spelling.set(id, &bytes, role);
            }
        }
        for (&id, token) in &added {
            let role = Role::Added { left: token.lstrip, right: token.rstrip };
            spelling.set(id, token.content.as_bytes(), role);
        }
        spelling
    }

    fn set(&mut self, id: u32, bytes: &[u8], role: Role) {
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(bytes.len()))
        else {
            return;
        };
        if let Some(piece) = self.pieces.get_mut(id as usize)
            && length > 0
        {
            let mut word = [0; 8];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            *piece = TokenText { word: u64::from_le_bytes(word), start, length, role };
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The range of each token in the text, in bytes; `None` if the tokens do not spell the text.
    pub fn offsets(&self, text: &str, tokens: &[u32]) -> Option<Vec<(usize, usize)>> {
        let mut walk = Walk { text, at: 0, opening: true };
        let mut offsets = Vec::with_capacity(tokens.len());
        for &token in tokens {
            let piece = self.pieces.get(token as usize)?;
            if let (Role::Text, SpellingKind::Bytes) = (piece.role, self.kind)
                && let Some(same) = walk.short(piece)
            {
                offsets.push(same?);
                continue;
            }
            let spelled = self.bytes.get(piece.start as usize..)?.get(..piece.length as usize)?;
            offsets.push(match (piece.role, self.kind) {
                (Role::Text, SpellingKind::Bytes) | (Role::Byte, _) => {
                    walk.bytes(spelled, self.kind)?
                }
                (Role::Text, SpellingKind::Marks(opening)) => walk.marks(spelled, opening)?,
                (Role::Added { left, right }, _) => walk.added(spelled, left, right)?,
                (Role::Unknown, _) => return None,
            });
        }
        (walk.at == text.len()).then_some(offsets)
    }
}

/// What a token of the model spells.
pub fn spelled(name: &str, kind: SpellingKind) -> Option<(Vec<u8>, Role)> {
    match kind {
        SpellingKind::Bytes => {
            Some((name.chars().map(byte_of).collect::<Option<_>>()?, Role::Text))
        }
        SpellingKind::Marks(_) => match byte_token(name) {
            Some(byte) => Some((vec![byte], Role::Byte)),
            None if name.contains(' ') => None,
            None => Some((name.replace(MARK, " ").into_bytes(), Role::Text)),
        },
    }
}

/// The letter that stands for a byte in byte-level BPE: printable ones of Latin-1 stand for
/// themselves, the other 68 bytes have the letters from U+0100 on, in order.
pub fn letter_of(byte: u8) -> char {
    if is_plain(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !is_plain(*other)).count();
    // At most 67 before it.
    u32::try_from(before).ok().and_then(|index| char::from_u32(0x100 + index)).unwrap_or_default()
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

fn byte_of(letter: char) -> Option<u8> {
    let byte = match u32::from(letter).checked_sub(0x100) {
        None => u8::try_from(u32::from(letter)).ok()?,
        Some(index) => {
            (0..=255).filter(|byte| !is_plain(*byte)).nth(usize::try_from(index).ok()?)?
        }
    };
    (letter_of(byte) == letter).then_some(byte)
}

/// The byte of a token such as `<0x0A>`.
fn byte_token(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let exact = digits.len() == 2 && !digits.bytes().any(|digit| digit.is_ascii_lowercase());
    u8::from_str_radix(digits, 16).ok().filter(|_| exact)
}

/// How far a text was spelled.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    /// Whether what comes next begins a stretch of text between added tokens.
    opening: bool,
}

impl Walk<'_> {
    #[inline]
    fn bytes(&mut self, spelled: &[u8], kind: SpellingKind) -> Option<(usize, usize)> {
        if let SpellingKind::Marks(opening) = kind {
            if self.opening && self.opens(opening) {
                return None;
            }
            self.opening = false;
        }
        let start = self.at;
        let end = start + spelled.len();
        if self.text.as_bytes().get(start..end)? != spelled {
            return None;
        }
        self.at = end;
        Some((self.floor(start), self.ceil(end)))
    }

    /// As [`Self::bytes`] for byte-level text; `None` for tokens that are too long for it, or too
    /// near the end of the text.
    #[inline]
    fn short(&mut self, piece: &TokenText) -> Option<Option<(usize, usize)>> {
        let length = usize::from(piece.length);
        let ahead = self.text.as_bytes().get(self.at..)?.first_chunk::<8>()?;
        if length > ahead.len() {
            return None;
        }
        let unused = 64 - 8 * piece.length; // never 64: no token is empty
        if (u64::from_le_bytes(*ahead) ^ piece.word) << unused != 0 {
            return Some(None);
        }
        let start = self.at;
        self.at += length;
        Some(Some((self.floor(start), self.ceil(self.at))))
    }

    fn marks(&mut self, spelled: &[u8], opening: Opening) -> Option<(usize, usize)> {
        let start = self.at;
        let mut rest = spelled;
        if self.opening && self.opens(opening) {
            rest = rest.strip_prefix(b" ")?;
        }
        self.opening = false;
        let left = self.text.get(start..)?.as_bytes();
        let mut used = 0;
        if left.starts_with(rest) {
            used = rest.len();
        } else {
            // The text itself may hold marks.
            for &byte in rest {
                let mark = byte == b' ' && left.get(used..)?.starts_with(MARK.as_bytes());
                used += match mark {
                    true => MARK.len(),
                    false if left.get(used) == Some(&byte) => 1,
                    false => return None,
                };
            }
        }
        self.at = start + used;
        // A mark that the text does not have stands where its first character does.
        Some((start, self.ceil(start + used.max(1))))
    }

    fn added(&mut self, content: &[u8], left: bool, right: bool) -> Option<(usize, usize)> {
        let start = self.at;
        let mut rest = self.text.get(start..)?;
        if left {
            rest = rest.trim_start();
        }
        let content = std::str::from_utf8(content).ok()?;
        rest = rest.strip_prefix(content)?;
        if right {
            rest = rest.trim_start();
        }
        self.at = self.text.len() - rest.len();
        self.opening = true;
        Some((start, self.at))
    }

    /// Whether the exact engine puts a mark here, where a stretch of text begins.
    fn opens(&self, opening: Opening) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        let marked = rest.starts_with(b" ") || rest.starts_with(MARK.as_bytes());
        match opening {
            Opening::Always => true,
            Opening::UnlessMarked => !marked,
            Opening::FirstUnlessMarked => self.at == 0 && !marked,
            Opening::Never => false,
        }
    }

    /// The beginning of the character that this byte belongs to.
    fn floor(&self, at: usize) -> usize {
        if self.text.is_char_boundary(at) {
            return at;
        }
        (0..=at).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    /// The end of the character that this byte is within or ends.
    fn ceil(&self, at: usize) -> usize {
        if self.text.is_char_boundary(at) {
            return at;
        }
        (at..self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len())
    }
}
