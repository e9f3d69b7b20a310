//! The subsets that a card declares in its front matter, under `configs`.

use super::front_matter::{Node, Value, parse};
use super::nearest::nearest_first;
use crate::error::{Error, Result};

/// One entry of `configs`.
#[derive(Debug)]
pub(super) struct Subset {
    pub name: String,
    /// It is taken where none is named.
    pub default: bool,
    /// Its patterns begin in this folder.
    pub folder: Option<String>,
    /// Its splits in the card's order; `None`: names of files decide.
    pub splits: Option<Vec<Split>>,
    /// Other settings, made for another reader.
    pub settings: Vec<String>,
}

/// One split of a subset.
#[derive(Debug)]
pub(super) struct Split {
    pub name: String,
    pub patterns: Vec<String>,
}

/// The subsets of a card, in its order; none where it declares none.
///
/// # Errors
/// A card that cannot be read, or an entry that cannot be understood, with line and column.
pub(super) fn subsets(card: &str) -> Result<Vec<Subset>> {
    let Some(root) = parse(card)? else { return Ok(Vec::new()) };
    let entries = match &root.value {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(entries) => entries,
        _ => return Err(root.error(format!("the front matter is {}", root.kind()))),
    };
    let Some((_, configs)) = entries.iter().find(|(key, _)| key == "configs") else {
        return Ok(Vec::new());
    };
    let items = match &configs.value {
        Value::Null => return Ok(Vec::new()),
        Value::List(items) => items,
        _ => {
            let what = format!("`configs` must be a list of subsets, and is {}", configs.kind());
            return Err(configs.error(what).hint(HINT));
        }
    };
    let mut subsets: Vec<Subset> = Vec::with_capacity(items.len());
    let mut names = std::collections::HashSet::new();
    for item in items {
        let subset = subset(item)?;
        if !names.insert(subset.name.clone()) {
            return Err(item.error(format!("the subset `{}` appears twice", subset.name)));
        }
        subsets.push(subset);
    }
    Ok(subsets)
}

/// The subset that is asked for; `None` where the card declares none.
///
/// # Errors
/// There is no such subset, or none is asked for and the card does not say which is meant.
pub(super) fn pick<'a>(subsets: &'a [Subset], asked: Option<&str>) -> Result<Option<&'a Subset>> {
    if subsets.is_empty() {
        return Ok(None);
    }
    let all = || subsets.iter().map(|subset| subset.name.as_str());
    if let Some(asked) = asked {
        let found = subsets.iter().find(|subset| subset.name == asked);
        return found.map(Some).ok_or_else(|| {
            Error::data(format!("the data set has no subset `{asked}`"))
                .because(format!("it has {}", nearest_first(asked, all())))
        });
    }
    if let [only] = subsets {
        return Ok(Some(only));
    }
    let defaults: Vec<&Subset> = subsets.iter().filter(|subset| subset.default).collect();
    match defaults.as_slice() {
        [one] => Ok(Some(one)),
        several => {
            let what = match several {
                [] => "the data set has several subsets, and none of them is the default",
                _ => "the card calls more than one subset the default",
            };
            let example = several.first().copied().unwrap_or(&subsets[0]);
            Err(Error::data(what)
                .because(format!("it has {}", nearest_first("", all())))
                .hint(format!("name one, e.g. `subset = \"{}\"`", example.name)))
        }
    }
}

const HINT: &str = "a subset is written\n\n    configs:\n    - config_name: default\n      \
                    data_files:\n      - split: train\n        path: data/*.jsonl";

fn subset(item: &Node) -> Result<Subset> {
    let Value::Mapping(entries) = &item.value else {
        let what = format!("a subset must be a mapping, and is {}", item.kind());
        return Err(item.error(what).hint(HINT));
    };
    let mut name = None;
    let mut subset = Subset {
        name: String::new(),
        default: false,
        folder: None,
        splits: None,
        settings: vec![],
    };
    for (key, node) in entries {
        match key.as_str() {
            "config_name" => name = Some(text(node, "config_name")?),
            "default" => subset.default = truth(node)?,
            "data_dir" if matches!(node.value, Value::Null) => {}
            "data_dir" => subset.folder = Some(text(node, "data_dir")?),
            "data_files" => subset.splits = splits(node)?,
            "<<" => return Err(node.error("merge keys (`<<`) are not followed")),
            // What a table must look like once it is read; it changes no choice of files.
            "features" | "version" | "description" => {}
            _ => subset.settings.push(key.clone()),
        }
    }
    let Some(name) = name else {
        return Err(item.error("a subset has no `config_name`").hint(HINT));
    };
    subset.default |= name == "default";
    subset.name = name;
    Ok(subset)
}

/// A text that is not empty; a number is the text that was written.
fn text(node: &Node, key: &str) -> Result<String> {
    match &node.value {
        Value::Text(text) if !text.is_empty() => Ok(text.clone()),
        Value::Text(_) => Err(node.error(format!("`{key}` is empty"))),
        _ => Err(node.error(format!("`{key}` must be text, and is {}", node.kind()))),
    }
}

/// YAML 1.1's words for true and false.
fn truth(node: &Node) -> Result<bool> {
    match &node.value {
        Value::Null => Ok(false),
        Value::Text(text) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(node.error("`default` must be true or false")),
        },
        _ => Err(node.error(format!("`default` must be true or false, and is {}", node.kind()))),
    }
}

/// `data_files`: a path, a list of paths, or a list of splits with their paths.
fn splits(node: &Node) -> Result<Option<Vec<Split>>> {
    let train = |patterns| Some(vec![Split { name: "train".to_owned(), patterns }]);
    let items = match &node.value {
        Value::Null => return Ok(None),
        Value::Text(_) => return Ok(train(vec![text(node, "data_files")?])),
        Value::List(items) => items,
        _ => {
            let what = format!(
                "`data_files` must be a path, a list of paths or a list of splits, and is {}",
                node.kind()
            );
            return Err(node.error(what).hint(HINT));
        }
    };
    if items.iter().all(|item| matches!(item.value, Value::Text(_))) {
        let paths: Result<Vec<String>> = items.iter().map(|item| text(item, "path")).collect();
        return Ok(train(paths?));
    }
    let mut splits: Vec<Split> = Vec::with_capacity(items.len());
    let mut names = std::collections::HashSet::new();
    for item in items {
        let split = split(item)?;
        if !names.insert(split.name.clone()) {
            return Err(item.error(format!("the split `{}` appears twice", split.name)));
        }
        splits.push(split);
    }
    Ok(Some(splits))
}

fn split(item: &Node) -> Result<Split> {
    let Value::Mapping(entries) = &item.value else {
        let what = format!("a split must be a mapping, and is {}", item.kind());
        return Err(item.error(what).hint(HINT));
    };
    let (mut name, mut patterns) = (None, None);
    for (key, node) in entries {
        match (key.as_str(), &node.value) {
            ("split", _) => name = Some(split_name(node)?),
            ("path", Value::List(items)) => {
                let paths: Result<Vec<String>> =
                    items.iter().map(|item| text(item, "path")).collect();
                patterns = Some(paths?);
            }
            ("path", _) => patterns = Some(vec![text(node, "path")?]),
            _ => {
                let what = format!("a split has `split` and `path`, and not `{key}`");
                return Err(node.error(what).hint(HINT));
            }
        }
    }
    match (name, patterns) {
        (Some(name), Some(patterns)) => Ok(Split { name, patterns }),
        (None, _) => Err(item.error("a split has no name: `split` is missing").hint(HINT)),
        (_, None) => Err(item.error("a split has no files: `path` is missing").hint(HINT)),
    }
}

/// Words joined by dots, as the hub requires it.
fn split_name(node: &Node) -> Result<String> {
    let name = text(node, "split")?;
    let word = |word: &str| {
        !word.is_empty() && word.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
    };
    if name.split('.').all(word) {
        return Ok(name);
    }
    let what = format!("`{name}` cannot be the name of a split");
    Err(node.error(what).hint("it is made of letters, digits, `_` and `.`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn error(configs: &str) -> String {
        subsets(&format!("---\nconfigs:\n{configs}---\n")).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_entry_is_named_by_place_and_kind() {
        let mut messages = String::new();
        for configs in [
            "  a: b\n",
            "- a\n",
            "- data_files: a\n",
            "- config_name:\n",
            "- config_name: ''\n",
            "- config_name: [a]\n",
            "- config_name: a\n- config_name: a\n",
            "- config_name: a\n  config_name: b\n",
            "- config_name: a\n  default: 3\n",
            "- config_name: a\n  data_dir: {}\n",
            "- config_name: a\n  data_files: {train: a}\n",
            "- config_name: a\n  data_files: [[a]]\n",
            "- config_name: a\n  data_files: [~]\n",
            "- config_name: a\n  data_files: [{split: b}]\n",
            "- config_name: a\n  data_files: [{path: b}]\n",
            "- config_name: a\n  data_files: [{split: b, path: [[c]]}]\n",
            "- config_name: a\n  data_files: [{split: b, path: c, d: e}]\n",
            "- config_name: a\n  data_files: [{split: b-c, path: d}]\n",
            "- config_name: a\n  data_files: [{split: b.., path: d}]\n",
            "- config_name: &n a\n- config_name: *n\n",
            "- &c {config_name: a}\n- {<<: *c, config_name: b}\n",
        ] {
            messages += &format!("{configs}{}\n", error(configs));
        }
        says(
            messages,
            snapbox::str![[r#"
  a: b
error[data]: `configs` must be a list of subsets, and is a mapping
  at README.md:3:4

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- a
error[data]: a subset must be a mapping, and is text
  at README.md:3:3

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- data_files: a
error[data]: a subset has no `config_name`
  at README.md:3:13

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- config_name:
error[data]: `config_name` must be text, and is nothing
  at README.md:4:1
- config_name: ''
error[data]: `config_name` is empty
  at README.md:3:16
- config_name: [a]
error[data]: `config_name` must be text, and is a list
  at README.md:3:16
- config_name: a
- config_name: a
error[data]: the subset `a` appears twice
  at README.md:4:14
- config_name: a
  config_name: b
error[data]: the key `config_name` appears twice
  at README.md:4:3
- config_name: a
  default: 3
error[data]: `default` must be true or false
  at README.md:4:12
- config_name: a
  data_dir: {}
error[data]: `data_dir` must be text, and is a mapping
  at README.md:4:13
- config_name: a
  data_files: {train: a}
error[data]: `data_files` must be a path, a list of paths or a list of splits, and is a mapping
  at README.md:4:15

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- config_name: a
  data_files: [[a]]
error[data]: a split must be a mapping, and is a list
  at README.md:4:16

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- config_name: a
  data_files: [~]
error[data]: a split must be a mapping, and is nothing
  at README.md:4:16

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- config_name: a
  data_files: [{split: b}]
error[data]: a split has no files: `path` is missing
  at README.md:4:16

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- config_name: a
  data_files: [{path: b}]
error[data]: a split has no name: `split` is missing
  at README.md:4:16

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- config_name: a
  data_files: [{split: b, path: [[c]]}]
error[data]: `path` must be text, and is a list
  at README.md:4:34
- config_name: a
  data_files: [{split: b, path: c, d: e}]
error[data]: a split has `split` and `path`, and not `d`
  at README.md:4:39

hint: a subset is written

    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/*.jsonl
- config_name: a
  data_files: [{split: b-c, path: d}]
error[data]: `b-c` cannot be the name of a split
  at README.md:4:24

hint: it is made of letters, digits, `_` and `.`
- config_name: a
  data_files: [{split: b.., path: d}]
error[data]: `b..` cannot be the name of a split
  at README.md:4:24

hint: it is made of letters, digits, `_` and `.`
- config_name: &n a
- config_name: *n
error[data]: `config_name` must be text, and is an alias, which is not followed
  at README.md:4:16
- &c {config_name: a}
- {<<: *c, config_name: b}
error[data]: merge keys (`<<`) are not followed
  at README.md:4:8

"#]],
        );
    }

    #[test]
    fn a_card_without_subsets_declares_none() {
        for card in ["", "---\na: b\n---\n", "---\nconfigs:\n---\n", "---\nconfigs: []\n---\n"] {
            assert!(subsets(card).unwrap().is_empty(), "{card:?}");
        }
        let error = subsets("---\n- a\n---\n").unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[data]: the front matter is a list
  at README.md:2:1
"#]],
        );
    }

    #[test]
    fn numbers_are_names_and_settings_are_kept_by_name() {
        let card = "---\nconfigs:\n- config_name: 2023\n  sep: ';'\n  default: Yes\n  features: []\n\
                    - config_name: default.x\n  data_files: []\n---\n";
        let found = subsets(card).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].default), ("2023", true));
        assert_eq!(found[0].settings, ["sep"]);
        assert!(!found[1].default);
        assert_eq!(pick(&found, None).unwrap().unwrap().name, "2023");
    }
}
