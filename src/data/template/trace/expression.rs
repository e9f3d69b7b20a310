//! Expressions of a template as trees.

use crate::data::template::lexer::{LexemeKind, Token};

/// Expressions in each other.
const MAX_DEPTH: usize = 64;
/// Escapes in strings that every reader of them takes for the same character.
const ESCAPES: [(char, char); 6] =
    [('n', '\n'), ('t', '\t'), ('r', '\r'), ('\'', '\''), ('"', '"'), ('\\', '\\')];
/// Words that are no names.
const KEYWORDS: [&str; 7] = ["not", "if", "else", "and", "or", "in", "is"];

/// Arguments of a call: those in order, and those with a name.
#[derive(Debug, Default)]
pub struct Arguments {
    /// In their order.
    pub positional: Vec<Expression>,
    /// By name.
    pub named: Vec<(String, Expression)>,
}

/// An expression.
#[derive(Debug)]
pub enum Expression {
    /// A string.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `[a, b]`.
    List(Vec<Expression>),
    /// A name.
    Name(String),
    /// `of.name`.
    Field(Box<Expression>, String),
    /// `of[key]`.
    Item(Box<Expression>, Box<Expression>),
    /// `of[from:to:step]`.
    Slice(Box<Expression>, Box<[Option<Expression>; 3]>),
    /// `function(…)`.
    Call(String, Arguments),
    /// `of.method(…)`.
    Method(Box<Expression>, String, Arguments),
    /// `of | filter(…)`.
    Filter(Box<Expression>, String, Arguments),
    /// `of is test`.
    Test(Box<Expression>, String),
    /// `not of`.
    Not(Box<Expression>),
    /// `-of`.
    Negative(Box<Expression>),
    /// `a and b`.
    And(Box<Expression>, Box<Expression>),
    /// `a or b`.
    Or(Box<Expression>, Box<Expression>),
    /// `then if condition else other`.
    Choice(Box<Expression>, Box<Expression>, Option<Box<Expression>>),
    /// Something that is not known here.
    Unknown,
    /// Two values with an operator between them.
    Binary(Box<Expression>, &'static str, Box<Expression>),
}

/// The tokens of a tag.
pub struct Words<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    depth: usize,
}

impl<'a> Words<'a> {
    /// Those of a tag, from the first on.
    pub fn new(tokens: &'a [Token<'a>]) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    /// Something, if there is one token and no more.
    pub fn is_only(&self) -> Option<()> {
        (self.tokens.len() == 1).then_some(())
    }

    /// The next token.
    pub fn token(&mut self) -> Option<Token<'a>> {
        self.at += 1;
        self.tokens.get(self.at - 1).copied()
    }

    fn peek(&self) -> &'a str {
        // A string is none of the signs and words that are looked for, since it has quotes.
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    /// Reads the next token, if it is this one.
    pub fn take(&mut self, text: &str) -> Option<()> {
        (self.peek() == text).then(|| self.at += 1)
    }

    /// Whether all were read.
    pub fn is_done(&self) -> bool {
        self.at == self.tokens.len()
    }

    /// Something, if all were read.
    pub fn done(&self) -> Option<()> {
        self.is_done().then_some(())
    }

    /// A name.
    pub fn name(&mut self) -> Option<String> {
        let token = self.token().filter(|token| token.kind == LexemeKind::Name)?;
        (!KEYWORDS.contains(&token.text)).then(|| token.text.to_owned())
    }

    /// An expression, and nothing behind it.
    pub fn whole(&mut self) -> Option<Expression> {
        let expression = self.expression()?;
        self.done()?;
        Some(expression)
    }

    /// The same, whatever it is.
    pub fn whole_or_unknown(&mut self) -> Expression {
        self.whole().unwrap_or(Expression::Unknown)
    }

    /// Whether this token is among them.
    pub fn has(&self, text: &str) -> bool {
        self.tokens.iter().any(|token| token.text == text)
    }

    fn expression(&mut self) -> Option<Expression> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut value = self.or()?;
        while self.take("if").is_some() {
            let condition = self.or()?;
            let other = match self.take("else") {
                Some(()) => Some(Box::new(self.expression()?)),
                None => None,
            };
            value = Expression::Choice(Box::new(condition), Box::new(value), other);
        }
        self.depth -= 1;
        Some(value)
    }

    /// An expression without a choice in it.
    pub fn or(&mut self) -> Option<Expression> {
        let mut left = self.and()?;
        while self.take("or").is_some() {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Expression> {
        let mut left = self.not()?;
        while self.take("and").is_some() {
            left = Expression::And(Box::new(left), Box::new(self.not()?));
        }
        Some(left)
    }

    fn not(&mut self) -> Option<Expression> {
        if self.take("not").is_none() {
            return self.comparison();
        }
        self.depth += 1;
        let inner = if self.depth > MAX_DEPTH { None } else { self.not() };
        self.depth -= 1;
        Some(Expression::Not(Box::new(inner?)))
    }

    fn comparison(&mut self) -> Option<Expression> {
        let left = self.operators(0)?;
        let found = ["==", "!=", "<=", ">=", "<", ">", "in"].into_iter();
        let operator = match self.peek() {
            "not" => {
                self.token()?;
                self.take("in")?;
                let inner = Expression::Binary(Box::new(left), "in", Box::new(self.operators(0)?));
                return Some(Expression::Not(Box::new(inner))).filter(|_| self.compares_no_more());
            }
            text => found.into_iter().find(|operator| *operator == text),
        };
        let Some(operator) = operator else { return Some(left) };
        self.token()?;
        let compared = Expression::Binary(Box::new(left), operator, Box::new(self.operators(0)?));
        Some(compared).filter(|_| self.compares_no_more())
    }

    /// Comparisons of more than two values are not followed.
    fn compares_no_more(&self) -> bool {
        !["==", "!=", "<=", ">=", "<", ">", "in", "not"].contains(&self.peek())
    }

    /// Sums, then texts put together, then products.
    fn operators(&mut self, level: usize) -> Option<Expression> {
        const LEVELS: [&[&str]; 3] = [&["+", "-"], &["~"], &["*", "%"]];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.operators(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| **operator == self.peek()) {
            self.token()?;
            let right = self.operators(level + 1)?;
            left = Expression::Binary(Box::new(left), operator, Box::new(right));
        }
        // What these mean is not known here.
        (!["/", "//", "**"].contains(&self.peek())).then_some(left)
    }

    fn unary(&mut self) -> Option<Expression> {
        if self.take("-").is_some() {
            let number = self.token().filter(|token| token.kind == LexemeKind::Number)?;
            let number = Expression::Number(number.text.parse().ok()?);
            return Some(Expression::Negative(Box::new(number)));
        }
        let mut value = self.primary()?;
        loop {
            value = match self.peek() {
                "." => {
                    self.token()?;
                    let name = self.name()?;
                    match self.peek() == "(" {
                        true => Expression::Method(Box::new(value), name, self.arguments()?),
                        false => Expression::Field(Box::new(value), name),
                    }
                }
                "[" => self.subscript(value)?,
                "(" => match value {
                    Expression::Name(name) => Expression::Call(name, self.arguments()?),
                    _ => return None,
                },
                "|" => {
                    self.token()?;
                    let name = self.name()?;
                    let called = self.peek() == "(";
                    let arguments = if called { self.arguments()? } else { Arguments::default() };
                    Expression::Filter(Box::new(value), name, arguments)
                }
                "is" => {
                    self.token()?;
                    let not = self.take("not").is_some();
                    let name = self.token().filter(|token| token.kind == LexemeKind::Name)?;
                    let test = Expression::Test(Box::new(value), name.text.to_owned());
                    // A test may have an argument, which needs no brackets.
                    let ends = ["", "and", "or", "if", "else", ")", "]", ",", "==", "!="];
                    let ended = self.tokens.get(self.at).is_none_or(|it| ends.contains(&it.text));
                    ended.then_some(())?;
                    if not { Expression::Not(Box::new(test)) } else { test }
                }
                _ => return Some(value),
            };
        }
    }

    fn primary(&mut self) -> Option<Expression> {
        let token = self.token()?;
        Some(match (token.kind, token.text) {
            (LexemeKind::Text, text) => {
                let follows =
                    self.tokens.get(self.at).is_some_and(|it| it.kind == LexemeKind::Text);
                Expression::Text(unquoted(text).filter(|_| !follows)?)
            }
            (LexemeKind::Number, text) => Expression::Number(text.parse().ok()?),
            (LexemeKind::Name, name) if !KEYWORDS.contains(&name) => {
                Expression::Name(name.to_owned())
            }
            (LexemeKind::Sign, "(") => {
                let inner = self.expression()?;
                self.take(")")?;
                inner
            }
            (LexemeKind::Sign, "[") => {
                let mut items = Vec::new();
                while self.take("]").is_none() {
                    items.push(self.expression()?);
                    if self.take(",").is_none() && self.peek() != "]" {
                        return None;
                    }
                }
                Expression::List(items)
            }
            _ => return None,
        })
    }

    fn subscript(&mut self, of: Expression) -> Option<Expression> {
        self.take("[")?;
        let (mut parts, mut number) = ([None, None, None], 0);
        loop {
            match self.peek() {
                "]" => break,
                ":" => {
                    self.token()?;
                    number += 1;
                }
                _ => *parts.get_mut(number)? = Some(self.expression()?),
            }
        }
        self.take("]")?;
        if number > 0 {
            return Some(Expression::Slice(Box::new(of), Box::new(parts)));
        }
        let [key, ..] = parts;
        Some(Expression::Item(Box::new(of), Box::new(key?)))
    }

    fn arguments(&mut self) -> Option<Arguments> {
        let mut arguments = Arguments::default();
        self.take("(")?;
        while self.take(")").is_none() {
            let named = self.tokens.get(self.at + 1).is_some_and(|next| next.text == "=");
            if named {
                let name = self.name()?;
                self.take("=")?;
                arguments.named.push((name, self.expression()?));
            } else {
                arguments.positional.push(self.expression()?);
            }
            if self.take(",").is_none() && self.peek() != ")" {
                return None;
            }
        }
        Some(arguments)
    }

    /// The names of a macro's parameters, with what they are where nothing is given.
    pub fn parameters(&mut self) -> Option<Vec<(String, Option<Expression>)>> {
        let mut parameters = Vec::new();
        self.take("(")?;
        while self.take(")").is_none() {
            let name = self.name()?;
            let missing = if self.take("=").is_some() { Some(self.expression()?) } else { None };
            parameters.push((name, missing));
            if self.take(",").is_none() && self.peek() != ")" {
                return None;
            }
        }
        self.done()?;
        Some(parameters)
    }
}

/// What a string with quotes says.
fn unquoted(literal: &str) -> Option<String> {
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    let (mut out, mut chars) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => {
                let escape = chars.next()?;
                ESCAPES.iter().find(|(sign, _)| *sign == escape)?.1
            }
            c => c,
        });
    }
    Some(out)
}
