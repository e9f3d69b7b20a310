//! What runs the workers of a sweep elsewhere: one file and one line of the table for each.

use crate::error::{Error, Result};

mod dstack;
mod kubernetes;
mod skypilot;
mod slurm;

/// What a template is made of.
#[derive(Debug, Clone)]
pub struct EngineRequest<'a> {
    /// Name of the sweep.
    pub name: &'a str,
    /// The folder of the sweep, as the workers see it.
    pub folder: &'a str,
    /// How many points there are.
    pub points: usize,
    /// How many workers share them.
    pub workers: usize,
    /// The container image.
    pub image: Option<&'a str>,
    /// Memory that a worker asks for, in GiB.
    pub memory_gib: u64,
}

/// Something that runs workers.
pub(super) struct Engine {
    /// Its name on the command line.
    name: &'static str,
    /// The file that is written into the folder of the sweep.
    file: &'static str,
    /// Whether it runs containers only.
    needs_image: bool,
    write: fn(&EngineRequest) -> String,
}

const ENGINES: &[Engine] = &[kubernetes::ENTRY, slurm::ENTRY, skypilot::ENTRY, dstack::ENTRY];

/// The names of all, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENGINES.iter().map(|engine| engine.name)
}

/// The name and the text of the file that an engine is given.
///
/// # Errors
/// When there is none of this name, or it lacks an image.
pub fn template(name: &str, request: &EngineRequest) -> Result<(&'static str, String)> {
    let engine = ENGINES.iter().find(|engine| engine.name == name);
    let engine = engine.ok_or_else(|| Error::usage(format!("there is no engine `{name}`")))?;
    if engine.needs_image && request.image.is_none() {
        return Err(Error::usage(format!("`--for {name}` needs a container image"))
            .hint("name one that has the program in its PATH: `--image REGISTRY/NAME:TAG`"));
    }
    Ok((engine.file, (engine.write)(request)))
}

/// A name as clusters take it: lower case letters, digits and `-`, at most 52 of them, so that
/// numbers of workers fit behind it.
fn cluster_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).take(40).collect();
    format!("sweep-{}", name.trim_matches('-')).trim_end_matches('-').to_owned()
}

/// A word of a shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A string of YAML, whatever is in it.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_words_are_those_of_clusters_and_shells() {
        assert_eq!(cluster_name("Learning_rate.v2"), "sweep-learning-rate-v2");
        assert_eq!(cluster_name("___"), "sweep");
        assert!(cluster_name(&"x".repeat(99)).len() <= 52);
        assert_eq!([shell("a/b-c.d"), shell("it's $x")], ["a/b-c.d", r"'it'\''s $x'"]);
        assert_eq!(yaml("a: \"b\""), r#""a: \"b\"""#);
    }
}
