//! Names and values from outside, made harmless inside YAML, Markdown, XML and addresses.

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

/// Plain words of one line in Markdown, also in a cell of a table: nothing in them is markup.
pub fn escaped(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        if matches!(c, '|' | '<' | '>' | '*' | '_' | '[' | ']' | '\\' | '#' | '!' | '@' | '~' | '&')
        {
            let _ = write!(out, "&#{};", u32::from(c)); // writing to a string cannot fail
        } else {
            out.push(c);
        }
    }
    out
}

/// A relative reference: everything but letters, digits, `-._~` and `/` is escaped.
pub fn uri(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Text inside an XML document, in an element or an attribute. What XML cannot hold is escaped as
/// in Rust.
pub fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            _ if c.is_control() || is_invisible(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.extend(c.escape_unicode());
            }
            _ => out.push(c),
        }
    }
    out
}

/// Marks that turn text around or break lines without being control characters.
pub fn is_invisible(c: char) -> bool {
    crate::terminal::is_invisible(c)
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

    #[test]
    fn an_address_and_an_xml_text_cannot_be_left() {
        assert_eq!(uri("a b/ü.bin"), "a%20b/%C3%BC.bin");
        assert_eq!(uri("c:\n?#"), "c%3A%0A%3F%23");
        assert_eq!(xml("<a b=\"'&\n\u{1b}]]>"), "&lt;a b=&quot;&apos;&amp;&#10;\\u{1b}]]&gt;");
        assert_eq!(xml("\u{202e}é"), "\\u{202e}é");
    }
}
