//! The fast engine: tokenizers 1.0, a release candidate, thirty times as fast as the exact one.
//!
//! It gives no offsets, and its results are not taken on trust: it is used only for kinds of
//! tokenizers for which tests show that it gives the exact engine's tokens ([`super::kinds`]),
//! only if it does so for a text of ours, and only where its tokens spell the text
//! ([`super::spelling`]). Everything else is left to the exact engine.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokenizers_fast::pipeline::{EncodeOptions, PipelineToken, PipelineTokenizer};

use super::spelling::{Spelling, letter_of};
use super::unicode::has_unknown;
use super::{Encoded, Inner, encode_exactly, kinds, probe};
use crate::error::catch_panic;
use crate::files::{Digest, cache_home, write_atomic};

/// The form of `tokenizer.json` in the cache: the version of the fast engine, and of [`converted`].
const VERSION: &str = "1.0.0-rc.3-1";

/// The fast engine for one tokenizer.
pub struct Fast {
    pipeline: PipelineTokenizer,
    spelling: Spelling,
    options: EncodeOptions,
    failed: AtomicBool,
}

impl Fast {
    /// Makes the engine for a tokenizer, or says why it cannot be used; `file` is the text of
    /// `tokenizer.json`.
    pub fn new(exact: &Inner, file: &[u8], digest: Digest) -> Result<Self, String> {
        let kind = catch_panic(|| kinds::kind(exact))??;
        let make = || {
            let text = converted(file, digest)?;
            tokenizers_fast::from_json(&text).map_err(|error| error.to_string())
        };
        // Each takes about as long, and nothing else can be tokenised meanwhile.
        let (made, spelling, expected) = std::thread::scope(|scope| {
            let spelling = scope.spawn(|| catch_panic(|| Spelling::new(exact, kind)));
            let expected = scope.spawn(|| expected(exact));
            let made = catch_panic(make);
            (made, spelling.join(), expected.join())
        });
        let failed = "the fast engine failed to read it";
        let fast = Self {
            pipeline: made.map_err(|_| failed.to_owned())??,
            spelling: spelling.map_err(|_| failed.to_owned())?.map_err(|_| failed.to_owned())?,
            options: EncodeOptions::no_specials(),
            failed: AtomicBool::new(false),
        };
        fast.check(&expected.map_err(|_| failed.to_owned())??)?;
        Ok(fast)
    }

    /// Compares it with what the exact engine makes of texts of ours.
    fn check(&self, texts: &[(String, Encoded)]) -> Result<(), String> {
        let mut spelled = 0;
        for (text, expected) in texts {
            let tokens = self.tokens(text).ok_or("the fast engine fails on a common text")?;
            // Texts with unknown characters, or that normalizing changes, are for the exact engine.
            let Some(offsets) = self.spelling.offsets(text, &tokens) else { continue };
            spelled += 1;
            if (Encoded { tokens, offsets }) != *expected {
                return Err("the fast engine gives other tokens for a common text".to_owned());
            }
        }
        match spelled * 2 > texts.len() {
            true => Ok(()),
            false => Err("the fast engine's tokens do not spell common texts".to_owned()),
        }
    }

    /// The tokens of a text; `None` if the exact engine must say.
    pub fn encode(&self, text: &str) -> Option<Encoded> {
        if has_unknown(text) {
            return None;
        }
        let tokens = self.tokens(text)?;
        let offsets = self.spelling.offsets(text, &tokens)?;
        Some(Encoded { tokens, offsets })
    }

    fn tokens(&self, text: &str) -> Option<Vec<u32>> {
        if self.failed() {
            return None;
        }
        thread_local! {
            /// Filled again and again, since asking for memory would take longer.
            static FOUND: RefCell<Vec<PipelineToken>> = const { RefCell::new(Vec::new()) };
        }
        let encode = || {
            FOUND.with_borrow_mut(|found| {
                found.clear();
                self.pipeline.encode_into(text, &self.options, found).ok()?;
                Some(PipelineToken::cast_slice(found).to_vec())
            })
        };
        catch_panic(encode).unwrap_or_else(|_| {
            // What it keeps between texts may be broken now.
            self.failed.store(true, Ordering::Relaxed);
            None
        })
    }

    /// Whether it broke down; then it is not asked again.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Texts of ours, and what the exact engine makes of them.
fn expected(exact: &Inner) -> Result<Vec<(String, Encoded)>, String> {
    let encode = |text: String| {
        let encoded = encode_exactly(exact, &text).map_err(|error| error.to_string())?;
        Ok((text, encoded))
    };
    probe::texts(exact).into_iter().map(encode).collect()
}

/// The text of `tokenizer.json` in the form that the fast engine reads: from the cache, else made.
fn converted(file: &[u8], digest: Digest) -> Result<String, String> {
    let path = place(digest);
    if let Some(text) = path.as_deref().and_then(|path| recall(&std::fs::read(path).ok()?)) {
        return Ok(text);
    }
    let mut json: Value = serde_json::from_slice(file).map_err(|error| error.to_string())?;
    strip(&mut json);
    tokenizers_fast::canonicalize_value(&mut json).map_err(|error| error.to_string())?;
    complete(&mut json);
    let text = json.to_string();
    if let Some(path) = path {
        // Without a cache it is made again next time.
        let _ = remember(&path, &text);
    }
    Ok(text)
}

/// Takes away what is not asked of the fast engine, as `make_plain` and `take_prefix` do.
fn strip(json: &mut Value) {
    if let Some(fields) = json.as_object_mut() {
        for name in ["truncation", "padding", "post_processor", "decoder"] {
            fields.insert(name.to_owned(), Value::Null);
        }
        if let Some(model) = fields.get_mut("model").and_then(Value::as_object_mut) {
            model.remove("dropout");
        }
    }
}

/// Gives every byte a token in a byte-level vocabulary that lacks some, since the fast engine asks
/// for all. The new ids are past the vocabulary: a text with such bytes is never spelled by known
/// tokens, and so goes to the exact engine.
fn complete(json: &mut Value) {
    let added = json["added_tokens"].as_array().cloned().unwrap_or_default();
    let model = &mut json["model"];
    if model["byte_level"] != true {
        return;
    }
    let Some(vocabulary) = model.get_mut("vocab").and_then(Value::as_object_mut) else { return };
    // It numbers the added tokens that the vocabulary lacks by the vocabulary's size.
    let inside = |token: &Value| {
        let content = token["content"].as_str().unwrap_or_default();
        vocabulary.get(content).is_some_and(|id| *id == token["id"])
    };
    if !added.iter().all(inside) {
        return;
    }
    let mut next = vocabulary.values().filter_map(Value::as_u64).max().map_or(0, |last| last + 1);
    for byte in 0..=255 {
        if let serde_json::map::Entry::Vacant(entry) = vocabulary.entry(letter_of(byte)) {
            entry.insert(next.into());
            next += 1;
        }
    }
}

fn place(digest: Digest) -> Option<PathBuf> {
    Some(cache_home().ok()?.join("tokenizers").join(VERSION).join(format!("{digest}.json")))
}

/// A cached text stands behind its digest, on a line of its own.
fn recall(bytes: &[u8]) -> Option<String> {
    let (head, text) = bytes.split_at_checked(65)?;
    let expected = std::str::from_utf8(head).ok()?.strip_suffix('\n')?;
    let text = std::str::from_utf8(text).ok()?;
    (expected == Digest::of(text.as_bytes()).to_string()).then(|| text.to_owned())
}

fn remember(path: &std::path::Path, text: &str) -> crate::error::Result<()> {
    // Threads of one process would write the same scratch file.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock();
    let folder = crate::files::folder_of(path);
    std::fs::create_dir_all(folder).map_err(|error| {
        crate::error::Error::file("cannot make the folder").at(folder).because(error)
    })?;
    let digest = Digest::of(text.as_bytes());
    write_atomic(path, format!("{digest}\n{text}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_text_is_used_only_if_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c.json");
        remember(&path, "{\"größe\": 1}").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(recall(&bytes).unwrap(), "{\"größe\": 1}");
        for broken in [&bytes[..bytes.len() - 1], &bytes[1..], &bytes[..60], b"", &[0xff; 80]] {
            assert_eq!(recall(broken), None);
        }
    }
}
