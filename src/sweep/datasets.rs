//! A folder of data sets: one for each customer, language or tenant.

use std::collections::BTreeMap;
use std::path::Path;

use super::setting::{Dataset, Setting};
use crate::data;
use crate::document::{is_name, quoted};
use crate::error::{Context, Error, Place, Result};

/// What the names of validation sets end with.
const VALIDATION: &str = ".validation";

/// The data sets of a folder by name; `written` is where the sweep names it.
///
/// # Errors
/// When it cannot be listed, holds none, or what it holds cannot be told apart.
pub fn of_folder(folder: &Path, written: &Place) -> Result<Vec<Dataset>> {
    let [mut train, mut validation] = [const { BTreeMap::new() }; 2];
    for entry in std::fs::read_dir(folder).context_at("cannot list the data sets", folder)? {
        let path = entry.context_at("cannot list the data sets", folder)?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with('.') || file.starts_with("README") {
            continue;
        }
        let stem = stem(&file, path.is_dir()).ok_or_else(|| {
            Error::config("this file in the folder of data sets is not one").at(&path)
        })?;
        let (name, sets) = match stem.strip_suffix(VALIDATION) {
            Some(name) => (name, &mut validation),
            None => (stem, &mut train),
        };
        if !is_name(name) {
            let what = format!("`{name}` cannot name a data set");
            return Err(Error::config(what).at(&path).hint("rename it: letters, digits, `_`, `-`"));
        }
        if let Some(other) = sets.insert(name.to_owned(), path.clone()) {
            let what = format!("two files are the data set `{name}`");
            let other = format!("the other is {}", other.display());
            return Err(Error::config(what).at(&path).because(other));
        }
    }
    if let Some((name, path)) = validation.iter().find(|(name, _)| !train.contains_key(*name)) {
        let what = format!("there is no training set `{name}` for this validation set");
        return Err(Error::config(what).at(path));
    }
    if train.is_empty() {
        return Err(Error::config("the folder holds no data sets").at(folder));
    }
    let setting = |key: &str, path: &Path| Setting {
        key: key.to_owned(),
        toml: quoted(&path.display().to_string()),
        written: written.clone(),
    };
    let dataset = |(name, path): (&String, &std::path::PathBuf)| Dataset {
        train: Some(setting("train", path)),
        validation: validation.get(name).map(|path| setting("validation", path)),
        name: name.clone(),
        set: Vec::new(),
    };
    Ok(train.iter().map(dataset).collect())
}

/// The name of a data set without the extensions of its form and compression.
fn stem(file: &str, is_folder: bool) -> Option<&str> {
    if is_folder {
        return Some(file);
    }
    let extensions = data::extensions();
    let stems = extensions.iter().filter_map(|ending| file.strip_suffix(ending.as_str()));
    stems.filter_map(|stem| stem.strip_suffix('.')).min_by_key(|stem| stem.len())
}
