//! The model's tokenizer: text to tokens and back.
//!
//! A tokenizer comes with a model, from a stranger, and its library believes it. So it is looked at
//! before it is read ([`bounds`]), the library's panics become errors, texts that grow too far are
//! refused ([`growth`]), and ids that the model has no row for are never handed out.
//!
//! Two engines: tokenizers 0.23, which is what the words "the tokens of a text" mean here, and a
//! fast one that stands in for it where it is known to give the same ([`fast`]).

mod added;
mod bounds;
mod compact;
mod cuts;
mod examine;
mod fast;
mod growth;
mod kinds;
mod long;
mod patience;
mod probe;
mod rows;
mod special;
mod spelling;
mod stop_texts;
mod stream;
mod token_bytes;
mod unicode;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::{PostProcessorWrapper, Tokenizer as Inner};

use crate::error::{Context, Error, ErrorCode, Result, catch_panic};
use crate::files::{Digest, FileEntry, has_file, read_hashed, read_json_hashed};

pub use added::{AddedTokenId, AddedTokens, BaseTokenizer};
use bounds::Bounds;
pub use compact::CompactTokens;
use cuts::Cuts;
use fast::Fast;
pub use long::{Begun, TokenBudget};
use patience::Patience;
use rows::{rows, rows_with};
use special::{merge, special_names, token_ids};
pub use stop_texts::StopTexts;
pub use stream::TextStream;

/// Larger files are refused; the largest tokenizers in use have about 35 MB.
const MAX_FILE: u64 = 64 << 20;
/// What a tokenizer puts before a text; those in use put one token, or two.
const MAX_PREFIX: usize = 16;
/// The fast engine takes a moment to make, in which the exact one tokenises this many bytes.
const WORTHWHILE: usize = 256 << 10;

/// A tokenizer as `tokenizer.json` describes it, with the special tokens that
/// `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and `config.json`
/// name.
pub struct Tokenizer {
    inner: Arc<Inner>,
    fast: OnceLock<Result<Arc<Fast>, String>>,
    patience: Patience,
    /// Where long texts are taken apart, once there was one.
    cuts: OnceLock<Option<Cuts>>,
    /// The text of `tokenizer.json`, until the fast engine is made of it.
    file: Mutex<Vec<u8>>,
    /// How many bytes of text the exact engine was given while there was no fast one.
    given: AtomicUsize,
    digest: Digest,
    prefix: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    stops: BTreeSet<u32>,
    special: BTreeSet<u32>,
    names: BTreeMap<String, String>,
    vocabulary: usize,
    /// The same without added tokens.
    own_vocabulary: usize,
    /// How far a text may grow while it is normalized.
    growth: f64,
    /// Rows of the model's embedding, if `config.json` is there and tells.
    embedding: Option<u32>,
    /// What was added to the tokenizer of the files.
    added: Vec<AddedTokenId>,
    files: Vec<FileEntry>,
}

/// The tokens of a text, and where in the text each begins and ends, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Byte ranges of the text; a character of several tokens is the range of each of them.
    pub offsets: Vec<(usize, usize)>,
}

impl Tokenizer {
    /// Reads the tokenizer of a model directory.
    pub fn load(model_dir: &Path) -> Result<Self> {
        Self::load_with(model_dir, &AddedTokens::default())
    }

    /// The same with tokens beside its own, for which the embedding will have rows.
    ///
    /// # Errors
    /// Those of [`Self::load`], and when they cannot be added.
    pub fn load_with(model_dir: &Path, tokens: &AddedTokens) -> Result<Self> {
        let path = model_dir.join("tokenizer.json");
        let size = std::fs::metadata(&path)
            .map_err(|error| {
                Error::tokenizer("the model has no tokenizer")
                    .at(&path)
                    .because(error)
                    .hint("`tokenizer.json` is needed; `tokenizer.model` and others are not read")
            })?
            .len();
        if size > MAX_FILE {
            return Err(
                Error::tokenizer(format!("a tokenizer of {size} bytes is refused")).at(&path)
            );
        }
        let (mut bytes, entry) = read_hashed(&path, "tokenizer.json", MAX_FILE)?;
        let refused = "the tokenizer is refused";
        let mut bounds = Bounds::of(&bytes).context_at(refused, &path)?;
        let mut added = Vec::new();
        if !tokens.is_empty() {
            (bytes, added) = tokens.put_into(&bytes).map_err(|error| error.at(&path))?;
            bounds = Bounds::of(&bytes).context_at(refused, &path)?;
        }
        let inner = guarded("read the tokenizer", || Inner::from_bytes(&bytes))
            .and_then(|read| read.context_code(ErrorCode::Tokenizer, "not a valid tokenizer"))
            .map_err(|error| error.at(&path))?;
        let [config, generation, model] =
            ["tokenizer_config.json", "generation_config.json", "config.json"]
                .map(|name| read_optional(model_dir, name));
        let (mut config, config_entry) = config?;
        // As transformers does: the older file counts where the newer one lists no added tokens.
        let map_entry = match config.get("added_tokens_decoder") {
            Some(_) => None,
            None => {
                let (map, entry) = read_optional(model_dir, "special_tokens_map.json")?;
                merge(&mut config, map);
                entry
            }
        };
        let (generation, model) = (generation?.0, model?.0);
        let embedding = rows(&model).map(|rows| rows_with(rows, &added));
        let made = || Self::new(inner, bytes, &config, &[generation, model]);
        let files = [Some(entry), config_entry, map_entry].into_iter().flatten().collect();
        let tokenizer = guarded("look at the tokenizer", made).and_then(|made| {
            let made = Self { files, added, growth: bounds.growth, ..made? };
            match embedding {
                Some(rows) => made.for_rows(rows),
                None => Ok(made),
            }
        });
        tokenizer.map_err(|error| error.at(&path))
    }

    fn new(mut inner: Inner, file: Vec<u8>, config: &Value, models: &[Value]) -> Result<Self> {
        make_plain(&mut inner)?;
        let prefix = take_prefix(&mut inner)?;
        let names = special_names(config);
        let named = |name: &str| names.get(name).and_then(|text| inner.token_to_id(text));
        let ids = |name: &'static str| models.iter().flat_map(move |model| token_ids(&model[name]));
        let bos = named("bos_token").or_else(|| ids("bos_token_id").next());
        let eos = named("eos_token").or_else(|| ids("eos_token_id").next());
        let stops = ids("eos_token_id").chain(eos).collect();
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        let (mut vocabulary, mut own_vocabulary) = (0, 0);
        for id in inner.get_vocab(true).into_values() {
            vocabulary = vocabulary.max(id as usize + 1);
            if !added.contains_key(&id) {
                own_vocabulary = own_vocabulary.max(id as usize + 1);
            }
        }
        Ok(Self {
            patience: Patience::of(&inner),
            inner: Arc::new(inner),
            fast: OnceLock::new(),
            cuts: OnceLock::new(),
            digest: Digest::of(&file),
            file: Mutex::new(file),
            given: AtomicUsize::new(0),
            prefix,
            bos,
            eos,
            stops,
            special,
            names,
            vocabulary,
            own_vocabulary,
            growth: 1.0,
            embedding: None,
            added: Vec::new(),
            files: Vec::new(),
        })
    }

    /// The tokens of a text that is not taken apart.
    fn encode_at_once(&self, text: &str) -> Result<Encoded> {
        if self.fast.get().is_none() {
            let given = self.given.fetch_add(text.len(), Ordering::Relaxed);
            if given.saturating_add(text.len()) < WORTHWHILE {
                return self.encode_exactly(text);
            }
        }
        let _alone = self.patience.alone(text);
        match self.fast().ok().map(|fast| self.encode_fast(fast, text)).transpose()?.flatten() {
            Some(encoded) => self.fits(&encoded.tokens).map(|()| encoded),
            None => self.encode_alone(text),
        }
    }

    fn encode_fast(&self, fast: &Arc<Fast>, text: &str) -> Result<Option<Encoded>> {
        if !self.patience.is_needed() {
            return Ok(fast.encode(text));
        }
        let (fast, text) = (fast.clone(), text.to_owned());
        self.patience.wait(text.len(), move || fast.encode(&text))
    }

    /// So much text is about to come: if it is worth while, the fast engine is made now.
    pub fn expect(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes >= WORTHWHILE {
            let _ = self.fast(); // where there is none, the exact one tokenises
        }
    }

    /// As [`Self::encode`], by the exact engine: for a single text, and to compare with.
    pub fn encode_exactly(&self, text: &str) -> Result<Encoded> {
        let _alone = self.patience.alone(text);
        self.encode_alone(text)
    }

    fn encode_alone(&self, text: &str) -> Result<Encoded> {
        growth::check(self.inner.get_normalizer(), self.growth, text)
            .context_code(ErrorCode::Tokenizer, "the text cannot be tokenised within the limits")?;
        let encoded = match self.patience.is_needed() {
            false => encode_exactly(&self.inner, text)?,
            true => {
                let (inner, text) = (self.inner.clone(), text.to_owned());
                self.patience.wait(text.len(), move || encode_exactly(&inner, &text))??
            }
        };
        self.fits(&encoded.tokens).map(|()| encoded)
    }

    /// Which engine tokenises where there is much text, and why: for people.
    pub fn engine(&self) -> String {
        match self.fast() {
            Ok(fast) if fast.failed() => "exact, since the fast engine failed".to_owned(),
            Ok(_) => "fast".to_owned(),
            Err(reason) => format!("exact, since {reason}"),
        }
    }

    fn fast(&self) -> Result<&Arc<Fast>, &str> {
        let made = self.fast.get_or_init(|| {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let (inner, digest) = (self.inner.clone(), self.digest);
            let file = std::mem::take(&mut *file);
            let make = move || Fast::new(&inner, &file, digest).map(Arc::new);
            match self.patience.is_needed() {
                false => make(),
                true => self.patience.wait(0, make).map_err(|error| error.into_what())?,
            }
        });
        made.as_ref().map_err(String::as_str)
    }

    /// What the tokenizer puts before a plain text, as its post-processor says: the token that
    /// begins a text, or nothing.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The text of tokens; incomplete characters at the end become replacement characters.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String> {
        guarded("write the tokens as text", || self.inner.decode(tokens, skip_special))?
            .context_code(ErrorCode::Tokenizer, "cannot write the tokens as text")
    }

    /// The text of one token, for people.
    pub fn token_name(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// The id of a token.
    pub fn token_id(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(name)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokens at which generation ends, as the model's files say.
    pub fn stops(&self) -> &BTreeSet<u32> {
        &self.stops
    }

    /// One more than the largest token id.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary
    }

    /// The same without added tokens: what the model must have rows for.
    pub fn own_vocabulary_size(&self) -> usize {
        self.own_vocabulary
    }

    /// `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`, as far as they are
    /// there and used, with the digests of the bytes that were used.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The digest of the text of `tokenizer.json`, with the tokens that were added.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn encode_exactly(inner: &Inner, text: &str) -> Result<Encoded> {
    // `encode` counts offsets in bytes; `encode_char_offsets` would count characters.
    let encoding = guarded("tokenise the text", || inner.encode(text, false))?
        .context_code(ErrorCode::Tokenizer, "cannot tokenise the text")?;
    let tokens = encoding.get_ids().to_vec();
    Ok(Encoded { tokens, offsets: encoding.get_offsets().to_vec() })
}

/// Removes what would make the tokens depend on more than the text.
fn make_plain(inner: &mut Inner) -> Result<()> {
    inner.with_truncation(None).context("cannot switch truncation off")?;
    inner.with_padding(None);
    if let ModelWrapper::BPE(model) = inner.get_model()
        && model.dropout.is_some()
    {
        let mut model = model.clone();
        model.dropout = None;
        inner.with_model(model);
    }
    Ok(())
}

/// Takes the post-processor off and returns what it puts before a text.
///
/// It must go, not only be told to add nothing: some kinds move the offsets of tokens past their
/// leading spaces even then.
fn take_prefix(inner: &mut Inner) -> Result<Vec<u32>> {
    let ids = |inner: &Inner| -> Result<Vec<u32>> {
        Ok(inner.encode("a", true).context("cannot tokenise the text")?.get_ids().to_vec())
    };
    let with = ids(inner)?;
    inner.with_post_processor(None::<PostProcessorWrapper>);
    let without = ids(inner)?;
    let start = with.windows(without.len().max(1)).position(|part| part == without);
    if start.is_some_and(|start| start > MAX_PREFIX) {
        return Err(Error::tokenizer(format!(
            "the tokenizer puts more than {MAX_PREFIX} tokens before a text"
        )));
    }
    Ok(start.map_or_else(Vec::new, |start| with[..start].to_vec()))
}

/// Has the library do something; `what` completes "the tokenizer library cannot".
fn guarded<T>(what: &str, work: impl FnOnce() -> T) -> Result<T> {
    catch_panic(work).map_err(|why| {
        Error::tokenizer(format!("the tokenizer library cannot {what}")).because(why)
    })
}

fn read_optional(model_dir: &Path, name: &str) -> Result<(Value, Option<FileEntry>)> {
    let path = model_dir.join(name);
    if !has_file(&path)? {
        return Ok((Value::Null, None));
    }
    read_json_hashed(&path, name, MAX_FILE).map(|(value, entry)| (value, Some(entry)))
}

#[cfg(test)]
mod parity_tests;
#[cfg(test)]
mod tests;
