//! Names of files that mean the same on every machine.

use std::path::{Component, Path};

/// The name of a file without the place where it happens to lie: a path that says where, from a
/// root, from a home folder or by the way up, by its last name; any other as it was given. The
/// artifact of a run is called by the run.
pub fn name_anywhere(name: &str) -> String {
    let path = Path::new(name);
    let up = path.components().any(|part| part == Component::ParentDir);
    if !(path.is_absolute() || up || name.starts_with("~/")) {
        return name.to_owned();
    }
    let last = |path: &Path| path.file_name().and_then(|last| last.to_str()).map(str::to_owned);
    match (last(path), path.parent().and_then(last)) {
        (Some(artifact), Some(run)) if artifact == "artifact" => format!("{run}/{artifact}"),
        (Some(last), _) => last,
        (None, _) => name.to_owned(),
    }
}

/// The same of a file that may lie in one of these folders, by which it is then called.
pub fn name_within<'a>(name: &str, mut folders: impl Iterator<Item = &'a str>) -> String {
    let inside = folders.find_map(|folder| {
        let folder = folder.trim_end_matches('/');
        let rest = name.strip_prefix(folder)?.strip_prefix('/')?;
        Some(format!("{}/{rest}", name_anywhere(folder)))
    });
    inside.unwrap_or_else(|| name_anywhere(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_where_a_file_lies_is_left_out() {
        let same = ["datasets/a.jsonl", "acme/tiny", "a", "", "/", "run/artifact", "no / path"];
        assert_eq!(same.map(name_anywhere), same);
        assert_eq!(name_anywhere("/somewhere/a.jsonl"), "a.jsonl");
        assert_eq!(name_anywhere("~/sets/a.jsonl"), "a.jsonl");
        assert_eq!(name_anywhere("../a.jsonl"), "a.jsonl");
        assert_eq!(name_anywhere("/models/tiny/"), "tiny");
        assert_eq!(name_anywhere("/runs/tiny/artifact"), "tiny/artifact");
        let folders = ["/data/set", "near"];
        let within = |name: &str| name_within(name, folders.into_iter());
        assert_eq!(within("/data/set/odd/a.jsonl"), "set/odd/a.jsonl");
        assert_eq!(within("/data/sets/a.jsonl"), "a.jsonl");
        assert_eq!(within("near/a.jsonl"), "near/a.jsonl");
    }
}
