//! Models on this machine: directories, runs and artifacts.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A model directory on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDirectory {
    /// The name under which any tool finds it: a directory.
    pub id: String,
    /// Where its `config.json` or `adapter_config.json` lies.
    pub path: PathBuf,
    /// Is it an adapter, to be put beside a base model?
    pub adapter: bool,
}

/// Finds a model by its name: a model directory, an artifact, or a run that has one.
///
/// # Errors
/// Says what the name looks like and what is missing.
pub fn resolve(name: &str) -> Result<ModelDirectory> {
    let given = Path::new(name);
    for path in [given.to_path_buf(), given.join("artifact")] {
        let adapter = path.join("adapter_config.json").is_file();
        if adapter || path.join("config.json").is_file() {
            let id = path.display().to_string();
            return Ok(ModelDirectory { id, path, adapter });
        }
    }
    if given.join("run.lock").exists() {
        return Err(Error::new("this run has not finished, so it has no artifact yet")
            .at(given)
            .hint("go on with it: `firebrand train` with its configuration"));
    }
    if given.exists() {
        return Err(Error::new("this is not a model: it has no `config.json`")
            .at(given)
            .hint("a model directory holds config.json, tokenizer.json and safetensors"));
    }
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && !part.starts_with('.');
    if parts.len() == 2 && parts.iter().all(plain) && !given.starts_with("checkpoints") {
        return Err(Error::new(format!(
            "`{name}` is the name of a model on a hub, and there is no such directory here"
        ))
        .hint(format!(
            "download it and name its directory, e.g. `--set model.base=models/{}`",
            parts[1]
        )));
    }
    Err(Error::new(format!("there is no model `{name}`"))
        .hint("name a model directory, an artifact or a finished run"))
}

/// A model directory that can be trained: not an adapter.
pub fn resolve_base(name: &str) -> Result<ModelDirectory> {
    let found = resolve(name)?;
    if found.adapter {
        return Err(Error::new(format!("`{name}` is an adapter, not a base model"))
            .at(&found.path)
            .hint(format!("first make a whole model of it: `firebrand merge {name} --out DIR`")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_or_explained() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        std::fs::create_dir_all(run.join("artifact")).unwrap();
        std::fs::write(run.join("artifact/config.json"), "{}").unwrap();
        let found = resolve(run.to_str().unwrap()).unwrap();
        assert_eq!((found.path, found.adapter), (run.join("artifact"), false));

        std::fs::rename(run.join("artifact/config.json"), run.join("artifact/adapter_config.json"))
            .unwrap();
        let error = resolve_base(run.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is an adapter") && error.contains("firebrand merge"), "{error}");

        let error = resolve("someone/something").unwrap_err().to_string();
        assert!(error.contains("on a hub"), "{error}");
    }
}
