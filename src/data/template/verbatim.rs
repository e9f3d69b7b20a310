//! Which templates do nothing with the content of messages but write it, found in their source.
//!
//! Of such a template, what it writes of a conversation is the same for all conversations with the
//! same roles, but for the contents, which stand there word for word. So one rendering says what
//! all of them become ([`crate::data::stencil`]). The source is read with suspicion: what is not
//! known to leave contents as they are is taken to change them.

use std::collections::BTreeSet;

use super::lexer::{Kind, Tag, Token, tags};

/// The field that is written.
const CONTENT: &str = "content";
/// The fields that messages may be asked for: no name of a method of dictionaries, which gives
/// everything that is in one.
const FIELDS: [&str; 12] = [
    "role",
    CONTENT,
    "name",
    "tool_calls",
    "tool_call_id",
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_responses",
    "tool_name",
    "function_call",
    "recipient",
];
/// These words reach values in ways that are not followed here.
const FORBIDDEN: [&str; 7] = ["debug", "self", "super", "caller", "varargs", "kwargs", "recursive"];
/// What `loop` may be asked: nothing that gives a message.
const LOOP_FIELDS: [&str; 7] =
    ["first", "last", "index", "index0", "length", "revindex", "revindex0"];
/// Tests of which the type of a text decides.
const TESTS_OF_TYPES: [&str; 5] = ["string", "defined", "undefined", "none", "mapping"];
/// Escapes in strings that write nothing but what is to be seen.
const ESCAPES: [char; 6] = ['n', 't', 'r', '\'', '"', '\\'];

/// Whether a template only writes contents, as they are or without white space around them,
/// where they are not empty. It writes none of the characters in `absent`.
pub fn is_verbatim(source: &str, absent: &[char]) -> bool {
    let mut rest = source.split('\\').skip(1);
    // Behind an escaped backslash anything may stand.
    let plain = rest.all(|rest| rest.is_empty() || rest.starts_with(ESCAPES));
    let Some(tags) = tags(source).filter(|_| plain && !source.contains(absent)) else {
        return false;
    };
    let mut names = Names { lists: BTreeSet::from(["messages"]), ..Names::default() };
    // A name is what it is anywhere: until no more are found.
    loop {
        let before = names.count();
        tags.iter().for_each(|tag| names.learn(tag));
        if names.count() == before {
            break;
        }
    }
    tags.iter().all(|tag| names.allows(tag))
}

/// What names may stand for.
#[derive(Default)]
struct Names<'a> {
    /// The messages, or those from some message on.
    lists: BTreeSet<&'a str>,
    /// A message.
    turns: BTreeSet<&'a str>,
    /// Text with the content of a message in it.
    texts: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn count(&self) -> usize {
        self.lists.len() + self.turns.len() + self.texts.len()
    }

    fn learn(&mut self, tag: &Tag<'a>) {
        match tag.tokens.as_slice() {
            [keyword, name, is, value @ ..] if tag.statement && name.kind == Kind::Name => {
                match (keyword.text, is.text) {
                    ("for", "in") if self.is_list(value) => self.turns.insert(name.text),
                    ("set", "=") if self.is_list(value) => self.lists.insert(name.text),
                    ("set", "=") if self.has_content(value) => self.texts.insert(name.text),
                    _ => false,
                };
            }
            _ => {}
        }
    }

    /// Whether nothing in a tag does more with contents than write them.
    fn allows(&self, tag: &Tag) -> bool {
        let tokens = tag.tokens.as_slice();
        if !tag.statement {
            return self.is_chain(tokens) || self.is_clean(tokens, false);
        }
        let Some((keyword, rest)) = tokens.split_first() else { return false };
        match (keyword.text, rest) {
            ("else" | "endif" | "endfor" | "break" | "continue", rest) => rest.is_empty(),
            ("if" | "elif", [list]) if self.lists.contains(list.text) => true,
            ("if" | "elif", rest) => self.is_clean(rest, true),
            ("for" | "set", [name, is, value @ ..])
                if name.kind == Kind::Name && ["in", "="].contains(&is.text) =>
            {
                let own = self.is_list(value)
                    || (keyword.text == "set" && self.has_content(value) && self.is_chain(value));
                (own && !["messages", "loop"].contains(&name.text))
                    || (self.is_free(name.text) && self.is_clean(value, false))
            }
            // More than one name, or a field of one.
            ("for" | "set", rest) => self.is_clean(rest, false) && has_sign(rest),
            _ => false,
        }
    }

    fn is_free(&self, name: &str) -> bool {
        let all = [&self.lists, &self.turns];
        !all.iter().any(|names| names.contains(name))
            && !FORBIDDEN.contains(&name)
            && name != "loop"
    }

    /// `messages` or `messages[1:]`.
    fn is_list(&self, tokens: &[Token]) -> bool {
        match tokens {
            [list] => self.lists.contains(list.text),
            [list, open, number, colon, close] => {
                self.lists.contains(list.text)
                    && number.kind == Kind::Number
                    && [open.text, colon.text, close.text] == ["[", ":", "]"]
            }
            _ => false,
        }
    }

    /// Whether a content, or a text with one in it, stands anywhere in an expression.
    fn has_content(&self, tokens: &[Token]) -> bool {
        (0..tokens.len()).any(|at| {
            let field = at > 0 && tokens[at - 1].text == ".";
            (!field && tokens[at].kind == Kind::Name && self.texts.contains(tokens[at].text))
                || self.access(&tokens[at..]).is_some_and(|(_, key)| key == CONTENT)
        })
    }

    /// The field of a message at the beginning of some tokens: of how many it is made, and its
    /// name.
    fn access<'t>(&self, tokens: &'t [Token]) -> Option<(usize, &'t str)> {
        let first = tokens.first().filter(|token| token.kind == Kind::Name)?;
        let message = if self.turns.contains(first.text) {
            1
        } else if self.lists.contains(first.text) && tokens.get(1)?.text == "[" {
            let inside = tokens.get(2..)?.iter().take_while(|token| token.text != "]").count();
            let inner = tokens.get(2..2 + inside)?;
            let plain = |token: &Token| !["[", "(", "{", ":"].contains(&token.text);
            (inside > 0 && inner.iter().all(plain) && self.is_clean(inner, false))
                .then_some(2 + inside + 1)?
        } else {
            return None;
        };
        let (length, name) = match tokens.get(message..)? {
            [dot, key, ..] if dot.text == "." && key.kind == Kind::Name => (message + 2, key.text),
            [open, key, close, ..] if open.text == "[" && close.text == "]" => {
                let quoted = key.kind == Kind::Text && !key.text.contains('\\');
                let name = key.text.get(1..key.text.len().checked_sub(1)?)?;
                quoted.then_some((message + 3, name))?
            }
            _ => return None,
        };
        FIELDS.contains(&name).then_some((length, name))
    }

    /// Texts put together with `+` or `~`: whatever they are, contents stand in them as they are.
    fn is_chain(&self, tokens: &[Token]) -> bool {
        let length = match tokens {
            [text, ..] if text.kind == Kind::Text => 1,
            [name, ..] if self.access(tokens).is_none() => {
                let names_text = self.texts.contains(name.text) || self.is_free(name.text);
                match name.kind == Kind::Name && names_text && !is_operator(name.text) {
                    true => 1,
                    false => return false,
                }
            }
            _ => {
                let Some((length, _)) = self.access(tokens) else { return false };
                match tokens.get(length..length + 2) {
                    Some([bar, filter]) if bar.text == "|" && filter.text == "trim" => length + 2,
                    _ => length,
                }
            }
        };
        match tokens.get(length..) {
            None | Some([]) => true,
            Some([sign, rest @ ..]) => ["+", "~"].contains(&sign.text) && self.is_chain(rest),
        }
    }

    /// Whether no content stands in an expression; in a condition it may stand by itself, since it
    /// is not empty.
    fn is_clean(&self, tokens: &[Token], condition: bool) -> bool {
        let whole = condition && !tokens.iter().any(|it| ["if", "else"].contains(&it.text));
        let (mut at, mut depth) = (0, 0_usize);
        while let Some(token) = tokens.get(at) {
            let before = at.checked_sub(1).map(|before| tokens[before].text);
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            let field = matches!(before, Some("." | "|"));
            if token.kind != Kind::Name || field {
                at += 1;
                continue;
            }
            if let Some((length, key)) = self.access(&tokens[at..]) {
                let after = tokens.get(at + length).map(|token| token.text);
                let alone = matches!(before, None | Some("and" | "or" | "not"))
                    && matches!(after, None | Some("and" | "or"));
                let fine = (whole && depth == 0 && alone) || is_tested(tokens, at, length);
                if key == CONTENT && !fine {
                    return false;
                }
                at += length;
                continue;
            }
            let after = |index: usize| tokens.get(at + index).map(|token| token.text);
            let fine = match token.text {
                "loop" => after(1) == Some(".") && LOOP_FIELDS.contains(&after(2).unwrap_or("")),
                name if self.lists.contains(name) => {
                    (after(1), after(2)) == (Some("|"), Some("length"))
                }
                name => self.is_free(name) && !self.texts.contains(name),
            };
            if !fine {
                return false;
            }
            at += 1;
        }
        true
    }
}

/// Whether nothing but the type of a value is asked for.
fn is_tested(tokens: &[Token], at: usize, length: usize) -> bool {
    let before = at.checked_sub(1).map(|before| tokens[before].text);
    let after = |index: usize| tokens.get(at + length + index).map_or("", |token| token.text);
    let test = if after(1) == "not" { after(2) } else { after(1) };
    matches!(before, None | Some("and" | "or" | "not" | "if" | "else" | "("))
        && after(0) == "is"
        && TESTS_OF_TYPES.contains(&test)
}

/// Whether something is assigned, or gone through: a block that is captured has no such sign.
fn has_sign(tokens: &[Token]) -> bool {
    tokens.iter().any(|token| ["=", "in"].contains(&token.text))
}

fn is_operator(word: &str) -> bool {
    ["not", "if", "else", "and", "or", "in", "is"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_that_only_write_contents_are_known() {
        for source in [
            "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + \
             message['content'] + '<|im_end|>\\n' }}{%- endfor %}{% if add_generation_prompt %}a\
             {% endif %}",
            "{% if messages[0]['role'] == 'system' %}{% set system = messages[0].content | trim %}\
             {% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}\
             {% for m in rest %}{% if m.role == 'user' and not loop.first %}{% set text = bos_token \
             + m.content %}{{ text }}{% elif m.content and m.role %}{{ m.content | trim ~ x }}\
             {% endif %}{% endfor %}{{ system }}{{ 'a' if messages | length > 3 else tools | tojson }}",
            "{% for m in messages %}{% set role, other = m.role, 1 %}{% set ns.x = loop.index %}\
             {% if m.content is string and (m.content is not none) %}x{% endif %}\
             {{ messages[loop.index0 - 1].role }}{{ (m.role | upper) }}{{ m.content }}{% endfor %}",
        ] {
            assert!(is_verbatim(source, &['\u{f8ff}']), "{source}");
        }
    }

    #[test]
    fn whatever_else_is_done_with_contents_is_noticed() {
        for inside in [
            "{{ m.content | upper }}",
            "{{ m['content'].strip() }}",
            "{{ m.content[0] }}",
            "{{ m['con' ~ 'tent'] }}",
            "{{ m.get('content') }}",
            "{% set get = m.get %}{{ get('content') | upper }}",
            "{{ m['items']() }}",
            "{% for text in m.values() %}{{ text }}{% endfor %}",
            "{{ m }}",
            "{{ m | tojson }}",
            "{{ (m.content + 'a') | trim }}",
            "{{ m.content if x else 'b' }}",
            "{{ m.content + x * 2 }}",
            "{{ 'a' in m.content }}",
            "{{ m.content | length }}",
            "{{ x(m.content) }}",
            "{{ messages | tojson }}",
            "{{ messages[0] }}",
            "{{ messages[m.content].role }}",
            "{{ messages[-1:][0].content }}",
            "{{ loop.previtem.content }}",
            "{{ loop }}",
            "{% if m.content == 'a' %}{% endif %}",
            "{% if (m.content) == 'a' %}{% endif %}",
            "{% if 'a' == m.content is string %}{% endif %}",
            "{% if m.content is lower %}{% endif %}",
            "{% if x(a or m.content and b) %}{% endif %}",
            "{% if (a or m.content) > 'b' %}{% endif %}",
            "{% if 'a' in m.content or b %}{% endif %}",
            "{% if a if m.content else b %}{% endif %}",
            "{% set x = m.content %}{% if x %}{% endif %}",
            "{% set x = m.content %}{{ x | trim }}",
            "{% set x = m.content %}{% set y = x %}{{ y | upper }}",
            "{% set x = m %}{{ x.content | upper }}",
            "{% set ns.x = m.content %}",
            "{% set a, b = m.content, 1 %}",
            "{% set x %}{{ m.content }}{% endset %}{{ x | upper }}",
            "{% set messages = [] %}",
            "{% for c in m.content %}{{ c }}{% endfor %}",
            "{% for a, b in messages %}{% endfor %}",
            "{% for key in m %}{{ m[key] }}{% endfor %}",
            "{% for x in messages if x.content == 'a' %}{% endfor %}",
            "{% for x in messages recursive %}{{ loop(x) }}{% endfor %}",
            "{% filter upper %}{{ m.content }}{% endfilter %}",
            "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(m.content) }}",
            "{% generation %}{{ m.content }}{% endgeneration %}",
            "{{ raise_exception(m.content) }}",
            "{{ debug() }}",
            "{{ '\\x41' }}",
            "\u{f8ff}",
            "{{ m.content ",
        ] {
            let source = format!("{{% for m in messages %}}{inside}{{% endfor %}}");
            assert!(!is_verbatim(&source, &['\u{f8ff}']), "{source}");
        }
    }
}
