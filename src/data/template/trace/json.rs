//! JSON in which contents stand that are not known.

use super::expression::Arguments;
use super::given::{Place, Shape, Slot};
use super::run::{Run, SIZE_MAX};
use super::value::{Text, TextPart, Value};
use crate::data::template::json::{JsonStyle, close, separate, write_string};

/// More spaces for each level are left to the engine.
const INDENT_MAX: i64 = 16;

impl<'a> Run<'a> {
    /// The filter `tojson`.
    pub(super) fn write_json(&mut self, of: &Value, arguments: &'a Arguments) -> Option<Value> {
        let mut style = JsonStyle::default();
        if !arguments.positional.is_empty() {
            return None;
        }
        for (name, argument) in &arguments.named {
            let value = self.value(argument)?;
            match (name.as_str(), value) {
                ("indent", Value::Number(count)) => {
                    let count = usize::try_from(count.max(0)).ok()?;
                    (count <= usize::try_from(INDENT_MAX).ok()?).then_some(())?;
                    style.indent = Some(" ".repeat(count));
                    ",".clone_into(&mut style.item);
                }
                ("ensure_ascii", Value::Truth(truth)) => style.ascii = truth,
                ("sort_keys", Value::Truth(truth)) => style.sort = truth,
                ("indent", Value::None) => {}
                _ => return None,
            }
        }
        let mut out = Text::default();
        self.json(of, &style, 0, &mut out)?;
        Some(Value::Text(out))
    }

    fn json(&self, of: &Value, style: &JsonStyle, depth: usize, out: &mut Text) -> Option<()> {
        (out.size() <= SIZE_MAX).then_some(())?;
        let mut fixed = String::new();
        match of {
            Value::None => out.push_str("null"),
            Value::Truth(true) => out.push_str("true"),
            Value::Truth(false) => out.push_str("false"),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Opaque(place) => out.0.push(slot(place, style, depth)),
            Value::Text(text) => match (text.fixed(), text.slot()) {
                (Some(text), _) => {
                    write_string(text, style.ascii, &mut fixed);
                    out.push_str(&fixed);
                }
                (None, Some(Slot { place, json: None, strips })) if strips.is_empty() => {
                    out.0.push(slot(place, style, depth));
                }
                _ => return None,
            },
            Value::List(items) => {
                out.push_str("[");
                for (index, item) in items.iter().enumerate() {
                    separate(style, index == 0, depth + 1, &mut fixed);
                    out.push_str(&std::mem::take(&mut fixed));
                    self.json(item, style, depth + 1, out)?;
                }
                close(style, items.is_empty(), depth, ']', &mut fixed);
                out.push_str(&fixed);
            }
            Value::Message(_) | Value::Object(_) => {
                let mut fields: Vec<&(String, Shape)> = self.fields(of)?.iter().collect();
                if style.sort {
                    fields.sort_by_key(|(key, _)| key);
                }
                out.push_str("{");
                for (index, (key, item)) in fields.iter().enumerate() {
                    separate(style, index == 0, depth + 1, &mut fixed);
                    write_string(key, style.ascii, &mut fixed);
                    fixed.push_str(&style.key);
                    out.push_str(&std::mem::take(&mut fixed));
                    self.json(&Value::of(item), style, depth + 1, out)?;
                }
                close(style, fields.is_empty(), depth, '}', &mut fixed);
                out.push_str(&fixed);
            }
            _ => return None,
        }
        Some(())
    }
}

fn slot(place: &Place, style: &JsonStyle, depth: usize) -> TextPart {
    let json = Some((style.clone(), depth));
    TextPart::Slot(Slot { place: place.clone(), json, strips: Vec::new() })
}
