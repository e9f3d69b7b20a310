//! Splits by the names of files, where the card does not list them.
//!
//! The rules and their order are those of Hugging Face `datasets`:
//! `data/SPLIT-00000-of-00001.parquet`, then folders, then file names with a word such as `train`
//! or `dev` between `-`, `.`, `_`, a space or a digit, and at last everything is `train`.

use super::pattern::name;

/// Words that tell a split, in the order in which splits are listed.
const KEYWORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// Splits with their files, and the rule that found them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guess<'a> {
    pub splits: Vec<(String, Vec<&'a str>)>,
    pub why: &'static str,
}

/// Sorts files into splits. The paths begin where the subset's folder begins.
///
/// A file whose name fits two splits is in both of them.
pub(super) fn guess<'a>(paths: &[&'a str]) -> Guess<'a> {
    let sharded = by_shards(paths);
    if !sharded.is_empty() {
        return Guess {
            splits: sharded,
            why: "names as `data/SPLIT-00000-of-00001` tell the split",
        };
    }
    let folders = by_keyword(paths, |path, word| {
        let mut parts = path.split('/').rev().skip(1);
        parts.any(|part| has_word(part, word, true))
    });
    if !folders.is_empty() {
        return Guess { splits: folders, why: "names of folders tell the split" };
    }
    let names = by_keyword(paths, |path, word| has_word(name(path), word, false));
    if !names.is_empty() {
        return Guess { splits: names, why: "file names tell the split" };
    }
    let splits = match paths {
        [] => Vec::new(),
        _ => vec![("train".to_owned(), paths.to_vec())],
    };
    Guess { splits, why: "no name tells a split, so all of it is `train`" }
}

fn by_keyword<'a>(
    paths: &[&'a str],
    fits: impl Fn(&str, &str) -> bool,
) -> Vec<(String, Vec<&'a str>)> {
    let mut splits = Vec::new();
    for (split, words) in KEYWORDS {
        let one = |path: &&str| words.iter().any(|word| fits(path, word));
        let files: Vec<&str> = paths.iter().copied().filter(one).collect();
        if !files.is_empty() {
            splits.push((split.to_owned(), files));
        }
    }
    splits
}

/// Does the word stand in the name, with a separator on each side that is not the name's edge?
/// `whole`: the name's end counts as an edge; in file names the ending follows.
fn has_word(name: &str, word: &str, whole: bool) -> bool {
    let separator = |byte: u8| b"-._ ".contains(&byte) || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    name.match_indices(word).any(|(at, _)| {
        let before = at == 0 || separator(bytes[at - 1]);
        let after = match bytes.get(at + word.len()) {
            Some(&byte) => separator(byte),
            None => whole,
        };
        before && after
    })
}

/// Splits by names as `data/train-00000-of-00005.parquet`: the known ones first.
fn by_shards<'a>(paths: &[&'a str]) -> Vec<(String, Vec<&'a str>)> {
    let mut splits = std::collections::BTreeMap::<&str, Vec<&'a str>>::new();
    for &path in paths {
        if let Some(split) = path.strip_prefix("data/").and_then(shard_of) {
            splits.entry(split).or_default().push(path);
        }
    }
    let mut sorted: Vec<(String, Vec<&str>)> = Vec::with_capacity(splits.len());
    for (known, _) in KEYWORDS {
        sorted.extend(splits.remove_entry(known).map(|(name, files)| (name.to_owned(), files)));
    }
    sorted.extend(splits.into_iter().map(|(name, files)| (name.to_owned(), files)));
    sorted
}

/// The split in a file name as `train-00000-of-00005-a3ec.parquet`.
fn shard_of(name: &str) -> Option<&str> {
    /// The length of `-00000-of-00005`.
    const LENGTH: usize = 15;
    let numbers = |part: &[u8]| {
        part.iter().enumerate().all(|(at, &byte)| match at {
            0 | 6 | 9 => byte == b'-',
            7 => byte == b'o',
            8 => byte == b'f',
            _ => byte.is_ascii_digit(),
        })
    };
    if name.contains('/') || name.len() <= LENGTH {
        return None;
    }
    let at = name.as_bytes().windows(LENGTH).rposition(numbers)?;
    (at > 0 && name[at + LENGTH..].contains('.')).then(|| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_needs_separators() {
        for (name, word, whole, expected) in [
            ("train.jsonl", "train", false, true),
            ("train", "train", false, false),
            ("train", "train", true, true),
            ("my-train_2.csv", "train", false, true),
            ("mytrain.csv", "train", false, false),
            ("trains.csv", "train", false, false),
            ("trains-train.csv", "train", false, true),
            ("2024train.csv", "train", false, true),
            ("été test.csv", "test", false, true),
            ("x testé.csv", "test", false, false),
        ] {
            assert_eq!(has_word(name, word, whole), expected, "{name} {word}");
        }
    }

    #[test]
    fn a_shard_names_its_split() {
        for (name, expected) in [
            ("train-00000-of-00005.parquet", Some("train")),
            ("train_sft-00000-of-00003-a3ecf92756993583.parquet", Some("train_sft")),
            ("a-00000-of-00001-00000-of-00002.csv", Some("a-00000-of-00001")),
            ("größe-00000-of-00001.csv", Some("größe")),
            ("-00000-of-00001.csv", None),
            ("train-00000-of-00005", None),
            ("train-0000-of-0005.parquet", None),
            ("sub/train-00000-of-00005.parquet", None),
        ] {
            assert_eq!(shard_of(name), expected, "{name}");
        }
    }
}
