//! Operands: names, literals, attributes, subscripts, calls, filters and tests.

use super::super::lexer::{LexemeKind, Token, portable};
use super::{DEFAULTS, DICT_METHODS, LOOP_NUMBERS, NUMBERS, Node, Reader, Type};

impl<'a> Reader<'a, '_> {
    /// An operand with its signs, attributes and calls, and with its filters if they belong to it.
    pub(super) fn unary(&mut self, filtered: bool) -> Option<Node<'a>> {
        let sign = self.take("-").or_else(|| self.take("+"));
        let mut node = match sign {
            Some(sign) => {
                let inner = self.deeper(|reader| reader.unary(false))?;
                let node = Node { start: sign.at, name: None, ..inner };
                // The engine has no `+`, and its `-` does not take truth values.
                if sign.text == "+" || node.of != Type::Number {
                    let call = if sign.text == "+" { "__pos(" } else { "__neg(" };
                    self.edits.replace(&sign, &sign, "");
                    self.edits.wrap(node, call, ")");
                }
                node
            }
            None => self.primary()?,
        };
        node = self.postfix(node)?;
        if filtered { self.filters(node) } else { Some(node) }
    }

    fn primary(&mut self) -> Option<Node<'a>> {
        let token = self.next()?;
        let node = |of, name| Node { start: token.at, end: token.end(), of, name };
        match (token.kind, token.text) {
            (LexemeKind::Number, _) => Some(node(Type::Number, None)),
            (LexemeKind::Text, _) => {
                let mut end = token.end();
                self.escapes(&token);
                while self.tokens.get(self.at).is_some_and(|next| next.kind == LexemeKind::Text) {
                    let next = self.next()?;
                    self.escapes(&next);
                    end = next.end();
                }
                Some(Node { end, ..node(Type::Text, None) })
            }
            (LexemeKind::Name, "true" | "True" | "false" | "False" | "none" | "None") => {
                Some(node(Type::Any, None))
            }
            (LexemeKind::Name, name) => Some(node(Type::Any, Some((name, token.end())))),
            (_, "(") => self.items(&token, ")"),
            (_, "[") => self.items(&token, "]"),
            (_, "{") => self.items(&token, "}"),
            _ => None,
        }
    }

    /// A string whose escapes the engine does not know as Python does is written with those that
    /// it knows.
    fn escapes(&mut self, token: &Token<'a>) {
        if let Some(text) = portable(token.text) {
            self.edits.replace(token, token, &text);
        }
    }

    /// What stands in brackets, with its commas and colons.
    fn items(&mut self, open: &Token<'a>, close: &str) -> Option<Node<'a>> {
        let mut of = Type::Any;
        let mut count = 0;
        loop {
            if let Some(end) = self.take(close) {
                let of = if close == ")" && count == 1 { of } else { Type::Any };
                return Some(Node { start: open.at, end: end.end(), of, name: None });
            }
            of = self.expression()?.of;
            count += 1;
            if close == "}" {
                self.take(":")?;
                self.expression()?;
            }
            if self.take(",").is_some() {
                count += 1;
            } else if self.peek() != close {
                return None;
            }
        }
    }

    fn postfix(&mut self, node: Node<'a>) -> Option<Node<'a>> {
        let mut node = node;
        loop {
            node = match self.peek() {
                "." => self.attribute(node)?,
                "[" => self.subscript(node)?,
                "(" => Node { end: self.arguments()?, of: Type::Any, name: None, ..node },
                _ => return Some(node),
            };
        }
    }

    fn attribute(&mut self, node: Node<'a>) -> Option<Node<'a>> {
        let dot = self.next()?;
        let name = self.next()?;
        let of = match node.name {
            Some(("loop", end)) if end == node.end && LOOP_NUMBERS.contains(&name.text) => {
                Type::Number
            }
            _ => Type::Any,
        };
        let whole = Node { start: node.start, end: name.end(), of, name: None };
        if DICT_METHODS.contains(&name.text) && self.peek() != "(" {
            self.edits.replace(&dot, &name, &format!(", '{}'", name.text));
            self.edits.wrap(whole, "__attr(", ")");
        }
        Some(whole)
    }

    fn subscript(&mut self, node: Node<'a>) -> Option<Node<'a>> {
        let open = self.next()?;
        let mut parts: Vec<Option<Token>> = Vec::new();
        let key = self.tokens.get(self.at).copied()?;
        let mut colons = Vec::new();
        loop {
            match self.peek() {
                ":" => colons.push(self.next()?),
                "]" => break,
                _ => {
                    parts.push(self.tokens.get(self.at).copied());
                    self.expression()?;
                    if self.peek() != ":" && self.peek() != "]" {
                        return None;
                    }
                }
            }
        }
        let close = self.next()?;
        let whole = Node { start: node.start, end: close.end(), of: Type::Any, name: None };
        if !colons.is_empty() {
            self.slice(&open, &colons, &close)?;
            self.edits.wrap(whole, "__slice(", ")");
        } else if key.kind == LexemeKind::Text
            && parts.len() == 1
            && self.tokens.get(self.at.checked_sub(2)?).is_some_and(|last| last.at == key.at)
            && DICT_METHODS.contains(&key.text.trim_matches(['\'', '"']))
        {
            self.edits.replace(&open, &open, ", ");
            self.edits.replace(&close, &close, "");
            self.edits.wrap(whole, "__item(", ")");
        }
        Some(whole)
    }

    /// `[a:b:c]` becomes `, a, b, c`, with `none` for what is left out.
    fn slice(&mut self, open: &Token<'a>, colons: &[Token<'a>], close: &Token<'a>) -> Option<()> {
        if colons.len() > 2 {
            return None;
        }
        let mut marks = vec![*open];
        marks.extend(colons);
        marks.push(*close);
        for pair in marks.windows(2) {
            let [mark, next] = pair else { return None };
            let at = |token: &Token| self.tokens.iter().position(|other| other.at == token.at);
            let empty = at(mark)? + 1 == at(next)?;
            self.edits.replace(mark, mark, if empty { ", none" } else { ", " });
        }
        self.edits.replace(close, close, "");
        Some(())
    }

    /// `(a, b=1, *c, **d)`; returns its end.
    fn arguments(&mut self) -> Option<usize> {
        self.take("(")?;
        loop {
            if let Some(close) = self.take(")") {
                return Some(close.end());
            }
            let named = self.tokens.get(self.at + 1).is_some_and(|next| next.text == "=");
            if named {
                self.at += 2;
            } else {
                let _ = self.take("*").or_else(|| self.take("**"));
            }
            self.expression()?;
            if self.take(",").is_none() && self.peek() != ")" {
                return None;
            }
        }
    }

    /// Filters and tests, which bind more tightly than any operator.
    pub(super) fn filters(&mut self, node: Node<'a>) -> Option<Node<'a>> {
        let mut node = node;
        loop {
            match self.peek() {
                "|" => {
                    self.next()?;
                    let name = self.dotted()?;
                    node.end = name.end();
                    if self.peek() == "(" {
                        node.end = self.arguments()?;
                    }
                    let number = NUMBERS.contains(&name.text);
                    node.of = if number { Type::Number } else { Type::Any };
                    node.name = node.name.filter(|_| !DEFAULTS.contains(&name.text));
                }
                "is" => {
                    self.next()?;
                    self.take("not");
                    node = Node { end: self.test()?, of: Type::Any, name: None, ..node };
                    match self.peek() {
                        "is" => self.chained_test = self.tokens.get(self.at).map(|is| is.at),
                        // The engine would take the sign for an argument of the test.
                        "+" | "-" => self.edits.wrap(node, "(", ")"),
                        _ => {}
                    }
                }
                "(" => node = Node { end: self.arguments()?, of: Type::Any, name: None, ..node },
                _ => return Some(node),
            }
        }
    }

    /// A test's name and argument; returns its end.
    fn test(&mut self) -> Option<usize> {
        let name = self.dotted()?;
        if self.peek() == "(" {
            return self.arguments();
        }
        let argument = self.tokens.get(self.at).is_some_and(|next| match next.kind {
            LexemeKind::Name => !["else", "or", "and", "is"].contains(&next.text),
            LexemeKind::Number | LexemeKind::Text => true,
            LexemeKind::Sign => ["[", "{"].contains(&next.text),
        });
        if !argument {
            return Some(name.end());
        }
        let node = self.primary()?;
        Some(self.postfix(node)?.end)
    }

    fn dotted(&mut self) -> Option<Token<'a>> {
        let mut name = self.next().filter(|name| name.kind == LexemeKind::Name)?;
        while self.take(".").is_some() {
            name = self.next().filter(|name| name.kind == LexemeKind::Name)?;
        }
        Some(name)
    }
}
