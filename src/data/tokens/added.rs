//! Tokens that a tokenizer gets beside its own (`model.add_tokens`, `model.add_special_tokens`), as
//! `add_tokens` of transformers adds them: a known one stays what it is, the others get the next
//! ids.
//!
//! They are put into the text of `tokenizer.json`, so that whatever reads it knows them, and its
//! digest tells of them.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::bounds::MAX_ADDED;
use super::{MAX_FILE, Tokenizer, guarded, read_optional};
use crate::config::ModelConfig;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{read_bytes, write_atomic};

/// Most tokens that a run may add: those of several codebooks of audio are some ten thousand.
const ADDED_MAX: usize = 1 << 16;

/// Tokens to be added, in the order in which they get their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddedTokens {
    /// Text, and whether it is special.
    tokens: Vec<(String, bool)>,
}

/// What became of a token that was to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedTokenId {
    /// How it is written.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// Whether the tokenizer did not have it.
    pub is_new: bool,
}

impl AddedTokens {
    /// Those of a run: first the plain ones, as LLaMA-Factory has it.
    ///
    /// # Errors
    /// When one is named twice, or there are too many.
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let plain = config.add_tokens.iter().map(|text| (text.clone(), false));
        let special = config.add_special_tokens.iter().map(|text| (text.clone(), true));
        let tokens: Vec<(String, bool)> = plain.chain(special).collect();
        let mut seen = BTreeSet::new();
        if let Some((text, _)) = tokens.iter().find(|(text, _)| !seen.insert(text)) {
            let what = format!("the token `{}` is to be added twice", text.escape_debug());
            return Err(Error::config(what).because(
                "`model.add_tokens` and `model.add_special_tokens` name each token once",
            ));
        }
        let bytes: usize = tokens.iter().map(|(text, _)| text.len()).sum();
        if bytes > MAX_ADDED {
            let what = format!("tokens of {bytes} bytes together are too many to be added");
            return Err(Error::config(what).because(format!("at most {MAX_ADDED} bytes are")));
        }
        if tokens.len() > ADDED_MAX {
            let what = format!("{} tokens are too many to be added", tokens.len());
            return Err(Error::config(what).because(format!("at most {ADDED_MAX} are")));
        }
        Ok(Self { tokens })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The text of `tokenizer.json` with them, and their ids there.
    pub(super) fn put_into(&self, file: &[u8]) -> Result<(Vec<u8>, Vec<AddedTokenId>)> {
        const INVALID: &str = "not a valid tokenizer";
        let mut json: Value =
            serde_json::from_slice(file).context_code(ErrorCode::Tokenizer, INVALID)?;
        let mut inner = guarded("read the tokenizer", || Inner::from_bytes(file))?
            .context_code(ErrorCode::Tokenizer, INVALID)?;
        let taken: BTreeSet<u32> = inner.get_vocab(true).into_values().collect();
        let before: Vec<(Option<u32>, bool)> = self
            .tokens
            .iter()
            .map(|(text, _)| {
                let listed = inner.get_added_vocabulary().get_vocab().contains_key(text);
                (inner.token_to_id(text), listed)
            })
            .collect();
        // All at once: whatever finds added tokens in a text is made anew for each call.
        let unlisted = self.tokens.iter().zip(&before).filter(|(_, (_, listed))| !listed);
        let new: Vec<AddedToken> = unlisted
            .map(|((text, special), _)| AddedToken::from(text.clone(), *special).normalized(false))
            .collect();
        guarded("add tokens", || inner.add_tokens(new))?
            .context_code(ErrorCode::Tokenizer, "the tokens cannot be added")?;
        let (mut ids, mut entries) = (Vec::new(), Vec::new());
        for ((text, special), (before, listed)) in self.tokens.iter().zip(before) {
            let quoted = text.escape_debug();
            let id = inner
                .token_to_id(text)
                .ok_or_else(|| Error::tokenizer(format!("the token `{quoted}` cannot be added")))?;
            if before.is_none() && taken.contains(&id) {
                let what = format!("the token `{quoted}` cannot be added");
                return Err(Error::tokenizer(what)
                    .because(format!("it would get the id {id}, which another token has"))
                    .hint("the ids of this tokenizer have gaps: add the token to its files"));
            }
            if !listed {
                entries.push(json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special,
                }));
            }
            ids.push(AddedTokenId { text: text.clone(), id, is_new: before.is_none() });
        }
        if entries.is_empty() {
            return Ok((file.to_vec(), ids));
        }
        match json.get_mut("added_tokens").and_then(Value::as_array_mut) {
            Some(list) => list.append(&mut entries),
            None => json["added_tokens"] = entries.into(),
        }
        Ok((format!("{json:#}\n").into_bytes(), ids))
    }

    /// Adds them to the tokenizer in a folder, with whatever other files list its added tokens.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let path = folder.join("tokenizer.json");
        let (file, ids) =
            self.put_into(&read_bytes(&path, MAX_FILE)?).map_err(|error| error.at(&path))?;
        write_atomic(&path, &file)?;
        let special: BTreeSet<&str> =
            self.tokens.iter().filter(|token| token.1).map(|token| token.0.as_str()).collect();
        change(folder, "tokenizer_config.json", |config| {
            let Some(list) = config.get_mut("added_tokens_decoder") else { return };
            for AddedTokenId { text, id, .. } in &ids {
                let (id, special) = (id.to_string(), special.contains(text.as_str()));
                if list.is_object() && list.get(&id).is_none() {
                    list[&id] = json!({
                        "content": text, "lstrip": false, "normalized": false, "rstrip": false,
                        "single_word": false, "special": special,
                    });
                }
            }
        })?;
        change(folder, "added_tokens.json", |list| {
            for AddedTokenId { text, id, .. } in &ids {
                if list.is_object() {
                    list[text] = (*id).into();
                }
            }
        })
    }
}

/// The tokenizer of a base with the tokens that a run adds, read when it is first asked for: many
/// runs ask for it with their data alone.
pub struct BaseTokenizer {
    folder: PathBuf,
    added: AddedTokens,
    read: OnceCell<Tokenizer>,
}

impl BaseTokenizer {
    /// That of a run.
    ///
    /// # Errors
    /// Those of [`AddedTokens::of`].
    pub fn of(config: &ModelConfig, folder: &Path) -> Result<Self> {
        let added = AddedTokens::of(config)?;
        Ok(Self { folder: folder.to_owned(), added, read: OnceCell::new() })
    }

    /// That of a folder, with nothing added.
    #[cfg(test)]
    pub fn plain(folder: &Path) -> Self {
        let (folder, added) = (folder.to_owned(), AddedTokens::default());
        Self { folder, added, read: OnceCell::new() }
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is added to it.
    pub fn added(&self) -> &AddedTokens {
        &self.added
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Those of [`Tokenizer::load_with`].
    pub fn get(&self) -> Result<&Tokenizer> {
        match self.read.get() {
            Some(tokenizer) => Ok(tokenizer),
            None => {
                let tokenizer = Tokenizer::load_with(&self.folder, &self.added)?;
                Ok(self.read.get_or_init(|| tokenizer))
            }
        }
    }

    /// The same for whoever keeps it.
    ///
    /// # Errors
    /// Those of [`Self::get`].
    pub fn take(self) -> Result<Tokenizer> {
        self.get()?;
        Ok(self.read.into_inner().expect("it was read just now"))
    }
}

impl Tokenizer {
    /// Tokens that were asked for beside those of its files, in their order.
    pub fn added(&self) -> &[AddedTokenId] {
        &self.added
    }
}

/// Changes a JSON file of a folder, if it is there.
fn change(folder: &Path, name: &str, with: impl FnOnce(&mut Value)) -> Result<()> {
    let (mut json, there) = read_optional(folder, name)?;
    let before = json.clone();
    with(&mut json);
    match there.is_some() && json != before {
        true => write_atomic(&folder.join(name), format!("{json:#}\n").as_bytes()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixture::model_dir;

    fn added(tokens: &[(&str, bool)]) -> AddedTokens {
        let owned = |(text, special): &(&str, bool)| ((*text).to_owned(), *special);
        AddedTokens { tokens: tokens.iter().map(owned).collect() }
    }

    #[test]
    fn new_ones_get_the_next_ids_and_known_ones_stay() {
        let before = Tokenizer::load(&model_dir()).unwrap();
        let size = u32::try_from(before.vocabulary_size()).unwrap();
        let start = before.token_id("<|im_start|>").unwrap();
        let tokens = added(&[("<tool>", false), ("<|im_start|>", true), ("<|call|>", true)]);
        let with = Tokenizer::load_with(&model_dir(), &tokens).unwrap();
        let id = |text: &str, id, is_new| AddedTokenId { text: text.to_owned(), id, is_new };
        assert_eq!(
            with.added(),
            [
                id("<tool>", size, true),
                id("<|im_start|>", start, false),
                id("<|call|>", size + 1, true)
            ]
        );
        let text = "a<tool> b<|call|>";
        let tokens = with.encode_exactly(text).unwrap().tokens;
        assert!(tokens.contains(&size) && tokens.contains(&(size + 1)));
        assert_eq!(with.decode(&tokens, false).unwrap(), text);
        assert_eq!(with.decode(&tokens, true).unwrap(), "a<tool> b");
        assert_ne!(with.digest(), before.digest());
        // What is recorded of the base are the bytes that it has.
        assert_eq!(with.files(), before.files());
    }

    #[test]
    fn one_that_would_get_the_id_of_another_is_refused() {
        let file = br#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel",
            "vocab": {"a": 0, "b": 1, "c": 3}, "unk_token": "a"}}"#;
        let error = added(&[("<tool>", false)]).put_into(file).unwrap_err().to_string();
        crate::snapshots::says(
            error,
            snapbox::str![[r#"
error[tokenizer]: the token `<tool>` cannot be added
  because it would get the id 3, which another token has

hint: the ids of this tokenizer have gaps: add the token to its files
"#]],
        );
        // Thousands take no longer than one.
        let many: Vec<String> = (0..20_000).map(|number| format!("<{number}>")).collect();
        let many: Vec<(&str, bool)> = many.iter().map(|text| (text.as_str(), false)).collect();
        let whole = br#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel",
            "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#;
        let (_, ids) = added(&many).put_into(whole).unwrap();
        assert!((2..).zip(&ids).all(|(id, token)| token.id == id && token.is_new));
    }

    #[test]
    fn the_files_of_an_artifact_have_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(model_dir().join(name), folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("added_tokens.json"), "{\"<x>\": 7}").unwrap();
        let config = r#"{"added_tokens_decoder": {"0": {"content": "<|endoftext|>"}}}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let tokens = added(&[("<tool>", false), ("<|call|>", true)]);
        let with = Tokenizer::load_with(&model_dir(), &tokens).unwrap();
        tokens.write(folder.path()).unwrap();
        let read = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(read.digest(), with.digest());
        let [tool, call] = ["<tool>", "<|call|>"].map(|text| with.token_id(text).unwrap());
        let json = |name: &str| read_optional(folder.path(), name).unwrap().0;
        let list = &json("tokenizer_config.json")["added_tokens_decoder"];
        assert_eq!(list[tool.to_string()]["content"], "<tool>");
        assert_eq!(list[call.to_string()]["special"], true);
        assert_eq!(json("added_tokens.json"), json!({"<x>": 7, "<tool>": tool, "<|call|>": call}));
        // Once more changes nothing.
        tokens.write(folder.path()).unwrap();
        assert_eq!(Tokenizer::load(folder.path()).unwrap().digest(), with.digest());
    }
}
