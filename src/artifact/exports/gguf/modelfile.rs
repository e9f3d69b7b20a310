//! A `Modelfile`, from which Ollama makes a model of the files beside it.
//!
//! Ollama renders conversations by a template of its own language, that of Go's `text/template`,
//! or, from version 0.30 on, by the Jinja template in the GGUF file. A Jinja template without tools
//! is replaced there by a similar one among its own where it finds one. So such a template is
//! written down in its language if it writes every turn the same way, which is tried; where it does
//! more, nothing is written but the version that reads the file's own.
//! Source: `docs/modelfile.mdx`, `parser/parser.go`, `server/images.go` and `server/model.go` of
//! Ollama 0.32.

use std::path::Path;

use serde_json::json;

use crate::data::{Codec, Conversation};
use crate::error::Result;
use crate::files::write_synced;

/// The file's name.
const FILE: &str = "Modelfile";
/// What Ollama takes for a template that does more than write turns, and what changes every day.
const MORE: [&str; 5] = ["tools", "tool_call", "</think>", "strftime_now", "enable_thinking"];
/// The first version that renders the template in a GGUF file.
const RENDERS_JINJA: &str = "0.30.0";

/// What is served.
pub enum Served<'a> {
    /// The file of a whole model.
    Model(&'a str),
    /// The file of an adapter, and that of its base.
    Adapter { file: &'a str, base: &'a str },
}

/// Writes the file into a folder, with the template of a codec.
///
/// # Errors
/// When it cannot be written, or the template cannot be rendered within its limits.
pub fn write(served: &Served, codec: Option<&Codec>, folder: &Path) -> Result<()> {
    let mut out = String::from("# ollama create NAME -f Modelfile\n");
    match served {
        Served::Model(file) => out += &format!("FROM ./{file}\n"),
        Served::Adapter { file, base } => {
            out += "# The base model as GGUF, put here, or its name in Ollama\n";
            out += &format!("FROM ./{base}\nADAPTER ./{file}\n");
        }
    }
    if let Some(codec) = codec {
        out += &template(codec)?;
        for stop in stops(codec) {
            let quotes = if stop.contains('"') { "\"\"\"" } else { "\"" };
            out += &format!("PARAMETER stop {quotes}{stop}{quotes}\n");
        }
    }
    write_synced(&folder.join(FILE), out.as_bytes())
}

/// Texts of the tokens that end an answer.
fn stops(codec: &Codec) -> Vec<String> {
    let tokenizer = &codec.tokenizer;
    let special = codec.stops().iter().filter(|token| tokenizer.is_special(**token));
    special.filter_map(|token| tokenizer.token_name(*token)).filter(|name| plain(name)).collect()
}

/// Whether Ollama's parser keeps a text as it is between quotes.
fn plain(text: &str) -> bool {
    let kept = |c: char| c == '\n' || c == ' ' || !(c.is_control() || c.is_whitespace());
    !text.contains("\"\"\"") && text.chars().all(kept)
}

/// The line that says how conversations are written.
fn template(codec: &Codec) -> Result<String> {
    let Some(jinja) = &codec.templates.default else { return Ok(String::new()) };
    let more = codec.templates.tool_use.is_some();
    let more = more || MORE.iter().any(|part| jinja.source().contains(part));
    let turns =
        if more { None } else { Turns::of(&|turns, answer| rendered(codec, turns, answer))? };
    Ok(match turns.and_then(|turns| turns.to_go()) {
        Some(go) => format!("TEMPLATE \"\"\"{go}\"\"\"\n"),
        None => format!("# The chat template in the file is used\nREQUIRES {RENDERS_JINJA}\n"),
    })
}

/// What a template writes, without the token that the tokenizer begins every text with; nothing
/// where it refuses, or where that token is not there.
fn rendered(codec: &Codec, turns: &[[&str; 2]], answer: bool) -> Result<Option<String>> {
    let message = |[role, content]: &[&str; 2]| json!({ "role": role, "content": content });
    let messages: Vec<_> = turns.iter().map(message).collect();
    let conversation = Conversation { messages, ..Conversation::default() };
    let template = codec.chat_template()?;
    let Ok(text) = template.write(&conversation, turns.len(), answer)? else { return Ok(None) };
    let begin = match codec.tokenizer.prefix() {
        [] => return Ok(Some(text)),
        tokens => tokens.iter().map(|token| codec.tokenizer.token_name(*token)),
    };
    let begin = begin.collect::<Option<String>>();
    Ok(begin.and_then(|begin| text.strip_prefix(&begin).map(str::to_owned)))
}

/// Conversations as text: roles with contents, and whether an answer is asked for.
type Render<'a> = dyn Fn(&[[&str; 2]], bool) -> Result<Option<String>> + 'a;

/// A template that writes every turn the same way, wherever it stands: what stands before and
/// behind the content.
#[derive(Debug, PartialEq, Eq)]
struct Turns {
    /// Before the first turn, where there is none of the system.
    without_system: String,
    system: [String; 2],
    user: [String; 2],
    assistant: [String; 2],
    /// What asks for an answer.
    answer: String,
}

const SYSTEM: [&str; 2] = ["system", "\u{f8ff}system\u{f8ff}"];
const USER: [&str; 2] = ["user", "\u{f8ff}question\u{f8ff}"];
const ASSISTANT: [&str; 2] = ["assistant", "\u{f8ff}answer\u{f8ff}"];
/// Contents that a template might change.
const CONTENTS: [&str; 3] = ["Hello, world!", " spaces and\nlines \n", "{{ x }} & <b>'\"\\"];

impl Turns {
    /// That of a template, if it is one.
    fn of(render: &Render) -> Result<Option<Self>> {
        let parts = |turns: &[[&str; 2]], answer| -> Result<Option<Vec<String>>> {
            Ok(render(turns, answer)?.and_then(|text| apart(&text, turns)))
        };
        let all = [
            parts(&[USER], true)?,
            parts(&[SYSTEM, USER], true)?,
            parts(&[SYSTEM, USER, ASSISTANT, USER], true)?,
            parts(&[SYSTEM, USER], false)?,
            parts(&[SYSTEM, USER, ASSISTANT], false)?,
        ];
        let found = Self::found(&all);
        let Some(found) = found else { return Ok(None) };
        for content in CONTENTS {
            let [system, user, answer] = [SYSTEM, USER, ASSISTANT].map(|[role, _]| [role, content]);
            for turns in [
                &[user][..],
                &[system, user],
                &[user, answer, user],
                &[system, user, answer, user, answer, user],
            ] {
                if render(turns, true)?.as_deref() != Some(&found.write(turns)) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }

    fn found(all: &[Option<Vec<String>>; 5]) -> Option<Self> {
        let of = |number: usize, part: usize| all[number].as_ref()?.get(part).map(String::as_str);
        let user_end = of(3, 2)?;
        let assistant_end = of(4, 3)?;
        let user_begin = of(2, 3)?.strip_prefix(assistant_end)?;
        let own = |text: &str| text.to_owned();
        Some(Self {
            without_system: own(of(0, 0)?.strip_suffix(user_begin)?),
            system: [own(of(1, 0)?), own(of(1, 1)?.strip_suffix(user_begin)?)],
            user: [own(user_begin), own(user_end)],
            assistant: [own(of(2, 2)?.strip_prefix(user_end)?), own(assistant_end)],
            answer: own(of(1, 2)?.strip_prefix(user_end)?),
        })
    }

    fn around(&self) -> [(&str, &[String; 2]); 3] {
        [("system", &self.system), ("user", &self.user), ("assistant", &self.assistant)]
    }

    /// A conversation as text.
    fn write(&self, turns: &[[&str; 2]]) -> String {
        let has_system = turns.iter().any(|[role, _]| *role == "system");
        let mut out = if has_system { String::new() } else { self.without_system.clone() };
        for [role, content] in turns {
            let (_, [before, behind]) = self.around()[match *role {
                "system" => 0,
                "user" => 1,
                _ => 2,
            }];
            out = out + before + content + behind;
        }
        out + &self.answer
    }

    /// The same in the language of Ollama, if its files have room for the texts.
    fn to_go(&self) -> Option<String> {
        let texts = self.around().into_iter().flat_map(|(_, around)| around);
        let mut texts = texts.chain([&self.without_system, &self.answer]);
        if !texts.all(|text| plain(text) && !text.contains("{{")) {
            return None;
        }
        let mut out = String::new();
        if !self.without_system.is_empty() {
            out += &format!("{{{{ if not .System }}}}{}{{{{ end }}}}", self.without_system);
        }
        out += "{{ range .Messages }}";
        for (number, (role, [before, behind])) in self.around().into_iter().enumerate() {
            let otherwise = if number == 0 { "" } else { "else " };
            out += &format!("{{{{ {otherwise}if eq .Role \"{role}\" }}}}");
            out += &format!("{before}{{{{ .Content }}}}{behind}");
        }
        out += "{{ end }}{{ end }}";
        out += &self.answer;
        // A quote at the end would be taken for one of the three behind it.
        (!out.ends_with('"')).then_some(out)
    }
}

/// What stands before, between and behind the contents of turns in a text.
fn apart(text: &str, turns: &[[&str; 2]]) -> Option<Vec<String>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    for [_, content] in turns {
        let (before, behind) = rest.split_once(content)?;
        parts.push(before.to_owned());
        rest = behind;
    }
    let known = [SYSTEM, USER, ASSISTANT].iter().all(|[_, content]| !rest.contains(content));
    parts.push(rest.to_owned());
    known.then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    /// A template by hand: ChatML with a system prompt where there is none.
    fn chatml(turns: &[[&str; 2]], answer: bool) -> String {
        let mut out = String::new();
        if turns[0][0] != "system" {
            out += "<|im_start|>system\nBe kind.<|im_end|>\n";
        }
        for [role, content] in turns {
            out += &format!("<|im_start|>{role}\n{content}<|im_end|>\n");
        }
        out + if answer { "<|im_start|>assistant\n" } else { "" }
    }

    #[test]
    fn a_template_of_turns_is_written_in_the_language_of_ollama() {
        let turns = Turns::of(&|turns, answer| Ok(Some(chatml(turns, answer)))).unwrap().unwrap();
        says(
            turns.to_go().unwrap(),
            snapbox::str![[r#"
{{ if not .System }}<|im_start|>system
Be kind.<|im_end|>
{{ end }}{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system
{{ .Content }}<|im_end|>
{{ else if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant

"#]],
        );
    }

    #[test]
    fn a_template_that_does_more_is_left_to_the_file() {
        let of = |change: &dyn Fn(String, usize) -> Option<String>| {
            let render =
                |turns: &[[&str; 2]], answer| Ok(change(chatml(turns, answer), turns.len()));
            Turns::of(&render).unwrap()
        };
        assert!(of(&|text, _| Some(text)).is_some());
        // It trims contents, writes another text in longer conversations, or refuses some.
        assert_eq!(of(&|text, _| Some(text.replace(" \n<|im_end|>", "<|im_end|>"))), None);
        assert_eq!(of(&|text, count| Some(format!("{text}{}", count / 5))), None);
        assert_eq!(of(&|text, count| (count < 4).then_some(text)), None);
        // What Go or the parser would take for its own.
        let turns = of(&|text, _| Some(text.replace("kind", "{{ kind }}"))).unwrap();
        assert_eq!(turns.to_go(), None);
        let turns = of(&|text, _| Some(text.replace("kind", "\u{a0}kind"))).unwrap();
        assert_eq!(turns.to_go(), None);
    }
}
