//! How a model reads and writes text: its tokenizer and, for a chat model, its chat template.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::formats::{Conversation, Fields};
use super::mask::PROBE;
use super::renderer::TemplateRenderer;
use super::template::Templates;
use super::tokens::{AddedTokens, Begun, TokenBudget, Tokenizer};
use crate::error::{Error, Result};
use crate::files::Digest;

/// The digest of a model's own chat template, if it has one; of several, one over all that are
/// used.
pub fn chat_template_digest(model_dir: &Path) -> Result<Option<Digest>> {
    Ok(Codec::load(model_dir, None)?.template_digest())
}

/// A tokenizer with the chat templates that go with it.
pub struct Codec {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Conversations to text; base models have none.
    pub templates: Templates<TemplateRenderer>,
    turn_ends: BTreeSet<u32>,
    answer_ends: BTreeSet<u32>,
    stops: BTreeSet<u32>,
    end_of_turn: Option<u32>,
    generation_prompt: bool,
    template_args: Fields,
}

impl Codec {
    /// Reads the tokenizer and the template of a model directory; `chat_template` is a file to use
    /// in place of the model's own.
    pub fn load(model_dir: &Path, chat_template: Option<&Path>) -> Result<Self> {
        Self::load_with(&AddedTokens::default(), model_dir, chat_template)
    }

    /// The same with tokens beside those of the tokenizer.
    pub fn load_with(
        added: &AddedTokens,
        model_dir: &Path,
        chat_template: Option<&Path>,
    ) -> Result<Self> {
        Self::with(Tokenizer::load_with(model_dir, added)?, model_dir, chat_template)
    }

    /// The same for a model with so many rows in its embedding, to which the directory may not
    /// belong: tokens without a row are refused.
    pub fn load_for(
        rows: usize,
        (model_dir, added): (&Path, &AddedTokens),
        chat_template: Option<&Path>,
    ) -> Result<Self> {
        let tokenizer = Tokenizer::load_with(model_dir, added)?.for_rows(rows);
        let tokenizer = tokenizer.map_err(|error| error.at(model_dir))?;
        Self::with(tokenizer, model_dir, chat_template)
    }

    /// The same with a tokenizer at hand.
    pub fn with(
        tokenizer: Tokenizer,
        model_dir: &Path,
        chat_template: Option<&Path>,
    ) -> Result<Self> {
        let names = tokenizer.special_names();
        let templates = Templates::find(model_dir, chat_template)?
            .try_map(|text| TemplateRenderer::new(text, names.clone()))?;
        // A template that goes beyond its limits is found out here, before anything is done.
        let ends = TurnEnds::find(&tokenizer, &templates)?;
        let generation_prompt = writes_generation_prompt(&templates)?;
        let mut stops = tokenizer.stops().clone();
        stops.extend(ends.last);
        Ok(Self {
            end_of_turn: ends.last,
            turn_ends: [ends.last, ends.inner, ends.call].into_iter().flatten().collect(),
            answer_ends: [ends.last, ends.call, tokenizer.eos()].into_iter().flatten().collect(),
            generation_prompt,
            template_args: Fields::new(),
            stops,
            tokenizer,
            templates,
        })
    }

    /// Hands these names to the chat template with every prompt (`data.template_args`).
    #[must_use]
    pub fn with_template_args(
        mut self,
        template_args: impl IntoIterator<Item = (String, Value)>,
    ) -> Self {
        self.template_args = template_args.into_iter().collect();
        self
    }

    /// What the chat template is handed with every prompt.
    pub fn template_args(&self) -> &Fields {
        &self.template_args
    }

    /// The digest of all that decides how a text becomes tokens.
    pub fn fingerprint(&self) -> Digest {
        let tokenizer = &self.tokenizer;
        let mut all = json!({
            "tokenizer": tokenizer.digest(),
            "prefix": tokenizer.prefix(),
            "special": [tokenizer.bos(), tokenizer.eos()],
            "names": tokenizer.special_names(),
            "template": self.templates.default.as_ref().map(TemplateRenderer::digest),
        });
        if let Some(template) = &self.templates.tool_use {
            all["tool_use"] = json!(template.digest());
        }
        Digest::of(all.to_string().as_bytes())
    }

    /// The digest of the chat template; of several, one over all that are used.
    pub fn template_digest(&self) -> Option<Digest> {
        let digest = |one: &Option<TemplateRenderer>| one.as_ref().map(TemplateRenderer::digest);
        let default = digest(&self.templates.default);
        match digest(&self.templates.tool_use) {
            None => default,
            tool_use => {
                let all = json!({ "default": default, "tool_use": tool_use });
                Some(Digest::of(all.to_string().as_bytes()))
            }
        }
    }

    /// The template for conversations without tools, or an error that says that one is needed.
    pub fn chat_template(&self) -> Result<&TemplateRenderer> {
        self.template_for(false)
    }

    /// The template for conversations with or without tools, or an error that says that one is
    /// needed.
    pub fn template_for(&self, has_tools: bool) -> Result<&TemplateRenderer> {
        self.templates.of(has_tools).ok_or_else(|| match &self.templates.tool_use {
            Some(_) => Error::tokenizer(
                "the model's only chat template is `tool_use`, and this conversation has no tools",
            )
            .hint("name one for all conversations as `data.chat_template`"),
            None => Error::template("the model has no chat template, and conversations need one")
                .hint("name one as `data.chat_template`, or write the records as `completion`"),
        })
    }

    /// The token that ends the assistant's turn, if the template writes one.
    pub fn end_of_turn(&self) -> Option<u32> {
        self.end_of_turn
    }

    /// The tokens that end a turn of the assistant: the last one, one that others follow, one that
    /// calls a tool. Most templates have one token for all.
    pub fn turn_ends(&self) -> &BTreeSet<u32> {
        &self.turn_ends
    }

    /// The tokens at which generation has to end if they were targets: those that end an answer or
    /// a call of a tool where nothing follows, and the one that ends a text.
    pub fn answer_ends(&self) -> &BTreeSet<u32> {
        &self.answer_ends
    }

    /// Whether the template can write what introduces the assistant's turn.
    pub fn has_generation_prompt(&self) -> bool {
        self.generation_prompt
    }

    /// The tokens at which generation ends: those that the model's files name, and the one that
    /// ends the assistant's turn.
    pub fn stops(&self) -> &BTreeSet<u32> {
        &self.stops
    }

    /// The text that asks the model to answer one turn of a user.
    pub fn chat_prompt(&self, user: &str) -> Result<String> {
        self.conversation_prompt(vec![json!({ "role": "user", "content": user })])
    }

    /// The text that asks the model to answer a conversation.
    fn conversation_prompt(&self, messages: Vec<Value>) -> Result<String> {
        let turns = messages.len();
        let template_args = self.template_args.clone();
        let conversation = Conversation { messages, template_args, ..Conversation::default() };
        let template = self.chat_template()?;
        template.write(&conversation, turns, true)?.map_err(|reason| {
            Error::template("the chat template refuses the prompt")
                .at(template.origin())
                .because(reason)
        })
    }

    /// The tokens that ask the model to answer one turn of a user.
    pub fn chat_tokens(&self, user: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode(&self.chat_prompt(user)?)?.tokens)
    }

    /// The tokens that ask the model to answer a conversation, messages with `role` and `content`.
    pub fn conversation_tokens(&self, messages: Vec<Value>) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode(&self.conversation_prompt(messages)?)?.tokens)
    }

    /// The tokens of a conversation that is over, as one that is trained on.
    pub fn whole_conversation(&self, messages: Vec<Value>) -> Result<Vec<u32>> {
        let turns = messages.len();
        let template_args = self.template_args.clone();
        let conversation = Conversation { messages, template_args, ..Conversation::default() };
        let template = self.chat_template()?;
        let text = template.write(&conversation, turns, false)?.map_err(|reason| {
            Error::template("the chat template refuses the conversation")
                .at(template.origin())
                .because(reason)
        })?;
        Ok(self.tokenizer.encode(&text)?.tokens)
    }

    /// The tokens of a plain text that the model is to go on with.
    pub fn text_tokens(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_plain(text, TokenBudget::ALL)?.encoded.tokens)
    }

    /// The tokens of a prompt: a turn of a chat where the model has a template, else plain text.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>> {
        if self.templates.default.is_some() {
            self.chat_tokens(text)
        } else {
            self.text_tokens(text)
        }
    }

    /// Plain text, begun as the tokenizer begins a text: once, whether the text has it or not.
    pub(super) fn encode_plain(&self, text: &str, wanted: TokenBudget) -> Result<Begun> {
        let mut begun = self.tokenizer.encode_wanted(text, wanted)?;
        let (prefix, encoded) = (self.tokenizer.prefix(), &mut begun.encoded);
        if encoded.tokens.starts_with(prefix) {
            return Ok(begun);
        }
        encoded.tokens.splice(0..0, prefix.iter().copied());
        if wanted.offsets {
            encoded.offsets.splice(0..0, prefix.iter().map(|_| (0, 0)));
        }
        Ok(begun)
    }
}

/// The tokens that end a turn of the assistant, as templates write them.
#[derive(Default)]
struct TurnEnds {
    /// Where nothing follows; where nothing ends it there, where something follows.
    last: Option<u32>,
    /// Where a turn of the user follows.
    inner: Option<u32>,
    /// Where it calls a tool, and nothing follows.
    call: Option<u32>,
}

impl TurnEnds {
    fn find(tokenizer: &Tokenizer, templates: &Templates<TemplateRenderer>) -> Result<Self> {
        let Some(template) = templates.of(false).or(templates.of(true)) else {
            return Ok(Self::default());
        };
        let answer = json!({ "role": "assistant", "content": PROBE });
        let after = |template: &TemplateRenderer, last: Value| -> Result<Option<Vec<u32>>> {
            let text = rendered(template, vec![user("a"), last], false)?;
            let after = text.and_then(|text| Some(text.rsplit_once(PROBE)?.1.to_owned()));
            Ok(after.map(|after| special(tokenizer, &tokens(tokenizer, &after))))
        };
        let inner = inner(tokenizer, template)?;
        let last = after(template, answer)?.and_then(|ends| ends.first().copied()).or(inner);
        let function = json!({ "name": PROBE, "arguments": {} });
        let calls = json!([{ "id": "call00000", "type": "function", "function": function }]);
        let call = json!({ "role": "assistant", "content": "", "tool_calls": calls });
        let call = match templates.of(true) {
            Some(template) => after(template, call)?.and_then(|ends| ends.last().copied()),
            None => None,
        };
        Ok(Self { last, inner, call })
    }
}

/// The token that ends a turn which one of the user follows: the first special one between the two,
/// unless it introduces the user's.
fn inner(tokenizer: &Tokenizer, template: &TemplateRenderer) -> Result<Option<u32>> {
    const QUESTION: &str = "\u{f8ff}question\u{f8ff}";
    let answer = json!({ "role": "assistant", "content": PROBE });
    let asked = rendered(template, vec![user(QUESTION), answer, user(QUESTION)], false)?;
    let question = |generation| rendered(template, vec![user(QUESTION)], generation);
    let (with, without) = (question(true)?, question(false)?);
    let find = || {
        let (before, rest) = asked.as_deref()?.split_once(QUESTION)?;
        let between = rest.split_once(PROBE)?.1.split_once(QUESTION)?.0;
        // What introduces the user's turn stands before the first one as well.
        let (before, between) = (tokens(tokenizer, before), tokens(tokenizer, between));
        let same = before.iter().rev().zip(between.iter().rev()).take_while(|(a, b)| a == b);
        let same = same.count();
        let special = |tokens: &[u32]| special(tokenizer, tokens);
        if let Some(end) = special(&between[..between.len() - same]).first() {
            return Some(*end);
        }
        // The same token may end the system's turn, before the first of the user's.
        let begun = special(&before[..before.len() - same]);
        let first = special(&between).first().copied()?;
        let opens = with.as_deref()?.strip_prefix(without.as_deref()?)?;
        let opens = special(&tokens(tokenizer, opens)).first().copied();
        let introduces =
            opens == Some(first) || begun.iter().all(|&it| Some(it) == tokenizer.bos());
        (!introduces).then_some(first)
    };
    Ok(find())
}

/// Whether a template can write what introduces the assistant's turn.
fn writes_generation_prompt(templates: &Templates<TemplateRenderer>) -> Result<bool> {
    let Some(template) = templates.of(false) else { return Ok(false) };
    let write = |generation| rendered(template, vec![user("a")], generation);
    Ok(write(true)? != write(false)?)
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

/// What a template writes; nothing where it refuses these messages, as it may write others.
fn rendered(
    template: &TemplateRenderer,
    messages: Vec<Value>,
    generation: bool,
) -> Result<Option<String>> {
    let count = messages.len();
    let conversation = Conversation { messages, ..Conversation::default() };
    Ok(template.write(&conversation, count, generation)?.ok())
}

fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text).map(|encoded| encoded.tokens).unwrap_or_default()
}

fn special(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u32> {
    tokens.iter().copied().filter(|&token| tokenizer.is_special(token)).collect()
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
