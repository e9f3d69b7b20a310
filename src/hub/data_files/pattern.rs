//! Paths with wildcards, as cards and configurations write them.
//!
//! `*`, `?` and `[a-z]` stay inside one folder, `**` between slashes crosses folders, braces are
//! letters. Hidden files, folders that begin with `__` and the hub's own files are matched only
//! where the pattern names them.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::{Error, Result};

/// Files that the hub and its tools write; they hold no records.
const OWN_FILES: [&str; 6] = [
    "README.md",
    "config.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dummy_data.zip",
    "dataset_dict.json",
];
/// The longest path that file systems take.
const BYTES_MAX: usize = 4096;

#[cfg(test)]
thread_local! {
    /// How many paths were held against a pattern.
    pub(super) static MATCHED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// One path or pattern, relative to the data set.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    /// `None`: the text is the path.
    glob: Option<GlobMatcher>,
}

impl Pattern {
    /// A pattern that begins in a folder of the data set.
    ///
    /// # Errors
    /// A pattern that leads out of the data set, or that cannot be understood.
    pub fn new(folder: &str, text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::data(format!("`{text}` is not a path in a data set: {why}"));
        if text.len() + folder.len() > BYTES_MAX {
            let start: String = text.chars().take(60).collect();
            return Err(Error::data(format!("a path is too long: it begins `{start}`")));
        }
        if text.contains("://") || text.contains("::") {
            return Err(wrong("addresses are not followed"));
        }
        let text = [inside(folder)?, inside(text)?].concat();
        if text.is_empty() {
            return Err(wrong("it names no file"));
        }
        if text.iter().any(|part| part.contains("**") && *part != "**") {
            return Err(wrong("`**` stands alone between slashes")
                .hint("for all files of one kind in all folders write e.g. `**/*.jsonl`"));
        }
        let text = text.join("/");
        let glob = if text.contains(['*', '?', '[']) {
            let glob = GlobBuilder::new(&without_braces(&text))
                .literal_separator(true)
                .backslash_escape(false)
                .allow_unclosed_class(true)
                .build();
            Some(glob.map_err(|error| wrong(&error.kind().to_string()))?.compile_matcher())
        } else {
            None
        };
        Ok(Self { text, glob })
    }

    /// The pattern from the root of the data set, without needless dots.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Is it a pattern, and not the path of one file?
    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    /// Does it match the path of a file?
    pub fn matches(&self, path: &str) -> bool {
        #[cfg(test)]
        MATCHED.with(|count| count.set(count.get() + 1));
        let Some(glob) = &self.glob else { return path == self.text };
        glob.is_match(path)
            && (!is_own_file(path) || name(path) == name(&self.text))
            && hidden_parts(path) == hidden_parts(&self.text)
            && special_folders(path) == special_folders(&self.text)
    }
}

/// The parts of a path inside the data set; empty for the data set itself.
pub(super) fn inside(path: &str) -> Result<Vec<&str>> {
    let drive = path.as_bytes().get(1) == Some(&b':');
    if path.starts_with(['/', '~']) || drive || path.split('/').any(|part| part == "..") {
        let what = format!("`{path}` leads out of the data set");
        return Err(Error::data(what).hint("paths begin in the folder of the data set"));
    }
    Ok(path.split('/').filter(|part| !part.is_empty() && *part != ".").collect())
}

/// Is it a file that is never data unless it is named: hidden, in a special folder, the hub's own?
pub(super) fn is_apart(path: &str) -> bool {
    is_own_file(path) || hidden_parts(path) > 0 || special_folders(path) > 0
}

fn is_own_file(path: &str) -> bool {
    OWN_FILES.contains(&name(path))
}

/// The file name at the end of a path.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn hidden_parts(path: &str) -> usize {
    path.split('/').filter(|part| part.starts_with('.')).count()
}

fn special_folders(path: &str) -> usize {
    path.split('/').rev().skip(1).filter(|part| part.starts_with("__")).count()
}

/// Braces outside of `[...]` as classes, since the matcher would take them for alternatives.
fn without_braces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let mut length = letter.len_utf8();
        match letter {
            '{' | '}' => out.extend(['[', letter, ']']),
            '[' => {
                // A `]` that stands first, perhaps after `!`, is a letter of the class.
                let skip = 1 + usize::from(rest[1..].starts_with('!'));
                let skip = skip + usize::from(rest[skip..].starts_with(']'));
                match rest[skip..].find(']') {
                    Some(end) => {
                        length = skip + end + 1;
                        out.push_str(&rest[..length]);
                    }
                    None => out.push_str("[[]"),
                }
            }
            _ => out.push(letter),
        }
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn patterns_match_as_in_datasets() {
        for (pattern, path, expected) in [
            ("a.jsonl", "a.jsonl", true),
            ("./d//./a.jsonl", "d/a.jsonl", true),
            ("*.jsonl", "d/a.jsonl", false),
            ("d/*", "d/a.jsonl", true),
            ("d/*", "d/e/a.jsonl", false),
            ("d/**", "d/e/a.jsonl", true),
            ("**", "a.jsonl", true),
            ("**/a.jsonl", "a.jsonl", true),
            ("d/**/a.jsonl", "d/a.jsonl", true),
            ("d/**/a.jsonl", "d/e/f/a.jsonl", true),
            ("**/*", "d/a.jsonl", true),
            ("a?.jsonl", "ab.jsonl", true),
            ("a?.jsonl", "a.jsonl", false),
            ("a[1-3].jsonl", "a2.jsonl", true),
            ("a[!1-3].jsonl", "a2.jsonl", false),
            ("a[]x].jsonl", "a].jsonl", true),
            ("{a,b}*", "a.jsonl", false),
            ("{a,b}*", "{a,b}.jsonl", true),
            ("[{]a*", "{a.jsonl", true),
            ("[a*", "[a.jsonl", true),
            ("a\\*", "a\\b", cfg!(not(windows))),
            ("*", ".a.jsonl", false),
            (".*", ".a.jsonl", true),
            ("**", "__a__/b.jsonl", false),
            ("__*/*", "__a__/b.jsonl", true),
            ("*", "__a.jsonl", true),
            ("*.json", "config.json", false),
            ("config.json", "config.json", true),
            ("*/config.json", "a/config.json", true),
            ("*", "größe.jsonl", true),
        ] {
            let found = Pattern::new("", pattern).unwrap().matches(path);
            assert_eq!(found, expected, "{pattern} {path}");
        }
        assert!(Pattern::new("./d/", "*.csv").unwrap().matches("d/a.csv"));
        assert!(Pattern::new(".d", "*.csv").unwrap().matches(".d/a.csv"));
    }

    #[test]
    fn a_pattern_stays_in_the_data_set() {
        let mut messages = String::new();
        for (folder, pattern) in [
            ("", "../a"),
            ("", "a/../../b"),
            ("..", "a"),
            ("", "/etc/passwd"),
            ("", "~/a"),
            ("", "C:/a"),
            ("", "hf://datasets/a/b/c.csv"),
            ("", "zip://a::b.zip"),
            ("", ""),
            ("", "./"),
            ("", "**.csv"),
            ("", "a[z-a]"),
        ] {
            let error = Pattern::new(folder, pattern).unwrap_err().to_string();
            messages += &format!("{pattern} gives {error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
../a gives error[data]: `../a` leads out of the data set

hint: paths begin in the folder of the data set
a/../../b gives error[data]: `a/../../b` leads out of the data set

hint: paths begin in the folder of the data set
a gives error[data]: `..` leads out of the data set

hint: paths begin in the folder of the data set
/etc/passwd gives error[data]: `/etc/passwd` leads out of the data set

hint: paths begin in the folder of the data set
~/a gives error[data]: `~/a` leads out of the data set

hint: paths begin in the folder of the data set
C:/a gives error[data]: `C:/a` leads out of the data set

hint: paths begin in the folder of the data set
hf://datasets/a/b/c.csv gives error[data]: `hf://datasets/a/b/c.csv` is not a path in a data set: addresses are not followed
zip://a::b.zip gives error[data]: `zip://a::b.zip` is not a path in a data set: addresses are not followed
 gives error[data]: `` is not a path in a data set: it names no file
./ gives error[data]: `./` is not a path in a data set: it names no file
**.csv gives error[data]: `**.csv` is not a path in a data set: `**` stands alone between slashes

hint: for all files of one kind in all folders write e.g. `**/*.jsonl`
a[z-a] gives error[data]: `a[z-a]` is not a path in a data set: invalid range; 'z' > 'a'

"#]],
        );
        let long = "a*".repeat(4000);
        let error = Pattern::new("", &long).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
        says(
            &error,
            snapbox::str![[
                r#"error[data]: a path is too long: it begins `a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*`"#
            ]],
        );
    }

    /// One that tried every way to share the letters among the stars would never end.
    #[test]
    fn many_stars_are_matched_without_trying_every_way() {
        let pattern = Pattern::new("", &format!("{}b", "*a".repeat(1000))).unwrap();
        assert!(!pattern.matches(&"a".repeat(4000)));
        let pattern = Pattern::new("", &format!("{}b", "**/a*/".repeat(300)));
        assert!(pattern.is_err() || !pattern.unwrap().matches(&"a/".repeat(2000)));
    }
}
