//! What GGUF files say of themselves.

use super::file::{ALIGNMENT, Keys};
use crate::artifact::origin::Origin;
use crate::hub::ModelDirectory;

/// Of the format of quantised numbers; readers refuse others.
const QUANTIZATION_VERSION: u32 = 2;
/// Under this key the file holds the SHA-256 of its `lineage.inputs.json`.
const INPUTS_KEY: &str = "firebrand.inputs_sha256";

/// What a file says of itself: name, size, licence, where it comes from.
pub struct AboutFile<'a> {
    /// Of the model, as llama.cpp calls it.
    pub architecture: &'static str,
    /// `model` or `adapter`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// How many numbers it has.
    pub parameters: u64,
}

impl AboutFile<'_> {
    /// Writes it; gives the place of the digest of the inputs.
    pub fn write(&self, keys: &mut Keys) -> u64 {
        let (origin, past) = (self.origin, &self.origin.past);
        keys.text("general.architecture", self.architecture);
        keys.text("general.type", self.kind);
        keys.text("general.name", self.name);
        keys.text("general.size_label", &size_label(self.parameters));
        if let Some(license) = &past.license {
            keys.text("general.license", license);
        }
        keys.texts("general.tags", &["firebrand", "text-generation"]);
        keys.text("firebrand.source", &origin.model.id);
        let mut parents: Vec<&ModelDirectory> = vec![&origin.base];
        if origin.adapter.is_some() {
            parents.push(&origin.model);
        }
        keys.number("general.base_model.count", parents.len() as u32);
        for (number, parent) in parents.into_iter().enumerate() {
            let commit = parent.commit();
            // On a hub it is `owner/name`, here a path: that is its name.
            let id = commit.and_then(|_| parent.id.split_once('/'));
            let name = |key: &str| format!("general.base_model.{number}.{key}");
            keys.text(&name("name"), id.map_or(&parent.id, |(_, rest)| rest));
            if let (Some((owner, _)), Some(commit)) = (id, commit) {
                keys.text(&name("organization"), owner);
                keys.text(&name("version"), commit);
            }
            let endpoint = parent.locked.as_ref().and_then(|locked| locked.endpoint.as_deref());
            if let Some(endpoint) = endpoint {
                keys.text(&name("repo_url"), &format!("{endpoint}/{}", parent.id));
            }
        }
        let datasets: Vec<_> = past.datasets.iter().collect();
        keys.number("general.dataset.count", u32::try_from(datasets.len()).unwrap_or(u32::MAX));
        for (number, set) in datasets.into_iter().enumerate() {
            let name = |key: &str| format!("general.dataset.{number}.{key}");
            keys.text(&name("name"), &set.name);
            if let Some((id, commit)) = set.on_hub() {
                keys.text(&name("version"), commit);
                keys.text(&name("organization"), id.split('/').next().unwrap_or(id));
            }
            keys.text(&name("description"), &format!("sha256 {}", set.sha256));
        }
        keys.number("general.quantization_version", QUANTIZATION_VERSION);
        keys.number("general.alignment", ALIGNMENT as u32);
        keys.text("firebrand.version", env!("CARGO_PKG_VERSION"));
        keys.text(INPUTS_KEY, &"0".repeat(64))
    }
}

/// A name without anything that shells, file systems or pages would take for something else.
pub fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(keep).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "model".to_owned(),
        rest => rest.to_owned(),
    }
}

/// How many weights there are, as llama.cpp's converter rounds it.
#[expect(clippy::cast_precision_loss)] // for people
fn size_label(parameters: u64) -> String {
    let (scaled, unit) = match parameters {
        0..1_000_000 => (parameters as f64 / 1e3, "K"),
        1_000_000..1_000_000_000 => (parameters as f64 / 1e6, "M"),
        _ => (parameters as f64 / 1e9, "B"),
    };
    let digits = if scaled < 10.0 { 1 } else { 0 };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(plain("a b/../c$"), "a-b-..-c-");
        assert_eq!(plain("..x"), "x");
        assert_eq!(plain("--"), "model");
    }

    #[test]
    fn sizes_are_told_as_llama_cpp_does() {
        for (parameters, label) in [
            (134_515_008, "135M"),
            (1_235_814_400, "1.2B"),
            (2_764_032, "2.8M"),
            (8_030_261_248, "8.0B"),
        ] {
            assert_eq!(size_label(parameters), label);
        }
    }
}
