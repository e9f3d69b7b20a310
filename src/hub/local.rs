//! Models on this machine: directories, runs and artifacts.

use std::path::{Path, PathBuf};

use super::lock::Locked;
use crate::error::{Error, Result};
use crate::files::{FileEntry, has_file};

/// A model directory on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDirectory {
    /// The name under which any tool finds it: a directory.
    pub id: String,
    /// Where its `config.json` or `adapter_config.json` lies.
    pub path: PathBuf,
    /// Is it an adapter, to be put beside a base model?
    pub adapter: bool,
    /// Which files it consists of, if it came from a hub.
    pub locked: Option<Locked>,
}

impl ModelDirectory {
    /// The commit, if it came from a hub.
    pub fn commit(&self) -> Option<&str> {
        self.locked.as_ref()?.commit.as_deref()
    }
}

/// Finds a model by its name: a model directory, an artifact, or a run that has one.
///
/// # Errors
/// Says what the name looks like and what is missing.
pub fn resolve(name: &str) -> Result<ModelDirectory> {
    let given = Path::new(name);
    for path in [given.to_path_buf(), given.join("artifact")] {
        let adapter = has_file(&path.join("adapter_config.json"))?;
        if adapter || has_file(&path.join("config.json"))? {
            let id = path.display().to_string();
            return Ok(ModelDirectory { id, path, adapter, locked: None });
        }
    }
    if given.join("run.lock").exists() {
        return Err(Error::run("this run has not finished, so it has no artifact yet")
            .at(given)
            .hint("finish it: `firebrand train` with its configuration"));
    }
    if given.exists() {
        return Err(Error::model("this is not a model: it has no `config.json`")
            .at(given)
            .hint("a model directory holds config.json, tokenizer.json and safetensors"));
    }
    Err(Error::model(format!("there is no model `{name}`"))
        .hint("name a model directory, an artifact, a finished run, or `owner/name` on a hub"))
}

impl ModelDirectory {
    /// The bytes that were read must be those that a hub listed.
    pub fn expect(&self, read: &[FileEntry]) -> Result<()> {
        let Some(locked) = &self.locked else { return Ok(()) };
        for file in read {
            let listed = locked.file(&file.path).and_then(|known| known.sha256);
            if listed.is_some_and(|listed| listed != file.sha256) {
                return Err(Error::changed("the file changed after it was checked")
                    .at(self.path.join(&file.path))
                    .because(format!("{} was read", file.sha256)));
            }
        }
        Ok(())
    }

    /// This model, if it can be trained: not an adapter.
    pub fn as_base(self) -> Result<Self> {
        if !self.adapter {
            return Ok(self);
        }
        let name = &self.id;
        Err(Error::adapter(format!("`{name}` is an adapter, not a base model"))
            .at(&self.path)
            .hint(format!("first make a whole model of it: `firebrand merge {name} --out DIR`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

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
        let found = resolve(run.to_str().unwrap()).unwrap();
        let error = found.as_base().unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[adapter]: `[FOLDER]/run/artifact` is an adapter, not a base model
  at [FOLDER]/run/artifact

hint: first make a whole model of it: `firebrand merge [FOLDER]/run/artifact --out DIR`
"#]],
        );

        let error = resolve("some/where/else").unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[model]: there is no model `some/where/else`

hint: name a model directory, an artifact, a finished run, or `owner/name` on a hub
"#]],
        );
    }
}
