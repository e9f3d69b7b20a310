//! Makes characters visible that steer a terminal, hide or turn text around, and the beginnings of
//! lines that build servers take for commands.

/// How a character is written that is not shown as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `\u{1b}`
    People,
    /// `\u001b`, which means the same character in a string.
    Json,
}

/// Where a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing but blanks so far: GitHub's runner passes over them.
    Blank,
    /// A colon after that.
    Colon,
    /// Past its beginning.
    Over,
}

/// What was read of `##[`, `##vso[` or `##teamcity[`, which count anywhere in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hashes {
    None,
    One,
    /// Two or more, and letters.
    Two,
}

/// Escapes text that comes in pieces. What it wrote once, it leaves as it is.
#[derive(Debug, Clone)]
pub(super) struct Escape {
    form: Form,
    start: Start,
    hashes: Hashes,
    before: Option<char>,
}

impl Escape {
    pub(super) fn new(form: Form) -> Self {
        Self { form, start: Start::Blank, hashes: Hashes::None, before: None }
    }

    /// The next piece, escaped.
    pub(super) fn all(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            // Both are asked: the second one also keeps account.
            if self.completes_command(c) | is_hidden(c, self.before) {
                self.write(c, &mut out);
            } else {
                out.push(c);
            }
            self.before = Some(c);
        }
        out
    }

    /// Whether the character would complete what a build server looks for: `::name` at the
    /// beginning of a line, `##[name`, `##vso[name` and `##teamcity[name` anywhere.
    fn completes_command(&mut self, c: char) -> bool {
        let colons = self.start == Start::Colon && c == ':';
        self.start = match (self.start, c) {
            (_, '\n') => Start::Blank,
            (Start::Blank, ':') => Start::Colon,
            (Start::Blank, c) if c.is_whitespace() => Start::Blank,
            _ => Start::Over,
        };
        let bracket = self.hashes == Hashes::Two && c == '[';
        self.hashes = match (self.hashes, c) {
            (Hashes::None, '#') => Hashes::One,
            (Hashes::One | Hashes::Two, '#') => Hashes::Two,
            (Hashes::Two, c) if c.is_ascii_alphabetic() => Hashes::Two,
            _ => Hashes::None,
        };
        colons || bracket
    }

    fn write(&self, c: char, out: &mut String) {
        match self.form {
            Form::Json => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            Form::People if c.is_ascii_punctuation() => out.extend(c.escape_unicode()),
            Form::People => out.extend(c.escape_default()),
        }
    }
}

/// Whether a character is not to be seen, or changes how others are: controls (C0, C1, DEL), marks
/// of direction, joiners and blanks of no width, fillers, tags, selectors, noncharacters. Lines and
/// tabs stay.
fn is_hidden(c: char, before: Option<char>) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => {
            true
        }
        '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fdd0}'..='\u{fdef}' | '\u{feff}' => true,
        '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' => true,
        '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{fe00}'..='\u{fe0d}' => true,
        // Text or picture: after a sign that has both, once.
        '\u{fe0e}' | '\u{fe0f}' => !before.is_some_and(|before| {
            matches!(before, '0'..='9' | '#' | '*')
                || !(before.is_ascii() || ('\u{fe00}'..='\u{fe0f}').contains(&before))
        }),
        c => c.is_control() || u32::from(c) & 0xfffe == 0xfffe,
    }
}

/// Whether a character by itself is not to be seen, or changes how others are.
pub fn is_invisible(c: char) -> bool {
    is_hidden(c, Some('é'))
}

/// Text with its lines and tabs, and everything else visible that is not so by itself.
pub fn printable(text: &str) -> String {
    Escape::new(Form::People).all(text)
}

/// The same on one line.
pub fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// The same with every line after the first indented, so that none of them passes for one that
/// the program says.
pub fn hung(text: &str) -> String {
    let body = text.trim_start_matches('\n'); // empty lines before it are ours
    let first = text.len() - body.len();
    let mut out = text[..first].to_owned();
    for (number, line) in printable(body).split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
            if !(line.is_empty() || line.starts_with("  ")) {
                out.push_str("    ");
            }
        }
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_hides_or_turns_gets_through() {
        let hidden = [
            '\0',
            '\r',
            '\u{8}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{3164}',
            '\u{fe00}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{fffe}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
            '\u{e0100}',
        ];
        for c in hidden {
            let text = format!("a{c}b");
            let shown = printable(&text);
            assert!(!shown.contains(c) && shown.starts_with("a\\"), "{c:?}: {shown}");
            assert_eq!(printable(&shown), shown, "escaped twice");
            let json = serde_json::to_string(&text).unwrap();
            let safe = Escape::new(Form::Json).all(&json);
            assert!(!safe.contains(c), "{c:?}: {safe}");
            assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in
            ["naïve\tこんにちは\nمرحبا — ❤\u{fe0f} 1\u{fe0f}", "a::b ::c", "## Title [x]", "#[a]"]
        {
            assert_eq!(printable(text), text);
        }
        // A selector that selects nothing carries what nobody sees.
        assert_eq!(printable("a\u{fe0f}❤\u{fe0f}\u{fe0f}"), "a\\u{fe0f}❤\u{fe0f}\\u{fe0f}");
    }

    #[test]
    fn no_line_begins_a_command_of_a_build_server() {
        for (text, shown) in [
            ("::error::x", ":\\u{3a}error::x"),
            ("a\n \t::set-output name=a::b", "a\n \t:\\u{3a}set-output name=a::b"),
            ("a\n\u{a0}::error::x", "a\n\u{a0}:\\u{3a}error::x"),
            ("a ##[error]b", "a ##\\u{5b}error]b"),
            ("##vso[task.setvariable]", "##vso\\u{5b}task.setvariable]"),
            ("###teamcity[x]", "###teamcity\\u{5b}x]"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(shown), shown, "escaped twice");
        }
        let json = serde_json::json!({"a": "##[error]\n::error::"});
        let safe = Escape::new(Form::Json).all(&serde_json::to_string_pretty(&json).unwrap());
        assert!(!safe.contains("##[") && !safe.contains("\n::"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), json);
    }

    #[test]
    fn lines_of_others_do_not_pass_for_ours() {
        assert_eq!(
            hung("\n\nrecord a\nverified: b\n  c\n"),
            "\n\nrecord a\n    verified: b\n  c\n"
        );
        assert_eq!(one_line("a\nb\tc"), "a b c");
    }
}
