//! What is different between two locks, in lines that people read before they train.

use std::collections::BTreeMap;

use super::lock::{DataLock, Locked, LockedFile};
use crate::event::bytes;

impl DataLock {
    /// What is different in another lock, a line each: `+` is new, `-` is gone, `~` is another.
    pub fn changes_to(&self, new: &Self) -> Vec<String> {
        let of = |lock: &Self| -> BTreeMap<String, Locked> {
            let entries = lock.model.iter().chain(&lock.data);
            entries.map(|entry| (entry.title(), entry.clone())).collect()
        };
        let (old, new) = (of(self), of(new));
        let mut lines = Vec::new();
        for (title, entry) in &new {
            match old.get(title) {
                Some(known) => lines.extend(known.changes_to(entry)),
                None => lines.push(format!("+ {title}: {}", sizes(entry))),
            }
        }
        let gone = old.iter().filter(|(title, _)| !new.contains_key(*title));
        lines.extend(gone.map(|(title, entry)| format!("- {title}: {}", sizes(entry))));
        lines
    }
}

fn sizes(entry: &Locked) -> String {
    let size: u64 = entry.files.iter().map(|file| file.size).sum();
    let mut text = format!("{} files, {}", entry.files.len(), bytes(size));
    if entry.files.iter().any(|file| file.rows.is_some()) {
        let rows: u64 = entry.files.iter().filter_map(|file| file.rows).sum();
        text += &format!(", {rows} rows");
    }
    text
}

/// What is not known yet is no difference.
fn differs<T: PartialEq>(old: &Option<T>, new: &Option<T>) -> bool {
    matches!((old, new), (Some(old), Some(new)) if old != new)
}

impl LockedFile {
    fn is_other(&self, new: &Self) -> bool {
        self.size != new.size || differs(&self.sha256, &new.sha256) || differs(&self.oid, &new.oid)
    }

    fn change_to(&self, new: &Self, title: &str) -> String {
        let rows = |rows: Option<u64>| rows.map_or("?".to_owned(), |rows| rows.to_string());
        let (from, to) = (bytes(self.size), bytes(new.size));
        let mut line = format!("~ {title}: {}, {from} -> {to}", new.path);
        if self.rows.or(new.rows).is_some() {
            line += &format!(", {} -> {} rows", rows(self.rows), rows(new.rows));
        }
        line
    }
}

impl Locked {
    /// What is different in another entry of the same name.
    pub fn changes_to(&self, new: &Self) -> Vec<String> {
        let title = new.title();
        let mut lines = Vec::new();
        if self.commit != new.commit {
            let short = |commit: &Option<String>| {
                commit.as_deref().map_or("none", |text| &text[..text.len().min(12)]).to_owned()
            };
            let (from, to) = (short(&self.commit), short(&new.commit));
            lines.push(format!("~ {title}: commit {from} -> {to}"));
        }
        for file in &new.files {
            match self.file(&file.path) {
                None => lines.push(format!("+ {title}: {}, {}", file.path, bytes(file.size))),
                Some(known) if known.is_other(file) => lines.push(known.change_to(file, &title)),
                Some(_) => {}
            }
        }
        let gone = self.files.iter().filter(|file| new.file(&file.path).is_none());
        lines.extend(gone.map(|file| format!("- {title}: {}, {}", file.path, bytes(file.size))));
        if !self.columns.is_empty() && !new.columns.is_empty() {
            let only = |here: &[String], there: &[String], sign: char| -> Vec<String> {
                let only = here.iter().filter(|column| !there.contains(column));
                only.map(|column| format!("{sign} {title}: column {column}")).collect()
            };
            lines.extend(only(&new.columns, &self.columns, '+'));
            lines.extend(only(&self.columns, &new.columns, '-'));
        }
        if differs(&self.chat_template, &new.chat_template) {
            lines.push(format!("~ {title}: the chat template is another: read it before training"));
        }
        lines
    }
}
