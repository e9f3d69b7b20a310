//! No circles between files of `src`: whoever reads one needs the files that it names, and those
//! must not lead back. A file may name what a folder above it defines (`mod.rs` is the vocabulary
//! of its folder) and a `mod.rs` may name its children; every other reference has one direction.
//!
//! Names are followed through re-exports to the file that defines them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// A path such as `data::mask`.
type Module = Vec<String>;

struct File {
    code: String,
    defines: BTreeSet<String>,
    uses: Vec<Use>,
}

struct Use {
    is_public: bool,
    path: Module,
    name: String,
}

struct Tree(BTreeMap<Module, File>);

fn split(path: &str) -> Module {
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// `a::{b, c::d as e}` as its paths and the names that they have here.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<(Module, String)>) {
    let tree = tree.trim();
    if let Some((before, inside)) = tree.split_once('{') {
        let prefix = [prefix, &split(before)].concat();
        let inside = inside.trim_end().strip_suffix('}').expect("a closed list");
        let (mut depth, mut begin) = (0, 0);
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !inside[begin..at].trim().is_empty() {
                        expand(&prefix, &inside[begin..at], found);
                    }
                    begin = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(a, b)| (a, Some(b)));
    let mut path = [prefix, &split(path)].concat();
    path.pop_if(|last| last == "self");
    let name = alias.map_or_else(|| path.last().unwrap().clone(), |name| name.trim().to_owned());
    found.push((path, name));
}

impl File {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = Regex::new(r"//[^\n]*").unwrap().replace_all(text, "").into_owned();
        let only_tests = r"#\[cfg\(test\)\]\s*(#\[[^\]]*\]\s*)*(pub )?(mod|use) [^;]*;";
        let code = Regex::new(only_tests).unwrap().replace_all(&code, "").into_owned();
        let items = r"(?m)^(?:pub(?:\([^)]*\))? )?(?:unsafe |async |const )*(?:struct|enum|trait|fn|const|static|type|union|macro_rules!) (\w+)";
        let items = Regex::new(items).unwrap();
        let defines = items.captures_iter(&code).map(|it| it[1].to_owned()).collect();
        let mut uses = Vec::new();
        let every = Regex::new(r"(?m)^\s*(pub(?:\([^)]*\))? )?use ([^;]+);").unwrap();
        for found in every.captures_iter(&code) {
            let mut paths = Vec::new();
            expand(&[], &found[2], &mut paths);
            let is_public = found.get(1).is_some();
            uses.extend(paths.into_iter().map(|(path, name)| Use { is_public, path, name }));
        }
        Self { defines, uses, code }
    }
}

impl Tree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![root.clone()];
        let mut files = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let inside = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if is_source(&inside) {
                    files.insert(module(&inside), File::read(&path));
                }
            }
        }
        assert!(files.len() > 300, "the sources were not found");
        Self(files)
    }

    /// A path that a file names, from the root of the crate; none if it is of another crate.
    fn absolute(&self, from: &[String], path: &[String]) -> Option<Module> {
        let climbs = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([from, &path[1..]].concat()),
            "super" => Some([&from[..from.len() - climbs], &path[climbs..]].concat()),
            first => {
                let child = [from, &[first.to_owned()]].concat();
                self.0.contains_key(&child).then(|| [from, path].concat())
            }
        }
    }

    /// The module that a path names, or the one that defines the item which it names.
    fn resolve(&self, path: &[String], depth: usize) -> Option<(Module, bool)> {
        let (at, file) =
            (0..=path.len()).rev().find_map(|at| Some((at, self.0.get(&path[..at])?)))?;
        let Some(name) = path.get(at) else { return Some((path.to_vec(), true)) };
        let here = (path[..at].to_vec(), false);
        if file.defines.contains(name) || depth == 0 {
            return Some(here);
        }
        match file.uses.iter().find(|it| it.name == *name) {
            None => Some(here),
            Some(it) => {
                let target = self.absolute(&here.0, &it.path)?;
                self.resolve(&[&target[..], &path[at + 1..]].concat(), depth - 1)
            }
        }
    }

    /// The files that define what a file names, with one such name each.
    fn names(&self, from: &Module) -> BTreeMap<Module, String> {
        let file = &self.0[from];
        let (mut found, mut modules) = (BTreeMap::new(), BTreeMap::new());
        let mut add = |target: Option<(Module, bool)>, name: &str| {
            if let Some((target, false)) = target
                && !from.starts_with(&target)
            {
                found.entry(target).or_insert_with(|| name.to_owned());
            }
        };
        for it in &file.uses {
            let target =
                self.absolute(from, &it.path).and_then(|path| self.resolve(&path, DEPTH_MAX));
            if let Some((module, true)) = &target {
                modules.insert(it.name.clone(), module.clone());
            }
            if !it.is_public {
                add(target, &it.path.join("::"));
            }
        }
        let code = Regex::new(r"(?m)^\s*(pub(?:\([^)]*\))? )?use [^;]+;").unwrap();
        let code = code.replace_all(&file.code, "");
        for path in Regex::new(r"\b(?:[a-z_]\w*::)+\w+").unwrap().find_iter(&code) {
            let parts = split(path.as_str());
            let path = match modules.get(&parts[0]) {
                Some(module) => Some([&module[..], &parts[1..]].concat()),
                None => self.absolute(from, &parts),
            };
            add(path.and_then(|path| self.resolve(&path, DEPTH_MAX)), &parts.join("::"));
        }
        found
    }
}

/// Whether a file is part of the program: no test, no page.
fn is_source(file: &str) -> bool {
    file.ends_with(".rs") && !file.contains("tests") && !file.contains("fixture")
}

/// Re-exports that are followed one after the other.
const DEPTH_MAX: usize = 8;

fn module(file: &str) -> Module {
    let path = PathBuf::from(file.strip_suffix(".rs").expect("a source file"));
    let mut parts: Module =
        path.iter().map(|part| part.to_str().expect("a plain name").to_owned()).collect();
    parts.pop_if(|last| last == "mod" || last == "lib" || last == "main");
    parts
}

/// What is left of references when files without any, in either direction, are taken away.
fn circles(mut all: BTreeMap<Module, BTreeMap<Module, String>>) -> Vec<String> {
    loop {
        let named: BTreeSet<Module> = all.values().flat_map(|to| to.keys().cloned()).collect();
        let before = all.len();
        all.retain(|file, to| !to.is_empty() && named.contains(file));
        let left: BTreeSet<Module> = all.keys().cloned().collect();
        all.values_mut().for_each(|to| to.retain(|file, _| left.contains(file)));
        if all.len() == before {
            break;
        }
    }
    let line = |from: &Module, to: &Module, name: &str| {
        format!("{} names `{name}` of {}", from.join("::"), to.join("::"))
    };
    all.iter()
        .flat_map(|(from, to)| to.iter().map(move |(to, name)| line(from, to, name)))
        .collect()
}

#[test]
fn no_file_leads_back_to_itself() {
    let tree = Tree::read();
    let found = circles(tree.0.keys().map(|file| (file.clone(), tree.names(file))).collect());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn circles_are_found() {
    let named = |from: &str, to: &[&str]| {
        (split(from), to.iter().map(|to| (split(to), "it".to_owned())).collect())
    };
    let none = BTreeMap::from([named("a", &["b", "c"]), named("b", &["c"]), named("c", &[])]);
    assert!(circles(none).is_empty());
    let one = BTreeMap::from([named("a", &["b"]), named("b", &["c"]), named("c", &["b"])]);
    assert_eq!(circles(one), ["b names `it` of c", "c names `it` of b"]);
    let mut paths = Vec::new();
    expand(&[], "crate::a::{self, b::{C, D as E}, f}", &mut paths);
    let paths: Vec<_> = paths.iter().map(|(path, name)| (path.join("::"), name.as_str())).collect();
    let wanted =
        [("crate::a", "a"), ("crate::a::b::C", "C"), ("crate::a::b::D", "E"), ("crate::a::f", "f")];
    assert_eq!(paths, wanted.map(|(path, name)| (path.to_owned(), name)));
}
