//! The folder within which everything stays.

use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};

/// Longer paths are refused.
pub(super) const PATH_BYTES_MAX: usize = 4096;

/// A folder, by its real name.
#[derive(Debug, Clone)]
pub(super) struct Root(PathBuf);

impl Root {
    /// The folder that a person has named.
    pub fn new(folder: &Path) -> Result<Self> {
        let full = std::fs::canonicalize(folder)
            .context_at("cannot find the folder for `--root`", folder)?;
        match full.is_dir() {
            true => Ok(Self(full)),
            false => Err(Error::usage("`--root` is not a folder").at(folder)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path that a client has named, if it stays within the folder, links included. What is not
    /// there yet is allowed, below a folder that is. `RUN@best` names a file, or a checkpoint of
    /// `RUN`: both are looked at.
    pub fn inside(&self, given: &str) -> Result<PathBuf> {
        if let Some((run, _)) = given.rsplit_once('@')
            && !run.is_empty()
        {
            self.within(run)?;
        }
        self.within(given)
    }

    fn within(&self, given: &str) -> Result<PathBuf> {
        let outside = |why: &str| {
            let error = Error::usage("the path is not within the folder of this server");
            Err(error
                .at(given)
                .because(why)
                .hint(format!("name a path below {}", self.0.display())))
        };
        if given.is_empty() || given.len() > PATH_BYTES_MAX || given.contains('\0') {
            return Err(Error::usage("a path must have 1 to 4096 bytes, none of them zero"));
        }
        let given_path = Path::new(given);
        let mut path = PathBuf::new();
        for part in given_path.components() {
            match part {
                Component::ParentDir => return outside("it has a part `..`"),
                part => path.push(part),
            }
            let here = self.0.join(&path);
            // A link is followed to its end, also one that leads nowhere yet.
            let is_link = here.symlink_metadata().is_ok_and(|found| found.is_symlink());
            match std::fs::canonicalize(&here) {
                Ok(real) if real.starts_with(&self.0) => {}
                // On the way down from `/`; below the folder only a link leads up again.
                Ok(real) if self.0.starts_with(&real) && !here.starts_with(&self.0) => {}
                Ok(_) => return outside("it leads out of it"),
                Err(_) if is_link => return outside("it leads through a link to nothing"),
                Err(_) => {}
            }
        }
        let full = self.0.join(&path);
        if full.starts_with(&self.0) {
            return Ok(full);
        }
        // An absolute path may lead here by another name.
        let there = full.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
        let real = there.and_then(|(part, real)| Some(real.join(full.strip_prefix(part).ok()?)));
        match real.filter(|real| real.starts_with(&self.0)) {
            Some(real) => Ok(real),
            None => outside("it is elsewhere"),
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_within_the_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        std::fs::create_dir_all(inside.join("a/b")).unwrap();
        std::fs::create_dir(folder.path().join("outside")).unwrap();
        std::fs::write(folder.path().join("outside/secret"), "x").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, inside.join(name));
        link("../outside", "out").unwrap();
        link("a/b", "in").unwrap();
        link("../nowhere", "dangling").unwrap();
        link("..", "up").unwrap();
        link("/", "top").unwrap();
        let root = Root::new(&inside).unwrap();
        let real = std::fs::canonicalize(&inside).unwrap();
        for (given, found) in [
            ("a", "a"),
            ("a/./b", "a/b"),
            ("in", "in"),
            ("new/file.toml", "new/file.toml"),
            ("owner/name@main", "owner/name@main"),
            ("-rf", "-rf"),
        ] {
            assert_eq!(root.inside(given).unwrap(), real.join(found), "{given}");
        }
        std::os::unix::fs::symlink(&inside, folder.path().join("alias")).unwrap();
        let alias = folder.path().join("alias/new").display().to_string();
        assert_eq!(root.inside(&alias).unwrap(), real.join("new"));
        let absolute = real.join("a").display().to_string();
        assert_eq!(root.inside(&absolute).unwrap(), real.join("a"));
        let long = "x/".repeat(3000);
        for given in [
            "..",
            "../outside/secret",
            "a/../../outside/secret",
            "a/..",
            "/etc/passwd",
            "/",
            "out",
            "out/secret",
            "out/new",
            "dangling",
            "up",
            "up/outside/secret",
            "up/new",
            "top",
            "out@best",
            "up@last",
            "a/../..@best",
            "..@best",
            "",
            "a\0b",
            &long,
        ] {
            assert!(root.inside(given).is_err(), "{given:?}");
        }
    }
}
