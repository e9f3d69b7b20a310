//! The templates of a model: one, or several of which a record takes one by what it holds.
//!
//! As transformers 5.24 finds them: `chat_template.jinja` and `additional_chat_templates/*.jinja`,
//! and where there is none of these, `chat_template` in `tokenizer_config.json`, a template or a
//! list of named ones. A conversation with tools is written by `tool_use` where there is one, and
//! every other by `default`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{TemplateText, size};
use crate::error::{Error, Result};
use crate::files::{has_file, read_json, read_text};

/// Tokenizer configuration files of more bytes are refused.
const MAX_FILE: u64 = 16 << 20;
/// A model's own template.
const FILE: &str = "chat_template.jinja";
/// Its template for conversations with tools: this name, in that folder.
const TOOL_USE: &str = "tool_use";
const FOLDER: &str = "additional_chat_templates";
const CONFIG: &str = "tokenizer_config.json";

/// The templates of a model that are used: as texts, or as what renders them.
#[derive(Debug)]
pub struct Templates<T> {
    /// Writes conversations.
    pub default: Option<T>,
    /// Writes those with tools, where the model has one for them.
    pub tool_use: Option<T>,
}

impl<T> Templates<T> {
    /// The template for a conversation.
    pub fn of(&self, has_tools: bool) -> Option<&T> {
        self.tool_use.as_ref().filter(|_| has_tools).or(self.default.as_ref())
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.default.iter().chain(&self.tool_use)
    }

    /// Something else made of each.
    ///
    /// # Errors
    /// The first one that occurs.
    pub fn try_map<U>(self, mut make: impl FnMut(T) -> Result<U>) -> Result<Templates<U>> {
        Ok(Templates {
            default: self.default.map(&mut make).transpose()?,
            tool_use: self.tool_use.map(&mut make).transpose()?,
        })
    }
}

impl Templates<TemplateText> {
    /// Finds the templates of a model: the file given, and it alone, else the model's own.
    ///
    /// # Errors
    /// When one cannot be read, or the configuration has none under a name that is used.
    pub fn find(model_dir: &Path, given: Option<&Path>) -> Result<Self> {
        let read = |path: &Path| -> Result<TemplateText> {
            Ok(text(&read_text(path, size::MAX_SOURCE as u64)?, &path.to_string_lossy()))
        };
        if let Some(path) = given {
            return Ok(Self { default: Some(read(path)?), tool_use: None });
        }
        let named = |path: PathBuf| has_file(&path)?.then(|| read(&path)).transpose();
        let own = Self {
            default: named(model_dir.join(FILE))?,
            tool_use: named(model_dir.join(FOLDER).join(format!("{TOOL_USE}.jinja")))?,
        };
        if own.all().next().is_some() {
            return Ok(own);
        }
        Self::in_config(&model_dir.join(CONFIG))
    }

    fn in_config(path: &Path) -> Result<Self> {
        let none = Self { default: None, tool_use: None };
        if !has_file(path)? {
            return Ok(none);
        }
        let config = read_json(path, MAX_FILE)?;
        let origin = path.to_string_lossy();
        let list = match config.get("chat_template") {
            None | Some(Value::Null) => return Ok(none),
            Some(Value::String(source)) => {
                return Ok(Self { default: Some(text(source, &origin)), ..none });
            }
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => &[],
        };
        let named = |name: &str| {
            let entry = list.iter().rev().find(|entry| entry["name"] == name);
            entry.and_then(|entry| entry["template"].as_str())
        };
        let tool_use = format!("{origin} ({TOOL_USE})");
        let templates = Self {
            default: named("default").map(|source| text(source, &origin)),
            tool_use: named(TOOL_USE).map(|source| text(source, &tool_use)),
        };
        if templates.all().next().is_none() {
            return Err(Error::template(
                "`chat_template` is neither a string nor a list with `default`",
            )
            .at(path)
            .hint("give the template to use as `data.chat_template`"));
        }
        Ok(templates)
    }
}

fn text(source: &str, origin: &str) -> TemplateText {
    TemplateText { source: source.to_owned(), origin: origin.to_owned() }
}
