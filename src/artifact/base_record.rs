//! The base model of a run, or the adapter that it starts from, as the lineage has it.

use serde_json::{Value, json};

use super::parent::Parent;
use super::resource::dependency;
use crate::files::FileEntry;
use crate::hub::InputTrust;

/// The base model.
#[derive(Debug, Clone)]
pub struct BaseRecord {
    /// A path, or an id on the hub, as the user named it.
    pub id: String,
    /// The commit, if it came from the hub.
    pub revision: Option<String>,
    /// The files that are read.
    pub files: Vec<FileEntry>,
    /// The GGUF file that they were unpacked from, if they were.
    pub gguf: Option<FileEntry>,
    /// Why it may be used.
    pub trust: InputTrust,
    /// Its own lineage, if it is an artifact of this program.
    pub parent: Option<Parent>,
}

impl BaseRecord {
    /// How it was named, and its commit.
    pub(super) fn name(&self) -> Value {
        let mut name = json!({"id": self.id});
        if let Some(revision) = &self.revision {
            name["revision"] = json!(revision);
        }
        name
    }

    /// Its files, with where anyone finds these bytes again if they came from a hub.
    pub(super) fn dependencies(&self, role: &str) -> Vec<Value> {
        let entry = |role: &str, file: &FileEntry| {
            let notes = json!({
                "role": role,
                "size": file.size.to_string(),
                "trust": self.trust,
            });
            dependency(&file.path, &file.sha256, notes)
        };
        let at = |repo: &str, path: &str, mut entry: Value| {
            if let Some(revision) = &self.revision {
                entry["uri"] = json!(format!("pkg:huggingface/{repo}@{revision}#{path}"));
            }
            entry
        };
        let files = self.files.iter().map(|file| (file, entry(role, file)));
        let Some(gguf) = &self.gguf else {
            return files.map(|(file, entry)| at(&self.id, &file.path, entry)).collect();
        };
        // What was unpacked is on no hub: `owner/name/path` is.
        let source = entry("base-gguf", gguf);
        let slash = self.id.match_indices('/').nth(1).map(|(at, _)| at);
        let source = match slash.map(|at| (&self.id[..at], &self.id[at + 1..])) {
            Some((repo, path)) => at(repo, path, source),
            None => source,
        };
        std::iter::once(source).chain(files.map(|(_, entry)| entry)).collect()
    }
}
