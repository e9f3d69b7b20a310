//! Where compiled kernels are kept. Burn's runtime keeps none on disk in this build (that is its
//! feature `persistence`); drivers do, in a folder that they take from their environment.
//!
//! Mesa: `MESA_SHADER_CACHE_DIR` of <https://docs.mesa3d.org/envvars.html>. NVIDIA on Linux:
//! `__GL_SHADER_DISK_CACHE_PATH` of its driver's README; as root it keeps nothing unless it is told
//! to. The folder must be there. Metal, and drivers on Windows, keep theirs where the system says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Variables that name the folder.
const FOLDERS: [&str; 2] = ["MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];
/// Set to 1, so that NVIDIA's driver keeps kernels for root as well, and removes none.
const SWITCHES: [&str; 2] = ["__GL_SHADER_DISK_CACHE", "__GL_SHADER_DISK_CACHE_SKIP_CLEANUP"];

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Chooses the folder for this process: `pinned` whatever is set already, else `usual` if the user
/// has set none. Returns what is to be put into the environment, before any other thread runs and
/// before a driver is loaded; nothing where drivers cannot be told.
pub fn keep_kernels(
    pinned: Option<PathBuf>,
    usual: Option<PathBuf>,
) -> Vec<(&'static str, OsString)> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    let chosen = FOLDERS.iter().any(|name| std::env::var_os(name).is_some());
    let Some(folder) = pinned.or(usual.filter(|_| !chosen)) else { return Vec::new() };
    let folder = FOLDER.get_or_init(|| std::path::absolute(&folder).unwrap_or(folder));
    let folders = FOLDERS.map(|name| (name, folder.clone().into_os_string()));
    folders.into_iter().chain(SWITCHES.map(|name| (name, "1".into()))).collect()
}

/// The folder that was chosen.
pub fn kernel_folder() -> Option<&'static Path> {
    FOLDER.get().map(PathBuf::as_path)
}

/// Makes the folder. If that cannot be done, drivers compile each time.
#[cfg(feature = "gpu")]
pub(super) fn make_folder() {
    if let Some(folder) = kernel_folder() {
        let _ = std::fs::create_dir_all(folder);
    }
}
