//! The folder for what can be made again: digests of checked files, prepared data.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// `$FIREBRAND_CACHE`, else `$XDG_CACHE_HOME/firebrand`, else `~/.cache/firebrand`. The folder
/// need not exist yet.
///
/// # Errors
/// When none of them is known.
pub fn cache_home() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(own) = set("FIREBRAND_CACHE") {
        return Ok(own.into());
    }
    if let Some(shared) = set("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(shared).join("firebrand"));
    }
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    home.map(|home| home.join(".cache").join("firebrand")).ok_or_else(|| {
        Error::file("this user has no home directory to keep a cache in")
            .hint("name a folder in the environment variable `FIREBRAND_CACHE`")
    })
}
