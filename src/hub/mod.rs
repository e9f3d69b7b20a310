//! Names and files of models and data sets, on this machine and on a hub.
//!
//! A hub is asked by our own loop around `ureq`, and nothing that it sends is used before it is
//! proved: size, SHA-256 and git's id are those that it listed for the commit. Of the crate
//! hf-hub 0.5 only the names and the layout of the cache are taken. Its own requests send the token
//! along redirects, do not resume and check no digest; those of hf-hub 1.0.0 store an error page
//! under the name of the model, and bring 297 crates, an asynchronous runtime among them.
//!
//! - `settings`: where the hub is, who asks, how long anything may take
//! - `names`, `file`, `tree`: what a hub lists, checked before it becomes a path
//! - `url`, `http`, `retry`, `refusal`: one request, when to try again, what to tell
//! - `transfer`, `download`: the bytes of one file, hashed on their way
//! - `cache`, `checked`: files that are here already, whoever brought them
//! - `api`, `client`: all of it as the rest of the program sees it
//! - `allow`, `signed`: what of a model is ever fetched
//! - `lock`: which bytes the names in a configuration stand for
//! - `data_files`: which files of a data set make up a subset and a split
//! - `supply`, `sets`: all files of a configuration, from here or from a hub, under the lock
//! - `kept`: what is made of models here
//! - `upload_call`, `upload_large`, `upload`: a folder that becomes a commit
//! - `downloads`: what of the cache is ours to remove

mod allow;
mod api;
mod cache;
mod checked;
mod client;
mod download;
mod downloads;
mod file;
mod header_text;
mod http;
mod kept;
pub mod data_files;
mod local;
mod lock;
mod lock_diff;
mod names;
mod refusal;
mod retry;
mod set_file;
mod sets;
mod settings;
mod signed;
mod supply;
mod transfer;
mod tree;
mod upload;
mod upload_call;
mod upload_large;
mod url;

pub use allow::{is_essential, is_note, model_files, needs_own_code, refuse_disguised};
pub use cache::store_of;
pub use checked::sha256_of;
pub use client::{Fetched, Hub};
pub use downloads::{Downloaded, downloads};
pub use file::RemoteFile;
pub use local::{ModelDirectory, resolve};
pub use lock::{Asked, DataLock, InputTrust, Locked, LockedFile};
pub use names::{RepoKind, RepoName, path_fault};
pub use set_file::SetFile;
pub use sets::FileSet;
pub use settings::{Settings, Timing};
pub use supply::{DEFAULT_REVISION, Policy, Supply, at_revision};
pub use upload::Uploaded;
pub use upload_call::Upload;
