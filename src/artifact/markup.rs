//! Names and values from outside, made harmless inside YAML and Markdown.

use std::fmt::Write as _;

/// Words that YAML 1.1 reads as something else than text.
const KEYWORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// A YAML scalar that every reader takes as this text.
pub fn yaml(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !KEYWORDS.contains(&text.to_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ if c.is_alphanumeric() => out.push(c),
            // Control characters, spaces of other kinds, line separators, marks of byte order.
            _ => write!(out, "\\U{:08X}", u32::from(c)).expect("writing into a string"),
        }
    }
    out.push('"');
    out
}

/// A Markdown code span that stays one, on one line, also inside a table.
pub fn code(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '\n' => shown.push('⏎'),
            // Tables are split at bars before code is looked at.
            '|' => shown.push_str("\\|"),
            _ if c.is_control() || is_invisible(c) => shown.extend(c.escape_unicode()),
            _ => shown.push(c),
        }
    }
    if shown.is_empty() {
        return "(empty)".to_owned();
    }
    let longest = shown.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One space on either side is taken away again by the reader.
    let wants_space = shown.starts_with(['`', ' ']) || shown.ends_with(['`', ' ']);
    let space = if wants_space { " " } else { "" };
    format!("{fence}{space}{shown}{space}{fence}")
}

/// Marks that turn text around or break lines without being control characters.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' |
        '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_stay_unquoted_in_yaml() {
        for text in ["acme/support-sft", "apache-2.0", "Qwen/Qwen2.5-0.5B"] {
            assert_eq!(yaml(text), text);
        }
        for text in ["", "no", "Null", "1e5", "5503434d", "a: b", "- a", "#x", "a ", "~", "a:"] {
            assert_eq!(yaml(text), format!("\"{text}\""));
        }
        assert_eq!(yaml("a\"\\"), r#""a\"\\""#);
        assert_eq!(yaml("a\n---\nb"), r#""a\U0000000A---\U0000000Ab""#);
        assert_eq!(yaml("é \u{2028}\u{feff}\u{1f600}"), r#""é \U00002028\U0000FEFF\U0001F600""#);
    }

    #[test]
    fn code_cannot_be_left() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code(""), "(empty)");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`a"), "`` `a ``");
        assert_eq!(code("a\nb|c\u{1b}[2J"), "`a⏎b\\|c\\u{1b}[2J`");
        assert_eq!(code("\u{202e}x"), "`\\u{202e}x`");
    }
}
