//! The front matter of a card: YAML between two lines `---`, read within bounds.
//!
//! Anchors are never followed: an alias stays a mark that nobody may read as a value, so a small
//! card cannot grow. Nesting, size and duplicate keys are checked while the parser runs.

use std::collections::HashSet;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

use crate::error::{Error, Result};

/// The file that holds the card.
pub(super) const CARD: &str = "README.md";
/// Longer front matter is refused; the longest on the hub, with thousands of subsets, is shorter.
const BYTES_MAX: usize = 1 << 20;
/// Deeper nesting is refused; subsets need five levels.
const DEPTH_MAX: usize = 64;

/// A value and where it stands in the card, counted from 1.
#[derive(Debug)]
pub(super) struct Node {
    pub line: usize,
    pub column: usize,
    pub value: Value,
}

/// What front matter is made of. Numbers and truth values stay text.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<(String, Node)>),
    /// Stands for a value elsewhere in the front matter.
    Alias,
}

impl Node {
    /// An error at this place of the card.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::data(what).at_position(CARD, self.line, self.column)
    }

    /// What the value is, in words.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Alias => "an alias, which is not followed",
        }
    }
}

/// Reads the front matter of a card; `None` where it has none.
///
/// # Errors
/// Broken YAML, duplicate keys, more than a MiB, or deep nesting, with line and column.
pub(super) fn parse(card: &str) -> Result<Option<Node>> {
    let Some((text, lines_before)) = block(card)? else { return Ok(None) };
    if text.len() > BYTES_MAX {
        let what =
            format!("the front matter has {} bytes, at most {BYTES_MAX} are read", text.len());
        return Err(Error::data(what).at(CARD));
    }
    if let Some(at) = text.find('\0') {
        let line = lines_before + text[..at].matches('\n').count() + 1;
        let what = "the front matter holds a character that YAML does not allow";
        return Err(Error::data(what).at_position(CARD, line, 1));
    }
    read(text.chars(), lines_before)
}

/// Reads letters only as far as they are allowed.
fn read(letters: impl Iterator<Item = char>, lines_before: usize) -> Result<Option<Node>> {
    let mut tree = Tree { lines_before, open: Vec::new(), root: None };
    let mut parser = Parser::new(letters);
    loop {
        let (event, mark) = parser.next_token().map_err(|error| tree.broken(&error))?;
        if event == Event::StreamEnd {
            return Ok(tree.root);
        }
        tree.take(event, mark)?;
    }
}

/// The text between the lines `---`, and how many lines stand before it.
fn block(card: &str) -> Result<Option<(&str, usize)>> {
    let card = card.strip_prefix('\u{feff}').unwrap_or(card);
    let opening = card.trim_start();
    let Some(rest) = opening.strip_prefix("---\n").or_else(|| opening.strip_prefix("---\r\n"))
    else {
        return Ok(None);
    };
    let before = card[..card.len() - rest.len()].matches('\n').count();
    let mut length = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end_matches(['\r', '\n', ' ', '\t']) == "---" {
            return Ok(Some((&rest[..length], before)));
        }
        length += line.len();
    }
    // A text may begin with a ruled line; but subsets are never meant as prose.
    match rest.lines().position(|line| line.trim_end() == "configs:") {
        Some(line) => Err(Error::data("the front matter has no end")
            .at_position(CARD, before + line + 1, 1)
            .hint("it ends with a line `---`")),
        None => Ok(None),
    }
}

/// A list or mapping that has begun.
enum Open {
    List(Node, Vec<Node>),
    /// With the keys that were seen, and the key whose value comes next.
    Mapping {
        node: Node,
        entries: Vec<(String, Node)>,
        seen: HashSet<String>,
        key: Option<String>,
    },
}

/// Puts the parser's events together.
struct Tree {
    lines_before: usize,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Tree {
    fn node(&self, mark: Marker, value: Value) -> Node {
        Node { line: self.lines_before + mark.line(), column: mark.col() + 1, value }
    }

    fn broken(&self, error: &ScanError) -> Error {
        self.node(*error.marker(), Value::Null)
            .error("the front matter is not valid YAML")
            .because(error.info())
    }

    fn take(&mut self, event: Event, mark: Marker) -> Result<()> {
        let node = self.node(mark, Value::Null);
        match event {
            Event::SequenceStart(..) => self.begin(Open::List(node, Vec::new())),
            Event::MappingStart(..) => self.begin(Open::Mapping {
                node,
                entries: Vec::new(),
                seen: HashSet::new(),
                key: None,
            }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(node, items)) => {
                    self.add(Node { value: Value::List(items), ..node })
                }
                Some(Open::Mapping { node, entries, .. }) => {
                    self.add(Node { value: Value::Mapping(entries), ..node })
                }
                None => Ok(()),
            },
            Event::Scalar(text, style, ..) => {
                let null = matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
                    && style == TScalarStyle::Plain;
                let value = if null { Value::Null } else { Value::Text(text) };
                self.add(Node { value, ..node })
            }
            Event::Alias(_) => self.add(Node { value: Value::Alias, ..node }),
            Event::DocumentStart if self.root.is_some() => {
                Err(node.error("the front matter holds a second YAML document"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<()> {
        let (Open::List(node, _) | Open::Mapping { node, .. }) = &open;
        if self.open.len() == DEPTH_MAX {
            return Err(node.error(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.open.push(open);
        Ok(())
    }

    /// Adds a value to the innermost list or mapping.
    fn add(&mut self, node: Node) -> Result<()> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Mapping { entries, seen, key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let name = match &node.value {
                        Value::Text(text) => text.clone(),
                        Value::Null => String::new(),
                        _ => return Err(node.error(format!("a key is {}", node.kind()))),
                    };
                    if !seen.insert(name.clone()) {
                        return Err(node.error(format!("the key `{name}` appears twice")));
                    }
                    *key = Some(name);
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Alias => "alias".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            Value::Mapping(entries) => {
                let entries = entries.iter().map(|(key, node)| format!("{key}: {}", shown(node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn answer(card: &str) -> String {
        match parse(card) {
            Ok(Some(node)) => shown(&node),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn front_matter_is_found_where_the_hub_finds_it() {
        for (card, expected) in [
            ("---\na: b\n---\n", "{a: \"b\"}"),
            ("---\na: b\n---", "{a: \"b\"}"),
            ("---\r\na: b\r\n--- \t\r\ntext\r\n", "{a: \"b\"}"),
            ("\u{feff}---\na: b\n---\n", "{a: \"b\"}"),
            ("\n \n---\na: b\n---\n", "{a: \"b\"}"),
            ("---\na: |\n  ---\n  x\n---\n", "{a: \"---\\nx\\n\"}"),
            ("---\na: b\n---\n---\nc: d\n---\n", "{a: \"b\"}"),
            ("---\n---\n", "none"),
            ("---\n# nothing\n---\n", "none"),
            ("", "none"),
            ("# Title\n---\na: b\n---\n", "none"),
            ("--- \na: b\n---\n", "none"),
            ("---\na ruled line begins this text\n", "none"),
        ] {
            assert_eq!(answer(card), expected, "{card:?}");
        }
    }

    #[test]
    fn values_keep_their_kind_and_place() {
        let card = "\n---\na: [1, ~, 'null', yes]\nb:\nc: {d: \"x\\ty\"}\n'': 2\n---\n";
        assert_eq!(
            answer(card),
            "{a: [\"1\", null, \"null\", \"yes\"], b: null, c: {d: \"x\\ty\"}, : \"2\"}"
        );
        let node = parse(card).unwrap().unwrap();
        let Value::Mapping(entries) = &node.value else { panic!("{node:?}") };
        let Value::Mapping(inner) = &entries[2].1.value else { panic!("{node:?}") };
        assert_eq!((inner[0].1.line, inner[0].1.column), (5, 8));
    }

    #[test]
    fn broken_front_matter_is_named_by_line() {
        let mut messages = String::new();
        for card in [
            "---\na: b\nc: [\n---\n",
            "---\na: b\n  c: d\n---\n",
            "---\na: b: c\n---\n",
            "---\na: \"b\n---\n",
            "---\na: 1\nb:\n  c: 1\n  c: 2\n---\n",
            "---\n? [a]\n: b\n---\n",
            "---\n&x a: b\n*x : c\n---\n",
            "---\na: *x\n---\n",
            "---\na: b\n...\n--- c\n---\n",
            "---\na: b\0c\n---\n",
            "---\n\nconfigs:\n- config_name: a\n",
        ] {
            let found = answer(card);
            messages += &format!("{card:?} gives {found}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
"---\na: b\nc: [\n---\n" gives error[data]: the front matter is not valid YAML
  at README.md:4:1
  because while parsing a node, did not find expected node content
"---\na: b\n  c: d\n---\n" gives error[data]: the front matter is not valid YAML
  at README.md:3:4
  because mapping values are not allowed in this context
"---\na: b: c\n---\n" gives error[data]: the front matter is not valid YAML
  at README.md:2:5
  because mapping values are not allowed in this context
"---\na: \"b\n---\n" gives error[data]: the front matter is not valid YAML
  at README.md:2:4
  because while scanning a quoted scalar, found unexpected end of stream
"---\na: 1\nb:\n  c: 1\n  c: 2\n---\n" gives error[data]: the key `c` appears twice
  at README.md:5:3
"---\n? [a]\n: b\n---\n" gives error[data]: a key is a list
  at README.md:2:3
"---\n&x a: b\n*x : c\n---\n" gives error[data]: a key is an alias, which is not followed
  at README.md:3:1
"---\na: *x\n---\n" gives error[data]: the front matter is not valid YAML
  at README.md:2:4
  because while parsing node, found unknown anchor
"---\na: b\n...\n--- c\n---\n" gives error[data]: the front matter holds a second YAML document
  at README.md:4:1
"---\na: b\0c\n---\n" gives error[data]: the front matter holds a character that YAML does not allow
  at README.md:2:1
"---\n\nconfigs:\n- config_name: a\n" gives error[data]: the front matter has no end
  at README.md:3:1

hint: it ends with a line `---`

"#]],
        );
    }

    #[test]
    fn aliases_are_never_followed() {
        let mut card = String::from("---\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            card += &format!("a{level}: &a{level} [{below}]\n");
        }
        card += "---\n";
        let found = answer(&card);
        says(
            &found,
            snapbox::str![[
                r#"{a0: ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x"], a1: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a2: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a3: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a4: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a5: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a6: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a7: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a8: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a9: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a10: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias], a11: [alias, alias, alias, alias, alias, alias, alias, alias, alias, alias]}"#
            ]],
        );
        assert!(found.len() < 2000, "{} bytes", found.len());
    }

    #[test]
    fn hostile_front_matter_is_refused_where_it_becomes_hostile() {
        let half = BYTES_MAX / 2;
        let long = format!("---\n{}---\n", "a: b\n".repeat(BYTES_MAX / 4));
        says(
            answer(&long),
            snapbox::str![[r#"
error[data]: the front matter has 1310720 bytes, at most 1048576 are read
  at README.md
"#]],
        );
        // With how many letters of it may be read.
        let cases = [
            ("a flow of lists", "[".repeat(half), 4096, "nested deeper than 64|recursion limit"),
            ("a flow of mappings", "{a: ".repeat(half / 4), 4096, "nested deeper|recursion limit"),
            ("a block of lists", "- ".repeat(half / 2), 4096, "nested deeper than 64"),
            ("keys of keys", "? ".repeat(half / 2), 4096, "nested deeper than 64"),
            (
                "steps",
                (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
                4096,
                "nested deeper than 64",
            ),
            (
                "many keys",
                (0..90_000).map(|key| format!("k{key}:\n")).collect(),
                BYTES_MAX,
                "{k0: null, ",
            ),
            (
                "many items",
                format!("a: [{}]", "x,".repeat(half / 2 - 4)),
                BYTES_MAX,
                "{a: [\"x\", ",
            ),
            ("a long text", format!("a: {}", "x ".repeat(half - 4)), BYTES_MAX, "{a: \"x x "),
            (
                "a long quote",
                format!("a: \"{}", "\\\"".repeat(half / 2)),
                BYTES_MAX,
                "not valid YAML",
            ),
            ("anchors", "&a ".repeat(half / 3), 4096, "not valid YAML"),
            ("tags", "!a ".repeat(half / 3), 4096, "not valid YAML"),
            ("colons", ": ".repeat(half / 2), 4096, "not valid YAML|a key is|nested|{"),
            ("percent signs", "%\n".repeat(half / 2), 4096, "not valid YAML"),
        ];
        for (name, text, most, expected) in cases {
            let mut pulled = 0;
            let ended = read(text.chars().inspect(|_| pulled += 1), 0);
            let found = ended.map_or_else(|error| error.to_string(), |node| shown(&node.unwrap()));
            let start: String = found.chars().take(200).collect();
            assert!(expected.split('|').any(|one| found.contains(one)), "{name} gives {start}");
            assert!(pulled <= most, "{name}: {pulled} letters are read");
        }
    }

    /// Front matter of a real kind with characters put in, taken out and doubled.
    #[test]
    fn damaged_front_matter_never_panics() {
        let whole = "---\nlicense: mit\ntags: [a, \"b\\u00e9\", 'c']\nx: &x {y: z}\nw: *x\n\
                     configs:\n- config_name: en\n  data_files:\n  - split: train\n    path:\n    \
                     - en/*.jsonl\ntext: |-\n  a\n  b\nfold: >\n  c\n? d\n: !!str e\n---\n";
        let letters: Vec<char> = whole.chars().collect();
        let signs = [
            '\0', '\t', '\n', '\r', ' ', '-', ':', '?', '[', '}', '"', '\'', '&', '*', '!', '|',
            '>', '%', '@', '`', '#', ',', '\\', '\u{feff}', '\u{85}', '\u{2028}', 'é',
        ];
        let mut state = 1_u64;
        let mut next = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % end
        };
        let mut read = 0;
        for _ in 0..20_000 {
            let mut damaged = letters.clone();
            for _ in 0..=next(4) {
                let at = 4 + next(damaged.len() - 8);
                match next(3) {
                    0 => damaged[at] = signs[next(signs.len())],
                    1 => drop(damaged.remove(at)),
                    _ => damaged.insert(at, signs[next(signs.len())]),
                }
            }
            let card: String = damaged.into_iter().collect();
            read += usize::from(parse(&card).is_ok());
        }
        assert!((1_000..19_000).contains(&read), "{read} of 20000 were read");
    }
}
