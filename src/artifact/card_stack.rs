//! How an adapter is used that stands on others, for its card.

use std::fmt::Write as _;

use super::base_record::BaseRecord;
use super::card::Card;
use super::markup::code;
use crate::files::name_anywhere;

impl Card {
    /// Rows of the table of what it is made from.
    pub(super) fn write_adapters_below(&self, out: &mut String) -> std::fmt::Result {
        for (number, adapter) in (1..).zip(&self.base_adapters) {
            let name = code(&name_anywhere(&adapter.id));
            if let Some(revision) = &adapter.revision {
                writeln!(out, "| adapter {number} below, commit | {name}, {} | |", code(revision))?;
            }
            for file in &adapter.files {
                let path = code(&file.path);
                writeln!(out, "| adapter {number} below | {name}, {path} | `{}` |", file.sha256)?;
            }
        }
        Ok(())
    }

    /// How all of them are loaded.
    pub(super) fn write_stacked_usage(&self, out: &mut String) -> std::fmt::Result {
        let count = self.base_adapters.len();
        let (them, first) = match count {
            1 => ("that adapter".to_owned(), "The adapter below it is"),
            _ => (format!("those {count} adapters"), "The adapters below it are"),
        };
        writeln!(out, "\n## Use\n")?;
        if self.exported.is_none() {
            let command = match self.head {
                Some(_) => "classify . texts.txt",
                None => "generate . --prompt \"...\"",
            };
            writeln!(out, "```\nfirebrand {command}\n```\n")?;
        }
        writeln!(
            out,
            "{first} merged into the base first, in the order of the table. Alone, the base is not \
             what this adapter was\ntrained on, and `AutoPeftModel` loads it so. With {them}:\n"
        )?;
        let (class, labels) = match &self.head {
            Some(head) => (
                "AutoModelForSequenceClassification",
                format!(", num_labels={}", head.labels.len()),
            ),
            None => ("AutoModelForCausalLM", String::new()),
        };
        let base = argument(&self.base, self.revision.as_deref(), "BASE");
        write!(
            out,
            "```python\nfrom peft import PeftModel\nfrom transformers import {class}, \
             AutoTokenizer\n\nmodel = {class}.from_pretrained({base}{labels})\n"
        )?;
        for (number, adapter) in (1..).zip(&self.base_adapters) {
            let below = below(number, adapter);
            writeln!(out, "model = PeftModel.from_pretrained(model, {below}).merge_and_unload()")?;
        }
        if self.exported.is_none() {
            writeln!(out, "model = PeftModel.from_pretrained(model, \".\")")?;
        }
        writeln!(out, "tokenizer = AutoTokenizer.from_pretrained(\".\")\n```")
    }
}

fn below(number: usize, adapter: &BaseRecord) -> String {
    let name = name_anywhere(&adapter.id);
    argument(&name, adapter.revision.as_deref(), &format!("ADAPTER-{number}"))
}

/// A name as Python takes it, with its commit; a name that could be more than one is `instead`.
fn argument(name: &str, revision: Option<&str>, instead: &str) -> String {
    let is_plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    };
    let name = if is_plain(name) { name } else { instead };
    match revision.filter(|revision| is_plain(revision)) {
        Some(revision) => format!("\"{name}\", revision=\"{revision}\""),
        None => format!("\"{name}\""),
    }
}
