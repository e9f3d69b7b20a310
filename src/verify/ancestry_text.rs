//! The ancestry for people: an indented tree, one thing a line.

use serde_json::{Map, Value};

use super::ancestry::{Ancestry, Item, Parent, ParentState};
use crate::error::printable;

/// How many files of one sort are listed.
const MAX_LISTED: usize = 12;

impl Ancestry {
    /// The tree, one line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}", self.directory.display())];
        self.tell("  ", &mut lines);
        // What files say of themselves cannot break out of its line.
        lines.iter().map(|line| printable(line).replace(['\n', '\t'], " ")).collect()
    }

    fn tell(&self, indent: &str, lines: &mut Vec<String>) {
        let mut say = |label: &str, text: String| {
            lines.push(format!("{indent}{label:<13}  {text}").trim_end().to_owned());
        };
        say("statement", format!("sha256 {}", self.statement));
        say("signature", self.signature.to_string());
        say("made by", self.method.clone());
        if let [Some(started), Some(finished)] = &self.time {
            say("time", format!("{started} to {finished}"));
        }
        for item in &self.config {
            say(&item.role, item.to_string());
        }
        if !self.overrides.is_empty() {
            say("changed", pairs(&self.overrides));
        }
        for item in &self.source {
            say(&item.role, item.to_string());
        }
        let mut device = self.device.clone();
        device.remove("class"); // dozens of instructions, for programs that compare machines
        let device = pairs(&device);
        if !device.is_empty() {
            let repeats = match self.deterministic {
                Some(true) => "; repeats to the bit",
                Some(false) => "; does not repeat to the bit",
                None => "",
            };
            say("device", format!("{device}{repeats}"));
        }
        if let Some(seed) = &self.seed {
            say("seed", seed.clone());
        }
        say("programs", pairs(&self.versions));
        some(&self.text, &mut say);
        some(&self.datasets, &mut say);
        if !self.metrics.is_empty() {
            say("numbers", pairs(&self.metrics));
        }
        some(&self.events, &mut say);
        let revision = self.base.revision.as_ref().map(|revision| format!(" at {revision}"));
        say("base", format!("{}{}", self.base.id, revision.unwrap_or_default()));
        let below = format!("{indent}  ");
        for item in self.base.files.iter().take(MAX_LISTED) {
            lines.push(format!("{below}{item}"));
        }
        if self.base.files.len() > MAX_LISTED {
            lines.push(format!("{below}and {} more files", self.base.files.len() - MAX_LISTED));
        }
        if let Some(parent) = &self.parent {
            parent.tell(&below, lines);
        }
    }
}

impl Parent {
    fn tell(&self, indent: &str, lines: &mut Vec<String>) {
        let verdict = match self.found {
            ParentState::Same => "the very one that was recorded",
            ParentState::Other => "NOT the one that was recorded",
            ParentState::Missing => "not found",
            ParentState::NotFollowed => "not followed",
        };
        let place = self.family.as_ref().map(|family| family.directory.display().to_string());
        let place = place.unwrap_or_else(|| self.name.clone());
        lines.push(format!("{indent}{place}: {verdict}"));
        let below = format!("{indent}  ");
        if let Some(problem) = &self.problem {
            lines.push(format!("{below}{problem}"));
        }
        match &self.family {
            Some(family) => family.tell(&below, lines),
            None => {
                lines.push(format!("{below}recorded       statement sha256 {}", self.statement));
                let signature = self.signature.as_deref().unwrap_or("unchecked");
                lines.push(format!("{below}               signature {signature} at the time"));
            }
        }
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digests = self.digest.iter().filter_map(|(name, value)| {
            let value = value.as_str()?;
            // A commit is looked up, a digest compared: twelve digits tell it from others.
            let shown = value.get(..12).filter(|_| name != "gitCommit").unwrap_or(value);
            Some(format!("{name} {shown}"))
        });
        write!(f, "{}, {}", self.name, digests.collect::<Vec<_>>().join(", "))?;
        let notes = pairs(&self.notes);
        if notes.is_empty() { Ok(()) } else { write!(f, ", {notes}") }
    }
}

fn some(items: &[Item], say: &mut impl FnMut(&str, String)) {
    for item in items.iter().take(MAX_LISTED) {
        say(&item.role, item.to_string());
    }
    if items.len() > MAX_LISTED {
        say("", format!("and {} more", items.len() - MAX_LISTED));
    }
}

fn pairs(map: &Map<String, Value>) -> String {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key} {text}"),
        other => format!("{key} {other}"),
    };
    map.iter().map(pair).collect::<Vec<_>>().join(", ")
}
