//! YAML as other tools write it, read within bounds: values with the lines on which they stand.
//!
//! Aliases are not followed, so that a small file cannot grow.

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use crate::error::{Error, Result};

/// Larger files are refused; settings take a few kilobytes.
const BYTES_MAX: usize = 1 << 20;
/// Deeper nesting is refused.
const DEPTH_MAX: usize = 64;

/// A value and the line on which it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct YamlNode {
    /// Counted from 1.
    pub line: usize,
    /// What it is.
    pub value: YamlValue,
}

/// What settings are made of.
#[derive(Debug, Clone, PartialEq)]
pub enum YamlValue {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<YamlNode>),
    /// Keys with values.
    Map(Vec<(String, YamlNode)>),
    /// Stands for a value elsewhere.
    Alias,
}

impl YamlNode {
    /// The value of a key, unless that is null.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let YamlValue::Map(entries) = &self.value else { return None };
        let found = entries.iter().find(|(name, _)| name == key).map(|(_, node)| node);
        found.filter(|node| node.value != YamlValue::Null)
    }

    /// Its text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            YamlValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is true.
    pub fn is_true(&self) -> bool {
        self.value == YamlValue::Flag(true)
    }

    /// Whether it says nothing, or that something is off.
    pub fn is_off(&self) -> bool {
        match &self.value {
            YamlValue::Null | YamlValue::Flag(false) => true,
            YamlValue::Number(number) => *number == 0.0,
            YamlValue::Text(text) => matches!(text.as_str(), "" | "none" | "no"),
            YamlValue::List(list) => list.is_empty(),
            YamlValue::Map(map) => map.is_empty(),
            YamlValue::Flag(true) | YamlValue::Alias => false,
        }
    }

    /// The value on one line, as people read it.
    pub fn shown(&self) -> String {
        match &self.value {
            YamlValue::Null => "null".to_owned(),
            YamlValue::Flag(flag) => flag.to_string(),
            YamlValue::Number(number) => number.to_string(),
            YamlValue::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            YamlValue::List(list) => {
                let items: Vec<_> = list.iter().map(Self::shown).collect();
                format!("[{}]", items.join(", "))
            }
            YamlValue::Map(_) => "{…}".to_owned(),
            YamlValue::Alias => "an alias, which is not followed".to_owned(),
        }
    }
}

/// Reads the first document of a text.
///
/// # Errors
/// Broken YAML, a key twice, more than a MiB, or deep nesting, with line and column.
pub fn read(name: &str, text: &str) -> Result<YamlNode> {
    if text.len() > BYTES_MAX {
        let what = format!("the file has {} bytes, at most {BYTES_MAX} are read", text.len());
        return Err(Error::config(what).at(name));
    }
    let mut reader = Reader { name, parser: Parser::new(text.chars()) };
    loop {
        match reader.next()? {
            (Event::StreamEnd, line, _) => return Ok(YamlNode { line, value: YamlValue::Null }),
            (Event::StreamStart | Event::DocumentStart, ..) => {}
            (event, line, column) => return reader.node(event, (line, column), 0),
        }
    }
}

struct Reader<'a, I: Iterator<Item = char>> {
    name: &'a str,
    parser: Parser<I>,
}

impl<I: Iterator<Item = char>> Reader<'_, I> {
    fn error(&self, what: &str, (line, column): (usize, usize)) -> Error {
        Error::config(what).at_position(self.name, line, column)
    }

    fn next(&mut self) -> Result<(Event, usize, usize)> {
        match self.parser.next_token() {
            Ok((event, mark)) => Ok((event, mark.line(), mark.col() + 1)),
            Err(error) => {
                let place = (error.marker().line(), error.marker().col() + 1);
                Err(self.error("this is not valid YAML", place).because(error.info()))
            }
        }
    }

    fn node(&mut self, event: Event, place: (usize, usize), depth: usize) -> Result<YamlNode> {
        if depth > DEPTH_MAX {
            return Err(self.error("it is nested too deeply", place));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(text, style),
            Event::Alias(_) => YamlValue::Alias,
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, ..) => break,
                        (event, line, column) => {
                            list.push(self.node(event, (line, column), depth + 1)?);
                        }
                    }
                }
                YamlValue::List(list)
            }
            Event::MappingStart(..) => self.mapping(depth)?,
            _ => YamlValue::Null,
        };
        Ok(YamlNode { line: place.0, value })
    }

    fn mapping(&mut self, depth: usize) -> Result<YamlValue> {
        let mut entries: Vec<(String, YamlNode)> = Vec::new();
        loop {
            let (event, line, column) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(YamlValue::Map(entries)),
                Event::Scalar(key, ..) => key,
                _ => return Err(self.error("a key must be a text", (line, column))),
            };
            if entries.iter().any(|(known, _)| *known == key) {
                let what = format!("the key `{key}` appears twice");
                return Err(self.error(&what, (line, column)));
            }
            let (event, inner_line, inner_column) = self.next()?;
            let node = self.node(event, (inner_line, inner_column), depth + 1)?;
            entries.push((key, YamlNode { line, ..node }));
        }
    }
}

/// A scalar as PyYAML and pydantic together read it: `1e-5` is a number.
fn scalar(text: String, style: TScalarStyle) -> YamlValue {
    if style != TScalarStyle::Plain {
        return YamlValue::Text(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => YamlValue::Null,
        "true" | "True" | "TRUE" | "yes" | "on" => YamlValue::Flag(true),
        "false" | "False" | "FALSE" | "no" | "off" => YamlValue::Flag(false),
        _ => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => YamlValue::Number(number),
            _ => YamlValue::Text(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn values_have_their_types_and_lines() {
        let text = "a: 1e-5\nb: 'on'\nc: yes\n\nd:\n  - x: ~\n  - 2\ne: &one [p, q]\nf: *one\n";
        let node = read("x.yml", text).unwrap();
        let get = |key| node.get(key).unwrap();
        assert_eq!((get("a").line, &get("a").value), (1, &YamlValue::Number(1e-5)));
        assert_eq!(get("b").text(), Some("on"));
        assert!(get("c").is_true() && get("d").line == 5);
        assert_eq!(get("e").shown(), "[p, q]");
        assert_eq!(get("f").value, YamlValue::Alias);
        assert!(node.get("g").is_none());
    }

    #[test]
    fn what_is_broken_says_where() {
        let mut all = String::new();
        for text in ["a: [1\nb: 2", "a: 1\na: 2", &"[".repeat(200)] {
            all += &format!("{}\n", read("x.yml", text).unwrap_err());
        }
        says(
            all,
            snapbox::str![[r#"
error[config]: this is not valid YAML
  at x.yml:2:2
  because illegal placement of ':' indicator
error[config]: the key `a` appears twice
  at x.yml:2:1
error[config]: it is nested too deeply
  at x.yml:1:66

"#]],
        );
    }
}
