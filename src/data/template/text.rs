//! What Python's methods of strings do, on plain text.

use minijinja::value::Value;

/// What Python counts as white space.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// A longer text is not made by padding.
const MAX_PADDED: usize = 1 << 24;

/// Methods without arguments; `None` if this is none of them.
pub fn plain(text: &str, method: &str) -> Option<Value> {
    let every = |of: fn(char) -> bool| !text.is_empty() && text.chars().all(of);
    Some(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" | "casefold" => Value::from(text.to_lowercase()),
        "capitalize" => Value::from(capitalize(text)),
        "title" => Value::from(title(text)),
        "swapcase" => Value::from(swapcase(text)),
        "isalpha" => Value::from(every(char::is_alphabetic)),
        "isalnum" => Value::from(every(char::is_alphanumeric)),
        "isdigit" | "isdecimal" | "isnumeric" => Value::from(every(char::is_numeric)),
        "isspace" => Value::from(every(is_space)),
        "isascii" => Value::from(text.is_ascii()),
        "isidentifier" => {
            let first = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
            Value::from(first && text.chars().all(|c| c.is_alphanumeric() || c == '_'))
        }
        "islower" => Value::from(
            text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        ),
        "isupper" => Value::from(
            text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        ),
        "istitle" => Value::from(text.chars().any(char::is_alphabetic) && title(text) == text),
        _ => return None,
    })
}

/// Python's `str.capitalize`.
pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    first + &chars.as_str().to_lowercase()
}

/// Python's `str.title`: a letter after one that is no letter becomes a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn swapcase(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

/// Python's `split` and `rsplit` with at most `limit` cuts; `None` for an empty separator.
pub fn split<'a>(
    text: &'a str,
    separator: Option<&str>,
    limit: usize,
    from_right: bool,
) -> Option<Vec<&'a str>> {
    let most = limit.saturating_add(1);
    match separator {
        Some("") => None,
        Some(separator) if from_right => {
            let mut parts: Vec<&str> = text.rsplitn(most, separator).collect();
            parts.reverse();
            Some(parts)
        }
        Some(separator) => Some(text.splitn(most, separator).collect()),
        None => Some(words(text, limit, from_right)),
    }
}

/// Words between white space; what is left after `limit` of them is one more.
fn words(text: &str, limit: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = match from_right {
            true => rest.trim_end_matches(is_space),
            false => rest.trim_start_matches(is_space),
        };
        if rest.is_empty() {
            break;
        }
        let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(cut) = cut.filter(|_| parts.len() < limit) else {
            parts.push(rest);
            break;
        };
        let width = rest[cut..].chars().next().map_or(0, char::len_utf8);
        if from_right {
            parts.push(&rest[cut + width..]);
            rest = &rest[..cut];
        } else {
            parts.push(&rest[..cut]);
            rest = &rest[cut..];
        }
    }
    if from_right {
        parts.reverse();
    }
    parts
}

/// Python's `splitlines`.
pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let width = match &rest[at..] {
            end if end.starts_with("\r\n") => 2,
            end => end.chars().next().map_or(1, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// Python's `partition` and `rpartition`; `None` for an empty separator.
pub fn partition<'a>(text: &'a str, separator: &str, from_right: bool) -> Option<[&'a str; 3]> {
    if separator.is_empty() {
        return None;
    }
    let at = if from_right { text.rfind(separator) } else { text.find(separator) };
    Some(match at {
        Some(at) => {
            let end = at + separator.len();
            [&text[..at], &text[at..end], &text[end..]]
        }
        None if from_right => ["", "", text],
        None => [text, "", ""],
    })
}

/// The part of a text between two places, and how many characters precede it. `None` where
/// Python finds nothing, not even an empty text.
pub fn window(text: &str, start: Option<i128>, stop: Option<i128>) -> Option<(usize, &str)> {
    if start.is_none() && stop.is_none() {
        return Some((0, text));
    }
    let count = i128::try_from(text.chars().count()).unwrap_or(i128::MAX);
    let place = |bound: i128| if bound < 0 { (bound + count).max(0) } else { bound };
    let start = place(start.unwrap_or(0));
    let stop = place(stop.unwrap_or(count)).min(count);
    if start > stop {
        return None;
    }
    let byte = |place: i128| {
        let found = text.char_indices().nth(usize::try_from(place).unwrap_or(usize::MAX));
        found.map_or(text.len(), |(at, _)| at)
    };
    Some((usize::try_from(start).unwrap_or(0), &text[byte(start)..byte(stop)]))
}

/// How a text is made wider.
pub struct Pad {
    method: Side,
    fill: char,
}

enum Side {
    Left,
    Right,
    Both,
    /// On the left, but after a sign.
    Number,
}

impl Pad {
    /// What a method of this name does; `None` if `fill` is not one character.
    pub fn of(method: &str, fill: &str) -> Option<Self> {
        let mut chars = fill.chars();
        let (Some(fill), None) = (chars.next(), chars.next()) else { return None };
        Some(match method {
            "ljust" => Self { method: Side::Right, fill },
            "rjust" => Self { method: Side::Left, fill },
            "center" => Self { method: Side::Both, fill },
            _ => Self { method: Side::Number, fill: '0' },
        })
    }

    /// A text of at least `width` characters; `None` if that is too long.
    pub fn apply(&self, text: &str, width: usize) -> Option<String> {
        let missing = width.saturating_sub(text.chars().count());
        let filled = |count: usize| self.fill.to_string().repeat(count);
        if missing > MAX_PADDED {
            return None;
        }
        Some(match self.method {
            Side::Left => filled(missing) + text,
            Side::Right => text.to_owned() + &filled(missing),
            Side::Both => {
                let left = missing / 2 + (missing & width & 1);
                filled(left) + text + &filled(missing - left)
            }
            Side::Number => {
                let sign = if text.starts_with(['+', '-']) { 1 } else { 0 };
                text[..sign].to_owned() + &filled(missing) + &text[sign..]
            }
        })
    }
}
