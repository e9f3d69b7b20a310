//! Digests, atomic writes and strict JSON: how bytes enter and leave the program.

mod atomic;
mod cache_home;
mod digest;
mod json;
mod run;

pub use atomic::{create_dir_new, folder_of, rename_new, sync_dir, write_atomic, write_synced};
pub use cache_home::cache_home;
pub use digest::{Digest, FileEntry, Hashing, hash_file, hash_tree};
pub use json::{parse_json, read_json};
pub use run::{DATA_LOCK, RunDirectory};
