//! How large the source of a template may be: as a whole, and in one expression.
//!
//! The engine takes an expression apart by recursion, without a limit where it stands to the left
//! (`1+1+1…`), and in a time that grows with the square of its length where it is made of `and`.

/// The longest templates in use have about 64 KiB.
pub const MAX_SOURCE: usize = 1 << 20;
/// The longest expressions in use have some hundred tokens.
const MAX_TOKENS: usize = 8192;
/// The engine's own limit is lower, but does not hold for every kind of bracket.
const MAX_DEPTH: usize = 128;

/// What is too large in a template: the line, counted from 1, and a sentence.
pub fn excess(source: &str) -> Option<(usize, String)> {
    if source.len() > MAX_SOURCE {
        let sentence = format!("it has {} bytes, at most {MAX_SOURCE} are accepted", source.len());
        return Some((1, sentence));
    }
    let bytes = source.as_bytes();
    let mut at = 0;
    while let Some(found) = source.get(at..).and_then(|rest| rest.find('{')) {
        let start = at + found;
        at = start + 1;
        match bytes.get(at) {
            Some(b'#') => match source.get(at..).and_then(|rest| rest.find("#}")) {
                Some(end) => at += end,
                None => return None,
            },
            Some(b'%' | b'{') => {
                let tag = Tag::read(bytes, at + 1);
                at = tag.end;
                if let Some(sentence) = tag.excess() {
                    let line = bytes.iter().take(start).filter(|byte| **byte == b'\n').count() + 1;
                    return Some((line, sentence));
                }
            }
            _ => {}
        }
    }
    None
}

/// What stands in `{{ … }}` or `{% … %}`.
struct Tag {
    end: usize,
    tokens: usize,
    depth: usize,
}

impl Tag {
    /// Reads from behind the opening mark up to a closing one, outside of strings and brackets. A
    /// source that cannot be told apart so is left to the engine's own reader.
    fn read(bytes: &[u8], start: usize) -> Self {
        let mut tag = Self { end: start, tokens: 0, depth: 0 };
        let mut open = 0_usize;
        let mut in_word = false;
        while let Some(&byte) = bytes.get(tag.end) {
            let next = bytes.get(tag.end + 1);
            tag.end += 1;
            let word = byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
            if word || byte.is_ascii_whitespace() {
                tag.tokens += usize::from(word && !in_word);
                in_word = word;
                continue;
            }
            in_word = false;
            if open == 0 && matches!(byte, b'%' | b'}') && next == Some(&b'}') {
                tag.end += 1;
                return tag;
            }
            tag.tokens += 1;
            match byte {
                b'(' | b'[' | b'{' => open += 1,
                b')' | b']' | b'}' => open = open.saturating_sub(1),
                b'\'' | b'"' => tag.end = string_end(bytes, tag.end, byte),
                _ => {}
            }
            tag.depth = tag.depth.max(open);
        }
        tag
    }

    fn excess(&self) -> Option<String> {
        if self.tokens > MAX_TOKENS {
            let count = self.tokens;
            return Some(format!(
                "an expression has {count} words and signs; at most {MAX_TOKENS} are accepted"
            ));
        }
        (self.depth > MAX_DEPTH)
            .then(|| format!("brackets are {} deep; at most {MAX_DEPTH} are accepted", self.depth))
    }
}

/// The place behind the closing quote.
fn string_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\\' => at += 1,
            byte if byte == quote => break,
            _ => {}
        }
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_deep_expressions_are_told_with_their_line() {
        for (source, line, says) in [
            (format!("a\nb{{{{ {}1 }}}}", "1+".repeat(300_000)), 2, "600001 words and signs"),
            (format!("{{{{ {}1 }}}}", "1 and ".repeat(100_000)), 1, "words and signs"),
            (format!("{{% if {}1 %}}{{% endif %}}", "x.".repeat(5000)), 1, "words and signs"),
            (format!("{{{{ {}1{} }}}}", "(".repeat(999), ")".repeat(999)), 1, "999 deep"),
            (format!("{{{{ {}1{} }}}}", "{'a':".repeat(200), "}".repeat(200)), 1, "200 deep"),
            (" ".repeat(MAX_SOURCE + 1), 1, "bytes"),
        ] {
            let (found, sentence) = excess(&source).unwrap();
            assert!(found == line && sentence.contains(says), "{found}: {sentence}");
        }
    }

    #[test]
    fn text_comments_and_strings_are_no_expressions() {
        let many = "1+".repeat(100_000);
        for source in [
            many.clone(),
            format!("{{# {many} #}}"),
            format!("{{{{ '{many}' }}}}"),
            format!("{{{{ \"a\\\"{many}\" ~ {{'a': {{'b': 1}}}} }}}}{many}"),
            format!("{{% set a = {{'x': [1, (2)]}} %}}{many}{{"),
            "{{ 1 }}".repeat(9000),
            "{%".to_owned(),
            "{{ '".to_owned(),
        ] {
            assert_eq!(excess(&source), None, "{}", &source[..source.len().min(80)]);
        }
    }
}
