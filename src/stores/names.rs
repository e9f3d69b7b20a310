//! The keys of bundles.

use crate::files::Digest;

/// As many digits of a digest as a key has: 128 bits. Some stores keep facts about an object in
/// files whose names are made of its key, which must not become too long; whoever reads it checks
/// the whole digest.
const DIGITS: usize = 32;

/// A digest in a key.
pub fn in_key(digest: Digest) -> String {
    digest.to_string()[..DIGITS].to_owned()
}

/// The key of a file of a bundle.
pub(super) fn data_key(bundle: &str, sha256: Digest) -> String {
    format!("{}{}", data_prefix(bundle), in_key(sha256))
}

/// What the object that names a bundle's files is called.
pub(super) fn manifest_key(bundle: &str) -> String {
    format!("{bundle}.json")
}

/// What the keys of a bundle's files begin with.
pub fn data_prefix(bundle: &str) -> String {
    format!("{bundle}.data/")
}

/// The bundle that an object makes complete; nothing for any other object.
pub fn bundle_of(key: &str) -> Option<&str> {
    key.strip_suffix(".json").filter(|name| !name.contains(".data/"))
}
