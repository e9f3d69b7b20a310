//! Conversations and what became of them, in a form that costs less to write and read than JSON:
//! most of their bytes are texts, which here are neither escaped nor searched for what ends them.

use serde_json::{Map, Number, Value};

use super::wire::AllRendered;
use crate::data::formats::Conversation;
use crate::data::handed::Handed;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;
const LIST: u8 = 5;
const OBJECT: u8 = 6;

/// Writes conversations, and whether the assistant's turns are to be found in them.
pub fn write_conversations(conversations: &[&Conversation], find_turns: bool) -> Vec<u8> {
    let mut out = vec![if find_turns { TRUE } else { FALSE }];
    length(conversations.len(), &mut out);
    for conversation in conversations {
        let Conversation { messages, tools, template_args, not_targets } = conversation;
        length(messages.len(), &mut out);
        messages.iter().for_each(|message| value(message, &mut out));
        length(tools.iter().count(), &mut out);
        tools.iter().for_each(|tools| value(tools, &mut out));
        object(template_args, &mut out);
        length(not_targets.len(), &mut out);
        not_targets.iter().for_each(|index| length(*index, &mut out));
    }
    out
}

/// Reads what [`write_conversations`] wrote; `None` if it is something else.
pub fn read_conversations(bytes: &[u8]) -> Option<(Vec<Conversation>, bool)> {
    let mut input = Input(bytes);
    let find_turns = input.byte()? == TRUE;
    let count = input.length()?;
    let mut conversations = Vec::new();
    for _ in 0..count {
        let messages = input.list(Input::value)?;
        let tools = input.list(Input::value)?.pop();
        let template_args = input.object()?;
        let not_targets = input.list(Input::length)?.into_iter().collect();
        conversations.push(Conversation { messages, tools, template_args, not_targets });
    }
    input.0.is_empty().then_some((conversations, find_turns))
}

/// Writes what became of conversations.
pub fn write_rendered(all: AllRendered) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    length(all.len(), &mut out);
    for rendered in all {
        match rendered {
            Err(reason) => {
                out.push(FALSE);
                text(&reason, &mut out);
            }
            Ok(mut handed) => {
                out.push(TRUE);
                text(&std::mem::take(&mut handed.rendered.text), &mut out);
                text(&serde_json::to_string(&handed)?, &mut out);
            }
        }
    }
    Ok(out)
}

/// Reads what [`write_rendered`] wrote; `None` if it is something else.
pub fn read_rendered(bytes: &[u8]) -> Option<AllRendered> {
    let mut input = Input(bytes);
    let count = input.length()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(match input.byte()? {
            TRUE => {
                let text = input.text()?;
                let mut handed: Handed = serde_json::from_str(&input.text()?).ok()?;
                handed.rendered.text = text;
                Ok(handed)
            }
            _ => Err(input.text()?),
        });
    }
    input.0.is_empty().then_some(all)
}

fn length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

fn text(text: &str, out: &mut Vec<u8>) {
    length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn object(fields: &Map<String, Value>, out: &mut Vec<u8>) {
    length(fields.len(), out);
    for (name, field) in fields {
        text(name, out);
        value(field, out);
    }
}

fn value(of: &Value, out: &mut Vec<u8>) {
    match of {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Number(number) => {
            out.push(NUMBER);
            text(&number.to_string(), out);
        }
        Value::String(string) => {
            out.push(TEXT);
            text(string, out);
        }
        Value::Array(items) => {
            out.push(LIST);
            length(items.len(), out);
            items.iter().for_each(|item| value(item, out));
        }
        Value::Object(fields) => {
            out.push(OBJECT);
            object(fields, out);
        }
    }
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn length(&mut self) -> Option<usize> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        usize::try_from(u64::from_le_bytes(*first)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.length()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.length()?;
        // Every item takes a byte at least: nothing is set aside for what does not come.
        let mut items = Vec::with_capacity(count.min(self.0.len()).min(1024));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    fn object(&mut self) -> Option<Map<String, Value>> {
        let count = self.length()?;
        let mut fields = Map::new();
        for _ in 0..count {
            let name = self.text()?;
            fields.insert(name, self.value()?);
        }
        Some(fields)
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? {
            NULL => Value::Null,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            NUMBER => Value::Number(self.text()?.parse::<Number>().ok()?),
            TEXT => Value::String(self.text()?),
            LIST => Value::Array(self.list(Self::value)?),
            OBJECT => Value::Object(self.object()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use std::collections::BTreeMap;

    use crate::data::handed::hand;
    use crate::data::template::ChatTemplate;

    #[test]
    fn conversations_are_read_as_they_were_written() {
        let number: Value = serde_json::from_str("[1e300, -7, 18446744073709551615, 0.1]").unwrap();
        let one = Conversation {
            messages: vec![
                json!({"role": "user", "content": "gr\u{f6}\u{df}e\n\"\u{0}", "z": null, "a": []}),
                json!({"role": "assistant", "content": [true, false, {"n": number}]}),
            ],
            tools: Some(json!([{"type": "function"}])),
            template_args: json!({"enable_thinking": false}).as_object().unwrap().clone(),
            not_targets: [1, 5].into(),
        };
        let two = Conversation::default();
        let bytes = write_conversations(&[&one, &two], true);
        let (read, find_turns) = read_conversations(&bytes).unwrap();
        assert_eq!(read, [one, two]);
        assert!(find_turns);
        // The order of keys as well.
        let keys: Vec<_> = read[0].messages[0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["role", "content", "z", "a"]);
        for cut in 0..bytes.len() {
            assert_eq!(read_conversations(&bytes[..cut]), None);
        }
        assert_eq!(
            read_conversations(&[[TRUE; 1].as_slice(), &u64::MAX.to_le_bytes()].concat()),
            None
        );
    }

    #[test]
    fn what_became_of_them_is_read_as_it_was_written() {
        let messages = vec![
            json!({"role": "user", "content": "\u{1f389}"}),
            json!({"role": "assistant", "content": "yes", "name": "x"}),
        ];
        let conversation = Conversation { messages, ..Conversation::default() };
        let source =
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ nothing }}{% endfor %}";
        let template = ChatTemplate::new(source, "t", BTreeMap::new()).unwrap();
        let (_, handed) = hand(&template, &conversation, true).unwrap();
        assert!(!handed.unused.is_empty() && !handed.rendered.turns.is_empty());
        let all = vec![Ok(handed), Err("it is odd".to_owned())];
        let bytes = write_rendered(all.clone()).unwrap();
        assert_eq!(read_rendered(&bytes).unwrap(), all);
        assert_eq!(read_rendered(&bytes[..bytes.len() - 1]), None);
    }
}
