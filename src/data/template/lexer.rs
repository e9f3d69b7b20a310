//! The tags of a template and their tokens, as Jinja's lexer sees them.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LexemeKind {
    /// A name or a keyword.
    Name,
    /// A whole number or one with a fraction.
    Number,
    /// A string with its quotes.
    Text,
    /// An operator or a bracket.
    Sign,
}

/// A token of an expression.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    /// What it is.
    pub kind: LexemeKind,
    /// As it is written.
    pub text: &'a str,
    /// Where it begins in the source.
    pub at: usize,
}

impl Token<'_> {
    /// Where it ends in the source.
    pub fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

/// `{% … %}` or `{{ … }}`.
#[derive(Debug)]
pub struct Tag<'a> {
    /// `{% … %}`.
    pub statement: bool,
    /// What is in it.
    pub tokens: Vec<Token<'a>>,
    /// Where it begins.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

const OPERATORS: [&str; 6] = ["//", "**", "==", "!=", ">=", "<="];

/// The tags of a template; `None` if they cannot be read.
pub fn tags(source: &str) -> Option<Vec<Tag<'_>>> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(start) = source.get(at..)?.find('{').map(|found| at + found) {
        let (close, statement) = match source.as_bytes().get(start + 1) {
            Some(b'#') => {
                at = start + 2 + source.get(start + 2..)?.find("#}")? + 2;
                continue;
            }
            Some(b'%') => ("%}", true),
            Some(b'{') => ("}}", false),
            _ => {
                at = start + 1;
                continue;
            }
        };
        let (tag, end) = tag(source, start + 2, close)?;
        at = end;
        if statement && matches!(tag.as_slice(), [only] if only.text == "raw") {
            at = after_raw(source, end)?;
        }
        tags.push(Tag { statement, tokens: tag, start, end });
    }
    Some(tags)
}

/// The tokens from `at` on, up to the end of the tag; and where that is.
fn tag<'a>(source: &'a str, at: usize, close: &str) -> Option<(Vec<Token<'a>>, usize)> {
    let mut at = at;
    at += usize::from(source.get(at..)?.starts_with(['-', '+']));
    let mut tokens: Vec<Token> = Vec::new();
    let mut depth = 0_usize;
    loop {
        let rest = source.get(at..)?;
        let unmarked = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if depth == 0 && unmarked.starts_with(close) {
            return Some((tokens, at + rest.len() - unmarked.len() + close.len()));
        }
        let after_dot = tokens.last().is_some_and(|token| token.text == ".");
        let (kind, length) = token(rest, after_dot)?;
        let text = rest.get(..length)?;
        match text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if !text.trim().is_empty() {
            tokens.push(Token { kind, text, at });
        }
        at += length;
    }
}

/// Where the text that `{% raw %}` keeps from being read ends.
fn after_raw(source: &str, at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        let start = at + source.get(at..)?.find("{%")? + 2;
        let inside = source.get(start..)?.trim_start_matches(['-', '+']).trim_start();
        if let Some(rest) = inside.strip_prefix("endraw") {
            let close = rest.trim_start().trim_start_matches(['-', '+']);
            if close.starts_with("%}") {
                return Some(source.len() - close.len() + 2);
            }
        }
        at = start;
    }
}

/// The kind and the length of the first token; white space is one.
fn token(rest: &str, after_dot: bool) -> Option<(LexemeKind, usize)> {
    let first = rest.chars().next()?;
    let run = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
    Some(match first {
        c if c.is_whitespace() => (LexemeKind::Sign, run(char::is_whitespace)),
        c if c.is_ascii_digit() => (LexemeKind::Number, number(rest, after_dot)),
        c if c.is_alphabetic() || c == '_' => {
            (LexemeKind::Name, run(|c| c.is_alphanumeric() || c == '_'))
        }
        '\'' | '"' => {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|&(_, c)| {
                let ends = c == first && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            (LexemeKind::Text, end?.0 + 1)
        }
        _ if OPERATORS.iter().any(|operator| rest.starts_with(operator)) => (LexemeKind::Sign, 2),
        c => (LexemeKind::Sign, c.len_utf8()),
    })
}

/// The length of a number: `12`, `0x1f`, `1_000`, `1.5e-3`.
fn number(rest: &str, after_dot: bool) -> usize {
    let bytes = rest.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let word = |at: usize| bytes.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_');
    let digits = |mut at: usize| {
        while digit(at) || (bytes.get(at) == Some(&b'_') && digit(at + 1)) {
            at += 1;
        }
        at
    };
    let mut at = digits(0);
    if matches!(bytes.get(1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B')) {
        while word(at) {
            at += 1;
        }
        return at;
    }
    if !after_dot && bytes.get(at) == Some(&b'.') && digit(at + 1) {
        at = digits(at + 1);
    }
    if !after_dot && matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if digit(at + 1 + sign) {
            at = digits(at + 1 + sign);
        }
    }
    at
}

/// A string literal with escapes that Python and the engine read in the same way; `None` if it
/// has no others.
pub fn portable(literal: &str) -> Option<String> {
    literal.contains('\\').then_some(())?;
    let mut out = String::with_capacity(literal.len());
    let mut changed = false;
    let mut rest = literal;
    while let Some(found) = rest.find('\\') {
        out.push_str(&rest[..found]);
        rest = &rest[found + 1..];
        let escape = rest.chars().next()?;
        let wide = rest.get(1..9).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let (length, text) = match (escape, wide.and_then(char::from_u32)) {
            ('\n', _) => (1, String::new()),
            ('/', _) => (1, "\\\\/".to_owned()),
            ('a', _) => (1, "\\x07".to_owned()),
            ('v', _) => (1, "\\x0b".to_owned()),
            ('U', Some(c)) if !['\\', '\'', '"'].contains(&c) => (9, c.to_string()),
            (c, _) => {
                out.extend(['\\', c]);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        out.push_str(&text);
        rest = &rest[length..];
        changed = true;
    }
    out.push_str(rest);
    changed.then_some(out)
}
