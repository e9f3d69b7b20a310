//! How long a text can become on its way through the parts of a tokenizer.
//!
//! Worked out from the parts: each has a factor, and a sequence the product of its steps' factors.
//! It is an upper bound; what real tokenizers have stays far below the limits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

/// Normalizers in use have 3 to 600; what is above [`CERTAIN`] is watched while it happens.
const MAX_NORMALIZER: f64 = 1024.0;
/// Pre-tokenizers in use have up to 6.
const MAX_PRE_TOKENIZER: f64 = 64.0;
/// Decoders in use have up to 3.
const MAX_DECODER: f64 = 64.0;
/// Texts may grow so far without being watched.
const CERTAIN: f64 = 16.0;
/// And to so many bytes, of which each takes some 40 of memory.
const CERTAIN_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
/// A text is tried out in pieces of so many bytes.
const PIECE: usize = 1024;

/// How far a normalizer lets a text grow.
///
/// # Errors
/// In a sentence, when that is too far, or when a part is not valid.
pub fn of_normalizer(part: &Value) -> Result<f64, String> {
    within(part, "normalizers", &normalizer, MAX_NORMALIZER, "normalizer")
}

/// How far a pre-tokenizer lets a text grow.
///
/// # Errors
/// In a sentence, when that is too far.
pub fn of_pre_tokenizer(part: &Value) -> Result<(), String> {
    within(part, "pretokenizers", &pre_tokenizer, MAX_PRE_TOKENIZER, "pre-tokenizer").map(|_| ())
}

/// How far a decoder lets a token grow.
///
/// # Errors
/// In a sentence, when that is too far, or when a part is not valid.
pub fn of_decoder(part: &Value) -> Result<(), String> {
    within(part, "decoders", &decoder, MAX_DECODER, "decoder").map(|_| ())
}

type Factor = dyn Fn(&Value, &str) -> Result<f64, String>;

fn within(
    part: &Value,
    steps: &str,
    factor: &Factor,
    most: f64,
    what: &str,
) -> Result<f64, String> {
    let growth = of(part, steps, factor)?;
    match growth > most {
        true => Err(format!(
            "its {what} can make a text {growth:.0} times as long; at most {most} are accepted"
        )),
        false => Ok(growth),
    }
}

fn of(part: &Value, steps: &str, factor: &Factor) -> Result<f64, String> {
    match part["type"].as_str() {
        Some("Sequence") => {
            let steps_of = part[steps].as_array().map_or(&[][..], Vec::as_slice);
            // What makes a text shorter does not make up for what makes it longer: another text
            // may have nothing for it to shorten.
            steps_of.iter().try_fold(1.0, |all, step| Ok(all * of(step, steps, factor)?))
        }
        Some(kind) => Ok(factor(part, kind)?.max(1.0)),
        None if part.is_null() => Ok(1.0),
        // The library would guess.
        None => Err("a part of it does not say its `type`".to_owned()),
    }
}

fn normalizer(part: &Value, kind: &str) -> Result<f64, String> {
    Ok(match kind {
        "Replace" => replace(part)?,
        // Before every stretch of text between added tokens, of which the shortest has one byte.
        "Prepend" => 1.0 + bytes(&part["prepend"]),
        // U+0390 has six bytes instead of two in its decomposed form.
        "NFC" | "NFD" => 3.0,
        // U+FDFA has 33 bytes instead of three.
        "NFKC" | "NFKD" => 11.0,
        "Lowercase" => 1.5,
        // Accents apart, and spaces around Chinese characters.
        "BertNormalizer" => 5.0,
        "ByteLevel" => 2.0,
        "Precompiled" => characters(part["precompiled_charsmap"].as_str().unwrap_or_default())?,
        _ => 1.0,
    })
}

fn pre_tokenizer(part: &Value, kind: &str) -> Result<f64, String> {
    Ok(match kind {
        // A space before every stretch, and then two bytes for each.
        "ByteLevel" if part["add_prefix_space"] == false => 2.0,
        "ByteLevel" => 4.0,
        "Metaspace" => 2.0 * bytes(&part["replacement"]),
        _ => 1.0,
    })
}

fn decoder(part: &Value, kind: &str) -> Result<f64, String> {
    Ok(match kind {
        "Replace" => replace(part)?,
        // Bytes that are no text become replacement characters.
        "ByteLevel" => 3.0,
        "BPEDecoder" if part["suffix"] == "" => 2.0,
        "WordPiece" | "CTC" => 2.0,
        _ => 1.0,
    })
}

#[expect(clippy::cast_precision_loss)] // lengths of texts
fn bytes(text: &Value) -> f64 {
    text.as_str().map_or(0, str::len) as f64
}

/// A pattern is replaced wherever it is found.
fn replace(part: &Value) -> Result<f64, String> {
    let content = bytes(&part["content"]);
    let pattern = &part["pattern"];
    if let Some(text) = pattern["String"].as_str() {
        if text.is_empty() {
            return Err("it replaces an empty text, which is everywhere".to_owned());
        }
        return Ok(content / bytes(&pattern["String"]));
    }
    match pattern["Regex"].as_str() {
        Some("") => Err("it replaces an empty pattern, which is everywhere".to_owned()),
        // It may match one byte, or none between two.
        _ => Ok(1.0 + content),
    }
}

/// The map of characters of SentencePiece: a length, a trie of that many bytes, and texts that end
/// with a zero byte each.
fn characters(map: &str) -> Result<f64, String> {
    let wrong = |why: &str| format!("its map of characters (`precompiled_charsmap`) {why}");
    let map = STANDARD.decode(map).map_err(|_| wrong("is not base64"))?;
    let Some((length, rest)) = map.split_first_chunk::<4>() else {
        return Err(wrong("is empty"));
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length == 0 || length % 4 != 0 || length > rest.len() {
        let has = rest.len();
        return Err(wrong(&format!("says that its trie has {length} bytes, and has {has}")));
    }
    let texts = std::str::from_utf8(rest.get(length..).unwrap_or_default());
    let texts = texts.map_err(|_| wrong("holds texts that are not UTF-8"))?;
    let longest = texts.split('\0').map(str::len).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss)] // the length of a text
    let growth = longest as f64;
    Ok(growth)
}

/// Tries out how far a text grows, where it could by more than is certain to be harmless.
///
/// # Errors
/// In a sentence, when it grows too far.
pub fn check(
    normalizer: Option<&NormalizerWrapper>,
    growth: f64,
    text: &str,
) -> Result<(), String> {
    #[expect(clippy::cast_precision_loss)] // the length of a text
    let length = text.len() as f64;
    let could_be = length * growth;
    let Some(normalizer) = normalizer.filter(|_| growth > CERTAIN && could_be > CERTAIN_BYTES)
    else {
        return Ok(());
    };
    let mut rest = text;
    let mut grown = 0.0;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
        let mut normalized = NormalizedString::from(piece);
        normalizer.normalize(&mut normalized).map_err(|error| error.to_string())?;
        #[expect(clippy::cast_precision_loss)] // the length of a text
        let more = normalized.get().len() as f64;
        grown += more;
        if grown > CERTAIN * length {
            return Err(format!(
                "a text of {length} bytes becomes more than {CERTAIN} times as long in the \
                 normalizer"
            ));
        }
        rest = after;
    }
    Ok(())
}
