//! Places that several machines share: a bucket of S3 or of Google Cloud Storage, or a folder.
//!
//! A store is a flat set of objects (`Store`), each written whole or not at all. What has several
//! files is a bundle (`bundle`): its files first, under their digests, and last one object that
//! names them all, so that whoever reads finds a bundle complete or not at all. Everything that is
//! read is checked by size and digest; nothing that is found decides where it goes.
//!
//! Requests go through the same HTTP client as all others of this program (`connector`), which
//! counts them (`traffic`).

mod address;
mod bundle;
mod cloud;
mod connector;
mod crypto;
mod folder;
mod names;
mod objects;
mod store;
mod traffic;

pub use address::StoreAddress;
pub use bundle::{Bundle, BundleFile, fetch, publish, remove_bundle};
pub use names::{bundle_of, data_prefix, in_key};
pub use objects::ObjectInfo;
pub use store::Store;
pub use traffic::{Traffic, TrafficCount};
