//! Digests, atomic writes and strict JSON: how bytes enter and leave the program.

mod atomic;
mod cache_home;
mod digest;
mod disk;
mod json;
mod json_schema;
mod names;
mod open;
mod ours;
mod run;
mod speed;
mod toml;
mod unnamed;

pub use atomic::{folder_of, write_atomic, write_synced};
pub use cache_home::cache_home;
pub use digest::{
    Digest, FileEntry, Hashing, Rolling, hash_file, hash_rest, hash_tree, read_linked_tree,
    read_tree,
};
pub use disk::{
    Call, NewFile, Watch, create_dir_new, failed, free_bytes, is_still, link_or_copy, remove_dir,
    remove_file, rename, rename_new, size_of_dir, sync_dir, watch,
};
pub use json::{
    long_integer, parse_exact_json, parse_json, read_hashed, read_json, read_json_hashed,
};
pub use json_schema::{JsonSchema, read_json_schema};
pub use names::{name_anywhere, name_within};
pub use open::{
    has_file, lfs_pointer, lfs_refusal, open_regular, open_unlinked, read_bytes, read_text,
};
pub use ours::expect_regular;
pub use ours::{DATA_LOCK, KERNELS, MIRRORED_LOCK, ROLLOUTS};
pub use run::RunDirectory;
pub use speed::{DiskSpeed, disk_speed};
pub use toml::parse_toml;
pub use unnamed::UnnamedFile;
