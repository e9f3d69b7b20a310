//! A template's source as the engine has to read it to do what Jinja does.
//!
//! The engine has operators of its own, which differ from Python's where types are mixed: `%`
//! does not format strings, `'a' < 1` is no error, a slice is no list. Nothing of that can be set,
//! so operators that may differ become calls of our functions (`objects/operators.rs`) in the
//! source. What surely has the same meaning stays as it is: most of a template.

use std::collections::BTreeSet;

use super::edits::{Edits, Place};
use super::lexer::{Tag, Token, tags};

/// Nested deeper, an expression is left to the engine, which refuses it.
const MAX_DEPTH: usize = 100;
/// Methods that every dictionary of Python has; `x.items` is never the entry `items`.
const DICT_METHODS: [&str; 11] = [
    "items",
    "keys",
    "values",
    "get",
    "copy",
    "pop",
    "popitem",
    "update",
    "clear",
    "setdefault",
    "fromkeys",
];
/// Filters and attributes of `loop` that give a number.
const NUMBERS: [&str; 2] = ["length", "count"];
const LOOP_NUMBERS: [&str; 6] = ["index", "index0", "length", "revindex", "revindex0", "depth"];
/// Filters that are there for names that may be undefined.
const DEFAULTS: [&str; 2] = ["default", "d"];

/// Why a template is not valid, and where: a byte of the source.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong.
    pub what: String,
    /// Where.
    pub at: usize,
}

/// Rewrites a template. `known` are names that are always defined. What cannot be read stays as
/// it is, since the engine says best what is wrong with it.
pub fn rewrite(source: &str, known: &BTreeSet<&str>) -> Result<String, Invalid> {
    let Some(tags) = tags(source) else { return Ok(source.to_owned()) };
    let mut edits = Edits::default();
    for tag in &tags {
        let first = tag.tokens.first();
        if first.is_some_and(|first| first.text == "raw") {
            let (before, after) = source.split_at(tag.end);
            if after.starts_with('\n') && !before.ends_with("-%}") {
                // The engine drops this line end, Jinja keeps it.
                edits.insert(tag.end, "\n");
            }
            continue;
        }
        if let Some(first) = first.filter(|first| tag.statement && first.text == "do") {
            return Err(Invalid { what: "there is no tag `do` in it".to_owned(), at: first.at });
        }
        let (tokens, chained_test) = (&tag.tokens, None);
        let mut reader = Reader { tokens, at: 0, depth: 0, known, edits, chained_test };
        let read = reader.tag(tag);
        edits = reader.edits;
        if let Some(at) = reader.chained_test {
            return Err(Invalid { what: "a test cannot follow a test".to_owned(), at });
        }
        if read.is_none() {
            return Ok(source.to_owned());
        }
    }
    Ok(edits.apply(source))
}

/// What is known of an expression before it is evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Number,
    Text,
    Any,
}

#[derive(Clone, Copy)]
struct Node<'a> {
    start: usize,
    end: usize,
    of: Type,
    /// The name that it is, or that filters are applied to; and its end.
    name: Option<(&'a str, usize)>,
}

impl From<Node<'_>> for Place {
    fn from(node: Node<'_>) -> Self {
        Self { start: node.start, end: node.end }
    }
}

struct Reader<'a, 't> {
    tokens: &'t [Token<'a>],
    at: usize,
    depth: usize,
    known: &'t BTreeSet<&'t str>,
    edits: Edits,
    /// Where a test follows a test, which Jinja does not allow.
    chained_test: Option<usize>,
}

impl<'a> Reader<'a, '_> {
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        self.at += 1;
        self.tokens.get(self.at - 1).copied()
    }

    /// Takes the next token if it is this operator or keyword.
    fn take(&mut self, text: &str) -> Option<Token<'a>> {
        if self.peek() == text { self.next() } else { None }
    }

    fn done(&self) -> Option<()> {
        (self.at >= self.tokens.len()).then_some(())
    }

    fn tag(&mut self, tag: &Tag<'a>) -> Option<()> {
        if !tag.statement {
            let node = self.tuple(true)?;
            self.printed(&node);
            return self.done();
        }
        match self.next()?.text {
            "if" | "elif" => {
                self.tuple(false)?;
            }
            "for" => {
                while self.next()?.text != "in" {}
                let over = self.tuple(false)?;
                // Jinja refuses to go through none, which has no items for the engine.
                self.edits.wrap(over, "(", ")|__iter");
                if self.take("if").is_some() {
                    self.expression()?;
                }
                self.take("recursive");
            }
            "set" => {
                while !["=", "|"].contains(&self.peek()) {
                    if self.next().is_none() {
                        return Some(());
                    }
                }
                if self.take("|").is_some() {
                    self.at -= 1;
                    self.filters(Node { start: 0, end: 0, of: Type::Any, name: None })?;
                } else {
                    self.next()?;
                    self.tuple(true)?;
                }
            }
            "with" => {
                while self.at < self.tokens.len() {
                    while self.next()?.text != "=" {}
                    self.expression()?;
                    self.take(",");
                }
            }
            "macro" => {
                self.next()?;
                self.parameters()?;
            }
            "call" => {
                if self.peek() == "(" {
                    self.parameters()?;
                }
                self.expression()?;
            }
            _ => return Some(()),
        }
        self.done()
    }

    /// `(a, b=1)` where a macro is declared.
    fn parameters(&mut self) -> Option<()> {
        self.take("(")?;
        while self.take(")").is_none() {
            self.next()?;
            if self.take("=").is_some() {
                self.expression()?;
            }
            self.take(",");
        }
        Some(())
    }

    /// A printed name that may be undefined says so.
    fn printed(&mut self, node: &Node<'a>) {
        if let Some((name, end)) = node.name
            && !self.known.contains(name)
        {
            let name_node = Node { start: node.start, end, of: Type::Any, name: None };
            self.edits.wrap(name_node, "(", &format!("|__printed('{name}'))"));
        }
    }

    /// One expression, or several with commas between them.
    fn tuple(&mut self, conditional: bool) -> Option<Node<'a>> {
        let read = if conditional { Self::expression } else { Self::or };
        let mut node = read(self)?;
        if self.peek() != "," {
            return Some(node);
        }
        while self.take(",").is_some() {
            if self.at >= self.tokens.len() || self.peek() == "recursive" {
                break;
            }
            node.end = read(self)?.end;
        }
        node = Node { of: Type::Any, name: None, ..node };
        self.edits.wrap(node, "(", ",)");
        Some(node)
    }

    /// Reads what is nested; `None` where it is nested too deeply.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    fn expression(&mut self) -> Option<Node<'a>> {
        let mut node = self.deeper(Self::or)?;
        while self.take("if").is_some() {
            node.end = self.or()?.end;
            if self.take("else").is_some() {
                node.end = self.deeper(Self::expression)?.end;
            }
            node = Node { of: Type::Any, name: None, ..node };
        }
        Some(node)
    }

    fn or(&mut self) -> Option<Node<'a>> {
        let mut node = self.not()?;
        while self.take("or").or_else(|| self.take("and")).is_some() {
            node = Node { end: self.not()?.end, of: Type::Any, name: None, ..node };
        }
        Some(node)
    }

    fn not(&mut self) -> Option<Node<'a>> {
        let Some(not) = self.take("not") else { return self.comparison() };
        let node = self.deeper(Self::not)?;
        Some(Node { start: not.at, of: Type::Any, name: None, ..node })
    }

    fn comparison(&mut self) -> Option<Node<'a>> {
        let first = self.sum()?;
        let mut last = first;
        let mut compared = Vec::new();
        loop {
            let token = match self.peek() {
                "==" | "!=" | "<" | ">" | "<=" | ">=" | "in" => self.next()?,
                "not" if self.tokens.get(self.at + 1).is_some_and(|next| next.text == "in") => {
                    let not = self.next()?;
                    self.next()?;
                    not
                }
                _ => break,
            };
            let operator = self.tokens.get(self.at - 1).copied()?;
            let right = self.sum()?;
            compared.push((token, operator, last, right));
            last = right;
        }
        let node = Node { start: first.start, end: last.end, of: Type::Any, name: None };
        match compared.as_slice() {
            [] => return Some(first),
            [(token, operator, left, right)] => self.compare(token, operator, left, right),
            chain => self.chain(node, chain),
        }
        Some(node)
    }

    /// Several comparisons, of which each has an operand in common with the next.
    fn chain(&mut self, node: Node<'a>, compared: &[(Token<'a>, Token<'a>, Node<'a>, Node<'a>)]) {
        if compared.iter().all(|(token, ..)| ["==", "!="].contains(&token.text)) {
            return;
        }
        for (token, operator, ..) in compared {
            let name = if token.text == "not" { "not in" } else { token.text };
            self.edits.replace(token, operator, &format!(", '{name}', "));
        }
        self.edits.wrap(node, "__chain(", ")");
    }

    fn compare(&mut self, token: &Token, operator: &Token, left: &Node<'a>, right: &Node<'a>) {
        let whole = Node { end: right.end, ..*left };
        let call = match token.text {
            "<" => "__lt(",
            ">" => "__gt(",
            "<=" => "__le(",
            ">=" => "__ge(",
            "in" if left.of != Type::Text => "__in(",
            "not" if left.of != Type::Text => "(not __in(",
            _ => return,
        };
        if left.of == Type::Number && right.of == Type::Number {
            return;
        }
        self.edits.replace(token, operator, ",");
        self.edits.wrap(whole, call, if token.text == "not" { "))" } else { ")" });
    }

    fn sum(&mut self) -> Option<Node<'a>> {
        let mut node = self.joined()?;
        while self.take("+").or_else(|| self.take("-")).is_some() {
            let right = self.joined()?;
            node = Node { end: right.end, of: both(&node, &right), name: None, ..node };
        }
        Some(node)
    }

    /// `a ~ b`, which writes both as Python does.
    fn joined(&mut self) -> Option<Node<'a>> {
        let first = self.product()?;
        let mut operands = vec![first];
        while self.take("~").is_some() {
            operands.push(self.product()?);
        }
        if operands.len() == 1 {
            return Some(first);
        }
        for node in operands.iter().filter(|node| node.of != Type::Text) {
            self.printed(node);
            self.edits.wrap(*node, "(", ")|string");
        }
        let end = operands.last()?.end;
        Some(Node { start: first.start, end, of: Type::Text, name: None })
    }

    fn product(&mut self) -> Option<Node<'a>> {
        let mut node = self.power()?;
        loop {
            let operator = match self.peek() {
                "*" | "/" | "//" | "%" => self.next()?,
                _ => return Some(node),
            };
            let right = self.power()?;
            let whole = Node { end: right.end, name: None, ..node };
            let call = match operator.text {
                "%" if node.of != Type::Number => "__mod(",
                "*" if node.of != Type::Number || right.of != Type::Number => "__mul(",
                _ => "",
            };
            if !call.is_empty() {
                self.edits.replace(&operator, &operator, ",");
                self.edits.wrap(whole, call, ")");
            }
            node = Node { of: both(&node, &right), ..whole };
        }
    }

    fn power(&mut self) -> Option<Node<'a>> {
        let mut node = self.unary(true)?;
        while self.take("**").is_some() {
            let right = self.unary(true)?;
            node = Node { end: right.end, of: both(&node, &right), name: None, ..node };
        }
        Some(node)
    }
}

/// The type of what is calculated of two values.
fn both(left: &Node, right: &Node) -> Type {
    let known = left.of == right.of;
    if known { left.of } else { Type::Any }
}

#[path = "rewrite_operands.rs"]
mod operands;

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
