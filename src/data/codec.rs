//! How a model reads and writes text: its tokenizer and, for a chat model, its chat template.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::formats::Conversation;
use super::mask::PROBE;
use super::renderer::TemplateRenderer;
use super::template::ChatTemplate;
use super::tokens::{Encoded, Tokenizer};
use crate::error::{Error, Result};
use crate::files::Digest;

/// The digest of a model's own chat template, if it has one.
pub fn chat_template_digest(model_dir: &Path) -> Result<Option<Digest>> {
    Ok(Codec::load(model_dir, None)?.template.as_ref().map(TemplateRenderer::digest))
}

/// A tokenizer with the chat template that goes with it.
pub struct Codec {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Conversations to text; base models have none.
    pub template: Option<TemplateRenderer>,
    stops: BTreeSet<u32>,
    end_of_turn: Option<u32>,
    generation_prompt: bool,
}

impl Codec {
    /// Reads the tokenizer and the template of a model directory; `chat_template` is a file to use
    /// in place of the model's own.
    pub fn load(model_dir: &Path, chat_template: Option<&Path>) -> Result<Self> {
        Self::with(Tokenizer::load(model_dir)?, model_dir, chat_template)
    }

    /// The same for a model with so many rows in its embedding, to which the directory may not
    /// belong: tokens without a row are refused.
    pub fn load_for(rows: usize, model_dir: &Path, chat_template: Option<&Path>) -> Result<Self> {
        let tokenizer = Tokenizer::load(model_dir)?.for_rows(rows);
        let tokenizer = tokenizer.map_err(|error| error.at(model_dir))?;
        Self::with(tokenizer, model_dir, chat_template)
    }

    fn with(tokenizer: Tokenizer, model_dir: &Path, chat_template: Option<&Path>) -> Result<Self> {
        let names = tokenizer.special_names().clone();
        let template = ChatTemplate::find(model_dir, chat_template)?
            .map(|text| TemplateRenderer::new(text, names))
            .transpose()?;
        let stops = tokenizer.stops().clone();
        let mut codec =
            Self { tokenizer, template, stops, end_of_turn: None, generation_prompt: false };
        // A template that goes beyond its limits is found out here, before anything is done.
        codec.end_of_turn = codec.find_end_of_turn()?;
        codec.generation_prompt = codec.writes_generation_prompt()?;
        codec.stops.extend(codec.end_of_turn);
        Ok(codec)
    }

    /// The digest of all that decides how a text becomes tokens.
    pub fn fingerprint(&self) -> Digest {
        let tokenizer = &self.tokenizer;
        let all = json!({
            "tokenizer": tokenizer.digest(),
            "prefix": tokenizer.prefix(),
            "special": [tokenizer.bos(), tokenizer.eos()],
            "names": tokenizer.special_names(),
            "template": self.template.as_ref().map(TemplateRenderer::digest),
        });
        Digest::of(all.to_string().as_bytes())
    }

    /// The template, or an error that says that one is needed.
    pub fn chat_template(&self) -> Result<&TemplateRenderer> {
        self.template.as_ref().ok_or_else(|| {
            Error::new("the model has no chat template, and conversations need one")
                .hint("name one as `data.chat_template`, or write the records as `completion`")
        })
    }

    /// The token that ends the assistant's turn, if the template writes one.
    pub fn end_of_turn(&self) -> Option<u32> {
        self.end_of_turn
    }

    fn find_end_of_turn(&self) -> Result<Option<u32>> {
        let Some(template) = &self.template else { return Ok(None) };
        let messages = vec![
            json!({ "role": "user", "content": "a" }),
            json!({ "role": "assistant", "content": PROBE }),
        ];
        let conversation = Conversation { messages, ..Conversation::default() };
        // A template that refuses this conversation may write others.
        let Ok(text) = template.write(&conversation, 2, false)? else { return Ok(None) };
        let Some((_, after)) = text.split_once(PROBE) else { return Ok(None) };
        let Ok(encoded) = self.tokenizer.encode(after) else { return Ok(None) };
        Ok(encoded.tokens.into_iter().find(|&token| self.tokenizer.is_special(token)))
    }

    /// Whether the template can write what introduces the assistant's turn.
    pub fn has_generation_prompt(&self) -> bool {
        self.generation_prompt
    }

    fn writes_generation_prompt(&self) -> Result<bool> {
        let Some(template) = &self.template else { return Ok(false) };
        let messages = vec![json!({ "role": "user", "content": "a" })];
        let conversation = Conversation { messages, ..Conversation::default() };
        let write = |generation| template.write(&conversation, 1, generation);
        Ok(write(true)?.ok() != write(false)?.ok())
    }

    /// The tokens at which generation ends: those that the model's files name, and the one that
    /// ends the assistant's turn.
    pub fn stops(&self) -> &BTreeSet<u32> {
        &self.stops
    }

    /// The text that asks the model to answer one turn of a user.
    pub fn chat_prompt(&self, user: &str) -> Result<String> {
        let messages = vec![json!({ "role": "user", "content": user })];
        let conversation = Conversation { messages, ..Conversation::default() };
        let template = self.chat_template()?;
        template.write(&conversation, 1, true)?.map_err(|reason| {
            Error::new("the chat template refuses the prompt").at(template.origin()).because(reason)
        })
    }

    /// The tokens that ask the model to answer one turn of a user.
    pub fn chat_tokens(&self, user: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode(&self.chat_prompt(user)?)?.tokens)
    }

    /// The tokens of a plain text that the model is to go on with.
    pub fn text_tokens(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_plain(text)?.tokens)
    }

    /// The tokens of a prompt: a turn of a chat where the model has a template, else plain text.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        if self.template.is_some() { self.chat_tokens(text) } else { self.text_tokens(text) }
    }

    /// Plain text, begun as the tokenizer begins a text.
    pub(super) fn encode_plain(&self, text: &str) -> Result<Encoded> {
        let mut encoded = self.tokenizer.encode(text)?;
        let prefix = self.tokenizer.prefix();
        encoded.tokens.splice(0..0, prefix.iter().copied());
        encoded.offsets.splice(0..0, prefix.iter().map(|_| (0, 0)));
        Ok(encoded)
    }
}
