//! Names and files of models and data sets, on this machine and on a hub.

mod local;

pub use local::{ModelDirectory, resolve, resolve_base};
