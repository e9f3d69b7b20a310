//! PEFT's `rank_pattern` and `alpha_pattern`: regular expressions of module paths, each with a
//! value. The first that fits the end of a path decides (`peft.utils.other.get_pattern_key`).

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use crate::document::key::NameRule;
use crate::document::{Setting, Value, Values};

/// What the patterns of a table of names must be.
pub(super) const RULE: NameRule = NameRule {
    names: "names or regular expressions of linear layers",
    check: |text| expression(text).map(|_| ()),
};

/// Most that a compiled pattern takes: a file that somebody else made may have many.
const BYTES_MAX: usize = 1 << 18;

/// Constructs of this crate's expressions that those of Python do not have, or read otherwise.
const NOT_OF_PYTHON: [&str; 11] =
    ["\\p", "\\P", "\\x{", "\\z", "\\b{", "\\<", "\\>", "[[", "&&", "~~", "--"];

/// Values of some layers, by patterns of their paths.
#[derive(Debug, Clone)]
pub struct ModulePatterns<T>(Vec<(String, Regex, T)>);

impl<T> Default for ModulePatterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The same patterns with the same values, in the same order.
impl<T: PartialEq> PartialEq for ModulePatterns<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T> ModulePatterns<T> {
    /// Patterns in the order in which they are tried.
    ///
    /// # Errors
    /// Which one is no regular expression that PEFT reads in the same way, and why.
    pub fn new(patterns: impl IntoIterator<Item = (String, T)>) -> Result<Self, (String, String)> {
        let compiled = patterns.into_iter().map(|(text, value)| match expression(&text) {
            Ok(regex) => Ok((text, regex, value)),
            Err(why) => Err((text, why)),
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The same patterns with other values.
    #[must_use]
    pub fn map(&self, change: impl Fn(&T) -> T) -> Self {
        let each = self.0.iter().map(|(text, regex, of)| (text.clone(), regex.clone(), change(of)));
        Self(each.collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Patterns and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(text, _, value)| (text.as_str(), value))
    }

    /// The value for the layer at a path, if one of them fits it.
    pub fn value_of(&self, path: &str) -> Option<&T> {
        self.0.iter().find(|(_, regex, _)| regex.is_match(path)).map(|(_, _, value)| value)
    }

    /// The first pattern that decides for none of these layers.
    pub fn unused<'a>(&'a self, paths: &[&str]) -> Option<&'a str> {
        let decides = |number: usize| {
            let first = |path: &&str| self.0.iter().position(|(_, regex, _)| regex.is_match(path));
            paths.iter().any(|path| first(path) == Some(number))
        };
        let unused = (0..self.0.len()).find(|number| !decides(*number));
        unused.map(|number| self.0[number].0.as_str())
    }
}

/// `(.*\.)?(PATTERN)$` from the beginning of a path, if Python reads the pattern in the same way.
///
/// # Errors
/// Why it is none.
pub fn expression(text: &str) -> Result<Regex, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let groups = text.match_indices("(?").map(|(at, _)| &text[at + 2..]);
    let mut odd_groups = groups.filter(|rest| !rest.starts_with([':', 'P']));
    if let Some(odd) = NOT_OF_PYTHON.into_iter().find(|odd| text.contains(odd)) {
        return Err(format!("`{odd}` means something else in Python"));
    }
    if odd_groups.next().is_some() {
        return Err("of groups with `?` only `(?:…)` and `(?P<name>…)` are supported".to_owned());
    }
    // By itself first: it must not close the group that it stands in.
    let whole = format!(r"^(?:.*\.)?(?:{text})$");
    for expression in [text, &whole] {
        RegexBuilder::new(expression).size_limit(BYTES_MAX).build().map_err(|error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
        })?;
    }
    Ok(RegexBuilder::new(&whole).size_limit(BYTES_MAX).build().expect("it was built before"))
}

/// In the order of their texts, which is that of the file that PEFT reads them from.
fn checked<T: Clone>(patterns: &BTreeMap<String, T>) -> ModulePatterns<T> {
    let patterns = patterns.iter().map(|(text, value)| (text.clone(), value.clone()));
    ModulePatterns::new(patterns).expect("the names of the table were checked")
}

impl Setting for ModulePatterns<f64> {
    fn of(values: &Values, path: &str) -> Self {
        match values.get(path) {
            Some(Value::Numbers(patterns)) => checked(patterns),
            other => panic!("`{path}` is no table of numbers: {other:?}"),
        }
    }
}

impl Setting for ModulePatterns<usize> {
    fn of(values: &Values, path: &str) -> Self {
        let size = |count: &u64| usize::try_from(*count).expect("ranks fit in 32 bits");
        match values.get(path) {
            Some(Value::Counts(counts)) => {
                checked(&counts.iter().map(|(text, count)| (text.clone(), size(count))).collect())
            }
            other => panic!("`{path}` is no table of integers: {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pattern_that_fits_the_end_of_a_path_decides() {
        let patterns = ["layers.1.mlp.up_proj", "q_proj", r"layers\.\d+\.mlp\..*", "k|v_proj"];
        let patterns = patterns.iter().zip(1..).map(|(text, value)| ((*text).to_owned(), value));
        let patterns = ModulePatterns::<usize>::new(patterns).unwrap();
        let value = |path| patterns.value_of(path).copied();
        assert_eq!(value("model.layers.1.mlp.up_proj"), Some(1));
        assert_eq!(value("model.layers.11.mlp.up_proj"), Some(3));
        assert_eq!(value("model.layers.0.self_attn.q_proj"), Some(2));
        assert_eq!(value("model.layers.0.self_attn.v_proj"), Some(4));
        // Whole parts of a path, and all of the end.
        assert_eq!(value("model.layers.0.self_attn.k_proj"), None);
        assert_eq!(value("model.layers.0.self_attn.qq_proj"), None);
        assert_eq!(value("q_proj"), Some(2));
        assert_eq!(patterns.unused(&["q_proj", "a.v_proj"]), Some("layers.1.mlp.up_proj"));
    }

    #[test]
    fn what_python_reads_otherwise_is_refused() {
        let odd = ["", "(", "a)(b", "(?i)q_proj", "(?=a)b", r"\p{L}", "[[a]]", "[a&&b]", "*"];
        for text in odd {
            assert!(ModulePatterns::<usize>::new([(text.to_owned(), 1)]).is_err(), "{text}");
        }
        let large = format!("(?:{}){{1000}}", r"\w".repeat(100));
        assert!(ModulePatterns::<usize>::new([(large, 1)]).is_err());
    }
}
