//! A template as a tree, as far as it can be followed with contents that are not known.

use super::expression::{Expression, Words};
use crate::data::template::lexer::{Tag, tags};

/// Blocks in each other.
const MAX_DEPTH: usize = 64;

/// What a template does.
#[derive(Debug)]
pub enum Statement {
    /// Text as it is.
    Data(String),
    /// `{{ … }}`.
    Print(Expression),
    /// `{% if … %}`: conditions with what they guard, and what is done where none holds.
    If(Vec<(Expression, Vec<Statement>)>, Vec<Statement>),
    /// `{% for name in list if condition %}`.
    For {
        /// The name of an item, or those of its parts.
        names: Vec<String>,
        /// What is gone through.
        list: Expression,
        /// Which of its items are.
        filter: Option<Expression>,
        /// What is done with each.
        body: Vec<Statement>,
    },
    /// `{% set name = value %}`, or of a field of a namespace.
    Set(String, Option<String>, Expression),
    /// `{% set name %}…{% endset %}`.
    Capture(String, Vec<Statement>),
    /// `{% macro name(parameters) %}`.
    Macro(String, Vec<(String, Option<Expression>)>, Vec<Statement>),
    /// `{% generation %}`.
    Generation(Vec<Statement>),
    /// Something that is not known here: what matters is only whether it is done.
    Unknown,
    /// `{% break %}`.
    Break,
    /// `{% continue %}`.
    Continue,
}

/// Reads a template; `None` where there is anything in it that is not known here.
pub fn parse(source: &str) -> Option<Vec<Statement>> {
    let tags = tags(source)?;
    let mut parser = Parser { source, tags: &tags, next: 0, at: 0, depth: 0 };
    let body = parser.body(&[])?;
    (parser.next == tags.len()).then_some(body)
}

struct Parser<'a> {
    source: &'a str,
    tags: &'a [Tag<'a>],
    /// The tag that comes next.
    next: usize,
    /// What was read of the source.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Statements up to a tag that begins with one of these words, which comes next then; without
    /// words up to the end.
    fn body(&mut self, ends: &[&str]) -> Option<Vec<Statement>> {
        self.depth += 1;
        let mut body = Vec::new();
        loop {
            let Some(tag) = self.tags.get(self.next) else {
                self.data(None, &mut body)?;
                self.depth -= 1;
                return ends.is_empty().then_some(body);
            };
            self.data(Some(tag), &mut body)?;
            let word = tag.tokens.first().map_or("", |token| token.text);
            if tag.statement && ends.contains(&word) {
                self.depth -= 1;
                return Some(body);
            }
            if self.depth > MAX_DEPTH {
                return None;
            }
            self.next += 1;
            let mut words = Words::new(&tag.tokens);
            body.push(match tag.statement {
                true => self.statement(&mut words)?,
                false => Statement::Print(words.whole_or_unknown()),
            });
        }
    }

    /// Reads the tag that ends a body.
    fn end(&mut self) -> Option<Words<'a>> {
        let tag = self.tags.get(self.next)?;
        self.next += 1;
        Some(Words::new(&tag.tokens))
    }

    /// The end of a body, which says no more than a word.
    fn only(&mut self) -> Option<()> {
        self.end()?.is_only()
    }

    fn statement(&mut self, words: &mut Words<'a>) -> Option<Statement> {
        Some(match words.token()?.text {
            "if" => {
                let (mut branches, mut other) = (Vec::new(), Vec::new());
                let mut condition = words.whole_or_unknown();
                loop {
                    branches.push((condition, self.body(&["elif", "else", "endif"])?));
                    let mut words = self.end()?;
                    match (words.token()?.text, words.is_done()) {
                        ("elif", false) => condition = words.whole_or_unknown(),
                        ("else", true) => {
                            other = self.body(&["endif"])?;
                            self.only()?;
                            break;
                        }
                        ("endif", true) => break,
                        _ => return None,
                    }
                }
                Statement::If(branches, other)
            }
            "for" => {
                let head = head(words);
                let (names, list, filter) = head.unwrap_or((Vec::new(), Expression::Unknown, None));
                let body = self.body(&["endfor"])?;
                self.only()?;
                Statement::For { names, list, filter, body }
            }
            "set" => {
                let name = words.name();
                match name {
                    Some(name) if words.is_done() => {
                        let body = self.body(&["endset"])?;
                        self.only()?;
                        Statement::Capture(name, body)
                    }
                    // Without a value it is a block, whose end is not looked for here.
                    name => match assigned(name, words) {
                        None if words.has("=") => Statement::Unknown,
                        found => found?,
                    },
                }
            }
            "macro" => {
                let name = words.name()?;
                let parameters = words.parameters();
                let body = self.body(&["endmacro"])?;
                self.end()?;
                match parameters {
                    Some(parameters) => Statement::Macro(name, parameters, body),
                    None => Statement::Macro(name, Vec::new(), vec![Statement::Unknown]),
                }
            }
            "generation" if words.is_done() => {
                let body = self.body(&["endgeneration"])?;
                self.only()?;
                Statement::Generation(body)
            }
            "break" if words.is_done() => Statement::Break,
            "continue" if words.is_done() => Statement::Continue,
            _ => return None,
        })
    }

    /// The text before a tag, without the white space that the tags around it take away.
    fn data(&mut self, tag: Option<&Tag>, body: &mut Vec<Statement>) -> Option<()> {
        let end = tag.map_or(self.source.len(), |tag| tag.start);
        while let Some(found) = self.source.get(self.at..end)?.find("{#") {
            let start = self.at + found;
            self.text(start, true, body)?;
            self.at = start + 2 + self.source.get(start + 2..)?.find("#}")? + 2;
        }
        self.text(end, tag.is_some_and(|tag| tag.statement), body)?;
        self.at = tag.map_or(end, |tag| tag.end);
        Some(())
    }

    /// The text up to `end`; there a block or a comment begins, or something else.
    fn text(&self, end: usize, block: bool, body: &mut Vec<Statement>) -> Option<()> {
        let mut text = self.source.get(self.at..end)?;
        match self.source.as_bytes().get(end + 2) {
            Some(b'-') => text = text.trim_end(),
            Some(b'+') => {}
            _ if block => {
                let spaces = text.trim_end_matches([' ', '\t']);
                let line = spaces.ends_with('\n') || (spaces.is_empty() && self.at == 0);
                text = if line { spaces } else { text };
            }
            _ => {}
        }
        let before = self.source.get(..self.at)?;
        let sign = before.len().checked_sub(3).and_then(|at| before.as_bytes().get(at));
        if before.ends_with(['}']) && sign == Some(&b'-') {
            text = text.trim_start();
        } else if before.ends_with("%}") || before.ends_with("#}") {
            let kept = sign == Some(&b'+');
            text = text.strip_prefix('\n').filter(|_| !kept).unwrap_or(text);
        }
        if end == self.source.len() {
            text = text.strip_suffix('\n').unwrap_or(text);
        }
        if !text.is_empty() {
            body.push(Statement::Data(text.to_owned()));
        }
        Some(())
    }
}

/// What stands behind `for`: names, a list, and which of its items are gone through.
fn head(words: &mut Words) -> Option<(Vec<String>, Expression, Option<Expression>)> {
    let mut names = vec![words.name()?];
    if words.take(",").is_some() {
        names.push(words.name()?);
    }
    words.take("in")?;
    let list = words.or()?;
    let filter = if words.take("if").is_some() { Some(words.or()?) } else { None };
    words.done()?;
    Some((names, list, filter))
}

/// What is assigned to a name, or to a field of a namespace.
fn assigned(name: Option<String>, words: &mut Words) -> Option<Statement> {
    let field = if words.take(".").is_some() { Some(words.name()?) } else { None };
    words.take("=")?;
    Some(Statement::Set(name?, field, words.whole_or_unknown()))
}
